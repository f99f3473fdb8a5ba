package duckdb

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// The jobs of a store are a database of their own in its folder: they are the operator's,
// and no tenant's. No tenant can have its name, which begins with what no slug begins with.
const jobFileName = "_jobs" + extension

// jobFile is that database. It is opened at its first use, and made by the first job. One
// connection has it, for one caller at a time, so that a checkpoint, which is part of a
// commit, never meets another transaction.
type jobFile struct {
	path     string
	readOnly bool
	gate     gate // had alone by whoever uses the rest
	pool     *sql.DB
	conn     *sql.Conn // nil while it is not open
	name     string    // of the file that is open, without links
	closed   bool
	// roomy is that it needed more memory than it should.
	roomy bool
}

//go:embed migrations/jobs/*.sql
var jobMigrations embed.FS

func newJobFile(dir string, readOnly bool) *jobFile {
	return &jobFile{path: filepath.Join(dir, jobFileName), readOnly: readOnly, gate: newGate()}
}

// with runs fn while nobody else uses the file. Where there is none, fn is not run, unless
// it is to be made.
func (f *jobFile) with(ctx context.Context, create bool, fn func() error) error {
	if err := f.gate.lock(ctx); err != nil {
		return err
	}
	defer f.gate.unlock()
	if there, err := f.open(ctx, create); err != nil || !there {
		return err
	}
	return f.noting(fn)
}

// noting runs fn, and closes a file that failed: it is opened again at its next use. What is
// committed has not failed, whatever became of the checkpoint after it.
func (f *jobFile) noting(fn func() error) error {
	err := fn()
	narrow := outOfMemory(err)
	f.roomy = f.roomy || narrow
	kept := err != nil && strings.Contains(err.Error(), "COMMIT succeeded and is durable")
	if fatal(err) || errors.Is(err, errBroken) || kept || narrow {
		_ = f.shut()
	}
	if kept {
		return nil
	}
	return err
}

// change runs fn in a transaction. The caller has the file.
func (f *jobFile) change(ctx context.Context, fn func() error) error {
	return bracket(ctx, f.conn, statement{text: "BEGIN TRANSACTION"}, statement{text: "COMMIT"}, fn)
}

// open makes sure that the file is open, and reports whether there is one. The caller has
// the gate.
func (f *jobFile) open(ctx context.Context, create bool) (there bool, err error) {
	if f.closed {
		return false, errClosed
	}
	if f.conn != nil {
		return true, nil
	}
	if !fileExists(f.path) {
		if !create {
			return false, nil
		}
		err := createWhole(ctx, f.path, func(draft string) error {
			made := &jobFile{path: draft}
			return errors.Join(made.connect(ctx, f.path), made.shut())
		})
		if err != nil {
			return false, err
		}
	}
	name := f.path
	if dir, err := filepath.EvalSymlinks(filepath.Dir(name)); err == nil { // one name, however many links lead to it
		name = filepath.Join(dir, jobFileName)
	}
	if _, loaded := openPaths.LoadOrStore(name, true); loaded {
		return false, &Error{Op: "open", Err: fmt.Errorf("%s is open in this process already", name), Hint: "share the one *store.Store"}
	}
	err = f.connect(ctx, f.path)
	if outOfMemory(err) && !f.roomy {
		f.roomy = true
		err = f.connect(ctx, f.path)
	}
	if err != nil {
		openPaths.Delete(name)
		return false, err
	}
	f.name = name
	return true, nil
}

// connect opens the database and brings it to the current schema. shown is its path in
// messages. It is not interrupted; see file.connect.
func (f *jobFile) connect(ctx context.Context, shown string) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	options := url.Values{
		// It bounds what is kept in memory; all that is done takes less.
		"memory_limit": {"64MB"},
		"threads":      {"1"},
		// A server says each few seconds that it is there: what is in the log by then is
		// brought into the file, whose room is used again.
		"checkpoint_threshold": {"1MB"},
	}
	if f.roomy { // as one that was filled by a program that had no bounds
		options.Set("memory_limit", "4GB")
	}
	if f.readOnly {
		options.Set("access_mode", "read_only")
	}
	connector, err := duckdb.NewConnector(f.path+"?"+options.Encode(), nil)
	if err != nil {
		return openError(ctx, shown, err)
	}
	pool := sql.OpenDB(connector)
	conn, err := pool.Conn(ctx)
	if err == nil {
		f.pool, f.conn = pool, conn
		if err = f.adopt(ctx, shown); err != nil {
			_ = f.shut()
		}
	} else {
		_ = pool.Close()
	}
	return openError(ctx, shown, err)
}

// adopt makes sure that the file is one of jobs, of the current schema.
func (f *jobFile) adopt(ctx context.Context, shown string) error {
	steps, err := readMigrations(jobMigrations, "migrations/jobs", 1)
	if err != nil {
		return err
	}
	var tables, ours, version int
	err = f.conn.QueryRowContext(ctx, "SELECT count(*), count(*) FILTER (WHERE table_name = 'mds_job_migrations') FROM duckdb_tables()").Scan(&tables, &ours)
	switch {
	case err != nil:
		return err
	case tables > 0 && ours == 0:
		return &Error{Op: "open", Err: fmt.Errorf("%s is a DuckDB database of something else than jobs", shown), Hint: "move it away"}
	case ours > 0:
		if err := f.conn.QueryRowContext(ctx, "SELECT max(version) FROM mds_job_migrations").Scan(&version); err != nil {
			return err
		}
	}
	if version > len(steps) {
		return &VersionError{Path: shown, Version: version, Understood: len(steps)}
	}
	if f.readOnly || version == len(steps) {
		return nil
	}
	return f.change(ctx, func() error {
		if _, err := f.conn.ExecContext(ctx, "CREATE TABLE IF NOT EXISTS mds_job_migrations (version INTEGER NOT NULL, name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL)"); err != nil {
			return err
		}
		for _, step := range steps[version:] {
			if _, err := f.conn.ExecContext(ctx, step.sql); err != nil {
				return fmt.Errorf("migration %d of jobs (%s): %w", step.version, step.name, err)
			}
			if _, err := f.conn.ExecContext(ctx, "INSERT INTO mds_job_migrations VALUES (?, ?, ?)", step.version, step.name, time.Now().UTC()); err != nil {
				return err
			}
		}
		return nil
	})
}

// shut closes the database, which brings its log into the file. The caller has the gate.
func (f *jobFile) shut() error {
	if f.conn == nil {
		return nil
	}
	_ = f.conn.Close() // returns it to the pool
	err := f.pool.Close()
	f.conn, f.pool = nil, nil
	if f.name != "" {
		openPaths.Delete(f.name)
		f.name = ""
	}
	return err
}

// close closes the file, if it is open, after who uses it: for good, or until its next use.
func (f *jobFile) close(forGood bool) error {
	ctx := context.Background() //nolint:forbidigo // Close has none
	if err := f.gate.lock(ctx); err != nil {
		return err
	}
	defer f.gate.unlock()
	f.closed = f.closed || forGood
	return f.shut()
}

// hold keeps others from jobs until release is called, for one who removes a tenant. It
// opens the file where there is one.
func (f *jobFile) hold(ctx context.Context) (release func(), err error) {
	if err := f.gate.lock(ctx); err != nil {
		return nil, err
	}
	before := f.conn != nil
	if _, err := f.open(ctx, false); err != nil {
		f.gate.unlock()
		return nil, err
	}
	return func() {
		if !before { // it was not in use: others may want it
			_ = f.shut()
		}
		f.gate.unlock()
	}, nil
}

// forget removes the jobs of a tenant. The caller holds the file.
func (f *jobFile) forget(ctx context.Context, tenant mds.Tenant) error {
	if f.conn == nil {
		return nil
	}
	return f.noting(func() error {
		return f.change(ctx, func() error {
			if _, err := f.conn.ExecContext(ctx, "DELETE FROM jobs WHERE tenant = $1", tenant.Slug); err != nil {
				return err
			}
			return f.forgetRest(ctx)
		})
	})
}
