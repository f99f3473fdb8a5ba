package store_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/storetest"
)

// Trade is a kind of its own: what CONTRIBUTING says of adding one is done
// here, outside the module's packages. Several trades may have one time: their
// ids tell them apart.
type Trade struct {
	Vendor, Symbol, ID string
	TS                 time.Time
	Price              mds.Decimal
	Size               mds.Opt[float64]
	Conditions         []string
}

// Schema describes the trades kind.
func (Trade) Schema() mds.Schema[Trade] {
	return mds.Schema[Trade]{
		Kind: "trades",
		Noun: "trade",
		Columns: []mds.Column[Trade]{
			{Name: "vendor", Role: mds.Identity, Text: func(r *Trade) *string { return &r.Vendor }, Default: mds.DefaultVendor},
			{Name: "symbol", Role: mds.Identity, Text: func(r *Trade) *string { return &r.Symbol }},
			{Name: "id", Role: mds.Key, Text: func(r *Trade) *string { return &r.ID }},
			{Name: "ts", Role: mds.Time, Time: func(r *Trade) *time.Time { return &r.TS }, Aliases: []string{"t"}},
			{Name: "price", Role: mds.Value, Decimal: func(r *Trade) *mds.Decimal { return &r.Price }, Aliases: []string{"p"}},
			{Name: "size", Role: mds.Value, OptFloat: func(r *Trade) *mds.Opt[float64] { return &r.Size }, Aliases: []string{"s"}},
			{Name: "conditions", Role: mds.Value, List: func(r *Trade) *[]string { return &r.Conditions }},
		},
		Validate: func(r *Trade) error {
			for field, value := range map[string]string{"vendor": r.Vendor, "symbol": r.Symbol, "id": r.ID} {
				if value == "" {
					return &mds.InvalidError{Faults: []mds.Fault{{Field: field, Reason: "is missing"}}}
				}
			}
			if r.TS.IsZero() {
				return &mds.InvalidError{Faults: []mds.Fault{{Field: "ts", Reason: "is missing"}}}
			}
			return nil
		},
		Normalize: func(r *Trade) {
			r.Vendor, r.Symbol = mds.NormalizeVendor(r.Vendor), mds.NormalizeSymbol(r.Symbol)
			r.TS = time.UnixMicro(r.TS.UnixMicro()).UTC()
		},
	}
}

var tradeTables = fstest.MapFS{
	"duckdb/1001_trades.sql": {Data: []byte(`
CREATE TABLE trade_series (id BIGINT NOT NULL PRIMARY KEY, vendor VARCHAR NOT NULL, symbol VARCHAR NOT NULL, UNIQUE (vendor, symbol));
CREATE TABLE trade_facts (
    series_id BIGINT NOT NULL, id VARCHAR NOT NULL, ts TIMESTAMP NOT NULL,
    price DECIMAL(18,9) NOT NULL, size DOUBLE, conditions VARCHAR[] NOT NULL, updated_at TIMESTAMP NOT NULL);
`)},
	"postgres/1001_trades.sql": {Data: []byte(`-- +goose Up
CREATE TABLE mds_internal.trade_series (
    id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES mds_internal.tenants,
    vendor text COLLATE "C" NOT NULL, symbol text COLLATE "C" NOT NULL, UNIQUE (tenant_id, vendor, symbol));
CALL mds_internal.seal('mds_internal.trade_series');
CREATE TABLE mds_internal.trade_facts (
    series_id bigint NOT NULL, id text COLLATE "C" NOT NULL, ts timestamptz NOT NULL,
    price numeric(18,9) NOT NULL, size double precision, conditions text[] COLLATE "C" NOT NULL, updated_at timestamptz NOT NULL,
    PRIMARY KEY (series_id, id, ts));
CALL mds_internal.sealed_view('mds', 'trades', 'mds_internal.trade_facts', 'mds_internal.trade_series',
    ARRAY['greatest(s.vendor, '''') AS vendor', 'greatest(s.symbol, '''') AS symbol'], '{ts}', '{id,price,size,conditions,updated_at}', '');
`)},
}

// eachEngine runs a test with empty stores of each engine.
func eachEngine(t *testing.T, test func(t *testing.T, fresh func(testing.TB) (dsn string))) {
	t.Run("duckdb", func(t *testing.T) {
		test(t, func(t testing.TB) string { return "duckdb://" + t.TempDir() })
	})
	t.Run("postgres", func(t *testing.T) {
		test(t, func(t testing.TB) string {
			return pgtest.Fresh(t, "trades", func(d pgtest.Database) error {
				if err := store.Migrate(context.Background(), d.Owner, store.Config{Migrations: tradeTables}); err != nil {
					return err
				}
				_, err := postgres.GrantService(context.Background(), d.Owner, d.Service)
				return err
			}).Service
		})
	})
}

func trade(symbol, id string, second int, price mds.Decimal) Trade {
	return Trade{Vendor: "x", Symbol: symbol, ID: id, TS: time.Date(2024, 3, 5, 14, 30, second, 0, time.UTC), Price: price}
}

func TestOwnKindConforms(t *testing.T) {
	full := trade("A", "full", 0, -999_999_999_999_999_999)
	full.Size, full.Conditions = mds.Some(0.5), []string{"@", "T;I"}
	kind := storetest.Kind[Trade]{
		Config: store.Config{Migrations: tradeTables},
		Draw: func(t *rapid.T) Trade {
			r := trade(
				rapid.SampledFrom([]string{"A", "B"}).Draw(t, "symbol"), rapid.SampledFrom([]string{"1", "2", "10"}).Draw(t, "id"),
				rapid.IntRange(0, 2).Draw(t, "second"), mds.Decimal(rapid.IntRange(-1, 1).Draw(t, "price")))
			r.Conditions = rapid.SampledFrom([][]string{nil, {"@"}, {"@", "T"}}).Draw(t, "conditions")
			return r
		},
		Numbered: func(n, k int) Trade { return trade(fmt.Sprint("S", n%5), strconv.Itoa(n), k, 1) },
		Extremes: []Trade{trade("A", "1", 0, 1), trade("A", "2", 0, 0), trade("A", "1", 1, 999_999_999_999_999_999), full},
		Spelled:  []Trade{{Vendor: "X", Symbol: " a", ID: "1", TS: time.Date(2024, 3, 5, 9, 30, 0, 999, time.FixedZone("", -5*3600)), Price: 5}},
		Invalid:  map[string]Trade{"nothing": {}, "no id": trade("A", "", 0, 1)},
	}
	eachEngine(t, func(t *testing.T, fresh func(testing.TB) string) { storetest.RunKind(t, fresh, kind) })
}

func TestOwnKindThroughCodecAndSink(t *testing.T) { eachEngine(t, testOwnKindThroughCodecAndSink) }

func testOwnKindThroughCodecAndSink(t *testing.T, fresh func(testing.TB) string) {
	ctx := context.Background()
	dsn := fresh(t)
	st, err := store.Open(ctx, dsn, store.Config{Migrations: tradeTables})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	registry := prometheus.NewRegistry()
	metrics, err := sink.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	out := sink.New(store.TableOf[Trade](st), sink.Config{Metrics: metrics}).For(mds.DefaultTenant())
	for _, file := range []string{
		"symbol;id;t;p;s;conditions\na;1;2024-03-05T14:30:00Z;1.25;100;@|T\na;2;2024-03-05T14:30:00Z;1.26;;\n",
		`{"symbol":"A","id":"1","t":"2024-03-05T14:30:00Z","p":1.25,"s":100,"conditions":["@","T"]}` + "\n" + `{"symbol":"A","id":2,"t":"2024-03-05T14:30:00Z","p":"1.26"}`,
	} {
		decoder, err := codec.NewDecoder[Trade](strings.NewReader(file), "", codec.Options{})
		if err != nil {
			t.Fatal(err)
		}
		var batch []Trade
		for {
			var r Trade
			if err := decoder.Next(&r); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			batch = append(batch, r)
		}
		if _, err := out.Write(ctx, batch); err != nil {
			t.Fatal(err)
		}
	}
	var text strings.Builder
	encoder, err := codec.NewEncoder[Trade](&text, codec.FormatCSV)
	if err != nil {
		t.Fatal(err)
	}
	for r, err := range store.TableOf[Trade](st).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if err := encoder.Encode(&r); err != nil {
			t.Fatal(err)
		}
	}
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
	if want := "vendor,symbol,id,ts,price,size,conditions\nlocal,A,1,2024-03-05T14:30:00Z,1.25,100,@;T\nlocal,A,2,2024-03-05T14:30:00Z,1.26,,\n"; text.String() != want {
		t.Errorf("stored:\n%s\nwant:\n%s", text.String(), want)
	}
	if err := testutil.GatherAndCompare(registry, strings.NewReader(`
# HELP sink_writes_total Batches written, by sink and status (success or failure).
# TYPE sink_writes_total counter
sink_writes_total{sink="trades",status="failure"} 0
sink_writes_total{sink="trades",status="success"} 2
`), "sink_writes_total"); err != nil {
		t.Error(err)
	}
	// A program without the kind opens the store all the same.
	if err := st.Close(); err != nil {
		t.Fatal(err)
	}
	plain, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	if n, err := store.Bars(plain).Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 0 {
		t.Errorf("%d bars, %v", n, err)
	}
	if err := plain.Close(); err != nil {
		t.Error(err)
	}
}

func TestOwnMigrationsAreNumbered(t *testing.T) {
	d := pgtest.Empty(t)
	files := fstest.MapFS{"postgres/0005_trades.sql": {Data: []byte("-- +goose Up\nSELECT 1;")}}
	if err := store.Migrate(context.Background(), d.Owner, store.Config{Migrations: files}); err == nil || !strings.Contains(err.Error(), "migration postgres/0005_trades.sql: want number 1001") {
		t.Error(err)
	}
	st, err := store.Open(context.Background(), "duckdb://"+t.TempDir(), store.Config{Migrations: fstest.MapFS{"duckdb/0005_trades.sql": {}}})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	if err := st.Ping(context.Background(), mds.DefaultTenant()); err == nil || !strings.Contains(err.Error(), "migration duckdb/0005_trades.sql: want number 1001") {
		t.Error(err)
	}
}

// TestMigrationsAreCounted opens a new DuckDB store, and migrates a database to the kinds
// of this module, then to a kind of its own: an older one, then a newer.
func TestMigrationsAreCounted(t *testing.T) {
	ctx := context.Background()
	registry := prometheus.NewRegistry()
	metrics, err := store.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	again, err := store.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	want := func(n int) {
		t.Helper()
		if err := testutil.GatherAndCompare(registry, strings.NewReader(fmt.Sprintf(`
# HELP migrations_applied_total Migrations applied by this process.
# TYPE migrations_applied_total counter
migrations_applied_total %d
`, n)), "migrations_applied_total"); err != nil {
			t.Error(err)
		}
	}
	want(0)
	st, err := store.Open(ctx, "duckdb://"+t.TempDir(), store.Config{Migrations: tradeTables, Metrics: metrics})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(st.Ping(ctx, mds.DefaultTenant()), st.Close()); err != nil {
		t.Fatal(err)
	}
	n := duckdb.SchemaVersion() + 1
	want(n)
	const own = 7 // this module's for PostgreSQL
	d := pgtest.Empty(t)
	for range 2 {
		if err := store.Migrate(ctx, d.Owner, store.Config{Metrics: again}); err != nil {
			t.Fatal(err)
		}
		want(n + own)
	}
	if _, err := store.Open(ctx, d.Owner, store.Config{Migrations: tradeTables}); err == nil || !strings.Contains(err.Error(), "this mds needs 1001") {
		t.Error(err)
	}
	for range 2 {
		if err := store.Migrate(ctx, d.Owner, store.Config{Migrations: tradeTables, Metrics: again}); err != nil {
			t.Fatal(err)
		}
		want(n + own + 1)
	}
	if err := store.Migrate(ctx, "duckdb://x", store.Config{}); !errors.Is(err, store.ErrDSN) {
		t.Error(err)
	}
}
