package duckdb

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// barModel is what a store of bars should hold.
type barModel struct {
	table *Table[mds.Bar]
	bars  map[string]mds.Bar
	clock int // of batches in order of time
	last  []mds.Bar
}

func modelKey(b *mds.Bar) string { return fmt.Sprint(b.Symbol, " ", b.TS.Unix()) }

func modelBar(symbol, minute int, close float64) mds.Bar {
	return mds.Bar{
		Vendor: "test", Symbol: fmt.Sprint("S", symbol), Timeframe: mds.Minute,
		TS: time.Unix(1_700_000_000+int64(minute)*60, 0).UTC(), Close: close,
	}
}

// draw draws a batch: in order of time, late, or one that was written before.
func (m *barModel) draw(t *rapid.T) []mds.Bar {
	const symbols = 5
	var batch []mds.Bar
	rows := rapid.IntRange(1, 60).Draw(t, "rows")
	close := float64(rapid.IntRange(0, 3).Draw(t, "close"))
	switch rapid.SampledFrom([]string{"ordered", "ordered", "late", "again", "backfill"}).Draw(t, "batch") {
	case "ordered":
		for i := range rows {
			batch = append(batch, modelBar(i%symbols, m.clock, close))
			if i%symbols == symbols-1 {
				m.clock++
			}
		}
		m.clock++
	case "late":
		for range rows {
			batch = append(batch, modelBar(rapid.IntRange(0, symbols).Draw(t, "symbol"), rapid.IntRange(0, m.clock).Draw(t, "minute"), close))
		}
	case "backfill":
		symbol := rapid.IntRange(0, symbols).Draw(t, "symbol")
		for i := range rows {
			batch = append(batch, modelBar(symbol, i-30, close))
		}
	default:
		batch = m.last
	}
	m.last = batch
	return batch
}

// write sends a batch and compares its receipt.
func (m *barModel) write(t *rapid.T, batch []mds.Bar) {
	var want mds.Receipt
	kept := make(map[string]mds.Bar)
	for i := range batch {
		kept[modelKey(&batch[i])] = batch[i]
	}
	want.Superseded = int64(len(batch) - len(kept))
	for key, b := range kept {
		if have, ok := m.bars[key]; ok && have == b {
			want.Unchanged++
		} else {
			want.Written++
		}
		m.bars[key] = b
	}
	got, err := m.table.WriteBatch(context.Background(), mds.DefaultTenant(), batch)
	if want.Modes = got.Modes; err != nil || got != want {
		t.Fatalf("receipt %+v, %v; want %+v", got, err, want)
	}
}

func (m *barModel) delete(t *rapid.T) {
	symbol := fmt.Sprint("S", rapid.IntRange(0, 5).Draw(t, "symbol"))
	from := rapid.IntRange(-30, m.clock).Draw(t, "from")
	start := modelBar(0, from, 0).TS
	maps.DeleteFunc(m.bars, func(_ string, b mds.Bar) bool { return b.Symbol == symbol && !b.TS.Before(start) })
	if _, err := m.table.Delete(context.Background(), mds.DefaultTenant(), mds.Selection{Symbols: []string{symbol}, Start: start}); err != nil {
		t.Fatal(err)
	}
}

// check compares every bar, and the newest of each symbol.
func (m *barModel) check(t *rapid.T) {
	ctx := context.Background()
	want := slices.SortedFunc(maps.Values(m.bars), func(a, b mds.Bar) int {
		return min(1, max(-1, 2*a.TS.Compare(b.TS)+strings.Compare(a.Symbol, b.Symbol)))
	})
	var got []mds.Bar
	for b, err := range m.table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%d bars are stored, want %d:\n%v\n%v", len(got), len(want), got, want)
	}
	newest := make(map[string]mds.Bar)
	for _, b := range want {
		newest[b.Symbol] = b
	}
	latest, err := m.table.Latest(ctx, mds.DefaultTenant(), mds.Selection{})
	if wantLatest := slices.SortedFunc(maps.Values(newest), func(a, b mds.Bar) int { return strings.Compare(a.Symbol, b.Symbol) }); err != nil || !slices.Equal(latest, wantLatest) {
		t.Fatalf("the latest are %v, %v; want %v", latest, err, wantLatest)
	}
}

// TestModelWithCompaction compares a store with a map under random batches in order,
// late, sent again and removed, while compaction runs all the time, and with files
// closed and opened between.
func TestModelWithCompaction(t *testing.T) {
	dir := t.TempDir()
	steps := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		m := &barModel{bars: make(map[string]mds.Bar)}
		for opening := range rapid.IntRange(1, 3).Draw(rt, "openings") {
			s, err := Open(ctx, dir, Config{})
			if err != nil {
				rt.Fatal(err)
			}
			s.layout = small
			m.table = NewTable[mds.Bar](s)
			if opening == 0 {
				if _, err := m.table.Delete(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
					rt.Fatal(err)
				}
			}
			stop, stopped := make(chan struct{}), make(chan error)
			go func() {
				var err error
				for running := true; running && err == nil; {
					var done mds.Compaction
					done, err = m.table.Compact(ctx, mds.DefaultTenant())
					steps += done.Steps
					select {
					case <-stop:
						running = false
					default:
					}
				}
				stopped <- err
			}()
			func() {
				defer func() {
					close(stop)
					if err := <-stopped; err != nil {
						rt.Fatal(err)
					}
				}()
				for range rapid.IntRange(1, 6).Draw(rt, "actions") {
					switch rapid.IntRange(0, 9).Draw(rt, "action") {
					case 0:
						m.delete(rt)
					case 1, 2:
						m.check(rt)
					default:
						m.write(rt, m.draw(rt))
					}
				}
				m.check(rt)
			}()
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if steps == 0 {
		t.Error("nothing was compacted")
	}
}
