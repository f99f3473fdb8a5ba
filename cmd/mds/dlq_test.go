package main

import (
	"bufio"
	"compress/gzip"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
)

var diedAt = time.Date(2026, 11, 26, 9, 0, 0, 0, time.UTC)

// deadBar is a letter of a bar that validates, submitted so many seconds after nine.
func deadBar(symbol string, closing float64, seconds int) deadletter.Letter {
	bar := mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC), Close: closing}
	return deadOf("bars", deadletter.Encode(&bar), "exhausted", seconds)
}

func deadOf(kind string, record json.RawMessage, code string, seconds int) deadletter.Letter {
	return deadletter.Letter{
		Kind: kind, Tenant: mds.DefaultTenant(), Code: code, Reason: "given up after 5 attempts", SchemaVersion: 5, Attempts: 5,
		Submitted: diedAt.Add(time.Duration(seconds) * time.Second), Died: diedAt.Add(time.Duration(seconds) * time.Minute), Record: record,
	}
}

// poison is a bar that no store takes.
func poison(seconds int) deadletter.Letter {
	bar := mds.Bar{Vendor: "caf\xe9", Symbol: "MSFT", Timeframe: mds.Minute, TS: diedAt, Close: math.NaN()}
	letter := deadOf("bars", deadletter.Encode(&bar), "invalid", seconds)
	letter.Reason = "vendor: is not UTF-8; close: is NaN"
	return letter
}

func (c *cli) dlqDir() string {
	return filepath.Join(strings.TrimPrefix(c.dsn, "duckdb://"), "dead-letters")
}

// bury appends letters to those of the store, and returns their ids.
func (c *cli) bury(letters ...deadletter.Letter) (ids []string) {
	c.t.Helper()
	log, err := deadletter.Open(deadletter.Config{Dir: c.dlqDir()})
	if err == nil {
		err = errors.Join(log.Append(c.t.Context(), letters), log.Close())
	}
	if err != nil {
		c.t.Fatal(err)
	}
	for i := range letters {
		ids = append(ids, letters[i].ID)
	}
	return ids
}

// buried are the ids that are there.
func (c *cli) buried() string {
	c.t.Helper()
	var ids []string
	for letter, err := range (deadletter.Dir{Path: c.dlqDir()}).Letters(c.t.Context(), deadletter.Filter{}) {
		if err != nil {
			c.t.Fatal(err)
		}
		ids = append(ids, letter.ID)
	}
	return strings.Join(ids, " ")
}

// closes are those of the bars, with their symbols, in order.
func (c *cli) closes() string {
	c.t.Helper()
	var list []string
	for _, line := range strings.Split(strings.TrimSpace(c.must("query", "bars", "--format", "csv").stdout), "\n")[1:] {
		cells := strings.Split(line, ",")
		list = append(list, cells[1]+" "+cells[7])
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

func TestDLQWithoutLetters(t *testing.T) {
	c := newCLI(t)
	want := "no dead letters of tenant default in " + c.dlqDir() + " match\n"
	for _, args := range [][]string{{"list"}, {"replay"}, {"replay", "--dry-run"}, {"export", "-"}} {
		if out := c.must(append([]string{"dlq"}, args...)...); out.stdout != "" || out.stderr != want {
			t.Errorf("%v: %q, %q", args, out.stdout, out.stderr)
		}
	}
	if out := c.must("dlq", "discard", "--yes"); out.stdout != "0 letters discarded\n" || out.stderr != "" {
		t.Errorf("discard: %q, %q", out.stdout, out.stderr)
	}
	if _, err := os.Stat(strings.TrimPrefix(c.dsn, "duckdb://")); err == nil {
		t.Error("looking for letters makes a folder")
	}
}

func TestDLQListShowExport(t *testing.T) {
	c := newCLI(t)
	news := mds.News{Vendor: "ibkr", ID: "7", PublishedAt: diedAt, Title: "two\nlines", Symbols: []string{"AAPL", "MSFT"}}
	other, err := mds.NewTenant("other")
	if err != nil {
		t.Fatal(err)
	}
	foreign := deadBar("TSLA", 1, 3)
	foreign.Tenant = other
	ids := c.bury(deadBar("AAPL", 1, 0), poison(1), deadOf("news", deadletter.Encode(&news), "refused", 2), foreign)

	list := c.must("dlq", "list")
	wantText(t, "the list", list.stdout, `id                              kind  record                             submitted (UTC)      died (UTC)           attempts  code       reason
`+ids[0]+`  bars  test AAPL 1m 2020-11-27T14:30:00Z  2026-11-26 09:00:00  2026-11-26 09:00:00         5  exhausted  given up after 5 attempts
`+ids[1]+`  bars  caf`+"\ufffd"+` MSFT 1m 2026-11-26T09:00:00Z  2026-11-26 09:00:01  2026-11-26 09:01:00         5  invalid    vendor: is not UTF-8; close: is NaN
`+ids[2]+`  news  ibkr 7 2026-11-26T09:00:00Z        2026-11-26 09:00:02  2026-11-26 09:02:00         5  refused    given up after 5 attempts
`)
	if !strings.HasPrefix(list.stderr, "1 bars exhausted, 1 bars invalid, 1 news refused; 1.9 KB of at most 1.1 GB are taken in "+c.dlqDir()) {
		t.Errorf("the sum: %q", list.stderr)
	}
	for _, test := range []struct {
		flags string
		want  []string
	}{
		{"--all-tenants", ids},
		{"--tenant other", ids[3:]},
		{"--kind news", ids[2:3]},
		{"--code invalid", ids[1:2]},
		{"--vendor IBKR,x", ids[2:3]},
		{"--symbol msft", ids[1:3]},
		{"--since 2026-11-26T10:01:00 --tz Europe/Berlin --until 2026-11-26T09:02:00Z", ids[1:2]},
		{"--symbol none", nil},
	} {
		out := c.must(append([]string{"dlq", "export", "-"}, strings.Fields(test.flags)...)...)
		var got []string
		for line := range strings.Lines(out.stdout) {
			var letter struct{ ID string }
			if err := json.Unmarshal([]byte(line), &letter); err != nil {
				t.Fatal(err)
			}
			got = append(got, letter.ID)
		}
		if fmt.Sprint(got) != fmt.Sprint(test.want) {
			t.Errorf("%s: %v, want %v", test.flags, got, test.want)
		}
	}
	if out := c.must("dlq", "list", "--limit", "1"); strings.Count(out.stdout, "\n") != 2 || !strings.HasPrefix(out.stderr, "1 of 3 letters; --limit 0 gives all\n1 bars exhausted, 1 bars invalid") {
		t.Errorf("--limit: %q", out.stderr)
	}
	if out := c.must("dlq", "list", "--all-tenants"); !strings.Contains(out.stdout, "  other    test TSLA") {
		t.Errorf("all tenants:\n%s", out.stdout)
	}

	wantText(t, "show", c.must("dlq", "show", ids[1]).stdout, `id              `+ids[1]+`
kind            bars
tenant          default 170955cd-45b1-5e79-a214-43560e6e8b6c
submitted       2026-11-26T09:00:01Z
died            2026-11-26T09:01:00Z
attempts        5
code            invalid
reason          vendor: is not UTF-8; close: is NaN
schema version  5
record
  vendor               {"quoted":"\"caf\\xe9\""}
  symbol               "MSFT"
  timeframe            "1m"
  ts                   "2026-11-26T09:00:00Z"
  open                 null
  high                 null
  low                  null
  close                "NaN"
  volume               null
  vwap                 null
  trade_count          null

`)
	if out := c.run("dlq", "show", ids[0], ids[3]); out.exit != exitFailed || !strings.Contains(out.stdout, ids[0]) || out.stderr != "mds: there is no letter "+ids[3]+" of tenant default in "+c.dlqDir()+"; mds dlq list shows those that are\n" {
		t.Errorf("exit %d, %q", out.exit, out.stderr)
	}

	file := filepath.Join(t.TempDir(), "letters.ndjson.gz")
	wantText(t, "export", c.must("dlq", "export", file, ids[0], ids[2]).stdout, "2 letters to "+file+"\n")
	f, err := os.Open(file)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	unpacked, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(unpacked)
	lines.Scan()
	wantText(t, "the exported letter", lines.Text(), `{"id":"`+ids[0]+`","kind":"bars","tenant":"default","tenant_id":"170955cd-45b1-5e79-a214-43560e6e8b6c","code":"exhausted","reason":"given up after 5 attempts","schema_version":5,"attempts":5,"submitted":"2026-11-26T09:00:00Z","died":"2026-11-26T09:00:00Z","record":{"vendor":"test","symbol":"AAPL","timeframe":"1m","ts":"2020-11-27T14:30:00Z","open":null,"high":null,"low":null,"close":1,"volume":null,"vwap":null,"trade_count":null}}`)
	if !lines.Scan() || lines.Scan() {
		t.Error("there are not two lines")
	}
}

func TestDLQDiscard(t *testing.T) {
	c := newCLI(t)
	ids := c.bury(deadBar("AAPL", 1, 0), poison(1), deadBar("TSLA", 1, 2))
	if out := c.run("dlq", "discard"); out.exit != exitUsage || out.stderr != "mds: say which letters: give ids, --kind, --code, --vendor, --symbol, --since or --until, or --yes for all\n" {
		t.Errorf("exit %d, %q", out.exit, out.stderr)
	}
	if out := c.must("dlq", "discard", "--code", "invalid"); out.stdout != "1 letter discarded\n" || c.buried() != ids[0]+" "+ids[2] {
		t.Errorf("%q, left are %s", out.stdout, c.buried())
	}
	if out := c.must("dlq", "discard", ids[1], ids[2]); out.stdout != "1 letter discarded\n" || out.stderr != "1 letter was not there\n" || c.buried() != ids[0] {
		t.Errorf("%q, %q, left are %s", out.stdout, out.stderr, c.buried())
	}
	if out := c.must("dlq", "discard", "--tenant", "other", "--yes"); out.stdout != "0 letters discarded\n" || c.buried() != ids[0] {
		t.Errorf("another tenant's: %q", out.stdout)
	}
	if out := c.must("dlq", "discard", "--yes"); out.stdout != "1 letter discarded\n" || c.buried() != "" {
		t.Errorf("%q", out.stdout)
	}
}

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
	r := &replay{app: &app{stdout: &out, stderr: &out}, dir: deadletter.Dir{Path: c.dlqDir()}}
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
	r := &replay{app: &app{stdout: &out, stderr: &out}, dir: deadletter.Dir{Path: c.dlqDir()}}
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

func (f lateFunc) WriteLate(_ context.Context, _ mds.Tenant, batch []mds.Bar, as time.Time) (mds.Receipt, error) {
	return f(batch, as)
}

func (f lateFunc) WriteBatch(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{}, errors.New("the letters are not written late")
}

type retryableError struct{ error }

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
	for round := 0; round < 200 && c.buried() != ""; round++ {
		cmd := c.program("dlq", "replay")
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		kill := time.AfterFunc(time.Duration(50+random.IntN(900))*time.Millisecond, func() { _ = cmd.Process.Kill() })
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

func TestDLQBadUse(t *testing.T) {
	c := newCLI(t)
	c.bury(deadBar("A", 1, 0))
	for _, test := range []struct{ args, want string }{
		{"list --kind quotes", `--kind "quotes": use bars, options, fundamentals, news or rollups`},
		{"list --since yesterday", `--since: "yesterday" is not a time`},
		{"list --since 2026-11-27 --until 2026-11-26", "--since 2026-11-27 is not before --until 2026-11-26"},
		{"list --tz Mars", `--tz "Mars" is no time zone`},
		{"list --limit -1", "--limit -1: use 0 for all, or more"},
		{"list --code=", "--code is given without a value"},
		{"list --all-tenants --tenant x", "--all-tenants takes each tenant, and --tenant names one: give one of them"},
		{"list x", `mds dlq list takes no arguments, and "x" is one`},
		{"show", "mds dlq show: name the letters by their ids; mds dlq list shows them"},
		{"show 7", `"7" is no letter's id; one is like 20261126T084200.123456Z-1a2b.7, and mds dlq list shows them`},
		{"replay 7", `"7" is no letter's id`},
		{"discard 7", `"7" is no letter's id`},
		{"export", "mds dlq export needs a file to write, or - for standard output"},
		{"list --dsn nonsense", "DSN: write duckdb://DIR or postgres://USER:PASSWORD@HOST/DATABASE, or name the folder of the dead letters with --dlq-dir"},
		{"burn", `mds dlq: unknown "burn"; use`},
		{"", "mds dlq: say which,"},
	} {
		out := c.run(append([]string{"dlq"}, strings.Fields(test.args)...)...)
		if out.exit != exitUsage || !strings.HasPrefix(out.stderr, "mds: "+test.want) || strings.Count(out.stderr, "\n") != 1 || out.stdout != "" {
			t.Errorf("%s: exit %d, %q, %q; want %q", test.args, out.exit, out.stdout, out.stderr, test.want)
		}
	}
}

// TestDLQDamage: what is damaged is told, and the rest is there.
func TestDLQDamage(t *testing.T) {
	c := newCLI(t)
	ids := c.bury(deadBar("A", 1, 0), deadBar("B", 1, 0), deadBar("C", 1, 0))
	segment := filepath.Join(c.dlqDir(), ids[0][:strings.LastIndexByte(ids[0], '.')]+".ndjson")
	text, err := os.ReadFile(segment)
	if err != nil {
		t.Fatal(err)
	}
	damaged := strings.Replace(string(text), `"B"`, `"X"`, 1)
	if err := os.WriteFile(segment, []byte(damaged), 0o600); err != nil {
		t.Fatal(err)
	}
	out := c.must("dlq", "list")
	if strings.Count(out.stdout, "\n") != 3 || !strings.HasPrefix(out.stderr, "warning: "+segment+" is damaged at byte ") {
		t.Errorf("%s%s", out.stdout, out.stderr)
	}
	discarded := c.must("dlq", "discard", ids[0])
	want := "warning: 1 file was damaged and put aside; letters may be missing. Look at them, then remove them: " + filepath.Join(c.dlqDir(), "quarantine", filepath.Base(segment)) + "\n"
	if discarded.stdout != "1 letter discarded\n" || !strings.HasSuffix(discarded.stderr, want) || c.buried() != ids[2] {
		t.Errorf("%q, %q", discarded.stdout, discarded.stderr)
	}
	if out := c.must("dlq", "list", "--dlq-dir", c.dlqDir(), "--dsn", "postgres://nowhere/x"); !strings.Contains(out.stdout, ids[2]) || !strings.HasSuffix(out.stderr, want) {
		t.Errorf("%s%s", out.stdout, out.stderr)
	}
}
