package mds

import (
	"encoding/json"
	"testing"
	"time"
)

// TestJobFingerprint has jobs that are told to do the same, however it is spelled, and jobs
// that differ in one thing each.
func TestJobFingerprint(t *testing.T) {
	start := time.Date(2024, 3, 5, 9, 30, 0, 0, time.UTC)
	job := func(change func(*Job)) string {
		j := Job{
			Action: JobBackfill, Tenant: DefaultTenant(), Params: json.RawMessage(`{"files":["a","b"],"n":1.10,"x":{"b":1,"a":12345678901234567890}}`),
			Dataset: "bars", Vendor: "yahoo", Symbols: []string{"B", "A", "B"}, Start: start, End: start.Add(time.Hour),
		}
		change(&j)
		return j.MakeFingerprint()
	}
	want := job(func(*Job) {})
	if want != "be282113df8f808be8ec61fdc2a10c04" { // of that text; stores keep it
		t.Errorf("it is %s", want)
	}
	for name, change := range map[string]func(*Job){
		"white space": func(j *Job) {
			j.Params = json.RawMessage("{ \"files\" : [\"a\",\n\"b\"], \"n\":1.10, \"x\":{\"b\":1,\"a\":12345678901234567890} }")
		},
		"order of names": func(j *Job) {
			j.Params = json.RawMessage(`{"x":{"a":12345678901234567890,"b":1},"n":1.10,"files":["\u0061","b"]}`)
		},
		"order of symbols": func(j *Job) { j.Symbols = []string{"A", "B"} },
		"time zone":        func(j *Job) { j.Start = start.In(time.FixedZone("", 3600)) },
		"nanoseconds":      func(j *Job) { j.Start = start.Add(999) },
		"what is not told": func(j *Job) {
			j.ID, j.Name, j.Key, j.Priority, j.By, j.Mode, j.State, j.Attempt = "1", "n", "k", 5, "b", ModeLive, JobDone, 3
		},
	} {
		if got := job(change); got != want {
			t.Errorf("%s: %s", name, got)
		}
	}
	seen := map[string]string{want: "itself"}
	for name, change := range map[string]func(*Job){
		"action":    func(j *Job) { j.Action = JobExport },
		"tenant":    func(j *Job) { j.Tenant = Tenant{} },
		"no params": func(j *Job) { j.Params = nil },
		"order of a list": func(j *Job) {
			j.Params = json.RawMessage(`{"files":["b","a"],"n":1.10,"x":{"b":1,"a":12345678901234567890}}`)
		},
		"a digit": func(j *Job) {
			j.Params = json.RawMessage(`{"files":["a","b"],"n":1.10,"x":{"b":1,"a":12345678901234567891}}`)
		},
		"dataset":         func(j *Job) { j.Dataset = "news" },
		"vendor":          func(j *Job) { j.Vendor = "yahooo" },
		"dataset, vendor": func(j *Job) { j.Dataset, j.Vendor = "barsy", "ahoo" },
		"symbols":         func(j *Job) { j.Symbols = []string{"A"} },
		"one symbol":      func(j *Job) { j.Symbols = []string{"A,B"} },
		"no symbols":      func(j *Job) { j.Symbols = nil },
		"start":           func(j *Job) { j.Start = start.Add(time.Microsecond) },
		"no start":        func(j *Job) { j.Start = time.Time{} },
		"end":             func(j *Job) { j.End = time.Time{} },
	} {
		got := job(change)
		if same, ok := seen[got]; ok {
			t.Errorf("%s is %s", name, same)
		}
		seen[got] = name
	}
	none, empty := job(func(j *Job) { j.Params = nil }), job(func(j *Job) { j.Params = json.RawMessage(" { } ") })
	if none != empty {
		t.Error("no params are not {}")
	}
}

// TestJobFaults has every fault of a job told at once, by the names of fields.
func TestJobFaults(t *testing.T) {
	j := Job{Action: "dance", Tenant: Tenant{ID: "x"}, Name: "a\nb", Key: "a b", Params: json.RawMessage("1"), Priority: 2000, Mode: "m", Symbols: []string{""}, Start: time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC), End: time.Date(2024, 1, 1, 0, 0, 0, 0, time.UTC), MaxAttempts: 1001}
	want := `action: "dance" is none: use backfill, refresh, policies, replay, compact, export, migrate; tenant: "" with the id "x" is none; ` +
		`name: "a\nb" is not one line; key: is not at most 255 visible ASCII characters; params: are no JSON object; priority: 2000 is not from -1000 to 1000; ` +
		`mode: "m" is none: use live or backfill; symbols: has an empty one; start: is not before the end; max_attempts: 1001 is not from 1 to 1000`
	if err := j.Validate(); err == nil || err.Error() != want {
		t.Errorf("%v\nwant %s", err, want)
	}
}

func TestJobElapsed(t *testing.T) {
	start := time.Date(2024, 3, 5, 9, 0, 0, 0, time.UTC)
	now := start.Add(time.Minute)
	for name, c := range map[string]struct {
		job  Job
		want time.Duration
	}{
		"waits":       {Job{State: JobQueued}, 0},
		"waits again": {Job{State: JobQueued, Started: start}, 0},
		"runs":        {Job{State: JobRunning, Started: start}, time.Minute},
		"done":        {Job{State: JobDone, Started: start, Finished: start.Add(time.Second)}, time.Second},
		"never began": {Job{State: JobCancelled, Finished: start}, 0},
		"clocks":      {Job{State: JobRunning, Started: now.Add(time.Second)}, 0},
	} {
		if got := c.job.Elapsed(now); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}
