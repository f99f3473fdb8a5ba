package duckdb

import (
	"context"
	"database/sql"
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
	"time"

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
		known.ids[string(appendKey(nil, t.identity, record))] = id
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
		targets, assign := scanTargets(t.identity, record)
		if err := rows.Scan(append([]any{&id}, targets...)...); err != nil {
			return err
		}
		if err := assign(); err != nil {
			return err
		}
		each(id, record)
	}
	return rows.Err()
}

// appendKey appends columns as they are spelled, so that different values
// make different keys.
func appendKey[R any](key []byte, columns []*mds.Column[R], record *R) []byte {
	for _, c := range columns {
		switch {
		case c.Text != nil:
			key = append(append(key, *c.Text(record)...), 0) // valid text holds no NUL
		case c.Time != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(c.Time(record).UnixMicro()))
		case c.Date != nil:
			d := *c.Date(record)
			key = binary.BigEndian.AppendUint64(key, uint64(d.Year)<<32|uint64(d.Month)<<16|uint64(d.Day))
		case c.Decimal != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(*c.Decimal(record)))
		}
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
		if len(t.keys) > 0 {
			key = appendKey(key[:0], t.keys, record)
			rows[i].key = string(key)
		}
		if i > 0 && t.sameIdentity(record, &records[i-1]) {
			rows[i].series = rows[i-1].series
			continue
		}
		key = appendKey(key[:0], t.identity, record)
		id, ok := known.ids[string(key)]
		if !ok {
			normal := *record
			t.schema.Normalize(&normal)
			canonical := string(appendKey(nil, t.identity, &normal))
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
		if c.Text != nil && *c.Text(a) != *c.Text(b) || c.Text == nil && c.Compare(a, b) != 0 {
			return false
		}
	}
	return true
}

// insertSeries stores new identities; the last of them has id last.
func (t *Table[R]) insertSeries(ctx context.Context, conn *sql.Conn, added []R, last int64) error {
	if len(added) == 0 {
		return nil
	}
	b := &batch[R]{cells: t.identityCells, records: added, rows: make([]batchRow, len(added))}
	for i := range added {
		b.rows[i] = batchRow{series: last - int64(len(added)-1-i), record: int32(i)} // WriteBatch bounds the batch
	}
	_, err := conn.ExecContext(context.WithValue(ctx, batchKey{}, b), t.sql.insertSeries)
	return err
}

// selected are the series that a selection picks, and the condition on facts
// that goes with them.
type selected[R any] struct {
	series map[int64]*R
	rank   map[int64]int // position in order of identity
	where  string        // all conditions on facts
	args   []any
	rest   string // those that are not about the series
	within []any  // arguments of rest
	known  bool   // the versions of a fact are to be joined
}

// selectSeries resolves a selection. It returns no series where none matches.
func (t *Table[R]) selectSeries(ctx context.Context, q queryer, sel mds.Selection) (*selected[R], error) {
	conditions, err := t.schema.Conditions(sel)
	if err != nil {
		return nil, err
	}
	s := &selected[R]{series: make(map[int64]*R), rank: make(map[int64]int), known: !sel.KnownAt.IsZero()}
	var ofSeries, ofFacts []string
	var seriesArgs []any
	for i := range conditions {
		text, args := conditionText(&conditions[i])
		if conditions[i].Column.Role == mds.Identity {
			ofSeries = append(ofSeries, text)
			seriesArgs = append(seriesArgs, args...)
		} else {
			ofFacts = append(ofFacts, text)
			s.within = append(s.within, args...)
		}
	}
	where := ""
	if ofSeries != nil {
		where = " WHERE " + strings.Join(ofSeries, " AND ")
	}
	var ids []int64
	err = t.eachSeries(ctx, q, where+" ORDER BY "+strings.Join(t.sql.identity, ", "), seriesArgs, func(id int64, record *R) {
		ids = append(ids, id)
		s.rank[id] = len(s.rank)
		s.series[id] = record
	})
	if err != nil {
		return nil, err
	}
	window, windowArgs := t.windowCondition(sel)
	s.rest = strings.Join(append(append(ofFacts, "true"), window...), " AND ")
	s.within = append(s.within, windowArgs...)
	s.where = s.rest
	if ofSeries != nil {
		// Literal ids prune row groups; too many of them are a join.
		const maxLiterals = 1000
		in := inSeries(ids)
		if len(ids) > maxLiterals {
			in = fmt.Sprintf("series_id IN (SELECT id FROM %s%s)", t.sql.series, where)
			s.args = append(s.args, seriesArgs...)
		}
		s.where = in + " AND " + s.rest
	}
	s.args = append(s.args, s.within...)
	return s, nil
}

// conditionText is a condition in SQL.
func conditionText[R any](c *mds.Condition[R]) (string, []any) {
	placeholders := make([]string, len(c.Values))
	args := make([]any, len(c.Values))
	for i := range c.Values {
		placeholders[i], args[i] = argument(c.Column, &c.Values[i])
	}
	list := strings.Join(placeholders, ", ")
	if c.Column.List != nil {
		return "list_has_any(" + quote(c.Column.Name) + ", list_value(" + list + "))", args
	}
	return quote(c.Column.Name) + " IN (" + list + ")", args
}

// windowCondition restricts facts to the window and to what was known. Bounds
// given in another zone than UTC are other ones for dates than for instants.
func (t *Table[R]) windowCondition(sel mds.Selection) (conditions []string, args []any) {
	instants, args := t.bounds(sel, t.schema.Dated())
	dates, dateArgs := t.bounds(sel, true)
	switch {
	case len(args) == 0:
	case t.schema.Timeframe == nil || slices.Equal(args, dateArgs):
		conditions = append(conditions, instants)
	default:
		calendar := fmt.Sprintf("series_id IN (SELECT id FROM %s WHERE timeframe IN ('%s', '%s', '%s'))", t.sql.series, mds.Day, mds.Week, mds.Month)
		conditions = append(conditions, fmt.Sprintf("((NOT %[1]s AND %[2]s) OR (%[1]s AND %[3]s))", calendar, instants, dates))
		args = append(args, dateArgs...)
	}
	if !sel.KnownAt.IsZero() {
		conditions = append(conditions, t.sql.revision+" <= make_timestamp(?)")
		args = append(args, mds.Bound(sel.KnownAt.Truncate(time.Microsecond), false))
	}
	return conditions, args
}

func (t *Table[R]) bounds(sel mds.Selection, calendar bool) (condition string, args []any) {
	var conditions []string
	if !sel.Start.IsZero() {
		conditions = append(conditions, t.sql.time+" >= make_timestamp(?)")
		args = append(args, mds.Bound(sel.Start, calendar))
	}
	if !sel.End.IsZero() {
		conditions = append(conditions, t.sql.time+" < make_timestamp(?)")
		args = append(args, mds.Bound(sel.End, calendar))
	}
	return strings.Join(conditions, " AND "), args
}
