package duckdb

import (
	"context"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// changedAt is when a row of a view was written, of those that meet a condition.
func changedAt(t *testing.T, f *file, view, where string) (at time.Time) {
	t.Helper()
	err := f.pool.Load().QueryRow("SELECT updated_at FROM " + view + " WHERE " + where).Scan(&at)
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// TestLateToTheMicrosecond has rows of three moments, and records that come late as of the
// second: what changed in the same microsecond stays.
func TestLateToTheMicrosecond(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	news := NewTable[mds.News](s)
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	item := func(id, title string) mds.News {
		return mds.News{Vendor: "test", ID: id, PublishedAt: time.Unix(60, 0).UTC(), Title: title}
	}
	var lateBars []mds.Bar
	var lateNews []mds.News
	for i, id := range []string{"0", "1", "2"} {
		write(t, s, []mds.Bar{modelBar(i, 0, 1)})
		if _, err := news.WriteBatch(ctx, mds.DefaultTenant(), []mds.News{item(id, "old")}); err != nil {
			t.Fatal(err)
		}
		lateBars, lateNews = append(lateBars, modelBar(i, 0, 2)), append(lateNews, item(id, "late"))
	}
	want := func(kind string, got mds.Receipt, err error, written int64) {
		t.Helper()
		if got.Modes = 0; err != nil || got != (mds.Receipt{Written: written, Superseded: 3 - written}) {
			t.Errorf("%s: %+v, %v; want %d of 3 written, the others superseded", kind, got, err, written)
		}
	}
	second := changedAt(t, f, "bars", "symbol = '"+lateBars[1].Symbol+"'")
	receipt, err := NewTable[mds.Bar](s).WriteLate(ctx, mds.DefaultTenant(), lateBars, second.Add(999*time.Nanosecond))
	want("bars", receipt, err, 1)
	second = changedAt(t, f, "news", "id = '1'")
	receipt, err = news.WriteLate(ctx, mds.DefaultTenant(), lateNews, second.Add(999*time.Nanosecond))
	want("news", receipt, err, 1)
	for i := range lateNews {
		lateNews[i].Title, lateBars[i].Close = "later", 3
	}
	// Now the second row is the oldest: the first was written after it.
	second = changedAt(t, f, "bars", "symbol = '"+lateBars[1].Symbol+"'")
	receipt, err = NewTable[mds.Bar](s).WriteLate(ctx, mds.DefaultTenant(), lateBars, second.Add(time.Microsecond))
	want("bars, a microsecond later", receipt, err, 1)
	second = changedAt(t, f, "news", "id = '1'")
	receipt, err = news.WriteLate(ctx, mds.DefaultTenant(), lateNews, second.Add(time.Microsecond))
	want("news, a microsecond later", receipt, err, 1)
}

// TestLateInTurn has a late batch wait between others that are to be written with it: each
// meets what those before it wrote.
func TestLateInTurn(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	write(t, s, []mds.Bar{modelBar(0, 0, 1)})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	past, future := time.Unix(0, 0), time.Now().Add(time.Hour)
	f.writer <- struct{}{}
	var wg sync.WaitGroup
	for i, b := range []struct {
		as      *time.Time
		price   float64
		receipt mds.Receipt
	}{
		{price: 2, receipt: mds.Receipt{Superseded: 1}}, // by the next, with which it is written
		{price: 3, receipt: mds.Receipt{Written: 1, Modes: mds.WroteMerge}},
		{as: &past, price: 4, receipt: mds.Receipt{Superseded: 1, Modes: mds.WroteMerge}},
		{as: &past, price: 3, receipt: mds.Receipt{Unchanged: 1, Modes: mds.WroteMerge}},
		{as: &future, price: 5, receipt: mds.Receipt{Written: 1, Modes: mds.WroteMerge}},
		{price: 6, receipt: mds.Receipt{Written: 1, Modes: mds.WroteMerge}},
	} {
		wg.Go(func() {
			batch := []mds.Bar{modelBar(0, 0, b.price)}
			var receipt mds.Receipt
			var err error
			if b.as == nil {
				receipt, err = table.WriteBatch(ctx, mds.DefaultTenant(), batch)
			} else {
				receipt, err = table.WriteLate(ctx, mds.DefaultTenant(), batch, *b.as)
			}
			if receipt != b.receipt || err != nil {
				t.Errorf("batch %d: %+v, %v; want %+v", i, receipt, err, b.receipt)
			}
		})
		waitFor(t, queueOf[mds.Bar](f, "bars"), i+1)
	}
	f.unlockWriter()
	wg.Wait()
	for b, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil || b != modelBar(0, 0, 6) {
			t.Errorf("stored is %+v, %v; want the last batch's bar", b, err)
		}
	}
}
