package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/deadletter"
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
		for n := range replayedAtOnce {
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

// TestDLQReplayEndsInTheMiddle: what the store took before it failed is removed, the
// rest stays, and the ledger says so.
func TestDLQReplayEndsInTheMiddle(t *testing.T) {
	c := loaded(t)
	var letters []deadletter.Letter
	for n := range 5 {
		letters = append(letters, deadBar(fmt.Sprint("S", n), 1, n))
	}
	ids := c.bury(letters...)
	failing := errors.New("the disk is full")
	writes := 0
	table := lateFunc(func(batch []mds.Bar, as time.Time) (mds.Receipt, error) {
		if writes++; writes > 2 {
			return mds.Receipt{}, retryableError{failing}
		}
		if want := diedAt.Add(time.Duration(5-writes) * time.Second); !as.Equal(want) {
			t.Errorf("write %d is of %v, want %v", writes, as, want)
		}
		return mds.Receipt{Written: int64(len(batch))}, nil
	})
	var out strings.Builder
	r := &replay{app: &app{stdout: &out, stderr: &out, settings: &config.Settings{}}, dir: deadletter.Dir{Path: c.dlqDir()}}
	r.kindNamed = func(string) (kind, bool) {
		return kind{replay: func(ctx context.Context, r *replay, letters []deadletter.Letter) error {
			return replayInto(ctx, r, letters, table)
		}}, true
	}
	segments, refs, err := r.pick(t.Context())
	if err == nil {
		err = r.windows(t.Context(), segments, refs)
	}
	r.printLedger()
	if !errors.Is(err, failing) || out.String() != "5 letters read = 2 written + 0 unchanged + 0 superseded + 0 still refused + 3 unwritten\n" || c.buried() != strings.Join(ids[:3], " ") {
		t.Errorf("%v, %q, left are %s", err, out.String(), c.buried())
	}
}

// TestDLQReplayInParts: of two letters of one submit with the same key the last stays,
// also where the batch is refused for a third one and written in parts.
func TestDLQReplayInParts(t *testing.T) {
	c := newCLI(t)
	ids := c.bury(deadBar("K", 4, 0), deadBar("K", 5, 0), deadBar("POISON", 1, 0))
	stored := 0.0
	table := lateFunc(func(batch []mds.Bar, _ time.Time) (mds.Receipt, error) {
		if slices.ContainsFunc(batch, func(b mds.Bar) bool { return b.Symbol == "POISON" }) {
			return mds.Receipt{}, errors.New("no")
		}
		if stored != 0 { // what was written late by then stays
			return mds.Receipt{Superseded: int64(len(batch))}, nil
		}
		stored = batch[len(batch)-1].Close
		return mds.Receipt{Written: 1, Superseded: int64(len(batch) - 1)}, nil
	})
	var out strings.Builder
	r := &replay{app: &app{stdout: &out, stderr: &out, settings: &config.Settings{}}, dir: deadletter.Dir{Path: c.dlqDir()}}
	r.kindNamed = func(string) (kind, bool) {
		return kind{replay: func(ctx context.Context, r *replay, letters []deadletter.Letter) error {
			return replayInto(ctx, r, letters, table)
		}}, true
	}
	segments, refs, err := r.pick(t.Context())
	if err == nil {
		err = r.windows(t.Context(), segments, refs)
	}
	r.printLedger()
	want := "still refused: " + ids[2] + ": no\n3 letters read = 1 written + 0 unchanged + 1 superseded + 1 still refused\n"
	if err != nil || stored != 5 || out.String() != want || c.buried() != ids[2] {
		t.Errorf("%v, stored is %v, left are %s, %s", err, stored, c.buried(), out.String())
	}
}

// lateFunc is a table that late records are written into.
type lateFunc func([]mds.Bar, time.Time) (mds.Receipt, error)

type retryableError struct{ error }

func (f lateFunc) WriteLate(_ context.Context, _ mds.Tenant, batch []mds.Bar, as time.Time) (mds.Receipt, error) {
	return f(batch, as)
}

func (f lateFunc) WriteBatch(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{}, errors.New("the letters are not written late")
}

func (retryableError) Retryable() bool { return true }

func (e retryableError) Unwrap() error { return e.error }

// TestBackwards: where a batch is written in parts, the newest of a key is written
// first, the records of a part are in order, and the guilty one is found.
func TestBackwards(t *testing.T) {
	var parts []string
	write := backwards(surviving(func(_ context.Context, batch []int) (mds.Receipt, error) {
		for i, n := range batch {
			switch n {
			case 3:
				panic("poison")
			case 5:
				return mds.Receipt{}, &mds.RecordError{Index: i, Err: errors.New("five")}
			}
		}
		parts = append(parts, fmt.Sprint(batch))
		return mds.Receipt{Written: int64(len(batch))}, nil
	}))
	_, err := write(t.Context(), []int{7, 6, 5, 4})
	var record *mds.RecordError
	if !errors.As(err, &record) || record.Index != 2 {
		t.Errorf("%v", err)
	}
	_, err = write(t.Context(), []int{4, 3})
	var panicked *ingest.PanicError
	if !errors.As(err, &panicked) || panicked.Value != "poison" {
		t.Errorf("%v", err)
	}
	batch := []int{9, 8}
	if receipt, err := write(t.Context(), batch); err != nil || receipt.Written != 2 || batch[0] != 9 || fmt.Sprint(parts) != "[[8 9]]" {
		t.Errorf("%+v, %v, %v, %v", receipt, err, batch, parts)
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
	begun := time.Now() // what the program takes to begin depends on how it was built
	if _, stderr, exit := exitOf(t, c.program("info")); exit != exitDone {
		t.Fatal(stderr)
	}
	start := time.Since(begun)
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
