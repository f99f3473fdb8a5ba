package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"

	"github.com/marketdatastore/mds"
)

// Of kinds whose rows may be large, a page has the keys only; the values are read
// by the rows' ids when they are due, in parts of about wideBytes.
const (
	firstWide = 16 // rows of the first part
	maxWide   = 512
	wideBytes = 8 << 20
	smallRow  = 8 << 10 // bytes
)

// emitter hands the records of a query on. Those whose rows may be large it
// first reads, in parts that heed the bytes of the ones before.
type emitter[R mds.Record[R]] struct {
	table *Table[R]
	conn  *reader
	yield func(R) bool

	rows  int  // of the next part
	small bool // that the rows of the last part were
}

func (t *Table[R]) newEmitter(conn *reader, yield func(R) bool) *emitter[R] {
	return &emitter[R]{table: t, conn: conn, yield: yield, rows: firstWide}
}

// emit tells whether more are wanted.
func (e *emitter[R]) emit(ctx context.Context, facts []fact[R]) (goOn bool, err error) {
	for len(facts) > 0 {
		part := facts
		if !e.table.plain {
			part = facts[:min(e.rows, len(facts))]
			if err := e.table.widen(ctx, e.conn, part, e.small); err != nil {
				return false, err
			}
			e.note(part)
		}
		facts = facts[len(part):]
		for i := range part {
			if !e.yield(part[i].record) {
				return false, nil
			}
			if !e.table.plain {
				part[i].record = *new(R) // which may be large, and is done with
			}
		}
	}
	return true, nil
}

// note makes the next part one of about wideBytes.
func (e *emitter[R]) note(part []fact[R]) {
	bytes := 1
	for i := range part {
		bytes += e.table.schema.Size(&part[i].record)
	}
	e.rows = max(1, min(len(part)*4, maxWide, len(part)*(wideBytes/1024)/(bytes/1024+1)))
	e.small = bytes/len(part) < smallRow
}

// widen reads the values of facts of which the keys are known. Ranges of rows
// are read exactly, and a few of them are fastest; a join is one statement for
// any number, but holds what lies between its ends in memory, too.
func (t *Table[R]) widen(ctx context.Context, conn *reader, facts []fact[R], small bool) error {
	wanted := make(map[int64]*fact[R], len(facts))
	ids := make([]int64, len(facts))
	for i := range facts {
		ids[i] = facts[i].row
		wanted[facts[i].row] = &facts[i]
	}
	slices.Sort(ids)
	const near, few = 16, 16
	ranges := rangesOf(ids, near)
	if small && len(ranges) > few {
		if err := t.widenRows(ctx, conn, wanted, t.sql.wideJoin(ids)); err != nil {
			return err
		}
		return allThere(wanted)
	}
	for _, r := range ranges {
		if err := t.widenRows(ctx, conn, wanted, fmt.Sprintf("%s WHERE rowid BETWEEN %d AND %d", t.sql.wide, r[0], r[1])); err != nil {
			return err
		}
	}
	return allThere(wanted)
}

// errMoved is for ids that are of other rows now. It is not expected: see rowIDs.
var errMoved = &Error{Op: "query", Err: errors.New("rows were given new ids while they were read"), Hint: "run it again", retry: true}

func allThere[R any](wanted map[int64]*fact[R]) error {
	if len(wanted) > 0 {
		return errMoved
	}
	return nil
}

// rangesOf joins sorted ids that are near each other.
func rangesOf(ids []int64, near int64) [][2]int64 {
	var ranges [][2]int64
	for _, id := range ids {
		if n := len(ranges); n > 0 && id-ranges[n-1][1] <= near {
			ranges[n-1][1] = id
			continue
		}
		ranges = append(ranges, [2]int64{id, id})
	}
	return ranges
}

// widenRows runs a statement that yields rows, and takes those it has the values of
// out of the wanted.
func (t *Table[R]) widenRows(ctx context.Context, conn *reader, wanted map[int64]*fact[R], text string) error {
	var v [3]int64 // row id, series id, time
	return eachRow(ctx, conn, text, nil, func(values []driver.Value) error {
		if err := readInts(v[:], values); err != nil {
			return err
		}
		fact, asked := wanted[v[0]]
		if !asked {
			return nil
		}
		if fact.series != v[1] || fact.micros != v[2] {
			return errMoved
		}
		delete(wanted, v[0])
		return setAll(&fact.record, t.setValues, values[3:])
	})
}
