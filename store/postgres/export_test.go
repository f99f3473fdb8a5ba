package postgres

import (
	"context"
	"io"
	"time"

	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"
)

// SetMergeAttempts sets how often a batch is merged before it is upserted, and returns
// what it was.
func SetMergeAttempts(n int) (before int) {
	before, mergeAttempts = mergeAttempts, n
	return before
}

// SetMaxPicked sets how many series are picked before a query, and returns what it was.
func SetMaxPicked(n int) (before int) {
	before, maxPicked = maxPicked, n
	return before
}

// SetRefreshBars sets how many bars are read for the rollups of one transaction, and returns
// what it was.
func SetRefreshBars(n int64) (before int64) {
	before, refreshBars = refreshBars, n
	return before
}

// SetMostMoved sets how many rows are moved while nobody writes, and returns what it was.
func SetMostMoved(n int64) (before int64) {
	before, mostMoved = mostMoved, n
	return before
}

// CompareCopy compares the table of minutes with the copy that is being made of it.
func (k *Keeper) CompareCopy(ctx context.Context) error {
	_, err := k.compare(ctx, "partition bars 1m", "bar_facts_1m", "mds_internal.bar_facts_1m", "mds_internal.bar_facts_1m_next")
	return err
}

// SetPatience sets for how long calls wait for a connection.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }

// Trace has a connection of the pool tell what goes over it.
func (s *Store) Trace(ctx context.Context, w io.Writer) error {
	return s.pool.AcquireFunc(ctx, func(c *pgxpool.Conn) error {
		c.Conn().PgConn().Frontend().Trace(w, pgproto3.TracerOptions{SuppressTimestamps: true})
		return nil
	})
}

// JobClock is what statements on jobs go by.
const JobClock = jobClock

// JobStatements are the statements on jobs.
var JobStatements = jobs
