package main

import (
	"context"
	"math"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/realdata"
)

// TestRecordings: the figures are those of testdata/count.py.
func TestRecordings(t *testing.T) {
	rec, err := load(filepath.Join(realdata.Dir(t), "ticks", "cryptofeed"))
	if err != nil {
		t.Fatal(err)
	}
	if rec.messages != 14_532 || len(rec.trades) != 99 || rec.series() != 10 {
		t.Errorf("%d trades in %d messages, of %d series; want 99 in 14532, of 10", len(rec.trades), rec.messages, rec.series())
	}
	for timeframe, want := range map[mds.Timeframe]int{"1s": 37, "1m": 13} {
		bars, count, volume := 0, int64(0), 0.0
		for _, bar := range rec.bars(timeframe, 1) {
			bars, count, volume = bars+1, count+bar.TradeCount.Or(0), volume+bar.Volume.Or(0)
		}
		if bars != want || count != 99 || math.Abs(volume-55_136.547) > 1e-6 {
			t.Errorf("%s: %d bars of %d trades with a volume of %v; want %d of 99 with 55136.547", timeframe, bars, count, volume, want)
		}
	}
}

func TestDecode(t *testing.T) {
	messages, trades := decode("coinbase", []byte(`wss://feed <-> 100.0
wss://feed <- 100.5: {"type":"match","product_id":"SENT","price":"1","size":"1","time":"1970-01-01T00:01:40Z"}
101.25: {"type":"subscriptions"}
102: {"type":"match","product_id":"A-B","price":"2.5","size":"0.5","time":"1970-01-01T00:01:42.25Z","more":[1]}
103: {"type":"last_match","product_id":"A-B","price":"2.5","size":"0.5","time":"1970-01-01T00:01:42.25Z"}
104: {"stream":"x","data":{"e":"aggTrade","E":104001,"s":"CD","p":"3","q":"4","T":104000}}
105: [1,{"a":[]},"book","X/Y"]
106: {"type":"match","product_id":"A-B","price":"none","size":"1","time":"1970-01-01T00:01:42Z"}
107: {"type":"match"
`))
	want := []trade{
		{vendor: "coinbase", symbol: "A-B", price: 2.5, size: 0.5, ts: time.Unix(102, 25e7).UTC(), at: time.Second},
		{vendor: "coinbase", symbol: "CD", price: 3, size: 4, ts: time.Unix(104, 0).UTC(), at: 2750 * time.Millisecond},
	}
	if messages != 7 || !slices.Equal(trades, want) {
		t.Errorf("of %d messages\n%+v\nwant of 7\n%+v", messages, trades, want)
	}
}

func TestLoadRefuses(t *testing.T) {
	for dir, want := range map[string]string{
		"testdata/absent": "recordings: open testdata/absent: no such file or directory",
		"testdata":        "recordings: there is no trade of Coinbase or Binance in the files of testdata",
	} {
		if _, err := load(dir); err == nil || err.Error() != want {
			t.Errorf("%s: %v", dir, err)
		}
	}
}

// TestBars plays two symbols, twice.
func TestBars(t *testing.T) {
	start := time.Date(2024, 3, 4, 14, 30, 0, 0, time.UTC)
	at := func(symbol string, ms int, price, size float64) trade {
		d := time.Duration(ms) * time.Millisecond
		return trade{vendor: "v", symbol: symbol, price: price, size: size, ts: start.Add(d), at: d}
	}
	rec := &recording{trades: []trade{at("A", 100, 10, 1), at("A", 500, 12, 3), at("B", 900, 7, 1), at("A", 999, 9, 4), at("B", 2000, 8, 0)}}
	bar := func(symbol string, second int, o, h, l, c, volume, vwap float64, n int64) mds.Bar {
		return mds.Bar{
			Vendor: "v", Symbol: symbol, Timeframe: "1s", TS: start.Add(time.Duration(second) * time.Second), Open: mds.Some(o), High: mds.Some(h),
			Low: mds.Some(l), Close: c, Volume: mds.Some(volume), VWAP: mds.Some(vwap), TradeCount: mds.Some(n),
		}
	}
	last, again := bar("B", 2, 8, 8, 8, 8, 0, 0, 1), bar("B", 5, 8, 8, 8, 8, 0, 0, 1)
	last.VWAP, again.VWAP = mds.None[float64](), mds.None[float64]() // without volume there is none
	want := []mds.Bar{
		bar("A", 0, 10, 12, 9, 9, 8, 10.25, 3), bar("B", 0, 7, 7, 7, 7, 1, 7, 1), last,
		bar("A", 3, 10, 12, 9, 9, 8, 10.25, 3), bar("B", 3, 7, 7, 7, 7, 1, 7, 1), again,
	}
	var got []mds.Bar
	var ended []time.Duration
	for at, b := range rec.bars("1s", 2) {
		got, ended = append(got, b), append(ended, at)
	}
	if !slices.Equal(got, want) {
		t.Errorf("got\n%+v\nwant\n%+v", got, want)
	}
	const second = time.Second
	if want := []time.Duration{2 * second, 2 * second, 3100 * time.Millisecond, 5 * second, 5 * second, 6 * second}; !slices.Equal(ended, want) {
		t.Errorf("complete at %v, want %v", ended, want)
	}
}

func TestClones(t *testing.T) {
	all := clones(mds.Bar{Symbol: "A", Open: mds.Some(100.0), Close: 200, Volume: mds.Some(10.0)}, 3)
	var told []string
	for _, b := range all {
		told = append(told, b.Symbol+" "+b.Open.String()+" "+b.High.String()+" "+mds.Some(b.Close).String()+" "+b.Volume.String())
	}
	if got := strings.Join(told, ", "); got != "A 100  200 10, A~0001 100.01  200.02 11, A~0002 100.02  200.04 12" {
		t.Error(got)
	}
}

// TestWalk: ten symbols in 76 of their seconds, each time the same.
func TestWalk(t *testing.T) {
	rec := walk()
	bars := 0
	for _, bar := range rec.bars("1s", 1) {
		bars++
		if err := bar.Validate(); err != nil {
			t.Error(err)
		}
	}
	if bars != 76 || rec.series() != 10 || !slices.Equal(rec.trades, walk().trades) {
		t.Errorf("%d bars of %d series", bars, rec.series())
	}
}

// steady is a writer that takes no time.
type steady struct{}

func (steady) WriteBatch(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{Written: 1}, nil
}

// TestThrottle writes 100 bars each 100 ms, or as fast as it can.
func TestThrottle(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &throttled{Writer: steady{}, throttle: throttle{2 * time.Second, 4 * time.Second, 0.2}, began: time.Now()}
		took := make(map[int]int) // by the second
		for time.Since(w.began) < 5*time.Second {
			second := int(time.Since(w.began) / time.Second)
			if r, err := w.WriteBatch(t.Context(), mds.DefaultTenant(), make([]mds.Bar, 100)); err != nil || r.Written != 1 {
				t.Fatal(r, err)
			}
			took[second] += 100
			if second < 2 || second >= 4 {
				<-time.After(100 * time.Millisecond)
			}
		}
		for second, want := range []int{1000, 1000, 200, 200, 1000} {
			if took[second] != want {
				t.Errorf("in second %d it took %d, want %d", second, took[second], want)
			}
		}
	})
}
