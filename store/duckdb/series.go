package duckdb

import (
	"context"
	"database/sql/driver"
	"fmt"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// maxSpellings bounds what the cache of a kind's identities holds beside the
// identities themselves: their spellings in other cases. Past it the cache is
// dropped and filled again.
const maxSpellings = 1 << 20

// seriesIDs maps the identities of one kind to their ids, and knows how far the
// facts of each go. It belongs to the holder of the file's writer token.
type seriesIDs struct {
	ids       map[string]int64
	next      int64
	spellings int // of ids, those that are no stored form

	marks    []mark // by id; nil where they have to be read
	stored   bool   // that there are facts
	arranger arranger
}

// mark is the span of the facts of a series: what lies outside of it is not
// stored. It may be wider than the facts, never narrower.
type mark struct{ first, last int64 }

// empty is the mark of a series without facts.
var empty = mark{math.MaxInt64, math.MinInt64}

// loadMarks reads the marks of a kind where they are not known: at the first write,
// and after a deletion, which may have narrowed them.
func (t *Table[R]) loadMarks(ctx context.Context, f *file, known *seriesIDs) error {
	if known.marks != nil {
		return nil
	}
	known.stored = false
	marks := slices.Repeat([]mark{empty}, int(known.next))
	var v [3]int64
	err := eachRow(ctx, f.writerReads(), t.sql.marks, nil, func(values []driver.Value) error {
		if err := readInts(v[:], values); err != nil {
			return err
		}
		if id := v[0]; id < 0 || id >= int64(len(marks)) {
			return fmt.Errorf("rows are of series %d, which is not there", id)
		}
		marks[v[0]] = mark{v[1], v[2]}
		known.stored = true
		return nil
	})
	if err == nil {
		known.marks = marks
	}
	return err
}

// fresh reports a row whose key the table cannot hold yet.
func (k *seriesIDs) fresh(row *batchRow, timeIsValue bool) bool {
	if row.series >= int64(len(k.marks)) {
		return true
	}
	m := &k.marks[row.series]
	if timeIsValue {
		return *m == empty
	}
	return row.micros > m.last || row.micros < m.first
}

// note widens the marks by rows that were written.
func (k *seriesIDs) note(rows []batchRow) {
	k.stored = true
	if short := int(k.next) - len(k.marks); short > 0 {
		k.marks = append(k.marks, slices.Repeat([]mark{empty}, short)...)
	}
	for i := range rows {
		m := &k.marks[rows[i].series]
		m.first, m.last = min(m.first, rows[i].micros), max(m.last, rows[i].micros)
	}
}

// loadSeries returns the ids of a kind, read from the file at first use and
// after a write whose outcome is not known.
func (t *Table[R]) loadSeries(ctx context.Context, f *file) (*seriesIDs, error) {
	if known := f.series[t.sql.kind]; known != nil && known.spellings < maxSpellings {
		return known, t.loadMarks(ctx, f, known)
	}
	known := f.series[t.sql.kind]
	if known == nil {
		known = &seriesIDs{}
	}
	known.ids, known.next, known.spellings = make(map[string]int64), 1, 0
	err := t.eachSeries(ctx, f.writerReads(), "", nil, func(id int64, record *R) {
		known.ids[string(batches.AppendKey(nil, t.identity, record))] = id
		known.next = max(known.next, id+1)
	})
	if err != nil {
		return nil, err
	}
	f.series[t.sql.kind] = known
	return known, t.loadMarks(ctx, f, known)
}

// eachSeries reads the identities that match where.
func (t *Table[R]) eachSeries(ctx context.Context, conn *reader, where string, args []any, each func(id int64, record *R)) error {
	return eachRow(ctx, conn, t.sql.loadSeries+where, args, func(values []driver.Value) error {
		id, err := read[int64](values[0])
		if err != nil {
			return err
		}
		record := new(R)
		if err := setAll(record, t.setIdentity, values[1:]); err != nil {
			return err
		}
		each(id, record)
		return nil
	})
}

// resolve gives every record of the batch its series id and stored time, in
// known's arranger. New identities get ids, which are returned for the caller to
// store.
func (t *Table[R]) resolve(known *seriesIDs, records []R) (added []R) {
	a := &known.arranger
	a.timeIsValue = t.schema.TimeIsValue
	a.rows = slices.Grow(a.rows[:0], len(records))[:len(records)]
	if len(t.keys) > 0 {
		a.keys = slices.Grow(a.keys[:0], len(records))[:len(records)]
	}
	calendar := func(*R) bool { return false }
	if t.schema.Timeframe != nil {
		calendar = func(r *R) bool { return t.schema.Timeframe(r).Calendar() }
	}
	var key []byte
	// Batches go through their series in turn, or dwell on one: most often a record
	// is of the series that followed the one before it the last time, too.
	before := 0
	for i := range records {
		record := &records[i]
		a.rows[i].record = int32(i) // WriteBatch bounds the batch
		if t.instant != nil && !calendar(record) {
			a.rows[i].micros = t.instant(record).UnixMicro()
		} else {
			a.rows[i].micros = t.schema.Micros(record)
		}
		if len(t.keys) > 0 {
			key = batches.AppendKey(key[:0], t.keys, record)
			a.keys[i] = string(key)
		}
		var id int64
		switch {
		case i > 0 && batches.Same(t.identity, record, &records[before]):
			id = a.rows[before].series
		case i > 0 && batches.Same(t.identity, record, &records[i-1]):
			id = a.rows[i-1].series
		default:
			key = batches.AppendKey(key[:0], t.identity, record)
			var ok bool
			if id, ok = known.ids[string(key)]; !ok {
				var unseen bool
				if id, unseen = t.identityID(known, record, string(key)); unseen {
					normal := *record
					t.schema.Normalize(&normal)
					added = append(added, normal)
				}
			}
		}
		before = a.add(i, id)
	}
	return added
}

// identityID returns the id of an identity that is not known in this spelling.
func (t *Table[R]) identityID(known *seriesIDs, record *R, spelled string) (id int64, added bool) {
	normal := *record
	t.schema.Normalize(&normal)
	canonical := string(batches.AppendKey(nil, t.identity, &normal))
	id, ok := known.ids[canonical]
	if !ok {
		id = known.next
		known.next++
		known.ids[canonical] = id
	}
	if canonical != spelled {
		known.ids[spelled] = id
		known.spellings++
	}
	return id, !ok
}

// insertSeries stores new identities; the last of them has id last.
func (t *Table[R]) insertSeries(ctx context.Context, f *file, added []R, last int64) error {
	if len(added) == 0 {
		return nil
	}
	rows := make([]batchRow, len(added))
	for i := range added {
		rows[i] = batchRow{series: last - int64(len(added)-1-i), record: int32(i)} // WriteBatch bounds the batch
	}
	b := newBatch(t.identityCells, added, rows)
	_, err := f.conn.ExecContext(context.WithValue(ctx, batchKey{}, b), t.sql.insertSeries)
	return err
}

// selected is what a selection picks, as conditions on facts.
type selected[R any] struct {
	where  string // all conditions
	args   []any
	rest   string // those that are not about the series
	within []any  // arguments of rest
	known  bool   // the versions of a fact are to be joined
	listed bool   // they are of the series that are in identities
	single bool   // and that is one

	identities map[int64]*R // those that were met; see identify
}

// selectSeries resolves a selection.
func (t *Table[R]) selectSeries(ctx context.Context, conn *reader, sel mds.Selection) (*selected[R], error) {
	conditions, err := t.schema.Conditions(sel)
	if err != nil {
		return nil, err
	}
	s := &selected[R]{known: !sel.KnownAt.IsZero(), identities: make(map[int64]*R)}
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
	in := ""
	if ofSeries != nil {
		if in, s.args, err = t.seriesCondition(ctx, conn, s, " WHERE "+strings.Join(ofSeries, " AND "), seriesArgs); err != nil {
			return nil, err
		}
	}
	window, windowArgs := t.windowCondition(sel, t.labels(sel, s))
	s.rest = strings.Join(append(append(ofFacts, "true"), window...), " AND ")
	s.within = append(s.within, windowArgs...)
	s.where = s.rest
	if in != "" {
		s.where = in + " AND " + s.rest
	}
	s.args = append(s.args, s.within...)
	return s, nil
}

// labels are what the facts of a selection are labelled by, as far as it is known.
type labels int

const (
	someDates labels = iota // and some instants, perhaps
	instants
	dates
)

func (t *Table[R]) labels(sel mds.Selection, s *selected[R]) labels {
	of := func(calendar bool) labels {
		if calendar {
			return dates
		}
		return instants
	}
	switch {
	case t.schema.Timeframe == nil:
		return of(t.schema.Dated())
	case sel.Timeframe != "":
		return of(sel.Timeframe.Calendar())
	case !s.listed:
		return someDates
	}
	found := make(map[labels]bool)
	for _, identity := range s.identities {
		found[of(t.schema.Timeframe(identity).Calendar())] = true
	}
	switch {
	case !found[dates]:
		return instants
	case !found[instants]:
		return dates
	}
	return someDates
}

// seriesCondition restricts facts to series: by literal ids, which prune row
// groups, or by a join where there are too many. It remembers their identities.
func (t *Table[R]) seriesCondition(ctx context.Context, conn *reader, s *selected[R], where string, args []any) (string, []any, error) {
	const maxLiterals = 1000
	var ids []int64
	err := t.eachSeries(ctx, conn, fmt.Sprintf("%s LIMIT %d", where, maxLiterals+1), args, func(id int64, record *R) {
		ids = append(ids, id)
		s.identities[id] = record
	})
	if err != nil {
		return "", nil, err
	}
	if len(ids) > maxLiterals {
		return fmt.Sprintf("series_id IN (SELECT id FROM %s%s)", t.sql.series, where), args, nil
	}
	s.listed, s.single = true, len(ids) == 1
	return inSeries(ids), nil, nil
}

// identify gives facts the identities of their series, which are read as they
// are met and remembered for the query.
func (t *Table[R]) identify(ctx context.Context, conn *reader, s *selected[R], facts []fact[R]) error {
	const (
		maxRemembered = 1 << 20
		maxLiterals   = 5000
	)
	if len(s.identities) > maxRemembered {
		clear(s.identities)
	}
	var unknown []int64
	for i := range facts {
		if i > 0 && facts[i].series == facts[i-1].series {
			continue
		}
		if id := facts[i].series; s.identities[id] == nil {
			s.identities[id] = new(R) // asked for once
			unknown = append(unknown, id)
		}
	}
	read := 0
	for ids := range slices.Chunk(unknown, maxLiterals) {
		where := " WHERE " + strings.Replace(inSeries(ids), "series_id", "id", 1)
		err := t.eachSeries(ctx, conn, where, nil, func(id int64, record *R) {
			read++
			s.identities[id] = record
		})
		if err != nil {
			return err
		}
	}
	if read != len(unknown) {
		return fmt.Errorf("%d rows are of series that are not there", len(unknown)-read)
	}
	var identity *R
	for i := range facts {
		if i == 0 || facts[i].series != facts[i-1].series {
			identity = s.identities[facts[i].series]
		}
		for _, c := range t.identity {
			c.Copy(&facts[i].record, identity)
		}
	}
	return nil
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
// given in another zone than UTC are other ones for dates than for instants: where
// there may be both, what holds for either comes first, which skips row groups.
func (t *Table[R]) windowCondition(sel mds.Selection, by labels) (conditions []string, args []any) {
	if by != someDates {
		if condition, bounds := t.bounds(sel, by == dates); condition != "" {
			conditions, args = append(conditions, condition), bounds
		}
	} else if !sel.Start.IsZero() || !sel.End.IsZero() {
		ofInstants, args1 := t.bounds(sel, false)
		ofDates, args2 := t.bounds(sel, true)
		around, args0 := t.around(sel)
		calendar := fmt.Sprintf("series_id IN (SELECT id FROM %s WHERE timeframe IN ('%s', '%s', '%s'))", t.sql.series, mds.Day, mds.Week, mds.Month)
		conditions = append(conditions, around, fmt.Sprintf("((NOT %[1]s AND %[2]s) OR (%[1]s AND %[3]s))", calendar, ofInstants, ofDates))
		args = slices.Concat(args0, args1, args2)
	}
	if !sel.KnownAt.IsZero() {
		conditions = append(conditions, t.sql.revision+" <= make_timestamp(?)")
		args = append(args, mds.Bound(sel.KnownAt.Truncate(time.Microsecond), false))
	}
	return conditions, args
}

// around is the window that holds that of instants and that of dates.
func (t *Table[R]) around(sel mds.Selection) (condition string, args []any) {
	var conditions []string
	if !sel.Start.IsZero() {
		conditions = append(conditions, t.sql.time+" >= make_timestamp(?)")
		args = append(args, min(mds.Bound(sel.Start, false), mds.Bound(sel.Start, true)))
	}
	if !sel.End.IsZero() {
		conditions = append(conditions, t.sql.time+" < make_timestamp(?)")
		args = append(args, max(mds.Bound(sel.End, false), mds.Bound(sel.End, true)))
	}
	return strings.Join(conditions, " AND "), args
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
