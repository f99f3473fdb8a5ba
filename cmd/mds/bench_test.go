package main

import (
	"encoding/json"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/bench"
)

func report(t *testing.T, o outcome) (names []string) {
	t.Helper()
	var r bench.Report
	decoder := json.NewDecoder(strings.NewReader(o.stdout))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(&r); err != nil || decoder.More() {
		t.Fatalf("%v in %s", err, o.stdout)
	}
	for _, row := range r.Rows {
		names = append(names, row.Name)
		if row.RowsPerS <= 0 && row.Bytes <= 0 && row.Millis <= 0 && row.Allocations <= 0 || row.Of != "" && row.Ratio <= 0 {
			t.Errorf("no figure in %+v", row)
		}
	}
	return names
}

// TestBench measures a little of everything, on a store of its own and on one that
// holds data, which it leaves as it was.
func TestBench(t *testing.T) {
	c := newCLI(t)
	names := report(t, c.must("bench", "store", "--quick", "--json"))
	for _, want := range []string{"limit: insert, unchecked", "write, in order of time", "write again, all equal", "write, every batch merged", "8 writers at once", "compaction", "window of 10,000 bars", "latest of 500 symbols"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %q in %q", want, names)
		}
	}
	dir := strings.TrimPrefix(c.dsn, "duckdb://")
	if _, err := os.Stat(dir); !os.IsNotExist(err) {
		t.Errorf("it touched the user's store: %v", err)
	}
	c.must("ingest", "bars", testFile(t, "minutes.csv", threeBars), "--symbol", "MSFT", "--timeframe", "1m")
	before := c.must("query", "bars", "--format", "csv").stdout
	c.must("bench", "store", "--quick", "--dsn", c.dsn)
	if after := c.must("query", "bars", "--format", "csv").stdout; after != before {
		t.Errorf("the data is\n%s\nand was\n%s", after, before)
	}
	if tenants := c.must("tenant", "list").stdout; strings.Contains(tenants, "bench") {
		t.Errorf("its tenants are left:\n%s", tenants)
	}
}

func TestBenchCodecs(t *testing.T) {
	c := newCLI(t)
	names := report(t, c.must("bench", "codecs", "--quick", "--json"))
	if !slices.Contains(names, "csv decoded, in order of time") || !slices.Contains(names, "ndjson decoded, symbol by symbol") {
		t.Errorf("%q", names)
	}
	table := c.must("bench", "codecs", "--quick").stdout
	if !strings.Contains(table, " rows/s") || !strings.Contains(table, " × ") {
		t.Errorf("the table is\n%s", table)
	}
}

// TestCompact has an ingest of a file in order of time put its rows in order of symbols
// at its end, and leave nothing to mds compact.
func TestCompact(t *testing.T) {
	c := newCLI(t)
	// Each batch has all symbols: the runs of four of them together are worth moving.
	o := c.must("ingest", "bars", testFile(t, "week.csv", string(syntheticCSV(t, 140_000))), "--batch-size", "20000")
	if !strings.Contains(o.stderr, " rows put in order, for queries by series, ") {
		t.Errorf("the ingest says\n%s", o.stderr)
	}
	before := c.must("query", "bars", "--format", "csv").stdout
	o = c.must("compact")
	wantText(t, "compact", o.stdout, "bars         in order\noptions      in order\nrollups      in order\n")
	if after := c.must("query", "bars", "--format", "csv").stdout; after != before || strings.Count(after, "\n") != 140_001 {
		t.Errorf("%d lines before, %d after", strings.Count(before, "\n"), strings.Count(after, "\n"))
	}
}

func TestBenchCoordinator(t *testing.T) {
	c := newCLI(t)
	names := report(t, c.must("bench", "coordinator", "--quick", "--json"))
	for _, want := range []string{"through the coordinator, the same batches: rows a second of CPU time", "submit to committed at 50,000 rows/s: p99", "a quiet tenant beside a hundred times as much of another: p99"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %q in %q", want, names)
		}
	}
}

func TestBenchHTTP(t *testing.T) {
	c := newCLI(t)
	names := report(t, c.must("bench", "http", "--quick", "--json"))
	for _, want := range []string{"from the start until it is ready", "Arrow over HTTP, committed", "CSV over HTTP, committed", "200 clients, 100 rows a body, NDJSON, committed", "a window of 10000 bars of ten symbols as ndjson"} {
		if !slices.Contains(names, want) {
			t.Errorf("no %q in %q", want, names)
		}
	}
}
