package server

import (
	"crypto/rand"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// loginOperations say which logins of the database read tenants.
func (s *Server) loginOperations() []operation {
	made := s.document200("The login was there, and reads the tenant; its password is as it was", client.Login{})
	made["201"] = &huma.Response{Description: "The login was made, and reads the tenant", Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(client.Login{})}}}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/logins", id: "logins", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary: "List the logins of the database that read a tenant", description: "Those of people and dashboards, who connect to PostgreSQL by themselves.",
			responses: s.document200("The logins", client.Logins{}),
			serve:     s.listLogins,
		},
		control(s, operation{
			method: http.MethodPost, path: "/v1/logins", id: "grant-login", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary:     "Let a login of the database read a tenant",
			description: "It reads the views in schema mds, in which it sees the records of the tenant and no others. With create it is made where there is none, with the password that is said, or a random one, which the answer tells, once. A login that could see more is refused.",
			body:        s.documentBody(client.LoginRequest{}),
			responses:   made,
		}, func(r *client.LoginRequest) map[string][]string {
			return map[string][]string{"of": {r.Tenant}, "login": {r.Login}}
		}, s.grantLogin),
		{
			method: http.MethodDelete, path: "/v1/logins/{login}", id: "revoke-login", tag: "control", scope: mds.ScopeAdmin, operator: true, audit: true,
			summary:     "Take from a login of the database what it reads",
			description: "Its sessions see nothing from their next statement on. The login itself stays; an administrator may drop it.",
			params:      []param{text("login", "The name of the login").inPath(), text("tenant", "Only if it is this tenant's, by slug or id")},
			responses:   s.document200("The login, and the tenant that it has read", client.Login{}),
			serve:       s.revokeLogin,
		},
	}
}

// openLogins opens what lets logins read tenants.
func (s *Server) openLogins() (*store.Logins, error) {
	if s.cfg.Control.Logins == nil {
		return nil, notDoneHere("make, list or end logins", needsOwner)
	}
	logins, err := s.cfg.Control.Logins()
	if errors.Is(err, store.ErrNoLogins) {
		return nil, notDoneHere("make, list or end logins", err.Error())
	}
	return logins, err
}

// refusedLogin is what the store's rules for logins refuse, or the rights of its owner.
func refusedLogin(err error) error {
	refusal := func(detail string) error {
		return &problem{status: http.StatusConflict, code: "login_refused", detail: detail}
	}
	var denied *postgres.GrantError
	var rule *postgres.Error
	switch {
	case errors.As(err, &denied):
		return refusal("the login that the server has as the database's owner may not do this: let an administrator run what mds tenant grant-login prints where the store is")
	case errors.As(err, &rule) && rule.Code == "" && (rule.Class == postgres.Denied || !rule.Unavailable() && !rule.Retryable()):
		return refusal(asParameters(strings.TrimPrefix(err.Error(), rule.Op+": ")))
	}
	return err
}

// loginName refuses what is no name of a login, whoever there is: PostgreSQL would cut it, or
// keeps it for itself.
func loginName(name string) error {
	var why string
	switch {
	case name == "":
		why = "is missing"
	case len(name) > 63:
		why = "has more than 63 bytes"
	case strings.ContainsRune(name, 0) || strings.ContainsRune(name, '\ufffd'):
		why = "is no text"
	case strings.TrimSpace(name) != name || strings.ContainsAny(name, "\r\n"):
		why = "has spaces around it or line ends"
	case strings.HasPrefix(name, "pg_") || name == "public" || name == "none":
		why = "is a name that PostgreSQL keeps for itself"
	default:
		return nil
	}
	return badRequest("bad_parameter", "login: it "+why+"; give the login another name")
}

func loginOf(l postgres.TenantLogin) client.Login {
	return client.Login{Login: l.Login, Tenant: l.Tenant.Slug, TenantID: l.Tenant.ID}
}

func (s *Server) listLogins(c *call) error {
	logins, err := s.openLogins()
	if err != nil {
		return err
	}
	list, err := logins.List(c.Context())
	if err != nil {
		return err
	}
	out := client.Logins{Logins: make([]client.Login, len(list))}
	for i, l := range list {
		out.Logins[i] = loginOf(l)
	}
	return c.json(http.StatusOK, out)
}

func (s *Server) grantLogin(c *call, r *client.LoginRequest) error {
	logins, err := s.openLogins()
	switch {
	case err != nil:
		return err
	case r.Password != "" && !r.Create:
		return badRequest("bad_parameter", "password: it is that of a login that is made; say create, too")
	case strings.ContainsRune(r.Password, 0):
		return badRequest("bad_parameter", "password: it has a NUL character in it")
	}
	if err := loginName(r.Login); err != nil {
		return err
	}
	tenant, err := s.cfg.Store.Tenant(c.Context(), r.Tenant)
	if err != nil {
		return err
	}
	cfg := postgres.LoginConfig{Create: r.Create, Password: r.Password}
	if r.Create && r.Password == "" {
		cfg.Password = rand.Text()
	}
	made, err := logins.Grant(c.Context(), tenant, r.Login, cfg)
	if err != nil {
		return refusedLogin(err)
	}
	out := loginOf(postgres.TenantLogin{Login: r.Login, Tenant: tenant})
	if !made {
		return c.json(http.StatusOK, out)
	}
	if out.Made = true; r.Password == "" {
		out.Password = cfg.Password
	}
	return c.json(http.StatusCreated, out)
}

func (s *Server) revokeLogin(c *call) error {
	logins, err := s.openLogins()
	if err != nil {
		return err
	}
	list, err := logins.List(c.Context())
	if err != nil {
		return err
	}
	of := c.value("tenant")
	at := slices.IndexFunc(list, func(l postgres.TenantLogin) bool {
		return l.Login == c.r.PathValue("login") && (of == "" || of == l.Tenant.Slug || strings.EqualFold(of, l.Tenant.ID))
	})
	if at < 0 {
		return &problem{status: http.StatusNotFound, code: "unknown_login", detail: "no such login reads a tenant, or that tenant; /v1/logins lists them"}
	}
	c.note("of", list[at].Tenant.Slug)
	if err := logins.Revoke(c.Context(), list[at].Tenant, list[at].Login); err != nil {
		return refusedLogin(err)
	}
	return c.json(http.StatusOK, loginOf(list[at]))
}
