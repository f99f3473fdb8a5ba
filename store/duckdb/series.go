package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
)

// maxSpellings bounds what the cache of a kind's identities holds beside the
// identities themselves: their spellings in other cases. Past it the cache is
// dropped and filled again.
const maxSpellings = 1 << 20

// seriesIDs maps the identities of one kind to their ids. It belongs to the
// holder of the file's writer token.
type seriesIDs struct {
	ids       map[string]int64
	next      int64
	spellings int // of ids, those that are no stored form
}

// loadSeries returns the ids of a kind, read from the file at first use and
// after a write whose outcome is not known.
func (t *Table[R]) loadSeries(ctx context.Context, f *file) (*seriesIDs, error) {
	if known := f.series[t.sql.kind]; known != nil && known.spellings < maxSpellings {
		return known, nil
	}
	known := &seriesIDs{ids: make(map[string]int64), next: 1}
	err := t.eachSeries(ctx, f.conn, "", nil, func(id int64, record *R) {
		known.ids[string(t.appendKey(nil, record))] = id
		known.next = max(known.next, id+1)
	})
	if err != nil {
		return nil, err
	}
	f.series[t.sql.kind] = known
	return known, nil
}

// queryer is what a connection and a pool have in common.
type queryer interface {
	QueryContext(ctx context.Context, query string, args ...any) (*sql.Rows, error)
}

// eachSeries reads the identities that match where.
func (t *Table[R]) eachSeries(ctx context.Context, q queryer, where string, args []any, each func(id int64, record *R)) error {
	rows, err := q.QueryContext(ctx, t.sql.loadSeries+where, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	for rows.Next() {
		var id int64
		record := new(R)
		targets := []any{&id}
		for _, c := range t.identity {
			targets = append(targets, c.Text(record))
		}
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		each(id, record)
	}
	return rows.Err()
}

// appendKey appends the record's identity as it is spelled.
func (t *Table[R]) appendKey(key []byte, record *R) []byte {
	for _, c := range t.identity {
		key = append(key, *c.Text(record)...)
		key = append(key, 0)
	}
	return key
}

// resolve gives every record of the batch its series id and stored time. New
// identities get ids, which are returned for the caller to store.
func (t *Table[R]) resolve(known *seriesIDs, records []R) (rows []batchRow, added []R) {
	rows = make([]batchRow, len(records))
	var key []byte
	for i := range records {
		record := &records[i]
		rows[i].record = int32(i) // WriteBatch bounds the batch
		rows[i].micros = t.schema.Micros(record)
		if i > 0 && t.sameIdentity(record, &records[i-1]) {
			rows[i].series = rows[i-1].series
			continue
		}
		key = t.appendKey(key[:0], record)
		id, ok := known.ids[string(key)]
		if !ok {
			normal := *record
			t.schema.Normalize(&normal)
			canonical := string(t.appendKey(nil, &normal))
			if id, ok = known.ids[canonical]; !ok {
				id = known.next
				known.next++
				known.ids[canonical] = id
				added = append(added, normal)
			}
			if canonical != string(key) {
				known.ids[string(key)] = id
				known.spellings++
			}
		}
		rows[i].series = id
	}
	return rows, added
}

func (t *Table[R]) sameIdentity(a, b *R) bool {
	for _, c := range t.identity {
		if *c.Text(a) != *c.Text(b) {
			return false
		}
	}
	return true
}

// insertSeries stores new identities; the last of them has id last.
func (t *Table[R]) insertSeries(ctx context.Context, conn *sql.Conn, added []R, last int64) error {
	const rowsAStatement = 200
	id := last - int64(len(added)) + 1
	row := "(?" + strings.Repeat(", ?", len(t.identity)) + ")"
	for len(added) > 0 {
		n := min(len(added), rowsAStatement)
		args := make([]any, 0, n*(len(t.identity)+1))
		for i := range added[:n] {
			args = append(args, id)
			id++
			for _, c := range t.identity {
				args = append(args, *c.Text(&added[i]))
			}
		}
		text := t.sql.insertSeries + row + strings.Repeat(", "+row, n-1)
		if _, err := conn.ExecContext(ctx, text, args...); err != nil {
			return err
		}
		added = added[n:]
	}
	return nil
}

// selected are the series that a selection picks, and the condition on facts
// that goes with them.
type selected[R any] struct {
	series map[int64]*R
	rank   map[int64]int // position in order of identity
	where  string
	args   []any
}

// selectSeries resolves a selection. It returns no series where none matches.
func (t *Table[R]) selectSeries(ctx context.Context, q queryer, sel mds.Selection) (*selected[R], error) {
	if err := sel.Validate(); err != nil {
		return nil, err
	}
	where, args, err := t.identityCondition(sel)
	if err != nil {
		return nil, err
	}
	s := &selected[R]{series: make(map[int64]*R), rank: make(map[int64]int)}
	order := " ORDER BY " + strings.Join(t.sql.identity, ", ")
	err = t.eachSeries(ctx, q, where+order, args, func(id int64, record *R) {
		s.rank[id] = len(s.rank)
		s.series[id] = record
	})
	if err != nil {
		return nil, err
	}
	s.where = "true"
	if where != "" {
		s.where, s.args = t.idCondition(s.rank, where, args)
	}
	window, windowArgs := t.windowCondition(sel)
	s.where += window
	s.args = append(s.args, windowArgs...)
	return s, nil
}

// windowCondition restricts facts to the window. Its bounds are other ones for
// calendar bars where they are given in another zone than UTC.
func (t *Table[R]) windowCondition(sel mds.Selection) (string, []any) {
	instants, args := t.bounds(sel, false)
	dates, dateArgs := t.bounds(sel, true)
	if t.schema.Timeframe == nil || slices.Equal(args, dateArgs) {
		return instants, args
	}
	calendar := fmt.Sprintf("series_id IN (SELECT id FROM %s WHERE timeframe IN ('%s', '%s', '%s'))", t.sql.series, mds.Day, mds.Week, mds.Month)
	return fmt.Sprintf(" AND ((NOT %[1]s%[2]s) OR (%[1]s%[3]s))", calendar, instants, dates), append(args, dateArgs...)
}

func (t *Table[R]) bounds(sel mds.Selection, calendar bool) (condition string, args []any) {
	if !sel.Start.IsZero() {
		condition += " AND " + t.sql.time + " >= make_timestamp(?)"
		args = append(args, mds.Bound(sel.Start, calendar))
	}
	if !sel.End.IsZero() {
		condition += " AND " + t.sql.time + " < make_timestamp(?)"
		args = append(args, mds.Bound(sel.End, calendar))
	}
	return condition, args
}

// idCondition restricts facts to series: by literal ids, which prune row
// groups, or by a join where there are too many.
func (t *Table[R]) idCondition(ids map[int64]int, where string, args []any) (string, []any) {
	const maxLiterals = 1000
	switch {
	case len(ids) == 0:
		return "false", nil
	case len(ids) > maxLiterals:
		return fmt.Sprintf("series_id IN (SELECT id FROM %s%s)", t.sql.series, where), args
	}
	literals := make([]string, 0, len(ids))
	for id := range ids {
		literals = append(literals, strconv.FormatInt(id, 10))
	}
	return "series_id IN (" + strings.Join(literals, ", ") + ")", nil
}

// identityCondition is the WHERE clause of a selection on the series table,
// "" where it picks all.
func (t *Table[R]) identityCondition(sel mds.Selection) (string, []any, error) {
	var conditions []string
	var args []any
	pick := func(column string, values ...string) error {
		if t.schema.Lookup(column) == nil {
			return &Error{Op: "query " + t.sql.kind, Err: fmt.Errorf("%s have no column %s", t.sql.kind, column)}
		}
		conditions = append(conditions, column+" IN (?"+strings.Repeat(", ?", len(values)-1)+")")
		for _, v := range values {
			args = append(args, v)
		}
		return nil
	}
	if sel.Vendor != "" {
		if err := pick("vendor", mds.NormalizeVendor(sel.Vendor)); err != nil {
			return "", nil, err
		}
	}
	if len(sel.Symbols) > 0 {
		symbols := make([]string, len(sel.Symbols))
		for i, s := range sel.Symbols {
			symbols[i] = mds.NormalizeSymbol(s)
		}
		if err := pick("symbol", symbols...); err != nil {
			return "", nil, err
		}
	}
	if sel.Timeframe != "" {
		if err := pick("timeframe", string(sel.Timeframe)); err != nil {
			return "", nil, err
		}
	}
	if conditions == nil {
		return "", nil, nil
	}
	return " WHERE " + strings.Join(conditions, " AND "), args, nil
}
