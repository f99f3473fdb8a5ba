package ingest

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// TestRoom has users take and give back room at random: nothing passes the capacity, and
// who is below its share gets in wherever the others are not above theirs.
func TestRoom(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		r := room{capacity: rapid.Int64Range(1, 1000).Draw(t, "capacity")}
		var used []int64
		join := func() {
			r.join(func(yield func(int64) bool) {
				for _, u := range used {
					if !yield(u) {
						return
					}
				}
			})
			used = append(used, 0)
		}
		join()
		t.Repeat(map[string]func(*rapid.T){
			"join": func(*rapid.T) { join() },
			"take": func(t *rapid.T) {
				u := rapid.IntRange(0, len(used)-1).Draw(t, "user")
				n := rapid.Int64Range(1, r.capacity).Draw(t, "n")
				if r.fits(used[u], n) {
					r.add(&used[u], n)
				} else if within := r.used <= r.capacity-r.kept; within && used[u]+n <= r.share {
					t.Fatalf("%d more of a user with %d do not fit, and its share is %d: %+v", n, used[u], r.share, r)
				}
			},
			"give": func(t *rapid.T) {
				u := rapid.IntRange(0, len(used)-1).Draw(t, "user")
				if used[u] > 0 {
					r.add(&used[u], -rapid.Int64Range(1, used[u]).Draw(t, "n"))
				}
			},
			"": func(t *rapid.T) {
				var sum, kept int64
				for _, u := range used {
					sum += u
					kept += max(0, r.share-u)
				}
				if r.used != sum || r.kept != kept || r.used > r.capacity || r.kept > r.capacity/2 && r.users > 1 {
					t.Fatalf("%+v of %v", r, used)
				}
			},
		})
	})
}

// nowhere is a store that keeps nothing.
type nowhere struct{}

func (nowhere) WriteBatch(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{}, nil
}

// TestRoomOfWhoLeaves has a submit give up, or be stopped, when it has just been let in: its
// room comes back.
func TestRoomOfWhoLeaves(t *testing.T) {
	for name, leave := range map[string]struct {
		do   func(c *Coordinator[mds.Bar], cancel context.CancelFunc)
		want error
	}{
		"gives up":   {func(_ *Coordinator[mds.Bar], cancel context.CancelFunc) { cancel() }, context.Canceled},
		"is stopped": {func(c *Coordinator[mds.Bar], _ context.CancelFunc) { c.stopping = true; close(c.refuses) }, ErrStopped},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c, err := New(t.Context(), nowhere{}, Config[mds.Bar]{Capacity: 10})
				if err != nil {
					t.Fatal(err)
				}
				h := c.For(mds.DefaultTenant())
				c.mu.Lock()
				c.join(h.t)
				c.use(h.t, 10, 1000)
				c.mu.Unlock()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				left := make(chan error)
				go func() {
					_, err := h.Submit(ctx, make([]mds.Bar, 5)...)
					left <- err
				}()
				synctest.Wait() // it waits for room
				c.mu.Lock()
				leave.do(c, cancel)
				c.release(h.t, 10, 1000)
				if c.records.used != 5 {
					t.Error("it was not let in")
				}
				c.mu.Unlock()
				if err := <-left; !errors.Is(err, leave.want) {
					t.Error(err)
				}
				c.mu.Lock()
				if c.records.used != 0 || c.bytes.used != 0 || h.t.used != (load{}) || h.t.queued != 0 {
					t.Errorf("%+v, %+v of it are left", c.records, c.bytes)
				}
				c.mu.Unlock()
				if err := c.Stop(t.Context()); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// TestPauses has pauses grow to their bound, and jitter spread them over all of it.
func TestPauses(t *testing.T) {
	cfg := Config[struct{}]{}.withDefaults("x").Retry
	cfg.NoJitter = true
	var a attempts
	for i, want := range []time.Duration{50, 100, 200, 400, 800, 1600, 2000, 2000} {
		if got := a.pause(&cfg); got != want*time.Millisecond {
			t.Errorf("pause %d is %v, want %d ms", i, got, want)
		}
	}
	cfg.NoJitter = false
	var low, high int
	for range 1000 {
		a := attempts{pauses: 1}
		switch got := a.pause(&cfg); {
		case got < 0 || got > 100*time.Millisecond:
			t.Fatalf("a pause of %v", got)
		case got < 10*time.Millisecond:
			low++
		case got > 90*time.Millisecond:
			high++
		}
	}
	if low < 50 || high < 50 { // 100 are expected of each
		t.Errorf("of 1,000 pauses %d are below 10 ms and %d above 90 ms", low, high)
	}
}

// TestAttemptsEnd has attempts end by their number and by their time, of failures that
// count.
func TestAttemptsEnd(t *testing.T) {
	cfg := Config[struct{}]{}.withDefaults("x").Retry
	var a attempts
	for i := range 4 {
		if a.count(passing, 0, time.Second); a.over(&cfg) {
			t.Fatalf("no attempt after %d", i+1)
		}
	}
	if a.count(passing, 0, time.Second); !a.over(&cfg) {
		t.Error("a sixth attempt")
	}
	a = attempts{}
	if a.count(passing, 0, 2*time.Minute); !a.over(&cfg) {
		t.Error("an attempt after two minutes")
	}
	a = attempts{}
	for range 100 { // while nothing else of the tenant succeeds
		if a.count(unwell, 7, time.Hour) || a.over(&cfg) {
			t.Fatal("attempts are used up while the backend is not well")
		}
	}
	if !a.count(unwell, 8, time.Second) {
		t.Error("a failure does not count, though another write has succeeded since the last")
	}
}

// TestQuota has a bucket be overdrawn by what is larger than it, and never else.
func TestQuota(t *testing.T) {
	now := time.Unix(1_700_000_000, 0)
	q := NewQuota(100, now)
	steps := []struct {
		after time.Duration
		n     int
		wait  time.Duration
	}{
		{0, 60, 0},
		{0, 60, 200 * time.Millisecond}, // of 100 there are 40
		{200 * time.Millisecond, 60, 0},
		{0, 500, time.Second}, // when it is full
		{time.Second, 500, 0},
		{time.Second, 1, 3010 * time.Millisecond}, // 300 are owed
		{3010 * time.Millisecond, 1, 0},
		{time.Hour, 100, 0}, // it holds no more than a second's
		{0, 1, 10 * time.Millisecond},
	}
	for i, s := range steps {
		now = now.Add(s.after)
		if wait := q.Take(s.n, now); (wait - s.wait).Abs() > time.Microsecond {
			t.Fatalf("step %d: %v to wait, want %v", i, wait, s.wait)
		}
	}
	q.give(1)
	if wait := q.Take(1, now); wait != 0 {
		t.Errorf("%v to wait for what was given back", wait)
	}
	q.wait(150)
	if owed := q.owed(now); (owed - 1510*time.Millisecond).Abs() > time.Microsecond {
		t.Errorf("%v are owed", owed)
	}
	q.wait(-150)
	if owed := q.owed(now.Add(time.Second)); owed != 0 {
		t.Errorf("%v are owed when nobody waits", owed)
	}
}

// TestFifo compares a queue with a slice.
func TestFifo(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var q fifo[int]
		var want []int
		t.Repeat(map[string]func(*rapid.T){
			"push": func(t *rapid.T) {
				for n := range rapid.IntRange(1, 50).Draw(t, "n") {
					q.push(n)
					want = append(want, n)
				}
			},
			"pop": func(t *rapid.T) {
				for range rapid.IntRange(0, len(want)).Draw(t, "n") {
					if first, got := q.first(), q.pop(); first != want[0] || got != want[0] {
						t.Fatalf("%d and %d, want %d", first, got, want[0])
					}
					want = want[1:]
				}
			},
			"remove": func(t *rapid.T) {
				n := rapid.IntRange(0, 60).Draw(t, "item")
				at := slices.Index(want, n)
				if first, found := q.remove(n); found != (at >= 0) || first != (at == 0) {
					t.Fatalf("%t %t of %v", first, found, want)
				}
				if at >= 0 {
					want = slices.Delete(slices.Clone(want), at, at+1)
				}
			},
			"": func(t *rapid.T) {
				if q.len() != len(want) {
					t.Fatalf("%d of %d", q.len(), len(want))
				}
			},
		})
	})
}
