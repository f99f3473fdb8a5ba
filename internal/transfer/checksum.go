package transfer

import (
	"encoding/binary"
	"fmt"
	"maps"
	"math"
	"slices"

	"github.com/marketdatastore/mds"
)

// Sum tells what records a series has: how many, and a checksum that is the same in
// whatever order they come: the sum, modulo 2⁶⁴, of the XXH64
// (https://github.com/Cyan4973/xxHash) of each record's columns.
type Sum struct {
	Records  int64
	Checksum uint64
}

func (s Sum) plus(o Sum) Sum { return Sum{s.Records + o.Records, s.Checksum + o.Checksum} }

// MarshalJSON writes the checksum in hexadecimal.
func (s Sum) MarshalJSON() ([]byte, error) {
	return fmt.Appendf(nil, `{"records":%d,"checksum":"%016x"}`, s.Records, s.Checksum), nil
}

// appendRecord appends the columns of a record as it is stored, so that different
// records have different bytes.
func appendRecord[R any](dst []byte, schema *mds.Schema[R], r *R) []byte {
	number := func(v uint64) { dst = binary.LittleEndian.AppendUint64(dst, v) }
	float := func(v float64) { number(math.Float64bits(v + 0)) } // zero has no sign
	text := func(v string) { dst = append(binary.LittleEndian.AppendUint64(dst, uint64(len(v))), v...) }
	for i := range schema.Columns {
		c := &schema.Columns[i]
		switch {
		case c.Role == mds.Time:
			number(uint64(schema.Micros(r)))
		case c.Text != nil:
			text(*c.Text(r))
		case c.Time != nil:
			number(uint64(c.Time(r).UnixMicro()))
		case c.Date != nil:
			d := c.Date(r)
			number(uint64(d.Year)<<32 | uint64(d.Month)<<16 | uint64(d.Day))
		case c.Decimal != nil:
			number(uint64(*c.Decimal(r)))
		case c.Float != nil:
			float(*c.Float(r))
		case c.OptFloat != nil:
			v, ok := c.OptFloat(r).Value()
			if dst = append(dst, 0); ok {
				dst[len(dst)-1] = 1
				float(v)
			}
		case c.OptInt != nil:
			v, ok := c.OptInt(r).Value()
			if dst = append(dst, 0); ok {
				dst[len(dst)-1] = 1
				number(uint64(v))
			}
		case c.List != nil:
			number(uint64(len(*c.List(r))))
			for _, item := range *c.List(r) {
				text(item)
			}
		case c.Metrics != nil:
			figures := *c.Metrics(r)
			number(uint64(len(figures)))
			for _, name := range slices.Sorted(maps.Keys(figures)) {
				text(name)
				float(figures[name])
			}
		}
	}
	return dst
}
