package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// A page is materialised by the driver, so pages bound the memory of a query.
// They grow so that a short answer is quick and a long one pays few of them.
const (
	firstPage = 16 << 10
	maxPage   = 128 << 10
)

// fact is one row as it was read.
type fact[R any] struct {
	series int64
	micros int64
	row    int64 // rowid, of kinds whose rows may be large
	record R
}

// pager reads facts in an order, page by page, and hands pages on in parts.
type pager[R mds.Record[R]] struct {
	table      *Table[R]
	selected   *selected[R]
	where      string
	args       []any
	order      []string
	descending bool
	page       int // rows of the next page

	rows   driver.Rows // of the page being read; nil between pages
	values []driver.Value
	left   int // rows of the page that were not read yet, at most

	after  []string // placeholders of the cursor
	cursor []any
	done   bool
}

// partRows is how many facts are handed on at a time.
const partRows = 2 << 10

// newPager begins a reading. Of more than limit records, where it is not 0, the
// rest may never be asked for. It has to be closed.
func (t *Table[R]) newPager(s *selected[R], where string, args []any, order []string, descending bool, limit int) *pager[R] {
	page := firstPage
	if limit > 0 {
		page = min(page, limit+1) // one more tells where an instant ends
	}
	return &pager[R]{table: t, selected: s, where: where, args: args, order: order, descending: descending, page: page}
}

// next reads a part and appends it to facts; done tells that it was the last.
func (p *pager[R]) next(ctx context.Context, conn *reader, facts []fact[R]) (_ []fact[R], err error) {
	t := p.table
	if p.rows == nil {
		text := t.sql.page(p.where, p.order, p.descending, p.after, p.page)
		if p.rows, err = openRows(ctx, conn, text, slices.Concat(p.args, p.cursor)); err != nil {
			return nil, err
		}
		p.values = make([]driver.Value, len(p.rows.Columns()))
		p.left = p.page
	}
	before := len(facts)
	for range min(partRows, p.left) {
		if err = p.rows.Next(p.values); errors.Is(err, io.EOF) {
			p.done = true
			break
		} else if err != nil {
			return nil, err
		}
		facts = append(facts, fact[R]{})
		if err := t.setFactOf(&facts[len(facts)-1], p.values); err != nil {
			return nil, err
		}
	}
	p.left -= len(facts) - before
	if err := t.identify(ctx, conn, p.selected, facts[before:]); err != nil {
		return nil, err
	}
	if p.left > 0 || p.done {
		return facts, nil
	}
	if err := p.close(); err != nil {
		return nil, err
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
	p.page = min(max(p.page, firstPage/4)*4, maxPage)
	return facts, nil
}

// close ends the page being read.
func (p *pager[R]) close() error {
	if p.rows == nil {
		return nil
	}
	err := p.rows.Close()
	p.rows = nil
	return err
}

// skip goes on after an instant.
func (p *pager[R]) skip(micros int64) error {
	past := ">"
	if p.descending {
		past = "<"
	}
	p.where += fmt.Sprintf(" AND %s %s make_timestamp(?)", p.table.sql.time, past)
	p.args = append(slices.Clip(p.args), micros)
	p.after, p.cursor, p.done = nil, nil, false
	return p.close()
}

// appendFacts runs a statement that yields the columns of facts, and appends them.
func (t *Table[R]) appendFacts(ctx context.Context, conn *reader, s *selected[R], facts []fact[R], text string, args []any) ([]fact[R], error) {
	before := len(facts)
	err := eachRow(ctx, conn, text, args, func(values []driver.Value) error {
		facts = append(facts, fact[R]{})
		return t.setFactOf(&facts[len(facts)-1], values)
	})
	if err != nil {
		return nil, err
	}
	return facts, t.identify(ctx, conn, s, facts[before:])
}

// setFactOf fills a fact from the columns of a page.
func (t *Table[R]) setFactOf(f *fact[R], values []driver.Value) (err error) {
	series, err1 := read[int64](values[0])
	micros, err2 := read[int64](values[1])
	if err1 != nil || err2 != nil {
		return errors.Join(err1, err2)
	}
	f.series, f.micros = series, micros
	values = values[2:]
	if !t.plain {
		if f.row, err = read[int64](values[0]); err != nil {
			return err
		}
		values = values[1:]
	}
	if t.instant != nil {
		*t.instant(&f.record) = time.UnixMicro(micros).UTC()
	} else {
		t.schema.SetMicros(&f.record, micros)
	}
	return setAll(&f.record, t.setFact, values)
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
