package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"maps"
	"math/big"
	"slices"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// batch is a deduplicated, sorted view of the records of one write. It is the
// source behind the kind's table function.
type batch[R any] struct {
	cells       []cell[R] // beside the series id
	timeIsValue bool
	records     []R
	rows        []batchRow
	next        int // first row of the next chunk
}

type batchRow struct {
	series int64
	micros int64
	key    string // of the key columns, in an order of its own
	record int32  // index into records
}

// dedupe sorts the rows by key and keeps the last record of each.
func (b *batch[R]) dedupe() {
	key := func(x, y *batchRow) int {
		if order := cmp.Or(cmp.Compare(x.series, y.series), cmp.Compare(x.key, y.key)); order != 0 || b.timeIsValue {
			return order
		}
		return cmp.Compare(x.micros, y.micros)
	}
	byKey := func(x, y batchRow) int { return cmp.Or(key(&x, &y), cmp.Compare(x.record, y.record)) }
	if !slices.IsSortedFunc(b.rows, byKey) {
		slices.SortFunc(b.rows, byKey)
	}
	kept := b.rows[:0]
	for i, row := range b.rows {
		if i+1 < len(b.rows) && key(&row, &b.rows[i+1]) == 0 {
			continue
		}
		kept = append(kept, row)
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
	fill func(to place, record *R, row *batchRow) error
}

// place is where a value goes.
type place struct {
	chunk       duckdb.DataChunk
	column, row int
}

func set[T any](to place, value T) error {
	return duckdb.SetChunkValue(to.chunk, to.column, to.row, value)
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
	add := func(name string, info duckdb.TypeInfo, fill func(place, *R, *batchRow) error) {
		cells = append(cells, cell[R]{name, info, fill})
	}
	for _, c := range columns {
		switch {
		case c.Role == mds.Time:
			add(c.Name, simple(duckdb.TYPE_BIGINT), func(to place, _ *R, row *batchRow) error { return set(to, row.micros) })
		case c.OptFloat != nil:
			add(c.Name, simple(duckdb.TYPE_DOUBLE), func(to place, r *R, _ *batchRow) error { return setOptional(to, *c.OptFloat(r)) })
		case c.Float != nil:
			add(c.Name, simple(duckdb.TYPE_DOUBLE), func(to place, r *R, _ *batchRow) error { return set(to, *c.Float(r)) })
		case c.OptInt != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), func(to place, r *R, _ *batchRow) error { return setOptional(to, *c.OptInt(r)) })
		case c.Text != nil:
			add(c.Name, simple(duckdb.TYPE_VARCHAR), func(to place, r *R, _ *batchRow) error {
				if text := *c.Text(r); text != "" {
					return set(to, text)
				}
				return set[any](to, nil)
			})
		case c.Time != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), func(to place, r *R, _ *batchRow) error {
				if t := c.Time(r); !t.IsZero() {
					return set(to, t.UnixMicro())
				}
				return set[any](to, nil)
			})
		case c.Date != nil:
			add(c.Name, simple(duckdb.TYPE_BIGINT), func(to place, r *R, _ *batchRow) error {
				if d := *c.Date(r); !d.IsZero() {
					return set(to, d.Time().UnixMicro())
				}
				return set[any](to, nil)
			})
		case c.Decimal != nil:
			info, _ := duckdb.NewDecimalInfo(18, 9)
			add(c.Name, info, func(to place, r *R, _ *batchRow) error {
				return set(to, duckdb.Decimal{Width: 18, Scale: 9, Value: big.NewInt(int64(*c.Decimal(r)))})
			})
		case c.List != nil:
			add(c.Name, listOf(duckdb.TYPE_VARCHAR), func(to place, r *R, _ *batchRow) error { return set(to, *c.List(r)) })
		default:
			// In order of their names, so that equal metrics are equal maps.
			add(namesOf(c.Name), listOf(duckdb.TYPE_VARCHAR), func(to place, r *R, _ *batchRow) error {
				return set(to, slices.Sorted(maps.Keys(*c.Metrics(r))))
			})
			add(valuesOf(c.Name), listOf(duckdb.TYPE_DOUBLE), func(to place, r *R, _ *batchRow) error {
				metrics := *c.Metrics(r)
				values := make([]float64, 0, len(metrics))
				for _, name := range slices.Sorted(maps.Keys(metrics)) {
					values = append(values, metrics[name])
				}
				return set(to, values)
			})
		}
	}
	return cells
}

// namesOf and valuesOf are the two lists of a metrics column.
func namesOf(column string) string  { return column + "_names" }
func valuesOf(column string) string { return column + "_values" }

func setOptional[T comparable](to place, value mds.Opt[T]) error {
	if v, ok := value.Value(); ok {
		return set(to, v)
	}
	return set[any](to, nil)
}

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
		fill := b.cells[c].fill
		for i := range rows {
			if err := fill(place{chunk, c + 1, i}, &b.records[rows[i].record], &rows[i]); err != nil {
				return err
			}
		}
	}
	return chunk.SetSize(len(rows))
}
