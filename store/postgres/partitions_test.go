package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/storetest"
)

// inParts has a database's tables of bars and options be ones of partitions.
func inParts(d pgtest.Database) error {
	if err := prepare(d); err != nil {
		return err
	}
	k, err := postgres.OpenKeeper(ctx, d.Owner)
	if err != nil {
		return err
	}
	defer k.Close(ctx)
	policies := []mds.Policy{{Kind: "options"}, {Kind: "bars", Timeframe: mds.Minute}, {Kind: "bars", Timeframe: mds.Day}, {Kind: "bars", Timeframe: mds.Hour}}
	for i := range policies {
		policies[i].Partition = mds.Age{N: 1, Unit: 'M'}
		if _, err := k.Keep(ctx, policies[i]); err != nil {
			return err
		}
	}
	steps, err := k.Due(ctx, policies, time.Now())
	if err == nil && len(steps) != len(policies) {
		err = fmt.Errorf("%d steps are due, want %d", len(steps), len(policies))
	}
	for _, step := range steps {
		if err == nil {
			_, err = k.Do(ctx, step)
		}
	}
	return err
}

func TestConformanceInParts(t *testing.T) {
	storetest.Run(t, func(t testing.TB) string { return pgtest.Fresh(t, "parts", inParts).Service })
}

func keeper(t testing.TB, d pgtest.Database) *postgres.Keeper {
	t.Helper()
	k, err := postgres.OpenKeeper(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close(ctx) })
	return k
}

// monthly is a policy of minutes in parts of a month.
func monthly() mds.Policy {
	return mds.Policy{Kind: "bars", Timeframe: mds.Minute, Partition: mds.Age{N: 1, Unit: 'M'}}
}

// due are the steps that a policy asks for now.
func due(t testing.TB, k *postgres.Keeper, p mds.Policy) []mds.Step {
	t.Helper()
	if _, err := k.Keep(ctx, p); err != nil {
		t.Fatal(err)
	}
	steps, err := k.Due(ctx, []mds.Policy{p}, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return steps
}

func do(t testing.TB, k *postgres.Keeper, steps ...mds.Step) {
	t.Helper()
	for _, step := range steps {
		if _, err := k.Do(ctx, step); err != nil {
			t.Fatal(err)
		}
	}
}

// stored are the bars of the default tenant.
func stored(t testing.TB, s *store.Store) (bars []mds.Bar) {
	t.Helper()
	for b, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		bars = append(bars, b)
	}
	return bars
}

func parts(t testing.TB, d pgtest.Database, facts string) []string {
	t.Helper()
	return strings.Fields(pgtest.Ask(t, d.Admin, "SELECT string_agg(c.relname, ' ' ORDER BY c.relname) FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid WHERE i.inhparent = 'mds_internal."+facts+"'::regclass"))
}

// TestPartitions has a table with rows of all times become one of parts: none is lost, none
// is refused, and what lies outside of all parts gets one the next time.
func TestPartitions(t *testing.T) {
	if pgtest.Timescale() {
		t.Skip("with TimescaleDB tables of parts are hypertables")
	}
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	now := time.Now().UTC().Truncate(time.Minute)
	at := func(ts time.Time) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: ts, Close: float64(ts.Year())}
	}
	for years := range 6 {
		write(t, s, at(now.AddDate(-years, 0, 0)), at(now.AddDate(-years, -5, 0)))
	}
	want := stored(t, s)
	steps := due(t, k, monthly())
	if len(steps) != 1 || steps[0].Action != mds.StepPartition || !strings.Contains(steps[0].Note, "becomes a table of partitions") {
		t.Fatalf("due: %+v", steps)
	}
	do(t, k, steps...)
	if diff := cmp.Diff(want, stored(t, s), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
		t.Errorf("bars differ: %s", diff)
	}
	if again := due(t, k, monthly()); len(again) != 0 {
		t.Errorf("due again: %+v", again)
	}
	first := parts(t, d, "bar_facts_1m")
	oldest := fmt.Sprintf("bar_facts_1m_from_%d0101", now.AddDate(-5, -5, 0).Year())
	coming := "bar_facts_1m_from_" + time.Date(now.Year(), now.Month()+1, 1, 0, 0, 0, 0, time.UTC).Format("20060102")
	if len(first) > 40 || first[0] != oldest || !strings.Contains(strings.Join(first, " "), coming) || first[len(first)-1] != "bar_facts_1m_rest" {
		t.Errorf("parts %v, want years from %s on, months until after %s, and one of the rest", first, oldest, coming)
	}
	// Far past and far future are no errors.
	write(t, s, at(time.Date(1970, 1, 1, 0, 0, 0, 0, time.UTC)), at(time.Date(1990, 5, 1, 0, 0, 0, 0, time.UTC)), at(time.Date(9000, 1, 1, 0, 0, 0, 0, time.UTC)), at(now))
	if receipt := write(t, s, at(time.Date(1990, 5, 1, 0, 0, 0, 0, time.UTC))); receipt.Unchanged != 1 {
		t.Errorf("a row outside of all parts, again: %+v", receipt)
	}
	want = stored(t, s)
	more := due(t, k, monthly())
	if len(more) != 1 || more[0].Rows != 2 || more[0].Note != "gets more partitions: 2" {
		t.Errorf("due: %+v", more)
	}
	do(t, k, more...)
	if diff := cmp.Diff(want, stored(t, s), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
		t.Errorf("bars differ: %s", diff)
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.bar_facts_1m_rest"); n != "1" {
		t.Errorf("%s rows in no part, want that of 9000", n)
	}
	if again := due(t, k, monthly()); len(again) != 0 {
		t.Errorf("due again: %+v", again)
	}
	// Whole parts are dropped, and what comes late of them the next time.
	p := monthly()
	p.DropAfter = mds.Age{N: 3, Unit: 'y'}
	before := len(parts(t, d, "bar_facts_1m"))
	steps = due(t, k, p)
	if len(steps) != 1 || steps[0].Action != mds.StepDrop || steps[0].Before.YearDay() != 1 {
		t.Fatalf("due: %+v", steps)
	}
	do(t, k, steps...)
	for _, b := range stored(t, s) {
		if b.TS.Before(steps[0].Before) {
			t.Errorf("%v is left", b.TS)
		}
	}
	if after := len(parts(t, d, "bar_facts_1m")); after >= before {
		t.Errorf("%d parts are left of %d", after, before)
	}
	write(t, s, at(now.AddDate(-5, 0, 0)))
	if steps := due(t, k, p); len(steps) != 2 || steps[1].Action != mds.StepDrop || steps[1].Rows != 1 {
		t.Errorf("what came late: %+v", steps)
	} else {
		do(t, k, steps...)
	}
	if steps := due(t, k, p); len(steps) != 0 {
		t.Errorf("due at the end: %+v", steps)
	}
	for _, finding := range examine(t, postgres.DoctorConfig{Owner: d.Owner, Service: d.Service}) {
		if finding.Verdict == postgres.VerdictOpen {
			t.Errorf("%s: %s", finding.What, finding.Detail)
		}
	}
}

// TestPartitionsKeepTheirSeal has the doctor attack a database whose tables are of partitions.
func TestPartitionsKeepTheirSeal(t *testing.T) {
	if pgtest.Timescale() {
		t.Skip("with TimescaleDB tables of parts are hypertables")
	}
	d := twoTenants(t)
	k := keeper(t, d.Database)
	for _, p := range mds.DefaultPolicies() {
		if p.Kind != "bars" && p.Kind != "options" {
			continue
		}
		p.Partition = mds.Age{N: 1, Unit: 'M'}
		if steps := due(t, k, p); len(steps) != 1 {
			t.Errorf("%s: %+v", p.Name(), steps)
		} else {
			do(t, k, steps...)
		}
	}
	pgtest.Exec(t, d.Admin, "ANALYZE")
	findings, err := postgres.Doctor(ctx, postgres.DoctorConfig{Owner: d.Owner, Service: d.Service, Logins: []string{d.acmeLogin, d.rivalLogin}})
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range findings {
		if f.Verdict == postgres.VerdictOpen {
			t.Errorf("%s: %s: %s", f.About, f.What, f.Detail)
		}
	}
}

// TestConvertWhileWriting converts a table while bars are written, corrected and deleted:
// in the end it has what an equal one has that was not converted.
func TestConvertWhileWriting(t *testing.T) {
	d, plain := migrated(t), migrated(t)
	s, other, k := open(t, d.Service, store.Config{}), open(t, plain.Service, store.Config{}), keeper(t, d)
	first := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	draw := rand.New(rand.NewPCG(1, 2))
	batch := func() []mds.Bar {
		bars := make([]mds.Bar, 700)
		for i := range bars {
			bars[i] = mds.Bar{Vendor: "v", Symbol: fmt.Sprint("S", draw.IntN(20)), Timeframe: mds.Minute, TS: first.Add(time.Duration(draw.IntN(600_000)) * time.Minute), Close: draw.Float64()}
		}
		return bars
	}
	both := func(bars []mds.Bar) {
		write(t, s, bars...)
		write(t, other, bars...)
	}
	for range 30 {
		both(batch())
	}
	steps := due(t, k, monthly())
	stop := make(chan struct{})
	var writers sync.WaitGroup
	written := 0
	writers.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			default:
			}
			both(batch())
			written++
			if n%3 == 0 {
				from := first.AddDate(0, 0, draw.IntN(400))
				sel := mds.Selection{Symbols: []string{fmt.Sprint("S", draw.IntN(20))}, Start: from, End: from.AddDate(0, 0, 20)}
				for _, of := range []*store.Store{s, other} {
					if _, err := store.Bars(of).Delete(ctx, mds.DefaultTenant(), sel); err != nil {
						t.Error(err)
					}
				}
			}
		}
	})
	do(t, k, steps...)
	close(stop)
	writers.Wait()
	if written == 0 {
		t.Error("nothing was written meanwhile")
	}
	if diff := cmp.Diff(stored(t, other), stored(t, s), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
		t.Errorf("bars differ after %d batches: %.2000s", written, diff)
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.touched"); n != "0" {
		t.Errorf("%s notes are left", n)
	}
}

// TestCopyIsCompared refuses a copy that lacks a row, or has another value.
func TestCopyIsCompared(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 0, 1), minute("A", 1, 2))
	pgtest.Exec(t, d.Owner, "CREATE TABLE mds_internal.bar_facts_1m_next (LIKE mds_internal.bar_facts_1m)", "INSERT INTO mds_internal.bar_facts_1m_next SELECT * FROM mds_internal.bar_facts_1m")
	if err := k.CompareCopy(ctx); err != nil {
		t.Errorf("an equal copy: %v", err)
	}
	for _, spoil := range []string{"UPDATE mds_internal.bar_facts_1m_next SET close = 3 WHERE close = 2", "DELETE FROM mds_internal.bar_facts_1m_next WHERE close = 3"} {
		pgtest.Exec(t, d.Owner, spoil)
		if err := k.CompareCopy(ctx); err == nil || !strings.Contains(err.Error(), "the table stays as it is") {
			t.Errorf("after %s: %v", spoil, err)
		}
	}
}

// TestOneKeeperAtATime refuses to convert a table while another one does, and to put a copy in
// its place that is not the one that was compared.
func TestOneKeeperAtATime(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 0, 1))
	steps := due(t, k, monthly())
	other, err := pgx.Connect(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close(ctx)
	if _, err := other.Exec(ctx, "UPDATE mds_internal.keeping SET pid = pg_backend_pid(), started = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())"); err != nil {
		t.Fatal(err)
	}
	for _, do := range []func() error{
		func() error { _, err := k.Do(ctx, steps[0]); return err },
		func() error { _, err := k.Keep(ctx, hourly()); return err },
	} {
		if err := do(); err == nil || !strings.Contains(err.Error(), "policies are being carried out by another one; try again when it has ended") {
			t.Errorf("beside another one: %v", err)
		}
	}
	if err := other.Close(ctx); err != nil {
		t.Fatal(err)
	}
	for pgtest.Ask(t, d.Admin, "SELECT count(*) FROM pg_stat_activity a, mds_internal.keeping k WHERE a.pid = k.pid") != "0" {
	}
	pgtest.Exec(t, d.Owner, "CREATE FUNCTION mds_internal.other() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN UPDATE mds_internal.policies SET converting = gen_random_uuid(); RETURN NULL; END $$",
		"CREATE TRIGGER other AFTER DELETE ON mds_internal.touched FOR EACH STATEMENT EXECUTE FUNCTION mds_internal.other()")
	if _, err := k.Do(ctx, steps[0]); err == nil || !strings.Contains(err.Error(), "another one has begun to copy the table") {
		t.Errorf("with a copy of another one: %v", err)
	}
	if got := stored(t, s); len(got) != 1 {
		t.Errorf("%d bars are left", len(got))
	}
}

// TestKeepersBeginAtOnce has one that begins while another one is beginning wait for that, and
// then see it.
func TestKeepersBeginAtOnce(t *testing.T) {
	d := migrated(t)
	k := keeper(t, d)
	_, begin := holding(t, d.Owner, "UPDATE mds_internal.keeping SET pid = pg_backend_pid(), started = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())")
	ended := make(chan error, 1)
	go func() {
		ended <- k.Alone(ctx, func() error {
			t.Error("two are alone")
			return nil
		})
	}()
	waiting(t, d, 1)
	begin()
	if err := <-ended; !mds.Retryable(err) {
		t.Errorf("beside another one: %v", err)
	}
}

// TestCopyIsGivenUp throws away what is left of a copy that nobody wants any more.
func TestCopyIsGivenUp(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 0, 1))
	_ = due(t, k, monthly())
	pgtest.Exec(t, d.Owner, "CREATE TABLE mds_internal.bar_facts_1m_next (LIKE mds_internal.bar_facts_1m)", "UPDATE mds_internal.policies SET converting = gen_random_uuid() WHERE facts = 'bar_facts_1m'")
	pgtest.Exec(t, d.Owner, "GRANT ALL ON mds_internal.bar_facts_1m_next TO service")
	write(t, s, minute("A", 1, 1))
	p := monthly()
	p.Partition = mds.Age{}
	steps := due(t, k, p)
	if len(steps) != 1 || steps[0].Note != "a copy that was begun is thrown away" {
		t.Fatalf("due: %+v", steps)
	}
	do(t, k, steps...)
	if left := pgtest.Ask(t, d.Admin, "SELECT (SELECT count(*) FROM mds_internal.touched) + (SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_next') + (SELECT count(*) FROM mds_internal.policies WHERE converting IS NOT NULL)"); left != "0" {
		t.Errorf("%s things are left of it", left)
	}
	// What a view of somebody reads is not taken away from it.
	pgtest.Exec(t, d.Owner, "CREATE VIEW mds_internal.mine WITH (security_barrier) AS SELECT count(*) FROM mds_internal.bar_facts_1m")
	steps = due(t, k, monthly())
	if _, err := k.Do(ctx, steps[0]); err == nil || !strings.Contains(err.Error(), "the view mds_internal.mine reads bar_facts_1m") {
		t.Errorf("with a view on it: %v", err)
	}
}

// TestManyRowsOutside copies a table again where many rows have no partition of their own,
// and leaves alone what is of a date that nobody means.
func TestManyRowsOutside(t *testing.T) {
	if pgtest.Timescale() {
		t.Skip("with TimescaleDB tables of parts are hypertables")
	}
	defer postgres.SetMostMoved(postgres.SetMostMoved(3))
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 0, 1))
	do(t, k, due(t, k, monthly())...)
	for range 2 {
		var late []mds.Bar
		for n := range 5 {
			b := minute("A", n, 2)
			b.TS = time.Date(1990+n, 5, 1, n, 0, 0, 0, time.UTC)
			late = append(late, b)
		}
		odd := minute("A", 0, 3)
		odd.TS = time.Date(1, 1, 2, 0, 0, 0, 0, time.UTC)
		write(t, s, append(late, odd)...)
		steps := due(t, k, monthly())
		if len(steps) != 1 || !strings.Contains(steps[0].Note, "is copied to one with more partitions") {
			t.Fatalf("due: %+v", steps)
		}
		want := stored(t, s)
		do(t, k, steps...)
		if diff := cmp.Diff(want, stored(t, s), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
			t.Errorf("bars differ: %s", diff)
		}
		if again := due(t, k, monthly()); len(again) != 0 {
			t.Errorf("due again: %+v", again)
		}
		if n := len(parts(t, d, "bar_facts_1m")); n > 70 {
			t.Errorf("%d parts", n)
		}
		if _, err := store.Bars(s).Delete(ctx, mds.DefaultTenant(), mds.Selection{End: time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)}); err != nil {
			t.Fatal(err)
		}
		for _, name := range parts(t, d, "bar_facts_1m") { // so that the next time some are missing again
			if strings.Contains(name, "_from_199") {
				pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal."+name)
			}
		}
	}
}

// TestConversionKilled ends conversions at any moment: the table is there, whole, before and
// after, and a second one completes.
func TestConversionKilled(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	first := time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC)
	bars := make([]mds.Bar, 40_000)
	for i := range bars {
		bars[i] = mds.Bar{Vendor: "v", Symbol: fmt.Sprint("S", i%7), Timeframe: mds.Minute, TS: first.Add(time.Duration(i) * 20 * time.Minute), Close: float64(i)}
	}
	write(t, s, bars...)
	want := int64(len(bars))
	steps := due(t, k, monthly())
	completed := 0
	for n := range 12 {
		of := keeper(t, d)
		killed, cancel := context.WithCancel(ctx)
		begun := make(chan error, 1)
		go func() {
			_, err := of.Do(killed, steps[0])
			begun <- err
		}()
		// Its backend is ended when it has come so far, and has ended before another one begins.
		go func() {
			for range 2 * n {
				if pgtest.Ask(t, d.Admin, "SELECT 1") != "1" {
					return
				}
			}
			pgtest.Exec(t, d.Admin, "SELECT pg_terminate_backend(pid, 20000) FROM pg_stat_activity WHERE datname = current_database() AND usename = 'mds'")
			cancel()
		}()
		err := <-begun
		<-killed.Done()
		cancel()
		if got, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || got != want {
			t.Fatalf("%d bars after one that was killed, want %d, %v", got, want, err)
		}
		if receipt := write(t, s, minute("LATE", n, 1)); receipt.Written != 1 {
			t.Fatalf("a write after it: %+v", receipt)
		}
		want++
		if err == nil {
			completed++
			break
		}
		if !errors.As(err, new(*postgres.Error)) {
			t.Errorf("%v", err)
		}
	}
	if completed == 0 {
		do(t, keeper(t, d), steps...)
	}
	if got := due(t, keeper(t, d), monthly()); len(got) != 0 {
		t.Errorf("due after it: %+v", got)
	}
	if got, err := store.Bars(s).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || got != want {
		t.Errorf("%d bars at the end, want %d, %v", got, want, err)
	}
	if left := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM pg_class WHERE relname LIKE '%\\_next' OR relname LIKE '%\\_before'"); left != "0" {
		t.Errorf("%s tables are left over", left)
	}
}
