package postgres

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds/internal/rollup"
)

// facts is the table's name without its schema, by which policies and what was touched
// name it.
func (t *tables) facts() string { return strings.TrimPrefix(t.name, "mds_internal.") }

// rolls reports that there are rollups of a table: who changes it notes where.
func (w *work) rolls(table *tables) bool { return slices.Contains(w.rolled, table.facts()) }

// touch notes the spans of rows, sorted by series and time, that were written.
func (w *work) touch(ctx context.Context, table *tables, rows []row) error {
	if !w.rolls(table) {
		return nil
	}
	notes := rollup.NewNotes(table.timeframe)
	for i := range rows {
		notes.Add(rows[i].series, rows[i].micros)
	}
	_, err := w.Exec(ctx, "INSERT INTO mds_internal.touched (facts, series_id, first, last) SELECT $1, * FROM unnest($2::bigint[], $3::timestamptz[], $4::timestamptz[])",
		table.facts(), notes.Series, instants(notes.First), instants(notes.Last))
	return err
}

// instants are times as an argument.
func instants(micros []int64) []time.Time {
	times := make([]time.Time, len(micros))
	for i, m := range micros {
		times[i] = instant(m)
	}
	return times
}
