package postgres_test

import (
	"bytes"
	"errors"
	"log/slog"
	"net/url"
	"strings"
	"sync"
	"testing"
	"testing/fstest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// TestSettingsOfTheLogin writes with a login whose settings are not what the store
// needs: a transaction has its own.
func TestSettingsOfTheLogin(t *testing.T) {
	d := migrated(t)
	// What the settings are while rows are written.
	pgtest.Exec(t, d.Owner, `CREATE TABLE mds.seen (isolation text, durable text, path text, jit text)`,
		`CREATE FUNCTION mds.see() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS $$ BEGIN
			INSERT INTO mds.seen VALUES (current_setting('transaction_isolation'), current_setting('synchronous_commit'), current_setting('search_path'), current_setting('jit'));
			RETURN NULL; END $$`,
		`CREATE TRIGGER see AFTER INSERT ON mds_internal.news_item_facts FOR EACH STATEMENT EXECUTE FUNCTION mds.see()`)
	s := open(t, d.Service+"&default_transaction_isolation=serializable&default_transaction_read_only=on&synchronous_commit=off&search_path=public&client_encoding=LATIN1&DateStyle=SQL,%20DMY&TimeZone=Asia/Kolkata&IntervalStyle=iso_8601&standard_conforming_strings=off&jit=on", store.Config{})
	item := mds.News{Vendor: "v", ID: "1", Title: `Zürich \ 日本`, PublishedAt: time.Date(2024, 2, 3, 4, 5, 6, 0, time.UTC)}
	if _, err := store.News(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.News{item}); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT * FROM mds.seen"); got != "read committed on pg_catalog, pg_temp off" {
		t.Errorf("it was written with %s", got)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT title, published_at AT TIME ZONE 'UTC' = '2024-02-03 04:05:06' FROM mds_internal.news_item_facts"); got != `Zürich \ 日本 true` {
		t.Errorf("stored is %s", got)
	}
	for got, err := range store.News(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil || got.Title != item.Title || !got.PublishedAt.Equal(item.PublishedAt) {
			t.Errorf("%+v, %v", got, err)
		}
	}
}

// TestTrojanFunctions has another login put functions of the names that the store uses
// where its search path finds them first: none is called.
func TestTrojanFunctions(t *testing.T) {
	d := migrated(t)
	pgtest.Exec(t, d.Admin, "GRANT CREATE, USAGE ON SCHEMA public TO PUBLIC", "CREATE TABLE public.loot (who text)", "GRANT ALL ON public.loot TO PUBLIC")
	for _, f := range []string{
		"hashtextextended(text, integer) RETURNS bigint", "set_config(text, text, boolean) RETURNS text", "to_json(text[]) RETURNS json",
		"pg_advisory_xact_lock_shared(bigint) RETURNS bigint", "now() RETURNS timestamptz", "left(text, bigint) RETURNS text", "pg_is_in_recovery() RETURNS boolean", "equal(text, text) RETURNS boolean",
	} {
		pgtest.Exec(t, d.As(t, "mallory"), "CREATE FUNCTION public."+f+" LANGUAGE plpgsql AS $$ BEGIN INSERT INTO public.loot VALUES (current_user); RETURN NULL; END $$")
	}
	pgtest.Exec(t, d.As(t, "mallory"), "CREATE OPERATOR public.= (FUNCTION = public.equal, LEFTARG = text, RIGHTARG = text)")
	s := open(t, d.Service+"&search_path=public,pg_catalog", store.Config{})
	write(t, s, minute("A", 0, 1))
	if _, err := s.Tenants(ctx); err != nil {
		t.Error(err)
	}
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.News(s).WriteBatch(ctx, acme, []mds.News{{Vendor: "v", ID: "1", Title: "t", PublishedAt: time.Unix(0, 0), Symbols: []string{"A"}}}); err != nil {
		t.Error(err)
	}
	for _, err := range store.News(s).Query(ctx, acme, mds.Query{}) {
		if err != nil {
			t.Error(err)
		}
	}
	if err := s.RemoveTenant(ctx, acme); err != nil {
		t.Error(err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM public.loot"); got != "0" {
		t.Errorf("%s times a foreign function ran", got)
	}
}

// TestOwnerServesOneTenant has the store work with no login but the owner's: for the
// default tenant, saying so.
func TestOwnerServesOneTenant(t *testing.T) {
	d := migrated(t)
	acme, err := open(t, d.Service, store.Config{}).CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	for name, dsn := range map[string]string{"owner": d.Owner, "superuser": d.Admin} {
		var log bytes.Buffer
		s := open(t, dsn, store.Config{Logger: slog.New(slog.NewTextHandler(&log, nil))})
		if !strings.Contains(log.String(), "level=WARN") || !strings.Contains(log.String(), "only the default tenant is served") {
			t.Errorf("%s: it logs %q", name, log.String())
		}
		write(t, s, minute(name, 0, 1))
		_, writing := store.Bars(s).WriteBatch(ctx, acme, []mds.Bar{minute("A", 0, 1)})
		_, creating := s.CreateTenant(ctx, "other")
		for what, err := range map[string]error{"writing": writing, "creating": creating, "removing": s.RemoveTenant(ctx, acme)} {
			var e *postgres.Error
			if !errors.As(err, &e) || e.Class != postgres.Denied || mds.Retryable(err) || !strings.Contains(err.Error(), "MDS_ADMIN_DSN") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if got := pgtest.Ask(t, d.Owner, "SELECT symbol FROM mds.bars ORDER BY 1"); got != "OWNER\nSUPERUSER" {
		t.Errorf("the owner sees %q in the view", got)
	}
	if got := pgtest.Ask(t, d.Owner, "SELECT slug FROM mds_internal.tenants ORDER BY 1"); got != "acme\ndefault" {
		t.Errorf("there are the tenants %q", got)
	}
}

// TestPasswordsStayOutOfTheLog has a login made whose password would break out of its
// quotes, by an owner who may and by one who may not: the server logs statements, and the
// password is in none.
func TestPasswordsStayOutOfTheLog(t *testing.T) {
	c := pgtest.Own(t, "log_statement = all", "standard_conforming_strings = off")
	d := c.Database(t, prepare)
	const password = `se%27cr\'et`
	dsn := strings.Replace(d.Service, "service:", "secretive:", 1)
	_, rest, _ := strings.Cut(dsn, "secretive:")
	_, host, _ := strings.Cut(rest, "@")
	dsn = "postgres://secretive:" + url.QueryEscape(password) + "@" + host
	for _, may := range []bool{false, true} {
		if may {
			pgtest.Exec(t, d.Admin, "ALTER ROLE mds CREATEROLE")
		}
		_, err := postgres.GrantService(ctx, d.Owner, dsn)
		var denied *postgres.GrantError
		if may && err != nil || !may && (!errors.As(err, &denied) || strings.Contains(denied.SQL+err.Error(), password)) {
			t.Errorf("allowed %v: %v", may, err)
		}
	}
	write(t, open(t, dsn, store.Config{}), minute("A", 0, 1))
	if log := c.Log(t); strings.Contains(log, "cr\\") || !strings.Contains(log, "CREATE ROLE") {
		t.Errorf("the log has the password, or no statements:\n%s", log)
	}
}

// TestOwnerKeepsItsRights has the owner's login given as the service's, too, under
// another spelling of its DSN.
func TestOwnerKeepsItsRights(t *testing.T) {
	d := migrated(t)
	if login, err := postgres.GrantService(ctx, d.Owner, d.Owner+"&application_name=x"); err != nil || login != "mds" {
		t.Errorf("%s, %v", login, err)
	}
	pgtest.Exec(t, d.Owner, "INSERT INTO mds_internal.tenant_logins SELECT 'x', id FROM mds_internal.tenants", "INSERT INTO mds_internal.service_logins VALUES ('y')")
}

// TestOwnerOfAnotherName renames the owner, as a restore into another server may.
func TestOwnerOfAnotherName(t *testing.T) {
	d := migrated(t)
	heir := d.As(t, "heir")
	pgtest.Exec(t, d.Admin, "GRANT mds TO heir", "REASSIGN OWNED BY mds TO heir", "REVOKE mds FROM heir")
	if got := pgtest.Ask(t, heir, "SELECT count(*) FROM mds_internal.tenants"); got != "1" {
		t.Errorf("the new owner sees %s tenants", got)
	}
	write(t, open(t, d.Service, store.Config{}), minute("A", 0, 1))
}

// TestGrantsAtOnce gives rights to a login that is there, and to one that is not, from
// eight places at once.
func TestGrantsAtOnce(t *testing.T) {
	d := migrated(t)
	pgtest.Exec(t, d.Admin, "ALTER ROLE mds CREATEROLE")
	t.Cleanup(func() { pgtest.Exec(t, d.Admin, "ALTER ROLE mds NOCREATEROLE") })
	for _, dsn := range []string{d.Service, strings.Replace(d.Service, "service:", "racer:", 1)} {
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				if _, err := postgres.GrantService(ctx, d.Owner, dsn); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		write(t, open(t, dsn, store.Config{}), minute("A", 0, 1))
	}
}

// TestHardenedDatabase has a database where nobody may anything by default.
func TestHardenedDatabase(t *testing.T) {
	d := pgtest.Empty(t)
	pgtest.Exec(t, d.Admin, "REVOKE ALL ON DATABASE "+d.Name+" FROM PUBLIC", "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	pgtest.Exec(t, d.Owner, "ALTER DEFAULT PRIVILEGES REVOKE EXECUTE ON FUNCTIONS FROM PUBLIC")
	if err := prepare(d); err != nil {
		t.Fatal(err)
	}
	s := open(t, d.Service, store.Config{WriteMode: postgres.WriteMerge})
	write(t, s, minute("A", 0, 1))
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars", n)
	}
}

// TestSchemaOfAnother does not take over a schema that another login has made.
func TestSchemaOfAnother(t *testing.T) {
	d := pgtest.Empty(t)
	d.As(t, "mallory")
	pgtest.Exec(t, d.Admin, "CREATE SCHEMA mds_internal AUTHORIZATION mallory")
	_, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
	if err == nil || !strings.Contains(err.Error(), "the schema mds_internal belongs to mallory") {
		t.Error(err)
	}
}

// TestStatusChangesNothing lists the migrations of an empty database.
func TestStatusChangesNothing(t *testing.T) {
	d := pgtest.Empty(t)
	list, err := postgres.Migrations(ctx, d.Owner, postgres.MigrateConfig{})
	if err != nil || len(list) == 0 || list[0].Applied {
		t.Errorf("%+v, %v", list, err)
	}
	if got := pgtest.Ask(t, d.Owner, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'mds%'"); got != "0" {
		t.Errorf("it made %s schemas", got)
	}
}

// TestNewViewsAreGranted gives a tenant a login, and then makes a kind of its own: the
// login reads it after the migration.
func TestNewViewsAreGranted(t *testing.T) {
	d := migrated(t)
	login := d.As(t, d.Name+"_bi")
	if _, err := postgres.GrantLogin(ctx, d.Owner, mds.DefaultTenant(), d.Name+"_bi", postgres.LoginConfig{}); err != nil {
		t.Fatal(err)
	}
	oddities := fstest.MapFS{"postgres/1001_oddities.sql": {Data: []byte(`-- +goose Up
CREATE TABLE mds_internal.oddity_series (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES mds_internal.tenants, vendor text COLLATE "C" NOT NULL, UNIQUE (tenant_id, vendor));
CALL mds_internal.seal('mds_internal.oddity_series');
CREATE TABLE mds_internal.oddity_facts (series_id bigint NOT NULL, ts timestamptz NOT NULL, v double precision, updated_at timestamptz NOT NULL, PRIMARY KEY (series_id, ts));
CALL mds_internal.sealed_view('mds', 'oddities', 'mds_internal.oddity_facts', 'mds_internal.oddity_series', ARRAY['greatest(s.vendor, '''') AS vendor'], '{ts}', '{v,updated_at}', '');
`)}}
	if _, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{Migrations: oddities}); err != nil {
		t.Fatal(err)
	}
	if got := pgtest.Ask(t, login, "SELECT count(*) FROM mds.oddities"); got != "0" {
		t.Errorf("the login reads %s", got)
	}
	for what, f := range examine(t, postgres.DoctorConfig{Owner: d.Owner, Logins: []string{login}}) {
		if f.Verdict == postgres.VerdictOpen {
			t.Errorf("%s: %s", what, f.Detail)
		}
	}
}

// TestGrantLoginBesideRemoval lets a login read a tenant that is being removed: neither keeps
// the other from ending, and the login is told that there is none.
func TestGrantLoginBesideRemoval(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	login := d.Name + "_reader"
	d.Cluster.Login(t, login)
	// It is being removed, but for the last of it.
	remove := locked(t, d, "option_facts", "SHARE")
	removed := make(chan error, 1)
	go func() { removed <- s.RemoveTenant(ctx, acme) }()
	blocked(t, d, "option_facts")
	granted := make(chan error, 1)
	go func() {
		_, err := postgres.GrantLogin(ctx, d.Owner, acme, login, postgres.LoginConfig{})
		granted <- err
	}()
	waiting(t, d, 2)
	remove()
	if err := <-removed; err != nil {
		t.Error(err)
	}
	if err := <-granted; !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("granted: %v", err)
	}
}
