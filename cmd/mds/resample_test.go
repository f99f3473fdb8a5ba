package main

import (
	"encoding/csv"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/realdata"
)

// TestResampleRealFiles makes hours and days of real minutes, in both engines. The figures
// are testdata/resample.py's.
func TestResampleRealFiles(t *testing.T) {
	dir := realdata.Dir(t)
	server, _ := onServer(t)
	for name, c := range map[string]*cli{"DuckDB": newCLI(t), "PostgreSQL": server} {
		for _, f := range []struct {
			file, symbol, zone, every string
			bars                      int
			sums                      [5]float64 // open, high, low, close, volume
			first, last               string
		}{
			{"bars/nautilus_trader/btc-perp-20211231-20220201_1m.csv", "BTC-PERP", "UTC", "1h", 751, [5]float64{30902548, 31062199, 30732964, 30894794, 119923370570.20744}, "2021-12-31T23:00:00Z", "2022-02-01T05:00:00Z"},
			{"bars/nautilus_trader/btc-perp-20211231-20220201_1m.csv", "BTC-PERP", "UTC", "1d", 33, [5]float64{1366769, 1392511, 1324632, 1358994, 119923370570.20744}, "2021-12-31T00:00:00Z", "2022-02-01T00:00:00Z"},
			{"bars/alpha_vantage/mock_time_series_extended.csv", "MSFT", "America/New_York", "1h", 310, [5]float64{66478.2969, 66605.2155, 66337.254741, 66477.4511, 464634254}, "2020-11-23T09:00:00Z", "2020-12-19T01:00:00Z"},
			{"bars/alpha_vantage/mock_time_series_extended.csv", "MSFT", "America/New_York", "1d", 19, [5]float64{4077.93, 4109.4656, 4035.189, 4079.1698, 464634254}, "2020-11-23T00:00:00Z", "2020-12-18T00:00:00Z"},
		} {
			c.must("ingest", "bars", filepath.Join(dir, f.file), "--symbol", f.symbol, "--timeframe", "1m", "--tz", f.zone)
			out := c.must("query", "bars", "--symbol", f.symbol, "--every", f.every, "--tz", f.zone, "--format", "csv").stdout
			rows, err := csv.NewReader(strings.NewReader(out)).ReadAll()
			if err != nil || len(rows) != f.bars+1 {
				t.Fatalf("%s, %s: %d rows, %v", name, f.file, len(rows), err)
			}
			at := make(map[string]int)
			for i, column := range rows[0] {
				at[column] = i
			}
			var sums [5]float64
			for _, row := range rows[1:] {
				for i, column := range []string{"open", "high", "low", "close", "volume"} {
					v, err := strconv.ParseFloat(row[at[column]], 64)
					if err != nil {
						t.Fatal(err)
					}
					sums[i] += v
				}
				if row[at["timeframe"]] != f.every {
					t.Fatalf("%s: a bar of %s", name, row[at["timeframe"]])
				}
			}
			for i, want := range f.sums {
				if math.Abs(sums[i]-want) > 1e-9*want {
					t.Errorf("%s, %s every %s: sum %d is %v, want %v", name, f.symbol, f.every, i, sums[i], want)
				}
			}
			if first, last := rows[1][at["ts"]], rows[f.bars][at["ts"]]; first != f.first || last != f.last {
				t.Errorf("%s, %s every %s: from %s to %s, want %s to %s", name, f.symbol, f.every, first, last, f.first, f.last)
			}
		}
	}
}

func TestResampleCommand(t *testing.T) {
	c := newCLI(t)
	c.must("ingest", "bars", testFile(t, "bars.csv", threeBars), "--symbol", "MSFT", "--timeframe", "1m")
	if out := c.must("query", "bars", "--every", "1h", "--format", "csv").stdout; strings.Count(out, "\n") != 2 {
		t.Errorf("an hour:\n%s", out)
	}
	if out := c.must("query", "bars", "--every", "2m", "--limit", "1"); strings.Count(out.stdout, "\n") != 2 || !strings.Contains(out.stderr, "there may be more") {
		t.Errorf("limited:\n%s%s", out.stdout, out.stderr)
	}
	for want, args := range map[string][]string{
		"--every: not a timeframe":               {"query", "bars", "--every", "7m"},
		"leave --order desc out":                 {"query", "bars", "--every", "1h", "--order", "desc"},
		"bars of 1m do not make up bars of 1m":   {"query", "bars", "--every", "1m"},
		"--every is given without a value":       {"query", "bars", "--every", ""},
		"unknown flag: --every; see mds query n": {"query", "news", "--every", "1h"},
	} {
		if out := c.run(args...); out.exit != exitUsage || !strings.Contains(out.stderr, want) {
			t.Errorf("mds %s: exit %d, %s", strings.Join(args, " "), out.exit, out.stderr)
		}
	}
}
