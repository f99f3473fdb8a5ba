package arrow

import (
	"math"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/bitutil"
	"github.com/apache/arrow-go/v18/arrow/float16"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// nulls tells which values of a batch are missing.
type nulls struct {
	bits   []byte // nil where none is
	offset int
}

func (n *nulls) bind(a arrow.Array) {
	n.bits = nil
	if a.NullN() > 0 {
		n.bits, n.offset = a.NullBitmapBytes(), a.Data().Offset()
	}
}

// isNull reports a value that is missing.
func isNull(a arrow.Array, row int) bool { return a.DataType().ID() == arrow.NULL || a.IsNull(row) }

func (n *nulls) null(row int) bool {
	return n.bits != nil && !bitutil.BitIsSet(n.bits, n.offset+row)
}

// number is a type that converts to float64 and int64.
type number interface {
	int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64 | float32 | float64
}

// values takes the values of a batch.
type values[T any] func(arrow.Array) []T

// plainNumbers are the types of which a batch holds a slice.
func plainNumbers[R, T any, A interface {
	arrow.Array
	Values() []T
}]() values[T] {
	return func(a arrow.Array) []T { return a.(A).Values() }
}

// newFiller returns what fills a column from a type, nil where its values have to
// be read one by one.
func newFiller[R mds.Record[R]](table *codec.Table[R], c *mds.Column[R], t arrow.DataType, zone zoneOf) filler[R] {
	switch {
	case t.ID() == arrow.NULL:
		return &nullFiller[R]{to: c}
	case c.Text != nil:
		return newTextFiller(c, t)
	case c.Time != nil:
		return newTimeFiller(table, c, t, zone)
	case c.Date != nil:
		return newDateFiller(c, t, zone)
	case c.List != nil:
		return newListFiller(c, t)
	case c.Metrics != nil:
		return newMetricsFiller(c, t)
	}
	switch t.ID() {
	case arrow.INT8:
		return numberFiller(c, plainNumbers[R, int8, *array.Int8]())
	case arrow.INT16:
		return numberFiller(c, plainNumbers[R, int16, *array.Int16]())
	case arrow.INT32:
		return numberFiller(c, plainNumbers[R, int32, *array.Int32]())
	case arrow.INT64:
		return numberFiller(c, plainNumbers[R, int64, *array.Int64]())
	case arrow.UINT8:
		return numberFiller(c, plainNumbers[R, uint8, *array.Uint8]())
	case arrow.UINT16:
		return numberFiller(c, plainNumbers[R, uint16, *array.Uint16]())
	case arrow.UINT32:
		return numberFiller(c, plainNumbers[R, uint32, *array.Uint32]())
	case arrow.UINT64:
		return numberFiller(c, plainNumbers[R, uint64, *array.Uint64]())
	case arrow.FLOAT32:
		return numberFiller(c, plainNumbers[R, float32, *array.Float32]())
	case arrow.FLOAT64:
		return numberFiller(c, plainNumbers[R, float64, *array.Float64]())
	case arrow.FLOAT16:
		var wide []float32
		return numberFiller(c, func(a arrow.Array) []float32 {
			wide = wide[:0]
			for _, v := range a.(*array.Float16).Values() {
				wide = append(wide, float16.Num.Float32(v))
			}
			return wide
		})
	case arrow.DECIMAL128:
		return newDecimalFiller(c, t)
	}
	return nil
}

// numberFiller returns what fills a column of numbers.
func numberFiller[R any, T number](c *mds.Column[R], of values[T]) filler[R] {
	switch {
	case c.OptFloat != nil:
		return &optFloats[R, T]{of: of, to: c.OptFloat}
	case c.Float != nil:
		return &floats[R, T]{of: of, to: c.Float}
	case c.OptInt != nil:
		return &optInts[R, T]{of: of, to: c.OptInt}
	}
	return &decimals[R, T]{of: of, to: c.Decimal}
}

// nullFiller fills a column that the stream has no value for.
type nullFiller[R any] struct{ to *mds.Column[R] }

func (*nullFiller[R]) bind(arrow.Array) {}

func (f *nullFiller[R]) fill(records []R, _ int, slow []bool) {
	var none R
	for i := range records {
		f.to.Copy(&records[i], &none)
		slow[i] = slow[i] || f.to.Float != nil
	}
}

type optFloats[R any, T number] struct {
	nulls
	of     values[T]
	to     func(*R) *mds.Opt[float64]
	values []T
}

func (f *optFloats[R, T]) bind(a arrow.Array) { f.nulls.bind(a); f.values = f.of(a) }

func (f *optFloats[R, T]) fill(records []R, at int, _ []bool) {
	values := f.values[at : at+len(records)]
	if f.bits == nil {
		for i, v := range values {
			*f.to(&records[i]) = mds.Some(float64(v))
		}
		return
	}
	for i, v := range values {
		if f.null(at + i) {
			*f.to(&records[i]) = mds.None[float64]()
			continue
		}
		*f.to(&records[i]) = mds.Some(float64(v))
	}
}

type floats[R any, T number] struct {
	nulls
	of     values[T]
	to     func(*R) *float64
	values []T
}

func (f *floats[R, T]) bind(a arrow.Array) { f.nulls.bind(a); f.values = f.of(a) }

func (f *floats[R, T]) fill(records []R, at int, slow []bool) {
	values := f.values[at : at+len(records)]
	for i, v := range values {
		if f.null(at + i) { // zero does not tell that it is missing
			slow[i] = true
			continue
		}
		*f.to(&records[i]) = float64(v)
	}
}

type optInts[R any, T number] struct {
	nulls
	of     values[T]
	to     func(*R) *mds.Opt[int64]
	values []T
}

func (f *optInts[R, T]) bind(a arrow.Array) { f.nulls.bind(a); f.values = f.of(a) }

func (f *optInts[R, T]) fill(records []R, at int, slow []bool) {
	const exact = 1 << 53 // of the whole numbers that a float64 tells apart
	float := T(1)/T(2) != 0
	values := f.values[at : at+len(records)]
	for i, v := range values {
		if f.null(at + i) {
			*f.to(&records[i]) = mds.None[int64]()
			continue
		}
		n := int64(v)
		// What is no whole number, or is none that int64 has, does not come back.
		slow[i] = slow[i] || T(n) != v || n < 0 != (v < 0) || float && (n > exact || n < -exact)
		*f.to(&records[i]) = mds.Some(n)
	}
}

// decimals are those of numbers that are written with up to nine decimals.
type decimals[R any, T number] struct {
	nulls
	of     values[T]
	to     func(*R) *mds.Decimal
	values []T
}

const decimalUnit = 1_000_000_000

func (f *decimals[R, T]) bind(a arrow.Array) { f.nulls.bind(a); f.values = f.of(a) }

func (f *decimals[R, T]) fill(records []R, at int, slow []bool) {
	// Below 2⁵² units two neighbouring float64 are nearer than two decimals, so that
	// a decimal which reads as the number is the only one, and the shortest.
	const most = 1 << 52
	values := f.values[at : at+len(records)]
	for i, v := range values {
		if f.null(at + i) {
			*f.to(&records[i]) = 0
			continue
		}
		units := math.Round(float64(v) * decimalUnit)
		if math.Abs(units) < most && units/decimalUnit == float64(v) {
			*f.to(&records[i]) = mds.Decimal(units)
			continue
		}
		slow[i] = true
	}
}
