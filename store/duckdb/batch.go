package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// batch is a deduplicated, sorted view of the records of one write. It is the
// source behind the kind's table function.
type batch[R any] struct {
	cells       []cell[R] // beside the series id
	timeIsValue bool
	records     []R
	keys        []string // of the key columns, by record; nil for kinds without
	rows        []batchRow
	next        int // first row of the next chunk
}

type batchRow struct {
	series int64
	micros int64
	record int32 // index into records
}

// dedupe sorts the rows by key and keeps the last record of each.
func (b *batch[R]) dedupe() {
	byKey := func(x, y batchRow) int {
		if x.series != y.series {
			return cmp.Compare(x.series, y.series)
		}
		return cmp.Or(cmp.Compare(x.micros, y.micros), cmp.Compare(x.record, y.record))
	}
	same := func(x, y *batchRow) bool { return x.series == y.series && x.micros == y.micros }
	if b.keys != nil {
		key := func(x, y *batchRow) int {
			order := cmp.Or(cmp.Compare(x.series, y.series), strings.Compare(b.keys[x.record], b.keys[y.record]))
			if order != 0 || b.timeIsValue {
				return order
			}
			return cmp.Compare(x.micros, y.micros)
		}
		byKey = func(x, y batchRow) int { return cmp.Or(key(&x, &y), cmp.Compare(x.record, y.record)) }
		same = func(x, y *batchRow) bool { return key(x, y) == 0 }
	}
	if !slices.IsSortedFunc(b.rows, byKey) {
		slices.SortFunc(b.rows, byKey)
	}
	kept := b.rows[:0]
	for i := range b.rows {
		if i+1 < len(b.rows) && same(&b.rows[i], &b.rows[i+1]) {
			continue
		}
		kept = append(kept, b.rows[i])
	}
	b.rows = kept
}

// batchKey finds the batch of the statement being run in its context, so that
// only the writer's own statement sees rows: a table function, once
// registered, can be called from every connection of the instance.
type batchKey struct{}

// registerBatch makes the kind's table function known to the instance.
func registerBatch(conn *sql.Conn, function string) error {
	return duckdb.RegisterTableUDF(conn, function, duckdb.ChunkTableFunction{
		BindArgumentsContext: func(ctx context.Context, _ map[string]any, _ ...any) (duckdb.ChunkTableSource, error) {
			source, ok := ctx.Value(batchKey{}).(duckdb.ChunkTableSource)
			if !ok {
				return nil, fmt.Errorf("%s yields rows to the writer only", function)
			}
			return source, nil
		},
	})
}

// cell is a column of the batch function.
type cell[R any] struct {
	name string
	info duckdb.TypeInfo
	// fill sets the values of some rows in a column of a chunk.
	fill func(chunk duckdb.DataChunk, column int, records []R, rows []batchRow) error
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
		cells = append(cells, cell[R]{name, info, fill})
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
	}
	return cells
}

// namesOf and valuesOf are the two lists of a metrics column.
func namesOf(column string) string  { return column + "_names" }
func valuesOf(column string) string { return column + "_values" }

// ColumnInfos are the series id and the cells.
func (b *batch[R]) ColumnInfos() []duckdb.ColumnInfo {
	bigint, _ := duckdb.NewTypeInfo(duckdb.TYPE_BIGINT) // a fixed type: no error
	infos := []duckdb.ColumnInfo{{Name: "series_id", T: bigint}}
	for _, c := range b.cells {
		infos = append(infos, duckdb.ColumnInfo{Name: c.name, T: c.info})
	}
	return infos
}

// Cardinality tells the planner the size of the batch.
func (b *batch[R]) Cardinality() *duckdb.CardinalityInfo {
	return &duckdb.CardinalityInfo{Cardinality: uint(len(b.rows)), Exact: true}
}

// Init rewinds the batch.
func (b *batch[R]) Init() { b.next = 0 }

// FillChunk hands over the next rows, column by column.
func (b *batch[R]) FillChunk(chunk duckdb.DataChunk) error {
	rows := b.rows[b.next:min(b.next+duckdb.GetDataChunkCapacity(), len(b.rows))]
	b.next += len(rows)
	for i := range rows {
		if err := duckdb.SetChunkValue(chunk, 0, i, rows[i].series); err != nil {
			return err
		}
	}
	for c := range b.cells {
		if err := b.cells[c].fill(chunk, c+1, b.records, rows); err != nil {
			return err
		}
	}
	return chunk.SetSize(len(rows))
}
