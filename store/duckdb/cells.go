package duckdb

import (
	"maps"
	"math/big"
	"slices"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// cell is a column of the batch function.
type cell[R any] struct {
	name string
	info duckdb.TypeInfo
	// fill sets the values of some rows in a column of a chunk.
	fill func(chunk duckdb.DataChunk, column int, records []R, rows []batchRow) error
	// missing reports a record without a value; nil where there always is one.
	missing func(*R) bool
}

// each fills a column by a value a row.
func each[R, T any](value func(*R) T) func(duckdb.DataChunk, int, []R, []batchRow) error {
	return func(chunk duckdb.DataChunk, column int, records []R, rows []batchRow) error {
		for i := range rows {
			if err := duckdb.SetChunkValue(chunk, column, i, value(&records[rows[i].record])); err != nil {
				return err
			}
		}
		return nil
	}
}

// eachOptional is each for values that may be missing.
func eachOptional[R, T any](value func(*R) (T, bool)) func(duckdb.DataChunk, int, []R, []batchRow) error {
	return func(chunk duckdb.DataChunk, column int, records []R, rows []batchRow) (err error) {
		for i := range rows {
			if v, ok := value(&records[rows[i].record]); ok {
				err = duckdb.SetChunkValue(chunk, column, i, v)
			} else {
				err = duckdb.SetChunkValue[any](chunk, column, i, nil)
			}
			if err != nil {
				return err
			}
		}
		return nil
	}
}

// fillMicros fills the time column.
func fillMicros[R any](chunk duckdb.DataChunk, column int, _ []R, rows []batchRow) error {
	for i := range rows {
		if err := duckdb.SetChunkValue(chunk, column, i, rows[i].micros); err != nil {
			return err
		}
	}
	return nil
}

// cellsOf describes how columns are handed over. Times and dates are
// microseconds in a BIGINT, which is filled without boxing; metrics are two
// lists. batchExpression turns them into the table's types.
func cellsOf[R any](columns []*mds.Column[R]) []cell[R] {
	simple := func(t duckdb.Type) duckdb.TypeInfo {
		info, _ := duckdb.NewTypeInfo(t) // fixed types: no error
		return info
	}
	listOf := func(t duckdb.Type) duckdb.TypeInfo {
		info, _ := duckdb.NewListInfo(simple(t))
		return info
	}
	var cells []cell[R]
	add := func(name string, info duckdb.TypeInfo, fill func(duckdb.DataChunk, int, []R, []batchRow) error) {
		cells = append(cells, cell[R]{name: name, info: info, fill: fill})
	}
	for _, c := range columns {
		switch {
		case c.Role == mds.Time:
			add(c.Name, simple(duckdb.TYPE_BIGINT), fillMicros[R])
		case c.OptFloat != nil:
			add(c.Name, simple(duckdb.TYPE_DOUBLE), eachOptional(func(r *R) (float64, bool) { return c.OptFloat(r).Value() }))
		case c.Float != nil:
			add(c.Name, simple(duckdb.TYPE_DOUBLE), each(func(r *R) float64 { return *c.Float(r) }))
		case c.OptInt != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), eachOptional(func(r *R) (int64, bool) { return c.OptInt(r).Value() }))
		case c.Text != nil:
			add(c.Name, simple(duckdb.TYPE_VARCHAR), eachOptional(func(r *R) (string, bool) { return *c.Text(r), *c.Text(r) != "" }))
		case c.Time != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), eachOptional(func(r *R) (int64, bool) { return c.Time(r).UnixMicro(), !c.Time(r).IsZero() }))
		case c.Date != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), eachOptional(func(r *R) (int64, bool) { return c.Date(r).Time().UnixMicro(), !c.Date(r).IsZero() }))
		case c.Decimal != nil:
			info, _ := duckdb.NewDecimalInfo(18, 9)
			add(c.Name, info, each(func(r *R) duckdb.Decimal {
				return duckdb.Decimal{Width: 18, Scale: 9, Value: big.NewInt(int64(*c.Decimal(r)))}
			}))
		case c.List != nil:
			add(c.Name, listOf(duckdb.TYPE_VARCHAR), each(func(r *R) []string { return *c.List(r) }))
		default:
			// In order of their names, so that equal metrics are equal maps.
			add(namesOf(c.Name), listOf(duckdb.TYPE_VARCHAR), each(func(r *R) []string { return slices.Sorted(maps.Keys(*c.Metrics(r))) }))
			add(valuesOf(c.Name), listOf(duckdb.TYPE_DOUBLE), each(func(r *R) []float64 {
				metrics := *c.Metrics(r)
				values := make([]float64, 0, len(metrics))
				for _, name := range slices.Sorted(maps.Keys(metrics)) {
					values = append(values, metrics[name])
				}
				return values
			}))
		}
		if c.Role == mds.Value && c.Optional() && c.List == nil && c.Metrics == nil {
			cells[len(cells)-1].missing = c.Missing
		}
	}
	return cells
}

// given returns the cells of which some record has a value, and which they are:
// a column that is missing throughout is a constant of the statement, since each
// NULL costs a call into C.
func given[R any](cells []cell[R], records []R) (some []cell[R], mask uint64) {
	if len(cells) > 64 {
		return cells, ^uint64(0)
	}
	some = make([]cell[R], 0, len(cells))
	for c := range cells {
		if cells[c].missing != nil && !hasValue(&cells[c], records) {
			continue
		}
		some = append(some, cells[c])
		mask |= 1 << c
	}
	return some, mask
}

func hasValue[R any](c *cell[R], records []R) bool {
	for i := range records {
		if !c.missing(&records[i]) {
			return true
		}
	}
	return false
}

// namesOf and valuesOf are the two lists of a metrics column.
func namesOf(column string) string  { return column + "_names" }
func valuesOf(column string) string { return column + "_values" }
