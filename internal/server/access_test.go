package server_test

import (
	"context"
	"errors"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// keyed is a server that asks for keys, of which it has some.
type keyed struct {
	*world
	keys store.Keys
}

// keyedEngines runs a test on each engine, with the tenants a, which is the operator's, and b.
func keyedEngines(t *testing.T, test func(t *testing.T, k *keyed)) {
	keyedWith(t, func(_ *testing.T, _ *store.Store, _, _ string) server.Config {
		return server.Config{Control: server.ControlConfig{Operator: "a"}}
	}, test)
}

// keyedWith does so with servers of some configuration, of a store, its DSN and its owner's.
func keyedWith(t *testing.T, config func(t *testing.T, st *store.Store, dsn, owner string) server.Config, test func(t *testing.T, k *keyed)) {
	run := func(t *testing.T, dsn, owner string) {
		st, err := store.Open(t.Context(), dsn, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		for _, slug := range []string{"a", "b"} {
			if _, err := st.CreateTenant(t.Context(), slug); err != nil {
				t.Fatal(err)
			}
		}
		keys, err := store.OpenKeys(t.Context(), owner, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		cfg := config(t, st, dsn, owner)
		if cfg.Keys == nil {
			cfg.Keys = apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Nanosecond})
		}
		test(t, &keyed{serve(t, dsn, cfg, st), keys})
		if closer, ok := keys.(interface{ Close() error }); ok {
			if err := closer.Close(); err != nil {
				t.Error(err)
			}
		}
	}
	owned(t, run)
}

// owned runs a test on each engine, with the DSN of a store and that of its owner.
func owned(t *testing.T, test func(t *testing.T, dsn, owner string)) {
	t.Run("DuckDB", func(t *testing.T) {
		dsn := "duckdb://" + t.TempDir()
		test(t, dsn, dsn)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		d := pgtest.Fresh(t, "migrated", func(d pgtest.Database) error {
			_, err := postgres.Migrate(context.Background(), d.Owner, postgres.MigrateConfig{})
			_, grantErr := postgres.GrantService(context.Background(), d.Owner, d.Service)
			return errors.Join(err, grantErr)
		})
		test(t, d.Service, d.Owner)
	})
}

// make makes a key of a tenant, and returns its token and its id.
func (k *keyed) make(t *testing.T, slug string, expires time.Time, scopes ...mds.Scope) (token, id string) {
	t.Helper()
	tenant, err := k.keys.Tenant(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	made, key := apikey.New(time.Now().Add(-2 * time.Hour))
	key.Tenant, key.Name, key.Scopes, key.Expires = tenant, slug, scopes, expires
	if err := k.keys.Create(t.Context(), key); err != nil {
		t.Fatal(err)
	}
	return made.Reveal(), made.ID()
}

func bearer(token string) []string { return []string{"Authorization", "Bearer " + token} }

// TestScopes has each key do what its scopes say, and nothing else.
func TestScopes(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		never := time.Time{}
		tokens := make(map[string]string)
		for name, scopes := range map[string][]mds.Scope{
			"read": {mds.ScopeRead}, "write": {mds.ScopeWrite}, "admin": {mds.ScopeAdmin}, "metrics": {mds.ScopeMetrics}, "all": mds.Scopes(),
		} {
			tokens[name], _ = k.make(t, "a", never, scopes...)
		}
		type operation struct{ method, path, scope string }
		operations := []operation{
			{"GET", "/v1/bars", "read"}, {"GET", "/v1/bars/latest", "read"}, {"GET", "/v1/bars/series", "read"}, {"GET", "/v1/rollups", "read"},
			{"GET", "/v1/tenant", "any"}, {"GET", "/v1/tenants", "any"}, {"GET", "/v1/info", "read"}, {"GET", "/v1/bars/info", "read"}, {"GET", "/v1/bars/count", "read"},
			{"DELETE", "/v1/bars", "write"}, {"DELETE", "/v1/options", "write"}, {"DELETE", "/v1/fundamentals", "write"}, {"DELETE", "/v1/news", "write"},
			{"GET", "/v1/news", "read"}, {"GET", "/v1/stats", "read"}, {"GET", "/schema/version", "any"},
			{"POST", "/v1/bars", "write"}, {"POST", "/v1/options", "write"}, {"POST", "/v1/fundamentals", "write"}, {"POST", "/v1/news", "write"},
			{"GET", "/metrics", "metrics"}, {"GET", "/v1/jobs", "admin"}, {"GET", "/v1/jobs/summary", "admin"}, {"GET", "/v1/jobs/{id}", "admin"},
			{"POST", "/v1/jobs", "admin"}, {"POST", "/v1/jobs/{id}/cancel", "admin"}, {"POST", "/v1/jobs/cleanup", "admin"},
			{"POST", "/migrate", "admin"}, {"POST", "/retention/apply", "admin"}, {"POST", "/refresh/aggregate", "admin"}, {"POST", "/backfill/{job}", "admin"},
			{"GET", "/healthz", ""}, {"GET", "/health", ""}, {"GET", "/readyz", ""}, {"GET", "/openapi.json", ""}, {"GET", "/", ""},
		}
		const jobPaths = "/v1/jobs /v1/jobs/{id} /v1/jobs/{id}/cancel /v1/jobs/cleanup /migrate /retention/apply /refresh/aggregate /backfill/{job}"
		if strings.HasSuffix(t.Name(), "DuckDB") { // elsewhere the tenant needs a login
			operations = append(operations, operation{"POST", "/v1/sql", "read"})
		}
		described := describedBy(t, k.world)
		for path, methods := range described.Paths {
			for method, o := range methods {
				if slices.Contains(o.Tags, "control") {
					continue // TestControlScopes tries them
				}
				tried := path == "/v1/sql" || strings.HasSuffix(path, "/feedback") || path == "/v1/stream" // below
				for _, o := range operations {
					tried = tried || o.path == path && strings.EqualFold(o.method, method)
				}
				if !tried && !slices.ContainsFunc([]string{"/latest", "/series", "/count", "/info"}, func(like string) bool { return strings.HasSuffix(path, like) }) && path != "/v1/options" && path != "/v1/fundamentals" {
					t.Errorf("%s %s is not tried", method, path)
				}
			}
		}
		for _, o := range operations {
			body := strings.NewReader("{}\n")
			if o.method == "GET" {
				body = nil
			}
			ask := func(headers ...string) answer {
				if o.path == "/v1/sql" {
					return k.ask(t, o.method, o.path, strings.NewReader("SELECT 1 AS one"), append(headers, "Content-Type", "application/sql")...)
				}
				if o.method == "DELETE" {
					return k.ask(t, o.method, o.path+"?symbol=NONE", nil, headers...)
				}
				if body == nil {
					return k.ask(t, o.method, o.path, nil, headers...)
				}
				return k.ask(t, o.method, o.path, strings.NewReader("{}\n"), append(headers, "Content-Type", "application/x-ndjson")...)
			}
			for name, token := range tokens {
				want := http.StatusForbidden
				if o.scope == "" || o.scope == "any" || name == o.scope || name == "all" || name == "admin" && o.scope == "metrics" {
					want = http.StatusOK
				}
				a := ask(bearer(token)...)
				if name == "admin" && o.path == "/backfill/{job}" { // it brings records, too
					a.problem(t, http.StatusForbidden, "forbidden", "it takes the scope write")
					continue
				}
				if want == http.StatusOK && slices.Contains([]int{http.StatusAccepted, http.StatusBadRequest, http.StatusNotFound, http.StatusConflict}, a.status) && strings.Contains(jobPaths, o.path) {
					continue // it was let in, and asked for nothing that there is
				}
				if a.status != want {
					t.Errorf("%s %s with %s is answered %d, want %d: %s", o.method, o.path, name, a.status, want, a.body)
				}
				if want == http.StatusForbidden {
					a.problem(t, want, "forbidden", "it takes the scope "+o.scope)
				}
			}
			a := ask()
			switch {
			case o.scope == "" && a.status != http.StatusOK:
				t.Errorf("%s %s without a key is answered %d", o.method, o.path, a.status)
			case o.scope != "":
				a.problem(t, http.StatusUnauthorized, "no_key", "send an API key, as Authorization: Bearer mds_…")
				if a.header.Get("WWW-Authenticate") != "Bearer" {
					t.Error(a.header)
				}
			}
		}
		k.get(t, "/v1/bars/feedback", bearer(tokens["read"])...).problem(t, http.StatusForbidden, "forbidden", "it takes the scope write")
		k.get(t, "/v1/stream", bearer(tokens["write"])...).problem(t, http.StatusForbidden, "forbidden", "it takes the scope read")
		k.get(t, "/v1/stream").problem(t, http.StatusUnauthorized, "no_key", "send an API key")
	})
}

// TestKeysThatEnd refuses keys that are none, or none any more, and says so to who has them
// only.
func TestKeysThatEnd(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		good, id := k.make(t, "a", time.Time{}, mds.ScopeRead)
		expired, _ := k.make(t, "a", time.Now().Add(-time.Hour), mds.ScopeRead)
		foreign, _ := apikey.New(time.Now())
		swapped := expired[:4+12] + good[4+12:]
		for name, tt := range map[string]struct{ header, code string }{
			"expired":             {"Bearer " + expired, "expired_key"},
			"unknown":             {"Bearer " + foreign.Reveal(), "unknown_key"},
			"a typo":              {"Bearer " + good[:len(good)-1] + "!", "malformed_key"},
			"of two":              {"Bearer " + swapped, "malformed_key"},
			"another scheme":      {"Basic " + good, "no_key"},
			"nothing":             {"Bearer ", "no_key"},
			"the token by itself": {good, "no_key"},
		} {
			a := k.get(t, "/v1/bars", "Authorization", tt.header)
			if p := a.problem(t, http.StatusUnauthorized, tt.code, ""); strings.Contains(p.Detail, good[17:30]) || strings.Contains(p.Detail, expired[17:30]) {
				t.Errorf("%s: the secret is in %q", name, p.Detail)
			}
			if !strings.HasPrefix(a.header.Get("WWW-Authenticate"), "Bearer") {
				t.Error(a.header)
			}
		}
		if a := k.get(t, "/v1/bars", bearer(good)...); a.status != http.StatusOK {
			t.Fatalf("%d %s", a.status, a.body)
		}
		if _, err := k.keys.Revoke(t.Context(), id, time.Now()); err != nil {
			t.Fatal(err)
		}
		k.get(t, "/v1/bars", bearer(good)...).problem(t, http.StatusUnauthorized, "revoked_key", "the API key was revoked")
		if logs := k.logs.String(); strings.Contains(logs, good[17:40]) || strings.Contains(logs, expired[17:40]) {
			t.Error("a secret is in the log")
		}
	})
}

// TestOthersThings has a tenant's key find what is another's as if it were not there.
func TestOthersThings(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		all := []mds.Scope{mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin}
		a, _ := k.make(t, "a", time.Time{}, all...)
		b, _ := k.make(t, "b", time.Time{}, all...)
		tenantB, err := k.keys.Tenant(t.Context(), "b")
		if err != nil {
			t.Fatal(err)
		}
		k.post(t, "/v1/bars", bar("A", 0, 1), bearer(a)...)
		k.post(t, "/v1/bars", bar("B", 0, 1), bearer(b)...)
		if got := k.get(t, "/v1/bars?format=csv", bearer(a)...); strings.Count(got.body, "\n") != 2 || !strings.Contains(got.body, "v,A,") {
			t.Errorf("a has %s", got.body)
		}
		var absent answer
		for _, other := range []string{"nobody", "b", tenantB.ID, "default"} {
			for _, path := range []string{"/v1/bars", "/v1/bars/series", "/v1/stats", "/schema/version"} {
				got := k.get(t, path, append(bearer(a), "Mds-Tenant", other)...)
				p := got.problem(t, http.StatusNotFound, "unknown_tenant", "there is no such tenant")
				if other == "nobody" {
					absent = got
				} else if strings.ReplaceAll(got.body, p.RequestID, "") != strings.ReplaceAll(absent.body, absent.header.Get("X-Request-Id"), "") {
					t.Errorf("%s differs from what is not there: %s", other, got.body)
				}
			}
			got := k.post(t, "/v1/bars", bar("X", 0, 1), append(bearer(a), "Mds-Tenant", other)...)
			got.problem(t, http.StatusNotFound, "unknown_tenant", "")
		}
		for _, own := range []string{"a", "A"} {
			if got := k.get(t, "/v1/bars", append(bearer(a), "Mds-Tenant", own)...); (got.status == http.StatusOK) != (own == "a") {
				t.Errorf("by its own name %q it is answered %d", own, got.status)
			}
		}
		stats := k.get(t, "/v1/stats", bearer(b)...)
		if !strings.Contains(stats.body, `"tenant":"b","accepted":1,`) || strings.Contains(stats.body, `"tenant":"a"`) {
			t.Error(stats.body)
		}
	})
}

// TestInfoIsTheTenants tells who has a key nothing of the size of what others have.
func TestInfoIsTheTenants(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		a, _ := k.make(t, "a", time.Time{}, mds.ScopeRead)
		b, _ := k.make(t, "b", time.Time{}, mds.ScopeWrite)
		var before, after mds.StoreInfo
		k.get(t, "/v1/info", bearer(a)...).into(t, http.StatusOK, &before)
		var rows strings.Builder
		for n := range 20_000 {
			rows.WriteString(bar("A", n, 1))
		}
		k.post(t, "/v1/bars", rows.String(), bearer(b)...).into(t, http.StatusOK, new(any))
		k.get(t, "/v1/info", bearer(a)...).into(t, http.StatusOK, &after)
		if after.Bytes != before.Bytes || after.Engine == "" {
			t.Errorf("it has become %+v, and was %+v", after, before)
		}
	})
}
