package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"net/url"
	"os"
	"sync"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// file is one tenant's database, open.
type file struct {
	path    string
	tenant  mds.Tenant
	logger  *slog.Logger
	version int

	db *sql.DB // readers

	// writer serialises writes: whoever holds its one token has conn and
	// series to itself.
	writer chan struct{}
	closed chan struct{} // closed when the file begins to close
	conn   *sql.Conn
	series map[string]*seriesIDs // by kind
	// functions are the batch table functions registered on this instance.
	functions map[string]bool
}

// openPaths are the files open in this process. POSIX file locks do not keep
// a process from itself, and two writers of one file would each believe to be
// the only one.
var openPaths sync.Map

// openFile opens or makes path and brings it to the current schema.
func openFile(ctx context.Context, path string, tenant mds.Tenant, cfg Config) (*file, error) {
	if _, loaded := openPaths.LoadOrStore(path, true); loaded {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%s is open in this process already", path), Hint: "share the one *store.Store"}
	}
	f := &file{
		path:      path,
		tenant:    tenant,
		logger:    cfg.Logger,
		writer:    make(chan struct{}, 1),
		closed:    make(chan struct{}),
		series:    make(map[string]*seriesIDs),
		functions: make(map[string]bool),
	}
	readOnly := cfg.ReadOnly && fileExists(path)
	err := f.connect(ctx, cfg, readOnly)
	if errors.Is(err, errNeedsMigration) {
		f.disconnect()
		err = f.connect(ctx, cfg, false)
	}
	if err != nil {
		f.disconnect()
		openPaths.Delete(path)
		return nil, openError(path, err)
	}
	f.logger.DebugContext(ctx, "file opened", "file", path, "read_only", readOnly)
	return f, nil
}

var errNeedsMigration = errors.New("the file needs a migration and is open for reading only")

func (f *file) connect(ctx context.Context, cfg Config, readOnly bool) error {
	options := url.Values{"memory_limit": {cfg.MemoryLimit}}
	if readOnly {
		options.Set("access_mode", "read_only")
	}
	connector, err := duckdb.NewConnector(f.path+"?"+options.Encode(), nil)
	if err != nil {
		return err
	}
	f.db = sql.OpenDB(connector)
	f.conn, err = f.db.Conn(ctx)
	if err != nil {
		return err
	}
	version, tenant, err := identity(ctx, f.conn)
	if err != nil {
		return err
	}
	if version == 0 {
		foreign, err := foreignTables(ctx, f.conn)
		if err != nil {
			return err
		}
		if foreign > 0 {
			return &Error{Op: "open", Err: fmt.Errorf("%s is a DuckDB database of another program (%d tables, none of them ours)", f.path, foreign), Hint: "name another folder with --dsn duckdb://DIR"}
		}
	}
	if version > SchemaVersion() {
		return &VersionError{Path: f.path, Version: version, Understood: SchemaVersion()}
	}
	if version > 0 && tenant != f.tenant {
		return &Error{Op: "open", Err: fmt.Errorf("%s holds the data of tenant %s", f.path, tenant.Slug), Hint: "give the file its old name back"}
	}
	if version < SchemaVersion() && readOnly {
		return errNeedsMigration
	}
	if err := f.migrate(ctx, f.conn, version); err != nil {
		return err
	}
	f.version = SchemaVersion()
	return nil
}

func (f *file) disconnect() {
	if f.conn != nil {
		_ = f.conn.Close()
	}
	if f.db != nil {
		_ = f.db.Close()
	}
	f.conn, f.db = nil, nil
}

// close waits for the write under way and closes the file, which checkpoints
// it. It is called once.
func (f *file) close() error {
	close(f.closed)
	f.writer <- struct{}{} // kept: nobody writes any more
	err := errors.Join(f.conn.Close(), f.db.Close())
	openPaths.Delete(f.path)
	return err
}

// lockWriter waits for the writer's token. The caller gives it back with
// unlockWriter.
func (f *file) lockWriter(ctx context.Context) error {
	select {
	case <-f.closed:
		return errClosed
	default:
	}
	select {
	case f.writer <- struct{}{}:
		return nil
	case <-f.closed:
		return errClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (f *file) unlockWriter() { <-f.writer }

func (f *file) info(ctx context.Context) (mds.StoreInfo, error) {
	info := mds.StoreInfo{
		Location:      f.path,
		Tenant:        f.tenant.Slug,
		TenantID:      f.tenant.ID,
		SchemaVersion: f.version,
	}
	for _, path := range []string{f.path, f.path + ".wal"} {
		if stat, err := os.Stat(path); err == nil {
			info.Bytes += stat.Size()
		}
	}
	var version string
	if err := f.db.QueryRowContext(ctx, "SELECT version()").Scan(&version); err != nil {
		return info, err
	}
	info.Engine = "DuckDB " + version
	return info, nil
}
