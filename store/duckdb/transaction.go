package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"strings"
)

// inTransaction runs fn in a transaction on conn, and rolls back when fn
// fails.
func inTransaction(ctx context.Context, conn *sql.Conn, fn func() error) error {
	return bracket(ctx, conn, "BEGIN TRANSACTION", "COMMIT", fn)
}

// inSnapshot runs fn in a transaction that reads the file as it is now,
// whatever is written meanwhile.
func inSnapshot(ctx context.Context, conn *sql.Conn, fn func() error) error {
	return bracket(ctx, conn, "BEGIN TRANSACTION READ ONLY", "ROLLBACK", fn)
}

// bracket runs fn between begin and end. These two are not interrupted when
// ctx ends: an interrupted BEGIN leaves a transaction open that nobody knows
// of, and a COMMIT has to be either not begun or carried through.
//
// A connection that cannot be rolled back is of no use to the next one: the
// pool drops it, and the error wraps errBroken.
func bracket(ctx context.Context, conn *sql.Conn, begin, end string, fn func() error) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	detached := context.WithoutCancel(ctx)
	if _, err := conn.ExecContext(detached, begin); err != nil {
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
		_, err = conn.ExecContext(detached, end)
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
