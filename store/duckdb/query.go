package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// A page is materialised by the driver, so pages bound the memory of a query.
// They grow so that a short answer is quick and a long one pays few of them.
const (
	firstPage = 2 << 10
	maxPage   = 128 << 10
)

// fact is one row as it was read.
type fact[R any] struct {
	series int64
	micros int64
	record R
}

// Query reads the records of a window in one snapshot, in the order that
// [mds.Query] defines. The sequence ends after the first error. Memory does
// not grow with the number of records.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	records := func(yield func(R, error) bool) {
		goOn := true
		err := t.read(ctx, "query", tenant, query.Selection, func(conn *sql.Conn, s *selected[R]) error {
			each := func(row *fact[R]) bool {
				goOn = yield(row.record, nil)
				return goOn
			}
			if query.ByIdentity {
				return t.inIdentityOrder(ctx, conn, s, query.Descending, each)
			}
			return t.inTimeOrder(ctx, conn, s, query.Descending, each)
		})
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
	if !query.KnownAt.IsZero() {
		records = mds.AsKnown(records, query.Descending)
	}
	return limited(records, query.Limit)
}

// limited ends a sequence after some records; 0 or less means none does.
func limited[R any](records iter.Seq2[R, error], limit int) iter.Seq2[R, error] {
	if limit <= 0 {
		return records
	}
	return func(yield func(R, error) bool) {
		left := limit
		for record, err := range records {
			left--
			if !yield(record, err) || left == 0 {
				return
			}
		}
	}
}

// inTimeOrder reads pages of facts. Those of one instant are held back until
// the next begins: the database sorts them by series id, and they are due in
// order of identity.
func (t *Table[R]) inTimeOrder(ctx context.Context, conn *sql.Conn, s *selected[R], descending bool, yield func(*fact[R]) bool) error {
	var instant []fact[R]
	emit := func() bool {
		t.sortByIdentity(s, instant, descending)
		for i := range instant {
			if !yield(&instant[i]) {
				return false
			}
		}
		instant = instant[:0]
		return true
	}
	goOn := true
	err := t.pages(ctx, conn, s, s.where, s.args, t.sql.timeOrder(), descending, func(row fact[R]) bool {
		if len(instant) > 0 && instant[0].micros != row.micros {
			if goOn = emit(); !goOn {
				return false
			}
		}
		instant = append(instant, row)
		return true
	})
	if err == nil && goOn {
		emit()
	}
	return err
}

// inIdentityOrder reads one series after the other, small ones together.
func (t *Table[R]) inIdentityOrder(ctx context.Context, conn *sql.Conn, s *selected[R], descending bool, yield func(*fact[R]) bool) error {
	const maxSeries = 5000
	counts, err := t.rowsOfSeries(ctx, conn, s)
	if err != nil {
		return err
	}
	ids := slices.SortedFunc(maps.Keys(counts), func(a, b int64) int {
		if descending {
			a, b = b, a
		}
		return s.rank[a] - s.rank[b]
	})
	goOn := true
	for len(ids) > 0 && goOn && err == nil {
		n, rows := 1, counts[ids[0]]
		for n < min(len(ids), maxSeries) && rows+counts[ids[n]] <= maxPage {
			rows += counts[ids[n]]
			n++
		}
		where := inSeries(ids[:n]) + " AND " + s.rest
		if n == 1 {
			err = t.pages(ctx, conn, s, where, s.within, t.sql.identityOrder(s.known), descending, func(row fact[R]) bool {
				goOn = yield(&row)
				return goOn
			})
		} else {
			var facts []fact[R]
			err = t.eachFact(ctx, conn, s, "SELECT "+t.sql.columns+" FROM "+t.sql.facts+" WHERE "+where, s.within, func(row fact[R]) bool {
				facts = append(facts, row)
				return true
			})
			t.sortByIdentity(s, facts, descending)
			for i := 0; i < len(facts) && goOn && err == nil; i++ {
				goOn = yield(&facts[i])
			}
		}
		ids = ids[n:]
	}
	return err
}

// sortByIdentity sorts facts by their identity, then time; those of what was
// known at a time so that the versions of a fact follow each other.
func (t *Table[R]) sortByIdentity(s *selected[R], facts []fact[R], descending bool) {
	columns := make([]*mds.Column[R], 0, len(t.keys)+1)
	for _, name := range t.sql.identityOrder(s.known) {
		columns = append(columns, t.column(name))
	}
	slices.SortFunc(facts, func(a, b fact[R]) int {
		order := s.rank[a.series] - s.rank[b.series]
		if order == 0 {
			order = mds.Compare(columns, &a.record, &b.record)
		}
		if descending {
			return -order
		}
		return order
	})
}

// rowsOfSeries counts the facts of each series that has any.
func (t *Table[R]) rowsOfSeries(ctx context.Context, conn *sql.Conn, s *selected[R]) (map[int64]int64, error) {
	rows, err := conn.QueryContext(ctx, "SELECT series_id, count(*) FROM "+t.sql.facts+" WHERE "+s.where+" GROUP BY series_id", s.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	counts := make(map[int64]int64)
	for rows.Next() {
		var id, n int64
		if err := rows.Scan(&id, &n); err != nil {
			return nil, err
		}
		counts[id] = n
	}
	return counts, rows.Err()
}

// pages reads facts in an order, page by page.
func (t *Table[R]) pages(ctx context.Context, conn *sql.Conn, s *selected[R], where string, args []any, order []string, descending bool, yield func(fact[R]) bool) error {
	var last fact[R]
	var after []string
	for page := firstPage; ; page = min(page*4, maxPage) {
		cursor := args
		if after != nil {
			_, first := t.cursor(order[0], &last)
			cursor = append(slices.Clip(args), first)
			for _, name := range order {
				_, value := t.cursor(name, &last)
				cursor = append(cursor, value)
			}
		}
		read, goOn := 0, true
		err := t.eachFact(ctx, conn, s, t.sql.page(where, order, descending, after, page), cursor, func(row fact[R]) bool {
			read++
			last = row
			goOn = yield(row)
			return goOn
		})
		if err != nil || !goOn || read < page {
			return err
		}
		after = after[:0]
		for _, name := range order {
			placeholder, _ := t.cursor(name, &last)
			after = append(after, placeholder)
		}
	}
}

// cursor is where a page ended, in one column.
func (t *Table[R]) cursor(name string, at *fact[R]) (placeholder string, value any) {
	if name == "series_id" {
		return "?", at.series
	}
	return argument(t.column(name), &at.record)
}

// column finds a column by its identifier.
func (t *Table[R]) column(identifier string) *mds.Column[R] {
	return t.schema.Lookup(strings.Trim(identifier, `"`))
}

// eachFact runs a statement that yields the columns of facts.
func (t *Table[R]) eachFact(ctx context.Context, q queryer, s *selected[R], text string, args []any, each func(fact[R]) bool) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	var row fact[R]
	targets, assign := scanTargets(slices.Concat(t.keys, t.values), &row.record)
	targets = append([]any{&row.series, &row.micros}, targets...)
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		identity, ok := s.series[row.series]
		if !ok {
			return fmt.Errorf("a row of series %d has no series", row.series)
		}
		row.record = *identity
		t.schema.SetMicros(&row.record, row.micros)
		if err := assign(); err != nil {
			return err
		}
		if !each(row) {
			return nil
		}
	}
	return rows.Err()
}

// Count returns the number of records that a selection picks.
func (t *Table[R]) Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (n int64, err error) {
	err = t.read(ctx, "count", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		return conn.QueryRowContext(ctx, t.sql.count(s.where, s.known), s.args...).Scan(&n)
	})
	return n, err
}

// Latest returns the newest record of each series that the selection picks,
// in order of identity; of kinds with keys of their own, the newest of each
// key, and of those with versions, as they are known.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error) {
	if t.schema.TimeIsValue {
		return nil, &Error{Op: "latest " + t.sql.kind, Err: fmt.Errorf("%s have no series of which one is the latest; query them newest first, with a limit", t.sql.kind)}
	}
	var facts []fact[R]
	err := t.read(ctx, "latest", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		s.known = t.sql.revision != ""
		err := t.eachFact(ctx, conn, s, t.sql.latest(s.where), slices.Concat(s.args, s.args), func(row fact[R]) bool {
			facts = append(facts, row)
			return true
		})
		t.sortByIdentity(s, facts, false)
		return err
	})
	if err != nil {
		return nil, err
	}
	found := func(yield func(R, error) bool) {
		for i := range facts {
			if !yield(facts[i].record, nil) {
				return
			}
		}
	}
	if t.sql.revision != "" {
		found = mds.AsKnown(found, false)
	}
	records := make([]R, 0, len(facts))
	for record, err := range found {
		if err != nil {
			return nil, err
		}
		records = append(records, record)
	}
	return records, nil
}

// Series lists the series that hold records within the selection, in order of
// identity. Rows, First and Last are of the records within it.
func (t *Table[R]) Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error) {
	var list []mds.Series[R]
	err := t.read(ctx, "series of", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		rows, err := conn.QueryContext(ctx, t.sql.seriesStats+" WHERE "+s.where+" GROUP BY series_id", s.args...)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // rows.Err below tells
		list = make([]mds.Series[R], len(s.rank))
		for rows.Next() {
			var id, n, first, last int64
			if err := rows.Scan(&id, &n, &first, &last); err != nil {
				return err
			}
			list[s.rank[id]] = mds.Series[R]{
				Identity: *s.series[id],
				Rows:     n,
				First:    time.UnixMicro(first).UTC(),
				Last:     time.UnixMicro(last).UTC(),
			}
		}
		return rows.Err()
	})
	return slices.DeleteFunc(list, func(s mds.Series[R]) bool { return s.Rows == 0 }), err
}

// Info sums up the kind.
func (t *Table[R]) Info(ctx context.Context, tenant mds.Tenant) (mds.KindInfo, error) {
	info := mds.KindInfo{Kind: t.sql.kind}
	err := t.read(ctx, "info", tenant, mds.Selection{}, func(conn *sql.Conn, _ *selected[R]) error {
		var first, last sql.NullInt64
		err := conn.QueryRowContext(ctx, t.sql.info).Scan(&info.Series, &info.Rows, &first, &last)
		if first.Valid && last.Valid {
			from, to := time.UnixMicro(first.Int64).UTC(), time.UnixMicro(last.Int64).UTC()
			info.First, info.Last = &from, &to
		}
		return err
	})
	return info, err
}

// read runs fn in one snapshot of the tenant's file with the series that the
// selection picks.
func (t *Table[R]) read(ctx context.Context, op string, tenant mds.Tenant, sel mds.Selection, fn func(*sql.Conn, *selected[R]) error) error {
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return err
	}
	err = f.snapshot(ctx, func(conn *sql.Conn) error {
		s, err := t.selectSeries(ctx, conn, sel)
		if err != nil {
			return err
		}
		return fn(conn, s)
	})
	return wrap(ctx, op+" "+t.sql.kind, err)
}
