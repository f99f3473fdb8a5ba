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
	"github.com/marketdatastore/mds/store/remote"
)

// Run runs the suite. fresh returns the DSN of an empty store of the test's
// own, which it cleans up.
func Run(t *testing.T, fresh func(t testing.TB) (dsn string)) {
	for _, test := range suite() {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newHarness(t, fresh))
		})
	}
	RunKinds(t, fresh, store.Config{})
}

type suiteTest struct {
	name string
	run  func(*testing.T, *harness)
}

// suite are the tests that need one kind of record.
func suite() []suiteTest {
	return []suiteTest{
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
		{"KeptAnswers", testKeptAnswers},
		{"KeptAnswersAtOnce", testKeptAnswersAtOnce},
		{"KeptAnswersEnd", testKeptAnswersEnd},
	}
}

// RunServed runs what of the suite holds for a store behind a server, whose URL fresh returns:
// its tenants and rollups are made elsewhere.
func RunServed(t *testing.T, fresh func(t testing.TB) (url string)) {
	for _, test := range suite() {
		if elsewhere := []string{"Tenants", "RemoveTenant", "TenantsAreApart", "KeptAnswers", "KeptAnswersAtOnce", "KeptAnswersEnd"}; slices.Contains(elsewhere, test.name) {
			continue
		}
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newHarness(t, fresh))
		})
	}
	t.Run("bars", func(t *testing.T) { runKind(t, fresh, barKind(), store.Config{}) })
	t.Run("options", func(t *testing.T) { runKind(t, fresh, optionKind(), store.Config{}) })
	t.Run("fundamentals", func(t *testing.T) { runKind(t, fresh, fundamentalsKind(), store.Config{}) })
	t.Run("news", func(t *testing.T) { runKind(t, fresh, newsKind(), store.Config{}) })
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
	if !sameCounts(h.store, got, want) {
		h.t.Errorf("receipt %+v, want %+v", got, want)
	}
}

// sameCounts compares receipts but for the modes, of which there must be one where
// anything was sent. A server tells of a batch only how many records it is.
func sameCounts(s *store.Store, got, want mds.Receipt) bool {
	sent := want.Written + want.Unchanged + want.Superseded
	if served(s) && got.Written == sent {
		return true
	}
	if !served(s) && (got.Modes == 0) != (sent == 0) {
		return false
	}
	got.Modes = want.Modes
	return got == want
}

// served says that a store is reached through a server.
func served(s *store.Store) bool {
	_, ok := s.Backend.(*remote.Store)
	return ok
}

// at is a moment of a session in 2024.
func at(hour, minute int) time.Time {
	return time.Date(2024, 3, 5, hour, minute, 0, 0, time.UTC)
}

// bar is a minute bar of a vendor in its stored form.
func bar(symbol string, ts time.Time, close float64) mds.Bar {
	return mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute, TS: ts, Close: close}
}
