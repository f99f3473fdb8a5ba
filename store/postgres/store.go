// Package postgres keeps market data in PostgreSQL, version 15 or newer.
//
// A series is kept once, with an id; facts are (series_id, time, values), of bars in one
// table a timeframe. The store connects as a service login, which works for one tenant a
// transaction; the owner's login migrates (see [Migrate]).
package postgres

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"math"
	"slices"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/marketdatastore/mds"
)

// Config configures a [Store]. The zero value is usable.
type Config struct {
	// ReadOnly refuses to write. Defaults to false.
	ReadOnly bool

	// WriteMode is how batches are written: "copy" copies them into the table, which
	// fails where a row is there already, "merge" upserts them from a staging table,
	// "unnest" from the arguments of a statement; "auto" takes the first where nothing
	// of a batch can be there, and the last for some hundred rows. Defaults to "auto".
	WriteMode string

	// PoolMax is the most connections, of which queries take three quarters. Defaults to
	// 10; the least is 2.
	PoolMax int

	// Migrations make the tables of kinds beside those of this module: files
	// postgres/1001_NAME.sql, numbered from 1001 without a gap, which [Migrate] applies
	// after the ones of this module. Defaults to none.
	Migrations fs.FS

	// StatementTimeout ends a statement of a batch on the server that takes longer: the
	// batch is not written, and may be sent again. Defaults to 30 seconds; less than
	// zero leaves it to the server's settings. Queries have the caller's context only,
	// since they last as long as their rows are taken.
	StatementTimeout time.Duration

	// Logger receives what happens to the store. Defaults to discarding it.
	Logger *slog.Logger
}

// The write modes.
const (
	WriteAuto  = "auto"
	WriteCopy  = "copy"
	WriteMerge = "merge"
	// WriteUnnest sends rows as arguments.
	WriteUnnest = "unnest"
)

// Store is one database. It is safe for concurrent use.
type Store struct {
	pool *pgxpool.Pool
	cfg  Config

	mu     sync.Mutex
	closed bool
	users  int           // calls under way
	idle   chan struct{} // closed when the last of them has ended after Close
	writes sync.WaitGroup

	tables sync.Map // *Table by kind

	readers  chan struct{} // those who have a connection to read
	patience time.Duration // with which a connection is waited for
	single   bool          // the login is the owner's: it works for the default tenant
}

// Open connects to the database that a DSN names: a URL, postgres://…, or keywords and
// values (PostgreSQL, "Connection Strings"). Of several hosts the first that answers is
// taken, to write the first that is no standby, again after a failover. The database has
// to be migrated.
//
// With the login of the owner of the database, or one that no policy binds, it works for
// the default tenant only, and logs a warning: to keep tenants apart the service needs a
// login of its own (see [GrantService]).
func Open(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	switch cfg.WriteMode {
	case "":
		cfg.WriteMode = WriteAuto
	case WriteAuto, WriteCopy, WriteMerge, WriteUnnest:
	default:
		return nil, fmt.Errorf("write mode %q: use %s, %s, %s or %s", cfg.WriteMode, WriteAuto, WriteCopy, WriteMerge, WriteUnnest)
	}
	if cfg.PoolMax <= 0 {
		cfg.PoolMax = 10
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.StatementTimeout == 0 {
		cfg.StatementTimeout = 30 * time.Second
	}
	config, err := poolConfig(dsn)
	if err != nil {
		return nil, err
	}
	if cfg.PoolMax < 2 { // one who reads may write
		cfg.PoolMax = 2
	}
	config.MaxConns = int32(min(cfg.PoolMax, math.MaxInt32))
	// Statements are described once and prepared without a name: a pooler that gives
	// each transaction another server connection does not mind.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	parameters := config.ConnConfig.RuntimeParams
	if _, ok := parameters["application_name"]; !ok {
		parameters["application_name"] = "mds"
	}
	if config.ConnConfig.ValidateConnect == nil && !cfg.ReadOnly {
		config.ConnConfig.ValidateConnect = noStandby
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, wrap(ctx, "open", err)
	}
	s := &Store{pool: pool, cfg: cfg, idle: make(chan struct{}), patience: 30 * time.Second}
	s.readers = make(chan struct{}, cfg.PoolMax-max(1, cfg.PoolMax/4))
	if err := wrap(ctx, "open", s.check(ctx)); err != nil {
		pool.Close()
		return nil, err
	}
	if s.single {
		cfg.Logger.WarnContext(ctx, "the login is not bound by the policies that keep tenants apart: only the default tenant is served; "+singleHint, "login", config.ConnConfig.User)
	}
	return s, nil
}

// noStandby refuses a server that takes no writes.
func noStandby(ctx context.Context, conn *pgconn.PgConn) error {
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_is_in_recovery()").ReadAll()
	if err == nil && len(results) == 1 && len(results[0].Rows) == 1 && string(results[0].Rows[0][0]) == "t" {
		err = errors.New("it is a standby, which takes no writes")
	}
	return err
}

// connectTimeout bounds how long a server may take to answer, where the DSN does not.
const connectTimeout = 10 * time.Second

const singleHint = "give the service a login of its own in MDS_DSN, and run mds migrate with MDS_ADMIN_DSN"

var errSingle = &Error{Op: "open", Class: Denied, Err: errors.New("the login is the owner's, or a superuser's, and works for the default tenant only"), Hint: singleHint}

// schemaVersion is the newest migration of this program.
const schemaVersion = 7

// VersionError reports a database with a schema that this program does not know, or
// lacks something of.
type VersionError struct {
	Version, Understood int
}

func (e *VersionError) Error() string {
	if e.Version > e.Understood {
		return fmt.Sprintf("the database has schema version %d, and this mds knows up to %d; use a newer mds", e.Version, e.Understood)
	}
	return fmt.Sprintf("the database has schema version %d, and this mds needs %d; let the owner run mds migrate", e.Version, e.Understood)
}

// check looks whether the database is one to work with.
func (s *Store) check(ctx context.Context) error {
	return s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		var server int
		var encoding string
		var unbound bool
		err := w.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, current_setting('server_encoding'), r.rolsuper OR r.rolbypassrls
			OR coalesce((SELECT pg_has_role(session_user, n.nspowner, 'MEMBER') FROM pg_namespace n WHERE n.nspname = 'mds_internal'), false)
			FROM pg_roles r WHERE r.rolname = session_user`).Scan(&server, &encoding, &unbound)
		if err != nil {
			return err
		}
		s.single = unbound
		const oldest, major = 15, 10_000
		if server < oldest*major {
			return fmt.Errorf("the server is PostgreSQL %d, and %d or newer is needed", server/major, oldest)
		}
		if encoding != "UTF8" {
			return encodingError(encoding)
		}
		applied, err := appliedVersions(ctx, w)
		if err != nil {
			return err
		}
		wanted, err := migrations(s.cfg.Migrations)
		if err != nil {
			return err
		}
		return compareVersions(applied, wanted)
	})
}

func encodingError(encoding string) error {
	return fmt.Errorf("the database has the encoding %s: make one with UTF8", encoding)
}

// appliedVersions are the migrations that the database has.
func appliedVersions(ctx context.Context, w *work) ([]int, error) {
	rows, err := w.Query(ctx, "SELECT DISTINCT version_id::int FROM "+migrationsTable+" WHERE is_applied AND version_id > 0")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int])
}

// compareVersions refuses a database that is newer than the program, or older. The
// migrations of kinds that the program does not know do not matter.
func compareVersions(applied, wanted []int) error {
	newest := 0
	for _, version := range applied {
		if version < ownMigrations {
			newest = max(newest, version)
		}
	}
	if newest > schemaVersion {
		return &VersionError{newest, schemaVersion}
	}
	for _, version := range wanted {
		if !slices.Contains(applied, version) {
			return &VersionError{newest, version}
		}
	}
	return nil
}

// version is the newest migration of this module that the database has.
func (s *Store) version(ctx context.Context) (version int, err error) {
	err = s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		applied, err := appliedVersions(ctx, w)
		for _, v := range applied {
			if v < ownMigrations {
				version = max(version, v)
			}
		}
		return err
	})
	return version, wrap(ctx, "open", err)
}

// enter begins a call, which the returned function ends.
func (s *Store) enter(writes bool) (leave func(), err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return nil, errClosed
	}
	s.users++
	if writes {
		s.writes.Add(1)
	}
	return func() {
		if writes {
			s.writes.Done()
		}
		s.mu.Lock()
		defer s.mu.Unlock()
		if s.users--; s.users == 0 && s.closed {
			close(s.idle)
		}
	}, nil
}

// Close ends the store after the writes under way. Queries under way go on to their
// end, and the last of them closes the connections. Close is idempotent.
func (s *Store) Close() error {
	s.mu.Lock()
	again := s.closed
	s.closed = true
	users := s.users
	if !again && users == 0 {
		close(s.idle)
	}
	s.mu.Unlock()
	s.writes.Wait()
	if again {
		return nil
	}
	select {
	case <-s.idle:
		s.pool.Close()
	default:
		go func() {
			<-s.idle
			s.pool.Close()
		}()
	}
	return nil
}

// Ping checks that the tenant's data can be reached.
func (s *Store) Ping(ctx context.Context, tenant mds.Tenant) error {
	leave, err := s.enter(false)
	if err != nil {
		return err
	}
	defer leave()
	return wrap(ctx, "ping", s.inTransaction(ctx, tenant, readAccess, func(*work) error { return nil }))
}

// SchemaVersion returns the newest migration applied.
func (s *Store) SchemaVersion(ctx context.Context, _ mds.Tenant) (int, error) {
	leave, err := s.enter(false)
	if err != nil {
		return 0, err
	}
	defer leave()
	return s.version(ctx)
}

// Identity tells the database from others, whatever the DSN.
func (s *Store) Identity(ctx context.Context) (id string, err error) {
	leave, err := s.enter(false)
	if err != nil {
		return "", err
	}
	defer leave()
	err = s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		return w.QueryRow(ctx, "SELECT (SELECT e.id::text FROM mds_internal.epoch e) || ' ' || pg_postmaster_start_time()::text || ' ' || d.oid FROM pg_database d WHERE d.datname = current_database()").Scan(&id)
	})
	return id, wrap(ctx, "open", err)
}

// Info describes the database. Bytes are those of all tenants.
func (s *Store) Info(ctx context.Context, tenant mds.Tenant) (mds.StoreInfo, error) {
	leave, err := s.enter(false)
	if err != nil {
		return mds.StoreInfo{}, err
	}
	defer leave()
	config := s.pool.Config().ConnConfig
	info := mds.StoreInfo{
		Location: fmt.Sprintf("postgres://%s@%s:%d/%s", config.User, config.Host, config.Port, config.Database),
		Tenant:   tenant.Slug, TenantID: tenant.ID, SchemaVersion: schemaVersion,
	}
	err = s.inTransaction(ctx, tenant, readAccess, func(w *work) error {
		return w.QueryRow(ctx, `SELECT 'PostgreSQL ' || current_setting('server_version'),
			(SELECT coalesce(sum(pg_total_relation_size(c.oid)), 0)::bigint FROM pg_class c WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relkind IN ('r', 'p'))`).Scan(&info.Engine, &info.Bytes)
	})
	return info, wrap(ctx, "info", err)
}
