// Package jobs runs the jobs that a store keeps: each on one server at a time, taken over
// where that one dies, begun again where what stopped it passes.
package jobs

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// Action does what a job asks for, until ctx ends. Where it is begun again it goes on after
// the parts that are done. An error that passes ([mds.Retryable], [mds.Unavailable]) has the
// job be begun again later.
type Action func(ctx context.Context, run *Run) error

// Config configures a [Runner]. All but Jobs and Actions may be left out.
type Config struct {
	Jobs    store.Jobs
	Actions map[mds.JobAction]Action
	// Worker names this server, as none of the others; Version is its program's.
	Worker, Version string
	// Lease is for how long a job is this server's without a word of it. Defaults to 30
	// seconds; a third of it passes between two words.
	Lease time.Duration
	// Poll is how often it is looked for jobs that others have made. Defaults to 500 ms.
	Poll time.Duration
	// Concurrency is how many jobs are run at once; less than 0 is none. Defaults to 2.
	Concurrency int
	// Backoff is how long a job waits that is begun again, doubled each time up to 5
	// minutes. Defaults to 5 seconds.
	Backoff time.Duration
	// Metrics count what is run; nil does not.
	Metrics *Metrics
	// Logger receives what becomes of jobs. Defaults to discarding it.
	Logger *slog.Logger
}

// Runner runs jobs. Stop it when done.
type Runner struct {
	cfg     Config
	actions []mds.JobAction
	wake    chan struct{}
	stop    context.CancelCauseFunc
	done    sync.WaitGroup
}

// errStopping is the cause of the end of a job whose server is being stopped.
var errStopping = errors.New("the server is being stopped")

// errCancelled is the cause of the end of a job that is cancelled.
var errCancelled = errors.New("it was cancelled")

// Start runs jobs until Stop. They see the values of ctx, not its end.
func Start(ctx context.Context, cfg Config) *Runner {
	cfg.Lease = cmp.Or(cfg.Lease, 30*time.Second)
	cfg.Poll = cmp.Or(cfg.Poll, 500*time.Millisecond)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 2)
	cfg.Backoff = cmp.Or(cfg.Backoff, 5*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{cfg: cfg, actions: slices.Sorted(maps.Keys(cfg.Actions)), wake: make(chan struct{}, max(0, cfg.Concurrency))}
	ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	for range cfg.Concurrency {
		r.done.Go(func() { r.work(ctx) })
	}
	return r
}

// Wake has it look for jobs at once.
func (r *Runner) Wake() {
	for range r.cfg.Concurrency {
		select {
		case r.wake <- struct{}{}:
		default:
			return
		}
	}
}

// End has no other job begin, and those that run end: they are queued again for whoever comes
// next.
func (r *Runner) End() { r.stop(errStopping) }

// Stop is End, and returns when they have ended, or ctx has.
func (r *Runner) Stop(ctx context.Context) error {
	r.End()
	ended := make(chan struct{})
	go func() {
		r.done.Wait()
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("jobs that run do not end: %w", ctx.Err())
	}
}

// work runs one job after the other.
func (r *Runner) work(ctx context.Context) {
	poll := time.NewTicker(r.cfg.Poll)
	defer poll.Stop()
	for ctx.Err() == nil {
		job, ok, err := r.cfg.Jobs.Claim(ctx, r.cfg.Worker, r.cfg.Version, r.actions, r.cfg.Lease)
		if err != nil && ctx.Err() == nil {
			r.cfg.Logger.Warn("jobs cannot be looked for", "error", err)
		}
		if ok {
			r.run(ctx, job)
			continue
		}
		select {
		case <-poll.C:
		case <-r.wake:
		case <-ctx.Done():
		}
	}
}

// run runs one job, and keeps what became of it.
func (r *Runner) run(ctx context.Context, job mds.Job) {
	logger := r.cfg.Logger.With("job", job.ID, "action", string(job.Action), "tenant", job.Tenant.Slug, "attempt", job.Attempt)
	logger.Info("a job begins")
	begun := time.Now()
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &Run{jobs: r.cfg.Jobs, job: job, done: make(map[string]bool)}
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		r.beat(ctx, run, cancel)
	}()
	err := r.act(ctx, run)
	cause := context.Cause(ctx)
	cancel(nil)
	<-beating
	if errors.Is(cause, mds.ErrJobLost) {
		logger.Warn("a job is another server's now", "error", err)
		return
	}
	state, again := r.outcome(run, err, cause)
	r.finish(ctx, run, state, again)
	r.cfg.Metrics.ended(job.Action, state, time.Since(begun))
	level := slog.LevelInfo
	if state == mds.JobFailed {
		level = slog.LevelError
	}
	logger.Log(ctx, level, "a job ends", "state", string(state), "written", run.job.Written, "failed", run.job.Failed, "error", run.job.Error, "seconds", time.Since(begun).Seconds())
}

// act does what the job asks for. A panic is its failure.
func (r *Runner) act(ctx context.Context, run *Run) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("it panicked: %v", p)
		}
	}()
	parts, err := r.cfg.Jobs.Parts(ctx, run.job.ID)
	if err != nil {
		return err
	}
	run.resume(parts)
	return r.cfg.Actions[run.job.Action](ctx, run)
}

// outcome is the state that an attempt leaves, and when the next one may begin.
func (r *Runner) outcome(run *Run, err, cause error) (state mds.JobState, again time.Time) {
	run.mu.Lock()
	defer run.mu.Unlock()
	job := &run.job
	switch {
	case err == nil:
		job.Error = ""
		return mds.JobDone, again
	case errors.Is(cause, errCancelled):
		job.Error = errCancelled.Error()
		return mds.JobCancelled, again
	case errors.Is(cause, errStopping):
		job.Error, job.MaxAttempts = "", job.MaxAttempts+1 // which was no fault of the job
		return mds.JobQueued, time.Now()
	}
	job.Error = err.Error()
	if (mds.Retryable(err) || mds.Unavailable(err)) && job.Attempt < job.MaxAttempts {
		return mds.JobQueued, time.Now().Add(min(r.cfg.Backoff<<min(job.Attempt-1, 16), 5*time.Minute))
	}
	return mds.JobFailed, again
}

// finish keeps what became of an attempt, for as long as the lease lasts.
func (r *Runner) finish(ctx context.Context, run *Run, state mds.JobState, again time.Time) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease)
	defer cancel()
	job := run.snapshot()
	retry := time.NewTicker(max(r.cfg.Lease/30, time.Millisecond))
	defer retry.Stop()
	for {
		err := r.cfg.Jobs.Finish(ctx, job, state, again)
		if err == nil {
			return
		}
		if errors.Is(err, mds.ErrJobLost) || ctx.Err() != nil {
			r.cfg.Logger.Error("what became of a job cannot be kept; it is begun again when its lease has ended", "job", job.ID, "state", string(state), "error", err)
			return
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
		}
	}
}

// beat says that a job is run, until ctx ends; it ends the job where it is to end, or was
// taken over.
func (r *Runner) beat(ctx context.Context, run *Run, cancel context.CancelCauseFunc) {
	ticker := time.NewTicker(r.cfg.Lease / 3)
	defer ticker.Stop()
	heard := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
		begun := time.Now()
		stop, err := r.cfg.Jobs.Beat(ctx, run.snapshot(), r.cfg.Lease)
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, mds.ErrJobLost):
			cancel(err)
			return
		case err != nil && time.Since(heard) > r.cfg.Lease:
			// Another server may have it by now.
			cancel(fmt.Errorf("%w: nothing was kept of it for %s: %w", mds.ErrJobLost, r.cfg.Lease, err))
			return
		case err != nil:
			r.cfg.Logger.Warn("that a job is run cannot be kept", "job", run.job.ID, "error", err)
		case stop:
			cancel(errCancelled)
			return
		default:
			heard = begun
		}
	}
}
