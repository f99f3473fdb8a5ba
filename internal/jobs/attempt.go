package jobs

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"time"

	"github.com/marketdatastore/mds"
)

// act does what the job asks for. A panic is its failure.
func (r *Runner) act(ctx context.Context, run *Run, logger *slog.Logger) (err error) {
	defer func() {
		if p := recover(); p != nil {
			logger.Error("a job panicked", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
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

// longestBackoff bounds what a job waits between two attempts.
const longestBackoff = 5 * time.Minute

// outcome is the state that an attempt leaves, and when the next one may begin, the zero time
// for at once.
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
		job.Error = ""
		job.MaxAttempts++ // it was no fault of the job
		return mds.JobQueued, again
	case errors.Is(cause, errSilent):
		job.Error = errSilent.Error()
		job.MaxAttempts++ // as little was this
		return mds.JobQueued, again
	}
	job.Error = err.Error()
	switch passes := mds.Retryable(err) || mds.Unavailable(err); {
	case passes && job.Attempt < job.MaxAttempts:
		return mds.JobQueued, time.Now().Add(r.backoff(job.Attempt, err))
	case passes:
		job.Error += fmt.Sprintf("; given up after attempt %d of %d", job.Attempt, job.MaxAttempts)
	}
	return mds.JobFailed, again
}

// backoff is how long a job waits after an attempt that failed, at least as long as its error
// says, within reason.
func (r *Runner) backoff(attempt int, err error) time.Duration {
	wait := spread(min(r.cfg.Backoff<<min(attempt-1, 16), longestBackoff))
	var said interface{ RetryAfter() time.Duration }
	if errors.As(err, &said) {
		wait = max(wait, min(said.RetryAfter(), time.Hour))
	}
	return wait
}

// finish keeps what became of an attempt, and reports whether it was this server's until then.
// While the store is away it tries on: until the job is another's, whenever that is, or for a
// third of a lease once the server is being stopped.
func (r *Runner) finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time, logger *slog.Logger) bool {
	if ctx.Err() != nil && state == mds.JobQueued {
		<-r.looked // or this server would begin it again
	}
	trying, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	defer context.AfterFunc(ctx, func() { time.AfterFunc(r.cfg.Lease/3, cancel) })()
	begun := time.Now()
	retry := time.NewTicker(max(min(r.cfg.Lease/30, r.cfg.Poll/4), time.Millisecond)) // before others look
	defer retry.Stop()
	for said := false; ; said = true {
		once, done := context.WithTimeout(trying, r.cfg.Lease/3)
		err := r.cfg.Jobs.Finish(once, job, state, again)
		late := once.Err() != nil
		done()
		switch {
		case err == nil:
			return true
		case errors.Is(err, mds.ErrJobLost):
			return false
		case trying.Err() != nil || !late && !mds.Retryable(err) && !mds.Unavailable(err) && time.Since(begun) > r.cfg.Lease:
			logger.Error("what became of a job cannot be kept; it is begun again when its lease has ended", "state", string(state), "error", err)
			return true
		case !said:
			r.keeping.Add(1)
			defer r.keeping.Add(-1)
			logger.Warn("what became of a job cannot be kept yet", "state", string(state), "error", err)
		}
		select {
		case <-retry.C:
		case <-trying.Done():
		}
	}
}

// beat says that a job is run, now and then and when it is asked to, until ctx ends; it ends
// the job where it is to end, was taken over, or may have been.
func (r *Runner) beat(ctx context.Context, run *Run, leased time.Time, ask <-chan struct{}, cancel context.CancelCauseFunc) {
	held := r.cfg.Lease - r.cfg.Lease/10 // an action takes a while to end
	lease := time.AfterFunc(time.Until(leased.Add(held)), func() { cancel(errSilent) })
	defer lease.Stop()
	next := time.NewTimer(r.cfg.Lease / 3)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		case <-ask:
		}
		begun := time.Now()
		once, done := context.WithTimeout(ctx, r.cfg.Lease/3)
		stop, err := r.cfg.Jobs.Beat(once, run.snapshot(), r.cfg.Lease)
		done()
		switch {
		case ctx.Err() != nil:
			return
		case errors.Is(err, mds.ErrJobLost):
			cancel(err)
			return
		case err != nil:
			r.cfg.Logger.Warn("that a job is run cannot be kept", "job", run.job.ID, "error", err)
			next.Reset(r.cfg.Lease / 30)
			continue
		case stop:
			cancel(errCancelled)
			return
		}
		lease.Reset(time.Until(begun.Add(held)))
		next.Reset(r.cfg.Lease / 3)
	}
}
