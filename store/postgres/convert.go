package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
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
	if table == nil {
		return nil, fmt.Errorf("there is no table of %s", p.Name())
	}
	step := mds.Step{Action: mds.StepPartition, Policy: *p, Rows: int64(table.rows), Bytes: table.bytes}
	switch {
	case want == hypertable && table.shape != hypertable:
		step.Note = "becomes a hypertable, with chunks of " + interval(chunkOf(p))
	case want == partitioned && table.shape == plain:
		step.Note = "becomes a table of partitions"
	case want == partitioned && table.shape == partitioned:
		spans, rows, err := db.missing(ctx, tx, table, p, now)
		if err != nil {
			return nil, err
		}
		if rows > mostMoved {
			step.Note = fmt.Sprintf("is copied to one with more partitions, for %d rows that have none of their own", rows)
			break
		}
		if len(spans) == 0 {
			return abandoned(table, step), nil
		}
		step.Rows, step.Bytes, step.Note = rows, 0, fmt.Sprintf("gets more partitions: %d", len(spans))
	default:
		return abandoned(table, step), nil
	}
	return []mds.Step{step}, nil
}

// abandoned is the step that throws away what is left of a copy that nobody wants any more.
func abandoned(table *table, step mds.Step) []mds.Step {
	if !table.converting {
		return nil
	}
	step.Rows, step.Bytes, step.Note = 0, 0, "a copy that was begun is thrown away"
	return []mds.Step{step}
}

// mostMoved is how many rows are given partitions of their own while nobody writes. For more
// the table is copied again. Tests change it.
var mostMoved int64 = 50_000

// partition makes a table one of parts, or more of them.
func (k *Keeper) partition(ctx context.Context, step mds.Step) error {
	p, op := &step.Policy, "partition "+step.Policy.Name()
	first := time.Now()
	err := k.transaction(ctx, op, func(tx pgx.Tx) error {
		return tx.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(min(ts) FILTER (WHERE ts >= now() - interval '%[2]d years'), now()) FROM mds_internal.%[1]s WHERE series_id > -1", pgx.Identifier{factsOf(p)}.Sanitize(), mostYears)).Scan(&first)
	})
	if err != nil {
		return err
	}
	token := ""
	err = k.quietly(ctx, op, func(tx pgx.Tx) error {
		if err := inForce(ctx, tx, op, p, "partition = $2 AND compress_after = $3", p.Partition.String(), p.CompressAfter.String()); err != nil {
			return err
		}
		db, err := look(ctx, tx)
		if err != nil {
			return err
		}
		table, want := db.tables[factsOf(p)], db.partsWanted(p)
		var spans []span
		var outside int64
		if want == partitioned && table.shape == partitioned {
			if spans, outside, err = db.missing(ctx, tx, table, p, time.Now()); err != nil {
				return err
			}
		}
		if table.shape != want && want != plain || outside > mostMoved {
			token, err = db.beginCopy(ctx, tx, table, want, p, first)
			return err
		}
		if err := giveUp(ctx, tx, table.facts); err != nil {
			return err
		}
		return db.addPartitions(ctx, tx, table, spans)
	})
	if err != nil || token == "" {
		return err
	}
	return k.convert(ctx, op, p, token)
}

// giveUp throws away what is left of a copy of a table.
func giveUp(ctx context.Context, tx pgx.Tx, facts string) error {
	for _, text := range []string{
		"DROP TABLE IF EXISTS " + pgx.Identifier{"mds_internal", facts + next}.Sanitize() + " CASCADE",
		fmt.Sprintf("DELETE FROM mds_internal.touched WHERE facts = '%s'", facts+next),
		fmt.Sprintf("UPDATE mds_internal.policies SET converting = NULL WHERE facts = '%s'", facts),
	} {
		if _, err := tx.Exec(ctx, text); err != nil {
			return err
		}
	}
	return nil
}

// refuseDependents refuses a table that something hangs on which would go with it.
func refuseDependents(ctx context.Context, tx pgx.Tx, table *table) error {
	var view *string
	err := tx.QueryRow(ctx, `SELECT min(v.oid::regclass::text) FROM pg_depend d JOIN pg_rewrite r ON r.oid = d.objid AND d.classid = 'pg_rewrite'::regclass JOIN pg_class v ON v.oid = r.ev_class
		WHERE d.refclassid = 'pg_class'::regclass AND d.refobjid = $1::text::regclass AND NOT (v.relnamespace IN ('mds'::regnamespace, 'mds_internal'::regnamespace) AND (v.relname LIKE 'sealed\_bars\_%' OR v.relname = 'options'))`, table.name()).Scan(&view)
	if err == nil && view != nil {
		err = &Error{Op: "partition", Class: Constraint, Err: fmt.Errorf("the view %s reads %s, which another table is to take the place of", *view, table.facts), Hint: "DROP it, and make it again afterwards"}
	}
	return err
}

// beginCopy makes an empty table beside one, and has writers note what they change from
// then on. What is left of one that was begun before is thrown away. It returns what the
// copy is known by.
func (db *catalog) beginCopy(ctx context.Context, tx pgx.Tx, table *table, want shape, p *mds.Policy, first time.Time) (token string, err error) {
	if err := refuseDependents(ctx, tx, table); err != nil {
		return "", err
	}
	if err := giveUp(ctx, tx, table.facts); err != nil {
		return "", err
	}
	copied := pgx.Identifier{"mds_internal", table.facts + next}.Sanitize()
	by := ""
	if want == partitioned {
		by = " PARTITION BY RANGE (ts)"
	}
	for _, text := range []string{
		fmt.Sprintf("CREATE TABLE %s (LIKE %s INCLUDING DEFAULTS INCLUDING CONSTRAINTS)%s", copied, table.name(), by),
		fmt.Sprintf("ALTER TABLE %s ADD PRIMARY KEY (series_id, ts)", copied),
		fmt.Sprintf("CREATE INDEX ON %s USING brin (ts) WHERE series_id > -1", copied),
		fmt.Sprintf("CALL mds_internal.without_statistics('%s')", copied),
	} {
		if _, err := tx.Exec(ctx, text); err != nil {
			return "", err
		}
	}
	if want == hypertable {
		err = db.makeHypertable(ctx, tx, copied, p)
	} else {
		err = makePartitions(ctx, tx, copied, table.otherPrefix(), layOut(p.Partition, first, time.Now()))
	}
	if err != nil {
		return "", err
	}
	if err := grantLike(ctx, tx, copied); err != nil {
		return "", err
	}
	err = tx.QueryRow(ctx, "UPDATE mds_internal.policies SET converting = gen_random_uuid() WHERE facts = $1 RETURNING converting::text", table.facts).Scan(&token)
	if errors.Is(err, pgx.ErrNoRows) {
		err = fmt.Errorf("the policy of %s is not in force", p.Name())
	}
	return token, err
}

// otherPrefix begins the names of partitions of a table that takes this one's place.
func (t *table) otherPrefix() string {
	if t.shape == partitioned && t.prefix == t.facts {
		return t.facts + "_b"
	}
	return t.facts
}

// grantLike gives the service's logins their rights on a table.
func grantLike(ctx context.Context, tx pgx.Tx, name string) error {
	rows, err := tx.Query(ctx, "SELECT login FROM mds_internal.service_logins JOIN pg_roles ON rolname = login ORDER BY login")
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
func (k *Keeper) convert(ctx context.Context, op string, p *mds.Policy, token string) error {
	facts := factsOf(p)
	from, to := pgx.Identifier{"mds_internal", facts}.Sanitize(), pgx.Identifier{"mds_internal", facts + next}.Sanitize()
	err := k.transaction(ctx, op, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, fmt.Sprintf("INSERT INTO %s SELECT * FROM %s", to, from))
		return err
	})
	const few, rounds = 1000, 20 // spans that may be left for the time in which nobody writes
	for left, round := int64(few+1), 0; err == nil && left > few && round < rounds; round++ {
		err = k.transaction(ctx, op, func(tx pgx.Tx) (err error) {
			if err = same(ctx, tx, facts, token); err == nil {
				left, err = catchUp(ctx, tx, facts, from, to)
			}
			return err
		})
	}
	if err == nil {
		err = k.takePlace(ctx, op, p, token, from, to)
	}
	if err == nil || ctx.Err() != nil || k.conn.IsClosed() {
		return err
	}
	return errors.Join(err, k.quietly(ctx, op, func(tx pgx.Tx) error { return giveUp(ctx, tx, facts) }))
}

// errRemoved tells that series were removed since a copy was compared.
var errRemoved = errors.New("series were removed meanwhile")

// takePlace puts a copy that has caught up in the table's place, once it is compared.
func (k *Keeper) takePlace(ctx context.Context, op string, p *mds.Policy, token, from, to string) error {
	facts := factsOf(p)
	for {
		var compared string
		err := retrying(ctx, func(int) (err error) {
			compared, err = k.compare(ctx, op, facts, from, to)
			return err
		})
		if err != nil {
			return err
		}
		err = k.quietly(ctx, op, func(tx pgx.Tx) error {
			if err := same(ctx, tx, facts, token); err != nil {
				return err
			}
			// Rows of a tenant that was being removed are found while others write.
			if epoch, err := currentEpoch(ctx, tx); err != nil || epoch != compared {
				return cmp.Or(err, errRemoved)
			}
			// In the order of those who read, so that they do not wait for each other.
			if _, err := tx.Exec(ctx, fmt.Sprintf("LOCK TABLE %s IN ACCESS EXCLUSIVE MODE", viewOf(p))); err != nil {
				return err
			}
			if _, err := catchUp(ctx, tx, facts, from, to); err != nil {
				return err
			}
			return swap(ctx, tx, p, facts, from, to)
		})
		if !errors.Is(err, errRemoved) {
			return err
		}
	}
}

// viewOf is the sealed view of a table that another one may take the place of.
func viewOf(p *mds.Policy) string {
	if p.Kind == "options" {
		return "mds.options"
	}
	return pgx.Identifier{"mds_internal", "sealed_bars_" + string(p.Timeframe)}.Sanitize()
}

// same refuses to go on with a copy that is another one's by now.
func same(ctx context.Context, tx pgx.Tx, facts, token string) error {
	var ours bool
	err := tx.QueryRow(ctx, "SELECT coalesce(bool_or(converting::text = $2), false) FROM mds_internal.policies WHERE facts = $1", facts, token).Scan(&ours)
	if err == nil && !ours {
		err = errors.New("another one has begun to copy the table: it stays as it is")
	}
	return err
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

// dropOrphans removes from a copy what is of series that are gone: a tenant may have been
// removed while its rows were copied.
func dropOrphans(ctx context.Context, tx pgx.Tx, facts, to string) error {
	noun, _, _ := strings.Cut(facts, "_facts")
	_, err := tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s f WHERE NOT EXISTS (SELECT FROM mds_internal.%s s WHERE s.id = f.series_id)", to, pgx.Identifier{noun + "_series"}.Sanitize()))
	return err
}

// currentEpoch is another one when series were removed.
func currentEpoch(ctx context.Context, tx pgx.Tx) (epoch string, err error) {
	err = tx.QueryRow(ctx, "SELECT id::text FROM mds_internal.epoch").Scan(&epoch)
	return epoch, err
}

// compare refuses a copy that differs, in one snapshot, in which it has caught up. It returns
// the epoch of then.
func (k *Keeper) compare(ctx context.Context, op, facts, from, to string) (epoch string, err error) {
	err = k.transactionAs(ctx, op, pgx.TxOptions{IsoLevel: pgx.RepeatableRead}, func(tx pgx.Tx) (err error) {
		if _, err := catchUp(ctx, tx, facts, from, to); err != nil {
			return err
		}
		if epoch, err = currentEpoch(ctx, tx); err != nil {
			return err
		}
		if err := dropOrphans(ctx, tx, facts, to); err != nil {
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
	return epoch, err
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
	_, err := tx.Exec(ctx, "UPDATE mds_internal.policies SET converting = NULL WHERE facts = $1", facts)
	step := mds.Step{Action: mds.StepPartition, Policy: *p, Note: "the table was copied, compared and replaced"}
	return cmp.Or(err, audit(ctx, tx, &step))
}
