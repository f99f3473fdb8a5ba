package server

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
)

// tenantHeader names whose records a request is about.
const tenantHeader = "Mds-Tenant"

// allowed refuses a request that comes by a name which is not the server's: it is that of a
// page in a browser, whose name was made to lead here.
func (s *Server) allowed(r *http.Request) error {
	if len(s.cfg.Hosts) == 0 || r.Context().Value(administrationKey{}) != nil {
		return nil
	}
	return knownAs(s.cfg.Hosts, r)
}

// knownAs refuses a request whose Host is none of these names.
func knownAs(names []string, r *http.Request) error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	if slices.Contains(names, strings.ToLower(strings.Trim(host, "[]"))) {
		return nil
	}
	return &problem{
		status: http.StatusMisdirectedRequest, code: "wrong_host",
		detail: fmt.Sprintf("this server is not called %q: without keys it answers to its own machine only, by the names %s", r.Host, strings.Join(names, ", ")),
	}
}

// identify finds whose records a request is about, and refuses who may not do what it is
// for.
func (s *Server) identify(c *call, scope mds.Scope) (err error) {
	if scope == public {
		return nil
	}
	named := c.r.Header.Get(tenantHeader)
	c.moment = s.tenants.now()
	if s.cfg.Keys == nil {
		if named == "" {
			named = s.cfg.Tenant
		}
		c.operator = true // of whatever is on the server's machine
		c.tenant, err = s.tenants.find(c.Context(), named)
		return err
	}
	id, err := s.authenticate(c.r)
	if err != nil {
		return err
	}
	c.tenant, c.key = id.Tenant, id.KeyID
	// Another tenant's is as if it were not there, whether it is or not.
	if named != "" && named != id.Tenant.Slug && !strings.EqualFold(named, id.Tenant.ID) {
		return &problem{status: http.StatusNotFound, code: "unknown_tenant", detail: "there is no such tenant"}
	}
	c.scopes, c.operator = id.Scopes, id.Tenant.Slug == s.cfg.Control.Operator && id.May(mds.ScopeAdmin)
	if scope != anyKey && !id.May(scope) {
		return lacking(c, scope)
	}
	return nil
}

// lacking refuses a key that has not the scope.
func lacking(c *call, scope mds.Scope) error {
	return &problem{
		status: http.StatusForbidden, code: "forbidden",
		asks:   fmt.Sprintf(`Bearer error="insufficient_scope", scope=%q`, scope),
		detail: fmt.Sprintf("the key %s may not do this: it takes the scope %s", c.key, scope),
	}
}

// errNoOperator refuses what is about all tenants.
var errNoOperator error = &problem{
	status: http.StatusForbidden, code: "no_operator",
	detail: "this is about all tenants: it takes a key with the scope admin of the tenant that the server's setting serve.operator_tenant names; where that is not set nobody does it through the server",
}

// authenticate checks the key of a request.
func (s *Server) authenticate(r *http.Request) (apikey.Identity, error) {
	scheme, token, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	refused := func(code, detail string) (apikey.Identity, error) {
		return apikey.Identity{}, &problem{status: http.StatusUnauthorized, code: code, detail: detail, asks: `Bearer error="invalid_token"`}
	}
	if !strings.EqualFold(scheme, "Bearer") || token == "" {
		return apikey.Identity{}, &problem{
			status: http.StatusUnauthorized, code: "no_key", asks: "Bearer",
			detail: "send an API key, as Authorization: Bearer mds_…; mds keys create makes one",
		}
	}
	id, err := s.cfg.Keys.Authenticate(r.Context(), strings.TrimSpace(token), time.Now())
	switch {
	case err == nil:
		return id, nil
	case errors.Is(err, apikey.ErrMalformed):
		return refused("malformed_key", err.Error())
	case errors.Is(err, apikey.ErrExpired):
		return refused("expired_key", "the API key has expired; mds keys rotate makes another one of it")
	case errors.Is(err, apikey.ErrRevoked):
		return refused("revoked_key", "the API key was revoked")
	case errors.Is(err, apikey.ErrUnknown):
		return refused("unknown_key", "there is no such API key")
	}
	return apikey.Identity{}, err
}
