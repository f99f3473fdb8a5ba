package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"path"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationsTable has what was applied.
const migrationsTable = "mds_internal.migrations"

// ownMigrations is where the numbers of an application's own migrations begin.
const ownMigrations = 1001

// Migration is one step of the schema.
type Migration struct {
	Version int
	Name    string
	Applied bool
}

// MigrateConfig configures [Migrate]. The zero value is usable.
type MigrateConfig struct {
	// Migrations are an application's own (see [Config.Migrations]). Defaults to none.
	Migrations fs.FS
	// Applied is called after each step. Defaults to nothing.
	Applied func(Migration)
	// Logger receives what happens. Defaults to discarding it.
	Logger *slog.Logger
}

// Migrate brings the database of the owner's DSN to the schema of this program, and
// returns the steps it took. Of two that start at once one migrates and the other
// waits. Neither a superuser nor an extension is needed. The connection has to be one to
// the server itself, not to a pooler that lends it for a transaction.
func Migrate(ctx context.Context, dsn string, cfg MigrateConfig) (applied []Migration, err error) {
	err = withProvider(ctx, dsn, cfg, func(ctx context.Context, p *goose.Provider, db *sql.DB) error {
		if err := makeSchemas(ctx, db); err != nil {
			return err
		}
		if err := checkNewer(ctx, db); err != nil {
			return err
		}
		for {
			result, err := p.UpByOne(ctx)
			if errors.Is(err, goose.ErrNoNextVersion) {
				return nil
			}
			if err != nil {
				return err
			}
			step := Migration{Version: int(result.Source.Version), Name: path.Base(result.Source.Path), Applied: true}
			applied = append(applied, step)
			if cfg.Applied != nil {
				cfg.Applied(step)
			}
		}
	})
	if err == nil {
		err = grantNewViews(ctx, dsn)
	}
	err = wrap(ctx, "migrate", err)
	var e *Error
	if errors.As(err, &e) && e.Code == "42501" {
		e.Hint = "the login does not own the database: migrate with its owner's (--admin-dsn, MDS_ADMIN_DSN)"
	}
	return applied, err
}

// checkNewer refuses a database that a newer program has migrated.
func checkNewer(ctx context.Context, db *sql.DB) error {
	applied, err := appliedTo(ctx, db)
	if err != nil {
		return err
	}
	for version := range applied {
		if version > schemaVersion && version < ownMigrations {
			return &VersionError{version, schemaVersion}
		}
	}
	return nil
}

// appliedTo are the migrations that a database has, which may have none.
func appliedTo(ctx context.Context, db *sql.DB) (map[int]bool, error) {
	var begun bool
	if err := db.QueryRowContext(ctx, "SELECT to_regclass('"+migrationsTable+"') IS NOT NULL").Scan(&begun); err != nil || !begun {
		return nil, err
	}
	rows, err := db.QueryContext(ctx, "SELECT version_id FROM "+migrationsTable+" WHERE is_applied")
	if err != nil {
		return nil, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err tells
	have := make(map[int]bool)
	for rows.Next() {
		var version int
		if err := rows.Scan(&version); err != nil {
			return nil, err
		}
		have[version] = true
	}
	return have, rows.Err()
}

// Migrations lists the steps of the schema, and whether the database of the DSN has
// them. It changes nothing.
func Migrations(ctx context.Context, dsn string, cfg MigrateConfig) (steps []Migration, err error) {
	err = withProvider(ctx, dsn, cfg, func(ctx context.Context, p *goose.Provider, db *sql.DB) error {
		have, err := appliedTo(ctx, db)
		if err != nil {
			return err
		}
		for _, source := range p.ListSources() {
			steps = append(steps, Migration{Version: int(source.Version), Name: path.Base(source.Path), Applied: have[int(source.Version)]})
		}
		return nil
	})
	return steps, wrap(ctx, "migrate", err)
}

// files are the migrations of this module and an application's own, in one folder.
type files struct{ own fs.FS }

func (f files) Open(name string) (fs.File, error) {
	if file, err := f.own.Open("postgres/" + name); err == nil {
		return file, nil
	}
	return migrationFiles.Open("migrations/" + name)
}

// ReadDir lists both.
func (f files) ReadDir(string) ([]fs.DirEntry, error) {
	mine, err := migrationFiles.ReadDir("migrations")
	if err != nil {
		return nil, err
	}
	own, err := fs.ReadDir(f.own, "postgres")
	if errors.Is(err, fs.ErrNotExist) { // they are all for another engine
		err = nil
	}
	return append(mine, own...), err
}

// migrations lists the versions that a program with migrations of its own needs.
func migrations(own fs.FS) (versions []int, err error) {
	for version := 1; version <= schemaVersion; version++ {
		versions = append(versions, version)
	}
	if own == nil {
		return versions, nil
	}
	names, err := fs.Glob(own, "postgres/*.sql")
	if err != nil {
		return nil, err
	}
	for i, name := range names {
		number, _, _ := strings.Cut(path.Base(name), "_")
		if version, err := strconv.Atoi(number); err != nil || version != ownMigrations+i {
			return nil, fmt.Errorf("migration %s: want number %d", name, ownMigrations+i)
		}
		versions = append(versions, ownMigrations+i)
	}
	return versions, nil
}

func withProvider(ctx context.Context, dsn string, cfg MigrateConfig, fn func(context.Context, *goose.Provider, *sql.DB) error) (err error) {
	config, err := connConfig(dsn)
	if err != nil {
		return err
	}
	if config.ValidateConnect == nil {
		config.ValidateConnect = noStandby
	}
	db := stdlib.OpenDB(*config, stdlib.OptionAfterConnect(ownSession(dsn)))
	defer func() { err = errors.Join(err, db.Close()) }()
	var all fs.FS
	if all, err = fs.Sub(migrationFiles, "migrations"); err != nil {
		return err
	}
	if cfg.Migrations != nil {
		if _, err := migrations(cfg.Migrations); err != nil {
			return err
		}
		all = files{cfg.Migrations}
	}
	// The one that waits looks often, for as long as a migration may take.
	locker, err := lock.NewPostgresSessionLocker(lock.WithLockTimeout(1, 3600))
	if err != nil {
		return err
	}
	table, err := database.NewStore(goose.DialectPostgres, migrationsTable)
	if err != nil {
		return err
	}
	logger := cfg.Logger
	if logger == nil {
		logger = slog.New(slog.DiscardHandler)
	}
	provider, err := goose.NewProvider("", db, all, goose.WithStore(table), goose.WithSessionLocker(locker), goose.WithSlog(logger),
		goose.WithAllowOutofOrder(true)) // those of this module come before an application's own
	if err != nil {
		return err
	}
	return fn(ctx, provider, db)
}

// ownSession refuses connections that are lent for a transaction: the lock that migrations
// hold is the session's. Names are found in the system's schema, whatever others have put
// into public.
func ownSession(dsn string) func(context.Context, *pgx.Conn) error {
	return func(ctx context.Context, conn *pgx.Conn) error {
		lent, err := pooled(ctx, dsn, conn.PgConn())
		if err != nil {
			return err
		}
		if lent {
			return &Error{Op: "migrate", Class: Other, Err: errors.New("the DSN goes to a pooler, which may lend a connection for a transaction, and a migration needs its own"), Hint: "name the server itself in the owner's DSN, or say ?pgbouncer=false where the pooler lends a connection for a session"}
		}
		_, err = conn.Exec(ctx, "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', false)")
		return err
	}
}

// makeSchemas makes the two schemas. Two that did so at once would fail in spite of IF
// NOT EXISTS: the second waits. One that another has made is not taken over: that one
// could do as it likes with what is in it.
func makeSchemas(ctx context.Context, db *sql.DB) error {
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	if _, err := tx.ExecContext(ctx, lockForMigration); err != nil {
		return err
	}
	var encoding string
	if err := tx.QueryRowContext(ctx, "SELECT current_setting('server_encoding')").Scan(&encoding); err != nil {
		return err
	}
	if encoding != "UTF8" {
		return encodingError(encoding)
	}
	for _, schema := range []string{"mds", "mds_internal"} {
		var owner sql.NullString
		var mine sql.NullBool
		err := tx.QueryRowContext(ctx, "SELECT pg_get_userbyid(nspowner), pg_has_role(session_user, nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = '"+schema+"'").Scan(&owner, &mine)
		switch {
		case errors.Is(err, sql.ErrNoRows):
			_, err = tx.ExecContext(ctx, "CREATE SCHEMA "+schema)
		case err == nil && !mine.Bool:
			err = &Error{Op: "migrate", Class: Denied, Err: fmt.Errorf("the schema %s belongs to %s", schema, owner.String), Hint: fmt.Sprintf("migrate with that login (--admin-dsn, MDS_ADMIN_DSN), or let an administrator run ALTER SCHEMA %s OWNER TO yours", schema)}
		}
		if err != nil {
			return err
		}
	}
	return tx.Commit()
}

// lockForMigration has those who make schemas and give rights wait for each other.
const lockForMigration = "SELECT pg_catalog.pg_advisory_xact_lock(pg_catalog.hashtextextended('mds_internal', 7::bigint))"
