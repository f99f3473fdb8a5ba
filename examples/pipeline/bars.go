package main

import (
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// open is a bar that is being made.
type open struct {
	mds.Bar
	until    time.Duration // when it ends, since the replay began
	turnover float64
}

// bars makes bars of a recording that is played over and over, or so many times, and tells
// when each is complete, since the replay began. Those of the next time come after those of
// the last.
func (r *recording) bars(timeframe mds.Timeframe, times int) iter.Seq2[time.Duration, mds.Bar] {
	span := spans[timeframe]
	first, last := r.trades[0].at, r.trades[len(r.trades)-1].at
	period := (last - first).Truncate(span) + 2*span // no bar is of two of them
	return func(yield func(time.Duration, mds.Bar) bool) {
		var opened []open
		var now time.Duration
		for n := 0; times == 0 || n < times; n++ {
			for _, t := range r.trades {
				shift := time.Duration(n) * period
				t.at, t.ts, now = t.at+shift, t.ts.Add(shift), t.at+shift
				var more bool
				if opened, more = complete(opened, now, yield); !more {
					return
				}
				opened = add(opened, t, timeframe)
			}
		}
		complete(opened, now+span, yield)
	}
}

// spans of the timeframes that there are bars of.
var spans = map[mds.Timeframe]time.Duration{"1s": time.Second, "1m": time.Minute}

// complete yields the bars that have ended, and returns the others.
func complete(opened []open, now time.Duration, yield func(time.Duration, mds.Bar) bool) (rest []open, more bool) {
	for i := range opened {
		b := &opened[i]
		if b.until > now {
			rest = append(rest, *b)
			continue
		}
		if volume := b.Volume.Or(0); volume > 0 {
			b.VWAP = mds.Some(b.turnover / volume)
		}
		if !yield(now, b.Bar) {
			return nil, false
		}
	}
	return rest, true
}

// add has a trade in the bar it belongs to, which it begins where there is none.
func add(opened []open, t trade, timeframe mds.Timeframe) []open {
	i := slices.IndexFunc(opened, func(b open) bool { return b.Vendor == t.vendor && b.Symbol == t.symbol })
	if i < 0 {
		i = len(opened)
		ts := t.ts.Truncate(spans[timeframe])
		opened = append(opened, open{
			Bar: mds.Bar{
				Vendor: t.vendor, Symbol: t.symbol, Timeframe: timeframe, TS: ts,
				Open: mds.Some(t.price), High: mds.Some(t.price), Low: mds.Some(t.price),
			},
			until: t.at + ts.Add(spans[timeframe]).Sub(t.ts),
		})
	}
	b := &opened[i]
	b.High, b.Low, b.Close = mds.Some(max(b.High.Or(0), t.price)), mds.Some(min(b.Low.Or(0), t.price)), t.price
	b.Volume, b.TradeCount = mds.Some(b.Volume.Or(0)+t.size), mds.Some(b.TradeCount.Or(0)+1)
	b.turnover += t.price * t.size
	return opened
}

// clones are a bar and n-1 others like it, of synthetic symbols: SYMBOL~0001 and so on, each
// at a price and with a volume of its own.
func clones(bar mds.Bar, n int) []mds.Bar {
	all := make([]mds.Bar, n)
	for i := range all {
		all[i] = bar
		if i == 0 {
			continue
		}
		price, volume := 1+float64(i)/10_000, 1+float64(i%7)/10
		c := &all[i]
		c.Symbol = fmt.Sprintf("%s~%04d", bar.Symbol, i)
		c.Close *= price
		for _, p := range []*mds.Opt[float64]{&c.Open, &c.High, &c.Low, &c.VWAP} {
			if v, ok := p.Value(); ok {
				*p = mds.Some(v * price)
			}
		}
		c.Volume = mds.Some(c.Volume.Or(0) * volume)
	}
	return all
}

// series counts the series of a recording.
func (r *recording) series() int {
	seen := make(map[[2]string]bool)
	for _, t := range r.trades {
		seen[[2]string{t.vendor, t.symbol}] = true
	}
	return len(seen)
}
