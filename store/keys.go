package store

import (
	"context"
	"fmt"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// Keys makes and ends the API keys of a store. What it did is on the disk when it returns,
// and is seen by whoever reads the keys from then on ([Backend.APIKeys]). It is safe for
// concurrent use, also with other processes.
type Keys interface {
	// Tenant finds a tenant by slug or UUID, or fails with [mds.ErrUnknownTenant].
	Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error)
	// Create keeps a new key. It fails with [mds.ErrUnknownTenant] where there is no such
	// tenant, and with an [*mds.InvalidError] where the key is none.
	Create(ctx context.Context, key mds.APIKey) error
	// List lists the keys, whatever their state, in order of their creation.
	List(ctx context.Context) ([]mds.APIKey, error)
	// Rotate has a new key take the place of one that works until a time, both or neither
	// (see [mds.APIKey.Rotate]), and returns them as they are kept. It fails with
	// [mds.ErrUnknownKey] or [mds.ErrKeyEnded].
	Rotate(ctx context.Context, id string, next mds.APIKey, until time.Time) (before, after mds.APIKey, err error)
	// Revoke ends a key at a time, and returns it as it is kept: one that was revoked
	// before stays as it was. It fails with [mds.ErrUnknownKey].
	Revoke(ctx context.Context, id string, at time.Time) (mds.APIKey, error)
}

// OpenKeys returns the keys of the store that a DSN names, on a server that of the owner of
// the database. It opens no database of a DuckDB store, so that another process may have
// them. Of the configuration it heeds ReadOnly, with DuckDB.
func OpenKeys(ctx context.Context, dsn string, cfg Config) (Keys, error) {
	if postgres.IsDSN(dsn) {
		return postgres.OpenKeys(ctx, dsn)
	}
	if remote.IsDSN(dsn) {
		return nil, &remote.ElsewhereError{What: "API keys are made and listed"}
	}
	s, err := Open(ctx, dsn, Config{ReadOnly: cfg.ReadOnly})
	if err != nil {
		return nil, err
	}
	backend, ok := s.Backend.(*duckdb.Store)
	if !ok {
		return nil, fmt.Errorf("no API keys for backend %T", s.Backend)
	}
	return duckdb.OpenKeys(backend), nil
}
