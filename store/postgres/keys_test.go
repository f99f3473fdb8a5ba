package postgres_test

import (
	"context"
	"errors"
	"iter"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// createKey makes a key of a tenant.
func createKey(t testing.TB, d pgtest.Database, tenant mds.Tenant) (token string, key mds.APIKey) {
	t.Helper()
	keys, err := postgres.OpenKeys(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	secret, key := apikey.New(time.Now())
	key.Tenant, key.Name, key.Scopes = tenant, "a name", []mds.Scope{mds.ScopeRead}
	if err := keys.Create(ctx, key); err != nil {
		t.Fatal(err)
	}
	return secret.Reveal(), key
}

// TestRightsOnKeys has logins try what they may do with the table of keys.
func TestRightsOnKeys(t *testing.T) {
	d := twoTenants(t)
	createKey(t, d.Database, d.acme)
	as := func(dsn string) func(text string) (string, error) {
		conn, err := pgx.Connect(ctx, dsn)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = conn.Close(ctx) })
		return func(text string) (string, error) {
			var got string
			return got, conn.QueryRow(ctx, text).Scan(&got)
		}
	}
	service, login := as(d.Service), as(d.acmeLogin)
	const count = "SELECT count(secret_sha256)::text FROM mds_internal.api_keys"
	if n, err := service(count); err != nil || n != "1" {
		t.Errorf("the service sees %s, %v", n, err)
	}
	for _, text := range []string{
		"SELECT name FROM mds_internal.api_keys",
		"SELECT created_at::text FROM mds_internal.api_keys",
		"INSERT INTO mds_internal.api_keys SELECT * FROM mds_internal.api_keys RETURNING 'x'",
		"UPDATE mds_internal.api_keys SET revoked_at = NULL RETURNING 'x'",
		"UPDATE mds_internal.api_keys SET scopes = '{admin}' RETURNING 'x'",
		"DELETE FROM mds_internal.api_keys RETURNING 'x'",
		"TRUNCATE mds_internal.api_keys",
	} {
		for who, try := range map[string]func(string) (string, error){"the service": service, "a tenant's login": login} {
			_, err := try(text)
			var refused *pgconn.PgError
			if !errors.As(err, &refused) || refused.Code != "42501" {
				t.Errorf("%s, %s: %v", who, text, err)
			}
		}
	}
	if _, err := login(count); err == nil {
		t.Error("a tenant's login counts keys")
	}
	// With a right that it should not have it sees none, not even its own tenant's.
	pgtest.Exec(t, d.Admin, "GRANT USAGE ON SCHEMA mds_internal TO "+d.Name+"_acme", "GRANT SELECT ON mds_internal.api_keys TO "+d.Name+"_acme")
	if n, err := login(count); err != nil || n != "0" {
		t.Errorf("with a right a tenant's login sees %s, %v", n, err)
	}
	// A right that was given by mistake is taken by the next migration.
	pgtest.Exec(t, d.Owner, "GRANT ALL ON mds_internal.api_keys TO service")
	if err := prepare(d.Database); err != nil {
		t.Fatal(err)
	}
	if _, err := service("SELECT name FROM mds_internal.api_keys"); err == nil {
		t.Error("the service still reads names")
	}
}

// TestMigrateFromBeforeKeys migrates a database as the version before has left it, whose
// service has its rights.
func TestMigrateFromBeforeKeys(t *testing.T) {
	d := migrated(t)
	write(t, open(t, d.Service, store.Config{}), minute("A", 0, 1))
	pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal.api_keys, mds_internal.kept_answers, mds_internal.jobs, mds_internal.job_parts", "DELETE FROM mds_internal.migrations WHERE version_id >= 4")
	if _, err := store.Open(ctx, d.Service, store.Config{}); err == nil || !strings.Contains(err.Error(), "the database has schema version 3, and this mds needs 4; let the owner run mds migrate") {
		t.Fatalf("before: %v", err)
	}
	applied, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
	if err != nil || len(applied) != 4 || applied[0].Name != "0004_api_keys.sql" {
		t.Fatalf("applied %+v, %v", applied, err)
	}
	s := open(t, d.Service, store.Config{})
	if _, err := s.APIKeys(ctx); !mds.Unavailable(err) || !strings.Contains(err.Error(), "let the owner run mds migrate, which gives the service's login its rights") {
		t.Errorf("without its rights: %v", err)
	}
	if _, err := postgres.GrantService(ctx, d.Owner, d.Service); err != nil {
		t.Fatal(err)
	}
	_, key := createKey(t, d, mds.DefaultTenant())
	if keys, err := s.APIKeys(ctx); err != nil || len(keys) != 1 || keys[0].ID != key.ID {
		t.Errorf("%+v, %v", keys, err)
	}
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars are left", n)
	}
}

// TestRotateInTurn has two rotate a key that both find in use: one does, and the other
// learns of it.
func TestRotateInTurn(t *testing.T) {
	d := migrated(t)
	_, key := createKey(t, d, mds.DefaultTenant())
	conn, err := pgx.Connect(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "BEGIN; SELECT FROM mds_internal.api_keys FOR UPDATE"); err != nil {
		t.Fatal(err)
	}
	errs := make(chan error, 2)
	now := time.Now() // of both: whoever comes second comes after the key has ended
	for range 2 {
		keys, err := postgres.OpenKeys(ctx, d.Owner)
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			_, next := apikey.New(now)
			_, _, err := keys.Rotate(ctx, key.ID, next, next.Created)
			errs <- err
		}()
	}
	waiting(t, d, 2)
	if _, err := conn.Exec(ctx, "ROLLBACK"); err != nil {
		t.Fatal(err)
	}
	one, other := <-errs, <-errs
	if (one == nil) == (other == nil) || !errors.Is(errors.Join(one, other), mds.ErrKeyEnded) {
		t.Errorf("%v and %v", one, other)
	}
}

// TestKeysWhileQueriesLast checks keys while queries have all the connections that they may
// take.
func TestKeysWhileQueriesLast(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{PoolMax: 2})
	write(t, s, minute("A", 0, 1), minute("A", 1, 1))
	_, key := createKey(t, d, mds.DefaultTenant())
	next, stop := iter.Pull2(store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}))
	defer stop()
	if _, err, ok := next(); err != nil || !ok {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if keys, err := s.APIKeys(soon); err != nil || len(keys) != 1 || keys[0].ID != key.ID {
		t.Errorf("%+v, %v", keys, err)
	}
}

// TestKeysWithoutTheServer kills the server: who was known still is, others are told that it
// cannot be reached; when it is up again a revocation acts.
func TestKeysWithoutTheServer(t *testing.T) {
	server := pgtest.Own(t)
	d := server.Database(t, prepare)
	s := open(t, d.Service, store.Config{})
	token, key := createKey(t, d, mds.DefaultTenant())
	a := apikey.NewAuthenticator(s, apikey.Config{Refresh: time.Nanosecond, Outage: time.Hour, Timeout: 20 * time.Second})
	check := func(token string) error {
		_, err := a.Authenticate(ctx, token, time.Now())
		return err
	}
	if err := check(token); err != nil {
		t.Fatal(err)
	}
	server.Kill(t)
	if err := check(token); err != nil {
		t.Errorf("one that is known: %v", err)
	}
	stranger, _ := apikey.New(time.Now())
	if err := check(stranger.Reveal()); !mds.Unavailable(err) || strings.Contains(err.Error(), stranger.Reveal()[17:60]) {
		t.Errorf("one that is not: %v", err)
	}
	server.Restart(t)
	keys, err := postgres.OpenKeys(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := keys.Revoke(ctx, key.ID, time.Now()); err != nil {
		t.Fatal(err)
	}
	if err := check(token); !errors.Is(err, apikey.ErrRevoked) {
		t.Errorf("revoked: %v", err)
	}
	if err := check(stranger.Reveal()); !errors.Is(err, apikey.ErrUnknown) {
		t.Errorf("one that nobody made: %v", err)
	}
}

// TestScopeOfLater makes a key of a scope that the database does not know yet.
func TestScopeOfLater(t *testing.T) {
	d := migrated(t)
	pgtest.Exec(t, d.Owner, "ALTER TABLE mds_internal.api_keys DROP CONSTRAINT api_keys_scopes_check, ADD CONSTRAINT api_keys_scopes_check CHECK (scopes <@ ARRAY['read', 'write', 'admin'])")
	keys, err := postgres.OpenKeys(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	_, key := apikey.New(time.Now())
	key.Tenant, key.Scopes = mds.DefaultTenant(), []mds.Scope{mds.ScopeMetrics}
	if err := keys.Create(ctx, key); err == nil || !strings.Contains(err.Error(), "the database does not know all of the scopes metrics yet; let the owner run mds migrate") {
		t.Error(err)
	}
}
