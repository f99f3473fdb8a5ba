package ingest_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// tellings are what a coordinator tells of committed records.
type tellings struct {
	t    *testing.T
	mu   sync.Mutex
	n    int64
	last map[string]float64 // the close, by tenant and series
	keys map[string]float64 // and by key
}

func newTellings(t *testing.T) *tellings {
	return &tellings{t: t, last: make(map[string]float64), keys: make(map[string]float64)}
}

// tell notes records, of which those of a series come with a close that does not fall.
func (s *tellings) tell(tenant mds.Tenant, records []mds.Bar, receipt mds.Receipt) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.n += int64(len(records))
	if receipt.Written+receipt.Unchanged+receipt.Superseded != int64(len(records)) {
		s.t.Errorf("%+v of %d records", receipt, len(records))
	}
	for i := range records {
		b := &records[i]
		series := tenant.Slug + " " + strings.ToUpper(b.Symbol)
		if b.Close < s.last[series] || poisonous(b) {
			s.t.Errorf("%+v is told after %v", b, s.last[series])
		}
		s.last[series] = b.Close
		s.keys[key(tenant, b)] = b.Close
	}
}

// account compares what was told with the ledger and the store.
func (s *tellings) account(c *ingest.Coordinator[mds.Bar], w *world, unwritten *ingest.UnwrittenError[mds.Bar]) {
	s.t.Helper()
	l := c.Stats().Ledger
	if written := l.Written + l.Unchanged + l.Superseded; s.n != written && unwritten == nil || s.n < written {
		s.t.Errorf("%d are told, of %+v", s.n, l)
	}
	if unwritten != nil {
		return // what a write that was cut off has stored nobody knows
	}
	stored := w.stored()
	for k, price := range s.keys {
		if stored[k] < price {
			s.t.Errorf("%s was told as %v, and is %v", k, price, stored[k])
		}
	}
}

// TestCommitted tells what a write has put on the disk, once, and nothing else: not a batch
// that failed, nor the row of it that is refused.
func TestCommitted(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		failures := 0
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			if failures++; failures <= 2 {
				return conflict{}
			}
			if i := slices.IndexFunc(batch, func(b mds.Bar) bool { return b.Close == -1 }); i >= 0 {
				return &mds.RecordError{Index: i, Err: errRefused}
			}
			return nil
		}
		var told []string
		var settled bool
		var receipt ingest.Receipt[mds.Bar]
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{
			Workers: 1, DeadLetters: &drawer{},
			Committed: func(tenant mds.Tenant, records []mds.Bar, r mds.Receipt) {
				var closes []float64
				for i := range records {
					closes = append(closes, records[i].Close)
				}
				told = append(told, fmt.Sprint(tenant.Slug, closes, r.Written))
				_, done := receipt.Settled()
				settled = settled || done
				panic("at its own cost")
			},
		})
		receipt = submit(t, c.For(tenantOf(t, "a")), bar("s", 0, 1), bar("s", 1, 2), bar("s", 2, -1), bar("s", 3, 3), invalid("s", 4), bar("s", 5, 4))
		stop(t, c)
		if want := []string{"a[1 2] 2", "a[3 4] 2"}; !slices.Equal(told, want) || settled {
			t.Errorf("%q, want %q; settled before: %t", told, want, settled)
		}
	})
}
