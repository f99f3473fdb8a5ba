package ingest

import (
	"testing"
	"time"

	"pgregory.net/rapid"
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

// TestPauses has pauses grow to their bound, and jitter spread them over all of it.
func TestPauses(t *testing.T) {
	cfg := Config[struct{}]{}.withDefaults("x").Retry
	cfg.NoJitter = true
	a := attempts{cfg: cfg}
	for i, want := range []time.Duration{50, 100, 200, 400, 800, 1600, 2000, 2000} {
		if got := a.pause(); got != want*time.Millisecond {
			t.Errorf("pause %d is %v, want %d ms", i, got, want)
		}
	}
	cfg.NoJitter = false
	var low, high int
	for range 1000 {
		a := attempts{cfg: cfg, pauses: 1}
		switch got := a.pause(); {
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

// TestAttemptsEnd has attempts end by their number and by their time.
func TestAttemptsEnd(t *testing.T) {
	a := attempts{cfg: Config[struct{}]{}.withDefaults("x").Retry}
	for i := 1; i < 5; i++ {
		if !a.again(passing, true, 0, time.Second) {
			t.Fatalf("no attempt after %d", i)
		}
	}
	if a.again(passing, true, 0, time.Second) {
		t.Error("a sixth attempt")
	}
	a = attempts{cfg: a.cfg}
	if a.again(passing, true, 0, 2*time.Minute) {
		t.Error("an attempt after two minutes")
	}
	a = attempts{cfg: a.cfg}
	for i := range 100 { // while nothing else succeeds, or the circuit is open
		if !a.again(unwell, i%2 == 0, 7, time.Minute) {
			t.Fatal("attempts are used up while the backend is not well")
		}
	}
}
