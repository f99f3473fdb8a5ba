package main

import (
	"bytes"
	"compress/gzip"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testFile writes a file of the test's own and returns its path.
func testFile(t *testing.T, name, content string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func gzipped(t *testing.T, content string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(content)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestBadInput: each gets one clear sentence and the right exit status.
// The disk that is full and the folder that cannot be written are in
// process_test.go.
func TestBadInput(t *testing.T) {
	const good = "ts,close\n2020-11-27T14:30:00Z,1\n2020-11-27T14:31:00Z,2\n"
	long := gzipped(t, "ts,close\n"+strings.Repeat("2020-11-27T14:30:00Z,1\n", 50_000))
	msft := []string{"--symbol", "MSFT", "--timeframe", "1m"}
	for _, c := range []struct {
		name string
		file string // content; the path is {} in the arguments and the message
		args []string
		exit int
		want string // on standard error
	}{
		{"missing file", "", []string{"ingest", "bars", "/nowhere/x.csv"}, exitFailed, "mds: /nowhere/x.csv: no such file or directory"},
		{"directory", "", []string{"ingest", "bars", "/tmp"}, exitFailed, "mds: /tmp: it is a directory; name the files in it"},
		{"empty file", "", append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: it is empty: the first line should name the columns"},
		{"binary file", "\x7fELF\x00\x00", append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: it is a binary file, not CSV"},
		{"truncated gzip", long[:len(long)/2], append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: the gzip data ends too early: the file is truncated; fetch it again"},
		{"damaged gzip", long[:50] + "xxxx" + long[54:], append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: the gzip data is damaged"},
		{"truncated zstd", "\x28\xb5\x2f\xfd\x00", append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: the zstd data ends too early: the file is truncated; fetch it again"},
		{"no usable columns", "a,b\n1,2\n", append([]string{"ingest", "bars", "{}"}, msft...), exitUsage, `mds: {}: no usable columns: the first line is "a", "b"; it should name them; map other names with --columns ts=NAME,… and columns without names with --no-header --columns ts=#1,…`},
		{"unknown column", good, append([]string{"ingest", "bars", "{}", "--columns", "open=Opening"}, msft...), exitUsage, `mds: {}: --columns open=Opening: the file has no column "Opening"; it has "ts", "close"`},
		{"unknown field", good, append([]string{"ingest", "bars", "{}", "--columns", "bid=close"}, msft...), exitUsage, `mds: {}: --columns bid=close: bars have no column "bid"; they have vendor, symbol, timeframe, ts, open, high, low, close, volume, vwap, trade_count`},
		{"no timeframe", good, []string{"ingest", "bars", "{}", "--symbol", "MSFT"}, exitUsage, `mds: {}: no column holds the timeframe: give one with --timeframe, or map one of "ts", "close" with --columns timeframe=NAME`},
		{"odd memory limit", good, append([]string{"ingest", "bars", "{}", "--memory-limit", "lots"}, msft...), exitUsage, `mds: --memory-limit "lots": use a number and KB, MB or GB, such as 512MB or 2GB`},
		{"too little memory", good, append([]string{"ingest", "bars", "{}", "--memory-limit", "1MB"}, msft...), exitUsage, `mds: memory limit "1MB": use 64MB to 1000000GB`},
		{"odd timeframe", good, []string{"ingest", "bars", "{}", "--symbol", "MSFT", "--timeframe", "7m"}, exitUsage, `mds: {}: --timeframe: not a timeframe: "7m" (use one of 1s 5s 10s 15s 30s 1m 2m 3m 5m 10m 15m 30m 1h 2h 3h 4h 6h 8h 12h 1d 1w 1mo)`},
		{"naive time", "ts,close\n2020-11-27 14:30,1\n", append([]string{"ingest", "bars", "{}"}, msft...), exitUsage, `mds: {}, line 2: ts: "2020-11-27 14:30" has no time zone; name the file's zone with --tz, such as --tz America/New_York or --tz UTC`},
		{"unknown zone", good, append([]string{"ingest", "bars", "{}", "--tz", "Mars"}, msft...), exitUsage, `mds: --tz "Mars" is no time zone; use a name such as America/New_York, Europe/London or UTC`},
		{"skipped local time", "ts,close\n2024-03-10 02:30,1\n", append([]string{"ingest", "bars", "{}", "--tz", "America/New_York"}, msft...), exitRejected, "rejected: {}, line 2: ts: 2024-03-10 02:30:00 does not exist in America/New_York, whose clocks skipped it"},
		{"symbol missing", good, []string{"ingest", "bars", "{}", "--timeframe", "1m"}, exitUsage, `mds: {}: no column holds the symbol: give one with --symbol, or map one of "ts", "close" with --columns symbol=NAME`},
		{"blank symbol", "ts,close,symbol\n2020-11-27T14:30:00Z,1,\n", []string{"ingest", "bars", "{}", "--timeframe", "1m"}, exitRejected, "rejected: {}, line 2: symbol: is missing"},
		{"NaN price", "ts,close\n2020-11-27T14:30:00Z,NaN\n", append([]string{"ingest", "bars", "{}"}, msft...), exitRejected, `rejected: {}, line 2: close: "NaN" is not a number that can be kept; leave a missing value blank`},
		{"strict", "ts,close\n2020-11-27T14:30:00Z,1\n2020-11-27T14:31:00Z,x\n2020-11-27T14:32:00Z,3\n", append([]string{"ingest", "bars", "{}", "--strict"}, msft...), exitFailed, `mds: {}, line 3: close: "x" is not a number`},
		{"label", good, append([]string{"ingest", "bars", "{}", "--label", "middle"}, msft...), exitUsage, `mds: --label: label "middle": use start or end`},
		{"symbol twice", good, append([]string{"ingest", "bars", "{}", "--symbol-from", "filename"}, msft...), exitUsage, "mds: give --symbol or --symbol-from, not both"},
		{"symbol from", good, []string{"ingest", "bars", "{}", "--symbol-from", "name"}, exitUsage, `mds: --symbol-from "name": use column or filename`},
		{"batch size", good, append([]string{"ingest", "bars", "{}", "--batch-size", "0"}, msft...), exitUsage, "mds: --batch-size 0: use 1 to 1,000,000"},
		{"vendor", good, append([]string{"ingest", "bars", "{}", "--vendor", "a b"}, msft...), exitUsage, `mds: {}: --vendor: "a b" holds a character other than letters, digits, '-', '_' and '.'`},
		{"no files", "", []string{"ingest", "bars"}, exitUsage, "mds: name the files to load, or - for standard input"},
		{"unknown tenant", good, append([]string{"ingest", "bars", "{}", "--tenant", "acme"}, msft...), exitFailed, `mds: unknown tenant "acme"; make it with: mds tenant create acme`},
		{"tenant name", "", []string{"tenant", "create", "A/B"}, exitUsage, `mds: tenant name "A/B": use lower-case letters, digits, '-' and '_', at most 63 of them, starting with a letter or digit`},
		{"taken tenant", "", []string{"tenant", "create", "default"}, exitFailed, "mds: tenant exists: default"},
		{"unknown scheme", "", []string{"series", "--dsn", "sqlite://x"}, exitUsage, `mds: --dsn "sqlite://x": write duckdb://DIR`},
		{"unknown command", "", []string{"inject"}, exitUsage, `mds: unknown command "inject" for "mds"`},
		{"unknown kind", "", []string{"ingest", "quotes"}, exitUsage, `mds: mds ingest: unknown "quotes"; use bars, options, fundamentals, news or rollups`},
		{"unknown flag", "", []string{"query", "bars", "--symbl", "A"}, exitUsage, "mds: unknown flag: --symbl; see mds query bars --help"},
		{"forgotten flag", "", []string{"query", "bars", "MSFT"}, exitUsage, `mds: mds query bars takes no arguments, and "MSFT" is one; did you mean --symbol MSFT?`},
		{"format", "", []string{"query", "bars", "--format", "xml"}, exitUsage, `mds: --format "xml": use table, csv, ndjson or json`},
		{"order", "", []string{"query", "bars", "--order", "up"}, exitUsage, `mds: --order "up": use asc or desc`},
		{"limit", "", []string{"query", "bars", "--limit", "-1"}, exitUsage, "mds: --limit -1: use 0 for all rows, or more"},
		{"start", "", []string{"query", "bars", "--start", "soon"}, exitUsage, `mds: --start: "soon" is not a time`},
		{"window", "", []string{"query", "bars", "--start", "2020-01-02", "--end", "2020-01-01"}, exitUsage, "mds: --start 2020-01-02 is not before --end 2020-01-01"},
		{"no store", "", []string{"query", "bars"}, exitFailed, "/store yet; load something into it with: mds ingest bars FILE\n"},
		{"no store elsewhere", "", []string{"ping", "--dsn", "duckdb:///nowhere"}, exitFailed, "mds: there is no store in /nowhere yet; load something into it with: mds ingest bars FILE --dsn duckdb:///nowhere\n"},
		{"tenant that cannot be", good, append([]string{"ingest", "bars", "{}", "--tenant", "../x"}, msft...), exitFailed, `mds: unknown tenant "../x"; mds tenant list shows what there is`},
		{"empty symbol", "", []string{"delete", "bars", "--symbol", "", "--yes"}, exitUsage, "mds: --symbol is given without a value"},
		{"empty vendor", "", []string{"query", "bars", "--vendor", ""}, exitUsage, "mds: --vendor is given without a value"},
		{"empty among symbols", "", []string{"query", "bars", "--symbol", "A,,B"}, exitUsage, `mds: --symbol "A,,B" names an empty symbol`},
		{"number", "", []string{"query", "bars", "--limit", "abc"}, exitUsage, `mds: invalid argument "abc" for "--limit" flag; see mds query bars --help`},
		{"standard input twice", "", append([]string{"ingest", "bars", "-", "-"}, msft...), exitUsage, "mds: - is standard input: it goes without other files and has no file name for --symbol-from"},
		{"standard input's name", "", []string{"ingest", "bars", "-", "--symbol-from", "filename"}, exitUsage, "mds: - is standard input"},
		{"rejects over the input", good, append([]string{"ingest", "bars", "{}", "--rejects", "{}"}, msft...), exitUsage, "mds: rejects file {}: it is one of the files to load; name another with --rejects"},
		{"rejects nowhere", good, append([]string{"ingest", "bars", "{}", "--rejects", "/proc/nope/x"}, msft...), exitUsage, "mds: rejects file /proc/nope/x: no such file or directory; name another with --rejects"},
		{"no header", "2020-11-27T14:30:00Z,1\n", append([]string{"ingest", "bars", "{}", "--columns", "ts=#1,close=#2"}, msft...), exitUsage, `mds: {}: the first line holds data ("2020-11-27T14:30:00Z" for the ts), not names; if the file has no header, say --no-header`},
		{"no header and no columns", good, append([]string{"ingest", "bars", "{}", "--no-header"}, msft...), exitUsage, "mds: --no-header needs --columns with the columns' numbers, such as ts=#1,close=#5"},
		{"bad file among others", "a\x00", append([]string{"ingest", "bars", "{}", "{}"}, msft...), exitFailed, "mds: {}: it is a binary file, not CSV (the file after it was not read)"},
		{"delete everything", "", []string{"delete", "bars"}, exitUsage, "mds: say which bars: give --vendor, --symbol, --timeframe, --start or --end, or --all"},
		{"ingest format", good, append([]string{"ingest", "bars", "{}", "--format", "xml"}, msft...), exitUsage, `mds: --format "xml": use csv, ndjson or json`},
		{"a vendor's format of another kind", good, []string{"ingest", "news", "{}", "--format", "sec-companyfacts"}, exitUsage, `mds: --format "sec-companyfacts": use csv, ndjson, json or ibkr-news`},
		{"not companyfacts", `{"cik":1}`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts"}, exitFailed, "mds: {}: it is not a companyfacts body of the SEC: it lacks cik or facts"},
		{"companyfacts cut short", `{"cik":1,"facts":{"dei"`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts"}, exitFailed, "mds: {}: it is not the whole of a companyfacts body of the SEC: it ends too early; fetch it again"},
		{"a fact without a value", `{"cik":1,"facts":{"dei":{"X":{"units":{"USD":[{"end":"2020-01-31","val":null,"filed":"2020-03-01"}]}}}}}`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts"}, exitRejected, "rejected: {}, line 1: extra: dei:X/USD has no value"},
		{"a fact without an end", `{"cik":1,"facts":{"dei":{"X":{"units":{"USD":[{"val":1,"filed":"2020-03-01"}]}}}}}`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts"}, exitRejected, "rejected: {}, line 1: asof: dei:X/USD lacks the end of its period or its filing's date, or starts after it ends"},
		{"an item without a time", "{\"news\":{\"content\":[\n{\"newsId\":\"1\",\"headlineContent\":\"x\",\"time\":1.5}\n]}}", []string{"ingest", "news", "{}", "--format", "ibkr-news"}, exitRejected, `rejected: {}, line 2: published_at: "1.5" is not a time in milliseconds`},
		{"an item without a headline", "{\"news\":{\"content\":[\n{\"newsId\":\"1\",\"time\":1583462153000}\n]}}", []string{"ingest", "news", "{}", "--format", "ibkr-news"}, exitRejected, `rejected: {}, line 2: title: is missing`},
		{"JSON array", `[{"a":1}]`, append([]string{"ingest", "bars", "{}"}, msft...), exitRejected, "input, line 1: ts: is missing; close: is missing"},
		{"JSON over lines", "{\n  \"a\": 1\n}\n", append([]string{"ingest", "bars", "{}"}, msft...), exitFailed, "mds: {}: its JSON is spread over lines; write one object a line instead, with jq -c . (a vendor's body is read with --format)"},
		{"symbol twice, NDJSON", `{"symbol":"A","ts":1,"close":1}`, append([]string{"ingest", "bars", "{}"}, msft...), exitUsage, `mds: {}, line 1: symbol: the file's column "symbol" gives the symbol already`},
		{"no kind", "", []string{"ingest"}, exitUsage, "mds: mds ingest: say which, bars, options, fundamentals, news or rollups; see mds ingest --help"},
		{"singular", "", []string{"query", "option", "--limit", "1"}, exitUsage, `mds: mds query: unknown "option"; use bars, options, fundamentals, news or rollups`},
		{"no value", "symbol,date,pe\nA,2020-01-01,7\n", []string{"ingest", "fundamentals", "{}"}, exitUsage, `mds: {}: no column holds a value of fundamentals, such as revenue, operating_income, net_income: the file has "symbol", "date", "pe"; map some with --columns NAME=NAME`},
		{"columns of a body", `{"cik":1,"facts":{}}`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts", "--columns", "eps=EPS"}, exitUsage, "mds: {}: --columns and --no-header are for CSV and NDJSON files; a vendor's body names its own"},
		{"period of a body", `{"cik":1,"facts":{}}`, []string{"ingest", "fundamentals", "{}", "--format", "sec-companyfacts", "--period", "FY"}, exitUsage, "mds: {}: the body says the period itself; leave --period out"},
		{"field twice", `{"symbol":"A","period":"FY","asof":"2023-09-30","TotalRevenue":383,"totalRevenue":1}`, []string{"ingest", "fundamentals", "{}"}, exitRejected, `rejected: {}, line 1: revenue: is there twice, as "TotalRevenue" and "totalRevenue"`},
		{"naive filing date", "symbol,period,asof,filed,eps\nA,FY,2023-09-30,2023-11-02 18:00,1\n", []string{"ingest", "fundamentals", "{}"}, exitUsage, `mds: {}, line 2: filed_at: "2023-11-02 18:00" has no time zone; name the file's zone with --tz`},
		{"a moment that is none", good, []string{"ingest", "bars", "{}", "--symbol", "A", "--timeframe", "1m", "--columns", "ts=", "--ts", "soon"}, exitUsage, `mds: {}: --ts: "soon" is not a time`},
		{"a moment beside a date", "symbol,date,time,close\nA,2020-01-02,09:30,1\n", []string{"ingest", "bars", "{}", "--timeframe", "1m", "--ts", "2024-03-15T10:00:00Z"}, exitUsage, `mds: {}: the file's column "date" gives the ts already`},
		{"a moment beside a date, NDJSON", `{"symbol":"A","date":"2020-01-02","close":1}`, []string{"ingest", "bars", "{}", "--timeframe", "1d", "--ts", "2024-03-15"}, exitUsage, `mds: {}, line 1: ts: the file's column "date" gives the ts already`},
		{"option type", "symbol,expiry,type,strike,ts,bid\nSPX,2016-06-17,X,650,2014-12-15,1\n", []string{"ingest", "options", "{}"}, exitRejected, `rejected: {}, line 2: option_type: "X" is not an option type; use C or P`},
		{"no period", "symbol,asof,period,eps\nSNOW,2023-01-31,Q3,1\n", []string{"ingest", "fundamentals", "{}"}, exitRejected, `rejected: {}, line 2: period: not a period: "Q3" (use instant, 3M`},
		{"sentiment", `{"published_at":"2020-03-05","title":"x","sentiment":1.5}`, []string{"ingest", "news", "{}"}, exitRejected, "rejected: {}, line 1: sentiment_score: 1.5 is outside -1 to 1"},
		{"expiry to pick by", "", []string{"query", "options", "--expiry", "soon"}, exitUsage, `mds: --expiry: "soon" is not a date; write year-month-day, such as 2024-03-15`},
		{"strike to pick by", "", []string{"query", "options", "--strike", "1.0000000001"}, exitUsage, `mds: --strike: "1.0000000001" has more than 9 decimals, which cannot be kept exactly`},
		{"known at", "", []string{"query", "fundamentals", "--known-at", "then"}, exitUsage, `mds: --known-at: "then" is not a time; write a date, a time or now`},
		{"bars have no versions", "", []string{"query", "bars", "--known-at", "2020-01-01"}, exitUsage, "mds: unknown flag: --known-at; see mds query bars --help"},
		{"latest news", "", []string{"latest", "news", "AAPL"}, exitUsage, "mds: news have no series of which one is the latest; see mds query news --order desc --limit 10"},
		{"delete from no store", "", []string{"delete", "bars", "--all", "--yes"}, exitFailed, "mds: there is no store in "},
		{"which options", "", []string{"delete", "options"}, exitUsage, "mds: say which options: give --vendor, --symbol, --expiry, --option-type, --strike, --start or --end, or --all"},
		{"export without a file", "", []string{"export", "bars"}, exitUsage, "mds: mds export bars needs one file to write, or - for standard output"},
		{"export without a format", "", []string{"export", "bars", "x.parquet"}, exitUsage, "mds: x.parquet does not say its format: name it .csv or .ndjson (and .gz or .zst after that), or give --format"},
		{"export to standard output", "", []string{"export", "bars", "-"}, exitUsage, "mds: say how to write to standard output: --format csv or ndjson"},
		{"export format", "", []string{"export", "bars", "x", "--format", "json"}, exitUsage, `mds: --format "json": use csv or ndjson`},
		{"export template", "", []string{"export", "news", "x", "--template", "{symbol}.csv"}, exitUsage, "mds: --template: there is no {symbol} for news; use {table}, {start}, {end} and {vendor}"},
		{"export template to standard output", "", []string{"export", "news", "-", "--template", "x.csv"}, exitUsage, "mds: --template names files in a folder: give the folder, not -"},
		{"write nothing", "", []string{"write", "bars"}, exitUsage, "mds: give the bar as flags or as a JSON object; its columns are vendor, symbol, timeframe, ts"},
		{"write both", "", []string{"write", "bars", "{}", "--close", "1"}, exitUsage, "mds: give the bar as flags or as JSON, not both"},
		{"write half", "", []string{"write", "bars", "--symbol", "A", "--close", "x"}, exitUsage, `mds: close: "x" is not a number; ts: is missing; timeframe: is missing`},
		{"write words", "", []string{"write", "bars", "{", "}"}, exitUsage, "mds: mds write bars takes one JSON object; quote it for the shell"},
		{"write a list", "", []string{"write", "bars", "[]"}, exitUsage, "mds: it is a JSON array"},
		{"write unknown fields", "", []string{"write", "bars", `{"symbol":"A","timeframe":"1d","ts":"2020-01-01","close":1,"bid":2}`}, exitUsage, "mds: bars have no column bid"},
		{"write two", "", []string{"write", "news", "-"}, exitUsage, "mds: it is empty"},
		{"write a naive time", "", []string{"write", "bars", "--symbol", "A", "--timeframe", "1m", "--ts", "2020-01-01 10:00", "--close", "1"}, exitUsage, `mds: ts: "2020-01-01 10:00" has no time zone; name the file's zone with --tz`},
		{"log level", "", []string{"series", "--log-level", "loud"}, exitUsage, `mds: --log-level "loud": use debug, info, warn or error`},
	} {
		t.Run(c.name, func(t *testing.T) {
			cli := newCLI(t)
			path := testFile(t, "input", c.file)
			args := make([]string, len(c.args))
			for i, arg := range c.args {
				args[i] = strings.ReplaceAll(arg, "{}", path)
			}
			out := cli.run(args...)
			want := strings.ReplaceAll(c.want, "{}", path)
			if out.exit != c.exit || !strings.Contains(out.stderr, want) {
				t.Errorf("exit %d, want %d with %q\n%s", out.exit, c.exit, want, out.stderr)
			}
			if sentences := strings.Count(out.stderr, "\nmds: "); sentences > 1 || !strings.HasSuffix(out.stderr, "\n") || strings.Contains(out.stderr, "strconv") || strings.Contains(out.stderr, "goroutine") {
				t.Errorf("more than one sentence:\n%s", out.stderr)
			}
		})
	}
}

func TestNotADatabase(t *testing.T) {
	c := newCLI(t)
	dir := strings.TrimPrefix(c.dsn, "duckdb://")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "default.duckdb")
	if err := os.WriteFile(path, []byte("a letter to grandmother"), 0o600); err != nil {
		t.Fatal(err)
	}
	out := c.run("series")
	want := "mds: open: " + path + " is not a DuckDB database; move it away, or name another folder with --dsn duckdb://DIR\n"
	if out.exit != exitFailed || out.stderr != want {
		t.Errorf("exit %d, %q, want %q", out.exit, out.stderr, want)
	}
	if text, err := os.ReadFile(path); err != nil || string(text) != "a letter to grandmother" {
		t.Errorf("the file was changed: %q, %v", text, err)
	}
}

// TestBadRowCostsThatRow: its neighbours are stored, and it is told where.
func TestBadRowCostsThatRow(t *testing.T) {
	c := newCLI(t)
	file := testFile(t, "aapl.csv", "ts,close,extra\n2020-11-27T14:30:00Z,1,\n2020-11-27T14:31:00Z,\"x\",\n2020-11-27T14:32:00Z,3,\n")
	rejects := filepath.Join(t.TempDir(), "sub", "rejects.ndjson")
	args := []string{"ingest", "bars", file, "--symbol-from", "filename", "--timeframe", "1m", "--rejects", rejects}
	out := c.run(args...)
	if l := out.ledger(); out.exit != exitRejected || l.Read != 3 || l.Rejected != 1 || l.Written != 2 {
		t.Errorf("exit %d, %+v", out.exit, l)
	}
	for _, want := range []string{"ignored columns: extra\n", "1 row rejected, all in " + rejects + "\n"} {
		if !strings.Contains(out.stderr, want) {
			t.Errorf("no %q in\n%s", want, out.stderr)
		}
	}
	text, err := os.ReadFile(rejects)
	want := `{"file":"` + file + `","line":3,"field":"close","reason":"close: \"x\" is not a number","raw":"2020-11-27T14:31:00Z,\"x\","}` + "\n"
	if err != nil || string(text) != want {
		t.Errorf("rejects %s, %v; want %s", text, err, want)
	}
	c.run(args...) // rejects are added to what the file holds
	if text, err = os.ReadFile(rejects); err != nil || string(text) != want+want {
		t.Errorf("rejects of two loads %s, %v", text, err)
	}
	if got := c.must("query", "bars", "--format", "csv").stdout; strings.Count(got, "\nlocal,AAPL,1m,") != 2 {
		t.Errorf("stored:\n%s", got)
	}
	// With --strict the row before it is stored, the one after it is not read.
	strict := newCLI(t)
	out = strict.run(append(args, "--strict")...)
	if l := out.ledger(); out.exit != exitFailed || l.Read != 2 || l.Written != 1 {
		t.Errorf("strict: exit %d, %+v", out.exit, l)
	}
}

// TestRejectsLieWithTheStore unless --rejects names another place.
func TestRejectsLieWithTheStore(t *testing.T) {
	c := newCLI(t)
	cmd := c.program("ingest", "bars", testFile(t, "x.csv", "ts,close\n2020-11-27T14:30:00Z,x\n"), "--symbol", "A", "--timeframe", "1m")
	_, stderr, exit := exitOf(t, cmd)
	files, err := filepath.Glob(filepath.Join(strings.TrimPrefix(c.dsn, "duckdb://"), "rejects", "bars-*.ndjson"))
	if err != nil || exit != exitRejected || len(files) != 1 || !strings.Contains(stderr, "1 row rejected, all in "+files[0]) {
		t.Errorf("exit %d, files %v, %v\n%s", exit, files, err, stderr)
	}
}
