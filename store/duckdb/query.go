package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// A page is materialised by the driver, so pages bound the memory of a query.
// They grow so that a short answer is quick and a long one pays few of them. Of
// kinds whose rows may be large a page has the keys only, and the rest is read
// when it is due, in parts of about wideBytes.
const (
	firstPage = 2 << 10
	maxPage   = 128 << 10

	firstWide = 64
	maxWide   = 512
	wideBytes = 8 << 20
	smallRow  = 8 << 10 // bytes
)

// fact is one row as it was read.
type fact[R any] struct {
	series int64
	micros int64
	row    int64 // rowid, of kinds whose rows may be large
	record R
}

// Query reads the records of a window in one snapshot, in the order that
// [mds.Query] defines. The sequence ends after the first error. Memory does
// not grow with the number of records.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	records := func(yield func(R, error) bool) {
		goOn := true
		err := t.read(ctx, "query", tenant, query.Selection, func(conn *sql.Conn, s *selected[R]) error {
			emit := func(facts []fact[R]) (bool, error) {
				return t.emit(ctx, conn, facts, func(r R) bool {
					goOn = yield(r, nil)
					return goOn
				})
			}
			if query.ByIdentity {
				_, err := t.inIdentityOrder(ctx, conn, s, query.Descending, emit)
				return err
			}
			return t.inTimeOrder(ctx, conn, s, query.Descending, emit)
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
// order of identity. An instant of many facts, such as the end of an options
// day, is read in that order instead.
func (t *Table[R]) inTimeOrder(ctx context.Context, conn *sql.Conn, s *selected[R], descending bool, emit func([]fact[R]) (bool, error)) error {
	var instant, due []fact[R]
	// flush hands the instant on, with others unless it has to be now.
	flush := func(now bool) (bool, error) {
		t.sortByIdentity(s, instant, descending)
		due = append(due, instant...)
		instant = instant[:0]
		if len(due) < maxWide && !now {
			return true, nil
		}
		goOn, err := emit(due)
		due = due[:0]
		return goOn, err
	}
	p := t.newPager(s, s.where, s.args, t.sql.timeOrder(), descending)
	for !p.done {
		facts, err := p.next(ctx, conn)
		if err != nil {
			return err
		}
		for i := range facts {
			if len(instant) > 0 && instant[0].micros != facts[i].micros {
				if goOn, err := flush(false); err != nil || !goOn {
					return err
				}
			}
			instant = append(instant, facts[i])
		}
		if p.done || len(instant) < firstPage {
			continue
		}
		micros := instant[0].micros
		instant = instant[:0]
		if goOn, err := flush(true); err != nil || !goOn {
			return err
		}
		if goOn, err := t.inIdentityOrder(ctx, conn, t.at(s, micros), descending, emit); err != nil || !goOn {
			return err
		}
		p.skip(micros)
	}
	_, err := flush(true)
	return err
}

// emit hands records on, and tells whether more are wanted.
func (t *Table[R]) emit(ctx context.Context, conn *sql.Conn, facts []fact[R], yield func(R) bool) (goOn bool, err error) {
	rows, small := len(facts), false
	if !t.plain {
		rows = firstWide
	}
	for len(facts) > 0 {
		part := facts[:min(rows, len(facts))]
		facts = facts[len(part):]
		if !t.plain {
			if err := t.widen(ctx, conn, part, small); err != nil {
				return false, err
			}
			rows, small = nextWide(part, &t.schema)
		}
		for i := range part {
			if !yield(part[i].record) {
				return false, nil
			}
		}
	}
	return true, nil
}

// nextWide is how many rows to read after some, so that they are of about
// wideBytes; and whether these were small.
func nextWide[R any](part []fact[R], schema *mds.Schema[R]) (rows int, small bool) {
	bytes := 1
	for i := range part {
		bytes += schema.Size(&part[i].record)
	}
	rows = max(1, min(len(part)*4, maxWide, len(part)*(wideBytes/1024)/(bytes/1024+1)))
	return rows, bytes/len(part) < smallRow
}

// widen reads the values of facts of which the keys are known. Ranges of rows
// are read exactly, and a few of them are fastest; a join is one statement for
// any number, but holds what lies between its ends in memory, too.
func (t *Table[R]) widen(ctx context.Context, q queryer, facts []fact[R], small bool) error {
	at := make(map[int64]*R, len(facts))
	ids := make([]int64, len(facts))
	for i := range facts {
		ids[i] = facts[i].row
		at[facts[i].row] = &facts[i].record
	}
	slices.Sort(ids)
	const near, few = 16, 16
	ranges := rangesOf(ids, near)
	if small && len(ranges) > few {
		return t.widenRows(ctx, q, at, t.sql.wideJoin(ids))
	}
	for _, r := range ranges {
		if err := t.widenRows(ctx, q, at, fmt.Sprintf("%s WHERE rowid BETWEEN %d AND %d", t.sql.wide, r[0], r[1])); err != nil {
			return err
		}
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

// widenRows runs a statement that yields row ids and values.
func (t *Table[R]) widenRows(ctx context.Context, q queryer, at map[int64]*R, text string) error {
	rows, err := q.QueryContext(ctx, text)
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	var id int64
	var values R
	targets, assign := scanTargets(t.values, &values)
	targets = append([]any{&id}, targets...)
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return err
		}
		record, asked := at[id]
		if !asked {
			continue
		}
		if err := assign(); err != nil {
			return err
		}
		for _, c := range t.values {
			copyColumn(c, record, &values)
		}
	}
	return rows.Err()
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
func (t *Table[R]) inIdentityOrder(ctx context.Context, conn *sql.Conn, s *selected[R], descending bool, emit func([]fact[R]) (bool, error)) (goOn bool, err error) {
	const maxSeries = 5000
	list, err := t.rowsOfSeries(ctx, conn, s, descending)
	if err != nil {
		return false, err
	}
	for len(list) > 0 {
		ids, rows := []int64{list[0].id}, list[0].rows
		for n := 1; n < min(len(list), maxSeries) && rows+list[n].rows <= maxPage; n++ {
			ids = append(ids, list[n].id)
			rows += list[n].rows
		}
		list = list[len(ids):]
		where := inSeries(ids) + " AND " + s.rest
		if len(ids) > 1 {
			facts, err := t.facts(ctx, conn, s, "SELECT "+t.sql.columns+" FROM "+t.sql.facts+" WHERE "+where, s.within)
			if err != nil {
				return false, err
			}
			t.sortByIdentity(s, facts, descending)
			if goOn, err := emit(facts); err != nil || !goOn {
				return false, err
			}
			continue
		}
		p := t.newPager(s, where, s.within, t.sql.identityOrder(s.known), descending)
		for !p.done {
			facts, err := p.next(ctx, conn)
			if err != nil {
				return false, err
			}
			if goOn, err := emit(facts); err != nil || !goOn {
				return false, err
			}
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
func (t *Table[R]) rowsOfSeries(ctx context.Context, conn *sql.Conn, s *selected[R], descending bool) ([]seriesRows, error) {
	rows, err := conn.QueryContext(ctx, t.sql.rowsOfSeries(s.where, descending), s.args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	var list []seriesRows
	for rows.Next() {
		var r seriesRows
		if err := rows.Scan(&r.id, &r.rows); err != nil {
			return nil, err
		}
		list = append(list, r)
	}
	return list, rows.Err()
}

// pager reads facts in an order, page by page.
type pager[R mds.Record[R]] struct {
	table      *Table[R]
	selected   *selected[R]
	where      string
	args       []any
	order      []string
	descending bool
	page       int // rows of the next page

	after  []string // placeholders of the cursor
	cursor []any
	done   bool
}

func (t *Table[R]) newPager(s *selected[R], where string, args []any, order []string, descending bool) *pager[R] {
	return &pager[R]{table: t, selected: s, where: where, args: args, order: order, descending: descending, page: firstPage}
}

// next reads a page; done tells that it was the last.
func (p *pager[R]) next(ctx context.Context, conn *sql.Conn) ([]fact[R], error) {
	t := p.table
	text := t.sql.page(p.where, p.order, p.descending, p.after, p.page)
	facts, err := t.facts(ctx, conn, p.selected, text, slices.Concat(p.args, p.cursor))
	if err != nil {
		return nil, err
	}
	if len(facts) < p.page {
		p.done = true
		return facts, nil
	}
	last := &facts[len(facts)-1]
	p.after, p.cursor = p.after[:0], p.cursor[:0]
	for i, name := range p.order {
		placeholder, value := t.cursor(name, last)
		p.after = append(p.after, placeholder)
		if i == 0 {
			p.cursor = append(p.cursor, value) // it comes twice; see page
		}
		p.cursor = append(p.cursor, value)
	}
	p.page = min(p.page*4, maxPage)
	return facts, nil
}

// skip goes on after an instant.
func (p *pager[R]) skip(micros int64) {
	past := ">"
	if p.descending {
		past = "<"
	}
	p.where += fmt.Sprintf(" AND %s %s make_timestamp(?)", p.table.sql.time, past)
	p.args = append(slices.Clip(p.args), micros)
	p.after, p.cursor = nil, nil
}

// facts runs a statement that yields the columns of facts.
func (t *Table[R]) facts(ctx context.Context, q queryer, s *selected[R], text string, args []any) ([]fact[R], error) {
	facts, err := t.scanFacts(ctx, q, text, args)
	if err != nil {
		return nil, err
	}
	return facts, t.identify(ctx, q, s, facts)
}

func (t *Table[R]) scanFacts(ctx context.Context, q queryer, text string, args []any) ([]fact[R], error) {
	rows, err := q.QueryContext(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	var facts []fact[R]
	var row fact[R]
	columns := slices.Concat(t.keys, t.values)
	ids := []any{&row.series, &row.micros}
	if !t.plain {
		columns = t.keys
		ids = append(ids, &row.row)
	}
	targets, assign := scanTargets(columns, &row.record)
	targets = append(ids, targets...)
	for rows.Next() {
		if err := rows.Scan(targets...); err != nil {
			return nil, err
		}
		t.schema.SetMicros(&row.record, row.micros)
		if err := assign(); err != nil {
			return nil, err
		}
		facts = append(facts, row)
	}
	return facts, rows.Err()
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
	var newest []R
	err := t.read(ctx, "latest", tenant, sel, func(conn *sql.Conn, s *selected[R]) error {
		s.known = t.sql.revision != ""
		facts, err := t.facts(ctx, conn, s, t.sql.latest(s.where), slices.Concat(s.args, s.args))
		if err != nil {
			return err
		}
		t.sortByIdentity(s, facts, false)
		_, err = t.emit(ctx, conn, facts, func(r R) bool {
			newest = append(newest, r)
			return true
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	found := func(yield func(R, error) bool) {
		for _, r := range newest {
			if !yield(r, nil) {
				return
			}
		}
	}
	if t.sql.revision != "" {
		found = mds.AsKnown(found, false)
	}
	records := make([]R, 0, len(newest))
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
		rows, err := conn.QueryContext(ctx, t.sql.seriesStats(s.where), s.args...)
		if err != nil {
			return err
		}
		defer rows.Close() //nolint:errcheck // rows.Err below tells
		for rows.Next() {
			var series mds.Series[R]
			var first, last int64
			targets, assign := scanTargets(t.identity, &series.Identity)
			if err := rows.Scan(append([]any{&series.Rows, &first, &last}, targets...)...); err != nil {
				return err
			}
			if err := assign(); err != nil {
				return err
			}
			series.First, series.Last = time.UnixMicro(first).UTC(), time.UnixMicro(last).UTC()
			list = append(list, series)
		}
		return rows.Err()
	})
	return list, err
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
