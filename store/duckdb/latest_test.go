package duckdb

import (
	"context"
	"slices"
	"testing"

	"github.com/marketdatastore/mds"
)

func (l *latest[R]) all() ([]R, bool) { return l.pick(func(*R) bool { return true }) }

// TestLatestWhileItIsRead writes, and removes, while the newest records are read.
func TestLatestWhileItIsRead(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	write(t, s, []mds.Bar{modelBar(0, 5, 1), modelBar(1, 5, 1)})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	l := latestOf[mds.Bar](f, "bars")
	schema := mds.SchemaOf[mds.Bar]()
	begin := func() (int, map[int64]mds.Bar) {
		reading, needed := l.begin(true)
		if !needed {
			t.Fatal("nothing is to be read")
		}
		_, was, _, err := table.readAllLatest(ctx, mds.DefaultTenant(), 10)
		if err != nil {
			t.Fatal(err)
		}
		return reading, was
	}
	check := func(what string, want ...mds.Bar) {
		t.Helper()
		got, err := table.Latest(ctx, mds.DefaultTenant(), mds.Selection{})
		if err != nil || !slices.Equal(got, want) {
			t.Errorf("%s: %v, %v; want %v", what, got, err, want)
		}
	}
	reading, was := begin()
	write(t, s, []mds.Bar{modelBar(0, 6, 2), modelBar(1, 4, 2)})
	l.end(&schema, reading, was, false)
	if _, known := l.all(); !known {
		t.Error("what was read is not kept")
	}
	check("written meanwhile", modelBar(0, 6, 2), modelBar(1, 5, 1))

	l.forget()
	reading, was = begin()
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"S0"}}); err != nil {
		t.Fatal(err)
	}
	l.end(&schema, reading, was, false)
	if _, known := l.all(); known {
		t.Error("what was read before a deletion is kept")
	}
	again, _ := l.begin(true)
	l.end(&schema, reading, was, false) // of the reading that was overtaken
	if l.state != latestReading {
		t.Error("a reading that was overtaken ends another")
	}
	l.end(&schema, again, nil, false)
	check("removed meanwhile", modelBar(1, 5, 1))

	write(t, s, []mds.Bar{modelBar(1, 4, 2)})
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"NONE"}}); err != nil {
		t.Fatal(err)
	}
	if _, known := l.all(); !known || f.series["bars"].marks == nil {
		t.Error("a deletion of nothing has what is known read again")
	}
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
		t.Fatal(err)
	}
	if f.series["bars"].marks != nil {
		t.Error("after a deletion the marks are not read again")
	}
	check("all removed")
}

// TestLatestOfTooMany has more series than are kept in memory, from the beginning or
// with the last write.
func TestLatestOfTooMany(t *testing.T) {
	ctx := context.Background()
	for _, most := range []int{3, 6} {
		s := open(t, t.TempDir(), Config{})
		s.maxLatest = most
		table := NewTable[mds.Bar](s)
		want := []mds.Bar{modelBar(0, 1, 1), modelBar(1, 1, 1), modelBar(2, 1, 1), modelBar(3, 1, 1), modelBar(4, 1, 1)}
		write(t, s, want)
		check := func() {
			t.Helper()
			for range 2 {
				if got, err := table.Latest(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || !slices.Equal(got, want) {
					t.Errorf("at most %d: %v, %v; want %v", most, got, err, want)
				}
				if got, err := table.Latest(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"S3"}}); err != nil || !slices.Equal(got, want[3:4]) {
					t.Errorf("at most %d: %v, %v; want %v", most, got, err, want[3:4])
				}
			}
		}
		check()
		f, err := s.file(ctx, mds.DefaultTenant())
		if err != nil {
			t.Fatal(err)
		}
		if _, known := latestOf[mds.Bar](f, "bars").all(); known != (most == 6) {
			t.Errorf("at most %d: known %v", most, known)
		}
		want = append(want, modelBar(5, 1, 1), modelBar(6, 1, 1))
		write(t, s, want)
		check()
		if state := latestOf[mds.Bar](f, "bars").state; state != latestTooMany {
			t.Errorf("at most %d: state %d with seven series", most, state)
		}
	}
}

// TestLatestOfAFewAmongMany reads them from the file, and leaves the rest there.
func TestLatestOfAFewAmongMany(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	batch := make([]mds.Bar, fewLatest+1)
	for i := range batch {
		batch[i] = modelBar(i, 1, 1)
	}
	write(t, s, batch)
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	l := latestOf[mds.Bar](f, "bars")
	ask := func(sel mds.Selection, want int) {
		t.Helper()
		if got, err := table.Latest(ctx, mds.DefaultTenant(), sel); err != nil || len(got) != want {
			t.Errorf("%d records, %v; want %d", len(got), err, want)
		}
	}
	for range 3 {
		ask(mds.Selection{Symbols: []string{"S77"}}, 1)
	}
	if _, known := l.all(); known || l.state != latestUnknown {
		t.Error("a question for one has all read")
	}
	ask(mds.Selection{}, fewLatest+1)
	if _, known := l.all(); !known {
		t.Error("what was read is not kept")
	}
	ask(mds.Selection{Symbols: []string{"S77"}}, 1)
}
