package postgres

import (
	"context"
	"fmt"
	"io/fs"
	"maps"
	"regexp"
	"slices"
	"strings"
)

// catalogue checks what everybody may do.
func (d *doctor) catalogue(ctx context.Context) error {
	d.about = "catalogue"
	for _, check := range []struct {
		what, mend string
		// query yields what is open, a line each.
		query string
	}{
		{
			"one owner has the schemas, and all that is in them", "ALTER … OWNER TO the owner of mds_internal",
			`SELECT 'schema mds belongs to ' || pg_get_userbyid(n.nspowner) FROM pg_namespace n WHERE n.nspname = 'mds' AND n.nspowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal')
			UNION ALL SELECT format('%s belongs to %s', c.oid::regclass, pg_get_userbyid(c.relowner)) FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
				WHERE n.nspname IN ('mds', 'mds_internal') AND c.relkind IN ('r', 'p', 'v', 'm', 'S', 'f') AND c.relowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal')
			UNION ALL SELECT format('%s belongs to %s', p.oid::regprocedure, pg_get_userbyid(p.proowner)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
				WHERE n.nspname IN ('mds', 'mds_internal') AND p.proowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal')`,
		}, {
			"nobody but the owner makes things in the schemas, or uses mds_internal", "REVOKE it",
			`SELECT format('%s has %s on schema %s', ` + grantee + `, a.privilege_type, n.nspname) FROM pg_namespace n CROSS JOIN LATERAL aclexplode(n.nspacl) a
				WHERE n.nspname IN ('mds', 'mds_internal') AND NOT ` + ownsIt + ` AND (a.privilege_type = 'CREATE' OR n.nspname = 'mds_internal' AND NOT ` + servesIt + `)`,
		}, {
			"nobody but the service reads or writes the tables, or a column of them", "REVOKE ALL ON it",
			`SELECT format('%s may %s %s', ` + grantee + `, a.privilege_type, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND NOT ` + ownsIt + ` AND NOT ` + servesIt + `
			UNION ALL SELECT format('%s may %s %s of %s', ` + grantee + `, a.privilege_type, t.attname, c.oid::regclass) FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND NOT ` + ownsIt + ` AND NOT ` + servesIt,
		}, {
			"nor their partitions and chunks, wherever they lie", "REVOKE ALL ON it",
			`SELECT format('%s may %s %s', ` + grantee + `, a.privilege_type, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.relnamespace <> 'mds_internal'::regnamespace AND c.oid IN (` + parts + `) AND NOT ` + ownsIt + ` AND NOT ` + servesIt,
		}, {
			"the service does not change who sees what", "REVOKE INSERT, UPDATE, DELETE, TRUNCATE ON it",
			`SELECT format('%s may %s %s', ` + grantee + `, a.privilege_type, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.oid = ANY (ARRAY['mds_internal.service_logins', 'mds_internal.tenant_logins']::regclass[]) AND NOT ` + ownsIt + ` AND a.privilege_type NOT IN ('SELECT', 'REFERENCES', 'TRIGGER')`,
		}, {
			"the service checks API keys, and does nothing else with them", "REVOKE ALL ON mds_internal.api_keys FROM it, and for the service run mds migrate",
			`SELECT format('%s may %s %s', ` + grantee + `, a.privilege_type, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relname = 'api_keys' AND NOT ` + ownsIt + `
			UNION ALL SELECT format('%s may %s %s of %s', ` + grantee + `, a.privilege_type, t.attname, c.oid::regclass) FROM pg_class c JOIN pg_attribute t ON t.attrelid = c.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relname = 'api_keys' AND NOT ` + ownsIt + ` AND (a.privilege_type <> 'SELECT' OR t.attname NOT IN ('` + strings.Join(checkedColumns, "', '") + `'))`,
		}, {
			"views are for reading", "REVOKE it",
			`SELECT format('%s may %s %s', ` + grantee + `, a.privilege_type, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.relnamespace = 'mds'::regnamespace AND NOT ` + ownsIt + ` AND a.privilege_type <> 'SELECT'
			UNION ALL SELECT format('%s may read %s, which is no view', ` + grantee + `, c.oid::regclass) FROM pg_class c CROSS JOIN LATERAL aclexplode(c.relacl) a
				WHERE c.relnamespace = 'mds'::regnamespace AND c.relkind IN ('r', 'p', 'm', 'f') AND NOT ` + ownsIt + ` AND NOT ` + servesIt,
		}, {
			"no default gives away tables that are made later", "ALTER DEFAULT PRIVILEGES … REVOKE it",
			`SELECT format('%s will have %s on %s of %s', ` + grantee + `, a.privilege_type, CASE d.defaclobjtype WHEN 'r' THEN 'tables' WHEN 'S' THEN 'sequences' ELSE 'schemas' END, pg_get_userbyid(d.defaclrole))
				FROM pg_default_acl d CROSS JOIN LATERAL aclexplode(d.defaclacl) a
				WHERE d.defaclrole = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') AND d.defaclobjtype IN ('r', 'S', 'n')
				AND (d.defaclnamespace = 0 OR d.defaclnamespace IN (SELECT oid FROM pg_namespace WHERE nspname IN ('mds', 'mds_internal'))) AND NOT ` + ownsIt + ` AND NOT ` + servesIt,
		}, {
			"series, kept answers, jobs and lists of logins and keys have forced row-level security", "ALTER TABLE … ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY",
			`SELECT c.oid::regclass::text || CASE WHEN c.relrowsecurity THEN ' is not forced' ELSE ' is not enabled' END FROM pg_class c
				WHERE ` + controlled + ` AND NOT (c.relrowsecurity AND c.relforcerowsecurity)`,
		}, {
			"the planner knows nothing of identities and values, which EXPLAIN would tell", "CALL mds_internal.without_statistics('TABLE'), without its view",
			`SELECT format('%s of %s', a.attname, c.oid::regclass) FROM pg_class c JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relkind IN ('r', 'p') AND (c.relname LIKE '%\_series' OR c.relname LIKE '%\_facts%') AND a.attname NOT IN ('id', 'tenant_id', 'series_id')
				AND (coalesce(a.attstattarget, -1) <> 0 OR EXISTS (SELECT FROM pg_stats t WHERE t.schemaname = 'mds_internal' AND t.tablename = c.relname AND t.attname = a.attname))`,
		}, {
			"no index of facts is by anything but their series first", "DROP INDEX it, or make it with WHERE series_id > -1",
			`SELECT i.indexrelid::regclass::text || ' of ' || c.oid::regclass FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
				WHERE c.relnamespace = 'mds_internal'::regnamespace AND c.relname LIKE '%\_facts%' AND i.indpred IS NULL
				AND i.indkey[0] <> (SELECT attnum FROM pg_attribute WHERE attrelid = c.oid AND attname = 'series_id')`,
		}, {
			"views are barriers, with their owner's rights", "ALTER VIEW … SET (security_barrier = true), RESET (security_invoker)",
			`SELECT c.oid::regclass::text || ' has options ' || coalesce(array_to_string(c.reloptions, ', '), 'none') FROM pg_class c
				WHERE c.relnamespace IN ('mds'::regnamespace, 'mds_internal'::regnamespace) AND c.relkind = 'v'
				AND (NOT coalesce('security_barrier=true' = ANY (c.reloptions), false) OR coalesce(c.reloptions && ARRAY['security_invoker=true', 'security_invoker=on'], false))`,
		}, {
			"nothing else shows the tables to others", "DROP it, or REVOKE ALL ON it",
			// Views and materialized views that read the tables, or what does, and materialized
			// ones of what people read, whose rows are those of who refreshed it.
			`WITH RECURSIVE reads AS (
				SELECT DISTINCT v.oid AS view, v.relkind, t.oid AS read, t.relnamespace FROM pg_class v JOIN pg_rewrite w ON w.ev_class = v.oid
				JOIN pg_depend p ON p.classid = 'pg_rewrite'::regclass AND p.objid = w.oid AND p.refclassid = 'pg_class'::regclass AND p.refobjid <> v.oid JOIN pg_class t ON t.oid = p.refobjid
				WHERE v.relkind IN ('v', 'm') AND v.relnamespace NOT IN ('mds'::regnamespace, 'mds_internal'::regnamespace)),
			people AS (SELECT oid AS view FROM pg_class WHERE relnamespace = 'mds'::regnamespace AND relkind = 'v' UNION SELECT r.view FROM reads r JOIN people p ON p.view = r.read),
			shows AS (SELECT view FROM reads WHERE relnamespace = 'mds_internal'::regnamespace OR read IN (` + parts + `)
				UNION SELECT r.view FROM reads r JOIN people p ON p.view = r.read WHERE r.relkind = 'm'
				UNION SELECT r.view FROM reads r JOIN shows s ON s.view = r.read)
			SELECT format('%s may %s %s, which reads them', ` + grantee + `, a.privilege_type, v.oid::regclass) FROM pg_class v CROSS JOIN LATERAL aclexplode(v.relacl) a
				WHERE v.oid IN (SELECT view FROM shows) AND a.grantee <> v.relowner AND NOT ` + servesIt + `
			UNION ALL SELECT format('%s may %s %s of %s, which reads them', ` + grantee + `, a.privilege_type, t.attname, v.oid::regclass) FROM pg_class v JOIN pg_attribute t ON t.attrelid = v.oid CROSS JOIN LATERAL aclexplode(t.attacl) a
				WHERE v.oid IN (SELECT view FROM shows) AND a.grantee <> v.relowner AND NOT ` + servesIt + `
			UNION ALL SELECT format('%s belongs to %s, and reads them', v.oid::regclass, pg_get_userbyid(v.relowner)) FROM pg_class v
				WHERE v.oid IN (SELECT view FROM shows) AND pg_get_userbyid(v.relowner) IN (SELECT login FROM mds_internal.tenant_logins)`,
		}, {
			"no function lends others the rights of the store", "DROP it, or REVOKE EXECUTE ON it FROM PUBLIC",
			`SELECT format('%s runs as %s', p.oid::regprocedure, pg_get_userbyid(p.proowner)) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
				WHERE p.prosecdef AND (p.proowner = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') OR pg_get_userbyid(p.proowner) IN (SELECT login FROM mds_internal.service_logins))
				AND NOT (n.nspname = 'mds_internal' AND p.proname IN ('is_service', 'current_tenant', 'new_epoch'))
				AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner AND NOT ` + servesIt + `)`,
		}, {
			"no setting of a login, or of the database, says which tenant it is", "ALTER ROLE or DATABASE … RESET app.tenant_id",
			`SELECT format('%s has %s', coalesce(nullif(s.setrole, 0)::regrole::text, 'the database'), c) FROM pg_db_role_setting s CROSS JOIN LATERAL unnest(s.setconfig) c
				WHERE c LIKE 'app.tenant\_id=%' AND (s.setdatabase = 0 OR s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database()))`,
		},
	} {
		open, err := d.strings(ctx, check.query)
		if err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
		if strings.Contains(check.query, servesIt) {
			d.judgeGrants(check.what, open, check.mend)
			continue
		}
		d.judge(check.what, open, check.mend)
	}
	for _, check := range []func(context.Context) error{d.policies, d.viewTexts, d.functions, d.lookAt} {
		if err := check(ctx); err != nil {
			return err
		}
	}
	return nil
}

// lookAt tells of what may be a way past, which the catalogue does not say.
func (d *doctor) lookAt(ctx context.Context) error {
	for _, check := range []struct {
		what    string
		verdict Verdict
		query   string
	}{
		{"functions that run as a superuser show nothing of the store", VerdictNotTried, `SELECT p.oid::regprocedure::text || ' runs as ' || pg_get_userbyid(p.proowner) FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_roles r ON r.oid = p.proowner
			WHERE p.prosecdef AND (r.rolsuper OR r.rolbypassrls) AND n.nspname NOT IN ('pg_catalog', 'information_schema') AND NOT EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass AND d.objid = p.oid AND d.deptype = 'e')
			AND p.proowner <> (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal')
			AND EXISTS (SELECT FROM aclexplode(coalesce(p.proacl, acldefault('f', p.proowner))) a WHERE a.privilege_type = 'EXECUTE' AND a.grantee <> p.proowner)`},
		{"other logins may become the owner or the service, and see all", VerdictTrusted, `SELECT r.rolname || ' may become ' || string_agg(m.rolname, ', ' ORDER BY m.rolname) FROM pg_roles r JOIN pg_roles m ON m.oid <> r.oid AND pg_has_role(r.oid, m.oid, 'MEMBER')
			WHERE r.rolcanlogin AND NOT r.rolsuper AND (m.oid = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') OR m.rolname IN (SELECT login FROM mds_internal.service_logins) OR m.rolname = 'pg_read_all_data')
			AND r.rolname NOT IN (SELECT login FROM mds_internal.tenant_logins) AND r.rolname NOT IN (SELECT login FROM mds_internal.service_logins) GROUP BY r.rolname`},
		{"the owner can take any role but a superuser's, such as pg_execute_server_program (CREATEROLE before PostgreSQL 16)", VerdictTrusted, `SELECT r.rolname::text FROM pg_roles r WHERE r.oid = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') AND r.rolcreaterole AND NOT r.rolsuper AND current_setting('server_version_num')::int < 160000`},
	} {
		found, err := d.strings(ctx, check.query)
		if err != nil {
			return fmt.Errorf("%s: %w", check.what, err)
		}
		if len(found) > 0 {
			d.add(check.what, check.verdict, "%s", strings.Join(found, ", "))
		}
	}
	return nil
}

// Parts of the queries, in which a is a line of aclexplode and c a pg_class.
const (
	grantee  = "coalesce(nullif(a.grantee, 0)::regrole::text, 'PUBLIC')"
	ownsIt   = "(a.grantee <> 0 AND (a.grantee = (SELECT nspowner FROM pg_namespace WHERE nspname = 'mds_internal') OR (SELECT rolsuper FROM pg_roles WHERE oid = a.grantee)))"
	servesIt = "(a.grantee <> 0 AND pg_get_userbyid(a.grantee) IN (SELECT login FROM mds_internal.service_logins))"
	// parts are the partitions and chunks of the tables.
	parts = `WITH RECURSIVE part AS (
		SELECT i.inhrelid AS id FROM pg_inherits i JOIN pg_class p ON p.oid = i.inhparent WHERE p.relnamespace = 'mds_internal'::regnamespace
		UNION SELECT i.inhrelid FROM pg_inherits i JOIN part ON part.id = i.inhparent)
		SELECT id FROM part UNION SELECT c.oid FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = '_timescaledb_internal' AND c.relkind IN ('r', 'f', 'v') AND c.relname ~ '^(compress|_compressed|_materialized|_partial_view|_direct_view)_?hyper'`
	controlled = `c.relnamespace = 'mds_internal'::regnamespace AND c.relkind IN ('r', 'p')
		AND (c.relname LIKE '%\_series' OR c.relname IN ('tenants', 'service_logins', 'tenant_logins', 'api_keys', 'kept_answers', 'jobs', 'job_parts'))`
)

// wantedPolicies are the policies by table, of series and kept answers by "", without spaces and brackets.
var wantedPolicies = map[string]string{
	"":               "of_tenant:tenant_id=ANYARRAY[SELECTmds_internal.current_tenantAScurrent_tenant]ORSELECTmds_internal.is_ownerASis_owner",
	"tenants":        "of_tenant:SELECTmds_internal.is_serviceASis_serviceORid=SELECTmds_internal.current_tenantAScurrent_tenantORSELECTmds_internal.is_ownerASis_owner",
	"service_logins": "of_login:login=SESSION_USERORSELECTmds_internal.is_ownerASis_owner",
	"api_keys":       "of_service:SELECTmds_internal.is_serviceASis_serviceORSELECTmds_internal.is_ownerASis_owner",
	"jobs":           "of_service:SELECTmds_internal.is_serviceASis_serviceORSELECTmds_internal.is_ownerASis_owner",
	"job_parts":      "of_service:SELECTmds_internal.is_serviceASis_serviceORSELECTmds_internal.is_ownerASis_owner",
	"tenant_logins":  "of_login:login=SESSION_USERORSELECTmds_internal.is_serviceASis_serviceORSELECTmds_internal.is_ownerASis_owner",
}

// bare is an expression without spaces, brackets and casts of texts.
func bare(expression string) string {
	return strings.NewReplacer(" ", "", "(", "", ")", "", "\n", "", "::text", "").Replace(expression)
}

// policies checks that each table has its policy, and no other.
func (d *doctor) policies(ctx context.Context) error {
	const what = "the policies are the store's, and no others"
	rows, err := d.conn.Query(ctx, `SELECT c.relname::text, coalesce(p.polname::text, ''), coalesce(pg_get_expr(p.polqual, p.polrelid), ''), p.polwithcheck IS NULL AND p.polcmd = '*' AND p.polpermissive AND p.polroles = '{0}'
		FROM pg_class c LEFT JOIN pg_policy p ON p.polrelid = c.oid WHERE `+controlled+` ORDER BY 1, 2`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var open []string
	for rows.Next() {
		var table, name, using string
		var plain *bool
		if err := rows.Scan(&table, &name, &using, &plain); err != nil {
			return err
		}
		want, ok := wantedPolicies[table]
		if !ok {
			want = wantedPolicies[""]
		}
		switch {
		case name == "":
			open = append(open, table+" has none")
		case plain == nil || !*plain || name+":"+bare(using) != want:
			open = append(open, fmt.Sprintf("%s has %s USING %s", table, name, using))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	d.judge(what, open, "DROP POLICY the other, or make it as CALL mds_internal.seal('TABLE') does")
	return nil
}

// sealedText is how a view over facts ends, without brackets, casts and line ends: what
// mds_internal.sealed_view makes.
var sealedText = regexp.MustCompile(`^SELECT [^;]* FROM mds_internal\.\w+_series s CROSS JOIN LATERAL SELECT [^;]* FROM mds_internal\."?\w+"? f_1 WHERE f_1\.series_id = ANY ARRAY\[s\.id\] f WHERE (s\.timeframe = '\w+' AND )?s\.tenant_id = mds_internal\.current_tenant;$`)

// viewTexts checks that each view that reads facts is what the migrations make: it asks for
// the tenant, is no union, which PostgreSQL flattens in spite of a barrier, and reads facts
// series by series, with values that no condition goes past.
func (d *doctor) viewTexts(ctx context.Context) error {
	rows, err := d.conn.Query(ctx, `SELECT view::regclass::text, pg_get_viewdef(view), count(*)::int,
			min((SELECT count(*) FROM pg_attribute WHERE attrelid = read AND attnum > 0 AND NOT attisdropped AND attname <> 'series_id')
				- (SELECT i.indnkeyatts FROM pg_index i WHERE i.indrelid = read AND i.indisprimary))::int
		FROM (`+directReads+`) d
		JOIN pg_class t ON t.oid = read AND t.relkind IN ('r', 'p') AND t.relname NOT LIKE '%\_series' GROUP BY view ORDER BY 1`)
	if err != nil {
		return err
	}
	defer rows.Close()
	var open []string
	for rows.Next() {
		var name, text string
		var facts, values int
		if err := rows.Scan(&name, &text, &facts, &values); err != nil {
			return err
		}
		text = strings.Join(strings.Fields(strings.NewReplacer("(", " ", ")", " ", "::text", "", "::numeric", "").Replace(text)), " ")
		text = strings.ReplaceAll(text, " ;", ";")
		switch {
		case facts > 1 || strings.Contains(text, "UNION"):
			open = append(open, name+" is a union of tables, which is no barrier: each has to be a view of its own")
		case !strings.Contains(text, "s.tenant_id = mds_internal.current_tenant"):
			open = append(open, name+" does not ask for the tenant")
		case !sealedText.MatchString(text) || strings.Count(text, " FROM ") != 2 || strings.Count(text, " WHERE ") != 2 || strings.Contains(text, " OR ") || strings.Count(text, "mds_internal.own") < values:
			open = append(open, name+" is not as the migrations make it")
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	d.judge("each view asks for the tenant, and lets no condition go past it", open, "make the view with CALL mds_internal.sealed_view")
	return nil
}

// functionText finds functions and their bodies in migrations.
var functionText = regexp.MustCompile(`(?s)CREATE (?:OR REPLACE )?FUNCTION mds_internal\.(\w+)\([^;]*? AS (?:\$\$(.*?)\$\$|'(.*?)');`)

// functions checks that those who decide on the tenant are as the migrations make them.
func (d *doctor) functions(ctx context.Context) error {
	bodies := make(map[string]string)
	files, err := fs.Glob(migrationFiles, "migrations/*.sql")
	if err != nil {
		return err
	}
	for _, name := range files {
		text, err := migrationFiles.ReadFile(name)
		if err != nil {
			return err
		}
		for _, found := range functionText.FindAllStringSubmatch(strings.ReplaceAll(string(text), "\nAS ", " AS "), -1) {
			bodies[found[1]] = found[2] + found[3] // the newest is the last
		}
	}
	wanted := map[string]string{ // settings, rights, volatility and language
		"current_tenant": `{"search_path=pg_catalog, pg_temp"} true s plpgsql`,
		"is_owner":       `{"search_path=pg_catalog, pg_temp"} false s plpgsql`,
		"is_service":     `{"search_path=pg_catalog, pg_temp"} true s plpgsql`,
		"own":            ` false v sql`,
	}
	rows, err := d.conn.Query(ctx, `SELECT p.proname::text, p.prosrc, p.prosqlbody IS NULL, concat_ws(' ', coalesce(p.proconfig::text, ''), p.prosecdef::text, p.provolatile::text, l.lanname)
		FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace JOIN pg_language l ON l.oid = p.prolang WHERE n.nspname = 'mds_internal' AND p.proname = ANY ($1) ORDER BY 1`, slices.Sorted(maps.Keys(wanted)))
	if err != nil {
		return err
	}
	defer rows.Close()
	var open, found []string
	for rows.Next() {
		var name, source, properties string
		var plain bool
		if err := rows.Scan(&name, &source, &plain, &properties); err != nil {
			return err
		}
		found = append(found, name)
		switch {
		case source != bodies[name] || !plain:
			open = append(open, name+" does something else")
		case properties != wanted[name]:
			open = append(open, fmt.Sprintf("%s is %s, not %s", name, properties, wanted[name]))
		}
	}
	if err := rows.Err(); err != nil {
		return err
	}
	if !slices.Equal(found, slices.Sorted(maps.Keys(wanted))) {
		open = append(open, "there are "+strings.Join(found, ", "))
	}
	d.judge("the functions that tell the tenant are the store's, with a search path of their own", open, "make them as the migrations do")
	return nil
}

// roles checks the logins.
func (d *doctor) roles(ctx context.Context) error {
	d.about = "logins"
	reasons := func(logins []string) (open []string, err error) {
		for _, login := range logins {
			why, err := d.strings(ctx, powers, login)
			if err != nil {
				return nil, err
			}
			if len(why) > 0 && why[0] != "" {
				open = append(open, login+" "+why[0])
			}
		}
		return open, nil
	}
	open, err := reasons(d.services)
	if err != nil {
		return err
	}
	d.judge("the service's logins are bound by the policies", open, "take that from them")
	var names, both, missing []string
	for _, l := range d.logins {
		names = append(names, l.Login)
		if slices.Contains(d.services, l.Login) {
			both = append(both, l.Login)
		}
		if there, err := d.strings(ctx, "SELECT rolname::text FROM pg_roles WHERE rolname = $1", l.Login); err != nil {
			return err
		} else if len(there) == 0 {
			missing = append(missing, fmt.Sprintf("%s of the tenant %s", l.Login, l.Tenant.Slug))
		}
	}
	if open, err = reasons(names); err != nil {
		return err
	}
	d.judge("tenants' logins have no way around the views", open, "take that from them, or mds tenant revoke-login")
	d.judge("no login is both the service's and a tenant's", both, "give the tenant another")
	d.judge("each tenant's login is there", missing, "whoever makes a login of the name reads the tenant: mds tenant revoke-login")
	return nil
}
