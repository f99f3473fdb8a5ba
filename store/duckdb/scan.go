package duckdb

import (
	"database/sql"
	"fmt"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// scanTargets returns what columns are scanned into, as readExpression reads
// them, and a function that moves what was scanned into the record.
func scanTargets[R any](columns []*mds.Column[R], record *R) (targets []any, assign func() error) {
	assigns := make([]func() error, 0, len(columns))
	for _, c := range columns {
		target, assign := scanTarget(c, record)
		targets = append(targets, target)
		assigns = append(assigns, assign)
	}
	return targets, func() error {
		for _, a := range assigns {
			if err := a(); err != nil {
				return err
			}
		}
		return nil
	}
}

func scanTarget[R any](c *mds.Column[R], record *R) (target any, assign func() error) {
	switch {
	case c.Text != nil:
		v := new(sql.Null[string])
		return v, func() error { *c.Text(record) = v.V; return nil }
	case c.Time != nil:
		v := new(sql.Null[int64])
		return v, func() error {
			*c.Time(record) = time.Time{}
			if v.Valid {
				*c.Time(record) = time.UnixMicro(v.V).UTC()
			}
			return nil
		}
	case c.Date != nil:
		v := new(sql.Null[int64])
		return v, func() error {
			*c.Date(record) = mds.Date{}
			if v.Valid {
				*c.Date(record) = mds.DateOf(time.UnixMicro(v.V).UTC())
			}
			return nil
		}
	case c.Decimal != nil:
		v := new(string)
		return v, func() (err error) {
			*c.Decimal(record), err = mds.ParseDecimal(*v)
			return err
		}
	case c.Float != nil:
		v := new(float64)
		return v, func() error { *c.Float(record) = *v; return nil }
	case c.OptFloat != nil:
		v := new(sql.Null[float64])
		return v, func() error { *c.OptFloat(record) = optional(*v); return nil }
	case c.OptInt != nil:
		v := new(sql.Null[int64])
		return v, func() error { *c.OptInt(record) = optional(*v); return nil }
	case c.List != nil:
		v := new(any)
		return v, func() (err error) { *c.List(record), err = texts(*v); return err }
	default:
		v := new(any)
		return v, func() (err error) { *c.Metrics(record), err = figures(*v); return err }
	}
}

func optional[T comparable](v sql.Null[T]) mds.Opt[T] {
	if !v.Valid {
		return mds.None[T]()
	}
	return mds.Some(v.V)
}

// texts is a list of VARCHAR as the driver gives it.
func texts(v any) ([]string, error) {
	list, ok := v.([]any)
	if !ok && v != nil {
		return nil, fmt.Errorf("a list of texts was read as %T", v)
	}
	var out []string
	for _, item := range list {
		text, ok := item.(string)
		if !ok {
			return nil, fmt.Errorf("a text in a list was read as %T", item)
		}
		out = append(out, text)
	}
	return out, nil
}

// figures is a map of VARCHAR to DOUBLE as the driver gives it.
func figures(v any) (map[string]float64, error) {
	m, ok := v.(duckdb.OrderedMap)
	if !ok && v != nil {
		return nil, fmt.Errorf("metrics were read as %T", v)
	}
	if m.Len() == 0 {
		return nil, nil
	}
	out := make(map[string]float64, m.Len())
	values := m.Values()
	for i, key := range m.Keys() {
		name, ok1 := key.(string)
		value, ok2 := values[i].(float64)
		if !ok1 || !ok2 {
			return nil, fmt.Errorf("a metric was read as %T and %T", key, values[i])
		}
		out[name] = value
	}
	return out, nil
}
