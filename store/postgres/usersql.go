package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgconn/ctxwatch"
	"github.com/jackc/pgx/v5/pgproto3"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/marketdatastore/mds"
)

// Logins run SQL that people write, each tenant's by a login of its own: what it may read is
// what the database lets that login read, and the service's has no part in it. It is safe for
// concurrent use.
type Logins struct {
	of map[string]*Login // by slug
}

const (
	// maxSQL is how many statements of a tenant run at once.
	maxSQL = 2
	// maxMessage is what a row of an answer may take.
	maxMessage = 64 << 20
	// unread is how long the server may take to end a statement that it was asked to.
	unread = 5 * time.Second
)

// OpenLogins connects as the logins of tenants, whose DSNs are given by the tenants' slugs,
// and refuses one that is not its tenant's, or may more than read what is the tenant's.
func OpenLogins(ctx context.Context, s *Store, dsns map[string]string) (*Logins, error) {
	logins := &Logins{of: make(map[string]*Login)}
	for _, slug := range slices.Sorted(maps.Keys(dsns)) {
		login, name, err := openLogin(ctx, dsns[slug])
		if err == nil {
			logins.of[slug] = login
			err = s.checkLogin(ctx, slug, name)
		}
		if err != nil {
			return nil, errors.Join(fmt.Errorf("the login for SQL of the tenant %s: %w", slug, err), logins.Close())
		}
	}
	return logins, nil
}

// Login runs SQL by one login, whose tenant the database knows.
type Login struct {
	pool   *pgxpool.Pool
	places chan struct{} // of the statements that run
}

// OpenLogin connects as a login of a tenant, and refuses one that may more than read what is
// the tenant's.
func OpenLogin(ctx context.Context, dsn string) (*Login, error) {
	login, _, err := openLogin(ctx, dsn)
	return login, err
}

// SQL runs one statement that reads, on a connection that is put back as it was; see store.SQL.
// The tenant is that of the login.
func (l *Login) SQL(ctx context.Context, _ mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error) {
	if ctx.Err() != nil {
		return false, wrap(ctx, "sql", ctx.Err())
	}
	select {
	case l.places <- struct{}{}:
		defer func() { <-l.places }()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return false, wrap(ctx, "sql", ctx.Err())
		}
		return false, fmt.Errorf("%w: %d of the tenant are under way; come back a little later", mds.ErrSQLBusy, maxSQL)
	}
	conn, err := l.pool.Acquire(ctx)
	if err != nil {
		return false, wrap(ctx, "sql", err)
	}
	run := &userSQL{conn: conn.Conn().PgConn(), types: conn.Conn().TypeMap(), query: query, rows: rows}
	defer conn.Release() // which closes it where it could not be put back
	defer run.putBack(ctx)
	more, err = run.run(ctx)
	if run.taken != nil {
		return false, run.taken
	}
	return more, sqlError(ctx, err)
}

// Close closes the connections.
func (l *Login) Close() error {
	l.pool.Close()
	return nil
}

// openLogin connects as a login, and says what it is called.
func openLogin(ctx context.Context, dsn string) (_ *Login, name string, err error) {
	config, err := poolConfig(dsn)
	if err != nil {
		return nil, "", err
	}
	config.MaxConns = maxSQL
	conn := config.ConnConfig
	conn.RuntimeParams["application_name"] = cmp.Or(conn.RuntimeParams["application_name"], "mds sql")
	conn.RuntimeParams["default_transaction_read_only"] = "on"
	conn.MaxProtocolMessageBodyLen = maxMessage
	// A login can lift its own statement_timeout: it is the server that is asked to end a
	// statement when its context has.
	conn.BuildContextWatcherHandler = func(c *pgconn.PgConn) ctxwatch.Handler {
		return &pgconn.CancelRequestContextWatcherHandler{Conn: c, DeadlineDelay: unread}
	}
	pool, err := pgxpool.NewWithConfig(ctx, config)
	if err != nil {
		return nil, "", wrap(ctx, "connect", err)
	}
	if name, err = readsOneTenant(ctx, pool); err != nil {
		pool.Close()
		return nil, "", wrap(ctx, "connect", err)
	}
	return &Login{pool, make(chan struct{}, maxSQL)}, name, nil
}

// readsOneTenant refuses a login that may more than a tenant's.
func readsOneTenant(ctx context.Context, pool *pgxpool.Pool) (login string, err error) {
	var reason string
	err = pool.QueryRow(ctx, `SELECT session_user::text, coalesce((SELECT concat_ws(' and ',
		CASE WHEN r.rolsuper THEN 'is a superuser' END,
		CASE WHEN r.rolbypassrls THEN 'has BYPASSRLS' END,
		CASE WHEN r.rolreplication THEN 'has REPLICATION' END,
		CASE WHEN r.rolcreaterole THEN 'has CREATEROLE' END,
		CASE WHEN NOT r.rolsuper THEN (SELECT 'may become ' || pg_catalog.string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_catalog.pg_roles m
			WHERE m.oid <> r.oid AND pg_catalog.pg_has_role(r.oid, m.oid, 'MEMBER') AND (m.rolsuper OR m.rolbypassrls OR m.rolreplication OR m.rolcreaterole OR m.rolname LIKE 'pg\_%')) END,
		CASE WHEN NOT r.rolsuper AND EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
			WHERE n.nspname = 'mds_internal' AND c.relkind IN ('r', 'p', 'v', 'm') AND pg_catalog.has_table_privilege(c.oid, 'SELECT, INSERT, UPDATE, DELETE')) THEN 'may read or write the tables of the store, as its owner and the service may' END)
		FROM pg_catalog.pg_roles r WHERE r.rolname = session_user), '')`).Scan(&login, &reason)
	if err == nil && reason != "" {
		if strings.HasPrefix(reason, "is a superuser") {
			reason = "is a superuser"
		}
		err = &Error{Op: "connect", Class: Denied, Err: fmt.Errorf("%s %s, and would see more than one tenant has", login, reason), Hint: "name one that mds tenant grant-login makes"}
	}
	return login, err
}

// checkLogin refuses a login that is not the tenant's.
func (s *Store) checkLogin(ctx context.Context, slug, login string) error {
	var of string
	err := s.transaction(ctx, mds.Tenant{}, readAccess, func(w *work) error {
		return w.QueryRow(ctx, "SELECT coalesce((SELECT t.slug FROM mds_internal.tenant_logins l JOIN mds_internal.tenants t ON t.id = l.tenant_id WHERE l.login = $1), '')", login).Scan(&of)
	})
	switch {
	case err != nil:
		return wrap(ctx, "connect", err)
	case of == "":
		return &Error{Op: "connect", Class: Denied, Err: fmt.Errorf("%s is no tenant's login", login), Hint: "mds tenant grant-login " + slug + " " + login + " makes it that"}
	case of != slug:
		return &Error{Op: "connect", Class: Denied, Err: fmt.Errorf("%s is the login of the tenant %s", login, of)}
	}
	return nil
}

// Close closes the connections.
func (l *Logins) Close() error {
	for _, login := range l.of {
		_ = login.Close()
	}
	return nil
}

// SQL runs one statement that reads; see store.SQL.
func (l *Logins) SQL(ctx context.Context, tenant mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error) {
	login := l.of[tenant.Slug]
	if login == nil {
		return false, fmt.Errorf("%w of the tenant %s is configured (sql.logins): on a PostgreSQL server SQL is run as the tenant's own login", mds.ErrNoSQLLogin, tenant.Slug)
	}
	return login.SQL(ctx, tenant, query, rows)
}

// sqlError classifies what a statement failed with.
func sqlError(ctx context.Context, err error) error {
	var refused *mds.SQLError
	var server *pgconn.PgError
	var tooLong *pgproto3.ExceededMaxBodyLenErr
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: it was ended when its time was over", mds.ErrSQLLimit)
	case ctx.Err() != nil:
		return wrap(ctx, "sql", err)
	case errors.As(err, &tooLong):
		return fmt.Errorf("%w: a row of it is larger than %d MiB", mds.ErrSQLLimit, maxMessage>>20)
	case !errors.As(err, &server):
		return wrap(ctx, "sql", err)
	}
	switch server.Code {
	case "57014": // by a timeout of its own
		return fmt.Errorf("%w: %s", mds.ErrSQLLimit, server.Message)
	case "53100", "53200", "53400":
		return fmt.Errorf("%w: %s", mds.ErrSQLLimit, server.Message)
	}
	switch server.Code[:min(2, len(server.Code))] {
	case "08", "28", "53", "57", "58", "XX":
		return wrap(ctx, "sql", err)
	}
	return &mds.SQLError{Detail: strings.Join(strings.Fields(server.Message), " "), Position: int(server.Position)}
}

// patienceBeyond is by how much the server's own timeout is longer than the context's time:
// it is for when nobody is there to ask.
const patienceBeyond = 5 * time.Second

// begin is what a statement begins with. People name views without their schema, as with the
// embedded engine; times without a zone are in UTC.
func begin(ctx context.Context) string {
	text := "BEGIN TRANSACTION ISOLATION LEVEL REPEATABLE READ READ ONLY; SET LOCAL search_path = mds, pg_temp; SET LOCAL TimeZone = 'UTC'; SET LOCAL DateStyle = 'ISO, YMD'; " +
		"SET LOCAL IntervalStyle = 'postgres'; SET LOCAL bytea_output = 'hex'; SET LOCAL extra_float_digits = 1; SET LOCAL client_connection_check_interval = '1s'"
	if until, ok := ctx.Deadline(); ok {
		text += "; SET LOCAL statement_timeout = " + strconv.FormatInt((time.Until(until)+patienceBeyond).Milliseconds(), 10)
	}
	return text
}
