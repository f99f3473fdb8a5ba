package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// onPostgres is a PostgreSQL store that servers may serve: it has a key, and the CLI's.
func onPostgres(t *testing.T) *cli {
	t.Helper()
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	c.apiKey = strings.TrimSpace(c.must("keys", "create", "--scopes", "read,write,admin", "--admin-dsn", d.Owner).stdout)
	return c
}

// serveWith starts a server with more in its environment.
func (c *cli) serveWith(env map[string]string) *serving {
	c.t.Helper()
	more := *c
	more.env = env
	return more.serve()
}

// jobOf is a job that the command shows.
func (c *cli) jobOf(id string, args ...string) client.Job {
	c.t.Helper()
	var job client.Job
	if out := c.run(append([]string{"jobs", "show", id}, args...)...); json.Unmarshal([]byte(out.stdout), &job) != nil {
		c.t.Fatalf("exit %d: %s%s", out.exit, out.stdout, out.stderr)
	}
	return job
}

// TestJobs has a server do things, by the commands, in both ways that lead to it.
func TestJobs(t *testing.T) {
	t.Setenv("MDS_SERVE_OPERATOR_TENANT", "default")
	in := t.TempDir()
	if err := os.WriteFile(filepath.Join(in, "MSFT.csv"), []byte("ts,close\n2026-01-02,1\n2026-01-05,2\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	test := func(t *testing.T, c *cli, s *serving, direct bool) {
		at := []string{"--server", s.url}
		if direct {
			at = nil
		}
		run := func(args ...string) outcome {
			return c.run(append(args, at...)...)
		}
		out := run("jobs", "enqueue", "backfill", "--name", "two days", "--dataset", "bars", "--vendor", "yahoo", "--key", "once", "--params", `{"files": ["*.csv"], "symbol_from": "filename", "fixed": {"timeframe": "1d"}}`)
		id := strings.TrimSpace(out.stdout)
		if out.exit != exitDone || id == "" {
			t.Fatalf("exit %d: %s", out.exit, out.stderr)
		}
		follow := run("jobs", "show", id, "--follow")
		var job client.Job
		if err := json.Unmarshal([]byte(follow.stdout), &job); err != nil || follow.exit != exitDone || job.State != "done" || job.Written != 2 || job.Name != "two days" || job.Version == "" {
			t.Errorf("exit %d: %s%s", follow.exit, follow.stdout, follow.stderr)
		}
		if !strings.Contains(follow.stderr, "done: 1 of 1 parts, 2 written, 0 failed\n") {
			t.Errorf("it followed %q", follow.stderr)
		}
		if out := run("query", "bars", "--symbol", "MSFT", "--format", "csv"); direct && strings.Count(out.stdout, "\n") != 3 {
			t.Errorf("the store has %s%s", out.stdout, out.stderr)
		}
		if out := run("query", "bars", "--every", "1mo", "--as-refreshed"); !direct && (out.exit != exitDone || out.stderr != "how fresh the rollups are that a server answers with it does not tell; mds policies status does\n") {
			t.Errorf("exit %d: %s", out.exit, out.stderr)
		}
		bad := run("jobs", "enqueue", "backfill", "--dataset", "bars", "--params", `{"files": ["none.csv"]}`)
		if direct { // it is kept for whoever may have the file, and fails there
			bad = run("jobs", "show", strings.TrimSpace(bad.stdout), "--follow")
		}
		if bad.exit != exitFailed || !strings.Contains(bad.stderr, "files: there is no none.csv in the folder that this server reads") {
			t.Errorf("exit %d: %s", bad.exit, bad.stderr)
		}
		for args, says := range map[string]string{
			"backfill":                `say which kind: --dataset bars, options, fundamentals, news or rollups`,
			"backfill --dataset bars": `--params: say what to backfill: '{"files": ["daily/*.csv"]}' or '{"url": "https://…/{symbol}.csv"}'`,
			"export --dataset bars":   `--params: say what to export: '{"out": "bars.csv.zst"}'`,
		} {
			if out := run(append([]string{"jobs", "enqueue"}, strings.Fields(args)...)...); out.exit != exitUsage || !strings.Contains(out.stderr, says) {
				t.Errorf("%s: exit %d: %s", args, out.exit, out.stderr)
			}
		}
		list := run("jobs", "list", "--state", "done")
		if list.exit != exitDone || !strings.Contains(list.stdout, "two days") || !strings.Contains(list.stdout, "backfill") {
			t.Errorf("exit %d: %s%s", list.exit, list.stdout, list.stderr)
		}
		if out := run("jobs", "summary"); !regexp.MustCompile(`backfill +done +1 +2 +0`).MatchString(out.stdout) {
			t.Errorf("%s%s", out.stdout, out.stderr)
		}
		if out := run("jobs", "stuck"); out.exit != exitDone || !strings.Contains(out.stderr, "no job is stuck") {
			t.Errorf("%s%s", out.stdout, out.stderr)
		}
		later := strings.TrimSpace(run("jobs", "enqueue", "refresh", "--not-before", "2200-01-01").stdout)
		if out := run("jobs", "cancel", later); out.stdout != later+" is cancelled\n" {
			t.Errorf("%s%s", out.stdout, out.stderr)
		}
		if out := run("jobs", "show", later, "--follow"); out.exit != exitFailed || !strings.Contains(out.stderr, "the job was cancelled") {
			t.Errorf("exit %d: %s", out.exit, out.stderr)
		}
		if out := run("jobs", "cleanup", "--older-than", "0s"); out.exit != exitDone || !strings.Contains(out.stdout, "removed") {
			t.Errorf("%s%s", out.stdout, out.stderr)
		}
		if out := run("jobs", "show", id); out.exit != exitFailed || !strings.Contains(out.stderr, "there is no such job") {
			t.Errorf("exit %d: %s", out.exit, out.stderr)
		}
	}
	t.Run("DuckDB through a server", func(t *testing.T) {
		c := newCLI(t)
		test(t, c, c.serveWith(map[string]string{"MDS_JOBS_DIR": in}), false)
	})
	t.Run("PostgreSQL through a server", func(t *testing.T) {
		c := onPostgres(t)
		test(t, c, c.serveWith(map[string]string{"MDS_JOBS_DIR": in}), false)
	})
	t.Run("PostgreSQL", func(t *testing.T) {
		c := onPostgres(t)
		test(t, c, c.serveWith(map[string]string{"MDS_JOBS_DIR": in}), true)
	})
}

// TestJobFolders says of folders that are not there, and of headers that are none, where they are.
func TestJobFolders(t *testing.T) {
	headers := t.TempDir()
	if err := os.WriteFile(filepath.Join(headers, "api.example.com"), []byte("# ours\nX-Api-Key: geheim\nno header\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		env  map[string]string
		says string
	}{
		{map[string]string{"MDS_JOBS_DIR": "/nowhere/in"}, `MDS_JOBS_DIR is "/nowhere/in": there is no such folder`},
		{map[string]string{"MDS_JOBS_EXPORTS": "/nowhere/out"}, `MDS_JOBS_EXPORTS is "/nowhere/out": there is no such folder`},
		{map[string]string{"MDS_JOBS_HEADERS_DIR": "/nowhere/h"}, `MDS_JOBS_HEADERS_DIR is "/nowhere/h": there is no such folder`},
		{map[string]string{"MDS_JOBS_HEADERS_DIR": headers, "MDS_JOBS_HOSTS": "api.example.com"}, filepath.Join(headers, "api.example.com") + ":3: it is no header: write Name: value"},
	} {
		c := newCLI(t)
		c.env = tt.env
		if out := c.run("serve", "--listen", "127.0.0.1:0"); out.exit != exitUsage || !strings.Contains(out.stderr, tt.says) || strings.Contains(out.stderr, "geheim") {
			t.Errorf("%v: exit %d, %s", tt.env, out.exit, out.stderr)
		}
	}
}

// TestTakenOver kills the server that runs a backfill, with kill -9 in the middle of a part:
// another server goes on with the parts that are not done, and no row is lost or there twice.
func TestTakenOver(t *testing.T) {
	const days = 12
	var mu sync.Mutex
	asked := make(map[string]int)
	halfway := make(chan struct{})
	vendor := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		day := r.URL.Query().Get("day")
		mu.Lock()
		asked[day]++
		first := asked[day] == 1
		mu.Unlock()
		at, err := time.Parse(time.DateOnly, day)
		if err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		fmt.Fprintln(w, "ts,close")
		for minute := range 1440 {
			if minute == 720 && day == "2026-01-06" && first {
				w.(http.Flusher).Flush()
				close(halfway)
				<-r.Context().Done() // the server that asked has gone
				return
			}
			fmt.Fprintf(w, "%s,1\n", at.Add(time.Duration(minute)*time.Minute).Format(time.RFC3339))
		}
	}))
	defer vendor.Close()
	c := onPostgres(t)
	env := map[string]string{"MDS_JOBS_HOSTS": strings.TrimPrefix(vendor.URL, "http://"), "MDS_JOBS_LEASE": "6s", "MDS_COORDINATOR_BATCH_SIZE": "100", "MDS_COORDINATOR_FLUSH_INTERVAL": "1ms"}
	one := c.serveWith(env)
	id := strings.TrimSpace(c.must("jobs", "enqueue", "backfill", "--dataset", "bars", "--vendor", "v", "--symbols", "A", "--start", "2026-01-01", "--end", "2026-01-13",
		"--params", `{"url": "`+vendor.URL+`/?day={start}&symbol={symbol}", "step": "1d", "fixed": {"timeframe": "1m"}}`).stdout)
	<-halfway
	other := c.serveWith(env)
	before := c.jobOf(id)
	if before.State != "running" || before.PartsDone != 5 {
		t.Errorf("before it is killed: %+v", before)
	}
	if err := one.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	out := c.run("jobs", "show", id, "--follow")
	var job client.Job
	if err := json.Unmarshal([]byte(out.stdout), &job); err != nil || job.State != "done" || job.Attempt != 2 || job.Parts != days || job.PartsDone != days || job.Worker == before.Worker {
		t.Errorf("exit %d: %s%s", out.exit, out.stdout, out.stderr)
	}
	if job.Written != days*1440 {
		t.Errorf("%d are told to be written", job.Written)
	}
	if got := len(c.storedCloses()); got != days*1440 {
		t.Errorf("%d bars are stored, want %d", got, days*1440)
	}
	for day, n := range asked {
		if want := 1; day != "2026-01-06" && n != want || day == "2026-01-06" && n != 2 {
			t.Errorf("%s was asked for %d times", day, n)
		}
	}
	if len(asked) != days {
		t.Errorf("asked for %v", asked)
	}
	if err := other.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := other.Wait(); err != nil {
		t.Error(err, other.said)
	}
}

// TestThousandJobs has two servers run a thousand jobs, each once.
func TestThousandJobs(t *testing.T) {
	const n = 1000
	c := onPostgres(t)
	st, err := store.Open(t.Context(), c.dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	jobs, err := store.OpenJobs(t.Context(), st)
	if err != nil {
		t.Fatal(err)
	}
	defer jobs.Close()
	for i := range n {
		if _, _, err := jobs.Enqueue(t.Context(), mds.Job{Tenant: mds.DefaultTenant(), Action: mds.JobRefresh, Name: strconv.Itoa(i)}); err != nil {
			t.Fatal(err)
		}
	}
	begun := time.Now()
	one, other := c.serve(), c.serve()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		counts, err := jobs.Summary(t.Context(), mds.JobFilter{})
		if err != nil {
			t.Fatal(err)
		}
		if len(counts) == 1 && counts[0].State == mds.JobDone {
			break
		}
		<-tick.C
	}
	t.Logf("%d jobs on two servers in %s", n, time.Since(begun).Round(time.Millisecond))
	list, err := jobs.List(t.Context(), mds.JobFilter{})
	if err != nil {
		t.Fatal(err)
	}
	workers := make(map[string]int)
	for i := range list {
		workers[list[i].Worker]++
		if list[i].Attempt != 1 {
			t.Errorf("job %s was begun %d times", list[i].ID, list[i].Attempt)
		}
	}
	if len(list) != n || len(workers) != 2 {
		t.Errorf("%d jobs, by %v", len(list), workers)
	}
	var ran []int
	for _, s := range []*serving{one, other} {
		ran = append(ran, c.runsOf(s))
	}
	if ran[0]+ran[1] != n || slices.Contains(ran, 0) {
		t.Errorf("they count %v", ran)
	}
}

// runsOf is how many jobs a server says that it has done.
func (c *cli) runsOf(s *serving) int {
	c.t.Helper()
	r, err := http.NewRequest(http.MethodGet, s.url+"/metrics", nil)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+c.apiKey)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		c.t.Fatal(err)
	}
	found := regexp.MustCompile(`(?m)^store_job_runs_total\{name="refresh",status="done"\} (\d+)$`).FindStringSubmatch(string(text))
	if found == nil {
		c.t.Fatalf("no count in %s", text)
	}
	n, err := strconv.Atoi(found[1])
	if err != nil {
		c.t.Fatal(err)
	}
	return n
}

// TestPoliciesOfATenantMadeElsewhere carries policies out of a tenant that another process made
// while the server had the files, too.
func TestPoliciesOfATenantMadeElsewhere(t *testing.T) {
	c := newCLI(t)
	old := testFile(t, "bars.csv", "vendor,symbol,timeframe,ts,close\nv,A,1m,2020-01-06T14:30:00Z,1\n")
	c.must("ingest", "bars", old)
	c.must("policies", "apply", testFile(t, "policies.toml", "[bars.1m]\ndrop_after = \"30d\"\nrollups = [\"1d\"]\n"), "--yes")
	s := c.serve()
	c.must("tenant", "create", "acme")
	tenants := []string{"acme", "default"}
	for _, tenant := range tenants {
		c.must("ingest", "bars", old, "--server", s.url, "--tenant", tenant)
	}
	id := strings.TrimSpace(c.must("jobs", "enqueue", "policies", "--server", s.url).stdout)
	c.must("jobs", "show", id, "--follow", "--server", s.url)
	for _, tenant := range tenants {
		if out := c.must("query", "bars", "--format", "csv", "--server", s.url, "--tenant", tenant); strings.Contains(out.stdout, "v,A,1m") {
			t.Errorf("%s: %s", tenant, out.stdout)
		}
		if out := c.must("query", "rollups", "--format", "csv", "--server", s.url, "--tenant", tenant); !strings.Contains(out.stdout, "v,A,1d,1m,2020-01-06") {
			t.Errorf("%s: %s", tenant, out.stdout)
		}
	}
}
