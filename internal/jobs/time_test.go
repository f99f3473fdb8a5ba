package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/store"
)

// bubble runs a test with a runner of refreshes, of which the leases are of 30 seconds.
func bubble(t *testing.T, test func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner)) {
	synctest.Test(t, func(t *testing.T) {
		m := &memory{}
		test(t, m, func(action jobs.Action, settings ...func(*jobs.Config)) *jobs.Runner {
			cfg := jobs.Config{Jobs: m, Actions: map[mds.JobAction]jobs.Action{mds.JobRefresh: action}, Worker: "w1", Version: "v1"}
			for _, set := range settings {
				set(&cfg)
			}
			r := jobs.Start(t.Context(), cfg)
			t.Cleanup(func() {
				m.breaks(nil)
				if err := r.Stop(context.Background()); err != nil {
					t.Error(err)
				}
			})
			return r
		})
	})
}

// pass has time pass.
func pass(d time.Duration) { <-time.After(d) }

// TestBackoff has a job that fails of what passes be begun again, later each time, and ended
// when it was begun as often as it may be, or at once where what stops it stays.
func TestBackoff(t *testing.T) {
	for _, test := range []struct {
		name  string
		errs  []error // of the attempts; then it is done
		most  int
		waits [][2]time.Duration // before the second attempt, and so on: at least, at most
		state mds.JobState
		error string
	}{
		{"passes", []error{passing{}, away{}, passing{}}, 5, [][2]time.Duration{{2500, 5000}, {5000, 10_000}, {10_000, 20_000}}, mds.JobDone, ""},
		{"stays", []error{errForGood}, 5, nil, mds.JobFailed, "no such file"},
		{"passes, then stays", []error{passing{}, errForGood}, 5, [][2]time.Duration{{2500, 5000}}, mds.JobFailed, "no such file"},
		{"attempts run out", []error{passing{}, passing{}, passing{}}, 3, [][2]time.Duration{{2500, 5000}, {5000, 10_000}}, mds.JobFailed, "the vendor is away; given up after attempt 3 of 3"},
		{"says when", []error{passing{2 * time.Minute}, passing{100 * time.Hour}}, 5, [][2]time.Duration{{120_000, 120_000}, {3_600_000, 3_600_000}}, mds.JobDone, ""},
		{"within bounds", slices.Repeat([]error{passing{}}, 10), 20, append([][2]time.Duration{{2500, 5000}, {5000, 10_000}, {10_000, 20_000}, {20_000, 40_000}, {40_000, 80_000}, {80_000, 160_000}},
			slices.Repeat([][2]time.Duration{{150_000, 300_000}}, 4)...), mds.JobDone, ""},
	} {
		t.Run(test.name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
				m.add(mds.Job{Action: mds.JobRefresh, MaxAttempts: test.most})
				var begun []time.Time
				start(func(context.Context, *jobs.Run) error {
					if begun = append(begun, time.Now()); len(begun) <= len(test.errs) {
						return fmt.Errorf("wrapped: %w", test.errs[len(begun)-1])
					}
					return nil
				})
				pass(3 * time.Hour)
				synctest.Wait()
				if test.error != "" {
					test.error = "wrapped: " + test.error
				}
				if got := m.first(); got.State != test.state || got.Error != test.error || got.Attempt != len(test.waits)+1 || len(begun) != got.Attempt {
					t.Errorf("%s after attempt %d of %d begun: %s", got.State, got.Attempt, len(begun), got.Error)
				}
				for i, want := range test.waits {
					const poll = 500 * time.Millisecond
					if got := begun[i+1].Sub(begun[i]); got < want[0]*time.Millisecond || got > want[1]*time.Millisecond+poll {
						t.Errorf("attempt %d begins after %v, want %v to %v ms", i+2, got, int64(want[0]), int64(want[1]))
					}
				}
			})
		})
	}
}

// TestBeats has a job that runs for a day be this server's all the time, and its progress be
// kept, though the store is away, or does not answer, now and then for less than a lease.
func TestBeats(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		begun := 0
		action := func(ctx context.Context, run *jobs.Run) error {
			begun++
			for minute := range int64(24 * 60) {
				run.Progress(minute, 0, "at work")
				select {
				case <-time.After(time.Minute):
				case <-ctx.Done():
					return context.Cause(ctx)
				}
			}
			return nil
		}
		start(action)
		start(action, func(cfg *jobs.Config) { cfg.Worker = "w2" })
		for n := range 20 {
			pass(time.Hour)
			m.breaks(func(context.Context, string) error { return away{} })
			length := 15 * time.Second
			if n%2 == 1 { // a connection that is dead costs one beat
				length = 8 * time.Second
				m.breaks(func(ctx context.Context, op string) error {
					if op != "beat" {
						return away{}
					}
					<-ctx.Done()
					return ctx.Err()
				})
			}
			pass(length)
			m.breaks(nil)
		}
		if got := m.first(); got.Written < 20*60-1 || got.Note != "at work" || got.State != mds.JobRunning {
			t.Errorf("%+v", got)
		}
		pass(5 * time.Hour)
		if got := m.first(); got.State != mds.JobDone || got.Attempt != 1 || begun != 1 {
			t.Errorf("%s after attempt %d, %d begun: %s", got.State, got.Attempt, begun, got.Error)
		}
	})
}

// TestSilent has the store be away, or not answer, for longer than a lease: the action ends
// before another server could have the job, and is begun again; the attempt does not count.
func TestSilent(t *testing.T) {
	for name, fault := range map[string]func(ctx context.Context, op string) error{
		"away": func(context.Context, string) error { return away{} },
		"hangs": func(ctx context.Context, _ string) error {
			<-ctx.Done()
			return ctx.Err()
		},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
				m.add(mds.Job{Action: mds.JobRefresh})
				var ended []time.Time
				start(func(ctx context.Context, _ *jobs.Run) error {
					if len(ended) > 0 {
						return nil
					}
					<-ctx.Done()
					ended = append(ended, time.Now())
					return ctx.Err()
				})
				pass(15 * time.Second) // one beat, at ten
				m.breaks(fault)
				until := m.first().LeaseUntil.Add(-3 * time.Second)
				pass(10 * time.Minute)
				synctest.Wait()
				if len(ended) != 1 || !ended[0].Equal(until) {
					t.Errorf("it ended at %v, want %v, 3 seconds before its lease", ended, until)
				}
				m.breaks(nil)
				pass(15 * time.Second)
				synctest.Wait()
				if got := m.first(); got.State != mds.JobDone || got.Attempt != 2 || got.MaxAttempts != 6 {
					t.Errorf("it is %+v", got)
				}
			})
		})
	}
}

// TestBeatLost has a server learn with its next word that a job is another's: its action ends
// then, and it keeps nothing of it.
func TestBeatLost(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		var why error
		var ended time.Duration
		begun := time.Now()
		start(func(ctx context.Context, _ *jobs.Run) error {
			<-ctx.Done()
			why, ended = context.Cause(ctx), time.Since(begun)
			return ctx.Err()
		})
		pass(time.Second)
		m.mu.Lock()
		m.jobs[0].Worker, m.jobs[0].Attempt, m.jobs[0].LeaseUntil = "w2", 2, time.Now().Add(time.Hour)
		m.mu.Unlock()
		pass(time.Minute)
		synctest.Wait()
		if !errors.Is(why, mds.ErrJobLost) || ended > 11*time.Second {
			t.Errorf("it ended after %v: %v", ended, why)
		}
		if got := m.first(); got.State != mds.JobRunning || got.Worker != "w2" || got.Attempt != 2 || got.Error != "" {
			t.Errorf("%+v", got)
		}
	})
}

// TestOutageAtTheEnd has what became of a job be kept when the store is back, however long
// that takes: the job is not begun again.
func TestOutageAtTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh, MaxAttempts: 1})
		begun := 0
		start(func(_ context.Context, run *jobs.Run) error {
			begun++
			m.breaks(func(context.Context, string) error { return away{} })
			run.Progress(7, 0, "all of it")
			return nil
		})
		pass(time.Hour)
		m.breaks(nil)
		pass(time.Minute)
		synctest.Wait()
		if got := m.first(); got.State != mds.JobDone || got.Written != 7 || got.Attempt != 1 || begun != 1 {
			t.Errorf("%d begun, %+v", begun, got)
		}
	})
}

// TestEndCannotBeKept has a store that refuses what became of a job for good, and a server
// that is stopped while the store is away: neither holds the server up for ever.
func TestEndCannotBeKept(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		fails := func(err error) func(context.Context, string) error {
			return func(_ context.Context, op string) error {
				if op == "finish" {
					return err
				}
				return nil
			}
		}
		m.add(mds.Job{Action: mds.JobRefresh})
		m.breaks(fails(errForGood))
		r := start(func(context.Context, *jobs.Run) error { return nil }, func(cfg *jobs.Config) { cfg.Concurrency = 1 })
		pass(29 * time.Second)
		if got := m.first(); got.Attempt != 1 {
			t.Errorf("it was begun %d times", got.Attempt)
		}
		pass(10 * time.Second) // its lease is over, and its place is free
		if got := m.first(); got.Attempt != 2 {
			t.Errorf("it was begun %d times", got.Attempt)
		}
		m.breaks(fails(away{}))
		stopped := time.Now()
		if err := r.Stop(t.Context()); err != nil || time.Since(stopped) > 11*time.Second {
			t.Errorf("it stopped after %v, %v", time.Since(stopped), err)
		}
	})
}

// TestPartWaits has a part that is done be kept when the store is back, and not done again.
func TestPartWaits(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		var done []string
		start(func(ctx context.Context, run *jobs.Run) error {
			run.Parts(2)
			for _, name := range []string{"a", "b"} {
				if run.Done(name) {
					continue
				}
				done = append(done, name)
				if name == "b" {
					m.breaks(func(context.Context, string) error { return away{} })
				}
				if err := run.PartDone(ctx, mds.JobPart{Name: name, Written: 1}); err != nil {
					return err
				}
			}
			return nil
		})
		pass(20 * time.Second)
		m.breaks(nil)
		pass(time.Minute)
		synctest.Wait()
		if got := m.first(); got.State != mds.JobDone || got.PartsDone != 2 || got.Written != 2 || got.Attempt != 1 || len(done) != 2 {
			t.Errorf("%v done, %+v", done, got)
		}
	})
}

// TestPolls has an idle server look for jobs a few times a second, however many it may run,
// and not in step with others.
func TestPolls(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		start(func(context.Context, *jobs.Run) error { return nil }, func(cfg *jobs.Config) { cfg.Concurrency = 8 })
		pass(10 * time.Minute)
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		pauses := map[time.Duration]bool{}
		for i := range m.claims[1:] {
			pause := m.claims[i+1].Sub(m.claims[i])
			if pauses[pause] = true; pause < 250*time.Millisecond || pause > 501*time.Millisecond {
				t.Fatalf("it looks again after %v", pause)
			}
		}
		if len(m.claims) < 1200 || len(m.claims) > 2400 || len(pauses) < 1000 {
			t.Errorf("%d polls, %d different pauses", len(m.claims), len(pauses))
		}
	})
}

// TestStopWhileClaiming has a server stopped while the store begins a job for it: the job is
// given back, and spends no attempt.
func TestStopWhileClaiming(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh, MaxAttempts: 1})
		m.breaks(func(ctx context.Context, op string) error {
			if op != "claim" {
				return ctx.Err()
			}
			select { // the store is slow
			case <-time.After(time.Second):
				return nil
			case <-ctx.Done():
				return ctx.Err()
			}
		})
		r := start(func(ctx context.Context, _ *jobs.Run) error {
			<-ctx.Done()
			return ctx.Err()
		})
		pass(time.Second / 2)
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := m.first(); got.State != mds.JobQueued || got.Attempt != 1 || got.MaxAttempts != 2 || got.Error != "" {
			t.Errorf("%+v", got)
		}
	})
}

// justBegun tells that the store has begun a job, whose runner learns of it when it is let go on.
type justBegun struct {
	store.Jobs
	begun, goOn chan struct{}
}

func (j justBegun) Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (mds.Job, bool, error) {
	job, ok, err := j.Jobs.Claim(ctx, worker, version, actions, lease)
	if ok {
		j.begun <- struct{}{}
		<-j.goOn
	}
	return job, ok, err
}

// TestAskedWhileClaiming has a job be cancelled through its server when the store has begun it,
// and the server does not know of it yet: it ends at once.
func TestAskedWhileClaiming(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		j := justBegun{m, make(chan struct{}), make(chan struct{})}
		ended := make(chan time.Time, 1)
		r := start(func(ctx context.Context, _ *jobs.Run) error {
			<-ctx.Done()
			ended <- time.Now()
			return ctx.Err()
		}, func(cfg *jobs.Config) { cfg.Jobs = j })
		<-j.begun
		m.mu.Lock()
		m.jobs[0].CancelRequested = true
		m.mu.Unlock()
		asked := time.Now()
		r.Ask(m.first().ID)
		close(j.goOn)
		if took := (<-ended).Sub(asked); took != 0 {
			t.Errorf("it ends %v after it was cancelled", took)
		}
	})
}

// TestGivenBackOnce has a server stopped that runs a job while it looks for another: it does
// not begin the one that it gives back.
func TestGivenBackOnce(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		r := start(func(ctx context.Context, _ *jobs.Run) error {
			<-ctx.Done()
			return ctx.Err()
		})
		pass(time.Second)
		m.breaks(func(_ context.Context, op string) error {
			if op == "claim" { // the store is slow
				pass(time.Second)
			}
			return nil
		})
		r.Wake()
		pass(time.Second / 2)
		if err := r.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if got := m.first(); got.State != mds.JobQueued || got.Attempt != 1 || got.MaxAttempts != 6 {
			t.Errorf("%+v", got)
		}
	})
}

// TestClaimLost has the answer to a claim be lost on its way: the job is given back at once and
// spends no attempt, while another that this server runs goes on.
func TestClaimLost(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		var mu sync.Mutex
		begun := map[string]int{}
		r := start(func(ctx context.Context, run *jobs.Run) error {
			mu.Lock()
			begun[run.Job().ID]++
			mu.Unlock()
			if run.Job().ID == "1" {
				<-ctx.Done()
			}
			return ctx.Err()
		})
		pass(time.Second)
		m.mu.Lock()
		m.lose = true
		m.mu.Unlock()
		m.add(mds.Job{Action: mds.JobRefresh, MaxAttempts: 1})
		r.Wake()
		pass(2 * time.Second)
		synctest.Wait()
		m.mu.Lock()
		defer m.mu.Unlock()
		if got := m.jobs[1]; got.State != mds.JobDone || got.Attempt != 2 || got.MaxAttempts != 2 || begun["2"] != 1 {
			t.Errorf("it was begun %d times here, %+v", begun["2"], got)
		}
		if got := m.jobs[0]; got.State != mds.JobRunning || got.Attempt != 1 || begun["1"] != 1 {
			t.Errorf("the other was begun %d times, %+v", begun["1"], got)
		}
	})
}

// TestStopIsBounded has an action that does not end: Stop does.
func TestStopIsBounded(t *testing.T) {
	bubble(t, func(t *testing.T, m *memory, start func(jobs.Action, ...func(*jobs.Config)) *jobs.Runner) {
		m.add(mds.Job{Action: mds.JobRefresh})
		release := make(chan struct{})
		r := start(func(context.Context, *jobs.Run) error {
			<-release
			return nil
		})
		pass(time.Second)
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		if err := r.Stop(ctx); !errors.Is(err, context.DeadlineExceeded) || err.Error() != "jobs that run do not end: context deadline exceeded" {
			t.Error(err)
		}
		close(release)
		if err := r.Stop(t.Context()); err != nil { // again
			t.Error(err)
		}
	})
}
