package duckdb

import (
	"context"
	"database/sql"
	"embed"
	"fmt"
	"io/fs"
	"path"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migration is one numbered step of the file's schema.
type migration struct {
	version int
	name    string
	sql     string
}

// VersionError reports a file whose schema is newer than this program knows.
type VersionError struct {
	Path       string
	Version    int
	Understood int
}

func (e *VersionError) Error() string {
	return fmt.Sprintf("%s has schema version %d and this program understands versions up to %d; use the mds that wrote it, or a newer one",
		e.Path, e.Version, e.Understood)
}

// Unavailable is true: nothing is written meanwhile.
func (e *VersionError) Unavailable() bool { return true }

// ownMigrations is where the numbers of an application's own migrations begin.
const ownMigrations = 1001

// migrations returns the steps in order: those of this module, numbered from
// 1, then the application's own.
func migrations(own fs.FS) ([]migration, error) {
	steps, err := readMigrations(migrationFiles, "migrations", 1)
	if err != nil || own == nil {
		return steps, err
	}
	more, err := readMigrations(own, "duckdb", ownMigrations)
	return append(steps, more...), err
}

// readMigrations reads the files NNNN_NAME.sql of a folder, whose numbers run
// from first without a gap.
func readMigrations(files fs.FS, folder string, first int) ([]migration, error) {
	names, err := fs.Glob(files, folder+"/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]migration, len(names))
	for i, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".sql")
		number, title, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != first+i {
			return nil, fmt.Errorf("migration %s: want number %d", name, first+i)
		}
		text, err := fs.ReadFile(files, name)
		if err != nil {
			return nil, err
		}
		steps[i] = migration{version: version, name: title, sql: string(text)}
	}
	return steps, nil
}

// SchemaVersion is the version that this program brings files to.
func SchemaVersion() int {
	files, _ := migrationFiles.ReadDir("migrations") // embedded: it cannot fail
	return len(files)
}

// identity reads what the file says of itself: the migrations applied, none
// for a fresh file, and the tenant it belongs to.
func identity(ctx context.Context, conn *sql.Conn) (applied []int, tenant mds.Tenant, err error) {
	var tables int
	err = conn.QueryRowContext(ctx,
		`SELECT count(*) FROM duckdb_tables() WHERE table_name IN ('mds_migrations', 'mds_tenant')`).Scan(&tables)
	if err != nil || tables == 0 {
		return nil, mds.Tenant{}, err
	}
	rows, err := conn.QueryContext(ctx, `SELECT version FROM mds_migrations`)
	if err != nil {
		return nil, mds.Tenant{}, err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	for rows.Next() {
		var version int
		if err := rows.Scan(&version); err != nil {
			return nil, mds.Tenant{}, err
		}
		applied = append(applied, version)
	}
	if err := rows.Err(); err != nil {
		return nil, mds.Tenant{}, err
	}
	err = conn.QueryRowContext(ctx, `SELECT id::VARCHAR, slug FROM mds_tenant`).Scan(&tenant.ID, &tenant.Slug)
	return applied, tenant, err
}

// foreignTables counts the tables of a file that has none of ours.
func foreignTables(ctx context.Context, conn *sql.Conn) (n int, err error) {
	err = conn.QueryRowContext(ctx, `SELECT count(*) FROM duckdb_tables()`).Scan(&n)
	return n, err
}

// migrate applies steps to a file in one transaction, so that a crash leaves
// it as it was or complete.
func (f *file) migrate(ctx context.Context, conn *sql.Conn, steps []migration, fresh bool) error {
	if len(steps) == 0 {
		return nil
	}
	f.conn = conn
	err := f.inTransaction(ctx, false, func() error {
		if fresh {
			_, err := conn.ExecContext(ctx, `
				CREATE TABLE mds_migrations (version INTEGER NOT NULL PRIMARY KEY, name VARCHAR NOT NULL, applied_at TIMESTAMP NOT NULL);
				CREATE TABLE mds_tenant (id UUID NOT NULL, slug VARCHAR NOT NULL);`)
			if err != nil {
				return err
			}
			_, err = conn.ExecContext(ctx, `INSERT INTO mds_tenant VALUES (?::UUID, ?)`, f.tenant.ID, f.tenant.Slug)
			if err != nil {
				return err
			}
		}
		for _, step := range steps {
			if _, err := conn.ExecContext(ctx, step.sql); err != nil {
				return fmt.Errorf("migration %d (%s): %w", step.version, step.name, err)
			}
			_, err := conn.ExecContext(ctx, `INSERT INTO mds_migrations VALUES (?, ?, ?)`,
				step.version, step.name, time.Now().UTC())
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	for _, step := range steps {
		f.logger.InfoContext(ctx, "migration applied", "file", f.path, "version", step.version, "name", step.name)
		if f.cfg.Migrated != nil {
			f.cfg.Migrated(step.version, step.name)
		}
	}
	return nil
}
