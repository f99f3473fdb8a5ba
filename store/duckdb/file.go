package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// file is one tenant's database, open.
type file struct {
	path     string
	name     string // the path in messages: that of a draft is nobody's business
	tenant   mds.Tenant
	cfg      Config
	readOnly bool
	logger   *slog.Logger

	// pool is where readers take connections from; nil while a file that
	// failed could not be opened again.
	pool atomic.Pointer[sql.DB]
	// failed is set when DuckDB has given the instance up (a checkpoint that
	// found no room on the disk): it answers nothing until it is opened again.
	failed atomic.Bool

	readers readers

	// scans keeps statements that read out of large commits; see inTransaction.
	scans gate
	sqls  *sqls
	rows  rowIDs

	// version is the schema version. A file open for reading may have an older
	// one than this program's, and lack tables.
	version atomic.Int64

	// writer serialises writes: whoever holds its one token has what follows
	// to itself.
	writer chan struct{}
	closed chan struct{} // closed when the file begins to close
	gone   error         // why, from then on
	conn   *sql.Conn
	series map[string]*seriesIDs // by kind
	// queues have the batches that wait for the token, by kind: *queue[R].
	queues sync.Map
	latest sync.Map // the newest records by kind: *latest[R]
	// moved rows were written anew by compaction since the file was last written out.
	moved atomic.Int64
	// rolled are the timeframes of bars of which there are rollups; nil where they have to
	// be read. The writer's.
	rolled map[mds.Timeframe]bool
	texts  bool  // rows with texts were written since then; the writer's
	memory int64 // DuckDB's, in bytes
	// tryAgain is the size of the log from which on it is written out.
	tryAgain int64
	upkeep   upkeep
	// functions are the batch table functions registered on this instance.
	functions map[string]bool
}

// openPaths are the files open in this process. POSIX file locks do not keep
// a process from itself, and two writers of one file would each believe to be
// the only one.
var openPaths sync.Map

// openFile opens or makes path and brings it to the current schema, unless it is
// for reading: that needs no leave to write, and keeps no other reader out.
func openFile(ctx context.Context, path string, tenant mds.Tenant, cfg Config) (*file, error) {
	// One name for a folder, however many links lead to it.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(path)); err == nil {
		path = filepath.Join(dir, filepath.Base(path))
	}
	if _, loaded := openPaths.LoadOrStore(path, true); loaded {
		return nil, &Error{Op: "open", Err: fmt.Errorf("%s is open in this process already", path), Hint: "share the one *store.Store"}
	}
	if !cfg.ReadOnly && !fileExists(path) {
		if err := createFile(ctx, path, tenant, cfg); err != nil {
			openPaths.Delete(path)
			return nil, err
		}
	}
	f := newFile(path, tenant, cfg)
	if err := f.connect(ctx); err != nil {
		openPaths.Delete(path)
		return nil, err
	}
	f.logger.DebugContext(ctx, "file opened", "file", path, "read_only", f.readOnly)
	return f, nil
}

func newFile(path string, tenant mds.Tenant, cfg Config) *file {
	return &file{
		path:     path,
		name:     path,
		tenant:   tenant,
		cfg:      cfg,
		readOnly: cfg.ReadOnly,
		logger:   cfg.Logger,
		scans:    newGate(),
		sqls:     newSQLs(),
		rows:     rowIDs{pinning: newGate()},
		writer:   make(chan struct{}, 1),
		closed:   make(chan struct{}),
		memory:   bytesOf(cfg.MemoryLimit),
		tryAgain: maxLog,
	}
}

var errFailed = &Error{Op: "open", Err: errors.New("the file failed and opens again when the queries under way have ended"), retry: true}

// connect opens the instance and its connections, and migrates the file. The
// caller holds the writer's token, or is the only one to know f.
//
// It is not interrupted when ctx ends: DuckDB may keep an instance whose
// opening was interrupted, and the next opening would wait for it for ever.
func (f *file) connect(ctx context.Context) (err error) {
	if err := ctx.Err(); err != nil {
		return err
	}
	ctx = context.WithoutCancel(ctx)
	options := lockedDown()
	maps.Copy(options, url.Values{
		"memory_limit": {f.cfg.MemoryLimit},
		// Every query says its order. Without one of its own the database may let
		// several threads append.
		"preserve_insertion_order": {"false"},
		// The writer says when; see checkpoint.
		"checkpoint_threshold": {"1TB"},
	})
	if f.readOnly {
		options.Set("access_mode", "read_only")
	}
	connector, err := duckdb.NewConnector(f.path+"?"+options.Encode(), nil)
	if err != nil {
		return openError(ctx, f.name, err)
	}
	pool := sql.OpenDB(connector)
	var conn *sql.Conn
	defer func() {
		if err != nil {
			if conn != nil {
				_ = conn.Close()
			}
			_ = pool.Close()
			err = openError(ctx, f.name, err)
		}
	}()
	if conn, err = pool.Conn(ctx); err != nil {
		return err
	}
	if err := f.lock(ctx, conn); err != nil {
		return err
	}
	if err := f.adopt(ctx, conn); err != nil {
		return err
	}
	f.texts = fileExists(f.path + ".wal") // which may have some
	f.rolled = nil
	f.conn, f.series, f.functions = conn, make(map[string]*seriesIDs), make(map[string]bool)
	f.pool.Store(pool)
	return nil
}

// adopt makes sure that the file is this tenant's and of the current schema.
func (f *file) adopt(ctx context.Context, conn *sql.Conn) error {
	applied, tenant, err := identity(ctx, conn)
	if err != nil {
		return err
	}
	fresh := len(applied) == 0
	if fresh {
		foreign, err := foreignTables(ctx, conn)
		if err != nil {
			return err
		}
		if foreign > 0 {
			return &Error{Op: "open", Err: fmt.Errorf("%s is a DuckDB database of another program (%d tables, none of them ours)", f.path, foreign), Hint: "name another folder with --dsn duckdb://DIR"}
		}
	}
	for _, version := range applied {
		if version > SchemaVersion() && version < ownMigrations {
			return &VersionError{Path: f.path, Version: version, Understood: SchemaVersion()}
		}
	}
	if !fresh && tenant != f.tenant {
		return &Error{Op: "open", Err: fmt.Errorf("%s holds the data of tenant %s", f.path, tenant.Slug), Hint: "give the file its old name back"}
	}
	steps, err := migrations(f.cfg.Migrations)
	if err != nil {
		return err
	}
	steps = slices.DeleteFunc(steps, func(m migration) bool { return slices.Contains(applied, m.version) })
	if f.readOnly {
		for _, version := range applied {
			if version < ownMigrations {
				f.version.Store(max(f.version.Load(), int64(version)))
			}
		}
		return nil
	}
	f.version.Store(int64(SchemaVersion()))
	return f.migrate(ctx, conn, steps, fresh)
}

// hasTable reports whether the file has a table, which one of an older schema
// that is open for reading may not.
func (f *file) hasTable(ctx context.Context, conn *reader, name string) (there bool, err error) {
	if !f.readOnly || f.version.Load() == int64(SchemaVersion()) && f.cfg.Migrations == nil {
		return true, nil
	}
	err = conn.one(ctx, "SELECT count(*) > 0 FROM duckdb_tables() WHERE table_name = ?", []any{name}, &there)
	return there, err
}

// close waits for the write under way and closes the file, which checkpoints
// it; reads under way go on, and the last of them closes it. Who comes later is told
// the reason. It is called once.
func (f *file) close(reason error) error {
	f.gone = reason
	close(f.closed)
	f.writer <- struct{}{} // kept: nobody writes any more
	return f.shut()
}

// shut is the rest of close, for whoever has the writer's token.
func (f *file) shut() error {
	f.upkeep.stop()
	f.upkeep.last(f)
	f.writeOutLast()
	result := make(chan error, 1)
	f.readers.stop(func() {
		err := f.disconnect()
		openPaths.Delete(f.path)
		result <- err
	})
	select {
	case err := <-result:
		return err
	default:
		return nil // the last reader closes it
	}
}

// writeOutLast writes texts out, for which DuckDB's own checkpoint at closing may not
// have the memory.
func (f *file) writeOutLast() {
	if f.readOnly || !f.texts || f.conn == nil || f.failed.Load() {
		return
	}
	ctx := context.Background() //nolint:forbidigo // Close has none
	if err := f.writeOut(ctx); err != nil {
		f.noteWrite(err)
		f.logger.WarnContext(ctx, "checkpoint", "file", f.path, "error", firstLineError{err})
	}
}

func (f *file) disconnect() error {
	pool := f.pool.Swap(nil)
	if pool == nil {
		return nil
	}
	if f.conn != nil {
		_ = f.conn.Close() // returns it to the pool
		f.conn = nil
	}
	return pool.Close()
}

// lockWriter waits for the writer's token, and opens the instance again if it
// failed. The caller gives the token back with unlockWriter.
func (f *file) lockWriter(ctx context.Context) error {
	return f.lockWriterUnless(ctx, nil)
}

// errDone ends the waiting for the token of one who needs it no more.
var errDone = errors.New("done by another")

// lockWriterUnless is lockWriter for one who may not need the token in the end:
// when done is closed first, it fails with errDone.
func (f *file) lockWriterUnless(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-f.closed:
		return f.gone
	default:
	}
	select {
	case f.writer <- struct{}{}:
		return f.repairOrUnlock(ctx)
	default:
		f.upkeep.giveWay()
	}
	select {
	case f.writer <- struct{}{}:
		return f.repairOrUnlock(ctx)
	case <-done:
		return errDone
	case <-f.closed:
		return f.gone
	case <-ctx.Done():
		return ctx.Err()
	}
}

// taking runs fn with the writer's token.
func (f *file) taking(ctx context.Context, fn func() error) error {
	if err := f.lockWriter(ctx); err != nil {
		return err
	}
	defer f.unlockWriter()
	return fn()
}

func (f *file) repairOrUnlock(ctx context.Context) error {
	err := f.repair(ctx)
	if err != nil {
		f.unlockWriter()
	}
	return err
}

// repair replaces a dropped connection of the writer, and opens a failed
// instance again. The caller holds the writer's token.
func (f *file) repair(ctx context.Context) error {
	if f.failed.Load() {
		return f.reconnect(ctx)
	}
	if f.conn != nil {
		return nil
	}
	conn, err := f.pool.Load().Conn(ctx)
	if err == nil {
		f.conn = conn
	}
	return err
}

func (f *file) reconnect(ctx context.Context) error {
	// DuckDB keeps the failed instance while anyone holds it.
	if !f.readers.exclude() {
		return errFailed
	}
	defer f.readers.admit()
	if err := f.disconnect(); err != nil {
		f.logger.WarnContext(ctx, "closing a failed file", "file", f.path, "error", err)
	}
	if err := f.connect(ctx); err != nil {
		return err
	}
	f.failed.Store(false)
	f.logger.InfoContext(ctx, "file opened again after a failure", "file", f.path)
	return nil
}

// maxLog is the size of the log from which on it is brought into the file. Larger
// pieces are compressed at less cost, and a log of this size is read again within a
// second.
const maxLog = 64 << 20

// checkpoint brings the log into the file when it is large. DuckDB would do it as part
// of a commit, which no snapshot may begin in. What is in the log is on the disk, so
// that a checkpoint that fails fails nothing else; the file is opened again then. The
// caller holds the writer's token.
func (f *file) checkpoint(ctx context.Context) {
	stat, err := os.Stat(f.path + ".wal")
	if err != nil || stat.Size() < f.tryAgain || f.conn == nil {
		return
	}
	f.tryAgain = maxLog
	if err := f.writeOut(ctx); err != nil {
		f.tryAgain = 2 * stat.Size() // what opens the file again reads all of it
		f.noteWrite(err)
		f.logger.WarnContext(ctx, "checkpoint", "file", f.path, "error", firstLineError{err})
	}
}

func (f *file) unlockWriter() { <-f.writer }

// note looks whether err says that the instance is of no use any more.
func (f *file) note(err error) {
	if fatal(err) {
		f.failed.Store(true)
	}
}

// noteWrite does the same for an error of the writer, whose connection may be
// lost as well. The caller holds the writer's token.
func (f *file) noteWrite(err error) {
	f.note(err)
	if outOfMemory(err) || fatal(err) {
		f.sqls.endAll() // what they have the next attempt needs
	}
	if errors.Is(err, errBroken) {
		_ = f.conn.Close() // dropped already
		f.conn = nil
	}
}

// unusable says why nothing can be read.
func (f *file) unusable() error {
	select {
	case <-f.closed:
		return f.gone
	default:
		return errFailed
	}
}

// snapshot runs fn on a connection of its own, in a snapshot of the file. One that
// goes by row ids in several statements has to be pinned.
func (f *file) snapshot(ctx context.Context, pinned bool, fn func(*reader) error) (err error) {
	return f.connected(ctx, func(r *reader) error {
		return inSnapshot(ctx, r.Conn, func() error {
			if pinned {
				if err := f.rows.pin(ctx, r); err != nil {
					return err
				}
				defer f.rows.unpin()
			}
			return fn(r)
		})
	})
}

// connected runs fn on a connection of its own.
func (f *file) connected(ctx context.Context, fn func(*reader) error) (err error) {
	if f.failed.Load() {
		if err := f.lockWriter(ctx); err != nil {
			return err
		}
		f.unlockWriter()
	}
	if !f.readers.enter() {
		return f.unusable()
	}
	defer f.readers.leave()
	defer func() { f.note(err) }()
	pool := f.pool.Load()
	if pool == nil {
		return f.unusable()
	}
	conn, err := pool.Conn(ctx)
	if err != nil {
		return err
	}
	defer conn.Close() //nolint:errcheck // returns it to the pool
	return fn(&reader{conn, f.scans})
}

func (f *file) info(ctx context.Context) (mds.StoreInfo, error) {
	info := mds.StoreInfo{
		Location:      f.path,
		Tenant:        f.tenant.Slug,
		TenantID:      f.tenant.ID,
		SchemaVersion: int(f.version.Load()),
	}
	for _, path := range []string{f.path, f.path + ".wal"} {
		if stat, err := os.Stat(path); err == nil {
			info.Bytes += stat.Size()
		}
	}
	var version string
	err := f.snapshot(ctx, false, func(conn *reader) error {
		return conn.one(ctx, "SELECT version()", nil, &version)
	})
	info.Engine = "DuckDB " + version
	return info, err
}
