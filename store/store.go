// Package store opens a market data store and gives typed access to what it
// holds. The DSN picks the engine:
//
//	duckdb://DIR                             DuckDB files in the folder DIR, one a tenant (see store/duckdb)
//	postgres://USER:PASSWORD@HOST/DATABASE   PostgreSQL, migrated by mds migrate (see store/postgres)
//	https://HOST                             what mds serve serves there (see store/remote)
//
// What every engine promises is written at [Table], and kept by the suite in
// store/storetest.
package store

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"iter"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// Backend is what a storage engine provides beside its tables.
type Backend interface {
	// Tenants lists the tenants in order of their slugs.
	Tenants(ctx context.Context) ([]mds.Tenant, error)
	// Tenant finds a tenant by slug or UUID, or fails with
	// [mds.ErrUnknownTenant].
	Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error)
	// CreateTenant makes a tenant, or fails with [mds.ErrTenantExists].
	CreateTenant(ctx context.Context, slug string) (mds.Tenant, error)
	// RemoveTenant removes a tenant and all that it has, but the default one. It
	// fails with [mds.ErrUnknownTenant] where there is none.
	RemoveTenant(ctx context.Context, tenant mds.Tenant) error
	// Ping checks that the tenant's data can be reached.
	Ping(ctx context.Context, tenant mds.Tenant) error
	// SchemaVersion returns the newest migration applied.
	SchemaVersion(ctx context.Context, tenant mds.Tenant) (int, error)
	// Info describes where and what the store is.
	Info(ctx context.Context, tenant mds.Tenant) (mds.StoreInfo, error)
	// Policies are those in force, with what changed of a tenant's bars since rollups were
	// made of them.
	Policies(ctx context.Context, tenant mds.Tenant) ([]mds.PolicyStatus, error)
	// Refresh makes the rollups anew of what changed in a tenant's bars, the newest first,
	// of so many bars at most, roughly; 0 is no limit. Wherever it ends, what is left is
	// known.
	Refresh(ctx context.Context, tenant mds.Tenant, bars int64) (mds.Refreshed, error)
	// Resample reads longer bars than are stored, in one snapshot, in order of time, then
	// of identity: from rollups, where there are any that answer exactly, and otherwise
	// from the bars. The sequence ends after its first error.
	Resample(ctx context.Context, tenant mds.Tenant, query mds.ResampleQuery) iter.Seq2[mds.Bar, error]
	// APIKeys are the keys that requests are checked against, all of them; their names and
	// times of creation may be missing. [OpenKeys] makes and revokes them.
	APIKeys(ctx context.Context) ([]mds.APIKey, error)
	// KeptAnswer finds what a tenant's request with an idempotency key was answered with,
	// within the last [mds.AnswersKeptFor].
	KeptAnswer(ctx context.Context, tenant mds.Tenant, key string) (answer mds.KeptAnswer, found bool, err error)
	// KeepAnswer keeps an answer: when it returns it is on the disk. Of several with one key
	// the first is kept, until it is too old; it returns the one that is. It fails with an
	// [*mds.InvalidError] where the answer is none.
	KeepAnswer(ctx context.Context, tenant mds.Tenant, answer mds.KeptAnswer) (mds.KeptAnswer, error)
	// Close ends the store after the writes under way. It is idempotent.
	Close() error
}

// Table reads and writes one kind of record. It is safe for concurrent use.
// A tenant that the store does not hold fails with [mds.ErrUnknownTenant].
type Table[R any] interface {
	// WriteBatch upserts records in one transaction, all or none; when it
	// returns without an error they are on the disk. Of records with one key
	// the last wins; a record replaces the stored row whole; a record equal to
	// the stored row changes nothing. It must not keep or change records.
	//
	// An invalid record fails the batch with an [*mds.RecordError];
	// [mds.Retryable] tells whether the batch may be sent again.
	WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error)
	// WriteLate upserts records that come late, as they were submitted at a time: a
	// dead letter that is replayed, a batch that is delivered again. It is WriteBatch
	// but for this: a stored row that changed (updated_at) at that time or after it
	// stays, and its record counts as superseded, or as unchanged where the two are
	// equal. Which it is, is decided as the batch is written, whoever else writes.
	//
	// updated_at is by the clock of the store, and of what is written late, too, it is
	// the time of the write: of late batches with the same keys the first that is
	// written stays, so that the newest should be.
	WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error)
	// Query reads a window of records, in one snapshot and constant memory.
	// The sequence ends after its first error.
	Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error]
	// Latest returns the newest record of each series, in order of identity: of
	// fundamentals, that of each period, as it is known (see
	// [mds.Selection.KnownAt]). News have none.
	Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]R, error)
	// Series lists the series that hold records, in order of identity.
	Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error)
	// Count returns the number of records.
	Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error)
	// Delete removes records and returns their number. A selection with KnownAt
	// is refused.
	Delete(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error)
	// Info sums up the kind.
	Info(ctx context.Context, tenant mds.Tenant) (mds.KindInfo, error)
}

// Compacter is a table of a store that can put its rows in an order in which queries
// for one series read less. It does so by itself when little is written; this does it
// at once.
type Compacter interface {
	// Compact goes on until all is in order, or ctx ends. It loses and changes
	// nothing, wherever it is interrupted.
	Compact(ctx context.Context, tenant mds.Tenant) (mds.Compaction, error)
}

// Config configures a [Store]. The zero value is usable.
type Config struct {
	// ReadOnly opens the store for reading, and refuses to write. With DuckDB
	// several processes may then read at once. A store that is not there is an
	// error that wraps [mds.ErrNoStore]; one of an older schema is read as it is.
	// Defaults to false.
	ReadOnly bool

	// MemoryLimit bounds the memory of an embedded engine per open tenant: a
	// number and a unit, such as "512MB" or "2GB". Defaults to 512MB.
	MemoryLimit string

	// WriteMode is how batches are written: "auto", or a way that the engine has
	// beside it; with DuckDB "merge", with PostgreSQL "copy", which fails where a row is
	// there already, "merge" or "unnest". What is stored is the same. Defaults to "auto".
	WriteMode string

	// PoolMax is the most connections to a server, of which queries take three quarters.
	// Defaults to 10; the least is 2.
	PoolMax int

	// StatementTimeout ends a statement of a batch on a server that takes longer: the
	// batch is not written, and may be sent again. Defaults to 30 seconds; less than
	// zero leaves it to the server's settings.
	StatementTimeout time.Duration

	// Compaction says when a store that puts rows in order for queries by series does
	// so: "auto" when little is written, at close and on demand, "manual" on demand
	// only (see [Compacter]). Defaults to "auto".
	Compaction string

	// Key is the API key of a store that a server serves. Defaults to none.
	Key string

	// Migrations make the tables of kinds of your own: files duckdb/1001_NAME.sql and
	// postgres/1001_NAME.sql, numbered from 1001 without a gap. DuckDB files get them
	// when they are opened, a server by [Migrate]. Defaults to none.
	Migrations fs.FS

	// Metrics counts the migrations applied. Defaults to nothing.
	Metrics *Metrics

	// Logger receives what happens to the store, such as a migration applied.
	// Defaults to discarding it.
	Logger *slog.Logger
}

// Store is an open store of any engine.
type Store struct {
	Backend
}

// Forms are those of a DSN, for messages.
const Forms = "duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST" //nolint:gosec // nobody's password

// ErrDSN is wrapped by the refusal of a DSN that names no store.
var ErrDSN = errors.New("DSN")

// ErrWriteMode is wrapped by the refusal of a write mode that the engine does not have.
var ErrWriteMode = errors.New("write mode")

// Open opens the store that the DSN names. Close it when done.
func Open(ctx context.Context, dsn string, cfg Config) (*Store, error) {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if ok && (scheme == "postgres" || scheme == "postgresql") {
		if cfg.WriteMode != "" && !slices.Contains([]string{postgres.WriteAuto, postgres.WriteCopy, postgres.WriteMerge, postgres.WriteUnnest}, cfg.WriteMode) {
			return nil, fmt.Errorf("%w %q: use auto, copy, merge or unnest", ErrWriteMode, cfg.WriteMode)
		}
		backend, err := postgres.Open(ctx, dsn, postgres.Config{
			ReadOnly:         cfg.ReadOnly,
			WriteMode:        cfg.WriteMode,
			PoolMax:          cfg.PoolMax,
			StatementTimeout: cfg.StatementTimeout,
			Migrations:       cfg.Migrations,
			Logger:           cfg.Logger,
		})
		if errors.Is(err, postgres.ErrDSN) {
			err = fmt.Errorf("%w: %w", ErrDSN, err)
		}
		if err != nil {
			return nil, err
		}
		return &Store{Backend: backend}, nil
	}
	if remote.IsDSN(dsn) {
		backend, err := remote.Open(dsn, remote.Config{Key: cfg.Key, ReadOnly: cfg.ReadOnly})
		if err != nil {
			return nil, fmt.Errorf("%w: %w", ErrDSN, err)
		}
		return &Store{Backend: backend}, nil
	}
	if !ok || scheme != "duckdb" {
		return nil, fmt.Errorf("%w%s: write %s", ErrDSN, shown(dsn), Forms)
	}
	if cfg.WriteMode != "" && cfg.WriteMode != duckdb.WriteAuto && cfg.WriteMode != duckdb.WriteMerge {
		return nil, fmt.Errorf("%w %q: use auto or merge with DuckDB", ErrWriteMode, cfg.WriteMode)
	}
	backend, err := duckdb.Open(ctx, rest, duckdb.Config{
		ReadOnly:    cfg.ReadOnly,
		MemoryLimit: cfg.MemoryLimit,
		WriteMode:   cfg.WriteMode,
		Compaction:  cfg.Compaction,
		Migrations:  cfg.Migrations,
		Migrated:    func(int, string) { cfg.Metrics.migrated() },
		Logger:      cfg.Logger,
	})
	if err != nil {
		return nil, err
	}
	return &Store{Backend: backend}, nil
}

// Migrate brings the database of a server to the schema of this program, with the tables
// of kinds of your own (see [Config.Migrations]); the DSN is that of its owner. The
// login of the service gets its rights from [postgres.GrantService]. A DuckDB store
// migrates itself when it is opened.
func Migrate(ctx context.Context, dsn string, cfg Config) error {
	if !postgres.IsDSN(dsn) {
		return fmt.Errorf("%w%s: only a PostgreSQL database is migrated, by its owner: postgres://OWNER@HOST/DATABASE", ErrDSN, shown(dsn))
	}
	_, err := postgres.Migrate(ctx, dsn, postgres.MigrateConfig{
		Migrations: cfg.Migrations,
		Applied:    func(postgres.Migration) { cfg.Metrics.migrated() },
		Logger:     cfg.Logger,
	})
	return err
}

// shown is a DSN in a message, where it is known what of it is a password.
func shown(dsn string) string {
	if scheme, rest, ok := strings.Cut(dsn, "://"); ok && scheme != "" && !strings.ContainsAny(rest, "@=") {
		return fmt.Sprintf(" %q", dsn)
	}
	return ""
}

// Redact returns a DSN without what may be a password, for messages.
func Redact(dsn string) string {
	scheme, rest, ok := strings.Cut(dsn, "://")
	if !ok {
		if strings.ContainsAny(dsn, "=@:") {
			return "…" // it is not known what of it is a password
		}
		return dsn
	}
	if at := strings.LastIndexByte(rest, '@'); at >= 0 {
		user, _, _ := strings.Cut(rest[:at], ":")
		rest = user + rest[at:]
	}
	rest, query, ok := strings.Cut(rest, "?")
	var kept []string
	for _, parameter := range strings.Split(query, "&") {
		if name, _, _ := strings.Cut(parameter, "="); ok && !strings.Contains(strings.ToLower(name), "password") {
			kept = append(kept, parameter)
		}
	}
	if len(kept) > 0 {
		rest += "?" + strings.Join(kept, "&")
	}
	return scheme + "://" + rest
}

// TableOf returns the table of kind R.
func TableOf[R mds.Record[R]](s *Store) Table[R] {
	switch b := s.Backend.(type) {
	case *duckdb.Store:
		return duckdb.NewTable[R](b)
	case *postgres.Store:
		return postgres.NewTable[R](b)
	case *remote.Store:
		return remote.NewTable[R](b)
	default:
		panic(fmt.Sprintf("store: no tables for backend %T", b)) // a Store not made by Open
	}
}

// Bars returns the table of bars.
func Bars(s *Store) Table[mds.Bar] { return TableOf[mds.Bar](s) }

// Options returns the table of option snapshots.
func Options(s *Store) Table[mds.OptionSnap] { return TableOf[mds.OptionSnap](s) }

// Fundamentals returns the table of fundamentals.
func Fundamentals(s *Store) Table[mds.Fundamentals] { return TableOf[mds.Fundamentals](s) }

// News returns the table of news.
func News(s *Store) Table[mds.News] { return TableOf[mds.News](s) }
