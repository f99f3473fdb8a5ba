package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/replay"
)

func TestDLQReplay(t *testing.T) {
	c := loaded(t) // AAPL and MSFT, at 11 each at 14:30, stored just now
	future := time.Since(diedAt) + time.Hour
	if future < time.Hour {
		future = 2 * time.Hour
	}
	later := int(future.Seconds())
	ids := c.bury(
		deadBar("NEW", 1, -3600*24*3000),             // not stored
		deadBar("MSFT", 2, -3600*24*3000),            // submitted before what is stored was written
		deadBar("AAPL", 3, later),                    // submitted after it
		poison(0),                                    //
		deadOf("trades", []byte(`{}`), "refused", 0), // of a program with another kind
		deadOf("bars", []byte(`{"vendor":"test","fees":1}`), "refused", 0),
		deadBar("TWICE", 5, -100), // the newest of these is to stay
		deadBar("TWICE", 4, -200),
		deadBar("SAME", 6, -300), // of one submit, the last
		deadBar("SAME", 7, -300),
	)
	before := c.closes()
	dry := c.must("dlq", "replay", "--dry-run")
	if dry.stdout != "10 letters read; 7 would be written as far as can be told without the store, 3 refused again\n" || c.closes() != before || len(strings.Fields(c.buried())) != 10 {
		t.Errorf("dry run: %q, %q", dry.stdout, dry.stderr)
	}
	out := c.run("dlq", "replay")
	if out.exit != exitRejected || out.stdout != "10 letters read = 4 written + 0 unchanged + 3 superseded + 3 still refused\n" {
		t.Errorf("exit %d, %q", out.exit, out.stdout)
	}
	for _, want := range []string{
		"still refused: " + ids[3] + ": vendor: ",
		"still refused: " + ids[4] + `: this program knows no kind "trades"` + "\n",
		"still refused: " + ids[5] + ": bars of this version have no column fees; use the version that wrote the letter, or a newer one\n",
	} {
		if !strings.Contains(out.stderr, want) {
			t.Errorf("no %q in\n%s", want, out.stderr)
		}
	}
	if got := c.buried(); got != strings.Join(ids[3:6], " ") {
		t.Errorf("left are %s", got)
	}
	if got, want := c.closes(), "AAPL 10.5, AAPL 12.75, AAPL 3, MSFT 10.5, MSFT 11, MSFT 11, MSFT 12.75, NEW 1, SAME 7, TWICE 5"; got != want {
		t.Errorf("stored are %s, want %s", got, want)
	}
	// What is refused stays as it was.
	if shown := c.must("dlq", "show", ids[3]).stdout; !strings.Contains(shown, "reason          vendor: is not UTF-8; close: is NaN\n") {
		t.Errorf("%s", shown)
	}
	again := c.run("dlq", "replay")
	if again.exit != exitRejected || again.stdout != "3 letters read = 0 written + 0 unchanged + 0 superseded + 3 still refused\n" {
		t.Errorf("again: exit %d, %q", again.exit, again.stdout)
	}
}

func TestDLQReplayOverwrites(t *testing.T) {
	c := loaded(t)
	c.bury(deadBar("MSFT", 2, -3600*24*3000), deadBar("TWICE", 5, -100), deadBar("TWICE", 4, -200))
	out := c.must("dlq", "replay", "--overwrite")
	if out.stdout != "3 letters read = 3 written + 0 unchanged + 0 superseded + 0 still refused\n" || c.buried() != "" {
		t.Errorf("%q, left are %s", out.stdout, c.buried())
	}
	if got, want := c.closes(), "AAPL 10.5, AAPL 11, AAPL 12.75, MSFT 10.5, MSFT 11, MSFT 12.75, MSFT 2, TWICE 5"; got != want {
		t.Errorf("stored are %s, want %s", got, want)
	}
}

// TestDLQReplayOrder: the record that was submitted last stays, also where more letters
// come between than are held at a time.
func TestDLQReplayOrder(t *testing.T) {
	for _, flags := range [][]string{nil, {"--overwrite"}} {
		c := loaded(t)
		letters := []deadletter.Letter{deadBar("TWICE", 5, -100), deadBar("TWICE", 4, -300)}
		for n := range replay.AtOnce {
			letters = append(letters, deadBar(fmt.Sprint("S", n), 1, -200))
		}
		c.bury(letters...)
		c.must(append([]string{"dlq", "replay"}, flags...)...)
		if got := c.closes(); !strings.HasSuffix(got, ", TWICE 5") || strings.Contains(got, "TWICE 4") || c.buried() != "" {
			t.Errorf("%v: stored are %s", flags, got[len(got)-100:])
		}
	}
}

// TestDLQReplayOnServer is the same on PostgreSQL.
func TestDLQReplayOnServer(t *testing.T) {
	server, _ := onServer(t)
	letters := &cli{t: t, dsn: "duckdb://" + t.TempDir()} // where they are, not a store
	server.must("write", "bars", "--vendor", "test", "--symbol", "MSFT", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "11")
	ids := letters.bury(deadBar("MSFT", 2, -3600*24*3000), poison(0), deadBar("NEW", 1, 0), deadBar("TWICE", 5, -100), deadBar("TWICE", 4, -200))
	out := server.run("dlq", "replay", "--dlq-dir", letters.dlqDir())
	if out.exit != exitRejected || out.stdout != "5 letters read = 2 written + 0 unchanged + 2 superseded + 1 still refused\n" || letters.buried() != ids[1] {
		t.Errorf("exit %d, %q, %q, left are %s", out.exit, out.stdout, out.stderr, letters.buried())
	}
	letters.bury(deadBar("MSFT", 2, -3600*24*3000))
	if out := server.run("dlq", "replay", "--dlq-dir", letters.dlqDir(), "--overwrite", "--all-tenants", "--code", "exhausted"); out.exit != exitDone || letters.buried() != ids[1] {
		t.Errorf("exit %d, %q, %q, left are %s", out.exit, out.stdout, out.stderr, letters.buried())
	}
	if got, want := server.closes(), "MSFT 2, NEW 1, TWICE 5"; got != want {
		t.Errorf("stored are %s, want %s", got, want)
	}
}

// TestDLQReplayPicks takes what ids and flags pick, of each tenant where it is told to.
func TestDLQReplayPicks(t *testing.T) {
	c := loaded(t)
	c.must("tenant", "create", "acme")
	acme, err := mds.NewTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	foreign, nobody := deadBar("F", 1, 0), deadBar("N", 1, 0)
	foreign.Tenant, nobody.Tenant = acme, mds.Tenant{ID: "x", Slug: "nobody"}
	ids := c.bury(deadBar("A", 1, 0), deadBar("B", 1, 0), foreign, nobody)
	if out := c.must("dlq", "replay", ids[1]); out.stdout != "1 letter read = 1 written + 0 unchanged + 0 superseded + 0 still refused\n" || c.buried() != ids[0]+" "+ids[2]+" "+ids[3] {
		t.Errorf("%q, left are %s", out.stdout, c.buried())
	}
	out := c.run("dlq", "replay", "--all-tenants")
	if out.exit != exitRejected || out.stdout != "3 letters read = 2 written + 0 unchanged + 0 superseded + 1 still refused\n" || c.buried() != ids[3] || !strings.Contains(out.stderr, "unknown tenant") {
		t.Errorf("exit %d, %q, %q, left are %s", out.exit, out.stdout, out.stderr, c.buried())
	}
	if got := c.must("query", "bars", "--tenant", "acme", "--format", "csv").stdout; !strings.Contains(got, "test,F,1m,2020-11-27T14:30:00Z") || strings.Count(got, "\n") != 2 {
		t.Errorf("acme has\n%s", got)
	}
}

// TestDLQReplayFails: where the store is missing or refuses to open, or the replay is
// interrupted, all letters stay.
func TestDLQReplayFails(t *testing.T) {
	c := newCLI(t)
	ids := strings.Join(c.bury(deadBar("A", 1, 0), deadBar("B", 1, 1)), " ")
	if out := c.run("dlq", "replay"); out.exit != exitFailed || !strings.HasPrefix(out.stderr, "mds: there is no store in ") || strings.Count(out.stderr, "\n") != 1 || c.buried() != ids {
		t.Errorf("no store: exit %d, %q, left are %s", out.exit, out.stderr, c.buried())
	}
	full := loaded(t)
	ids = strings.Join(full.bury(deadBar("A", 1, 0), deadBar("B", 1, 1)), " ")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if out := full.runContext(ctx, "dlq", "replay"); out.exit != exitFailed || full.buried() != ids {
		t.Errorf("interrupted: exit %d, %q, left are %s", out.exit, out.stderr, full.buried())
	}
}

// TestDLQReplayKilled kills replays at random moments: each letter is stored, or still
// there, or both; and a replay that is not killed completes it.
func TestDLQReplayKilled(t *testing.T) {
	const all = 12_000 // in 24 batches, held 5,000 at a time
	c := newCLI(t)
	c.must("write", "bars", "--vendor", "test", "--symbol", "first", "--timeframe", "1m", "--ts", "2020-11-27T14:30:00Z", "--close", "-1")
	var letters []deadletter.Letter
	for n := range all {
		letters = append(letters, deadBar(fmt.Sprint("S", n), float64(n), n/500))
	}
	c.bury(letters...)
	random := rand.New(rand.NewPCG(3, 3))
	kills := 0
	start := time.Hour // what the program takes to begin depends on how it was built, and on what else runs
	for range 3 {
		begun := time.Now()
		if _, stderr, exit := exitOf(t, c.program("info")); exit != exitDone {
			t.Fatal(stderr)
		}
		start = min(start, time.Since(begun))
	}
	for round := 0; round < 20 && c.buried() != ""; round++ {
		cmd := c.program("dlq", "replay")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(start/2+time.Duration(random.Int64N(int64(start+300*time.Millisecond))), func() { _ = cmd.Process.Kill() })
		if cmd.Wait() != nil {
			kills++
		}
		kill.Stop()
		there := make(map[string]bool)
		for _, n := range c.storedCloses() {
			there[fmt.Sprint("S", n)] = true
		}
		for letter, err := range (deadletter.Dir{Path: c.dlqDir()}).Letters(t.Context(), deadletter.Filter{}) {
			if err != nil {
				t.Fatal(err)
			}
			there[letter.Texts("symbol")[0]] = true
		}
		if delete(there, "S-1"); len(there) != all {
			t.Fatalf("round %d: %d records are stored or kept, of %d", round, len(there), all)
		}
	}
	if kills == 0 {
		t.Fatal("no replay was killed: the test shows nothing")
	}
	t.Logf("%d kills", kills)
	if out := c.run("dlq", "replay"); c.buried() != "" || len(c.storedCloses()) != all+1 {
		t.Errorf("in the end: %q, left are %d bytes of ids", out.stdout, len(c.buried()))
	}
}
