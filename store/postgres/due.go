package postgres

import (
	"cmp"
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// Due are the steps that policies ask for at a time, in the order in which they are to be
// done.
func (k *Keeper) Due(ctx context.Context, policies []mds.Policy, now time.Time) (steps []mds.Step, err error) {
	err = k.transaction(ctx, "policies", func(tx pgx.Tx) error {
		db, err := look(ctx, tx)
		if err != nil {
			return err
		}
		for i := range policies {
			for _, due := range []func(context.Context, pgx.Tx, *mds.Policy, time.Time) ([]mds.Step, error){db.partitionsDue, db.compressionDue, db.dropDue} {
				more, err := due(ctx, tx, &policies[i], now)
				if err != nil {
					return err
				}
				steps = append(steps, more...)
			}
		}
		return nil
	})
	return steps, err
}

// Do does what a step of [Keeper.Due] is about, and returns it with the rows that it was
// done to.
//
// What it drops is gone from the bars and stays in their rollups; the error wraps
// [mds.ErrNotRefreshed] where these are not made yet. A step that is killed has done nothing
// or a part, of which nobody sees a half; done again it does the rest.
func (k *Keeper) Do(ctx context.Context, step mds.Step) (mds.Step, error) {
	err := k.alone(ctx, step.Action+" "+step.Policy.Name(), func() (err error) {
		switch step.Action {
		case mds.StepDrop:
			step.Rows, err = k.drop(ctx, step)
		case mds.StepPartition:
			err = k.partition(ctx, step)
		case mds.StepCompress:
			err = k.compress(ctx, step)
		default:
			err = fmt.Errorf("there is no step %q", step.Action)
		}
		return err
	})
	return step, err
}

// timeOf is the time column that a kind is kept by.
func timeOf(p *mds.Policy) string {
	switch p.Kind {
	case "fundamentals":
		return `"asof"`
	case "news":
		return "published_at"
	}
	return "ts"
}

// keyOf are the columns of a kind's key.
func keyOf(p *mds.Policy) []string {
	switch p.Kind {
	case "fundamentals":
		return []string{"series_id", "period", `"asof"`, "filed_at"}
	case "news":
		return []string{"series_id", "id"}
	}
	return []string{"series_id", "ts"}
}

// old is the condition on what is before a time, an argument.
func old(p *mds.Policy, argument string) string {
	if p.Kind == "fundamentals" {
		argument = "(" + argument + "::timestamptz AT TIME ZONE 'UTC')::date"
	}
	return fmt.Sprintf("f.%s < %s AND f.series_id > -1", timeOf(p), argument)
}

// dropDue finds what is older than it is kept. Of a table of parts whole ones are dropped.
func (db *catalog) dropDue(ctx context.Context, tx pgx.Tx, p *mds.Policy, now time.Time) ([]mds.Step, error) {
	cutoff := p.Cutoff(now)
	if cutoff.IsZero() {
		return nil, nil
	}
	table := db.tables[factsOf(p)]
	if table == nil {
		return nil, fmt.Errorf("there is no table of %s", p.Name())
	}
	if table.shape != plain {
		parts, err := db.parts(ctx, tx, table)
		if err != nil {
			return nil, err
		}
		whole := table.keptFrom
		for _, part := range parts {
			// Up to where no rollup is left of which only a part of the bars is there.
			if end := p.AlignUp(part.to); !end.After(cutoff) && end.After(whole) {
				whole = end
			}
		}
		cutoff = whole
	}
	if cutoff.IsZero() {
		return nil, nil
	}
	step := mds.Step{Action: mds.StepDrop, Policy: *p, Before: cutoff}
	var late int64
	// What was as old when it came comes again, most likely, and is dropped each time.
	err := tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE f.%s < f.updated_at - $2::interval) FROM %s f WHERE %s", timeOf(p), table.name(), old(p, "$1")),
		cutoff, cutoff.Sub(p.DropAfter.Before(cutoff))).Scan(&step.Rows, &late)
	if err != nil || step.Rows == 0 {
		return nil, err
	}
	step.Bytes = int64(float64(table.bytes) * float64(step.Rows) / max(table.rows, float64(step.Rows)))
	step.NoteLate(late)
	return []mds.Step{step}, nil
}

// inForce refuses to do what a policy asks for where another one is in force by now. The
// condition says what it goes by, with its arguments.
func inForce(ctx context.Context, tx pgx.Tx, op string, p *mds.Policy, condition string, args ...any) error {
	var is bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM mds_internal.policies WHERE facts = $1 AND "+condition+")", append([]any{factsOf(p)}, args...)...).Scan(&is)
	if err == nil && !is {
		err = &Error{Op: op, Class: Conflict, Err: mds.ErrPolicyChanged}
	}
	return err
}

// drop removes what is before a time. That it was dropped is known from then on: what comes
// of it later is no rollup's business.
func (k *Keeper) drop(ctx context.Context, step mds.Step) (rows int64, err error) {
	p, facts, op := &step.Policy, factsOf(&step.Policy), "drop "+step.Policy.Name()
	var table *table
	err = k.quietly(ctx, op, func(tx pgx.Tx) error {
		var stale int64
		// All that the time goes by.
		if err := inForce(ctx, tx, op, p, "drop_after = $2 AND rollups = $3 AND zone = $4", p.DropAfter.String(), rollup.Names(p.Rollups), p.Zone); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT coalesce(sum(t.n), 0)::bigint FROM mds_internal.touched t JOIN mds_internal.policies p USING (facts) WHERE t.facts = $1 AND t.first < $2 AND p.rollups <> '{}'", facts, step.Before).Scan(&stale); err != nil {
			return err
		}
		if stale > 0 {
			return &Error{Op: op, Class: Conflict, Err: fmt.Errorf("%w: %d changes", mds.ErrNotRefreshed, stale)}
		}
		if _, err := tx.Exec(ctx, "UPDATE mds_internal.policies SET kept_from = greatest(kept_from, $2) WHERE facts = $1", facts, step.Before); err != nil {
			return err
		}
		db, err := look(ctx, tx)
		if err != nil {
			return err
		}
		if table = db.tables[facts]; table.shape != plain {
			if err := db.dropParts(ctx, tx, table, step.Before); err != nil {
				return err
			}
			rows = step.Rows
		}
		return audit(ctx, tx, &step)
	})
	if err != nil {
		return rows, err
	}
	// The rest is rows among others, which writers need not wait for. They are locked in the
	// order in which writers do.
	err = retrying(ctx, func(int) error {
		return k.transaction(ctx, op, func(tx pgx.Tx) error {
			key := keyOf(p)
			if table.shape == hypertable { // of which compressed rows are not locked
				_, err := tx.Exec(ctx, "SET LOCAL timescaledb.max_tuples_decompressed_per_dml_transaction = 0")
				if err == nil {
					_, err = tx.Exec(ctx, fmt.Sprintf("DELETE FROM %s f WHERE %s", table.name(), old(p, "$1")), step.Before)
				}
				return err
			}
			done, err := tx.Exec(ctx, fmt.Sprintf("WITH picked AS MATERIALIZED (SELECT %[1]s FROM %[2]s f WHERE %[3]s ORDER BY %[1]s FOR UPDATE) DELETE FROM %[2]s f USING picked WHERE %[4]s",
				each(key, "f.%s", ", "), table.name(), old(p, "$1"), each(key, "f.%[1]s = picked.%[1]s", " AND ")), step.Before)
			if err != nil {
				return err
			}
			if table.shape == plain {
				rows = done.RowsAffected()
			}
			ended := step
			ended.Action, ended.Rows = "dropped", rows
			return audit(ctx, tx, &ended)
		})
	})
	return rows, err
}

// shape is what a table is made of.
type shape byte

const (
	plain shape = iota
	partitioned
	hypertable
)

// table is one of facts.
type table struct {
	facts    string
	shape    shape
	rows     float64 // roughly
	bytes    int64
	keptFrom time.Time
	prefix   string // of the names of its partitions
	// converting tells that a copy was begun and not put in its place.
	converting bool
}

func (t *table) name() string { return pgx.Identifier{"mds_internal", t.facts}.Sanitize() }

// catalog is what is known of a database.
type catalog struct {
	tables map[string]*table
	// timescale is the schema of TimescaleDB, quoted, "" where the database does not have
	// it; columnstore tells that its licence has it compress.
	timescale   string
	columnstore bool
}

// look learns what there is.
func look(ctx context.Context, tx pgx.Tx) (*catalog, error) {
	db := &catalog{tables: make(map[string]*table)}
	err := tx.QueryRow(ctx, `SELECT coalesce((SELECT quote_ident(n.nspname) FROM pg_extension e JOIN pg_namespace n ON n.oid = e.extnamespace WHERE e.extname = 'timescaledb'), ''),
		coalesce(current_setting('timescaledb.license', true), '') = 'timescale'`).Scan(&db.timescale, &db.columnstore)
	if err != nil {
		return nil, err
	}
	hyper := "false"
	if db.timescale != "" {
		if err := db.refuseOthers(ctx, tx); err != nil {
			return nil, err
		}
		hyper = "EXISTS (SELECT FROM timescaledb_information.hypertables h WHERE h.hypertable_schema = 'mds_internal' AND h.hypertable_name = c.relname)"
	}
	rows, err := tx.Query(ctx, `SELECT c.relname::text, CASE WHEN c.relkind = 'p' THEN 1 WHEN `+hyper+` THEN 2 ELSE 0 END, p.kept_from, p.converting IS NOT NULL,
			(SELECT left(d.relname, -length('_rest')) FROM pg_inherits i JOIN pg_class d ON d.oid = i.inhrelid WHERE i.inhparent = c.oid AND pg_get_expr(d.relpartbound, d.oid) = 'DEFAULT')
		FROM pg_class c LEFT JOIN mds_internal.policies p ON p.facts = c.relname
		WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition AND c.relname LIKE '%\_facts%'`)
	if err != nil {
		return nil, err
	}
	var name string
	var of int
	var kept *time.Time
	var converting bool
	var prefix *string
	_, err = pgx.ForEachRow(rows, []any{&name, &of, &kept, &converting, &prefix}, func() error {
		t := &table{facts: name, shape: shape(of), converting: converting, prefix: name}
		if prefix != nil {
			t.prefix = *prefix
		}
		if kept != nil {
			t.keptFrom = *kept
		}
		db.tables[name] = t
		return nil
	})
	if err != nil {
		return nil, err
	}
	for _, t := range db.tables {
		if err := db.size(ctx, tx, t); err != nil {
			return nil, err
		}
	}
	return db, nil
}

// refuseOthers refuses to call functions of TimescaleDB beside which somebody has made some
// of the same name: they would run with the owner's rights.
func (db *catalog) refuseOthers(ctx context.Context, tx pgx.Tx) error {
	var other *string
	err := tx.QueryRow(ctx, `SELECT min(p.oid::regprocedure::text) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
		WHERE quote_ident(n.nspname) = $1 AND p.proname = ANY (ARRAY['create_hypertable', 'by_range', 'drop_chunks', 'compress_chunk', 'hypertable_size', 'approximate_row_count'])
		AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')`, db.timescale).Scan(&other)
	if err == nil && other != nil {
		err = &Error{Op: "policies", Class: Denied, Err: fmt.Errorf("the function %s is not TimescaleDB's, and would be called in its place", *other), Hint: "DROP it, and REVOKE CREATE ON SCHEMA " + db.timescale}
	}
	return err
}

// size learns how large a table is.
func (db *catalog) size(ctx context.Context, tx pgx.Tx, t *table) error {
	if t.shape == hypertable {
		return tx.QueryRow(ctx, fmt.Sprintf("SELECT coalesce(%[1]s.approximate_row_count($1::regclass), 0)::float8, coalesce(%[1]s.hypertable_size($1::regclass), 0)", db.timescale), t.name()).Scan(&t.rows, &t.bytes)
	}
	return tx.QueryRow(ctx, `SELECT coalesce(sum(greatest(c.reltuples, 0)), 0)::float8, coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint
		FROM pg_class c WHERE c.oid = $1::regclass OR c.oid IN (SELECT relid FROM pg_partition_tree($1::regclass) WHERE isleaf)`, t.name()).Scan(&t.rows, &t.bytes)
}

// part is a part of a table: a partition or a chunk, of the times from one up to another.
type tablePart struct {
	name       string // qualified and quoted
	from, to   time.Time
	compressed bool // and nothing in it came since
	rows       int64
	bytes      int64
}

// parts are those of a table, without the one of what lies outside of all others.
func (db *catalog) parts(ctx context.Context, tx pgx.Tx, t *table) ([]tablePart, error) {
	query := `SELECT format('%I.%I', n.nspname, c.relname), (regexp_match(pg_get_expr(c.relpartbound, c.oid), $$FROM \('([^']+)'\)$$))[1]::timestamptz,
			(regexp_match(pg_get_expr(c.relpartbound, c.oid), $$TO \('([^']+)'\)$$))[1]::timestamptz, false, greatest(c.reltuples, 0)::bigint, pg_total_relation_size(c.oid)
		FROM pg_inherits i JOIN pg_class c ON c.oid = i.inhrelid JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE i.inhparent = ('mds_internal.' || quote_ident($1))::regclass AND pg_get_expr(c.relpartbound, c.oid) <> 'DEFAULT' ORDER BY 2`
	if t.shape == hypertable {
		const partial = 8 // of a chunk's status: rows came after it was compressed
		query = fmt.Sprintf(`SELECT format('%%I.%%I', c.chunk_schema, c.chunk_name), c.range_start, c.range_end, coalesce(c.is_compressed, false) AND s.status & %d = 0,
			greatest((SELECT reltuples FROM pg_class WHERE oid = format('%%I.%%I', c.chunk_schema, c.chunk_name)::regclass), 0)::bigint,
			pg_total_relation_size(format('%%I.%%I', c.chunk_schema, c.chunk_name)::regclass)
			FROM timescaledb_information.chunks c JOIN _timescaledb_catalog.chunk s ON s.schema_name = c.chunk_schema AND s.table_name = c.chunk_name
			WHERE c.hypertable_schema = 'mds_internal' AND c.hypertable_name = $1 ORDER BY 2`, partial)
	}
	rows, err := tx.Query(ctx, query, t.facts)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (p tablePart, err error) {
		err = row.Scan(&p.name, &p.from, &p.to, &p.compressed, &p.rows, &p.bytes)
		return p, err
	})
}

// dropParts drops the parts that end at a time at the latest.
func (db *catalog) dropParts(ctx context.Context, tx pgx.Tx, t *table, before time.Time) error {
	if t.shape == hypertable {
		_, err := tx.Exec(ctx, fmt.Sprintf("SELECT %s.drop_chunks($1::regclass, older_than => $2::timestamptz)", db.timescale), t.name(), before)
		return err
	}
	parts, err := db.parts(ctx, tx, t)
	if err != nil {
		return err
	}
	for _, part := range parts {
		if part.to.After(before) {
			continue
		}
		_, err1 := tx.Exec(ctx, fmt.Sprintf("ALTER TABLE %s DETACH PARTITION %s", t.name(), part.name))
		_, err2 := tx.Exec(ctx, "DROP TABLE "+part.name)
		if err := cmp.Or(err1, err2); err != nil {
			return err
		}
	}
	return nil
}
