package storetest

import (
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// Every row that a test stored changed after longAgo, and before soon: late records of the
// one are older than all that is stored, those of the other newer.
var longAgo = time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)

func soon() time.Time { return time.Now().Add(time.Hour) }

// testLate writes late records of each fate, in batches of few rows and of many.
func (h *kindHarness[R]) testLate() {
	figure := slices.IndexFunc(h.schema.Columns, func(c mds.Column[R]) bool { return c.Role == mds.Value && c.OptFloat != nil })
	if figure < 0 {
		h.Skip("the kind has no optional figure")
	}
	// records are some whose figure is x, of news those of another minute for another x.
	records := func(from, n int, x float64) []R {
		out := make([]R, n)
		for i := range out {
			k := 0
			if h.schema.TimeIsValue {
				k = int(100 * x)
			}
			out[i] = h.Numbered(from+i, k)
			*h.schema.Columns[figure].OptFloat(&out[i]) = mds.Some(x)
		}
		return out
	}
	var stored []R
	first := 0
	for _, n := range []int{12, 1200} {
		from, third := first, n/3
		first += 2 * n
		h.write(records(from, n, 0.25), int64(n), 0, 0)
		h.late(longAgo, records(from, n, 0.25), 0, int64(n), 0)
		h.late(longAgo, records(from, n, 0.5), 0, 0, int64(n))
		h.wantStored(stored, records(from, n, 0.25))
		// A third is stored as it is, one otherwise, and one not; of the first and the last
		// other records come before.
		mixed := slices.Concat(records(from, third, 0.75), records(from+n, third, 0.75),
			records(from, third, 0.25), records(from+third, third, 0.5), records(from+n, third, 0.5))
		h.late(longAgo, mixed, int64(third), int64(third), int64(3*third))
		h.wantStored(stored, records(from, n, 0.25), records(from+n, third, 0.5))
		// What is older is replaced; a third of it loses its figure.
		without := records(from+third, third, 0.25)
		for i := range without {
			*h.schema.Columns[figure].OptFloat(&without[i]) = mds.None[float64]()
		}
		replaced := slices.Concat(records(from, third, 0.75), without, records(from+2*third, third, 0.25))
		h.late(soon(), replaced, int64(2*third), int64(third), 0)
		h.late(longAgo, replaced, 0, int64(n), 0)
		stored = slices.Concat(stored, replaced, records(from+n, third, 0.5))
		h.wantStored(stored)
	}
	h.reopen()
	h.wantStored(stored)
}

// late writes records as of a time, and wants a receipt.
func (h *kindHarness[R]) late(as time.Time, records []R, written, unchanged, superseded int64) {
	h.Helper()
	got, err := h.table.WriteLate(h.ctx, mds.DefaultTenant(), records, as)
	if want := (mds.Receipt{Written: written, Unchanged: unchanged, Superseded: superseded}); err != nil || !sameCounts(h.store, got, want) {
		h.Fatalf("late receipt %+v, %v; want %+v", got, err, want)
	}
}

func (h *kindHarness[R]) wantStored(parts ...[]R) {
	h.Helper()
	want := slices.SortedFunc(slices.Values(slices.Concat(parts...)), h.byIdentity)
	if got := h.query(mds.Query{ByIdentity: true}); !h.equal(got, want) {
		h.Fatalf("stored are:\n%s\nwant:\n%s", h.texts(got), h.texts(want))
	}
}

// testLateIsRefused has late batches refused for what others are.
func testLateIsRefused(t *testing.T, h *harness) {
	if receipt, err := h.bars.WriteLate(h.ctx, mds.DefaultTenant(), nil, longAgo); err != nil || receipt != (mds.Receipt{}) {
		t.Errorf("an empty batch: %+v, %v", receipt, err)
	}
	h.write(bar("A", at(9, 0), 1))
	var record *mds.RecordError
	_, err := h.bars.WriteLate(h.ctx, mds.DefaultTenant(), []mds.Bar{bar("A", at(9, 0), 2), {}, bar("B", at(9, 0), 2)}, soon())
	if !errors.As(err, &record) || record.Index != 1 || mds.Retryable(err) {
		t.Errorf("a batch with an invalid record: %v, want a permanent RecordError of record 1", err)
	}
	nobody, err := mds.NewTenant("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := h.bars.WriteLate(h.ctx, nobody, []mds.Bar{bar("A", at(9, 0), 2)}, soon()); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("a tenant that is not there: %v", err)
	}
	h.want(h.all(), bar("A", at(9, 0), 1))
}

// testLateAndLatest has the newest record be the one that is stored, where it is
// remembered, too.
func testLateAndLatest(t *testing.T, h *harness) {
	latest := func() []mds.Bar {
		t.Helper()
		got, err := h.bars.Latest(h.ctx, mds.DefaultTenant(), mds.Selection{})
		if err != nil {
			t.Fatal(err)
		}
		return got
	}
	late := func(as time.Time, written, superseded int64, bars ...mds.Bar) {
		t.Helper()
		got, err := h.bars.WriteLate(h.ctx, mds.DefaultTenant(), bars, as)
		if err != nil {
			t.Fatal(err)
		}
		h.wantReceipt(got, written, 0, superseded)
	}
	h.write(bar("A", at(9, 1), 1), bar("B", at(9, 1), 1))
	h.want(latest(), bar("A", at(9, 1), 1), bar("B", at(9, 1), 1))
	late(longAgo, 1, 1, bar("A", at(9, 1), 2), bar("B", at(9, 2), 2))
	h.want(latest(), bar("A", at(9, 1), 1), bar("B", at(9, 2), 2))
	late(longAgo, 1, 0, bar("A", at(9, 0), 3))
	h.want(latest(), bar("A", at(9, 1), 1), bar("B", at(9, 2), 2))
	late(soon(), 1, 0, bar("B", at(9, 2), 3))
	h.want(latest(), bar("A", at(9, 1), 1), bar("B", at(9, 2), 3))
	// Nothing is after what is newest, and what is there already is found.
	h.wantReceipt(h.write(bar("A", at(9, 1), 1), bar("B", at(9, 2), 3)), 0, 2, 0)
}

// testLateWriters has late batches and others at the same keys, at once: none of the late
// ones, which are older, is in the place of another.
func testLateWriters(t *testing.T, h *harness) {
	const writers, batches, rows = 2, 10, 200
	keys := func(b int, price float64) []mds.Bar {
		batch := make([]mds.Bar, rows)
		for i := range batch {
			// Half of the keys are new in each batch.
			batch[i] = bar("A", at(0, 0).Add(time.Duration(b*rows/2+i)*time.Minute), price)
		}
		return batch
	}
	var wg sync.WaitGroup
	for w := range writers {
		wg.Go(func() {
			for b := range batches {
				if _, err := h.bars.WriteBatch(h.ctx, mds.DefaultTenant(), keys(b, float64(1+w))); err != nil {
					t.Error(err)
					return
				}
			}
		})
		wg.Go(func() {
			for b := range batches {
				price := -float64(1 + w*batches + b) // none of them is written twice
				receipt, err := h.bars.WriteLate(h.ctx, mds.DefaultTenant(), keys(b, price), longAgo)
				if err != nil || receipt.Written+receipt.Superseded != rows || receipt.Unchanged != 0 {
					t.Errorf("late receipt %+v, %v; want %d written or superseded", receipt, err, rows)
					return
				}
			}
		})
	}
	wg.Wait()
	stored := h.all()
	if len(stored) != (batches-1)*rows/2+rows {
		t.Errorf("%d bars are stored, want %d", len(stored), (batches-1)*rows/2+rows)
	}
	if i := slices.IndexFunc(stored, func(b mds.Bar) bool { return b.Close < 0 }); i >= 0 {
		t.Errorf("a late bar is in the place of a newer one: %+v", stored[i])
	}
}
