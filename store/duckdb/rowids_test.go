package duckdb

import (
	"context"
	"errors"
	"strconv"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// TestQueryBeneathCheckpoint removes old news and has the file written out, which
// gives the rows that stay new ids, while a query goes by those they have.
func TestQueryBeneathCheckpoint(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.News](s)
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	const n, batch = 260_000, 130_000
	for at := 0; at < n; at += batch {
		items := make([]mds.News, batch)
		for i := range items {
			id := strconv.Itoa(at + i)
			items[i] = mds.News{Vendor: "v", ID: id, Title: "title " + id, PublishedAt: start.Add(time.Duration(at+i) * time.Second)}
		}
		if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), items); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	writeOut := func() {
		if err := f.taking(ctx, func() error { return f.writeOut(ctx) }); err != nil {
			t.Fatal(err)
		}
	}
	writeOut()
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{End: start.Add(batch * time.Second)}); err != nil {
		t.Fatal(err)
	}
	read := 0
	for item, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{Limit: 5000}) {
		if err != nil {
			t.Fatalf("after %d items: %v", read, err)
		}
		if want := strconv.Itoa(batch + read); item.ID != want || item.Title != "title "+want {
			t.Fatalf("item %d has the title %q, want that of %s", read, item.Title, want)
		}
		if read == 100 || read == 2000 {
			writeOut()
		}
		read++
	}
	if read != 5000 {
		t.Errorf("%d items were read", read)
	}
}

// TestAsTheyLieBeneathCheckpoint reads bars by their row ids while removed ones are dropped
// and those behind them would get other ids: each that is left is read once.
func TestAsTheyLieBeneathCheckpoint(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	start := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	const n, batch = 390_000, 130_000
	for at := 0; at < n; at += batch {
		bars := make([]mds.Bar, batch)
		for i := range bars {
			bars[i] = mds.Bar{Vendor: "v", Symbol: "A", Timeframe: "1s", TS: start.Add(time.Duration(at+i) * time.Second), Close: float64(at + i)}
		}
		if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), bars); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	writeOut := func() {
		if err := f.taking(ctx, func() error { return f.writeOut(ctx) }); err != nil {
			t.Fatal(err)
		}
	}
	writeOut()
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{End: start.Add(batch * time.Second)}); err != nil {
		t.Fatal(err)
	}
	seen := make(map[float64]int)
	for bar, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{Unordered: true}) {
		if err != nil {
			t.Fatal(err)
		}
		if seen[bar.Close]++; len(seen) == 100 || len(seen) == 50_000 {
			writeOut()
		}
	}
	if len(seen) != n-batch {
		t.Errorf("%d of %d bars were read", len(seen), n-batch)
	}
	for price, times := range seen {
		if times != 1 || price < batch {
			t.Fatalf("bar %v was read %d times", price, times)
		}
	}
}

// TestWidenRefusesOtherRows goes by ids that are no longer of the same rows.
func TestWidenRefusesOtherRows(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.News](s)
	at := time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC)
	if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), []mds.News{{Vendor: "v", ID: "1", Title: "a title", PublishedAt: at}}); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		fact fact[mds.News]
		want error
	}{
		{"the row", fact[mds.News]{series: 1, micros: at.UnixMicro(), row: 0}, nil},
		{"no row", fact[mds.News]{series: 1, micros: at.UnixMicro(), row: 77}, errMoved},
		{"another time", fact[mds.News]{series: 1, micros: at.UnixMicro() + 1, row: 0}, errMoved},
		{"another series", fact[mds.News]{series: 2, micros: at.UnixMicro(), row: 0}, errMoved},
	} {
		err := table.read(ctx, "query", mds.DefaultTenant(), mds.Selection{}, func(conn *reader, _ *selected[mds.News]) error {
			return table.widen(ctx, conn, []fact[mds.News]{c.fact}, true)
		})
		if !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", c.name, err, c.want)
		}
	}
}
