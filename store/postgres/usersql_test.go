package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// answer keeps what SQL is answered with.
type answer struct {
	columns []mds.SQLColumn
	rows    []string
	last    []any
}

func (a *answer) Columns(c []mds.SQLColumn) error { a.columns = c; return nil }

func (a *answer) Row(values []any) error {
	a.rows = append(a.rows, strings.TrimSpace(fmt.Sprintln(values...)))
	a.last = append([]any(nil), values...)
	return nil
}

// reader is a store of two tenants, of which the default one has a login for SQL.
type reader struct {
	pgtest.Database
	store.SQL
	store *store.Store
	login string // a DSN
}

func newReader(t *testing.T) *reader {
	d := migrated(t)
	r := &reader{Database: d, store: open(t, d.Service, store.Config{}), login: d.As(t, d.Name+"_sql")}
	acme, err := r.store.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.GrantLogin(ctx, d.Owner, mds.DefaultTenant(), d.Name+"_sql", postgres.LoginConfig{}); err != nil {
		t.Fatal(err)
	}
	write(t, r.store, minute("A", 0, 1), minute("A", 1, 2))
	if _, err := store.Bars(r.store).WriteBatch(ctx, acme, []mds.Bar{minute("SECRET", 0, 1)}); err != nil {
		t.Fatal(err)
	}
	if r.SQL, err = store.OpenSQL(ctx, r.store, map[string]string{"default": r.login}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *reader) ask(ctx context.Context, text string, most int64) (*answer, bool, error) {
	a := &answer{}
	more, err := r.SQL.SQL(ctx, mds.DefaultTenant(), mds.SQLQuery{Text: text, MaxRows: most}, a)
	return a, more, err
}

func TestSQLAnswers(t *testing.T) {
	r := newReader(t)
	for text, want := range map[string]string{
		"select symbol, ts, close from bars order by ts desc": "A 2024-01-01 00:01:00 +0000 UTC 2|A 2024-01-01 00:00:00 +0000 UTC 1",
		"select count(*) from mds.bars;":                      "2",
		"select 9007199254740993, 1.10::numeric(18,9), 0.1::real, 1e300::float8, 'nan'::float8, 'nan'::numeric":   "9007199254740993 1.100000000 0.1 1e+300 NaN NaN",
		"select true, null, date '2026-02-28', time '12:30:00', interval '1 month', '\\x00ff'::bytea":             "true <nil> 2026-02-28 12:30:00 1 mon [0 255]",
		"select timestamptz '2026-01-02 14:30:00+02', timestamp '2026-01-02 14:30:00.5', 'infinity'::timestamptz": "2026-01-02 12:30:00 +0000 UTC 2026-01-02 14:30:00.5 +0000 UTC infinity",
		"values (1, 'a'), (2, 'b')":          "1 a|2 b",
		"with w as (select 1) table w -- ;":  "1",
		"show transaction_read_only":         "on",
		"select session_user = current_user": "true",
	} {
		a, _, err := r.ask(ctx, text, 100)
		if got := strings.Join(a.rows, "|"); err != nil || got != want {
			t.Errorf("%s\n%s, %v\nwant %s", text, got, err, want)
		}
	}
	a, _, err := r.ask(ctx, `select array['a','b'], array[1,2], '{"x": 9007199254740993}'::jsonb, 1.5::numeric(4,1)`, 0)
	if want := fmt.Sprintf("%#v", []any{json.RawMessage(`["a","b"]`), json.RawMessage(`[1,2]`), json.RawMessage(`{"x": 9007199254740993}`), json.Number("1.5")}); err != nil || fmt.Sprintf("%#v", a.last) != want {
		t.Errorf("%#v, %v", a.last, err)
	}
	if a.columns[3] != (mds.SQLColumn{Name: "numeric", Type: "numeric(4,1)"}) {
		t.Errorf("%+v", a.columns)
	}
	a, more, err := r.ask(ctx, "select i from generate_series(1, 1000000) i", 10_000)
	if err != nil || !more || len(a.rows) != 10_000 {
		t.Errorf("%d rows, %v, %v", len(a.rows), more, err)
	}
	if a, more, err := r.ask(ctx, "select i from generate_series(1, 20) i", 20); more || err != nil || len(a.rows) != 20 {
		t.Errorf("%d rows, %v, %v", len(a.rows), more, err)
	}
	if a, _, err := r.ask(ctx, "explain select * from bars", 0); err != nil || len(a.rows) < 2 {
		t.Errorf("%d rows, %v", len(a.rows), err)
	}
}

// TestSQLRefuses has SQL that would do more than read what is the tenant's be refused, and
// change nothing.
func TestSQLRefuses(t *testing.T) {
	r := newReader(t)
	for _, attack := range []string{
		"select 1; select 2", "commit; drop table mds_internal.bar_facts", "commit; select 1", "rollback; create temp table x (i int)", "begin", "commit", "rollback", "end", "abort", "savepoint s",
		"copy (select 1) to program 'touch /tmp/mds-attack'", "copy mds.bars to '/tmp/mds-attack'", "copy (select 1) to stdout", "copy mds.bars from program 'id'",
		"select pg_read_file('/etc/passwd')", "select pg_read_binary_file('/etc/passwd')", "select * from pg_ls_dir('/')", "select lo_import('/etc/passwd')", "select pg_file_write('/tmp/mds-attack', 'x', false)",
		"set statement_timeout = 0", "set role mds", "set session authorization mds", "reset all", "set session characteristics as transaction read write", "set transaction read write", "discard all", "listen x", "notify x", "load 'x'", "lock table mds.bars", "declare c cursor for select 1",
		"select set_config('transaction_read_only', 'off', false)", "select set_config('role', 'mds', false)", "select set_config('session_authorization', 'mds', false)",
		"insert into mds.bars select * from mds.bars returning 1", "with x as (delete from mds.bars returning 1) select * from x", "update mds.bars set close = 1", "create table mds.mine (i int)", "create temp table mine as select 1", "select 1 into temp mine", "drop view mds.bars", "truncate mds_internal.bar_facts_1m",
		"explain analyze delete from mds.bars", "do $$ begin raise notice 'x'; end $$", "prepare p as select 1", "execute p", "call mds_internal.seal('x')", "grant select on mds.bars to public", "create role x", "alter role current_user superuser", "vacuum", "checkpoint", "analyze",
		"select * from mds_internal.tenants", "select * from mds_internal.api_keys", "select * from mds_internal.series", "select * from pg_authid", "select * from pg_shadow", "select * from pg_hba_file_rules", "show hba_file", "select current_setting('data_directory')", "select pg_reload_conf()", "select nextval('mds_internal.touched_id_seq')",
		"select $1::int", "", ";", "--", "selec 1", "select nothing from bars", "select * from nowhere", "select 1 /* ", "select 'a", "select '\x00'", "select * from bars for update",
	} {
		a, _, err := r.ask(ctx, attack, 10)
		var refused *mds.SQLError
		if !errors.As(err, &refused) || len(a.rows) > 0 {
			t.Errorf("%q is answered with %q, %v", attack, a.rows, err)
		}
	}
	if a, _, err := r.ask(ctx, "select count(*) from bars where symbol = 'SECRET'", 0); err != nil || a.rows[0] != "0" {
		t.Errorf("another tenant's: %v, %v", a.rows, err)
	}
	if got := pgtest.Ask(t, r.Admin, "SELECT (SELECT count(*) FROM mds.bars), (SELECT count(*) FROM pg_class WHERE relname = 'mine'), (SELECT count(*) FROM pg_roles WHERE rolname = 'x'), (SELECT rolsuper FROM pg_roles WHERE rolname = '"+r.Name+"_sql')"); got != "2 0 0 false" {
		t.Errorf("afterwards there are %s", got)
	}
	if got := pgtest.Ask(t, r.Admin, "SELECT pg_stat_file('/tmp/mds-attack', true) IS NULL"); got != "true" {
		t.Error("something was written")
	}
	var e *mds.SQLError
	if _, _, err := r.ask(ctx, "select nothing from bars", 0); !errors.As(err, &e) || e.Position != 8 || e.Detail != `column "nothing" does not exist` {
		t.Errorf("%+v", e)
	}
}

// TestSQLLeavesNothing has a statement leave nothing to the next one on its connection.
func TestSQLLeavesNothing(t *testing.T) {
	r := newReader(t)
	for _, text := range []string{
		"select set_config('statement_timeout', '1', false), set_config('search_path', 'pg_catalog', false), set_config('default_transaction_read_only', 'off', false)", "select pg_advisory_lock(42)",
		"select 1/0",
	} {
		_, _, _ = r.ask(ctx, text, 0)
		_, _, _ = r.ask(ctx, text, 0)
	}
	a, _, err := r.ask(ctx, "select count(*) from bars, pg_sleep(0.05)", 0)
	if err != nil || a.rows[0] != "2" {
		t.Errorf("%v, %v", a.rows, err)
	}
	if got := pgtest.Ask(t, r.Admin, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objid = 42"); got != "0" {
		t.Errorf("%s locks are held", got)
	}
}

// TestSQLEnds has statements end that would not, on the server as well, whatever they say of
// their own timeout.
func TestSQLEnds(t *testing.T) {
	r := newReader(t)
	for _, text := range []string{
		"select pg_sleep(600)", "select set_config('statement_timeout', '0', false), pg_sleep(600)",
		"select count(*) from generate_series(1, 1000000000) a, generate_series(1, 1000000000) b",
		"with recursive r(i) as (select 1 union all select i + 1 from r) select max(i) from r",
		"select i from generate_series(1, 1000000000000) i",
	} {
		err := inTime(300*time.Millisecond, func(within context.Context) error {
			begun := time.Now()
			_, _, err := r.ask(within, text, 0)
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s took %v", text, took)
			}
			return err
		})
		if !errors.Is(err, mds.ErrSQLLimit) {
			t.Errorf("%s: %v", text, err)
		}
	}
	if got := pgtest.Ask(t, r.Admin, "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+r.Name+"_sql' AND state = 'active'"); got != "0" {
		t.Errorf("%s go on", got)
	}
	if _, _, err := r.ask(ctx, "select repeat('x', 100000000)", 0); !errors.Is(err, mds.ErrSQLLimit) {
		t.Errorf("a large row: %v", err)
	}
	// Two at once, and no more.
	sleeping, wake := context.WithCancel(ctx)
	defer wake()
	ended := make(chan error, 2)
	for range 2 {
		go func() {
			_, _, err := r.ask(sleeping, "select pg_sleep(600)", 0)
			ended <- err
		}()
	}
	for pgtest.Ask(t, r.Admin, "SELECT count(*) FROM pg_stat_activity WHERE usename = '"+r.Name+"_sql' AND wait_event = 'PgSleep'") != "2" {
	}
	within, cancel := context.WithTimeout(ctx, 300*time.Millisecond)
	defer cancel()
	if _, _, err := r.ask(within, "select 1", 0); !errors.Is(err, mds.ErrSQLBusy) {
		t.Errorf("a third one: %v", err)
	}
	wake()
	if err := errors.Join(<-ended, <-ended); !errors.Is(err, context.Canceled) {
		t.Errorf("the two end with %v", err)
	}
}

// inTime does something within a time, and within twice as much where that was over before there
// was a connection.
func inTime(d time.Duration, do func(context.Context) error) error {
	for {
		within, cancel := context.WithTimeout(ctx, d)
		err := do(within)
		cancel()
		if e, ok := errors.AsType[*postgres.Error](err); !ok || e.Class != postgres.Timeout || d > time.Minute {
			return err
		}
		d *= 2
	}
}

// TestSQLLogins refuses logins that are not one tenant's.
func TestSQLLogins(t *testing.T) {
	r := newReader(t)
	name := r.Name + "_"
	other := r.As(t, name+"other")
	acme, err := r.store.Tenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := postgres.GrantLogin(ctx, r.Owner, acme, name+"other", postgres.LoginConfig{}); err != nil {
		t.Fatal(err)
	}
	reads := r.As(t, name+"reads")
	pgtest.Exec(t, r.Admin, "GRANT pg_read_server_files TO "+name+"reads")
	for what, c := range map[string]struct{ dsn, reason string }{
		"the service":        {r.Service, "may read or write the tables of the store"},
		"the owner":          {r.Owner, "may read or write the tables of the store"},
		"a superuser":        {r.Admin, "is a superuser"},
		"nobody's":           {r.As(t, name+"nobody"), "is no tenant's login; mds tenant grant-login default " + name + "nobody"},
		"another tenant's":   {other, "is the login of the tenant acme"},
		"one that may more":  {reads, "may become pg_read_server_files"},
		"one of no password": {strings.Replace(r.login, "//"+name+"sql:", "//"+name+"sql:no", 1), "password authentication failed"},
	} {
		sql, err := store.OpenSQL(ctx, r.store, map[string]string{"default": c.dsn})
		if err == nil || !strings.Contains(err.Error(), c.reason) || !strings.Contains(err.Error(), "the login for SQL of the tenant default: ") {
			t.Errorf("%s: %v", what, err)
		}
		if err == nil {
			_ = sql.Close()
		}
	}
	if _, err := r.SQL.SQL(ctx, acme, mds.SQLQuery{Text: "select 1"}, &answer{}); !errors.Is(err, mds.ErrNoSQLLogin) || !strings.Contains(err.Error(), "sql.logins") {
		t.Errorf("without a login: %v", err)
	}
}
