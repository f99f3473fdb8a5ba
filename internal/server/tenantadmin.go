package server

import (
	"errors"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// tenantOperations make and remove tenants.
func (s *Server) tenantOperations() []operation {
	made := s.document200("It was there, and is as it was", client.MadeTenant{})
	made["201"] = &huma.Response{Description: "It was made", Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(client.MadeTenant{})}}}
	remove := operation{
		method: http.MethodDelete, path: "/v1/tenants/{tenant}", id: "remove-tenant", tag: "control", scope: mds.ScopeAdmin, audit: true, operator: true,
		summary:     "Remove a tenant and all that it has",
		description: "Its records, API keys, logins' rights, jobs and the dead letters that this server has, also of what is queued at the time. Of a tenant that is not there any more these letters are removed, too, and the answer is 404. The default tenant and the operator's stay.",
		params: []param{
			text("tenant", "The tenant, by slug or id").inPath(),
			choice("all", "Whether all that the tenant has is meant: it takes true", "false", "true"),
		},
		responses: s.document200("It is gone", client.MadeTenant{}),
		limit:     s.queries,
		serve:     s.removeTenant,
	}
	return []operation{
		control(s, operation{
			method: http.MethodPost, path: "/v1/tenants", id: "make-tenant", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary:     "Make a tenant",
			description: "With key it gets a first API key, whose token the answer has, once: no other key may make one for it, and what is done with keys is from then on its own. Where the tenant is there already it is left as it is, and no key is made.",
			body:        s.documentBody(client.TenantRequest{}),
			responses:   made,
		}, func(r *client.TenantRequest) map[string][]string {
			noted := map[string][]string{"tenant": {r.Tenant}}
			if r.Key != nil {
				noted["name"], noted["scopes"], noted["expires"] = []string{r.Key.Name}, r.Key.Scopes, []string{r.Key.Expires}
			}
			return noted
		}, s.makeTenant),
		remove,
	}
}

func (s *Server) makeTenant(c *call, r *client.TenantRequest) error {
	tenant, err := mds.NewTenant(r.Tenant)
	if err != nil {
		return badRequest("bad_parameter", "tenant: "+err.Error())
	}
	keys, err := s.keysFor(c, r.Key)
	if err != nil {
		return err
	}
	done, err := s.tenants.alone(c.Context())
	if err != nil {
		return err
	}
	defer done()
	if _, err := s.cfg.Store.Tenant(c.Context(), tenant.Slug); errors.Is(err, mds.ErrUnknownTenant) {
		if err := s.depart(c.Context(), tenant); err != nil { // whoever has removed the one before
			return err
		}
	}
	_, err = s.cfg.Store.CreateTenant(c.Context(), tenant.Slug)
	answer := client.MadeTenant{ID: tenant.ID, Slug: tenant.Slug, Made: err == nil}
	switch {
	case errors.Is(err, mds.ErrTenantExists):
		return c.json(http.StatusOK, answer)
	case err != nil:
		return err
	case keys != nil:
		if answer.Key, err = s.create(c, keys, tenant, r.Key); err != nil {
			p := *problemOf(err)
			p.detail = "the tenant is made, but its key is not: make that with mds keys create, where the store is, or remove the tenant and make it again; " + p.detail
			return &p
		}
	}
	return c.json(http.StatusCreated, answer)
}

func (s *Server) removeTenant(c *call) error {
	if c.value("all") != "true" {
		return badRequest("bad_parameter", "all=true: a tenant is removed with all that it has, for good; say so")
	}
	done, err := s.tenants.alone(c.Context())
	if err != nil {
		return err
	}
	defer done()
	name := c.r.PathValue("tenant")
	tenant, err := s.cfg.Store.Tenant(c.Context(), name)
	if former, nameErr := mds.NewTenant(name); nameErr == nil && errors.Is(err, mds.ErrUnknownTenant) {
		if err := s.removeLeft(c, former); err != nil {
			return err
		}
	}
	switch {
	case err != nil:
		return err
	case tenant == mds.DefaultTenant():
		return &problem{status: http.StatusConflict, code: "tenant_stays", detail: "the default tenant always exists; remove what it has, kind by kind"}
	case tenant.Slug == s.cfg.Control.Operator:
		return &problem{status: http.StatusConflict, code: "tenant_stays", detail: "this tenant is the operator's, and nobody would look after the store without it: name another one in serve.operator_tenant first"}
	}
	if err := s.cfg.Store.RemoveTenant(c.Context(), tenant); err != nil {
		return err
	}
	if err := s.removeLeft(c, tenant); err != nil {
		return err
	}
	return c.json(http.StatusOK, client.MadeTenant{ID: tenant.ID, Slug: tenant.Slug})
}
