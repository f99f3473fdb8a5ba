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
	columns     []*mds.Column[R] // keys, time and values
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

// ColumnInfos are the series id, then keys, time and values. Times are
// microseconds in a BIGINT, which is filled without boxing; SQL turns it into
// a timestamp or a date.
func (b *batch[R]) ColumnInfos() []duckdb.ColumnInfo {
	simple := func(t duckdb.Type) duckdb.TypeInfo {
		info, _ := duckdb.NewTypeInfo(t) // fixed types: no error
		return info
	}
	infos := []duckdb.ColumnInfo{{Name: "series_id", T: simple(duckdb.TYPE_BIGINT)}}
	for _, c := range b.columns {
		info := duckdb.ColumnInfo{Name: c.Name, T: simple(duckdb.TYPE_DOUBLE)}
		switch {
		case c.Time != nil, c.Date != nil, c.OptInt != nil:
			info.T = simple(duckdb.TYPE_BIGINT)
		case c.Text != nil:
			info.T = simple(duckdb.TYPE_VARCHAR)
		case c.Decimal != nil:
			info.T, _ = duckdb.NewDecimalInfo(18, 9)
		case c.List != nil:
			info.T, _ = duckdb.NewListInfo(simple(duckdb.TYPE_VARCHAR))
		case c.Metrics != nil:
			info.T, _ = duckdb.NewMapInfo(simple(duckdb.TYPE_VARCHAR), simple(duckdb.TYPE_DOUBLE))
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
	for i := range rows {
		if err := duckdb.SetChunkValue(chunk, 0, i, rows[i].series); err != nil {
			return err
		}
	}
	for c, column := range b.columns {
		for i := range rows {
			if err := b.fill(chunk, c+1, i, column, &rows[i]); err != nil {
				return err
			}
		}
	}
	return chunk.SetSize(len(rows))
}

// fill hands over one value.
func (b *batch[R]) fill(chunk duckdb.DataChunk, column, row int, c *mds.Column[R], from *batchRow) error {
	record := &b.records[from.record]
	switch {
	case c.Role == mds.Time:
		return duckdb.SetChunkValue(chunk, column, row, from.micros)
	case c.OptFloat != nil:
		return setOptional(chunk, column, row, *c.OptFloat(record))
	case c.Float != nil:
		return duckdb.SetChunkValue(chunk, column, row, *c.Float(record))
	case c.OptInt != nil:
		return setOptional(chunk, column, row, *c.OptInt(record))
	case c.Text != nil && *c.Text(record) == "", c.Time != nil && c.Missing(record), c.Date != nil && c.Missing(record):
		return duckdb.SetChunkValue[any](chunk, column, row, nil)
	case c.Text != nil:
		return duckdb.SetChunkValue(chunk, column, row, *c.Text(record))
	case c.Time != nil:
		return duckdb.SetChunkValue(chunk, column, row, c.Time(record).UnixMicro())
	case c.Date != nil:
		return duckdb.SetChunkValue(chunk, column, row, c.Date(record).Time().UnixMicro())
	case c.Decimal != nil:
		return duckdb.SetChunkValue(chunk, column, row, duckdb.Decimal{Width: 18, Scale: 9, Value: big.NewInt(int64(*c.Decimal(record)))})
	case c.List != nil:
		return duckdb.SetChunkValue(chunk, column, row, *c.List(record))
	default:
		// In order of their names, so that equal metrics are equal maps.
		metrics := *c.Metrics(record)
		var sorted duckdb.OrderedMap
		for _, name := range slices.Sorted(maps.Keys(metrics)) {
			sorted.Set(name, metrics[name])
		}
		return duckdb.SetChunkValue(chunk, column, row, sorted)
	}
}

func setOptional[T comparable](chunk duckdb.DataChunk, column, row int, value mds.Opt[T]) error {
	v, ok := value.Value()
	if !ok {
		return duckdb.SetChunkValue[any](chunk, column, row, nil)
	}
	return duckdb.SetChunkValue(chunk, column, row, v)
}
