package jobs_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// memory keeps jobs by the clock of a bubble: those of an engine go by the clock of the
// database, which stands outside of it, so that no lease of theirs would end there.
type memory struct {
	store.Jobs // the rest is not called

	mu     sync.Mutex
	jobs   []*mds.Job
	parts  []mds.JobPart
	claims []time.Time
	lose   bool                                       // the answer to the next claim
	fault  func(ctx context.Context, op string) error // before a call, or nil
}

func (m *memory) call(ctx context.Context, op string) error {
	m.mu.Lock()
	fault := m.fault
	m.mu.Unlock()
	if fault == nil {
		return nil
	}
	return fault(ctx, op)
}

// breaks has calls fail, or be held up; nil has them be well.
func (m *memory) breaks(fault func(ctx context.Context, op string) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.fault = fault
}

func (m *memory) add(job mds.Job) {
	m.mu.Lock()
	defer m.mu.Unlock()
	job.ID, job.State = strconv.Itoa(len(m.jobs)+1), mds.JobQueued
	if job.MaxAttempts == 0 {
		job.MaxAttempts = mds.DefaultJobAttempts
	}
	m.jobs = append(m.jobs, &job)
}

// first is the job that was made first.
func (m *memory) first() mds.Job {
	m.mu.Lock()
	defer m.mu.Unlock()
	return *m.jobs[0]
}

func (m *memory) Claim(ctx context.Context, worker, version string, _ []mds.JobAction, lease time.Duration) (mds.Job, bool, error) {
	if err := m.call(ctx, "claim"); err != nil {
		return mds.Job{}, false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	now := time.Now()
	m.claims = append(m.claims, now)
	for _, j := range m.jobs {
		if j.State == mds.JobQueued && !j.NotBefore.After(now) || j.State == mds.JobRunning && !j.LeaseUntil.After(now) {
			j.State, j.Worker, j.Version, j.LeaseUntil, j.Heartbeat = mds.JobRunning, worker, version, now.Add(lease), now
			j.Attempt++
			if m.lose {
				m.lose = false
				return mds.Job{}, false, away{}
			}
			return *j, true, nil
		}
	}
	return mds.Job{}, false, nil
}

func (m *memory) List(ctx context.Context, f mds.JobFilter) (list []mds.Job, err error) {
	if err := m.call(ctx, "list"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, j := range m.jobs {
		if slices.Contains(f.States, j.State) {
			job := *j
			job.Params, job.Symbols = nil, nil // as a list has them
			list = append(list, job)
		}
	}
	return list, nil
}

// attempt is the job of an attempt that is not lost.
func (m *memory) attempt(job mds.Job) (*mds.Job, error) {
	for _, j := range m.jobs {
		if j.ID == job.ID && j.State == mds.JobRunning && j.Worker == job.Worker && j.Attempt == job.Attempt {
			return j, nil
		}
	}
	return nil, fmt.Errorf("%w: %s", mds.ErrJobLost, job.ID)
}

func (m *memory) Beat(ctx context.Context, job mds.Job, lease time.Duration) (bool, error) {
	if err := m.call(ctx, "beat"); err != nil {
		return false, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j, err := m.attempt(job)
	if err != nil {
		return false, err
	}
	j.JobProgress, j.Heartbeat, j.LeaseUntil = job.JobProgress, time.Now(), time.Now().Add(lease)
	return j.CancelRequested, nil
}

func (m *memory) Parts(ctx context.Context, _ string) ([]mds.JobPart, error) {
	if err := m.call(ctx, "parts"); err != nil {
		return nil, err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.parts, nil
}

func (m *memory) PartDone(ctx context.Context, job mds.Job, part mds.JobPart) error {
	if err := m.call(ctx, "part"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j, err := m.attempt(job)
	if err == nil {
		m.parts, j.JobProgress = append(m.parts, part), job.JobProgress
	}
	return err
}

func (m *memory) Finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time) error {
	if err := m.call(ctx, "finish"); err != nil {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	j, err := m.attempt(job)
	if err == nil {
		j.State, j.NotBefore, j.Error, j.JobProgress, j.MaxAttempts = state, again, job.Error, job.JobProgress, job.MaxAttempts
	}
	return err
}

// away is a store that is not well.
type away struct{}

func (away) Error() string     { return "the store is away" }
func (away) Retryable() bool   { return true }
func (away) Unavailable() bool { return true }

// passing is what stops a job and passes.
type passing struct{ after time.Duration }

func (passing) Error() string               { return "the vendor is away" }
func (passing) Retryable() bool             { return true }
func (p passing) RetryAfter() time.Duration { return p.after }

var errForGood = errors.New("no such file")
