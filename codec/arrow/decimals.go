package arrow

import (
	"math/big"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/decimal128"

	"github.com/marketdatastore/mds"
)

// decimal128s fills a column of numbers from decimals of a scale: exactly, or not
// at all.
type decimal128s[R any] struct {
	nulls
	to     *mds.Column[R]
	scale  int
	values []decimal128.Num
}

// tens are powers of ten, each exact as a float64 too.
var tens = [...]int64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18}

func newDecimalFiller[R any](c *mds.Column[R], t arrow.DataType) filler[R] {
	scale := t.(*arrow.Decimal128Type).Scale
	if scale < 0 || int(scale) >= len(tens) {
		return nil
	}
	return &decimal128s[R]{to: c, scale: int(scale)}
}

func (f *decimal128s[R]) bind(a arrow.Array) {
	f.nulls.bind(a)
	f.values = a.(*array.Decimal128).Values()
}

func (f *decimal128s[R]) fill(records []R, at int, slow []bool) {
	values := f.values[at : at+len(records)]
	for i, v := range values {
		if f.null(at + i) {
			f.clear(&records[i])
			slow[i] = slow[i] || f.to.Float != nil
			continue
		}
		n := int64(v.LowBits())
		small := v.HighBits() == n>>63 // of 64 bits
		slow[i] = slow[i] || !small || !f.set(&records[i], n)
	}
}

func (f *decimal128s[R]) clear(record *R) {
	switch c := f.to; {
	case c.OptFloat != nil:
		*c.OptFloat(record) = mds.None[float64]()
	case c.OptInt != nil:
		*c.OptInt(record) = mds.None[int64]()
	case c.Decimal != nil:
		*c.Decimal(record) = 0
	}
}

// set gives a record the value of n units of the scale, and reports false where it
// takes more care.
func (f *decimal128s[R]) set(record *R, n int64) bool {
	const exact = 1 << 53
	unit := tens[f.scale]
	switch c := f.to; {
	case c.Decimal != nil && f.scale <= 9:
		more := tens[9-f.scale]
		const most = decimalUnit * decimalUnit
		if n >= most/more || n <= -most/more {
			return false
		}
		*c.Decimal(record) = mds.Decimal(n * more)
	case c.Decimal != nil:
		less := tens[f.scale-9]
		if n%less != 0 {
			return false
		}
		*c.Decimal(record) = mds.Decimal(n / less)
	case c.OptInt != nil:
		if n%unit != 0 {
			return false
		}
		*c.OptInt(record) = mds.Some(n / unit)
	case n >= exact || n <= -exact:
		return false
	case c.OptFloat != nil: // the quotient of two exact numbers is the nearest
		*c.OptFloat(record) = mds.Some(float64(n) / float64(unit))
	default:
		*c.Float(record) = float64(n) / float64(unit)
	}
	return true
}

// appendDecimal writes a decimal of a scale as a number.
func appendDecimal(dst []byte, n *big.Int, scale int) []byte {
	const written = 76 // digits of the largest decimal
	if scale < 0 || scale > written {
		dst = n.Append(dst, 10)
		return strconv.AppendInt(append(dst, 'e'), int64(-scale), 10)
	}
	if n.Sign() < 0 {
		dst = append(dst, '-')
	}
	digits := new(big.Int).Abs(n).Append(nil, 10)
	for len(digits) <= scale {
		digits = append([]byte{'0'}, digits...)
	}
	point := len(digits) - scale
	dst = append(dst, digits[:point]...)
	if scale > 0 {
		dst = append(append(dst, '.'), digits[point:]...)
	}
	return dst
}
