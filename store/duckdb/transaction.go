package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
)

// inTransaction runs fn in a transaction on the writer's connection, and rolls back
// when fn fails. The caller holds the writer's token.
//
// A large one is committed while no statement reads. DuckDB (1.5.6) hangs row groups
// that were written whole into the table, as it does with everything that goes into an
// empty one, before it marks their rows as those of the transaction: a scan that begins
// in between takes them for committed, whatever its snapshot.
//
// It waits for the statements that read by then, and those that begin meanwhile wait
// for it; see gate. Those that people write it ends after a while; see sqls.
func (f *file) inTransaction(ctx context.Context, large bool, fn func() error) error {
	commit := statement{text: "COMMIT"}
	if large {
		commit.gate, commit.sqls = &f.scans, f.sqls
	}
	return bracket(ctx, f.conn, statement{text: "BEGIN TRANSACTION"}, commit, fn)
}

// statement is the first or the last of a transaction, with the gate that it has for
// itself, if any.
type statement struct {
	text string
	gate *gate
	sqls *sqls // that may keep the gate, where there is one
}

// exec runs the statement. It is not interrupted when ctx ends, but no longer begun:
// an interrupted BEGIN leaves a transaction open that nobody knows of, and a COMMIT
// has to be either not begun or carried through.
func (s statement) exec(ctx context.Context, conn *sql.Conn) error {
	if s.gate != nil {
		if err := s.sqls.waitFor(ctx, s.gate); err != nil {
			return err
		}
		defer s.gate.unlock()
	}
	_, err := conn.ExecContext(context.WithoutCancel(ctx), s.text)
	return err
}

// reader is a connection that is read from.
type reader struct {
	*sql.Conn
	scans gate // shared while a statement is executed
}

// writerReads reads on the writer's connection. The caller holds the writer's token.
func (f *file) writerReads() *reader { return &reader{f.conn, f.scans} }

// one reads the only row of a query.
func (r *reader) one(ctx context.Context, query string, args []any, into ...any) error {
	if err := r.scans.share(ctx); err != nil {
		return err
	}
	defer r.scans.unshare()
	return r.QueryRowContext(ctx, query, args...).Scan(into...)
}

// inSnapshot runs fn in a transaction that reads the file as it is now,
// whatever is written meanwhile.
func inSnapshot(ctx context.Context, conn *sql.Conn, fn func() error) error {
	return bracket(ctx, conn, statement{text: "BEGIN TRANSACTION READ ONLY"}, statement{text: "ROLLBACK"}, fn)
}

// bracket runs fn between begin and end.
//
// A connection that cannot be rolled back is of no use to the next one: the
// pool drops it, and the error wraps errBroken.
func bracket(ctx context.Context, conn *sql.Conn, begin, end statement, fn func() error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	detached := context.WithoutCancel(ctx)
	if err := begin.exec(ctx, conn); err != nil {
		return errors.Join(err, rollback(detached, conn))
	}
	returned := false
	defer func() {
		if !returned { // fn panicked: the next one must not find its transaction
			_ = rollback(detached, conn)
		}
	}()
	err = fn()
	returned = true
	if err == nil {
		err = ctx.Err()
	}
	if err == nil {
		err = end.exec(ctx, conn)
	}
	if err == nil {
		return nil
	}
	if rollbackErr := rollback(detached, conn); rollbackErr != nil {
		return errors.Join(err, rollbackErr)
	}
	return err
}

// errBroken marks a connection that was dropped.
var errBroken = errors.New("the connection was dropped")

// rollback leaves conn without a transaction, or drops it.
func rollback(ctx context.Context, conn *sql.Conn) error {
	// An interrupt that came late may hit the rollback; the next one it spares.
	for range 3 {
		_, err := conn.ExecContext(ctx, "ROLLBACK")
		if err == nil || strings.Contains(err.Error(), "no transaction is active") {
			return nil
		}
	}
	// So the pool closes the connection rather than hand it on.
	_ = conn.Raw(func(any) error { return driver.ErrBadConn })
	return errBroken
}
