package postgres

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// attackTimeout bounds a statement of an attack.
const attackTimeout = "30s"

// attack is a way to another tenant's records that has to be closed.
type attack struct {
	what string
	// try returns what got through, and where that cannot be told why.
	try func(*attacker, context.Context) (open []string, unclear string, err error)
	// records are what it is after, of another tenant.
	records bool
}

func attacks() []attack {
	return []attack{
		{"reads another tenant's records through the views", (*attacker).readViews, true},
		{"says that it is another tenant: SET app.tenant_id", (*attacker).setTenant, true},
		{"says so within a query: set_config in a subquery", (*attacker).setWithin, true},
		{"reads after a transaction that said so, as over a pooler", (*attacker).stale, true},
		{"has a function of its own look at rows before the view's condition", (*attacker).leak, true},
		{"has EXPLAIN ANALYZE tell how many rows have a value", (*attacker).explain, true},
		{"reads the tables", (*attacker).readTables, false},
		{"reads partitions and chunks", (*attacker).readParts, false},
		{"copies: COPY TO, COPY FROM", (*attacker).copy, false},
		{"writes to tables and views", (*attacker).write, false},
		{"becomes another: SET ROLE, SET SESSION AUTHORIZATION", (*attacker).become, false},
		{"calls the functions of the store", (*attacker).call, false},
		{"reads statistics, sequences and what other sessions ask", (*attacker).statistics, false},
	}
}

// attacker is a login of a tenant.
type attacker struct {
	*doctor
	dsn     string
	login   *pgx.Conn
	name    string
	victims []victim
	without []string // views that there is no victim in, and why
	notices []string
}

// attack tries everything with a login.
func (d *doctor) attack(ctx context.Context, dsn string) error {
	a := &attacker{doctor: d, dsn: dsn}
	conn, err := connectPlainly(ctx, dsn, func(text string) { a.notices = append(a.notices, text) })
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	a.login = conn
	var database string
	if err := conn.QueryRow(ctx, "SELECT session_user::text, current_database()::text").Scan(&a.name, &database); err != nil {
		return err
	}
	if want := d.conn.Config().Database; database != want {
		return &Error{Op: "doctor", Class: Other, Err: fmt.Errorf("the DSN of the login %s names the database %s, and that of the examination %s", a.name, database, want), Hint: "name the same"}
	}
	own := mds.Tenant{}
	for _, l := range d.logins {
		if l.Login == a.name {
			own = l.Tenant
		}
	}
	owns, err := d.strings(ctx, "SELECT 'owner' FROM pg_namespace WHERE nspname = 'mds_internal' AND pg_get_userbyid(nspowner) = $1", a.name)
	if err != nil {
		return err
	}
	if own == (mds.Tenant{}) && (len(owns) > 0 || slices.Contains(d.services, a.name)) {
		return &Error{Op: "doctor", Class: Other, Err: fmt.Errorf("%s is the store's own login, which is trusted", a.name), Hint: "give --login the DSN of a tenant's login"}
	}
	d.about = "attacks by " + a.name + ", of no tenant"
	if own.Slug != "" {
		d.about = "attacks by " + a.name + ", of the tenant " + own.Slug
	}
	if own.Slug == "" {
		d.add("is the login of a tenant", VerdictNotTried, "it is of none: mds tenant logins lists those that are")
	}
	if a.victims, a.without, err = d.findVictims(ctx, own); err != nil {
		return err
	}
	for _, one := range attacks() {
		if err := a.begin(ctx); err != nil {
			return err
		}
		open, unclear, err := one.try(a, ctx)
		if err != nil {
			return fmt.Errorf("%s: %w", one.what, err)
		}
		if _, err := a.login.Exec(ctx, "ROLLBACK"); err != nil {
			return err
		}
		switch {
		case len(open) > 0:
			d.judge(one.what, open, "")
		case unclear != "":
			d.add(one.what, VerdictNotTried, "%s", unclear)
		case one.records && len(a.victims) == 0:
			d.add(one.what, VerdictNotTried, "%s", nothingToSee)
		case one.records && len(a.without) > 0:
			d.add(one.what, VerdictRefused, "but not tried with %s", strings.Join(a.without, ", "))
		default:
			d.add(one.what, VerdictRefused, "")
		}
	}
	return nil
}

// access is that of a login that may write, whatever its settings; a standby has none.
func (a *attacker) access() string {
	if a.standby {
		return "READ ONLY"
	}
	return "READ WRITE"
}

// begin begins a transaction that sees what the examiner sees.
func (a *attacker) begin(ctx context.Context) error {
	_, err := a.login.PgConn().Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ "+a.access()+"; SET TRANSACTION SNAPSHOT '"+a.snapshot+"'; SET LOCAL statement_timeout = '"+attackTimeout+"'; SET LOCAL lock_timeout = '50ms'; "+sameText).ReadAll()
	return err
}

// run runs statements and takes back what they did. An error of the server is returned
// as such, any other ends the examination.
func (a *attacker) run(ctx context.Context, text string) (rows []string, refused *pgconn.PgError, err error) {
	if _, err := a.login.PgConn().Exec(ctx, "SAVEPOINT attack").ReadAll(); err != nil {
		return nil, nil, err
	}
	results, failed := a.login.PgConn().Exec(ctx, text).ReadAll()
	if _, err := a.login.PgConn().Exec(ctx, "ROLLBACK TO attack").ReadAll(); err != nil {
		return nil, nil, errors.Join(failed, err)
	}
	if failed != nil && !errors.As(failed, &refused) {
		return nil, nil, failed
	}
	if len(results) > 0 {
		for _, row := range results[len(results)-1].Rows {
			rows = append(rows, string(row[0]))
		}
	}
	return rows, refused, nil
}

// got runs statements that no login of a tenant may, and reports them where they went
// through, or failed for another reason.
func (a *attacker) got(ctx context.Context, texts []string) (open []string, unclear string, err error) {
	for _, text := range texts {
		run := text
		if table, ok := strings.CutPrefix(text, "TRUNCATE "); ok { // which would lock the table
			run = "DO $$ BEGIN IF NOT has_table_privilege(" + quoteText(table) + ", 'TRUNCATE') THEN RAISE insufficient_privilege; END IF; END $$"
		}
		_, refused, err := a.run(ctx, run)
		if err != nil {
			return nil, "", err
		}
		went, why := through(text, refused)
		open, unclear = append(open, went...), cmp.Or(unclear, why)
	}
	return open, unclear, nil
}

// through says what got through, or why that is not clear: it is refused for lack of
// rights, or because the thing is none that is written to.
func through(text string, refused *pgconn.PgError) (open []string, unclear string) {
	switch {
	case refused == nil:
		return []string{text}, ""
	case refused.Code == "42501", refused.Code == "55000", refused.Code == "42809":
		return nil, ""
	case strings.Contains(refused.Message, "internal compressed hypertable"), strings.HasSuffix(refused.Message, "has no dimension slices"):
		return nil, "" // TimescaleDB lets nobody, before it looks at rights
	case refused.Code == "25006", refused.Code == "57014", refused.Code == "53200":
		return nil, text + ": " + refused.Message
	}
	return []string{fmt.Sprintf("%s (%s)", text, refused.Message)}, ""
}

// as has the examiner look as a tenant.
func (d *doctor) as(ctx context.Context, tenant mds.Tenant) error {
	_, err := d.conn.Exec(ctx, "SELECT set_config('app.tenant_id', $1::text, true)", orNone(tenant))
	return err
}

// nothingToSee is why an attack is not tried.
const nothingToSee = "no other tenant has records that could be seen"

// seen reads the victims, after statements and with a condition, and tells of those that
// are seen.
func (a *attacker) seen(ctx context.Context, before func(victim) string, condition func(victim) string) (open []string, unclear string, err error) {
	for _, v := range a.victims {
		rows, refused, err := a.run(ctx, fmt.Sprintf("%sSELECT v::text FROM %s v WHERE %s%s", before(v), v.view.name, v.where, condition(v)))
		switch {
		case err != nil:
			return nil, "", err
		case refused != nil && refused.Code == "42501": // it may not even read the view
		case refused != nil:
			unclear = cmp.Or(unclear, fmt.Sprintf("%s: %s", v.view.name, refused.Message))
		case slices.ContainsFunc(rows, func(row string) bool { return !slices.Contains(v.own, row) }):
			open = append(open, fmt.Sprintf("it sees a record of the tenant %s in %s", v.tenant.Slug, v.view.name))
		}
	}
	return open, unclear, nil
}

func nothing(victim) string { return "" }

func (a *attacker) readViews(ctx context.Context) ([]string, string, error) {
	return a.seen(ctx, nothing, nothing)
}

func (a *attacker) setTenant(ctx context.Context) ([]string, string, error) {
	return a.seen(ctx, func(v victim) string { return "SET LOCAL app.tenant_id = '" + v.tenant.ID + "'; " }, nothing)
}

func (a *attacker) setWithin(ctx context.Context) ([]string, string, error) {
	return a.seen(ctx, nothing, func(v victim) string {
		return " AND (SELECT set_config('app.tenant_id', '" + v.tenant.ID + "', true)) IS NOT NULL"
	})
}

// stale says which tenant it is in a transaction of its own, and reads in the next; in a
// session that has said nothing before.
func (a *attacker) stale(ctx context.Context) (open []string, unclear string, err error) {
	for _, v := range a.victims {
		more, why, err := a.staleOf(ctx, v)
		if err != nil {
			return nil, "", err
		}
		open, unclear = append(open, more...), cmp.Or(unclear, why)
	}
	return open, unclear, nil
}

func (a *attacker) staleOf(ctx context.Context, v victim) (open []string, unclear string, err error) {
	conn, err := connectPlainly(ctx, a.dsn, nil)
	if err != nil {
		return nil, "", err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	if _, err := conn.PgConn().Exec(ctx, "BEGIN; SELECT set_config('app.tenant_id', '"+v.tenant.ID+"', true); COMMIT").ReadAll(); err != nil {
		return nil, "", err
	}
	one := &attacker{doctor: a.doctor, login: conn, victims: []victim{v}}
	if err := one.begin(ctx); err != nil {
		return nil, "", err
	}
	return one.seen(ctx, nothing, nothing)
}

// plans are settings that any login may make, each for other plans.
var plans = []string{
	"",
	"SET LOCAL enable_material = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; ",
	"SET LOCAL enable_material = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_nestloop = off; ",
	"SET LOCAL enable_material = off; SET LOCAL enable_indexscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL enable_bitmapscan = off; SET LOCAL enable_nestloop = off; SET LOCAL enable_hashjoin = off; ",
}

// affordable tells whether a query is one to be run on a database in use: what it costs by
// the planner's estimate, without what it adds for plans that are switched off.
func (a *attacker) affordable(ctx context.Context, before, query string) (bool, *pgconn.PgError, error) {
	rows, refused, err := a.run(ctx, before+"EXPLAIN (FORMAT JSON) "+query)
	if err != nil || refused != nil {
		return false, refused, err
	}
	var plan []struct {
		Plan struct {
			Cost float64 `json:"Total Cost"`
		}
	}
	if err := json.Unmarshal([]byte(strings.Join(rows, "\n")), &plan); err != nil || len(plan) != 1 {
		return false, nil, err
	}
	const off, most = 1e10, 500_000 // some seconds
	return math.Mod(plan[0].Plan.Cost, off) <= most, nil, nil
}

// leak has a cheap function in WHERE tell what it is given, which the planner would call
// before the view's condition if the view were no barrier, or where row-level security
// were off.
func (a *attacker) leak(ctx context.Context) (open []string, unclear string, err error) {
	const function = "CREATE FUNCTION pg_temp.mds_leak(text) RETURNS boolean LANGUAGE plpgsql COST 0.0001 AS 'BEGIN IF $1 = current_setting(''mds.mark'') THEN RAISE NOTICE ''mds leak''; END IF; RETURN true; END'"
	if _, refused, err := a.run(ctx, function); err != nil || refused != nil {
		if refused != nil {
			unclear = "it may make no function to try it with (" + refused.Message + ")"
		}
		return nil, unclear, err
	}
	for _, v := range a.victims {
		shown, large := false, false
		for _, m := range v.marks {
			for _, plan := range plans {
				before := "SET LOCAL client_min_messages = notice; SET LOCAL mds.mark = " + quoteText(m.value) + "; " + function + "; " + plan
				query := fmt.Sprintf("SELECT count(*) FROM %s v WHERE %s AND pg_temp.mds_leak(%s)", v.view.name, v.bound, m.expression)
				ok, refused, err := a.affordable(ctx, before, query)
				if err != nil {
					return nil, "", err
				}
				if ok {
					a.notices = nil
					_, refused, err = a.run(ctx, before+query)
				}
				switch {
				case err != nil:
					return nil, "", err
				case refused != nil && refused.Code != "42501":
					unclear = cmp.Or(unclear, refused.Message)
				case !ok && refused == nil:
					large = true
				}
				shown = shown || slices.Contains(a.notices, "mds leak")
			}
		}
		switch {
		case shown:
			open = append(open, fmt.Sprintf("a function was shown a record of the tenant %s in %s", v.tenant.Slug, v.view.name))
		case large:
			unclear = cmp.Or(unclear, v.view.name+" is too large to try each plan; by the usual one it is refused")
		}
	}
	return open, unclear, nil
}

// byTime has an index by time read, if there is one that a query may use, rather than the
// one by series.
const byTime = "SET LOCAL enable_indexscan = off; SET LOCAL enable_seqscan = off; SET LOCAL enable_indexonlyscan = off; SET LOCAL cpu_index_tuple_cost = 1e10; SET LOCAL seq_page_cost = 0; SET LOCAL random_page_cost = 0; SET LOCAL max_parallel_workers_per_gather = 0; "

// explain asks for a value that a victim has, and for one that nobody has: the plans, with
// their estimates and numbers of rows, are the same if the value was asked of no other
// tenant's rows, nor of what is known of them. The own tenant has neither.
func (a *attacker) explain(ctx context.Context) (open []string, unclear string, err error) {
	for _, v := range a.victims {
		if len(v.lacks) == 0 {
			unclear = cmp.Or(unclear, "its tenant has the same values in "+v.view.name+", or too many series to tell")
		}
		for _, column := range v.lacks {
			name, nobodys := "v."+quote(column.expression), "1999-12-31 23:59:59.999999+00"
			asks := func(format string) func(string) string {
				return func(value string) string { return fmt.Sprintf(format, quoteText(value)) }
			}
			conditions := []func(string) string{asks(name + " = %s")}
			switch {
			case slices.Contains(v.view.texts, column.expression):
				nobodys = "MDS-NOBODY"
				// What costs less than the seal's own conditions would be asked first, and the
				// subquery tells whether it was: a subscript costs nothing.
				conditions = append(conditions, asks(name+" = ANY (ARRAY[%s])"), asks("CASE WHEN "+name+" = ANY (ARRAY[%s]) THEN (SELECT true) ELSE true END"), func(value string) string {
					key, _ := json.Marshal(map[string]int{value: 1}) // of a text and a number
					return "CASE WHEN (" + quoteText(string(key)) + "::jsonb)[" + name + "] IS NULL THEN true ELSE (SELECT true FROM pg_catalog.pg_class LIMIT 1) END"
				})
			case len(column.value) == len("2006-01-02"):
				nobodys = nobodys[:len("2006-01-02")]
			case len(column.value) < len("2006-01-02 15:04:05+00"):
				continue // numbers, which are compared by what is not leakproof, or told by their texts
			default: // of the same partition: which of them have rows is no secret, as sizes are none
				nobodys = column.value[:len("2006-01-02")] + nobodys[len("2006-01-02"):]
			}
			for _, condition := range conditions {
				differ, why, err := a.differ(ctx, v, condition, column.value, nobodys)
				if err != nil {
					return nil, "", err
				}
				unclear = cmp.Or(unclear, why)
				if differ {
					open = append(open, fmt.Sprintf("it learns that another tenant (%s) has a %s in %s", v.tenant.Slug, column.expression, v.view.name))
					break
				}
			}
		}
	}
	return open, unclear, nil
}

// differ tells whether plans differ by which of two values is asked for. Those that
// differ are made once more, since tables grow meanwhile.
func (a *attacker) differ(ctx context.Context, v victim, condition func(string) string, theirs, nobodys string) (differ bool, unclear string, err error) {
	for _, plan := range append(slices.Clip(plans), byTime) {
		var told [2]string
		for try := range 3 {
			before := told
			for i, value := range []string{theirs, nobodys} {
				var refused *pgconn.PgError
				if told[i], refused, err = a.planOf(ctx, plan, fmt.Sprintf("SELECT * FROM %s v WHERE %s AND %s", v.view.name, v.timeframe, condition(value)), value); err != nil {
					return false, "", err
				}
				if refused != nil && refused.Code != "42501" { // it may not even read the view
					return false, refused.Message, nil
				}
			}
			switch {
			case told[0] == "" && told[1] == "":
				unclear = v.view.name + " is too large to try each plan"
			case told[0] == told[1]:
			case try > 0 && told == before:
				return true, "", nil
			case try == 2:
				unclear = v.view.name + " changes while it is looked at"
			default:
				continue
			}
			break
		}
	}
	return false, unclear, nil
}

// planOf is how a query was carried out, without a value in it; "" where that would take
// long.
func (a *attacker) planOf(ctx context.Context, plan, query, value string) (text string, refused *pgconn.PgError, err error) {
	estimated := plan
	if plan == byTime { // whose costs mean nothing
		estimated = plans[1]
	}
	ok, refused, err := a.affordable(ctx, estimated, query)
	if err != nil || refused != nil || !ok {
		return "", refused, err
	}
	rows, refused, err := a.run(ctx, plan+"EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) "+query)
	return strings.ReplaceAll(strings.Join(rows, "\n"), value, ""), refused, err
}

// relations are tables by what picks them.
func (a *attacker) relations(ctx context.Context, which string) ([]string, error) {
	return a.strings(ctx, "SELECT format('%I.%I', n.nspname, c.relname) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE "+which+" ORDER BY 1")
}

const ofTheStore = "n.nspname = 'mds_internal' AND c.relkind IN ('r', 'p')"

// each makes statements of tables.
func statements(tables []string, formats ...string) (texts []string) {
	for _, table := range tables {
		for _, format := range formats {
			texts = append(texts, fmt.Sprintf(format, table))
		}
	}
	return texts
}

func (a *attacker) readTables(ctx context.Context) ([]string, string, error) {
	tables, err := a.relations(ctx, ofTheStore)
	if err != nil {
		return nil, "", err
	}
	return a.got(ctx, statements(tables, "SELECT 1 FROM %s LIMIT 1"))
}

func (a *attacker) readParts(ctx context.Context) ([]string, string, error) {
	tables, err := a.relations(ctx, "c.oid IN ("+parts+")")
	if err != nil || len(tables) == 0 {
		return nil, "there are none", err
	}
	return a.got(ctx, statements(tables, "SELECT 1 FROM %s LIMIT 1"))
}

func (a *attacker) copy(ctx context.Context) (open []string, unclear string, err error) {
	tables, err := a.relations(ctx, ofTheStore+" OR c.oid IN ("+parts+") OR n.nspname = 'mds' AND c.relkind = 'v'")
	if err != nil {
		return nil, "", err
	}
	for _, table := range tables {
		texts := []string{"COPY " + table + " FROM STDIN"}
		if !strings.HasPrefix(table, "mds.") {
			texts = append(texts, "COPY (SELECT * FROM "+table+" LIMIT 1) TO STDOUT")
		}
		for _, text := range texts {
			if _, err := a.login.PgConn().Exec(ctx, "SAVEPOINT attack").ReadAll(); err != nil {
				return nil, "", err
			}
			var failed error
			if strings.HasSuffix(text, "STDIN") {
				_, failed = a.login.PgConn().CopyFrom(ctx, strings.NewReader(""), text)
			} else {
				_, failed = a.login.PgConn().CopyTo(ctx, io.Discard, text)
			}
			if _, err := a.login.PgConn().Exec(ctx, "ROLLBACK TO attack").ReadAll(); err != nil {
				return nil, "", errors.Join(failed, err)
			}
			var refused *pgconn.PgError
			if failed != nil && !errors.As(failed, &refused) {
				return nil, "", failed
			}
			went, why := through(text, refused)
			open, unclear = append(open, went...), cmp.Or(unclear, why)
		}
	}
	return open, unclear, nil
}

func (a *attacker) write(ctx context.Context) ([]string, string, error) {
	tables, err := a.relations(ctx, ofTheStore+" OR c.oid IN ("+parts+") OR n.nspname = 'mds' AND c.relkind = 'v'")
	if err != nil {
		return nil, "", err
	}
	return a.got(ctx, statements(tables, "INSERT INTO %s DEFAULT VALUES", "DELETE FROM %s WHERE false", "TRUNCATE %s"))
}

func (a *attacker) become(ctx context.Context) ([]string, string, error) {
	roles, err := a.strings(ctx, `SELECT quote_ident(rolname) FROM pg_roles WHERE rolname <> $1 AND (rolsuper OR rolbypassrls
		OR oid = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') OR rolname IN (SELECT login FROM mds_internal.service_logins)
		OR rolname IN (SELECT login FROM mds_internal.tenant_logins) OR rolname IN ('pg_read_all_data', 'pg_write_all_data', 'pg_read_server_files', 'pg_execute_server_program')) ORDER BY 1`, a.name)
	if err != nil {
		return nil, "", err
	}
	texts := statements(roles, "SET ROLE %s", "SET SESSION AUTHORIZATION %s")
	texts = append(texts, "COPY (SELECT 1) TO PROGRAM 'cat'", "SELECT pg_read_file('PG_VERSION')")
	return a.got(ctx, texts)
}

func (a *attacker) call(ctx context.Context) ([]string, string, error) {
	texts := []string{"SELECT mds_internal.current_tenant()", "CREATE TABLE mds_internal.mds_doctor (x int)", "CREATE VIEW mds.mds_doctor AS SELECT 1"}
	for _, v := range a.victims {
		texts = append(texts, "SELECT mds_internal.begin_for('"+v.tenant.ID+"', 'read', NULL)")
	}
	return a.got(ctx, texts)
}

func (a *attacker) statistics(ctx context.Context) (open []string, unclear string, err error) {
	for what, text := range map[string]string{
		"pg_stats has values of the tables":           "SELECT 'x' FROM pg_catalog.pg_stats WHERE schemaname = 'mds_internal' LIMIT 1",
		"pg_sequences has where the ids of series go": "SELECT 'x' FROM pg_catalog.pg_sequences WHERE schemaname = 'mds_internal' AND last_value IS NOT NULL LIMIT 1",
		"pg_stat_activity has what others ask":        "SELECT 'x' FROM pg_catalog.pg_stat_activity WHERE usename <> session_user AND query NOT IN ('', '<insufficient privilege>') LIMIT 1",
	} {
		rows, refused, err := a.run(ctx, text)
		if err != nil {
			return nil, "", err
		}
		if refused == nil && len(rows) > 0 {
			open = append(open, what)
		} else if refused != nil && refused.Code != "42501" {
			unclear = cmp.Or(unclear, refused.Message)
		}
	}
	slices.Sort(open)
	return open, unclear, nil
}
