// Package rollup works out which bars are to be made anew where shorter ones changed, and
// from which a question is answered. The engines do the reading and the writing.
//
// A writer notes, in its own transaction, the spans of series in which it wrote or deleted.
// Rollups are good outside of them: there they are read, and within the bars themselves.
// Times are microseconds since 1970, as the engines store them.
package rollup

import (
	"cmp"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Span is a stretch of a series in which something was written or deleted.
type Span struct {
	// ID is what the engine knows the value by that it is kept in.
	ID          int64
	Series      int64
	First, Last int64 // both within
	// Gone tells that something was deleted, so that rollups may be left of nothing.
	Gone bool
}

// Range is a stretch of a series, the end not within.
type Range struct {
	Series   int64
	From, To int64
}

// Notes are the spans of rows that come sorted by series and time.
type Notes struct {
	Series, First, Last []int64
	gap, most           int64
}

// A span goes on over so many bars that are missing, and is so many bars long at most, so
// that it can be made anew at once.
const (
	gapBars  = 60
	mostBars = 20_000
)

// NewNotes is for rows of bars of a timeframe, or of other records.
func NewNotes(source mds.Timeframe) *Notes {
	return &Notes{gap: gapBars * length(source), most: mostBars * length(source)}
}

// length is how long a bar is, in microseconds, roughly; of records without a timeframe a
// minute.
func length(tf mds.Timeframe) int64 {
	if tf == "" {
		tf = mds.Minute
	}
	start, end := tf.Span(time.Unix(0, 0), time.UTC)
	return end.Sub(start).Microseconds()
}

// Add notes a row.
func (n *Notes) Add(series, micros int64) {
	last := len(n.Series) - 1
	if last >= 0 && n.Series[last] == series && micros-n.Last[last] <= n.gap && micros-n.First[last] < n.most {
		n.Last[last] = micros
		return
	}
	n.Series, n.First, n.Last = append(n.Series, series), append(n.First, micros), append(n.Last, micros)
}

// Rule is what is kept of the bars of a timeframe.
type Rule struct {
	Source  mds.Timeframe
	Rollups []mds.Timeframe // shortest first
	Zone    *time.Location
	// KeptFrom is the time before which bars were dropped; the rollups of spans that begin
	// earlier stay as they are. Of a store that dropped none it is less than any.
	KeptFrom int64
	// RefreshedAt is when rollups were made last; zero for never.
	RefreshedAt time.Time
}

// zone is that of the days of a rollup.
func (r *Rule) zone() *time.Location {
	if r.Source.Calendar() { // which are dates, whatever the zone
		return time.UTC
	}
	return r.Zone
}

// bucket is when the rollup begins and ends that holds an instant.
func (r *Rule) bucket(to mds.Timeframe, micros int64) (from, until int64) {
	start, end := to.Span(time.UnixMicro(micros).UTC(), r.zone())
	return start.UnixMicro(), end.UnixMicro()
}

// kept is where the first rollup begins that may be made anew.
func (r *Rule) kept(to mds.Timeframe) int64 {
	if r.KeptFrom == Never {
		return Never
	}
	from, until := r.bucket(to, r.KeptFrom)
	if from < r.KeptFrom {
		return until
	}
	return from
}

// Never is the KeptFrom of a store that dropped no bars: the first instant that a record
// may have.
var Never = time.Date(1, 1, 1, 0, 0, 0, 0, time.UTC).UnixMicro()

// widen returns the whole rollups that spans touch, sorted and joined.
func (r *Rule) widen(to mds.Timeframe, spans []Span) []Range {
	ranges := make([]Range, 0, len(spans))
	kept := r.kept(to)
	for _, s := range spans {
		from, until := r.bucket(to, s.First)
		if s.Last >= until {
			_, until = r.bucket(to, s.Last)
		}
		if from = max(from, kept); from < until {
			ranges = append(ranges, Range{s.Series, from, until})
		}
	}
	return join(ranges)
}

// join sorts ranges and joins those that meet.
func join(ranges []Range) []Range {
	slices.SortFunc(ranges, func(a, b Range) int {
		return cmp.Or(cmp.Compare(a.Series, b.Series), cmp.Compare(a.From, b.From))
	})
	joined := ranges[:0]
	for _, next := range ranges {
		if n := len(joined); n > 0 && joined[n-1].Series == next.Series && next.From <= joined[n-1].To {
			joined[n-1].To = max(joined[n-1].To, next.To)
			continue
		}
		joined = append(joined, next)
	}
	return joined
}

// Pass is one reading of bars, of which some rollups are made.
type Pass struct {
	Rollups []mds.Timeframe
	Ranges  []Range
}

// Passes are the readings that make the rollups of spans anew: one of all, or one for each
// where whole days, say, would be read for many a minute that changed.
func (r *Rule) Passes(spans []Span) []Pass {
	if len(r.Rollups) == 0 {
		return nil
	}
	var each []Pass
	var all []Range
	var apart, kept int64 = 0, Never
	for _, to := range r.Rollups {
		p := Pass{[]mds.Timeframe{to}, r.widen(to, spans)}
		each, all, apart = append(each, p), append(all, p.Ranges...), apart+r.Bars(p.Ranges)
		kept = max(kept, r.kept(to))
	}
	// One reading has whole spans of all rollups: a week is no whole number of months. What
	// was dropped is whole for none.
	whole := Rule{Source: r.Source, Rollups: r.Rollups, Zone: r.Zone, KeptFrom: Never}
	all = join(all)
	for grown := true; grown; {
		grown = false
		for _, to := range r.Rollups {
			wide := whole.widen(to, asSpans(all))
			grown = grown || !slices.Equal(wide, all)
			all = wide
		}
		if r.Bars(all) > apart || slices.ContainsFunc(all, func(one Range) bool { return one.From < kept }) {
			return slices.DeleteFunc(each, func(p Pass) bool { return len(p.Ranges) == 0 })
		}
	}
	return []Pass{{r.Rollups, all}}
}

func asSpans(ranges []Range) []Span {
	spans := make([]Span, len(ranges))
	for i, r := range ranges {
		spans[i] = Span{Series: r.Series, First: r.From, Last: r.To - 1}
	}
	return spans
}

// Join returns the ranges that spans take, sorted by series and joined.
func Join(spans []Span) []Range {
	ranges := make([]Range, len(spans))
	for i, s := range spans {
		ranges[i] = Range{s.Series, s.First, s.Last + 1}
	}
	return join(ranges)
}

// Bars is how many bars there are in ranges, at most.
func (r *Rule) Bars(ranges []Range) (n int64) {
	for _, one := range ranges {
		n += (one.To-one.From)/length(r.Source) + 1
	}
	return n
}

// Take sorts spans, those of the newest of the longest rollups first, and returns how many
// of them are made anew by reading so many bars at most, one at least. What is of one series
// and one such rollup is together, so that its bars are read once.
func (r *Rule) Take(spans []Span, bars int64) int {
	if len(spans) == 0 {
		return 0
	}
	r.newestFirst(spans)
	low, high := 1, len(spans)
	for low < high {
		n := (low + high + 1) / 2
		if r.cost(spans[:n]) > bars {
			high = n - 1
		} else {
			low = n
		}
	}
	return low
}

// newestFirst sorts spans by the longest rollup that they end in, the newest first, then by
// series.
func (r *Rule) newestFirst(spans []Span) {
	longest := r.Rollups[len(r.Rollups)-1]
	type keyed struct {
		begins int64
		Span
	}
	sorted := make([]keyed, len(spans))
	var from, until int64
	for i, s := range spans {
		if s.Last < from || s.Last >= until {
			from, until = r.bucket(longest, s.Last)
		}
		sorted[i] = keyed{from, s}
	}
	slices.SortStableFunc(sorted, func(a, b keyed) int {
		return cmp.Or(cmp.Compare(b.begins, a.begins), cmp.Compare(a.Series, b.Series), cmp.Compare(b.Last, a.Last))
	})
	for i := range sorted {
		spans[i] = sorted[i].Span
	}
}

// cost is how many bars are read to make the rollups of spans anew, at most.
func (r *Rule) cost(spans []Span) (bars int64) {
	for _, p := range r.Passes(spans) {
		bars += r.Bars(p.Ranges)
	}
	return bars
}

// Late counts the spans of which some rollup stays as it is.
func (r *Rule) Late(spans []Span) (n int64) {
	for _, s := range spans {
		if s.First < r.KeptFrom {
			n++
		}
	}
	return n
}

// Maker makes the rollups of a pass from bars that come range by range, in order of time.
type Maker struct {
	rule   *Rule
	pass   *Pass
	makers []*mds.Resampler
	made   []mds.Rollup
}

// NewMaker begins a pass.
func (r *Rule) NewMaker(p *Pass) *Maker {
	m := &Maker{rule: r, pass: p}
	for _, to := range p.Rollups {
		m.makers = append(m.makers, mds.NewResampler(to, r.zone()))
	}
	return m
}

// Add adds a bar.
func (m *Maker) Add(bar *mds.Bar) {
	for _, of := range m.makers {
		if made, ok := of.Add(bar); ok {
			m.made = append(m.made, mds.Rollup{Bar: made, Source: m.rule.Source})
		}
	}
}

// Flush is to be called where a range ends.
func (m *Maker) Flush() {
	for _, of := range m.makers {
		if made, ok := of.Flush(); ok {
			m.made = append(m.made, mds.Rollup{Bar: made, Source: m.rule.Source})
		}
	}
}

// Made are the rollups made.
func (m *Maker) Made() []mds.Rollup { return m.made }

// Gone are the times of the rollups of which no bars may be left, the end not within.
func (r *Rule) Gone(to mds.Timeframe, spans []Span) []Range {
	ranges := r.widen(to, slices.DeleteFunc(slices.Clone(spans), func(s Span) bool { return !s.Gone }))
	if to.Calendar() {
		for i := range ranges {
			ranges[i].From, ranges[i].To = r.label(to, ranges[i].From), r.label(to, ranges[i].To)
		}
	}
	return ranges
}

// label is the time of the rollup that begins at an instant.
func (r *Rule) label(to mds.Timeframe, micros int64) int64 {
	return to.Truncate(time.UnixMicro(micros).In(r.zone())).UnixMicro()
}

// Kept knows rollups by their keys.
type Kept map[keptKey]bool

type keptKey struct {
	vendor, symbol string
	timeframe      mds.Timeframe
	micros         int64
}

// NewKept knows those that were made.
func NewKept(made []mds.Rollup) Kept {
	kept := make(Kept, len(made))
	for i := range made {
		r := &made[i]
		kept[keptKey{r.Vendor, r.Symbol, r.Timeframe, r.TS.UnixMicro()}] = true
	}
	return kept
}

// Has reports whether it knows one.
func (k Kept) Has(vendor, symbol string, timeframe mds.Timeframe, micros int64) bool {
	return k[keptKey{vendor, symbol, timeframe, micros}]
}

// MostSpans is how many spans are looked at together, and no more values than are needed
// for that.
const MostSpans = 50_000

// Names are timeframes as texts.
func Names(timeframes []mds.Timeframe) []string {
	names := make([]string, len(timeframes))
	for i, tf := range timeframes {
		names[i] = string(tf)
	}
	return names
}
