package duckdb

import (
	"cmp"
	"context"
	"database/sql"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"

	"github.com/duckdb/duckdb-go/v2"
)

// batchRow is a record of a batch: what it is sorted and found by.
type batchRow struct {
	series int64
	micros int64
	record int32 // index into the records
}

// arranger sorts the rows of batches by key and keeps the last of each. Its
// memory is used again. It belongs to the holder of the writer's token.
type arranger struct {
	rows, sorted     []batchRow
	appended, merged []batchRow
	keys             []string // of the key columns, by record; nil for kinds without
	timeIsValue      bool

	touched []int64 // series of the batch
	tallies []tally // by series; zero between batches
}

// tally is what is known of one series in a batch.
type tally struct {
	rows  int32 // their number; then where the next goes
	after int32 // index of the record after the series' last
}

// add notes that row i is of a series. It returns the index of the record that
// followed the series' row before, 0 where there was none.
func (a *arranger) add(i int, series int64) (after int) {
	a.rows[i].series = series
	if short := int(series) + 1 - len(a.tallies); short > 0 {
		a.tallies = append(a.tallies, make([]tally, max(short, len(a.tallies)))...)
	}
	t := &a.tallies[series]
	if t.rows == 0 {
		a.touched = append(a.touched, series)
	}
	t.rows++
	after, t.after = int(t.after), int32(i)+1 // WriteBatch bounds the batch
	return after
}

// arrange returns the rows sorted by series, then by key or time, without those
// that a later record supersedes. They are good until the next batch.
//
// Rows are dealt out by series, whose ids are small integers, and what comes in
// order of time within each is sorted by then.
func (a *arranger) arrange() []batchRow {
	slices.Sort(a.touched)
	a.sorted = slices.Grow(a.sorted[:0], len(a.rows))[:len(a.rows)]
	at := int32(0)
	for _, series := range a.touched {
		at, a.tallies[series].rows = at+a.tallies[series].rows, at
	}
	for i := range a.rows {
		place := &a.tallies[a.rows[i].series].rows
		a.sorted[*place] = a.rows[i]
		*place++
	}
	kept, start := a.sorted[:0], int32(0)
	for _, series := range a.touched {
		end := a.tallies[series].rows
		kept = a.unique(kept, a.sorted[start:end])
		start, a.tallies[series] = end, tally{}
	}
	a.touched = a.touched[:0]
	return kept
}

// unique sorts the rows of one series and appends the last of each key.
func (a *arranger) unique(kept, rows []batchRow) []batchRow {
	order := func(x, y batchRow) int { return cmp.Compare(x.micros, y.micros) }
	if a.keys != nil {
		order = func(x, y batchRow) int {
			by := strings.Compare(a.keys[x.record], a.keys[y.record])
			if by != 0 || a.timeIsValue {
				return by
			}
			return cmp.Compare(x.micros, y.micros)
		}
	}
	if !slices.IsSortedFunc(rows, order) {
		slices.SortStableFunc(rows, order)
	}
	for i := range rows {
		if i+1 < len(rows) && order(rows[i], rows[i+1]) == 0 {
			continue
		}
		kept = append(kept, rows[i])
	}
	return kept
}

// batch is what a statement's batch function yields: some rows of sorted ones.
type batch[R any] struct {
	cells   []cell[R] // beside the series id
	records []R
	rows    []batchRow

	shares int          // the rows are dealt out to so many threads
	taken  atomic.Int64 // shares that a thread has
}

// rowGroup is the number of rows that DuckDB keeps and compresses together.
// Transactions write whole groups straight into the file, past the log.
const rowGroup = 122_880

// newBatch deals large batches out to several threads, a row group at least to
// each. Small ones are done before a second thread has begun.
func newBatch[R any](cells []cell[R], records []R, rows []batchRow) *batch[R] {
	return &batch[R]{cells: cells, records: records, rows: rows, shares: max(1, min(len(rows)/rowGroup, runtime.GOMAXPROCS(0)))}
}

// batchKey finds the batch of the statement being run in its context, so that
// only the writer's own statement sees rows: a table function, once
// registered, can be called from every connection of the instance.
type batchKey struct{}

// registerBatch makes the kind's table function known to the instance.
func registerBatch(conn *sql.Conn, function string) error {
	return duckdb.RegisterTableUDF(conn, function, duckdb.ParallelChunkTableFunction{
		BindArgumentsContext: func(ctx context.Context, _ map[string]any, _ ...any) (duckdb.ParallelChunkTableSource, error) {
			source, ok := ctx.Value(batchKey{}).(duckdb.ParallelChunkTableSource)
			if !ok {
				return nil, fmt.Errorf("%s yields rows to the writer only", function)
			}
			return source, nil
		},
	})
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

// Init begins a reading of the batch.
func (b *batch[R]) Init() duckdb.ParallelTableSourceInfo {
	b.taken.Store(0)
	return duckdb.ParallelTableSourceInfo{MaxThreads: b.shares}
}

// share is what a thread is reading.
type share struct{ rows []batchRow }

// NewLocalState is a thread's. How many threads there will be is DuckDB's
// business: each takes shares until none is left.
func (b *batch[R]) NewLocalState() any { return &share{} }

// take returns the next share that no thread has, none after the last. Each is a
// range of the sorted rows, so that what a thread writes is sorted.
func (b *batch[R]) take() []batchRow {
	n := int(b.taken.Add(1))
	if n > b.shares {
		return nil
	}
	return b.rows[(n-1)*len(b.rows)/b.shares : n*len(b.rows)/b.shares]
}

// FillChunk hands over the next rows of a share, column by column.
func (b *batch[R]) FillChunk(state any, chunk duckdb.DataChunk) error {
	s := state.(*share)
	if len(s.rows) == 0 {
		s.rows = b.take()
	}
	rows := s.rows[:min(duckdb.GetDataChunkCapacity(), len(s.rows))]
	s.rows = s.rows[len(rows):]
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
