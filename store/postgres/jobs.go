package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/jobsql"
)

// jobClock is the time of a statement, the same throughout: whether a lease is over has one
// answer. It is no later than what a statement waits for.
const jobClock = "statement_timestamp()"

// jobs are the statements on jobs. Each is on one job, or leaves alone what another one has:
// they wait for nobody but who works on the same one. A transaction keeps nothing in the
// session, so that a pooler may lend connections for one.
var jobs = jobsql.Dialect{
	Schema:  "mds_internal.",
	Now:     jobClock,
	Until:   jobClock + " + %s * interval '1 microsecond'",
	Unless:  " ON CONFLICT (key, tenant_id) WHERE key <> '' DO NOTHING",
	NoTexts: "'{}'::text[]",
	Skip:    " FOR UPDATE SKIP LOCKED",
}.Statements()

// Jobs are the jobs of a store. They use its connections.
type Jobs struct{ store *Store }

// OpenJobs returns the jobs of a store.
func OpenJobs(s *Store) *Jobs { return &Jobs{s} }

// Close does nothing: the connections are the store's.
func (*Jobs) Close() error { return nil }

// change runs fn in a transaction that changes jobs, of a tenant that has to be there or,
// with the zero one, of any.
func (j *Jobs) change(ctx context.Context, op string, tenant mds.Tenant, fn func(*work) error) error {
	if j.store.cfg.ReadOnly {
		return errReadOnly
	}
	leave, err := j.store.enter(true)
	if err != nil {
		return err
	}
	defer leave()
	return retrying(ctx, func(int) error {
		if tenant != (mds.Tenant{}) {
			return wrap(ctx, op, j.store.inTransaction(ctx, tenant, changeAccess, fn))
		}
		return wrap(ctx, op, j.store.transaction(ctx, tenant, changeAccess, fn))
	})
}

// read runs fn in a transaction that reads. It leaves the connections alone that queries
// keep, as does the checking of keys.
func (j *Jobs) read(ctx context.Context, op string, fn func(*work) error) error {
	leave, err := j.store.enter(false)
	if err != nil {
		return err
	}
	defer leave()
	return wrap(ctx, op, j.store.transaction(ctx, mds.Tenant{}, keyAccess, fn))
}

// Enqueue keeps a job that is to be run, or finds the one with its key.
func (j *Jobs) Enqueue(ctx context.Context, job mds.Job) (kept mds.Job, made bool, err error) {
	if err := jobsql.Kept(&job); err != nil {
		return kept, false, err
	}
	err = j.change(ctx, "enqueue job", job.Tenant, func(w *work) error {
		var found bool
		if kept, found, err = w.job(ctx, jobs.ByKey, jobsql.TenantID(job.Tenant), job.Key); err != nil || found {
			return err
		}
		var waiting int64
		if err := w.QueryRow(ctx, jobs.Waiting, jobsql.TenantID(job.Tenant)).Scan(&waiting); err != nil {
			return err
		}
		if err := jobsql.Room(waiting); err != nil {
			return err
		}
		if kept, made, err = w.job(ctx, jobs.Insert, jobsql.InsertArgs(&job)...); err != nil || made {
			return err
		}
		kept, found, err = w.job(ctx, jobs.ByKey, jobsql.TenantID(job.Tenant), job.Key)
		if err == nil && !found { // it was removed meanwhile
			err = &Error{Op: "enqueue job", Class: Conflict, Err: errors.New("another one with the key was removed")}
		}
		return err
	})
	if err != nil || made {
		return kept, made, err
	}
	return jobsql.Same(&job, &kept)
}

// Claim begins the next job of the actions.
func (j *Jobs) Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (job mds.Job, ok bool, err error) {
	err = j.change(ctx, "claim job", mds.Tenant{}, func(w *work) error {
		if _, err := w.Exec(ctx, jobs.GiveUp); err != nil || len(actions) == 0 {
			return err
		}
		query, args := jobs.Claim(worker, version, actions, lease)
		job, ok, err = w.job(ctx, query, args...)
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
	err = j.change(ctx, "beat", mds.Tenant{}, func(w *work) error {
		return orLost(w.QueryRow(ctx, jobs.Beat, args...).Scan(&cancel), &job)
	})
	return cancel, err
}

// PartDone keeps that a part of a job is done.
func (j *Jobs) PartDone(ctx context.Context, job mds.Job, part mds.JobPart) error {
	how, kept, err := jobsql.PartArgs(&job, &part)
	if err != nil {
		return err
	}
	return j.change(ctx, "part of a job", mds.Tenant{}, func(w *work) error {
		var id int64
		if err := w.QueryRow(ctx, jobs.Progress, how...).Scan(&id); err != nil {
			return orLost(err, &job)
		}
		if _, err := w.Exec(ctx, jobs.ForgetPart, kept[:2]...); err != nil {
			return err
		}
		_, err := w.Exec(ctx, jobs.KeepPart, kept...)
		return err
	})
}

// Parts are the parts of a job that are done.
func (j *Jobs) Parts(ctx context.Context, id string) (parts []mds.JobPart, err error) {
	number, err := jobsql.Number(id)
	if err != nil {
		return nil, err
	}
	err = j.read(ctx, "parts of a job", func(w *work) error {
		if _, found, err := w.job(ctx, jobs.ByID, number); err != nil {
			return err
		} else if !found {
			return jobsql.Unknown(id)
		}
		rows, err := w.Query(ctx, jobs.Parts, number)
		if err != nil {
			return err
		}
		parts, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (p mds.JobPart, err error) {
			err = row.Scan(&p.Name, &p.Written, &p.Failed, &p.Done)
			p.Done = p.Done.UTC()
			return p, err
		})
		return err
	})
	return parts, err
}

// Finish ends an attempt.
func (j *Jobs) Finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time) error {
	args, err := jobsql.FinishArgs(&job, state, again)
	if err != nil {
		return err
	}
	return j.change(ctx, "finish job", mds.Tenant{}, func(w *work) error {
		var id int64
		return orLost(w.QueryRow(ctx, jobs.Finish, args...).Scan(&id), &job)
	})
}

// Cancel has a job end.
func (j *Jobs) Cancel(ctx context.Context, id string) (job mds.Job, err error) {
	number, err := jobsql.Number(id)
	if err != nil {
		return job, err
	}
	err = j.change(ctx, "cancel job", mds.Tenant{}, func(w *work) error {
		for _, query := range []string{jobs.Cancel, jobs.ByID} { // one that has ended stays
			var found bool
			if job, found, err = w.job(ctx, query, number); err != nil || found {
				return err
			}
		}
		return jobsql.Unknown(id)
	})
	return job, err
}

// Job finds a job.
func (j *Jobs) Job(ctx context.Context, id string) (job mds.Job, err error) {
	number, err := jobsql.Number(id)
	if err != nil {
		return job, err
	}
	err = j.read(ctx, "job", func(w *work) error {
		var found bool
		if job, found, err = w.job(ctx, jobs.ByID, number); err == nil && !found {
			err = jobsql.Unknown(id)
		}
		return err
	})
	return job, err
}

// List lists jobs without their params and symbols, the newest first.
func (j *Jobs) List(ctx context.Context, filter mds.JobFilter) (list []mds.Job, err error) {
	query, args, err := jobs.List(&filter)
	if err != nil {
		return nil, err
	}
	err = j.read(ctx, "jobs", func(w *work) error {
		list, err = w.jobs(ctx, jobsql.RowsFor(&filter), query, args)
		return err
	})
	return list, err
}

// Summary counts jobs by action and state.
func (j *Jobs) Summary(ctx context.Context, filter mds.JobFilter) (counts []mds.JobCount, err error) {
	query, args := jobs.Summary(&filter)
	err = j.read(ctx, "jobs", func(w *work) error {
		rows, err := w.Query(ctx, query, args...)
		if err != nil {
			return err
		}
		counts, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (c mds.JobCount, err error) {
			return c, row.Scan(&c.Action, &c.State, &c.Jobs, &c.Written, &c.Failed, &c.Seconds)
		})
		return err
	})
	return counts, err
}

// Cleanup removes jobs that ended before a time.
func (j *Jobs) Cleanup(ctx context.Context, before time.Time) (n int64, err error) {
	err = j.change(ctx, "clean up jobs", mds.Tenant{}, func(w *work) error {
		removed, err := w.Exec(ctx, jobs.Cleanup, before.UTC())
		n = removed.RowsAffected()
		return err
	})
	return n, err
}

// orLost says of a statement on an attempt that found none that it is lost.
func orLost(err error, job *mds.Job) error {
	if errors.Is(err, pgx.ErrNoRows) {
		return jobsql.Lost(job)
	}
	return err
}

// job reads a job, if there is one.
func (w *work) job(ctx context.Context, query string, args ...any) (job mds.Job, found bool, err error) {
	list, err := w.jobs(ctx, new(jobsql.Rows), query, args)
	if err != nil || len(list) == 0 {
		return job, false, err
	}
	return list[0], true, nil
}

// jobs reads jobs. It reads the fields as they come, which takes a third of the time that a
// scan of the driver does.
func (w *work) jobs(ctx context.Context, list *jobsql.Rows, query string, args []any) ([]mds.Job, error) {
	rows, err := w.Query(ctx, query, args...)
	if err != nil {
		return nil, err
	}
	defer rows.Close()
	for first := true; rows.Next(); first = false {
		if first {
			if err := checkBinary(rows); err != nil {
				return nil, err
			}
		}
		if err := decodeJob(list, rows.RawValues()); err != nil {
			return nil, err
		}
	}
	return list.Jobs(), rows.Err()
}

func decodeJob(list *jobsql.Rows, fields [][]byte) error {
	job := list.Next()
	for i := range jobsql.Columns {
		c, field := &jobsql.Columns[i], fields[i]
		switch {
		case c.Text != nil:
			jobsql.SetText(list, i, field)
		case c.Int != nil && len(field) == 4:
			c.Int(job, int64(int32Of(field)))
		case c.Int != nil:
			c.Int(job, int64Of(field))
		case c.Bool != nil:
			*c.Bool(job) = field[0] != 0
		case c.Time != nil && field != nil:
			*c.Time(job) = time.UnixMicro(microsOf(field)).UTC()
		case c.List != nil:
			if err := decodeTexts(c.List(job), field); err != nil {
				return err
			}
		}
	}
	return nil
}

// decodeTexts is a text[] (array_send): the number of its dimensions, two more words, the
// length and the lower bound of each dimension, and each element after its length.
func decodeTexts(into *[]string, field []byte) error {
	const head = 20
	if len(field) < head { // of no dimension
		return nil
	}
	list := make([]string, 0, int32Of(field[12:]))
	for rest := field[head:]; len(rest) > 0; {
		size := int(int32(binary.BigEndian.Uint32(rest)))
		if size < 0 || size > len(rest)-4 {
			return errors.New("a list of texts ends within a text")
		}
		list, rest = append(list, string(rest[4:4+size])), rest[4+size:]
	}
	*into = list
	return nil
}
