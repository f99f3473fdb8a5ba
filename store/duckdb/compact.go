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
	// which writers are kept waiting, and what the disk has to hold beside the data.
	segment int64
	// chunk is how finely the order of rows is looked at.
	chunk int64
}

var usualLayout = layout{group: rowGroup, segment: 16 * rowGroup, chunk: 2048}

// room is how many of some rows are moved before that of the first is free again:
// looking at how all of them lie takes its time.
func (l layout) room(rows int64) int64 { return max(1, rows/12) }

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
// Beside the data the disk has to hold three million rows and a twelfth of all a second
// time; and what queries that last longer than the compaction still read.
func (t *Table[R]) Compact(ctx context.Context, tenant mds.Tenant) (mds.Compaction, error) {
	var done mds.Compaction
	if t.store.cfg.ReadOnly {
		return done, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil || !t.plain {
		return done, err
	}
	running, end, ok := f.upkeep.begin(ctx)
	if !ok {
		return done, f.gone
	}
	defer end()
	if err = t.compact(running, f, f.taking, &done); err != nil && ctx.Err() == nil {
		select {
		case <-f.closed: // which ended it
			err = f.gone
		default:
		}
	}
	return done, err
}

// turn runs a function that needs the writer's token.
type turn func(ctx context.Context, fn func() error) error

// compact puts rows in order until they are, or ctx ends. Writers are let in between
// its turns; what is to be done is looked at outside of them.
func (t *Table[R]) compact(ctx context.Context, f *file, turn turn, done *mds.Compaction) (err error) {
	done.Kind = t.sql.kind
	defer func() { err = wrap(ctx, "compact "+t.sql.kind, err) }()
	for {
		noted, times := f.upkeep.noted(t.sql.kind), f.rows.times.Load()
		var steps [][]run
		var room int64 // for rows that were moved
		err := f.snapshot(ctx, false, func(conn *reader) (err error) {
			steps, room, err = t.planCompaction(ctx, conn)
			return err
		})
		if err != nil {
			return err
		}
		if len(steps) == 0 {
			f.upkeep.inOrder(t.sql.kind, noted)
			return nil
		}
		for err == nil && len(steps) > 0 && f.moved.Load() < room {
			err = turn(ctx, func() (err error) {
				if now := f.rows.times.Load(); now != times {
					times = now // the ids of the plan may be of other rows by now
					steps, _, err = t.planCompaction(ctx, f.writerReads())
				}
				if err == nil && len(steps) > 0 {
					err = t.move(ctx, f, steps[0], done)
					steps = steps[1:]
				}
				f.noteWrite(err)
				return err
			})
		}
		if err != nil {
			return err
		}
		// The room of the moved rows is given back here, unless a query still reads them.
		err = turn(ctx, func() error {
			err := f.writeOut(ctx)
			f.noteWrite(err)
			return err
		})
		if err != nil {
			return err
		}
	}
}

// planCompaction looks at how the facts lie.
func (t *Table[R]) planCompaction(ctx context.Context, conn *reader) (steps [][]run, room int64, err error) {
	var chunks []chunk
	var rows int64
	query := fmt.Sprintf("SELECT min(rowid), max(rowid), count(*), min(series_id), max(series_id) FROM %s GROUP BY rowid // %d ORDER BY 1", t.sql.facts, t.store.layout.chunk)
	var v [5]int64
	err = eachRow(ctx, conn, query, nil, func(values []driver.Value) error {
		if err := readInts(v[:], values); err != nil {
			return err
		}
		chunks = append(chunks, chunk{v[0], v[1], v[2], v[3], v[4]})
		rows += v[2]
		return nil
	})
	l := t.store.layout
	return l.plan(l.runs(chunks)), l.room(rows), err
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

// move writes rows anew, in order, and removes them from where they were. Whatever
// the ids are of, as many rows are removed as were written, or nothing is done.
func (t *Table[R]) move(ctx context.Context, f *file, step []run, done *mds.Compaction) error {
	ranges := spans(step)
	parts := make([]string, len(ranges))
	for i, r := range ranges {
		parts[i] = fmt.Sprintf("SELECT * FROM %s WHERE rowid BETWEEN %d AND %d", t.sql.facts, r[0], r[1])
	}
	source := "(" + strings.Join(parts, " UNION ALL ") + ")"
	var moved int64
	err := f.inTransaction(ctx, true, func() error {
		parts, err := t.sortable(ctx, f.writerReads(), source)
		if err != nil {
			return err
		}
		for _, where := range parts {
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
	if err == nil {
		f.moved.Add(moved)
		done.Moved += moved
		done.Steps++
	}
	return err
}

// sortable cuts rows into parts that are sorted one after the other, each in a fraction
// of DuckDB's memory: series after series, and a long one by time.
func (t *Table[R]) sortable(ctx context.Context, conn *reader, source string) (where []string, err error) {
	most := t.store.sortRows()
	var first, last, rows int64 // series of the part, and its rows
	end := func() {
		if rows > 0 {
			where = append(where, fmt.Sprintf("series_id BETWEEN %d AND %d", first, last))
		}
		rows = 0
	}
	query := fmt.Sprintf("SELECT series_id, count(*), min(%[1]s), max(%[1]s) FROM %[2]s GROUP BY series_id ORDER BY series_id", micros(t.schema.TimeColumn().Name), source)
	var v [4]int64
	err = eachRow(ctx, conn, query, nil, func(values []driver.Value) error {
		if err := readInts(v[:], values); err != nil {
			return err
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
