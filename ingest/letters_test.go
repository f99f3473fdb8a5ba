package ingest_test

import (
	"context"
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

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
		other := submit(t, h, bar(elsewhere(h, "bad"), 0, 1))
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

// naming is a server: it stores what it can of a batch, names the rest, and keeps that itself
// but for what is not even a record there.
type naming struct{ *world }

func (n naming) WriteBatch(ctx context.Context, tenant mds.Tenant, batch []mds.Bar) (mds.Receipt, error) {
	var rest []mds.Bar
	var named []mds.RefusedRecord
	for i := range batch {
		if batch[i].Close < 0 {
			named = append(named, mds.RefusedRecord{Index: i, Err: errRefused, Kept: batch[i].Close == -1})
		} else {
			rest = append(rest, batch[i])
		}
	}
	receipt, err := n.world.WriteBatch(ctx, tenant, rest)
	if err == nil && len(named) > 0 {
		err = &mds.RefusedError{Records: named}
	}
	return receipt, err
}

// TestLettersElsewhere keeps no letters of what the store keeps itself, and writes nothing of a
// batch again that the store has.
func TestLettersElsewhere(t *testing.T) {
	w, letters := newWorld(), &drawer{}
	var told []float64
	c, err := ingest.New(t.Context(), naming{w}, ingest.Config[mds.Bar]{DeadLetters: letters, Workers: 1, Committed: func(_ mds.Tenant, records []mds.Bar, r mds.Receipt) {
		for i := range records {
			told = append(told, records[i].Close)
		}
		if r.Written != int64(len(records)) {
			t.Errorf("%+v of %d", r, len(records))
		}
	}})
	if err != nil {
		t.Fatal(err)
	}
	h := c.For(mds.DefaultTenant())
	first := submit(t, h, bar("s", 0, 1), bar("s", 1, -1), bar("s", 2, 2))
	second := submit(t, h, bar("s", 3, -2), bar("s", 4, 3), bar("s", 5, -1))
	stop(t, c)
	if o, err := first.Wait(t.Context()); o != (ingest.Outcome{Committed: 2, DeadLettered: 1}) || !errors.Is(err, ingest.ErrDeadLettered) || !errors.Is(err, errRefused) {
		t.Errorf("%+v, %v", o, err)
	}
	if o, _ := second.Wait(t.Context()); o != (ingest.Outcome{Committed: 1, DeadLettered: 2}) {
		t.Errorf("%+v", o)
	}
	var refused []int64
	for _, r := range second.Refused() {
		if refused = append(refused, r.Record.TS.Unix()); !errors.Is(r.Err, errRefused) {
			t.Error(r.Err)
		}
	}
	slices.Sort(refused)
	if want := []int64{bar("s", 3, 0).TS.Unix(), bar("s", 5, 0).TS.Unix()}; !slices.Equal(refused, want) {
		t.Errorf("%d of the second are refused, want %d", refused, want)
	}
	if l := c.Stats().Ledger; l.Accepted != 6 || l.Written != 3 || l.DeadLettered != 3 || l.Elsewhere != 2 || l.Dropped != 0 || l.Pending != 0 {
		t.Errorf("%+v", l)
	}
	if l := letters.kept(); len(l) != 1 || l[0].Record.Close != -2 {
		t.Errorf("letters %+v", l)
	}
	if !slices.Equal(told, []float64{1, 2, 3}) || len(w.stored()) != 3 || w.calls > 2 {
		t.Errorf("told %v, stored %v, %d writes", told, w.stored(), w.calls)
	}
}

// halving is a server that does not name whom it refuses, and then, of the first half, does,
// and of the second hears nothing more.
type halving struct {
	calls int
	hang  chan struct{}
}

func (h *halving) WriteBatch(ctx context.Context, _ mds.Tenant, batch []mds.Bar) (mds.Receipt, error) {
	switch h.calls++; h.calls {
	case 1:
		return mds.Receipt{}, errRefused
	case 2:
		return mds.Receipt{Written: int64(len(batch) - 1)}, &mds.RefusedError{Records: []mds.RefusedRecord{{Index: 0, Err: errRefused, Kept: true}}}
	}
	close(h.hang)
	<-ctx.Done()
	return mds.Receipt{}, ctx.Err()
}

// TestKeptElsewhereThenStopped gives nothing back as unwritten that the store keeps.
func TestKeptElsewhereThenStopped(t *testing.T) {
	w := &halving{hang: make(chan struct{})}
	c, err := ingest.New(t.Context(), w, ingest.Config[mds.Bar]{DeadLetters: &drawer{}, Workers: 1, BatchSize: 4})
	if err != nil {
		t.Fatal(err)
	}
	r := submit(t, c.For(mds.DefaultTenant()), bars("s", 4)...)
	<-w.hang
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var left *ingest.UnwrittenError[mds.Bar]
	if err := c.Stop(ctx); !errors.As(err, &left) {
		t.Fatal(err)
	}
	if o, _ := r.Wait(t.Context()); o != (ingest.Outcome{Committed: 1, DeadLettered: 1, Unwritten: 2}) {
		t.Errorf("%+v", o)
	}
	if l := c.Stats().Ledger; l.DeadLettered != 1 || l.Elsewhere != 1 || l.Pending != 2 {
		t.Errorf("%+v", l)
	}
}

// TestRefusedWithoutNames has a writer's error that names nobody be one of all.
func TestRefusedWithoutNames(t *testing.T) {
	done, err := ingest.Isolate(t.Context(), bars("s", 2), func(context.Context, []mds.Bar) (mds.Receipt, error) {
		return mds.Receipt{}, &mds.RefusedError{}
	})
	if err != nil || done.Done != 2 || len(done.Refused) != 2 || done.Refused[0].Err.Error() != "records were refused, and none is named" {
		t.Errorf("%+v, %v", done, err)
	}
}
