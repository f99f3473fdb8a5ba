package server

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/document"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/replay"
)

// replayParams are those of a replay. What is left out picks all.
type replayParams struct {
	Kinds []string `json:"kinds"`
	Codes []string `json:"codes"`
	IDs   []string `json:"ids"`
	// Since and Before bound when the letters died, the end excluded; UTC without an offset.
	Since  string `json:"since"`
	Before string `json:"before"`
	// Overwrite has letters replace rows that changed since they were submitted.
	Overwrite bool `json:"overwrite"`
}

// readParams reads what an action takes beside.
func readParams(job *mds.Job, into any) error {
	if len(job.Params) == 0 {
		return nil
	}
	if err := document.Read(job.Params, into); err != nil {
		return fmt.Errorf("params: %w", err)
	}
	return nil
}

// replaying reads what a replay is to do, and refuses what it cannot.
func (s *Server) replaying(job *mds.Job) (cfg replay.Config, err error) {
	var p replayParams
	if err := readParams(job, &p); err != nil {
		return cfg, err
	}
	if job.Dataset != "" || !job.Start.IsZero() || !job.End.IsZero() {
		return cfg, errors.New("dataset, start and end belong to other actions than replay: kinds, since and before of its params pick letters")
	}
	for _, kind := range p.Kinds {
		var names []string
		for _, k := range s.kinds {
			if k.letters != nil {
				names = append(names, k.name)
			}
		}
		if !slices.Contains(names, kind) {
			return cfg, fmt.Errorf("params: kinds: %q is none: use %s", kind, strings.Join(names, ", "))
		}
	}
	for _, code := range p.Codes {
		if codes := []string{ingest.CodeInvalid, ingest.CodeRefused, ingest.CodePanic, ingest.CodeExhausted}; !slices.Contains(codes, code) {
			return cfg, fmt.Errorf("params: codes: %q is none: use %s", code, strings.Join(codes, ", "))
		}
	}
	for _, id := range p.IDs {
		if !deadletter.IsID(id) {
			return cfg, fmt.Errorf("params: ids: %q is no letter's; one is like 20261126T084200.123456Z-1a2b.7", id)
		}
	}
	f := deadletter.Filter{Kinds: p.Kinds, Codes: p.Codes, IDs: p.IDs, Tenant: job.Tenant.ID, Symbols: job.Symbols}
	if job.Vendor != "" {
		f.Vendors = []string{job.Vendor}
	}
	for _, bound := range []struct {
		name, text string
		to         *time.Time
	}{{"since", p.Since, &f.DiedFrom}, {"before", p.Before, &f.DiedBefore}} {
		if bound.text == "" {
			continue
		}
		if *bound.to, err = codec.ParseTime(bound.text, time.UTC); err != nil {
			return cfg, fmt.Errorf("params: %s: %w", bound.name, err)
		}
	}
	if p.Since != "" && p.Before != "" && !f.DiedFrom.Before(f.DiedBefore) {
		return cfg, errors.New("params: since is not before before")
	}
	return replay.Config{Dir: deadletter.Dir{Path: s.cfg.Letters.Path(), Logger: s.cfg.Logger}, Filter: f, Overwrite: p.Overwrite}, nil
}

// replayJob is a replay under way.
type replayJob struct {
	run     *jobs.Run
	attempt int
	parts   int
	written int64    // that parts have
	refused []string // the first of those that are
}

// replay writes the dead letters of this server again. Those that the store has are gone when a
// part is done; parts are what it wrote, of this attempt.
func (s *Server) replay(ctx context.Context, run *jobs.Run) error {
	job := run.Job()
	cfg, err := s.replaying(&job)
	if err != nil {
		return err
	}
	if cfg.Filter.Made, err = s.made(ctx, job.Tenant); err != nil {
		return err
	}
	const shown = 3
	w := &replayJob{run: run, attempt: job.Attempt}
	cfg.Damaged = func(err error) { s.cfg.Logger.Error("a dead letter cannot be replayed", "job", job.ID, "error", err) }
	cfg.Refused = func(letter *deadletter.Letter, err error) {
		if len(w.refused) < shown {
			w.refused = append(w.refused, letter.ID+": "+err.Error())
		}
	}
	cfg.Written = func(l replay.Ledger) error { return w.keep(ctx, l) }
	r := replay.New(cfg)
	n, err := r.Pick(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		run.Progress(0, 0, "no letters of "+job.Worker+" match")
		return nil
	}
	err = r.Run(ctx, func(name string) (replay.Kind, bool) {
		for _, k := range s.kinds {
			if k.name == name && k.letters != nil {
				return *k.letters, true
			}
		}
		return replay.Kind{}, false
	})
	if err != nil { // what it wrote is told all the same
		last, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
		defer cancel()
		return errors.Join(err, w.keep(last, r.Ledger()))
	}
	w.tell(r.Ledger())
	return nil
}

// keep keeps how many letters were written since it did last.
func (w *replayJob) keep(ctx context.Context, l replay.Ledger) error {
	if l.Written > w.written {
		w.parts++
		part := mds.JobPart{Name: fmt.Sprintf("attempt %d, %d", w.attempt, w.parts), Written: l.Written - w.written}
		if err := w.run.PartDone(ctx, part); err != nil {
			return err
		}
		w.written = l.Written
	}
	w.tell(l)
	return nil
}

// tell says what became of the letters so far. Those that are refused are not added up over
// attempts: they are the same ones.
func (w *replayJob) tell(l replay.Ledger) {
	notes := []string{fmt.Sprintf("%d letters read = %d written + %d unchanged + %d superseded + %d still refused", l.Read, l.Written, l.Unchanged, l.Superseded, l.Refused)}
	if left := l.Unwritten(); left > 0 {
		notes[0] += fmt.Sprintf(" + %d to come", left)
	}
	for _, text := range w.refused {
		notes = append(notes, "still refused: "+text)
	}
	if more := l.Refused - int64(len(w.refused)); more > 0 {
		notes = append(notes, fmt.Sprintf("and %d more", more))
	}
	w.run.Progress(0, l.Refused, strings.Join(notes, "; "))
}
