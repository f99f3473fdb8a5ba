package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/marketdatastore/mds"
)

// access is how a transaction is begun.
type access struct {
	begin string
	// settings are calls of set_config, for the transaction. Every name in them is
	// qualified: the search path of the login may lead to functions of others until the
	// transaction has its own.
	settings []string
	// way is how mds_internal.begin_for is to begin: read, write or remove.
	way    string
	series string // the table whose ids are to be good; "" for none
}

var (
	common = []string{
		"pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true)",
		// Compiling a plan costs more than it saves here, and is decided by estimates.
		"pg_catalog.set_config('jit', 'off', true)",
	}

	readAccess = access{begin: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings: common, way: "read"}

	changeAccess = access{
		begin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", way: "write",
		// What is acknowledged is on the disk.
		// What TimescaleDB has to look at in compressed chunks is bounded by the batch, not by a
		// number of rows at which it fails.
		settings: append(slices.Clip(common), "pg_catalog.set_config('timescaledb.max_tuples_decompressed_per_dml_transaction', '0', true)", "CASE WHEN pg_catalog.current_setting('synchronous_commit') OPERATOR(pg_catalog.=) 'off' THEN pg_catalog.set_config('synchronous_commit', 'on', true) END"),
	}

	// removeAccess waits for those who write for the tenant, who then find none.
	removeAccess = access{begin: changeAccess.begin, settings: changeAccess.settings, way: "remove"}
)

// plansByKey are the plans that do not look keys up one by one.
var plansByKey = []string{"hashjoin", "mergejoin", "material", "seqscan", "bitmapscan"}

// batchWriting is how batches are written: keys are looked up in the table's index,
// whatever the planner believes of a staging table of which it has no statistics, or of
// one that was empty; other plans read the whole table, for each row even. The server
// ends a statement that takes longer than limit.
func batchWriting(limit time.Duration, series string) access {
	how := changeAccess
	how.series = series
	how.settings = slices.Clip(how.settings)
	for _, plan := range plansByKey {
		how.settings = append(how.settings, fmt.Sprintf("pg_catalog.set_config('enable_%s', 'off', true)", plan))
	}
	if limit > 0 {
		how.settings = append(how.settings, fmt.Sprintf("pg_catalog.set_config('statement_timeout', '%d', true)", min(max(1, limit.Milliseconds()), math.MaxInt32)))
	}
	return how
}

// work is a transaction for one tenant.
type work struct {
	*pgx.Conn
	tenant    mds.Tenant
	now       time.Time // of the transaction
	token     string    // what the ids of series are good for
	rolled    []string  // tables of facts of which there are rollups, for those who write
	touched   []touched // what is to be noted of what it changed
	committed []func()  // called after the commit
}

// inTransaction runs fn in a transaction for a tenant, and commits when fn returns no
// error. Beginning is one trip to the server, as is the end.
func (s *Store) inTransaction(ctx context.Context, tenant mds.Tenant, how access, fn func(*work) error) error {
	if want, err := mds.NewTenant(tenant.Slug); err != nil || want != tenant {
		return unknownTenant(tenant.Slug)
	}
	if s.single && tenant != mds.DefaultTenant() {
		return errSingle
	}
	return s.transaction(ctx, tenant, how, fn)
}

// transaction is inTransaction, or for the zero tenant one that is for none.
func (s *Store) transaction(ctx context.Context, tenant mds.Tenant, how access, fn func(*work) error) error {
	conn, release, err := s.acquire(ctx, how.way != readAccess.way)
	if err != nil {
		return err
	}
	defer release()
	w := &work{Conn: conn.Conn(), tenant: tenant}
	err = w.begin(ctx, how)
	if err == nil {
		err = fn(w)
	}
	if err == nil {
		err = w.commit(ctx)
	}
	if err != nil {
		w.rollback(ctx)
		return err
	}
	for _, note := range w.committed {
		note()
	}
	return nil
}

// acquire takes a connection. Those who read keep theirs while their rows are taken, and
// leave some to those who write, who may be the same.
func (s *Store) acquire(ctx context.Context, writes bool) (conn *pgxpool.Conn, release func(), err error) {
	waiting, cancel := context.WithTimeout(ctx, s.patience)
	defer cancel()
	release = func() {}
	if !writes {
		select {
		case s.readers <- struct{}{}:
			release = func() { <-s.readers }
		case <-waiting.Done():
			return nil, nil, cmp.Or(ctx.Err(), s.errBusy())
		}
	}
	conn, err = s.pool.Acquire(waiting)
	if err != nil {
		release()
		if ctx.Err() == nil && waiting.Err() != nil {
			err = s.errBusy()
		}
		return nil, nil, err
	}
	slot := release
	return conn, func() {
		conn.Release() // which closes it where it is in a transaction still
		slot()
	}, nil
}

func (s *Store) errBusy() error {
	return &Error{
		Op: "connect", Class: Unavailable, Err: fmt.Errorf("none of %d connections was free, or could be made, for %v", s.cfg.PoolMax, s.patience),
		Hint: "allow more (MDS_POOL_MAX), or read fewer things at once: a query keeps its connection until its last row is taken",
	}
}

// begin begins the transaction and learns of its tenant, in one trip.
func (w *work) begin(ctx context.Context, how access) error {
	batch := &pgconn.Batch{}
	batch.ExecParams(how.begin, nil, nil, nil, nil)
	batch.ExecParams("SELECT "+strings.Join(how.settings, ", "), nil, nil, nil, nil)
	tenant := w.tenant != (mds.Tenant{})
	if tenant {
		series := []byte(how.series)
		if how.series == "" {
			series = nil
		}
		batch.ExecParams("SELECT began, known, token, rolled FROM mds_internal.begin_for($1::uuid, $2::text, $3::text::regclass)",
			[][]byte{[]byte(w.tenant.ID), []byte(how.way), series}, nil, nil, []int16{1})
	}
	results := w.PgConn().ExecBatch(ctx, batch)
	found := false
	for n := 0; results.NextResult(); n++ {
		result := results.ResultReader()
		for result.NextRow() {
			if fields := result.Values(); n == 2 { // of the third statement
				w.now, w.token = instant(microsOf(fields[0])), string(fields[2])
				found = fields[1][0] != 0
				if len(fields[3]) > 0 {
					w.rolled = strings.Split(string(fields[3]), ",")
				}
			}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if tenant && !found {
		return unknownTenant(w.tenant.Slug)
	}
	return nil
}

var errRolledBack = errors.New("the transaction was rolled back")

func (w *work) commit(ctx context.Context) error {
	var results []*pgconn.Result
	var err error
	if len(w.touched) == 0 {
		results, err = w.PgConn().Exec(ctx, "COMMIT").ReadAll()
	} else {
		batch := &pgconn.Batch{}
		for i := range w.touched {
			batch.ExecParams(noteTouched, w.touched[i].args(w.tenant.ID), nil, touchedFormats, nil)
		}
		batch.ExecParams("COMMIT", nil, nil, nil, nil)
		results, err = w.PgConn().ExecBatch(ctx, batch).ReadAll()
	}
	if err != nil {
		return err
	}
	if len(results) == 0 || results[len(results)-1].CommandTag.String() != "COMMIT" {
		return errRolledBack
	}
	return nil
}

// rollback ends a transaction that failed, so that its connection can be used again.
func (w *work) rollback(ctx context.Context) {
	if w.IsClosed() || w.PgConn().TxStatus() == 'I' {
		return
	}
	const patience = 5 * time.Second
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), patience)
	defer cancel()
	_, _ = w.PgConn().Exec(ctx, "ROLLBACK").ReadAll() // or else the connection is closed
}

// retrying runs fn again, a few times, where it met others at the same rows.
func retrying(ctx context.Context, fn func(attempt int) error) error {
	const attempts = 5
	for attempt := 1; ; attempt++ {
		err := fn(attempt)
		var e *Error
		if !errors.As(err, &e) || e.Class != Conflict || attempt == attempts {
			return err
		}
		if attempt == 1 {
			continue
		}
		// Those who met should not meet again.
		pause := time.NewTimer(rand.N(5 * time.Millisecond << attempt)) //nolint:gosec // any will do
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return err
		}
	}
}

func unknownTenant(name string) error {
	return fmt.Errorf("%w %q", mds.ErrUnknownTenant, name)
}
