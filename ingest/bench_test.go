package ingest_test

import (
	"context"
	"runtime"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// null takes everything.
type null struct{}

func (null) WriteBatch(_ context.Context, _ mds.Tenant, records []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{Written: int64(len(records))}, nil
}

// minute are bars of one minute, of 500 symbols.
func minute() []mds.Bar {
	bars := make([]mds.Bar, 500)
	for i := range bars {
		bars[i] = mds.Bar{
			Vendor: "bench", Symbol: "SYM" + strconv.Itoa(i), Timeframe: mds.Minute, TS: time.Unix(1_700_000_000, 0).UTC(),
			Open: mds.Some(1.5), High: mds.Some(2.5), Low: mds.Some(0.5), Close: 2, Volume: mds.Some(100.0),
		}
	}
	return bars
}

// BenchmarkSubmitSlice has two producers submit slices of 500 bars into a writer that
// takes everything.
func BenchmarkSubmitSlice(b *testing.B) {
	benchmark(b, 2, 500, func(h *ingest.Handle[mds.Bar], bars []mds.Bar, _ int) error {
		_, err := h.Submit(b.Context(), bars...)
		return err
	})
}

// BenchmarkSubmitOne has four producers submit one bar at a time.
func BenchmarkSubmitOne(b *testing.B) {
	benchmark(b, 4, 1, func(h *ingest.Handle[mds.Bar], bars []mds.Bar, i int) error {
		_, err := h.Submit(b.Context(), bars[i%len(bars)])
		return err
	})
}

func benchmark(b *testing.B, producers, size int, submit func(*ingest.Handle[mds.Bar], []mds.Bar, int) error) {
	c, err := ingest.New(b.Context(), null{}, ingest.Config[mds.Bar]{})
	if err != nil {
		b.Fatal(err)
	}
	bars := minute()
	h := c.For(mds.DefaultTenant())
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	b.ResetTimer()
	var wg sync.WaitGroup
	for p := range producers {
		wg.Go(func() {
			for i := p; i < b.N; i += producers {
				if err := submit(h, bars, i); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := c.Stop(context.Background()); err != nil {
		b.Fatal(err)
	}
	b.StopTimer()
	runtime.ReadMemStats(&after)
	records := float64(b.N) * float64(size)
	b.ReportMetric(records/b.Elapsed().Seconds(), "records/s")
	b.ReportMetric(float64(after.Mallocs-before.Mallocs)/records, "allocs/record")
	if l := c.Stats().Ledger; l.Written != int64(records) || l.Pending != 0 {
		b.Fatalf("%+v", l)
	}
}
