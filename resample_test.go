package mds_test

import (
	"errors"
	"iter"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func inTime(bars ...mds.Bar) iter.Seq2[mds.Bar, error] { return sequence(bars) }

// resampled collects the bars, up to an error.
func resampled(bars iter.Seq2[mds.Bar, error], to mds.Timeframe, zone *time.Location) (list []mds.Bar, err error) {
	for b, err := range mds.Resample(bars, to, zone) {
		if err != nil {
			return list, err
		}
		list = append(list, b)
	}
	return list, nil
}

func TestResample(t *testing.T) {
	at := func(hour, minute int) time.Time { return time.Date(2024, 3, 5, hour, minute, 0, 0, time.UTC) }
	some := mds.Some[float64]
	bar := func(symbol string, at time.Time, open, high, low mds.Opt[float64], price float64, volume, vwap mds.Opt[float64]) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: at, Open: open, High: high, Low: low, Close: price, Volume: volume, VWAP: vwap}
	}
	none := mds.None[float64]()
	counted := bar("A", at(9, 59), some(4), some(9), some(2), 6, some(30), some(5))
	counted.TradeCount = mds.Some(int64(7))
	got, err := resampled(inTime(
		bar("A", at(9, 30), none, some(3), some(1), 2, some(10), some(2)), // no open
		bar("B", at(9, 31), some(1), none, none, 1.5, none, some(1)),      // a VWAP without a volume counts for nothing
		bar("A", at(9, 31), some(2), none, some(0.5), 3, none, none),
		counted,
		bar("B", at(9, 59), some(7), none, none, 2.5, some(0), some(1)),
		bar("B", at(11, 0), some(8), some(8), some(8), 8, some(1), some(8)), // nothing at 10
		bar("A", at(11, 0), some(5), some(5), some(5), 5, none, none),
	), mds.Hour, nil)
	if err != nil {
		t.Fatal(err)
	}
	// By hand: A's VWAP is (10×2 + 30×5) / 40.
	a := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Hour, TS: at(9, 0), Open: some(2), High: some(9), Low: some(0.5), Close: 6, Volume: some(40), VWAP: some(4.25), TradeCount: mds.Some(int64(7))}
	b := mds.Bar{Vendor: "v", Symbol: "B", Timeframe: mds.Hour, TS: at(9, 0), Open: some(1), Close: 2.5, Volume: some(0)}
	later := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Hour, TS: at(11, 0), Open: some(5), High: some(5), Low: some(5), Close: 5}
	last := mds.Bar{Vendor: "v", Symbol: "B", Timeframe: mds.Hour, TS: at(11, 0), Open: some(8), High: some(8), Low: some(8), Close: 8, Volume: some(1), VWAP: some(8)}
	if want := []mds.Bar{a, b, later, last}; !slices.Equal(got, want) {
		t.Errorf("got\n%v\nwant\n%v", got, want)
	}
}

// TestResampleDays has a day be New York's for bars with a time of day, and the date that
// it says for daily ones.
func TestResampleDays(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	minute := func(ts time.Time, price float64) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: ts, Close: price}
	}
	evening := time.Date(2020, 11, 28, 0, 59, 0, 0, time.UTC) // 19:59 on the 27th
	got, err := resampled(inTime(minute(evening.Add(-4*time.Hour), 1), minute(evening, 2), minute(evening.Add(24*time.Hour), 3)), mds.Day, newYork)
	if err != nil || len(got) != 2 || got[0].Close != 2 || !got[0].TS.Equal(time.Date(2020, 11, 27, 0, 0, 0, 0, time.UTC)) || !got[1].TS.Equal(time.Date(2020, 11, 28, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("days of New York: %v, %v", got, err)
	}
	daily := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Day, TS: time.Date(2020, 11, 30, 0, 0, 0, 0, time.UTC), Close: 1} // a Monday
	got, err = resampled(inTime(daily), mds.Week, newYork)
	if err != nil || len(got) != 1 || !got[0].TS.Equal(daily.TS) {
		t.Errorf("a week: %v, %v", got, err)
	}
}

func TestResampleRefuses(t *testing.T) {
	bar := func(tf mds.Timeframe) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: tf, TS: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), Close: 1}
	}
	for _, c := range []struct {
		bars []mds.Bar
		to   mds.Timeframe
		want string
	}{
		{[]mds.Bar{bar(mds.Hour)}, mds.Hour, "bars of 1h do not make up bars of 1h"},
		{[]mds.Bar{bar("2m")}, "3m", "bars of 2m do not make up bars of 3m"},
		{[]mds.Bar{bar(mds.Day)}, mds.Hour, "bars of 1d do not make up bars of 1h"},
		{[]mds.Bar{bar(mds.Week)}, mds.Month, "bars of 1w do not make up bars of 1mo"},
		{[]mds.Bar{bar(mds.Minute), bar("5m")}, mds.Hour, "A of v has bars of 1m and of 5m: pick one timeframe"},
	} {
		if _, err := resampled(inTime(c.bars...), c.to, nil); !errors.Is(err, mds.ErrResample) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%s to %s: %v", c.bars[0].Timeframe, c.to, err)
		}
	}
	broken := errors.New("broken")
	_, err := resampled(func(yield func(mds.Bar, error) bool) { yield(mds.Bar{}, broken) }, mds.Hour, nil)
	if !errors.Is(err, broken) {
		t.Error(err)
	}
}
