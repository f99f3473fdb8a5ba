package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
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
	return func(yield func(R, error) bool) {
		goOn := true
		err := t.read(ctx, "query", tenant, query.Selection, func(conn *sql.Conn, s *selected[R]) error {
			return t.query(ctx, conn, s, query, func(r R) bool {
				goOn = yield(r, nil)
				return goOn
			})
		})
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
}

func (t *Table[R]) query(ctx context.Context, conn *sql.Conn, s *selected[R], query mds.Query, yield func(R) bool) error {
	left := query.Limit
	if left <= 0 {
		left = -1
	}
	// Rows of one instant are held back until the next begins: the database
	// sorts them by series id, and they are due in order of identity.
	var instant []fact[R]
	emit := func() bool {
		slices.SortFunc(instant, func(a, b fact[R]) int {
			order := s.rank[a.series] - s.rank[b.series]
			if query.Descending {
				return -order
			}
			return order
		})
		for i := range instant {
			if left == 0 {
				return false
			}
			if left > 0 {
				left--
			}
			if !yield(instant[i].record) {
				return false
			}
		}
		instant = instant[:0]
		return left != 0
	}
	for page := firstPage; ; page = min(page*4, maxPage) {
		cursor := s.args
		if len(instant) > 0 {
			last := instant[len(instant)-1]
			cursor = append(slices.Clip(s.args), last.micros, last.micros, last.series)
		}
		text := t.sql.page(s.where, query.Descending, len(instant) > 0, page)
		read := 0
		goOn := true
		err := t.eachFact(ctx, conn, s, text, cursor, func(row fact[R]) bool {
			read++
			if len(instant) > 0 && instant[0].micros != row.micros {
				goOn = emit()
			}
			instant = append(instant, row)
			return goOn
		})
		if err != nil || !goOn {
			return err
		}
		if read < page {
			emit()
			return nil
		}
	}
}

// eachFact runs a statement that yields series id, time and values.
func (t *Table[R]) eachFact(ctx context.Context, q queryer, s *selected[R], text string, args []any, each func(fact[R]) bool) error {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	var row fact[R]
	targets, assign := t.targets(&row)
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		identity, ok := s.series[row.series]
		if !ok {
			return fmt.Errorf("a row of series %d has no series", row.series)
		}
		row.record = *identity
		assign()
		if !each(row) {
			return nil
		}
	}
	return rows.Err()
}

// targets returns what a row is scanned into, and a function that moves the
// scanned values into row.record.
func (t *Table[R]) targets(row *fact[R]) (targets []any, assign func()) {
	timeColumn := t.schema.ByRole(mds.Time)[0]
	targets = []any{&row.series, &row.micros}
	assigns := make([]func(), 0, len(t.values))
	for _, c := range t.values {
		switch {
		case c.Float != nil:
			v := new(float64)
			targets = append(targets, v)
			assigns = append(assigns, func() { *c.Float(&row.record) = *v })
		case c.OptFloat != nil:
			v := new(sql.Null[float64])
			targets = append(targets, v)
			assigns = append(assigns, func() { *c.OptFloat(&row.record) = optional(*v) })
		case c.OptInt != nil:
			v := new(sql.Null[int64])
			targets = append(targets, v)
			assigns = append(assigns, func() { *c.OptInt(&row.record) = optional(*v) })
		}
	}
	return targets, func() {
		*timeColumn.Time(&row.record) = time.UnixMicro(row.micros).UTC()
		for _, a := range assigns {
			a()
		}
	}
}

func optional[T comparable](v sql.Null[T]) mds.Opt[T] {
	if !v.Valid {
		return mds.None[T]()
	}
	return mds.Some(v.V)
}

// Count returns the number of records that a selection picks.
func (t *Table[R]) Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (n int64, err error) {
	err = t.read(ctx, "count", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		return conn.QueryRowContext(ctx, "SELECT count(*) FROM "+t.sql.facts+" WHERE "+s.where, s.args...).Scan(&n)
	})
	return n, err
}

// Latest returns the newest record of each series that the selection picks,
// in order of identity.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error) {
	var records []R
	err := t.read(ctx, "latest", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		var facts []fact[R]
		err := t.eachFact(ctx, conn, s, t.sql.latest(s.where), s.args, func(row fact[R]) bool {
			facts = append(facts, row)
			return true
		})
		slices.SortFunc(facts, func(a, b fact[R]) int { return s.rank[a.series] - s.rank[b.series] })
		records = make([]R, len(facts))
		for i := range facts {
			records[i] = facts[i].record
		}
		return err
	})
	return records, err
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
