package transfer_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"maps"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/arbitrary"
	"github.com/marketdatastore/mds/internal/batches"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/transfer"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func TestMain(m *testing.M) {
	code := m.Run()
	pgtest.Stop()
	os.Exit(code)
}

var ctx = context.Background()

func embedded(t testing.TB) *store.Store { return open(t, "duckdb://"+t.TempDir()) }

func server(t testing.TB) *store.Store {
	return open(t, pgtest.Fresh(t, "migrated", func(d pgtest.Database) error {
		_, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
		_, grantErr := postgres.GrantService(ctx, d.Owner, d.Service)
		return errors.Join(err, grantErr)
	}).Service)
}

func open(t testing.TB, dsn string) *store.Store {
	t.Helper()
	s, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s
}

// TestModel copies random records of each kind between the engines, where TO has some of
// them already, some otherwise, and others of its own: what is found is what there is, TO
// has afterwards what it should, and a second run finds nothing to do.
func TestModel(t *testing.T) {
	kind(t, "bars", arbitrary.Bar, func(b mds.Bar) mds.Bar { b.Close = other(b.Close); return b })
	kind(t, "options", arbitrary.Option, func(o mds.OptionSnap) mds.OptionSnap { o.Bid = mds.Some(other(o.Bid.Or(0))); return o })
	kind(t, "fundamentals", arbitrary.Fundamentals, func(f mds.Fundamentals) mds.Fundamentals {
		f.Extra = map[string]float64{"n": other(f.Extra["n"])}
		return f
	})
	kind(t, "news", arbitrary.News, func(n mds.News) mds.News { n.Title += "x"; return n })
}

func other(v float64) float64 {
	if v == 42 {
		return 43
	}
	return 42
}

func kind[R mds.Record[R]](t *testing.T, name string, draw func(*rapid.T) R, change func(R) R) {
	for _, way := range []struct {
		name     string
		from, to func(testing.TB) *store.Store
	}{{"DuckDB to PostgreSQL", embedded, server}, {"PostgreSQL to DuckDB", server, embedded}} {
		t.Run(name+", "+way.name, func(t *testing.T) {
			t.Parallel()
			from, to := way.from(t), way.to(t)
			rapid.Check(t, func(rt *rapid.T) {
				m := &model[R]{T: rt, schema: mds.SchemaOf[R](), from: store.TableOf[R](from), to: store.TableOf[R](to)}
				m.check(draw, change)
			})
		})
	}
}

type model[R mds.Record[R]] struct {
	*rapid.T
	schema   mds.Schema[R]
	from, to store.Table[R]
}

// keyOf is what tells a record from others; seriesOf its series.
func (m *model[R]) keyOf(r *R) string {
	columns := m.schema.ByRole(mds.Identity, mds.Key, mds.Revision)
	if !m.schema.TimeIsValue {
		columns = append(columns, m.schema.TimeColumn())
	}
	return string(batches.AppendKey(nil, columns, r))
}

func (m *model[R]) seriesOf(r *R) string {
	return string(batches.AppendKey(nil, m.schema.ByRole(mds.Identity), r))
}

func (m *model[R]) fill(table store.Table[R], records map[string]R) {
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
		m.Fatal(err)
	}
	if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), slices.Collect(maps.Values(records))); err != nil {
		m.Fatal(err)
	}
}

func (m *model[R]) check(draw func(*rapid.T) R, change func(R) R) {
	from, to := make(map[string]R), make(map[string]R)
	var missing, different, more int64
	series := make(map[string]bool)
	for range rapid.IntRange(1, 30).Draw(m.T, "records") {
		r := draw(m.T)
		key := m.keyOf(&r)
		if _, ok := from[key]; ok {
			continue
		}
		if _, ok := to[key]; ok {
			continue
		}
		what := rapid.IntRange(0, 3).Draw(m.T, "what")
		if what != 3 {
			from[key] = r
			series[m.seriesOf(&r)] = true
		}
		switch what {
		case 0:
			missing++
		case 1:
			to[key] = r
		case 2:
			to[key] = change(r)
			different++
		case 3:
			to[key] = r
		}
	}
	others := make(map[string]bool)
	for key, r := range to {
		if _, ok := from[key]; !ok && series[m.seriesOf(&r)] {
			more++
		} else if !ok {
			others[m.seriesOf(&r)] = true
		}
	}
	m.fill(m.from, from)
	m.fill(m.to, to)
	cfg := transfer.Config[R]{From: m.from, To: m.to, Tenant: mds.DefaultTenant()}
	found := m.run(cfg, "comparing")
	if found.Missing != missing || found.Different != different || found.More != more || found.Others != len(others) || found.Complete() != (missing+different == 0) ||
		found.From.Records != int64(len(from)) || found.To.Records != int64(len(to))-int64(m.countIn(to, others)) || found.Receipt.Written != 0 || len(found.Series) != len(series) {
		m.Fatalf("comparing: %+v; want %d missing, %d different, %d more, %d other series", found, missing, different, more, len(others))
	}
	cfg.Write = sink.New(m.to, sink.Config{}).For(mds.DefaultTenant()).Write
	cfg.BatchSize = rapid.IntRange(1, 10).Draw(m.T, "batch")
	done := m.run(cfg, "copying")
	if !done.Complete() || done.Receipt.Written != missing+different || done.More != more || done.From != found.From {
		m.Fatalf("copying: %+v; want %d written, %d more", done, missing+different, more)
	}
	maps.Copy(to, from)
	m.same(m.to, to)
	m.same(m.from, from)
	again := m.run(cfg, "again")
	if !again.Complete() || again.Receipt.Written != 0 || again.To != done.To {
		m.Fatalf("again: %+v", again)
	}
	if more == 0 && (again.Skipped != len(series) || again.From != again.To || again.Receipt != (mds.Receipt{})) {
		m.Fatalf("again: %d of %d series were there already: %+v", again.Skipped, len(series), again)
	}
}

func (m *model[R]) countIn(records map[string]R, series map[string]bool) (n int) {
	for _, r := range records {
		if series[m.seriesOf(&r)] {
			n++
		}
	}
	return n
}

func (m *model[R]) run(cfg transfer.Config[R], what string) transfer.Result[R] {
	result, err := transfer.Run(ctx, cfg)
	if err != nil {
		m.Fatalf("%s: %v", what, err)
	}
	return result
}

// same compares a table with what it should have.
func (m *model[R]) same(table store.Table[R], want map[string]R) {
	n := 0
	for r, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			m.Fatal(err)
		}
		n++
		if expected, ok := want[m.keyOf(&r)]; !ok || !m.schema.Equal(&r, &expected) {
			m.Fatalf("there is %+v, want %+v", r, expected)
		}
	}
	if n != len(want) {
		m.Fatalf("%d records, want %d", n, len(want))
	}
}

// bars are of three symbols, a minute after the other.
func bars(n int) []mds.Bar {
	list := make([]mds.Bar, n)
	for i := range list {
		list[i] = mds.Bar{Vendor: "v", Symbol: []string{"A", "B", "C"}[i%3], Timeframe: mds.Minute, TS: time.Unix(int64(i/3)*60, 0).UTC(), Close: float64(i)}
	}
	return list
}

func write(t testing.TB, s *store.Store, list []mds.Bar) {
	t.Helper()
	if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), list); err != nil {
		t.Fatal(err)
	}
}

// TestOnlyLooksTheSame has TO hold a series with as many records, the first and the last
// of which are equal, and another in between: the checksum tells, and it is copied.
func TestOnlyLooksTheSame(t *testing.T) {
	from, to := embedded(t), embedded(t)
	list := bars(30)
	write(t, from, list)
	list[13].Close = 0.5 // of B
	write(t, to, list)
	cfg := transfer.Config[mds.Bar]{From: store.Bars(from), To: store.Bars(to), Tenant: mds.DefaultTenant()}
	found, err := transfer.Run(ctx, cfg)
	if err != nil || found.Different != 1 || found.Missing != 0 || found.Skipped != 2 && found.Skipped != 3 {
		t.Errorf("%+v, %v", found, err)
	}
	if want := "ts 1970-01-01T00:04:00Z has the close 13, and 0.5 there"; found.First != want || found.Series[1].First != want {
		t.Errorf("the first difference is %q, want %q", found.First, want)
	}
	cfg.Write = sink.New(store.Bars(to), sink.Config{}).For(mds.DefaultTenant()).Write
	done, err := transfer.Run(ctx, cfg)
	if err != nil || !done.Complete() || done.From != done.To || done.Receipt.Written != 1 || done.Receipt.Unchanged != 9 || done.Skipped != 2 {
		t.Errorf("%+v, %v", done, err)
	}
}

// TestWindow copies what a selection picks, and leaves the rest alone.
func TestWindow(t *testing.T) {
	from, to := embedded(t), embedded(t)
	write(t, from, bars(300))
	sel := mds.Selection{Symbols: []string{"A", "C"}, Start: time.Unix(600, 0), End: time.Unix(1200, 0)}
	done, err := transfer.Run(ctx, transfer.Config[mds.Bar]{
		From: store.Bars(from), To: store.Bars(to), Tenant: mds.DefaultTenant(), Selection: sel,
		Write: sink.New(store.Bars(to), sink.Config{}).For(mds.DefaultTenant()).Write,
	})
	if err != nil || !done.Complete() || done.Receipt.Written != 20 || len(done.Series) != 2 {
		t.Fatalf("%+v, %v", done, err)
	}
	if n, err := store.Bars(to).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 20 {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestFailures has writing fail, and reading on either side: what was written until then
// is told, and a run without failures does the rest.
func TestFailures(t *testing.T) {
	from, to := embedded(t), embedded(t)
	write(t, from, bars(3000))
	broken := errors.New("broken")
	well := sink.New(store.Bars(to), sink.Config{}).For(mds.DefaultTenant()).Write
	var calls atomic.Int64
	cfg := transfer.Config[mds.Bar]{
		From: store.Bars(from), To: store.Bars(to), Tenant: mds.DefaultTenant(), BatchSize: 100, Writers: 1,
		Write: func(ctx context.Context, records []mds.Bar) (mds.Receipt, error) {
			if calls.Add(1) > 5 {
				return mds.Receipt{}, broken
			}
			return well(ctx, records)
		},
	}
	done, err := transfer.Run(ctx, cfg)
	if !errors.Is(err, broken) || done.Receipt.Written != 500 {
		t.Errorf("%d written, %v", done.Receipt.Written, err)
	}
	cfg.Write = well
	cfg.From = failing{store.Bars(from), 1000, broken}
	if done, err = transfer.Run(ctx, cfg); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "reading from: ") {
		t.Errorf("reading fails: %v", err)
	}
	cfg.From, cfg.To = store.Bars(from), failing{store.Bars(to), 1000, broken}
	if done, err = transfer.Run(ctx, cfg); !errors.Is(err, broken) || !strings.HasPrefix(err.Error(), "reading to: ") {
		t.Errorf("comparing fails: %v", err)
	}
	ended, cancel := context.WithCancel(ctx)
	cfg.To, cfg.From = store.Bars(to), store.Bars(from)
	cfg.Progress = func(int64, int64) {}
	cancel()
	if _, err = transfer.Run(ended, cfg); !errors.Is(err, context.Canceled) {
		t.Errorf("ended: %v", err)
	}
	if done, err = transfer.Run(ctx, cfg); err != nil || !done.Complete() || done.From.Records != 3000 || done.From != done.To {
		t.Errorf("at last: %+v, %v", done, err)
	}
}

// failing is a table whose queries fail after some records.
type failing struct {
	store.Table[mds.Bar]
	after int
	err   error
}

func (f failing) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[mds.Bar, error] {
	return func(yield func(mds.Bar, error) bool) {
		n := 0
		for r, err := range f.Table.Query(ctx, tenant, query) {
			if n++; n > f.after {
				yield(mds.Bar{}, f.err)
				return
			}
			if !yield(r, err) {
				return
			}
		}
	}
}

// TestChecksums has each column count, and the order of records not.
func TestChecksums(t *testing.T) {
	sum := func(list ...mds.Bar) string {
		s := embedded(t)
		write(t, s, list)
		result, err := transfer.Run(ctx, transfer.Config[mds.Bar]{From: store.Bars(s), To: store.Bars(s), Tenant: mds.DefaultTenant()})
		if err != nil || result.From != result.To {
			t.Fatal(result, err)
		}
		return fmt.Sprint(result.From)
	}
	list := bars(5)
	plain := sum(list...)
	slices.Reverse(list)
	if again := sum(list...); again != plain {
		t.Errorf("in another order the checksum is %s, want %s", again, plain)
	}
	seen := map[string]string{plain: "as they were"}
	for name, change := range map[string]func(*mds.Bar){
		"vendor": func(b *mds.Bar) { b.Vendor = "w" }, "symbol": func(b *mds.Bar) { b.Symbol = "Z" }, "timeframe": func(b *mds.Bar) { b.Timeframe = mds.Hour },
		"ts": func(b *mds.Bar) { b.TS = b.TS.Add(time.Microsecond) }, "open": func(b *mds.Bar) { b.Open = mds.Some(0.0) }, "high": func(b *mds.Bar) { b.High = mds.Some(0.0) },
		"close": func(b *mds.Bar) { b.Close += 1e-9 }, "volume": func(b *mds.Bar) { b.Volume = mds.Some(1.0) }, "trade count": func(b *mds.Bar) { b.TradeCount = mds.Some(int64(0)) },
	} {
		changed := slices.Clone(list)
		change(&changed[2])
		got := sum(changed...)
		if before, ok := seen[got]; ok {
			t.Errorf("with another %s the checksum is %s, that of %s", name, got, before)
		}
		seen[got] = name
	}
}

// TestChangedMeanwhile has TO change between the reading of all of it and the look into
// what differs: the sums are of what was compared, and "identical" is said of equal ones.
func TestChangedMeanwhile(t *testing.T) {
	from, to := embedded(t), embedded(t)
	write(t, from, bars(30))
	write(t, to, bars(33))
	later := changing{store.Bars(to), func() {
		if _, err := store.Bars(to).Delete(ctx, mds.DefaultTenant(), mds.Selection{Start: bars(33)[30].TS}); err != nil {
			t.Error(err)
		}
	}}
	done, err := transfer.Run(ctx, transfer.Config[mds.Bar]{From: store.Bars(from), To: later, Tenant: mds.DefaultTenant()})
	if err != nil || !done.Complete() || done.More != 0 || done.From != done.To || done.To.Records != 30 {
		t.Errorf("%+v, %v", done, err)
	}
}

// changing is a table that changes after it was read without an order.
type changing struct {
	store.Table[mds.Bar]
	change func()
}

func (c changing) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[mds.Bar, error] {
	return func(yield func(mds.Bar, error) bool) {
		for r, err := range c.Table.Query(ctx, tenant, query) {
			if !yield(r, err) {
				return
			}
		}
		if query.Unordered {
			c.change()
		}
	}
}
