package ingest_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestDownForAMinute has a store that is down for a minute: what was submitted before and
// meanwhile waits, uses up no attempt, and is stored.
func TestDownForAMinute(t *testing.T) {
	for _, cfg := range []ingest.Config[mds.Bar]{
		{},
		{Workers: 1},
		{Circuit: ingest.Circuit{FailureThreshold: 1000}}, // it never opens
		{Circuit: ingest.Circuit{FailureThreshold: 1000}, Retry: ingest.Retry{MaxElapsed: 200 * time.Millisecond}},
		{Retry: ingest.Retry{MaxElapsed: 200 * time.Millisecond}},
		{Retry: ingest.Retry{MaxAttempts: 1}},
	} {
		t.Run(fmt.Sprintf("%+v %+v", cfg.Circuit, cfg.Retry), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				var isDown atomic.Bool
				isDown.Store(true)
				w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
					if isDown.Load() {
						return down{}
					}
					return nil
				}
				cfg := cfg
				cfg.DeadLetters = letters
				c := newCoordinator(t, w, cfg)
				h := c.For(mds.DefaultTenant())
				var receipts []ingest.Receipt[mds.Bar]
				for i := range 60 {
					receipts = append(receipts, submit(t, h, bar("s", i, 1), bar(fmt.Sprint("t", i), i, 1)))
					pass(time.Second)
				}
				if s := c.Stats(); s.Pending != 120 || s.Level != ingest.LevelHard && cfg.Circuit.FailureThreshold == 0 {
					t.Errorf("%+v", s)
				}
				isDown.Store(false)
				for _, r := range receipts {
					if o, err := r.Wait(t.Context()); err != nil || o.Committed != 2 {
						t.Fatalf("%+v, %v", o, err)
					}
				}
				if s := c.Stats(); s.Written != 120 || len(letters.kept()) != 0 || s.Circuit != ingest.Closed {
					t.Errorf("%+v, %d letters", s, len(letters.kept()))
				}
				stop(t, c)
			})
		})
	}
}

// TestCircuit has the circuit open after failures in a row, probe the store with one write
// at a time, and close when one succeeds.
func TestCircuit(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		var isDown atomic.Bool
		isDown.Store(true)
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			pass(time.Second)
			if isDown.Load() {
				return down{}
			}
			return nil
		}
		cfg := ingest.Config[mds.Bar]{BatchSize: 1, Workers: 8, Circuit: ingest.Circuit{FailureThreshold: 3, HalfOpenAfter: time.Minute}}
		cfg.Retry = ingest.Retry{InitialBackoff: time.Millisecond, MaxBackoff: time.Millisecond, NoJitter: true}
		c := newCoordinator(t, w, cfg)
		h := c.For(mds.DefaultTenant())
		for i := range 50 {
			submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
		}
		calls := func() int {
			synctest.Wait()
			w.mu.Lock()
			defer w.mu.Unlock()
			return w.calls
		}
		state := func() ingest.State { return c.Stats().Circuit }
		pass(1500 * time.Millisecond)
		if n := calls(); n != 8 || state() != ingest.Open {
			t.Fatalf("%d writes, %v; want 8 that fail together, and an open circuit", n, state())
		}
		pass(59 * time.Second)
		if n := calls(); n != 8 || state() != ingest.Open {
			t.Fatalf("%d writes within the minute, %v", n, state())
		}
		pass(time.Second)
		if n := calls(); n != 9 || state() != ingest.HalfOpen {
			t.Fatalf("%d writes, %v; want one probe", n, state())
		}
		pass(time.Minute)
		if n := calls(); n != 9 || state() != ingest.Open {
			t.Fatalf("%d writes, %v; want the circuit open after the probe failed", n, state())
		}
		isDown.Store(false)
		pass(2 * time.Second)
		if n := calls(); n <= 10 || state() != ingest.Closed {
			t.Fatalf("%d writes, %v; want the circuit closed", n, state())
		}
		stop(t, c)
		if n := len(w.stored()); n != 50 {
			t.Errorf("%d rows stored, want 50", n)
		}
	})
}

// TestDataDoesNotMoveTheCircuit has nothing but poison, and conflicts: the circuit stays
// closed.
func TestDataDoesNotMoveTheCircuit(t *testing.T) {
	for name, fail := range map[string]error{"refused": errRefused, "conflict": conflict{}} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				w.before = func(context.Context, mds.Tenant, []mds.Bar) error { return fail }
				var log lines
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Logger: log.logger()})
				submit(t, c.For(mds.DefaultTenant()), bars("s", 100)...)
				if err := c.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				if log.has("the circuit is open") {
					t.Error("the circuit was opened")
				}
				if n := len(letters.kept()); n != 100 {
					t.Errorf("%d letters, want 100", n)
				}
				stop(t, c)
			})
		})
	}
}

// TestPoison has poison at every place of a batch, in every way a write tells of it: it
// goes to the dead letters, all others are stored, and the last submit of each key wins.
func TestPoison(t *testing.T) {
	const n = 23
	positions := map[string][]int{"all": nil, "none": {}, "first and last": {0, n - 1}, "every second": nil}
	for i := range n {
		positions["all"] = append(positions["all"], i)
		positions[strconv.Itoa(i)] = []int{i}
		if i%2 == 1 {
			positions["every second"] = append(positions["every second"], i)
		}
	}
	ways := map[string]struct {
		code string
		fail func(index int) error // nil where the record is invalid by itself
	}{
		"invalid":  {ingest.CodeInvalid, nil},
		"refused":  {ingest.CodeRefused, func(int) error { return errRefused }},
		"named":    {ingest.CodeRefused, func(i int) error { return &mds.RecordError{Index: i, Err: errRefused} }},
		"misnamed": {ingest.CodeRefused, func(int) error { return &mds.RecordError{Index: 1_000_000, Err: errRefused} }},
		"panic":    {ingest.CodePanic, func(int) error { panic("poison") }},
	}
	for way, how := range ways {
		for name, at := range positions {
			t.Run(way+" "+name, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					w, letters := newWorld(), &drawer{}
					w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
						for i := range batch {
							if batch[i].Close < 0 {
								return how.fail(i)
							}
						}
						return nil
					}
					c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Workers: 2, BatchSize: n})
					batch := bars("s", n)
					for _, i := range at {
						if batch[i].Close = -1; how.fail == nil {
							batch[i] = invalid("s", i)
						}
					}
					at0 := time.Now()
					r := submit(t, c.For(mds.DefaultTenant()), batch...)
					o, err := r.Wait(t.Context())
					if want := (ingest.Outcome{Committed: int64(n - len(at)), DeadLettered: int64(len(at))}); o != want || (err != nil) != (len(at) > 0) {
						t.Fatalf("%+v, %v; want %+v", o, err, want)
					}
					if err != nil && !errors.Is(err, ingest.ErrDeadLettered) {
						t.Error(err)
					}
					stop(t, c)
					if got := len(w.stored()); got != n-len(at) {
						t.Errorf("%d rows stored, want %d", got, n-len(at))
					}
					var found []int
					for _, l := range letters.kept() {
						found = append(found, int(l.Record.TS.Unix()-1_700_000_000)/60)
						if l.Code != how.code || l.Reason == "" || l.Tenant != mds.DefaultTenant() || !l.Submitted.Equal(at0) || l.Attempts < 1 {
							t.Errorf("%+v", l)
						}
					}
					slices.Sort(found) // what is invalid has no series, and so no order
					if !slices.Equal(found, at) && len(at) > 0 {
						t.Errorf("letters of %v, want %v", found, at)
					}
				})
			})
		}
	}
}

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

// TestDeadLettersFull has the dead letters take nothing for a minute: the series waits,
// loudly, others go on, and nothing is lost.
func TestDeadLettersFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w, letters := newWorld(), &drawer{shut: errors.New("the disk is full")}
		w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
			if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Close == -1 }) {
				return errRefused
			}
			return nil
		}
		var log lines
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, BatchSize: 1, Lanes: 64, Logger: log.logger()})
		h := c.For(mds.DefaultTenant())
		r := submit(t, h, bar("bad", 0, -1))
		synctest.Wait()
		other := submit(t, h, bar("good", 0, 1))
		if _, err := other.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		later := submit(t, h, bar("bad", 1, 1))
		pass(time.Minute)
		s := c.Stats()
		if s.Pending != 2 || s.DeadLettered != 0 || s.Blocked == nil || !log.has("dead letters cannot be kept") {
			t.Errorf("%+v", s)
		}
		if h := c.Health()[3]; h != (ingest.Component{Name: "dead_letters", State: ingest.Unhealthy, Reason: "the disk is full"}) {
			t.Errorf("%+v", h)
		}
		letters.setShut(nil)
		if o, err := r.Wait(t.Context()); o.DeadLettered != 1 || !errors.Is(err, errRefused) {
			t.Errorf("%+v, %v", o, err)
		}
		if _, err := later.Wait(t.Context()); err != nil {
			t.Error(err)
		}
		if s := c.Stats(); s.Blocked != nil {
			t.Errorf("%+v", s)
		}
		stop(t, c)
	})
}

// TestNoDeadLetters has poison dropped, counted and told, where nothing keeps it.
func TestNoDeadLetters(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var told []mds.Bar
		c := newCoordinator(t, newWorld(), ingest.Config[mds.Bar]{Dropped: func(_ mds.Tenant, records []mds.Bar, reason ingest.Reason, err error) {
			mu.Lock()
			defer mu.Unlock()
			told = append(told, records...)
			var bad *mds.InvalidError
			if reason != ingest.Undeliverable || !errors.As(err, &bad) {
				t.Errorf("%s: %v", reason, err)
			}
			panic("a callback's own fault")
		}})
		r := submit(t, c.For(mds.DefaultTenant()), bar("s", 0, 1), invalid("s", 1), bar("s", 2, 1))
		if o, err := r.Wait(t.Context()); o != (ingest.Outcome{Committed: 2, Dropped: 1}) || !errors.Is(err, ingest.ErrDropped) {
			t.Errorf("%+v, %v", o, err)
		}
		if len(told) != 1 {
			t.Errorf("told of %d records", len(told))
		}
		if s := c.Stats(); s.Dropped != 1 || s.Overflowed != 0 {
			t.Errorf("%+v", s)
		}
		if h := c.Health()[3]; h.State != ingest.Degraded || !strings.HasPrefix(h.Reason, "1 records that no write takes are lost") {
			t.Errorf("%+v", h)
		}
		stop(t, c)
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

// TestTheSickStallNobody has more batches that cannot be written for now than workers: of
// series, of tenants, and of letters that cannot be kept. All others are written meanwhile,
// and the sick lose nothing.
func TestTheSickStallNobody(t *testing.T) {
	sick := func(batch []mds.Bar) bool {
		return slices.ContainsFunc(batch, func(b mds.Bar) bool { return strings.HasPrefix(b.Symbol, "SICK") })
	}
	for _, workers := range []int{1, 4} {
		t.Run(fmt.Sprint("series, with workers: ", workers), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w, letters := newWorld(), &drawer{}
				w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
					if sick(batch) {
						return down{}
					}
					return nil
				}
				c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Workers: workers, Lanes: 64})
				h := c.For(mds.DefaultTenant())
				for i := range 5 {
					submit(t, h, bar(fmt.Sprint("SICK", i), 0, 1))
				}
				pass(time.Second)
				for i := range 100 {
					submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
				}
				pass(5 * time.Minute)
				if n := len(w.stored()); n < 80 { // some share a lane with the sick
					t.Errorf("%d of 100 are stored", n)
				}
				for i := range 1000 { // others go on
					submit(t, h, bar(fmt.Sprint("s", i%100), 1+i, 1))
					pass(time.Second)
				}
				if n := len(letters.kept()); n != 5 {
					t.Errorf("%d letters of 5 that can never be written, though others are", n)
				}
				ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
				defer cancel()
				if err := c.Stop(ctx); err != nil {
					t.Error(err)
				}
				if s := c.Stats(); s.Written != 1100 || s.DeadLettered != 5 {
					t.Errorf("%+v", s.Ledger)
				}
			})
		})
	}
	t.Run("tenants", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, letters := newWorld(), &drawer{}
			var well atomic.Bool
			w.before = func(_ context.Context, tenant mds.Tenant, _ []mds.Bar) error {
				if tenant.Slug != "healthy" && !well.Load() {
					return down{}
				}
				return nil
			}
			c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
			for i := range 6 {
				submit(t, c.For(tenantOf(t, fmt.Sprint("sick", i))), bars("s", 10)...)
			}
			pass(time.Second)
			h := c.For(tenantOf(t, "healthy"))
			var slow time.Duration
			for i := range 3000 {
				start := time.Now()
				r := submit(t, h, bar("s", i, 1))
				if _, err := r.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
				slow = max(slow, time.Since(start))
				pass(time.Second)
			}
			if slow > time.Second {
				t.Errorf("the healthy one waited for %v", slow)
			}
			well.Store(true)
			pass(2 * time.Minute)
			if s := c.Stats(); s.Written != 3060 || len(letters.kept()) != 0 {
				t.Errorf("%+v, %d letters", s.Ledger, len(letters.kept()))
			}
			stop(t, c)
		})
	})
	t.Run("letters", func(t *testing.T) {
		synctest.Test(t, func(t *testing.T) {
			w, letters := newWorld(), &drawer{shut: errors.New("full")}
			w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
				if sick(batch) {
					return errRefused
				}
				return nil
			}
			c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters, Lanes: 64, BatchSize: 1})
			h := c.For(mds.DefaultTenant())
			for i := range 8 {
				submit(t, h, bar(fmt.Sprint("SICK", i), 0, 1))
			}
			pass(time.Minute)
			for i := range 100 {
				submit(t, h, bar(fmt.Sprint("s", i), 0, 1))
			}
			pass(time.Minute)
			if n := len(w.stored()); n < 80 {
				t.Errorf("%d of 100 are stored", n)
			}
			if s := c.Stats(); s.Blocked == nil {
				t.Errorf("%+v", s)
			}
			letters.setShut(nil)
			stop(t, c)
			if len(letters.kept()) != 8 || len(w.stored()) != 100 {
				t.Errorf("%d letters, %d rows", len(letters.kept()), len(w.stored()))
			}
		})
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
				go func() { // another series, which shows that the store is well
					for i := 0; ; i++ {
						select {
						case <-done:
							return
						case <-time.After(100 * time.Millisecond):
							submit(t, h, bar("t", i, 1))
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

// TestWritesOfALetter has a letter tell how many writes its record was in.
func TestWritesOfALetter(t *testing.T) {
	w, letters := newWorld(), &drawer{}
	w.before = func(_ context.Context, _ mds.Tenant, batch []mds.Bar) error {
		if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Close == -1 }) {
			return errRefused
		}
		return nil
	}
	c := newCoordinator(t, w, ingest.Config[mds.Bar]{DeadLetters: letters})
	batch := bars("s", 512)
	batch[0].Close = -1
	submit(t, c.For(mds.DefaultTenant()), batch...)
	stop(t, c)
	if l := letters.kept(); len(l) != 1 || l[0].Attempts != 10 { // 512, 256, … 1
		t.Errorf("%+v", l)
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
