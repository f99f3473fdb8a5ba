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
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
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

	// PoolMax is the most connections. Defaults to 10.
	PoolMax int

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

	batchAccess access
}

// Open connects to the database that a DSN names: a URL, postgres://…, or keywords and
// values (PostgreSQL, "Connection Strings"); of several hosts the first that answers is
// taken. The database has to be migrated.
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
	config, err := pgxpool.ParseConfig(dsn)
	if err != nil {
		return nil, dsnError(err)
	}
	config.MaxConns = int32(cfg.PoolMax)
	// Statements are described once and prepared without a name: a pooler that gives
	// each transaction another server connection does not mind.
	config.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeCacheDescribe
	if _, ok := config.ConnConfig.RuntimeParams["application_name"]; !ok {
		config.ConnConfig.RuntimeParams["application_name"] = "mds"
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, wrap(ctx, "open", err)
	}
	s := &Store{pool: pool, cfg: cfg, idle: make(chan struct{}), batchAccess: batchWriting(cfg.StatementTimeout)}
	if err := s.checkVersion(ctx); err != nil {
		pool.Close()
		return nil, err
	}
	return s, nil
}

// schemaVersion is the newest migration of this program.
const schemaVersion = 1

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

func (s *Store) checkVersion(ctx context.Context) error {
	version, err := s.version(ctx)
	if err == nil && version != schemaVersion {
		err = &VersionError{version, schemaVersion}
	}
	return err
}

func (s *Store) version(ctx context.Context) (version int, err error) {
	err = s.pool.QueryRow(ctx, "SELECT coalesce(max(version_id), 0) FROM "+migrationsTable+" WHERE is_applied").Scan(&version)
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

// Tenants lists the tenants in order of their slugs.
func (s *Store) Tenants(ctx context.Context) ([]mds.Tenant, error) {
	leave, err := s.enter(false)
	if err != nil {
		return nil, err
	}
	defer leave()
	rows, err := s.pool.Query(ctx, "SELECT id::text, slug FROM mds_internal.tenants ORDER BY slug")
	if err != nil {
		return nil, wrap(ctx, "tenants", err)
	}
	tenants, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (t mds.Tenant, err error) {
		return t, row.Scan(&t.ID, &t.Slug)
	})
	return tenants, wrap(ctx, "tenants", err)
}

// Tenant finds a tenant by slug or UUID. The error wraps [mds.ErrUnknownTenant].
func (s *Store) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return mds.Tenant{}, err
	}
	return mds.FindTenant(tenants, slugOrID)
}

// CreateTenant makes a tenant. The error wraps [mds.ErrTenantExists] where there is one
// of the name.
func (s *Store) CreateTenant(ctx context.Context, slug string) (mds.Tenant, error) {
	tenant, err := mds.NewTenant(slug)
	if err != nil {
		return mds.Tenant{}, err
	}
	if s.cfg.ReadOnly {
		return mds.Tenant{}, errReadOnly
	}
	leave, err := s.enter(true)
	if err != nil {
		return mds.Tenant{}, err
	}
	defer leave()
	made, err := s.pool.Exec(ctx, "INSERT INTO mds_internal.tenants (id, slug, created_at) VALUES ($1::uuid, $2, clock_timestamp()) ON CONFLICT DO NOTHING", tenant.ID, slug)
	if err != nil {
		return mds.Tenant{}, wrap(ctx, "create tenant", err)
	}
	if made.RowsAffected() == 0 {
		return mds.Tenant{}, fmt.Errorf("%w: %s", mds.ErrTenantExists, slug)
	}
	return tenant, nil
}

// RemoveTenant removes a tenant and all that it has, after the writes under way. It
// refuses the default tenant, which always exists. The error wraps
// [mds.ErrUnknownTenant] where there is none.
func (s *Store) RemoveTenant(ctx context.Context, tenant mds.Tenant) error {
	if s.cfg.ReadOnly {
		return errReadOnly
	}
	if tenant == mds.DefaultTenant() {
		return &Error{Op: "remove", Class: Other, Err: errors.New("the default tenant always exists"), Hint: "remove what it has, kind by kind"}
	}
	leave, err := s.enter(true)
	if err != nil {
		return err
	}
	defer leave()
	err = pgx.BeginFunc(ctx, s.pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('app.tenant_id', $1, true), pg_advisory_xact_lock(hashtextextended($1, 7))", tenant.ID); err != nil {
			return err
		}
		for _, text := range removal() {
			if _, err := tx.Exec(ctx, text, tenant.ID); err != nil {
				return err
			}
		}
		removed, err := tx.Exec(ctx, "DELETE FROM mds_internal.tenants WHERE id = $1::uuid AND slug = $2", tenant.ID, tenant.Slug)
		if err == nil && removed.RowsAffected() == 0 {
			err = unknownTenant(tenant.Slug)
		}
		return err
	})
	return wrap(ctx, "remove", err)
}

// removal is what removes a tenant's records.
func removal() (texts []string) {
	for _, noun := range []string{"bar", "option", "fundamental", "news_item"} {
		series := "mds_internal." + noun + "_series"
		tables := []string{"mds_internal." + noun + "_facts"}
		if noun == "bar" {
			tables = nil
			for _, tf := range mds.Timeframes() {
				tables = append(tables, "mds_internal.bar_facts_"+string(tf))
			}
		}
		for _, table := range tables {
			texts = append(texts, fmt.Sprintf("DELETE FROM %s WHERE series_id IN (SELECT id FROM %s WHERE tenant_id = $1::uuid)", table, series))
		}
		texts = append(texts, fmt.Sprintf("DELETE FROM %s WHERE tenant_id = $1::uuid", series))
	}
	return texts
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

func quoteText(text string) string { return "'" + strings.ReplaceAll(text, "'", "''") + "'" }
