package mds

import (
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"
)

// ErrResample is wrapped by the refusal of bars that no others can be made of.
var ErrResample = errors.New("resample")

// Resample makes bars of a longer timeframe of those of a query in order of time (see
// [Query]): of each vendor and symbol one for each span that has any, in order of time,
// then of identity.
//
// Open is that of the first bar which has one, close that of the last, high and low are the
// largest and the smallest there are, volume and trade count the sums of those there are.
// VWAP is the mean of the bars' VWAPs, each counted as often as its volume says, of those
// that have both; it is missing where the volumes add up to nothing. Spans begin as
// [Timeframe.Truncate] says; days, weeks and months are those of zone for bars that have a
// time of day, such as New York's. Sums are in order of time, so that the same bars give
// the same figures.
//
// It ends with an error wrapping [ErrResample] for bars that are as long as the timeframe or
// do not fit into it, and where a symbol comes in two timeframes: pick one.
func Resample(bars iter.Seq2[Bar, error], to Timeframe, zone *time.Location) iter.Seq2[Bar, error] {
	if zone == nil {
		zone = time.UTC
	}
	return func(yield func(Bar, error) bool) {
		r := &resampler{span: span{to: to, zone: zone}, open: make(map[seriesName]*madeBar)}
		for bar, err := range bars {
			if err == nil {
				err = r.check(&bar)
			}
			if err != nil {
				yield(Bar{}, err)
				return
			}
			if !r.holds(&bar) {
				if !r.flush(yield) {
					return
				}
				r.begin(&bar)
			}
			if err := r.add(&bar); err != nil {
				yield(Bar{}, err)
				return
			}
		}
		r.flush(yield)
	}
}

type seriesName struct{ vendor, symbol string }

// madeBar is a bar that is being made.
type madeBar struct {
	bar            Bar
	from           Timeframe
	volume, priced float64 // volume of the bars that have a VWAP, and their prices by volume
}

// span is what the bars that are being made have in common.
type span struct {
	to         Timeframe
	zone       *time.Location
	label      time.Time
	start, end time.Time // instants, of which the end is not within
}

// holds reports whether a bar belongs to the span.
func (s *span) holds(bar *Bar) bool { return !bar.TS.Before(s.start) && bar.TS.Before(s.end) }

// begin begins the span that a bar belongs to.
func (s *span) begin(bar *Bar) {
	zone := s.zone
	if bar.Timeframe.Calendar() { // which are of dates, whatever the zone
		zone = time.UTC
	}
	s.start, s.end = s.to.Span(bar.TS, zone)
	s.label = s.to.Truncate(s.start.In(zone))
}

// resampler makes the bars of one span at a time.
type resampler struct {
	span
	open map[seriesName]*madeBar
}

func (r *resampler) check(bar *Bar) error {
	if !bar.Timeframe.Fits(r.to) {
		return fmt.Errorf("%w: bars of %s do not make up bars of %s", ErrResample, bar.Timeframe, r.to)
	}
	return nil
}

func (r *resampler) add(bar *Bar) error {
	name := seriesName{bar.Vendor, bar.Symbol}
	m := r.open[name]
	if m == nil {
		m = &madeBar{}
		m.first(bar, &r.span)
		r.open[name] = m
		return nil
	}
	if m.from != bar.Timeframe {
		return fmt.Errorf("%w: %s of %s has bars of %s and of %s: pick one timeframe", ErrResample, bar.Symbol, bar.Vendor, m.from, bar.Timeframe)
	}
	m.add(bar)
	return nil
}

// first begins with the first bar of a span.
func (m *madeBar) first(bar *Bar, s *span) {
	*m = madeBar{bar: *bar, from: bar.Timeframe}
	m.bar.Timeframe, m.bar.TS, m.bar.VWAP = s.to, s.label, None[float64]()
	m.price(bar)
}

// add adds a bar that comes later.
func (m *madeBar) add(bar *Bar) {
	if _, ok := m.bar.Open.Value(); !ok {
		m.bar.Open = bar.Open
	}
	m.bar.High = join(m.bar.High, bar.High, func(a, b float64) float64 { return max(a, b) })
	m.bar.Low = join(m.bar.Low, bar.Low, func(a, b float64) float64 { return min(a, b) })
	m.bar.Close = bar.Close
	m.bar.Volume = join(m.bar.Volume, bar.Volume, func(a, b float64) float64 { return a + b })
	m.bar.TradeCount = join(m.bar.TradeCount, bar.TradeCount, func(a, b int64) int64 { return a + b })
	m.price(bar)
}

func (m *madeBar) price(bar *Bar) {
	price, ok := bar.VWAP.Value()
	if volume, has := bar.Volume.Value(); ok && has {
		m.volume += volume
		m.priced += price * volume
	}
}

// made is the bar.
func (m *madeBar) made() Bar {
	if m.volume != 0 {
		m.bar.VWAP = Some(m.priced / m.volume)
	}
	return m.bar
}

// join joins two values, of which either may be missing.
func join[T comparable](a, b Opt[T], both func(T, T) T) Opt[T] {
	x, ok := a.Value()
	if !ok {
		return b
	}
	if y, ok := b.Value(); ok {
		return Some(both(x, y))
	}
	return a
}

// flush hands on the bars of the span, in order of identity.
func (r *resampler) flush(yield func(Bar, error) bool) bool {
	bars := make([]Bar, 0, len(r.open))
	for _, m := range r.open {
		bars = append(bars, m.made())
	}
	clear(r.open)
	schema := SchemaOf[Bar]()
	identity := schema.ByRole(Identity)
	slices.SortFunc(bars, func(a, b Bar) int { return Compare(identity, &a, &b) })
	for _, bar := range bars {
		if !yield(bar, nil) {
			return false
		}
	}
	return true
}

// Resampler makes longer bars of those of one series, which are added one by one in order
// of time: the same as [Resample].
type Resampler struct {
	span
	made madeBar
	open bool
}

// NewResampler returns one that makes bars of a timeframe, into which that of the bars
// that are added must fit (see [Timeframe.Fits]); days, weeks and months are those of
// zone, of UTC where it is nil.
func NewResampler(to Timeframe, zone *time.Location) *Resampler {
	if zone == nil {
		zone = time.UTC
	}
	return &Resampler{span: span{to: to, zone: zone}}
}

// Add adds a bar. Where it begins another span it returns the bar of the one before.
func (r *Resampler) Add(bar *Bar) (before Bar, ok bool) {
	if r.open && r.holds(bar) {
		r.made.add(bar)
		return Bar{}, false
	}
	before, ok = r.Flush()
	r.begin(bar)
	r.made.first(bar, &r.span)
	r.open = true
	return before, ok
}

// Flush returns the last bar, if any, after which another series may be added.
func (r *Resampler) Flush() (last Bar, ok bool) {
	if !r.open {
		return Bar{}, false
	}
	r.open = false
	return r.made.made(), true
}

// ResampleQuery asks a store for longer bars than it was given.
type ResampleQuery struct {
	// Selection picks the bars that they are made of, by one timeframe.
	Selection
	// Every is the timeframe of the bars that are made.
	Every Timeframe
	// Zone is that of days, weeks and months. Nil is UTC.
	Zone *time.Location
	// AsRefreshed takes rollups as they were made last, where there are any, without a look
	// at what changed since.
	AsRefreshed bool
	// Limit is the most bars to return; 0 or less means all.
	Limit int
	// Freshness, where it is set, is told once, before the first bar, what they are read
	// from.
	Freshness func(Freshness)
}

// Freshness says what the answer to a [ResampleQuery] is made from.
type Freshness struct {
	// Rollup tells that rollups are read, as far as they are good.
	Rollup bool
	// Stale are the changes of the bars asked for that are not in their rollups yet; the
	// oldest is of Since. Where they are asked for exactly, bars are read there.
	Stale int64
	Since time.Time
	// RefreshedAt is when these rollups were made last.
	RefreshedAt time.Time
	// KeptFrom is the time before which bars were dropped; zero where none were. Where
	// Rollup is false the answer has nothing from before.
	KeptFrom time.Time
}

// PolicyStatus is a policy and what became of it.
type PolicyStatus struct {
	Policy
	// KeptFrom is the time before which records were dropped; zero where none were.
	KeptFrom time.Time `json:"kept_from,omitzero"`
	// RefreshedAt is when rollups were made last; zero for never.
	RefreshedAt time.Time `json:"refreshed_at,omitzero"`
	// Stale are the changes of a tenant's bars that are not in their rollups yet; the oldest
	// is of StaleSince.
	Stale      int64     `json:"stale"`
	StaleSince time.Time `json:"stale_since,omitzero"`
}

// Refreshed says what a refresh of rollups did.
type Refreshed struct {
	// Spans of series that had changed are in the rollups now.
	Spans int64 `json:"spans"`
	// Bars were read for it, some several times.
	Bars int64 `json:"bars"`
	// Written are the rollups that are new or others than before; Removed those of which no
	// bars are left.
	Written int64 `json:"written"`
	Removed int64 `json:"removed"`
	// Late spans are older than what was dropped: their rollups stay as they are.
	Late int64 `json:"late"`
}

// Add returns the sum of two.
func (r Refreshed) Add(o Refreshed) Refreshed {
	return Refreshed{r.Spans + o.Spans, r.Bars + o.Bars, r.Written + o.Written, r.Removed + o.Removed, r.Late + o.Late}
}
