package codec_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// decodeAll reads a text to its end: what became a record, and the sentences of
// what did not.
func decodeAll[R mds.Record[R]](t *testing.T, text string, opt codec.Options) (records []R, rejected []string, d codec.Decoder[R]) {
	t.Helper()
	d, err := codec.NewNDJSON[R](strings.NewReader(text), opt)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var r R
		err := d.Next(&r)
		var row *codec.RowError
		switch {
		case err == nil:
			records = append(records, r)
		case errors.As(err, &row):
			rejected = append(rejected, row.Error())
		case errors.Is(err, io.EOF):
			return records, rejected, d
		default:
			t.Fatal(err)
		}
	}
}

// TestNDJSONLayouts: the same bar, written in many ways.
func TestNDJSONLayouts(t *testing.T) {
	want := mds.Bar{
		Vendor: "local", Symbol: "MSFT", Timeframe: mds.Minute, TS: time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC),
		Open: mds.Some(210.25), Close: 211.5, Volume: mds.Some(1234.5), TradeCount: mds.Some(int64(7)),
	}
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for _, text := range []string{
		`{"symbol":"MSFT","timeframe":"1m","ts":"2020-11-27T14:30:00Z","open":210.25,"close":211.5,"volume":1234.5,"trade_count":7}`,
		`{"ticker":"msft","interval":"1min","timestamp":1606487400,"o":"210.25","c":"211.5","v":"1,234.5","n":7.0}`,
		`{"Symbol":"MSFT","TimeFrame":"60s","T":1606487400000,"Open Price":210.25,"close-price":211.5,"Volume":1.2345e3,"high":null,"low":"N/A","trades":"7"}`,
		`{"symbol":"MSFT","timeframe":"1m","date":"2020-11-27","time":"09:30","open":210.25,"close":211.5,"volume":1234.5,"n":7}`,
		`{"symbol":"MSFT","timeframe":"1m","date":"2020-11-27 09:30:00","open":210.25,"close":211.5,"volume":1234.5,"n":7}`,
		"  {\"\\u0073ymbol\":\"\\u004dSFT\",\"timeframe\":\"1m\",\"ts\":\"2020-11-27T09:30:00-05:00\",\"open\":210.25,\"close\":211.5,\"volume\":1234.5,\"n\":7}  \r",
		"\ufeff" + `{"close":211.5,"c":999,"symbol":"MSFT","timeframe":"1m","ts":"2020-11-27T14:30:00Z","open":210.25,"volume":1234.5,"n":7,"trades":7}`,
		`{"c":999,"close":211.5,"symbol":"MSFT","timeframe":"1m","ts":"2020-11-27T14:30:00Z","open":210.25,"volume":1234.5,"trade_count":7}`,
	} {
		bars, rejected, _ := decodeAll[mds.Bar](t, text+"\n\n", codec.Options{Zone: newYork})
		if len(bars) != 1 || bars[0] != want {
			t.Errorf("%s\nis %+v, rejected %q", text, bars, rejected)
		}
	}
}

func TestNDJSONSettings(t *testing.T) {
	opt := codec.Options{
		Columns: map[string]string{"ts": "When", "volume": "", "close": "Last"},
		Fixed:   map[string]string{"symbol": "A", "timeframe": "1d"},
	}
	bars, rejected, d := decodeAll[mds.Bar](t, `{"when":"2020-11-27","ts":"x","close":"y","last":2,"volume":"z","vendor":"V","id":{"a":[1]}}`+"\n"+`{"when":"2020-11-28","last":3,"id":null,"more":1}`+"\n", opt)
	if len(bars) != 2 || bars[0].Vendor != "v" || bars[0].Close != 2 || bars[1].Vendor != "local" || bars[0].TS.Day() != 27 || rejected != nil {
		t.Errorf("%+v, rejected %q", bars, rejected)
	}
	if want := []string{"ts", "close", "volume", "id", "more"}; !slices.Equal(d.Ignored(), want) {
		t.Errorf("ignored %q, want %q", d.Ignored(), want)
	}
	var setup *codec.SetupError
	given, err := codec.NewNDJSON[mds.Bar](strings.NewReader(`{"ts":"2020-11-27","close":1}`+"\n"+`{"symbol":"B"}`), codec.Options{Fixed: opt.Fixed})
	if err != nil {
		t.Fatal(err)
	}
	if err := given.Next(new(mds.Bar)); err != nil {
		t.Fatal(err)
	}
	if err := given.Next(new(mds.Bar)); !errors.As(err, &setup) || setup.Line != 2 || !strings.Contains(setup.Reason, `the file's column "symbol" gives the symbol already`) {
		t.Errorf("a symbol in the file and one given: %v", err)
	}
	naive, err := codec.NewNDJSON[mds.Bar](strings.NewReader(`{"ts":"2020-11-27 09:30","close":1,"symbol":"A","timeframe":"1m"}`), codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	if err := naive.Next(new(mds.Bar)); !errors.As(err, &setup) || err.Error() != `line 1: ts: "2020-11-27 09:30" has no time zone; name the file's zone with --tz, such as --tz America/New_York or --tz UTC` {
		t.Errorf("a naive time: %v", err)
	}
}

func TestNDJSONMappings(t *testing.T) {
	fixed := map[string]string{"symbol": "A", "timeframe": "1d"}
	for range 10 { // maps have no order
		bars, _, _ := decodeAll[mds.Bar](t, `{"ts":"2024-01-02","p":5}`, codec.Options{Fixed: fixed, Columns: map[string]string{"open": "p", "close": "P", "high": "p"}})
		if len(bars) != 1 || bars[0].Open.Or(0) != 5 || bars[0].Close != 5 || bars[0].High.Or(0) != 5 {
			t.Fatalf("one field for three columns: %+v", bars)
		}
	}
	bars, _, d := decodeAll[mds.Bar](t, `{"timestamp":"2024-05-05","ts":"2024-06-06","day":"2024-01-02","close":5}`, codec.Options{Fixed: fixed, Columns: map[string]string{"date": "day"}})
	if len(bars) != 1 || bars[0].TS.Format(time.DateOnly) != "2024-01-02" || !slices.Equal(d.Ignored(), []string{"timestamp", "ts"}) {
		t.Errorf("a mapped date: %+v, ignored %q", bars, d.Ignored())
	}
	_, _, d = decodeAll[mds.Bar](t, `{"ts":"2024-05-05","close":5,"volume":7}`, codec.Options{Fixed: fixed, Columns: map[string]string{"volume": "Voluem"}})
	if want := map[string]int64{`no line has a field "Voluem", which --columns volume=Voluem names`: 0}; !maps.Equal(d.Warnings(), want) || !slices.Equal(d.Ignored(), []string{"volume"}) {
		t.Errorf("a mistyped mapping: %v, ignored %q", d.Warnings(), d.Ignored())
	}
	bars, rejected, _ := decodeAll[mds.Bar](t, `{"ts":"2024-05-05","close_price":"abc","close":5}
{"ts":"2024-05-05","close":1,"Close":2}
{"ts":"2024-05-06","close":1,"symbol":null}
`, codec.Options{Fixed: fixed})
	if want := []string{`line 2: close: is there twice, as "close" and "Close"`}; len(bars) != 2 || !slices.Equal(rejected, want) {
		t.Errorf("%d bars, rejected %q", len(bars), rejected)
	}
	var many strings.Builder
	for i := range 300 {
		fmt.Fprintf(&many, "{\"ts\":\"2024-05-05\",\"close\":5,\"x%d\":1}\n", i)
	}
	_, _, d = decodeAll[mds.Bar](t, many.String(), codec.Options{Fixed: fixed})
	if ignored := d.Ignored(); len(ignored) != 101 || ignored[99] != "x99" || ignored[100] != "… and more" {
		t.Errorf("%d names are ignored: %q", len(ignored), ignored)
	}
}

// TestEpochDates: vendors write dates as epochs of 00:00 UTC, whatever the zone
// of their times.
func TestEpochDates(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	options, rejected, _ := decodeAll[mds.OptionSnap](t, `{"symbol":"A","expiration":1718928000,"type":"C","strike":1,"ts":"2024-06-01 10:00","bid":1}`, codec.Options{Zone: newYork})
	if len(options) != 1 || options[0].Expiry.String() != "2024-06-21" || options[0].TS.Format(time.RFC3339) != "2024-06-01T14:00:00Z" {
		t.Errorf("%+v, rejected %q", options, rejected)
	}
}

func TestNDJSONRowsThatAreNone(t *testing.T) {
	const good = `{"symbol":"A","timeframe":"1d","ts":"2020-11-27","close":1}`
	for line, want := range map[string]string{
		`{"symbol":"A","timeframe":"1d","ts":"2020-11-27","close":NaN}`: "NaN and Infinity are no JSON, write null for a missing value",
		`{"symbol":"A"`:        "line 2: the line is not JSON: it ends too early",
		`{"symbol":"A" "b":1}`: "line 2: the line is not JSON: ",
		`"oops"`:               "line 2: the line is not a JSON object",
		`[1]`:                  "line 2: the line is not a JSON object",
		`7`:                    "line 2: the line is not a JSON object",
		`x`:                    "line 2: the line is not JSON: ",
		good + " x":            "line 2: the line goes on after its JSON object",
		good + good:            "line 2: the line goes on after its JSON object",
		`{"symbol":"A","symbol":"B","timeframe":"1d","ts":"2020-11-27","close":1}`: "line 2: the line names a field twice: ",
		`{"symbol":"A","timeframe":"1d","ts":"2020-11-27","close":007}`:            "line 2: the line is not JSON: ",
		`{"symbol":"A","timeframe":"1d","ts":"2020-11-27","close":true}`:           "line 2: close: true is a truth value, which it cannot be",
		`{"symbol":"A","timeframe":"1d","ts":true,"close":1}`:                      "line 2: ts: true is a truth value, which it cannot be",
		`{"symbol":["A"],"timeframe":"1d","ts":"2020-11-27","close":1}`:            `line 2: symbol: ["A"] is an array, which it cannot be`,
		`{"symbol":{"a":1},"timeframe":"1d","ts":"2020-11-27","close":1}`:          `line 2: symbol: {"a":1} is an object, which it cannot be`,
		`{"symbol":"A","timeframe":"1d","ts":"2020-11-27"}`:                        "line 2: close: is missing",
		`{}`:                         "line 2: ts: is missing; close: is missing; symbol: is missing; timeframe: is missing",
		"{\"symbol\":\"\xff\"}":      "line 2: the line is not JSON: ",
		"{\"symbol\":\"\\ud800\"}":   "line 2: the line is not JSON: ",
		"{\"symbol\":\"\x01\"}":      "line 2: the line is not JSON: ",
		strings.Repeat("[", 100_000): "line 2: the line is not JSON: ",
		`{"symbol":"` + strings.Repeat("x", 5<<20) + `"}`: "line 2: the line is longer than 4 MiB",
	} {
		bars, rejected, _ := decodeAll[mds.Bar](t, good+"\n"+line+"\n"+good+"\n", codec.Options{})
		if len(bars) != 2 || len(rejected) != 1 || !strings.Contains(rejected[0], want) || strings.Contains(rejected[0], "cannot be; ") {
			t.Errorf("%.100s\ngave %d bars, rejected %.200q; want %s", line, len(bars), rejected, want)
		}
	}
}

func TestNotNDJSON(t *testing.T) {
	for text, want := range map[string]string{
		"":                    "it is empty: each line should be a JSON object",
		"\n \n":               "it is empty: each line should be a JSON object",
		`[{"a":1}]`:           "it is a JSON array; write one object a line instead, with jq -c '.[]'",
		"{\n  \"a\": 1\n}\n":  "its JSON is spread over lines; write one object a line instead, with jq -c . (a vendor's body is read with --format)",
		"{\"a\":\n  \"b\"}\n": "its JSON is spread over lines; write one object a line instead, with jq -c . (a vendor's body is read with --format)",
		"ts,close\n1,2\n":     `it is not NDJSON: its first line begins with "ts,close", not with {`,
		"\x7fELF\x00":         "it is a binary file, not NDJSON",
		"PK\x03\x04":          "it is a zip archive or an Excel workbook; unpack it, or save it as CSV",
	} {
		var header *codec.HeaderError
		if _, err := codec.NewNDJSON[mds.Bar](strings.NewReader(text), codec.Options{}); !errors.As(err, &header) || header.Reason != want {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
	var setup *codec.SetupError
	for want, opt := range map[string]codec.Options{
		"--columns close=#4: NDJSON has names, no numbers of columns":         {Columns: map[string]string{"close": "#4"}},
		"--no-header is for CSV files; NDJSON names its fields in every line": {NoHeader: true},
		`--columns bid=b: bars have no column "bid"`:                          {Columns: map[string]string{"bid": "b"}},
		`bars have no column "bid"`:                                           {Fixed: map[string]string{"bid": "b"}},
		`--timeframe: not a timeframe: "7q"`:                                  {Fixed: map[string]string{"timeframe": "7q"}},
	} {
		if _, err := codec.NewNDJSON[mds.Bar](strings.NewReader("{}"), opt); !errors.As(err, &setup) || !strings.HasPrefix(err.Error(), want) {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

// TestPythonDumps reads rows as the Python version dumps them.
func TestPythonDumps(t *testing.T) {
	const tenant = `"tenant_id":"6b3e8f2e-5c1a-4d55-9e37-0a4b7c1d2e3f",`
	bars, rejected, d := decodeAll[mds.Bar](t, `{`+tenant+`"vendor":"ibkr","symbol":"AAPL","timeframe":"1m","ts":"2024-01-02T14:30:00+00:00","open_price":185.1,"high_price":185.5,"low_price":184.9,"close_price":185.2,"volume":12345,"id":"x"}`, codec.Options{})
	if len(bars) != 1 || bars[0].Open.Or(0) != 185.1 || bars[0].High.Or(0) != 185.5 || bars[0].Low.Or(0) != 184.9 || bars[0].Close != 185.2 || bars[0].Volume.Or(0) != 12345 || !slices.Equal(d.Ignored(), []string{"tenant_id", "id"}) {
		t.Errorf("bars %+v, rejected %q, ignored %q", bars, rejected, d.Ignored())
	}
	options, rejected, _ := decodeAll[mds.OptionSnap](t, `{`+tenant+`"vendor":"ibkr","symbol":"AAPL","expiry":"2024-03-15","option_type":"P","strike":172.50,"ts":"2024-01-02T14:30:00Z","iv":0.31,"delta":-0.2,"gamma":0.01,"oi":1500,"volume":200,"spot":185.2}`, codec.Options{})
	if len(options) != 1 || options[0].OpenInterest.Or(0) != 1500 || options[0].Strike != 172_500_000_000 || options[0].Spot.Or(0) != 185.2 {
		t.Errorf("options %+v, rejected %q", options, rejected)
	}
	figures, rejected, _ := decodeAll[mds.Fundamentals](t, `{`+tenant+`"vendor":"ibkr","symbol":"AAPL","asof":"2023-12-31T00:00:00+00:00","total_assets":3.5e11,"total_liabilities":2.9e11,"net_income":9.7e10,"eps":6.13}`, codec.Options{})
	if len(figures) != 1 || figures[0].Period != mds.UnstatedSpan || figures[0].AsOf.String() != "2023-12-31" || figures[0].FiledAt.Format(time.RFC3339) != "2023-12-31T00:00:00Z" || figures[0].TotalLiabilities.Or(0) != 2.9e11 {
		t.Errorf("fundamentals %+v, rejected %q", figures, rejected)
	}
	news, rejected, _ := decodeAll[mds.News](t, `{`+tenant+`"vendor":"ibkr","symbol":"AAPL","published_at":"2024-01-02T14:30:00.5Z","id":"6b3e8f2e-5c1a-4d55-9e37-0a4b7c1d2e40","title":"A <headline> & more","url":null,"sentiment_score":0.25}`, codec.Options{})
	if len(news) != 1 || !slices.Equal(news[0].Symbols, []string{"AAPL"}) || news[0].ID != "6b3e8f2e-5c1a-4d55-9e37-0a4b7c1d2e40" || news[0].Title != "A <headline> & more" || news[0].SentimentScore.Or(0) != 0.25 {
		t.Errorf("news %+v, rejected %q", news, rejected)
	}
}

func TestNDJSONListsAndMetrics(t *testing.T) {
	news, rejected, _ := decodeAll[mds.News](t, `{"id":40432158,"published":"2024-08-18","headline":"h","symbols":["aapl","QCOM"]}
{"id":"2","published":"2024-08-18","headline":"h","symbols":"AAPL, QCOM"}
{"id":"3","published":"2024-08-18","headline":"h","tickers":[]}
{"id":"4","published":"2024-08-18","headline":"h","symbols":["A",1]}
{"id":"5","published":"2024-08-18","headline":"h","symbols":{"A":1}}
{"id":"6","published":"2024-08-18","headline":"","symbols":"A"}
`, codec.Options{})
	if len(news) != 3 || news[0].ID != "40432158" || !slices.Equal(news[0].Symbols, []string{"AAPL", "QCOM"}) || !slices.Equal(news[1].Symbols, news[0].Symbols) || news[2].Symbols != nil {
		t.Errorf("%+v", news)
	}
	if want := []string{`line 4: symbols: ["A",1] is not an array of strings`, `line 5: symbols: {"A":1} is an object, which it cannot be`, "line 6: title: is missing"}; !slices.Equal(rejected, want) {
		t.Errorf("rejected %q", rejected)
	}
	figures, rejected, _ := decodeAll[mds.Fundamentals](t, `{"symbol":"A","period":"FY","asof":"2023-12-31","extra":{"b":1.5,"a":null}}
{"symbol":"A","period":"FY","asof":"2023-12-31","extra":"{\"b\":2}"}
{"symbol":"A","period":"FY","asof":"2023-12-31","extra":{}}
{"symbol":"A","period":"FY","asof":"2023-12-31","extra":{"b":"1"}}
{"symbol":"A","period":"FY","asof":"2023-12-31","extra":[1]}
`, codec.Options{})
	if len(figures) != 3 || len(figures[0].Extra) != 1 || figures[0].Extra["b"] != 1.5 || figures[1].Extra["b"] != 2 || figures[2].Extra != nil {
		t.Errorf("%+v", figures)
	}
	if want := []string{`line 4: extra: the metric "b" is string, not a number`, `line 5: extra: [1] is an array, which it cannot be`}; !slices.Equal(rejected, want) {
		t.Errorf("rejected %q", rejected)
	}
}

// TestWarningsOfKinds counts what is stored though it is odd.
func TestWarningsOfKinds(t *testing.T) {
	_, rejected, figures := decodeAll[mds.Fundamentals](t, `{"symbol":"A","period":"FY","asof":"2023-12-31 10:00","netIncome":1}
{"symbol":"A","period":"FY","asof":"2023-12-31","filed":"2023-12-01","Net Income":1}
{"symbol":"A","period":"FY","asof":"2023-12-30","filed":"2024-02-01","sales":1,"total_revenue":2}
{"symbol":"A","period":"FY","asof":"2023-12-29","filed":"2024-02-01","pe":1}
`, codec.Options{})
	want := map[string]int64{
		"without filed_at: it counts as known from asof on": 1, "filed before the period ended": 1,
		"the time of day was cut from asof, which is a date": 1, "without any value": 1,
	}
	if !maps.Equal(figures.Warnings(), want) || rejected != nil || !slices.Equal(figures.Ignored(), []string{"sales", "pe"}) {
		t.Errorf("warnings %v, rejected %q, ignored %q", figures.Warnings(), rejected, figures.Ignored())
	}
	_, rejected, options := decodeAll[mds.OptionSnap](t, `{"symbol":"SPX160617C00650500","ts":"2014-12-15","bid":2,"ask":1}
{"symbol":"SPX160617C00650500","ts":"2014-12-15","iv":35.2}
{"symbol":"SPX160617C00650500","ts":"2014-12-15","delta":-50}
{"symbol":"SPX160617C00650500","ts":"2014-12-15","iv":0,"delta":-1,"bid":1,"ask":1}
`, codec.Options{})
	want = map[string]int64{
		"the bid is above the ask": 1, "iv is not between 0 and 10: is it in percent?": 1, "delta is not between -1 and 1: is it in percent?": 1,
	}
	if !maps.Equal(options.Warnings(), want) || rejected != nil {
		t.Errorf("warnings %v, rejected %q", options.Warnings(), rejected)
	}
}

// TestRootsBesideUnderlyings: SPX and SPXW are contracts of one underlying.
func TestRootsBesideUnderlyings(t *testing.T) {
	for _, text := range []string{
		"underlying,option_symbol,quote_date,expiration,strike,type,bid\nSPX,SPX160617C02000000,2016-05-02,2016-06-17,2000,C,70.1\nSPX,SPXW160617C02000000,2016-05-02,2016-06-17,2000,C,70.9\n",
		"underlying_symbol,quote_date,root,expiration,strike,option_type,bid\n^SPX,2016-05-02,SPX,2016-06-17,2000,C,70.1\n^SPX,2016-05-02,SPXW,2016-06-17,2000,C,70.9\n",
		"underlying,option_symbol,quote_date,bid\nSPX,SPX160617C02000000,2016-05-02,70.1\nSPX,SPXW160617C02000000,2016-05-02,70.9\n",
	} {
		d, err := codec.NewDecoder[mds.OptionSnap](strings.NewReader(text), "", codec.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for _, want := range []string{"SPX", "SPXW"} {
			var o mds.OptionSnap
			if err := d.Next(&o); err != nil || o.Symbol != want || o.Strike != 2_000_000_000_000 || o.Expiry.String() != "2016-06-17" {
				t.Errorf("%s: %+v, %v, want %s", text, o, err, want)
			}
		}
	}
}

// TestOCCSymbolsInFiles: an OCC symbol makes the contract's columns needless.
func TestOCCSymbolsInFiles(t *testing.T) {
	options, rejected, _ := decodeAll[mds.OptionSnap](t, `{"contractSymbol":"SPX160617C00650500","ts":"2014-12-15","bid":1}
{"symbol":"SPX160617C00650500","strike":"650.5","ts":"2014-12-15"}
{"symbol":"SPX","expiry":"2016-06-17","option_type":"call","ts":"2014-12-15"}
`, codec.Options{})
	if len(options) != 2 || options[0].Symbol != "SPX" || options[0].Strike != 650_500_000_000 || options[0].Expiry.String() != "2016-06-17" || options[0].OptionType != mds.Call {
		t.Errorf("%+v", options)
	}
	if !slices.Equal(rejected, []string{"line 3: strike: is 0 or missing"}) {
		t.Errorf("rejected %q", rejected)
	}
}

func FuzzNDJSON(f *testing.F) {
	f.Add(`{"vendor":"ibkr","id":"1","published_at":"2020-03-05T23:02:41Z","title":"A \u2018x\u2019 \ud83d\ude00","symbols":["AAPL","A;B"],"sentiment_score":-1}` + "\n")
	f.Add(`{"date":"2020-03-05","time":"23:02","title":7,"symbol":"A,B","url":null,"x":{"y":[1]}}` + "\n{\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := codec.NewNDJSON[mds.News](strings.NewReader(text), codec.Options{Zone: time.UTC})
		if err != nil {
			return
		}
		schema := mds.SchemaOf[mds.News]()
		lines := strings.Count(text, "\n") + 1
		for range lines {
			var n mds.News
			err := d.Next(&n)
			var row *codec.RowError
			var setup *codec.SetupError
			switch {
			case err == nil:
				if err := n.Validate(); err != nil {
					t.Fatalf("an invalid item was decoded: %v", err)
				}
				again := encode(t, codec.FormatNDJSON, []mds.News{n})
				back, err := codec.NewNDJSON[mds.News](strings.NewReader(again), codec.Options{})
				if err != nil {
					t.Fatal(err)
				}
				var same mds.News
				if err := back.Next(&same); err != nil || !schema.Equal(&same, &n) {
					t.Fatalf("%+v came back as %+v, %v", n, same, err)
				}
			case errors.As(err, &row):
				if row.Line < 1 || row.Line > lines || row.Reason == "" {
					t.Fatalf("%+v", row)
				}
			case errors.Is(err, io.EOF), errors.As(err, &setup):
				return
			default:
				t.Fatal(err)
			}
		}
	})
}

// TestLongNames keeps no name that is longer than a column's, and tells none whole.
func TestLongNames(t *testing.T) {
	var body bytes.Buffer
	for i := range 60 {
		fmt.Fprintf(&body, "{\"%s%d\":1}\n", strings.Repeat("x", 1<<20), i)
	}
	long := strings.Repeat("y", 1<<20)
	fmt.Fprintf(&body, "{%q:1,%q:2}\n", long, long)
	d, err := codec.NewNDJSON[mds.Bar](&body, codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for err == nil {
		var row *codec.RowError
		if err = d.Next(new(mds.Bar)); errors.As(err, &row) {
			if len(row.Reason) > 1000 {
				t.Errorf("a reason of %d bytes", len(row.Reason))
			}
			err = nil
		}
	}
	body.Reset()
	var memory runtime.MemStats
	runtime.GC()
	runtime.ReadMemStats(&memory)
	if memory.HeapAlloc > 100<<20 { // the body, and a few lines
		t.Errorf("%d bytes are kept", memory.HeapAlloc)
	}
	if n := len(d.Ignored()); n == 0 || n > 3 {
		t.Errorf("%d names are listed", n)
	}
}
