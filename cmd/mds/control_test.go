package main

import (
	"net/url"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestControlThroughAServer looks after a store through its server, with the key of its
// operator, and of a tenant with that of its admin; what was done the store has.
func TestControlThroughAServer(t *testing.T) {
	test := func(t *testing.T, c *keysCLI) {
		key := func(tenant, scopes string) string {
			return strings.TrimSpace(c.mustKeys("create", "--tenant", tenant, "--scopes", scopes).stdout)
		}
		operator, acme := key("default", "read,write,admin"), key("acme", "read,write,admin")
		postgres := len(c.flags) > 0
		letters := filepath.Join(t.TempDir(), "letters")
		with := []string{"--dlq-dir", letters, "--audit-log", filepath.Join(t.TempDir(), "audit.ndjson")}
		if postgres {
			with = append(with, "--config", configured(t, "[store]\nadmin_dsn = \""+c.flags[1]+"\"\n"))
		}
		t.Setenv("MDS_SERVE_OPERATOR_TENANT", "default")
		s := c.serve(with...)
		as := func(token string, args ...string) outcome {
			c.apiKey = token
			return c.run(append(args, "--server", s.url)...)
		}
		want := func(out outcome, exit int, text string) outcome {
			t.Helper()
			if out.exit != exit || !strings.Contains(out.stdout+out.stderr, text) {
				t.Errorf("exit %d, want %d with %q:\n%s%s", out.exit, exit, text, out.stdout, out.stderr)
			}
			return out
		}

		want(as(acme, "tenant", "create", "fresh"), exitFailed, "mds: this is about all tenants: it takes a key with the scope admin of the tenant that the server's setting serve.operator_tenant names; where that is not set nobody does it through the server\n")
		want(as(operator, "tenant", "create", "fresh"), exitDone, "tenant fresh made, id ")
		want(as(operator, "tenant", "create", "fresh"), exitFailed, "mds: tenant exists: fresh")
		want(as(operator, "tenant", "list"), exitDone, "fresh")
		if out := want(as(acme, "tenant", "list"), exitDone, "acme"); strings.Contains(out.stdout, "fresh") {
			t.Errorf("acme is told of others:\n%s", out.stdout)
		}

		out := want(as(acme, "keys", "create", "--scopes", "read", "--name", "reader", "--expires", "90d"), exitDone, " of tenant acme made: read, expires at ")
		reader := strings.TrimSpace(out.stdout)
		want(as(reader, "query", "bars"), exitDone, "")
		want(as(reader, "keys", "list"), exitFailed, "it takes the scope admin")
		want(as(acme, "keys", "list"), exitDone, "reader")
		want(as(acme, "keys", "list", "--all-tenants"), exitUsage, "mds: --all-tenants: a server tells those of one tenant")
		out = want(as(acme, "keys", "rotate", reader[4:16], "--grace", "1h"), exitDone, "takes the place of "+reader[4:16]+", which works until ")
		next := strings.TrimSpace(out.stdout)
		for _, token := range []string{reader, next} {
			want(as(token, "query", "bars"), exitDone, "")
		}
		want(as(acme, "keys", "revoke", next[4:16]), exitDone, "key "+next[4:16]+" of tenant acme is revoked\n")
		want(as(acme, "keys", "revoke", next[4:16]), exitDone, " was revoked before, at ")
		want(as(next, "query", "bars"), exitFailed, "the API key was revoked")
		want(as(operator, "keys", "revoke", reader[4:16]), exitFailed, "mds: unknown API key; mds keys list --server ")
		want(as(acme, "keys", "list", "--admin-dsn", "postgres://x@y/z"), exitUsage, "mds: --admin-dsn is of a PostgreSQL database, and what is named is a server")

		want(as(acme, "policies", "show"), exitDone, "no policies are in force")
		file := testFile(t, "policies.toml", "[bars.1m]\nrollups = [\"1h\"]\ndrop_after = \"30d\"\n")
		bars := testFile(t, "bars.csv", "vendor,symbol,timeframe,ts,close\nv,A,1m,2026-01-02T14:30:00Z,1\n")
		want(as(acme, "ingest", "bars", bars), exitDone, "1 accepted")
		want(as(operator, "policies", "dry-run", file), exitDone, "drop")
		want(as(acme, "policies", "apply", file, "--yes"), exitFailed, "mds: this is about all tenants")
		want(as(operator, "policies", "apply", file), exitUsage, "Take these rows away?")
		want(as(acme, "query", "bars", "--format", "csv"), exitDone, "v,A,1m,")
		want(as(operator, "policies", "apply", file, "--yes"), exitDone, "does what they ask for\n")
		if out := want(as(acme, "query", "bars", "--format", "csv"), exitDone, ""); strings.Contains(out.stdout, "v,A,1m") {
			t.Errorf("they are not dropped:\n%s", out.stdout)
		}
		want(as(acme, "query", "rollups", "--format", "csv"), exitDone, "v,A,1h,")
		want(as(acme, "policies", "show"), exitDone, "[bars.1m]\ndrop_after     = \"30d\"\nrollups        = [\"1h\"]\n")
		want(as(operator, "policies", "status", "--audit", "5"), exitDone, "dropped")
		want(as(operator, "policies", "apply", testFile(t, "none.toml", "[bars]\n"), "--yes"), exitUsage, "give --lose-history")

		c.letters(letters)
		want(as(acme, "dlq", "list", "--at-server"), exitDone, "2 bars exhausted\n")
		if out := want(as(acme, "dlq", "export", "-", "--at-server", "--symbol", "B"), exitDone, `"symbol":"B"`); strings.Count(out.stdout, "\n") != 1 {
			t.Errorf("%s", out.stdout)
		}
		want(as(acme, "dlq", "discard", "--at-server"), exitUsage, "mds: say which letters")
		want(as(acme, "dlq", "discard", "--at-server", "--symbol", "B"), exitDone, "1 letter discarded\n")
		want(as(acme, "dlq", "discard", "--at-server", "--yes"), exitDone, "1 letter discarded\n")
		want(as(acme, "dlq", "list", "--at-server"), exitDone, "no dead letters of tenant acme at the server match\n")
		want(as(operator, "dlq", "list", "--at-server"), exitDone, "1 bars exhausted\n")
		want(c.run("dlq", "list", "--at-server"), exitUsage, "mds: mds dlq list: name the server, with --server or MDS_SERVER\n")

		want(as(acme, "config", "server"), exitFailed, "mds: this is about all tenants")
		out = want(as(operator, "config", "server"), exitDone, "serve.listen")
		if postgres && (strings.Contains(out.stdout, password(t, c.flags[1])) || !strings.Contains(out.stdout, "store.admin_dsn")) {
			t.Errorf("%s", out.stdout)
		}
		if !postgres {
			want(as(operator, "tenant", "logins"), exitFailed, "mds: this server does not make, list or end logins: the store has no logins")
			return
		}
		admin := pgtest.Start(t).DSN("admin", "postgres")
		pgtest.Exec(t, admin, "ALTER ROLE mds CREATEROLE")
		t.Cleanup(func() { pgtest.Exec(t, admin, "ALTER ROLE mds NOCREATEROLE") })
		login := "dashboard_" + strings.ToLower(operator[4:16])
		out = want(as(operator, "tenant", "grant-login", "acme", login, "--create"), exitDone, "login "+login+" reads the tenant acme\n")
		_, secret, _ := strings.Cut(out.stdout, ", password ")
		secret, _, _ = strings.Cut(secret, "\n")
		dsn, err := url.Parse(c.flags[1])
		if err != nil {
			t.Fatal(err)
		}
		dsn.User = url.UserPassword(login, secret)
		if n := pgtest.Ask(t, dsn.String(), "SELECT count(*) FROM mds.rollups"); n != "1" {
			t.Errorf("it sees %s rollups", n)
		}
		want(as(operator, "tenant", "logins"), exitDone, login)
		want(as(operator, "tenant", "revoke-login", "acme", login), exitDone, "login "+login+" no longer reads the tenant acme\n")
		want(as(operator, "tenant", "revoke-login", "acme", login), exitFailed, "mds: no such login reads a tenant")
	}
	t.Run("duckdb", func(t *testing.T) {
		c := &keysCLI{cli: newCLI(t)}
		c.must("tenant", "create", "acme")
		test(t, c)
	})
	t.Run("postgres", func(t *testing.T) {
		d := pgtest.Empty(t)
		c := &keysCLI{cli: newCLI(t), flags: []string{"--admin-dsn", d.Owner}}
		c.dsn = d.Service
		c.must("migrate", "--admin-dsn", d.Owner)
		c.must("tenant", "create", "acme")
		test(t, c)
	})
}

func password(t *testing.T, dsn string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	secret, _ := u.User.Password()
	return secret
}

// letters keeps letters of bars in a folder, two of acme and one of the default tenant.
func (c *cli) letters(dir string) {
	c.t.Helper()
	acme, err := mds.NewTenant("acme")
	if err != nil {
		c.t.Fatal(err)
	}
	first, second := deadBar("A", 1, 0), deadBar("B", 2, 1)
	first.Tenant, second.Tenant = acme, acme
	first.Submitted, second.Submitted = time.Now(), time.Now() // since there is such a tenant
	log, err := deadletter.Open(deadletter.Config{Dir: dir})
	if err != nil {
		c.t.Fatal(err)
	}
	if err := log.Append(c.t.Context(), []deadletter.Letter{first, second, deadBar("C", 3, 2)}); err != nil {
		c.t.Fatal(err)
	}
	if err := log.Close(); err != nil {
		c.t.Fatal(err)
	}
}
