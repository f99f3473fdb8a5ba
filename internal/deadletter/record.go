package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
)

// Encode writes a record, valid or not, as a JSON object with the names of its
// columns, from which [Decode] makes the same record: the bits of its numbers,
// the bytes of its texts, nil and empty, instants to the nanosecond with their
// offset from UTC (not the name of their zone).
func Encode[R mds.Record[R]](r *R) json.RawMessage {
	schema := mds.SchemaOf[R]()
	dst := []byte{'{'}
	for i := range schema.Columns {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(dst, schema.Columns[i].Name), ':')
		dst = appendValue(dst, &schema.Columns[i], r)
	}
	return append(dst, '}')
}

func appendValue[R any](dst []byte, c *mds.Column[R], r *R) []byte {
	switch {
	case c.Text != nil:
		return appendText(dst, *c.Text(r))
	case c.Time != nil:
		return appendTime(dst, *c.Time(r))
	case c.Date != nil:
		return appendDate(dst, *c.Date(r))
	case c.Decimal != nil:
		return appendDecimal(dst, *c.Decimal(r))
	case c.Float != nil:
		return appendFloat(dst, *c.Float(r))
	case c.OptFloat != nil:
		if v, ok := c.OptFloat(r).Value(); ok {
			return appendFloat(dst, v)
		}
	case c.OptInt != nil:
		if v, ok := c.OptInt(r).Value(); ok {
			return strconv.AppendInt(dst, v, 10)
		}
	case c.List != nil:
		return appendList(dst, *c.List(r))
	case c.Metrics != nil:
		return appendMetrics(dst, *c.Metrics(r))
	}
	return append(dst, "null"...)
}

// Decode reads what [Encode] wrote. A column that the record has no value for,
// since it was written before there was one, stays zero; a value without a
// column is an error, since nothing else would keep it.
func Decode[R mds.Record[R]](record json.RawMessage) (r R, err error) {
	schema := mds.SchemaOf[R]()
	var values map[string]json.RawMessage
	if err := json.Unmarshal(record, &values); err != nil || values == nil {
		return r, errors.New("the record is not a JSON object")
	}
	for i := range schema.Columns {
		c := &schema.Columns[i]
		raw, ok := values[c.Name]
		if !ok {
			continue
		}
		delete(values, c.Name)
		if err := setValue(c, &r, raw); err != nil {
			return r, fmt.Errorf("%s: %s %w", c.Name, raw, err)
		}
	}
	if len(values) > 0 {
		return r, fmt.Errorf("%s of this version have no column %s; use the version that wrote the letter, or a newer one",
			schema.Kind, strings.Join(slices.Sorted(maps.Keys(values)), ", "))
	}
	return r, nil
}

func setValue[R any](c *mds.Column[R], r *R, raw json.RawMessage) (err error) {
	switch {
	case c.Text != nil:
		*c.Text(r), err = parseText(raw)
	case c.Time != nil:
		*c.Time(r), err = parseTime(raw)
	case c.Date != nil:
		*c.Date(r), err = parseDate(raw)
	case c.Decimal != nil:
		*c.Decimal(r), err = parseDecimal(raw)
	case c.Float != nil:
		*c.Float(r), err = parseFloat(raw)
	case c.List != nil:
		*c.List(r), err = parseList(raw)
	case c.Metrics != nil:
		*c.Metrics(r), err = parseMetrics(raw)
	case string(raw) == "null":
	case c.OptFloat != nil:
		var v float64
		v, err = parseFloat(raw)
		*c.OptFloat(r) = mds.Some(v)
	case c.OptInt != nil:
		v, failed := strconv.ParseInt(string(raw), 10, 64)
		if failed != nil {
			return errForm
		}
		*c.OptInt(r) = mds.Some(v)
	}
	return err
}
