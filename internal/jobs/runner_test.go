package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.Stop()
		os.Exit(code)
	}))
}

// fleet is a store with servers that run its jobs.
type fleet struct {
	*testing.T
	dsn  string
	jobs store.Jobs // of who only looks
}

// engines runs a test on each.
func engines(t *testing.T, test func(f *fleet)) {
	t.Run("DuckDB", func(t *testing.T) { test(newFleet(t, "duckdb://"+t.TempDir())) })
	t.Run("PostgreSQL", func(t *testing.T) { test(newFleet(t, onServer(t))) })
}

func onServer(t *testing.T) string {
	t.Helper()
	return pgtest.Fresh(t, "migrated", migrate).Service
}

func migrate(d pgtest.Database) error {
	_, err := postgres.Migrate(context.Background(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(context.Background(), d.Owner, d.Service)
	return errors.Join(err, grantErr)
}

func newFleet(t *testing.T, dsn string) *fleet {
	t.Helper()
	f := &fleet{T: t, dsn: dsn}
	f.jobs = f.open()
	return f
}

// open opens the store as another server does, until the test ends; where one process has
// it, as another part of it does.
func (f *fleet) open() store.Jobs {
	f.Helper()
	if strings.HasPrefix(f.dsn, "duckdb://") && f.jobs != nil {
		return f.jobs
	}
	s, err := store.Open(context.Background(), f.dsn, store.Config{})
	if err != nil {
		f.Fatal(err)
	}
	j, err := store.OpenJobs(context.Background(), s)
	if err != nil {
		f.Fatal(err)
	}
	f.Cleanup(func() {
		if err := errors.Join(j.Close(), s.Close()); err != nil {
			f.Error(err)
		}
	})
	return j
}

// quick are leases that end within a test.
const quick = 3 * time.Second

// start runs the jobs of one action until the test ends.
func (f *fleet) start(worker string, j store.Jobs, action jobs.Action, settings ...func(*jobs.Config)) *jobs.Runner {
	f.Helper()
	cfg := jobs.Config{Jobs: j, Actions: map[mds.JobAction]jobs.Action{mds.JobRefresh: action}, Worker: worker, Version: "v1", Poll: 20 * time.Millisecond, Backoff: 10 * time.Millisecond}
	for _, set := range settings {
		set(&cfg)
	}
	r := jobs.Start(context.Background(), cfg)
	f.Cleanup(func() {
		if err := r.Stop(context.Background()); err != nil {
			f.Error(err)
		}
	})
	return r
}

func (f *fleet) enqueue(job mds.Job) mds.Job {
	f.Helper()
	if job.Action == "" {
		job.Action = mds.JobRefresh
	}
	kept, _, err := f.jobs.Enqueue(context.Background(), job)
	if err != nil {
		f.Fatal(err)
	}
	return kept
}

func (f *fleet) job(id string) mds.Job {
	f.Helper()
	job, err := f.jobs.Job(context.Background(), id)
	if err != nil {
		f.Fatal(err)
	}
	return job
}

// await waits until a job is in a state.
func (f *fleet) await(id string, state mds.JobState) mds.Job {
	f.Helper()
	limit := time.After(30 * time.Second)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for {
		job := f.job(id)
		if job.State == state {
			return job
		}
		select {
		case <-tick.C:
		case <-limit:
			f.Fatalf("it is never %s: %+v", state, job)
		}
	}
}

// TestRun has all be kept of a job that is run: its parts, how far it is, how long it took, and
// why it failed.
func TestRun(t *testing.T) {
	engines(t, func(f *fleet) {
		done, failed := f.enqueue(mds.Job{Name: "good", Tenant: mds.DefaultTenant()}), f.enqueue(mds.Job{Name: "bad"})
		f.start("w1", f.jobs, func(ctx context.Context, run *jobs.Run) error {
			run.Parts(2)
			if got := run.Job(); got.Name == "bad" {
				run.Progress(1, 2, "looking for it")
				return errForGood
			} else if got.ID != done.ID || got.Tenant != mds.DefaultTenant() || got.Attempt != 1 {
				f.Errorf("it is told to do %+v", got)
			}
			err := run.PartDone(ctx, mds.JobPart{Name: "a", Written: 5, Failed: 1})
			run.Progress(3, 0, "half of b")
			if got := run.Job(); got.Written != 8 || got.Failed != 1 || got.PartsDone != 1 || !run.Done("a") || run.Done("b") {
				f.Errorf("half of it is %+v", got)
			}
			err = errors.Join(err, run.PartDone(ctx, mds.JobPart{Name: "b", Written: 6}))
			run.Progress(0, 0, "all")
			return err
		})
		got := f.await(done.ID, mds.JobDone)
		if got.JobProgress != (mds.JobProgress{Parts: 2, PartsDone: 2, Written: 11, Failed: 1, Note: "all"}) || got.Worker != "w1" || got.Version != "v1" || got.Attempt != 1 || got.Error != "" {
			f.Errorf("done is %+v", got)
		}
		if elapsed := got.Elapsed(time.Now()); elapsed <= 0 || elapsed != got.Finished.Sub(got.Started) || elapsed > 20*time.Second {
			f.Errorf("it took %v", elapsed)
		}
		if parts, err := f.jobs.Parts(context.Background(), done.ID); err != nil || len(parts) != 2 || parts[0].Name != "a" || parts[0].Written != 5 || parts[0].Failed != 1 || parts[1].Written != 6 {
			f.Errorf("%+v, %v", parts, err)
		}
		got = f.await(failed.ID, mds.JobFailed)
		if got.JobProgress != (mds.JobProgress{Parts: 2, Written: 1, Failed: 2, Note: "looking for it"}) || got.Error != "no such file" || got.Attempt != 1 {
			f.Errorf("failed is %+v", got)
		}
	})
}

// TestAgain has what passes be begun again on an engine: the parts that are done are not, and
// the rest is.
func TestAgain(t *testing.T) {
	engines(t, func(f *fleet) {
		job := f.enqueue(mds.Job{MaxAttempts: 2})
		lost := f.enqueue(mds.Job{MaxAttempts: 2, Name: "never"})
		var did []string
		f.start("w1", f.jobs, func(ctx context.Context, run *jobs.Run) error {
			if run.Job().Name == "never" {
				return passing{}
			}
			for _, part := range []string{"a", "b"} {
				if run.Done(part) {
					continue
				}
				did = append(did, part)
				if err := run.PartDone(ctx, mds.JobPart{Name: part, Written: 1}); err != nil {
					return err
				}
				if part == "a" {
					return passing{}
				}
			}
			return nil
		}, func(cfg *jobs.Config) { cfg.Concurrency = 1 })
		if got := f.await(job.ID, mds.JobDone); got.Attempt != 2 || got.PartsDone != 2 || got.Written != 2 || got.Error != "" || !slices.Equal(did, []string{"a", "b"}) {
			f.Errorf("%v, %+v", did, got)
		}
		if got := f.await(lost.ID, mds.JobFailed); got.Error != "the vendor is away; given up after attempt 2 of 2" {
			f.Errorf("%+v", got)
		}
	})
}

func TestPriority(t *testing.T) {
	engines(t, func(f *fleet) {
		var last mds.Job
		for _, job := range []mds.Job{{Name: "low", Priority: -1}, {Name: "first"}, {Name: "second"}, {Name: "high", Priority: 7}} {
			if job = f.enqueue(job); job.Name == "low" {
				last = job
			}
		}
		var order []string
		f.start("w1", f.jobs, func(_ context.Context, run *jobs.Run) error {
			order = append(order, run.Job().Name)
			return nil
		}, func(cfg *jobs.Config) { cfg.Concurrency = 1 })
		f.await(last.ID, mds.JobDone)
		if got := strings.Join(order, " "); got != "high first second low" {
			f.Errorf("they begin as %s", got)
		}
	})
}

// TestPanic has a panic be the failure of its job, and of nothing else.
func TestPanic(t *testing.T) {
	engines(t, func(f *fleet) {
		bad, good := f.enqueue(mds.Job{Name: "bad"}), f.enqueue(mds.Job{})
		f.start("w1", f.jobs, func(_ context.Context, run *jobs.Run) error {
			if run.Job().Name == "bad" {
				panic("poison")
			}
			return nil
		})
		f.await(good.ID, mds.JobDone)
		if got := f.await(bad.ID, mds.JobFailed); got.Error != "it panicked: poison" || got.Attempt != 1 {
			f.Errorf("%+v", got)
		}
	})
}

// TestCancel has a job that waits never begin, and one that runs end.
func TestCancel(t *testing.T) {
	engines(t, func(f *fleet) {
		runs, waits, after := f.enqueue(mds.Job{}), f.enqueue(mds.Job{Name: "waits"}), f.enqueue(mds.Job{Name: "after"})
		begun := make(chan struct{})
		f.start("w1", f.jobs, func(ctx context.Context, run *jobs.Run) error {
			switch run.Job().Name {
			case "waits":
				f.Error("it begins all the same")
			case "":
				close(begun)
				<-ctx.Done()
				return fmt.Errorf("a write: %w", ctx.Err())
			}
			return nil
		}, func(cfg *jobs.Config) { cfg.Concurrency, cfg.Lease = 1, 6*time.Second }) // it learns of it with the next word
		<-begun
		for _, id := range []string{waits.ID, runs.ID} {
			if _, err := f.jobs.Cancel(context.Background(), id); err != nil {
				f.Fatal(err)
			}
		}
		if got := f.await(runs.ID, mds.JobCancelled); got.Error != "it was cancelled" || got.Attempt != 1 || got.Finished.IsZero() {
			f.Errorf("%+v", got)
		}
		f.await(after.ID, mds.JobDone)
		if got := f.job(waits.ID); got.State != mds.JobCancelled || got.Attempt != 0 {
			f.Errorf("%+v", got)
		}
	})
}

// TestStop has a server stopped: what it runs is given back at once, spends no attempt, and
// another goes on with the parts that are not done.
func TestStop(t *testing.T) {
	engines(t, func(f *fleet) {
		job := f.enqueue(mds.Job{MaxAttempts: 1})
		var did []string
		halfway := make(chan struct{})
		action := func(stops bool) jobs.Action {
			return func(ctx context.Context, run *jobs.Run) error {
				for _, part := range []string{"a", "b"} {
					if run.Done(part) {
						continue
					}
					if part == "b" && stops {
						close(halfway)
						<-ctx.Done()
						return ctx.Err()
					}
					did = append(did, part)
					if err := run.PartDone(ctx, mds.JobPart{Name: part, Written: 2}); err != nil {
						return err
					}
				}
				return nil
			}
		}
		first := f.start("w1", f.open(), action(true), func(cfg *jobs.Config) { cfg.Lease = time.Hour })
		<-halfway
		if err := first.Stop(f.Context()); err != nil {
			f.Fatal(err)
		}
		if got := f.job(job.ID); got.State != mds.JobQueued || got.Error != "" || got.Attempt != 1 || got.MaxAttempts != 2 || got.PartsDone != 1 || got.Written != 2 {
			f.Errorf("given back is %+v", got)
		}
		f.start("w2", f.open(), action(false))
		if got := f.await(job.ID, mds.JobDone); got.Worker != "w2" || got.Attempt != 2 || got.Written != 4 || !slices.Equal(did, []string{"a", "b"}) {
			f.Errorf("%v, %+v", did, got)
		}
	})
}

// mute is a server whose heartbeats go nowhere, of which it knows nothing.
type mute struct{ store.Jobs }

func (mute) Beat(context.Context, mds.Job, time.Duration) (bool, error) { return false, nil }

// TestTakenOver has a server die, as far as the others know: its job is taken over when its
// lease has ended, with its parts. It comes to life again, and changes nothing of it.
func TestTakenOver(t *testing.T) {
	engines(t, func(f *fleet) {
		job := f.enqueue(mds.Job{})
		begun, heir, finished := make(chan struct{}), make(chan struct{}), make(chan struct{})
		dead := make(chan error, 2)
		runner := f.start("dead", mute{f.open()}, func(ctx context.Context, run *jobs.Run) error {
			if err := run.PartDone(ctx, mds.JobPart{Name: "a", Written: 1}); err != nil {
				f.Error(err)
			}
			close(begun)
			<-heir
			err := run.PartDone(ctx, mds.JobPart{Name: "b", Written: 100})
			dead <- err
			<-ctx.Done()
			dead <- context.Cause(ctx)
			return err
		}, func(cfg *jobs.Config) { cfg.Concurrency, cfg.Lease = 1, quick })
		<-begun
		f.start("heir", f.open(), func(ctx context.Context, run *jobs.Run) error {
			if !run.Done("a") || run.Done("b") || run.Job().Attempt != 2 || run.Job().Written != 1 {
				f.Errorf("taken over is %+v", run.Job())
			}
			close(heir)
			for range 2 { // of what it tries, and of why it ends
				if err := <-dead; !errors.Is(err, mds.ErrJobLost) {
					f.Errorf("the dead one is told %v", err)
				}
			}
			if err := runner.Stop(ctx); err != nil { // it says what became of the job
				f.Error(err)
			}
			close(finished)
			return run.PartDone(ctx, mds.JobPart{Name: "b", Written: 2})
		}, func(cfg *jobs.Config) { cfg.Lease = time.Hour })
		<-finished
		if got := f.await(job.ID, mds.JobDone); got.Worker != "heir" || got.Attempt != 2 || got.Written != 3 || got.PartsDone != 2 || got.Error != "" {
			f.Errorf("%+v", got)
		}
	})
}

// gone is a server whose store is gone, once it is said.
type gone struct {
	store.Jobs
	said atomic.Bool
}

func (g *gone) err() error {
	if g.said.Load() {
		return away{}
	}
	return nil
}

func (g *gone) Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (mds.Job, bool, error) {
	if err := g.err(); err != nil {
		return mds.Job{}, false, err
	}
	return g.Jobs.Claim(ctx, worker, version, actions, lease)
}

func (g *gone) Beat(ctx context.Context, job mds.Job, lease time.Duration) (bool, error) {
	if err := g.err(); err != nil {
		return false, err
	}
	return g.Jobs.Beat(ctx, job, lease)
}

func (g *gone) Finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time) error {
	return errors.Join(g.err(), g.Jobs.Finish(ctx, job, state, again))
}

// TestCutOff has a server lose its way to the store: it ends the job before another begins it.
func TestCutOff(t *testing.T) {
	engines(t, func(f *fleet) {
		job := f.enqueue(mds.Job{})
		g := &gone{Jobs: f.open()}
		var running atomic.Int32
		once := func() {
			if running.Add(1) != 1 {
				f.Error("two run it at once")
			}
		}
		begun := make(chan struct{}, 1)
		f.start("cut off", g, func(ctx context.Context, _ *jobs.Run) error {
			once()
			begun <- struct{}{}
			<-ctx.Done()
			running.Add(-1)
			return ctx.Err()
		}, func(cfg *jobs.Config) { cfg.Lease = quick })
		<-begun
		g.said.Store(true)
		f.start("heir", f.open(), func(context.Context, *jobs.Run) error {
			once()
			running.Add(-1)
			return nil
		})
		if got := f.await(job.ID, mds.JobDone); got.Worker != "heir" || got.Attempt != 2 {
			f.Errorf("%+v", got)
		}
	})
}

// TestEachOnce has a thousand jobs run on two servers: each once.
func TestEachOnce(t *testing.T) {
	f := newFleet(t, onServer(t))
	const all = 1000
	for n := range all {
		f.enqueue(mds.Job{Name: strconv.Itoa(n), Priority: n % 3})
	}
	var mu sync.Mutex
	runs, by := map[string]int{}, map[string]int{}
	ended := make(chan struct{})
	count := 0
	action := func(_ context.Context, run *jobs.Run) error {
		mu.Lock()
		defer mu.Unlock()
		runs[run.Job().Name]++
		by[run.Job().Worker]++
		if count++; count == all {
			close(ended)
		}
		return nil
	}
	servers := []store.Jobs{f.open(), f.open()}
	begun := time.Now()
	var runners []*jobs.Runner
	for n, j := range servers {
		runners = append(runners, f.start(fmt.Sprint("w", n), j, action, func(cfg *jobs.Config) { cfg.Lease, cfg.Poll, cfg.Concurrency = 0, 0, 8 }))
	}
	<-ended
	took := time.Since(begun)
	for _, r := range runners {
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
	}
	for name, n := range runs {
		if n != 1 {
			t.Errorf("%s was run %d times", name, n)
		}
	}
	counts, err := f.jobs.Summary(t.Context(), mds.JobFilter{})
	if err != nil || len(runs) != all || len(counts) != 1 || counts[0].State != mds.JobDone || counts[0].Jobs != all {
		t.Errorf("%d were run; %+v, %v", len(runs), counts, err)
	}
	if by["w0"] < all/10 || by["w1"] < all/10 {
		t.Errorf("they share as %v", by)
	}
	t.Logf("%d jobs on two servers in %v, shared as %v", all, took.Round(time.Millisecond), by)
}

// TestPickUp has a job of another server begin within a second, and one of this server at once.
func TestPickUp(t *testing.T) {
	f := newFleet(t, onServer(t))
	begun := make(chan struct{})
	action := func(context.Context, *jobs.Run) error {
		begun <- struct{}{}
		return nil
	}
	r := f.start("w1", f.open(), action, func(cfg *jobs.Config) { cfg.Lease, cfg.Poll = 0, 0 })
	for range 5 {
		asked := time.Now()
		f.enqueue(mds.Job{})
		<-begun
		if took := time.Since(asked); took > time.Second {
			t.Errorf("it is begun after %v", took)
		}
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	r = f.start("w1", f.open(), action, func(cfg *jobs.Config) { cfg.Lease, cfg.Poll = 0, time.Hour })
	for range 5 {
		f.enqueue(mds.Job{})
		r.Wake()
		<-begun
	}
}

// TestIdle has a server that looks for jobs write nothing into a database where there are none
// to do.
func TestIdle(t *testing.T) {
	f := newFleet(t, pgtest.Own(t, "autovacuum = off").Database(t, migrate).Service) // where nobody else has transactions
	f.start("w1", f.jobs, func(context.Context, *jobs.Run) error { return nil })
	f.await(f.enqueue(mds.Job{}).ID, mds.JobDone)
	c := &counted{Jobs: f.open()}
	f.start("w2", c, func(context.Context, *jobs.Run) error { return nil }, func(cfg *jobs.Config) { cfg.Poll = 2 * time.Millisecond })
	// A transaction that writes has a number.
	next := func() (n int64) {
		if _, err := fmt.Sscan(pgtest.Ask(t, f.dsn, "SELECT pg_snapshot_xmax(pg_current_snapshot())::text::bigint"), &n); err != nil {
			t.Fatal(err)
		}
		return n
	}
	before := next()
	c.await(200)
	if wrote := next() - before; wrote > 10 { // of the server's own
		t.Errorf("%d transactions wrote in 200 polls", wrote)
	}
}

// counted counts polls.
type counted struct {
	store.Jobs
	mu    sync.Mutex
	polls int
	want  int
	there chan struct{}
}

func (c *counted) await(n int) {
	c.mu.Lock()
	c.want, c.there = c.polls+n, make(chan struct{})
	c.mu.Unlock()
	<-c.there
}

func (c *counted) Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (mds.Job, bool, error) {
	c.mu.Lock()
	if c.polls++; c.there != nil && c.polls == c.want {
		close(c.there)
	}
	c.mu.Unlock()
	return c.Jobs.Claim(ctx, worker, version, actions, lease)
}

// TestMetrics has each action and outcome be exported at 0, and what is run be counted.
func TestMetrics(t *testing.T) {
	f := newFleet(t, "duckdb://"+t.TempDir())
	reg := prometheus.NewRegistry()
	metrics, err := jobs.NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	if n, err := testutil.GatherAndCount(reg, "store_job_runs_total"); err != nil || n != 7*4 {
		t.Errorf("%d series, %v", n, err)
	}
	if n, err := testutil.GatherAndCount(reg, "store_job_runs_duration_seconds"); err != nil || n != 7 {
		t.Errorf("%d series, %v", n, err)
	}
	attempts := 0
	r := f.start("w1", f.jobs, func(_ context.Context, run *jobs.Run) error {
		switch run.Job().Name {
		case "fails":
			return errForGood
		case "again":
			if attempts++; attempts == 1 {
				return passing{}
			}
		}
		return nil
	}, func(cfg *jobs.Config) { cfg.Metrics = metrics })
	for name, state := range map[string]mds.JobState{"": mds.JobDone, "fails": mds.JobFailed, "again": mds.JobDone} {
		f.await(f.enqueue(mds.Job{Name: name}).ID, state)
	}
	if err := r.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	want.WriteString("# HELP store_job_runs_total Attempts of jobs that ended, by the state that they left.\n# TYPE store_job_runs_total counter\n")
	for _, action := range []string{"backfill", "compact", "export", "migrate", "policies", "refresh", "replay"} {
		counts := [4]int{}
		if action == "refresh" {
			counts = [4]int{0, 2, 1, 1}
		}
		for i, status := range []string{"cancelled", "done", "failed", "queued"} {
			fmt.Fprintf(&want, "store_job_runs_total{name=%q,status=%q} %d\n", action, status, counts[i])
		}
	}
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want.String()), "store_job_runs_total"); err != nil {
		t.Error(err)
	}
}
