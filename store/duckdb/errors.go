package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// Error is a failure of the database below an operation.
type Error struct {
	// Op is the operation, such as "write bars".
	Op string
	// Hint says what to do about it; may be empty.
	Hint  string
	Err   error
	retry bool
}

func (e *Error) Error() string {
	s := e.Op + ": " + e.Err.Error()
	if e.Hint != "" {
		s += "; " + e.Hint
	}
	return s
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later: the disk had no
// room, memory ran out, a deadline passed. Data that the database refuses is
// refused again.
func (e *Error) Retryable() bool { return e.retry }

// Unavailable reports whether nothing can be written, whatever it is: that is so whenever
// the call may be retried, and of a file that cannot be opened, or not for writing.
func (e *Error) Unavailable() bool { return e.retry || strings.HasPrefix(e.Op, "open") }

// LockedError reports that another process holds the file.
type LockedError struct {
	Path string
	// Owner names the process, such as "/usr/local/bin/mds (PID 4711)"; empty
	// where the system does not tell.
	Owner string
}

func (e *LockedError) Error() string {
	owner := e.Owner
	if owner == "" {
		owner = "another process"
	}
	return fmt.Sprintf("%s is in use by %s, and one process owns the file; wait for it to end, stop it, or reach it with --server if it is mds serve", e.Path, owner)
}

// Retryable is true: the other process may let go.
func (e *LockedError) Retryable() bool { return true }

// Unavailable is true: nothing is written meanwhile.
func (e *LockedError) Unavailable() bool { return true }

var lockOwner = regexp.MustCompile(`Conflicting lock is held in (.+? \(PID \d+\))`)

// fatal reports an error after which DuckDB answers nothing until the file is
// opened again.
func fatal(err error) bool {
	var driverErr *duckdb.Error
	return errors.As(err, &driverErr) && driverErr.Type == duckdb.ErrorTypeFatal ||
		err != nil && strings.Contains(err.Error(), "database has been invalidated")
}

// openError turns what the driver says on opening path into one sentence.
func openError(ctx context.Context, path string, err error) error {
	if err == nil {
		return nil
	}
	var version *VersionError
	text := err.Error()
	switch {
	case errors.As(err, &version):
		return err
	case strings.Contains(text, "Could not set lock"):
		locked := &LockedError{Path: path}
		if m := lockOwner.FindStringSubmatch(text); m != nil {
			locked.Owner = m[1]
		}
		return locked
	case isDirectory(path):
		return &Error{Op: "open", Err: fmt.Errorf("%s is a folder", path), Hint: "move it away, or name another store with --dsn duckdb://DIR"}
	case strings.Contains(text, "not a valid DuckDB database file"):
		return &Error{Op: "open", Err: fmt.Errorf("%s is not a DuckDB database", path), Hint: "move it away, or name another folder with --dsn duckdb://DIR"}
	case strings.Contains(text, "Could not read enough bytes"), strings.Contains(text, "Corrupt database file"):
		return &Error{Op: "open", Err: fmt.Errorf("%s is damaged: %w", path, firstLineError{err}), Hint: "bring back a copy of it"}
	case strings.Contains(text, "Permission denied"), strings.Contains(text, "Read-only file system"):
		return &Error{Op: "open", Err: fmt.Errorf("%s: %w", path, os.ErrPermission), Hint: "make the folder writable, or name another with --dsn duckdb://DIR"}
	}
	return wrap(ctx, "open "+path, err)
}

// wrap classifies a driver error. It leaves alone what is classified already.
// A statement that was interrupted says so in one of several ways; whose
// context ended tells which it was.
func wrap(ctx context.Context, op string, err error) error {
	var mine *Error
	var locked *LockedError
	var version *VersionError
	if err == nil || errors.As(err, &mine) || errors.As(err, &locked) || errors.As(err, &version) || errors.Is(err, mds.ErrUnknownTenant) || errors.Is(err, mds.ErrJobsWaiting) || errors.Is(err, mds.ErrTimeframe) {
		return err
	}
	cause := ctx.Err()
	for _, ended := range []error{context.DeadlineExceeded, context.Canceled} {
		if cause == nil && errors.Is(err, ended) {
			cause = ended
		}
	}
	if cause != nil {
		return &Error{Op: op, Err: cause, retry: errors.Is(cause, context.DeadlineExceeded)}
	}
	if errors.Is(err, sql.ErrConnDone) || strings.Contains(err.Error(), "sql: database is closed") {
		return errClosed
	}
	e := &Error{Op: op, Err: err}
	text := err.Error()
	var driverErr *duckdb.Error
	switch {
	case strings.Contains(text, "No space left on device"), strings.Contains(text, "Disk quota exceeded"):
		e.Err, e.Hint, e.retry = errDiskFull, "free some space and run it again: what was acknowledged is kept", true
	case errors.As(err, &driverErr):
		e.Err = firstLineError{err}
		switch {
		case outOfMemory(err):
			e.Hint, e.retry = "give the database more with --memory-limit", true
		case slices.Contains([]duckdb.ErrorType{duckdb.ErrorTypeIO, duckdb.ErrorTypeTransaction, duckdb.ErrorTypeInterrupt, duckdb.ErrorTypeFatal}, driverErr.Type):
			e.retry = true // the next call opens a failed file again
		}
	}
	return e
}

// outOfMemory reports that the database has too little memory for a statement.
func outOfMemory(err error) bool {
	var driverErr *duckdb.Error
	if !errors.As(err, &driverErr) {
		return false
	}
	text := err.Error()
	return driverErr.Type == duckdb.ErrorTypeOutOfMemory || strings.Contains(text, "failed to pin block") || strings.Contains(text, "failed to allocate")
}

// firstLineError is an error without the advice that DuckDB puts on lines of their own.
type firstLineError struct{ error }

func (e firstLineError) Error() string {
	text, _, _ := strings.Cut(e.error.Error(), "\n")
	return text
}

func (e firstLineError) Unwrap() error { return e.error }

func isDirectory(path string) bool {
	stat, err := os.Stat(path)
	return err == nil && stat.IsDir()
}

var errDiskFull = errors.New("the disk is full")
