package demo

import (
	"hash/fnv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func TestWeek(t *testing.T) {
	schema := mds.SchemaOf[mds.Bar]()
	hash := func() (sum uint64, n int) {
		h := fnv.New64a()
		var last time.Time
		for bar := range Week() {
			n++
			if err := bar.Validate(); err != nil {
				t.Fatal(err)
			}
			if bar.Vendor != Vendor || !strings.HasPrefix(bar.Symbol, "SYN") || bar != bar.Normalized() || bar.TS.Before(last) || schema.Warning(&bar) != "" {
				t.Fatalf("bar %+v", bar)
			}
			last = bar.TS
			if n%100 == 0 {
				h.Write([]byte(bar.Symbol + bar.TS.String() + bar.Volume.String()))
			}
		}
		return h.Sum64(), n
	}
	first, n := hash()
	second, _ := hash()
	if n != Bars || first != second {
		t.Errorf("%d bars, want %d; two weeks are equal: %v", n, Bars, first == second)
	}
}

func TestCombine(t *testing.T) {
	at := func(minute int) time.Time { return time.Date(2026, 1, 5, 14, minute, 0, 0, time.UTC) }
	minute := func(m int, open, high, low, last, volume float64) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "S", Timeframe: mds.Minute, TS: at(m), Close: last,
			Open: mds.Some(open), High: mds.Some(high), Low: mds.Some(low), Volume: mds.Some(volume)}
	}
	got := Combine([]mds.Bar{minute(31, 2, 5, 1, 3, 10), minute(34, 3, 4, 0.5, 4, 5), minute(36, 4, 4, 4, 4, 1)}, mds.Minute5)
	want := []mds.Bar{minute(30, 2, 5, 0.5, 4, 15), minute(35, 4, 4, 4, 4, 1)}
	for i := range want {
		want[i].Timeframe = mds.Minute5
	}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("combined %+v, want %+v", got, want)
	}
}

func TestCandles(t *testing.T) {
	bar := func(minute int, open, high, low, last float64) mds.Bar {
		return mds.Bar{TS: time.Date(2026, 1, 5, 15, minute, 0, 0, time.UTC), Close: last,
			Open: mds.Some(open), High: mds.Some(high), Low: mds.Some(low)}
	}
	got := Candles([]mds.Bar{bar(0, 1.5, 4, 1, 2.5), bar(5, 2.5, 2.9, 0.1, 0.5)}, 4, false)
	want := `      3.50 ┤│
      2.50 ┤█░
      1.50 ┤█░
      0.50 ┤│░
            15:00
`
	// The range is 0.1 to 4: labels are the middles of four equal parts.
	want = strings.NewReplacer("3.50", "3.51", "2.50", "2.54", "1.50", "1.56", "0.50", "0.59").Replace(want)
	if got != want {
		t.Errorf("candles\n%swant\n%s", got, want)
	}
	if Candles(nil, 4, false) != "" || !strings.Contains(Candles([]mds.Bar{bar(0, 1, 1, 1, 1)}, 3, true), "\x1b[32m█") {
		t.Error("no bars, or a flat one in color")
	}
}
