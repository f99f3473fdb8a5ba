package postgres

import (
	"cmp"
	"context"
	"fmt"
	"math"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// A table becomes one of parts while it is read and written: its rows are copied to another
// one, together with what is written meanwhile, which writers note; the two are compared,
// and the other takes its place.

// partsWanted is the shape that a policy asks for.
func (db *catalog) partsWanted(p *mds.Policy) shape {
	switch {
	case p.Kind != "bars" && p.Kind != "options": // the time is not in the key
		return plain
	case db.timescale != "" && (!p.Partition.IsZero() || !p.CompressAfter.IsZero() && db.columnstore):
		return hypertable
	case db.timescale == "" && !p.Partition.IsZero():
		return partitioned
	}
	return plain
}

// partitionsDue finds whether a table is to be one of parts, or is to get more of them.
func (db *catalog) partitionsDue(ctx context.Context, tx pgx.Tx, p *mds.Policy, now time.Time) ([]mds.Step, error) {
	table, want := db.tables[factsOf(p)], db.partsWanted(p)
	step := mds.Step{Action: mds.StepPartition, Policy: *p, Rows: int64(table.rows), Bytes: table.bytes}
	switch {
	case want == hypertable && table.shape != hypertable:
		step.Note = "becomes a hypertable, with chunks of " + interval(chunkOf(p))
	case want == partitioned && table.shape == plain:
		step.Note = "becomes a table of partitions"
	case want == partitioned && table.shape == partitioned:
		spans, rows, err := db.missing(ctx, tx, table, p, now)
		if err != nil || len(spans) == 0 {
			return nil, err
		}
		step.Rows, step.Bytes, step.Note = rows, 0, fmt.Sprintf("gets %d more partitions", len(spans))
	default:
		return nil, nil
	}
	return []mds.Step{step}, nil
}

// partition makes a table one of parts, or more of them.
func (k *Keeper) partition(ctx context.Context, step mds.Step) error {
	p, op := &step.Policy, "partition "+step.Policy.Name()
	first := time.Now()
	err := k.transaction(ctx, op, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(min(ts), now()) FROM mds_internal.%s WHERE series_id > -1", pgx.Identifier{factsOf(p)}.Sanitize())).Scan(&first)
	})
	if err != nil {
		return err
	}
	var convert bool
	err = k.quietly(ctx, op, func(tx pgx.Tx) error {
		db, err := look(ctx, tx)
		if err != nil {
			return err
		}
		table, want := db.tables[factsOf(p)], db.partsWanted(p)
		if convert = table.shape != want; convert {
			return db.beginCopy(ctx, tx, table, want, p, first)
		}
		spans, _, err := db.missing(ctx, tx, table, p, time.Now())
		if err != nil {
			return err
		}
		return db.addPartitions(ctx, tx, table, spans)
	})
	if err != nil || !convert {
		return err
	}
	return k.convert(ctx, op, p)
}

// beginCopy makes an empty table beside one, and has writers note what they change from
// then on. What is left of one that was begun before is thrown away.
func (db *catalog) beginCopy(ctx context.Context, tx pgx.Tx, table *table, want shape, p *mds.Policy, first time.Time) error {
	copied := pgx.Identifier{"mds_internal", table.facts + next}.Sanitize()
	by := ""
	if want == partitioned {
		by = " PARTITION BY RANGE (ts)"
	}
	for _, text := range []string{
		"DROP TABLE IF EXISTS " + copied + " CASCADE",
		fmt.Sprintf("DELETE FROM mds_internal.touched WHERE facts = '%s'", table.facts+next),
		fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)%s", copied, table.name(), by),
		fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (series_id, ts)", copied),
		fmt.Sprintf("CREATE INDEX ON %s USING brin (ts) WHERE series_id > -1", copied),
		fmt.Sprintf("CALL mds_internal.without_statistics('%s')", copied),
	} {
		if _, err := tx.Exec(ctx, text); err != nil {
			return err
		}
	}
	var err error
	if want == hypertable {
		err = db.makeHypertable(ctx, tx, copied, p)
	} else {
		err = makePartitions(ctx, tx, copied, table.facts, layOut(p.Partition, first, time.Now()))
	}
	if err != nil {
		return err
	}
	if err := grantLike(ctx, tx, copied); err != nil {
		return err
	}
	done, err := tx.Exec(ctx, "UPDATE mds_internal.policies SET converting = true WHERE facts = $1", table.facts)
	if err == nil && done.RowsAffected() == 0 {
		err = fmt.Errorf("the policy of %s is not in force", p.Name())
	}
	return err
}

// grantLike gives the service's logins their rights on a table.
func grantLike(ctx context.Context, tx pgx.Tx, name string) error {
	rows, err := tx.Query(ctx, "SELECT login FROM mds_internal.service_logins ORDER BY login")
	if err != nil {
		return err
	}
	logins, err := pgx.CollectRows(rows, pgx.RowTo[string])
	for i := 0; i < len(logins) && err == nil; i++ {
		_, err = tx.Exec(ctx, fmt.Sprintf("GRANT SELECT, INSERT, UPDATE, DELETE ON %s TO %s", name, pgx.Identifier{logins[i]}.Sanitize()))
	}
	return err
}

// convert copies a table to the one that was made, and puts that in its place.
func (k *Keeper) convert(ctx context.Context, op string, p *mds.Policy) error {
	facts := factsOf(p)
	from, to := pgx.Identifier{"mds_internal", facts}.Sanitize(), pgx.Identifier{"mds_internal", facts + next}.Sanitize()
	err := k.transaction(ctx, op, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT * FROM %s", to, from))
		return err
	})
	const few, rounds = 1000, 20 // spans that may be left for the time in which nobody writes
	for left, round := int64(few+1), 0; err == nil && left > few && round < rounds; round++ {
		err = k.transaction(ctx, op, func(tx pgx.Tx) (err error) {
			left, err = catchUp(ctx, tx, facts, from, to)
			return err
		})
	}
	if err != nil {
		return err
	}
	if err := k.compare(ctx, op, facts, from, to); err != nil {
		return err
	}
	return k.quietly(ctx, op, func(tx pgx.Tx) error {
		if _, err := catchUp(ctx, tx, facts, from, to); err != nil {
			return err
		}
		return swap(ctx, tx, p, facts, from, to)
	})
}

// catchUp copies what was noted of a table that is copied, and returns how much it was.
func catchUp(ctx context.Context, tx pgx.Tx, facts, from, to string) (n int64, err error) {
	rows, err := tx.Query(ctx, "DELETE FROM mds_internal.touched WHERE facts = $1 RETURNING id, gone, spans", facts+next)
	if err != nil {
		return 0, err
	}
	spans, err := scanSpans(rows, math.MaxInt)
	if err != nil || len(spans) == 0 {
		return 0, err
	}
	var ids, first, last []int64
	for _, r := range rollup.Join(spans) {
		ids, first, last = append(ids, r.Series), append(first, r.From), append(last, r.To)
	}
	err = byKey(ctx, tx, func() error { return replaceRanges(ctx, tx, from, to, ids, instants(first), instants(last)) })
	return int64(len(spans)), err
}

// byKey runs fn with plans that look keys up one by one: what the planner knows of a new
// table is nothing.
func byKey(ctx context.Context, tx pgx.Tx, fn func() error) error {
	set := func(value string) error {
		for _, plan := range plansByKey {
			if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL enable_%s = %s", plan, value)); err != nil {
				return err
			}
		}
		return nil
	}
	if err := set("off"); err != nil {
		return err
	}
	if err := fn(); err != nil {
		return err
	}
	return set("on")
}

// replaceRanges has a copy hold what the table does, in ranges of series.
func replaceRanges(ctx context.Context, tx pgx.Tx, from, to string, ids []int64, first, last []time.Time) error {
	const ranges = "unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) r (id, first, last)"
	_, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s f USING %s WHERE f.series_id = r.id AND f.ts >= r.first AND f.ts < r.last", to, ranges), ids, first, last)
	if err != nil {
		return err
	}
	_, err = tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT f.* FROM %s JOIN %s f ON f.series_id = r.id AND f.ts >= r.first AND f.ts < r.last", to, ranges, from), ids, first, last)
	return err
}

// compare refuses a copy that differs, in one snapshot, in which it has caught up.
func (k *Keeper) compare(ctx context.Context, op, facts, from, to string) error {
	return k.transactionAs(ctx, op, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) error {
		if _, err := catchUp(ctx, tx, facts, from, to); err != nil {
			return err
		}
		var sums [2]struct{ rows, sum string }
		for i, name := range []string{from, to} {
			err := tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*)::text, coalesce(sum(hash_record_extended(f, 0)::numeric), 0)::text FROM %s f", name)).Scan(&sums[i].rows, &sums[i].sum)
			if err != nil {
				return err
			}
		}
		if sums[0] != sums[1] {
			return &Error{Op: op, Class: Other, Err: fmt.Errorf("the copy of %s has %s rows with the sum %s, and the table %s with %s: the table stays as it is", facts, sums[1].rows, sums[1].sum, sums[0].rows, sums[0].sum)}
		}
		return nil
	})
}

// swap puts a copy in a table's place, with its view, and drops the table.
func swap(ctx context.Context, tx pgx.Tx, p *mds.Policy, facts, from, to string) error {
	old := pgx.Identifier{"mds_internal", facts + "_before"}.Sanitize()
	for _, text := range []string{
		fmt.Sprintf("ALTER TABLE %s RENAME TO %s", from, pgx.Identifier{facts + "_before"}.Sanitize()),
		fmt.Sprintf("ALTER TABLE %s RENAME TO %s", to, pgx.Identifier{facts}.Sanitize()),
		fmt.Sprintf("CALL mds_internal.view_of('%s')", facts),
		"DROP TABLE " + old,
	} {
		if _, err := tx.Exec(ctx, text); err != nil {
			return err
		}
	}
	_, err := tx.Exec(ctx, "UPDATE mds_internal.policies SET converting = false WHERE facts = $1", facts)
	step := mds.Step{Action: mds.StepPartition, Policy: *p, Note: "the table was copied, compared and replaced"}
	return cmp.Or(err, audit(ctx, tx, &step))
}
