package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// rolledOf are the timeframes of bars of which there are rollups: who changes these notes
// where. The caller holds the writer's token.
func (f *file) rolledOf(ctx context.Context) (map[mds.Timeframe]bool, error) {
	if f.rolled == nil {
		rolled := make(map[mds.Timeframe]bool)
		err := eachRow(ctx, f.writerReads(), "SELECT timeframe FROM policies WHERE rollups <> ''", nil, func(values []driver.Value) error {
			name, err := read[string](values[0])
			rolled[mds.Timeframe(name)] = true
			return err
		})
		if err != nil {
			return nil, err
		}
		f.rolled = rolled
	}
	return f.rolled, nil
}

// touch notes the spans of rows, sorted by series and time, of which some were written.
func (t *Table[R]) touch(ctx context.Context, f *file, records []R, rows []batchRow) error {
	if t.sql.kind != "bars" {
		return nil
	}
	rolled, err := f.rolledOf(ctx)
	if err != nil || len(rolled) == 0 {
		return err
	}
	notes := make(map[mds.Timeframe]*rollup.Notes)
	for i := range rows {
		tf := t.schema.Timeframe(&records[rows[i].record])
		if !rolled[tf] {
			continue
		}
		if notes[tf] == nil {
			notes[tf] = rollup.NewNotes(tf)
		}
		notes[tf].Add(rows[i].series, rows[i].micros)
	}
	for tf, n := range notes {
		first, last := n.Bounds()
		if err := f.noteTouched(ctx, tf, first, last, len(n.Series), n.Encode(), false); err != nil {
			return err
		}
	}
	return nil
}

// noteTouched notes spans. The caller is in a transaction of the writer's.
func (f *file) noteTouched(ctx context.Context, tf mds.Timeframe, first, last int64, n int, spans []byte, gone bool) error {
	_, err := f.conn.ExecContext(ctx, "INSERT INTO touched VALUES (nextval('touched_id'), ?, ?, ?, ?, ?, ?, ?)", string(tf), first, last, n, spans, gone, time.Now().UnixMicro())
	return err
}

// noteSpans notes spans of a timeframe that a query yields: series, first and last time, in
// which something may be gone.
func (f *file) noteSpans(ctx context.Context, tf mds.Timeframe, gone bool, query string, args []any) error {
	const most = 10_000 // spans of a value
	var spans []rollup.Span
	var v [3]int64
	note := func() error {
		if len(spans) == 0 {
			return nil
		}
		first, last := rollup.Bounds(spans)
		err := f.noteTouched(ctx, tf, first, last, len(spans), rollup.Encode(spans), gone)
		spans = spans[:0]
		return err
	}
	err := eachRow(ctx, f.writerReads(), query, args, func(values []driver.Value) error {
		if err := readInts(v[:], values); err != nil {
			return err
		}
		if spans = append(spans, rollup.Span{Series: v[0], First: v[1], Last: v[2]}); len(spans) == most {
			return note()
		}
		return nil
	})
	return errors.Join(err, note())
}

// touchGone notes where rows are about to be deleted.
func (t *Table[R]) touchGone(ctx context.Context, f *file, where string, args []any) error {
	if t.sql.kind != "bars" {
		return nil
	}
	rolled, err := f.rolledOf(ctx)
	if err != nil || len(rolled) == 0 {
		return err
	}
	for tf := range rolled {
		err := f.noteSpans(ctx, tf, true, fmt.Sprintf("SELECT series_id, epoch_us(min(ts)), epoch_us(max(ts)) FROM bar_facts WHERE %s AND series_id IN (SELECT id FROM bar_series WHERE timeframe = '%s') GROUP BY series_id, date_trunc('month', ts)", where, tf), args)
		if err != nil {
			return err
		}
	}
	return nil
}

// list is a list of numbers as an argument, which is cast to BIGINT[].
func list(numbers []int64) string {
	text := make([]byte, 0, 20*len(numbers))
	text = append(text, '[')
	for i, n := range numbers {
		if i > 0 {
			text = append(text, ',')
		}
		text = strconv.AppendInt(text, n, 10)
	}
	return string(append(text, ']'))
}

// rule reads what is kept of the bars of a timeframe; nil where nothing is said of them.
func rule(ctx context.Context, conn *reader, tf mds.Timeframe) (*rollup.Rule, error) {
	list, err := readPolicies(ctx, conn)
	if err != nil {
		return nil, err
	}
	i := slices.IndexFunc(list, func(p mds.PolicyStatus) bool { return p.Kind == "bars" && p.Timeframe == tf })
	if i < 0 {
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	p := &list[i]
	r := &rollup.Rule{Source: tf, Rollups: p.Rollups, KeptFrom: rollup.Never, RefreshedAt: p.RefreshedAt}
	if !p.KeptFrom.IsZero() {
		r.KeptFrom = p.KeptFrom.UnixMicro()
	}
	r.Zone, err = p.Location()
	return r, err
}

// readPolicies reads the policies in force, with what changed since rollups were made.
func readPolicies(ctx context.Context, conn *reader) ([]mds.PolicyStatus, error) {
	var list []mds.PolicyStatus
	err := eachRow(ctx, conn, `SELECT kind, p.timeframe, partition, compress_after, drop_after, rollups, zone, kept_from, refreshed_at, coalesce(t.n, 0), t.since
		FROM policies p LEFT JOIN (SELECT timeframe, sum(n)::BIGINT AS n, min(noted_at) AS since FROM touched GROUP BY timeframe) t ON p.kind = 'bars' AND t.timeframe = p.timeframe`, nil, func(values []driver.Value) error {
		var p mds.PolicyStatus
		var texts [7]string
		for i := range texts {
			var err error
			if texts[i], err = read[string](values[i]); err != nil {
				return err
			}
		}
		p.Kind, p.Timeframe, p.Zone = texts[0], mds.Timeframe(texts[1]), texts[6]
		ages := texts[2:5]
		for i, age := range []*mds.Age{&p.Partition, &p.CompressAfter, &p.DropAfter} {
			var err error
			if *age, err = mds.ParseAge(ages[i]); err != nil {
				return err
			}
		}
		if texts[5] != "" {
			for name := range strings.SplitSeq(texts[5], ",") {
				p.Rollups = append(p.Rollups, mds.Timeframe(name))
			}
		}
		for i, at := range map[int]*time.Time{7: &p.KeptFrom, 8: &p.RefreshedAt, 10: &p.StaleSince} {
			if values[i] == nil {
				continue
			}
			micros, err := read[int64](values[i])
			if err != nil {
				return err
			}
			*at = time.UnixMicro(micros).UTC()
		}
		var err error
		p.Stale, err = read[int64](values[9])
		list = append(list, p)
		return err
	})
	return mds.SortPolicies(list), err
}
