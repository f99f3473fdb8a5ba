package postgres_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// needTimescale skips a test where the servers have no TimescaleDB: docs/timescaledb.md
// says how to run it.
func needTimescale(t *testing.T) {
	t.Helper()
	if !pgtest.Timescale() {
		t.Skip("the tests run without TimescaleDB (MDS_TEST_TIMESCALEDB)")
	}
}

// compressed is a policy of minutes that are compressed after 90 days, with chunks of a week.
func compressed() mds.Policy {
	return mds.Policy{Kind: "bars", Timeframe: mds.Minute, Partition: mds.Age{N: 1, Unit: 'w'}, CompressAfter: mds.Age{N: 90, Unit: 'd'}}
}

// doAll does what a policy asks for, until it asks for nothing.
func doAll(t testing.TB, k *postgres.Keeper, p mds.Policy) (done []mds.Step) {
	t.Helper()
	for range 5 {
		steps := due(t, k, p)
		if len(steps) == 0 {
			return done
		}
		do(t, k, steps...)
		done = append(done, steps...)
	}
	t.Fatalf("there is no end of %+v", done)
	return nil
}

// TestCompressedChunks writes late, corrects and deletes in chunks that are compressed, many
// rows at once: what is stored is what a plain table stores.
func TestCompressedChunks(t *testing.T) {
	needTimescale(t)
	testCompressedChunks(t, migrated(t), store.Config{}, 50)
}

// TestCompressedChunksLite does so where there is no TimescaleDB but in WebAssembly.
func TestCompressedChunksLite(t *testing.T) {
	testCompressedChunks(t, lite(t), store.Config{WriteMode: postgres.WriteUnnest}, 5)
}

// lite makes a database in WebAssembly one that the store can work with.
func lite(t *testing.T) pgtest.Database {
	t.Helper()
	d := pgtest.Lite(t)
	if err := prepare(d); err != nil {
		t.Fatal(err)
	}
	return d
}

func testCompressedChunks(t *testing.T, d pgtest.Database, cfg store.Config, series int) {
	plain := migrated(t)
	s, other, k := open(t, d.Service, cfg), open(t, plain.Service, store.Config{}), keeper(t, d)
	first := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	draw := rand.New(rand.NewPCG(3, 4))
	bar := func(symbol, n int) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: fmt.Sprint("S", symbol), Timeframe: mds.Minute, TS: first.Add(time.Duration(n) * time.Minute), Close: draw.Float64(), Volume: mds.Some(draw.Float64())}
	}
	both := func(bars ...mds.Bar) {
		t.Helper()
		if one, two := write(t, s, bars...), write(t, other, bars...); one.Written != two.Written || one.Unchanged != two.Unchanged {
			t.Errorf("receipts %+v and %+v", one, two)
		}
	}
	same := func(what string) {
		t.Helper()
		if diff := cmp.Diff(stored(t, other), stored(t, s), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
			t.Fatalf("%s: bars differ: %.2000s", what, diff)
		}
	}
	const span = 20_000
	var history []mds.Bar
	for n := 0; n < span; n += 4 {
		for symbol := range series {
			history = append(history, bar(symbol, n))
		}
	}
	both(history...)
	steps := doAll(t, k, compressed())
	if len(steps) != 2 || steps[0].Action != mds.StepPartition || steps[1].Action != mds.StepCompress || steps[1].Note != "2 chunks" && steps[1].Note != "3 chunks" {
		t.Fatalf("steps: %+v", steps)
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM timescaledb_information.chunks WHERE NOT is_compressed"); n != "0" {
		t.Errorf("%s chunks are not compressed", n)
	}
	same("compressed")
	both(history[:100*series]...) // which is there
	same("sent again")
	late := make([]mds.Bar, 200*series)
	for i := range late {
		late[i] = bar(draw.IntN(series), draw.IntN(span))
	}
	both(late...)
	same("late and corrected")
	for i := range history[:200*series] {
		history[i].Close++
	}
	for _, as := range []time.Time{time.Unix(0, 0), time.Now().Add(time.Hour)} { // nothing is older, and all is
		want, err := store.Bars(other).WriteLate(ctx, mds.DefaultTenant(), history[:200*series], as)
		if err != nil || want.Superseded == 0 && want.Written == 0 {
			t.Fatalf("%+v, %v", want, err)
		}
		want.Modes = 0
		writeLate(t, s, as, want, history[:200*series]...)
		same(fmt.Sprintf("as of %d", as.Year()))
	}
	sel := mds.Selection{Symbols: []string{"S3", "S7"}, Start: first.AddDate(0, 0, 2), End: first.AddDate(0, 0, 6)}
	for _, of := range []*store.Store{s, other} {
		if n, err := store.Bars(of).Delete(ctx, mds.DefaultTenant(), sel); err != nil || n == 0 {
			t.Errorf("%d bars deleted, %v", n, err)
		}
	}
	same("deleted")
	// What came since is compressed the next time.
	if steps := doAll(t, k, compressed()); len(steps) != 1 || steps[0].Action != mds.StepCompress {
		t.Errorf("steps after late rows: %+v", steps)
	}
	same("compressed again")
	p := compressed()
	p.DropAfter = mds.Age{N: 120, Unit: 'd'}
	steps = doAll(t, k, p)
	if len(steps) != 1 || steps[0].Action != mds.StepDrop {
		t.Errorf("steps: %+v", steps)
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM timescaledb_information.chunks"); n != "0" {
		t.Errorf("%s chunks are left", n)
	}
}

// TestHypertablesKeepTheirSeal has the doctor attack a database whose tables compress.
func TestHypertablesKeepTheirSeal(t *testing.T) {
	needTimescale(t)
	testHypertablesKeepTheirSeal(t, twoTenants(t))
}

// TestHypertablesKeepTheirSealLite does so in WebAssembly.
func TestHypertablesKeepTheirSealLite(t *testing.T) {
	testHypertablesKeepTheirSeal(t, twoTenantsIn(t, lite(t)))
}

func testHypertablesKeepTheirSeal(t *testing.T, d apart) {
	k := keeper(t, d.Database)
	for _, p := range mds.DefaultPolicies() {
		if steps := doAll(t, k, p); len(steps) == 0 && (p.Kind == "bars" || p.Kind == "options") {
			t.Errorf("%s: nothing was done", p.Name())
		}
	}
	if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM timescaledb_information.chunks WHERE is_compressed"); n == "0" {
		t.Error("nothing is compressed")
	}
	pgtest.Exec(t, d.Admin, "ANALYZE")
	var findings []postgres.Finding
	if d.Cluster != nil { // the doctor has two transactions at once
		var err error
		findings, err = postgres.Doctor(ctx, postgres.DoctorConfig{Owner: d.Owner, Service: d.Service, Logins: []string{d.acmeLogin, d.rivalLogin}})
		if err != nil {
			t.Fatal(err)
		}
	}
	for _, f := range findings {
		if f.Verdict == postgres.VerdictOpen {
			t.Errorf("%s: %s: %s", f.About, f.What, f.Detail)
		}
	}
	if got := pgtest.Ask(t, d.acmeLogin, "SELECT string_agg(symbol || close, ' ' ORDER BY symbol) FROM mds.bars"); got != "ACME1 BOTH1" {
		t.Errorf("acme reads %s", got)
	}
	if got := pgtest.Ask(t, d.rivalLogin, "SELECT string_agg(symbol || bid, ' ' ORDER BY symbol) FROM mds.options"); got != "BOTH2 RIVAL2" {
		t.Errorf("rival reads %s", got)
	}
	for _, relation := range strings.Fields(pgtest.Ask(t, d.Admin, "SELECT string_agg(oid::regclass::text, ' ') FROM pg_class WHERE relnamespace = '_timescaledb_internal'::regnamespace AND relkind = 'r' AND relname LIKE '%hyper%'")) {
		if got := pgtest.Ask(t, d.Admin, "SELECT has_table_privilege('"+d.Name+"_acme', '"+relation+"', 'SELECT')"); got != "false" {
			t.Errorf("acme may read %s", relation)
		}
	}
}

// TestOthersFunctionsAreNotCalled refuses to call functions that somebody has put beside
// those of TimescaleDB, and would run with the owner's rights.
func TestOthersFunctionsAreNotCalled(t *testing.T) {
	needTimescale(t)
	d := migrated(t)
	k := keeper(t, d)
	steps := due(t, k, compressed())
	mallory := d.As(t, d.Name+"_mallory")
	pgtest.Exec(t, d.Admin, "GRANT CREATE ON SCHEMA public TO "+d.Name+"_mallory")
	pgtest.Exec(t, mallory, "CREATE FUNCTION public.drop_chunks(regclass, older_than timestamptz) RETURNS SETOF text LANGUAGE sql AS 'SELECT session_user::text'")
	for _, fails := range []func() error{
		func() error { _, err := k.Do(ctx, steps[0]); return err },
		func() error { _, err := k.Due(ctx, []mds.Policy{compressed()}, time.Now()); return err },
	} {
		if err := fails(); err == nil || !strings.Contains(err.Error(), "is not TimescaleDB's, and would be called in its place; DROP it, and REVOKE CREATE ON SCHEMA public") {
			t.Errorf("beside a function of another's: %v", err)
		}
	}
}

// TestPartitionsBecomeHypertables converts a table of native partitions, once the database has
// TimescaleDB.
func TestPartitionsBecomeHypertables(t *testing.T) {
	needTimescale(t)
	d := migrated(t)
	pgtest.Exec(t, d.Admin, "DROP EXTENSION timescaledb")
	s := open(t, d.Service, store.Config{})
	for n := range 20 {
		b := minute("A", n, float64(n))
		b.TS = b.TS.AddDate(0, -n, n)
		write(t, s, b)
	}
	want := stored(t, s)
	do(t, keeper(t, d), due(t, keeper(t, d), monthly())...)
	if n := len(parts(t, d, "bar_facts_1m")); n < 20 {
		t.Fatalf("%d partitions", n)
	}
	pgtest.Exec(t, d.Admin, "CREATE EXTENSION timescaledb")
	steps := doAll(t, keeper(t, d), compressed())
	if len(steps) != 2 || !strings.Contains(steps[0].Note, "becomes a hypertable") || steps[1].Action != mds.StepCompress {
		t.Errorf("steps: %+v", steps)
	}
	again := open(t, d.Service, store.Config{}) // its sessions have not met the extension
	if diff := cmp.Diff(want, stored(t, again), cmp.Comparer(func(a, b mds.Bar) bool { return a == b })); diff != "" {
		t.Errorf("bars differ: %s", diff)
	}
	if left := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM pg_class WHERE relname LIKE 'bar\\_facts\\_1m\\_from%'"); left != "0" {
		t.Errorf("%s partitions are left", left)
	}
}
