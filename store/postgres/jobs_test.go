package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// openJobs opens the jobs of a store.
func openJobs(t testing.TB, s *store.Store) store.Jobs {
	t.Helper()
	jobs, err := store.OpenJobs(ctx, s)
	if err != nil {
		t.Fatal(err)
	}
	return jobs
}

// enqueueJob makes a job of a tenant, or of all.
func enqueueJob(t testing.TB, jobs store.Jobs, tenant mds.Tenant, name string) mds.Job {
	t.Helper()
	job, _, err := jobs.Enqueue(ctx, mds.Job{Action: mds.JobBackfill, Tenant: tenant, Name: name, MaxAttempts: 1000})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func claimJob(t testing.TB, jobs store.Jobs) mds.Job {
	t.Helper()
	job, ok, err := jobs.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return job
}

// jobDone makes a job of a tenant, and a part of it.
func jobDone(t testing.TB, s *store.Store, tenant mds.Tenant) {
	t.Helper()
	jobs := openJobs(t, s)
	enqueueJob(t, jobs, tenant, "a-job")
	job := claimJob(t, jobs)
	if err := errors.Join(jobs.PartDone(ctx, job, mds.JobPart{Name: "a-part"}), jobs.Finish(ctx, job, mds.JobDone, time.Time{})); err != nil {
		t.Fatal(err)
	}
}

// TestMigrateFromBeforeJobs migrates a database as the version before has left it, whose
// service has its rights.
func TestMigrateFromBeforeJobs(t *testing.T) {
	d := migrated(t)
	write(t, open(t, d.Service, store.Config{}), minute("A", 0, 1))
	pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal.job_parts, mds_internal.jobs", "DELETE FROM mds_internal.migrations WHERE version_id >= 6")
	if _, err := store.Open(ctx, d.Service, store.Config{}); err == nil || !strings.Contains(err.Error(), "the database has schema version 5, and this mds needs 6; let the owner run mds migrate") {
		t.Fatalf("before: %v", err)
	}
	applied, err := postgres.Migrate(ctx, d.Owner, postgres.MigrateConfig{})
	if err != nil || len(applied) != 2 || applied[0].Name != "0006_jobs.sql" {
		t.Fatalf("applied %+v, %v", applied, err)
	}
	s := open(t, d.Service, store.Config{})
	if _, _, err := openJobs(t, s).Claim(ctx, "w", "v1", mds.JobActions(), time.Hour); !mds.Unavailable(err) || !strings.Contains(err.Error(), "let the owner run mds migrate, which gives the service's login its rights") {
		t.Errorf("without its rights: %v", err)
	}
	if _, err := postgres.GrantService(ctx, d.Owner, d.Service); err != nil {
		t.Fatal(err)
	}
	jobDone(t, s, mds.DefaultTenant())
	if n := count(t, s); n != 1 {
		t.Errorf("%d bars are left", n)
	}
}

// TestRightsOnJobs has logins look at jobs: the service and the owner at those of all
// tenants, a tenant's login at none, not even with rights that it should not have.
func TestRightsOnJobs(t *testing.T) {
	d := twoTenants(t)
	s := open(t, d.Service, store.Config{})
	for _, tenant := range []mds.Tenant{d.acme, d.rival, {}} {
		jobDone(t, s, tenant)
	}
	const all = "SELECT (SELECT count(*) FROM mds_internal.jobs) || ' ' || (SELECT count(*) FROM mds_internal.job_parts)"
	for who, dsn := range map[string]string{"the service": d.Service, "the owner": d.Owner} {
		if got := pgtest.Ask(t, dsn, all); got != "3 3" {
			t.Errorf("%s sees %s", who, got)
		}
	}
	conn, err := pgx.Connect(ctx, d.acmeLogin)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	for _, text := range []string{all, "DELETE FROM mds_internal.jobs", "UPDATE mds_internal.jobs SET state = 'queued'", "TRUNCATE mds_internal.job_parts"} {
		var refused *pgconn.PgError
		if _, err := conn.Exec(ctx, text); !errors.As(err, &refused) || refused.Code != "42501" {
			t.Errorf("a tenant's login, %s: %v", text, err)
		}
	}
	login := d.Name + "_acme"
	pgtest.Exec(t, d.Admin, "GRANT USAGE ON SCHEMA mds_internal TO "+login, "GRANT ALL ON mds_internal.jobs, mds_internal.job_parts TO "+login)
	var got string
	if err := conn.QueryRow(ctx, all).Scan(&got); err != nil || got != "0 0" {
		t.Errorf("with the rights it sees %q, %v", got, err)
	}
	if changed, err := conn.Exec(ctx, "UPDATE mds_internal.jobs SET state = 'queued', finished_at = NULL"); err != nil || changed.RowsAffected() != 0 {
		t.Errorf("with the rights it changes %v, %v", changed, err)
	}
	_, err = conn.Exec(ctx, `INSERT INTO mds_internal.jobs (tenant_id, tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, fingerprint, asked_by, max_attempts, state, created_at)
		VALUES ($1, 'acme', 'migrate', '', '{}', '', 0, '', '', '', '{}', '', '', 1, 'queued', now())`, d.acme.ID)
	if err == nil || !strings.Contains(err.Error(), "row-level security") {
		t.Errorf("with the rights it makes a job: %v", err)
	}
}

// TestJobsOfOwner has the owner's login serve, which works for the default tenant only.
func TestJobsOfOwner(t *testing.T) {
	d := twoTenants(t)
	jobs := openJobs(t, open(t, d.Owner, store.Config{}))
	enqueueJob(t, jobs, mds.DefaultTenant(), "own")
	enqueueJob(t, jobs, mds.Tenant{}, "of all")
	if _, _, err := jobs.Enqueue(ctx, mds.Job{Action: mds.JobBackfill, Tenant: d.acme}); err == nil || !strings.Contains(err.Error(), "works for the default tenant only") {
		t.Errorf("a job of another tenant: %v", err)
	}
	if job := claimJob(t, jobs); job.Name != "own" {
		t.Errorf("claimed %+v", job)
	}
}

// TestJobsThroughPgBouncer has the jobs of one store be run by four through a pooler of two
// connections, each once, with lost leases among them.
func TestJobsThroughPgBouncer(t *testing.T) {
	d := migrated(t)
	addr := d.Cluster.Pooler(t, 2)
	for _, parameter := range []string{"", "&pgbouncer=true"} {
		dsn := d.Through(d.Service, addr) + parameter
		const all = 100
		jobs := openJobs(t, open(t, dsn, store.Config{PoolMax: 2}))
		for n := range all {
			enqueueJob(t, jobs, mds.DefaultTenant(), fmt.Sprint(parameter, n))
		}
		var mu sync.Mutex
		runs := map[string]int{}
		var wg sync.WaitGroup
		for n := range 4 {
			jobs := openJobs(t, open(t, dsn, store.Config{PoolMax: 2}))
			wg.Go(func() {
				for turn := 0; ; turn++ {
					lease := time.Hour
					if turn%5 == 4 {
						lease = -time.Second // its server dies
					}
					job, ok, err := jobs.Claim(ctx, fmt.Sprint("w", n), "v1", mds.JobActions(), lease)
					if err != nil {
						t.Error(err)
					}
					if err != nil || !ok {
						return
					}
					if lease < 0 {
						continue
					}
					if _, err := jobs.Beat(ctx, job, time.Hour); err != nil {
						t.Error(err)
					}
					if err := errors.Join(jobs.PartDone(ctx, job, mds.JobPart{Name: "p"}), jobs.Finish(ctx, job, mds.JobDone, time.Time{})); err != nil {
						t.Error(err)
					}
					mu.Lock()
					runs[job.Name]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		for name, n := range runs {
			if n != 1 {
				t.Errorf("%s was run %d times", name, n)
			}
		}
		done, err := jobs.List(ctx, mds.JobFilter{States: []mds.JobState{mds.JobDone}})
		if err != nil || len(runs) != all || len(done) == 0 {
			t.Errorf("%d were run, and %d are done, %v", len(runs), len(done), err)
		}
		if n, err := jobs.Cleanup(ctx, time.Now().Add(time.Hour)); err != nil || n != all {
			t.Errorf("cleaned %d, %v", n, err)
		}
	}
}

// TestJobsWhileQueriesLast works on jobs while queries have all the connections that they may
// take.
func TestJobsWhileQueriesLast(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{PoolMax: 2})
	write(t, s, minute("A", 0, 1), minute("A", 1, 1))
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, err := range store.Bars(s).Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		jobDone(t, s, mds.DefaultTenant())
		if list, err := openJobs(t, s).List(soon, mds.JobFilter{}); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		break
	}
}

// TestClaimWaitsForNobody has another session work on the first job: the second is claimed.
func TestClaimWaitsForNobody(t *testing.T) {
	d := migrated(t)
	jobs := openJobs(t, open(t, d.Service, store.Config{}))
	first, second := enqueueJob(t, jobs, mds.Tenant{}, "first"), enqueueJob(t, jobs, mds.Tenant{}, "second")
	conn, err := pgx.Connect(ctx, d.Owner)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	if _, err := conn.Exec(ctx, "BEGIN; UPDATE mds_internal.jobs SET note = 'x' WHERE id = "+first.ID); err != nil {
		t.Fatal(err)
	}
	soon, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	if job, ok, err := jobs.Claim(soon, "w", "v1", mds.JobActions(), time.Hour); err != nil || job.ID != second.ID {
		t.Errorf("claimed %s, %v, %v", job.ID, ok, err)
	}
	if _, ok, err := jobs.Claim(soon, "w", "v1", mds.JobActions(), time.Hour); err != nil || ok {
		t.Errorf("then claimed %v, %v", ok, err)
	}
	if _, err := conn.Exec(ctx, "COMMIT"); err != nil {
		t.Fatal(err)
	}
	if job := claimJob(t, jobs); job.ID != first.ID {
		t.Errorf("at last claimed %s", job.ID)
	}
}

// manyJobs are so many that have ended, a hundredth of them failed, and a few that wait.
func manyJobs(t testing.TB, d pgtest.Database, n int) {
	t.Helper()
	pgtest.Exec(t, d.Owner, fmt.Sprintf(`INSERT INTO mds_internal.jobs (tenant_id, tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, starts_at, ends_at, fingerprint, asked_by, max_attempts, state, created_at, started_at, finished_at, heartbeat_at, worker, version, attempt, parts, parts_done, written, note)
		SELECT '%s', 'default', 'backfill', 'bars of 2024', '{"files":["/data/2024/03/05.csv.gz"],"format":"csv"}', 'key-' || n, 0, 'backfill', 'bars', 'yahoo', '{AAPL,MSFT}', '2024-01-01', '2025-01-01', md5(n::text), '0123456789ab', 5,
			CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'done' END, t, t + interval '1 second', t + interval '9 seconds', t + interval '9 seconds', 'host-1:4711', 'v1.2.3', 1, 12, 12, 123456, 'file 12 of 12'
		FROM generate_series(1, %d) n CROSS JOIN LATERAL (SELECT timestamptz '2024-01-01' + n * interval '1 minute' AS t) x`, mds.DefaultTenant().ID, n),
		"ANALYZE mds_internal.jobs")
}

// TestJobsByIndex has a hundred thousand jobs that have ended: none of them is looked at for
// those that wait, nor the others for those that failed, or for a page of the list.
func TestJobsByIndex(t *testing.T) {
	d := migrated(t)
	manyJobs(t, d, 100_000)
	claim, claimArgs := postgres.JobStatements.Claim("w", "v", mds.JobActions(), time.Hour)
	conn, err := pgx.Connect(ctx, d.Service)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close(ctx) }()
	check := func(what, query string, args []any) {
		t.Helper()
		tx, err := conn.Begin(ctx)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = tx.Rollback(ctx) }()
		rows, err := tx.Query(ctx, "EXPLAIN (ANALYZE, BUFFERS, TIMING OFF, SUMMARY OFF) "+query, args...)
		if err != nil {
			t.Fatal(err)
		}
		lines, err := pgx.CollectRows(rows, pgx.RowTo[string])
		if err != nil {
			t.Fatal(err)
		}
		var hit, read int
		plan := strings.Join(lines, "\n")
		for _, line := range lines {
			if _, after, ok := strings.Cut(line, "Buffers: shared "); ok && hit+read == 0 { // of the top, which has all
				for _, word := range strings.Fields(after) {
					_, _ = fmt.Sscanf(word, "hit=%d", &hit)
					_, _ = fmt.Sscanf(word, "read=%d", &read)
				}
			}
		}
		if hit+read == 0 || hit+read > 300 || strings.Contains(plan, "Seq Scan on jobs") {
			t.Errorf("%s takes %d pages:\n%s", what, hit+read, plan)
		}
	}
	check("a claim", claim, claimArgs)
	check("giving up", postgres.JobStatements.GiveUp, nil)
	check("a job with a key", postgres.JobStatements.ByKey, []any{mds.DefaultTenant().ID, "key-5"})
	for what, filter := range map[string]mds.JobFilter{
		"a page":                {Limit: 100},
		"the next page":         {Limit: 100, After: "50000"},
		"a tenant's":            {Limit: 100, TenantID: mds.DefaultTenant().ID, Common: true},
		"some that failed":      {Limit: 100, States: []mds.JobState{mds.JobFailed}},
		"those that run":        {States: []mds.JobState{mds.JobRunning}},
		"those to do":           {States: []mds.JobState{mds.JobQueued, mds.JobRunning}},
		"those that are silent": {SilentSince: time.Now()},
	} {
		query, args, err := postgres.JobStatements.List(&filter)
		if err != nil {
			t.Fatal(err)
		}
		check(what, query, args)
	}
}

// BenchmarkJobs lists 10,000 jobs, and a page of them, and claims and ends one of as many
// that wait beside 100,000 that have ended.
func BenchmarkJobs(b *testing.B) {
	list := func(n, limit int) func(*testing.B) {
		return func(b *testing.B) {
			d := migrated(b)
			manyJobs(b, d, n)
			jobs := openJobs(b, open(b, d.Service, store.Config{}))
			b.ReportAllocs()
			for b.Loop() {
				if list, err := jobs.List(ctx, mds.JobFilter{Limit: limit}); err != nil || len(list) != min(n, limit) {
					b.Fatal(len(list), err)
				}
			}
		}
	}
	b.Run("list10k", list(10_000, 10_000))
	b.Run("page100of10k", list(10_000, 100))
	b.Run("page100of100k", list(100_000, 100))
	for _, workers := range []int{1, 8} {
		b.Run(fmt.Sprintf("claim/%d", workers), func(b *testing.B) {
			d := migrated(b)
			manyJobs(b, d, 100_000)
			jobs := openJobs(b, open(b, d.Service, store.Config{}))
			pgtest.Exec(b, d.Owner, fmt.Sprintf("INSERT INTO mds_internal.jobs (tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, fingerprint, asked_by, max_attempts, state, created_at) SELECT '', 'backfill', '', '{}', '', 0, '', '', '', '{}', '', '', 5, 'queued', now() FROM generate_series(1, %d)", b.N))
			b.ResetTimer()
			var wg sync.WaitGroup
			for n := range workers {
				wg.Go(func() {
					for range b.N/workers + min(1, max(0, b.N%workers-n)) {
						job, ok, err := jobs.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour)
						if err != nil || !ok {
							b.Error(ok, err)
							return
						}
						if err := jobs.Finish(ctx, job, mds.JobDone, time.Time{}); err != nil {
							b.Error(err)
							return
						}
					}
				})
			}
			wg.Wait()
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}

// TestTooManyJobsWait bounds how many jobs of a tenant wait, and counts neither those of others
// nor those that have ended.
func TestTooManyJobsWait(t *testing.T) {
	d := migrated(t)
	s := open(t, d.Service, store.Config{})
	jobs := openJobs(t, s)
	manyJobs(t, d, 10)
	asked := mds.Job{Action: mds.JobBackfill, Tenant: mds.DefaultTenant(), Key: "k"}
	first, _, err := jobs.Enqueue(t.Context(), asked)
	if err != nil {
		t.Fatal(err)
	}
	pgtest.Exec(t, d.Owner, `INSERT INTO mds_internal.jobs (tenant_id, tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, fingerprint, asked_by, max_attempts, state, created_at)
		SELECT tenant_id, tenant, action, name, params, '', priority, mode, dataset, vendor, symbols, fingerprint, asked_by, max_attempts, state, created_at
		FROM mds_internal.jobs CROSS JOIN generate_series(1, 9999) WHERE id = `+first.ID)
	if got, made, err := jobs.Enqueue(t.Context(), asked); err != nil || made || got.ID != first.ID {
		t.Errorf("under the key: %s, %v, %v", got.ID, made, err)
	}
	asked.Key = "another"
	want := "too many jobs wait: there are 10000 already; make it when some have ended, or cancel some"
	if _, made, err := jobs.Enqueue(t.Context(), asked); !errors.Is(err, mds.ErrJobsWaiting) || made || err.Error() != want {
		t.Errorf("another: %v, %v", made, err)
	}
	if _, _, err := jobs.Enqueue(t.Context(), mds.Job{Action: mds.JobBackfill}); err != nil {
		t.Errorf("of all: %v", err)
	}
	if _, err := jobs.Cancel(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	if _, made, err := jobs.Enqueue(t.Context(), asked); err != nil || !made {
		t.Errorf("after one has ended: %v, %v", made, err)
	}
}

// TestOneTimeOfAStatement asks for the time again and again within a statement: one that
// cancels a job does so thrice, in the microsecond in which its lease ends, too.
func TestOneTimeOfAStatement(t *testing.T) {
	d := migrated(t)
	tx, _ := holding(t, d.Owner, "SELECT pg_sleep(0.001)")
	var times int
	var passed bool
	err := tx.QueryRow(ctx, "SELECT count(DISTINCT "+postgres.JobClock+"), bool_and("+postgres.JobClock+" > now()) FROM generate_series(1, 100000)").Scan(&times, &passed)
	if !strings.Contains(postgres.JobStatements.Cancel, "lease_until <= "+postgres.JobClock+" ") {
		t.Errorf("it goes by another one: %s", postgres.JobStatements.Cancel)
	}
	if err != nil || times != 1 || !passed {
		t.Errorf("%d times, later than the transaction's: %t, %v", times, passed, err)
	}
}
