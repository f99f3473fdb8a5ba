package store

import (
	"context"
	"fmt"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// SQL runs statements that read, as people write them.
type SQL interface {
	// SQL runs one statement of a tenant: it sees what is the tenant's, writes nothing, and
	// reads nothing outside of the database. It hands the answer on and tells whether rows
	// were left out. The errors wrap an [*mds.SQLError], [mds.ErrSQLLimit], [mds.ErrSQLBusy] or
	// [mds.ErrNoSQLLogin], or are those of the store.
	SQL(ctx context.Context, tenant mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error)
	// Close ends the connections that it has of its own.
	Close() error
}

// OpenSQL returns what runs SQL on a store. On a PostgreSQL server that is never the service:
// logins are the DSNs of the tenants' own logins, by slug, each of which is looked at before
// anything runs. Close it before the store.
func OpenSQL(ctx context.Context, s *Store, logins map[string]string) (SQL, error) {
	switch b := s.Backend.(type) {
	case *duckdb.Store:
		return shared{b}, nil
	case *postgres.Store:
		return postgres.OpenLogins(ctx, b, logins)
	case *remote.Store:
		return shared{b}, nil
	default:
		return nil, fmt.Errorf("no SQL for backend %T", b)
	}
}

// runner is a store that runs SQL itself.
type runner interface {
	SQL(ctx context.Context, tenant mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error)
}

// shared has the SQL of a store that whoever opened it closes.
type shared struct{ runner }

func (shared) Close() error { return nil }
