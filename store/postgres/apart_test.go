package postgres_test

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// apartFor is how long tenants are hammered each way: make apart has a minute of it.
var apartFor = flag.Duration("apart", time.Second, "how long each way of TestTenantsStayApart lasts")

// side is one of two tenants that have the same series and times, and other values.
type side struct {
	tenant mds.Tenant
	login  string // DSN
	low    float64
	title  string
	secret string // a symbol that it has alone
}

func (s side) owns(price float64) bool { return price >= s.low && price < s.low+1000 }

// TestTenantsStayApart has eight clients of two tenants write and read the same symbols
// and times at once, directly and through PgBouncer, with the store and with logins of
// the tenants: nothing of one is seen by the other, in records, receipts, errors, lists
// and plans.
func TestTenantsStayApart(t *testing.T) {
	d := twoTenants(t)
	logins := []string{d.Name + "_acme", d.Name + "_rival"}
	pooler := d.Cluster.Pooler(t, 5, logins...)
	for _, way := range []struct{ name, addr string }{{"directly", d.Cluster.Addr()}, {"through PgBouncer", pooler}} {
		t.Run(way.name, func(t *testing.T) {
			sides := []side{
				{tenant: d.acme, login: d.Through(d.acmeLogin, way.addr), low: 1000, title: "acme's own", secret: "ACMESECRET"},
				{tenant: d.rival, login: d.Through(d.rivalLogin, way.addr), low: 5000, title: "rival's own", secret: "RIVALSECRET"},
			}
			s := open(t, d.Through(d.Service, way.addr), store.Config{})
			for i, side := range sides {
				_, barsErr := store.Bars(s).Delete(ctx, side.tenant, mds.Selection{})
				_, newsErr := store.News(s).Delete(ctx, side.tenant, mds.Selection{})
				if err := errors.Join(barsErr, newsErr); err != nil {
					t.Fatal(err)
				}
				if receipt, err := store.Bars(s).WriteBatch(ctx, side.tenant, []mds.Bar{minute(side.secret, i, side.low)}); err != nil || receipt.Written != 1 {
					t.Fatal(receipt, err)
				}
			}
			end := time.Now().Add(*apartFor)
			var wg sync.WaitGroup
			var rounds atomic.Int64
			for client := range 8 {
				mine, other := sides[client%2], sides[1-client%2]
				wg.Go(func() {
					c := apartClient{t: t, store: s, mine: mine, other: other, symbol: fmt.Sprintf("S%d", client/2)}
					defer c.close()
					for round := 0; time.Now().Before(end) && !t.Failed(); round++ {
						c.write(round)
						c.read()
						c.look()
						rounds.Add(1)
					}
				})
			}
			wg.Wait()
			t.Logf("%d rounds", rounds.Load())
		})
	}
}

// apartClient writes and reads one symbol of its side, which the other side has, too.
type apartClient struct {
	t           *testing.T
	store       *store.Store
	mine, other side
	symbol      string
	login       *pgx.Conn
	n           int // bars that are stored
}

func (c *apartClient) close() {
	if c.login != nil {
		_ = c.login.Close(ctx)
	}
}

const apartBars = 700 // more than go as arguments

// write writes bars of times that both sides have, then the same and changed ones: what
// the receipts say is right only if none was the other side's.
func (c *apartClient) write(round int) {
	const most = 20
	if round%most == 0 && round > 0 {
		deleted, err := store.Bars(c.store).Delete(ctx, c.mine.tenant, mds.Selection{Symbols: []string{c.symbol}})
		if err != nil || deleted != int64(c.n) {
			c.t.Errorf("%d of %d bars deleted, %v", deleted, c.n, err)
		}
		c.n = 0
	}
	batch := make([]mds.Bar, apartBars)
	for i := range batch {
		batch[i] = minute(c.symbol, round%most*apartBars+i, c.mine.low+float64(i))
	}
	expect := func(what string, records []mds.Bar, written, unchanged int64) {
		receipt, err := store.Bars(c.store).WriteBatch(ctx, c.mine.tenant, records)
		if err != nil || receipt.Written != written || receipt.Unchanged != unchanged {
			c.t.Errorf("%s: %+v, %v", what, receipt, err)
		}
	}
	expect("new bars", batch, apartBars, 0)
	c.n += apartBars
	expect("the same bars", batch, 0, apartBars)
	expect("few of them", batch[:100], 0, 100)
	item := mds.News{Vendor: "v", ID: c.symbol, Title: c.mine.title, PublishedAt: time.Unix(int64(round)*60, 0)}
	if receipt, err := store.News(c.store).WriteBatch(ctx, c.mine.tenant, []mds.News{item}); err != nil || receipt.Written != 1 {
		c.t.Errorf("news: %+v, %v", receipt, err)
	}
	// What is refused says nothing of the other side.
	_, err := store.Bars(c.store).WriteBatch(ctx, c.mine.tenant, []mds.Bar{minute(c.other.secret, 0, 1), {}})
	c.foreign("an error", fmt.Sprint(err), c.other.secret)
	ended, cancel := context.WithDeadline(ctx, time.Now().Add(time.Millisecond))
	_, err = store.Bars(c.store).WriteBatch(ended, c.mine.tenant, batch)
	cancel()
	c.foreign("an error", fmt.Sprint(err))
}

// read reads what the store has for the own side.
func (c *apartClient) read() {
	n := 0
	for r, err := range store.Bars(c.store).Query(ctx, c.mine.tenant, mds.Query{Selection: mds.Selection{Symbols: []string{c.symbol, c.other.secret}}}) {
		if err != nil || !c.mine.owns(r.Close) || r.Symbol != c.symbol {
			c.t.Errorf("it reads %+v, %v", r, err)
			break
		}
		n++
	}
	if n != c.n {
		c.t.Errorf("it reads %d bars, want %d", n, c.n)
	}
	latest, err := store.Bars(c.store).Latest(ctx, c.mine.tenant, mds.Selection{})
	for i := range latest {
		if !c.mine.owns(latest[i].Close) {
			c.t.Errorf("the latest is %+v", latest[i])
		}
	}
	series, seriesErr := store.Bars(c.store).Series(ctx, c.mine.tenant, mds.Selection{})
	for i := range series {
		if series[i].Identity.Symbol == c.other.secret {
			c.t.Errorf("it lists %+v", series[i])
		}
	}
	for r, err := range store.News(c.store).Query(ctx, c.mine.tenant, mds.Query{Selection: mds.Selection{}}) {
		if err != nil || r.Title != c.mine.title && r.Title != strings.ToUpper(c.mine.tenant.Slug)+" rises" {
			c.t.Errorf("it reads %+v, %v", r, err)
		}
	}
	if err := errors.Join(err, seriesErr); err != nil {
		c.t.Error(err)
	}
}

// look reads with the login of the tenant, which says that it is the other.
func (c *apartClient) look() {
	if c.login == nil {
		config, err := pgx.ParseConfig(c.mine.login)
		if err == nil {
			config.DefaultQueryExecMode = pgx.QueryExecModeExec
			c.login, err = pgx.ConnectConfig(ctx, config)
		}
		if err != nil {
			c.t.Error(err)
			return
		}
	}
	var least, most float64
	var n int
	var symbols string
	err := pgx.BeginFunc(ctx, c.login, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "SELECT set_config('app.tenant_id', $1::text, true)", c.other.tenant.ID); err != nil {
			return err
		}
		if err := tx.QueryRow(ctx, "SELECT min(close), max(close), count(*), string_agg(DISTINCT symbol, ',') FROM mds.bars WHERE timeframe = '1m'").Scan(&least, &most, &n, &symbols); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, "EXPLAIN (ANALYZE, VERBOSE) SELECT * FROM mds.bars WHERE symbol = $1 AND timeframe = '1m'", c.symbol)
		if err != nil {
			return err
		}
		plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
		c.foreign("a plan", strings.Join(plan, "\n"))
		return err
	})
	if err != nil || !c.mine.owns(least) || !c.mine.owns(most) || strings.Contains(symbols, c.other.secret) {
		c.t.Errorf("its login reads %d bars of %s from %v to %v, %v", n, symbols, least, most, err)
	}
	_, err = c.login.Exec(ctx, "SELECT symbol::int FROM mds.bars WHERE timeframe = '1m'")
	c.foreign("an error of the database", fmt.Sprint(err))
}

// foreign reports what a text has of the other side, but for what was asked.
func (c *apartClient) foreign(what, text string, asked ...string) {
	for _, word := range []string{c.other.secret, c.other.title, c.other.tenant.ID, c.other.tenant.Slug} {
		if strings.Contains(text, word) && !strings.Contains(strings.Join(asked, " "), word) {
			c.t.Errorf("%s has %q: %s", what, word, text)
		}
	}
}

// TestNotFoundTellsNothing looks for what the other tenant has and for what nobody has:
// both ways the server reads as many pages by the same plan, so that there is nothing to
// measure.
func TestNotFoundTellsNothing(t *testing.T) {
	d := twoTenants(t)
	conn, err := pgx.Connect(ctx, d.acmeLogin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	work := func(view, symbol string) string {
		var text string
		query := fmt.Sprintf("EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, FORMAT JSON) SELECT * FROM mds.%s WHERE vendor = 'v' AND symbol = '%s'", view, symbol)
		for range 2 { // the first time has to read the catalogue
			if err := conn.QueryRow(ctx, query).Scan(&text); err != nil {
				t.Fatal(err)
			}
		}
		var plans []struct{ Plan json.RawMessage }
		if err := json.Unmarshal([]byte(text), &plans); err != nil {
			t.Fatal(err)
		}
		return strings.ReplaceAll(string(plans[0].Plan), symbol, "SYMBOL")
	}
	for _, view := range []string{"bars", "options", "fundamentals"} {
		theirs, nobodys, own := work(view, "RIVAL"), work(view, "NOBODY"), work(view, "ACME")
		if theirs != nobodys {
			t.Errorf("%s: what the other tenant has\n%s\nwhat nobody has\n%s", view, theirs, nobodys)
		}
		if theirs == own {
			t.Errorf("%s: the plans tell nothing at all:\n%s", view, own)
		}
	}
}

// TestTenantsStopNobody has a login of a tenant take the locks that it can: another
// tenant's writers go on.
func TestTenantsStopNobody(t *testing.T) {
	d := twoTenants(t)
	login, err := pgx.Connect(ctx, d.rivalLogin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = login.Close(ctx) }()
	if _, err := login.Exec(ctx, "BEGIN; LOCK TABLE mds.bars IN ACCESS SHARE MODE"); err != nil {
		t.Fatal(err)
	}
	for seed := range 10 {
		if _, err := login.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended($1::text, $2::bigint))", d.acme.ID, seed); err != nil {
			t.Fatal(err)
		}
	}
	s := open(t, d.Service+"&lock_timeout=5000", store.Config{})
	if receipt, err := store.Bars(s).WriteBatch(ctx, d.acme, []mds.Bar{minute("A", 0, 1)}); err != nil || receipt.Written != 1 {
		t.Error(receipt, err)
	}
	// Nor can it keep its own rights from being taken.
	if _, err := login.Exec(ctx, "SELECT pg_advisory_lock(hashtextextended('mds_internal', 7)), pg_advisory_lock(4097083626)"); err != nil {
		t.Fatal(err)
	}
	if err := postgres.RevokeLogin(ctx, d.Owner+"&lock_timeout=5000", d.rival, d.Name+"_rival"); err != nil {
		t.Error(err)
	}
	for _, mode := range []string{"ROW EXCLUSIVE", "SHARE", "ACCESS EXCLUSIVE"} {
		if _, err := login.Exec(ctx, "ROLLBACK; BEGIN; LOCK TABLE mds.bars IN "+mode+" MODE"); err == nil {
			t.Errorf("it locks bars in %s mode", mode)
		}
	}
}

// TestPgBouncer has 40 clients of two tenants share five connections to the server, in
// each mode: every batch and query is right.
func TestPgBouncer(t *testing.T) {
	d := twoTenants(t)
	dsn := d.Through(d.Service, d.Cluster.Pooler(t, 5)) + "&application_name=pooled"
	for pass, parameter := range []string{"", "&pgbouncer=true"} {
		var wg sync.WaitGroup
		for client := range 40 {
			tenant, price := d.acme, 1.0
			if client%2 == 1 {
				tenant, price = d.rival, 2
			}
			mode := []string{postgres.WriteAuto, postgres.WriteMerge, postgres.WriteUnnest}[client%3]
			wg.Go(func() {
				s, err := store.Open(ctx, dsn+parameter, store.Config{WriteMode: mode, PoolMax: 2})
				if err != nil {
					t.Error(err)
					return
				}
				defer func() { _ = s.Close() }()
				symbol := fmt.Sprintf("P%dC%d", pass, client/2) // each is of both tenants
				for round := range 10 {
					batch := make([]mds.Bar, 50)
					for i := range batch {
						batch[i] = minute(symbol, i+round, price)
					}
					want := int64(1)
					if round == 0 {
						want = 50
					}
					if receipt, err := store.Bars(s).WriteBatch(ctx, tenant, batch); err != nil || receipt.Written != want || receipt.Unchanged != 50-want {
						t.Errorf("client %d, round %d: %+v, %v", client, round, receipt, err)
						return
					}
					for r, err := range store.Bars(s).Query(ctx, tenant, mds.Query{Selection: mds.Selection{Symbols: []string{symbol}}}) {
						if err != nil || r.Close != price {
							t.Errorf("client %d reads %+v, %v", client, r, err)
							return
						}
					}
				}
			})
		}
		wg.Wait()
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT count(*) BETWEEN 1 AND 5 FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'pooled'"); got != "true" {
		t.Error("the service has more than five connections")
	}
	for range 8 { // whichever of the connections it gets
		if _, err := postgres.GrantLogin(ctx, strings.Replace(dsn, "service:", "mds:", 1), d.acme, d.Name+"_acme", postgres.LoginConfig{}); err != nil {
			t.Errorf("granting through PgBouncer: %v", err)
		}
	}
	if found := examine(t, postgres.DoctorConfig{Service: dsn, Logins: nil}); found[findUnset].Verdict != postgres.VerdictRefused {
		t.Errorf("doctor through PgBouncer: %+v", found[findUnset])
	}
}

// TestPoolersWords has what goes wrong at a pooler say what to do.
func TestPoolersWords(t *testing.T) {
	d := migrated(t)
	addr := d.Cluster.Pooler(t, 2)
	dsn := d.Through(d.Service, addr)
	for name, c := range map[string]struct{ dsn, want string }{
		"a wrong password":    {strings.Replace(dsn, "service:", "service:wrong", 1), "check the login and its password"},
		"no such login":       {strings.Replace(dsn, "service:", "nobody:", 1), "check the login and its password"},
		"no such database":    {strings.Replace(dsn, "/test_", "/none_", 1), "make the database"},
		"a setting":           {dsn + "&statement_timeout=5", "leave it out of the DSN"},
		"not true, nor false": {dsn + "&pgbouncer=perhaps", "pgbouncer=perhaps: write true or false"},
	} {
		s, err := store.Open(ctx, c.dsn, store.Config{})
		if err == nil {
			_ = s.Close()
		}
		if err == nil || !strings.Contains(err.Error(), c.want) || mds.Retryable(err) {
			t.Errorf("%s: %v, retryable %v", name, err, mds.Retryable(err))
		}
	}
	for _, parameter := range []string{"", "&pgbouncer=true"} {
		if _, err := postgres.Migrate(ctx, d.Through(d.Owner, addr)+parameter, postgres.MigrateConfig{}); err == nil || !strings.Contains(err.Error(), "name the server itself in the owner's DSN") {
			t.Errorf("migrating through a pooler %s: %v", parameter, err)
		}
	}
	if _, err := postgres.Migrate(ctx, d.Owner+"&pgbouncer=false", postgres.MigrateConfig{}); err != nil {
		t.Error(err)
	}
}
