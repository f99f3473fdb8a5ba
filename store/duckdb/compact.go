package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"fmt"
	"strings"

	"github.com/marketdatastore/mds"
)

// What comes in order of time has the rows of each series scattered over the whole
// file, and a query for one series reads all of it. Compaction moves rows together:
// some million at a time, which are a segment of time where they came in its order,
// are written anew in order of series, then time, and removed from where they were,
// in one transaction. A query for a series then reads one or two row groups of each
// segment, and none of the segments outside of its window.
//
// layout says in which sizes. It is [usualLayout] but in tests.
type layout struct {
	// group is the number of rows in no order from which on it is worth while.
	group int64
	// segment is how many rows are put in order together. It bounds the time for
	// which the writer is kept waiting (under a second), and what the disk has to
	// hold beside the data.
	segment int64
	// chunk is how finely the order of rows is looked at.
	chunk int64
}

var usualLayout = layout{group: rowGroup, segment: 16 * rowGroup, chunk: 2048}

// stepsAhead is how many segments are moved before the room of the first is free
// again: looking at how many rows lie takes its time.
func (l layout) stepsAhead(rows int64) int { return 1 + int(rows/(12*l.segment)) }

// chunk is some rows that lie together: their row ids, and what series they are of.
type chunk struct {
	first, last int64
	rows        int64
	min, max    int64
}

// run is a stretch of rows in order of series.
type run struct {
	first, last int64 // row ids
	rows        int64
}

// runs finds the runs. Where two meet within a chunk, it belongs to the second.
func (l layout) runs(chunks []chunk) []run {
	var runs []run
	single := false // that the last run is one chunk
	for i, c := range chunks {
		if i == 0 || c.min < chunks[i-1].max {
			runs = append(runs, run{c.first, c.last, c.rows})
			single = true
			continue
		}
		r := &runs[len(runs)-1]
		r.last, r.rows = c.last, r.rows+c.rows
		if n := len(runs); !single && n > 1 && r.rows >= 16*l.chunk && runs[n-2].rows <= l.chunk && runs[n-2].last < r.first {
			runs[n-2] = run{runs[n-2].first, r.last, runs[n-2].rows + r.rows}
			runs = runs[:n-1]
		}
		single = false
	}
	return runs
}

// plan decides what is moved together. Runs of half a segment stay where they are.
// Smaller ones are made segments of, as soon as there are enough of them. What is
// left is put together like the digits of a number that is counted up: a run with
// newer ones that are half of it in all, so that no row is moved more than four or
// five times.
func (l layout) plan(runs []run) (steps [][]run) {
	var loose []run
	total := int64(0)
	for _, r := range runs {
		if r.rows < l.segment/2 {
			loose = append(loose, r)
			total += r.rows
		}
	}
	for total >= l.segment {
		n, rows := 0, int64(0)
		for rows < l.segment {
			rows += loose[n].rows
			n++
		}
		steps = append(steps, loose[:n:n])
		loose, total = loose[n:], total-rows
	}
	n, rows := 0, int64(0)
	for n < len(loose) {
		next := loose[len(loose)-1-n].rows
		if n > 0 && next > max(2*rows, l.group) {
			break
		}
		rows += next
		n++
	}
	if n > 1 && rows > l.group {
		steps = append(steps, loose[len(loose)-n:])
	}
	return steps
}

// Compact puts the rows of kinds that are numbers beside their series and time in an
// order in which a query for one series reads little. Readers go on reading, and
// writers get their turn between the segments. A process that is killed, or a disk
// that is full, leaves every row where it was or where it goes; a second call goes on.
//
// Beside the data the disk has to hold two million rows, or a twelfth of all where
// that is more, a second time; and what queries that last longer than the compaction
// still read.
func (t *Table[R]) Compact(ctx context.Context, tenant mds.Tenant) (mds.Compaction, error) {
	var done mds.Compaction
	if t.store.cfg.ReadOnly {
		return done, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil || !t.plain {
		return done, err
	}
	done.Kind = t.sql.kind
	for more := true; more; {
		if err := f.lockWriter(ctx); err != nil {
			return done, wrap(ctx, "compact "+t.sql.kind, err)
		}
		more, err = t.compact(ctx, f, &done)
		f.unlockWriter()
		if err != nil {
			return done, err
		}
	}
	return done, nil
}

// compact does the next steps, and tells whether there are more. The caller holds the
// writer's token.
func (t *Table[R]) compact(ctx context.Context, f *file, done *mds.Compaction) (more bool, err error) {
	defer func() {
		if err == nil && !more {
			f.upkeep.inOrder(t.sql.kind)
		}
		if err != nil {
			f.noteWrite(err)
			err = wrap(ctx, "compact "+t.sql.kind, err)
		}
	}()
	steps, rows, err := t.planCompaction(ctx, f.writerReads())
	if err != nil || len(steps) == 0 {
		return false, err
	}
	ahead := t.store.layout.stepsAhead(rows)
	last, err := t.lastRow(ctx, f.writerReads())
	if err != nil {
		return false, err
	}
	n := 0
	for stay := true; stay && n < min(len(steps), ahead); n++ {
		moved, err := t.move(ctx, f, steps[n])
		if err != nil {
			return false, err
		}
		done.Moved += moved
		done.Steps++
		now, err := t.lastRow(ctx, f.writerReads())
		if err != nil {
			return false, err
		}
		stay, last = now == last+moved, now
	}
	more = n < len(steps)
	// The room of the moved rows is given back here, unless a query still reads them.
	if _, err := f.conn.ExecContext(context.WithoutCancel(ctx), "CHECKPOINT"); err != nil {
		return false, err
	}
	return more, ctx.Err()
}

// planCompaction looks at how the facts lie.
func (t *Table[R]) planCompaction(ctx context.Context, conn *reader) (steps [][]run, rows int64, err error) {
	var chunks []chunk
	query := fmt.Sprintf("SELECT min(rowid), max(rowid), count(*), min(series_id), max(series_id) FROM %s GROUP BY rowid // %d ORDER BY 1", t.sql.facts, t.store.layout.chunk)
	err = eachRow(ctx, conn, query, nil, func(values []driver.Value) error {
		var v [5]int64
		for i := range v {
			var err error
			if v[i], err = read[int64](values[i]); err != nil {
				return err
			}
		}
		chunks = append(chunks, chunk{v[0], v[1], v[2], v[3], v[4]})
		rows += v[2]
		return nil
	})
	return t.store.layout.plan(t.store.layout.runs(chunks)), rows, err
}

// spans are the ranges of row ids of runs.
func spans(runs []run) [][2]int64 {
	var out [][2]int64
	for _, r := range runs {
		if n := len(out); n > 0 && out[n-1][1]+1 == r.first {
			out[n-1][1] = r.last
			continue
		}
		out = append(out, [2]int64{r.first, r.last})
	}
	return out
}

// lastRow is the highest row id. Moving n rows raises it by n; where it is another
// afterwards, a checkpoint has given the rows new ids.
func (t *Table[R]) lastRow(ctx context.Context, conn *reader) (id int64, err error) {
	err = conn.one(ctx, "SELECT coalesce(max(rowid), 0) FROM "+t.sql.facts, nil, &id)
	return id, err
}

// move writes rows anew, in order, and removes them from where they were. Whatever
// the ids are of, as many rows are removed as were written, or nothing is done.
func (t *Table[R]) move(ctx context.Context, f *file, step []run) (moved int64, err error) {
	ranges := spans(step)
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = fmt.Sprintf("SELECT * FROM %s WHERE rowid BETWEEN %d AND %d", t.sql.facts, r[0], r[1])
	}
	source := "(" + strings.Join(parts, " UNION ALL ") + ")"
	err = f.inTransaction(ctx, true, func() error {
		slices, err := t.slices(ctx, f.writerReads(), source)
		if err != nil {
			return err
		}
		for _, where := range slices {
			n, err := affected(f.conn.ExecContext(ctx, fmt.Sprintf("INSERT INTO %s SELECT * FROM %s WHERE %s ORDER BY series_id, %s", t.sql.facts, source, where, t.sql.time)))
			if err != nil {
				return err
			}
			moved += n
		}
		removed := int64(0)
		for _, r := range ranges {
			n, err := affected(f.conn.ExecContext(ctx, fmt.Sprintf("DELETE FROM %s WHERE rowid BETWEEN %d AND %d", t.sql.facts, r[0], r[1])))
			if err != nil {
				return err
			}
			removed += n
		}
		if removed != moved {
			return fmt.Errorf("%d rows were written anew and %d removed", moved, removed)
		}
		return nil
	})
	if err != nil {
		return 0, err
	}
	return moved, nil
}

// slices cuts rows into parts that are sorted one after the other, each in a fraction
// of DuckDB's memory: series after series, and a long one by time.
func (t *Table[R]) slices(ctx context.Context, conn *reader, source string) (where []string, err error) {
	most := t.store.sortRows()
	var first, last, rows int64 // series of the part, and its rows
	end := func() {
		if rows > 0 {
			where = append(where, fmt.Sprintf("series_id BETWEEN %d AND %d", first, last))
		}
		rows = 0
	}
	query := fmt.Sprintf("SELECT series_id, count(*), min(%[1]s), max(%[1]s) FROM %[2]s GROUP BY series_id ORDER BY series_id", micros(t.schema.TimeColumn().Name), source)
	err = eachRow(ctx, conn, query, nil, func(values []driver.Value) error {
		var v [4]int64
		for i := range v {
			var err error
			if v[i], err = read[int64](values[i]); err != nil {
				return err
			}
		}
		series, n, from, to := v[0], v[1], v[2], v[3]
		if rows+n > most {
			end()
		}
		if n <= most {
			if rows == 0 {
				first = series
			}
			last, rows = series, rows+n
			return nil
		}
		parts := n/most + 1
		width := (to-from)/parts + 1
		for part := range parts {
			where = append(where, fmt.Sprintf("series_id = %d AND %s >= make_timestamp(%d) AND %[2]s < make_timestamp(%[4]d)", series, t.sql.time, from+part*width, from+(part+1)*width))
		}
		return nil
	})
	end()
	return where, err
}

func affected(result sql.Result, err error) (int64, error) {
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}
