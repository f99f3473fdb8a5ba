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
	"github.com/marketdatastore/mds/internal/rollup"
)

// Query reads the records of a window in one snapshot, in the order that [mds.Query]
// defines. The sequence ends after the first error. Memory does not grow with the number
// of records.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	records := func(yield func(R, error) bool) {
		ended := false
		err := t.reading(ctx, "query", tenant, query.Selection, func(w *work, s *selected[R]) error {
			goOn, err := t.queryWithin(ctx, w, s, query, yield)
			ended = !goOn
			return err
		})
		if err != nil && !ended {
			var none R
			yield(none, err)
		}
	}
	if query.KnownAt.IsZero() {
		return records
	}
	return mds.Limited(mds.AsKnown(records, query.Descending), query.Limit)
}

// queryWithin hands on the records of a query within a snapshot, and tells whether more
// are wanted.
func (t *Table[R]) queryWithin(ctx context.Context, w *work, s *selected[R], query mds.Query, yield func(R, error) bool) (goOn bool, err error) {
	if len(s.from) == 0 {
		return true, nil
	}
	s.unordered = query.Unordered && !s.known
	s.limitEach(query)
	text := t.union(s, t.row(s))
	if !s.unordered {
		text = fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", text, t.order(s, query.ByIdentity, query.Descending))
	}
	if query.Limit > 0 && !s.known {
		text += fmt.Sprintf(" LIMIT %d", query.Limit)
	}
	goOn = true
	err = t.eachRecord(ctx, w, s, text, func(r R) bool {
		goOn = yield(r, nil)
		return goOn
	})
	return goOn, err
}

// errEnough ends the reading of rows of which no more are wanted.
var errEnough = errors.New("enough")

// eachRecord hands on the records of a statement that yields the columns of row.
func (t *Table[R]) eachRecord(ctx context.Context, w *work, s *selected[R], text string, each func(R) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	rows, err := w.Query(ctx, text, s.args...)
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
		r, err := t.decodeRow(s, rows.RawValues())
		if err != nil {
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
		parts := make([]string, len(s.from))
		for i := range s.from {
			parts[i] = t.latest(s, &s.from[i])
		}
		text := fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", strings.Join(parts, " UNION ALL "), t.order(s, true, false))
		return t.eachRecord(ctx, w, s, text, func(r R) bool {
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

// latest selects the newest facts of the series of a part.
func (t *Table[R]) latest(s *selected[R], p *part) string {
	series, where := t.seriesOf(s, p), t.where(s, p)
	if len(t.keys) == 0 { // one look into the index for each
		outer := "true"
		if s.joined != nil {
			outer = strings.Join(s.joined, " AND ")
		}
		return fmt.Sprintf(`SELECT %s FROM %s CROSS JOIN LATERAL (SELECT * FROM %s f WHERE f.series_id = s.id AND %s ORDER BY f.%s DESC LIMIT 1) f WHERE %s`,
			t.row(s), series, p.name, where, t.timeName, outer)
	}
	of := each(append([]string{"series_id"}, names(t.schema.ByRole(mds.Key))...), "f.%s", ", ")
	return fmt.Sprintf(`SELECT %[1]s FROM %[2]s JOIN %[3]s f ON f.series_id = s.id WHERE %[4]s
		AND (%[5]s, f.%[6]s) IN (SELECT %[5]s, max(f.%[6]s) FROM %[2]s JOIN %[3]s f ON f.series_id = s.id WHERE %[4]s GROUP BY %[5]s)`,
		t.row(s), series, p.name, where, of, t.timeName)
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
		parts := make([]string, len(s.from))
		columns := "s.rank, g.*"
		if s.joined != nil {
			columns = t.readID + ", g.*"
		}
		for i := range s.from {
			p := &s.from[i]
			series := t.seriesOf(s, p)
			parts[i] = fmt.Sprintf("SELECT %s FROM (SELECT count(*) AS n, min(%s) AS first, max(%[2]s) AS last, f.series_id FROM %[3]s JOIN %[4]s f ON f.series_id = s.id WHERE %[5]s GROUP BY f.series_id) g JOIN %[3]s ON s.id = g.series_id",
				columns, at, series, p.name, t.where(s, p))
		}
		order := "rank"
		if s.joined != nil {
			order = strings.Join(names(t.identity), ", ")
		}
		rows, err := w.Query(ctx, fmt.Sprintf("SELECT * FROM (%s) r ORDER BY %s", strings.Join(parts, " UNION ALL "), order), s.args...)
		if err != nil {
			return err
		}
		defer rows.Close()
		for rows.Next() {
			var series mds.Series[R]
			fields := rows.RawValues()
			if err := checkBinary(rows); err != nil {
				return err
			}
			if s.joined != nil {
				if err := decodeAll(&series.Identity, t.idDecode, fields); err != nil {
					return err
				}
				fields = fields[len(t.idDecode):]
			} else {
				series.Identity, fields = s.picked[int32Of(fields[0])], fields[1:]
			}
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
			for i := range s.from {
				p := &s.from[i]
				before := len(s.args)
				n, err := t.deletePart(ctx, w, s, p)
				if err != nil {
					return err
				}
				s.args = s.args[:before]
				deleted += n
			}
			return nil
		}))
	})
	if err != nil {
		return 0, err
	}
	return deleted, nil
}

// deletePart removes what a selection picks of one table.
func (t *Table[R]) deletePart(ctx context.Context, w *work, s *selected[R], p *part) (deleted int64, err error) {
	// Locked in the order in which writers do, so that they do not wait for each other.
	picked := fmt.Sprintf("WITH picked AS MATERIALIZED (SELECT %[4]s FROM %[2]s JOIN %[1]s f ON f.series_id = s.id WHERE %[3]s ORDER BY %[4]s FOR UPDATE OF f)", p.name, t.seriesOf(s, p), t.where(s, p), each(t.key, "f.%s", ", "))
	remove := fmt.Sprintf("DELETE FROM %s f USING picked WHERE %s", p.name, each(t.key, "f.%[1]s = picked.%[1]s", " AND "))
	names := w.noted(p.tables)
	if names == nil {
		done, err := w.Exec(ctx, picked+" "+remove, s.args...)
		return done.RowsAffected(), err
	}
	rows, err := w.Query(ctx, fmt.Sprintf(`%s, gone AS (%s RETURNING f.series_id, f.%s AS at)
		SELECT series_id, min(at), max(at), count(*) FROM gone GROUP BY series_id, date_trunc('month', at)`, picked, remove, t.timeName), s.args...)
	if err != nil {
		return 0, err
	}
	var spans []rollup.Span
	var span rollup.Span
	var first, last time.Time
	var n int64
	_, err = pgx.ForEachRow(rows, []any{&span.Series, &first, &last, &n}, func() error {
		span.First, span.Last = first.UnixMicro(), last.UnixMicro()
		spans, deleted = append(spans, span), deleted+n
		return nil
	})
	for _, name := range names {
		if err == nil && len(spans) > 0 {
			w.touched = append(w.touched, touchedOf(name, spans, true))
		}
	}
	return deleted, err
}
