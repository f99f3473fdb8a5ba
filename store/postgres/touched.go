package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds/internal/rollup"
)

// facts is the table's name without its schema, by which policies and what was touched
// name it.
func (t *tables) facts() string { return strings.TrimPrefix(t.name, "mds_internal.") }

// next is the end of the name of a table that is to take the place of another.
const next = "_next"

// noted are the names under which it is to be noted where a table changed: for its rollups,
// and for the copy that is being made of it.
func (w *work) noted(table *tables) (names []string) {
	for _, name := range []string{table.facts(), table.facts() + next} {
		if slices.Contains(w.rolled, name) {
			names = append(names, name)
		}
	}
	return names
}

// touch notes the spans of rows, sorted by series and time, that were written. They are
// sent with the end of the transaction, in one trip.
func (w *work) touch(table *tables, rows []row) {
	names := w.noted(table)
	if names == nil {
		return
	}
	notes := rollup.NewNotes(table.timeframe)
	for i := range rows {
		notes.Add(rows[i].series, rows[i].micros)
	}
	first, last := notes.Bounds()
	for _, name := range names {
		w.touched = append(w.touched, touched{name, first, last, int64(len(notes.Series)), notes.Encode(), false})
	}
}

// touched is what a transaction notes of what it changed.
type touched struct {
	facts       string
	first, last int64
	n           int64
	spans       []byte
	gone        bool
}

// touchedOf are spans, of which there are some, as they are noted.
func touchedOf(facts string, spans []rollup.Span, gone bool) touched {
	first, last := rollup.Bounds(spans)
	return touched{facts, first, last, int64(len(spans)), rollup.Encode(spans), gone}
}

// noteTouched is the statement that notes them, and args its arguments in binary form.
const noteTouched = "INSERT INTO mds_internal.touched (tenant_id, facts, first, last, n, spans, gone) VALUES ($1::uuid, $2::text, $3::timestamptz, $4::timestamptz, $5::bigint, $6::bytea, $7::boolean)"

func (t *touched) args(tenant string) [][]byte {
	gone := []byte{0}
	if t.gone {
		gone[0] = 1
	}
	return [][]byte{[]byte(tenant), []byte(t.facts), appendMicros(nil, t.first)[4:], appendMicros(nil, t.last)[4:], appendInt(nil, t.n)[4:], t.spans, gone}
}

// touchedFormats are the forms of its arguments: the first is text.
var touchedFormats = []int16{0, 1, 1, 1, 1, 1, 1}

// scanSpans reads the spans of rows of id, gone and spans, of no more rows than are needed
// for so many.
func scanSpans(rows pgx.Rows, most int) (spans []rollup.Span, err error) {
	defer rows.Close()
	for rows.Next() {
		if len(spans) >= most {
			continue
		}
		var id int64
		var gone bool
		var text []byte
		if err := rows.Scan(&id, &gone, &text); err != nil {
			return nil, err
		}
		if spans, err = rollup.Decode(spans, id, gone, text); err != nil {
			return nil, err
		}
	}
	return spans, rows.Err()
}

// instants are times as an argument.
func instants(micros []int64) []time.Time {
	times := make([]time.Time, len(micros))
	for i, m := range micros {
		times[i] = instant(m)
	}
	return times
}

// putRest keeps what is left of values of which spans were taken.
func putRest(ctx context.Context, w *work, rest map[int64][]rollup.Span) error {
	var gone []int64
	for id, spans := range rest {
		if len(spans) == 0 {
			gone = append(gone, id)
			continue
		}
		t := touchedOf("", spans, false)
		_, err := w.Exec(ctx, "UPDATE mds_internal.touched SET first = $2, last = $3, n = $4, spans = $5 WHERE id = $1", id, instant(t.first), instant(t.last), t.n, t.spans)
		if err != nil {
			return err
		}
	}
	_, err := w.Exec(ctx, "DELETE FROM mds_internal.touched WHERE id = ANY ($1::bigint[])", gone)
	return err
}
