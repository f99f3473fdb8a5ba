package server

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/jobs"
)

// startJobs runs what is to be done.
func (s *Server) startJobs() {
	if s.cfg.Jobs == nil {
		return
	}
	s.jobs = jobs.Start(s.background, jobs.Config{
		Jobs: s.cfg.Jobs.Jobs, Actions: s.actions(), Worker: s.cfg.Jobs.Worker, Version: s.cfg.Version,
		Lease: s.cfg.Jobs.Lease, Poll: s.cfg.Jobs.Poll, Backoff: s.cfg.Jobs.Backoff, Concurrency: s.cfg.Jobs.Concurrency, Metrics: s.jobMetrics, Logger: s.cfg.Logger,
	})
	if s.cfg.Jobs.Concurrency >= 0 {
		s.timers.Go(s.forgetJobs)
	}
	if every := s.cfg.Jobs.PoliciesEvery; every > 0 {
		s.timers.Go(func() { s.everySoOften(every) })
	}
}

// everySoOften makes jobs that carry out policies, until the server is to end. Of servers
// that do so at the same time one makes it.
func (s *Server) everySoOften(every time.Duration) {
	ctx, stop := until(s.background, s.drain)
	defer stop()
	for ctx.Err() == nil {
		due := time.Now().Truncate(every)
		if err := s.policiesDue(ctx, every, due); err != nil && ctx.Err() == nil {
			s.cfg.Logger.Warn("policies are not carried out this time", "error", err)
		}
		s.jobs.Wake()
		select {
		case <-time.After(time.Until(due.Add(every))):
		case <-ctx.Done():
		}
	}
}

// policiesDue makes a job that carries out policies, unless one waits or runs that does the same.
func (s *Server) policiesDue(ctx context.Context, every time.Duration, due time.Time) error {
	there, err := s.cfg.Jobs.Jobs.List(ctx, mds.JobFilter{Common: true, Actions: []mds.JobAction{mds.JobPolicies}, States: []mds.JobState{mds.JobQueued, mds.JobRunning}, Limit: mostJobs})
	if err != nil || slices.ContainsFunc(there, func(j mds.Job) bool { return j.State == mds.JobRunning || !j.NotBefore.After(due.Add(every)) }) {
		return err
	}
	_, _, err = s.cfg.Jobs.Jobs.Enqueue(ctx, mds.Job{Action: mds.JobPolicies, Name: "every " + every.String(), Key: fmt.Sprintf("every-%s-%d", every, due.Unix())})
	return err
}

// forgetJobs removes jobs that ended long ago, until the server is to end.
func (s *Server) forgetJobs() {
	ctx, stop := until(s.background, s.drain)
	defer stop()
	often := time.NewTicker(time.Hour)
	defer often.Stop()
	for {
		select {
		case <-often.C:
		case <-ctx.Done():
			return
		}
		n, err := s.cfg.Jobs.Jobs.Cleanup(ctx, time.Now().Add(-jobsKept))
		switch {
		case err != nil && ctx.Err() == nil:
			s.cfg.Logger.Warn("jobs that ended long ago are not removed this time", "error", err)
		case n > 0:
			s.cfg.Logger.Info("jobs that ended long ago are removed", "jobs", n)
		}
	}
}

// jobsKept is how long what is known of a job is kept after its end.
const jobsKept = 30 * 24 * time.Hour
