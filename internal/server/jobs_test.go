package server_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/backfill"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// ownedEngines runs a test on each engine, with what the owner of its database may.
func ownedEngines(t *testing.T, test func(t *testing.T, dsn, owner string)) {
	t.Run("DuckDB", func(t *testing.T) { test(t, "duckdb://"+t.TempDir(), "") })
	t.Run("PostgreSQL", func(t *testing.T) {
		d := pgtest.Fresh(t, "migrated", func(d pgtest.Database) error {
			_, err := postgres.Migrate(context.Background(), d.Owner, postgres.MigrateConfig{})
			_, grantErr := postgres.GrantService(context.Background(), d.Owner, d.Service)
			return errors.Join(err, grantErr)
		})
		test(t, d.Service, d.Owner)
	})
}

// job asks for a job, and waits until it has ended.
func (w *world) job(t *testing.T, path, body string, headers ...string) client.Job {
	t.Helper()
	a := w.ask(t, http.MethodPost, path, strings.NewReader(body), append(headers, "Content-Type", "application/json")...)
	var job client.Job
	a.into(t, http.StatusAccepted, &job)
	if at := a.header.Get("Location"); at != "/v1/jobs/"+job.ID {
		t.Errorf("it is at %q, and the job's id is %q", at, job.ID)
	}
	await(t, path+" has ended", func() bool {
		var now client.Job // what is left out stays
		w.get(t, "/v1/jobs/"+job.ID, headers...).into(t, http.StatusOK, &now)
		job = now
		return mds.JobState(job.State).Ended()
	})
	return job
}

// symbols are those of the bars that a tenant has, each as often as it has one.
func (w *world) symbols(t *testing.T, headers ...string) string {
	t.Helper()
	var symbols []string
	for i, line := range strings.Split(strings.TrimSpace(w.get(t, "/v1/bars?format=csv&order=any", headers...).body), "\n") {
		if i > 0 {
			symbols = append(symbols, strings.Split(line, ",")[1])
		}
	}
	slices.Sort(symbols)
	return strings.Join(symbols, " ")
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, []byte(text), 0o600)); err != nil {
		t.Fatal(err)
	}
}

// TestBackfillFiles loads files: the rows are in the store, and what is no row in the rejects.
func TestBackfillFiles(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		in, rejects := t.TempDir(), t.TempDir()
		write(t, filepath.Join(in, "day", "MSFT.csv"), "ts,close\n2026-01-02,1\n2026-01-05,2\n")
		write(t, filepath.Join(in, "day", "AAPL.csv"), "ts,close\n2026-01-02,3\nnever,4\n")
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: backfill.Rules{Dir: in}, Rejects: rejects}})
		job := w.job(t, "/backfill/nightly", `{"dataset": "bars", "vendor": "Yahoo", "params": {"files": ["day/*.csv"], "symbol_from": "filename", "fixed": {"timeframe": "1d"}}}`)
		if job.State != "done" || job.Name != "nightly" || job.Action != "backfill" || job.Vendor != "yahoo" || job.Mode != "backfill" || job.Worker != "test" || job.Version != "test" ||
			job.Parts != 2 || job.PartsDone != 2 || job.Written != 3 || job.Failed != 1 || job.Attempt != 1 || job.Fingerprint == "" || job.Heartbeat == nil || job.Finished == nil {
			t.Errorf("%+v", job)
		}
		if got := w.symbols(t); got != "AAPL MSFT MSFT" {
			t.Errorf("there are %s", got)
		}
		text, err := os.ReadFile(filepath.Join(rejects, "job-"+job.ID+".ndjson"))
		if err != nil || strings.Count(string(text), "\n") != 1 || !strings.Contains(string(text), `"file":"day/AAPL.csv"`) || !strings.Contains(string(text), "never") {
			t.Errorf("%v, %s", err, text)
		}
	})
}

// TestBadParts loads what can be loaded, and then says what cannot.
func TestBadParts(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		in, rejects := t.TempDir(), t.TempDir()
		write(t, filepath.Join(in, "A.csv"), "ts,close\n2026-01-02,1\n")
		write(t, filepath.Join(in, "B.csv"), "")
		write(t, filepath.Join(in, "C.csv"), "ts,close\n2026-01-02,1\nnever,1\n")
		write(t, filepath.Join(in, "D.csv"), "no,names\n1,2\n")
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: backfill.Rules{Dir: in}, Rejects: rejects}})
		job := w.job(t, "/backfill/some", `{"dataset": "bars", "params": {"files": ["*.csv"], "symbol_from": "filename", "fixed": {"timeframe": "1d"}}}`)
		if job.State != "failed" || job.Parts != 4 || job.PartsDone != 2 || job.Attempt != 1 || !strings.HasPrefix(job.Error, "2 of 4 parts cannot be loaded: B.csv: it is empty") || !strings.Contains(job.Error, "; D.csv: ") {
			t.Errorf("%+v", job)
		}
		if want := "1 row did not get into the store: those that are no records are in " + filepath.Join(rejects, "job-"+job.ID+".ndjson") + " on test"; job.Note != want {
			t.Errorf("the note is %q, want %q", job.Note, want)
		}
		if got := w.symbols(t); got != "A C" {
			t.Errorf("there are %s", got)
		}
	})
}

// TestRulesOfAnother leaves a backfill that one server may not do to another one that may.
func TestRulesOfAnother(t *testing.T) {
	dsn := migrated(t) // of a DuckDB store one process has the files
	in := t.TempDir()
	write(t, filepath.Join(in, "A.csv"), "ts,close\n2026-01-02,1\n")
	may := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: backfill.Rules{Dir: in}, Concurrency: -1}})
	mayNot := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Worker: "may not", Backoff: time.Millisecond}})
	var job client.Job
	may.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "backfill", "dataset": "bars", "max_attempts": 1000, "params": {"files": ["A.csv"], "symbol_from": "filename", "fixed": {"timeframe": "1d"}}}`)).into(t, http.StatusAccepted, &job)
	await(t, "it was tried where it may not be done", func() bool {
		mayNot.get(t, "/v1/jobs/"+job.ID).into(t, http.StatusOK, &job)
		return job.Attempt > 0 && job.State == "queued"
	})
	if !strings.Contains(job.Error, "this server reads none") {
		t.Errorf("%+v", job)
	}
	serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: backfill.Rules{Dir: in}, Worker: "may", Poll: 5 * time.Millisecond}})
	await(t, "it is done", func() bool {
		may.get(t, "/v1/jobs/"+job.ID).into(t, http.StatusOK, &job)
		return job.State == "done"
	})
	if job.Worker != "may" || may.symbols(t) != "A" {
		t.Errorf("%+v", job)
	}
}

// TestBackfillResumes goes on where it was stopped: parts that are done are not asked for again.
func TestBackfillResumes(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		var mu sync.Mutex
		asked := make(map[string]int)
		vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			mu.Lock()
			defer mu.Unlock()
			what := r.URL.Path + "?" + r.URL.RawQuery
			if asked[what]++; asked[what] == 1 && strings.HasPrefix(what, "/B") {
				w.WriteHeader(http.StatusServiceUnavailable)
				return
			}
			if r.Header.Get("X-Api-Key") != "geheim" {
				w.WriteHeader(http.StatusForbidden)
				return
			}
			_, _ = fmt.Fprintf(w, "ts,close\n%s,1\n", r.URL.Query().Get("from"))
		}))
		t.Cleanup(vendor.Close)
		host := strings.TrimPrefix(vendor.URL, "http://")
		transport := &http.Transport{}
		t.Cleanup(transport.CloseIdleConnections)
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{
			Sources: backfill.Rules{Hosts: map[string]http.Header{host: {"X-Api-Key": {"geheim"}}}, Transport: transport}, Backoff: time.Millisecond,
		}})
		job := w.job(t, "/v1/jobs", `{"action": "backfill", "dataset": "bars", "vendor": "v", "symbols": ["A", "B", "C"], "start": "2026-01-01", "end": "2026-03-01",
			"params": {"url": "`+vendor.URL+`/{symbol}?from={start}&to={end}", "step": "1mo", "fixed": {"timeframe": "1d"}}}`)
		if job.State != "done" || job.Attempt != 3 || job.Parts != 6 || job.PartsDone != 6 || job.Written != 6 || job.Error != "" {
			t.Errorf("%+v", job)
		}
		if got := w.symbols(t); got != "A A B B C C" {
			t.Errorf("there are %s", got)
		}
		want := map[string]int{
			"/A?from=2026-01-01&to=2026-02-01": 1, "/A?from=2026-02-01&to=2026-03-01": 1, "/B?from=2026-01-01&to=2026-02-01": 2,
			"/B?from=2026-02-01&to=2026-03-01": 2, "/C?from=2026-01-01&to=2026-02-01": 1, "/C?from=2026-02-01&to=2026-03-01": 1,
		}
		if fmt.Sprint(asked) != fmt.Sprint(want) {
			t.Errorf("asked for %v", asked)
		}
		if text := w.get(t, "/v1/jobs/"+job.ID).body + w.logs.String(); strings.Contains(text, "geheim") {
			t.Error("the vendor's key is told")
		}
		w.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(`{"action": "backfill", "dataset": "bars", "params": {"url": "https://elsewhere.example/x"}}`)).
			problem(t, http.StatusBadRequest, "bad_job", "the host elsewhere.example is none that this server asks: its setting jobs.hosts names them")
	})
}

// TestPolicyJobs puts rollups and retention to work over HTTP, and sees it in the store.
func TestPolicyJobs(t *testing.T) {
	ownedEngines(t, func(t *testing.T, dsn, owner string) {
		st, err := store.Open(t.Context(), dsn, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		open := func(ctx context.Context) (store.Keeper, error) { return store.OpenKeeper(ctx, st, owner) }
		w := serve(t, dsn, server.Config{Control: server.ControlConfig{Keeper: open}}, st)
		now := time.Now().UTC()
		at := func(age time.Duration) string { return now.Add(-age).Format(time.RFC3339) }
		w.post(t, "/v1/bars", fmt.Sprintf(`{"vendor":"v","symbol":"OLD","timeframe":"1m","ts":%q,"close":1}
{"vendor":"v","symbol":"NEW","timeframe":"1m","ts":%q,"close":1}
`, at(400*24*time.Hour), at(time.Hour))).into(t, http.StatusOK, new(any))

		keeper, err := open(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if _, err := keeper.Keep(t.Context(), mds.Policy{Kind: "bars", Timeframe: "1m", Rollups: []mds.Timeframe{"1h"}, DropAfter: mustAge(t, "90d")}); err != nil {
			t.Fatal(err)
		}
		if err := keeper.Close(t.Context()); err != nil {
			t.Fatal(err)
		}
		if job := w.job(t, "/refresh/aggregate", ""); job.State != "done" || job.Tenant != "default" {
			t.Errorf("%+v", job)
		}
		if got := w.get(t, "/v1/rollups?format=csv").body; strings.Count(got, "\n") != 3 || !strings.Contains(got, ",OLD,1h,") || !strings.Contains(got, ",NEW,1h,") {
			t.Errorf("the rollups are %s", got)
		}
		if got := w.symbols(t); got != "NEW OLD" {
			t.Fatalf("there are %s", got)
		}
		if job := w.job(t, "/retention/apply", ""); job.State != "done" || job.Tenant != "" {
			t.Errorf("%+v", job)
		}
		if got := w.symbols(t); got != "NEW" {
			t.Errorf("there are %s, after what is old was dropped", got)
		}
	})
}

func mustAge(t *testing.T, text string) mds.Age {
	t.Helper()
	age, err := mds.ParseAge(text)
	if err != nil {
		t.Fatal(err)
	}
	return age
}

// TestPoliciesByThemselves are carried out as often as the servers say, by one of them.
func TestPoliciesByThemselves(t *testing.T) {
	ownedEngines(t, func(t *testing.T, dsn, owner string) {
		st, err := store.Open(t.Context(), dsn, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		open := func(ctx context.Context) (store.Keeper, error) { return store.OpenKeeper(ctx, st, owner) }
		w := serve(t, dsn, server.Config{Control: server.ControlConfig{Keeper: open}, Jobs: &server.JobsConfig{PoliciesEvery: time.Second}}, st)
		if owner != "" {
			serve(t, dsn, server.Config{Control: server.ControlConfig{Keeper: open}, Jobs: &server.JobsConfig{PoliciesEvery: time.Second, Worker: "other"}})
		}
		var list client.Jobs
		await(t, "three are done", func() bool {
			w.get(t, "/v1/jobs?action=policies&state=done").into(t, http.StatusOK, &list)
			return len(list.Jobs) >= 3
		})
		made := make(map[string]bool)
		for _, job := range list.Jobs {
			if made[job.Key] || !strings.HasPrefix(job.Key, "every-1s-") {
				t.Errorf("two, or one without its time: %q", job.Key)
			}
			made[job.Key] = true
		}
	})
}

// TestMigrateJob does what the server was given to migrate with, and refuses where it was not.
func TestMigrateJob(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		done := 0
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Migrate: func(context.Context) error { done++; return nil }}})
		if job := w.job(t, "/migrate", ""); job.State != "done" || done != 1 {
			t.Errorf("%+v, and it was done %d times", job, done)
		}
		w.ask(t, http.MethodPost, "/retention/apply", nil).problem(t, http.StatusConflict, "not_done_here", "it needs the owner of the database: set MDS_ADMIN_DSN")
	})
}

// stuck is a source of records that does not answer until the test ends.
func stuck(t *testing.T) (url string, rules backfill.Rules, begun chan struct{}) {
	t.Helper()
	begun = make(chan struct{}, 16)
	over := make(chan struct{})
	vendor := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		begun <- struct{}{}
		select {
		case <-r.Context().Done():
		case <-over:
		}
	}))
	transport := &http.Transport{}
	t.Cleanup(func() {
		close(over)
		transport.CloseIdleConnections()
		vendor.Close()
	})
	return vendor.URL, backfill.Rules{Hosts: map[string]http.Header{strings.TrimPrefix(vendor.URL, "http://"): nil}, Transport: transport}, begun
}

// TestCancelJob ends a job that runs and one that waits.
func TestCancelJob(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		url, rules, begun := stuck(t)
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: rules, Lease: time.Hour, Concurrency: 1}}) // no word of it comes by itself
		ask := func(n int) client.Job {
			var job client.Job
			w.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(fmt.Sprintf(`{"action": "backfill", "dataset": "bars", "params": {"url": "%s/%d"}}`, url, n))).into(t, http.StatusAccepted, &job)
			return job
		}
		runs := ask(1)
		<-begun
		waits := ask(2)
		var job client.Job
		w.ask(t, http.MethodPost, "/v1/jobs/"+waits.ID+"/cancel", nil).into(t, http.StatusOK, &job)
		if job.State != "cancelled" || job.Started != nil {
			t.Errorf("one that waited: %+v", job)
		}
		w.ask(t, http.MethodPost, "/v1/jobs/"+runs.ID+"/cancel", nil).into(t, http.StatusOK, &job)
		if job.State != "running" || !job.CancelRequested {
			t.Errorf("one that ran: %+v", job)
		}
		await(t, "it is cancelled", func() bool {
			w.get(t, "/v1/jobs/"+runs.ID).into(t, http.StatusOK, &job)
			return job.State == "cancelled"
		})
		var list client.Jobs
		if w.get(t, "/v1/jobs?state=cancelled&action=backfill").into(t, http.StatusOK, &list); len(list.Jobs) != 2 || list.Jobs[0].ID != waits.ID {
			t.Errorf("%+v", list)
		}
		if w.get(t, "/v1/jobs?limit=1").into(t, http.StatusOK, &list); len(list.Jobs) != 1 || list.Next != waits.ID {
			t.Errorf("%+v", list)
		}
		list = client.Jobs{}
		if w.get(t, "/v1/jobs?limit=1&after="+waits.ID).into(t, http.StatusOK, &list); len(list.Jobs) != 1 || list.Jobs[0].ID != runs.ID || list.Next != "" {
			t.Errorf("%+v", list)
		}
		var sum client.JobSummary
		if w.get(t, "/v1/jobs/summary").into(t, http.StatusOK, &sum); len(sum.Counts) != 1 || sum.Counts[0].Jobs != 2 || sum.Counts[0].State != "cancelled" {
			t.Errorf("%+v", sum)
		}
		var removed client.Removed
		w.ask(t, http.MethodPost, "/v1/jobs/cleanup?before="+time.Now().Add(time.Hour).UTC().Format(time.RFC3339), nil).into(t, http.StatusOK, &removed)
		if removed.Removed != 2 {
			t.Errorf("%+v", removed)
		}
		w.get(t, "/v1/jobs/"+runs.ID).problem(t, http.StatusNotFound, "unknown_job", "")
	})
}

// TestDrainGivesBack has a server that is stopped leave its job to another, which begins it
// at once and as if it had not been begun.
func TestDrainGivesBack(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		url, rules, begun := stuck(t)
		first := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: rules, Lease: time.Hour, Worker: "first"}})
		var job client.Job
		first.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(fmt.Sprintf(`{"action": "backfill", "dataset": "bars", "max_attempts": 1, "params": {"url": "%s/"}}`, url))).into(t, http.StatusAccepted, &job)
		<-begun
		first.stop()
		err := <-first.ended
		first.ended <- err
		if strings.HasPrefix(dsn, "duckdb") { // one process has the file
			if err := errors.Join(first.jobs.Close(), first.store.Close()); err != nil {
				t.Fatal(err)
			}
		}
		second := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Sources: rules, Worker: "second"}})
		<-begun
		second.get(t, "/v1/jobs/"+job.ID).into(t, http.StatusOK, &job)
		if job.State != "running" || job.Worker != "second" || job.Attempt != 2 || job.MaxAttempts != 2 {
			t.Errorf("%+v", job)
		}
	})
}

// TestJobKeys makes one job of requests with one key.
func TestJobKeys(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Concurrency: -1}})
		ask := func(body string, headers ...string) answer {
			return w.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(body), headers...)
		}
		var one, again, other client.Job
		ask(`{"action": "refresh", "key": "k"}`).into(t, http.StatusAccepted, &one)
		ask(`{"action": "refresh"}`, "Idempotency-Key", "k").into(t, http.StatusAccepted, &again)
		ask(`{"action": "refresh"}`).into(t, http.StatusAccepted, &other)
		if one.ID != again.ID || other.ID == one.ID || one.State != "queued" {
			t.Errorf("%+v, %+v, %+v", one, again, other)
		}
		ask(`{"action": "compact", "key": "k"}`).problem(t, http.StatusUnprocessableEntity, "job_key_reused", "take another one")
		ask(`{"action": "compact", "key": "k"}`, "Idempotency-Key", "j").problem(t, http.StatusBadRequest, "bad_job", "leave one of them out")
		for body, says := range map[string]string{
			`{"action": "fly"}`:                                                     "action: \"fly\" is none: use backfill, refresh",
			`{"action": "refresh", "dataste": ""}`:                                  `there is no member "dataste"`,
			`{"action": "refresh"} {}`:                                              "there is more in the body than one JSON object",
			`{"action": "refresh", "params": [1]}`:                                  "params: are no JSON object",
			`{"action": "refresh", "params": {"a": 1}}`:                             "params and dataset belong to other actions",
			`{"action": "backfill", "dataset": "x"}`:                                `dataset "x": use bars, options, fundamentals, news`,
			`{"action": "backfill", "dataset": "bars", "params": {"files": ["a"]}}`: "this server reads none: its setting jobs.dir names the folder",
			`{"action": "backfill", "dataset": "bars", "all_tenants": true}`:        "a backfill is of one tenant",
			`{"action": "refresh", "start": "soon"}`:                                "start: ",
		} {
			code := "bad_job"
			if strings.Contains(says, "there is no member") || strings.Contains(says, "there is more in the body") {
				code = "unreadable_body"
			}
			ask(body).problem(t, http.StatusBadRequest, code, says)
		}
	})
}

// TestJobsOfOthers are as if they were not there.
func TestJobsOfOthers(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		a, id := k.make(t, "a", time.Time{}, mds.ScopeAdmin)
		b, _ := k.make(t, "b", time.Time{}, mds.ScopeAdmin)
		job := k.job(t, "/refresh/aggregate", "", bearer(a)...)
		if job.By != id || job.Tenant != "a" {
			t.Errorf("%+v", job)
		}
		k.get(t, "/v1/jobs/"+job.ID, bearer(b)...).problem(t, http.StatusNotFound, "unknown_job", "there is no such job")
		k.ask(t, http.MethodPost, "/v1/jobs/"+job.ID+"/cancel", nil, bearer(b)...).problem(t, http.StatusNotFound, "unknown_job", "there is no such job")
		var list client.Jobs
		if k.get(t, "/v1/jobs", bearer(b)...).into(t, http.StatusOK, &list); len(list.Jobs) != 0 {
			t.Errorf("%+v", list)
		}
		if k.get(t, "/v1/jobs", bearer(a)...).into(t, http.StatusOK, &list); len(list.Jobs) != 1 {
			t.Errorf("%+v", list)
		}
		// The operator, who is the admin of a, sees what b has done, not what b has told.
		of := k.job(t, "/v1/jobs", `{"action": "refresh", "symbols": ["SECRET"]}`, bearer(b)...)
		if seen := k.get(t, "/v1/jobs/"+of.ID, bearer(a)...); seen.status != http.StatusOK || !strings.Contains(seen.body, `"tenant":"b"`) || strings.Contains(seen.body, "SECRET") {
			t.Errorf("%d %s", seen.status, seen.body)
		}
		if !strings.Contains(k.get(t, "/v1/jobs/"+of.ID, bearer(b)...).body, "SECRET") {
			t.Error("b does not see its own")
		}
		if k.get(t, "/v1/jobs", bearer(a)...).into(t, http.StatusOK, &list); len(list.Jobs) != 2 {
			t.Errorf("the operator sees %+v", list)
		}
	})
}

// TestActionsOfAll are the operator's, also where the request does not say that they are of all.
func TestActionsOfAll(t *testing.T) {
	keyedEngines(t, func(t *testing.T, k *keyed) {
		b, _ := k.make(t, "b", time.Time{}, mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin)
		for _, body := range []string{`{"action": "policies"}`, `{"action": "migrate"}`, `{"action": "policies", "all_tenants": true}`, `{"action": "refresh", "all_tenants": true}`} {
			k.ask(t, http.MethodPost, "/v1/jobs", strings.NewReader(body), bearer(b)...).problem(t, http.StatusForbidden, "no_operator", "this is about all tenants")
		}
		var list client.Jobs
		if k.get(t, "/v1/jobs", bearer(b)...).into(t, http.StatusOK, &list); len(list.Jobs) != 0 {
			t.Errorf("%+v", list)
		}
	})
}

// TestActionsOfAllDirectly does nothing where a job that was made beside a server is of one.
func TestActionsOfAllDirectly(t *testing.T) {
	done := false
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Jobs: &server.JobsConfig{Migrate: func(context.Context) error { done = true; return nil }}})
	job, _, err := w.jobs.Enqueue(t.Context(), mds.Job{Action: mds.JobMigrate, Tenant: mds.DefaultTenant()})
	if err != nil {
		t.Fatal(err)
	}
	await(t, "it has ended", func() bool {
		job, err = w.jobs.Job(t.Context(), job.ID)
		return err != nil || job.State.Ended()
	})
	if err != nil || job.State != mds.JobFailed || done || !strings.Contains(job.Error, "migrate is about all tenants, and the job of one") {
		t.Errorf("%+v, %v, done: %t", job, err, done)
	}
}

// TestRemoteJobs are those of the store behind a server.
func TestRemoteJobs(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{Concurrency: -1}})
		st, err := store.Open(t.Context(), w.url, store.Config{})
		if err != nil {
			t.Fatal(err)
		}
		defer st.Close()
		jobs, err := store.OpenJobs(t.Context(), st)
		if err != nil {
			t.Fatal(err)
		}
		start := time.Date(2026, 1, 2, 3, 4, 5, 6000, time.UTC)
		kept, _, err := jobs.Enqueue(t.Context(), mds.Job{
			Tenant: mds.DefaultTenant(), Action: mds.JobRefresh, Name: "n", Key: "k", Priority: 3, Symbols: []string{"A"}, Start: start, End: start.Add(time.Hour), NotBefore: start, MaxAttempts: 7,
		})
		if err != nil {
			t.Fatal(err)
		}
		got, err := jobs.Job(t.Context(), kept.ID)
		if err != nil || got.State != mds.JobQueued || got.Name != "n" || got.Priority != 3 || !slices.Equal(got.Symbols, []string{"A"}) || !got.Start.Equal(start) || got.MaxAttempts != 7 || got.Tenant.Slug != "default" {
			t.Errorf("%+v, %v", got, err)
		}
		if _, _, err := jobs.Enqueue(t.Context(), mds.Job{Tenant: mds.DefaultTenant(), Action: mds.JobCompact, Key: "k"}); !errors.Is(err, mds.ErrJobKey) {
			t.Error(err)
		}
		if _, err := jobs.Job(t.Context(), "nothing"); !errors.Is(err, mds.ErrUnknownJob) {
			t.Error(err)
		}
		if job, err := jobs.Cancel(t.Context(), kept.ID); err != nil || job.State != mds.JobCancelled {
			t.Errorf("%+v, %v", job, err)
		}
		if list, err := jobs.List(t.Context(), mds.JobFilter{States: []mds.JobState{mds.JobCancelled}}); err != nil || len(list) != 1 {
			t.Errorf("%+v, %v", list, err)
		}
		if counts, err := jobs.Summary(t.Context(), mds.JobFilter{}); err != nil || len(counts) != 1 || counts[0].Jobs != 1 {
			t.Errorf("%+v, %v", counts, err)
		}
		if n, err := jobs.Cleanup(t.Context(), time.Now().Add(time.Hour)); err != nil || n != 1 {
			t.Error(n, err)
		}
	})
}
