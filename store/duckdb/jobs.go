package duckdb

import (
	"context"
	"database/sql/driver"
	"errors"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/jobsql"
)

// jobs are the statements on jobs. now() is the time at which a transaction began, which
// nobody waits in.
var jobs = jobsql.Dialect{Now: "make_timestamp(epoch_us(now()))", Until: "make_timestamp(epoch_us(now()) + %s)", NoTexts: "[]::VARCHAR[]"}.Statements()

// Jobs are the jobs of a store.
type Jobs struct {
	store  *Store
	closed atomic.Bool
}

// OpenJobs returns the jobs of a store. It opens no file: the first call does.
func OpenJobs(s *Store) *Jobs { return &Jobs{store: s} }

// Close closes the file. Others of the store open it again when they need it.
func (j *Jobs) Close() error {
	if j.closed.Swap(true) {
		return nil
	}
	return j.store.jobs.close(false)
}

// with runs fn with the file, if there is one.
func (j *Jobs) with(ctx context.Context, op string, create bool, fn func(*jobFile) error) error {
	if j.closed.Load() {
		return errClosed
	}
	f := j.store.jobs
	return wrap(ctx, op, f.with(ctx, create, func() error { return fn(f) }))
}

// change runs fn in a transaction, if there are jobs.
func (j *Jobs) change(ctx context.Context, op string, create bool, fn func(*jobFile) error) error {
	if j.store.cfg.ReadOnly {
		return errReadOnly
	}
	return j.with(ctx, op, create, func(f *jobFile) error {
		return f.change(ctx, func() error { return fn(f) })
	})
}

// Enqueue keeps a job that is to be run, or finds the one with its key.
func (j *Jobs) Enqueue(ctx context.Context, job mds.Job) (kept mds.Job, made bool, err error) {
	if err := jobsql.Kept(&job); err != nil {
		return kept, false, err
	}
	known := func() bool { return job.Tenant == (mds.Tenant{}) || j.store.hasTenant(job.Tenant) }
	if !known() {
		return kept, false, unknownTenant(job.Tenant.Slug)
	}
	err = j.change(ctx, "enqueue job", true, func(f *jobFile) (err error) {
		if !known() { // who removes it waits
			return unknownTenant(job.Tenant.Slug)
		}
		var found bool
		if kept, found, err = f.job(ctx, jobs.ByKey, jobsql.TenantID(job.Tenant), job.Key); err != nil || found {
			return err
		}
		waiting, _, err := value[int64](ctx, f, jobs.Waiting, []any{jobsql.TenantID(job.Tenant)})
		if err != nil {
			return err
		}
		if err := jobsql.Room(waiting); err != nil {
			return err
		}
		short, pieces := apart(job)
		list, err := f.list(ctx, new(jobsql.Rows), jobs.Insert, jobsql.InsertArgs(&short))
		if err != nil {
			return err
		}
		kept, made = list[0], true
		kept.Params, kept.Symbols = job.Params, job.Symbols
		return f.keepTexts(ctx, kept.ID, pieces)
	})
	if err != nil || made {
		return kept, made && err == nil, err
	}
	return jobsql.Same(&job, &kept)
}

// Claim begins the next job of the actions.
func (j *Jobs) Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (job mds.Job, ok bool, err error) {
	err = j.change(ctx, "claim job", false, func(f *jobFile) (err error) {
		if _, err := f.conn.ExecContext(ctx, jobs.GiveUp); err != nil || len(actions) == 0 {
			return err
		}
		query, args := jobs.Claim(worker, version, actions, lease)
		job, ok, err = f.job(ctx, query, args...)
		return err
	})
	return job, ok && err == nil, err
}

// Beat says how far a job is, and has it for another lease.
func (j *Jobs) Beat(ctx context.Context, job mds.Job, lease time.Duration) (cancel bool, err error) {
	args, err := jobsql.BeatArgs(&job, lease)
	if err != nil {
		return false, err
	}
	err = j.attempt(ctx, "beat", &job, func(f *jobFile) (there bool, err error) {
		cancel, there, err = value[bool](ctx, f, jobs.Beat, args)
		return there, err
	})
	return cancel, err
}

// attempt runs fn in a transaction, which reports whether the attempt is there.
func (j *Jobs) attempt(ctx context.Context, op string, job *mds.Job, fn func(*jobFile) (bool, error)) error {
	there := false
	err := j.change(ctx, op, false, func(f *jobFile) (err error) {
		there, err = fn(f)
		return err
	})
	if err == nil && !there {
		err = jobsql.Lost(job)
	}
	return err
}

// PartDone keeps that a part of a job is done.
func (j *Jobs) PartDone(ctx context.Context, job mds.Job, part mds.JobPart) error {
	how, kept, err := jobsql.PartArgs(&job, &part)
	if err != nil {
		return err
	}
	return j.attempt(ctx, "part of a job", &job, func(f *jobFile) (bool, error) {
		_, there, err := value[int64](ctx, f, jobs.Progress, how)
		if err != nil || !there {
			return there, err
		}
		if _, err := f.conn.ExecContext(ctx, jobs.ForgetPart, kept[:2]...); err != nil {
			return there, err
		}
		_, err = f.conn.ExecContext(ctx, jobs.KeepPart, kept...)
		return there, err
	})
}

// Parts are the parts of a job that are done.
func (j *Jobs) Parts(ctx context.Context, id string) (parts []mds.JobPart, err error) {
	number, err := jobsql.Number(id)
	if err != nil {
		return nil, err
	}
	found := false
	err = j.with(ctx, "parts of a job", false, func(f *jobFile) (err error) {
		if _, found, err = f.job(ctx, jobs.ByID, number); err != nil || !found {
			return err
		}
		return f.each(ctx, jobs.Parts, []any{number}, func(v []driver.Value) error {
			var p mds.JobPart
			var errs [4]error
			p.Name, errs[0] = read[string](v[0])
			p.Written, errs[1] = read[int64](v[1])
			p.Failed, errs[2] = read[int64](v[2])
			p.Done, errs[3] = read[time.Time](v[3])
			parts = append(parts, p)
			return errors.Join(errs[:]...)
		})
	})
	if err == nil && !found {
		err = jobsql.Unknown(id)
	}
	return parts, err
}

// Finish ends an attempt.
func (j *Jobs) Finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time) error {
	args, err := jobsql.FinishArgs(&job, state, again)
	if err != nil {
		return err
	}
	return j.attempt(ctx, "finish job", &job, func(f *jobFile) (bool, error) {
		_, there, err := value[int64](ctx, f, jobs.Finish, args)
		return there, err
	})
}

// Cancel has a job end.
func (j *Jobs) Cancel(ctx context.Context, id string) (job mds.Job, err error) {
	return j.one(id, func(number int64) (found bool, err error) {
		err = j.change(ctx, "cancel job", false, func(f *jobFile) (err error) {
			if job, found, err = f.job(ctx, jobs.Cancel, number); err == nil && !found { // one that has ended stays
				job, found, err = f.job(ctx, jobs.ByID, number)
			}
			return err
		})
		return found, err
	}, &job)
}

// Job finds a job.
func (j *Jobs) Job(ctx context.Context, id string) (job mds.Job, err error) {
	return j.one(id, func(number int64) (found bool, err error) {
		err = j.with(ctx, "job", false, func(f *jobFile) (err error) {
			job, found, err = f.job(ctx, jobs.ByID, number)
			return err
		})
		return found, err
	}, &job)
}

// one finds a job by what does, which says whether there is one.
func (*Jobs) one(id string, find func(number int64) (bool, error), job *mds.Job) (mds.Job, error) {
	number, err := jobsql.Number(id)
	if err != nil {
		return mds.Job{}, err
	}
	found, err := find(number)
	if err == nil && !found {
		err = jobsql.Unknown(id)
	}
	return *job, err
}

// List lists jobs without their params and symbols, the newest first.
func (j *Jobs) List(ctx context.Context, filter mds.JobFilter) (list []mds.Job, err error) {
	query, args, err := jobs.List(&filter)
	if err != nil {
		return nil, err
	}
	err = j.with(ctx, "jobs", false, func(f *jobFile) (err error) {
		list, err = f.list(ctx, jobsql.RowsFor(&filter), query, args)
		return err
	})
	return list, err
}

// Summary counts jobs by action and state.
func (j *Jobs) Summary(ctx context.Context, filter mds.JobFilter) (counts []mds.JobCount, err error) {
	query, args := jobs.Summary(&filter)
	err = j.with(ctx, "jobs", false, func(f *jobFile) error {
		return f.each(ctx, query, args, func(v []driver.Value) error {
			action, err1 := read[string](v[0])
			state, err2 := read[string](v[1])
			c := mds.JobCount{Action: mds.JobAction(action), State: mds.JobState(state)}
			var figures [3]int64
			err3 := readInts(figures[:], v[2:5])
			c.Jobs, c.Written, c.Failed = figures[0], figures[1], figures[2]
			var err4 error
			c.Seconds, err4 = read[float64](v[5])
			counts = append(counts, c)
			return errors.Join(err1, err2, err3, err4)
		})
	})
	return counts, err
}

// Cleanup removes jobs that ended before a time.
func (j *Jobs) Cleanup(ctx context.Context, before time.Time) (n int64, err error) {
	err = j.change(ctx, "clean up jobs", false, func(f *jobFile) error {
		removed, err := f.conn.ExecContext(ctx, jobs.Cleanup, before.UTC())
		if err != nil {
			return err
		}
		if n, err = removed.RowsAffected(); err != nil || n == 0 {
			return err
		}
		return f.forgetRest(ctx)
	})
	return n, err
}

// each runs a statement and hands its rows on.
func (f *jobFile) each(ctx context.Context, query string, args []any, each func([]driver.Value) error) error {
	return eachRow(ctx, &reader{f.conn, newGate()}, query, args, each)
}

// value is the only value of a statement, if it yields one.
func value[T any](ctx context.Context, f *jobFile, query string, args []any) (v T, there bool, err error) {
	err = f.each(ctx, query, args, func(values []driver.Value) (err error) {
		there = true
		v, err = read[T](values[0])
		return err
	})
	return v, there, err
}

// job reads a job, if there is one.
func (f *jobFile) job(ctx context.Context, query string, args ...any) (job mds.Job, found bool, err error) {
	list, err := f.list(ctx, new(jobsql.Rows), query, args)
	if err != nil || len(list) == 0 {
		return job, false, err
	}
	return list[0], true, f.whole(ctx, &list[0])
}

func (f *jobFile) list(ctx context.Context, list *jobsql.Rows, query string, args []any) ([]mds.Job, error) {
	err := f.each(ctx, query, args, func(values []driver.Value) error { return setJob(list, values) })
	return list.Jobs(), err
}

func setJob(list *jobsql.Rows, values []driver.Value) (err error) {
	job := list.Next()
	for i := range jobsql.Columns {
		c, v := &jobsql.Columns[i], values[i]
		switch {
		case c.Text != nil:
			var text string
			text, err = read[string](v)
			jobsql.SetText(list, i, text)
		case c.Int != nil:
			if small, ok := v.(int32); ok {
				v = int64(small)
			}
			var n int64
			n, err = read[int64](v)
			c.Int(job, n)
		case c.Bool != nil:
			*c.Bool(job), err = read[bool](v)
		case c.Time != nil:
			*c.Time(job), err = read[time.Time](v)
		case c.List != nil:
			*c.List(job), err = texts(v)
		}
		if err != nil {
			return err
		}
	}
	return nil
}
