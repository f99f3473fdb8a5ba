package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// Verdict is what [Doctor] says of one thing.
type Verdict string

// The verdicts.
const (
	VerdictOK       Verdict = "ok"        // the catalogue says what it should
	VerdictRefused  Verdict = "refused"   // the database did not let it happen
	VerdictOpen     Verdict = "OPEN"      // tenants are not kept apart
	VerdictNotTried Verdict = "NOT TRIED" // for the reason that Detail has
	VerdictTrusted  Verdict = "trusted"   // the program keeps this, the database does not
)

// Finding is one thing that [Doctor] looked at.
type Finding struct {
	// About is what it is of: the catalogue, the service's login, a login of a tenant.
	About   string  `json:"about"`
	What    string  `json:"what"`
	Verdict Verdict `json:"verdict"`
	// Detail says what was found, and of what is open how to mend it; may be empty.
	Detail string `json:"detail,omitempty"`
}

// DoctorConfig configures [Doctor].
type DoctorConfig struct {
	// Owner is the DSN of the owner of the database, who can look at everything.
	// Defaults to Service, which does not know other logins of the service.
	Owner string
	// Service is the DSN of the store's own login. "" leaves out what is tried with it.
	Service string
	// Logins are the DSNs of tenants' logins, which the attacks are made with. Without
	// any they are not tried.
	Logins []string
}

// Doctor examines how a database keeps tenants apart: what its catalogue says, and, with
// logins of tenants, whether attacks get past it. It changes nothing: what it does is in
// transactions that are rolled back. What is [VerdictOpen] is a way for a tenant to records that
// are not its own.
//
// The service's login is trusted: it reads and writes the facts of all tenants, and which
// are whose is kept by this program.
func Doctor(ctx context.Context, cfg DoctorConfig) ([]Finding, error) {
	d := &doctor{}
	err := d.run(ctx, cfg)
	return d.findings, ownersHint(wrap(ctx, "doctor", err))
}

type doctor struct {
	findings []Finding
	about    string

	conn     *pgx.Conn // in a transaction of the owner's, or of the service's
	snapshot string    // of that transaction
	owner    bool      // it is the owner's
	standby  bool
	tenants  []mds.Tenant
	logins   []TenantLogin
	services []string
	views    []sealedView
}

// sealedView is a view in mds, with what its rows are told apart by.
type sealedView struct {
	name     string // qualified, quoted
	series   string // table of its series, qualified
	identity []string
	keys     []string // of facts
	facts    []string // tables of facts that it reads, qualified
	updated  bool     // it has updated_at
	texts    []string // its columns that are text
}

func (d *doctor) add(what string, verdict Verdict, format string, args ...any) {
	d.findings = append(d.findings, Finding{d.about, what, verdict, fmt.Sprintf(format, args...)})
}

// judge is for what is open where there is a reason.
func (d *doctor) judge(what string, open []string, mend string) {
	if len(open) == 0 {
		d.add(what, VerdictOK, "")
		return
	}
	const shown = 5
	more := ""
	if len(open) > shown {
		more = fmt.Sprintf(" and %d more", len(open)-shown)
		open = open[:shown]
	}
	if mend != "" {
		mend = "; " + mend
	}
	d.add(what, VerdictOpen, "%s%s%s", strings.Join(open, ", "), more, mend)
}

// judgeGrants is judge of what is granted to others than the service's logins, which the
// service itself does not know but its own.
func (d *doctor) judgeGrants(what string, open []string, mend string) {
	certain := open
	if !d.owner {
		certain = slices.DeleteFunc(slices.Clone(open), func(line string) bool {
			return !strings.HasPrefix(line, "PUBLIC ") && !slices.ContainsFunc(d.logins, func(l TenantLogin) bool { return strings.HasPrefix(line, l.Login+" ") })
		})
	}
	if len(certain) == 0 && len(open) > 0 {
		d.add(what, VerdictNotTried, "%s: give the owner's DSN with --admin-dsn to tell whether these are the service's logins", open[0])
		return
	}
	d.judge(what, certain, mend)
}

func (d *doctor) run(ctx context.Context, cfg DoctorConfig) error {
	examiner := cfg.Owner
	if examiner == "" {
		examiner = cfg.Service
	}
	conn, err := connectPlainly(ctx, examiner, nil)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	d.conn = conn
	if err := d.begin(ctx); err != nil {
		return err
	}
	if err := d.catalogue(ctx); err != nil {
		return err
	}
	if err := d.roles(ctx); err != nil {
		return err
	}
	if cfg.Service == "" {
		d.about = "the service's login"
		d.add("is bound by the policies", VerdictNotTried, "give its DSN with --dsn")
	} else {
		if err := d.service(ctx, cfg.Service); err != nil {
			return err
		}
	}
	if len(cfg.Logins) == 0 {
		d.about = "attacks by a login of a tenant"
		for _, a := range attacks() {
			d.add(a.what, VerdictNotTried, "give the DSN of such a login with --login")
		}
	}
	for _, dsn := range cfg.Logins {
		if err := d.attack(ctx, dsn); err != nil {
			return err
		}
	}
	_, err = conn.Exec(ctx, "ROLLBACK")
	return err
}

// connectPlainly connects as the login of a DSN, to do what any program might.
func connectPlainly(ctx context.Context, dsn string, notice func(string)) (*pgx.Conn, error) {
	config, err := connConfig(dsn)
	if err != nil {
		return nil, err
	}
	config.DefaultQueryExecMode = pgx.QueryExecModeExec // poolers mind nothing
	if notice != nil {
		config.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) { notice(n.Message) }
	}
	return pgx.ConnectConfig(ctx, config)
}

// begin begins the examiner's transaction, and learns what there is.
func (d *doctor) begin(ctx context.Context) error {
	if _, err := d.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"); err != nil {
		return err
	}
	// Tables are looked into by their keys, a moment at a time.
	if _, err := d.conn.PgConn().Exec(ctx, "SET LOCAL search_path = pg_catalog, pg_temp; SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '"+attackTimeout+"'; "+
		"SET LOCAL enable_seqscan = off; SET LOCAL enable_bitmapscan = off; "+sameText).ReadAll(); err != nil {
		return err
	}
	if err := requireSetUp(ctx, d.conn); err != nil {
		return err
	}
	var service bool
	err := d.conn.QueryRow(ctx, "SELECT pg_export_snapshot(), mds_internal.is_owner(), mds_internal.is_service(), pg_is_in_recovery()").Scan(&d.snapshot, &d.owner, &service, &d.standby)
	if err != nil {
		return err
	}
	if !d.owner && !service {
		return &Error{Op: "doctor", Class: Denied, Err: errors.New("the login is neither the owner's nor the service's"), Hint: "give the owner's DSN with --admin-dsn, or the service's with --dsn"}
	}
	if d.tenants, err = allTenants(ctx, d.conn); err != nil {
		return err
	}
	if d.services, err = d.strings(ctx, "SELECT login FROM mds_internal.service_logins ORDER BY 1"); err != nil {
		return err
	}
	if d.logins, err = tenantLogins(ctx, d.conn); err != nil {
		return err
	}
	return d.learnViews(ctx)
}

// directReads are the tables and views of the store that a view of it reads itself.
const directReads = `SELECT DISTINCT v.oid AS view, t.oid AS read
	FROM pg_class v JOIN pg_rewrite w ON w.ev_class = v.oid
	JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = w.oid AND p.refclassid = 'pg_class'::regclass AND p.refobjid <> v.oid
	JOIN pg_class t ON t.oid = p.refobjid AND t.relnamespace = 'mds_internal'::regnamespace AND t.relkind IN ('r', 'p', 'v')
	WHERE v.relnamespace IN ('mds'::regnamespace, 'mds_internal'::regnamespace) AND v.relkind = 'v'`

// learnViews lists the views, from what they depend on.
func (d *doctor) learnViews(ctx context.Context) error {
	rows, err := d.conn.Query(ctx, `WITH RECURSIVE direct AS (`+directReads+`),
		reads AS (SELECT view, read FROM direct WHERE view IN (SELECT oid FROM pg_class WHERE relnamespace = 'mds'::regnamespace)
			UNION SELECT r.view, d.read FROM reads r JOIN direct d ON d.view = r.read),
		tables AS (SELECT r.view, r.read, t.relname LIKE '%\_series' AS series FROM reads r JOIN pg_class t ON t.oid = r.read AND t.relkind IN ('r', 'p'))
		SELECT format('mds.%I', v.relname), s.read::regclass::text,
			(SELECT array_agg(attname::text ORDER BY attnum) FROM pg_attribute WHERE attrelid = s.read AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'tenant_id')),
			(SELECT array_agg(a.attname::text ORDER BY k.n) FROM pg_index i CROSS JOIN LATERAL unnest(i.indkey) WITH ORDINALITY k (attnum, n) JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = k.attnum
				WHERE i.indisprimary AND i.indrelid = (SELECT min(f.read) FROM tables f WHERE f.view = v.oid AND NOT f.series) AND a.attname <> 'series_id'),
			(SELECT array_agg(f.read::regclass::text ORDER BY 1) FROM tables f WHERE f.view = v.oid AND NOT f.series),
			EXISTS (SELECT FROM pg_attribute WHERE attrelid = v.oid AND attname = 'updated_at'),
			(SELECT coalesce(array_agg(attname::text), '{}') FROM pg_attribute WHERE attrelid = v.oid AND attnum > 0 AND atttypid = 'text'::regtype)
		FROM pg_class v JOIN tables s ON s.view = v.oid AND s.series ORDER BY 1`)
	if err != nil {
		return err
	}
	d.views, err = pgx.CollectRows(rows, func(row pgx.CollectableRow) (v sealedView, err error) {
		return v, row.Scan(&v.name, &v.series, &v.identity, &v.keys, &v.facts, &v.updated, &v.texts)
	})
	return err
}

// within runs fn so that a failure of the server's, which is returned as such, leaves the
// transaction as it was. No lock of it is left.
func (d *doctor) within(ctx context.Context, fn func() error) (failed *pgconn.PgError, err error) {
	if _, err := d.conn.Exec(ctx, "SAVEPOINT examination"); err != nil {
		return nil, err
	}
	err = fn()
	if err != nil && !errors.As(err, &failed) {
		return nil, err
	}
	_, err = d.conn.Exec(ctx, "ROLLBACK TO examination")
	return failed, err
}

// sameText has values written the same, whatever the login's settings are, and plans not
// compiled, which takes longer than they do.
const sameText = "SET LOCAL jit = off; SET LOCAL timezone = 'UTC'; SET LOCAL datestyle = 'ISO, MDY'; SET LOCAL intervalstyle = 'postgres'; SET LOCAL extra_float_digits = 1; SET LOCAL bytea_output = 'hex'; SET LOCAL standard_conforming_strings = on; SET LOCAL xmlbinary = 'base64'"

// strings are the rows of a query for one text each.
func (d *doctor) strings(ctx context.Context, text string, args ...any) ([]string, error) {
	rows, err := d.conn.Query(ctx, text, args...)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[string])
}
