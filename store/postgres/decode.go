package postgres

import (
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/marketdatastore/mds"
)

// decoder puts a field, in its binary form, into a record; nil is missing.
type decoder[R any] func(r *R, field []byte) error

// readExpression reads a column in the form that decoderOf takes.
func readExpression[R any](c *mds.Column[R], alias string) string {
	name := alias + "." + quote(c.Name)
	switch {
	case c.Metrics != nil:
		return name + "::text"
	case c.List != nil:
		return "to_json(" + name + ")::text"
	}
	return name
}

// int64Of is a bigint or a timestamptz.
func int64Of(field []byte) int64 { return int64(binary.BigEndian.Uint64(field)) }

// int32Of is an integer.
func int32Of(field []byte) int32 { return int32(binary.BigEndian.Uint32(field)) }

// microsOf is a timestamptz in microseconds since 1970.
func microsOf(field []byte) int64 { return int64Of(field) + epoch }

// dateOf is a date in microseconds since 1970.
func dateOf(field []byte) int64 {
	return int64(int32(binary.BigEndian.Uint32(field)))*int64(day) + epoch
}

// decimalOf is a numeric (numeric_send): the number of its digits, which are of base
// 10,000, the power that the first of them counts, its sign, and its decimal places.
func decimalOf(field []byte) (mds.Decimal, error) {
	word := func(i int) int { return int(int16(binary.BigEndian.Uint16(field[2*i:]))) }
	n, weight, sign := word(0), word(1), word(2)
	const unit, negative = 1_000_000_000, 0x4000
	value := int64(0)
	for i := range n {
		digit := int64(word(4 + i))
		switch power := weight - i; {
		case power == 2:
			value += digit * 1e8 * unit
		case power == 1:
			value += digit * 1e4 * unit
		case power == 0:
			value += digit * unit
		case power == -1:
			value += digit * 1e5
		case power == -2:
			value += digit * 10
		case power == -3 && digit%1000 == 0: // of what is less than a unit nothing is kept
			value += digit / 1000
		case digit != 0:
			return 0, errors.New("a decimal has more than 18 digits")
		}
	}
	if sign == negative {
		value = -value
	}
	return mds.Decimal(value), nil
}

func decoderOf[R any](c *mds.Column[R]) decoder[R] {
	switch {
	case c.Text != nil:
		return func(r *R, field []byte) error { *c.Text(r) = string(field); return nil }
	case c.Time != nil:
		return func(r *R, field []byte) error {
			*c.Time(r) = time.Time{}
			if field != nil {
				*c.Time(r) = time.UnixMicro(microsOf(field)).UTC()
			}
			return nil
		}
	case c.Date != nil:
		return func(r *R, field []byte) error {
			*c.Date(r) = mds.Date{}
			if field != nil {
				*c.Date(r) = mds.DateOf(time.UnixMicro(dateOf(field)).UTC())
			}
			return nil
		}
	case c.Decimal != nil && c.Role == mds.Identity: // its number of units
		return func(r *R, field []byte) error { *c.Decimal(r) = mds.Decimal(int64Of(field)); return nil }
	case c.Decimal != nil:
		return func(r *R, field []byte) (err error) { *c.Decimal(r), err = decimalOf(field); return err }
	case c.Float != nil:
		return func(r *R, field []byte) error {
			*c.Float(r) = math.Float64frombits(binary.BigEndian.Uint64(field))
			return nil
		}
	case c.OptFloat != nil:
		return func(r *R, field []byte) error {
			*c.OptFloat(r) = mds.None[float64]()
			if field != nil {
				*c.OptFloat(r) = mds.Some(math.Float64frombits(binary.BigEndian.Uint64(field)))
			}
			return nil
		}
	case c.OptInt != nil:
		return func(r *R, field []byte) error {
			*c.OptInt(r) = mds.None[int64]()
			if field != nil {
				*c.OptInt(r) = mds.Some(int64Of(field))
			}
			return nil
		}
	case c.List != nil:
		return func(r *R, field []byte) error {
			var items []string
			if err := json.Unmarshal(field, &items); err != nil {
				return err
			}
			*c.List(r) = nil
			if len(items) > 0 {
				*c.List(r) = items
			}
			return nil
		}
	default:
		return func(r *R, field []byte) error {
			metrics, err := mds.ParseMetrics(field)
			*c.Metrics(r) = nil
			if len(metrics) > 0 {
				*c.Metrics(r) = metrics
			}
			return err
		}
	}
}

// decodeAll fills a record.
func decodeAll[R any](r *R, decoders []decoder[R], fields [][]byte) error {
	for i, decode := range decoders {
		if err := decode(r, fields[i]); err != nil {
			return err
		}
	}
	return nil
}

// checkBinary makes sure that the fields come in the form that is read here.
func checkBinary(rows pgx.Rows) error {
	for _, f := range rows.FieldDescriptions() {
		text := f.DataTypeOID == pgtype.TextOID || f.DataTypeOID == pgtype.VarcharOID
		if f.Format != pgtype.BinaryFormatCode && !text {
			return errors.New("column " + f.Name + " came as text; let the DSN not set default_query_exec_mode")
		}
	}
	return nil
}

func quote(name string) string { return fmt.Sprintf("%q", name) }
