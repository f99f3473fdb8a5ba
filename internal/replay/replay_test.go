package replay

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/sink"
)

var diedAt = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

// deadBar is a letter of a bar that validates, submitted so many seconds after nine.
func deadBar(symbol string, closing float64, seconds int) deadletter.Letter {
	bar := mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC), Close: closing}
	return deadletter.Letter{
		Kind: "bars", Tenant: mds.DefaultTenant(), Code: "exhausted", Reason: "given up", Attempts: 5,
		Submitted: diedAt.Add(time.Duration(seconds) * time.Second), Died: diedAt.Add(time.Duration(seconds) * time.Minute), Record: deadletter.Encode(&bar),
	}
}

// bury keeps letters, and returns where they are and their ids.
func bury(t *testing.T, letters ...deadletter.Letter) (dir deadletter.Dir, ids []string) {
	t.Helper()
	dir.Path = t.TempDir()
	log, err := deadletter.Open(deadletter.Config{Dir: dir.Path})
	if err == nil {
		err = errors.Join(log.Append(t.Context(), letters), log.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
	for i := range letters {
		ids = append(ids, letters[i].ID)
	}
	return dir, ids
}

// buried are the ids that are there.
func buried(t *testing.T, dir deadletter.Dir) string {
	t.Helper()
	var ids []string
	for letter, err := range dir.Letters(t.Context(), deadletter.Filter{}) {
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return strings.Join(ids, " ")
}

// run replays into a table of bars.
func run(t *testing.T, r *Replay, table lateFunc) (Ledger, error) {
	t.Helper()
	if _, err := r.Pick(t.Context()); err != nil {
		t.Fatal(err)
	}
	err := r.Run(t.Context(), func(name string) (Kind, bool) { return KindOf[mds.Bar](table, sink.Config{}), name == "bars" })
	return r.Ledger(), err
}

// TestEndsInTheMiddle: what the store took before it failed is removed, the rest stays, and
// the ledger says so.
func TestEndsInTheMiddle(t *testing.T) {
	var letters []deadletter.Letter
	for n := range 5 {
		letters = append(letters, deadBar(fmt.Sprint("S", n), 1, n))
	}
	dir, ids := bury(t, letters...)
	failing := errors.New("the disk is full")
	writes := 0
	l, err := run(t, New(Config{Dir: dir}), func(batch []mds.Bar, as time.Time) (mds.Receipt, error) {
		if writes++; writes > 2 {
			return mds.Receipt{}, retryableError{failing}
		}
		if want := diedAt.Add(time.Duration(5-writes) * time.Second); !as.Equal(want) {
			t.Errorf("write %d is of %v, want %v", writes, as, want)
		}
		return mds.Receipt{Written: int64(len(batch))}, nil
	})
	if !errors.Is(err, failing) || l != (Ledger{Read: 5, Receipt: mds.Receipt{Written: 2}}) || l.Unwritten() != 3 || buried(t, dir) != strings.Join(ids[:3], " ") {
		t.Errorf("%v, %+v, left are %s", err, l, buried(t, dir))
	}
}

// TestInParts: of two letters of one submit with the same key the last stays, also where the
// batch is refused for a third one and written in parts.
func TestInParts(t *testing.T) {
	dir, ids := bury(t, deadBar("K", 4, 0), deadBar("K", 5, 0), deadBar("POISON", 1, 0))
	stored := 0.0
	var refused []string
	r := New(Config{Dir: dir, Refused: func(letter *deadletter.Letter, err error) {
		refused = append(refused, letter.ID+": "+err.Error())
	}})
	l, err := run(t, r, func(batch []mds.Bar, _ time.Time) (mds.Receipt, error) {
		if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Symbol == "POISON" }) {
			return mds.Receipt{}, errors.New("no")
		}
		if stored != 0 { // what was written late by then stays
			return mds.Receipt{Superseded: int64(len(batch))}, nil
		}
		stored = batch[len(batch)-1].Close
		return mds.Receipt{Written: 1, Superseded: int64(len(batch) - 1)}, nil
	})
	if err != nil || stored != 5 || l != (Ledger{Read: 3, Receipt: mds.Receipt{Written: 1, Superseded: 1}, Refused: 1}) || !slices.Equal(refused, []string{ids[2] + ": no"}) || buried(t, dir) != ids[2] {
		t.Errorf("%v, stored is %v, left are %s, %+v, %q", err, stored, buried(t, dir), l, refused)
	}
}

// TestBesideAWriter has letters be kept while others are replayed: those stay, and are not
// taken for the ones that are written.
func TestBesideAWriter(t *testing.T) {
	dir := deadletter.Dir{Path: t.TempDir()}
	log, err := deadletter.Open(deadletter.Config{Dir: dir.Path})
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	keep := func(symbol string) string {
		letters := []deadletter.Letter{deadBar(symbol, 1, 0)}
		if err := log.Append(t.Context(), letters); err != nil {
			t.Fatal(err)
		}
		return letters[0].ID
	}
	keep("BEFORE")
	var late string
	var wrote []string
	l, err := run(t, New(Config{Dir: dir}), func(batch []mds.Bar, _ time.Time) (mds.Receipt, error) {
		late = keep("MEANWHILE")
		for _, b := range batch {
			wrote = append(wrote, b.Symbol)
		}
		return mds.Receipt{Written: int64(len(batch))}, nil
	})
	if err != nil || l.Written != 1 || !slices.Equal(wrote, []string{"BEFORE"}) || buried(t, dir) != late {
		t.Errorf("%v, %+v, wrote %v, left are %s", err, l, wrote, buried(t, dir))
	}
	after := keep("AFTER") // the writer's file is still there
	if got := buried(t, dir); got != late+" "+after {
		t.Errorf("left are %s", got)
	}
}

// TestWrittenEnds has an error of who is told of what is done end the replay.
func TestWrittenEnds(t *testing.T) {
	var letters []deadletter.Letter
	for n := range AtOnce + 1 {
		letters = append(letters, deadBar(fmt.Sprint("S", n), 1, 0))
	}
	dir, ids := bury(t, letters...)
	enough := errors.New("enough")
	var told []Ledger
	_, err := run(t, New(Config{Dir: dir, Overwrite: true, Written: func(l Ledger) error {
		told = append(told, l)
		return enough
	}}), func(batch []mds.Bar, _ time.Time) (mds.Receipt, error) {
		return mds.Receipt{Written: int64(len(batch))}, nil
	})
	if !errors.Is(err, enough) || len(told) != 1 || told[0].Written != 5000 || told[0].Read != 5001 || buried(t, dir) != ids[5000] {
		t.Errorf("%v, %+v, left are %s", err, told, buried(t, dir))
	}
}

// lateFunc is a table that late records are written into, or with a zero time others.
type lateFunc func([]mds.Bar, time.Time) (mds.Receipt, error)

type retryableError struct{ error }

func (f lateFunc) WriteLate(_ context.Context, _ mds.Tenant, batch []mds.Bar, as time.Time) (mds.Receipt, error) {
	if as.IsZero() {
		return mds.Receipt{}, errors.New("it is not said when they were submitted")
	}
	return f(batch, as)
}

func (f lateFunc) WriteBatch(_ context.Context, _ mds.Tenant, batch []mds.Bar) (mds.Receipt, error) {
	return f(batch, time.Time{})
}

func (retryableError) Retryable() bool { return true }

func (e retryableError) Unwrap() error { return e.error }

// TestBackwards: where a batch is written in parts, the newest of a key is written
// first, the records of a part are in order, and the guilty one is found.
func TestBackwards(t *testing.T) {
	var parts []string
	write := backwards(surviving(func(_ context.Context, batch []int) (mds.Receipt, error) {
		for i, n := range batch {
			switch n {
			case 3:
				panic("poison")
			case 5:
				return mds.Receipt{}, &mds.RecordError{Index: i, Err: errors.New("five")}
			case 1:
				return mds.Receipt{}, &mds.RefusedError{Records: []mds.RefusedRecord{{Index: i}, {Index: len(batch) - 1, Kept: true}}}
			}
		}
		parts = append(parts, fmt.Sprint(batch))
		return mds.Receipt{Written: int64(len(batch))}, nil
	}))
	_, err := write(t.Context(), []int{7, 6, 5, 4})
	var record *mds.RecordError
	if !errors.As(err, &record) || record.Index != 2 {
		t.Errorf("%v", err)
	}
	_, err = write(t.Context(), []int{12, 11, 10, 1, 0}) // as 0 1 10 11 12, of which 1 and 12 are refused
	var several *mds.RefusedError
	if !errors.As(err, &several) || !slices.Equal(several.Records, []mds.RefusedRecord{{Index: 0, Kept: true}, {Index: 3}}) {
		t.Errorf("%v", err)
	}
	_, err = write(t.Context(), []int{4, 3})
	var panicked *ingest.PanicError
	if !errors.As(err, &panicked) || panicked.Value != "poison" {
		t.Errorf("%v", err)
	}
	batch := []int{9, 8}
	if receipt, err := write(t.Context(), batch); err != nil || receipt.Written != 2 || batch[0] != 9 || fmt.Sprint(parts) != "[[8 9]]" {
		t.Errorf("%+v, %v, %v, %v", receipt, err, batch, parts)
	}
}
