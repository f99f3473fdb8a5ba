package postgres

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// selected is what a selection picks, as conditions on series (s) and facts (f).
type selected[R any] struct {
	series []string
	facts  []string
	args   []any
	// seriesArgs of them are of the conditions on series, which come first.
	seriesArgs int
	sel        mds.Selection
	from       []tables
	single     int64 // the only series, where it is one
	known      bool
}

func (s *selected[R]) arg(value any) string {
	s.args = append(s.args, value)
	return fmt.Sprintf("$%d", len(s.args))
}

// pick adds a condition.
func (s *selected[R]) pick(c *mds.Condition[R]) {
	values := make([]string, len(c.Values))
	for i := range c.Values {
		switch {
		case c.Column.Role == mds.Identity:
			values[i] = identityText(c.Column, &c.Values[i])
		case c.Column.List != nil:
			values[i] = (*c.Column.List(&c.Values[i]))[0]
		default:
			values[i] = string(c.Column.AppendText(nil, &c.Values[i]))
		}
	}
	list, name := s.arg(values), quote(c.Column.Name)
	switch {
	case c.Column.Role == mds.Identity:
		s.series = append(s.series, fmt.Sprintf("s.%s = ANY (%s::text[]::%s[])", name, list, sqlType(c.Column)))
	case c.Column.List != nil:
		s.facts = append(s.facts, fmt.Sprintf("f.%s && %s::text[]", name, list))
	default:
		s.facts = append(s.facts, fmt.Sprintf("f.%s = ANY (%s::text[]::%s[])", name, list, sqlType(c.Column)))
	}
}

// selectRows resolves a selection.
func (t *Table[R]) selectRows(ctx context.Context, w *work, sel mds.Selection) (*selected[R], error) {
	conditions, err := t.schema.Conditions(sel)
	if err != nil {
		return nil, err
	}
	s := &selected[R]{sel: sel, args: []any{w.tenant.ID}, series: []string{"s.tenant_id = $1::uuid"}, known: !sel.KnownAt.IsZero()}
	for _, ofSeries := range []bool{true, false} {
		for i := range conditions {
			if c := &conditions[i]; (c.Column.Role == mds.Identity) == ofSeries {
				s.pick(c)
			}
		}
		if ofSeries {
			s.seriesArgs = len(s.args)
		}
	}
	if s.known {
		s.facts = append(s.facts, fmt.Sprintf("f.%s <= %s", quote(t.schema.RevisionColumn().Name), s.arg(instant(mds.Bound(sel.KnownAt.Truncate(time.Microsecond), false)))))
	}
	s.from = slices.Clone(t.tables)
	if t.schema.Timeframe != nil {
		if err := t.narrow(ctx, w, s); err != nil {
			return nil, err
		}
	}
	return s, t.findSingle(ctx, w, s)
}

// narrow leaves the tables of the timeframes that the series have.
func (t *Table[R]) narrow(ctx context.Context, w *work, s *selected[R]) error {
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT DISTINCT s.timeframe FROM %s s WHERE %s", t.series, strings.Join(s.series, " AND ")), s.args[:s.seriesArgs]...)
	if err != nil {
		return err
	}
	found, err := pgx.CollectRows(rows, pgx.RowTo[string])
	s.from = slices.DeleteFunc(s.from, func(table tables) bool {
		return !slices.ContainsFunc(found, func(tf string) bool { return table.where == fmt.Sprintf("s.timeframe = '%s'", tf) })
	})
	return err
}

// findSingle finds the only series, if it is one: its facts need no sorting.
func (t *Table[R]) findSingle(ctx context.Context, w *work, s *selected[R]) error {
	if len(s.from) != 1 || len(s.series) == 1 {
		return nil
	}
	rows, err := w.Query(ctx, fmt.Sprintf("SELECT s.id FROM %s s WHERE %s LIMIT 2", t.series, strings.Join(s.series, " AND ")), s.args[:s.seriesArgs]...)
	if err != nil {
		return err
	}
	ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
	if len(ids) == 1 {
		s.single = ids[0]
	}
	return err
}

// instant is a time as an argument.
func instant(micros int64) time.Time { return time.UnixMicro(micros).UTC() }

// where has the conditions on the facts of one table.
func (t *Table[R]) where(s *selected[R], table tables) string {
	conditions := slices.Concat(s.series, s.facts)
	if table.where != "" {
		conditions = append(conditions, table.where)
	}
	if s.single != 0 {
		conditions = append(conditions, "f.series_id = "+s.arg(s.single))
	}
	bound := func(at time.Time) string {
		placeholder := s.arg(instant(mds.Bound(at, table.calendar)))
		if t.time.Date != nil {
			return "(" + placeholder + "::timestamptz AT TIME ZONE 'UTC')::date"
		}
		return placeholder
	}
	if !s.sel.Start.IsZero() {
		conditions = append(conditions, "f."+t.timeName+" >= "+bound(s.sel.Start))
	}
	if !s.sel.End.IsZero() {
		conditions = append(conditions, "f."+t.timeName+" < "+bound(s.sel.End))
	}
	return strings.Join(conditions, " AND ")
}

// union selects columns of series and facts from all tables that a selection needs; ""
// where there are none.
func (t *Table[R]) union(s *selected[R], columns string) string {
	parts := make([]string, 0, len(s.from))
	for _, table := range s.from {
		parts = append(parts, fmt.Sprintf("SELECT %s FROM %s s JOIN %s f ON f.series_id = s.id WHERE %s", columns, t.series, table.name, t.where(s, table)))
	}
	return strings.Join(parts, " UNION ALL ")
}

// order is the order of a query, by the columns' names.
func (t *Table[R]) order(s *selected[R], byIdentity, descending bool) string {
	keys := names(t.keys)
	identity := names(t.identity)
	if s.single != 0 {
		identity = nil
	}
	var columns []string
	switch {
	case byIdentity && s.known: // the versions of a fact next to each other
		columns = slices.Concat(identity, names(t.schema.ByRole(mds.Key)), []string{t.timeName}, names(t.schema.ByRole(mds.Revision)))
	case byIdentity:
		columns = slices.Concat(identity, keys, []string{t.timeName})
	default:
		columns = slices.Concat([]string{t.timeName}, identity, keys)
	}
	if descending {
		return each(columns, "%s DESC", ", ")
	}
	return strings.Join(columns, ", ")
}

// Query reads the records of a window in one snapshot, in the order that [mds.Query]
// defines. The sequence ends after the first error. Memory does not grow with the number
// of records.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	records := func(yield func(R, error) bool) {
		goOn := true
		err := t.reading(ctx, "query", tenant, query.Selection, func(w *work, s *selected[R]) error {
			if len(s.from) == 0 {
				return nil
			}
			text := fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", t.union(s, t.read), t.order(s, query.ByIdentity, query.Descending))
			if query.Limit > 0 && !s.known {
				text += fmt.Sprintf(" LIMIT %d", query.Limit)
			}
			return t.eachRecord(ctx, w, text, s.args, func(r R) bool {
				goOn = yield(r, nil)
				return goOn
			})
		})
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
	if query.KnownAt.IsZero() {
		return records
	}
	return mds.Limited(mds.AsKnown(records, query.Descending), query.Limit)
}

// errEnough ends the reading of rows of which no more are wanted.
var errEnough = errors.New("enough")

// eachRecord hands on the rows of a statement that yields the columns of t.read.
func (t *Table[R]) eachRecord(ctx context.Context, w *work, text string, args []any, each func(R) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := w.Query(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close()
	defer cancel() // before Close, which reads what is left: it need not be sent
	first := true
	for rows.Next() {
		if first {
			first = false
			if err := checkBinary(rows); err != nil {
				return err
			}
		}
		var r R
		if err := decodeAll(&r, t.decode, rows.RawValues()); err != nil {
			return err
		}
		if !each(r) {
			return errEnough
		}
	}
	return rows.Err()
}

// reading runs fn in a snapshot.
func (t *Table[R]) reading(ctx context.Context, op string, tenant mds.Tenant, sel mds.Selection, fn func(*work, *selected[R]) error) error {
	leave, err := t.store.enter(false)
	if err != nil {
		return err
	}
	defer leave()
	err = t.store.inTransaction(ctx, tenant, readAccess, func(w *work) error {
		s, err := t.selectRows(ctx, w, sel)
		if err != nil {
			return err
		}
		return fn(w, s)
	})
	if errors.Is(err, errEnough) {
		return nil
	}
	return wrap(ctx, op+" "+t.schema.Kind, err)
}

// Latest returns the newest record of each series that the selection picks, in order of
// identity; of kinds with keys of their own, the newest of each key, and of those with
// versions, as they are known.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error) {
	if t.schema.TimeIsValue {
		return nil, &Error{Op: "latest " + t.schema.Kind, Class: Other, Err: fmt.Errorf("%s have no series of which one is the latest; query them newest first, with a limit", t.schema.Kind)}
	}
	newest := make([]R, 0)
	err := t.reading(ctx, "latest", tenant, sel, func(w *work, s *selected[R]) error {
		if len(s.from) == 0 {
			return nil
		}
		s.known = t.schema.RevisionColumn() != nil
		parts := make([]string, 0, len(s.from))
		for _, table := range s.from {
			where := t.where(s, table)
			if len(t.keys) == 0 {
				parts = append(parts, fmt.Sprintf(`SELECT %s FROM %s s CROSS JOIN LATERAL (SELECT * FROM %s f WHERE f.series_id = s.id AND %s ORDER BY f.%s DESC LIMIT 1) f WHERE %s`,
					t.read, t.series, table.name, where, t.timeName, strings.Join(s.series, " AND ")))
				continue
			}
			of := each(append([]string{"series_id"}, names(t.schema.ByRole(mds.Key))...), "f.%s", ", ")
			parts = append(parts, fmt.Sprintf(`SELECT %[1]s FROM %[2]s s JOIN %[3]s f ON f.series_id = s.id WHERE %[4]s
				AND (%[5]s, f.%[6]s) IN (SELECT %[5]s, max(f.%[6]s) FROM %[2]s s JOIN %[3]s f ON f.series_id = s.id WHERE %[4]s GROUP BY %[5]s)`,
				t.read, t.series, table.name, where, of, t.timeName))
		}
		text := fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", strings.Join(parts, " UNION ALL "), t.order(s, true, false))
		return t.eachRecord(ctx, w, text, s.args, func(r R) bool {
			newest = append(newest, r)
			return true
		})
	})
	if err != nil || t.schema.RevisionColumn() == nil {
		return newest, err
	}
	records := make([]R, 0, len(newest))
	for r, err := range mds.AsKnown(func(yield func(R, error) bool) {
		for _, r := range newest {
			if !yield(r, nil) {
				return
			}
		}
	}, false) {
		if err != nil {
			return nil, err
		}
		records = append(records, r)
	}
	return records, nil
}

// Series lists the series that hold records within the selection, in order of identity.
func (t *Table[R]) Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error) {
	var list []mds.Series[R]
	err := t.reading(ctx, "series of", tenant, sel, func(w *work, s *selected[R]) error {
		if len(s.from) == 0 {
			return nil
		}
		at := "f." + t.timeName
		if t.time.Date != nil {
			at = "(" + at + "::timestamp AT TIME ZONE 'UTC')"
		}
		parts := make([]string, 0, len(s.from))
		for _, table := range s.from {
			parts = append(parts, fmt.Sprintf("SELECT %s, g.n, g.first, g.last FROM (SELECT f.series_id, count(*) AS n, min(%s) AS first, max(%[2]s) AS last FROM %[3]s s JOIN %[4]s f ON f.series_id = s.id WHERE %[5]s GROUP BY f.series_id) g JOIN %[3]s s ON s.id = g.series_id",
				t.readID, at, t.series, table.name, t.where(s, table)))
		}
		text := fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", strings.Join(parts, " UNION ALL "), strings.Join(names(t.identity), ", "))
		rows, err := w.Query(ctx, text, s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var series mds.Series[R]
			fields := rows.RawValues()
			if err := errors.Join(checkBinary(rows), decodeAll(&series.Identity, t.idDecode, fields)); err != nil {
				return err
			}
			fields = fields[len(t.idDecode):]
			series.Rows = int64Of(fields[0])
			series.First, series.Last = instant(microsOf(fields[1])), instant(microsOf(fields[2]))
			list = append(list, series)
		}
		return rows.Err()
	})
	return list, err
}

// Count returns the number of records that a selection picks.
func (t *Table[R]) Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (n int64, err error) {
	err = t.reading(ctx, "count", tenant, sel, func(w *work, s *selected[R]) error {
		if len(s.from) == 0 {
			return nil
		}
		columns := "1"
		if s.known { // of each fact's versions one
			columns = "DISTINCT " + each(slices.Concat([]string{"series_id"}, names(t.schema.ByRole(mds.Key)), []string{t.timeName}), "f.%s", ", ")
		}
		return w.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM (%s) r", t.union(s, columns)), s.args...).Scan(&n)
	})
	return n, err
}

// Info sums up the kind.
func (t *Table[R]) Info(ctx context.Context, tenant mds.Tenant) (mds.KindInfo, error) {
	list, err := t.Series(ctx, tenant, mds.Selection{})
	info := mds.KindInfo{Kind: t.schema.Kind, Series: int64(len(list))}
	for i := range list {
		info.Rows += list[i].Rows
		if info.First == nil || list[i].First.Before(*info.First) {
			info.First = &list[i].First
		}
		if info.Last == nil || list[i].Last.After(*info.Last) {
			info.Last = &list[i].Last
		}
	}
	return info, err
}

// Delete removes what the selection picks and returns the number of records. The zero
// selection removes all of the kind.
func (t *Table[R]) Delete(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (deleted int64, err error) {
	op := "delete " + t.schema.Kind
	switch {
	case t.store.cfg.ReadOnly:
		return 0, errReadOnly
	case !sel.KnownAt.IsZero():
		return 0, &Error{Op: op, Class: Other, Err: errors.New("what was known at a time is joined from several records; pick these by their own columns")}
	}
	leave, err := t.store.enter(true)
	if err != nil {
		return 0, err
	}
	defer leave()
	err = retrying(ctx, func(int) error {
		return wrap(ctx, op, t.store.inTransaction(ctx, tenant, changeAccess, func(w *work) error {
			deleted = 0
			s, err := t.selectRows(ctx, w, sel)
			if err != nil {
				return err
			}
			args := len(s.args)
			for _, table := range s.from {
				s.args = s.args[:args]
				// Locked in the order in which writers do, so that they do not wait for each other.
				done, err := w.Exec(ctx, fmt.Sprintf(`WITH picked AS MATERIALIZED (SELECT f.ctid AS at FROM %[1]s f JOIN %[2]s s ON f.series_id = s.id WHERE %[3]s ORDER BY %[4]s FOR UPDATE OF f)
					DELETE FROM %[1]s f USING picked WHERE f.ctid = picked.at`, table.name, t.series, t.where(s, table), each(t.key, "f.%s", ", ")), s.args...)
				if err != nil {
					return err
				}
				deleted += done.RowsAffected()
			}
			return nil
		}))
	})
	if err != nil {
		return 0, err
	}
	return deleted, nil
}
