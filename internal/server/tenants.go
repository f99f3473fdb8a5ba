package server

import (
	"context"
	"errors"
	"maps"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// tenants finds tenants, and remembers those that were found for a while: what is written
// for one that is gone by then the store refuses.
type tenants struct {
	store *store.Store
	one   chan struct{} // is made or removed at a time

	mu    sync.Mutex
	known map[string]knownTenant // by slug or id, as it was asked for
	// Tenants that get a name again get the id, too. So departures are counted, and left has
	// which was the last of an id.
	departures int64
	left       map[string]int64
}

type knownTenant struct {
	mds.Tenant
	until time.Time
}

const (
	tenantKnownFor = 10 * time.Second
	mostTenants    = 4096
)

func newTenants(s *store.Store) *tenants {
	return &tenants{store: s, one: make(chan struct{}, 1), known: make(map[string]knownTenant), left: make(map[string]int64)}
}

// alone waits until no other tenant is being made or removed, and has others wait until then.
func (t *tenants) alone(ctx context.Context) (done func(), err error) {
	select {
	case t.one <- struct{}{}:
		return func() { <-t.one }, nil
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// leave forgets one that is gone, by whatever name it was found: who asked before then asked for
// that one.
func (t *tenants) leave(tenant mds.Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.known, func(_ string, k knownTenant) bool { return k.ID == tenant.ID })
	t.departures++
	t.left[tenant.ID] = t.departures
}

// now is a moment among departures.
func (t *tenants) now() int64 {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.departures
}

// since fails where a tenant has left after a moment.
func (t *tenants) since(moment int64, tenant mds.Tenant) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.left[tenant.ID] > moment {
		return mds.ErrUnknownTenant
	}
	return nil
}

func (t *tenants) find(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	now := time.Now()
	t.mu.Lock()
	k, ok := t.known[slugOrID]
	moment := t.departures
	t.mu.Unlock()
	if ok && now.Before(k.until) {
		return k.Tenant, nil
	}
	tenant, err := t.store.Tenant(ctx, slugOrID)
	t.mu.Lock()
	defer t.mu.Unlock()
	if err != nil {
		if errors.Is(err, mds.ErrUnknownTenant) {
			delete(t.known, slugOrID)
		}
		return mds.Tenant{}, err
	}
	if len(t.known) >= mostTenants {
		clear(t.known)
	}
	if t.left[tenant.ID] <= moment {
		t.known[slugOrID] = knownTenant{tenant, now.Add(tenantKnownFor)}
	}
	return tenant, nil
}
