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
	mu    sync.Mutex
	known map[string]knownTenant // by slug or id, as it was asked for
}

type knownTenant struct {
	mds.Tenant
	until time.Time
}

const (
	tenantKnownFor = 10 * time.Second
	mostTenants    = 4096
)

// forget forgets one that is gone, by whatever name it was found.
func (t *tenants) forget(tenant mds.Tenant) {
	t.mu.Lock()
	defer t.mu.Unlock()
	maps.DeleteFunc(t.known, func(_ string, k knownTenant) bool { return k.ID == tenant.ID })
}

func (t *tenants) find(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	now := time.Now()
	t.mu.Lock()
	k, ok := t.known[slugOrID]
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
	t.known[slugOrID] = knownTenant{tenant, now.Add(tenantKnownFor)}
	return tenant, nil
}
