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
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// Action does what a job asks for, until ctx ends. Where it is begun again it goes on after
// the parts that are done. An error that passes ([mds.Retryable], [mds.Unavailable]) has the
// job be begun again later, not before the time that its method RetryAfter says, if it has
// one.
type Action func(ctx context.Context, run *Run) error

// Config configures a [Runner]. All but Jobs, Actions and Worker may be left out.
type Config struct {
	Jobs    store.Jobs
	Actions map[mds.JobAction]Action
	// Worker names this server, as none of the others; Version is its program's.
	Worker, Version string
	// Lease is for how long a job is this server's without a word of it. Defaults to 30
	// seconds; a third of it passes between two words.
	Lease time.Duration
	// Poll is how often it is looked for jobs that others have made, at least; half of it
	// passes in between at random. Defaults to 500 ms.
	Poll time.Duration
	// Concurrency is how many jobs are run at once; less than 0 is none. Defaults to 2.
	Concurrency int
	// Backoff is how long a job waits that is begun again, doubled each time up to 5
	// minutes; half of it is drawn at random. Defaults to 5 seconds.
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
	looked  chan struct{} // closed when it begins no other job
	// unsure is that the store may have begun a job for this server, of which it could not
	// tell.
	unsure bool
	// keeping is of how many jobs it is tried to keep what became of them, in vain until now:
	// none begins meanwhile, which might be one of them.
	keeping atomic.Int32

	mu   sync.Mutex
	mine map[string]chan struct{} // of each job that is run here, by its id, what has it ask whether it is to end
	// early are the jobs that were asked about while a claim is under way, which they may be
	// begun by; nil while none is.
	early map[string]bool
}

// errStopping is the cause of the end of a job whose server is being stopped.
var errStopping = errors.New("the server is being stopped")

// errCancelled is the cause of the end of a job that is cancelled.
var errCancelled = errors.New("it was cancelled")

// errSilent is the cause of the end of a job of which the store was told nothing for a lease:
// another server may have it by now.
var errSilent = errors.New("the store could not be told that it is run")

// Start runs jobs until Stop. They see the values of ctx, not its end.
func Start(ctx context.Context, cfg Config) *Runner {
	cfg.Lease = cmp.Or(cfg.Lease, 30*time.Second)
	cfg.Poll = cmp.Or(cfg.Poll, 500*time.Millisecond)
	cfg.Concurrency = cmp.Or(cfg.Concurrency, 2)
	cfg.Backoff = cmp.Or(cfg.Backoff, 5*time.Second)
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	r := &Runner{cfg: cfg, actions: slices.Sorted(maps.Keys(cfg.Actions)), wake: make(chan struct{}, 1), mine: make(map[string]chan struct{}), looked: make(chan struct{})}
	ctx, r.stop = context.WithCancelCause(context.WithoutCancel(ctx))
	if cfg.Concurrency > 0 {
		r.done.Go(func() {
			defer close(r.looked)
			r.look(ctx)
		})
	}
	return r
}

// Wake has it look for jobs at once.
func (r *Runner) Wake() {
	select {
	case r.wake <- struct{}{}:
	default: // it will
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

// look begins the jobs that wait, while there is room for another.
func (r *Runner) look(ctx context.Context) {
	room := make(chan struct{}, r.cfg.Concurrency)
	poll := time.NewTimer(0)
	defer poll.Stop()
	for {
		select {
		case room <- struct{}{}:
		case <-ctx.Done():
			return
		}
		if ctx.Err() != nil {
			return
		}
		var job mds.Job
		var leased time.Time
		begun := false
		if r.keeping.Load() == 0 {
			job, leased, begun = r.claim(ctx)
		}
		if begun {
			ask := r.note(job.ID)
			r.done.Go(func() {
				r.run(ctx, job, leased, ask)
				r.forget(job.ID)
				<-room
			})
			continue
		}
		<-room
		poll.Reset(spread(r.cfg.Poll))
		select {
		case <-poll.C:
		case <-r.wake:
		case <-ctx.Done():
			return
		}
	}
}

// spread is a time of half of d to d: what many servers do at once they do not do the next
// time.
func spread(d time.Duration) time.Duration {
	return d/2 + rand.N(d/2+1) //nolint:gosec // any will do
}

// claim begins the next job, which is this server's for a lease from then on. It is not
// interrupted: a job that the store has begun is not left to nobody.
func (r *Runner) claim(ctx context.Context) (job mds.Job, leased time.Time, ok bool) {
	claiming, cancel := context.WithTimeout(context.WithoutCancel(ctx), r.cfg.Lease/3)
	defer cancel()
	if r.unsure {
		r.giveBack(claiming)
	}
	r.listen(make(map[string]bool))
	leased = time.Now()
	job, ok, err := r.cfg.Jobs.Claim(claiming, r.cfg.Worker, r.cfg.Version, r.actions, r.cfg.Lease)
	if err != nil {
		if !r.unsure && ctx.Err() == nil {
			r.cfg.Logger.Warn("jobs cannot be looked for", "error", err)
		}
		r.unsure = true
	}
	if err != nil || !ok {
		r.listen(nil)
		return job, leased, false
	}
	return job, leased, true
}

// listen has what is asked about be noted, or nothing any more.
func (r *Runner) listen(early map[string]bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.early = early
}

// note notes that a job is run here.
func (r *Runner) note(id string) (ask chan struct{}) {
	r.mu.Lock()
	defer r.mu.Unlock()
	ask = make(chan struct{}, 1)
	if r.early[id] {
		ask <- struct{}{}
	}
	r.mine[id], r.early = ask, nil
	return ask
}

// forget notes that a job is run here no longer.
func (r *Runner) forget(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.mine, id)
}

// Ask has a job that is run here ask the store at once whether it is to end, as it does with
// each word of it.
func (r *Runner) Ask(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.early != nil {
		r.early[id] = true
	}
	if ask, here := r.mine[id]; here {
		select {
		case ask <- struct{}{}:
		default: // it will
		}
	}
}

// giveBack has jobs be begun again that the store has begun for this server and that it does
// not run: the answer of a claim was lost. The attempt does not count.
func (r *Runner) giveBack(ctx context.Context) {
	running, err := r.cfg.Jobs.List(ctx, mds.JobFilter{States: []mds.JobState{mds.JobRunning}})
	if err != nil {
		return
	}
	r.mu.Lock()
	running = slices.DeleteFunc(running, func(job mds.Job) bool { return job.Worker != r.cfg.Worker || r.mine[job.ID] != nil })
	r.mu.Unlock()
	for _, job := range running {
		job.MaxAttempts++
		if err := r.cfg.Jobs.Finish(ctx, job, mds.JobQueued, time.Time{}); err != nil && !errors.Is(err, mds.ErrJobLost) {
			return
		}
	}
	r.unsure = false
	r.cfg.Logger.Info("jobs can be looked for again", "given_back", len(running))
}

// run runs one job, and keeps what became of it.
func (r *Runner) run(ctx context.Context, job mds.Job, leased time.Time, ask <-chan struct{}) {
	logger := r.cfg.Logger.With("job", job.ID, "action", string(job.Action), "tenant", job.Tenant.Slug, "attempt", job.Attempt)
	logger.Info("a job begins")
	begun := time.Now()
	acting, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	run := &Run{jobs: r.cfg.Jobs, job: job, done: make(map[string]bool), every: r.cfg.Lease / 30, lose: cancel}
	beating := make(chan struct{})
	go func() {
		defer close(beating)
		r.beat(acting, run, leased, ask, cancel)
	}()
	err := r.act(acting, run, logger)
	cause := context.Cause(acting)
	cancel(nil)
	<-beating
	lost := errors.Is(cause, mds.ErrJobLost) || errors.Is(err, mds.ErrJobLost)
	var state mds.JobState
	if !lost {
		var again time.Time
		state, again = r.outcome(run, err, cause)
		lost = !r.finish(ctx, run.snapshot(), state, again, logger)
	}
	if lost {
		logger.Warn("a job is another server's now", "error", cmp.Or(err, cause))
		return
	}
	r.cfg.Metrics.ended(job.Action, state, time.Since(begun))
	level := slog.LevelInfo
	if state == mds.JobFailed {
		level = slog.LevelError
	}
	job = run.snapshot()
	logger.Log(ctx, level, "a job ends", "state", string(state), "written", job.Written, "failed", job.Failed, "error", job.Error, "seconds", time.Since(begun).Seconds())
}
