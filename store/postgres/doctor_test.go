package postgres_test

import (
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// apart is a database of two tenants that have the same and other series, each with a
// login.
type apart struct {
	pgtest.Database
	acme, rival           mds.Tenant
	acmeLogin, rivalLogin string // DSNs
}

// twoTenants makes one whose logins have names of their own, since logins are the
// cluster's.
func twoTenants(t testing.TB) apart {
	t.Helper()
	return twoTenantsIn(t, migrated(t))
}

func twoTenantsIn(t testing.TB, of pgtest.Database) apart {
	t.Helper()
	d := apart{Database: of}
	s := open(t, d.Service, store.Config{})
	var err error
	if d.acme, err = s.CreateTenant(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	if d.rival, err = s.CreateTenant(ctx, "rival"); err != nil {
		t.Fatal(err)
	}
	for tenant, price := range map[mds.Tenant]float64{d.acme: 1, d.rival: 2} {
		fill(t, s, tenant, price)
	}
	d.acmeLogin, d.rivalLogin = d.As(t, d.Name+"_acme"), d.As(t, d.Name+"_rival")
	for login, tenant := range map[string]mds.Tenant{d.Name + "_acme": d.acme, d.Name + "_rival": d.rival} {
		if made, err := postgres.GrantLogin(ctx, d.Owner, tenant, login, postgres.LoginConfig{}); err != nil || made {
			t.Fatal(made, err)
		}
	}
	return d
}

// fill writes records of each kind: of series that every tenant has, and of some that it
// has alone.
func fill(t testing.TB, s *store.Store, tenant mds.Tenant, price float64) {
	t.Helper()
	at := time.Date(2024, 3, 5, 9, 0, 0, 0, time.UTC)
	must := func(_ mds.Receipt, err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	own := strings.ToUpper(tenant.Slug)
	for _, symbol := range []string{"BOTH", own} {
		must(store.Bars(s).WriteBatch(ctx, tenant, []mds.Bar{{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: at, Close: price}}))
		must(store.TableOf[mds.Rollup](s).WriteBatch(ctx, tenant, []mds.Rollup{{Bar: mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Hour, TS: at, Close: price}, Source: mds.Minute}}))
		must(store.Options(s).WriteBatch(ctx, tenant, []mds.OptionSnap{{Vendor: "v", Symbol: symbol, Expiry: mds.Date{Year: 2024, Month: 6, Day: 21}, OptionType: mds.Call, Strike: 4_500_000_000, TS: at, Bid: mds.Some(price)}}))
		must(store.Fundamentals(s).WriteBatch(ctx, tenant, []mds.Fundamentals{{Vendor: "v", Symbol: symbol, Period: "FY", AsOf: mds.Date{Year: 2023, Month: 12, Day: 31}, FiledAt: at, Revenue: mds.Some(price)}}))
	}
	for _, id := range []string{"BOTH", own} {
		must(store.News(s).WriteBatch(ctx, tenant, []mds.News{{Vendor: "v", ID: id, Title: own + " rises", PublishedAt: at, Symbols: []string{own}}}))
	}
}

// examine returns what the doctor says, by what it looked at.
func examine(t testing.TB, cfg postgres.DoctorConfig) map[string]postgres.Finding {
	t.Helper()
	findings, err := postgres.Doctor(ctx, cfg)
	if err != nil {
		t.Fatal(err)
	}
	by := make(map[string]postgres.Finding, len(findings))
	for _, f := range findings {
		by[f.What] = f
	}
	return by
}

// What the doctor looks at, as in its findings.
const (
	findOwner      = "one owner has the schemas, and all that is in them"
	findSchemas    = "nobody but the owner makes things in the schemas, or uses mds_internal"
	findTables     = "nobody but the service reads or writes the tables, or a column of them"
	findParts      = "nor their partitions and chunks, wherever they lie"
	findLists      = "the service does not change who sees what"
	findViewsRead  = "views are for reading"
	findDefaults   = "no default gives away tables that are made later"
	findKeys       = "the service checks API keys, and does nothing else with them"
	findForced     = "series, kept answers, jobs and lists of logins and keys have forced row-level security"
	findStatistics = "the planner knows nothing of identities and values, which EXPLAIN would tell"
	findIndexes    = "no index of facts is by anything but their series first"
	findBarriers   = "views are barriers, with their owner's rights"
	findOthers     = "nothing else shows the tables to others"
	findLent       = "no function lends others the rights of the store"
	findSettings   = "no setting of a login, or of the database, says which tenant it is"
	findPolicies   = "the policies are the store's, and no others"
	findTexts      = "each view asks for the tenant, and lets no condition go past it"
	findFunctions  = "the functions that tell the tenant are the store's, with a search path of their own"
	findServices   = "the service's logins are bound by the policies"
	findLogins     = "tenants' logins have no way around the views"
	findBoth       = "no login is both the service's and a tenant's"
	findMissing    = "each tenant's login is there"
	findUnset      = "sees nothing in a transaction that names no tenant"
	findOneTenant  = "sees one tenant's series at a time"
	findBound      = "is bound by the policies"
	tryViews       = "reads another tenant's records through the views"
	trySet         = "says that it is another tenant: SET app.tenant_id"
	trySetWithin   = "says so within a query: set_config in a subquery"
	tryStale       = "reads after a transaction that said so, as over a pooler"
	tryLeak        = "has a function of its own look at rows before the view's condition"
	tryExplain     = "has EXPLAIN ANALYZE tell how many rows have a value"
	tryTables      = "reads the tables"
	tryParts       = "reads partitions and chunks"
	tryCopy        = "copies: COPY TO, COPY FROM"
	tryWrite       = "writes to tables and views"
	tryBecome      = "becomes another: SET ROLE, SET SESSION AUTHORIZATION"
	tryCall        = "calls the functions of the store"
	tryStatistics  = "reads statistics, sequences and what other sessions ask"
	findServiceHas = "keeps the facts of tenants apart"
)

// TestDoctorFindsNothing has a database as the migrations and grants make it: nothing is
// open, and every attack is refused; without a login none is tried.
func TestDoctorFindsNothing(t *testing.T) {
	d := twoTenants(t)
	// What logins write values as is theirs to say.
	pgtest.Exec(t, d.Admin, "ALTER ROLE "+d.Name+"_rival SET timezone = 'Asia/Kolkata'", "ALTER ROLE "+d.Name+"_rival SET datestyle = 'SQL, DMY'", "ALTER ROLE "+d.Name+"_rival SET default_transaction_read_only = on")
	before := pgtest.Ask(t, d.Admin, everything)
	found := examine(t, postgres.DoctorConfig{Owner: d.Owner, Service: d.Service, Logins: []string{d.acmeLogin, d.rivalLogin}})
	for what, f := range found {
		switch {
		case f.Verdict == postgres.VerdictOpen, f.Verdict == postgres.VerdictNotTried && what != tryParts:
			t.Errorf("%s: %s: %s", what, f.Verdict, f.Detail)
		}
	}
	for _, what := range []string{tryViews, trySet, trySetWithin, tryStale, tryLeak, tryExplain, tryTables, tryCopy, tryWrite, tryBecome, tryCall, tryStatistics, findUnset} {
		if found[what].Verdict != postgres.VerdictRefused {
			t.Errorf("%s: %+v", what, found[what])
		}
	}
	if found[findServiceHas].Verdict != postgres.VerdictTrusted {
		t.Errorf("the service: %+v", found[findServiceHas])
	}
	if after := pgtest.Ask(t, d.Admin, everything); after != before {
		t.Errorf("before it was\n%s\nafterwards\n%s", before, after)
	}
	// The service sees as much as is needed.
	for what, f := range examine(t, postgres.DoctorConfig{Service: d.Service}) {
		if f.Verdict == postgres.VerdictOpen || strings.HasPrefix(f.About, "attacks") && f.Verdict != postgres.VerdictNotTried {
			t.Errorf("by the service, without a login: %s: %s: %s", what, f.Verdict, f.Detail)
		}
	}
	for what, f := range examine(t, postgres.DoctorConfig{Service: d.Service, Logins: []string{d.acmeLogin}}) {
		if f.Verdict == postgres.VerdictOpen || f.Verdict == postgres.VerdictNotTried && what != tryParts {
			t.Errorf("by the service: %s: %s: %s", what, f.Verdict, f.Detail)
		}
	}
}

// everything is a query for what a database is, but for its counters.
const everything = `SELECT (SELECT string_agg(c.oid || ' ' || c.relname || ' ' || coalesce(c.relacl::text, ''), E'\n' ORDER BY c.oid) FROM pg_class c WHERE c.relnamespace IN ('mds'::regnamespace, 'mds_internal'::regnamespace, 'public'::regnamespace)),
	(SELECT string_agg(p.proname, ' ' ORDER BY p.oid) FROM pg_proc p WHERE p.oid > 16384), (SELECT count(*) FROM mds_internal.bar_series), (SELECT count(*) FROM mds_internal.bar_facts_1m)`

// untimed is a kind without updated_at, whose view shows some of others.
const untimed = `CREATE TABLE mds_internal.oddity_series (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL, vendor text NOT NULL);
	CREATE TABLE mds_internal.oddity_facts (series_id bigint, ts timestamptz, v double precision, PRIMARY KEY (series_id, ts));
	INSERT INTO mds_internal.oddity_series (tenant_id, vendor) VALUES ('RIVAL-ID', 'x');
	INSERT INTO mds_internal.oddity_facts SELECT id, now(), 1 FROM mds_internal.oddity_series;
	CREATE VIEW mds.oddities WITH (security_barrier) AS SELECT s.vendor, f.ts, f.v FROM mds_internal.oddity_series s JOIN mds_internal.oddity_facts f ON f.series_id = s.id WHERE s.tenant_id = mds_internal.current_tenant() OR f.v > 0;
	ALTER TABLE mds_internal.oddity_series OWNER TO mds; ALTER TABLE mds_internal.oddity_facts OWNER TO mds; ALTER VIEW mds.oddities OWNER TO mds; GRANT SELECT ON mds.oddities TO ACME;
	ALTER TABLE mds_internal.oddity_series ENABLE ROW LEVEL SECURITY`

// joinedBars is a view of bars that reads all facts and joins them.
const joinedBars = `SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
	FROM mds_internal.bar_facts_1m f JOIN mds_internal.bar_series s ON s.id = f.series_id WHERE s.timeframe = '1m' AND s.tenant_id = mds_internal.current_tenant()`

// unionOfTables is a view of bars whose barrier PostgreSQL flattens.
const unionOfTables = `SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
	FROM mds_internal.bar_facts_1m f JOIN mds_internal.bar_series s ON s.id = f.series_id WHERE s.timeframe = '1m' AND s.tenant_id = mds_internal.current_tenant()
	UNION ALL SELECT s.vendor, s.symbol, s.timeframe, f.ts, f.open, f.high, f.low, f.close, f.volume, f.vwap, f.trade_count, f.updated_at
	FROM mds_internal.bar_facts_1h f JOIN mds_internal.bar_series s ON s.id = f.series_id WHERE s.timeframe = '1h' AND s.tenant_id = mds_internal.current_tenant()`

// TestDoctorFinds breaks the isolation in one way at a time: the doctor says OPEN of
// what is broken, with who and what. ACME is the login of a tenant, RIVALS that of
// another, VIEW the text of a view that asks for no tenant.
func TestDoctorFinds(t *testing.T) {
	for _, c := range []struct {
		name, breaks     string   // run by a superuser
		finds            []string // which have to be open
		detail           string   // of the first
		untried, trusted string   // a finding that has to be so, with the detail
		// with are the DSNs that it examines with, where they are others than of the owner,
		// the service and a login of a tenant.
		with func(apart) postgres.DoctorConfig
	}{
		{name: "a table of another", breaks: "CREATE TABLE mds_internal.x (); ALTER TABLE mds_internal.x OWNER TO ACME", finds: []string{findOwner}, detail: "mds_internal.x belongs to ACME"},
		{name: "a view of another", breaks: "ALTER VIEW mds.news OWNER TO ACME", finds: []string{findOwner}, detail: "mds.news belongs to ACME"},
		{name: "a function of another", breaks: "ALTER PROCEDURE mds_internal.seal OWNER TO ACME", finds: []string{findOwner}, detail: "belongs to ACME"},
		{name: "making things in mds", breaks: "GRANT CREATE ON SCHEMA mds TO ACME", finds: []string{findSchemas, tryCall}, detail: "ACME has CREATE on schema mds"},
		{name: "using mds_internal", breaks: "GRANT USAGE ON SCHEMA mds_internal TO PUBLIC", finds: []string{findSchemas, tryCall}, detail: "PUBLIC has USAGE on schema mds_internal"},
		{name: "reading a table", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT SELECT ON mds_internal.bar_facts_1m TO ACME", finds: []string{findTables, tryTables, tryCopy}, detail: "ACME may SELECT mds_internal.bar_facts_1m"},
		{name: "reading a column", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT SELECT (close) ON mds_internal.bar_facts_1m TO ACME; ANALYZE mds_internal.bar_facts_1m", finds: []string{findTables}, detail: "ACME may SELECT close of mds_internal.bar_facts_1m"},
		{name: "statistics of a column", breaks: "ALTER TABLE mds_internal.bar_facts_1m ALTER close SET STATISTICS 100; GRANT SELECT (close) ON mds_internal.bar_facts_1m TO ACME; ANALYZE mds_internal.bar_facts_1m", finds: []string{tryStatistics, findStatistics}, detail: "pg_stats has values"},
		{name: "writing a table", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT INSERT ON mds_internal.bar_facts_1m TO ACME", finds: []string{tryWrite, tryCopy, findTables}, detail: "INSERT INTO mds_internal.bar_facts_1m"},
		{name: "removing", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT TRUNCATE ON mds_internal.tenants TO ACME", finds: []string{tryWrite, findTables}, detail: "TRUNCATE mds_internal.tenants"},
		{name: "a sequence", breaks: "GRANT SELECT ON SEQUENCE mds_internal.bar_series_id_seq TO ACME", finds: []string{tryStatistics, findTables}, detail: "pg_sequences has where the ids of series go"},
		{name: "a partition", breaks: "CREATE TABLE public.old_bars () INHERITS (mds_internal.bar_facts_1m); GRANT USAGE ON SCHEMA public TO PUBLIC; GRANT SELECT ON public.old_bars TO PUBLIC", finds: []string{findParts, tryParts, tryCopy}, detail: "PUBLIC may SELECT public.old_bars"},
		{name: "the list of logins", breaks: "GRANT INSERT ON mds_internal.tenant_logins TO service", finds: []string{findLists}, detail: "service may INSERT mds_internal.tenant_logins"},
		{name: "making keys", breaks: "GRANT INSERT ON mds_internal.api_keys TO service", finds: []string{findKeys}, detail: "service may INSERT mds_internal.api_keys"},
		{name: "lengthening a key", breaks: "GRANT UPDATE (expires_at) ON mds_internal.api_keys TO service", finds: []string{findKeys}, detail: "service may UPDATE expires_at of mds_internal.api_keys"},
		{name: "reading names of keys", breaks: "GRANT SELECT (name) ON mds_internal.api_keys TO service", finds: []string{findKeys}, detail: "service may SELECT name of mds_internal.api_keys"},
		{name: "reading all of the keys", breaks: "GRANT SELECT ON mds_internal.api_keys TO service", finds: []string{findKeys}, detail: "service may SELECT mds_internal.api_keys"},
		{name: "reading hashes of keys", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT SELECT (secret_sha256) ON mds_internal.api_keys TO ACME", finds: []string{findTables, findSchemas}, detail: "ACME may SELECT secret_sha256 of mds_internal.api_keys"},
		{name: "keys of all for all", breaks: "ALTER POLICY of_service ON mds_internal.api_keys USING (true)", finds: []string{findPolicies}, detail: "api_keys has of_service USING true"},
		{name: "keys without a policy", breaks: "ALTER TABLE mds_internal.api_keys NO FORCE ROW LEVEL SECURITY", finds: []string{findForced}, detail: "mds_internal.api_keys is not forced"},
		{name: "answers without a policy", breaks: "ALTER TABLE mds_internal.kept_answers DISABLE ROW LEVEL SECURITY", finds: []string{findForced}, detail: "mds_internal.kept_answers is not enabled"},
		{name: "answers of all", breaks: "ALTER POLICY of_tenant ON mds_internal.kept_answers USING (true)", finds: []string{findPolicies}, detail: "kept_answers has of_tenant USING true"},
		{name: "reading answers", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT SELECT ON mds_internal.kept_answers TO ACME", finds: []string{findTables, findSchemas}, detail: "ACME may SELECT mds_internal.kept_answers"},
		{name: "jobs without a policy", breaks: "ALTER TABLE mds_internal.jobs NO FORCE ROW LEVEL SECURITY", finds: []string{findForced}, detail: "mds_internal.jobs is not forced"},
		{name: "parts of jobs without a policy", breaks: "ALTER TABLE mds_internal.job_parts DISABLE ROW LEVEL SECURITY", finds: []string{findForced}, detail: "mds_internal.job_parts is not enabled"},
		{name: "jobs of all", breaks: "ALTER POLICY of_service ON mds_internal.jobs USING (true)", finds: []string{findPolicies}, detail: "jobs has of_service USING true"},
		{name: "reading jobs", breaks: "GRANT USAGE ON SCHEMA mds_internal TO ACME; GRANT SELECT (params) ON mds_internal.jobs TO ACME", finds: []string{findTables, findSchemas}, detail: "ACME may SELECT params of mds_internal.jobs"},
		{name: "writing a view", breaks: "GRANT DELETE ON mds.bars TO ACME", finds: []string{findViewsRead}, detail: "ACME may DELETE mds.bars"},
		{name: "a table among the views", breaks: "CREATE TABLE mds.x (); ALTER TABLE mds.x OWNER TO mds; GRANT SELECT ON mds.x TO PUBLIC", finds: []string{findViewsRead}, detail: "PUBLIC may read mds.x, which is no view"},
		{name: "defaults", breaks: "ALTER DEFAULT PRIVILEGES FOR ROLE mds IN SCHEMA mds_internal GRANT SELECT ON TABLES TO PUBLIC", finds: []string{findDefaults}, detail: "PUBLIC will have SELECT on tables of mds"},
		{name: "no force", breaks: "ALTER TABLE mds_internal.bar_series NO FORCE ROW LEVEL SECURITY", finds: []string{findForced}, detail: "mds_internal.bar_series is not forced"},
		{name: "no policies", breaks: "ALTER TABLE mds_internal.news_item_series DISABLE ROW LEVEL SECURITY", finds: []string{findForced, findUnset}, detail: "mds_internal.news_item_series is not enabled"},
		{name: "no barrier", breaks: "ALTER VIEW mds_internal.sealed_bars_1m RESET (security_barrier)", finds: []string{findBarriers}, detail: "mds_internal.sealed_bars_1m has options none"},
		{name: "facts joined, not read by series", breaks: "CREATE OR REPLACE VIEW mds_internal.sealed_bars_1m WITH (security_barrier) AS " + joinedBars, finds: []string{tryExplain, findTexts}, detail: "it learns that another tenant (rival) has a"},
		{name: "the same, without a barrier", breaks: "ALTER ROLE ACME SET timezone = 'Asia/Kolkata'; CREATE OR REPLACE VIEW mds_internal.sealed_bars_1m WITH (security_barrier = false) AS " + joinedBars, finds: []string{tryLeak, tryExplain, findBarriers, findTexts}, detail: "a function was shown a record of the tenant rival in mds.bars"},
		{name: "a policy that costs more than a guess", breaks: "ALTER POLICY of_tenant ON mds_internal.bar_series USING (tenant_id = (SELECT mds_internal.current_tenant()) OR (SELECT mds_internal.is_owner()))", finds: []string{findPolicies}, detail: "bar_series has of_tenant USING"},
		{name: "a column that costs nothing to ask", breaks: "CREATE OR REPLACE VIEW mds.news WITH (security_barrier) AS SELECT s.vendor, f.published_at, f.id, f.title, f.symbols, f.url, f.summary, f.sentiment_score, f.updated_at FROM mds_internal.news_item_series s CROSS JOIN LATERAL (SELECT f.id, f.published_at, mds_internal.own(f.title) AS title, mds_internal.own(f.symbols) AS symbols, mds_internal.own(f.url) AS url, mds_internal.own(f.summary) AS summary, mds_internal.own(f.sentiment_score) AS sentiment_score, mds_internal.own(f.updated_at) AS updated_at FROM mds_internal.news_item_facts f WHERE f.series_id = ANY (ARRAY[s.id])) f WHERE s.tenant_id = mds_internal.current_tenant()", finds: []string{tryExplain}, detail: "it learns that another tenant (rival) has a id in mds.news"},
		{name: "a view that costs more than a guess", breaks: "CREATE OR REPLACE VIEW mds.news WITH (security_barrier) AS SELECT s.vendor, f.published_at, f.id, f.title, f.symbols, f.url, f.summary, f.sentiment_score, f.updated_at FROM mds_internal.news_item_series s CROSS JOIN LATERAL (SELECT f.id, f.published_at, mds_internal.own(f.title) AS title, mds_internal.own(f.symbols) AS symbols, mds_internal.own(f.url) AS url, mds_internal.own(f.summary) AS summary, mds_internal.own(f.sentiment_score) AS sentiment_score, mds_internal.own(f.updated_at) AS updated_at FROM mds_internal.news_item_facts f WHERE f.series_id = s.id) f WHERE s.tenant_id = mds_internal.current_tenant()", finds: []string{tryExplain, findTexts}, detail: "it learns that another tenant (rival) has a id in mds.news"},
		{name: "an index by time", breaks: "CREATE INDEX by_time ON mds_internal.bar_facts_1m USING brin (ts)", finds: []string{findIndexes}, detail: "mds_internal.by_time of mds_internal.bar_facts_1m"},
		{name: "statistics of identities", breaks: "ALTER TABLE mds_internal.bar_series ALTER symbol SET STATISTICS 100; INSERT INTO mds_internal.bar_series (tenant_id, vendor, symbol, timeframe) SELECT 'RIVAL-ID', 'w', 'RIVAL', tf FROM unnest(ARRAY['1s', '5s', '10s', '15s', '30s', '2m', '3m', '5m', '1h', '2h', '3h', '4h', '6h', '8h', '12h', '1d', '1w', '1mo']) tf; INSERT INTO mds_internal.bar_series (tenant_id, vendor, symbol, timeframe) SELECT 'ACME-ID', 'w' || n, 'OWN' || n, '1m' FROM generate_series(1, 300) n; ANALYZE mds_internal.bar_series", finds: []string{findStatistics}, detail: "symbol of mds_internal.bar_series"},
		{name: "a language that is not theirs", breaks: "REVOKE USAGE ON LANGUAGE plpgsql FROM PUBLIC", finds: []string{}, untried: tryLeak, detail: "it may make no function to try it with"},
		{name: "another login that may", breaks: "CREATE ROLE NAME_dba LOGIN; GRANT service TO NAME_dba", trusted: "other logins may become the owner or the service, and see all", detail: "NAME_dba may become service"},
		{name: "a function of a superuser", breaks: "CREATE FUNCTION public.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM mds_internal.bar_facts_1m'", untried: "functions that run as a superuser show nothing of the store", detail: "public.peek() runs as admin"},
		{name: "a kind without updated_at", breaks: untimed, finds: []string{findTexts, tryViews}, detail: "mds.oddities is not as the migrations make it"},
		{name: "values that conditions go past", breaks: "CREATE OR REPLACE FUNCTION mds_internal.own(anyelement) RETURNS anyelement LANGUAGE sql IMMUTABLE AS 'SELECT $1'", finds: []string{findFunctions, tryExplain}, detail: "own is"},
		{name: "or everybody", breaks: "CREATE OR REPLACE VIEW mds.news WITH (security_barrier) AS VIEW OR s.tenant_id = mds_internal.current_tenant() OR true", finds: []string{findTexts}, detail: "mds.news is not as the migrations make it"},
		{name: "a function with another body", breaks: "CREATE OR REPLACE FUNCTION mds_internal.is_service() RETURNS boolean LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp BEGIN ATOMIC SELECT true; END", finds: []string{findFunctions}, detail: "is_service does something else"},
		{name: "a view on a view beside", breaks: "CREATE VIEW public.v1 AS SELECT * FROM mds_internal.bar_facts_1m; CREATE VIEW public.v2 AS SELECT * FROM public.v1; GRANT SELECT (close) ON public.v2 TO PUBLIC", finds: []string{findOthers}, detail: "PUBLIC may SELECT close of public.v2"},
		{name: "what people read, kept", breaks: "CREATE MATERIALIZED VIEW public.kept AS SELECT * FROM mds.bars; GRANT SELECT ON public.kept TO PUBLIC", finds: []string{findOthers}, detail: "PUBLIC may SELECT public.kept"},
		{name: "a union of tables", breaks: "CREATE OR REPLACE VIEW mds.bars WITH (security_barrier) AS " + unionOfTables, finds: []string{findTexts, tryLeak}, detail: "mds.bars is a union of tables"},
		{name: "no barrier, of kinds with keys", breaks: "ALTER VIEW mds.news SET (security_barrier = false)", finds: []string{findBarriers}, detail: "mds.news has options security_barrier=false"},
		{name: "the invoker's rights", breaks: "ALTER VIEW mds.bars SET (security_invoker = on)", finds: []string{findBarriers}, detail: "security_invoker=on"},
		{name: "a view beside", breaks: "CREATE VIEW public.all_bars AS SELECT * FROM mds_internal.bar_facts_1m; GRANT SELECT ON public.all_bars TO PUBLIC", finds: []string{findOthers}, detail: "PUBLIC may SELECT public.all_bars"},
		{name: "a function that lends", breaks: "CREATE FUNCTION public.peek() RETURNS bigint LANGUAGE sql SECURITY DEFINER AS 'SELECT count(*) FROM mds_internal.bar_facts_1m'; ALTER FUNCTION public.peek() OWNER TO mds", finds: []string{findLent}, detail: "public.peek() runs as mds"},
		{name: "a tenant by setting", breaks: "ALTER ROLE service IN DATABASE DATABASE SET app.tenant_id = 'RIVAL-ID'", finds: []string{findSettings, findUnset}, detail: "service has app.tenant_id="},
		{name: "a policy for all", breaks: "CREATE POLICY all_of_it ON mds_internal.bar_series USING (true)", finds: []string{findPolicies, findUnset, findOneTenant}, detail: "bar_series has all_of_it USING true"},
		{name: "no policy", breaks: "DROP POLICY of_tenant ON mds_internal.option_series", finds: []string{findPolicies}, detail: "option_series has none"},
		{name: "another policy", breaks: "ALTER POLICY of_login ON mds_internal.tenant_logins USING (true)", finds: []string{findPolicies}, detail: "tenant_logins has of_login USING true"},
		{name: "a view without a tenant", breaks: "CREATE OR REPLACE VIEW mds.news WITH (security_barrier) AS VIEW; ALTER TABLE mds_internal.news_item_series DISABLE ROW LEVEL SECURITY", finds: []string{findTexts, tryViews}, detail: "mds.news does not ask for the tenant"},
		{name: "the function that tells the tenant", breaks: "CREATE OR REPLACE FUNCTION mds_internal.current_tenant() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT nullif(current_setting('app.tenant_id', true), '')::uuid $$", finds: []string{findFunctions, trySet, trySetWithin}, detail: "current_tenant does something else"},
		{name: "a setting that stays", breaks: "CREATE OR REPLACE FUNCTION mds_internal.current_tenant() RETURNS uuid LANGUAGE sql STABLE SECURITY DEFINER SET search_path = pg_catalog, pg_temp AS $$ SELECT CASE WHEN current_setting('app.tenant_id', true) = '' THEN 'RIVAL-ID'::uuid WHEN mds_internal.is_owner() THEN current_setting('app.tenant_id', true)::uuid END $$", finds: []string{tryStale}, detail: "it sees a record of the tenant rival"},
		{name: "its search path", breaks: "ALTER FUNCTION mds_internal.is_service() SET search_path = public", finds: []string{findFunctions}, detail: "is_service is {search_path=public}"},
		{name: "its rights", breaks: "ALTER FUNCTION mds_internal.current_tenant() SECURITY INVOKER", finds: []string{findFunctions}, detail: "current_tenant is {"},
		{name: "a service that bypasses", breaks: "INSERT INTO mds_internal.service_logins VALUES ('ACME-bypass'); CREATE ROLE ACME_BYPASS LOGIN BYPASSRLS; UPDATE mds_internal.service_logins SET login = lower('ACME_BYPASS') WHERE login = 'ACME-bypass'", finds: []string{findServices}, detail: "has BYPASSRLS"},
		{name: "a service that is the owner", breaks: "INSERT INTO mds_internal.service_logins VALUES ('NAME_other'); CREATE ROLE NAME_other LOGIN; GRANT mds TO NAME_other", finds: []string{findServices}, detail: "may become mds"},
		{name: "a tenant that becomes the service", breaks: "GRANT service TO ACME", finds: []string{findLogins, tryBecome}, detail: "ACME may become service"},
		{name: "a tenant that becomes another", breaks: "GRANT RIVALS TO ACME", finds: []string{tryBecome, findLogins}, detail: "SET ROLE RIVALS"},
		{name: "a tenant that reads all", breaks: "GRANT pg_read_all_data TO ACME", finds: []string{findLogins, tryTables, tryBecome}, detail: "ACME may become pg_read_all_data"},
		{name: "a tenant that makes roles", breaks: "ALTER ROLE ACME CREATEROLE", finds: []string{findLogins}, detail: "ACME has CREATEROLE"},
		{name: "a tenant that replicates", breaks: "ALTER ROLE ACME REPLICATION", finds: []string{findLogins}, detail: "ACME has REPLICATION"},
		{name: "a tenant that is a superuser", breaks: "ALTER ROLE ACME SUPERUSER", finds: []string{findLogins, tryTables, tryWrite, tryCopy, tryBecome, tryCall}, detail: "ACME is a superuser"},
		{name: "a tenant that sees what is asked", breaks: "GRANT pg_read_all_stats TO ACME", finds: []string{tryStatistics, findLogins}, detail: "pg_stat_activity has what others ask"},
		{name: "a login of both", breaks: "INSERT INTO mds_internal.service_logins VALUES ('ACME')", finds: []string{findBoth, trySet, trySetWithin}, detail: "ACME"},
		{name: "a login that is gone", breaks: "INSERT INTO mds_internal.tenant_logins VALUES ('gone', 'RIVAL-ID')", finds: []string{findMissing}, detail: "gone of the tenant rival"},
		{name: "a service that is none", finds: []string{findBound}, detail: "the store works for the default tenant only", with: func(d apart) postgres.DoctorConfig {
			return postgres.DoctorConfig{Owner: d.Owner, Service: d.Owner}
		}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			d := twoTenants(t)
			viewless := "SELECT s.vendor, f.published_at, f.id, f.title, f.symbols, f.url, f.summary, f.sentiment_score, f.updated_at FROM mds_internal.news_item_facts f JOIN mds_internal.news_item_series s ON s.id = f.series_id"
			named := strings.NewReplacer("ACME-ID", d.acme.ID, "ACME", d.Name+"_acme", "RIVALS", d.Name+"_rival", "RIVAL-ID", d.rival.ID, "IN DATABASE DATABASE", "IN DATABASE "+d.Name, "VIEW OR", viewless+" WHERE false OR", "VIEW;", viewless+";", "NAME", d.Name)
			if c.breaks != "" {
				pgtest.Exec(t, d.Admin, named.Replace(c.breaks))
			}
			cfg := postgres.DoctorConfig{Owner: d.Owner, Service: d.Service, Logins: []string{d.acmeLogin}}
			if c.with != nil {
				cfg = c.with(d)
			}
			found := examine(t, cfg)
			for what, want := range map[string]postgres.Verdict{c.untried: postgres.VerdictNotTried, c.trusted: postgres.VerdictTrusted} {
				if f := found[what]; what != "" && (f.Verdict != want || !strings.Contains(f.Detail, named.Replace(c.detail))) {
					t.Errorf("%s: %s %s", what, f.Verdict, f.Detail)
				}
			}
			for i, what := range c.finds {
				f, ok := found[what]
				if !ok || f.Verdict != postgres.VerdictOpen || i == 0 && !strings.Contains(f.Detail, named.Replace(c.detail)) {
					t.Errorf("%s: %s %s", what, f.Verdict, f.Detail)
				}
			}
		})
	}
}
