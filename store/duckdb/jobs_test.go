package duckdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// enqueueJob makes a job of all.
func enqueueJob(t testing.TB, j *Jobs, name string) mds.Job {
	t.Helper()
	job, _, err := j.Enqueue(context.Background(), mds.Job{Action: mds.JobBackfill, Name: name})
	if err != nil {
		t.Fatal(err)
	}
	return job
}

func claimJob(t testing.TB, j *Jobs) mds.Job {
	t.Helper()
	job, ok, err := j.Claim(context.Background(), "w", "v1", mds.JobActions(), time.Hour)
	if err != nil || !ok {
		t.Fatal(ok, err)
	}
	return job
}

// filesIn are those of the files in a folder.
func filesIn(t *testing.T, dir string) (names []string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}

// TestJobFile has the file made by the first job, and not before, nor by one that is
// refused; it is no tenant's, and nothing else is left in the folder.
func TestJobFile(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	j := OpenJobs(s)
	_, ok, err1 := j.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour)
	list, err2 := j.List(ctx, mds.JobFilter{})
	_, err3 := j.Summary(ctx, mds.JobFilter{})
	_, err4 := j.Cleanup(ctx, time.Now())
	if err := errors.Join(err1, err2, err3, err4); err != nil || ok || len(list) > 0 {
		t.Fatal(ok, list, err)
	}
	acme, err := mds.NewTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := j.Enqueue(ctx, mds.Job{Action: mds.JobBackfill, Tenant: acme}); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("a job of nobody: %v", err)
	}
	if got := filesIn(t, dir); len(got) != 0 {
		t.Errorf("before there are %q", got)
	}
	enqueueJob(t, j, "x")
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	if got := filesIn(t, dir); !slices.Equal(got, []string{"_jobs.duckdb"}) {
		t.Errorf("then there are %q", got)
	}
	if tenants, err := s.Tenants(ctx); err != nil || len(tenants) != 1 {
		t.Errorf("tenants %v, %v", tenants, err)
	}
	if _, err := j.List(ctx, mds.JobFilter{}); !errors.Is(err, errClosed) {
		t.Errorf("after Close: %v", err)
	}
	if job := claimJob(t, OpenJobs(s)); job.Name != "x" {
		t.Errorf("claimed %+v", job)
	}
}

// TestJobsReadOnly reads jobs, and changes none.
func TestJobsReadOnly(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	if list, err := OpenJobs(open(t, dir, Config{ReadOnly: true})).List(ctx, mds.JobFilter{}); err != nil || len(list) != 0 {
		t.Errorf("of no jobs: %v, %v", list, err)
	}
	s := open(t, dir, Config{})
	job := enqueueJob(t, OpenJobs(s), "x")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	j := OpenJobs(open(t, dir, Config{ReadOnly: true}))
	if list, err := j.List(ctx, mds.JobFilter{}); err != nil || len(list) != 1 {
		t.Errorf("%v, %v", list, err)
	}
	_, _, err1 := j.Enqueue(ctx, mds.Job{Action: mds.JobBackfill})
	_, _, err2 := j.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour)
	_, err3 := j.Cancel(ctx, job.ID)
	_, err4 := j.Cleanup(ctx, time.Now())
	for _, err := range []error{err1, err2, err3, err4} {
		if !errors.Is(err, errReadOnly) {
			t.Error(err)
		}
	}
}

// jobsKilled makes the test binary be a process that works on jobs until it is killed, and
// jobsHeld one that holds them until its input ends.
const (
	jobsKilled = "MDS_TEST_JOBS_KILLED"
	jobsHeld   = "MDS_TEST_JOBS_HELD"
)

// workUntilKilled makes a job, claims it, has two parts of it done and ends it, and says each
// once it is acknowledged.
func workUntilKilled(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, dir, Config{})
	must := func(what string, err error) {
		if err != nil {
			fmt.Println(what, err)
			os.Exit(1)
		}
	}
	must("open", err)
	j := OpenJobs(s)
	for {
		job, _, err := j.Enqueue(ctx, mds.Job{Action: mds.JobBackfill, MaxAttempts: 1000})
		must("enqueue", err)
		fmt.Println("queued", job.ID)
		job, _, err = j.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour)
		must("claim", err)
		fmt.Println("running", job.ID)
		for part := range 2 {
			job.PartsDone++
			must("part", j.PartDone(ctx, job, mds.JobPart{Name: strconv.Itoa(part)}))
			fmt.Println("part", job.ID)
			_, err = j.Beat(ctx, job, time.Hour)
			must("beat", err)
		}
		must("finish", j.Finish(ctx, job, mds.JobDone, time.Time{}))
		fmt.Println("done", job.ID)
	}
}

// TestKilledWhileWorkingOnJobs kills a process that works on jobs, ten times over: what it
// acknowledged is there, and the file opens.
func TestKilledWhileWorkingOnJobs(t *testing.T) {
	ctx := context.Background()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	order := []string{"queued", "running", "done"}
	acknowledged, parts := map[string]string{}, map[string]int{}
	for round := range 10 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), jobsKilled+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := 3 + 7*round
		for lines := bufio.NewScanner(out); lines.Scan(); {
			var what, id string
			if _, err := fmt.Sscan(lines.Text(), &what, &id); err != nil || !slices.Contains(append(order, "part"), what) {
				t.Errorf("round %d: %s", round, lines.Text())
			}
			if what == "part" {
				parts[id]++
			} else {
				acknowledged[id] = what
			}
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil { // what it says yet is acknowledged, too
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		s, err := Open(ctx, dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		j := OpenJobs(s)
		for id, state := range acknowledged {
			job, err := j.Job(ctx, id)
			if err != nil {
				t.Fatalf("round %d: job %s that was %s: %v", round, id, state, err)
			}
			if slices.Index(order, string(job.State)) < slices.Index(order, state) {
				t.Errorf("round %d: job %s is %s, and was %s", round, id, job.State, state)
			}
			kept, err := j.Parts(ctx, id)
			if err != nil || len(kept) < parts[id] || job.PartsDone != int64(len(kept)) {
				t.Errorf("round %d: job %s has %d parts, %d says it, %v; acknowledged were %d", round, id, len(kept), job.PartsDone, err, parts[id])
			}
		}
		if list, err := j.List(ctx, mds.JobFilter{}); err != nil || len(list) < len(acknowledged) || len(list) > len(acknowledged)+10 {
			t.Errorf("round %d: %d jobs, %v; acknowledged were %d", round, len(list), err, len(acknowledged))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if len(acknowledged) < 20 {
		t.Errorf("%d jobs in ten rounds", len(acknowledged))
	}
}

// holdJobs has the file until its input ends.
func holdJobs(dir string) {
	s, err := Open(context.Background(), dir, Config{})
	if err == nil {
		_, err = OpenJobs(s).Job(context.Background(), "1")
	}
	fmt.Println("held", err)
	_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
	os.Exit(0)
}

// TestJobsOfAnotherProcess has another process have the jobs: each call says which, and a
// tenant is not removed without its jobs.
func TestJobsOfAnotherProcess(t *testing.T) {
	ctx := context.Background()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir, Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	j := OpenJobs(s)
	if _, _, err := j.Enqueue(ctx, mds.Job{Action: mds.JobBackfill, Tenant: acme}); err != nil {
		t.Fatal(err)
	}
	if err := j.Close(); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), jobsHeld+"="+dir)
	in, err1 := cmd.StdinPipe()
	out, err2 := cmd.StdoutPipe()
	if err := errors.Join(err1, err2, cmd.Start()); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || line != "held <nil>\n" {
		t.Fatal(line, err)
	}
	j = OpenJobs(s)
	_, _, err1 = j.Enqueue(ctx, mds.Job{Action: mds.JobBackfill})
	_, err2 = j.List(ctx, mds.JobFilter{})
	for what, err := range map[string]error{"enqueue": err1, "list": err2, "remove": s.RemoveTenant(ctx, acme)} {
		var locked *LockedError
		if !errors.As(err, &locked) || !strings.HasSuffix(locked.Path, "_jobs.duckdb") || !strings.Contains(err.Error(), fmt.Sprintf("(PID %d)", cmd.Process.Pid)) {
			t.Errorf("%s: %v", what, err)
		}
	}
	if err := errors.Join(in.Close(), cmd.Wait()); err != nil {
		t.Fatal(err)
	}
	if list, err := j.List(ctx, mds.JobFilter{}); err != nil || len(list) != 1 {
		t.Errorf("then there are %v, %v", list, err)
	}
	if err := s.RemoveTenant(ctx, acme); err != nil {
		t.Error(err)
	}
}

// TestJobFileIsAnother refuses files that are something else, in one sentence each.
func TestJobFileIsAnother(t *testing.T) {
	for name, c := range map[string]struct {
		make func(t *testing.T, path string)
		want string
	}{
		"a tenant's": {func(t *testing.T, path string) {
			s := open(t, t.TempDir(), Config{})
			write(t, s, bars(1, 1))
			if err := errors.Join(s.Close(), os.Rename(filepath.Join(s.Dir(), "default.duckdb"), path)); err != nil {
				t.Fatal(err)
			}
		}, "is a DuckDB database of something else than jobs; move it away"},
		"no database": {func(t *testing.T, path string) {
			if err := os.WriteFile(path, []byte(strings.Repeat("no database ", 10_000)), 0o600); err != nil {
				t.Fatal(err)
			}
		}, "is not a DuckDB database"},
		"a folder": {func(t *testing.T, path string) {
			if err := os.Mkdir(path, 0o700); err != nil {
				t.Fatal(err)
			}
		}, "is a folder"},
		"a newer one": {func(t *testing.T, path string) {
			s := open(t, filepath.Dir(path), Config{})
			enqueueJob(t, OpenJobs(s), "x")
			err := s.jobs.with(context.Background(), false, func() error {
				_, err := s.jobs.conn.ExecContext(context.Background(), "INSERT INTO mds_job_migrations VALUES (99, 'x', now()::TIMESTAMP)")
				return err
			})
			if err := errors.Join(err, s.Close()); err != nil {
				t.Fatal(err)
			}
		}, "has schema version 99 and this program understands versions up to 2"},
	} {
		t.Run(name, func(t *testing.T) {
			path := filepath.Join(t.TempDir(), jobFileName)
			c.make(t, path)
			j := OpenJobs(open(t, filepath.Dir(path), Config{}))
			_, _, err1 := j.Enqueue(context.Background(), mds.Job{Action: mds.JobBackfill})
			_, err2 := j.List(context.Background(), mds.JobFilter{})
			for _, err := range []error{err1, err2} {
				if err == nil || !strings.Contains(err.Error(), path+" "+c.want) || strings.Contains(err.Error(), "\n") || !mds.Unavailable(err) {
					t.Error(err)
				}
			}
		})
	}
}

// jobBytes is the size of the file and its log.
func jobBytes(t testing.TB, dir string) (n int64) {
	t.Helper()
	for _, name := range []string{jobFileName, jobFileName + ".wal"} {
		if stat, err := os.Stat(filepath.Join(dir, name)); err == nil {
			n += stat.Size()
		}
	}
	return n
}

// TestJobFileStaysSmall has a job say that it is there for a long time, beside others that
// have ended, while somebody looks for work: the file and its log stay within a bound, and
// give the room of jobs that are cleaned up to others.
func TestJobFileStaysSmall(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	j := OpenJobs(open(t, dir, Config{}))
	manyJobs(t, j, 10_000)
	enqueueJob(t, j, "long")
	job := claimJob(t, j)
	filled := jobBytes(t, dir)
	most := filled
	for n := range 4_000 {
		job.Written, job.Note = int64(n), fmt.Sprintf("file %d of 4000: /data/2024/03/05/%04d.csv.gz", n, n)
		if _, err := j.Beat(ctx, job, time.Hour); err != nil {
			t.Fatal(err)
		}
		most = max(most, jobBytes(t, dir))
	}
	if most > filled+4<<20 {
		t.Errorf("it grew from %d to %d bytes", filled, most)
	}
	before := jobBytes(t, dir)
	for range 500 {
		if _, ok, err := j.Claim(ctx, "w", "v1", mds.JobActions(), time.Hour); err != nil || ok {
			t.Fatal(ok, err)
		}
	}
	if after := jobBytes(t, dir); after != before {
		t.Errorf("looking for work took it from %d to %d bytes", before, after)
	}
	for range 5 {
		if n, err := j.Cleanup(ctx, time.Now().Add(time.Hour)); err != nil || n != 10_000 {
			t.Fatal(n, err)
		}
		manyJobs(t, j, 10_000)
		if _, err := j.Beat(ctx, job, time.Hour); err != nil {
			t.Fatal(err)
		}
	}
	t.Logf("%d bytes with 10,000 jobs, at most %d with 4,000 beats, %d after five times as many jobs", filled, most, jobBytes(t, dir))
	if after := jobBytes(t, dir); after > filled+4<<20 {
		t.Errorf("cleaned up and filled again it has %d bytes, and had %d", after, filled)
	}
}

// manyJobs are so many that have ended.
func manyJobs(t testing.TB, j *Jobs, n int) {
	t.Helper()
	ctx := context.Background()
	err := j.change(ctx, "fill", true, func(f *jobFile) error {
		_, err := f.conn.ExecContext(ctx, fmt.Sprintf(`INSERT INTO jobs (tenant_id, tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, starts_at, ends_at, fingerprint, asked_by, max_attempts, state, created_at, started_at, finished_at, heartbeat_at, worker, version, attempt, parts, parts_done, written, note)
			SELECT '%s', 'default', 'backfill', 'bars of 2024', '{"files":["/data/2024/03/05.csv.gz"],"format":"csv"}', 'key-' || n, 0, 'backfill', 'bars', 'yahoo', ['AAPL', 'MSFT'], '2024-01-01', '2025-01-01', md5(n::text), '0123456789ab', 5,
				CASE WHEN n %% 100 = 0 THEN 'failed' ELSE 'done' END, t, t, t, t, 'host-1:4711', 'v1.2.3', 1, 12, 12, 123456, 'file 12 of 12'
			FROM (SELECT n, TIMESTAMP '2024-01-01' + n * INTERVAL '1 minute' AS t FROM generate_series(1, %d) s (n))`, mds.DefaultTenant().ID, n))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
}

// BenchmarkJobs lists 10,000 jobs, and a page of them, and claims and ends jobs beside as
// many that have ended.
func BenchmarkJobs(b *testing.B) {
	ctx := context.Background()
	filled := func(b *testing.B, n int) *Jobs {
		j := OpenJobs(benchStore(b, Config{}))
		manyJobs(b, j, n)
		return j
	}
	list := func(n, limit int) func(*testing.B) {
		return func(b *testing.B) {
			j := filled(b, n)
			b.ReportAllocs()
			for b.Loop() {
				if list, err := j.List(ctx, mds.JobFilter{Limit: limit}); err != nil || len(list) != min(n, limit) {
					b.Fatal(len(list), err)
				}
			}
		}
	}
	b.Run("list10k", list(10_000, 10_000))
	b.Run("page100of10k", list(10_000, 100))
	b.Run("page100of100k", list(100_000, 100))
	for _, n := range []int{10_000, 100_000} {
		b.Run(fmt.Sprint("claim/", n), func(b *testing.B) {
			j := filled(b, n)
			for range b.N {
				enqueueJob(b, j, "x")
			}
			b.ResetTimer()
			for range b.N {
				if err := j.Finish(ctx, claimJob(b, j), mds.JobDone, time.Time{}); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "jobs/s")
		})
	}
}
