package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestLaterOnesWait has a lane's later records wait while a batch of it is retried and
// halved, so that the last submit wins.
func TestLaterOnesWait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		failures := 0
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			pass(100 * time.Millisecond)
			if batch[0].Close == 1 && failures < 4 {
				failures++
				return conflict{}
			}
			if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Close == -1 }) {
				return errRefused
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 1, Workers: 4, DeadLetters: &drawer{}})
		h := c.For(mds.DefaultTenant())
		submit(t, h, bar("s", 0, 1), bar("s", 1, -1), bar("s", 2, 1))
		for i := range 10 {
			submit(t, h, bar("s", 0, float64(2+i)), bar("s", 2, float64(2+i)))
			pass(50 * time.Millisecond)
		}
		stop(t, c)
		for k, price := range w.stored() {
			if price != 11 {
				t.Errorf("%s is %v, want the last, 11", k, price)
			}
		}
		if n := len(w.stored()); n != 2 {
			t.Errorf("%d rows, want 2", n)
		}
	})
}

// TestExhausted has one batch fail for good in a way that it says will pass, while others
// are written: it ends in the dead letters after its attempts.
func TestExhausted(t *testing.T) {
	for name, fail := range map[string]error{"conflict": conflict{}, "unavailable": down{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				tried := 0
				w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
					if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Symbol == "BAD" }) {
						tried++
						return fail
					}
					return nil
				}
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{BatchSize: 1, DeadLetters: letters, Lanes: 64, Retry: ingest.Retry{MaxAttempts: 3}})
				h := c.For(mds.DefaultTenant())
				r := submit(t, h, bar("BAD", 0, 1))
				for i := range 5000 {
					submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
					pass(10 * time.Millisecond)
				}
				o, err := r.Wait(t.Context())
				var exhausted *ingest.ExhaustedError
				if o.DeadLettered != 1 || !errors.As(err, &exhausted) || exhausted.Attempts < 3 {
					t.Errorf("%+v, %v", o, err)
				}
				stop(t, c)
				if s := c.Stats(); s.Written < 4900 || s.DeadLettered > 100 {
					t.Errorf("%+v", s)
				}
				for _, l := range letters.kept() {
					if l.Code != ingest.CodeExhausted {
						t.Errorf("%+v", l)
					}
				}
				if tried > 10 {
					t.Errorf("%d attempts", tried)
				}
			})
		})
	}
}

// TestTooMuchAtOnce has a store that fails for any batch that is large, as for lack of
// time: smaller and smaller ones find what it still takes.
func TestTooMuchAtOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			if len(batch) > 100 {
				return context.DeadlineExceeded
			}
			return nil
		}
		letters := &drawer{}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 5000)...)
		stop(t, c)
		if n := len(w.stored()); n != 5000 || len(letters.kept()) > 0 {
			t.Errorf("%d rows, %d letters", n, len(letters.kept()))
		}
	})
}

// TestUnknownTenant has a whole batch refused at once, not row by row.
func TestUnknownTenant(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, letters := newWorld(), &drawer{}
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			return fmt.Errorf("%w %q", mds.ErrUnknownTenant, "x")
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
		submit(t, c.For(tenantOf(t, "x")), bars("s", 1000)...)
		stop(t, c)
		if len(letters.kept()) != 1000 || w.calls > 2 {
			t.Errorf("%d letters after %d writes", len(letters.kept()), w.calls)
		}
	})
}

// TestOneThatNeverPasses has one row of a batch fail in a way that says it will pass, and
// never does: it costs that row.
func TestOneThatNeverPasses(t *testing.T) {
	for name, fail := range map[string]error{"conflict": conflict{}, "unavailable": down{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
					if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Close == -1 }) {
						return fail
					}
					return nil
				}
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Lanes: 64})
				h := c.For(mds.DefaultTenant())
				batch := bars("s", 1000)
				batch[700].Close = -1
				r := submit(t, h, batch...)
				done := make(chan struct{})
				other := elsewhere(h, "s")
				go func() { // which shows that the store is well
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						case <-time.After(100 * time.Millisecond):
							submit(t, h, bar(other, i, 1))
						}
					}
				}()
				o, err := r.Wait(t.Context())
				close(done)
				if want := (ingest.Outcome{Committed: 999, DeadLettered: 1}); o != want {
					t.Errorf("%+v, %v", o, err)
				}
				stop(t, c)
				if l := letters.kept(); len(l) != 1 || l[0].Record.Close != -1 || l[0].Code != ingest.CodeExhausted {
					t.Errorf("%+v", l)
				}
			})
		})
	}
}

// TestPiecesGrowAgain has the parts of a batch that was in trouble grow when it is over.
func TestPiecesGrowAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		failures := 0
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			if failures < 10 {
				failures++
				return down{}
			}
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Circuit: ingest.Circuit{HalfOpenAfter: time.Second}})
		submit(t, c.For(mds.DefaultTenant()), bars("s", 5000)...)
		stop(t, c)
		if sizes := w.sizes(); len(w.stored()) != 5000 || sizes[0] > 100 || len(sizes) > 15 {
			t.Errorf("%d rows in writes of %v", len(w.stored()), sizes)
		}
	})
}
