package storetest

import (
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// modelKey is the key of a bar in the model.
type modelKey struct {
	vendor, symbol string
	timeframe      mds.Timeframe
	ts             time.Time
}

func keyOf(b mds.Bar) modelKey { return modelKey{b.Vendor, b.Symbol, b.Timeframe, b.TS} }

// testModel makes random batches, replays, deletions and reopenings and
// compares store and receipts with a map after each.
func testModel(t *testing.T, h *harness) {
	rapid.Check(t, func(rt *rapid.T) {
		if _, err := h.bars.Delete(h.ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
			rt.Fatal(err)
		}
		m := &model{T: rt, h: h, bars: make(map[modelKey]mds.Bar)}
		rt.Repeat(map[string]func(*rapid.T){
			"write":  m.write,
			"replay": m.replay,
			"delete": m.delete,
			"reopen": func(*rapid.T) { h.reopen() },
			"":       m.check,
		})
	})
}

type model struct {
	*rapid.T
	h    *harness
	bars map[modelKey]mds.Bar
	last []mds.Bar
}

func (m *model) write(t *rapid.T) {
	m.last = rapid.SliceOfN(rapid.Custom(drawBar), 0, 40).Draw(t, "batch")
	m.send(t, m.last)
}

// replay sends a batch that was sent before: perhaps newer data is there.
func (m *model) replay(t *rapid.T) { m.send(t, m.last) }

func (m *model) send(t *rapid.T, batch []mds.Bar) {
	kept := make(map[modelKey]mds.Bar)
	for _, b := range batch {
		kept[keyOf(b)] = b
	}
	want := mds.Receipt{Superseded: int64(len(batch) - len(kept))}
	for key, b := range kept {
		if have, ok := m.bars[key]; ok && have == b {
			want.Unchanged++
			continue
		}
		want.Written++
		m.bars[key] = b
	}
	got, err := m.h.bars.WriteBatch(m.h.ctx, mds.DefaultTenant(), batch)
	if err != nil || got != want {
		t.Fatalf("receipt %+v, %v; want %+v", got, err, want)
	}
}

func (m *model) delete(t *rapid.T) {
	var sel mds.Selection
	if rapid.Bool().Draw(t, "by symbol") {
		sel.Symbols = []string{drawSymbol(t)}
	}
	sel.Start = drawMinute(t)
	sel.End = sel.Start.Add(time.Duration(rapid.IntRange(1, 10).Draw(t, "minutes")) * time.Minute)
	var want int64
	for key := range m.bars {
		if selects(sel, key) {
			delete(m.bars, key)
			want++
		}
	}
	if got, err := m.h.bars.Delete(m.h.ctx, mds.DefaultTenant(), sel); err != nil || got != want {
		t.Fatalf("deleted %d, %v; want %d", got, err, want)
	}
}

func selects(sel mds.Selection, key modelKey) bool {
	return (len(sel.Symbols) == 0 || slices.Contains(sel.Symbols, key.symbol)) &&
		!key.ts.Before(sel.Start) && key.ts.Before(sel.End)
}

func (m *model) check(t *rapid.T) {
	want := make([]mds.Bar, 0, len(m.bars))
	for _, b := range m.bars {
		want = append(want, b)
	}
	slices.SortFunc(want, compareBars)
	var got []mds.Bar
	for b, err := range m.h.bars.Query(m.h.ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("the store holds %d bars\n%+v\nand the model %d\n%+v", len(got), got, len(want), want)
	}
}

// compareBars orders as a query does.
func compareBars(a, b mds.Bar) int {
	for _, order := range []int{
		a.TS.Compare(b.TS),
		strings.Compare(a.Vendor, b.Vendor),
		strings.Compare(a.Symbol, b.Symbol),
		strings.Compare(string(a.Timeframe), string(b.Timeframe)),
	} {
		if order != 0 {
			return order
		}
	}
	return 0
}

// drawBar draws a stored-form bar from few keys and values, so that batches
// collide with themselves and each other.
func drawBar(t *rapid.T) mds.Bar {
	b := bar(drawSymbol(t), drawMinute(t), float64(rapid.IntRange(1, 2).Draw(t, "close")))
	if rapid.Bool().Draw(t, "daily") {
		b.Timeframe = mds.Day
		b.TS = mds.Day.Truncate(b.TS)
	}
	if rapid.Bool().Draw(t, "has volume") {
		b.Volume = mds.Some(float64(rapid.IntRange(0, 1).Draw(t, "volume")))
	}
	if rapid.Bool().Draw(t, "has count") {
		b.TradeCount = mds.Some(int64(rapid.IntRange(0, 1).Draw(t, "count")))
	}
	return b
}

func drawSymbol(t *rapid.T) string {
	return rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "symbol")
}

func drawMinute(t *rapid.T) time.Time {
	return at(9, rapid.IntRange(0, 20).Draw(t, "minute"))
}
