package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/client"
)

// TestExportJobKilled kills a server in the middle of a file that it exports: nothing has the
// file's name until the next server has written all of it, and nothing else is left.
func TestExportJobKilled(t *testing.T) {
	const rows = 400_000
	c := newCLI(t)
	var csv strings.Builder
	csv.WriteString("symbol,timeframe,ts,close\n")
	for n := range rows {
		fmt.Fprintf(&csv, "S%d,1m,%d,%d\n", n%4, 1_600_000_000+60*(n/4), n)
	}
	c.must("ingest", "bars", testFile(t, "bars.csv", csv.String()))
	out := t.TempDir()
	env := map[string]string{"MDS_JOBS_EXPORTS": out, "MDS_JOBS_LEASE": "6s"}
	server := c.serveWith(env)
	id := strings.TrimSpace(c.must("jobs", "enqueue", "export", "--dataset", "bars", "--params", `{"out": "sub/all.csv.gz"}`, "--server", server.url).stdout)
	there := func() (names []string) {
		entries, err := os.ReadDir(filepath.Join(out, "default", "sub"))
		if err != nil && !os.IsNotExist(err) {
			t.Fatal(err)
		}
		for _, e := range entries {
			names = append(names, e.Name())
		}
		return names
	}
	limit := time.After(time.Minute)
	for tick := time.NewTicker(time.Millisecond); len(there()) == 0; {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatal("it is never begun")
		}
	}
	if err := server.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = server.Wait()
	if got := fmt.Sprint(there()); got != "[.all.csv.gz.job-"+id+"-1]" {
		t.Fatalf("after it was killed there are %s", got)
	}
	server = c.serveWith(env)
	follow := c.run("jobs", "show", id, "--follow", "--server", server.url)
	var job client.Job
	if err := json.Unmarshal([]byte(follow.stdout), &job); err != nil || job.State != "done" || job.Attempt != 2 || job.Written != rows || job.PartsDone != 1 {
		t.Errorf("exit %d: %s%s", follow.exit, follow.stdout, follow.stderr)
	}
	if got := fmt.Sprint(there()); got != "[all.csv.gz]" {
		t.Errorf("in the end there are %s", got)
	}
	back := newCLI(t)
	if got := back.must("ingest", "bars", filepath.Join(out, "default", "sub", "all.csv.gz")).stdout; got != "bars: 400,000 read = 0 rejected + 400,000 accepted; accepted = 400,000 written + 0 unchanged + 0 superseded\n" {
		t.Errorf("it comes back as %s", got)
	}
}

// TestReplayJobOfServer has a server write its dead letters again.
func TestReplayJobOfServer(t *testing.T) {
	c := loaded(t)
	ids := c.bury(deadBar("NEW", 1, 0), poison(1))
	server := c.serveWith(nil)
	id := strings.TrimSpace(c.must("jobs", "enqueue", "replay", "--params", `{"kinds": ["bars"]}`, "--server", server.url).stdout)
	follow := c.run("jobs", "show", id, "--follow", "--server", server.url)
	var job client.Job
	if err := json.Unmarshal([]byte(follow.stdout), &job); err != nil || job.State != "done" || job.Written != 1 || job.Failed != 1 || !strings.Contains(job.Note, ids[1]) || c.buried() != ids[1] {
		t.Errorf("exit %d: %s%s; left are %s", follow.exit, follow.stdout, follow.stderr, c.buried())
	}
}
