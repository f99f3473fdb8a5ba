package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// answer keeps what SQL is answered with.
type answer struct {
	columns []mds.SQLColumn
	rows    []string
	full    chan struct{} // unless it is nil, rows wait until it is closed
}

func (a *answer) Columns(c []mds.SQLColumn) error { a.columns = c; return nil }

func (a *answer) Row(values []any) error {
	if a.full != nil {
		<-a.full
	}
	a.rows = append(a.rows, strings.TrimSpace(fmt.Sprintln(values...)))
	return nil
}

func ask(ctx context.Context, s *Store, text string, most int64) (*answer, bool, error) {
	a := &answer{}
	more, err := s.SQL(ctx, mds.DefaultTenant(), mds.SQLQuery{Text: text, MaxRows: most}, a)
	return a, more, err
}

func withBars(t *testing.T, cfg Config, n int) *Store {
	t.Helper()
	s := open(t, t.TempDir(), cfg)
	if _, err := NewTable[mds.Bar](s).WriteBatch(context.Background(), mds.DefaultTenant(), minutes("A", n)); err != nil {
		t.Fatal(err)
	}
	return s
}

// minutes are bars of a symbol, whose close is their number.
func minutes(symbol string, n int) []mds.Bar {
	bars := make([]mds.Bar, n)
	for i := range bars {
		bars[i] = mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30+i, 0, 0, time.UTC), Close: float64(i)}
	}
	return bars
}

func TestSQLAnswers(t *testing.T) {
	s := withBars(t, Config{}, 3)
	for text, want := range map[string]string{
		"select symbol, ts, close from bars order by ts desc":                                                "A 2026-01-02 14:32:00 +0000 UTC 2|A 2026-01-02 14:31:00 +0000 UTC 1|A 2026-01-02 14:30:00 +0000 UTC 0",
		"select ts, ts from bars limit 1; ":                                                                  "2026-01-02 14:30:00 +0000 UTC 2026-01-02 14:30:00 +0000 UTC",
		"from bars select count(*)":                                                                          "3",
		"values (1, 'a'), (2, null)":                                                                         "1 a|2 <nil>",
		"select i from range(3) r(i)":                                                                        "0|1|2",
		"select 9007199254740993, 170141183460469231731687303715884105727::hugeint":                          "9007199254740993 170141183460469231731687303715884105727",
		"select 1.10::decimal(18,9), 0.1::float, 1e300, 'nan'::double, true":                                 "1.100000000 0.1 1e+300 NaN true",
		"select date '2026-02-28', time '12:30:00', interval 1 month, 'x'::blob":                             "2026-02-28 12:30:00 1 month [120]",
		"select timestamptz '2026-01-02 14:30:00+02', 'infinity'::timestamp":                                 "2026-01-02 12:30:00 +0000 UTC infinity",
		"select timestamp_s '2026-01-02 14:30:00', current_setting_is from (select 1) t(current_setting_is)": "2026-01-02 14:30:00 +0000 UTC 1",
		"select ts::timestamptz = ts from bars limit 1":                                                      "true",
		"with w as (select close from bars) select sum(close), (select max(close) from w) from w -- why not": "3 2",
		"select name from (describe bars) d(name) limit 1":                                                   "vendor",
	} {
		a, _, err := ask(t.Context(), s, text, 100)
		if got := strings.Join(a.rows, "|"); err != nil || got != want {
			t.Errorf("%s\n%s, %v\nwant %s", text, got, err, want)
		}
	}
	a, _, err := ask(t.Context(), s, "explain select * from bars", 0)
	if err != nil || len(a.rows) != 1 || !strings.Contains(a.rows[0], "bar_facts") {
		t.Errorf("%v, %v", a.rows, err)
	}
	a, more, err := ask(t.Context(), s, "select i, i as j from range(100000) r(i) order by i desc", 20_001)
	if err != nil || !more || len(a.rows) != 20_001 || a.rows[20_000] != "79999 79999" {
		t.Errorf("%d rows, %v, %v", len(a.rows), more, err)
	}
	if _, more, err := ask(t.Context(), s, "select i from range(20) r(i)", 20); more || err != nil {
		t.Errorf("%v, %v", more, err)
	}
	if a.columns[1] != (mds.SQLColumn{Name: "j", Type: "BIGINT"}) {
		t.Errorf("%+v", a.columns)
	}
}

func TestSQLKindsOfValues(t *testing.T) {
	s := withBars(t, Config{}, 1)
	keep := &values{}
	_, err := s.SQL(t.Context(), mds.DefaultTenant(), mds.SQLQuery{Text: "select 1.5::decimal(4,1), {'a': 1.5, 'b': [1, 2]}, map {'k': 2.5}, json('{\"x\": 9007199254740993}'), date '2026-02-28', 1::utinyint, 18446744073709551615::ubigint"}, keep)
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("%#v", []any{json.Number("1.5"), json.RawMessage(`{"a":1.5,"b":[1,2]}`), json.RawMessage(`{"k":2.5}`), json.RawMessage(`{"x":9007199254740993}`), mds.Date{}, int64(1), uint64(18446744073709551615)})
	keep.row[4] = mds.Date{}
	if got := fmt.Sprintf("%#v", keep.row); got != want {
		t.Errorf("%s\n%s", got, want)
	}
}

// values keeps one row.
type values struct{ row []any }

func (v *values) Columns([]mds.SQLColumn) error { return nil }
func (v *values) Row(row []any) error           { v.row = append([]any(nil), row...); return nil }

// TestSQLRefuses has SQL that would do more than read be refused, and do nothing.
func TestSQLRefuses(t *testing.T) {
	for _, readOnly := range []bool{false, true} {
		t.Run(fmt.Sprintf("read only %v", readOnly), func(t *testing.T) {
			s := withBars(t, Config{}, 3)
			if readOnly {
				dir := s.Dir()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				s = open(t, dir, Config{ReadOnly: true})
			}
			refuseAll(t, s)
		})
	}
}

func refuseAll(t *testing.T, s *Store) {
	secret := filepath.Join(t.TempDir(), "secret.csv")
	if err := os.WriteFile(secret, []byte("password\nhunter2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := filepath.Join(t.TempDir(), "out")
	for _, attack := range []string{
		"select 1; select 2", "commit; drop table bar_facts", "select 1; commit; drop table bar_facts;", "drop table bar_facts", "begin", "commit", "rollback",
		"insert into bar_series values (99, 'x', 'x', '1m') returning id", "with x as (insert into bar_series values (99, 'x', 'x', '1m') returning id) select * from x",
		"update bar_facts set close = 1", "delete from bar_facts", "truncate bar_facts", "create table mine (i int)", "create temp table mine as select 1", "create view v as select 1", "alter table bar_facts add column x int",
		"select nextval('touched_id')", "select currval('touched_id')", "explain drop table bar_facts", "explain analyze drop table bar_facts", "explain analyze insert into bar_series values (99, 'x', 'x', '1m')",
		"explain analyze select nextval('touched_id')", "explain select 1; drop table bar_facts", "explain analyze copy bar_facts to '" + out + "'",
		"copy bar_facts to '" + out + "'", "copy (select 1) to program 'touch " + out + "'", "copy bar_facts from '" + secret + "'", "export database '" + out + "'", "import database '" + out + "'",
		"select * from read_csv('" + secret + "')", "select * from '" + secret + "'", "from '" + secret + "'", "select * from read_text('" + secret + "')", "select * from read_blob('" + secret + "')", "select * from glob('/*')",
		"select * from sniff_csv('" + secret + "')", "select * from read_json('" + secret + "')", "select * from read_parquet('" + secret + "')", "select * from parquet_schema('" + secret + "')", "select * from read_duckdb('" + secret + "')",
		"select (select password from read_csv('" + secret + "'))", "select 1 where exists (from read_csv('" + secret + "'))", "with r as (from read_csv('" + secret + "')) from r", "select 1 union all select count(*) from read_csv('" + secret + "')",
		"select * from query('select 1')", "select * from query_table('bars')", "select * from query('from read_csv(''" + secret + "'')')", "select * from json_execute_serialized_sql(json_serialize_sql('select 1'))", "select json_serialize_plan('select 1')",
		"attach '" + out + "'", "attach ':memory:' as m", "detach market", "use memory", "set memory_limit = '100GB'", "set enable_external_access = true", "set lock_configuration = false", "reset memory_limit", "set variable x = 1",
		"pragma database_list", "pragma memory_limit = '100GB'", "pragma enable_profiling", "pragma table_info('bars')", "call pragma_version()", "call enable_logging()", "select * from enable_logging()", "select * from checkpoint()", "select * from force_checkpoint()", "checkpoint", "force checkpoint", "vacuum", "analyze",
		"install httpfs", "load httpfs", "load '" + secret + "'", "prepare p as select 1", "execute p", "deallocate p", "select $1", "select ?",
		"select current_setting('temp_directory')", "select * from duckdb_settings()", "select * from duckdb_databases()", "from duckdb_databases", "from pragma_database_list", "from pg_catalog.pg_settings", "select * from duckdb_secrets()", "select * from duckdb_logs()", "select * from duckdb_temporary_files()",
		"select getenv('HOME')", "select getvariable('x')", "select write_log('x')", "select current_query()", "select 'x'.nextval()", "select main.nextval('touched_id')", "select * from pg_sleep(1)", "select sleep_ms(100)",
		"select len(range(1000000000))", "select repeat('x', 1000000000)", "select 'x'.repeat(1000000000)", "select lpad('x', 1000000000, 'x')", "select list_resize([1], 1000000000)", "select printf('%1000000000d', 1)", "select unnest(generate_series(1, 1000000000))", "select * from unnest(range(1000000000))", "select list_transform([1], x -> repeat('x', x))", "select [repeat('x', i) for i in [1]]", "select sum(len(repeat('x', i))) over () from range(3) r(i)",
		"select case when true then repeat('x', 3) end", "select close from bars order by repeat(symbol, 3)", "select count(*) from bars having repeat('x', 3) = 'xxx'", "select close from bars limit len(repeat('x', 3))", "select count(*) filter (where repeat(symbol, 3) = 'AAA') from bars", "select * from bars join (select 1) on repeat(symbol, 3) = 'AAA'", "values (repeat('x', 3))",
		"select * exclude (symbol) replace (repeat(vendor, 3) as vendor) from bars", "select columns(c -> repeat(c, 2) = 'xx') from bars", "select * from bars qualify row_number() over (order by repeat(symbol, 2)) = 1", "pivot bars on symbol using count(*)",
		"", " ; ", "--", "selec 1", "select 1 fro m x y z", "select nothing from bars", "select * from nowhere", "select 1 /* ", "select 'a", "select 1 -- ;\n; select 2", "select '\x00'",
	} {
		a, _, err := ask(t.Context(), s, attack, 10)
		var refused *mds.SQLError
		if !errors.As(err, &refused) || len(a.rows) > 0 {
			t.Errorf("%q is answered with %q, %v", attack, a.rows, err)
			continue
		}
		if strings.Contains(refused.Detail, s.Dir()) || strings.Contains(refused.Detail, "\n") || refused.Detail == "" {
			t.Errorf("%q is refused with %q", attack, refused.Detail)
		}
	}
	if _, err := os.Stat(out); !os.IsNotExist(err) {
		t.Errorf("something was written: %v", err)
	}
	// What would have been changed, and who would not have been interrupted.
	for text, want := range map[string]string{
		"select count(*), sum(close) from bars":                                                                    "3 3",
		"select count(*) from information_schema.tables where table_name in ('mine', 'v')":                         "0",
		"select count(*) from information_schema.columns where table_name = 'bar_facts'":                           "10",
		"select count(*) from bar_series where vendor = 'x'":                                                       "0",
		"select count(*) from information_schema.schemata where catalog_name not in ('default', 'system', 'temp')": "0",
	} {
		if a, _, err := ask(t.Context(), s, text, 0); err != nil || strings.Join(a.rows, "|") != want {
			t.Errorf("%s: %q, %v", text, a.rows, err)
		}
	}
}

// endless never end, or not in time: each in an operator of another sort.
var endless = map[string]string{
	"join":      "select sum(a.i * b.i) from range(1000000) a(i), range(1000000) b(i)",
	"recursion": "with recursive r(i) as (select 1 union all select i + 1 from r) select max(i) from r",
	"sort":      "select a.i from range(100000) a(i), range(1000000) b(i) order by hash(a.i * b.i)",
	"groups":    "select count(*) from (select distinct a.i * 1000000 + b.i from range(100000) a(i), range(1000000) b(i))",
	"list":      "select len(list(a.i)) from range(1000000) a(i), range(1000000) b(i)",
	"text":      "select length(string_agg(a.i::varchar, ',')) from range(1000000) a(i), range(1000000) b(i)",
	"window":    "select sum(n) from (select row_number() over (partition by a.i % 7 order by b.i) n from range(100000) a(i), range(100000) b(i))",
	"kept":      "select sum(a.i * b.i * len(l)) from range(1000000) a(i), range(1000000) b(i), (select list(i) l from range(9000000) r(i))",
	"answer":    "select a.i, b.i from range(100000) a(i), range(100000) b(i)",
}

// TestSQLEnds has statements end that would not, by their time or what they take.
func TestSQLEnds(t *testing.T) {
	s := withBars(t, Config{MemoryLimit: "128MB"}, 3)
	for name, text := range endless {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
			defer cancel()
			begun := time.Now()
			_, _, err := ask(ctx, s, text, 0)
			if took := time.Since(begun); !errors.Is(err, mds.ErrSQLLimit) || took > 5*time.Second {
				t.Errorf("%v after %v", err, took)
			}
			if a, _, err := ask(t.Context(), s, "select count(*) from bars", 0); err != nil || a.rows[0] != "3" {
				t.Errorf("afterwards: %v", err)
			}
		})
	}
}

// TestSQLBesideWriting has batches be written while SQL takes all that it can get, and one
// that the database cannot commit beside a statement that reads end it after a while.
func TestSQLBesideWriting(t *testing.T) {
	for name, text := range endless {
		t.Run(name, func(t *testing.T) {
			s := withBars(t, Config{MemoryLimit: "128MB"}, 3)
			table := NewTable[mds.Bar](s)
			f, err := s.file(t.Context(), mds.DefaultTenant())
			if err != nil {
				t.Fatal(err)
			}
			f.sqls.patience = 300 * time.Millisecond
			ended := make(chan error, 1)
			go func() {
				_, _, err := ask(context.Background(), s, text, 0)
				ended <- err
			}()
			for len(ended) == 0 && f.scans.semaphore.TryAcquire(everybody) { // until it runs
				f.scans.unlock()
			}
			for n := range 20 {
				writeOn(t, table, minutes("A", 100*(n+1)))
			}
			select {
			case err := <-ended:
				if !errors.Is(err, mds.ErrSQLLimit) && !errors.Is(err, errGaveWay) { // memory
					t.Errorf("it ended with %v while small batches were written", err)
				}
				return
			default:
			}
			writeOn(t, table, minutes("B", rowGroup/2))
			if err := <-ended; !errors.Is(err, errGaveWay) && !errors.Is(err, mds.ErrSQLLimit) {
				t.Errorf("it ended with %v", err)
			}
			if n, err := table.Count(t.Context(), mds.DefaultTenant(), mds.Selection{}); err != nil || n != 2000+rowGroup/2 {
				t.Errorf("%d bars, %v", n, err)
			}
		})
	}
}

// writeOn writes a batch as a coordinator does: again, where it may succeed then.
func writeOn(t *testing.T, table *Table[mds.Bar], bars []mds.Bar) {
	t.Helper()
	for attempt := 1; ; attempt++ {
		_, err := table.WriteBatch(t.Context(), mds.DefaultTenant(), bars)
		if err == nil {
			return
		}
		if !mds.Retryable(err) || attempt == 5 {
			t.Fatal(err)
		}
	}
}

// TestSQLAnswersWait has a client that does not read hold up neither a large commit nor the
// closing of nothing but its own file.
func TestSQLAnswersWait(t *testing.T) {
	s := withBars(t, Config{}, 3)
	f, err := s.file(t.Context(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	f.sqls.patience = time.Minute
	slow := &answer{full: make(chan struct{})}
	ended := make(chan error, 1)
	go func() {
		_, err := s.SQL(context.Background(), mds.DefaultTenant(), mds.SQLQuery{Text: "select close from bars"}, slow)
		ended <- err
	}()
	ctx, cancel := context.WithTimeout(t.Context(), f.sqls.patience/2)
	defer cancel()
	if _, err := NewTable[mds.Bar](s).WriteBatch(ctx, mds.DefaultTenant(), minutes("B", rowGroup/2)); err != nil {
		t.Error(err)
	}
	close(slow.full)
	if err := <-ended; err != nil || len(slow.rows) != 3 {
		t.Errorf("%q, %v", slow.rows, err)
	}
}

// TestSQLPlaces has no more statements run at once than there are places, and those that wait
// give up when their time is over.
func TestSQLPlaces(t *testing.T) {
	s := withBars(t, Config{}, 3)
	slow := &answer{full: make(chan struct{})}
	ended := make(chan error, maxSQL)
	for range maxSQL {
		go func() {
			_, err := s.SQL(context.Background(), mds.DefaultTenant(), mds.SQLQuery{Text: "select 1"}, &answer{full: slow.full})
			ended <- err
		}()
	}
	f, err := s.file(t.Context(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	for len(f.sqls.places) < maxSQL {
		runtime.Gosched()
	}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	if _, _, err := ask(ctx, s, "select 1", 0); !errors.Is(err, mds.ErrSQLBusy) {
		t.Error(err)
	}
	close(slow.full)
	for range maxSQL {
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}
