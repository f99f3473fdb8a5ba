package main

import (
	"bufio"
	"compress/gzip"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
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
		{"list --dsn nonsense", `--dsn "nonsense": write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST`},
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
