package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	gocmp "github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// testJobModel makes random calls, some of them of attempts that are lost, and compares what
// is kept with a list in Go.
func testJobModel(t *testing.T, j *jobbing) {
	acme := j.createTenant("acme")
	rapid.Check(t, func(rt *rapid.T) {
		m := &jobModel{jobbing: j, rt: rt, tenants: []mds.Tenant{{}, mds.DefaultTenant(), acme}}
		m.clear()
		for range rapid.IntRange(1, 25).Draw(rt, "calls") {
			switch rapid.IntRange(0, 9).Draw(rt, "call") {
			case 0, 1, 2:
				m.enqueue()
			case 3, 4, 5:
				m.claim()
			case 6:
				m.beat()
			case 7, 8:
				m.finish()
			default:
				m.cancel()
			}
		}
		m.check()
		m.cleanup()
		m.check()
	})
}

// jobModel is what is kept. A lease has ended when it was given, or lasts for the test.
type jobModel struct {
	*jobbing
	rt       *rapid.T
	tenants  []mds.Tenant
	jobs     []*modelJob // in order of their making
	attempts []mds.Job   // every one that was begun
}

type modelJob struct {
	mds.Job
	later, dead bool
}

// clear removes what the check before has left.
func (m *jobModel) clear() {
	list, err := m.jobbing.jobs.List(m.ctx, mds.JobFilter{})
	if err != nil {
		m.rt.Fatal(err)
	}
	for _, job := range list {
		if job.State == mds.JobRunning {
			err = m.jobbing.jobs.Finish(m.ctx, job, mds.JobDone, time.Time{})
		} else {
			_, err = m.jobbing.jobs.Cancel(m.ctx, job.ID)
		}
		if err != nil {
			m.rt.Fatal(err)
		}
	}
	if n, err := m.jobbing.jobs.Cleanup(m.ctx, soon()); err != nil || n != int64(len(list)) {
		m.rt.Fatal(n, err)
	}
}

func (m *jobModel) enqueue() {
	job := mds.Job{
		Tenant:      rapid.SampledFrom(m.tenants).Draw(m.rt, "tenant"),
		Action:      rapid.SampledFrom([]mds.JobAction{mds.JobBackfill, mds.JobRefresh}).Draw(m.rt, "action"),
		Key:         rapid.SampledFrom([]string{"", "", "a", "b"}).Draw(m.rt, "key"),
		Priority:    rapid.IntRange(-1, 1).Draw(m.rt, "priority"),
		MaxAttempts: rapid.IntRange(1, 3).Draw(m.rt, "most attempts"),
		Vendor:      rapid.SampledFrom([]string{"v", "w"}).Draw(m.rt, "vendor"),
	}
	later := rapid.IntRange(0, 4).Draw(m.rt, "later") == 0
	if later {
		job.NotBefore = time.Now().Add(time.Hour)
	}
	got, made, err := m.jobbing.jobs.Enqueue(m.ctx, job)
	at := slices.IndexFunc(m.jobs, func(k *modelJob) bool { return job.Key != "" && k.Key == job.Key && k.Tenant == job.Tenant })
	switch {
	case at < 0:
		if err != nil || !made {
			m.rt.Fatalf("made %v, %v", made, err)
		}
		job.ID, job.State = got.ID, mds.JobQueued
		m.jobs = append(m.jobs, &modelJob{Job: job, later: later})
	case m.jobs[at].Action == job.Action && m.jobs[at].Vendor == job.Vendor:
		if err != nil || made || got.ID != m.jobs[at].ID {
			m.rt.Fatalf("the same again: %s, %v, %v", got.ID, made, err)
		}
	case !errors.Is(err, mds.ErrJobKey) || made:
		m.rt.Fatalf("another one: %v, %v", made, err)
	}
}

func (m *jobModel) claim() {
	actions := rapid.SampledFrom([][]mds.JobAction{allActions, {mds.JobRefresh}, {mds.JobBackfill, mds.JobExport}, nil}).Draw(m.rt, "actions")
	dies := rapid.Bool().Draw(m.rt, "dies")
	worker := rapid.SampledFrom([]string{"w1", "w2"}).Draw(m.rt, "worker")
	lease := longLease
	if dies {
		lease = noLease
	}
	got, ok, err := m.jobbing.jobs.Claim(m.ctx, worker, "v1", actions, lease)
	if err != nil {
		m.rt.Fatal(err)
	}
	runs := make(map[mds.Tenant]bool)
	for _, k := range m.jobs {
		if k.State == mds.JobRunning && !k.dead && k.Tenant.ID != "" {
			runs[k.Tenant] = true
		}
	}
	before := func(k, other *modelJob) bool {
		return k.Priority > other.Priority || k.Priority == other.Priority && !runs[k.Tenant] && runs[other.Tenant]
	}
	var next *modelJob
	for _, k := range m.jobs {
		if k.State == mds.JobRunning && k.dead && (k.CancelRequested || k.Attempt >= k.MaxAttempts) {
			m.end(k, mds.JobFailed, "the server that ran it was not heard of any more; "+givenUp(k))
		}
		due := k.State == mds.JobQueued && !k.later || k.State == mds.JobRunning && k.dead
		if due && slices.Contains(actions, k.Action) && (next == nil || before(k, next)) {
			next = k
		}
	}
	if next == nil {
		if ok {
			m.rt.Fatalf("claimed %s of nothing", got.ID)
		}
		return
	}
	next.State, next.Worker, next.Version, next.dead = mds.JobRunning, worker, "v1", dies
	next.Attempt++
	if !ok || got.ID != next.ID || got.Attempt != next.Attempt {
		m.rt.Fatalf("claimed %s, %v; want %s", got.ID, ok, next.ID)
	}
	m.attempts = append(m.attempts, got)
}

func givenUp(k *modelJob) string {
	return fmt.Sprintf("given up after attempt %d of %d", k.Attempt, k.MaxAttempts)
}

// end ends a job that is to be begun no more; one that was cancelled ends as such.
func (*jobModel) end(k *modelJob, state mds.JobState, reason string) {
	k.State, k.Error = state, reason
	if k.CancelRequested {
		k.State, k.Error = mds.JobCancelled, ""
	}
}

// attempt picks an attempt, and the job whose it is still, if any.
func (m *jobModel) attempt() (mds.Job, *modelJob) {
	attempt := rapid.SampledFrom(m.attempts).Draw(m.rt, "attempt")
	attempt.Written = rapid.Int64Range(0, 9).Draw(m.rt, "written")
	at := slices.IndexFunc(m.jobs, func(k *modelJob) bool {
		return k.ID == attempt.ID && k.State == mds.JobRunning && k.Attempt == attempt.Attempt
	})
	if at < 0 {
		return attempt, nil
	}
	m.jobs[at].Written = attempt.Written
	return attempt, m.jobs[at]
}

func (m *jobModel) beat() {
	if len(m.attempts) == 0 {
		return
	}
	attempt, k := m.attempt()
	dies := rapid.Bool().Draw(m.rt, "dies")
	lease := longLease
	if dies {
		lease = noLease
	}
	cancel, err := m.jobbing.jobs.Beat(m.ctx, attempt, lease)
	if k == nil {
		if !errors.Is(err, mds.ErrJobLost) {
			m.rt.Fatalf("a beat of what is lost: %v", err)
		}
		return
	}
	if err != nil || cancel != k.CancelRequested {
		m.rt.Fatalf("a beat: %v, %v; want %v", cancel, err, k.CancelRequested)
	}
	k.dead = dies
}

func (m *jobModel) finish() {
	if len(m.attempts) == 0 {
		return
	}
	attempt, k := m.attempt()
	state := rapid.SampledFrom([]mds.JobState{mds.JobDone, mds.JobFailed, mds.JobQueued, mds.JobQueued, mds.JobCancelled}).Draw(m.rt, "state")
	attempt.Error = rapid.SampledFrom([]string{"", "e"}).Draw(m.rt, "error")
	again, later := time.Time{}, rapid.Bool().Draw(m.rt, "later")
	if later {
		again = soon()
	}
	attempt.MaxAttempts = rapid.IntRange(0, 4).Draw(m.rt, "most attempts then")
	err := m.jobbing.jobs.Finish(m.ctx, attempt, state, again)
	if k == nil {
		if !errors.Is(err, mds.ErrJobLost) {
			m.rt.Fatalf("an end of what is lost: %v", err)
		}
		return
	}
	if err != nil {
		m.rt.Fatal(err)
	}
	k.State, k.Error = state, attempt.Error
	k.MaxAttempts = max(k.MaxAttempts, attempt.MaxAttempts)
	switch {
	case state == mds.JobDone:
		k.Error = ""
	case state != mds.JobQueued:
	case k.CancelRequested:
		k.State = mds.JobCancelled
	case k.Attempt >= k.MaxAttempts:
		k.State = mds.JobFailed
		k.Error = givenUp(k)
		if attempt.Error != "" {
			k.Error = attempt.Error + "; " + k.Error
		}
	default:
		k.later = later
	}
}

func (m *jobModel) cancel() {
	if len(m.jobs) == 0 {
		return
	}
	k := rapid.SampledFrom(m.jobs).Draw(m.rt, "cancelled")
	got, err := m.jobbing.jobs.Cancel(m.ctx, k.ID)
	if !k.State.Ended() {
		k.CancelRequested = true
		if k.State == mds.JobQueued || k.dead {
			k.State = mds.JobCancelled
		}
	}
	if err != nil || got.State != k.State {
		m.rt.Fatalf("cancelled is %s, %v; want %s", got.State, err, k.State)
	}
}

func (m *jobModel) cleanup() {
	left := slices.DeleteFunc(slices.Clone(m.jobs), func(k *modelJob) bool { return k.State.Ended() })
	if n, err := m.jobbing.jobs.Cleanup(m.ctx, soon()); err != nil || n != int64(len(m.jobs)-len(left)) {
		m.rt.Fatalf("cleaned %d, %v; want %d", n, err, len(m.jobs)-len(left))
	}
	m.jobs = left
}

// check compares the list, pages of a filter of it, and the summary.
func (m *jobModel) check() {
	list, err := m.jobbing.jobs.List(m.ctx, mds.JobFilter{})
	if err != nil {
		m.rt.Fatal(err)
	}
	want := []mds.Job{}
	counts := map[mds.JobCount]int64{}
	for _, k := range slices.Backward(m.jobs) {
		want = append(want, k.Job)
		counts[mds.JobCount{Action: k.Action, State: k.State}]++
	}
	times := cmpopts.IgnoreFields(mds.Job{}, "Created", "Started", "Finished", "NotBefore", "Heartbeat", "LeaseUntil", "Params", "Symbols", "Fingerprint")
	if diff := gocmp.Diff(want, list, times, cmpopts.EquateEmpty()); diff != "" {
		m.rt.Fatalf("jobs differ (-want +got):\n%s", diff)
	}
	for _, job := range list {
		if job.Finished.IsZero() == job.State.Ended() || job.LeaseUntil.IsZero() == (job.State == mds.JobRunning) || job.Started.IsZero() != (job.Attempt == 0) {
			m.rt.Fatalf("times of %+v", job)
		}
	}
	if !slices.IsSortedFunc(list, func(a, b mds.Job) int { return cmp.Compare(number(b.ID), number(a.ID)) }) {
		m.rt.Fatal("the list is out of order")
	}
	summary, err := m.jobbing.jobs.Summary(m.ctx, mds.JobFilter{})
	if err != nil || len(summary) != len(counts) {
		m.rt.Fatalf("summary %+v, %v; want %v", summary, err, counts)
	}
	for _, c := range summary {
		if counts[mds.JobCount{Action: c.Action, State: c.State}] != c.Jobs {
			m.rt.Fatalf("summary %+v, want %v", summary, counts)
		}
	}
	m.checkPages()
}

func (m *jobModel) checkPages() {
	filter := mds.JobFilter{
		States: rapid.SliceOfDistinct(rapid.SampledFrom(mds.JobStates()), func(s mds.JobState) mds.JobState { return s }).Draw(m.rt, "states"),
		Limit:  rapid.IntRange(1, 3).Draw(m.rt, "limit"),
	}
	var want, got []string
	for _, k := range slices.Backward(m.jobs) {
		if len(filter.States) == 0 || slices.Contains(filter.States, k.State) {
			want = append(want, k.ID)
		}
	}
	for page := m.list(filter); len(page) > 0; page = m.list(filter) {
		got = append(got, page...)
		filter.After = page[len(page)-1]
	}
	if !slices.Equal(got, want) {
		m.rt.Fatalf("in pages there are %v, want %v", got, want)
	}
}

func number(id string) int64 {
	n, _ := strconv.ParseInt(id, 10, 64)
	return n
}
