package duckdb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// longJob is one as long as it may be, unlike the others.
func longJob(n int) mds.Job {
	job := mds.Job{Action: mds.JobBackfill, Params: json.RawMessage(fmt.Sprintf(`{"x":"%s"}`, strings.Repeat(fmt.Sprintf("%05dé,", n), 8_000)))}
	for i := range 6_000 {
		job.Symbols = append(job.Symbols, fmt.Sprintf("S%d.%d", n, i))
	}
	return job
}

// TestManyLongJobs has more long jobs than the memory of the file would have, and more short ones
// that have ended than may wait: each is whole, is begun, ends, is cancelled and is removed, also
// after the file is opened anew, and the memory does.
func TestManyLongJobs(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s := open(t, dir, Config{})
	j := OpenJobs(s)
	manyJobs(t, j, 130_000)
	const long = 600
	var first string
	for n := range long {
		job, made, err := j.Enqueue(ctx, longJob(n))
		if err != nil || !made {
			t.Fatal(n, made, err)
		}
		if n == 0 {
			first = job.ID
		}
	}
	work := func(n int) {
		t.Helper()
		job := claimJob(t, j)
		if want := longJob(n); string(job.Params) != string(want.Params) || !slices.Equal(job.Symbols, want.Symbols) {
			t.Errorf("job %d: params of %d bytes, %d symbols", n, len(job.Params), len(job.Symbols))
		}
		_, err1 := j.Beat(ctx, job, time.Hour)
		err2 := j.PartDone(ctx, job, mds.JobPart{Name: "x"})
		if err := errors.Join(err1, err2, j.Finish(ctx, job, mds.JobDone, time.Time{})); err != nil {
			t.Error(err)
		}
	}
	for n := range 100 {
		work(n)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	j = OpenJobs(s)
	for n := range 100 {
		work(100 + n)
	}
	list, err := j.List(ctx, mds.JobFilter{States: []mds.JobState{mds.JobQueued}})
	if err != nil || len(list) != long-200 {
		t.Fatal(len(list), err)
	}
	for _, job := range list[:200] {
		if _, err := j.Cancel(ctx, job.ID); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := j.Cleanup(ctx, time.Now().Add(time.Hour)); err != nil || n != 130_000+200+200 {
		t.Error(n, err)
	}
	if _, err := j.Job(ctx, first); !errors.Is(err, mds.ErrUnknownJob) {
		t.Error(err)
	}
	work(200)
	left, _, err := value[int64](ctx, s.jobs, "SELECT count(DISTINCT job_id) FROM job_texts", nil)
	if err != nil || left != 200 || s.jobs.roomy {
		t.Errorf("texts of %d jobs are left, %v; more memory was needed: %v", left, err, s.jobs.roomy)
	}
}

// TestTooManyJobsWait bounds how many jobs of a tenant wait, and does not count those of others,
// nor those that have ended, nor one that is there under its key.
func TestTooManyJobsWait(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	j := OpenJobs(s)
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	asked := mds.Job{Action: mds.JobBackfill, Tenant: acme, Key: "k"}
	first, _, err := j.Enqueue(ctx, asked)
	if err != nil {
		t.Fatal(err)
	}
	manyJobs(t, j, 10)
	err = j.change(ctx, "fill", true, func(f *jobFile) error {
		_, err := f.conn.ExecContext(ctx, "INSERT INTO jobs BY NAME SELECT jobs.* REPLACE (nextval('job_ids') AS id, '' AS key) FROM jobs, range(9999) WHERE id = $1::bigint", first.ID)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if got, made, err := j.Enqueue(ctx, asked); err != nil || made || got.ID != first.ID {
		t.Errorf("under the key: %s, %v, %v", got.ID, made, err)
	}
	asked.Key = "another"
	want := "too many jobs wait: there are 10000 already; make it when some have ended, or cancel some"
	if _, made, err := j.Enqueue(ctx, asked); !errors.Is(err, mds.ErrJobsWaiting) || made || err.Error() != want {
		t.Errorf("another: %v, %v", made, err)
	}
	enqueueJob(t, j, "of all")
	if _, err := j.Cancel(ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	if _, made, err := j.Enqueue(ctx, asked); err != nil || !made {
		t.Errorf("after one has ended: %v, %v", made, err)
	}
}

// TestCommittedIsNoFailure has a file get longer texts than its memory has, as one of before was:
// what is committed is told as done, though the checkpoint after it failed, and all goes on.
func TestCommittedIsNoFailure(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	j := OpenJobs(s)
	enqueueJob(t, j, "x")
	const most = 700
	for n := range most {
		err := j.change(ctx, "fill", true, func(f *jobFile) error { return longRow(ctx, f, n) })
		if err != nil {
			t.Fatal(n, err)
		}
	}
	if !s.jobs.roomy {
		t.Error("its memory did")
	}
	if list, err := j.List(ctx, mds.JobFilter{}); err != nil || len(list) != 1+most {
		t.Errorf("%d jobs, %v", len(list), err)
	}
}

// longRow is a job whose params stand with it.
func longRow(ctx context.Context, f *jobFile, n int) error {
	_, err := f.conn.ExecContext(ctx, `INSERT INTO jobs (tenant, action, name, params, key, priority, mode, dataset, vendor, symbols, fingerprint, asked_by, max_attempts, state, created_at)
		VALUES ('', 'backfill', '', $1, '', 0, '', '', '', ['AAPL', 'MSFT'], '', '', 5, 'queued', '2026-01-01')`, fmt.Sprintf(`{"x":"%s"}`, strings.Repeat(fmt.Sprintf("%05d", n), 12_000)))
	return err
}

// TestJobFileOfBefore opens a file that a program without bounds has filled: its jobs are as they
// were, the short and the long, and it needs no more memory at its next use.
func TestJobFileOfBefore(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	steps, err := readMigrations(jobMigrations, "migrations/jobs", 1)
	if err != nil {
		t.Fatal(err)
	}
	f := newJobFile(dir, false)
	f.roomy = true
	if err := f.connect(ctx, f.path); err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{"DROP TABLE jobs", "DROP TABLE job_parts", "DROP TABLE job_texts", "DROP SEQUENCE job_ids", steps[0].sql, "DELETE FROM mds_job_migrations WHERE version > 1"} {
		if _, err := f.conn.ExecContext(ctx, text); err != nil {
			t.Fatal(err)
		}
	}
	const most = 1_000
	for n := range most {
		if err := longRow(ctx, f, n); err != nil {
			t.Fatal(err)
		}
	}
	_, err = f.conn.ExecContext(ctx, "UPDATE jobs SET params = '{}' WHERE id = 2")
	if err := errors.Join(err, f.shut()); err != nil {
		t.Fatal(err)
	}
	for _, opened := range []string{"first", "again"} {
		s := open(t, dir, Config{})
		j := OpenJobs(s)
		for n, size := range map[int]int{0: 60_008, 1: 2, most - 1: 60_008} {
			job, err := j.Job(ctx, strconv.Itoa(n+1))
			if err != nil || len(job.Params) != size || !json.Valid(job.Params) || !slices.Equal(job.Symbols, []string{"AAPL", "MSFT"}) {
				t.Errorf("%s: job %d: %d bytes, %q, %v", opened, n, len(job.Params), job.Symbols, err)
			}
		}
		if err := j.Finish(ctx, claimJob(t, j), mds.JobDone, time.Time{}); err != nil {
			t.Error(err)
		}
		enqueueJob(t, j, opened)
		if opened == "again" && s.jobs.roomy {
			t.Errorf("%s needs more memory still", filepath.Base(s.jobs.path))
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
