package storetest

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// RunJobs runs the part of the suite that is about jobs. fresh returns the DSN of an empty
// store of the test's own.
func RunJobs(t *testing.T, fresh func(t testing.TB) (dsn string)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *jobbing)
	}{
		{"NoneByDefault", testNoJobs},
		{"Enqueue", testEnqueue},
		{"Refused", testJobsRefused},
		{"Keys", testJobKeys},
		{"KeysAtOnce", testJobKeysAtOnce},
		{"Order", testJobOrder},
		{"EachOnce", testEachJobOnce},
		{"TakenOver", testTakenOver},
		{"TakenOverOnce", testTakenOverOnce},
		{"GivenUp", testGivenUp},
		{"Lost", testLostJobs},
		{"Beat", testBeat},
		{"Parts", testJobParts},
		{"Cancel", testCancelJobs},
		{"AgainLater", testAgainLater},
		{"MoreAttempts", testMoreAttempts},
		{"AnyText", testAnyTextOfJobs},
		{"List", testListJobs},
		{"Summary", testJobSummary},
		{"Cleanup", testCleanupJobs},
		{"Reopen", testReopenJobs},
		{"GoWithTheirTenant", testJobsGoWithTheirTenant},
		{"Interrupted", testJobsInterrupted},
		{"Closed", testJobsClosed},
		{"Model", testJobModel},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			j := &jobbing{harness: newHarness(t, fresh)}
			j.jobs = j.openJobs(j.store)
			test.run(t, j)
		})
	}
}

// jobbing is a store with its jobs.
type jobbing struct {
	*harness
	jobs store.Jobs
}

func (j *jobbing) openJobs(s *store.Store) store.Jobs {
	j.t.Helper()
	jobs, err := store.OpenJobs(j.ctx, s)
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() {
		if err := jobs.Close(); err != nil {
			j.t.Error(err)
		}
	})
	return jobs
}

// elsewhere are the jobs as another server has them; where one process has the store, as
// another part of it does.
func (j *jobbing) elsewhere() store.Jobs {
	j.t.Helper()
	if strings.HasPrefix(j.dsn, "duckdb://") {
		return j.openJobs(j.store)
	}
	s, err := store.Open(j.ctx, j.dsn, store.Config{})
	if err != nil {
		j.t.Fatal(err)
	}
	j.t.Cleanup(func() {
		if err := s.Close(); err != nil {
			j.t.Error(err)
		}
	})
	return j.openJobs(s)
}

func (j *jobbing) enqueue(job mds.Job) mds.Job {
	j.t.Helper()
	kept, made, err := j.jobs.Enqueue(j.ctx, job)
	if err != nil || !made {
		j.t.Fatalf("made %v, %v", made, err)
	}
	return kept
}

// Leases that last for the test, and one that has ended when it begins: no test waits.
const (
	longLease = time.Hour
	noLease   = -time.Second
)

var allActions = mds.JobActions()

// claim claims the next job, which has to be one.
func (j *jobbing) claim(worker string, lease time.Duration) mds.Job {
	j.t.Helper()
	job, ok, err := j.jobs.Claim(j.ctx, worker, "v1", allActions, lease)
	if err != nil || !ok {
		j.t.Fatalf("claimed %v, %v", ok, err)
	}
	return job
}

func (j *jobbing) wantNothingToDo() {
	j.t.Helper()
	if job, ok, err := j.jobs.Claim(j.ctx, "w", "v1", allActions, longLease); err != nil || ok {
		j.t.Errorf("there is something to do: %+v, %v", job, err)
	}
}

func (j *jobbing) job(id string) mds.Job {
	j.t.Helper()
	job, err := j.jobs.Job(j.ctx, id)
	if err != nil {
		j.t.Fatal(err)
	}
	return job
}

func (j *jobbing) finish(job mds.Job, state mds.JobState) {
	j.t.Helper()
	if err := j.jobs.Finish(j.ctx, job, state, time.Time{}); err != nil {
		j.t.Fatal(err)
	}
}

// list lists the ids of a filter's jobs.
func (j *jobbing) list(filter mds.JobFilter) []string {
	j.t.Helper()
	jobs, err := j.jobs.List(j.ctx, filter)
	if err != nil {
		j.t.Fatal(err)
	}
	ids := []string{}
	for i := range jobs {
		ids = append(ids, jobs[i].ID)
	}
	return ids
}

func backfill(name string) mds.Job { return mds.Job{Action: mds.JobBackfill, Name: name} }

func testNoJobs(t *testing.T, j *jobbing) {
	j.wantNothingToDo()
	if got := j.list(mds.JobFilter{}); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
	if counts, err := j.jobs.Summary(j.ctx, mds.JobFilter{}); err != nil || len(counts) != 0 {
		t.Errorf("summary %v, %v", counts, err)
	}
	if n, err := j.jobs.Cleanup(j.ctx, time.Now()); err != nil || n != 0 {
		t.Errorf("cleaned %d, %v", n, err)
	}
	for _, id := range []string{"1", "", "0", "-1", "+1", "01", "1x", "99999999999999999999", "' OR true --"} {
		_, err1 := j.jobs.Job(j.ctx, id)
		_, err2 := j.jobs.Cancel(j.ctx, id)
		_, err3 := j.jobs.Parts(j.ctx, id)
		for _, err := range []error{err1, err2, err3} {
			if !errors.Is(err, mds.ErrUnknownJob) || mds.Retryable(err) {
				t.Errorf("job %q: %v", id, err)
			}
		}
		lost := mds.Job{ID: id, Worker: "w", Attempt: 1}
		_, err1 = j.jobs.Beat(j.ctx, lost, longLease)
		for _, err := range []error{err1, j.jobs.PartDone(j.ctx, lost, mds.JobPart{Name: "p"}), j.jobs.Finish(j.ctx, lost, mds.JobDone, time.Time{})} {
			if !errors.Is(err, mds.ErrJobLost) {
				t.Errorf("attempt of job %q: %v", id, err)
			}
		}
	}
}

// testEnqueue has all that is said of a job come back, from each way of reading.
func testEnqueue(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	zone := time.FixedZone("", -5*3600)
	full := mds.Job{
		Tenant: acme, Action: mds.JobExport, Name: "Zürich – 日本 \\ \"quoted\" <&>", Params: json.RawMessage("{ \"b\": 1.10,\n\"a\": [null, \"\\u0000<é>\"] }"), Key: "key!~",
		Priority: -1000, Mode: mds.ModeBackfill, Dataset: "bars", Vendor: "yahoo", Symbols: []string{"BRK.B", "", "AAPL"}[0:1:1],
		Start: time.Date(2024, 3, 5, 9, 30, 0, 123_456_789, zone), End: time.Date(9999, 12, 31, 23, 59, 59, 999_999_999, time.UTC),
		NotBefore: at(9, 0), Fingerprint: "mine", By: "k1", MaxAttempts: 1000,
		// What a store says of a job does not matter.
		ID: "7", State: mds.JobDone, Attempt: 3, Worker: "w", Error: "e", CancelRequested: true, JobProgress: mds.JobProgress{Written: 5, Note: "n"}, Finished: at(9, 0),
	}
	full.Symbols = append(full.Symbols, "AAPL", "日本", `a"b,{c}\`)
	plain := mds.Job{Action: mds.JobCompact}
	want := mds.Job{
		Tenant: acme, Action: mds.JobExport, Name: full.Name, Params: json.RawMessage(`{"b":1.10,"a":[null,"\u0000<é>"]}`), Key: "key!~",
		Priority: -1000, Mode: mds.ModeBackfill, Dataset: "bars", Vendor: "yahoo", Symbols: []string{"BRK.B", "AAPL", "日本", `a"b,{c}\`},
		Start: time.Date(2024, 3, 5, 14, 30, 0, 123_456_000, time.UTC), End: time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC),
		NotBefore: at(9, 0), Fingerprint: "mine", By: "k1", MaxAttempts: 1000, State: mds.JobQueued,
	}
	wantPlain := mds.Job{Action: mds.JobCompact, Params: json.RawMessage("{}"), MaxAttempts: 5, State: mds.JobQueued}
	wantPlain.Fingerprint = plain.MakeFingerprint()
	before := time.Now().Add(-time.Minute)
	first, second := j.enqueue(full), j.enqueue(plain)
	listed, err := j.jobs.List(j.ctx, mds.JobFilter{})
	if err != nil || len(listed) != 2 {
		t.Fatal(len(listed), err)
	}
	for _, got := range listed { // which are without what may be long
		if len(got.Params) > 0 || len(got.Symbols) > 0 {
			t.Errorf("the list has params %s and symbols %q", got.Params, got.Symbols)
		}
	}
	listed[1].Params, listed[1].Symbols, listed[0].Params = want.Params, want.Symbols, wantPlain.Params
	for _, got := range []mds.Job{first, j.job(first.ID), listed[1]} {
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mds.Job{}, "ID", "Created")); diff != "" {
			t.Errorf("the full one differs (-want +got):\n%s", diff)
		}
	}
	for _, got := range []mds.Job{second, j.job(second.ID), listed[0]} {
		if diff := cmp.Diff(wantPlain, got, cmpopts.IgnoreFields(mds.Job{}, "ID", "Created")); diff != "" {
			t.Errorf("the plain one differs (-want +got):\n%s", diff)
		}
		if got.Created.Before(before) || got.Created.After(time.Now().Add(time.Minute)) || got.Created.Location() != time.UTC || got.ID != second.ID {
			t.Errorf("made at %v with the id %s", got.Created, got.ID)
		}
	}
	if full.State != mds.JobDone || string(full.Params)[0:2] != "{ " {
		t.Error("the caller's job was changed")
	}
}

func testJobsRefused(t *testing.T, j *jobbing) {
	nobody, err := mds.NewTenant("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := j.jobs.Enqueue(j.ctx, mds.Job{Action: mds.JobCompact, Tenant: nobody}); !errors.Is(err, mds.ErrUnknownTenant) || mds.Retryable(err) {
		t.Errorf("a job of nobody: %v", err)
	}
	for what, spoil := range map[string]func(*mds.Job){
		"no action":        func(j *mds.Job) { j.Action = "" },
		"another action":   func(j *mds.Job) { j.Action = "dance" },
		"a forged tenant":  func(j *mds.Job) { j.Tenant = mds.Tenant{ID: nobody.ID, Slug: "default"} },
		"two lines":        func(j *mds.Job) { j.Name = "a\nb" },
		"a long name":      func(j *mds.Job) { j.Name = strings.Repeat("x", 201) },
		"no text":          func(j *mds.Job) { j.Name = "\xff" },
		"a NUL":            func(j *mds.Job) { j.Vendor = "a\x00" },
		"a key of spaces":  func(j *mds.Job) { j.Key = "a b" },
		"params of a list": func(j *mds.Job) { j.Params = json.RawMessage("[]") },
		"params of null":   func(j *mds.Job) { j.Params = json.RawMessage("null") },
		"broken params":    func(j *mds.Job) { j.Params = json.RawMessage("{") },
		"params no text":   func(j *mds.Job) { j.Params = json.RawMessage("{\"a\":\"\xff\"}") },
		"large params":     func(j *mds.Job) { j.Params = json.RawMessage(`{"a":"` + strings.Repeat("x", 1<<20) + `"}`) },
		"a high priority":  func(j *mds.Job) { j.Priority = 1001 },
		"another mode":     func(j *mds.Job) { j.Mode = "both" },
		"an empty symbol":  func(j *mds.Job) { j.Symbols = []string{"A", ""} },
		"no window":        func(j *mds.Job) { j.Start, j.End = at(9, 0), at(9, 0) },
		"a year too late":  func(j *mds.Job) { j.End = time.Date(10000, 1, 1, 0, 0, 0, 0, time.UTC) },
		"less than no try": func(j *mds.Job) { j.MaxAttempts = -1 },
	} {
		job := mds.Job{Action: mds.JobCompact, Tenant: mds.DefaultTenant()}
		spoil(&job)
		var invalid *mds.InvalidError
		if _, made, err := j.jobs.Enqueue(j.ctx, job); made || !errors.As(err, &invalid) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%s: %v, %v", what, made, err)
		}
	}
	if got := j.list(mds.JobFilter{}); len(got) != 0 {
		t.Errorf("there are %v", got)
	}
}

func testJobKeys(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	job := backfill("first")
	job.Key, job.Tenant, job.Symbols = "k", mds.DefaultTenant(), []string{"A", "B"}
	first := j.enqueue(job)
	again := job
	again.Name, again.Priority, again.Symbols = "second", 5, []string{"B", "A"} // the same job, otherwise spelled
	same := func(what string) {
		t.Helper()
		got, made, err := j.jobs.Enqueue(j.ctx, again)
		if err != nil || made || got.ID != first.ID || got.Name != "first" {
			t.Errorf("%s: %+v, %v, %v", what, got, made, err)
		}
	}
	same("the same again")
	other := job
	other.Symbols = []string{"A"}
	if got, made, err := j.jobs.Enqueue(j.ctx, other); !errors.Is(err, mds.ErrJobKey) || made || got.ID != first.ID || mds.Retryable(err) {
		t.Errorf("another one with the key: %+v, %v, %v", got, made, err)
	}
	ids := []string{first.ID}
	for _, tenant := range []mds.Tenant{acme, {}} { // keys are a tenant's
		job.Tenant = tenant
		ids = append(ids, j.enqueue(job).ID)
		if got, made, err := j.jobs.Enqueue(j.ctx, job); err != nil || made || got.ID != ids[len(ids)-1] {
			t.Errorf("again of %q: %+v, %v, %v", tenant.Slug, got, made, err)
		}
	}
	for range 2 { // without a key each is another
		ids = append(ids, j.enqueue(backfill("")).ID)
	}
	slices.Reverse(ids)
	if got := j.list(mds.JobFilter{}); !slices.Equal(got, ids) {
		t.Errorf("there are %v, want %v", got, ids)
	}
	if _, err := j.jobs.Cancel(j.ctx, first.ID); err != nil {
		t.Fatal(err)
	}
	same("one that has ended")
	if n, err := j.jobs.Cleanup(j.ctx, soon()); err != nil || n != 1 {
		t.Fatal(n, err)
	}
	if got := j.enqueue(again); got.ID == first.ID || got.Name != "second" {
		t.Errorf("after the first is gone: %+v", got)
	}
}

// testJobKeysAtOnce has one job asked for in many places at once: one is made.
func testJobKeysAtOnce(t *testing.T, j *jobbing) {
	places := []store.Jobs{j.jobs, j.elsewhere()}
	for _, key := range []string{"a", "b", "c"} {
		var mu sync.Mutex
		ids, mades := map[string]bool{}, 0
		var wg sync.WaitGroup
		for n := range 16 {
			wg.Go(func() {
				job := backfill("x")
				job.Key = key
				got, made, err := places[n%2].Enqueue(j.ctx, job)
				mu.Lock()
				defer mu.Unlock()
				if err != nil {
					t.Error(err)
				}
				if ids[got.ID] = true; made {
					mades++
				}
			})
		}
		wg.Wait()
		if len(ids) != 1 || mades != 1 {
			t.Errorf("made %d, and there are %v", mades, ids)
		}
	}
}
