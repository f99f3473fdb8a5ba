package server_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// sqlEngines runs a test on each engine, on PostgreSQL with a login of the default tenant's.
func sqlEngines(t *testing.T, test func(t *testing.T, w *world, admin string)) {
	for name, serveOn := range map[string]func(*testing.T) (*world, string){
		"DuckDB": func(t *testing.T) (*world, string) { return serve(t, "duckdb://"+t.TempDir(), server.Config{}), "" },
		"PostgreSQL": func(t *testing.T) (*world, string) {
			ctx := context.Background()
			d := pgtest.Fresh(t, "migrated", func(d pgtest.Database) error {
				_, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
				_, grantErr := postgres.GrantService(ctx, d.Owner, d.Service)
				return errors.Join(err, grantErr)
			})
			login := d.As(t, d.Name+"_sql")
			if _, err := postgres.GrantLogin(ctx, d.Owner, mds.DefaultTenant(), d.Name+"_sql", postgres.LoginConfig{}); err != nil {
				t.Fatal(err)
			}
			st, err := store.Open(ctx, d.Service, store.Config{})
			if err != nil {
				t.Fatal(err)
			}
			sql, err := store.OpenSQL(ctx, st, map[string]string{"default": login})
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = sql.Close() })
			if _, err := st.CreateTenant(ctx, "acme"); err != nil {
				t.Fatal(err)
			}
			return serve(t, d.Service, server.Config{SQL: sql}, st), d.Admin
		},
	} {
		t.Run(name, func(t *testing.T) {
			w, admin := serveOn(t)
			w.post(t, "/v1/bars", bar("A", 0, 1)+bar("A", 1, 2.5)+bar("B", 0, 3))
			test(t, w, admin)
		})
	}
}

// sql runs a statement.
func (w *world) sql(t testing.TB, text, query string, headers ...string) answer {
	t.Helper()
	return w.ask(t, http.MethodPost, "/v1/sql"+query, strings.NewReader(text), append([]string{"Content-Type", "application/sql"}, headers...)...)
}

func TestSQL(t *testing.T) {
	sqlEngines(t, func(t *testing.T, w *world, admin string) {
		double, bigint := "DOUBLE", "BIGINT"
		if admin != "" {
			double, bigint = "double precision", "bigint"
		}
		const all = "SELECT symbol, ts, close FROM bars ORDER BY symbol, ts"
		a := w.sql(t, "SELECT ts, close, NULL AS n, 9007199254740993 AS big FROM bars ORDER BY symbol, ts", "")
		if want := `{"columns":[{"name":"ts","type":"`; a.status != http.StatusOK || !strings.HasPrefix(a.body, want) || !strings.Contains(a.body, `{"name":"close","type":"`+double+`"},`) || !strings.Contains(a.body, `{"name":"big","type":"`+bigint+`"}`) {
			t.Errorf("%d %s", a.status, a.body)
		}
		if _, rows, _ := strings.Cut(a.body, `"rows":`); rows != "[\n[\"2026-01-02T14:30:00Z\",1,null,9007199254740993],\n[\"2026-01-02T14:31:00Z\",2.5,null,9007199254740993],\n[\"2026-01-02T14:30:00Z\",3,null,9007199254740993]\n],\"truncated\":false}\n" {
			t.Error(rows)
		}
		a = w.sql(t, all, "?max_rows=2", "Accept", "application/x-ndjson")
		if a.body != `{"symbol":"A","ts":"2026-01-02T14:30:00Z","close":1}`+"\n"+`{"symbol":"A","ts":"2026-01-02T14:31:00Z","close":2.5}`+"\n" || a.trailer.Get("Mds-Truncated") != "true" {
			t.Errorf("%s %v", a.body, a.trailer)
		}
		a = w.sql(t, all, "?format=csv", "Content-Type", "text/plain; charset=utf-8")
		if a.body != "symbol,ts,close\nA,2026-01-02T14:30:00Z,1\nA,2026-01-02T14:31:00Z,2.5\nB,2026-01-02T14:30:00Z,3\n" || a.trailer.Get("Mds-Truncated") != "false" {
			t.Errorf("%s %v", a.body, a.trailer)
		}
		a = w.sql(t, `{"sql": "SELECT count(*) AS n FROM bars WHERE close > 1"}`, "?max_rows=0", "Content-Type", "application/json")
		if !strings.HasSuffix(a.body, "\"rows\":[\n[2]\n],\"truncated\":false}\n") {
			t.Error(a.body)
		}
		a = w.sql(t, "SELECT 1 AS x WHERE false", "")
		if !strings.HasSuffix(a.body, `"rows":[],"truncated":false}`+"\n") {
			t.Error(a.body)
		}
		if p := w.sql(t, "SELECT ts,\n nothing FROM bars", "").problem(t, http.StatusBadRequest, "bad_sql", "nothing"); admin != "" && p.Position != 13 {
			t.Errorf("%+v", p)
		}
		if p := w.sql(t, "SELECT 1 FRO M x", "").problem(t, http.StatusBadRequest, "bad_sql", "syntax error"); p.Position < 10 {
			t.Errorf("%+v", p)
		}
		w.sql(t, "SELECT 1 AS a, 2 AS a", "?format=ndjson").problem(t, http.StatusBadRequest, "bad_sql", `two columns are called "a"`)
		w.sql(t, all, "?max_rows=-1").problem(t, http.StatusBadRequest, "bad_parameter", "max_rows")
		w.sql(t, all, "?timeout=1h").problem(t, http.StatusBadRequest, "bad_parameter", "a duration up to 30s")
		w.sql(t, all, "", "Accept", "application/vnd.apache.arrow.stream").problem(t, http.StatusNotAcceptable, "not_acceptable", "application/json, application/x-ndjson or text/csv")
		w.sql(t, all, "", "Content-Type", "text/csv").problem(t, http.StatusUnsupportedMediaType, "unsupported_media_type", "application/sql")
		w.sql(t, "{", "", "Content-Type", "application/json").problem(t, http.StatusBadRequest, "unreadable_body", `{"sql": `)
		w.sql(t, strings.Repeat(" ", 2<<20), "").problem(t, http.StatusRequestEntityTooLarge, "body_too_large", "")
	})
}

// TestSQLAttacks has statements that would do more than read what is the tenant's be refused,
// and looks for what they would have done.
func TestSQLAttacks(t *testing.T) {
	sqlEngines(t, func(t *testing.T, w *world, admin string) {
		secret, out := filepath.Join(t.TempDir(), "secret"), filepath.Join(t.TempDir(), "out")
		if err := os.WriteFile(secret, []byte("a\nhunter2\n"), 0o644); err != nil {
			t.Fatal(err)
		}
		w.ask(t, http.MethodPost, "/v1/bars", strings.NewReader(bar("SECRET", 0, 1)), "Content-Type", "application/x-ndjson", "Mds-Tenant", "acme")
		for name, attack := range map[string]string{
			"several statements":     "SELECT 1; SELECT 2",
			"out of the transaction": "commit; DROP TABLE bar_facts",
			"out of PostgreSQL's":    "commit; DROP TABLE mds_internal.bar_facts",
			"COPY TO PROGRAM":        "COPY (SELECT 1) TO PROGRAM 'touch " + out + "'",
			"COPY TO":                "COPY (SELECT 1) TO '" + out + "'",
			"read_csv":               "SELECT * FROM read_csv('/etc/passwd')",
			"a file as a table":      "SELECT * FROM '" + secret + "'",
			"read_text":              "SELECT content FROM read_text('" + secret + "')",
			"pg_read_file":           "SELECT pg_read_file('" + secret + "')",
			"ATTACH":                 "ATTACH '" + out + "'",
			"SET":                    "SET memory_limit = '100GB'",
			"SET of the time":        "SET statement_timeout = 0",
			"PRAGMA":                 "PRAGMA database_list",
			"a write":                "INSERT INTO bars SELECT * FROM bars RETURNING 1",
			"a write in a SELECT":    "SELECT nextval('touched_id')",
			"a table":                "CREATE TEMP TABLE mine AS SELECT 1",
			"a role":                 "SET ROLE mds",
			"another tenant's file":  "ATTACH '" + filepath.Join(filepath.Dir(out), "acme.duckdb") + "' AS other",
			"the store's tables":     "SELECT * FROM mds_internal.tenants",
			"paths":                  "SELECT * FROM duckdb_databases()",
			"settings":               "SELECT current_setting('data_directory')",
			"memory of one function": "SELECT length(repeat('x', 2000000000))",
			"installing":             "INSTALL httpfs",
			"text that is run":       "SELECT * FROM query('SELECT 1')",
			"a checkpoint":           "SELECT * FROM force_checkpoint()",
		} {
			a := w.sql(t, attack, "?timeout=5s")
			a.problem(t, http.StatusBadRequest, "bad_sql", "")
			if strings.Contains(a.body, "hunter2") || strings.Contains(a.body, "root:") {
				t.Errorf("%s: %s", name, a.body)
			}
		}
		if _, err := os.Stat(out); !os.IsNotExist(err) {
			t.Error("something was written")
		}
		if a := w.sql(t, "SELECT count(*), count(DISTINCT symbol) FROM bars WHERE symbol <> 'SECRET'", "?format=csv"); !strings.HasSuffix(a.body, "\n3,2\n") {
			t.Errorf("afterwards: %s", a.body)
		}
		if admin != "" {
			if got := pgtest.Ask(t, admin, "SELECT count(*) FROM pg_class WHERE relname = 'mine'"); got != "0" {
				t.Error("there is a table")
			}
			w.sql(t, "SELECT 1", "", "Mds-Tenant", "acme").problem(t, http.StatusForbidden, "no_sql_login", "sql.logins")
		}
	})
}

// TestSQLBesideIngestion has records be committed while statements run that never end, and
// these ended by their time, also on PostgreSQL's side.
func TestSQLBesideIngestion(t *testing.T) {
	runaways := map[string]string{
		"a billion-row cross join": "SELECT sum(a.i * b.i * c.close) FROM generate_series(1, 1000000) a(i), generate_series(1, 1000000) b(i), bars c",
		"recursion":                "WITH RECURSIVE r(i) AS (SELECT 1::BIGINT UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r",
	}
	sqlEngines(t, func(t *testing.T, w *world, admin string) {
		for name, text := range runaways {
			ended := make(chan answer, 1)
			go func() { ended <- w.sql(t, text, "?timeout=3s") }()
			committed := 0
			for n := 0; len(ended) == 0 || n < 10; n++ {
				var got client.Answer
				w.post(t, "/v1/bars", bar("A", 10+n%20, float64(n))).into(t, http.StatusOK, &got)
				committed += int(got.Committed)
			}
			if committed < 10 {
				t.Errorf("%s: %d were committed", name, committed)
			}
			(<-ended).problem(t, http.StatusUnprocessableEntity, "sql_limit", "its time was over")
			t.Logf("%s: %d batches were committed beside it", name, committed)
		}
		if admin != "" {
			if got := pgtest.Ask(t, admin, "SELECT backend_type, state, query FROM pg_stat_activity WHERE application_name = 'mds sql' AND state = 'active'"); got != "" {
				t.Errorf("%s go on", got)
			}
		}
	})
}

// TestSQLOfAClient reads an answer as package client does, and what is refused.
func TestSQLOfAClient(t *testing.T) {
	sqlEngines(t, func(t *testing.T, w *world, _ string) {
		c, err := client.New(client.Config{URL: w.url, HTTPClient: w.client})
		if err != nil {
			t.Fatal(err)
		}
		got := &rows{}
		more, err := c.SQL(t.Context(), mds.Tenant{}, mds.SQLQuery{Text: "SELECT symbol, ts, close FROM bars ORDER BY symbol, ts", MaxRows: 2}, got)
		if err != nil || !more || got.text != "symbol ts close\nA 2026-01-02T14:30:00Z 1\nA 2026-01-02T14:31:00Z 2.5\n" {
			t.Errorf("%q, %v, %v", got.text, more, err)
		}
		var refused *mds.SQLError
		if _, err := c.SQL(t.Context(), mds.Tenant{}, mds.SQLQuery{Text: "SELECT 1; SELECT 2"}, got); !errors.As(err, &refused) {
			t.Error(err)
		}
		stopped := errors.New("enough")
		if _, err := c.SQL(t.Context(), mds.Tenant{}, mds.SQLQuery{Text: "SELECT 1"}, &rows{err: stopped}); !errors.Is(err, stopped) {
			t.Error(err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
		defer cancel()
		if _, err := c.SQL(ctx, mds.Tenant{}, mds.SQLQuery{Text: "WITH RECURSIVE r(i) AS (SELECT 1::BIGINT UNION ALL SELECT i + 1 FROM r) SELECT max(i) FROM r"}, got); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
	})
}

// rows writes an answer down.
type rows struct {
	text string
	err  error
}

func (r *rows) Columns(columns []mds.SQLColumn) error {
	names := make([]any, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return r.Row(names)
}

func (r *rows) Row(values []any) error {
	r.text += fmt.Sprintln(values...)
	return r.err
}

// TestSQLPage runs the queries of docs/sql.md.
func TestSQLPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/sql.md")
	if err != nil {
		t.Fatal(err)
	}
	queries := regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	wants := []string{
		"symbol,day,vwap,volume\nC,2026-01-02,12.5,40\n",
		"symbol,previous,ts,gap\nC,2026-01-02T14:31:00Z,2026-01-02T14:35:00Z,00:04:00\n",
		"symbol,ts,close,asof,eps,price_earnings\nC,2026-01-02T00:00:00Z,10,,,\nC,2026-01-05T00:00:00Z,20,2025-09-30,4,5\n",
	}
	if len(queries) != len(wants) {
		t.Fatalf("%d queries", len(queries))
	}
	sqlEngines(t, func(t *testing.T, w *world, _ string) {
		w.ask(t, http.MethodDelete, "/v1/bars?all=true", nil)
		var body strings.Builder
		for _, b := range []struct{ timeframe, ts, close, volume string }{
			{"1m", "2026-01-02T14:30:00Z", "10", "20"}, {"1m", "2026-01-02T14:31:00Z", "14", "10"}, {"1m", "2026-01-02T14:35:00Z", "16", "10"},
			{"1d", "2026-01-02", "10", "1"}, {"1d", "2026-01-05", "20", "1"},
		} {
			fmt.Fprintf(&body, `{"vendor":"v","symbol":"C","timeframe":%q,"ts":%q,"close":%s,"volume":%s}`+"\n", b.timeframe, b.ts, b.close, b.volume)
		}
		w.post(t, "/v1/bars", body.String())
		var stored client.Answer
		w.post(t, "/v1/fundamentals", `{"vendor":"v","symbol":"C","period":"FY","asof":"2025-09-30","filed_at":"2026-01-02T12:00:00Z","eps":4}`).into(t, http.StatusOK, &stored)
		if stored.Committed != 1 {
			t.Fatalf("%+v", stored)
		}
		for i, q := range queries {
			if a := w.sql(t, q[1], "?format=csv"); a.body != wants[i] {
				t.Errorf("%s\n%s\nwant %s", q[1], a.body, wants[i])
			}
		}
	})
}
