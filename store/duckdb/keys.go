package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Keys are the API keys of a store. They open no database, and can be used while another
// process has those.
type Keys struct{ store *Store }

// OpenKeys returns the keys of a store.
func OpenKeys(s *Store) *Keys { return &Keys{s} }

// APIKeys are the keys of the tenants that there are.
func (s *Store) APIKeys(ctx context.Context) ([]mds.APIKey, error) {
	if err := ctx.Err(); err != nil {
		return nil, wrap(ctx, "open API keys", err)
	}
	keys, err := readKeys(s.dir)
	if err != nil {
		return nil, err
	}
	return s.ofTenants(keys), nil
}

// ofTenants leaves out the keys of tenants that are not there, whose files somebody has
// moved away.
func (s *Store) ofTenants(keys []mds.APIKey) []mds.APIKey {
	there := make(map[mds.Tenant]bool)
	return slices.DeleteFunc(keys, func(k mds.APIKey) bool {
		if _, looked := there[k.Tenant]; !looked {
			there[k.Tenant] = s.hasTenant(k.Tenant)
		}
		return !there[k.Tenant]
	})
}

// hasTenant goes by the names of the files, and opens none.
func (s *Store) hasTenant(tenant mds.Tenant) bool {
	return tenant == mds.DefaultTenant() || fileExists(s.path(tenant)) && !isDirectory(s.path(tenant))
}

// Tenant finds a tenant by slug or UUID. The error wraps [mds.ErrUnknownTenant].
func (k *Keys) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	return k.store.Tenant(ctx, slugOrID)
}

// Create keeps a new key. The error wraps [mds.ErrUnknownTenant] where there is none.
func (k *Keys) Create(ctx context.Context, key mds.APIKey) error {
	if err := key.Validate(); err != nil {
		return err
	}
	return k.change(ctx, func(keys []mds.APIKey) ([]mds.APIKey, error) {
		if !k.store.hasTenant(key.Tenant) { // who removes it waits
			return nil, unknownTenant(key.Tenant.Slug)
		}
		return append(keys, key), nil
	})
}

// List lists the keys in order of their creation.
func (k *Keys) List(ctx context.Context) ([]mds.APIKey, error) {
	keys, err := k.store.APIKeys(ctx)
	slices.SortFunc(keys, func(a, b mds.APIKey) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		return strings.Compare(a.ID, b.ID)
	})
	return keys, err
}

// Rotate has a new key take the place of one that works until a time; see
// [mds.APIKey.Rotate]. It returns both as they are kept. The error wraps
// [mds.ErrUnknownKey] or [mds.ErrKeyEnded].
func (k *Keys) Rotate(ctx context.Context, id string, next mds.APIKey, until time.Time) (before, after mds.APIKey, err error) {
	err = k.change(ctx, func(keys []mds.APIKey) ([]mds.APIKey, error) {
		old, err := k.find(keys, id)
		if err != nil {
			return nil, err
		}
		if err := old.Rotate(&next, until); err != nil {
			return nil, err
		}
		before = *old
		return append(keys, next), next.Validate()
	})
	return before, next, err
}

// Revoke ends a key at a time, unless it was revoked before, and returns it as it is kept.
// The error wraps [mds.ErrUnknownKey].
func (k *Keys) Revoke(ctx context.Context, id string, at time.Time) (key mds.APIKey, err error) {
	err = k.change(ctx, func(keys []mds.APIKey) ([]mds.APIKey, error) {
		found, err := k.find(keys, id)
		if err != nil {
			return nil, err
		}
		if found.Revoked.IsZero() {
			found.Revoked = at.UTC().Truncate(time.Microsecond)
		}
		key = *found
		return keys, nil
	})
	return key, err
}

func (k *Keys) find(keys []mds.APIKey, id string) (*mds.APIKey, error) {
	at := slices.IndexFunc(keys, func(key mds.APIKey) bool { return key.ID == id && k.store.hasTenant(key.Tenant) })
	if at < 0 {
		return nil, fmt.Errorf("%w %q", mds.ErrUnknownKey, id)
	}
	return &keys[at], nil
}

// change has fn say what is kept in the place of the keys, while nobody else changes them.
func (k *Keys) change(ctx context.Context, fn func([]mds.APIKey) ([]mds.APIKey, error)) error {
	if k.store.cfg.ReadOnly {
		return errReadOnly
	}
	held, err := holdKeys(ctx, k.store.dir)
	if err != nil {
		return err
	}
	defer held.release()
	keys, err := fn(slices.Clone(held.keys))
	if err != nil {
		return err
	}
	return held.save(keys)
}

// forget removes the keys of a tenant.
func (h *heldKeys) forget(tenant mds.Tenant) error {
	kept := slices.DeleteFunc(slices.Clone(h.keys), func(k mds.APIKey) bool { return k.Tenant == tenant })
	if len(kept) == len(h.keys) {
		return nil
	}
	return h.save(kept)
}
