package arrow

import (
	"time"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// zoneOf is the zone of a timestamp column, nil where it has none.
type zoneOf = *time.Location

const (
	microsecond = 1
	second      = 1_000_000 * microsecond
	day         = 24 * 3600 * second

	// The first microsecond of year 1 and the last of year 9999: others are bad.
	firstMicro = -62135596800 * second
	lastMicro  = 253402300800*second - 1
)

// micros turns the values of a column into microseconds since 1970. It reports
// false for one that is finer, or that no record may have.
type micros func(v int64) (int64, bool)

func scaled(unit int64) micros {
	return func(v int64) (int64, bool) {
		return v * unit, v >= firstMicro/unit && v <= lastMicro/unit
	}
}

func microsOf(unit arrow.TimeUnit) micros {
	switch unit {
	case arrow.Second:
		return scaled(second)
	case arrow.Millisecond:
		return scaled(1000 * microsecond)
	case arrow.Microsecond:
		return scaled(microsecond)
	}
	return func(v int64) (int64, bool) { return v / 1000, v%1000 == 0 }
}

// moments is a column of timestamps or dates.
type moments struct {
	nulls
	of     micros
	values func(row int) int64
	zone   zoneOf
	// wall says that the values are wall clocks, dated that they are dates.
	wall, dated bool
}

// newMoments reports false for a type whose values are read one by one.
func newMoments(t arrow.DataType, zone zoneOf) (moments, bool) {
	switch t := t.(type) {
	case *arrow.TimestampType:
		return moments{of: microsOf(t.Unit), zone: zone, wall: zone == nil}, true
	case *arrow.Date32Type:
		return moments{of: scaled(day), dated: true}, true
	case *arrow.Date64Type:
		whole := func(v int64) (int64, bool) {
			us, ok := scaled(1000)(v)
			return us, ok && us%day == 0
		}
		return moments{of: whole, dated: true}, true
	}
	return moments{}, false
}

func (m *moments) bind(a arrow.Array) {
	m.nulls.bind(a)
	switch a := a.(type) {
	case *array.Timestamp:
		values := a.Values()
		m.values = func(row int) int64 { return int64(values[row]) }
	case *array.Date32:
		values := a.Values()
		m.values = func(row int) int64 { return int64(values[row]) }
	case *array.Date64:
		values := a.Values()
		m.values = func(row int) int64 { return int64(values[row]) }
	}
}

// timeFiller fills a column of instants.
type timeFiller[R mds.Record[R]] struct {
	moments
	table *codec.Table[R]
	to    func(*R) *time.Time
	// timeframe is that of a record, which the time hangs on; nil where it does not.
	timeframe func(*R) mds.Timeframe
}

func newTimeFiller[R mds.Record[R]](table *codec.Table[R], c *mds.Column[R], t arrow.DataType, zone zoneOf) filler[R] {
	m, ok := newMoments(t, zone)
	if !ok {
		return nil
	}
	f := &timeFiller[R]{moments: m, table: table, to: c.Time}
	if c.Role == mds.Time {
		f.timeframe = table.Schema().Timeframe
	}
	return f
}

func (f *timeFiller[R]) fill(records []R, at int, slow []bool) {
	utc := f.zone == time.UTC
	for i := range records {
		record := &records[i]
		if f.null(at + i) {
			*f.to(record) = time.Time{}
			continue
		}
		us, ok := f.of(f.values(at + i))
		if !ok {
			slow[i] = true
			continue
		}
		switch {
		case utc:
			*f.to(record) = time.UnixMicro(us).UTC()
		case f.timeframe != nil && f.timeframe(record).Calendar():
			*f.to(record) = f.date(us)
		case f.dated:
			*f.to(record) = time.UnixMicro(us).UTC()
			slow[i] = slow[i] || f.timeframe != nil // an intraday bar has no date
		case f.wall:
			offset, ok := f.table.Offset(floor(us, second))
			*f.to(record) = time.UnixMicro(us - offset*second).UTC()
			slow[i] = slow[i] || !ok
		default:
			*f.to(record) = time.UnixMicro(us).UTC()
		}
	}
}

// date is a time that shows the date of a calendar bar.
func (f *timeFiller[R]) date(us int64) time.Time {
	t := time.UnixMicro(us)
	if f.zone != nil {
		return t.In(f.zone)
	}
	return t.UTC()
}

// floor divides, rounding down.
func floor(n, by int64) int64 {
	q := n / by
	if n%by < 0 {
		q--
	}
	return q
}

// dateFiller fills a column of days.
type dateFiller[R any] struct {
	moments
	to   func(*R) *mds.Date
	last int64 // that day is of
	day  mds.Date
}

func newDateFiller[R any](c *mds.Column[R], t arrow.DataType, zone zoneOf) filler[R] {
	m, ok := newMoments(t, zone)
	if !ok {
		return nil
	}
	return &dateFiller[R]{moments: m, to: c.Date, day: mds.DateOf(time.Unix(0, 0).UTC())}
}

func (f *dateFiller[R]) fill(records []R, at int, slow []bool) {
	for i := range records {
		if f.null(at + i) {
			*f.to(&records[i]) = mds.Date{}
			continue
		}
		us, ok := f.of(f.values(at + i))
		// A day that a clock shows, and one whose time of day would be cut, take more care.
		if !ok || us%day != 0 || f.zone != nil && f.zone != time.UTC {
			slow[i] = true
			continue
		}
		if us != f.last {
			f.last, f.day = us, mds.DateOf(time.UnixMicro(us).UTC())
		}
		*f.to(&records[i]) = f.day
	}
}
