package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/ingest"
)

// stateOperations are those that tell how the server is.
func (s *Server) stateOperations() []operation {
	return []operation{
		{
			method: http.MethodGet, path: "/healthz", id: "healthz", tag: "state", scope: public,
			summary:     "Tell how the server is",
			description: "It answers 200 for as long as the process lives; the body says how it is.",
			responses:   s.document200("How the server is", client.Health{}),
			serve:       func(c *call) error { return c.json(http.StatusOK, s.health(c.Context())) },
		},
		{
			method: http.MethodGet, path: "/health", id: "health", tag: "state", scope: public,
			summary: "Tell how the server is", description: "The same as /healthz.",
			responses: s.document200("How the server is", client.Health{}),
			serve:     func(c *call) error { return c.json(http.StatusOK, s.health(c.Context())) },
		},
		{
			method: http.MethodGet, path: "/readyz", id: "readyz", tag: "state", scope: public,
			summary:     "Tell whether the server can serve",
			description: "It answers 503 while the store cannot be reached, and from when the server is being stopped.",
			responses:   s.document200("It can", client.Health{}),
			serve:       s.ready,
		},
		{
			method: http.MethodGet, path: "/schema/version", id: "schema-version", tag: "state", scope: anyKey,
			summary: "Tell the schema version of the store", description: "That of the tenant's data.",
			responses: s.document200("The version", client.Version{}),
			serve: func(c *call) error {
				v, err := s.cfg.Store.SchemaVersion(c.Context(), c.tenant)
				if err != nil {
					return err
				}
				return c.json(http.StatusOK, client.Version{SchemaVersion: v})
			},
		},
		{
			method: http.MethodGet, path: "/v1/stats", id: "stats", tag: "state", scope: mds.ScopeRead,
			summary:     "Tell what became of a tenant's records",
			description: "accepted = written + unchanged + superseded + dead_lettered + dropped + pending, of each kind, since the server was started.",
			responses:   s.document200("The ledgers", client.Statistics{}),
			serve: func(c *call) error {
				return c.json(http.StatusOK, client.Statistics{Tenant: c.tenant.Slug, Kinds: s.tenantLedgers(c.tenant)})
			},
		},
	}
}

// pingTimeout is how long a store may take to answer before it counts as out of reach.
const pingTimeout = 2 * time.Second

// pinged is how the store is.
func (s *Server) pinged(ctx context.Context) ingest.Component {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	tenant, err := s.tenants.find(ctx, s.cfg.Tenant)
	if err == nil {
		err = s.cfg.Store.Ping(ctx, tenant)
	}
	c := ingest.Component{Name: "store", State: ingest.Healthy}
	if err != nil {
		// What the store says is for the log: it may name what who asks must not know.
		s.cfg.Logger.Warn("the store does not answer", "error", err)
		c.State, c.Reason = ingest.Unhealthy, "the store does not answer"
		if errors.Is(err, mds.ErrUnknownTenant) {
			c.Reason = "the tenant is gone"
		}
	}
	return c
}

func (s *Server) health(ctx context.Context) client.Health {
	h := client.Health{Service: "mds", State: ingest.Healthy, Version: s.cfg.Version, TS: time.Now().UTC(), Components: []ingest.Component{s.pinged(ctx)}}
	for _, k := range s.kinds {
		if k.health == nil {
			continue
		}
		for _, c := range k.health() {
			c.Name = k.name + "_" + c.Name
			if c.State == ingest.Unhealthy {
				c.Reason = reasonOf(c.Name)
			}
			h.Components = append(h.Components, c)
		}
	}
	if s.draining() {
		h.Components = append(h.Components, ingest.Component{Name: "server", State: ingest.Degraded, Reason: "it is being stopped"})
	}
	for _, c := range h.Components {
		if c.State == ingest.Unhealthy || h.State == ingest.Healthy {
			h.State = c.State
		}
	}
	return h
}

// reasonOf is why a component is not well, without what the store says of it.
func reasonOf(component string) string { return component + " is not well; the server's log says why" }

func (s *Server) ready(c *call) error {
	h := s.health(c.Context())
	status := http.StatusOK
	if s.draining() || h.Components[0].State != ingest.Healthy {
		status = http.StatusServiceUnavailable
		c.w.Header().Set("Retry-After", "1")
	}
	return c.json(status, h)
}
