package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/vendor"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/backfill"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/load"
	"github.com/marketdatastore/mds/internal/selection"
	"github.com/marketdatastore/mds/store"
)

// JobsConfig says what jobs a server runs.
type JobsConfig struct {
	// Jobs keeps them. It is closed by whoever opened it, after Stop. Required.
	Jobs store.Jobs
	// Worker names this server, as none of the others that have the store. What is before its
	// first '/' is the machine: a server there goes on with the files of one before. Required.
	Worker string
	// Sources say what backfills may read.
	Sources backfill.Rules
	// Rejects is the folder for rows that are no records. Required.
	Rejects string
	// Exports is the folder that exports are written to, in a folder of each tenant, which is
	// made; "" where the server writes none.
	Exports string
	// Migrate brings the database to the schema of this program; nil where the server may not,
	// or the store does so by itself.
	Migrate func(ctx context.Context) error

	// PoliciesEvery has policies be carried out so often, by one of the servers that say so;
	// 0 leaves it to whoever asks.
	PoliciesEvery time.Duration

	// Lease, Poll, Backoff and Concurrency are those of [jobs.Config].
	Lease, Poll, Backoff time.Duration
	Concurrency          int
}

// actions are what jobs do here.
func (s *Server) actions() map[mds.JobAction]jobs.Action {
	all := map[mds.JobAction]jobs.Action{
		mds.JobBackfill: s.backfill, mds.JobRefresh: s.refresh, mds.JobCompact: s.compact,
	}
	if s.cfg.Letters != nil {
		all[mds.JobReplay] = s.replay
	}
	if s.cfg.Jobs.Exports != "" {
		all[mds.JobExport] = s.export
	}
	if s.cfg.Control.Keeper != nil {
		all[mds.JobPolicies] = s.carryOut
	}
	if s.cfg.Jobs.Migrate != nil {
		all[mds.JobMigrate] = func(ctx context.Context, run *jobs.Run) error {
			if err := ofAll(run); err != nil {
				return err
			}
			return s.cfg.Jobs.Migrate(ctx)
		}
	}
	return all
}

// refresh makes the rollups anew of what changed in a tenant's bars, or in all tenants'.
func (s *Server) refresh(ctx context.Context, run *jobs.Run) error {
	tenants, err := s.tenantsOf(ctx, run)
	if err != nil {
		return err
	}
	run.Parts(len(tenants))
	for _, tenant := range tenants {
		if run.Done(tenant.Slug) {
			continue
		}
		done, err := s.cfg.Store.Refresh(ctx, tenant, 0)
		if err != nil && !errors.Is(err, mds.ErrNoStore) {
			return err
		}
		if err := run.PartDone(ctx, mds.JobPart{Name: tenant.Slug, Written: done.Written}); err != nil {
			return err
		}
	}
	return nil
}

// tenantsOf are those that a job is about.
func (s *Server) tenantsOf(ctx context.Context, run *jobs.Run) ([]mds.Tenant, error) {
	if t := run.Job().Tenant; t.ID != "" {
		return []mds.Tenant{t}, nil
	}
	return s.cfg.Store.Tenants(ctx)
}

// ofAll refuses a job of one tenant to do what changes others.
func ofAll(run *jobs.Run) error {
	if job := run.Job(); job.Tenant.ID != "" {
		return fmt.Errorf("%s is about all tenants, and the job of one", job.Action)
	}
	return nil
}

// carryOut does what the policies in force ask for.
func (s *Server) carryOut(ctx context.Context, run *jobs.Run) error {
	if err := ofAll(run); err != nil {
		return err
	}
	keeper, err := s.cfg.Control.Keeper(ctx)
	if err != nil {
		return err
	}
	defer keeper.Close(context.WithoutCancel(ctx)) //nolint:errcheck // what it did is committed
	var rows int64
	return store.CarryOut(ctx, s.cfg.Store, keeper, time.Now(), func(step mds.Step, done bool) {
		if done {
			rows += step.Rows
		}
		run.Progress(rows, 0, fmt.Sprintf("%s of tenant %s", step.Action, cmp.Or(step.Tenant, "any")))
	})
}

// compact puts a tenant's rows in order, or all tenants'.
func (s *Server) compact(ctx context.Context, run *jobs.Run) error {
	tenants, err := s.tenantsOf(ctx, run)
	if err != nil {
		return err
	}
	run.Parts(len(tenants) * len(s.kinds))
	for _, tenant := range tenants {
		for _, k := range s.kinds {
			part := mds.JobPart{Name: tenant.Slug + " " + k.name}
			if run.Done(part.Name) {
				continue
			}
			moved, err := k.compact(ctx, tenant)
			if err != nil && !errors.Is(err, mds.ErrNoStore) {
				return err
			}
			part.Written = moved
			if err := run.PartDone(ctx, part); err != nil {
				return err
			}
		}
	}
	return nil
}

// compact puts the rows of a kind in order, where the store does that.
func (k *service[R]) compact(ctx context.Context, tenant mds.Tenant) (moved int64, err error) {
	table, ok := k.table.(store.Compacter)
	if !ok {
		return 0, nil
	}
	done, err := table.Compact(ctx, tenant)
	return done.Moved, err
}

// backfill loads files, or what URLs answer.
func (s *Server) backfill(ctx context.Context, run *jobs.Run) error {
	job := run.Job()
	for _, k := range s.kinds {
		if k.name == job.Dataset && k.backfill != nil {
			return k.backfill(ctx, run)
		}
	}
	return fmt.Errorf("there is no dataset %q that takes records", job.Dataset)
}

// export writes files.
func (s *Server) export(ctx context.Context, run *jobs.Run) error {
	job := run.Job()
	for _, k := range s.kinds {
		if k.name == job.Dataset {
			return k.export(ctx, run)
		}
	}
	return fmt.Errorf("there is no dataset %q", job.Dataset)
}

// prepare reads what a backfill is to do, and refuses what it cannot.
func (k *service[R]) prepare(ctx context.Context, job *mds.Job) (spec backfill.Spec, parts []backfill.Part, opt codec.Options, err error) {
	if spec, err = backfill.Parse(job.Params); err != nil {
		return spec, nil, opt, err
	}
	if opt.Label, err = codec.ParseLabel(cmp.Or(spec.Label, "start")); err != nil {
		return spec, nil, opt, fmt.Errorf("params: label: %w", err)
	}
	if spec.TZ != "" {
		if opt.Zone, err = selection.Zone("tz", spec.TZ); err != nil {
			return spec, nil, opt, fmt.Errorf("params: %w", err)
		}
	}
	if _, err := vendor.Decoder[R](spec.Format); err != nil {
		return spec, nil, opt, fmt.Errorf("params: format %w", err)
	}
	opt.Columns, opt.NoHeader, opt.Fixed = spec.Columns, spec.NoHeader, make(map[string]string)
	for name, value := range spec.Fixed {
		if k.schema.Lookup(name) == nil {
			return spec, nil, opt, fmt.Errorf("params: fixed: %s have no column %s", k.schema.Kind, name)
		}
		opt.Fixed[name] = value
	}
	if job.Vendor != "" {
		opt.Fixed["vendor"] = job.Vendor
	}
	parts, err = spec.Parts(ctx, &k.cfg.Jobs.Sources, backfill.Range{Symbols: job.Symbols, Start: job.Start, End: job.End})
	return spec, parts, opt, err
}

// fill loads the parts of a backfill that are not done.
func (k *service[R]) fill(ctx context.Context, run *jobs.Run) error {
	job := run.Job()
	spec, parts, opt, err := k.prepare(ctx, &job)
	if err != nil {
		return err
	}
	rejects := load.NewRejects(filepath.Join(k.cfg.Jobs.Rejects, "job-"+job.ID+".ndjson"))
	defer rejects.Close() //nolint:errcheck // the last part has told
	rejects.Bound(mostRejects)
	if err := rejects.Keep(run.Done); err != nil { // those of a part that was broken off come again
		return err
	}
	run.Parts(len(parts))
	var bad badParts
	for _, part := range parts {
		if run.Done(part.Name) {
			continue
		}
		done, err := k.fillPart(ctx, run, &spec, opt, part, rejects)
		if err != nil && ctx.Err() == nil && bad.add(part.Name, err) {
			continue
		}
		if err != nil {
			return fmt.Errorf("%s: %w", part.Name, err)
		}
		if err := run.PartDone(ctx, done); err != nil {
			return err
		}
	}
	note := ""
	if failed := run.Job().Failed; failed > 0 {
		rows := "rows"
		if failed == 1 {
			rows = "row"
		}
		note = fmt.Sprintf("%d %s did not get into the store: those that are no records are in %s on %s", failed, rows, rejects.Path(), job.Worker)
	}
	run.Progress(0, 0, note)
	return bad.err(len(parts))
}

// badParts are parts that cannot be read, whatever is tried: the others are loaded all the same.
type badParts struct {
	n     int
	shown []string
}

// add notes a part where it is its own that it cannot be loaded.
func (b *badParts) add(name string, err error) bool {
	var source *backfill.Error
	var body *bodyError
	if errors.Is(err, ingest.ErrStopped) || errors.Is(err, mds.ErrUnknownTenant) {
		return false
	}
	if !errors.As(err, &source) && !errors.As(err, &body) || mds.Retryable(err) || mds.Unavailable(err) {
		return false
	}
	const shown = 3
	if b.n++; b.n <= shown {
		b.shown = append(b.shown, name+": "+err.Error())
	}
	return true
}

func (b *badParts) err(of int) error {
	switch {
	case b.n == 0:
		return nil
	case of == 1:
		return errors.New(b.shown[0])
	case b.n > len(b.shown):
		return fmt.Errorf("%d of %d parts cannot be loaded: %s; and %d more", b.n, of, strings.Join(b.shown, "; "), b.n-len(b.shown))
	}
	return fmt.Errorf("%d of %d parts cannot be loaded: %s", b.n, of, strings.Join(b.shown, "; "))
}

// bodyError is what is wrong with what a part has.
type bodyError struct{ error }

func (e *bodyError) Unwrap() error { return e.error }

// mostRejects is how many bytes of rows that are no records are kept of a job.
const mostRejects = 64 << 20

// fillPart loads one part: when it returns, all of it is on the store's disk.
func (k *service[R]) fillPart(ctx context.Context, run *jobs.Run, spec *backfill.Spec, opt codec.Options, part backfill.Part, rejects *load.Rejects) (mds.JobPart, error) {
	done := mds.JobPart{Name: part.Name}
	body, err := spec.Open(ctx, &k.cfg.Jobs.Sources, part)
	if errors.Is(err, backfill.ErrNothing) {
		return done, nil
	}
	if err != nil {
		return done, err
	}
	defer body.Close() //nolint:errcheck // it was read, or has failed
	if c := k.schema.SymbolColumn(); c != nil {
		symbol := part.Symbol
		if spec.SymbolFrom == "filename" {
			symbol = load.SymbolOf(part.Name)
		}
		if symbol != "" {
			opt.Fixed[c.Name] = symbol
		}
	}
	// It leaves three quarters of the queue to those who cannot wait.
	tally := &load.Tally[R]{Into: k.coordinator.For(run.Job().Tenant), Open: max(1, k.coordinator.Stats().Capacity/4)}
	decoder, err := vendor.Decoder[R](spec.Format)
	if err != nil {
		return done, err
	}
	rejects.Name(part.Name)
	result, err := load.Run(ctx, load.Config[R]{
		Files: []string{"-"}, Stdin: body, Options: opt, Decoder: decoder, Rejects: rejects, Intake: tally,
		HandOver: int(min(handOver, tally.Open)),
		Progress: func(p load.Progress) { run.Progress(p.Ledger.Accepted(), p.Ledger.Rejected, part.Name) },
	})
	if settleErr := tally.Settle(ctx); err == nil {
		err = settleErr
	}
	var file *load.FileError
	if errors.As(err, &file) {
		err = &bodyError{file.Err}
	}
	became, _ := tally.Outcome()
	done.Written, done.Failed = became.Committed, result.Ledger.Rejected+became.DeadLettered+became.Dropped
	if err == nil && became.Unwritten > 0 {
		err = ingest.ErrUnwritten
	}
	return done, errors.Join(err, rejects.Flush())
}
