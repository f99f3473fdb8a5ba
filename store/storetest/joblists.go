package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/marketdatastore/mds"
)

func testListJobs(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	add := func(tenant mds.Tenant, action mds.JobAction) string {
		return j.enqueue(mds.Job{Action: action, Tenant: tenant}).ID
	}
	done, failed, runs := add(acme, mds.JobBackfill), add(mds.Tenant{}, mds.JobRefresh), add(mds.DefaultTenant(), mds.JobBackfill)
	j.finish(j.claim("w", longLease), mds.JobDone)
	j.finish(j.claim("w", longLease), mds.JobFailed)
	j.claim("w", longLease)
	gone, waits, common := add(acme, mds.JobExport), add(acme, mds.JobBackfill), add(mds.Tenant{}, mds.JobPolicies)
	if _, err := j.jobs.Cancel(j.ctx, gone); err != nil {
		t.Fatal(err)
	}
	made := j.job(waits).Created
	for _, c := range []struct {
		name   string
		filter mds.JobFilter
		want   []string
	}{
		{"all", mds.JobFilter{}, []string{common, waits, gone, runs, failed, done}},
		{"a tenant's", mds.JobFilter{TenantID: acme.ID}, []string{waits, gone, done}},
		{"a tenant's in capitals", mds.JobFilter{TenantID: strings.ToUpper(acme.ID)}, []string{waits, gone, done}},
		{"a tenant's and of all", mds.JobFilter{TenantID: acme.ID, Common: true}, []string{common, waits, gone, failed, done}},
		{"of all", mds.JobFilter{Common: true}, []string{common, failed}},
		{"of none", mds.JobFilter{TenantID: "acme"}, []string{}},
		{"of no tenant", mds.JobFilter{TenantID: "00000000-0000-0000-0000-000000000000"}, []string{}},
		{"a state", mds.JobFilter{States: []mds.JobState{mds.JobFailed}}, []string{failed}},
		{"states", mds.JobFilter{States: []mds.JobState{mds.JobQueued, mds.JobRunning, "x"}}, []string{common, waits, runs}},
		{"no state", mds.JobFilter{States: []mds.JobState{"'); --"}}, []string{}},
		{"an action", mds.JobFilter{Actions: []mds.JobAction{mds.JobBackfill}}, []string{waits, runs, done}},
		{"actions", mds.JobFilter{Actions: []mds.JobAction{mds.JobExport, mds.JobRefresh, "x"}}, []string{gone, failed}},
		{"of both", mds.JobFilter{Actions: []mds.JobAction{mds.JobBackfill}, States: []mds.JobState{mds.JobDone}, TenantID: acme.ID}, []string{done}},
		{"since", mds.JobFilter{Since: made}, []string{common, waits}},
		{"before", mds.JobFilter{Before: made}, []string{gone, runs, failed, done}},
		{"silent", mds.JobFilter{SilentSince: soon()}, []string{runs}},
		{"not silent", mds.JobFilter{SilentSince: longAgo}, []string{}},
		{"two", mds.JobFilter{Limit: 2}, []string{common, waits}},
		{"the next two", mds.JobFilter{Limit: 2, After: waits}, []string{gone, runs}},
		{"the last of a filter", mds.JobFilter{Actions: []mds.JobAction{mds.JobBackfill}, Limit: 2, After: runs}, []string{done}},
		{"after the last", mds.JobFilter{After: done}, []string{}},
	} {
		if got := j.list(c.filter); !slices.Equal(got, c.want) {
			t.Errorf("%s: %v, want %v", c.name, got, c.want)
		}
	}
	if _, err := j.jobs.List(j.ctx, mds.JobFilter{After: "x"}); !errors.Is(err, mds.ErrUnknownJob) {
		t.Errorf("after none: %v", err)
	}
}

func testJobSummary(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	for i, tenant := range []mds.Tenant{{}, acme, acme} {
		j.enqueue(mds.Job{Action: mds.JobBackfill, Tenant: tenant})
		job := j.claim("w", longLease)
		job.Written, job.Failed = int64(10*(i+1)), int64(i)
		j.finish(job, mds.JobDone)
	}
	j.enqueue(mds.Job{Action: mds.JobRefresh})
	j.claim("w", longLease)
	j.enqueue(mds.Job{Action: mds.JobRefresh})
	j.enqueue(mds.Job{Action: mds.JobBackfill, Tenant: acme})
	want := func(filter mds.JobFilter, want ...mds.JobCount) {
		t.Helper()
		got, err := j.jobs.Summary(j.ctx, filter)
		if diff := cmp.Diff(want, got, cmpopts.IgnoreFields(mds.JobCount{}, "Seconds")); err != nil || diff != "" {
			t.Errorf("%v, summary (-want +got):\n%s", err, diff)
		}
		for _, c := range got {
			if ran := c.State != mds.JobQueued; c.Seconds < 0 || c.Seconds > 3600 || ran != (c.Seconds > 0) {
				t.Errorf("%s %s took %v s", c.Action, c.State, c.Seconds)
			}
		}
	}
	want(mds.JobFilter{},
		mds.JobCount{Action: mds.JobBackfill, State: mds.JobDone, Jobs: 3, Written: 60, Failed: 3},
		mds.JobCount{Action: mds.JobBackfill, State: mds.JobQueued, Jobs: 1},
		mds.JobCount{Action: mds.JobRefresh, State: mds.JobQueued, Jobs: 1},
		mds.JobCount{Action: mds.JobRefresh, State: mds.JobRunning, Jobs: 1})
	want(mds.JobFilter{TenantID: acme.ID, States: []mds.JobState{mds.JobDone}, Limit: 1, After: "1"}, // of which it heeds no page
		mds.JobCount{Action: mds.JobBackfill, State: mds.JobDone, Jobs: 2, Written: 50, Failed: 3})
}

func testCleanupJobs(t *testing.T, j *jobbing) {
	var kept []string
	old := j.enqueue(backfill("old"))
	job := j.claim("w", longLease)
	if err := j.jobs.PartDone(j.ctx, job, mds.JobPart{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	j.finish(job, mds.JobDone)
	gone := j.enqueue(backfill("gone"))
	if _, err := j.jobs.Cancel(j.ctx, gone.ID); err != nil {
		t.Fatal(err)
	}
	last := j.enqueue(backfill("last"))
	runs := j.claim("w", longLease)
	if err := j.jobs.PartDone(j.ctx, runs, mds.JobPart{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	waits := j.enqueue(backfill("waits"))
	kept = append(kept, waits.ID, last.ID)
	if n, err := j.jobs.Cleanup(j.ctx, j.job(old.ID).Finished); err != nil || n != 0 { // before, not at
		t.Errorf("cleaned %d, %v", n, err)
	}
	if n, err := j.jobs.Cleanup(j.ctx, soon()); err != nil || n != 2 {
		t.Errorf("cleaned %d, %v", n, err)
	}
	if got := j.list(mds.JobFilter{}); !slices.Equal(got, kept) {
		t.Errorf("left are %v, want %v", got, kept)
	}
	if _, err := j.jobs.Parts(j.ctx, old.ID); !errors.Is(err, mds.ErrUnknownJob) {
		t.Errorf("parts of one that is gone: %v", err)
	}
	if parts, err := j.jobs.Parts(j.ctx, runs.ID); err != nil || len(parts) != 1 {
		t.Errorf("parts of one that is kept: %v, %v", parts, err)
	}
	// Ids are not given again.
	j.finish(runs, mds.JobDone)
	if _, err := j.jobs.Cancel(j.ctx, waits.ID); err != nil {
		t.Fatal(err)
	}
	if n, err := j.jobs.Cleanup(j.ctx, soon()); err != nil || n != 2 {
		t.Errorf("cleaned %d, %v", n, err)
	}
	j.reopen()
	j.jobs = j.openJobs(j.store)
	if got := j.enqueue(backfill("new")); got.ID <= waits.ID && len(got.ID) <= len(waits.ID) {
		t.Errorf("the next one after %s is %s", waits.ID, got.ID)
	}
}

func testReopenJobs(t *testing.T, j *jobbing) {
	j.enqueue(backfill("runs"))
	j.enqueue(backfill("waits"))
	runs := j.claim("w", longLease)
	if err := j.jobs.PartDone(j.ctx, runs, mds.JobPart{Name: "p"}); err != nil {
		t.Fatal(err)
	}
	before, err := j.jobs.List(j.ctx, mds.JobFilter{})
	if err != nil {
		t.Fatal(err)
	}
	j.reopen()
	j.jobs = j.openJobs(j.store)
	after, err := j.jobs.List(j.ctx, mds.JobFilter{})
	if diff := cmp.Diff(before, after); err != nil || diff != "" {
		t.Errorf("%v, after it was opened again (-before +after):\n%s", err, diff)
	}
	if _, err := j.jobs.Beat(j.ctx, runs, longLease); err != nil { // its worker goes on
		t.Error(err)
	}
	if parts, err := j.jobs.Parts(j.ctx, runs.ID); err != nil || len(parts) != 1 {
		t.Errorf("parts %v, %v", parts, err)
	}
	if job := j.claim("w", longLease); job.Name != "waits" {
		t.Errorf("claimed %s", job.Name)
	}
}

func testJobsGoWithTheirTenant(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	kept := j.enqueue(backfill("of all"))
	own := j.enqueue(mds.Job{Action: mds.JobBackfill, Tenant: mds.DefaultTenant(), Key: "k"})
	gone := j.enqueue(mds.Job{Action: mds.JobBackfill, Tenant: acme, Priority: 1, Key: "k"})
	job := j.claim("w", longLease)
	if err := j.jobs.PartDone(j.ctx, job, mds.JobPart{Name: "p"}); err != nil || job.ID != gone.ID {
		t.Fatal(job.ID, err)
	}
	if err := j.store.RemoveTenant(j.ctx, acme); err != nil {
		t.Fatal(err)
	}
	want := []string{own.ID, kept.ID}
	if got := j.list(mds.JobFilter{}); !slices.Equal(got, want) {
		t.Errorf("left are %v, want %v", got, want)
	}
	if _, err := j.jobs.Beat(j.ctx, job, longLease); !errors.Is(err, mds.ErrJobLost) {
		t.Errorf("a beat of one that is gone: %v", err)
	}
	if _, _, err := j.jobs.Enqueue(j.ctx, mds.Job{Action: mds.JobBackfill, Tenant: acme}); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("another one of the tenant: %v", err)
	}
	j.createTenant("acme") // of the same id
	if got := j.list(mds.JobFilter{TenantID: acme.ID}); len(got) != 0 {
		t.Errorf("the new one has %v", got)
	}
	j.enqueue(mds.Job{Action: mds.JobBackfill, Tenant: acme, Key: "k"})
}

func testJobsInterrupted(t *testing.T, j *jobbing) {
	j.enqueue(backfill("x"))
	gone, cancel := context.WithCancel(j.ctx)
	cancel()
	_, _, err1 := j.jobs.Enqueue(gone, backfill("y"))
	_, ok, err2 := j.jobs.Claim(gone, "w", "v1", allActions, longLease)
	_, err3 := j.jobs.List(gone, mds.JobFilter{})
	for _, err := range []error{err1, err2, err3} {
		if !errors.Is(err, context.Canceled) || ok {
			t.Error(err)
		}
	}
	if job := j.claim("w", longLease); job.Name != "x" || job.Attempt != 1 {
		t.Errorf("claimed %+v", job)
	}
	j.wantNothingToDo()
}

func testJobsClosed(t *testing.T, j *jobbing) {
	job := j.enqueue(backfill("x"))
	other := j.elsewhere()
	for range 2 {
		if err := other.Close(); err != nil {
			t.Error(err)
		}
	}
	if got := j.job(job.ID); got.Name != "x" { // others go on
		t.Errorf("it is %+v", got)
	}
	if err := j.store.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := j.jobs.Job(j.ctx, job.ID); err == nil || !mds.Unavailable(err) {
		t.Errorf("a job of a closed store: %v", err)
	}
	if _, _, err := j.jobs.Enqueue(j.ctx, backfill("y")); err == nil {
		t.Error("a closed store keeps a job")
	}
	if err := j.jobs.Close(); err != nil {
		t.Error(err)
	}
}
