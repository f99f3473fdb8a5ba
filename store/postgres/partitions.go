package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// span is the time of a part, the end not within.
type span struct{ from, to time.Time }

// How much of the present is kept in parts of the policy's own width, on both sides: before
// that in months, and what is older than the year before this one in years.
const (
	partsBefore = 12
	partsAhead  = 3
	// What is older than so many years, or was not made parts for in so many of their widths,
	// is of the rest: a wrong date would ask for thousands.
	mostYears = 100
	mostIdle  = 200
)

// layOut are the parts of a table whose first record is of a time.
func layOut(width mds.Age, first, now time.Time) (spans []span) {
	now = now.UTC()
	year := func(t time.Time) time.Time { return time.Date(t.Year(), 1, 1, 0, 0, 0, 0, time.UTC) }
	next := floorTo(width, now)
	fine := next
	for range partsBefore {
		fine = floorTo(width, width.Before(fine))
	}
	add := func(from, to time.Time) time.Time {
		if from.Before(to) {
			spans = append(spans, span{from, to})
		}
		return to
	}
	at := year(first.UTC())
	if oldest := year(now).AddDate(-mostYears, 0, 0); at.Before(oldest) {
		at = oldest
	}
	years := year(now).AddDate(-1, 0, 0)
	if fine.Before(years) {
		years = year(fine)
	}
	for at.Before(years) {
		at = add(at, at.AddDate(1, 0, 0))
	}
	for at.Before(fine) {
		to := time.Date(at.Year(), at.Month()+1, 1, 0, 0, 0, 0, time.UTC)
		if to.After(fine) {
			to = fine
		}
		at = add(at, to)
	}
	return append(spans, ahead(width, at, now)...)
}

// ahead are the parts from the end of the last one on to some after now.
func ahead(width mds.Age, at, now time.Time) (spans []span) {
	end := now
	for range partsAhead {
		end = after(width, end)
	}
	for at.Before(end) {
		to := after(width, floorTo(width, at))
		spans = append(spans, span{at, to})
		at = to
	}
	return spans
}

// after is the instant that long after t.
func after(width mds.Age, t time.Time) time.Time {
	return mds.Age{N: -width.N, Unit: width.Unit}.Before(t)
}

// floorTo is where the part of a width begins that holds t: weeks on a Monday.
func floorTo(width mds.Age, t time.Time) time.Time {
	switch width.Unit {
	case 'M':
		return time.Date(t.Year(), t.Month()-time.Month((int(t.Month())-1)%width.N), 1, 0, 0, 0, 0, time.UTC)
	case 'y':
		return time.Date(t.Year()-t.Year()%width.N, 1, 1, 0, 0, 0, 0, time.UTC)
	}
	length := map[byte]time.Duration{'h': time.Hour, 'd': 24 * time.Hour, 'w': 7 * 24 * time.Hour}[width.Unit] * time.Duration(width.N)
	monday := time.Date(2001, 1, 1, 0, 0, 0, 0, time.UTC)
	n := t.Sub(monday) / length
	if t.Before(monday.Add(n * length)) {
		n--
	}
	return monday.Add(n * length)
}

// nameOf is the name of a part.
func nameOf(facts string, s span) string {
	layout := "20060102"
	if s.from.Hour() != 0 {
		layout = "20060102_15"
	}
	return facts + "_from_" + s.from.UTC().Format(layout)
}

// restOf is the name of the part of what lies outside of all others.
func restOf(facts string) string { return facts + "_rest" }

// makePartitions makes an empty table's parts.
func makePartitions(ctx context.Context, tx pgx.Tx, parent, facts string, spans []span) error {
	rest := pgx.Identifier{"mds_internal", restOf(facts)}.Sanitize()
	_, err := tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s DEFAULT", rest, parent))
	if err == nil {
		_, err = tx.Exec(ctx, "CALL mds_internal.without_statistics($1::text::regclass)", rest)
	}
	for i := 0; i < len(spans) && err == nil; i++ {
		err = makePartition(ctx, tx, parent, nameOf(facts, spans[i]), spans[i])
	}
	return err
}

// makePartition makes a part.
func makePartition(ctx context.Context, tx pgx.Tx, parent, name string, s span) error {
	part := pgx.Identifier{"mds_internal", name}.Sanitize()
	_, err := tx.Exec(ctx, fmt.Sprintf("CREATE TABLE %s PARTITION OF %s FOR VALUES FROM ('%s') TO ('%s')", part, parent, s.from.Format(time.RFC3339), s.to.Format(time.RFC3339)))
	if err == nil {
		_, err = tx.Exec(ctx, "CALL mds_internal.without_statistics($1::text::regclass)", part)
	}
	return err
}

// missing are the parts that a table should have and does not: those ahead, and those of
// the years of rows that lie outside of all parts.
func (db *catalog) missing(ctx context.Context, tx pgx.Tx, t *table, p *mds.Policy, now time.Time) (spans []span, rows int64, err error) {
	parts, err := db.parts(ctx, tx, t)
	if err != nil {
		return nil, 0, err
	}
	at := floorTo(p.Partition, now)
	if len(parts) > 0 {
		at = parts[len(parts)-1].to
	}
	if at.Before(after(p.Partition, now)) {
		spans = ahead(p.Partition, at, now)
		if len(spans) > mostIdle {
			spans = ahead(p.Partition, floorTo(p.Partition, now), now)
		}
	}
	found, err := tx.Query(ctx, fmt.Sprintf("SELECT date_trunc('year', ts), count(*) FROM %s GROUP BY 1 ORDER BY 1", pgx.Identifier{"mds_internal", restOf(t.prefix)}.Sanitize()))
	if err != nil {
		return nil, 0, err
	}
	var year time.Time
	var n int64
	_, err = pgx.ForEachRow(found, []any{&year, &n}, func() error {
		if year.After(now.AddDate(1, 0, 0)) || year.Before(now.AddDate(-mostYears, 0, 0)) {
			return nil // such as of the year 9999: they may stay
		}
		rows += n
		spans = append(spans, gaps(span{year.UTC(), year.UTC().AddDate(1, 0, 0)}, parts)...)
		return nil
	})
	slices.SortFunc(spans, func(a, b span) int { return a.from.Compare(b.from) })
	return slices.CompactFunc(spans, func(a, b span) bool { return a == b }), rows, err
}

// gaps are what of a span no part has, before the last of them.
func gaps(of span, parts []tablePart) (spans []span) {
	at := of.from
	for _, part := range parts {
		if !part.to.After(at) || !at.Before(of.to) {
			continue
		}
		if to := part.from; at.Before(to) {
			if of.to.Before(to) {
				to = of.to
			}
			spans = append(spans, span{at, to})
		}
		at = part.to
	}
	return spans
}

// addPartitions makes parts of a table that has rows, and moves into them what lies in
// their time.
func (db *catalog) addPartitions(ctx context.Context, tx pgx.Tx, t *table, spans []span) error {
	rest := pgx.Identifier{"mds_internal", restOf(t.prefix)}.Sanitize()
	for _, s := range spans {
		part := pgx.Identifier{"mds_internal", nameOf(t.prefix, s)}.Sanitize()
		for _, text := range []string{
			fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS INCLUDING INDEXES)", part, t.name()),
			fmt.Sprintf("WITH moved AS (DELETE FROM %s WHERE ts >= '%s' AND ts < '%s' RETURNING *) INSERT INTO %s SELECT * FROM moved", rest, s.from.Format(time.RFC3339), s.to.Format(time.RFC3339), part),
			fmt.Sprintf("CALL mds_internal.without_statistics('%s')", part),
			fmt.Sprintf("ALTER TABLE %s ATTACH PARTITION %s FOR VALUES FROM ('%s') TO ('%s')", t.name(), part, s.from.Format(time.RFC3339), s.to.Format(time.RFC3339)),
		} {
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
	}
	return nil
}
