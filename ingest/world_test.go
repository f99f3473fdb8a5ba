package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// pass has time pass, which in a bubble of synctest takes none.
func pass(d time.Duration) { <-time.After(d) }

// world is a store in memory whose writes fail as a test says. What it holds it holds for
// good.
type world struct {
	mu      sync.Mutex
	rows    map[string]float64 // by tenant and key: the close
	batches [][]mds.Bar
	tenants []string // of the batches
	calls   int
	writing int // now
	most    int // at once

	// before is called before a write, and fails it with its error; after once it is
	// committed, which it may deny.
	before, after func(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) error
}

func newWorld() *world { return &world{rows: make(map[string]float64)} }

func key(tenant mds.Tenant, b *mds.Bar) string {
	n := b.Normalized()
	return fmt.Sprint(tenant.Slug, " ", n.Vendor, " ", n.Symbol, " ", n.Timeframe, " ", n.TS.UnixMicro())
}

func (w *world) WriteBatch(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) (mds.Receipt, error) {
	w.mu.Lock()
	w.calls++
	w.writing++
	w.most = max(w.most, w.writing)
	before, after := w.before, w.after
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.writing--
		w.mu.Unlock()
	}()
	for i := range bars {
		if err := bars[i].Validate(); err != nil {
			return mds.Receipt{}, &mds.RecordError{Index: i, Err: err}
		}
	}
	if before != nil {
		if err := before(ctx, tenant, bars); err != nil {
			return mds.Receipt{}, err
		}
	}
	receipt := w.commit(tenant, bars)
	if after != nil {
		if err := after(ctx, tenant, bars); err != nil {
			return mds.Receipt{}, err
		}
	}
	return receipt, nil
}

func (w *world) commit(tenant mds.Tenant, bars []mds.Bar) (r mds.Receipt) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.batches = append(w.batches, append([]mds.Bar(nil), bars...))
	w.tenants = append(w.tenants, tenant.Slug)
	last := make(map[string]int)
	for i := range bars {
		last[key(tenant, &bars[i])] = i
	}
	for i := range bars {
		k := key(tenant, &bars[i])
		was, there := w.rows[k]
		switch {
		case last[k] != i:
			r.Superseded++
		case there && was == bars[i].Close:
			r.Unchanged++
		default:
			r.Written++
			w.rows[k] = bars[i].Close
		}
	}
	return r
}

// stored is a copy of the rows.
func (w *world) stored() map[string]float64 {
	w.mu.Lock()
	defer w.mu.Unlock()
	return maps.Clone(w.rows)
}

// sizes are those of the batches, in order.
func (w *world) sizes() []int {
	w.mu.Lock()
	defer w.mu.Unlock()
	var sizes []int
	for _, b := range w.batches {
		sizes = append(sizes, len(b))
	}
	return sizes
}

// down is an error of a backend that is not well.
type down struct{}

func (down) Error() string     { return "the backend is down" }
func (down) Retryable() bool   { return true }
func (down) Unavailable() bool { return true }

// conflict is one that passes.
type conflict struct{}

func (conflict) Error() string     { return "another one was at the same rows" }
func (conflict) Retryable() bool   { return true }
func (conflict) Unavailable() bool { return false }

var errRefused = errors.New("the backend refuses it")

// bar is number n of a series. The close tells submits of one key apart.
func bar(symbol string, n int, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Unix(int64(1_700_000_000+60*n), 0).UTC(), Close: price}
}

// bars are n of a series.
func bars(symbol string, n int) []mds.Bar {
	out := make([]mds.Bar, n)
	for i := range out {
		out[i] = bar(symbol, i, float64(i))
	}
	return out
}

// invalid is a record that validates nowhere.
func invalid(symbol string, n int) mds.Bar { return bar(symbol, n, math.NaN()) }

// elsewhere is a series that shares its lane with none of some others, and so does not
// wait for them.
func elsewhere(h *ingest.Handle[mds.Bar], others ...string) string {
	taken := make(map[int]bool)
	for _, symbol := range others {
		taken[h.Lane(bar(symbol, 0, 1))] = true
	}
	for i := 0; ; i++ {
		if symbol := fmt.Sprint("other", i); !taken[h.Lane(bar(symbol, 0, 1))] {
			return symbol
		}
	}
}

func tenantOf(t testing.TB, slug string) mds.Tenant {
	t.Helper()
	tenant, err := mds.NewTenant(slug)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

func newCoordinator(t testing.TB, w ingest.Writer[mds.Bar], cfg ingest.Config[mds.Bar]) *ingest.Coordinator[mds.Bar] {
	t.Helper()
	c, err := ingest.New(context.Background(), w, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func submit(t testing.TB, h *ingest.Handle[mds.Bar], bars ...mds.Bar) ingest.Receipt[mds.Bar] {
	t.Helper()
	r, err := h.Submit(context.Background(), bars...)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func stop(t testing.TB, c *ingest.Coordinator[mds.Bar]) {
	t.Helper()
	if err := c.Stop(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// drawer keeps dead letters in memory, unless it is shut.
type drawer struct {
	mu      sync.Mutex
	letters []ingest.Letter[mds.Bar]
	shut    error
	tried   int
}

func (d *drawer) Keep(_ context.Context, letters []ingest.Letter[mds.Bar]) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.tried++
	if d.shut != nil {
		return d.shut
	}
	d.letters = append(d.letters, letters...)
	return nil
}

func (d *drawer) kept() []ingest.Letter[mds.Bar] {
	d.mu.Lock()
	defer d.mu.Unlock()
	return append([]ingest.Letter[mds.Bar](nil), d.letters...)
}

func (d *drawer) setShut(err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.shut = err
}
