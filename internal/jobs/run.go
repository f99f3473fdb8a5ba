package jobs

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// Run is an attempt of a job. It is safe for concurrent use.
type Run struct {
	jobs  store.Jobs
	every time.Duration           // between two tries at keeping a part
	lose  context.CancelCauseFunc // ends the attempt

	mu   sync.Mutex
	job  mds.Job
	done map[string]bool
	// settled is what the parts that are done add up to.
	settled mds.JobPart
}

// Job is what was asked for, with how far it is.
func (r *Run) Job() mds.Job { return r.snapshot() }

func (r *Run) snapshot() mds.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.job
}

// resume goes on after the parts that are done.
func (r *Run) resume(parts []mds.JobPart) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range parts {
		r.done[p.Name] = true
		r.settled.Written += p.Written
		r.settled.Failed += p.Failed
	}
	r.job.PartsDone, r.job.Written, r.job.Failed = int64(len(parts)), r.settled.Written, r.settled.Failed
}

// Parts says of how many parts the job is.
func (r *Run) Parts(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job.Parts = int64(n)
}

// Left says how many parts are to be done beside those that are.
func (r *Run) Left(n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job.Parts = r.job.PartsDone + int64(n)
}

// Done reports that a part is done.
func (r *Run) Done(part string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done[part]
}

// Progress says how far the part is that is done at the moment, and what is done; it is kept
// with the next heartbeat.
func (r *Run) Progress(written, failed int64, note string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.job.Written, r.job.Failed, r.job.Note = r.settled.Written+written, r.settled.Failed+failed, note
}

// PartDone keeps that a part is done: it is not done again, whatever happens. While the store
// is away it waits, until ctx ends. It fails with [mds.ErrJobLost], and ends the attempt,
// where the job is another server's.
func (r *Run) PartDone(ctx context.Context, part mds.JobPart) error {
	retry := time.NewTicker(max(r.every, time.Millisecond))
	defer retry.Stop()
	for {
		err := r.jobs.PartDone(ctx, r.with(part), part)
		switch {
		case err == nil:
			r.settle(part)
			return nil
		case errors.Is(err, mds.ErrJobLost):
			r.lose(err)
			return err
		case !mds.Retryable(err) && !mds.Unavailable(err):
			return err
		}
		select {
		case <-retry.C:
		case <-ctx.Done():
			return err
		}
	}
}

// with is how far the job is with another part.
func (r *Run) with(part mds.JobPart) mds.Job {
	r.mu.Lock()
	defer r.mu.Unlock()
	job := r.job
	job.PartsDone++
	job.Written, job.Failed = r.settled.Written+part.Written, r.settled.Failed+part.Failed
	return job
}

func (r *Run) settle(part mds.JobPart) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.done[part.Name] = true
	r.settled.Written += part.Written
	r.settled.Failed += part.Failed
	r.job.PartsDone++
	r.job.Written, r.job.Failed = r.settled.Written, r.settled.Failed
}
