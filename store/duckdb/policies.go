package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"fmt"
	"os"
	"os/user"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// Keeper carries out policies in all files of a store.
type Keeper struct {
	store *Store
	held  bool // it is alone
}

// OpenKeeper returns the keeper of a store.
func OpenKeeper(s *Store) *Keeper { return &Keeper{store: s} }

// Alone runs fn while no other keeper of the store puts policies in force, which it waits for.
func (k *Keeper) Alone(ctx context.Context, fn func() error) error {
	if k.held {
		return fn()
	}
	if err := k.store.keeping.lock(ctx); err != nil {
		return wrap(ctx, "policies", err)
	}
	defer k.store.keeping.unlock()
	k.held = true
	defer func() { k.held = false }()
	return fn()
}

// Does says that a file is compressed as it is, whatever its age.
func (k *Keeper) Does() mds.Abilities {
	return mds.Abilities{WhyNot: "DuckDB compresses all that it keeps, as it writes it"}
}

// Close does nothing: the store is the caller's.
func (k *Keeper) Close(context.Context) error { return nil }

// each runs fn for each tenant. One that is removed meanwhile is passed over.
func (k *Keeper) each(ctx context.Context, fn func(mds.Tenant, *file) error) error {
	tenants, err := k.store.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		f, err := k.store.file(ctx, tenant)
		if errors.Is(err, mds.ErrNoStore) { // the default tenant's, which is made at its first use
			continue
		}
		const first = 5 // version that has them
		if err == nil && f.version.Load() < first {
			err = &Error{Op: "policies", Err: fmt.Errorf("%s has schema version %d, which has no policies", f.path, f.version.Load()), Hint: "what writes to it brings it up to date"}
		}
		if err == nil {
			err = fn(tenant, f)
		}
		if err != nil && !errors.Is(err, mds.ErrUnknownTenant) {
			return wrap(ctx, "policies", err)
		}
	}
	return nil
}

// Policies are the policies in force, those of the default tenant, with what changed of all
// tenants' bars since rollups were made of them.
func (k *Keeper) Policies(ctx context.Context) (list []mds.PolicyStatus, err error) {
	var ofOthers []mds.PolicyStatus
	err = k.each(ctx, func(tenant mds.Tenant, _ *file) error {
		of, err := k.store.Policies(ctx, tenant)
		if tenant == mds.DefaultTenant() {
			list = of
		} else {
			ofOthers = append(ofOthers, of...)
		}
		return err
	})
	for i := range ofOthers {
		list = mds.MergePolicies(list, ofOthers[i])
	}
	return mds.SortPolicies(list), err
}

// Changes are the steps that putting policies in force takes.
func (k *Keeper) Changes(ctx context.Context, policies []mds.Policy) (steps []mds.Step, err error) {
	err = k.each(ctx, func(tenant mds.Tenant, f *file) error {
		return f.snapshot(ctx, false, func(conn *reader) error {
			for i := range policies {
				changes, err := changesTo(ctx, conn, &policies[i])
				if err != nil {
					return err
				}
				steps = append(steps, ofTenant(changes, tenant)...)
			}
			return nil
		})
	})
	return steps, err
}

func ofTenant(steps []mds.Step, tenant mds.Tenant) []mds.Step {
	for i := range steps {
		steps[i].Tenant = tenant.Slug
	}
	return steps
}

// changesTo are the steps to a policy.
func changesTo(ctx context.Context, conn *reader, p *mds.Policy) ([]mds.Step, error) {
	if err := p.Validate(); err != nil {
		return nil, fmt.Errorf("policy of %s: %w", p.Name(), err)
	}
	list, err := readPolicies(ctx, conn)
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
		err = conn.one(ctx, "SELECT count(*) FROM rollups WHERE timeframe = ? AND source = ?", []any{string(to), string(p.Timeframe)}, &rows)
		return rows, err
	}, func() (rows int64, err error) {
		err = conn.one(ctx, "SELECT count(*) FROM bar_facts f JOIN bar_series s ON s.id = f.series_id WHERE s.timeframe = ?", []any{string(p.Timeframe)}, &rows)
		return rows, err
	})
}

// Keep puts a policy in force for all tenants, and returns the steps that it took: none
// where it was. Rollups that are begun are made by [Store.Refresh].
func (k *Keeper) Keep(ctx context.Context, p mds.Policy) (steps []mds.Step, err error) {
	if _, err := k.Changes(ctx, []mds.Policy{p}); err != nil { // that one tenant's file refuses
		return nil, err
	}
	err = k.Alone(ctx, func() error {
		return k.each(ctx, func(tenant mds.Tenant, f *file) error {
			return f.taking(ctx, func() error {
				changes, err := f.keep(ctx, &p)
				f.noteWrite(err)
				steps = append(steps, ofTenant(changes, tenant)...)
				return err
			})
		})
	})
	return steps, err
}

// keep puts a policy in force. The caller holds the writer's token.
func (f *file) keep(ctx context.Context, p *mds.Policy) (steps []mds.Step, err error) {
	if steps, err = changesTo(ctx, f.writerReads(), p); err != nil || len(steps) == 0 {
		return nil, err
	}
	err = f.inTransaction(ctx, false, func() error {
		updated, err := f.conn.ExecContext(ctx, "UPDATE policies SET partition = ?, compress_after = ?, drop_after = ?, rollups = ?, zone = ? WHERE kind = ? AND timeframe = ?",
			p.Partition.String(), p.CompressAfter.String(), p.DropAfter.String(), strings.Join(rollup.Names(p.Rollups), ","), p.Zone, p.Kind, string(p.Timeframe))
		if err != nil {
			return err
		}
		if n, err := updated.RowsAffected(); err != nil || n == 0 {
			_, err := f.conn.ExecContext(ctx, "INSERT INTO policies (kind, timeframe, partition, compress_after, drop_after, rollups, zone) VALUES (?, ?, ?, ?, ?, ?, ?)",
				p.Kind, string(p.Timeframe), p.Partition.String(), p.CompressAfter.String(), p.DropAfter.String(), strings.Join(rollup.Names(p.Rollups), ","), p.Zone)
			if err != nil {
				return err
			}
		}
		if mds.FirstRollups(steps) { // of all that is there: nothing that was dropped is in any
			if _, err := f.conn.ExecContext(ctx, "UPDATE policies SET kept_from = NULL WHERE kind = ? AND timeframe = ?", p.Kind, string(p.Timeframe)); err != nil {
				return err
			}
		}
		begun := false
		for i := range steps {
			switch s := &steps[i]; s.Action {
			case mds.StepRollup:
				begun = true
			case mds.StepUnroll:
				_, err := f.conn.ExecContext(ctx, "DELETE FROM bar_rollup_facts WHERE series_id IN (SELECT id FROM bar_rollup_series WHERE timeframe = ? AND source = ?)", string(s.Rollup), string(p.Timeframe))
				if err == nil {
					err = f.audit(ctx, s)
				}
				if err != nil {
					return err
				}
			}
		}
		if len(p.Rollups) == 0 {
			_, err = f.conn.ExecContext(ctx, "DELETE FROM touched WHERE timeframe = ?", string(p.Timeframe))
		}
		if err != nil || !begun {
			return err
		}
		// All there is of it is to be made rollups of, and beside it there may be some that
		// were days of another zone.
		return f.noteSpans(ctx, p.Timeframe, mds.MovedRollups(steps), `SELECT series_id, epoch_us(min(ts) - INTERVAL 2 DAYS), epoch_us(max(ts) + INTERVAL 2 DAYS) FROM bar_facts
			WHERE series_id IN (SELECT id FROM bar_series WHERE timeframe = ?) GROUP BY series_id, date_trunc('month', ts) ORDER BY 3 DESC`, []any{string(p.Timeframe)})
	})
	f.rolled = nil
	if err != nil {
		return nil, err
	}
	delete(f.series, "rollups")
	latestOf[mds.Rollup](f, "rollups").forget()
	return steps, nil
}

// audit notes a step that cannot be undone. The caller is in a transaction of the writer's.
func (f *file) audit(ctx context.Context, s *mds.Step) error {
	login := ""
	if u, err := user.Current(); err == nil {
		login = u.Username
	}
	_, err := f.conn.ExecContext(ctx, "INSERT INTO audit VALUES (make_timestamp(?), ?, ?, ?, ?)", time.Now().UnixMicro(), login, s.Action, s.Policy.Name(), s.Detail())
	return err
}

// Audit are the newest lines of the audit of all tenants, so many at most.
func (k *Keeper) Audit(ctx context.Context, limit int) (lines []mds.AuditLine, err error) {
	err = k.each(ctx, func(tenant mds.Tenant, f *file) error {
		return f.snapshot(ctx, false, func(conn *reader) error {
			found, err := readAudit(ctx, conn, limit)
			for i := range found {
				found[i].About = tenant.Slug + ": " + found[i].About
			}
			lines = append(lines, found...)
			return err
		})
	})
	return mds.NewestLines(lines, limit), err
}

func readAudit(ctx context.Context, conn *reader, limit int) (lines []mds.AuditLine, err error) {
	err = eachRow(ctx, conn, fmt.Sprintf("SELECT epoch_us(done_at), login, action, about, detail FROM audit ORDER BY done_at DESC LIMIT %d", limit), nil, func(values []driver.Value) error {
		micros, err := read[int64](values[0])
		if err != nil {
			return err
		}
		line := mds.AuditLine{At: time.UnixMicro(micros).UTC()}
		for i, text := range []*string{&line.Login, &line.Action, &line.About, &line.Detail} {
			if *text, err = read[string](values[1+i]); err != nil {
				return err
			}
		}
		lines = append(lines, line)
		return nil
	})
	return lines, err
}

// droppable is how the rows of a policy are found and dropped.
type droppable interface {
	old(ctx context.Context, conn *reader, p *mds.Policy, cutoff time.Time) (rows, late, all int64, err error)
	drop(ctx context.Context, f *file, p *mds.Policy, cutoff time.Time) (int64, error)
}

func (k *Keeper) kind(p *mds.Policy) droppable {
	switch p.Kind {
	case "bars":
		return NewTable[mds.Bar](k.store)
	case "options":
		return NewTable[mds.OptionSnap](k.store)
	case "fundamentals":
		return NewTable[mds.Fundamentals](k.store)
	default:
		return NewTable[mds.News](k.store)
	}
}

// before picks what is older than a policy keeps it.
func before(p *mds.Policy, cutoff time.Time) mds.Selection {
	return mds.Selection{Timeframe: p.Timeframe, End: cutoff}
}

// old counts what is before a time, what of it was as old when it came, and all.
func (t *Table[R]) old(ctx context.Context, conn *reader, p *mds.Policy, cutoff time.Time) (rows, late, all int64, err error) {
	s, err := t.selectSeries(ctx, conn, before(p, cutoff))
	if err != nil {
		return 0, 0, 0, err
	}
	age := cutoff.Sub(p.DropAfter.Before(cutoff)).Microseconds()
	err = conn.one(ctx, fmt.Sprintf("SELECT count(*), count(*) FILTER (WHERE epoch_us(%s::TIMESTAMP) < epoch_us(updated_at) - %d), (SELECT count(*) FROM %s) FROM %[3]s WHERE %[4]s", t.sql.time, age, t.sql.facts, s.where), s.args, &rows, &late, &all)
	return rows, late, all, err
}

// drop removes what is before a time; rollups stay as they are.
func (t *Table[R]) drop(ctx context.Context, f *file, p *mds.Policy, cutoff time.Time) (int64, error) {
	return t.deleteWithin(ctx, f, before(p, cutoff), false)
}

// Due are the steps that policies ask for at a time.
func (k *Keeper) Due(ctx context.Context, policies []mds.Policy, now time.Time) (steps []mds.Step, err error) {
	err = k.each(ctx, func(tenant mds.Tenant, f *file) error {
		for i := range policies {
			p := &policies[i]
			cutoff := p.Cutoff(now)
			if cutoff.IsZero() {
				continue
			}
			err := f.snapshot(ctx, false, func(conn *reader) error {
				rows, late, all, err := k.kind(p).old(ctx, conn, p, cutoff)
				if err != nil || rows == 0 {
					return err
				}
				info, err := os.Stat(f.path)
				if err != nil {
					return err
				}
				step := mds.Step{Action: mds.StepDrop, Tenant: tenant.Slug, Policy: *p, Before: cutoff, Rows: rows, Bytes: int64(float64(info.Size()) * float64(rows) / float64(all))}
				step.NoteLate(late)
				steps = append(steps, step)
				return nil
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	return steps, err
}

// Do removes what a step of [Keeper.Due] is about, and returns it with the rows that it
// removed. What comes later of that time is dropped the next time; rollups stay as they
// are.
func (k *Keeper) Do(ctx context.Context, step mds.Step) (mds.Step, error) {
	tenant, err := k.store.Tenant(ctx, step.Tenant)
	if err != nil {
		return step, err
	}
	f, err := k.store.file(ctx, tenant)
	if err != nil {
		return step, err
	}
	p := &step.Policy
	err = f.taking(ctx, func() (err error) {
		defer func() { f.noteWrite(err) }()
		var inForce int64
		if err := f.writerReads().one(ctx, "SELECT count(*) FROM policies WHERE kind = ? AND timeframe = ? AND drop_after = ? AND rollups = ? AND zone = ?", // all that the time goes by
			[]any{p.Kind, string(p.Timeframe), p.DropAfter.String(), strings.Join(rollup.Names(p.Rollups), ","), p.Zone}, &inForce); err != nil {
			return err
		}
		if inForce == 0 {
			return &Error{Op: "drop " + p.Name(), Err: mds.ErrPolicyChanged, retry: true}
		}
		var stale int64
		if err := f.writerReads().one(ctx, `SELECT coalesce(sum(n), 0)::BIGINT FROM touched WHERE ? = 'bars' AND timeframe = ? AND first < ?`,
			[]any{p.Kind, string(p.Timeframe), step.Before.UnixMicro()}, &stale); err != nil {
			return err
		}
		if stale > 0 {
			return &Error{Op: "drop " + p.Name(), Err: fmt.Errorf("%w: %d changes", mds.ErrNotRefreshed, stale), retry: true}
		}
		err = f.inTransaction(ctx, false, func() error {
			_, err := f.conn.ExecContext(ctx, "UPDATE policies SET kept_from = greatest(coalesce(kept_from, ?), ?) WHERE kind = ? AND timeframe = ?", step.Before.UnixMicro(), step.Before.UnixMicro(), p.Kind, string(p.Timeframe))
			if err == nil {
				err = f.audit(ctx, &step)
			}
			return err
		})
		if err != nil {
			return err
		}
		if step.Rows, err = k.kind(p).drop(ctx, f, p, step.Before); err != nil {
			return err
		}
		ended := step
		ended.Action = "dropped"
		if err := f.audit(ctx, &ended); err != nil {
			return err
		}
		return f.writeOut(ctx)
	})
	return step, wrap(ctx, "drop "+p.Name(), err)
}
