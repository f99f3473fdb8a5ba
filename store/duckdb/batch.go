package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"slices"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// batch is a deduplicated, sorted view of the records of one write. It is the
// source behind the kind's table function.
type batch[R any] struct {
	schema  *mds.Schema[R]
	values  []*mds.Column[R]
	records []R
	rows    []batchRow
	next    int // first row of the next chunk
}

type batchRow struct {
	series int64
	micros int64
	record int32 // index into records
}

// dedupe sorts the rows by key and keeps the last record of each.
func (b *batch[R]) dedupe() {
	byKey := func(x, y batchRow) int {
		return cmp.Or(cmp.Compare(x.series, y.series), cmp.Compare(x.micros, y.micros), cmp.Compare(x.record, y.record))
	}
	if !slices.IsSortedFunc(b.rows, byKey) {
		slices.SortFunc(b.rows, byKey)
	}
	kept := b.rows[:0]
	for i, row := range b.rows {
		if i+1 < len(b.rows) && row.series == b.rows[i+1].series && row.micros == b.rows[i+1].micros {
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

// ColumnInfos are the series id, the time in microseconds (a BIGINT, which is
// filled without boxing; SQL turns it into a timestamp) and the values.
func (b *batch[R]) ColumnInfos() []duckdb.ColumnInfo {
	bigint, _ := duckdb.NewTypeInfo(duckdb.TYPE_BIGINT) // fixed types: no error
	double, _ := duckdb.NewTypeInfo(duckdb.TYPE_DOUBLE)
	infos := []duckdb.ColumnInfo{
		{Name: "series_id", T: bigint},
		{Name: b.schema.ByRole(mds.Time)[0].Name, T: bigint},
	}
	for _, c := range b.values {
		info := duckdb.ColumnInfo{Name: c.Name, T: double}
		if c.OptInt != nil {
			info.T = bigint
		}
		infos = append(infos, info)
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
	for i, row := range rows {
		if err := duckdb.SetChunkValue(chunk, 0, i, row.series); err != nil {
			return err
		}
		if err := duckdb.SetChunkValue(chunk, 1, i, row.micros); err != nil {
			return err
		}
	}
	for c, column := range b.values {
		if err := b.fillColumn(chunk, c+2, column, rows); err != nil {
			return err
		}
	}
	return chunk.SetSize(len(rows))
}

func (b *batch[R]) fillColumn(chunk duckdb.DataChunk, index int, column *mds.Column[R], rows []batchRow) error {
	for i, row := range rows {
		record := &b.records[row.record]
		var err error
		switch {
		case column.Float != nil:
			err = duckdb.SetChunkValue(chunk, index, i, *column.Float(record))
		case column.OptFloat != nil:
			err = setOptional(chunk, index, i, *column.OptFloat(record))
		case column.OptInt != nil:
			err = setOptional(chunk, index, i, *column.OptInt(record))
		default:
			err = fmt.Errorf("column %s has a type that this backend does not store", column.Name)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func setOptional[T comparable](chunk duckdb.DataChunk, column, row int, value mds.Opt[T]) error {
	v, ok := value.Value()
	if !ok {
		return duckdb.SetChunkValue[any](chunk, column, row, nil)
	}
	return duckdb.SetChunkValue(chunk, column, row, v)
}
