package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Query reads the records of a window in one snapshot, in the order that
// [mds.Query] defines. The sequence ends after the first error. Memory does
// not grow with the number of records.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	limit := max(query.Limit, 0)
	if !query.KnownAt.IsZero() {
		limit = 0 // several versions make one record
	}
	records := func(yield func(R, error) bool) {
		goOn := true
		asTheyLie := query.Unordered && query.KnownAt.IsZero()
		err := t.readPinned(ctx, "query", tenant, query.Selection, asTheyLie || !t.plain, func(conn *reader, s *selected[R]) error {
			out := t.newEmitter(conn, func(r R) bool {
				goOn = yield(r, nil)
				return goOn
			})
			if asTheyLie && s.where == s.rest { // a few series are found sooner in order
				return t.asTheyLie(ctx, conn, s, out)
			}
			if query.ByIdentity {
				_, err := t.inIdentityOrder(ctx, conn, s, query.Descending, limit, out)
				return err
			}
			return t.inTimeOrder(ctx, conn, s, query.Descending, limit, out)
		})
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
	if !query.KnownAt.IsZero() {
		records = mds.AsKnown(records, query.Descending)
	}
	return mds.Limited(records, query.Limit)
}

// maxInstant is the most facts of one instant that are held back to be sorted.
const maxInstant = 2 << 10

// inTimeOrder reads pages of facts. The last instant of each is held back until
// the next is read: the database sorts its facts by series id, and they are due in
// order of identity. An instant of many facts, such as the end of an options day, is
// read in that order instead.
func (t *Table[R]) inTimeOrder(ctx context.Context, conn *reader, s *selected[R], descending bool, limit int, out *emitter[R]) (err error) {
	p := t.newPager(s, s.where, s.args, t.sql.timeOrder(s.single), descending, limit)
	defer func() { err = errors.Join(err, p.close()) }()
	var facts []fact[R]
	for !p.done {
		if facts, err = p.next(ctx, conn, facts); err != nil {
			return err
		}
		last := len(facts) // where the last instant begins
		if !p.done {
			for last--; last > 0 && facts[last-1].micros == facts[last].micros; last-- {
			}
		}
		t.sortInstants(s, facts[:last], descending)
		if goOn, err := out.emit(ctx, facts[:last]); err != nil || !goOn {
			return err
		}
		facts = append(facts[:0], facts[last:]...)
		if len(facts) < maxInstant {
			continue
		}
		micros := facts[0].micros
		facts = facts[:0]
		if goOn, err := t.inIdentityOrder(ctx, conn, t.at(s, micros), descending, limit, out); err != nil || !goOn {
			return err
		}
		if err := p.skip(micros); err != nil {
			return err
		}
	}
	return nil
}

// asTheyLie reads facts by their row ids, some at a time.
func (t *Table[R]) asTheyLie(ctx context.Context, conn *reader, s *selected[R], out *emitter[R]) error {
	const page = firstPage
	var last sql.NullInt64
	if err := conn.one(ctx, "SELECT max(rowid) FROM "+t.sql.facts, nil, &last); err != nil || !last.Valid {
		return err
	}
	var facts []fact[R]
	for first := int64(0); first <= last.Int64; first += page {
		var err error
		text := fmt.Sprintf("SELECT %s FROM %s WHERE rowid BETWEEN %d AND %d AND %s", t.sql.columns, t.sql.facts, first, first+page-1, s.where)
		if facts, err = t.appendFacts(ctx, conn, s, facts[:0], text, s.args); err != nil {
			return err
		}
		if goOn, err := out.emit(ctx, facts); err != nil || !goOn {
			return err
		}
	}
	return nil
}

// sortInstants sorts the facts of each instant by identity.
func (t *Table[R]) sortInstants(s *selected[R], facts []fact[R], descending bool) {
	for start := 0; start < len(facts); {
		end := start + 1
		for ; end < len(facts) && facts[end].micros == facts[start].micros; end++ {
		}
		if end > start+1 {
			t.sortByIdentity(s, facts[start:end], descending)
		}
		start = end
	}
}

// at narrows a selection to an instant.
func (t *Table[R]) at(s *selected[R], micros int64) *selected[R] {
	const condition = " AND %s = make_timestamp(?)"
	narrow := *s
	narrow.where += fmt.Sprintf(condition, t.sql.time)
	narrow.args = append(slices.Clip(s.args), micros)
	narrow.rest += fmt.Sprintf(condition, t.sql.time)
	narrow.within = append(slices.Clip(s.within), micros)
	return &narrow
}

// inIdentityOrder reads one series after the other, small ones together. It
// tells whether more are wanted.
func (t *Table[R]) inIdentityOrder(ctx context.Context, conn *reader, s *selected[R], descending bool, limit int, out *emitter[R]) (goOn bool, err error) {
	const maxSeries = 5000
	list, err := t.rowsOfSeries(ctx, conn, s, descending)
	if err != nil {
		return false, err
	}
	var facts []fact[R]
	for len(list) > 0 {
		ids, rows := []int64{list[0].id}, list[0].rows
		for n := 1; n < min(len(list), maxSeries) && rows+list[n].rows <= maxPage; n++ {
			ids = append(ids, list[n].id)
			rows += list[n].rows
		}
		list = list[len(ids):]
		where := inSeries(ids) + " AND " + s.rest
		if len(ids) > 1 {
			if facts, err = t.appendFacts(ctx, conn, s, facts[:0], "SELECT "+t.sql.columns+" FROM "+t.sql.facts+" WHERE "+where, s.within); err != nil {
				return false, err
			}
			t.sortByIdentity(s, facts, descending)
			if goOn, err := out.emit(ctx, facts); err != nil || !goOn {
				return false, err
			}
			continue
		}
		p := t.newPager(s, where, s.within, t.sql.identityOrder(s.known), descending, limit)
		for goOn := true; !p.done; {
			if facts, err = p.next(ctx, conn, facts[:0]); err == nil {
				goOn, err = out.emit(ctx, facts)
			}
			if err != nil || !goOn {
				return false, errors.Join(err, p.close())
			}
		}
		if err := p.close(); err != nil {
			return false, err
		}
	}
	return true, nil
}

// sortByIdentity sorts facts by their identity, then time; those of what was
// known at a time so that the versions of a fact follow each other.
func (t *Table[R]) sortByIdentity(s *selected[R], facts []fact[R], descending bool) {
	columns := make([]*mds.Column[R], 0, len(t.keys)+1)
	for _, name := range t.sql.identityOrder(s.known) {
		columns = append(columns, t.column(name))
	}
	slices.SortFunc(facts, func(a, b fact[R]) int {
		order := 0
		if a.series != b.series {
			order = mds.Compare(t.identity, &a.record, &b.record)
		}
		if order == 0 {
			order = mds.Compare(columns, &a.record, &b.record)
		}
		if descending {
			return -order
		}
		return order
	})
}

// seriesRows is a series with the number of its facts.
type seriesRows struct{ id, rows int64 }

// rowsOfSeries counts the facts of each series that has any, in order of
// identity.
func (t *Table[R]) rowsOfSeries(ctx context.Context, conn *reader, s *selected[R], descending bool) ([]seriesRows, error) {
	var list []seriesRows
	var v [2]int64
	err := eachRow(ctx, conn, t.sql.rowsOfSeries(s.where, descending), s.args, func(values []driver.Value) error {
		err := readInts(v[:], values)
		list = append(list, seriesRows{v[0], v[1]})
		return err
	})
	return list, err
}

// Count returns the number of records that a selection picks.
func (t *Table[R]) Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (n int64, err error) {
	err = t.read(ctx, "count", tenant, sel, func(conn *reader, s *selected[R]) error {
		return conn.one(ctx, t.sql.count(s.where, s.known), s.args, &n)
	})
	return n, err
}

// Series lists the series that hold records within the selection, in order of
// identity. Rows, First and Last are of the records within it.
func (t *Table[R]) Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error) {
	var list []mds.Series[R]
	err := t.read(ctx, "series of", tenant, sel, func(conn *reader, s *selected[R]) error {
		var v [3]int64
		return eachRow(ctx, conn, t.sql.seriesStats(s.where), s.args, func(values []driver.Value) error {
			var series mds.Series[R]
			if err := errors.Join(readInts(v[:], values), setAll(&series.Identity, t.setIdentity, values[len(v):])); err != nil {
				return err
			}
			series.Rows, series.First, series.Last = v[0], time.UnixMicro(v[1]).UTC(), time.UnixMicro(v[2]).UTC()
			list = append(list, series)
			return nil
		})
	})
	return list, err
}

// Info sums up the kind.
func (t *Table[R]) Info(ctx context.Context, tenant mds.Tenant) (mds.KindInfo, error) {
	info := mds.KindInfo{Kind: t.sql.kind}
	err := t.read(ctx, "info", tenant, mds.Selection{}, func(conn *reader, _ *selected[R]) error {
		var first, last sql.NullInt64
		err := conn.one(ctx, t.sql.info, nil, &info.Series, &info.Rows, &first, &last)
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
func (t *Table[R]) read(ctx context.Context, op string, tenant mds.Tenant, sel mds.Selection, fn func(*reader, *selected[R]) error) error {
	return t.readPinned(ctx, op, tenant, sel, !t.plain, fn)
}

// readPinned is read, in which rows keep their ids where they are pinned.
func (t *Table[R]) readPinned(ctx context.Context, op string, tenant mds.Tenant, sel mds.Selection, pinned bool, fn func(*reader, *selected[R]) error) error {
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return err
	}
	err = f.snapshot(ctx, pinned, func(conn *reader) error {
		if there, err := f.hasTable(ctx, conn, t.sql.facts); err != nil || !there {
			return err
		}
		s, err := t.selectSeries(ctx, conn, sel)
		if err != nil {
			return err
		}
		return fn(conn, s)
	})
	return wrap(ctx, op+" "+t.sql.kind, err)
}
