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
		r := &resampler{to: to, zone: zone, open: make(map[seriesName]*span)}
		for bar, err := range bars {
			if err == nil {
				err = r.check(&bar)
			}
			if err != nil {
				yield(Bar{}, err)
				return
			}
			if at := r.begin(&bar); !at.Equal(r.at) {
				if !r.flush(yield) {
					return
				}
				r.at = at
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

// span is a bar that is being made.
type span struct {
	bar            Bar
	from           Timeframe
	volume, priced float64 // volume of the bars that have a VWAP, and their prices by volume
}

// resampler makes the bars of one span at a time.
type resampler struct {
	to   Timeframe
	zone *time.Location
	at   time.Time // when the span begins
	open map[seriesName]*span
}

// fits reports whether bars of a timeframe make up one of another.
func fits(from, to Timeframe) bool {
	switch {
	case from == to || !from.Valid() || !to.Valid():
		return false
	case !from.Calendar() && !to.Calendar():
		return to.Duration() > from.Duration() && to.Duration()%from.Duration() == 0
	case !from.Calendar():
		return true
	}
	return from == Day && (to == Week || to == Month)
}

func (r *resampler) check(bar *Bar) error {
	if !fits(bar.Timeframe, r.to) {
		return fmt.Errorf("%w: bars of %s do not make up bars of %s", ErrResample, bar.Timeframe, r.to)
	}
	return nil
}

// begin is when the span begins that a bar belongs to.
func (r *resampler) begin(bar *Bar) time.Time {
	if r.to.Calendar() && !bar.Timeframe.Calendar() {
		return r.to.Truncate(bar.TS.In(r.zone))
	}
	return r.to.Truncate(bar.TS.UTC())
}

func (r *resampler) add(bar *Bar) error {
	name := seriesName{bar.Vendor, bar.Symbol}
	s := r.open[name]
	if s == nil {
		s = &span{bar: *bar, from: bar.Timeframe}
		s.bar.Timeframe, s.bar.TS, s.bar.VWAP = r.to, r.at, None[float64]()
		r.open[name] = s
	} else {
		if s.from != bar.Timeframe {
			return fmt.Errorf("%w: %s of %s has bars of %s and of %s: pick one timeframe", ErrResample, bar.Symbol, bar.Vendor, s.from, bar.Timeframe)
		}
		if _, ok := s.bar.Open.Value(); !ok {
			s.bar.Open = bar.Open
		}
		s.bar.High = join(s.bar.High, bar.High, func(a, b float64) float64 { return max(a, b) })
		s.bar.Low = join(s.bar.Low, bar.Low, func(a, b float64) float64 { return min(a, b) })
		s.bar.Close = bar.Close
		s.bar.Volume = join(s.bar.Volume, bar.Volume, func(a, b float64) float64 { return a + b })
		s.bar.TradeCount = join(s.bar.TradeCount, bar.TradeCount, func(a, b int64) int64 { return a + b })
	}
	price, ok := bar.VWAP.Value()
	if volume, has := bar.Volume.Value(); ok && has {
		s.volume += volume
		s.priced += price * volume
	}
	return nil
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
	for _, s := range r.open {
		if s.volume != 0 {
			s.bar.VWAP = Some(s.priced / s.volume)
		}
		bars = append(bars, s.bar)
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
