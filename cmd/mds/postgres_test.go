package main

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestPostgres gives the same commands to PostgreSQL and to DuckDB: they print the same.
func TestPostgres(t *testing.T) {
	d := pgtest.Empty(t)
	on := newCLI(t)
	file := testFile(t, "bars.csv", threeBars)
	news := testFile(t, "news.ndjson", `{"vendor":"v","id":"1","title":"a title","published_at":"2024-01-02T03:04:05Z","symbols":["A","B"]}`+"\n")
	options := testFile(t, "options.csv", "symbol,expiry,option_type,strike,ts,bid\nSPX,2024-03-15,C,4500.5,2024-03-01T15:00:00Z,1.25\nSPX,2024-03-15,P,450,2024-03-01T15:00:00Z,\n")
	server := newCLI(t)
	server.dsn = d.Service
	if out := server.run("ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"); out.exit != exitFailed || !strings.Contains(out.stderr, "mds migrate") {
		t.Errorf("before it was migrated: exit %d\n%s", out.exit, out.stderr)
	}
	wantText(t, "migrate", server.must("migrate", "--admin-dsn", d.Owner).stderr, "applied 0001_store.sql\napplied 0002_tenants.sql\napplied 0003_policies.sql\napplied 0004_api_keys.sql\napplied 0005_kept_answers.sql\napplied 0006_jobs.sql\napplied 0007_metrics_scope.sql\nthe login service has its rights\n")
	wantText(t, "migrate again", server.must("migrate", "--admin-dsn", d.Owner).stderr, "the schema is up to date\nthe login service has its rights\n")
	wantText(t, "migrate status", server.must("migrate", "status", "--admin-dsn", d.Owner).stdout, "   1  applied  0001_store.sql\n   2  applied  0002_tenants.sql\n   3  applied  0003_policies.sql\n   4  applied  0004_api_keys.sql\n   5  applied  0005_kept_answers.sql\n   6  applied  0006_jobs.sql\n   7  applied  0007_metrics_scope.sql\n")
	for _, args := range [][]string{
		{"ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"},
		{"ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m"},
		{"ingest", "bars", file, "--symbol", "AAPL", "--timeframe", "1d"},
		{"ingest", "news", news},
		{"ingest", "options", options},
		{"query", "bars", "--format", "csv"},
		{"query", "bars", "--symbol", "MSFT", "--start", "2020-11-27T14:31:00Z", "--order", "desc", "--format", "csv"},
		{"query", "news", "--symbol", "B", "--format", "ndjson"},
		{"query", "options", "--format", "csv"},
		{"latest", "MSFT", "--format", "csv"},
		{"latest", "options", "SPX", "--format", "csv"},
		{"series", "--format", "csv"},
		{"export", "bars", "-", "--format", "ndjson"},
		{"write", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "7"},
		{"tenant", "create", "acme"},
		{"tenant", "list"},
		{"query", "bars", "--tenant", "acme", "--format", "csv"},
		{"delete", "bars", "--symbol", "MSFT", "--yes"},
		{"query", "bars", "--format", "csv"},
		{"query", "bars", "--tenant", "nobody"},
	} {
		want, got := on.run(args...), server.run(args...)
		if got.exit != want.exit || got.stdout != want.stdout {
			t.Errorf("mds %s: exit %d\n%s%swant %d\n%s%s", strings.Join(args, " "), got.exit, got.stdout, got.stderr, want.exit, want.stdout, want.stderr)
		}
	}
	for _, args := range [][]string{{"info"}, {"health"}, {"ping"}} {
		if out := server.must(args...); !strings.Contains(out.stdout, "postgres") && !strings.Contains(out.stdout, "healthy") {
			t.Errorf("mds %s:\n%s", args[0], out.stdout)
		}
	}
	if out := server.run("compact"); out.exit != exitDone {
		t.Errorf("compact: exit %d\n%s", out.exit, out.stderr)
	}
	if out := on.run("migrate"); out.exit != exitUsage || !strings.Contains(out.stderr, "--admin-dsn") {
		t.Errorf("migrate of a DuckDB store: exit %d\n%s", out.exit, out.stderr)
	}
}

// TestPostgresKilled ends the server with kill -9 in the middle of an ingest: the ledger
// tells what was written, that is stored, and a second ingest stores the rest.
func TestPostgresKilled(t *testing.T) {
	server := pgtest.Own(t)
	d := server.Database(t, func(pgtest.Database) error { return nil })
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	const rows = 60_000
	file := testFile(t, "week.csv", string(syntheticCSV(t, rows)))
	cmd := c.program("ingest", "bars", file, "--batch-size", "500", "--flush-interval", "1h", "--give-up-after", "1s", "--format", "csv")
	var out, errs strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	for pgtest.Ask(t, d.Admin, "SELECT count(*) >= 10000 FROM mds_internal.bar_facts_1m") != "true" {
	}
	server.Kill(t)
	_ = cmd.Wait() // the status is looked at
	numbers := func(text string) (n []int) {
		for _, field := range strings.FieldsFunc(strings.ReplaceAll(text, ",", ""), func(r rune) bool { return r < '0' || r > '9' }) {
			number, _ := strconv.Atoi(field)
			n = append(n, number)
		}
		return n
	}
	ledger, _, _ := strings.Cut(out.String()+errs.String(), "\n")
	n := numbers(ledger) // read, rejected, accepted, written, unchanged, superseded, unwritten
	if len(n) != 7 || n[0] != n[1]+n[2] || n[2] != n[3]+n[4]+n[5]+n[6] || n[1]+n[4]+n[5] != 0 || n[6] == 0 {
		t.Fatalf("the ledger is %q", ledger)
	}
	if text := out.String() + errs.String(); cmd.ProcessState.ExitCode() != exitFailed || !strings.Contains(text, "run the same command again for the rest") {
		t.Errorf("exit %d\n%s", cmd.ProcessState.ExitCode(), text)
	}
	server.Restart(t)
	// What was committed unacknowledged is one of the unwritten.
	stored := len(c.storedCloses())
	if stored < n[3] || stored > n[3]+n[6] || stored%500 != 0 {
		t.Errorf("%d bars are stored, after %s", stored, ledger)
	}
	again := c.must("ingest", "bars", file)
	want := fmt.Sprintf("accepted = %d written + %d unchanged + 0 superseded", rows-stored, stored)
	if got := strings.ReplaceAll(again.stdout+again.stderr, ",", ""); !strings.Contains(got, want) {
		t.Errorf("again:\n%swant %s", got, want)
	}
	if stored := len(c.storedCloses()); stored != rows {
		t.Errorf("%d bars are stored", stored)
	}
}

// TestTenantLogins gives a login of the database a tenant to read, has it read, examines
// what it can do, and takes it away.
func TestTenantLogins(t *testing.T) {
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	c.must("tenant", "create", "acme")
	file := testFile(t, "bars.csv", threeBars)
	for tenant, symbol := range map[string]string{"acme": "ACME", "default": "OTHER"} {
		c.must("ingest", "bars", file, "--symbol", symbol, "--timeframe", "1m", "--tenant", tenant)
	}
	login, other := d.Name+"_bi", d.Name+"_other"
	refused := func(want string, exit int, args ...string) {
		t.Helper()
		if out := c.run(args...); out.exit != exit || !strings.Contains(out.stderr, want) {
			t.Errorf("mds %s: exit %d\n%swant %s", strings.Join(args, " "), out.exit, out.stderr, want)
		}
	}
	refused("there is no login "+login+"; have it made with --create", exitFailed, "tenant", "grant-login", "acme", login, "--admin-dsn", d.Owner)
	refused("unknown tenant \"acne\"; make it with: mds tenant create acne", exitFailed, "tenant", "grant-login", "acne", login, "--admin-dsn", d.Owner)
	refused("needs the tenant and the login", exitUsage, "tenant", "grant-login", "acme", "--admin-dsn", d.Owner)
	refused("is no login of the tenant acme; mds tenant logins lists them", exitFailed, "tenant", "revoke-login", "acme", login, "--admin-dsn", d.Owner)
	refused("the login service is the store's own", exitFailed, "tenant", "grant-login", "acme", "service", "--admin-dsn", d.Owner)
	refused("the login service is not the owner's of the database; give the owner's DSN with --admin-dsn", exitFailed, "tenant", "grant-login", "acme", login)
	refused("is no name for a login; write at most 63 bytes", exitFailed, "tenant", "grant-login", "acme", strings.Repeat("x", 64), "--create", "--admin-dsn", d.Admin)
	refused("is no name for a login; write at most 63 bytes", exitFailed, "tenant", "grant-login", "acme", "a\nb", "--create", "--admin-dsn", d.Admin)
	refused("the login is given without a name", exitUsage, "tenant", "revoke-login", "acme", "", "--admin-dsn", d.Owner)
	refused("give --create, too", exitUsage, "tenant", "grant-login", "acme", login, "--password-stdin", "--admin-dsn", d.Owner)

	// An owner who may not make logins tells what an administrator has to run.
	told := c.run("tenant", "grant-login", "acme", login, "--create", "--admin-dsn", d.Owner)
	if told.exit != exitFailed || !strings.Contains(told.stderr, "let an administrator run with psql") || !strings.Contains(told.stdout, `CREATE ROLE "`+login+`" LOGIN`) {
		t.Fatalf("exit %d\n%s%s", told.exit, told.stdout, told.stderr)
	}
	_, password, ok := strings.Cut(c.must("tenant", "grant-login", "acme", login, "--create", "--admin-dsn", d.Admin).stdout, "login "+login+" made, password ")
	password, rest, _ := strings.Cut(password, "\n")
	if wantText(t, "grant-login", rest, "login "+login+" reads the tenant acme\n"); !ok || len(password) < 20 {
		t.Fatalf("the password is %q", password)
	}
	c.stdin = strings.NewReader("sesame\n")
	wantText(t, "grant-login", c.must("tenant", "grant-login", "default", other, "--create", "--password-stdin", "--admin-dsn", d.Admin).stdout, "login "+other+" made\nlogin "+other+" reads the tenant default\n")
	refused("is one of the tenant acme; take that away first: mds tenant revoke-login acme "+login, exitFailed, "tenant", "grant-login", "default", login, "--admin-dsn", d.Owner)
	wantText(t, "grant-login again", c.must("tenant", "grant-login", "acme", login, "--admin-dsn", d.Owner).stdout, "login "+login+" reads the tenant acme\n")
	if out := c.must("tenant", "logins", "--admin-dsn", d.Owner).stdout; !strings.Contains(out, login) || strings.Count(out, "\n") != 3 {
		t.Errorf("logins:\n%s", out)
	}
	_, host, _ := strings.Cut(d.Service, "@")
	dsn := "postgres://" + login + ":" + password + "@" + host
	otherDSN := "postgres://" + other + ":sesame@" + host
	if got := pgtest.Ask(t, dsn, "SELECT DISTINCT symbol FROM mds.bars"); got != "ACME" {
		t.Errorf("it reads %q", got)
	}
	if got := pgtest.Ask(t, otherDSN, "SELECT DISTINCT symbol FROM mds.bars"); got != "OTHER" {
		t.Errorf("the other reads %q", got)
	}
	out := c.must("doctor", "--admin-dsn", d.Owner, "--login", dsn, "--login", otherDSN).stdout
	if !strings.Contains(out, "attacks by "+login+", of the tenant acme\n  refused    reads another tenant's records through the views: but not tried with mds.fundamentals (no other tenant has records there)") || strings.Contains(out, "OPEN ") || !strings.Contains(out, "nothing is OPEN; 2 NOT TRIED\n") {
		t.Errorf("doctor:\n%s", out)
	}
	if out := c.must("doctor").stdout; !strings.Contains(out, "nothing is OPEN; 13 NOT TRIED\n") {
		t.Errorf("doctor without a login:\n%s", out)
	}
	pgtest.Exec(t, d.Admin, "GRANT USAGE ON SCHEMA mds_internal TO PUBLIC", "GRANT SELECT ON mds_internal.bar_facts_1m TO "+login)
	broken := c.run("doctor", "--admin-dsn", d.Owner, "--login", dsn)
	if broken.exit != exitFailed || broken.stderr != "mds: tenants are not kept apart\n" || !strings.Contains(broken.stdout, "  OPEN       reads the tables: SELECT 1 FROM mds_internal.bar_facts_1m LIMIT 1\n") {
		t.Errorf("doctor of what is broken: exit %d\n%s%s", broken.exit, broken.stdout, broken.stderr)
	}
	if out := c.run("doctor", "--json"); out.exit != exitFailed || !strings.Contains(out.stdout, `"verdict": "OPEN"`) {
		t.Errorf("doctor --json: exit %d\n%s", out.exit, out.stdout)
	}
	c.must("tenant", "revoke-login", "acme", login, "--admin-dsn", d.Owner)
	pgtest.Exec(t, d.Admin, "GRANT SELECT ON ALL TABLES IN SCHEMA mds TO "+login, "GRANT USAGE ON SCHEMA mds TO "+login)
	if got := pgtest.Ask(t, dsn, "SELECT count(*) FROM mds.bars"); got != "0" {
		t.Errorf("revoked, it reads %s bars", got)
	}
	// Nothing is left of what it was given.
	pgtest.Exec(t, d.Admin, "REVOKE ALL ON ALL TABLES IN SCHEMA mds FROM "+login, "REVOKE ALL ON SCHEMA mds FROM "+login, "REVOKE ALL ON mds_internal.bar_facts_1m FROM "+login, "DROP ROLE "+login)
	if out := c.run("query", "bars", "--dsn", otherDSN); out.exit != exitFailed || !strings.Contains(out.stderr, "a tenant's login reads the views in schema mds, such as mds.bars, with psql or a driver") {
		t.Errorf("a tenant's login as the service's: exit %d\n%s", out.exit, out.stderr)
	}
	refused("--login is given without a value", exitUsage, "doctor", "--login", "")
	refused("--login is the DSN of a tenant's login", exitUsage, "doctor", "--login", "duckdb://x")
	refused("names the database postgres, and that of the examination "+d.Name, exitFailed, "doctor", "--login", strings.Replace(otherDSN, "/"+d.Name+"?", "/postgres?", 1))
	refused("the store's own login, which is trusted", exitFailed, "doctor", "--login", d.Service)
	refused("--dsn is the service's login of a PostgreSQL database here", exitUsage, "doctor", "--dsn", "duckdb://"+t.TempDir())
}
