package main

import (
	"bufio"
	"bytes"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/pgtest"
)

// TestIngestDeadLetters has a server refuse rows for good: they go to the dead letters,
// the others are stored, and a replay takes them from there.
func TestIngestDeadLetters(t *testing.T) {
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	letters := filepath.Join(t.TempDir(), "letters")
	first := testFile(t, "first.csv", "symbol,timeframe,ts,close\nA,1m,2024-01-02T15:00:00Z,1\nA,1m,2024-01-02T15:02:00Z,2\n")
	c.must("ingest", "bars", first)
	// The mode copy fails where a row is there.
	c.env = map[string]string{"MDS_WRITE_MODE": "copy"}
	all := testFile(t, "all.csv", "symbol,timeframe,ts,close\nA,1m,2024-01-02T15:00:00Z,11\nA,1m,2024-01-02T15:01:00Z,12\nA,1m,2024-01-02T15:02:00Z,2\nA,1m,2024-01-02T15:03:00Z,14\n")
	out := c.run("ingest", "bars", all, "--dlq-dir", letters)
	const ledger = "bars: 4 read = 0 rejected + 4 accepted; accepted = 2 written + 0 unchanged + 0 superseded + 2 dead-lettered\n"
	if out.exit != exitRejected || out.stdout != ledger || !strings.Contains(out.stderr, "the store refuses 2 rows: they are dead letters now, in "+letters+"; mds dlq list shows them\n") {
		t.Fatalf("exit %d\n%s%s", out.exit, out.stdout, out.stderr)
	}
	c.env = nil
	if list := c.must("dlq", "list", "--dlq-dir", letters).stdout; strings.Count(list, "refused") != 2 || !strings.Contains(list, " write bars: duplicate key") {
		t.Errorf("dlq list:\n%s", list)
	}
	// One differs from what is stored, and one equals it.
	replay := c.must("dlq", "replay", "--dlq-dir", letters, "--overwrite")
	if !strings.Contains(replay.stdout, "1 written") || !strings.Contains(replay.stdout, "1 unchanged") {
		t.Errorf("dlq replay:\n%s%s", replay.stdout, replay.stderr)
	}
	if rows := c.must("query", "bars", "--format", "csv").stdout; !strings.Contains(rows, "15:00:00Z,,,,11") || strings.Count(rows, "\n") != 5 {
		t.Errorf("stored:\n%s", rows)
	}
}

// TestInterruptTwice has an ingest of which the server answers no more: the first
// interrupt waits for it, the second one names what is unwritten.
func TestInterruptTwice(t *testing.T) {
	server := pgtest.Start(t)
	d := pgtest.Empty(t)
	proxy := pgtest.NewProxy(t, server.Addr())
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	c.dsn = d.Through(d.Service, proxy.Listen)
	cmd := c.program("ingest", "bars", "-", "--batch-size", "2")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout bytes.Buffer
	cmd.Stdout = &stdout
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	send := func(rows string) {
		if _, err := io.WriteString(stdin, rows); err != nil {
			t.Fatal(err)
		}
	}
	send("symbol,timeframe,ts,close\nA,1m,2024-01-02T15:00:00Z,1\nA,1m,2024-01-02T15:01:00Z,1\n")
	for pgtest.Ask(t, d.Admin, "SELECT count(*) = 2 FROM mds_internal.bar_facts_1m") != "true" {
	}
	proxy.Add("timeout", pgtest.ToClient, map[string]any{"timeout": 0}) // nothing comes back any more
	send("A,1m,2024-01-02T15:02:00Z,1\nA,1m,2024-01-02T15:03:00Z,1\nB,1m,2024-01-02T15:04:00Z,1\n")
	lines := bufio.NewScanner(stderr)
	var said []string
	next := func(part string) {
		for lines.Scan() {
			if said = append(said, lines.Text()); strings.Contains(lines.Text(), part) {
				return
			}
		}
		t.Fatalf("no %q in\n%s", part, strings.Join(said, "\n"))
	}
	next("3 queued (ok)")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	next("interrupted: writing 3 rows that are queued; interrupt again to leave them unwritten")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	next("unwritten: local A 1m: 2 rows, 2024-01-02T15:02:00Z to 2024-01-02T15:03:00Z")
	next("unwritten: local B 1m: 1 row, 2024-01-02T15:04:00Z to 2024-01-02T15:04:00Z")
	next("mds: interrupted twice: what is unwritten is listed above; run the same command again to load it")
	_ = cmd.Wait() // its status is looked at
	const ledger = "bars: 5 read = 0 rejected + 5 accepted; accepted = 2 written + 0 unchanged + 0 superseded + 3 unwritten\n"
	if cmd.ProcessState.ExitCode() != exitFailed || stdout.String() != ledger {
		t.Errorf("exit %d\n%s%s", cmd.ProcessState.ExitCode(), stdout.String(), strings.Join(said, "\n"))
	}
}

// TestSlowPipe has rows of a pipe that stays open stored soon.
func TestSlowPipe(t *testing.T) {
	c := newCLI(t)
	c.dsn = pgtestStore(t)
	cmd := c.program("ingest", "bars", "-")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(stdin, "symbol,timeframe,ts,close\nA,1m,2024-01-02T15:00:00Z,1\n"); err != nil {
		t.Fatal(err)
	}
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(c.must("query", "bars", "--format", "csv").stdout, "15:00:00Z") {
		if time.Now().After(deadline) {
			t.Fatal("the row is not stored")
		}
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
}

// pgtestStore is a migrated database, which several processes may use.
func pgtestStore(t *testing.T) string {
	d := pgtest.Empty(t)
	newCLI(t).must("migrate", "--admin-dsn", d.Owner, "--dsn", d.Service)
	return d.Service
}

func TestCoordinatorSettings(t *testing.T) {
	s, err := config.Load(config.Sources{Environment: map[string]string{
		"MDS_COORDINATOR_CAPACITY": "1000", "MDS_COORDINATOR_CAPACITY_BYTES": "3MiB", "MDS_COORDINATOR_WORKERS": "2",
		"MDS_COORDINATOR_BATCH_SIZE": "10", "MDS_COORDINATOR_BATCH_MAX": "20", "MDS_COORDINATOR_FLUSH_INTERVAL": "50ms",
		"MDS_RETRY_MAX_ATTEMPTS": "7", "MDS_RETRY_INITIAL_BACKOFF": "1ms", "MDS_RETRY_MAX_BACKOFF": "1s", "MDS_RETRY_BACKOFF_MULTIPLIER": "1.5",
		"MDS_RETRY_JITTER": "false", "MDS_CB_FAILURE_THRESHOLD": "3", "MDS_CB_HALF_OPEN_AFTER": "5s",
	}})
	if err != nil {
		t.Fatal(err)
	}
	cfg := coordinatorSettings[mds.Bar](s)
	want := ingest.Config[mds.Bar]{
		Capacity: 1000, CapacityBytes: 3 << 20, Workers: 2, BatchSize: 10, BatchMax: 20, FlushInterval: 50 * time.Millisecond,
		Retry:   ingest.Retry{MaxAttempts: 7, InitialBackoff: time.Millisecond, MaxBackoff: time.Second, Multiplier: 1.5, NoJitter: true},
		Circuit: ingest.Circuit{FailureThreshold: 3, HalfOpenAfter: 5 * time.Second},
	}
	if cfg.Retry != want.Retry || cfg.Circuit != want.Circuit || cfg.Capacity != want.Capacity || cfg.CapacityBytes != want.CapacityBytes ||
		cfg.Workers != want.Workers || cfg.BatchSize != want.BatchSize || cfg.BatchMax != want.BatchMax || cfg.FlushInterval != want.FlushInterval {
		t.Errorf("%+v", cfg)
	}
	c := newCLI(t)
	file := testFile(t, "bars.csv", threeBars)
	for name, text := range map[string]string{
		"MDS_COORDINATOR_WORKERS": "many", "MDS_COORDINATOR_CAPACITY_BYTES": "64 apples", "MDS_COORDINATOR_FLUSH_INTERVAL": "-1s",
		"MDS_RETRY_BACKOFF_MULTIPLIER": "0.5", "MDS_RETRY_JITTER": "maybe", "MDS_CB_HALF_OPEN_AFTER": "soon",
	} {
		c.env = map[string]string{name: text}
		out := c.run("ingest", "bars", file)
		if out.exit != exitUsage || !strings.HasPrefix(out.stderr, "mds: "+name+" is \""+text+"\": write ") || strings.Count(out.stderr, "\n") != 1 {
			t.Errorf("%s=%s: exit %d\n%s", name, text, out.exit, out.stderr)
		}
	}
	c.env = nil
	for flags, want := range map[string]string{
		"--workers -1": "--workers -1: write 1 to 1,024", "--workers 0": "--workers 0: write 1 to 1,024", "--workers 5000": "--workers 5000: write 1 to 1,024",
		"--capacity 0": "--capacity 0: write a number of records, 1 or more", "--flush-interval 0": "--flush-interval 0s: write a duration such as 250ms",
		"--give-up-after -1s": "--give-up-after -1s: write a duration such as 5m, or 0 to wait for ever", "--capacity 10 --batch-size 10": "--capacity 10 does not hold two batches of --batch-size 10",
		"--dlq-dir " + file: "--dlq-dir " + file + ": dead letters in " + file + ": it is a file, not a folder",
	} {
		out := c.run(append([]string{"ingest", "bars", file, "--symbol", "A", "--timeframe", "1m"}, strings.Fields(flags)...)...)
		if out.exit != exitUsage || out.stderr[strings.Index(out.stderr, "mds: ")+5:] != want+"\n" {
			t.Errorf("%s: exit %d\n%s", flags, out.exit, out.stderr)
		}
	}
	// Flags win over the environment, and small capacities do.
	c.env = map[string]string{"MDS_COORDINATOR_WORKERS": "7", "MDS_COORDINATOR_CAPACITY": "9", "MDS_COORDINATOR_FLUSH_INTERVAL": "9s", "MDS_COORDINATOR_CAPACITY_BYTES": "1MiB"}
	if s, err = config.Load(config.Sources{Environment: c.env}); err != nil {
		t.Fatal(err)
	}
	a := &app{settings: s}
	got, err := ingestSettings[mds.Bar](a, &ingestFlags{queue: coordinatorFlags{workers: 2, capacity: 3, flushInterval: time.Second}})
	if err != nil || got.Workers != 2 || got.Capacity != 3 || got.FlushInterval != time.Second || got.CapacityBytes != 1<<20 || got.Lanes != 1 {
		t.Errorf("%+v, %v", got, err)
	}
	if out := c.must("ingest", "bars", file, "--symbol", "A", "--timeframe", "1m", "--capacity", "1"); out.ledger().Written != 3 {
		t.Errorf("%s", out.stdout)
	}
}

// TestLettersOfAServer are in a folder of their own.
func TestLettersOfAServer(t *testing.T) {
	a := &app{logLevel: "warn", logFormat: "text", dsn: "postgres://me:secret@db.example:5433/prices?sslmode=disable"}
	dir, err := a.deadLetters("")
	if err != nil || !strings.HasSuffix(dir.Path, "/mds/dead-letters-db.example-5433-prices") {
		t.Errorf("%s, %v", dir.Path, err)
	}
}

// TestNamesOfUnwritten names so many series, and counts the rest.
func TestNamesOfUnwritten(t *testing.T) {
	var e ingest.UnwrittenError[mds.Bar]
	for i := range 25 {
		e.Unwritten = append(e.Unwritten, ingest.Unwritten[mds.Bar]{Records: []mds.Bar{{Vendor: "v", Symbol: string(rune('A' + i)), Timeframe: mds.Minute, TS: time.Date(2024, 1, 2, 0, i, 0, 0, time.UTC)}}})
	}
	var out bytes.Buffer
	a := &app{stderr: &out}
	a.nameUnwritten(seriesOf(&e))
	text := out.String()
	if !strings.HasPrefix(text, "unwritten: v A 1m: 1 row, 2024-01-02T00:00:00Z to 2024-01-02T00:00:00Z\n") || !strings.HasSuffix(text, "unwritten: and 5 more series\n") || strings.Count(text, "\n") != 21 {
		t.Errorf("%s", text)
	}
}
