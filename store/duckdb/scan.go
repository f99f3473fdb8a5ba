package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// openRows runs a query. It goes to the driver past database/sql, whose Scan takes
// several times as long for each value as the driver does. The rows belong to
// whoever has the connection, and are closed before it is given back; the driver has
// them whole, so that other queries may run before they are read to the end.
func openRows(ctx context.Context, conn *reader, query string, args []any) (rows driver.Rows, err error) {
	named := make([]driver.NamedValue, len(args))
	for i, arg := range args {
		named[i] = driver.NamedValue{Ordinal: i + 1, Value: arg}
	}
	if err := conn.scans.share(ctx); err != nil {
		return nil, err
	}
	defer conn.scans.unshare()
	err = conn.Raw(func(raw any) (err error) {
		rows, err = raw.(driver.QueryerContext).QueryContext(ctx, query, named)
		return err
	})
	return rows, err
}

// eachRow runs a query and hands its rows on, each for the call only.
func eachRow(ctx context.Context, conn *reader, query string, args []any, each func([]driver.Value) error) (err error) {
	rows, err := openRows(ctx, conn, query, args)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, rows.Close()) }()
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(values); err != nil {
			return err
		}
	}
}

// setter puts a value, in the form that readExpression gives it, into a record.
type setter[R any] func(r *R, v driver.Value) error

// settersOf returns the setters of columns.
func settersOf[R any](columns []*mds.Column[R]) []setter[R] {
	setters := make([]setter[R], len(columns))
	for i, c := range columns {
		setters[i] = setterOf(c)
	}
	return setters
}

// setAll puts values into a record.
func setAll[R any](r *R, setters []setter[R], values []driver.Value) error {
	for i, set := range setters {
		if err := set(r, values[i]); err != nil {
			return err
		}
	}
	return nil
}

func setterOf[R any](c *mds.Column[R]) setter[R] {
	switch {
	case c.Text != nil:
		return func(r *R, v driver.Value) (err error) { *c.Text(r), err = read[string](v); return err }
	case c.Time != nil:
		return func(r *R, v driver.Value) error {
			micros, err := read[int64](v)
			*c.Time(r) = time.Time{}
			if v != nil {
				*c.Time(r) = time.UnixMicro(micros).UTC()
			}
			return err
		}
	case c.Date != nil:
		return func(r *R, v driver.Value) error {
			micros, err := read[int64](v)
			*c.Date(r) = mds.Date{}
			if v != nil {
				*c.Date(r) = mds.DateOf(time.UnixMicro(micros).UTC())
			}
			return err
		}
	case c.Decimal != nil:
		return func(r *R, v driver.Value) error {
			text, err := read[string](v)
			if err == nil {
				*c.Decimal(r), err = mds.ParseDecimal(text)
			}
			return err
		}
	case c.Float != nil:
		return func(r *R, v driver.Value) (err error) { *c.Float(r), err = read[float64](v); return err }
	case c.OptFloat != nil:
		return func(r *R, v driver.Value) (err error) { *c.OptFloat(r), err = optional[float64](v); return err }
	case c.OptInt != nil:
		return func(r *R, v driver.Value) (err error) { *c.OptInt(r), err = optional[int64](v); return err }
	case c.List != nil:
		return func(r *R, v driver.Value) (err error) { *c.List(r), err = texts(v); return err }
	default:
		return func(r *R, v driver.Value) (err error) { *c.Metrics(r), err = figures(v); return err }
	}
}

// read is a value of a type; NULL is its zero.
func read[T any](v driver.Value) (T, error) {
	value, ok := v.(T)
	if !ok && v != nil {
		return value, fmt.Errorf("a %T was read as %T", value, v)
	}
	return value, nil
}

// readInts reads columns of integers.
func readInts(into []int64, values []driver.Value) (err error) {
	for i := range into {
		if into[i], err = read[int64](values[i]); err != nil {
			return err
		}
	}
	return nil
}

func optional[T comparable](v driver.Value) (mds.Opt[T], error) {
	if v == nil {
		return mds.None[T](), nil
	}
	value, err := read[T](v)
	return mds.Some(value), err
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
