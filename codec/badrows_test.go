package codec_test

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// wrong is a field of a good row, spoiled, and the sentence it gets.
type wrong struct{ field, value, want string }

// TestBadRows spoils one field after the other of a good row of each kind, in
// CSV and in NDJSON.
func TestBadRows(t *testing.T) {
	badRows[mds.Bar](t, map[string]string{
		"vendor": "x", "symbol": "MSFT", "timeframe": "1m", "ts": "2020-11-27T14:30:00Z", "close": "1",
	}, []wrong{
		{"timeframe", "7m", `timeframe: not a timeframe: "7m" (use one of 1s 5s 10s 15s 30s 1m 2m 3m 5m 10m 15m 30m 1h 2h 3h 4h 6h 8h 12h 1d 1w 1mo)`},
		{"ts", "soon", `ts: "soon" is not a time`},
		{"ts", "2016-12-31T23:59:60Z", `ts: "2016-12-31T23:59:60Z" has second 60; leap seconds cannot be kept`},
		{"ts", "", "ts: is missing"},
		{"close", "", "close: is missing"},
		{"close", "1,5", `close: "1,5" is not a number`},
		{"symbol", "A\x00", `symbol: "A\x00" holds a character that cannot be printed`},
		{"vendor", "a b", `vendor: "a b" holds a character other than letters, digits, '-', '_' and '.'`},
	})
	badRows[mds.OptionSnap](t, map[string]string{
		"symbol": "SPX", "expiry": "2016-06-17", "option_type": "C", "strike": "650", "ts": "2014-12-15T21:00:00Z", "bid": "0",
	}, []wrong{
		{"option_type", "X", `option_type: "X" is not an option type; use C or P`},
		{"option_type", "", "option_type: is missing"},
		{"expiry", "2014-12-01", "expiry: 2014-12-01 is before the snapshot's time, 2014-12-15T21:00:00Z"},
		{"expiry", "2016-06-31", `expiry: "2016-06-31" has day 31, which its month does not have`},
		{"expiry", "", "expiry: is missing"},
		{"strike", "650.123456789012", `strike: "650.123456789012" has more than 9 decimals, which cannot be kept exactly`},
		{"strike", "1000000000", `strike: "1000000000" is not below 1,000,000,000 in size`},
		{"strike", "NaN", `strike: "NaN" is not a decimal number`},
		{"strike", "", "strike: is 0 or missing"},
		{"symbol", "SPX160617P00650000", "option_type: C contradicts the symbol SPX160617P00650000, which says P"},
		{"bid", "0.0.0", `bid: "0.0.0" is not a number`},
		{"ts", "", "ts: is missing"},
	})
	badRows[mds.Fundamentals](t, map[string]string{
		"symbol": "SNOW", "period": "FY", "asof": "2023-01-31", "filed_at": "2023-03-29", "revenue": "1", "extra": `{"a":1}`, "form": "10-K",
	}, []wrong{
		{"period", "Q3", `period: not a period: "Q3" (use instant, 3M, 6M, 9M, FY or another number of months, such as 1M, or of days, such as 45D)`},
		{"period", "", "period: is missing"},
		{"asof", "2023-02-31", `asof: "2023-02-31" has day 31, which its month does not have`},
		{"asof", "", "asof: is missing"},
		{"filed_at", "yesterday", `filed_at: "yesterday" is not a time`},
		{"revenue", "91.82B", `revenue: "91.82B" is not a number`},
		{"extra", `{"a":"x"}`, `extra: the metric "a" is string, not a number`},
		{"extra", `{"a":1e400}`, `extra: the metric "a" is out of range: 1e400`},
		{"extra", `{"a":1,"a":2}`, `extra: the metric "a" is there twice`},
		{"extra", `[1]`, `extra: "[1]" is not a JSON object of numbers`},
		{"extra", `{"a":1`, `extra: "{\"a\":1" is not a JSON object of numbers`},
		{"extra", `{"a":1} x`, `extra: "{\"a\":1} x" is not a JSON object of numbers`},
		{"form", strings.Repeat("x", 65), "form: is longer than 64 bytes"},
	})
	badRows[mds.News](t, map[string]string{
		"vendor": "ibkr", "id": "1", "published_at": "2020-03-05T23:02:41Z", "title": "A headline", "symbols": "AAPL", "sentiment_score": "1",
	}, []wrong{
		{"sentiment_score", "1.5", "sentiment_score: 1.5 is outside -1 to 1"},
		{"sentiment_score", "good", `sentiment_score: "good" is not a number`},
		{"published_at", "", "published_at: is missing"},
		{"published_at", "2020-03-05T23:02:60Z", `published_at: "2020-03-05T23:02:60Z" has second 60; leap seconds cannot be kept`},
		{"title", "", "title: is missing"},
		{"title", "a\x00b", `title: "a\x00b" holds a NUL character`},
		{"symbols", "AAPL;A\x01", `symbols: "A\x01" holds a character that cannot be printed`},
		{"symbols", `["A",1]`, `symbols: "[\"A\",1]" is not an array of strings`},
		{"id", "a\x7f", `id: "a\x7f" holds white space around it, or a character that cannot be printed`},
	})
}

func badRows[R mds.Record[R]](t *testing.T, good map[string]string, table []wrong) {
	schema := mds.SchemaOf[R]()
	names := slices.Sorted(maps.Keys(good))
	for _, w := range table {
		row := maps.Clone(good)
		row[w.field] = w.value
		var asCSV strings.Builder
		out := csv.NewWriter(&asCSV)
		_ = out.Write(names)
		for _, r := range []map[string]string{good, row, good} {
			cells := make([]string, len(names))
			for i, name := range names {
				cells[i] = r[name]
			}
			_ = out.Write(cells)
		}
		out.Flush()
		asJSON := jsonLine(t, good) + jsonLine(t, row) + jsonLine(t, good)
		for format, text := range map[codec.Format]string{codec.FormatCSV: asCSV.String(), codec.FormatNDJSON: asJSON} {
			if format == codec.FormatNDJSON && w.field == "period" && w.value == "" {
				continue // what is not there has its default
			}
			line := 2
			if format == codec.FormatCSV {
				line = 3
			}
			d, err := codec.NewDecoder[R](strings.NewReader(text), format, codec.Options{})
			if err != nil {
				t.Fatal(err)
			}
			var errs []error
			for range 3 {
				var r R
				errs = append(errs, d.Next(&r))
			}
			var bad *codec.RowError
			if !errors.As(errs[1], &bad) || bad.Line != line || bad.Reason != w.want || !strings.HasPrefix(w.want, bad.Field+": ") {
				t.Errorf("%s as %s, %s=%q: %v of field %v, want %s", schema.Kind, format, w.field, w.value, errs[1], bad, w.want)
			}
			if errs[0] != nil || errs[2] != nil {
				t.Errorf("%s as %s: its neighbours: %v, %v", schema.Kind, format, errs[0], errs[2])
			}
		}
	}
}

func jsonLine(t *testing.T, row map[string]string) string {
	row = maps.Clone(row)
	maps.DeleteFunc(row, func(_, v string) bool { return v == "" })
	text, err := json.Marshal(row)
	if err != nil {
		t.Fatal(err)
	}
	return string(text) + "\n"
}
