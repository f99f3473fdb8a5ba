package postgres

import (
	"context"
	"iter"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// Resample reads longer bars than are stored, in one snapshot: from rollups, where there
// are any that answer exactly, and otherwise from the bars (see [mds.ResampleQuery]). They
// come in order of time, then of identity, and end after the first error.
func (s *Store) Resample(ctx context.Context, tenant mds.Tenant, query mds.ResampleQuery) iter.Seq2[mds.Bar, error] {
	bt, rt := NewTable[mds.Bar](s), NewTable[mds.Rollup](s)
	return mds.Limited(func(yield func(mds.Bar, error) bool) {
		ended := false
		err := bt.reading(ctx, "resample", tenant, query.Selection, func(w *work, picked *selected[mds.Bar]) error {
			r := &rollup.Reader{
				Bars:    func(sel mds.Selection) iter.Seq2[mds.Bar, error] { return bt.inOrder(ctx, w, sel) },
				Rollups: func(sel mds.Selection) iter.Seq2[mds.Rollup, error] { return rt.inOrder(ctx, w, sel) },
			}
			if len(picked.from) == 1 || query.Timeframe != "" {
				i := bt.tableOf[query.Timeframe]
				if len(picked.from) == 1 {
					i = bt.tableOf[picked.from[0].timeframe]
				}
				var err error
				if r.Rule, err = w.rule(ctx, &bt.tables[i], ""); err != nil {
					return err
				}
				r.Touched = func(from, until int64) ([]rollup.Span, time.Time, error) {
					return bt.touchedWithin(ctx, w, picked, &bt.tables[i], from, until)
				}
			}
			for bar, err := range r.Answer(query) {
				if err != nil {
					return err
				}
				if !yield(bar, nil) {
					ended = true
					return errEnough
				}
			}
			return nil
		})
		if err != nil && !ended {
			yield(mds.Bar{}, err)
		}
	}, query.Limit)
}

// inOrder reads records in order of time, in a snapshot.
func (t *Table[R]) inOrder(ctx context.Context, w *work, sel mds.Selection) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		s, err := t.selectRows(ctx, w, sel)
		goOn := true
		if err == nil {
			goOn, err = t.queryWithin(ctx, w, s, mds.Query{Selection: sel}, yield)
		}
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
}

// touchedWithin are the spans of the series picked that have something between two instants,
// and the time of the oldest.
func (t *Table[R]) touchedWithin(ctx context.Context, w *work, s *selected[R], table *tables, from, until int64) (spans []rollup.Span, since time.Time, err error) {
	rows, err := w.Query(ctx, "SELECT id, gone, spans, at FROM mds_internal.touched WHERE tenant_id = $1::uuid AND facts = $2 AND last >= $3 AND first < $4", w.tenant.ID, table.facts(), instant(from), instant(until))
	if err != nil {
		return nil, since, err
	}
	defer rows.Close()
	var ids map[int64]bool // nil where there are too many to list
	if s.joined == nil {
		ids = make(map[int64]bool)
		for i := range s.from {
			for _, id := range s.from[i].ids {
				ids[id] = true
			}
		}
	}
	var decoded []rollup.Span
	for rows.Next() {
		var id int64
		var gone bool
		var text []byte
		var at time.Time
		if err := rows.Scan(&id, &gone, &text, &at); err != nil {
			return nil, since, err
		}
		if decoded, err = rollup.Decode(decoded[:0], id, gone, text); err != nil {
			return nil, since, err
		}
		before := len(spans)
		spans = rollup.Within(spans, decoded, ids, from, until)
		if len(spans) > before && (since.IsZero() || at.Before(since)) {
			since = at.UTC()
		}
	}
	return spans, since, rows.Err()
}
