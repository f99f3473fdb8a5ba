package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// access is how a transaction is begun.
type access struct {
	begin string
	// settings are made for the transaction: SQL of set_config calls.
	settings []string
	// locks has it wait for one who removes the tenant, and that one for it.
	locks bool
}

var (
	// Compiling a plan costs more than it saves here, and is decided by estimates.
	noCompiling = "set_config('jit', 'off', true)"

	readAccess = access{begin: "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY", settings: []string{noCompiling}}

	changeAccess = access{begin: "BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE", settings: []string{noCompiling}, locks: true}
)

// batchWriting is how batches are written: keys are looked up in the table's index,
// whatever the planner believes of a staging table of which it has no statistics; other
// joins read the whole table. The server ends a statement that takes longer than limit.
func batchWriting(limit time.Duration) access {
	how := access{begin: changeAccess.begin, locks: true, settings: []string{noCompiling,
		"set_config('enable_hashjoin', 'off', true)", "set_config('enable_mergejoin', 'off', true)", "set_config('enable_material', 'off', true)"}}
	if limit > 0 {
		how.settings = append(how.settings, fmt.Sprintf("set_config('statement_timeout', '%d', true)", max(1, limit.Milliseconds())))
	}
	return how
}

// work is a transaction for one tenant.
type work struct {
	*pgx.Conn
	tenant mds.Tenant
	// generation tells a tenant from one of the same name that was removed.
	generation int64
	now        time.Time // of the transaction
	committed  []func()  // called after the commit
}

// inTransaction runs fn in a transaction for a tenant, and commits when fn returns no
// error. Beginning is one trip to the server, as is the end.
func (s *Store) inTransaction(ctx context.Context, tenant mds.Tenant, how access, fn func(*work) error) error {
	if want, err := mds.NewTenant(tenant.Slug); err != nil || want != tenant {
		return unknownTenant(tenant.Slug)
	}
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // which closes it where it is in a transaction still
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

// begin begins the transaction and learns of its tenant.
func (w *work) begin(ctx context.Context, how access) error {
	columns := []string{
		"now()",
		"(SELECT (extract(epoch FROM created_at) * 1000000)::bigint FROM mds_internal.tenants WHERE id = $1::text::uuid)",
		"set_config('app.tenant_id', $1::text, true)",
	}
	columns = append(columns, how.settings...)
	if how.locks {
		columns = append(columns, "pg_advisory_xact_lock_shared(hashtextextended($1::text, 7))")
	}
	batch := &pgconn.Batch{}
	batch.ExecParams(how.begin, nil, nil, nil, nil)
	batch.ExecParams("SELECT "+strings.Join(columns, ", "), [][]byte{[]byte(w.tenant.ID)}, nil, nil, []int16{1})
	results := w.PgConn().ExecBatch(ctx, batch)
	found := false
	for results.NextResult() {
		result := results.ResultReader()
		for result.NextRow() {
			fields := result.Values()
			w.now = time.UnixMicro(microsOf(fields[0])).UTC()
			if found = fields[1] != nil; found {
				w.generation = int64Of(fields[1])
			}
		}
	}
	if err := results.Close(); err != nil {
		return err
	}
	if !found {
		return unknownTenant(w.tenant.Slug)
	}
	return nil
}

var errRolledBack = errors.New("the transaction was rolled back")

func (w *work) commit(ctx context.Context) error {
	results, err := w.PgConn().Exec(ctx, "COMMIT").ReadAll()
	if err != nil {
		return err
	}
	if len(results) != 1 || results[0].CommandTag.String() != "COMMIT" {
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

func unknownTenant(name string) error {
	return fmt.Errorf("%w %q", mds.ErrUnknownTenant, name)
}
