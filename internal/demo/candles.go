package demo

import (
	"fmt"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Combine joins neighbouring bars of one series, in order of time, into bars
// of a longer intraday timeframe. Bars without a price of a kind count with
// their close.
func Combine(bars []mds.Bar, timeframe mds.Timeframe) []mds.Bar {
	var out []mds.Bar
	for _, b := range bars {
		start := timeframe.Truncate(b.TS)
		high, low := b.High.Or(b.Close), b.Low.Or(b.Close)
		if n := len(out); n > 0 && out[n-1].TS.Equal(start) {
			last := &out[n-1]
			last.High = mds.Some(max(last.High.Or(high), high))
			last.Low = mds.Some(min(last.Low.Or(low), low))
			last.Close = b.Close
			last.Volume = mds.Some(last.Volume.Or(0) + b.Volume.Or(0))
			continue
		}
		out = append(out, mds.Bar{
			Vendor: b.Vendor, Symbol: b.Symbol, Timeframe: timeframe, TS: start,
			Open: mds.Some(b.Open.Or(b.Close)), High: mds.Some(high), Low: mds.Some(low), Close: b.Close,
			Volume: mds.Some(b.Volume.Or(0)),
		})
	}
	return out
}

// Candles draws one column a bar: a thin line from high to low, a thick one
// from open to close, light where the close is below the open. With color,
// rising bars are green and falling ones red (ANSI escapes).
func Candles(bars []mds.Bar, height int, color bool) string {
	if len(bars) == 0 || height < 2 {
		return ""
	}
	top, bottom := bars[0].High.Or(bars[0].Close), bars[0].Low.Or(bars[0].Close)
	for _, b := range bars {
		top, bottom = max(top, b.High.Or(b.Close)), min(bottom, b.Low.Or(b.Close))
	}
	if top == bottom {
		top, bottom = top+0.5, bottom-0.5
	}
	step := (top - bottom) / float64(height)
	var out strings.Builder
	for line := range height {
		ceiling := top - float64(line)*step
		floor := ceiling - step
		var cells strings.Builder
		for _, b := range bars {
			cells.WriteString(cell(b, floor, ceiling, color))
		}
		fmt.Fprintf(&out, "%10.2f ┤%s\n", (ceiling+floor)/2, strings.TrimRight(cells.String(), " "))
	}
	out.WriteString(axis(bars))
	return out.String()
}

// cell is the part of a candle between two prices.
func cell(b mds.Bar, floor, ceiling float64, color bool) string {
	open := b.Open.Or(b.Close)
	upper, lower := max(open, b.Close), min(open, b.Close)
	high, low := max(b.High.Or(upper), upper), min(b.Low.Or(lower), lower)
	rising := b.Close >= open
	mark := " "
	switch {
	case upper >= floor && lower <= ceiling && rising:
		mark = "█"
	case upper >= floor && lower <= ceiling:
		mark = "░"
	case high >= floor && low <= ceiling:
		mark = "│"
	}
	if !color || mark == " " {
		return mark
	}
	if mark == "░" {
		mark = "█" // the color tells
	}
	code := "31"
	if rising {
		code = "32"
	}
	return "\x1b[" + code + "m" + mark + "\x1b[0m"
}

// axis labels the hours under the candles, in UTC.
func axis(bars []mds.Bar) string {
	const margin = 12
	line := []rune(strings.Repeat(" ", margin+len(bars)+6))
	next := 0
	for i, b := range bars {
		if b.TS.Minute() != 0 || b.TS.Second() != 0 || i < next {
			continue
		}
		label := b.TS.UTC().Format(time.TimeOnly)[:5]
		copy(line[margin+i:], []rune(label))
		next = i + len(label) + 1
	}
	return strings.TrimRight(string(line), " ") + "\n"
}
