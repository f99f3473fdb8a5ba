package server

import (
	"net/http"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/selection"
)

// contentsOperations are those that tell what the store holds, and whose.
func (s *Server) contentsOperations() []operation {
	return []operation{
		{
			method: http.MethodGet, path: "/v1/tenants", id: "tenants", tag: "state", scope: anyKey,
			summary:     "List the tenants",
			description: "With keys it is the one that the key is of, whose records are all that it may ask for; without, all of the store. An operator is told of all with all=true.",
			params:      []param{choice("all", "Whether to list all tenants of the store, for an operator", "false", "true")},
			responses:   s.document200("The tenants, in order of their slugs", client.Tenants{}),
			serve: func(c *call) error {
				list := []mds.Tenant{c.tenant}
				if all := c.value("all") == "true"; all && !c.operator {
					return errNoOperator
				} else if all || s.cfg.Keys == nil {
					var err error
					if list, err = s.cfg.Store.Tenants(c.Context()); err != nil {
						return err
					}
				}
				out := client.Tenants{Tenants: make([]client.Tenant, len(list))}
				for i, t := range list {
					out.Tenants[i] = client.Tenant{ID: t.ID, Slug: t.Slug}
				}
				return c.json(http.StatusOK, out)
			},
		},
		{
			method: http.MethodGet, path: "/v1/tenant", id: "tenant", tag: "state", scope: anyKey,
			summary:     "Tell whose records a request is about",
			description: "That is the key's tenant, or the one that " + tenantHeader + " names, or that of the server. Any key may ask, and is told what it may.",
			responses:   s.document200("The tenant", client.Tenant{}),
			serve: func(c *call) error {
				return c.json(http.StatusOK, client.Tenant{ID: c.tenant.ID, Slug: c.tenant.Slug, Scopes: c.scopes, Operator: c.operator})
			},
		},
		{
			method: http.MethodGet, path: "/v1/info", id: "info", tag: "state", scope: mds.ScopeRead,
			summary: "Describe the store of a tenant", description: "The engine, its schema version, and what the tenant's data takes on its disk, in bytes; 0 where only that of all tenants is known, and keys are asked for.",
			responses: s.document200("The store; location is left empty", mds.StoreInfo{}),
			limit:     s.queries,
			serve: func(c *call) error {
				info, err := s.cfg.Store.Info(c.Context(), c.tenant)
				if err != nil {
					return err
				}
				info.Location = ""
				if s.cfg.Keys != nil && strings.HasPrefix(info.Engine, "PostgreSQL") {
					info.Bytes = 0 // what is known is of all tenants, and what others have is no matter of the key's
				}
				return c.json(http.StatusOK, info)
			},
		},
	}
}

func (k *service[R]) infoOperation() operation {
	return operation{
		method: http.MethodGet, path: "/v1/" + k.schema.Kind + "/info", id: "info-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeRead,
		summary: "Sum up the " + k.schema.Kind, description: "How many series and records there are, and the times of the oldest and the newest.",
		responses: k.document200("What there is", mds.KindInfo{}),
		limit:     k.queries,
		serve: func(c *call) error {
			info, err := k.table.Info(c.Context(), c.tenant)
			if err != nil {
				return err
			}
			return c.json(http.StatusOK, info)
		},
	}
}

func (k *service[R]) countOperation() operation {
	return operation{
		method: http.MethodGet, path: "/v1/" + k.schema.Kind + "/count", id: "count-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeRead,
		summary: "Count " + k.schema.Kind, description: "The number of records that the parameters pick.",
		params:    k.selectionParams(),
		responses: k.document200("The number", client.Count{}),
		limit:     k.queries,
		serve: func(c *call) error {
			sel, err := k.selection(c)
			if err != nil {
				return err
			}
			n, err := k.table.Count(c.Context(), c.tenant, sel)
			if err != nil {
				return err
			}
			return c.json(http.StatusOK, client.Count{Count: n})
		},
	}
}

func (k *service[R]) deleteOperation() operation {
	params := slices.DeleteFunc(k.selectionParams(), func(p param) bool { return p.name == "known_at" })
	return operation{
		method: http.MethodDelete, path: "/v1/" + k.schema.Kind, id: "delete-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeWrite, audit: true,
		summary:     "Remove " + k.schema.Kind,
		description: "It removes the records that the parameters pick, and answers when they are gone from the store's disk. What is queued at the time may be written afterwards.",
		params:      append(params, choice("all", "Whether to remove everything, where no other parameter picks", "false", "true")),
		responses:   k.document200("How many were removed", client.Removed{}),
		limit:       k.queries,
		serve: func(c *call) error {
			sel, err := k.selection(c)
			if err != nil {
				return err
			}
			if all := c.value("all") == "true"; all == selection.Narrow(sel) {
				return badRequest("bad_parameter", map[bool]string{
					true:  "all=true removes everything: leave it out to remove what the other parameters pick",
					false: "say which " + k.schema.Kind + " to remove, or all=true",
				}[all])
			}
			n, err := k.table.Delete(c.Context(), c.tenant, sel)
			if err != nil {
				return err
			}
			c.removed = &n
			return c.json(http.StatusOK, client.Removed{Removed: n})
		},
	}
}
