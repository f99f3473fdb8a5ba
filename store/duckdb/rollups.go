package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"iter"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// refreshBars is how many bars are read, at most, while writers wait for the rollups that
// are made of them. Tests change it.
var refreshBars int64 = 200_000

// Refresh makes the rollups anew of what changed in a tenant's bars, the newest first, and
// of so many bars at most, roughly; 0 is no limit. Writers get their turn in between.
// Wherever it ends, what is left is known, and read from bars.
func (s *Store) Refresh(ctx context.Context, tenant mds.Tenant, bars int64) (done mds.Refreshed, err error) {
	if s.cfg.ReadOnly {
		return done, errReadOnly
	}
	f, err := s.file(ctx, tenant)
	if err != nil {
		return done, err
	}
	bt, rt := NewTable[mds.Bar](s), NewTable[mds.Rollup](s)
	for _, tf := range mds.Timeframes() {
		for {
			var step mds.Refreshed
			err := f.taking(ctx, func() (err error) {
				step, err = refresh(ctx, f, bt, rt, tf)
				if err != nil {
					rt.doubt(f)
					f.noteWrite(err)
				} else {
					f.checkpoint(ctx)
				}
				return err
			})
			done = done.Add(step)
			if err != nil || bars > 0 && done.Bars >= bars {
				return done, wrap(ctx, "refresh rollups", err)
			}
			if step.Spans == 0 {
				break
			}
		}
	}
	return done, nil
}

// refresh makes some rollups anew. The caller holds the writer's token. Rollups are
// written before what they were made for is forgotten: one that is killed in between makes
// them again.
func refresh(ctx context.Context, f *file, bt *Table[mds.Bar], rt *Table[mds.Rollup], tf mds.Timeframe) (done mds.Refreshed, err error) {
	rolled, err := f.rolledOf(ctx)
	if err != nil || !rolled[tf] {
		return done, err
	}
	conn := f.writerReads()
	rule, err := rule(ctx, conn, tf)
	if err != nil || rule == nil {
		return done, err
	}
	spans, err := touchedSpans(ctx, conn, tf)
	if err != nil {
		return done, err
	}
	taken := rule.Take(spans, min(refreshBars, f.memory/2048))
	if taken == 0 {
		return done, nil
	}
	rest := rollup.Rest(spans, taken)
	spans = spans[:taken]
	done.Spans, done.Late = int64(len(spans)), rule.Late(spans)
	identities := make(map[int64]*mds.Bar)
	series := make([]int64, len(spans))
	for i := range spans {
		series[i] = spans[i].Series
	}
	err = bt.eachSeries(ctx, conn, " WHERE id IN (SELECT unnest(?::BIGINT[]))", []any{list(series)}, func(id int64, record *mds.Bar) { identities[id] = record })
	if err != nil {
		return done, err
	}
	var others []otherRollup
	for _, pass := range rule.Passes(spans) {
		made, read, err := bt.make(ctx, conn, rule, &pass, identities)
		if err != nil {
			return done, err
		}
		done.Bars += read
		if len(made) > 0 {
			receipts, err := rt.write(ctx, f, []*pending[mds.Rollup]{{records: made}})
			if err != nil {
				return done, err
			}
			done.Written += receipts[0].Written
		}
		more, err := rt.others(ctx, conn, rule, pass.Rollups, spans, identities, made)
		if err != nil {
			return done, err
		}
		others = append(others, more...)
	}
	done.Removed = int64(len(others))
	err = f.inTransaction(ctx, false, func() error {
		if err := rt.removeOthers(ctx, f, others); err != nil {
			return err
		}
		if err := f.putRest(ctx, rest); err != nil {
			return err
		}
		_, err := f.conn.ExecContext(ctx, "UPDATE policies SET refreshed_at = ? WHERE kind = 'bars' AND timeframe = ?", time.Now().UnixMicro(), string(tf))
		return err
	})
	if err == nil && len(others) > 0 {
		rt.doubt(f)
	}
	return done, err
}

// mostTouched is how many values of spans are looked at together.
const mostTouched = 1000

// touchedSpans are the spans of a timeframe, of the newest values.
func touchedSpans(ctx context.Context, conn *reader, tf mds.Timeframe) (spans []rollup.Span, err error) {
	err = eachRow(ctx, conn, fmt.Sprintf("SELECT id, gone, spans FROM touched WHERE timeframe = ? ORDER BY last DESC, id LIMIT %d", mostTouched), []any{string(tf)}, func(values []driver.Value) (err error) {
		if len(spans) >= rollup.MostSpans {
			return nil
		}
		spans, err = decodeSpans(spans, values)
		return err
	})
	return spans, err
}

// decodeSpans appends the spans of a row of id, gone and spans.
func decodeSpans(spans []rollup.Span, values []driver.Value) ([]rollup.Span, error) {
	id, err1 := read[int64](values[0])
	gone, err2 := read[bool](values[1])
	text, err3 := read[[]byte](values[2])
	if err := errors.Join(err1, err2, err3); err != nil {
		return nil, err
	}
	return rollup.Decode(spans, id, gone, text)
}

// putRest keeps what is left of values of which spans were taken. The caller is in a
// transaction of the writer's.
func (f *file) putRest(ctx context.Context, rest map[int64][]rollup.Span) error {
	var gone []int64
	for id, spans := range rest {
		if len(spans) == 0 {
			gone = append(gone, id)
			continue
		}
		first, last := rollup.Bounds(spans)
		if _, err := f.conn.ExecContext(ctx, "UPDATE touched SET first = ?, last = ?, n = ?, spans = ? WHERE id = ?", first, last, len(spans), rollup.Encode(spans), id); err != nil {
			return err
		}
	}
	_, err := f.conn.ExecContext(ctx, "DELETE FROM touched WHERE id IN (SELECT unnest(?::BIGINT[]))", list(gone))
	return err
}

// inRanges is the condition that facts lie in ranges, roughly: by stretches of time of one
// length, which are looked up and not compared with each.
func inRanges(ranges []rollup.Range) (condition string, args []any) {
	const most = 100_000
	unit := int64(5 * time.Minute / time.Microsecond)
	count := func() (n int64) {
		for _, r := range ranges {
			n += (r.To-r.From)/unit + 2
		}
		return n
	}
	for count() > max(most, int64(4*len(ranges))) {
		unit *= 2
	}
	var series, units []int64
	first, last := ranges[0].From, ranges[0].To
	for _, r := range ranges {
		first, last = min(first, r.From), max(last, r.To)
		for u := floor(r.From, unit); u <= floor(r.To-1, unit); u++ {
			series, units = append(series, r.Series), append(units, u)
		}
	}
	return fmt.Sprintf("ts >= make_timestamp(?) AND ts < make_timestamp(?) AND (series_id, CAST(floor(epoch_us(ts) / %d) AS BIGINT)) IN (SELECT unnest(?::BIGINT[]), unnest(?::BIGINT[]))", unit),
		[]any{first, last, list(series), list(units)}
}

// floor is the whole number of units before micros, which may be before 1970.
func floor(micros, unit int64) int64 {
	n := micros / unit
	if micros%unit < 0 {
		n--
	}
	return n
}

// make reads the bars of a pass and makes its rollups.
func (t *Table[R]) make(ctx context.Context, conn *reader, rule *rollup.Rule, pass *rollup.Pass, identities map[int64]*mds.Bar) (made []mds.Rollup, read int64, err error) {
	if len(pass.Ranges) == 0 {
		return nil, 0, nil
	}
	condition, args := inRanges(pass.Ranges)
	maker := rule.NewMaker(pass)
	at := 0
	err = eachRow(ctx, conn, "SELECT "+t.sql.columns+" FROM "+t.sql.facts+" WHERE "+condition+" ORDER BY series_id, ts", args, func(values []driver.Value) error {
		var f fact[R]
		if err := t.setFactOf(&f, values); err != nil {
			return err
		}
		for r := &pass.Ranges[at]; f.series > r.Series || f.series == r.Series && f.micros >= r.To; r = &pass.Ranges[at] {
			maker.Flush()
			if at++; at == len(pass.Ranges) {
				at--
				return nil // beside the last
			}
		}
		if r := &pass.Ranges[at]; f.series != r.Series || f.micros < r.From {
			return nil // beside the ranges
		}
		bar, ok := any(&f.record).(*mds.Bar)
		identity := identities[f.series]
		if !ok || identity == nil {
			return fmt.Errorf("rows are of series %d, which is not there", f.series)
		}
		bar.Vendor, bar.Symbol, bar.Timeframe = identity.Vendor, identity.Symbol, identity.Timeframe
		maker.Add(bar)
		read++
		return nil
	})
	maker.Flush()
	return maker.Made(), read, err
}

// otherRollup is a rollup of which no bars are left.
type otherRollup struct{ series, micros int64 }

// others finds the rollups of spans in which bars were deleted that were not made.
func (t *Table[R]) others(ctx context.Context, conn *reader, rule *rollup.Rule, rollups []mds.Timeframe, spans []rollup.Span, identities map[int64]*mds.Bar, made []mds.Rollup) (others []otherRollup, err error) {
	kept := rollup.NewKept(made)
	for _, to := range rollups {
		gone := rule.Gone(to, spans)
		if len(gone) == 0 {
			continue
		}
		type name struct{ vendor, symbol string }
		names, ids := make(map[int64]name), make(map[name]int64)
		err := t.eachSeries(ctx, conn, " WHERE timeframe = ? AND source = ?", []any{string(to), string(rule.Source)}, func(id int64, record *R) {
			if r, ok := any(record).(*mds.Rollup); ok {
				n := name{r.Vendor, r.Symbol}
				names[id], ids[n] = n, id
			}
		})
		if err != nil {
			return nil, err
		}
		var ranges []rollup.Range
		for _, r := range gone {
			if of := identities[r.Series]; of != nil && ids[name{of.Vendor, of.Symbol}] != 0 {
				ranges = append(ranges, rollup.Range{Series: ids[name{of.Vendor, of.Symbol}], From: r.From, To: r.To})
			}
		}
		if len(ranges) == 0 {
			continue
		}
		condition, args := inRanges(ranges)
		var v [2]int64
		err = eachRow(ctx, conn, "SELECT series_id, epoch_us(ts) FROM "+t.sql.facts+" WHERE "+condition, args, func(values []driver.Value) error {
			err := readInts(v[:], values)
			within := slices.ContainsFunc(ranges, func(r rollup.Range) bool { return r.Series == v[0] && r.From <= v[1] && v[1] < r.To })
			if n := names[v[0]]; within && !kept.Has(n.vendor, n.symbol, to, v[1]) {
				others = append(others, otherRollup{v[0], v[1]})
			}
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return others, nil
}

func (t *Table[R]) removeOthers(ctx context.Context, f *file, others []otherRollup) error {
	if len(others) == 0 {
		return nil
	}
	var series, micros []int64
	for _, o := range others {
		series, micros = append(series, o.series), append(micros, o.micros)
	}
	_, err := f.conn.ExecContext(ctx, "DELETE FROM "+t.sql.facts+" WHERE (series_id, epoch_us(ts)) IN (SELECT unnest(?::BIGINT[]), unnest(?::BIGINT[]))", list(series), list(micros))
	return err
}

// Policies are the policies in force for a tenant, with what changed of its bars since
// rollups were made of them.
func (s *Store) Policies(ctx context.Context, tenant mds.Tenant) (list []mds.PolicyStatus, err error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return nil, err
	}
	err = f.snapshot(ctx, false, func(conn *reader) error {
		there, err := f.hasTable(ctx, conn, "policies")
		if err == nil && there {
			list, err = readPolicies(ctx, conn)
		}
		return err
	})
	return list, wrap(ctx, "policies", err)
}

// Resample reads longer bars than are stored, in one snapshot: from rollups, where there
// are any that answer exactly, and otherwise from the bars (see [mds.ResampleQuery]). They
// come in order of time, then of identity, and end after the first error.
func (s *Store) Resample(ctx context.Context, tenant mds.Tenant, query mds.ResampleQuery) iter.Seq2[mds.Bar, error] {
	bt, rt := NewTable[mds.Bar](s), NewTable[mds.Rollup](s)
	return mds.Limited(func(yield func(mds.Bar, error) bool) {
		ended := false
		err := bt.read(ctx, "resample", tenant, query.Selection, func(conn *reader, picked *selected[mds.Bar]) error {
			r := &rollup.Reader{
				Bars:    func(sel mds.Selection) iter.Seq2[mds.Bar, error] { return bt.inOrder(ctx, conn, sel) },
				Rollups: func(sel mds.Selection) iter.Seq2[mds.Rollup, error] { return rt.inOrder(ctx, conn, sel) },
			}
			tf, err := bt.timeframeOf(ctx, conn, query.Selection, picked)
			if err != nil {
				return err
			}
			if tf != "" {
				if r.Rule, err = rule(ctx, conn, tf); err != nil {
					return err
				}
			}
			r.Touched = func(from, until int64) ([]rollup.Span, time.Time, error) {
				return touchedWithin(ctx, conn, tf, picked, from, until)
			}
			for bar, err := range r.Answer(query) {
				if err != nil {
					return err
				}
				if !yield(bar, nil) {
					ended = true
					return nil
				}
			}
			return nil
		})
		if err != nil && !ended {
			yield(mds.Bar{}, err)
		}
	}, query.Limit)
}

// timeframeOf is the timeframe that a selection picks, where it is one and there is a
// policy.
func (t *Table[R]) timeframeOf(ctx context.Context, conn *reader, sel mds.Selection, s *selected[R]) (mds.Timeframe, error) {
	var there bool // a file that is open for reading may be older
	if err := conn.one(ctx, "SELECT count(*) > 0 FROM duckdb_tables() WHERE table_name = 'policies'", nil, &there); err != nil || !there {
		return "", err
	}
	if sel.Timeframe != "" {
		return sel.Timeframe, nil
	}
	if !s.listed {
		var n int
		var only string
		err := conn.one(ctx, "SELECT count(DISTINCT timeframe), coalesce(min(timeframe), '') FROM "+t.sql.series, nil, &n, &only)
		if err != nil || n != 1 {
			return "", err
		}
		return mds.Timeframe(only), nil
	}
	only := mds.Timeframe("")
	for _, identity := range s.identities {
		tf := t.schema.Timeframe(identity)
		if only != "" && tf != only {
			return "", nil
		}
		only = tf
	}
	return only, nil
}

// touchedWithin are the spans of the series picked that have something between two
// instants, and the time of the oldest.
func touchedWithin[R any](ctx context.Context, conn *reader, tf mds.Timeframe, s *selected[R], from, until int64) (spans []rollup.Span, since time.Time, err error) {
	var ids map[int64]bool // nil where there are too many to list
	if s.listed {
		ids = make(map[int64]bool)
		for id := range s.identities {
			ids[id] = true
		}
	}
	var decoded []rollup.Span
	err = eachRow(ctx, conn, "SELECT id, gone, spans, noted_at FROM touched WHERE timeframe = ? AND last >= ? AND first < ?", []any{string(tf), from, until}, func(values []driver.Value) (err error) {
		if decoded, err = decodeSpans(decoded[:0], values); err != nil {
			return err
		}
		micros, err := read[int64](values[3])
		before := len(spans)
		spans = rollup.Within(spans, decoded, ids, from, until)
		if at := time.UnixMicro(micros).UTC(); len(spans) > before && (since.IsZero() || at.Before(since)) {
			since = at
		}
		return err
	})
	return spans, since, err
}

// inOrder reads records in order of time, in a snapshot.
func (t *Table[R]) inOrder(ctx context.Context, conn *reader, sel mds.Selection) iter.Seq2[R, error] {
	return func(yield func(R, error) bool) {
		goOn := true
		s, err := t.selectSeries(ctx, conn, sel)
		if err == nil {
			err = t.inTimeOrder(ctx, conn, s, false, 0, t.newEmitter(conn, func(r R) bool {
				goOn = yield(r, nil)
				return goOn
			}))
		}
		if err != nil && goOn {
			var none R
			yield(none, err)
		}
	}
}
