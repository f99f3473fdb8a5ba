package remote

import (
	"context"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// Jobs are those of a store behind a server, of one tenant and of all. They are run there.
type Jobs struct {
	c      *client.Client
	tenant mds.Tenant
}

// OpenJobs returns the jobs that a tenant may know of; the zero one is that of the key.
func OpenJobs(s *Store, tenant mds.Tenant) *Jobs { return &Jobs{s.Client, tenant} }

// Enqueue has a server do a job. Whether it was made before is not known: made is true.
func (j *Jobs) Enqueue(ctx context.Context, job mds.Job) (kept mds.Job, made bool, err error) {
	request := client.JobRequest{
		Action: string(job.Action), Name: job.Name, Params: job.Params, Key: job.Key, Priority: job.Priority, Mode: string(job.Mode),
		Dataset: job.Dataset, Vendor: job.Vendor, Symbols: job.Symbols, Start: instant(job.Start), End: instant(job.End), NotBefore: instant(job.NotBefore),
		MaxAttempts: job.MaxAttempts, AllTenants: job.Tenant.ID == "",
	}
	tenant := job.Tenant
	if tenant.ID == "" {
		tenant = j.tenant
	}
	wire, err := j.c.Enqueue(ctx, tenant, request)
	return jobOf(&wire), err == nil, err
}

func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// jobOf is a job as it was told. Of its tenant the id is not.
func jobOf(w *client.Job) mds.Job {
	job := mds.Job{
		ID: w.ID, Action: mds.JobAction(w.Action), Name: w.Name, Params: w.Params, Key: w.Key, Priority: w.Priority, Mode: mds.JobMode(w.Mode),
		Dataset: w.Dataset, Vendor: w.Vendor, Symbols: w.Symbols, Fingerprint: w.Fingerprint, By: w.By, State: mds.JobState(w.State),
		Worker: w.Worker, Version: w.Version, Attempt: w.Attempt, MaxAttempts: w.MaxAttempts, CancelRequested: w.CancelRequested, Error: w.Error,
		JobProgress: mds.JobProgress{Parts: w.Parts, PartsDone: w.PartsDone, Written: w.Written, Failed: w.Failed, Note: w.Note},
	}
	job.Tenant.Slug = w.Tenant
	for _, at := range []struct {
		from *time.Time
		to   *time.Time
	}{
		{w.Start, &job.Start}, {w.End, &job.End}, {w.Created, &job.Created}, {w.NotBefore, &job.NotBefore}, {w.Started, &job.Started},
		{w.Finished, &job.Finished}, {w.Heartbeat, &job.Heartbeat},
	} {
		if at.from != nil {
			*at.to = at.from.UTC()
		}
	}
	return job
}

// Job finds a job, or fails with [mds.ErrUnknownJob].
func (j *Jobs) Job(ctx context.Context, id string) (mds.Job, error) {
	w, err := j.c.Job(ctx, j.tenant, id)
	return jobOf(&w), err
}

// Cancel has a job end.
func (j *Jobs) Cancel(ctx context.Context, id string) (mds.Job, error) {
	w, err := j.c.CancelJob(ctx, j.tenant, id)
	return jobOf(&w), err
}

// List lists jobs without their params and symbols, the newest first. Whose they are the filter does not say.
func (j *Jobs) List(ctx context.Context, filter mds.JobFilter) (list []mds.Job, err error) {
	const page = 1000
	all := filter.Limit
	for {
		filter.Limit = page
		if all > 0 {
			filter.Limit = min(page, all-len(list))
		}
		got, err := j.c.ListJobs(ctx, j.tenant, filter)
		if err != nil {
			return nil, err
		}
		for i := range got.Jobs {
			list = append(list, jobOf(&got.Jobs[i]))
		}
		if filter.After = got.Next; got.Next == "" || all > 0 && len(list) >= all {
			return list, nil
		}
	}
}

// Summary counts jobs by action and state.
func (j *Jobs) Summary(ctx context.Context, filter mds.JobFilter) ([]mds.JobCount, error) {
	counts, err := j.c.SummarizeJobs(ctx, j.tenant, filter)
	out := make([]mds.JobCount, len(counts))
	for i, n := range counts {
		out[i] = mds.JobCount{Action: mds.JobAction(n.Action), State: mds.JobState(n.State), Jobs: n.Jobs, Written: n.Written, Failed: n.Failed, Seconds: n.Seconds}
	}
	return out, err
}

// Cleanup removes jobs that ended before a time.
func (j *Jobs) Cleanup(ctx context.Context, before time.Time) (int64, error) {
	return j.c.CleanJobsUp(ctx, j.tenant, before)
}

// Claim is refused.
func (j *Jobs) Claim(context.Context, string, string, []mds.JobAction, time.Duration) (mds.Job, bool, error) {
	return mds.Job{}, false, errRun
}

// Beat is refused.
func (j *Jobs) Beat(context.Context, mds.Job, time.Duration) (bool, error) { return false, errRun }

// PartDone is refused.
func (j *Jobs) PartDone(context.Context, mds.Job, mds.JobPart) error { return errRun }

// Parts is refused.
func (j *Jobs) Parts(context.Context, string) ([]mds.JobPart, error) { return nil, errRun }

// Finish is refused.
func (j *Jobs) Finish(context.Context, mds.Job, mds.JobState, time.Time) error { return errRun }

// Close does nothing: the store has the connections.
func (j *Jobs) Close() error { return nil }

var errRun = &ElsewhereError{"jobs are run"}
