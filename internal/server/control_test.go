package server_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/audit"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// controlling configures a server that may do all of the control actions.
func controlling(t *testing.T, st *store.Store, owner string) server.Config {
	t.Helper()
	letters, err := dlq.Open(dlq.Config{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := letters.Close(); err != nil {
			t.Error(err)
		}
	})
	return server.Config{Letters: letters, Control: server.ControlConfig{
		Operator: "default",
		Keys:     func(ctx context.Context) (store.Keys, error) { return store.OpenKeys(ctx, owner, store.Config{}) },
		Keeper:   func(ctx context.Context) (store.Keeper, error) { return store.OpenKeeper(ctx, st, owner) },
		Logins:   func() (*store.Logins, error) { return store.OpenLogins(owner) },
		Settings: func() []client.Setting {
			return []client.Setting{{Key: "store.dsn", Value: "postgres://me@db/x", From: "environment MDS_DSN", Secret: true}}
		},
	}}
}

// controlled is a server that asks for keys and may do all, with the tenants a and b beside the
// operator's, which is the default one, and a key of each that may do everything.
type controlled struct {
	*keyed
	cfg        server.Config
	dsn, owner string
	audit      string
	op, a, b   string // tokens
	opID, idOf string // of the operator's key, and of a's
}

func controlledEngines(t *testing.T, test func(t *testing.T, k *controlled)) {
	c := &controlled{}
	keyedWith(t, func(t *testing.T, st *store.Store, dsn, owner string) server.Config {
		cfg := controlling(t, st, owner)
		c.audit = filepath.Join(t.TempDir(), "audit.ndjson")
		log, err := audit.Open(c.audit)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := log.Close(); err != nil {
				t.Error(err)
			}
		})
		// What it reads of the keys would hold for ever, unless it is told of changes.
		cfg.Audit, cfg.Keys = log, apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Hour})
		c.cfg, c.dsn, c.owner = cfg, dsn, owner
		return cfg
	}, func(t *testing.T, k *keyed) {
		c.keyed = k
		all := []mds.Scope{mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin}
		c.op, c.opID = k.make(t, "default", time.Time{}, all...)
		c.a, c.idOf = k.make(t, "a", time.Time{}, all...)
		c.b, _ = k.make(t, "b", time.Time{}, all...)
		test(t, c)
	})
}

// do makes a request with a document, if any, as who has a token.
func (c *controlled) do(t *testing.T, token, method, path, body string) answer {
	t.Helper()
	return c.ask(t, method, path, strings.NewReader(body), append(bearer(token), "Content-Type", "application/json")...)
}

// noted are the entries of the audit log with an event and an operation, as text.
func (c *controlled) noted(t *testing.T, event, operation string) (lines []string) {
	t.Helper()
	text, err := os.ReadFile(c.audit)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if strings.Contains(line, fmt.Sprintf(`"event":%q`, event)) && strings.Contains(line, fmt.Sprintf(`"operation":%q`, operation)) {
			lines = append(lines, line)
		}
	}
	return lines
}

// silent fails where a secret is in the log, or in the audit log.
func (c *controlled) silent(t *testing.T, secret string) {
	t.Helper()
	text, err := os.ReadFile(c.audit)
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(text), secret) || strings.Contains(c.logs.String(), secret) {
		t.Error("a secret is in the log")
	}
}

// operators are the operations that are about all tenants.
var operators = []string{
	"POST /v1/tenants", "DELETE /v1/tenants/{tenant}", "GET /v1/logins", "POST /v1/logins", "DELETE /v1/logins/{login}", "GET /v1/settings",
	"PUT /v1/policies", "GET /v1/policies/plan", "POST /v1/policies/plan", "GET /v1/policies/audit",
}

// TestControlScopes lets in keys with the scope admin only, and to what is about all tenants
// the operator's only; each control action that changes something is noted, refused or not.
func TestControlScopes(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		reads, _ := c.make(t, "default", time.Time{}, mds.ScopeRead, mds.ScopeWrite)
		c.cfg.Keys.Changed()
		seen := 0
		for path, methods := range describedBy(t, c.world).Paths {
			for method, o := range methods {
				if !slices.Contains(o.Tags, "control") {
					continue
				}
				seen++
				method = strings.ToUpper(method)
				ask := func(token string) answer {
					if token == "" {
						return c.ask(t, method, path, nil)
					}
					return c.do(t, token, method, path, "{}")
				}
				ask("").problem(t, http.StatusUnauthorized, "no_key", "")
				ask(reads).problem(t, http.StatusForbidden, "forbidden", "it takes the scope admin")
				if slices.Contains(operators, method+" "+path) {
					ask(c.a).problem(t, http.StatusForbidden, "no_operator", "serve.operator_tenant")
				} else if got := ask(c.a); got.status == http.StatusForbidden || got.status >= 500 {
					t.Errorf("%s %s of a tenant's own is answered %d: %s", method, path, got.status, got.body)
				}
				if got := ask(c.op); got.status == http.StatusForbidden || got.status >= 500 {
					t.Errorf("%s %s of the operator is answered %d: %s", method, path, got.status, got.body)
				}
				changes := method != http.MethodGet && path != "/v1/policies/plan"
				if n := len(c.noted(t, "attempt", o.OperationID)); (n > 0) != changes {
					t.Errorf("%s %s is noted: %v", method, path, n > 0)
				}
			}
		}
		if seen != len(operators)+9 {
			t.Errorf("%d operations of control", seen)
		}
	})
}

// TestJobsOfAll lets a tenant's admin neither make, see nor end what is done for all tenants.
func TestJobsOfAll(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		for path, body := range map[string]string{"/v1/jobs": `{"action":"compact","all_tenants":true}`, "/migrate": "", "/retention/apply": "", "/v1/jobs/cleanup?before=2026-01-01": ""} {
			c.do(t, c.a, http.MethodPost, path, body).problem(t, http.StatusForbidden, "no_operator", "")
		}
		var common, own client.Job
		c.do(t, c.op, http.MethodPost, "/v1/jobs", `{"action":"compact","all_tenants":true,"not_before":"2099-01-01"}`).into(t, http.StatusAccepted, &common)
		c.do(t, c.a, http.MethodPost, "/v1/jobs", `{"action":"compact","not_before":"2099-01-01"}`).into(t, http.StatusAccepted, &own)
		var jobs client.Jobs
		c.do(t, c.a, http.MethodGet, "/v1/jobs", "").into(t, http.StatusOK, &jobs)
		if len(jobs.Jobs) != 1 || jobs.Jobs[0].ID != own.ID {
			t.Errorf("a sees %+v", jobs)
		}
		c.do(t, c.a, http.MethodGet, "/v1/jobs/"+common.ID, "").problem(t, http.StatusNotFound, "unknown_job", "")
		c.do(t, c.a, http.MethodPost, "/v1/jobs/"+common.ID+"/cancel", "").problem(t, http.StatusNotFound, "unknown_job", "")
		c.do(t, c.op, http.MethodGet, "/v1/jobs/"+common.ID, "").into(t, http.StatusOK, &common)
		if common.State != "queued" {
			t.Errorf("it is %s", common.State)
		}
	})
}

// TestTenantsOverHTTP makes a tenant that can be written to with the key that comes with it,
// and removes it with all that it has.
func TestTenantsOverHTTP(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		var made client.MadeTenant
		c.do(t, c.op, http.MethodPost, "/v1/tenants", `{"tenant":"fresh","key":{"name":"first","scopes":["read","write","admin"]}}`).into(t, http.StatusCreated, &made)
		want, err := c.store.Tenant(t.Context(), "fresh")
		if err != nil || made.ID != want.ID || !made.Made || made.Key == nil || made.Key.Key.Tenant != "fresh" {
			t.Fatalf("%+v, %v", made, err)
		}
		token := made.Key.Token
		c.silent(t, token[17:])
		c.post(t, "/v1/bars", bar("F", 0, 5), bearer(token)...).into(t, http.StatusOK, new(any))
		if n, err := store.Bars(c.store).Count(t.Context(), want, mds.Selection{}); n != 1 || err != nil {
			t.Errorf("%d bars are stored, %v", n, err)
		}
		var again client.MadeTenant
		c.do(t, c.op, http.MethodPost, "/v1/tenants", `{"tenant":"fresh","key":{"scopes":["admin"]}}`).into(t, http.StatusOK, &again)
		if again.Made || again.Key != nil || again.ID != want.ID {
			t.Errorf("a key was made for one that was there: %+v", again)
		}
		var list client.Tenants
		c.do(t, c.op, http.MethodGet, "/v1/tenants?all=true", "").into(t, http.StatusOK, &list)
		if len(list.Tenants) != 4 || list.Tenants[3].Slug != "fresh" {
			t.Errorf("%+v", list)
		}
		c.do(t, c.a, http.MethodGet, "/v1/tenants?all=true", "").problem(t, http.StatusForbidden, "no_operator", "")
		reads, _ := c.make(t, "default", time.Time{}, mds.ScopeRead)
		c.cfg.Keys.Changed()
		c.do(t, reads, http.MethodGet, "/v1/tenants?all=true", "").problem(t, http.StatusForbidden, "no_operator", "")
		for _, body := range []string{`{"tenant":"Fresh!"}`, `{}`, `{"tenant":"x","slug":"y"}`, `{"tenant":1}`, `{"tenant":"x"} {}`, `x`, `{"tenant":"x","key":{"scopes":[]}}`} {
			if got := c.do(t, c.op, http.MethodPost, "/v1/tenants", body); got.status != http.StatusBadRequest {
				t.Errorf("%s is answered %d %s", body, got.status, got.body)
			}
		}

		c.bury(t, want, "dead")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/fresh", "").problem(t, http.StatusBadRequest, "bad_parameter", "all=true")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/default?all=true", "").problem(t, http.StatusConflict, "tenant_stays", "")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/nobody?all=true", "").problem(t, http.StatusNotFound, "unknown_tenant", "")
		c.do(t, c.op, http.MethodDelete, "/v1/tenants/fresh?all=true", "").into(t, http.StatusOK, new(any))
		if _, err := c.store.Tenant(t.Context(), "fresh"); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("it is there: %v", err)
		}
		c.get(t, "/v1/bars", bearer(token)...).problem(t, http.StatusUnauthorized, "unknown_key", "")
		if left := c.buried(t, want); len(left) > 0 {
			t.Errorf("letters are left: %v", left)
		}
		if n := len(c.noted(t, "attempt", "remove-tenant")); n != 4 {
			t.Errorf("%d are noted", n)
		}
		if lines := c.noted(t, "attempt", "make-tenant"); !strings.Contains(lines[0], `"tenant":["fresh"]`) || !strings.Contains(lines[0], `"scopes":["read","write","admin"]`) {
			t.Errorf("it is noted as %s", lines[0])
		}
	})
}

// TestNoOperator has nobody look after all tenants where no tenant is named whose keys do.
func TestNoOperator(t *testing.T) {
	keyedWith(t, func(t *testing.T, st *store.Store, _, owner string) server.Config {
		cfg := controlling(t, st, owner)
		cfg.Control.Operator = ""
		return cfg
	}, func(t *testing.T, k *keyed) {
		token, _ := k.make(t, "default", time.Time{}, mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin)
		for _, request := range operators {
			method, path, _ := strings.Cut(request, " ")
			k.ask(t, method, path, strings.NewReader("{}"), bearer(token)...).problem(t, http.StatusForbidden, "no_operator", "serve.operator_tenant names; where that is not set nobody does")
		}
		var who client.Tenant
		k.get(t, "/v1/tenant", bearer(token)...).into(t, http.StatusOK, &who)
		if who.Operator {
			t.Error("it is said to be the operator")
		}
	})
}

// TestOperatorsTenantStays refuses to remove the tenant whose keys look after the store.
func TestOperatorsTenantStays(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		token, _ := k.make(t, "a", time.Time{}, mds.ScopeAdmin)
		k.ask(t, http.MethodDelete, "/v1/tenants/a?all=true", nil, bearer(token)...).problem(t, http.StatusConflict, "tenant_stays", "serve.operator_tenant")
	})
}

// keysOf are those of a tenant, as they are told.
func (c *controlled) keysOf(t *testing.T, token string) []client.APIKey {
	t.Helper()
	var list client.APIKeys
	c.do(t, token, http.MethodGet, "/v1/keys", "").into(t, http.StatusOK, &list)
	return list.Keys
}

// TestKeysOverHTTP makes a key that works at once, for its tenant and its scopes, and revokes it
// at once, also for another server of the store.
func TestKeysOverHTTP(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		const refresh = 50 * time.Millisecond
		var other *world
		if !strings.HasSuffix(t.Name(), "DuckDB") { // where one process has the files
			other = serve(t, c.dsn, server.Config{Keys: apikey.NewAuthenticator(c.store, apikey.Config{Refresh: refresh})})
		}
		var made client.MadeKey
		got := c.do(t, c.a, http.MethodPost, "/v1/keys", `{"name":"feed","scopes":["write","read"],"expires":"2099-01-01"}`)
		got.into(t, http.StatusCreated, &made)
		if got.header.Get("Cache-Control") != "no-store" || made.Key.Tenant != "a" || made.Key.Name != "feed" || !slices.Equal(made.Key.Scopes, []mds.Scope{"read", "write"}) ||
			made.Key.State != mds.KeyActive || !made.Key.Expires.Equal(time.Date(2099, 1, 1, 0, 0, 0, 0, time.UTC)) || made.Token[4:16] != made.Key.ID {
			t.Errorf("%+v %v", made.Key, got.header)
		}
		c.silent(t, made.Token[17:])
		if attempts := c.noted(t, "attempt", "make-key"); !strings.Contains(attempts[0], `"name":["feed"]`) || !strings.Contains(attempts[0], c.idOf) {
			t.Errorf("noted: %s", attempts[0])
		}
		if outcome := c.noted(t, "outcome", "make-key"); !strings.Contains(outcome[0], `"id":["`+made.Key.ID+`"]`) {
			t.Errorf("noted: %s", outcome[0])
		}
		c.post(t, "/v1/bars", bar("K", 0, 1), bearer(made.Token)...).into(t, http.StatusOK, new(any))
		a, err := c.store.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		if n, err := store.Bars(c.store).Count(t.Context(), a, mds.Selection{}); n != 1 || err != nil {
			t.Errorf("%d bars, %v", n, err)
		}
		c.get(t, "/metrics", bearer(made.Token)...).problem(t, http.StatusForbidden, "forbidden", "")

		if other != nil {
			other.get(t, "/v1/bars", bearer(made.Token)...).into(t, http.StatusOK, new(any))
		}
		c.do(t, c.a, http.MethodDelete, "/v1/keys/"+made.Key.ID, "").into(t, http.StatusOK, &made.Key)
		c.get(t, "/v1/bars", bearer(made.Token)...).problem(t, http.StatusUnauthorized, "revoked_key", "")
		if made.Key.State != mds.KeyRevoked || made.Key.Warning != "" {
			t.Errorf("%+v", made.Key)
		}
		if other != nil {
			revoked := time.Now()
			for began := revoked; ; began = time.Now() {
				if got := other.get(t, "/v1/bars", bearer(made.Token)...); got.status == http.StatusUnauthorized {
					break
				}
				if began.Sub(revoked) > refresh {
					t.Errorf("another server takes it after %s", began.Sub(revoked))
					break
				}
			}
		}
		for _, key := range c.keysOf(t, c.a) {
			if want := map[bool]mds.KeyState{true: mds.KeyRevoked, false: mds.KeyActive}[key.ID == made.Key.ID]; key.State != want {
				t.Errorf("%s is %s", key.ID, key.State)
			}
		}
	})
}

// TestKeysGiveWhatTheyHave refuses to give scopes that the key which asks has not, whether by
// making a key, by rotating one, or with a new tenant.
func TestKeysGiveWhatTheyHave(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		admin, _ := c.make(t, "a", time.Time{}, mds.ScopeAdmin)
		opAdmin, _ := c.make(t, "default", time.Time{}, mds.ScopeAdmin)
		writes, writer := c.make(t, "a", time.Time{}, mds.ScopeWrite)
		c.cfg.Keys.Changed()
		before := len(c.keysOf(t, c.a))
		c.do(t, admin, http.MethodPost, "/v1/keys", `{"scopes":["admin","read"]}`).problem(t, http.StatusForbidden, "forbidden", "may not give the scope read")
		c.do(t, admin, http.MethodPost, "/v1/keys/"+writer+"/rotate", `{}`).problem(t, http.StatusForbidden, "forbidden", "may not give the scope write")
		c.do(t, opAdmin, http.MethodPost, "/v1/tenants", `{"tenant":"x","key":{"scopes":["read"]}}`).problem(t, http.StatusForbidden, "forbidden", "may not give the scope read")
		if _, err := c.store.Tenant(t.Context(), "x"); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("the tenant is there: %v", err)
		}
		if n := len(c.keysOf(t, c.a)); n != before {
			t.Errorf("there are %d keys, and were %d", n, before)
		}
		var made client.MadeKey
		c.do(t, admin, http.MethodPost, "/v1/keys", `{"scopes":["admin","metrics"]}`).into(t, http.StatusCreated, &made)
		c.do(t, c.a, http.MethodPost, "/v1/keys/"+writer+"/rotate", `{"until":"2099-01-01"}`).into(t, http.StatusCreated, &made)
		for _, token := range []string{writes, made.Token} { // both work until then
			c.post(t, "/v1/bars", bar("K", 0, 1), bearer(token)...).into(t, http.StatusOK, new(any))
		}
		c.do(t, c.a, http.MethodPost, "/v1/keys/"+made.Key.ID+"/rotate", `{}`).into(t, http.StatusCreated, &made)
		c.post(t, "/v1/bars", bar("K", 0, 1), bearer(made.Token)...).into(t, http.StatusOK, new(any))
		if made.Before == nil || made.Before.State != mds.KeyExpired {
			t.Errorf("%+v", made.Before)
		}
		c.do(t, c.a, http.MethodPost, "/v1/keys/"+made.Before.ID+"/rotate", `{}`).problem(t, http.StatusConflict, "key_ended", "expired")
		for _, body := range []string{`{"scopes":["all"]}`, `{"scopes":["read"],"expires":"2001-01-01"}`, `{"scopes":["read"],"expires":"soon"}`, `{"scopes":["read"],"name":"a\nb"}`, `{"scopes":["read"],"tenant":"b"}`, `{"scopes":"read"}`, ``} {
			if got := c.do(t, c.a, http.MethodPost, "/v1/keys", body); got.status != http.StatusBadRequest {
				t.Errorf("%s is answered %d %s", body, got.status, got.body)
			}
		}
	})
}

// TestOthersKeys has a tenant's admin find no key of another tenant, and the operator none either.
func TestOthersKeys(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		for name, token := range map[string]string{"b": c.b, "the operator": c.op} {
			if list := c.keysOf(t, token); len(list) != 1 || list[0].ID == c.idOf {
				t.Errorf("%s sees %+v", name, list)
			}
			absent := c.do(t, token, http.MethodDelete, "/v1/keys/000000000000", "")
			for _, ask := range []struct{ method, path string }{{http.MethodDelete, "/v1/keys/" + c.idOf}, {http.MethodPost, "/v1/keys/" + c.idOf + "/rotate"}} {
				got := c.do(t, token, ask.method, ask.path, `{}`)
				p := got.problem(t, http.StatusNotFound, "no_such_key", "")
				if strings.ReplaceAll(got.body, p.RequestID, "") != strings.ReplaceAll(absent.body, absent.header.Get("X-Request-Id"), "") {
					t.Errorf("%s differs from what is not there: %s", ask.path, got.body)
				}
			}
			for _, path := range []string{"/v1/keys", "/v1/dead-letters", "/v1/policies"} {
				c.get(t, path, append(bearer(token), "Mds-Tenant", "a")...).problem(t, http.StatusNotFound, "unknown_tenant", "")
			}
			c.ask(t, http.MethodPost, "/v1/keys", strings.NewReader(`{"scopes":["read"]}`), append(bearer(token), "Mds-Tenant", "a")...).problem(t, http.StatusNotFound, "unknown_tenant", "")
		}
		if list := c.keysOf(t, c.a); len(list) != 1 || list[0].State != mds.KeyActive {
			t.Errorf("%+v", list)
		}
	})
}

// TestLastKey may be revoked, by itself, with a warning.
func TestLastKey(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		var key client.APIKey
		c.do(t, c.a, http.MethodDelete, "/v1/keys/"+c.idOf, "").into(t, http.StatusOK, &key)
		if !strings.Contains(key.Warning, "no key with the scope admin any more") {
			t.Errorf("%+v", key)
		}
		c.do(t, c.a, http.MethodGet, "/v1/keys", "").problem(t, http.StatusUnauthorized, "revoked_key", "")
	})
}

// TestNotDoneHere says what a server without the owner's login does not do.
func TestNotDoneHere(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		token, _ := k.make(t, "a", time.Time{}, mds.ScopeAdmin)
		for path, why := range map[string]string{
			"/v1/keys": "set MDS_ADMIN_DSN", "/v1/logins": "set MDS_ADMIN_DSN", "/v1/policies/plan": "set MDS_ADMIN_DSN", "/v1/dead-letters": "is dropped, and counted", "/v1/settings": "without any",
		} {
			k.get(t, path, bearer(token)...).problem(t, http.StatusConflict, "not_done_here", why)
		}
	})
}

// TestSettings tells who looks after the store what is set.
func TestSettings(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		var got client.Settings
		c.do(t, c.op, http.MethodGet, "/v1/settings", "").into(t, http.StatusOK, &got)
		if len(got.Settings) != 1 || got.Settings[0] != (client.Setting{Key: "store.dsn", Value: "postgres://me@db/x", From: "environment MDS_DSN", Secret: true}) {
			t.Errorf("%+v", got)
		}
	})
}

// bury keeps dead letters of a tenant: bars of symbols.
func (c *controlled) bury(t *testing.T, tenant mds.Tenant, symbols ...string) {
	t.Helper()
	for i, symbol := range symbols {
		record := mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC), Close: 1}
		code := []string{ingest.CodeRefused, ingest.CodeInvalid}[i%2]
		letter := ingest.Letter[mds.Bar]{Tenant: tenant, Record: record, Code: code, Reason: "no reason", Attempts: 2, Submitted: time.Now()}
		if err := dlq.For[mds.Bar](c.cfg.Letters, 1).Keep(t.Context(), []ingest.Letter[mds.Bar]{letter}); err != nil {
			t.Fatal(err)
		}
	}
}

// buried are the symbols of a tenant's letters, as they are on the disk.
func (c *controlled) buried(t *testing.T, tenant mds.Tenant) (symbols []string) {
	t.Helper()
	for letter, err := range (deadletter.Dir{Path: c.cfg.Letters.Path()}).Letters(t.Context(), deadletter.Filter{Tenant: tenant.ID}) {
		if err != nil {
			t.Fatal(err)
		}
		symbols = append(symbols, letter.Texts("symbol")...)
	}
	return symbols
}

// TestLettersOverHTTP lists, counts and removes the letters of the tenant that asks, and no
// other's.
func TestLettersOverHTTP(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		a, errA := c.store.Tenant(t.Context(), "a")
		b, errB := c.store.Tenant(t.Context(), "b")
		if err := errors.Join(errA, errB); err != nil {
			t.Fatal(err)
		}
		c.bury(t, a, "A1", "A2", "A3", "A4", "A5")
		c.bury(t, b, "B1")
		var page client.Letters
		var symbols []string
		for after := ""; ; after = "&after=" + page.Next {
			page = client.Letters{}
			c.do(t, c.a, http.MethodGet, "/v1/dead-letters?limit=2"+after, "").into(t, http.StatusOK, &page)
			for _, l := range page.Letters {
				var record struct{ Symbol string }
				if err := json.Unmarshal(l.Record, &record); err != nil {
					t.Fatal(err)
				}
				symbols = append(symbols, record.Symbol)
			}
			if page.Next == "" {
				break
			}
			c.do(t, c.a, http.MethodDelete, "/v1/dead-letters?id="+page.Next, "").into(t, http.StatusOK, new(any)) // it goes on after one that is gone
		}
		if !slices.Equal(symbols, []string{"A1", "A2", "A3", "A4", "A5"}) || page.Letters[0].Code != "refused" || page.Letters[0].Attempts != 2 || page.Letters[0].Tenant != "a" {
			t.Errorf("%v, %+v", symbols, page)
		}
		if left := c.buried(t, a); !slices.Equal(left, []string{"A1", "A3", "A5"}) {
			t.Errorf("%v are left", left)
		}
		lines := c.get(t, "/v1/dead-letters?format=ndjson&symbol=a3,A5", bearer(c.a)...)
		if strings.Count(lines.body, "\n") != 2 || !strings.Contains(lines.body, `"symbol":"A5"`) || lines.header.Get("Content-Type") != "application/x-ndjson" {
			t.Errorf("%s %v", lines.body, lines.header)
		}
		var counts client.LetterSummary
		c.do(t, c.a, http.MethodGet, "/v1/dead-letters/summary", "").into(t, http.StatusOK, &counts)
		if len(counts.Counts) != 1 || counts.Counts[0] != (client.LetterCount{Kind: "bars", Code: "refused", Letters: 3}) || counts.Bytes != 0 {
			t.Errorf("%+v", counts)
		}
		c.do(t, c.op, http.MethodGet, "/v1/dead-letters/summary", "").into(t, http.StatusOK, &counts)
		if len(counts.Counts) != 0 || counts.Bytes == 0 {
			t.Errorf("the operator is told %+v", counts)
		}
		var of client.Letters
		c.do(t, c.b, http.MethodGet, "/v1/dead-letters", "").into(t, http.StatusOK, &of)
		if len(of.Letters) != 1 || of.Letters[0].Tenant != "b" {
			t.Errorf("b has %+v", of)
		}
		for _, who := range []string{c.a, c.op} {
			var n client.Removed
			c.do(t, who, http.MethodDelete, "/v1/dead-letters?id="+of.Letters[0].ID, "").into(t, http.StatusOK, &n)
			if left := c.buried(t, b); n.Removed != 0 || len(left) != 1 {
				t.Errorf("%d of another's were removed; %v are left", n.Removed, left)
			}
		}
		for _, query := range []string{"", "?all=false", "?all=true&kind=bars", "?id=x", "?kind=nothing", "?code=none", "?since=soon", "?tenant=b"} {
			c.do(t, c.a, http.MethodDelete, "/v1/dead-letters"+query, "").problem(t, http.StatusBadRequest, "bad_parameter", "")
		}
		var n client.Removed
		c.do(t, c.a, http.MethodDelete, "/v1/dead-letters?symbol=A1", "").into(t, http.StatusOK, &n)
		if left := c.buried(t, a); n.Removed != 1 || !slices.Equal(left, []string{"A3", "A5"}) {
			t.Errorf("%d removed, %v are left", n.Removed, left)
		}
		c.do(t, c.a, http.MethodDelete, "/v1/dead-letters?all=true", "").into(t, http.StatusOK, &n)
		if left := c.buried(t, a); n.Removed != 2 || left != nil || len(c.buried(t, b)) != 1 {
			t.Errorf("%d removed, %v are left", n.Removed, left)
		}
		if lines := c.noted(t, "outcome", "discard-dead-letters"); !strings.Contains(lines[len(lines)-1], `"removed":2`) {
			t.Errorf("noted: %s", lines[len(lines)-1])
		}
	})
}

// TestZeroTime takes the zero time for none that is said nowhere: as a bound it would pick
// everything.
func TestZeroTime(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		a, err := c.store.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		c.bury(t, a, "KEPT")
		for _, request := range []string{"DELETE /v1/dead-letters?kind=bars&until=0001-01-01", "GET /v1/dead-letters?since=0001-01-01T01:00:00%2B01:00"} {
			method, path, _ := strings.Cut(request, " ")
			c.do(t, c.a, method, path, "").problem(t, http.StatusBadRequest, "bad_parameter", "the first moment of the year 1")
		}
		c.do(t, c.a, http.MethodPost, "/v1/keys", `{"scopes":["read"],"expires":"0001-01-01"}`).problem(t, http.StatusBadRequest, "bad_parameter", "expires: ")
		if left := c.buried(t, a); len(left) != 1 {
			t.Errorf("left are %v", left)
		}
	})
}

// TestTenantWithoutItsKey leaves a tenant whose key could not be made, and says so.
func TestTenantWithoutItsKey(t *testing.T) {
	keyedWith(t, func(t *testing.T, st *store.Store, _, owner string) server.Config {
		cfg := controlling(t, st, owner)
		open := cfg.Control.Keys
		cfg.Control.Keys = func(ctx context.Context) (store.Keys, error) {
			keys, err := open(ctx)
			return brokenKeys{keys}, err
		}
		return cfg
	}, func(t *testing.T, k *keyed) {
		token, _ := k.make(t, "default", time.Time{}, mds.ScopeRead, mds.ScopeAdmin)
		body := strings.NewReader(`{"tenant":"fresh","key":{"scopes":["read"]}}`)
		k.ask(t, http.MethodPost, "/v1/tenants", body, bearer(token)...).problem(t, http.StatusInternalServerError, "internal", "the tenant is made, but its key is not")
		if _, err := k.store.Tenant(t.Context(), "fresh"); err != nil {
			t.Error(err)
		}
	})
}

// brokenKeys makes none.
type brokenKeys struct{ store.Keys }

func (brokenKeys) Create(context.Context, mds.APIKey) error { return errors.New("the disk is full") }
