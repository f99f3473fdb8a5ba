package postgres

import (
	"encoding/binary"
	"math"
	"time"

	"github.com/marketdatastore/mds"
)

// The binary form of COPY and of its fields (PostgreSQL, "COPY", "Binary Format"; the
// fields are what the types' send functions write).

// copyHeader begins a copy: the signature, no flags, no extension.
var copyHeader = append([]byte("PGCOPY\n\xff\r\n\x00"), 0, 0, 0, 0, 0, 0, 0, 0)

// copyEnd ends it.
var copyEnd = []byte{0xff, 0xff}

// epoch is 2000-01-01, which times and dates count from, in microseconds since 1970.
const epoch = 946_684_800_000_000

const day = 24 * time.Hour / time.Microsecond

var null = []byte{0xff, 0xff, 0xff, 0xff}

// encoder appends a column of a record as a field: its length, and its value.
type encoder[R any] func(dst []byte, r *R) []byte

func appendInt(dst []byte, v int64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), uint64(v))
}

func appendFloat(dst []byte, v float64) []byte {
	return binary.BigEndian.AppendUint64(append(dst, 0, 0, 0, 8), math.Float64bits(v))
}

func appendMicros(dst []byte, micros int64) []byte { return appendInt(dst, micros-epoch) }

func appendDate(dst []byte, micros int64) []byte {
	days := (micros - epoch) / int64(day) // a date's are whole
	return binary.BigEndian.AppendUint32(append(dst, 0, 0, 0, 4), uint32(int32(days)))
}

func appendText[T string | []byte](dst []byte, text T) []byte {
	dst = binary.BigEndian.AppendUint32(dst, uint32(len(text)))
	return append(dst, text...)
}

// appendTexts appends an array of one dimension (array_send).
func appendTexts(dst []byte, items []string) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0)
	if len(items) == 0 {
		dst = append(dst, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, oidText)
	} else {
		dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, oidText)
		dst = binary.BigEndian.AppendUint32(dst, uint32(len(items)))
		dst = append(dst, 0, 0, 0, 1)
		for _, item := range items {
			dst = appendText(dst, item)
		}
	}
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// appendNumeric appends a numeric (numeric_recv): the number of its digits, which are of
// base 10,000, the power that the first of them counts, its sign, its decimal places.
func appendNumeric(dst []byte, v mds.Decimal) []byte {
	const unit, places, negative = 1_000_000_000, 9, 0x4000
	sign, digits := uint64(0), uint64(v)
	if v < 0 {
		sign, digits = negative, -digits
	}
	whole, rest := digits/unit, digits%unit*1000
	const groups = 6
	dst = append(dst, 0, 0, 0, 8+2*groups)
	for _, word := range [...]uint64{groups, 2, sign, places, whole / 1e8, whole / 1e4 % 1e4, whole % 1e4, rest / 1e8, rest / 1e4 % 1e4, rest % 1e4} {
		dst = binary.BigEndian.AppendUint16(dst, uint16(word))
	}
	return dst
}

// The types' numbers (pg_type.dat).
const (
	oidBigint      = 20
	oidText        = 25
	oidDouble      = 701
	oidDate        = 1082
	oidTimestamptz = 1184
	oidNumeric     = 1700
	oidJSONB       = 3802
)

// appendArray begins an array of one dimension (array_recv), whose elements follow as
// fields.
func appendArray(dst []byte, element uint32, n int) []byte {
	dst = append(dst, 0, 0, 0, 1, 0, 0, 0, 1) // one dimension, may hold nulls
	dst = binary.BigEndian.AppendUint32(dst, element)
	dst = binary.BigEndian.AppendUint32(dst, uint32(n))
	return append(dst, 0, 0, 0, 1) // counted from 1
}

// arrayColumn is a column of rows that are arguments.
type arrayColumn[R any] struct {
	oid     uint32 // of an element
	sqlType string // of it
	cast    string // to the column's type
	encode  encoder[R]
}

func arrayOf[R any](c *mds.Column[R], encode encoder[R]) arrayColumn[R] {
	switch {
	case c.List != nil: // arrays of arrays have one length: they go as their text
		return arrayColumn[R]{oidText, "text", "::text[]", func(dst []byte, r *R) []byte { return appendListText(dst, *c.List(r)) }}
	case c.Time != nil:
		return arrayColumn[R]{oidTimestamptz, "timestamptz", "", encode}
	case c.Date != nil:
		return arrayColumn[R]{oidDate, "date", "", encode}
	case c.Decimal != nil:
		return arrayColumn[R]{oidNumeric, "numeric", "", encode}
	case c.Float != nil, c.OptFloat != nil:
		return arrayColumn[R]{oidDouble, "double precision", "", encode}
	case c.OptInt != nil:
		return arrayColumn[R]{oidBigint, "bigint", "", encode}
	case c.Metrics != nil:
		return arrayColumn[R]{oidJSONB, "jsonb", "", encode}
	}
	return arrayColumn[R]{oidText, "text", "", encode}
}

// appendListText appends a list as the text of an array (PostgreSQL, "Arrays", "Array
// Input and Output Syntax").
func appendListText(dst []byte, items []string) []byte {
	start := len(dst)
	dst = append(dst, 0, 0, 0, 0, '{')
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(dst, '"')
		for j := range len(item) {
			if item[j] == '"' || item[j] == '\\' {
				dst = append(dst, '\\')
			}
			dst = append(dst, item[j])
		}
		dst = append(dst, '"')
	}
	dst = append(dst, '}')
	binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
	return dst
}

// encoderOf returns the encoder of a column.
func encoderOf[R any](c *mds.Column[R]) encoder[R] {
	switch {
	case c.Text != nil && c.Role == mds.Value:
		return func(dst []byte, r *R) []byte {
			if *c.Text(r) == "" {
				return append(dst, null...)
			}
			return appendText(dst, *c.Text(r))
		}
	case c.Text != nil:
		return func(dst []byte, r *R) []byte { return appendText(dst, *c.Text(r)) }
	case c.Time != nil:
		return func(dst []byte, r *R) []byte {
			if c.Role == mds.Value && c.Time(r).IsZero() {
				return append(dst, null...)
			}
			return appendMicros(dst, c.Time(r).UnixMicro())
		}
	case c.Date != nil:
		return func(dst []byte, r *R) []byte {
			if c.Role == mds.Value && c.Date(r).IsZero() {
				return append(dst, null...)
			}
			return appendDate(dst, c.Date(r).Time().UnixMicro())
		}
	case c.Float != nil:
		return func(dst []byte, r *R) []byte { return appendFloat(dst, *c.Float(r)) }
	case c.OptFloat != nil:
		return func(dst []byte, r *R) []byte {
			if v, ok := c.OptFloat(r).Value(); ok {
				return appendFloat(dst, v)
			}
			return append(dst, null...)
		}
	case c.OptInt != nil:
		return func(dst []byte, r *R) []byte {
			if v, ok := c.OptInt(r).Value(); ok {
				return appendInt(dst, v)
			}
			return append(dst, null...)
		}
	case c.List != nil:
		return func(dst []byte, r *R) []byte { return appendTexts(dst, *c.List(r)) }
	case c.Metrics != nil:
		return func(dst []byte, r *R) []byte {
			start := len(dst)
			const version = 1 // of jsonb_send
			dst = c.AppendJSON(append(dst, 0, 0, 0, 0, version), r)
			binary.BigEndian.PutUint32(dst[start:], uint32(len(dst)-start-4))
			return dst
		}
	}
	return func(dst []byte, r *R) []byte { return appendNumeric(dst, *c.Decimal(r)) }
}
