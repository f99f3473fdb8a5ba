package postgres_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// minutes are bars of 500 symbols in order of time, from a minute on.
func minutes(from, n int) []mds.Bar {
	bars := make([]mds.Bar, n)
	for i := range bars {
		price := 100 + float64(i%97)/100
		bars[i] = mds.Bar{
			Vendor: "bench", Symbol: fmt.Sprintf("SYM%04d", i%500), Timeframe: mds.Minute, TS: time.Unix(int64(from+i/500)*60, 0).UTC(),
			Open: mds.Some(price), High: mds.Some(price), Low: mds.Some(price), Close: price, Volume: mds.Some(float64(i)),
		}
	}
	return bars
}

// BenchmarkWrite writes bars in order of time, and the same again; peer A is pgx's
// CopyFrom of the same rows, with known ids, into a table with the same key. A rate is
// of one connection.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{100, 500, 1_000, 5_000, 50_000} {
		perRow := func(b *testing.B) {
			b.ReportMetric(float64(b.N)*float64(size)/b.Elapsed().Seconds()/1000, "krows/s")
		}
		s, err := store.Open(ctx, migrated(b).Service, store.Config{})
		if err != nil {
			b.Fatal(err)
		}
		b.Run(fmt.Sprintf("mode/%d", size), func(b *testing.B) {
			for _, mode := range []string{postgres.WriteMerge, postgres.WriteUnnest} {
				if mode == postgres.WriteUnnest && size > 5_000 {
					continue
				}
				b.Run(mode, func(b *testing.B) {
					s, err := store.Open(ctx, migrated(b).Service, store.Config{WriteMode: mode})
					if err != nil {
						b.Fatal(err)
					}
					defer func() { _ = s.Close() }()
					b.ReportAllocs()
					next := 0
					for range b.N {
						b.StopTimer()
						batch := minutes(next, size)
						next += max(1, size/500)
						b.StartTimer()
						if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
							b.Fatal(err)
						}
					}
					perRow(b)
				})
			}
		})
		next := 0
		b.Run(fmt.Sprintf("ordered/%d", size), func(b *testing.B) {
			b.ReportAllocs()
			for range b.N {
				b.StopTimer()
				batch := minutes(next, size)
				next += max(1, size/500)
				b.StartTimer()
				if _, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
		b.Run(fmt.Sprintf("again/%d", size), func(b *testing.B) {
			batch := minutes(0, size)
			for b.Loop() {
				if receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil || receipt.Unchanged != int64(size) {
					b.Fatal(receipt, err)
				}
			}
			perRow(b)
		})
		b.Run(fmt.Sprintf("peer A/%d", size), func(b *testing.B) {
			conn, err := pgx.Connect(ctx, migrated(b).Owner)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = conn.Close(ctx) }()
			if _, err := conn.Exec(ctx, "CREATE TABLE mds.peer (LIKE mds_internal.bar_facts_1m INCLUDING ALL)"); err != nil {
				b.Skip(err)
			}
			next := 0
			for range b.N {
				b.StopTimer()
				batch := minutes(next, size)
				next += max(1, size/500)
				b.StartTimer()
				now := time.Now()
				_, err := conn.CopyFrom(ctx, pgx.Identifier{"mds", "peer"}, []string{"series_id", "ts", "open", "high", "low", "close", "volume", "updated_at"},
					pgx.CopyFromSlice(len(batch), func(i int) ([]any, error) {
						r := &batch[i]
						open, _ := r.Open.Value()
						high, _ := r.High.Value()
						low, _ := r.Low.Value()
						volume, _ := r.Volume.Value()
						return []any{int64(i % 500), r.TS, open, high, low, r.Close, volume, now}, nil
					}))
				if err != nil {
					b.Fatal(err)
				}
			}
			perRow(b)
		})
		if err := s.Close(); err != nil {
			b.Fatal(err)
		}
	}
}
