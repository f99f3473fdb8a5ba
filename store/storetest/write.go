package storetest

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func testEmptyBatch(_ *testing.T, h *harness) {
	h.wantReceipt(h.write(), 0, 0, 0)
	h.want(h.all())
}

func testEveryValueComesBack(t *testing.T, h *harness) {
	full := mds.Bar{
		Vendor: "test", Symbol: "MSFT", Timeframe: mds.Minute, TS: at(14, 30),
		Open: mds.Some(1.5), High: mds.Some(2.25), Low: mds.Some(0.1), Close: 0.3,
		Volume: mds.Some(4e15), VWAP: mds.Some(1.0 / 3), TradeCount: mds.Some(int64(math.MaxInt64)),
	}
	bare := bar("MSFT", at(14, 31), 7)
	oil := bar("CL=F", time.Date(2020, 4, 20, 18, 30, 0, 0, time.UTC), -37.63)
	oil.Open, oil.Low = mds.Some(-14.0), mds.Some(-40.32)
	zeros := bar("ZERO", at(14, 30), 0)
	zeros.Open, zeros.Volume, zeros.TradeCount = mds.Some(0.0), mds.Some(0.0), mds.Some(int64(0))
	extremes := bar("EXTREME", at(14, 30), math.MaxFloat64)
	extremes.Open, extremes.Low = mds.Some(math.SmallestNonzeroFloat64), mds.Some(-math.MaxFloat64)
	first := bar("FIRST", time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC), 1)
	last := bar("LAST", time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), 1)
	before1970 := bar("OLD", time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC), 1)
	bars := []mds.Bar{full, bare, oil, zeros, extremes, first, last, before1970}
	for _, symbol := range []string{"BRK.B", "RDS-B", "1398.HK", "EURUSD=X", "BTC-PERP", "贵州茅台", "ÅÄÖ", "😀", `O'NEIL"\,`, "BRK B"} {
		bars = append(bars, bar(symbol, at(15, 0), 1))
	}
	h.wantReceipt(h.write(bars...), int64(len(bars)), 0, 0)
	for _, want := range bars {
		got := h.query(mds.Query{Selection: mds.Selection{Symbols: []string{want.Symbol}, Start: want.TS, End: want.TS.Add(time.Microsecond)}})
		h.want(got, want)
	}
}

func testReplayChangesNothing(_ *testing.T, h *harness) {
	bars := []mds.Bar{bar("A", at(9, 0), 1), bar("A", at(9, 1), 2), bar("B", at(9, 0), 3)}
	bars[1].Volume = mds.Some(10.5)
	h.wantReceipt(h.write(bars...), 3, 0, 0)
	h.wantReceipt(h.write(bars...), 0, 3, 0)
	more := slices.Concat(bars, []mds.Bar{bar("A", at(9, 2), 4)})
	h.wantReceipt(h.write(more...), 1, 3, 0)
	h.want(h.all(), bars[0], bars[2], bars[1], more[3])
}

func testLastInBatchWins(_ *testing.T, h *harness) {
	h.wantReceipt(h.write(bar("A", at(9, 0), 1), bar("B", at(9, 0), 5), bar("A", at(9, 0), 2), bar("A", at(9, 0), 3)), 2, 0, 2)
	h.want(h.all(), bar("A", at(9, 0), 3), bar("B", at(9, 0), 5))
	// The same keys again: what counts is the last of each.
	h.wantReceipt(h.write(bar("A", at(9, 0), 9), bar("A", at(9, 0), 3)), 0, 1, 1)
	h.want(h.all(), bar("A", at(9, 0), 3), bar("B", at(9, 0), 5))
}

func testLastBatchWins(_ *testing.T, h *harness) {
	h.write(bar("A", at(9, 0), 1), bar("A", at(9, 1), 1))
	h.wantReceipt(h.write(bar("A", at(9, 1), 2), bar("A", at(9, 0), 1)), 1, 1, 0)
	h.want(h.all(), bar("A", at(9, 0), 1), bar("A", at(9, 1), 2))
	h.wantReceipt(h.write(bar("A", at(9, 1), 1)), 1, 0, 0)
	h.want(h.all(), bar("A", at(9, 0), 1), bar("A", at(9, 1), 1))
}

func testMissingReplacesPresent(_ *testing.T, h *harness) {
	full := bar("A", at(9, 0), 1)
	full.Open, full.Volume, full.TradeCount = mds.Some(1.0), mds.Some(2.0), mds.Some(int64(3))
	h.write(full)
	h.wantReceipt(h.write(bar("A", at(9, 0), 1)), 1, 0, 0)
	h.want(h.all(), bar("A", at(9, 0), 1))
	h.wantReceipt(h.write(full), 1, 0, 0)
	h.want(h.all(), full)
}

func testInvalidRecordRefusesBatch(t *testing.T, h *harness) {
	good := bar("A", at(9, 0), 1)
	wrong := map[string]func(*mds.Bar){
		"NaN close":       func(b *mds.Bar) { b.Close = math.NaN() },
		"infinite open":   func(b *mds.Bar) { b.Open = mds.Some(math.Inf(1)) },
		"NaN volume":      func(b *mds.Bar) { b.Volume = mds.Some(math.NaN()) },
		"negative volume": func(b *mds.Bar) { b.Volume = mds.Some(-1.0) },
		"no symbol":       func(b *mds.Bar) { b.Symbol = " " },
		"NUL in symbol":   func(b *mds.Bar) { b.Symbol = "A\x00" },
		"broken UTF-8":    func(b *mds.Bar) { b.Symbol = "A\xff" },
		"no vendor":       func(b *mds.Bar) { b.Vendor = "" },
		"no timeframe":    func(b *mds.Bar) { b.Timeframe = "" },
		"odd timeframe":   func(b *mds.Bar) { b.Timeframe = "7m" },
		"no time":         func(b *mds.Bar) { b.TS = time.Time{} },
		"year 10000":      func(b *mds.Bar) { b.TS = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
	}
	for name, spoil := range wrong {
		bad := bar("B", at(9, 0), 1)
		spoil(&bad)
		_, err := h.bars.WriteBatch(h.ctx, mds.DefaultTenant(), []mds.Bar{good, bad, good})
		var record *mds.RecordError
		var invalid *mds.InvalidError
		if !errors.As(err, &record) || record.Index != 1 || !errors.As(err, &invalid) || mds.Retryable(err) {
			t.Errorf("%s: got %v, want a permanent RecordError of record 1", name, err)
		}
	}
	h.want(h.all())
}

func testCalendarBars(t *testing.T, h *harness) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	calendar := func(timeframe mds.Timeframe, ts time.Time) mds.Bar {
		return mds.Bar{Vendor: "test", Symbol: "SPY", Timeframe: timeframe, TS: ts, Close: 1}
	}
	// 20:00 on Friday 2024-03-08 in New York is Saturday in UTC.
	evening := time.Date(2024, 3, 8, 20, 0, 0, 0, newYork)
	h.write(calendar(mds.Day, evening), calendar(mds.Week, evening), calendar(mds.Month, evening))
	h.want(h.all(),
		calendar(mds.Month, time.Date(2024, 3, 1, 0, 0, 0, 0, time.UTC)),
		calendar(mds.Week, time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC)),
		calendar(mds.Day, time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC)),
	)
	// The same day, told otherwise, is the same bar.
	h.wantReceipt(h.write(calendar(mds.Day, time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC))), 0, 1, 0)
}

func testMicroseconds(_ *testing.T, h *harness) {
	base := at(9, 0)
	h.write(bar("A", base.Add(time.Microsecond), 1), bar("A", base.Add(2*time.Microsecond), 2))
	// Finer digits are cut: the second of these is the first of those.
	h.wantReceipt(h.write(bar("A", base.Add(1999*time.Nanosecond), 1)), 0, 1, 0)
	h.want(h.all(), bar("A", base.Add(time.Microsecond), 1), bar("A", base.Add(2*time.Microsecond), 2))
	// Bounds finer than that still split the window where they say.
	from := mds.Selection{Start: base.Add(1001 * time.Nanosecond)}
	h.want(h.query(mds.Query{Selection: from}), bar("A", base.Add(2*time.Microsecond), 2))
	until := mds.Selection{End: base.Add(1001 * time.Nanosecond)}
	h.want(h.query(mds.Query{Selection: until}), bar("A", base.Add(time.Microsecond), 1))
}

func testSpellingsOfOneSeries(_ *testing.T, h *harness) {
	lower := bar(" msft ", at(9, 0), 1)
	lower.Vendor = "TEST"
	h.wantReceipt(h.write(lower, bar("MSFT", at(9, 0), 2)), 1, 0, 1)
	h.wantReceipt(h.write(lower), 1, 0, 0)
	h.want(h.all(), bar("MSFT", at(9, 0), 1))
	h.want(h.query(mds.Query{Selection: mds.Selection{Symbols: []string{"msft"}, Vendor: "Test"}}), bar("MSFT", at(9, 0), 1))
}

func testManySeries(t *testing.T, h *harness) {
	const n = 3000
	bars := make([]mds.Bar, n)
	for i := range bars {
		bars[i] = bar(fmt.Sprintf("S%05d", n-i), at(9, 0), float64(i))
	}
	h.wantReceipt(h.write(bars...), n, 0, 0)
	h.reopen()
	h.wantReceipt(h.write(bars...), 0, n, 0)
	symbols := make([]string, n-1) // all but one
	for i := range symbols {
		symbols[i] = bars[i].Symbol
	}
	if got := h.query(mds.Query{Selection: mds.Selection{Symbols: symbols}}); len(got) != n-1 || got[0].Symbol != "S00002" {
		t.Errorf("%d of %d symbols give %d bars", n-1, n, len(got))
	}
	got := h.all()
	if len(got) != n || got[0].Symbol != "S00001" || got[n-1].Symbol != "S03000" || got[0].Close != n-1 {
		t.Errorf("%d bars from %s to %s", len(got), got[0].Symbol, got[len(got)-1].Symbol)
	}
}

func testCancelledContext(t *testing.T, h *harness) {
	cancelled, cancel := context.WithCancel(h.ctx)
	cancel()
	_, err := h.bars.WriteBatch(cancelled, mds.DefaultTenant(), []mds.Bar{bar("A", at(9, 0), 1)})
	if !errors.Is(err, context.Canceled) || mds.Retryable(err) {
		t.Errorf("write: %v, want a permanent context.Canceled", err)
	}
	expired, cancel := context.WithDeadline(h.ctx, time.Now().Add(-time.Second))
	defer cancel()
	_, err = h.bars.WriteBatch(expired, mds.DefaultTenant(), []mds.Bar{bar("A", at(9, 0), 1)})
	if !errors.Is(err, context.DeadlineExceeded) || !mds.Retryable(err) {
		t.Errorf("write: %v, want a retryable context.DeadlineExceeded", err)
	}
	for _, err := range h.bars.Query(cancelled, mds.DefaultTenant(), mds.Query{}) {
		if !errors.Is(err, context.Canceled) {
			t.Errorf("query: %v, want context.Canceled", err)
		}
	}
	h.want(h.all())
	h.wantReceipt(h.write(bar("A", at(9, 0), 1)), 1, 0, 0)
}

// testInterruptedAtAnyMoment ends contexts at every moment of a write and of a
// read: each call does its work or says whose context ended, and the store is
// as good as before.
func testInterruptedAtAnyMoment(t *testing.T, h *harness) {
	const rounds, rows = 300, 200
	var acknowledged atomic.Int64
	check := func(what string, err error, timeout bool) {
		want := context.Canceled
		if timeout {
			want = context.DeadlineExceeded
		}
		if err != nil && (!errors.Is(err, want) || mds.Retryable(err) != timeout) {
			t.Errorf("%s: %v (retryable %v), want %v", what, err, mds.Retryable(err), want)
		}
	}
	end := func(i int) (context.Context, context.CancelFunc, bool) {
		after := time.Duration(i) * 20 * time.Microsecond
		if i%2 == 0 {
			ctx, cancel := context.WithTimeout(h.ctx, after)
			return ctx, cancel, true
		}
		ctx, cancel := context.WithCancel(h.ctx)
		timer := time.AfterFunc(after, cancel)
		return ctx, func() { timer.Stop(); cancel() }, false
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range rounds {
			batch := make([]mds.Bar, rows)
			for j := range batch {
				batch[j] = bar(fmt.Sprint("S", i, "-", j%10), at(0, j), float64(i))
			}
			ctx, cancel, timeout := end(i)
			receipt, err := h.bars.WriteBatch(ctx, mds.DefaultTenant(), batch)
			cancel()
			check("write", err, timeout)
			acknowledged.Add(receipt.Written)
		}
	})
	wg.Go(func() {
		for i := range rounds {
			ctx, cancel, timeout := end(i)
			_, err := h.bars.Count(ctx, mds.DefaultTenant(), mds.Selection{})
			cancel()
			check("count", err, timeout)
		}
	})
	wg.Wait()
	stored := int64(len(h.all()))
	if stored%rows != 0 && !served(h.store) || stored < acknowledged.Load() {
		t.Errorf("%d bars are stored, acknowledged were %d; want whole batches, and all of these", stored, acknowledged.Load())
	}
	h.wantReceipt(h.write(bar("AFTER", at(9, 0), 1)), 1, 0, 0)
	h.reopen()
	h.wantReceipt(h.write(bar("AFTER", at(9, 0), 1)), 0, 1, 0)
}

// testReadersWhileWriting rewrites all bars with a higher close each time: a
// reader that sees two closes has seen half a batch.
func testReadersWhileWriting(t *testing.T, h *harness) {
	const bars, versions = 5000, 20
	version := func(v int) []mds.Bar {
		batch := make([]mds.Bar, bars)
		for i := range batch {
			batch[i] = bar("A", at(0, 0).Add(time.Duration(i)*time.Minute), float64(v))
		}
		return batch
	}
	h.write(version(0)...)
	var wg sync.WaitGroup
	done := make(chan struct{})
	for range 2 {
		wg.Go(func() {
			for {
				select {
				case <-done:
					return
				default:
				}
				n, seen := 0, make(map[float64]bool)
				for b, err := range h.bars.Query(h.ctx, mds.DefaultTenant(), mds.Query{}) {
					if err != nil {
						t.Error(err)
						return
					}
					n++
					seen[b.Close] = true
				}
				if n != bars || len(seen) != 1 {
					t.Errorf("a reader saw %d bars of versions %v", n, seen)
					return
				}
			}
		})
	}
	for v := 1; v <= versions; v++ {
		h.wantReceipt(h.write(version(v)...), bars, 0, 0)
	}
	close(done)
	wg.Wait()
}

func testConcurrentWriters(t *testing.T, h *harness) {
	const writers, batches, rows = 4, 10, 200
	var mu sync.Mutex
	var total mds.Receipt
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				batch := make([]mds.Bar, rows)
				for i := range batch {
					// Every writer writes the same keys, half of them new in each batch.
					batch[i] = bar("A", at(0, 0).Add(time.Duration(b*rows/2+i)*time.Minute), float64(w))
				}
				receipt, err := h.bars.WriteBatch(h.ctx, mds.DefaultTenant(), batch)
				if err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				total = total.Add(receipt)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	const keys = (batches-1)*rows/2 + rows
	// What waits together may be written together: the older of two is superseded then.
	if sum := total.Written + total.Unchanged + total.Superseded; sum != writers*batches*rows || total.Written < keys {
		t.Errorf("the receipts add up to %+v, want %d records", total, writers*batches*rows)
	}
	if got := h.all(); len(got) != keys {
		t.Errorf("%d bars are stored, want %d", len(got), keys)
	}
}

func testReopen(_ *testing.T, h *harness) {
	h.write(bar("A", at(9, 0), 1), bar("B", at(9, 0), 2))
	h.reopen()
	h.want(h.all(), bar("A", at(9, 0), 1), bar("B", at(9, 0), 2))
	h.wantReceipt(h.write(bar("A", at(9, 0), 1), bar("C", at(9, 0), 3)), 1, 1, 0)
	h.reopen()
	h.want(h.all(), bar("A", at(9, 0), 1), bar("B", at(9, 0), 2), bar("C", at(9, 0), 3))
}

func testClosed(t *testing.T, h *harness) {
	other, err := store.Open(h.ctx, h.fresh(h.t), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := other.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
	if _, err := store.Bars(other).WriteBatch(h.ctx, mds.DefaultTenant(), []mds.Bar{bar("A", at(9, 0), 1)}); err == nil {
		t.Error("a closed store took a batch")
	}
}

// testCloseWhileWriting: a write is either done or refused, and neither it nor
// Close hangs.
func testCloseWhileWriting(t *testing.T, h *harness) {
	const writers = 4
	var mu sync.Mutex
	written := make(map[string]bool)
	started := make(chan struct{}, writers)
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for i := range 10_000 {
				symbol := fmt.Sprintf("W%d-%d", w, i)
				_, err := h.bars.WriteBatch(h.ctx, mds.DefaultTenant(), []mds.Bar{bar(symbol, at(9, 0), 1)})
				if err != nil {
					if mds.Retryable(err) {
						t.Errorf("a closed store says try again: %v", err)
					}
					return
				}
				mu.Lock()
				written[symbol] = true
				mu.Unlock()
				if i == 0 {
					started <- struct{}{}
				}
			}
			t.Error("the store was never closed")
		})
	}
	for range writers {
		<-started
	}
	if err := h.store.Close(); err != nil {
		t.Error(err)
	}
	wg.Wait()
	h.open()
	stored := h.all()
	for _, b := range stored {
		delete(written, b.Symbol)
	}
	if len(written) > 0 {
		t.Errorf("%d acknowledged records are gone", len(written))
	}
}
