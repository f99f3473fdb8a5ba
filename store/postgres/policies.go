package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// Keeper carries out policies in a database, with its owner's login.
type Keeper struct {
	conn *pgx.Conn
	does mds.Abilities
	held bool // it is alone
}

// OpenKeeper connects with the DSN of the owner of a database that was migrated. Close it
// when done.
func OpenKeeper(ctx context.Context, owner string) (*Keeper, error) {
	conn, err := connectPlainly(ctx, owner, nil)
	if err != nil {
		return nil, ownersHint(wrap(ctx, "connect", err))
	}
	k := &Keeper{conn: conn, does: mds.Abilities{Partition: true}}
	err = k.transaction(ctx, "open", func(tx pgx.Tx) error {
		if err := requireSetUp(ctx, tx); err != nil {
			return err
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT to_regclass('mds_internal.policies') IS NOT NULL").Scan(&there); err != nil {
			return err
		}
		if there {
			k.does.WhyNot, err = whyUncompressed(ctx, tx)
			k.does.Compress = k.does.WhyNot == ""
			err = cmp.Or(err, requireOwner(ctx, tx))
			var e *Error
			if errors.As(err, &e) && e.Op == "grant" {
				e.Op = "policies"
			}
			return err
		}
		return &Error{Op: "open", Class: Other, Err: errors.New("the database has no policies yet"), Hint: "let the owner run mds migrate"}
	})
	if err != nil {
		_ = k.Close(ctx)
		return nil, err
	}
	return k, nil
}

// Does says whether tables compress.
func (k *Keeper) Does() mds.Abilities { return k.does }

// Close ends the connection.
func (k *Keeper) Close(ctx context.Context) error { return k.conn.Close(context.WithoutCancel(ctx)) }

// transaction runs fn in a transaction of the owner's.
func (k *Keeper) transaction(ctx context.Context, op string, fn func(tx pgx.Tx) error) error {
	return k.transactionAs(ctx, op, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, fn)
}

func (k *Keeper) transactionAs(ctx context.Context, op string, how pgx.TxOptions, fn func(tx pgx.Tx) error) error {
	err := pgx.BeginTxFunc(ctx, k.conn, how, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('TimeZone', 'UTC', true), pg_catalog.set_config('jit', 'off', true)"); err != nil {
			return err
		}
		return fn(tx)
	})
	return ownersHint(wrap(ctx, op, err))
}

// quietly runs fn in a transaction while nobody writes: writers hold the row of their
// tenant, and this the table. Where some do not end in time, or readers of what is changed,
// it tries again, so that those behind it do not wait for long.
func (k *Keeper) quietly(ctx context.Context, op string, fn func(tx pgx.Tx) error) error {
	const attempts = 20
	for attempt := 1; ; attempt++ {
		err := k.transaction(ctx, op, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, "SET LOCAL lock_timeout = '2s'; LOCK TABLE mds_internal.tenants IN EXCLUSIVE MODE"); err != nil {
				return err
			}
			// A login that is given its rights has them on what there is afterwards, and keeps
			// nothing from being dropped or given another name.
			if err := oneGrants(ctx, tx); err != nil {
				return err
			}
			return fn(tx)
		})
		var e *Error
		if attempt == attempts || !errors.As(err, &e) || e.Code != "55P03" && e.Code != "40P01" { // lock_not_available, deadlock_detected
			return err
		}
		pause := time.NewTimer(time.Duration(attempt) * 200 * time.Millisecond) // for those who waited behind it
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

// alone runs fn while no other keeper does anything: none whose session lives. What is not
// in one transaction would take away what another one is about to put in a table's place.
func (k *Keeper) alone(ctx context.Context, op string, fn func() error) (err error) {
	if k.held {
		return fn()
	}
	took := false
	err = k.transaction(ctx, op, func(tx pgx.Tx) error {
		// In a statement of its own: an update that had to wait for the row would not look at the
		// sessions once more, and two that begin at once would both be alone.
		if _, err := tx.Exec(ctx, "SELECT FROM mds_internal.keeping FOR UPDATE"); err != nil {
			return err
		}
		done, err := tx.Exec(ctx, `UPDATE mds_internal.keeping SET pid = pg_backend_pid(), started = (SELECT backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid())
			WHERE NOT EXISTS (SELECT FROM pg_stat_activity a WHERE a.pid = keeping.pid AND a.pid <> pg_backend_pid() AND coalesce(a.backend_start = keeping.started, true))`)
		took = done.RowsAffected() > 0
		return err
	})
	if err != nil {
		return err
	}
	if !took {
		return &Error{Op: op, Class: Conflict, Err: errors.New("policies are being carried out by another one"), Hint: "try again when it has ended"}
	}
	k.held = true
	err = fn()
	k.held = false
	if k.conn.IsClosed() { // and its session has ended
		return err
	}
	return errors.Join(err, k.transaction(context.WithoutCancel(ctx), op, func(tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE mds_internal.keeping SET pid = NULL")
		return err
	}))
}

// factsOf is the table of facts of a policy.
func factsOf(p *mds.Policy) string {
	nouns := map[string]string{"bars": "bar", "options": "option", "fundamentals": "fundamental", "news": "news_item"}
	name := nouns[p.Kind] + "_facts"
	if p.Timeframe != "" {
		name += "_" + string(p.Timeframe)
	}
	return name
}

// Policies are the policies in force, with what changed of all tenants' bars since rollups
// were made of them.
func (k *Keeper) Policies(ctx context.Context) (list []mds.PolicyStatus, err error) {
	err = k.transaction(ctx, "policies", func(tx pgx.Tx) error {
		list, err = readPolicies(ctx, tx, "true")
		return err
	})
	return list, err
}

// Changes are the steps that putting policies in force takes.
func (k *Keeper) Changes(ctx context.Context, policies []mds.Policy) (steps []mds.Step, err error) {
	err = k.transaction(ctx, "policies", func(tx pgx.Tx) error {
		for i := range policies {
			changes, err := changesTo(ctx, tx, &policies[i])
			if err != nil {
				return err
			}
			steps = append(steps, changes...)
		}
		return nil
	})
	return steps, err
}

// changesTo are the steps to a policy.
func changesTo(ctx context.Context, tx pgx.Tx, p *mds.Policy) (steps []mds.Step, err error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("policy of %s: %w", p.Name(), err)
	}
	list, err := readPolicies(ctx, tx, "false")
	if err != nil {
		return nil, err
	}
	now := mds.PolicyStatus{Policy: mds.Policy{Kind: p.Kind, Timeframe: p.Timeframe}}
	for i := range list {
		if list[i].Name() == p.Name() {
			now = list[i]
		}
	}
	return now.ChangesTo(p, func(to mds.Timeframe) (rows int64, err error) {
		err = tx.QueryRow(ctx, "SELECT count(*) FROM mds_internal.bar_rollup_facts f JOIN mds_internal.bar_rollup_series s ON s.id = f.series_id WHERE s.timeframe = $1 AND s.source = $2", string(to), string(p.Timeframe)).Scan(&rows)
		return rows, err
	}, func() (rows int64, err error) {
		err = tx.QueryRow(ctx, fmt.Sprintf("SELECT count(*) FROM mds_internal.%s WHERE series_id > -1", pgx.Identifier{factsOf(p)}.Sanitize())).Scan(&rows)
		return rows, err
	})
}

// Alone runs fn while no other keeper does anything. Where one does the error may be retried.
func (k *Keeper) Alone(ctx context.Context, fn func() error) error {
	return k.alone(ctx, "policies", fn)
}

// Keep puts a policy in force, and returns the steps that it took: none where it was.
// Rollups that are begun are made by [Store.Refresh].
func (k *Keeper) Keep(ctx context.Context, p mds.Policy) (steps []mds.Step, err error) {
	if steps, err = k.Changes(ctx, []mds.Policy{p}); err != nil || len(steps) == 0 {
		return steps, err
	}
	err = k.alone(ctx, "policies", func() error {
		steps, err = k.keep(ctx, p)
		return err
	})
	return steps, err
}

func (k *Keeper) keep(ctx context.Context, p mds.Policy) (steps []mds.Step, err error) {
	err = k.quietly(ctx, "policies", func(tx pgx.Tx) error {
		if steps, err = changesTo(ctx, tx, &p); err != nil || len(steps) == 0 {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO mds_internal.policies (facts, kind, timeframe, partition, compress_after, drop_after, rollups, zone)
			VALUES ($1, $2, $3, $4, $5, $6, $7, $8) ON CONFLICT (facts) DO UPDATE
			SET partition = excluded.partition, compress_after = excluded.compress_after, drop_after = excluded.drop_after, rollups = excluded.rollups, zone = excluded.zone`,
			factsOf(&p), p.Kind, string(p.Timeframe), p.Partition.String(), p.CompressAfter.String(), p.DropAfter.String(), rollup.Names(p.Rollups), p.Zone)
		if err != nil {
			return err
		}
		if mds.FirstRollups(steps) { // of all that is there: nothing that was dropped is in any
			if _, err := tx.Exec(ctx, "UPDATE mds_internal.policies SET kept_from = NULL WHERE facts = $1", factsOf(&p)); err != nil {
				return err
			}
		}
		begun := false
		for i := range steps {
			switch s := &steps[i]; s.Action {
			case mds.StepRollup:
				begun = true
			case mds.StepUnroll:
				_, err := tx.Exec(ctx, `DELETE FROM mds_internal.bar_rollup_facts WHERE series_id IN (SELECT id FROM mds_internal.bar_rollup_series WHERE timeframe = $1 AND source = $2)`, string(s.Rollup), string(p.Timeframe))
				if err := cmp.Or(err, audit(ctx, tx, s)); err != nil {
					return err
				}
			}
		}
		if len(p.Rollups) == 0 {
			_, err = tx.Exec(ctx, "DELETE FROM mds_internal.touched WHERE facts = $1", factsOf(&p))
		}
		if err != nil || !begun {
			return err
		}
		return touchAll(ctx, tx, &p, mds.MovedRollups(steps))
	})
	return steps, err
}

// touchAll notes that all there is of a table is to be made rollups of, and that beside it
// there may be some that were days of another zone.
func touchAll(ctx context.Context, tx pgx.Tx, p *mds.Policy, moved bool) error {
	part := "month"
	if p.Timeframe.Calendar() {
		part = "year"
	}
	rows, err := tx.Query(ctx, fmt.Sprintf(`SELECT s.tenant_id::text, s.id, m - interval '2 days', m + interval '1 %[1]s 2 days' FROM mds_internal.bar_series s
		CROSS JOIN LATERAL (SELECT min(f.ts) AS first, max(f.ts) AS last FROM mds_internal.%[2]s f WHERE f.series_id = s.id) r
		CROSS JOIN LATERAL generate_series(date_trunc('%[1]s', r.first), r.last, interval '1 %[1]s') m
		WHERE s.timeframe = $1 ORDER BY 1, 3 DESC, 2`, part, pgx.Identifier{factsOf(p)}.Sanitize()), string(p.Timeframe))
	if err != nil {
		return err
	}
	type value struct {
		tenant string
		spans  []rollup.Span
	}
	const most = 10_000 // spans of a value
	var values []value
	var tenant string
	var span rollup.Span
	var first, last time.Time
	_, err = pgx.ForEachRow(rows, []any{&tenant, &span.Series, &first, &last}, func() error {
		if n := len(values); n == 0 || values[n-1].tenant != tenant || len(values[n-1].spans) == most {
			values = append(values, value{tenant: tenant})
		}
		of := &values[len(values)-1]
		span.First, span.Last = first.UnixMicro(), last.UnixMicro()
		of.spans = append(of.spans, span)
		return nil
	})
	if err != nil {
		return err
	}
	for _, v := range values {
		t := touchedOf(factsOf(p), v.spans, moved)
		if _, err := tx.Exec(ctx, noteTouched, v.tenant, t.facts, instant(t.first), instant(t.last), t.n, t.spans, t.gone); err != nil {
			return err
		}
	}
	return nil
}

// audit notes a step that cannot be undone.
func audit(ctx context.Context, tx pgx.Tx, s *mds.Step) error {
	_, err := tx.Exec(ctx, "INSERT INTO mds_internal.audit (action, about, detail) VALUES ($1, $2, $3)", s.Action, s.Policy.Name(), s.Detail())
	return err
}

// Audit are the newest lines of the audit, so many at most.
func (k *Keeper) Audit(ctx context.Context, limit int) (lines []mds.AuditLine, err error) {
	err = k.transaction(ctx, "policies", func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "SELECT at, login, action, about, detail FROM mds_internal.audit ORDER BY id DESC LIMIT $1", limit)
		if err != nil {
			return err
		}
		lines, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (l mds.AuditLine, err error) {
			err = row.Scan(&l.At, &l.Login, &l.Action, &l.About, &l.Detail)
			l.At = l.At.UTC()
			return l, err
		})
		return err
	})
	return lines, err
}
