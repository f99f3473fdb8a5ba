package duckdb

import (
	"context"
	"database/sql"
	"fmt"
	"slices"
	"strings"

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
	row    int64 // rowid, of kinds whose rows may be large
	record R
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
