package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// Records whose rows may be large are not merged by the database: to compare, it would
// read the texts of all rows, of 2,048 at a time. Which keys are stored is looked up by
// the keys alone; the rows of those that are found are read by their ids, compared, and
// replaced where they differ.

// lookCells are the columns that keys are looked up by, and the index of the record.
func (t *Table[R]) lookCells() []cell[R] {
	keys := t.keys
	if !t.schema.TimeIsValue {
		keys = slices.Concat(keys, []*mds.Column[R]{t.schema.TimeColumn()})
	}
	bigint, _ := duckdb.NewTypeInfo(duckdb.TYPE_BIGINT) // a fixed type: no error
	return append(cellsOf(keys), cell[R]{name: "n", info: bigint, fill: func(chunk duckdb.DataChunk, column int, _ []R, rows []batchRow) error {
		for i := range rows {
			if err := duckdb.SetChunkValue(chunk, column, i, int64(rows[i].record)); err != nil {
				return err
			}
		}
		return nil
	}})
}

// lookText finds the stored rows of a batch's keys; for late records it also tells which
// of them changed at a time or after it.
func (t *Table[R]) lookText(late bool) string {
	key := slices.Concat([]string{"series_id"}, t.sql.keys)
	read := []string{"series_id", "n"}
	for _, c := range t.keys {
		read = append(read, batchExpression(c))
	}
	if !t.schema.TimeIsValue {
		key = append(key, t.sql.time)
		read = append(read, batchExpression(t.schema.TimeColumn()))
	}
	on := make([]string, len(key))
	for i, c := range key {
		on[i] = fmt.Sprintf("f.%[1]s = b.%[1]s", c)
	}
	newer := ""
	if late {
		newer = ", (f.updated_at >= make_timestamp(?))::BIGINT"
	}
	return fmt.Sprintf("SELECT b.n, f.rowid, f.series_id, epoch_us(f.%s::TIMESTAMP)%s FROM %s f JOIN (SELECT %s FROM %s()) b ON %s ORDER BY f.rowid",
		t.sql.time, newer, t.sql.facts, strings.Join(read, ", "), t.sql.function, strings.Join(on, " AND "))
}

// found is a stored row with the index of the record that is to be in its place.
type found[R any] struct {
	fact   fact[R]
	record int32
	newer  bool // than a late record is: the row stays
}

// upsertTexts writes rows of which some may be stored. It returns those that are stored
// as they are, and those in whose place newer ones stay.
func (t *Table[R]) upsertTexts(ctx context.Context, f *file, w *batchWrite[R], rows []batchRow) (unchanged, newer []batchRow, err error) {
	stored, err := t.look(ctx, f, w, rows)
	if err != nil {
		return nil, nil, err
	}
	kept, replaced, err := t.compare(ctx, f, w.records, stored)
	if err != nil {
		return nil, nil, err
	}
	if err := t.remove(ctx, f, replaced); err != nil {
		return nil, nil, err
	}
	var written []batchRow
	for _, r := range rows {
		switch equal, stays := kept[r.record]; {
		case equal:
			unchanged = append(unchanged, r)
		case stays:
			newer = append(newer, r)
		default:
			written = append(written, r)
		}
	}
	return unchanged, newer, t.insert(ctx, f, w, written)
}

// look finds the stored rows of keys, in order of their ids.
func (t *Table[R]) look(ctx context.Context, f *file, w *batchWrite[R], rows []batchRow) (stored []found[R], err error) {
	if len(rows) == 0 {
		return nil, nil
	}
	var args []any
	if w.as != nil {
		args = []any{*w.as}
	}
	b := newBatch(t.lookCells(), w.records, rows)
	var v [5]int64
	err = eachRow(context.WithValue(ctx, batchKey{}, b), f.writerReads(), t.lookText(w.as != nil), args, func(values []driver.Value) error {
		if err := readInts(v[:len(values)], values); err != nil {
			return err
		}
		row := found[R]{record: int32(v[0]), fact: fact[R]{row: v[1], series: v[2], micros: v[3]}, newer: v[4] != 0} // WriteBatch bounds the batch
		t.schema.SetMicros(&row.fact.record, v[3])
		stored = append(stored, row)
		return nil
	})
	return stored, err
}

// compare reads the values of stored rows, and tells the records whose rows stay, true
// where these are equal, and the ids of the rows that are to be replaced.
func (t *Table[R]) compare(ctx context.Context, f *file, records []R, stored []found[R]) (kept map[int32]bool, replaced []int64, err error) {
	kept = make(map[int32]bool, len(stored))
	facts := make([]fact[R], len(stored))
	for i := range stored {
		facts[i] = stored[i].fact
	}
	columns := append(slices.Clone(t.values), t.schema.TimeColumn())
	i := 0
	_, err = t.newEmitter(f.writerReads(), func(r R) bool {
		row := &stored[i]
		i++
		equal := !slices.ContainsFunc(columns, func(c *mds.Column[R]) bool { return !c.Equal(&r, &records[row.record]) })
		if equal || row.newer {
			kept[row.record] = equal
		} else {
			replaced = append(replaced, row.fact.row)
		}
		return true
	}).emit(ctx, facts)
	return kept, replaced, err
}

// remove removes rows by their ids.
func (t *Table[R]) remove(ctx context.Context, f *file, ids []int64) error {
	for part := range slices.Chunk(ids, 1000) {
		list := make([]string, len(part))
		for i, id := range part {
			list[i] = strconv.FormatInt(id, 10)
		}
		n, err := affected(f.conn.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE rowid IN (%s)", t.sql.facts, strings.Join(list, ", "))))
		if err == nil && n != int64(len(part)) {
			err = fmt.Errorf("%d of %d rows were replaced", n, len(part))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// parts cuts rows that may be large into what one statement takes: a fraction of
// DuckDB's memory, which holds several times as much for it.
func (t *Table[R]) parts(records []R, rows []batchRow) iter.Seq[[]batchRow] {
	most := int(t.store.memory / 16)
	return func(yield func([]batchRow) bool) {
		for len(rows) > 0 {
			n := len(rows)
			if !t.plain {
				n = t.within(most, records, rows)
			}
			if !yield(rows[:n]) {
				return
			}
			rows = rows[n:]
		}
	}
}

// within is how many of the rows are of so many bytes, one at least.
func (t *Table[R]) within(bytes int, records []R, rows []batchRow) int {
	for n := range rows {
		if bytes -= t.schema.Size(&records[rows[n].record]); bytes < 0 {
			return max(n, 1)
		}
	}
	return len(rows)
}
