package store_test

import (
	"context"
	"fmt"
	"math"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// The benchmarks of policies: what rollups cost writers, how fast they are made, and what
// compressed chunks take. They run once each (`make bench-policies`).

var allRollups = []mds.Timeframe{"5m", "15m", "1h", "1d"}

// policed is an empty store with its keeper.
type policed struct {
	*store.Store
	keeper store.Keeper
	db     pgtest.Database
}

var benchedEngines = []string{"duckdb", "postgres"}

func benchEngines(b *testing.B, run func(b *testing.B, s *policed)) {
	for _, engine := range benchedEngines {
		b.Run(engine, func(b *testing.B) { run(b, newPoliced(b, engine)) })
	}
}

func newPoliced(b *testing.B, engine string) *policed {
	b.Helper()
	ctx := context.Background()
	s := &policed{}
	dsn := "duckdb://" + filepath.Join(b.TempDir(), "store")
	if engine == "postgres" {
		s.db = pgtest.Fresh(b, "policed", func(d pgtest.Database) error {
			if _, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{}); err != nil {
				return err
			}
			_, err := postgres.GrantService(ctx, d.Owner, d.Service)
			return err
		})
		dsn = s.db.Service
	}
	var err error
	if s.Store, err = store.Open(ctx, dsn, store.Config{}); err != nil {
		b.Fatal(err)
	}
	if s.keeper, err = store.OpenKeeper(ctx, s.Store, s.db.Owner); err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		_ = s.keeper.Close(ctx)
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

func (s *policed) keep(b *testing.B, p mds.Policy) {
	b.Helper()
	if _, err := s.keeper.Keep(context.Background(), p); err != nil {
		b.Fatal(err)
	}
}

func (s *policed) write(b *testing.B, bars []mds.Bar) {
	b.Helper()
	if _, err := store.Bars(s.Store).WriteBatch(context.Background(), mds.DefaultTenant(), bars); err != nil {
		b.Fatal(err)
	}
}

func (s *policed) refresh(b *testing.B) mds.Refreshed {
	b.Helper()
	done, err := s.Refresh(context.Background(), mds.DefaultTenant(), 0)
	if err != nil {
		b.Fatal(err)
	}
	return done
}

var firstMinute = time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC)

// walk is a bar whose price walks in cents.
func walk(symbol, minute int) mds.Bar {
	random := rand.New(rand.NewPCG(uint64(symbol), uint64(minute)))
	base := 20 + float64(symbol%400) + 5*math.Sin(float64(minute)/500+float64(symbol))
	cents := func(v float64) float64 { return math.Round(v*100) / 100 }
	open, last := cents(base+random.Float64()/10), cents(base+random.Float64()/10)
	return mds.Bar{
		Vendor: "bench", Symbol: fmt.Sprintf("SYM%04d", symbol), Timeframe: mds.Minute, TS: firstMinute.Add(time.Duration(minute) * time.Minute),
		Open: mds.Some(open), High: mds.Some(cents(max(open, last) + 0.02)), Low: mds.Some(cents(min(open, last) - 0.02)), Close: last,
		Volume: mds.Some(math.Round(random.ExpFloat64() * 5000)),
	}
}

// inTime are bars of symbols in order of time.
func inTime(symbols, minute, rows int) []mds.Bar {
	bars := make([]mds.Bar, rows)
	for i := range bars {
		bars[i] = walk(i%symbols, minute+i/symbols)
	}
	return bars
}

// BenchmarkRollupsWhileWriting writes to a store with rollups and to one without, in turns.
func BenchmarkRollupsWhileWriting(b *testing.B) {
	for _, engine := range benchedEngines {
		for _, size := range []int{500, 5_000, 50_000} {
			b.Run(fmt.Sprintf("%s/%d", engine, size), func(b *testing.B) {
				stores := [2]*policed{newPoliced(b, engine), newPoliced(b, engine)}
				stores[1].keep(b, mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: allRollups})
				var spent [2]time.Duration
				minute, batches := 0, max(20, 500_000/size)
				for b.Loop() {
					for n := range batches {
						bars := inTime(500, minute, size)
						minute += size / 500
						for i := range stores {
							turn := (n + i) % 2
							start := time.Now()
							stores[turn].write(b, bars)
							spent[turn] += time.Since(start)
						}
					}
				}
				rows := float64(batches * size * b.N)
				b.ReportMetric(0, "ns/op")
				b.ReportMetric(rows/spent[0].Seconds(), "rows/s")
				b.ReportMetric(rows/spent[1].Seconds(), "rows/s-rollups")
				b.ReportMetric(spent[0].Seconds()/spent[1].Seconds(), "ratio")
			})
		}
	}
}

// BenchmarkRefresh makes the rollups of 3 million bars, and those that 10,000 late ones touch.
func BenchmarkRefresh(b *testing.B) {
	const symbols, minutes = 500, 6_000
	for _, rollups := range [][]mds.Timeframe{{mds.Hour}, allRollups} {
		b.Run(strconv.Itoa(len(rollups)), func(b *testing.B) {
			benchEngines(b, func(b *testing.B, s *policed) {
				s.keep(b, mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: rollups})
				for minute := 0; minute < minutes; minute += 100 {
					s.write(b, inTime(symbols, minute, 100*symbols))
				}
				start := time.Now()
				done := s.refresh(b)
				b.Logf("all: %d bars in %v, %.0f bars/s", done.Bars, time.Since(start), float64(done.Bars)/time.Since(start).Seconds())
				random := rand.New(rand.NewPCG(1, 2))
				for name, late := range map[string]func(i int) (symbol, minute int){
					"anywhere":     func(int) (int, int) { return random.IntN(symbols), random.IntN(minutes) },
					"20 minutes":   func(i int) (int, int) { return i % symbols, 3_000 + i/symbols },
					"ten hours":    func(i int) (int, int) { return i % 17, 1_000 + i/17 },
					"one contract": func(i int) (int, int) { return 7, i % minutes },
				} {
					b.Run(name, func(b *testing.B) {
						var spent time.Duration
						for b.Loop() {
							bars := make([]mds.Bar, 10_000)
							for i := range bars {
								bars[i] = walk(late(i))
								bars[i].Close += 0.01 * float64(1+random.IntN(100))
							}
							s.write(b, bars)
							start := time.Now()
							s.refresh(b)
							spent += time.Since(start)
						}
						b.ReportMetric(0, "ns/op")
						b.ReportMetric(float64(spent.Milliseconds())/float64(b.N), "ms")
					})
				}
			})
		})
	}
}

// BenchmarkCompressed compresses 10 million bars and reads them as a tenant's login does.
// It needs servers with TimescaleDB.
func BenchmarkCompressed(b *testing.B) {
	if !pgtest.Timescale() {
		b.Skip("the tests run without TimescaleDB (MDS_TEST_TIMESCALEDB)")
	}
	ctx := context.Background()
	const symbols, minutes = 500, 20_000
	benchEngines(b, func(b *testing.B, s *policed) {
		if s.db.Name == "" {
			b.Skip("of PostgreSQL")
		}
		p := mds.Policy{Kind: "bars", Timeframe: mds.Minute, CompressAfter: mds.Age{N: 90, Unit: 'd'}}
		for minute := 0; minute < minutes; minute += 100 {
			s.write(b, inTime(symbols, minute, 100*symbols))
		}
		login := s.db.As(b, "bench_bi")
		if _, err := postgres.GrantLogin(ctx, s.db.Owner, mds.DefaultTenant(), "bench_bi", postgres.LoginConfig{}); err != nil {
			b.Fatal(err)
		}
		conn, err := pgx.Connect(ctx, login)
		if err != nil {
			b.Fatal(err)
		}
		defer conn.Close(ctx)
		window := func(b *testing.B) {
			b.Helper()
			var spent, planned time.Duration
			n := 0
			for b.Loop() {
				from := firstMinute.Add(time.Duration(n*37%9_000) * time.Minute)
				query := fmt.Sprintf("SELECT ts, open, high, low, close, volume FROM mds.bars WHERE symbol = 'SYM%04d' AND timeframe = '1m' AND ts >= '%s' AND ts < '%s' ORDER BY ts",
					n%symbols, from.Format(time.RFC3339), from.Add(10_000*time.Minute).Format(time.RFC3339))
				start := time.Now()
				rows, err := conn.Query(ctx, query)
				if err != nil {
					b.Fatal(err)
				}
				got := 0
				for rows.Next() {
					got++
				}
				if rows.Err() != nil || got != 10_000 {
					b.Fatalf("%d bars, %v", got, rows.Err())
				}
				spent += time.Since(start)
				start = time.Now()
				if _, err := conn.Exec(ctx, "EXPLAIN "+query); err != nil {
					b.Fatal(err)
				}
				planned += time.Since(start)
				n++
			}
			b.ReportMetric(0, "ns/op")
			b.ReportMetric(float64(spent.Microseconds())/1000/float64(n), "ms/window")
			b.ReportMetric(float64(planned.Microseconds())/1000/float64(n), "ms/plan")
		}
		pgtest.Exec(b, s.db.Admin, "VACUUM ANALYZE mds_internal.bar_facts_1m")
		b.Run("window of a plain table", window)
		begun := time.Now()
		if err := store.Apply(ctx, s.Store, s.keeper, []mds.Policy{p}, time.Now(), nil, func(step mds.Step, done bool) {
			b.Logf("%v %s %v %s", time.Since(begun).Round(time.Millisecond), step.Action, done, step.Note)
		}); err != nil {
			b.Fatal(err)
		}
		b.Logf("bytes of a row: %s", pgtest.Ask(b, s.db.Admin, fmt.Sprintf("SELECT round(hypertable_size('mds_internal.bar_facts_1m')::numeric / %d, 2)", symbols*minutes)))
		b.Run("window of compressed chunks", window)
		late := make([]mds.Bar, 10_000)
		random := rand.New(rand.NewPCG(5, 6))
		for i := range late {
			late[i] = walk(random.IntN(symbols), random.IntN(minutes))
			late[i].Close++
		}
		start := time.Now()
		s.write(b, late)
		b.Logf("10,000 late bars anywhere into compressed chunks: %v", time.Since(start))
	})
}

// BenchmarkFilled compares a store with policies, rollups and parts, with one that has none:
// 36 years of days of 1,000 symbols beside two weeks, round the clock, of minutes of 500,
// which are as many as ten weeks of sessions.
func BenchmarkFilled(b *testing.B) {
	const symbols, minutes, days = 500, 20_000, 36 * 252
	daily := func(symbol, n int) mds.Bar {
		bar := walk(symbol, n)
		bar.Timeframe, bar.TS = mds.Day, time.Date(1988, 1, 1, 0, 0, 0, 0, time.UTC).AddDate(0, 0, n*7/5)
		return bar
	}
	for _, engine := range benchedEngines {
		b.Run(engine, func(b *testing.B) {
			ctx := context.Background()
			stores := [2]*policed{newPoliced(b, engine), newPoliced(b, engine)}
			for _, s := range stores {
				for day := 0; day < days; day += 50 {
					batch := make([]mds.Bar, 0, 50_000)
					for n := day; n < min(day+50, days); n++ {
						for symbol := range 1_000 {
							batch = append(batch, daily(symbol, n))
						}
					}
					s.write(b, batch)
				}
				for minute := 0; minute < minutes; minute += 100 {
					s.write(b, inTime(symbols, minute, 100*symbols))
				}
			}
			policies := mds.DefaultPolicies()
			for i := range policies {
				if p := &policies[i]; p.Timeframe == mds.Minute {
					p.Partition = mds.Age{N: 1, Unit: 'w'}
				}
			}
			start := time.Now()
			if err := store.Apply(ctx, stores[1].Store, stores[1].keeper, policies, time.Now(), nil, func(step mds.Step, done bool) {
				if step.Action != mds.StepKeep && step.Rows > 0 {
					b.Logf("%v %s %s %v %s", time.Since(start).Round(time.Millisecond), step.Action, step.Policy.Name(), done, step.Note)
				}
			}); err != nil {
				b.Fatal(err)
			}
			if engine == "postgres" {
				for _, s := range stores {
					pgtest.Exec(b, s.db.Admin, "VACUUM ANALYZE")
				}
			}
			compact := func(s *policed) {
				if c, ok := store.Bars(s.Store).(store.Compacter); ok {
					if _, err := c.Compact(ctx, mds.DefaultTenant()); err != nil {
						b.Fatal(err)
					}
				}
			}
			for _, s := range stores {
				compact(s)
			}
			compare := func(name string, rounds int, of func(s *policed, n int)) {
				b.Run(name, func(b *testing.B) {
					var spent [2]time.Duration
					for b.Loop() {
						for n := range rounds {
							for i := range stores {
								turn := (n + i) % 2
								start := time.Now()
								of(stores[turn], n)
								spent[turn] += time.Since(start)
							}
						}
					}
					b.ReportMetric(0, "ns/op")
					b.ReportMetric(spent[0].Seconds()*1000/float64(rounds*b.N), "ms-plain")
					b.ReportMetric(spent[1].Seconds()*1000/float64(rounds*b.N), "ms-policies")
					b.ReportMetric(spent[0].Seconds()/spent[1].Seconds(), "ratio")
				})
			}
			query := func(s *policed, q mds.Query, want int) {
				n := 0
				for _, err := range store.Bars(s.Store).Query(ctx, mds.DefaultTenant(), q) {
					if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != want {
					b.Fatalf("%d bars, want %d", n, want)
				}
			}
			symbol := func(n int) []string { return []string{fmt.Sprintf("SYM%04d", n*7%symbols)} }
			compare("window of 10,000 minutes", 50, func(s *policed, n int) {
				from := firstMinute.Add(time.Duration(n*37) * time.Minute)
				query(s, mds.Query{Selection: mds.Selection{Symbols: symbol(n), Timeframe: mds.Minute, Start: from, End: from.Add(10_000 * time.Minute)}}, 10_000)
			})
			compare("36 years of days", 50, func(s *policed, n int) {
				query(s, mds.Query{Selection: mds.Selection{Symbols: symbol(n), Timeframe: mds.Day}}, days)
			})
			compare("latest of 500 symbols", 20, func(s *policed, _ int) {
				if list, err := store.Bars(s.Store).Latest(ctx, mds.DefaultTenant(), mds.Selection{Timeframe: mds.Minute}); err != nil || len(list) != symbols {
					b.Fatal(len(list), err)
				}
			})
			compare("two weeks of hours", 20, func(s *policed, n int) {
				for _, err := range s.Resample(ctx, mds.DefaultTenant(), mds.ResampleQuery{Selection: mds.Selection{Symbols: symbol(n), Timeframe: mds.Minute}, Every: mds.Hour}) {
					if err != nil {
						b.Fatal(err)
					}
				}
			})
			minute := minutes
			var batch []mds.Bar
			compare("write 5,000 minutes", 80, func(s *policed, n int) {
				if s == stores[n%2] {
					batch = inTime(symbols, minute, 5_000)
					minute += 10
				}
				s.write(b, batch)
			})
			compare("write 5,000 days", 40, func(s *policed, n int) {
				batch := make([]mds.Bar, 5_000)
				for i := range batch {
					batch[i] = daily(i%1_000, days+5*n+i/1_000)
				}
				s.write(b, batch)
			})
		})
	}
}
