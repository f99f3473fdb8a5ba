package store

import (
	"context"
	"fmt"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// Jobs keeps the jobs of a store, and hands each to one worker at a time, on whatever server.
// What it did is on the disk when it returns. Leases go by the clock of the store. It is safe
// for concurrent use.
type Jobs interface {
	// Enqueue keeps a job that is to be run, and returns it as it is kept, with an id. Where
	// the tenant has one with the same key, that one is returned, and made is false; its
	// error wraps [mds.ErrJobKey] where it is of another fingerprint. It fails with an
	// [*mds.InvalidError], with [mds.ErrUnknownTenant], and with [mds.ErrJobsWaiting] where the
	// tenant has too many that wait.
	Enqueue(ctx context.Context, job mds.Job) (kept mds.Job, made bool, err error)
	// Claim begins the next job that waits, or one whose lease has ended, for a worker: no
	// other has it until the lease ends. Of what was begun as often as it may be nothing is
	// claimed: it has failed. Ok is false where there is nothing to do. Jobs of actions that
	// are not among those given are left to others.
	Claim(ctx context.Context, worker, version string, actions []mds.JobAction, lease time.Duration) (job mds.Job, ok bool, err error)
	// Beat says how far a job is, and has it for another lease. Cancel reports that it is to
	// end. It fails with [mds.ErrJobLost] where the worker has that attempt of it no more.
	Beat(ctx context.Context, job mds.Job, lease time.Duration) (cancel bool, err error)
	// PartDone keeps that a part of a job is done, with how far the job is then. It fails
	// with [mds.ErrJobLost].
	PartDone(ctx context.Context, job mds.Job, part mds.JobPart) error
	// Parts are the parts that are done, in order of their names.
	Parts(ctx context.Context, id string) ([]mds.JobPart, error)
	// Finish ends an attempt: the job is in a state with Ended, or queued to be begun again at
	// a time, as often as its MaxAttempts says where that is more than was said before. It
	// fails with [mds.ErrJobLost].
	Finish(ctx context.Context, job mds.Job, state mds.JobState, again time.Time) error
	// Cancel has a job end: at once where it waits, and otherwise its worker is told. One
	// that has ended stays as it is. It fails with [mds.ErrUnknownJob].
	Cancel(ctx context.Context, id string) (mds.Job, error)
	// Job finds a job, or fails with [mds.ErrUnknownJob].
	Job(ctx context.Context, id string) (mds.Job, error)
	// List lists jobs, the newest first, without their Params and Symbols, which may be long:
	// Job has them.
	List(ctx context.Context, filter mds.JobFilter) ([]mds.Job, error)
	// Summary counts jobs by action and state, in order of these.
	Summary(ctx context.Context, filter mds.JobFilter) ([]mds.JobCount, error)
	// Cleanup removes jobs that ended before a time, and returns how many.
	Cleanup(ctx context.Context, before time.Time) (int64, error)
	// Close ends what it has open.
	Close() error
}

// OpenJobs returns the jobs of a store, which the store outlives. Of a DuckDB store they are
// a file of their own in its folder, which the first job makes and one process has at a time;
// on a server a table, which any number of servers share. Close them when done.
func OpenJobs(_ context.Context, s *Store) (Jobs, error) {
	switch b := s.Backend.(type) {
	case *duckdb.Store:
		return duckdb.OpenJobs(b), nil
	case *postgres.Store:
		return postgres.OpenJobs(b), nil
	case *remote.Store:
		return remote.OpenJobs(b, mds.Tenant{}), nil
	default:
		return nil, fmt.Errorf("no jobs for backend %T", b)
	}
}
