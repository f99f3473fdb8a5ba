// Package storetest is the conformance suite of storage backends: what
// [github.com/marketdatastore/mds/store.Table] promises, tried on a real one.
package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// Run runs the suite. fresh returns the DSN of an empty store of the test's
// own, which it cleans up.
func Run(t *testing.T, fresh func(t testing.TB) (dsn string)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *harness)
	}{
		{"EmptyBatch", testEmptyBatch},
		{"EveryValueComesBack", testEveryValueComesBack},
		{"ReplayChangesNothing", testReplayChangesNothing},
		{"LastInBatchWins", testLastInBatchWins},
		{"LastBatchWins", testLastBatchWins},
		{"MissingReplacesPresent", testMissingReplacesPresent},
		{"InvalidRecordRefusesBatch", testInvalidRecordRefusesBatch},
		{"CalendarBars", testCalendarBars},
		{"Microseconds", testMicroseconds},
		{"SpellingsOfOneSeries", testSpellingsOfOneSeries},
		{"ManySeries", testManySeries},
		{"CancelledContext", testCancelledContext},
		{"InterruptedAtAnyMoment", testInterruptedAtAnyMoment},
		{"ReadersWhileWriting", testReadersWhileWriting},
		{"ConcurrentWriters", testConcurrentWriters},
		{"LateIsRefused", testLateIsRefused},
		{"LateAndLatest", testLateAndLatest},
		{"LateWriters", testLateWriters},
		{"Reopen", testReopen},
		{"Closed", testClosed},
		{"CloseWhileWriting", testCloseWhileWriting},
		{"WindowAndOrder", testWindowAndOrder},
		{"CloseWhileReading", testCloseWhileReading},
		{"WindowInAZone", testWindowInAZone},
		{"DatesInAZone", testDatesInAZone},
		{"PagesAndLimits", testPagesAndLimits},
		{"StopReadingEarly", testStopReadingEarly},
		{"Latest", testLatest},
		{"Series", testSeries},
		{"Delete", testDelete},
		{"Info", testInfo},
		{"Tenants", testTenants},
		{"RemoveTenant", testRemoveTenant},
		{"TenantsAreApart", testTenantsAreApart},
		{"UnknownTenant", testUnknownTenant},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newHarness(t, fresh))
		})
	}
	RunKinds(t, fresh, store.Config{})
}

// harness is an open store with the calls that tests make most.
type harness struct {
	t     testing.TB
	ctx   context.Context
	fresh func(testing.TB) string
	dsn   string
	store *store.Store
	bars  store.Table[mds.Bar]
}

func newHarness(t testing.TB, fresh func(testing.TB) string) *harness {
	h := &harness{t: t, ctx: context.Background(), fresh: fresh, dsn: fresh(t)}
	h.open()
	t.Cleanup(func() {
		if err := h.store.Close(); err != nil {
			t.Error(err)
		}
	})
	return h
}

func (h *harness) open() {
	h.t.Helper()
	s, err := store.Open(h.ctx, h.dsn, store.Config{})
	if err != nil {
		h.t.Fatal(err)
	}
	h.store, h.bars = s, store.Bars(s)
}

func (h *harness) reopen() {
	h.t.Helper()
	if err := h.store.Close(); err != nil {
		h.t.Fatal(err)
	}
	h.open()
}

func (h *harness) write(bars ...mds.Bar) mds.Receipt {
	h.t.Helper()
	receipt, err := h.bars.WriteBatch(h.ctx, mds.DefaultTenant(), bars)
	if err != nil {
		h.t.Fatal(err)
	}
	if sum := receipt.Written + receipt.Unchanged + receipt.Superseded; sum != int64(len(bars)) {
		h.t.Fatalf("receipt %+v adds up to %d of %d records", receipt, sum, len(bars))
	}
	return receipt
}

func (h *harness) query(q mds.Query) []mds.Bar {
	h.t.Helper()
	var bars []mds.Bar
	for bar, err := range h.bars.Query(h.ctx, mds.DefaultTenant(), q) {
		if err != nil {
			h.t.Fatal(err)
		}
		bars = append(bars, bar)
	}
	return bars
}

func (h *harness) all() []mds.Bar {
	h.t.Helper()
	return h.query(mds.Query{})
}

// want compares bars, missing values and all.
func (h *harness) want(got []mds.Bar, want ...mds.Bar) {
	h.t.Helper()
	if !slices.Equal(got, want) {
		h.t.Errorf("bars differ (-want +got):\n%s", cmp.Diff(want, got, cmp.Comparer(func(a, b mds.Bar) bool { return a == b })))
	}
}

func (h *harness) wantReceipt(got mds.Receipt, written, unchanged, superseded int64) {
	h.t.Helper()
	want := mds.Receipt{Written: written, Unchanged: unchanged, Superseded: superseded}
	if !sameCounts(got, want) {
		h.t.Errorf("receipt %+v, want %+v", got, want)
	}
}

// sameCounts compares receipts but for the modes, of which there must be one where
// anything was sent.
func sameCounts(got, want mds.Receipt) bool {
	sent := want.Written + want.Unchanged + want.Superseded
	if (got.Modes == 0) != (sent == 0) {
		return false
	}
	got.Modes = want.Modes
	return got == want
}

// at is a moment of a session in 2024.
func at(hour, minute int) time.Time {
	return time.Date(2024, 3, 5, hour, minute, 0, 0, time.UTC)
}

// bar is a minute bar of a vendor in its stored form.
func bar(symbol string, ts time.Time, close float64) mds.Bar {
	return mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute, TS: ts, Close: close}
}
