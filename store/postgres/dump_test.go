package postgres_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// TestDumpAndRestore dumps a database of two tenants as its owner, as docs/postgres-admin.md
// says, and restores it into another: everything is there, each tenant's login sees its own
// as before, and the store goes on.
func TestDumpAndRestore(t *testing.T) {
	if pgtest.Timescale() {
		t.Skip("a database with TimescaleDB is restored in its own way (timescaledb_pre_restore)")
	}
	d := twoTenants(t)
	createKey(t, d.Database, d.acme)
	keepAnswer(t, open(t, d.Service, store.Config{}), d.acme, "a-key", 0)
	jobDone(t, open(t, d.Service, store.Config{}), d.acme)
	bin, err := pgtest.Binaries()
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "market.dump")
	run := func(program string, args ...string) {
		t.Helper()
		cmd := exec.CommandContext(t.Context(), filepath.Join(bin, program), args...)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Fatalf("%s: %v\n%s", program, err, out)
		}
	}
	run("pg_dump", "--format=custom", "--enable-row-security", "--file="+file, d.Owner)
	if info, err := os.Stat(file); err != nil || info.Size() == 0 {
		t.Fatal(info, err)
	}
	to := pgtest.Empty(t)
	run("pg_restore", "--exit-on-error", "--dbname="+to.Owner, file)

	const all = `SELECT (SELECT string_agg(s::text, E'\n' ORDER BY s::text) FROM mds_internal.bar_series s), (SELECT string_agg(f::text, E'\n' ORDER BY f::text) FROM mds_internal.bar_facts_1m f),
		(SELECT string_agg(f::text, E'\n' ORDER BY f::text) FROM mds_internal.option_facts f), (SELECT string_agg(f::text, E'\n' ORDER BY f::text) FROM mds_internal.fundamental_facts f),
		(SELECT string_agg(f::text, E'\n' ORDER BY f::text) FROM mds_internal.news_item_facts f), (SELECT string_agg(t::text, E'\n' ORDER BY t::text) FROM mds_internal.tenants t),
		(SELECT string_agg(l::text, E'\n' ORDER BY l::text) FROM mds_internal.tenant_logins l), (SELECT string_agg(l::text, E'\n') FROM mds_internal.service_logins l),
		(SELECT string_agg(k::text, E'\n') FROM mds_internal.api_keys k), (SELECT string_agg(k::text, E'\n' ORDER BY k::text) FROM mds_internal.kept_answers k),
		(SELECT string_agg(j::text, E'\n' ORDER BY j.id) FROM mds_internal.jobs j), (SELECT string_agg(p::text, E'\n') FROM mds_internal.job_parts p)`
	// The owner dumps what there is, not what a policy leaves.
	before := pgtest.Ask(t, d.Admin, all)
	if got := pgtest.Ask(t, to.Admin, all); got != before || strings.Count(before, "ACME") < 3 || strings.Count(before, "RIVAL") < 3 || strings.Count(before, "a name") != 1 || strings.Count(before, "a-key") != 1 || strings.Count(before, "a-job") != 1 || strings.Count(before, "a-part") != 1 {
		t.Errorf("restored is\n%s\nwant\n%s", got, before)
	}
	for login, own := range map[string]string{d.Name + "_acme": "ACME\nBOTH", d.Name + "_rival": "BOTH\nRIVAL"} {
		if got := pgtest.Ask(t, to.As(t, login), "SELECT symbol FROM mds.bars ORDER BY 1"); got != own {
			t.Errorf("%s sees %q", login, got)
		}
	}
	if err := prepare(to); err != nil { // which has nothing to migrate
		t.Fatal(err)
	}
	s := open(t, to.Service, store.Config{})
	if receipt, err := store.Bars(s).WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{minute("NEW", 0, 1)}); err != nil || receipt.Written != 1 {
		t.Error(receipt, err)
	}
	for what, f := range examine(t, postgres.DoctorConfig{Owner: to.Owner, Service: to.Service, Logins: []string{to.As(t, d.Name+"_acme")}}) {
		if f.Verdict == postgres.VerdictOpen {
			t.Errorf("restored: %s: %s", what, f.Detail)
		}
	}
}
