package postgres_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// sideBySide has two do the same in turns, and reports the ratio of the medians. What is
// done is prepared outside of the time.
func sideBySide(b *testing.B, name, other string, prepare, prepareOther func() (do func() error)) {
	b.Helper()
	var took, otherTook []time.Duration
	timed := func(prepare func() func() error) time.Duration {
		do := prepare()
		start := time.Now()
		if err := do(); err != nil {
			b.Fatal(err)
		}
		return time.Since(start)
	}
	for range 3 { // plans are made, pages read
		timed(prepare)
		timed(prepareOther)
	}
	for b.Loop() {
		took, otherTook = append(took, timed(prepare)), append(otherTook, timed(prepareOther))
	}
	median := func(d []time.Duration) float64 {
		slices.Sort(d)
		return d[len(d)/2].Seconds() * 1000
	}
	b.ReportMetric(median(took), "ms-"+name)
	b.ReportMetric(median(otherTook), "ms-"+other)
	b.ReportMetric(median(took)/median(otherTook), "ratio")
}

// BenchmarkSeal reads through the view of bars with the login of a tenant, beside a view
// of the same union and join that is no barrier and has the tenant written into it.
func BenchmarkSeal(b *testing.B) {
	d := migrated(b)
	s := open(b, d.Service, store.Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		b.Fatal(err)
	}
	const minutesEach = 11_000
	for _, tenant := range []mds.Tenant{acme, mds.DefaultTenant()} { // 500 symbols, of which 100 have many
		for from := 0; from < minutesEach; from += 500 {
			if _, err := store.Bars(s).WriteBatch(ctx, tenant, slices.DeleteFunc(minutes(from, 500*500), func(bar mds.Bar) bool {
				return from > 0 && bar.Symbol >= "SYM0100"
			})); err != nil {
				b.Fatal(err)
			}
		}
	}
	login := d.As(b, d.Name+"_reader")
	if _, err := postgres.GrantLogin(ctx, d.Owner, acme, d.Name+"_reader", postgres.LoginConfig{}); err != nil {
		b.Fatal(err)
	}
	var parts []string
	for _, tf := range mds.Timeframes() {
		parts = append(parts, fmt.Sprintf(`SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
			FROM mds_internal.bar_facts_%s f JOIN mds_internal.bar_series s ON s.id = f.series_id WHERE s.timeframe = '%[1]s' AND s.tenant_id = '%s'`, tf, acme.ID))
	}
	// A superuser's view is bound by no policy.
	pgtest.Exec(b, d.Admin, "CREATE VIEW mds.unsealed AS "+strings.Join(parts, " UNION ALL "), "GRANT SELECT ON mds.unsealed TO "+d.Name+"_reader",
		"ANALYZE mds_internal.bar_facts_1m", "ANALYZE mds_internal.bar_series")
	conn, err := pgx.Connect(ctx, login)
	if err != nil {
		b.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	read := func(want int, text string, args ...any) func() func() error {
		do := func() error {
			rows, err := conn.Query(ctx, text, args...)
			if err != nil {
				return err
			}
			n := 0
			for rows.Next() {
				n++
			}
			if rows.Err() == nil && n != want {
				return fmt.Errorf("%d rows, want %d", n, want)
			}
			return rows.Err()
		}
		return func() func() error { return do }
	}
	b.Run("window of 10,000", func(b *testing.B) {
		text := "SELECT ts, open, high, low, close, volume FROM mds.%s WHERE vendor = 'bench' AND symbol = 'SYM0042' AND timeframe = '1m' AND ts >= $1 AND ts < $2 ORDER BY ts"
		from := time.Unix(500*60, 0)
		args := []any{from, from.Add(10_000 * time.Minute)}
		sideBySide(b, "sealed", "unsealed", read(10_000, fmt.Sprintf(text, "bars"), args...), read(10_000, fmt.Sprintf(text, "unsealed"), args...))
	})
	b.Run("latest of 500", func(b *testing.B) {
		text := "SELECT l.* FROM unnest($1::text[]) q (symbol) CROSS JOIN LATERAL (SELECT * FROM mds.%s v WHERE v.vendor = 'bench' AND v.symbol = q.symbol AND v.timeframe = '1m' ORDER BY v.ts DESC LIMIT 1) l"
		var symbols []string
		for i := range 500 {
			symbols = append(symbols, fmt.Sprintf("SYM%04d", i))
		}
		sideBySide(b, "sealed", "unsealed", read(500, fmt.Sprintf(text, "bars"), symbols), read(500, fmt.Sprintf(text, "unsealed"), symbols))
	})
}

// BenchmarkHardSeal writes bars in order of time to a database that checks, after each
// statement, that the series written to are the transaction's tenant's, beside one that
// does not: what it would cost to bind the service's login, too. Bits are of a tenant's
// number in a series' id; a join looks the series up.
func BenchmarkHardSeal(b *testing.B) {
	for name, check := range map[string]string{
		"bits": "SELECT FROM new_rows WHERE series_id >> 40 <> 0",
		"join": "SELECT FROM (SELECT DISTINCT series_id FROM new_rows) n LEFT JOIN mds_internal.bar_series s ON s.id = n.series_id AND s.tenant_id = mds_internal.current_tenant() WHERE s.id IS NULL",
	} {
		for _, size := range []int{5_000, 50_000} {
			b.Run(fmt.Sprintf("%s/%d", name, size), func(b *testing.B) {
				plain, checked := migrated(b), migrated(b)
				pgtest.Exec(b, checked.Owner, "CREATE FUNCTION mds_internal.check_tenant() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ BEGIN IF EXISTS ("+check+") THEN RAISE 'another tenant''s series'; END IF; RETURN NULL; END $$",
					"CREATE TRIGGER check_inserted AFTER INSERT ON mds_internal.bar_facts_1m REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION mds_internal.check_tenant()",
					"CREATE TRIGGER check_updated AFTER UPDATE ON mds_internal.bar_facts_1m REFERENCING NEW TABLE AS new_rows FOR EACH STATEMENT EXECUTE FUNCTION mds_internal.check_tenant()")
				writer := func(dsn string) func() func() error {
					s := open(b, dsn, store.Config{})
					next := 0
					return func() func() error {
						batch := minutes(next, size)
						next += size / 500
						return func() error {
							_, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch)
							return err
						}
					}
				}
				sideBySide(b, "checked", "unchecked", writer(checked.Service), writer(plain.Service))
			})
		}
	}
}
