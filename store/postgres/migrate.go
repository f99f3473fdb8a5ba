package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/database"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrationFiles embed.FS

// migrationsTable has what was applied.
const migrationsTable = "mds_internal.migrations"

// Migration is one step of the schema.
type Migration struct {
	Version int
	Name    string
	Applied bool
}

// Migrate brings the database of the owner's DSN to the schema of this program, and
// returns the steps it took. Of two that start at once one migrates and the other
// waits. Neither a superuser nor an extension is needed.
func Migrate(ctx context.Context, dsn string, logger *slog.Logger) (applied []Migration, err error) {
	err = withProvider(ctx, dsn, logger, func(p *goose.Provider) error {
		results, err := p.Up(ctx)
		for _, r := range results {
			applied = append(applied, Migration{Version: int(r.Source.Version), Name: r.Source.Path, Applied: true})
		}
		return err
	})
	return applied, wrap(ctx, "migrate", err)
}

// Migrations lists the steps of the schema, and whether the database of the owner's DSN
// has them.
func Migrations(ctx context.Context, dsn string) (steps []Migration, err error) {
	err = withProvider(ctx, dsn, slog.New(slog.DiscardHandler), func(p *goose.Provider) error {
		status, err := p.Status(ctx)
		for _, s := range status {
			steps = append(steps, Migration{Version: int(s.Source.Version), Name: s.Source.Path, Applied: s.State == goose.StateApplied})
		}
		return err
	})
	return steps, wrap(ctx, "migrate", err)
}

func withProvider(ctx context.Context, dsn string, logger *slog.Logger, fn func(*goose.Provider) error) (err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return dsnError(err)
	}
	db := stdlib.OpenDB(*config)
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := makeSchema(ctx, db); err != nil {
		return err
	}
	files, err := fs.Sub(migrationFiles, "migrations")
	if err != nil {
		return err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return err
	}
	table, err := database.NewStore(goose.DialectPostgres, migrationsTable)
	if err != nil {
		return err
	}
	provider, err := goose.NewProvider("", db, files, goose.WithStore(table), goose.WithSessionLocker(locker), goose.WithSlog(logger))
	if err != nil {
		return err
	}
	return fn(provider)
}

// makeSchema makes the schema that the list of migrations lies in. Two that did so at
// once would fail in spite of IF NOT EXISTS: the second waits.
func makeSchema(ctx context.Context, db *sql.DB) error {
	var there bool
	if err := db.QueryRowContext(ctx, "SELECT to_regnamespace('mds_internal') IS NOT NULL").Scan(&there); err != nil || there {
		return err
	}
	tx, err := db.BeginTx(ctx, nil)
	if err != nil {
		return err
	}
	defer func() { _ = tx.Rollback() }() // nothing after a commit
	if _, err := tx.ExecContext(ctx, "SELECT pg_advisory_xact_lock(hashtext('mds_internal'))"); err != nil {
		return err
	}
	if _, err := tx.ExecContext(ctx, "CREATE SCHEMA IF NOT EXISTS mds_internal"); err != nil {
		return err
	}
	return tx.Commit()
}

// IsDSN reports a DSN of PostgreSQL.
func IsDSN(dsn string) bool {
	return strings.HasPrefix(dsn, "postgres://") || strings.HasPrefix(dsn, "postgresql://")
}

// GrantError reports rights that the owner may not give.
type GrantError struct {
	// SQL gives them, for an administrator.
	SQL string
	Err error
}

func (e *GrantError) Error() string { return "grant: " + e.Err.Error() }

func (e *GrantError) Unwrap() error { return e.Err }

// GrantService gives the login of the service's DSN what the store needs of the database
// of the owner's, and returns its name. It makes the login, with the password of the DSN,
// where there is none. Where the owner may not, the error is a [*GrantError].
func GrantService(ctx context.Context, owner, dsn string) (login string, err error) {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return "", dsnError(err)
	}
	return config.User, grant(ctx, owner, config.User, config.Password)
}

func grant(ctx context.Context, owner, login, password string) error {
	conn, err := pgx.Connect(ctx, owner)
	if err != nil {
		return wrap(ctx, "grant", err)
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	var there bool
	if err := conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", login).Scan(&there); err != nil {
		return wrap(ctx, "grant", err)
	}
	create := ""
	if !there {
		create = "CREATE ROLE " + pgx.Identifier{login}.Sanitize() + " LOGIN"
		if password != "" {
			create += " PASSWORD " + quoteText(password)
		}
		create += ";\n"
	}
	_, err = conn.Exec(ctx, create+GrantSQL(login))
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == "42501" {
		if !there { // a password is not printed
			create = "CREATE ROLE " + pgx.Identifier{login}.Sanitize() + " LOGIN; -- and give it its password\n"
		}
		return &GrantError{SQL: create + GrantSQL(login), Err: wrap(ctx, "grant", err)}
	}
	return wrap(ctx, "grant", err)
}

// GrantSQL is what gives a login the rights of the store's service: for an
// administrator, where the owner may not.
func GrantSQL(login string) string {
	name, text := pgx.Identifier{login}.Sanitize(), quoteText(login)
	return fmt.Sprintf(`GRANT USAGE ON SCHEMA mds, mds_internal TO %[1]s;
GRANT SELECT ON ALL TABLES IN SCHEMA mds TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mds_internal TO %[1]s;
REVOKE INSERT, UPDATE, DELETE ON mds_internal.migrations, mds_internal.service_logins, mds_internal.tenant_logins FROM %[1]s;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA mds_internal TO %[1]s;
INSERT INTO mds_internal.service_logins (login) VALUES (%[2]s) ON CONFLICT DO NOTHING;
`, name, text)
}
