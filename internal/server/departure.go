package server

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/deadletter"
)

// depart parts with a tenant that the store no longer has: who asked for it before may hand
// nothing over any more, and what it has queued is written off, which makes dead letters. Else the
// next tenant of its name, which has its id, would be written what it has left.
func (s *Server) depart(ctx context.Context, tenant mds.Tenant) error {
	s.tenants.leave(tenant)
	s.keysChanged()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), s.cfg.CommitTimeout)
	defer cancel()
	var err error
	for _, k := range s.kinds {
		if k.leave != nil {
			err = errors.Join(err, k.leave(ctx, tenant))
		}
	}
	if err == nil {
		return nil
	}
	return &problem{
		status: http.StatusServiceUnavailable, code: "tenant_busy", retry: 5 * time.Second, err: err,
		detail: "the tenant is not there any more, but what was queued of it here is not settled yet: send the same again, before a tenant gets its name",
	}
}

// removeLeft removes what the server has of a tenant that is gone, its dead letters included,
// whether the client still waits for that or not.
func (s *Server) removeLeft(c *call, tenant mds.Tenant) error {
	if err := s.depart(c.Context(), tenant); err != nil {
		return err
	}
	dir, ok := s.letters()
	if !ok {
		return nil
	}
	n, err := s.discard(context.WithoutCancel(c.Context()), dir, &deadletter.Filter{Tenant: tenant.ID})
	c.removed = &n
	return err
}

// made is when a tenant was made, by its id, or all of them for the zero one. What is older is of
// another one, that had the name before. The default one is left out: it is what it is, whatever
// store it is in.
func (s *Server) made(ctx context.Context, of mds.Tenant) (map[string]time.Time, error) {
	backend, ok := s.cfg.Store.Backend.(interface {
		TenantMade(ctx context.Context, tenant mds.Tenant) (time.Time, error)
	})
	if !ok {
		return nil, nil //nolint:nilnil // nothing is older than it
	}
	tenants := []mds.Tenant{of}
	if of == (mds.Tenant{}) {
		var err error
		if tenants, err = s.cfg.Store.Tenants(ctx); err != nil {
			return nil, err
		}
	}
	made := make(map[string]time.Time)
	for _, tenant := range tenants {
		if tenant == mds.DefaultTenant() {
			continue
		}
		at, err := backend.TenantMade(ctx, tenant)
		if err != nil {
			return nil, err
		}
		made[tenant.ID] = at.Truncate(time.Millisecond) // a queue knows no better when a record came
	}
	return made, nil
}
