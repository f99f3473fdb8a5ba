package server

import (
	"context"
	"log/slog"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/store"
)

// TestNotedJob notes what a job is told, without the URL, in which there may be a secret, and no
// more than a line of a log may have.
func TestNotedJob(t *testing.T) {
	symbols := []string{"A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "K", "L"}
	got := notedJob(&client.JobRequest{
		Action: "backfill", Name: "n", Dataset: "bars", Vendor: "v", AllTenants: true, Symbols: symbols,
		Params: []byte(`{"url": "https://x/?key=secret", "URL": "https://x/?key=secret", "step": "1d"}`),
	})
	want := map[string][]string{
		"action": {"backfill"}, "name": {"n"}, "dataset": {"bars"}, "vendor": {"v"}, "all_tenants": {"true"},
		"symbols": {"A", "B", "C", "D", "E", "F", "G", "H", "I", "J", "and 2 more"}, "params": {`{"URL":"…","step":"1d","url":"…"}`},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	got = notedJob(&client.JobRequest{Action: "refresh", Symbols: symbols[:1]})
	if diff := cmp.Diff(map[string][]string{"action": {"refresh"}, "symbols": {"A"}}, got); diff != "" {
		t.Errorf("a short one (-want +got):\n%s", diff)
	}
	long := make([]byte, 5_000)
	for i := range long {
		long[i] = 'x'
	}
	if noted := notedJob(&client.JobRequest{Params: []byte(`{"a":"` + string(long) + `"}`)})["params"][0]; len(noted) != 1_003 {
		t.Errorf("of long params %d bytes are noted", len(noted))
	}
}

// cleaned are jobs that are cleaned up.
type cleaned struct {
	store.Jobs
	before []time.Time
}

func (c *cleaned) Cleanup(_ context.Context, before time.Time) (int64, error) {
	c.before = append(c.before, before)
	return 1, nil
}

// TestJobsAreForgotten removes jobs that ended more than thirty days ago, once an hour.
func TestJobsAreForgotten(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		jobs := &cleaned{}
		s := &Server{cfg: Config{Jobs: &JobsConfig{Jobs: jobs}, Logger: slog.New(slog.DiscardHandler)}, background: t.Context(), drain: make(chan struct{})}
		begun := time.Now()
		done := make(chan struct{})
		go func() {
			defer close(done)
			s.forgetJobs()
		}()
		<-time.After(2*time.Hour + time.Minute)
		close(s.drain)
		<-done
		if len(jobs.before) != 2 || !jobs.before[0].Equal(begun.Add(time.Hour-720*time.Hour)) {
			t.Errorf("%v, begun at %v", jobs.before, begun)
		}
	})
}
