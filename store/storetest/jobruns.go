package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func testJobOrder(t *testing.T, j *jobbing) {
	add := func(name string, priority int, action mds.JobAction, notBefore time.Time) {
		j.enqueue(mds.Job{Action: action, Name: name, Priority: priority, NotBefore: notBefore})
	}
	add("low", -1, mds.JobBackfill, time.Time{})
	add("first", 0, mds.JobBackfill, at(9, 0))
	add("second", 0, mds.JobRefresh, time.Time{})
	add("later", 1000, mds.JobBackfill, time.Now().Add(time.Hour))
	add("high", 7, mds.JobExport, time.Time{})
	if job, ok, err := j.jobs.Claim(j.ctx, "w", "v1", nil, longLease); err != nil || ok {
		t.Errorf("of no action: %+v, %v", job, err)
	}
	next := func(want string, actions ...mds.JobAction) {
		t.Helper()
		job, ok, err := j.jobs.Claim(j.ctx, "w", "v1", actions, longLease)
		if err != nil || job.Name != want || ok != (want != "") {
			t.Errorf("claimed %q, %v, %v; want %q", job.Name, ok, err, want)
		}
	}
	next("second", mds.JobRefresh, mds.JobPolicies)
	next("", mds.JobRefresh)
	next("high", allActions...)
	next("first", allActions...)
	next("low", allActions...)
	next("", allActions...)

	// Who has many does not have all.
	for _, name := range []string{"one of many", "another one", "a third", "a fourth"} {
		j.enqueue(mds.Job{Action: mds.JobBackfill, Name: name, Tenant: mds.DefaultTenant()})
	}
	j.enqueue(mds.Job{Action: mds.JobBackfill, Name: "of another", Tenant: j.createTenant("acme")})
	j.enqueue(mds.Job{Action: mds.JobBackfill, Name: "of all"})
	j.enqueue(mds.Job{Action: mds.JobBackfill, Name: "the operator's", Tenant: mds.DefaultTenant(), Priority: 1})
	for _, want := range []string{"the operator's", "of another", "of all", "one of many", "another one", "a third", "a fourth", ""} {
		next(want, allActions...)
	}
}

// testEachJobOnce has a thousand jobs run on two servers by eight workers each.
func testEachJobOnce(t *testing.T, j *jobbing) {
	const workers = 16
	all := 1_000
	if strings.HasPrefix(j.dsn, "duckdb://") {
		all = 200 // one process has them, one caller at a time
	}
	places := []store.Jobs{j.jobs, j.elsewhere()}
	var wg sync.WaitGroup
	for n := range 4 {
		wg.Go(func() {
			for i := range all / 4 {
				if _, made, err := places[n%2].Enqueue(j.ctx, mds.Job{Action: mds.JobBackfill, Name: fmt.Sprint(n, "-", i), Priority: i % 3}); err != nil || !made {
					t.Error(made, err)
					return
				}
			}
		})
	}
	wg.Wait()
	var mu sync.Mutex
	runs := map[string]int{}
	for n := range workers {
		wg.Go(func() {
			jobs := places[n%2]
			for {
				job, ok, err := jobs.Claim(j.ctx, fmt.Sprint("w", n), "v1", allActions, longLease)
				if err != nil {
					t.Error(err)
					return
				}
				if !ok {
					return
				}
				mu.Lock()
				runs[job.Name]++
				mu.Unlock()
				job.Written = 1
				if err := jobs.Finish(j.ctx, job, mds.JobDone, time.Time{}); err != nil {
					t.Error(err)
				}
			}
		})
	}
	wg.Wait()
	for name, n := range runs {
		if n != 1 {
			t.Errorf("%s was run %d times", name, n)
		}
	}
	counts, err := j.jobs.Summary(j.ctx, mds.JobFilter{})
	if err != nil || len(runs) != all || len(counts) != 1 || counts[0].State != mds.JobDone || counts[0].Jobs != int64(all) || counts[0].Written != int64(all) {
		t.Errorf("%d were run; %+v, %v", len(runs), counts, err)
	}
}

// testTakenOver has a server that dies, and another that goes on with its job.
func testTakenOver(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	dead := j.claim("dead", longLease)
	if dead.State != mds.JobRunning || dead.Attempt != 1 || dead.Worker != "dead" || dead.Version != "v1" || dead.Started.IsZero() || !dead.Finished.IsZero() ||
		dead.Heartbeat.Before(dead.Created) || dead.LeaseUntil.Sub(dead.Heartbeat).Round(time.Minute) != longLease {
		t.Errorf("claimed is %+v", dead)
	}
	j.wantNothingToDo()
	dead.Parts, dead.PartsDone, dead.Written = 3, 1, 10
	if err := j.jobs.PartDone(j.ctx, dead, mds.JobPart{Name: "one", Written: 10}); err != nil {
		t.Fatal(err)
	}
	if _, err := j.jobs.Beat(j.ctx, dead, noLease); err != nil { // the last one
		t.Fatal(err)
	}
	heir, ok, err := j.elsewhere().Claim(j.ctx, "heir", "v2", allActions, longLease)
	if err != nil || !ok || heir.ID != dead.ID || heir.Attempt != 2 || heir.Worker != "heir" || heir.Version != "v2" || !heir.Started.Equal(dead.Started) || heir.Written != 10 || heir.Parts != 3 {
		t.Fatalf("taken over is %+v, %v, %v", heir, ok, err)
	}
	j.wantNothingToDo()
	if parts, err := j.jobs.Parts(j.ctx, heir.ID); err != nil || len(parts) != 1 || parts[0].Name != "one" || parts[0].Written != 10 {
		t.Errorf("parts %+v, %v", parts, err)
	}
	// The one that was thought dead learns of it, and changes nothing.
	dead.Written = 99
	_, beat := j.jobs.Beat(j.ctx, dead, longLease)
	for what, err := range map[string]error{"beat": beat, "part": j.jobs.PartDone(j.ctx, dead, mds.JobPart{Name: "two"}), "finish": j.jobs.Finish(j.ctx, dead, mds.JobDone, time.Time{})} {
		if !errors.Is(err, mds.ErrJobLost) || mds.Retryable(err) {
			t.Errorf("%s of the dead: %v", what, err)
		}
	}
	if diff := cmp.Diff(heir, j.job(heir.ID)); diff != "" {
		t.Errorf("the dead changed it:\n%s", diff)
	}
	if parts, err := j.jobs.Parts(j.ctx, heir.ID); err != nil || len(parts) != 1 {
		t.Errorf("parts %+v, %v", parts, err)
	}
	j.finish(heir, mds.JobDone)
}

// testTakenOverOnce has the leases of many jobs end, and many workers take them over: each
// once.
func testTakenOverOnce(t *testing.T, j *jobbing) {
	const all = 100
	for range all {
		j.enqueue(mds.Job{Action: mds.JobBackfill, MaxAttempts: 2})
	}
	places := []store.Jobs{j.jobs, j.elsewhere()}
	for range all { // each claims another: those whose lease has ended are older
		job := j.claim("dead", longLease)
		if _, err := j.jobs.Beat(j.ctx, job, longLease); err != nil {
			t.Fatal(err)
		}
	}
	list, err := j.jobs.List(j.ctx, mds.JobFilter{})
	if err != nil {
		t.Fatal(err)
	}
	for _, job := range list {
		if _, err := j.jobs.Beat(j.ctx, job, noLease); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	heirs := map[string]int{}
	var wg sync.WaitGroup
	for n := range 8 {
		wg.Go(func() {
			for {
				job, ok, err := places[n%2].Claim(j.ctx, fmt.Sprint("w", n), "v1", allActions, longLease)
				if err != nil || !ok {
					if err != nil {
						t.Error(err)
					}
					return
				}
				mu.Lock()
				heirs[job.ID]++
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	for id, n := range heirs {
		if n != 1 {
			t.Errorf("job %s was taken over %d times", id, n)
		}
	}
	if len(heirs) != all {
		t.Errorf("%d jobs were taken over", len(heirs))
	}
}

// testGivenUp has jobs that are not begun again: their servers die each time, or they fail.
func testGivenUp(t *testing.T, j *jobbing) {
	died := j.enqueue(mds.Job{Action: mds.JobBackfill, MaxAttempts: 2})
	for want := 1; want <= 2; want++ {
		if got := j.claim("w", noLease); got.ID != died.ID || got.Attempt != want {
			t.Fatalf("attempt %d of %s", got.Attempt, got.ID)
		}
	}
	next := j.enqueue(backfill("next"))
	if got := j.claim("w", longLease); got.ID != next.ID { // the same call gives the other up
		t.Errorf("claimed %s", got.ID)
	}
	got := j.job(died.ID)
	if got.State != mds.JobFailed || got.Error != "the server that ran it was not heard of any more; given up after attempt 2 of 2" || got.Finished.IsZero() || !got.LeaseUntil.IsZero() || got.Attempt != 2 {
		t.Errorf("given up is %+v", got)
	}
	failed := j.enqueue(mds.Job{Action: mds.JobBackfill, MaxAttempts: 2})
	for want := 1; want <= 2; want++ {
		job := j.claim("w", longLease)
		if job.ID != failed.ID || job.Attempt != want {
			t.Fatalf("attempt %d of %s", job.Attempt, job.ID)
		}
		job.Error = "no file"
		j.finish(job, mds.JobQueued)
		if got := j.job(failed.ID); want == 1 && (got.State != mds.JobQueued || got.Error != "no file" || !got.Finished.IsZero()) {
			t.Errorf("after the first: %+v", got)
		}
	}
	if got := j.job(failed.ID); got.State != mds.JobFailed || got.Error != "no file; given up after attempt 2 of 2" || got.Finished.IsZero() {
		t.Errorf("after the second: %+v", got)
	}
	j.wantNothingToDo()
}

// testLostJobs has attempts that are nobody's any more, or never were.
func testLostJobs(t *testing.T, j *jobbing) {
	lost := func(what string, job mds.Job) {
		t.Helper()
		before := j.job(job.ID)
		_, beat := j.jobs.Beat(j.ctx, job, longLease)
		for i, err := range []error{beat, j.jobs.PartDone(j.ctx, job, mds.JobPart{Name: "p"}), j.jobs.Finish(j.ctx, job, mds.JobDone, time.Time{}), j.jobs.Finish(j.ctx, job, mds.JobQueued, time.Time{})} {
			if !errors.Is(err, mds.ErrJobLost) {
				t.Errorf("%s, call %d: %v", what, i, err)
			}
		}
		if diff := cmp.Diff(before, j.job(job.ID)); diff != "" {
			t.Errorf("%s: it changed\n%s", what, diff)
		}
	}
	job := j.enqueue(backfill("x"))
	lost("one that waits", job)
	job = j.claim("w", longLease)
	other := job
	other.Worker = "another"
	lost("another worker's", other)
	other = job
	other.Attempt = 2
	lost("another attempt", other)
	j.finish(job, mds.JobQueued)
	lost("one that waits again", job)
	again := j.claim("w", longLease) // the same worker
	lost("its attempt before", job)
	j.finish(again, mds.JobFailed)
	lost("one that has ended", again)
}

func testBeat(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	job := j.claim("w", noLease)
	job.JobProgress = mds.JobProgress{Parts: 7, PartsDone: 3, Written: 1 << 40, Failed: 2, Note: "file 3 of 7"}
	if cancel, err := j.jobs.Beat(j.ctx, job, longLease); err != nil || cancel { // nobody has taken it over
		t.Fatal(cancel, err)
	}
	j.wantNothingToDo()
	got := j.job(job.ID)
	if got.JobProgress != job.JobProgress || got.Heartbeat.Before(job.Heartbeat) || got.LeaseUntil.Sub(got.Heartbeat).Round(time.Minute) != longLease || got.State != mds.JobRunning {
		t.Errorf("after a beat it is %+v", got)
	}
	job.JobProgress = mds.JobProgress{}
	job.Error = "e"
	if _, err := j.jobs.Beat(j.ctx, job, longLease); err != nil {
		t.Fatal(err)
	}
	if got := j.job(job.ID); got.JobProgress != (mds.JobProgress{}) || got.Error != "" {
		t.Errorf("then it is %+v", got)
	}
	if err := j.jobs.Finish(j.ctx, job, mds.JobRunning, time.Time{}); err == nil {
		t.Error("it ended running")
	}
	job.JobProgress = mds.JobProgress{Parts: 1, PartsDone: 1, Written: 4, Failed: 5, Note: "done"}
	j.finish(job, mds.JobDone)
	got = j.job(job.ID)
	if got.State != mds.JobDone || got.JobProgress != job.JobProgress || got.Error != "" || got.Finished.Before(got.Started) || !got.LeaseUntil.IsZero() || got.Worker != "w" {
		t.Errorf("done it is %+v", got)
	}
	if elapsed := got.Elapsed(time.Now()); elapsed != got.Finished.Sub(got.Started) {
		t.Errorf("it took %v", elapsed)
	}
}

func testJobParts(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	j.enqueue(backfill("y"))
	job, other := j.claim("w", longLease), j.claim("w", longLease)
	for i, name := range []string{"b", "ä/日本", "a", "B", "b"} {
		job.PartsDone, job.Note = int64(i), name
		if err := j.jobs.PartDone(j.ctx, job, mds.JobPart{Name: name, Written: int64(i), Failed: 1, Done: at(9, 0)}); err != nil {
			t.Fatal(err)
		}
	}
	if err := j.jobs.PartDone(j.ctx, other, mds.JobPart{Name: "b"}); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"", "a\x00", "\xff", strings.Repeat("x", 1001)} {
		var invalid *mds.InvalidError
		if err := j.jobs.PartDone(j.ctx, job, mds.JobPart{Name: name}); !errors.As(err, &invalid) {
			t.Errorf("part %q: %v", name, err)
		}
	}
	parts, err := j.jobs.Parts(j.ctx, job.ID)
	want := []mds.JobPart{{Name: "B", Written: 3, Failed: 1}, {Name: "a", Written: 2, Failed: 1}, {Name: "b", Written: 4, Failed: 1}, {Name: "ä/日本", Written: 1, Failed: 1}}
	if diff := cmp.Diff(want, parts, cmpopts.IgnoreFields(mds.JobPart{}, "Done")); err != nil || diff != "" {
		t.Errorf("%v, parts (-want +got):\n%s", err, diff)
	}
	for _, p := range parts {
		if p.Done.Before(job.Heartbeat) || p.Done.Location() != time.UTC { // the store's clock says when
			t.Errorf("%s was done at %v", p.Name, p.Done)
		}
	}
	if got := j.job(job.ID); got.PartsDone != 4 || got.Note != "b" || got.Heartbeat.Before(job.Heartbeat) {
		t.Errorf("the job is %+v", got)
	}
	if parts, err := j.jobs.Parts(j.ctx, other.ID); err != nil || len(parts) != 1 {
		t.Errorf("parts of the other: %v, %v", parts, err)
	}
}

func testCancelJobs(t *testing.T, j *jobbing) {
	cancel := func(id string) mds.Job {
		t.Helper()
		job, err := j.jobs.Cancel(j.ctx, id)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(j.job(id), job); diff != "" {
			t.Errorf("it returns another than is kept (-kept):\n%s", diff)
		}
		return job
	}
	waits := j.enqueue(backfill("waits"))
	if got := cancel(waits.ID); got.State != mds.JobCancelled || got.Finished.IsZero() || !got.Started.IsZero() || !got.CancelRequested {
		t.Errorf("one that waits: %+v", got)
	}
	j.wantNothingToDo()
	again := cancel(waits.ID)
	if again.State != mds.JobCancelled {
		t.Errorf("again: %+v", again)
	}

	j.enqueue(backfill("runs"))
	runs := j.claim("w", longLease)
	if got := cancel(runs.ID); got.State != mds.JobRunning || !got.Finished.IsZero() || !got.CancelRequested {
		t.Errorf("one that runs: %+v", got)
	}
	if told, err := j.jobs.Beat(j.ctx, runs, longLease); err != nil || !told {
		t.Errorf("its worker is told %v, %v", told, err)
	}
	j.finish(runs, mds.JobQueued) // it is not begun again, whatever its worker says
	if got := j.job(runs.ID); got.State != mds.JobCancelled || got.Finished.IsZero() || got.Error != "" {
		t.Errorf("it ended as %+v", got)
	}

	j.enqueue(backfill("done"))
	done := j.claim("w", longLease)
	cancel(done.ID)
	j.finish(done, mds.JobDone) // before it heard of it
	if got := cancel(done.ID); got.State != mds.JobDone {
		t.Errorf("one that was done first: %+v", got)
	}

	j.enqueue(backfill("dead"))
	dead := j.claim("w", noLease)
	if got := cancel(dead.ID); got.State != mds.JobCancelled || got.Finished.IsZero() || !got.LeaseUntil.IsZero() {
		t.Errorf("one whose server is dead: %+v", got)
	}
	j.enqueue(backfill("dies"))
	dies := j.claim("w", longLease)
	cancel(dies.ID)
	if _, err := j.jobs.Beat(j.ctx, dies, noLease); err != nil {
		t.Fatal(err)
	}
	j.wantNothingToDo()
	if got := j.job(dies.ID); got.State != mds.JobCancelled || got.Error != "" || got.Attempt != 1 {
		t.Errorf("one whose server died then: %+v", got)
	}
}

func testAgainLater(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	job := j.claim("w", longLease)
	job.Error, job.Written = "the vendor is away", 3
	later := time.Now().Add(time.Hour).Truncate(time.Microsecond)
	if err := j.jobs.Finish(j.ctx, job, mds.JobQueued, later); err != nil {
		t.Fatal(err)
	}
	j.wantNothingToDo()
	got := j.job(job.ID)
	if got.State != mds.JobQueued || !got.NotBefore.Equal(later) || got.Error != job.Error || got.Attempt != 1 || got.Written != 3 || !got.LeaseUntil.IsZero() || got.Elapsed(later) != 0 {
		t.Errorf("it waits as %+v", got)
	}
	j.enqueue(backfill("y"))
	job = j.claim("w", longLease)
	if err := j.jobs.Finish(j.ctx, job, mds.JobQueued, at(9, 0)); err != nil { // a time that has come
		t.Fatal(err)
	}
	again := j.claim("w2", longLease)
	if again.ID != job.ID || again.Attempt != 2 || again.Worker != "w2" {
		t.Errorf("again it is %+v", again)
	}
	j.finish(again, mds.JobDone)
	if got := j.job(again.ID); got.Error != "" || got.State != mds.JobDone {
		t.Errorf("at last it is %+v", got)
	}
}

// testMoreAttempts has a worker that gives a job back say that the attempt is not to count;
// none says that there are to be fewer.
func testMoreAttempts(t *testing.T, j *jobbing) {
	j.enqueue(mds.Job{Action: mds.JobBackfill, MaxAttempts: 1})
	for attempt := range 3 { // stopped each time
		job := j.claim("w", longLease)
		if job.Attempt != attempt+1 || job.MaxAttempts != attempt+1 {
			t.Fatalf("attempt %d of %d", job.Attempt, job.MaxAttempts)
		}
		job.MaxAttempts++
		j.finish(job, mds.JobQueued)
		if got := j.job(job.ID); got.State != mds.JobQueued || got.MaxAttempts != attempt+2 || got.Error != "" || !got.Finished.IsZero() {
			t.Fatalf("given back is %+v", got)
		}
	}
	job := j.claim("w", longLease)
	job.MaxAttempts, job.Error = 0, "no file"
	j.finish(job, mds.JobQueued)
	if got := j.job(job.ID); got.State != mds.JobFailed || got.MaxAttempts != 4 || got.Error != "no file; given up after attempt 4 of 4" {
		t.Errorf("in the end it is %+v", got)
	}
	j.enqueue(backfill("done"))
	job = j.claim("w", longLease)
	job.MaxAttempts = 2
	j.finish(job, mds.JobDone)
	if got := j.job(job.ID); got.State != mds.JobDone || got.MaxAttempts != mds.DefaultJobAttempts {
		t.Errorf("done it is %+v", got)
	}
}

// testAnyTextOfJobs has texts that no database takes: the job ends all the same.
func testAnyTextOfJobs(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	worker := "w\x00\xff"
	job, ok, err := j.jobs.Claim(j.ctx, worker, "v\x00", allActions, longLease)
	if err != nil || !ok || job.Worker != "w\uFFFD\uFFFD" {
		t.Fatal(job.Worker, ok, err)
	}
	job.Worker = worker // as its worker knows itself
	job.Note = "a\x00b\xff" + strings.Repeat("é", 10_000)
	job.Error = "line 1\nline 2\x00\xff" + strings.Repeat("é", 100_000)
	if _, err := j.jobs.Beat(j.ctx, job, longLease); err != nil {
		t.Fatal(err)
	}
	j.finish(job, mds.JobFailed)
	got := j.job(job.ID)
	if !strings.HasPrefix(got.Error, "line 1\nline 2\uFFFD\uFFFDéé") || !strings.HasSuffix(got.Error, "éé…") || len(got.Error) > 2_000 || len(got.Error) < 1_990 ||
		!strings.HasPrefix(got.Note, "a\uFFFDb\uFFFDéé") || len(got.Note) > 1_000 || got.State != mds.JobFailed {
		t.Errorf("kept is %d bytes %.80q and %d bytes %.80q", len(got.Error), got.Error, len(got.Note), got.Note)
	}
}
