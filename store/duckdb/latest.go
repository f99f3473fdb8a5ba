package duckdb

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/marketdatastore/mds"
)

// usualLatest is the most series of which the newest facts are kept in memory. Where
// there are more, they are read.
const usualLatest = 100_000

// fewLatest is the most of which a few are looked for in memory.
const fewLatest = 10_000

// latest has the newest record of each series of a kind, so that it need not be
// searched for among all. Questions fill it, and the writer keeps it from then on.
type latest[R any] struct {
	mu      sync.Mutex
	state   latestState
	asked   bool
	lots    bool        // of series; see many
	records map[int64]R // by series
	written map[int64]R // while records are read: what was written meanwhile
	reading int         // which reading is under way: one that was overtaken is of no use
}

type latestState int

const (
	latestUnknown latestState = iota
	latestReading
	latestKnown
	latestTooMany // series
)

// latestOf returns the newest records of a kind.
func latestOf[R any](f *file, kind string) *latest[R] {
	if l, ok := f.latest.Load(kind); ok {
		return l.(*latest[R])
	}
	l, _ := f.latest.LoadOrStore(kind, &latest[R]{})
	return l.(*latest[R])
}

// pick returns the newest records that are picked, where they are known.
func (l *latest[R]) pick(picked func(*R) bool) ([]R, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != latestKnown {
		return nil, false
	}
	records := make([]R, 0, 16)
	for _, r := range l.records {
		if picked(&r) {
			records = append(records, r)
		}
	}
	return records, true
}

// noteMany notes that there are so many series as many reports.
func (l *latest[R]) noteMany() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lots = true
}

// many reports that there are so many series that a question for a part is answered
// faster by reading that part.
func (l *latest[R]) many() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lots || len(l.records) > fewLatest
}

// begin asks whether all records should be read. What is committed from then on
// goes to write, and what was committed before is in a snapshot taken later. A first
// question for a part is answered by reading that part: it may remain the only one.
func (l *latest[R]) begin(everything bool) (reading int, needed bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	again := l.asked
	l.asked = true
	if l.state != latestUnknown || !everything && !again {
		return 0, false
	}
	l.state, l.written = latestReading, make(map[int64]R)
	l.reading++
	return l.reading, true
}

// end takes the records that were read, nil where there are too many or reading failed.
func (l *latest[R]) end(t *mds.Schema[R], reading int, records map[int64]R, tooMany bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state != latestReading || l.reading != reading {
		return // forgotten meanwhile
	}
	written := l.written
	l.state, l.written = latestUnknown, nil
	switch {
	case tooMany:
		l.state = latestTooMany
	case records == nil:
	default:
		for series, r := range written {
			if have, ok := records[series]; !ok || t.Micros(&r) >= t.Micros(&have) {
				records[series] = r
			}
		}
		l.state, l.records = latestKnown, records
	}
}

// forget is for when records were removed, or when it is not known what was written.
func (l *latest[R]) forget() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.state == latestTooMany {
		return // series stay when their records are removed
	}
	l.state, l.records, l.written = latestUnknown, nil, nil
	l.reading++
}

// noteLatest keeps the newest records up to rows that were committed, sorted by
// series and time.
func (t *Table[R]) noteLatest(l *latest[R], records []R, rows []batchRow) {
	l.mu.Lock()
	defer l.mu.Unlock()
	into := l.records
	switch l.state {
	case latestKnown:
	case latestReading:
		into = l.written
	default:
		return
	}
	for i := range rows {
		if i+1 < len(rows) && rows[i+1].series == rows[i].series {
			continue
		}
		have, ok := into[rows[i].series]
		if ok && t.schema.Micros(&have) > rows[i].micros {
			continue
		}
		r := records[rows[i].record]
		t.schema.Normalize(&r)
		for _, c := range t.identity {
			switch {
			case ok:
				c.Copy(&r, &have)
			case c.Text != nil:
				*c.Text(&r) = strings.Clone(*c.Text(&r)) // it may be a part of something large
			}
		}
		into[rows[i].series] = r
	}
	if l.state == latestKnown && len(into) > t.store.maxLatest {
		l.state, l.records = latestTooMany, nil
	}
}

// Latest returns the newest record of each series that the selection picks,
// in order of identity; of kinds with keys of their own, the newest of each
// key, and of those with versions, as they are known.
//
// A process that asks again gets the answer from memory, which costs a few hundred
// bytes a series, for up to 100,000 of them.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error) {
	if t.schema.TimeIsValue {
		return nil, &Error{Op: "latest " + t.sql.kind, Err: errNoLatest(t.sql.kind)}
	}
	if !t.plain || !sel.KnownAt.IsZero() || !sel.End.IsZero() {
		return t.readLatest(ctx, tenant, sel)
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return nil, err
	}
	conditions, err := t.schema.Conditions(sel)
	if err != nil {
		return nil, wrap(ctx, "latest "+t.sql.kind, err)
	}
	l := latestOf[R](f, t.sql.kind)
	everything := len(conditions) == 0
	if !everything && l.many() {
		return t.readLatest(ctx, tenant, sel)
	}
	picked := func(r *R) bool { return t.picks(conditions, &sel, r) }
	records, known := l.pick(picked)
	if !known {
		reading, needed := l.begin(everything)
		if !needed {
			return t.readLatest(ctx, tenant, sel)
		}
		var bySeries map[int64]R
		tooMany := false
		func() {
			defer func() { l.end(&t.schema, reading, bySeries, tooMany) }()
			most := t.store.maxLatest
			if !everything {
				most = min(most, fewLatest)
			}
			records, bySeries, tooMany, err = t.readAllLatest(ctx, tenant, most)
			if tooMany && most < t.store.maxLatest {
				l.noteMany()
				tooMany = false
			}
		}()
		if err != nil {
			return nil, err
		}
		if bySeries == nil {
			return t.readLatest(ctx, tenant, sel)
		}
		records = slices.DeleteFunc(records, func(r R) bool { return !picked(&r) })
	}
	return t.byIdentity(records), nil
}

// byIdentity sorts records, which are large, by sorting where they are.
func (t *Table[R]) byIdentity(records []R) []R {
	at := make([]*R, len(records))
	for i := range records {
		at[i] = &records[i]
	}
	slices.SortFunc(at, func(a, b *R) int { return mds.Compare(t.identity, a, b) })
	sorted := make([]R, len(records))
	for i := range at {
		sorted[i] = *at[i]
	}
	return sorted
}

// picks reports whether a selection without an end picks a record.
func (t *Table[R]) picks(conditions []mds.Condition[R], sel *mds.Selection, r *R) bool {
	if !sel.Start.IsZero() {
		calendar := t.schema.Dated() || t.schema.Timeframe != nil && t.schema.Timeframe(r).Calendar()
		if t.schema.Micros(r) < mds.Bound(sel.Start, calendar) {
			return false
		}
	}
	for i := range conditions {
		c := conditions[i].Column
		if !slices.ContainsFunc(conditions[i].Values, func(v R) bool { return c.Equal(&v, r) }) {
			return false
		}
	}
	return true
}

// readAllLatest reads the newest record of every series, unless there are more than
// most.
func (t *Table[R]) readAllLatest(ctx context.Context, tenant mds.Tenant, most int) (records []R, bySeries map[int64]R, tooMany bool, err error) {
	bySeries = make(map[int64]R)
	err = t.read(ctx, "latest", tenant, mds.Selection{}, func(conn *reader, s *selected[R]) error {
		var n int
		if err := conn.one(ctx, "SELECT count(*) FROM "+t.sql.series, nil, &n); err != nil || n > most {
			tooMany = err == nil
			return err
		}
		facts, err := t.appendFacts(ctx, conn, s, nil, t.sql.latest(s.where), slices.Concat(s.args, s.args))
		for i := range facts {
			records = append(records, facts[i].record)
			bySeries[facts[i].series] = facts[i].record
		}
		return err
	})
	if err != nil || tooMany {
		return nil, nil, tooMany, err
	}
	return records, bySeries, false, nil
}

// readLatest is Latest from the file.
func (t *Table[R]) readLatest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error) {
	var newest []R
	err := t.read(ctx, "latest", tenant, sel, func(conn *reader, s *selected[R]) error {
		s.known = t.sql.revision != ""
		facts, err := t.appendFacts(ctx, conn, s, nil, t.sql.latest(s.where), slices.Concat(s.args, s.args))
		if err != nil {
			return err
		}
		t.sortByIdentity(s, facts, false)
		_, err = t.newEmitter(conn, func(r R) bool {
			newest = append(newest, r)
			return true
		}).emit(ctx, facts)
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

func errNoLatest(kind string) error {
	return fmt.Errorf("%s have no series of which one is the latest; query them newest first, with a limit", kind)
}
