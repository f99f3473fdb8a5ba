package duckdb

import (
	"context"
	"fmt"
	"testing"

	"github.com/marketdatastore/mds"
)

// timeMajor are bars of 500 symbols in order of time, from a minute on.
func timeMajor(minute, n int) []mds.Bar {
	bars := make([]mds.Bar, n)
	for i := range bars {
		at := minute + i/500
		price := 20 + float64((at*7+i%500)%997)/100
		bars[i] = modelBar(i%500, at, price)
		bars[i].Open, bars[i].High, bars[i].Low = mds.Some(price), mds.Some(price+0.05), mds.Some(price-0.05)
		bars[i].Volume = mds.Some(float64(i*31%10_007 + 1))
	}
	return bars
}

func benchStore(b *testing.B, cfg Config) *Store {
	b.Helper()
	s, err := Open(context.Background(), b.TempDir(), cfg)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

// BenchmarkArrange finds the series of a batch of 50,000 and sorts it.
func BenchmarkArrange(b *testing.B) {
	table := NewTable[mds.Bar](benchStore(b, Config{}))
	bars := timeMajor(0, 50_000)
	known := &seriesIDs{ids: make(map[string]int64), next: 1}
	b.ReportAllocs()
	for b.Loop() {
		table.resolve(known, bars)
		if rows := known.arranger.arrange(); len(rows) != len(bars) {
			b.Fatal(len(rows))
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(len(bars)), "ns/row")
}

// BenchmarkWrite writes batches: newer than what is there, the same again, and with
// every batch merged.
func BenchmarkWrite(b *testing.B) {
	for _, size := range []int{1_000, 50_000} {
		for _, c := range []struct {
			name, mode string
			again      bool
		}{{"append", WriteAuto, false}, {"again", WriteAuto, true}, {"merge", WriteMerge, false}} {
			b.Run(fmt.Sprint(c.name, "/", size), func(b *testing.B) {
				table := NewTable[mds.Bar](benchStore(b, Config{WriteMode: c.mode}))
				minute := 0
				next := func() {
					b.StopTimer()
					bars := timeMajor(minute, size)
					if !c.again {
						minute += size / 500
					}
					b.StartTimer()
					if _, err := table.WriteBatch(context.Background(), mds.DefaultTenant(), bars); err != nil {
						b.Fatal(err)
					}
				}
				next()
				b.ReportAllocs()
				b.ResetTimer()
				for range b.N {
					next()
				}
				b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/float64(size), "ns/row")
			})
		}
	}
}

// BenchmarkRead reads 2,000 bars of one symbol of 500, and the newest of each.
func BenchmarkRead(b *testing.B) {
	ctx := context.Background()
	table := NewTable[mds.Bar](benchStore(b, Config{}))
	if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), timeMajor(0, 1_000_000)); err != nil {
		b.Fatal(err)
	}
	if _, err := table.Compact(ctx, mds.DefaultTenant()); err != nil {
		b.Fatal(err)
	}
	b.Run("window", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			n := 0
			for _, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{Selection: mds.Selection{Symbols: []string{"S77"}}}) {
				if err != nil {
					b.Fatal(err)
				}
				n++
			}
			if n != 2000 {
				b.Fatal(n)
			}
		}
	})
	b.Run("latest", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if latest, err := table.Latest(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || len(latest) != 500 {
				b.Fatal(len(latest), err)
			}
		}
	})
}
