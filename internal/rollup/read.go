package rollup

import (
	"cmp"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Window is a stretch of time that is answered from bars, or else from their rollups.
// Zero bounds are open.
type Window struct {
	Start, End time.Time
	Bars       bool
}

// mostWindows bounds how many readings answer one question: stretches that are near each
// other are read from bars together.
const mostWindows = 100

// Windows are what bars of a timeframe are made of within a selection's window, in order of
// time: of rollups, where they are whole and as the bars are now, and otherwise of bars.
// What was touched is given as spans of any series. Where bars were dropped there are
// rollups only, each of which is told where it begins within the window.
func (r *Rule) Windows(to mds.Timeframe, sel mds.Selection, touched []Span) []Window {
	start, end := Never, forever
	if !sel.Start.IsZero() {
		start = mds.Bound(sel.Start, r.Source.Calendar())
	}
	if !sel.End.IsZero() {
		end = mds.Bound(sel.End, r.Source.Calendar())
	}
	if start >= end {
		return nil
	}
	var bars []Range
	for _, s := range touched {
		from, _ := r.bucket(to, s.First)
		_, until := r.bucket(to, s.Last)
		bars = append(bars, Range{From: from, To: until})
	}
	if from, until := r.bucket(to, start); from < start {
		bars = append(bars, Range{From: start, To: until})
	}
	if from, _ := r.bucket(to, end); from < end && end != forever {
		bars = append(bars, Range{From: from, To: end})
	}
	kept := r.kept(to)
	bars = slices.DeleteFunc(bars, func(one Range) bool { return one.To <= max(start, kept) || one.From >= end })
	for i := range bars {
		bars[i].From, bars[i].To = max(bars[i].From, start, kept), min(bars[i].To, end)
	}
	bars = fewer(join(bars))
	var windows []Window
	add := func(from, until int64, ofBars bool) {
		if from >= until {
			return
		}
		w := Window{Bars: ofBars}
		if from > Never {
			w.Start = time.UnixMicro(from).In(r.zone())
		}
		if until < forever {
			w.End = time.UnixMicro(until).In(r.zone())
		}
		windows = append(windows, w)
	}
	at := start
	for _, one := range bars {
		add(at, one.From, false)
		add(one.From, one.To, true)
		at = one.To
	}
	add(at, end, false)
	return windows
}

// forever is after the last instant that a record may have.
var forever = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// fewer joins ranges of time over the smallest gaps, where there are too many.
func fewer(ranges []Range) []Range {
	if len(ranges) <= mostWindows {
		return ranges
	}
	gaps := make([]int64, 0, len(ranges))
	for i := 1; i < len(ranges); i++ {
		gaps = append(gaps, ranges[i].From-ranges[i-1].To)
	}
	slices.SortFunc(gaps, func(a, b int64) int { return cmp.Compare(b, a) })
	least := gaps[mostWindows-1] // gaps that are larger stay
	joined := ranges[:1]
	for _, next := range ranges[1:] {
		if next.From-joined[len(joined)-1].To > least {
			joined = append(joined, next)
		} else {
			joined[len(joined)-1].To = next.To
		}
	}
	return joined
}

// Finest is the longest of the rollups of which bars of a timeframe are made where there
// are no bars any more, "" where there is none: days of another zone are not made of days.
func (r *Rule) Finest(to mds.Timeframe, zone *time.Location) mds.Timeframe {
	for _, tf := range slices.Backward(r.Rollups) {
		if !r.Answers(tf, zone) || tf != to && !tf.Fits(to) {
			continue
		}
		// Zones are whole quarters of an hour from UTC, and some no whole hours.
		if to.Calendar() && !tf.Calendar() && zone != time.UTC && tf.Duration() > 15*time.Minute {
			continue
		}
		return tf
	}
	return ""
}

// Answers reports whether rollups of a timeframe are what is asked for by those whose days
// are of zone.
func (r *Rule) Answers(to mds.Timeframe, zone *time.Location) bool {
	return slices.Contains(r.Rollups, to) && (!to.Calendar() || r.Source.Calendar() || zone.String() == r.Zone.String())
}
