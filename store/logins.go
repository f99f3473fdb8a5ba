package store

import (
	"context"
	"errors"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/postgres"
)

// ErrNoLogins is returned by [OpenLogins] for a store without logins.
var ErrNoLogins = errors.New("the store has no logins: it is files, and no database that others connect to")

// Logins are the logins of a database that see one tenant each: those of people and
// dashboards, who connect by themselves. It is safe for concurrent use.
type Logins struct{ owner string }

// OpenLogins returns the logins of the database of the owner's DSN. It fails with
// [ErrNoLogins] where that is of another engine.
func OpenLogins(owner string) (*Logins, error) {
	if !postgres.IsDSN(owner) {
		return nil, ErrNoLogins
	}
	return &Logins{owner}, nil
}

// List lists them, in order of their names.
func (l *Logins) List(ctx context.Context) ([]postgres.TenantLogin, error) {
	return postgres.TenantLogins(ctx, l.owner)
}

// Grant lets a login read the views of a tenant; see [postgres.GrantLogin].
func (l *Logins) Grant(ctx context.Context, tenant mds.Tenant, login string, cfg postgres.LoginConfig) (made bool, err error) {
	return postgres.GrantLogin(ctx, l.owner, tenant, login, cfg)
}

// Revoke takes from a login what Grant gave it; see [postgres.RevokeLogin].
func (l *Logins) Revoke(ctx context.Context, tenant mds.Tenant, login string) error {
	return postgres.RevokeLogin(ctx, l.owner, tenant, login)
}
