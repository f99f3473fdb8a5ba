package postgres

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"unicode"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// GrantError reports rights that the owner may not give.
type GrantError struct {
	// SQL gives them, for an administrator to run in Database.
	SQL, Database string
	Err           error
}

func (e *GrantError) Error() string { return e.Err.Error() }

func (e *GrantError) Unwrap() error { return e.Err }

// Script is the SQL for psql, which connects to the database first.
func (e *GrantError) Script() string {
	return "\\connect " + pgx.Identifier{e.Database}.Sanitize() + "\n" + e.SQL
}

// GrantService gives the login of the service's DSN what the store needs of the database
// of the owner's, and returns its name. It makes the login where there is none, with the
// password that stands in the DSN. Where the owner may not, the error is a
// [*GrantError]. The owner itself needs nothing.
func GrantService(ctx context.Context, owner, dsn string) (login string, err error) {
	config, err := connConfig(dsn)
	if err != nil {
		return "", err
	}
	if !saysPassword(dsn) { // another one's, from the environment, is not this login's
		config.Password = ""
	}
	return config.User, wrap(ctx, "grant", grant(ctx, owner, config))
}

func grant(ctx context.Context, owner string, service *pgx.ConnConfig) error {
	return asOwner(ctx, owner, func(tx pgx.Tx, database string) error {
		login := service.User
		if service.Database != database {
			return &Error{Op: "grant", Class: Other, Err: fmt.Errorf("the service's DSN names the database %s, and the owner's %s", service.Database, database), Hint: "name the same in both"}
		}
		if err := oneGrants(ctx, tx); err != nil {
			return err
		}
		var there, owns, reads bool
		err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1),
			EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'mds_internal' AND r.rolname = $1),
			EXISTS (SELECT FROM mds_internal.tenant_logins WHERE login = $1)`, login).Scan(&there, &owns, &reads)
		if err != nil || owns {
			return err
		}
		if reads {
			return &Error{Op: "grant", Class: Denied, Err: fmt.Errorf("the login %s is one of a tenant", login), Hint: "give the service another, or take the tenant's away with mds tenant revoke-login"}
		}
		return give(ctx, tx, database, role{name: login, make: !there, password: service.Password}, GrantSQL(database, login))
	})
}

// GrantSQL is what gives a login the rights of the store's service in a database: for an
// administrator, where the owner may not.
func GrantSQL(database, login string) string {
	return fmt.Sprintf(`GRANT CONNECT, TEMPORARY ON DATABASE %[3]s TO %[1]s;
GRANT USAGE ON SCHEMA mds, mds_internal TO %[1]s;
GRANT SELECT ON ALL TABLES IN SCHEMA mds TO %[1]s;
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA mds_internal TO %[1]s;
REVOKE INSERT, UPDATE, DELETE ON mds_internal.migrations, mds_internal.epoch, mds_internal.service_logins, mds_internal.tenant_logins, mds_internal.policies, mds_internal.audit, mds_internal.keeping FROM %[1]s;
GRANT UPDATE (refreshed_at) ON mds_internal.policies TO %[1]s;
REVOKE ALL ON mds_internal.api_keys FROM %[1]s;
GRANT SELECT (%[4]s) ON mds_internal.api_keys TO %[1]s;
GRANT USAGE ON ALL SEQUENCES IN SCHEMA mds_internal TO %[1]s;
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA mds_internal TO %[1]s;
INSERT INTO mds_internal.service_logins (login) VALUES (%[2]s) ON CONFLICT DO NOTHING;
`, pgx.Identifier{login}.Sanitize(), quoteText(login), pgx.Identifier{database}.Sanitize(), strings.Join(checkedColumns, ", "))
}

// LoginConfig configures [GrantLogin]. The zero value is usable.
type LoginConfig struct {
	// Create makes the login where there is none. Defaults to refusing one that is not
	// there.
	Create bool
	// Password is that of a login that is made; the server is sent what it keeps of it
	// only. Defaults to none, with which a login cannot connect by password.
	Password string
}

// TenantLogin is a login that sees one tenant.
type TenantLogin struct {
	Login  string     `json:"login"`
	Tenant mds.Tenant `json:"tenant"`
}

// GrantLogin lets a login of the database read the views of a tenant: those of people
// and dashboards, who connect by themselves. It refuses a login that could see more: one
// of the store's own, of another tenant, a superuser's, or one that may become such. The
// DSN is that of the owner of the database; where it may not give the rights the error
// is a [*GrantError]. It reports whether the login was made.
func GrantLogin(ctx context.Context, owner string, tenant mds.Tenant, login string, cfg LoginConfig) (made bool, err error) {
	err = asOwner(ctx, owner, func(tx pgx.Tx, database string) error {
		if err := refuseOthers(ctx, tx, "grant"); err != nil {
			return err
		}
		// The tenant before its logins, as whoever removes it does.
		there, err := tx.Exec(ctx, "SELECT FROM mds_internal.tenants WHERE id = $1::uuid AND slug = $2 FOR KEY SHARE", tenant.ID, tenant.Slug)
		if err != nil {
			return err
		}
		if there.RowsAffected() == 0 {
			return unknownTenant(tenant.Slug)
		}
		if err := oneGrants(ctx, tx); err != nil {
			return err
		}
		err = checkLogin(ctx, tx, tenant, login)
		if errors.Is(err, pgx.ErrNoRows) && cfg.Create {
			made, err = true, nil
		} else if errors.Is(err, pgx.ErrNoRows) {
			err = &Error{Op: "grant", Class: Other, Err: fmt.Errorf("there is no login %s", login), Hint: "have it made with --create, or by an administrator"}
		}
		if err != nil {
			return err
		}
		text, err := tenantSQL(ctx, tx, database, tenant, login)
		if err != nil {
			return err
		}
		return give(ctx, tx, database, role{name: login, make: made, password: cfg.Password}, text)
	})
	return made && err == nil, wrap(ctx, "grant", err)
}

// RevokeLogin takes the rights that [GrantLogin] gave a login: its sessions see nothing
// from their next statement on, but go on with a query or a cursor under way, or in a
// transaction with a snapshot of its own. The login itself stays.
func RevokeLogin(ctx context.Context, owner string, tenant mds.Tenant, login string) error {
	return wrap(ctx, "revoke", asOwner(ctx, owner, func(tx pgx.Tx, database string) error {
		if err := requireOwner(ctx, tx); err != nil {
			return err
		}
		if err := requireTenant(ctx, tx, tenant); err != nil {
			return err
		}
		removed, err := tx.Exec(ctx, "DELETE FROM mds_internal.tenant_logins WHERE login = $1 AND tenant_id = $2::uuid", login, tenant.ID)
		if err != nil {
			return err
		}
		if removed.RowsAffected() == 0 {
			return &Error{Op: "revoke", Class: Other, Err: fmt.Errorf("%s is no login of the tenant %s", login, tenant.Slug), Hint: "mds tenant logins lists them"}
		}
		var there bool
		if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", login).Scan(&there); err != nil || !there {
			return err
		}
		name := pgx.Identifier{login}.Sanitize()
		_, err = tx.Exec(ctx, fmt.Sprintf("REVOKE ALL ON ALL TABLES IN SCHEMA mds FROM %s; REVOKE ALL ON SCHEMA mds FROM %[1]s; REVOKE CONNECT ON DATABASE %s FROM %[1]s", name, pgx.Identifier{database}.Sanitize()))
		return err
	}))
}

// TenantLogins lists the logins of tenants, in order of their names. The DSN is the
// owner's or the service's.
func TenantLogins(ctx context.Context, dsn string) (logins []TenantLogin, err error) {
	err = asOwner(ctx, dsn, func(tx pgx.Tx, _ string) error {
		logins, err = tenantLogins(ctx, tx)
		return err
	})
	return logins, wrap(ctx, "logins", err)
}

// FindTenant finds a tenant by slug or UUID. The DSN is the owner's. The error wraps
// [mds.ErrUnknownTenant].
func FindTenant(ctx context.Context, owner, slugOrID string) (tenant mds.Tenant, err error) {
	err = asOwner(ctx, owner, func(tx pgx.Tx, _ string) error {
		tenants, err := allTenants(ctx, tx)
		if err != nil {
			return err
		}
		tenant, err = mds.FindTenant(tenants, slugOrID)
		return err
	})
	return tenant, wrap(ctx, "tenants", err)
}

func tenantLogins(ctx context.Context, tx querier) ([]TenantLogin, error) {
	rows, err := tx.Query(ctx, "SELECT l.login, t.id::text, t.slug FROM mds_internal.tenant_logins l JOIN mds_internal.tenants t ON t.id = l.tenant_id ORDER BY l.login")
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (l TenantLogin, err error) {
		return l, row.Scan(&l.Login, &l.Tenant.ID, &l.Tenant.Slug)
	})
}

// asOwner runs fn in a transaction of a database that is set up, of the owner's most
// often.
func asOwner(ctx context.Context, owner string, fn func(tx pgx.Tx, database string) error) error {
	conn, err := connectPlainly(ctx, owner, nil)
	if err != nil {
		return ownersHint(wrap(ctx, "connect", err))
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT pg_catalog.set_config('search_path', 'pg_catalog, pg_temp', true), pg_catalog.set_config('standard_conforming_strings', 'on', true)"); err != nil {
			return err
		}
		if err := requireSetUp(ctx, tx); err != nil {
			return err
		}
		return fn(tx, conn.Config().Database)
	})
	return ownersHint(wrap(ctx, "grant", err))
}

// requireSetUp refuses a database that was not migrated.
func requireSetUp(ctx context.Context, q rowQuerier) error {
	var migrated bool
	err := q.QueryRow(ctx, "SELECT pg_catalog.to_regclass('mds_internal.tenant_logins') IS NOT NULL").Scan(&migrated)
	if err == nil && !migrated {
		err = &Error{Op: "open", Class: Other, Err: errors.New("the database is not set up"), Hint: "let the owner run mds migrate"}
	}
	return err
}

// oneGrants has those who give rights, and who makes, renames or drops what is to have them, wait
// for each other, by a lock that no tenant's login can take. Who locks tenants does so before.
func oneGrants(ctx context.Context, tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "LOCK TABLE mds_internal.tenant_logins IN SHARE ROW EXCLUSIVE MODE")
	return err
}

// requireOwner refuses a login that may not give rights, and has the owner's wait for
// others who do.
func requireOwner(ctx context.Context, tx pgx.Tx) error {
	if err := refuseOthers(ctx, tx, "grant"); err != nil {
		return err
	}
	return oneGrants(ctx, tx)
}

// refuseOthers refuses a login that is not the owner's.
func refuseOthers(ctx context.Context, tx pgx.Tx, op string) error {
	var owner bool
	var login string
	err := tx.QueryRow(ctx, "SELECT session_user::text, coalesce((SELECT pg_has_role(session_user, nspowner, 'MEMBER') FROM pg_namespace WHERE nspname = 'mds_internal'), false)").Scan(&login, &owner)
	if err == nil && !owner {
		err = &Error{Op: op, Class: Denied, Err: fmt.Errorf("the login %s is not the owner's of the database", login), Hint: adminHint}
	}
	return err
}

const adminHint = "give the owner's DSN with --admin-dsn (environment MDS_ADMIN_DSN)"

// ownersHint is an error of the owner's with what the owner can do about it.
func ownersHint(err error) error {
	var e *Error
	if errors.As(err, &e) {
		switch e.Code {
		case "28P01", "28000", "08P01":
			e.Hint = "check the login and its password in the DSN"
		case "42501":
			e.Hint = adminHint
		}
	}
	return err
}

func requireTenant(ctx context.Context, tx pgx.Tx, tenant mds.Tenant) error {
	var known bool
	err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM mds_internal.tenants WHERE id = $1::uuid AND slug = $2)", tenant.ID, tenant.Slug).Scan(&known)
	if err == nil && !known {
		return unknownTenant(tenant.Slug)
	}
	return err
}

// powers are the attributes and memberships with which a role sees past every policy and
// grant, as a query of the role's name for why it does; empty where it has none.
const powers = `SELECT concat_ws(' and ',
	CASE WHEN r.rolsuper THEN 'is a superuser' END,
	CASE WHEN r.rolbypassrls THEN 'has BYPASSRLS' END,
	CASE WHEN r.rolreplication THEN 'has REPLICATION, with which all that is written can be read' END,
	CASE WHEN r.rolcreaterole THEN 'has CREATEROLE, with which it can join other roles' END,
	(SELECT 'may become ' || string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_roles m
		WHERE m.oid <> r.oid AND NOT r.rolsuper AND pg_has_role(r.oid, m.oid, 'MEMBER') AND (
			m.rolsuper OR m.rolbypassrls OR m.rolreplication OR m.rolcreaterole
			OR m.oid = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal')
			OR m.rolname IN (SELECT login FROM mds_internal.service_logins)
			OR m.rolname IN (SELECT login FROM mds_internal.tenant_logins)
			OR m.rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_all_stats', 'pg_monitor', 'pg_read_server_files', 'pg_write_server_files', 'pg_execute_server_program', 'pg_database_owner', 'pg_maintain', 'pg_create_subscription'))))
	FROM pg_roles r WHERE r.rolname = $1`

// checkLogin refuses a login that could see more than the tenant. The error is
// [pgx.ErrNoRows] where there is none.
func checkLogin(ctx context.Context, tx pgx.Tx, tenant mds.Tenant, login string) error {
	refuse := func(hint, format string, args ...any) error {
		return &Error{Op: "grant", Class: Denied, Err: fmt.Errorf(format, args...), Hint: hint}
	}
	const longest = 63 // bytes (PostgreSQL, "Identifiers and Key Words")
	if login == "" || login == "public" || login == "none" || strings.HasPrefix(login, "pg_") || len(login) > longest || login != strings.TrimSpace(login) || strings.ContainsFunc(login, unicode.IsControl) {
		return refuse(fmt.Sprintf("write at most %d bytes, without spaces around them or line ends", longest), "%q is no name for a login", login)
	}
	var owns, serves, enters bool
	var reason, reads string
	err := tx.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_namespace n JOIN pg_roles r ON r.oid = n.nspowner WHERE n.nspname = 'mds_internal' AND r.rolname = $1),
		EXISTS (SELECT FROM mds_internal.service_logins WHERE login = $1),
		coalesce((SELECT t.slug FROM mds_internal.tenant_logins l JOIN mds_internal.tenants t ON t.id = l.tenant_id WHERE l.login = $1 AND t.id <> $2::uuid), '')`, login, tenant.ID).Scan(&owns, &serves, &reads)
	switch {
	case err != nil:
		return err
	case owns || serves:
		return refuse("give the tenant a login of its own", "the login %s is the store's own", login)
	case reads != "":
		return refuse("take that away first: mds tenant revoke-login "+reads+" "+login, "the login %s is one of the tenant %s", login, reads)
	}
	if err := tx.QueryRow(ctx, powers, login).Scan(&reason); err != nil {
		return err
	}
	if strings.HasPrefix(reason, "is a superuser") {
		reason = "is a superuser"
	}
	if reason != "" {
		return refuse("take that from it, or give the tenant another login", "the login %s %s, and would see other tenants' records", login, reason)
	}
	if err := tx.QueryRow(ctx, "SELECT rolcanlogin FROM pg_roles WHERE rolname = $1", login).Scan(&enters); err != nil {
		return err
	}
	if !enters {
		return refuse("name the logins that are its members: who reads is told by the login of the session", "%s is a role that may not log in", login)
	}
	return nil
}

// tenantSQL is what lets a login read the views of a tenant.
func tenantSQL(ctx context.Context, tx pgx.Tx, database string, tenant mds.Tenant, login string) (string, error) {
	views, err := sealedViews(ctx, tx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf(`GRANT CONNECT ON DATABASE %[1]s TO %[2]s;
GRANT USAGE ON SCHEMA mds TO %[2]s;
GRANT SELECT ON %[3]s TO %[2]s;
INSERT INTO mds_internal.tenant_logins (login, tenant_id) VALUES (%[4]s, %[5]s) ON CONFLICT DO NOTHING;
`, pgx.Identifier{database}.Sanitize(), pgx.Identifier{login}.Sanitize(), strings.Join(views, ", "), quoteText(login), quoteText(tenant.ID)), nil
}

// sealedViews are the names of the views that people read.
func sealedViews(ctx context.Context, tx pgx.Tx) ([]string, error) {
	rows, err := tx.Query(ctx, `SELECT format('mds.%I', c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		WHERE n.nspname = 'mds' AND c.relkind = 'v' AND c.relowner = n.nspowner AND 'security_barrier=true' = ANY (c.reloptions) ORDER BY 1`)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}

// grantNewViews lets the logins of tenants read the views that migrations have made.
func grantNewViews(ctx context.Context, owner string) error {
	return asOwner(ctx, owner, func(tx pgx.Tx, database string) error {
		if err := oneGrants(ctx, tx); err != nil {
			return err
		}
		logins, err := tenantLogins(ctx, tx)
		if err != nil {
			return err
		}
		for _, l := range logins {
			var there bool
			if err := tx.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_roles WHERE rolname = $1)", l.Login).Scan(&there); err != nil {
				return err
			}
			if !there {
				continue
			}
			text, err := tenantSQL(ctx, tx, database, l.Tenant, l.Login)
			if err != nil {
				return err
			}
			if _, err := tx.Exec(ctx, text); err != nil {
				return err
			}
		}
		return nil
	})
}

// role is one that gets rights, and may have to be made.
type role struct {
	name, password string
	make           bool
}

// give runs the SQL that gives a role its rights, and makes it where that is needed. A
// failure for lack of the owner's own rights is a [*GrantError] with the SQL.
func give(ctx context.Context, tx pgx.Tx, database string, r role, text string) error {
	create, told := "", text
	if r.make {
		create = "CREATE ROLE " + pgx.Identifier{r.name}.Sanitize() + " LOGIN"
		told = create + "; -- and give it its password\n" + text // a password is not printed
		if r.password != "" {
			// The server logs statements: it gets what it keeps of a password, not the password.
			secret, err := scramSecret(r.password)
			if err != nil {
				return err
			}
			create += " PASSWORD " + quoteText(secret)
		}
		create += ";\n"
	}
	var err error
	if r.make {
		var may bool
		if err = tx.QueryRow(ctx, "SELECT rolcreaterole OR rolsuper FROM pg_roles WHERE rolname = current_user").Scan(&may); err != nil {
			return err
		}
		if !may {
			err = &Error{Op: "grant", Class: Denied, Code: "42501", Err: fmt.Errorf("the owner may not make the login %s", r.name)}
		}
	}
	if err == nil {
		_, err = tx.Exec(ctx, create+text)
	}
	var server *pgconn.PgError
	var mine *Error
	if errors.As(err, &server) && server.Code == "42501" || errors.As(err, &mine) && mine.Code == "42501" {
		return &GrantError{SQL: told, Database: database, Err: wrap(ctx, "grant", err)}
	}
	return err
}

// rowQuerier is a connection, or a transaction.
type rowQuerier interface {
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// querier is a connection, or a transaction.
type querier interface {
	Query(ctx context.Context, sql string, args ...any) (pgx.Rows, error)
}
