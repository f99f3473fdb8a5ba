package rollup

import (
	"iter"
	"time"

	"github.com/marketdatastore/mds"
)

// Reader reads from one snapshot of a store, one sequence at a time.
type Reader struct {
	// Rule is what is kept of the bars; nil where nothing is said of them.
	Rule    *Rule
	Bars    func(mds.Selection) iter.Seq2[mds.Bar, error]
	Rollups func(mds.Selection) iter.Seq2[mds.Rollup, error]
	// Touched are the spans of the series asked for that have something between two
	// instants, and the time of the oldest.
	Touched func(from, until int64) ([]Span, time.Time, error)
}

// Answer yields the bars that a question asks for, in order of time, then of identity.
func (r *Reader) Answer(q mds.ResampleQuery) iter.Seq2[mds.Bar, error] {
	zone := q.Zone
	if zone == nil {
		zone = time.UTC
	}
	return func(yield func(mds.Bar, error) bool) {
		of := mds.Timeframe("")
		if r.Rule != nil {
			of = r.Rule.Finest(q.Every, zone)
			if of != q.Every && r.Rule.KeptFrom == Never {
				of = "" // bars there are
			}
		}
		var fresh mds.Freshness
		var spans []Span
		if of != "" {
			var err error
			if fresh, spans, err = r.freshness(q.Selection, of); err != nil {
				yield(mds.Bar{}, err)
				return
			}
			if q.AsRefreshed {
				spans = nil
			}
		}
		if r.Rule != nil && r.Rule.KeptFrom != Never {
			fresh.KeptFrom = time.UnixMicro(r.Rule.KeptFrom).UTC()
		}
		if r.Rule != nil && of != "" {
			fresh.RefreshedAt = r.Rule.RefreshedAt
		}
		if q.Freshness != nil {
			q.Freshness(fresh)
		}
		for bar, err := range r.parts(q, of, spans, zone) {
			if !yield(bar, err) || err != nil {
				return
			}
		}
	}
}

// parts are the bars of a question: of rollups of a timeframe, "" for none, as far as they
// go.
func (r *Reader) parts(q mds.ResampleQuery, of mds.Timeframe, spans []Span, zone *time.Location) iter.Seq2[mds.Bar, error] {
	switch of {
	case "":
		return mds.Resample(r.Bars(q.Selection), q.Every, zone)
	case q.Every:
		return r.mixed(q.Selection, of, spans)
	}
	// There are none of this timeframe: those where bars were dropped are made of shorter
	// ones.
	kept := time.UnixMicro(r.Rule.KeptFrom)
	until, end := q.Every.Span(kept, zone)
	if until.Before(kept) {
		until = end
	}
	dropped, rest := q.Selection, q.Selection
	if dropped.End.IsZero() || dropped.End.After(until) {
		dropped.End = until
	}
	if rest.Start.Before(until) {
		rest.Start = until
	}
	return func(yield func(mds.Bar, error) bool) {
		for _, part := range []iter.Seq2[mds.Bar, error]{r.mixed(dropped, of, spans), r.Bars(rest)} {
			for bar, err := range mds.Resample(part, q.Every, zone) {
				if !yield(bar, err) || err != nil {
					return
				}
			}
		}
	}
}

// freshness tells of rollups of a timeframe within a selection, and the spans of its series
// that changed since.
func (r *Reader) freshness(sel mds.Selection, of mds.Timeframe) (fresh mds.Freshness, spans []Span, err error) {
	from, until := Never, forever
	if !sel.Start.IsZero() {
		from, _ = r.Rule.bucket(of, mds.Bound(sel.Start, r.Rule.Source.Calendar()))
	}
	if !sel.End.IsZero() {
		_, until = r.Rule.bucket(of, mds.Bound(sel.End, r.Rule.Source.Calendar()))
	}
	spans, fresh.Since, err = r.Touched(from, until)
	fresh.Rollup, fresh.Stale = true, int64(len(spans))
	return fresh, spans, err
}

// mixed yields rollups where they are whole and good, and makes the rest of bars.
func (r *Reader) mixed(sel mds.Selection, of mds.Timeframe, spans []Span) iter.Seq2[mds.Bar, error] {
	return func(yield func(mds.Bar, error) bool) {
		for _, w := range r.Rule.Windows(of, sel, spans) {
			for bar, err := range r.window(sel, of, w) {
				if !yield(bar, err) || err != nil {
					return
				}
			}
		}
	}
}

// window yields what one window has.
func (r *Reader) window(sel mds.Selection, of mds.Timeframe, w Window) iter.Seq2[mds.Bar, error] {
	sel.Start, sel.End = w.Start, w.End
	if w.Bars {
		return mds.Resample(r.Bars(sel), of, r.Rule.zone())
	}
	where := map[string][]string{"source": {string(r.Rule.Source)}}
	for name, values := range sel.Where {
		if name != "timeframe" {
			where[name] = values
		}
	}
	sel.Timeframe, sel.Where = of, where
	return func(yield func(mds.Bar, error) bool) {
		for rollup, err := range r.Rollups(sel) {
			if !yield(rollup.Bar, err) || err != nil {
				return
			}
		}
	}
}
