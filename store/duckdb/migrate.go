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

// migrations returns the embedded steps in order. Their numbers run from 1
// without a gap.
func migrations() ([]migration, error) {
	names, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return nil, err
	}
	steps := make([]migration, len(names))
	for i, name := range names {
		base := strings.TrimSuffix(path.Base(name), ".sql")
		number, title, _ := strings.Cut(base, "_")
		version, err := strconv.Atoi(number)
		if err != nil || version != i+1 {
			return nil, fmt.Errorf("migration %s: want number %d", name, i+1)
		}
		text, err := migrationFiles.ReadFile(name)
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

// identity reads what the file says of itself: its schema version, 0 for a
// fresh file, and the tenant it belongs to.
func identity(ctx context.Context, conn *sql.Conn) (version int, tenant mds.Tenant, err error) {
	var tables int
	err = conn.QueryRowContext(ctx,
		`SELECT count(*) FROM duckdb_tables() WHERE table_name IN ('mds_migrations', 'mds_tenant')`).Scan(&tables)
	if err != nil || tables == 0 {
		return 0, mds.Tenant{}, err
	}
	err = conn.QueryRowContext(ctx, `SELECT coalesce(max(version), 0) FROM mds_migrations`).Scan(&version)
	if err != nil {
		return 0, mds.Tenant{}, err
	}
	err = conn.QueryRowContext(ctx, `SELECT id::VARCHAR, slug FROM mds_tenant`).Scan(&tenant.ID, &tenant.Slug)
	return version, tenant, err
}

// foreignTables counts the tables of a file that has none of ours.
func foreignTables(ctx context.Context, conn *sql.Conn) (n int, err error) {
	err = conn.QueryRowContext(ctx, `SELECT count(*) FROM duckdb_tables()`).Scan(&n)
	return n, err
}

// migrate brings a file from version to the newest in one transaction, so
// that a crash leaves it at one or the other.
func (f *file) migrate(ctx context.Context, conn *sql.Conn, version int) error {
	steps, err := migrations()
	if err != nil {
		return err
	}
	if version == len(steps) {
		return nil
	}
	return inTransaction(ctx, conn, func() error {
		if version == 0 {
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
		for _, step := range steps[version:] {
			if _, err := conn.ExecContext(ctx, step.sql); err != nil {
				return fmt.Errorf("migration %d (%s): %w", step.version, step.name, err)
			}
			_, err := conn.ExecContext(ctx, `INSERT INTO mds_migrations VALUES (?, ?, ?)`,
				step.version, step.name, time.Now().UTC())
			if err != nil {
				return err
			}
			f.logger.InfoContext(ctx, "migration applied", "file", f.path, "version", step.version, "name", step.name)
		}
		return nil
	})
}
