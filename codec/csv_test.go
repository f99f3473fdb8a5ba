package codec_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// settings are options under which minimal files can be read.
func settings() codec.Options {
	return codec.Options{
		Fixed: map[string]string{"symbol": "MSFT", "timeframe": "1m", "vendor": "test"},
		Zone:  time.UTC,
	}
}

// decode reads all rows.
func decode(t testing.TB, text string, opt codec.Options) (bars []mds.Bar, rejected []*codec.RowError, d *codec.CSV[mds.Bar]) {
	t.Helper()
	d, err := codec.NewCSV[mds.Bar](strings.NewReader(text), opt)
	if err != nil {
		t.Fatal(err)
	}
	for {
		var bar mds.Bar
		err := d.Next(&bar)
		var row *codec.RowError
		switch {
		case err == nil:
			bars = append(bars, bar)
		case errors.As(err, &row):
			rejected = append(rejected, row)
		case errors.Is(err, io.EOF):
			return bars, rejected, d
		default:
			t.Fatal(err)
		}
	}
}

func minute(hour, min int, close float64) mds.Bar {
	return mds.Bar{Vendor: "test", Symbol: "MSFT", Timeframe: mds.Minute, Close: close,
		TS: time.Date(2020, 11, 27, hour, min, 0, 0, time.UTC)}
}

func TestCSVLayouts(t *testing.T) {
	want := minute(14, 30, 211.5)
	want.Open, want.Volume = mds.Some(210.25), mds.Some(1234.5)
	for name, text := range map[string]string{
		"plain":             "ts,open,close,volume\n2020-11-27T14:30:00Z,210.25,211.5,1234.5\n",
		"no final newline":  "ts,open,close,volume\n2020-11-27T14:30:00Z,210.25,211.5,1234.5",
		"CRLF and BOM":      "\ufeffts,open,close,volume\r\n2020-11-27T14:30:00Z,210.25,211.5,1234.5\r\n",
		"another order":     "Volume,Close,TS,Open\n1234.5,211.5,2020-11-27T14:30:00Z,210.25\n",
		"aliases":           "timestamp,open_price,close_price,vol\n2020-11-27 14:30,210.25,211.5,1234.5\n",
		"polygon letters":   "t,o,c,v\n1606487400000,210.25,211.5,1234.5\n",
		"semicolons":        "ts;open;close;volume\n2020-11-27T14:30:00Z;210.25;211.5;1234.5\n",
		"tabs":              "ts\topen\tclose\tvolume\n2020-11-27T14:30:00Z\t210.25\t211.5\t1234.5\n",
		"bars":              "ts|open|close|volume\n2020-11-27T14:30:00Z|210.25|211.5|1234.5\n",
		"quotes":            "\"ts\",\"open\",\"close\",\"volume\"\n\"2020-11-27T14:30:00Z\",\"210.25\",\"211.5\",\"1,234.5\"\n",
		"date and time":     "Date,Time,Open,Close,Volume\n11/27/2020,14:30,210.25,211.5,1234.5\n",
		"compact time":      "date,time,open,close,volume\n20201127,143000,210.25,211.5,1234.5\n",
		"date has all":      "Date,Open,Close,Volume\n2020-11-27 14:30:00,210.25,211.5,1234.5\n",
		"time has all":      "time,open,close,volume\n2020-11-27 14:30:00,210.25,211.5,1234.5\n",
		"data frame index":  ",open,close,volume\n2020-11-27 14:30:00,210.25,211.5,1234.5\n",
		"blank lines":       "\nts,open,close,volume\n\n2020-11-27T14:30:00Z,210.25,211.5,1234.5\n\n  \n",
		"spaces":            " ts , open , close , volume \n 2020-11-27T14:30:00Z , 210.25 , 211.5 , 1234.5 \n",
		"blank extra cells": "ts,open,close,volume\n2020-11-27T14:30:00Z,210.25,211.5,1234.5,,\n",
		"words in headers":  "Trade Date,Open Price,Close-Price,VOLUME\n2020-11-27 14:30:00,210.25,211.5,1234.5\n",
		"exponents":         "ts,open,close,volume\n2020-11-27T14:30:00Z,2.1025e2,+211.5,12345E-1\n",
	} {
		t.Run(name, func(t *testing.T) {
			bars, rejected, _ := decode(t, text, settings())
			if len(rejected) > 0 || !slices.Equal(bars, []mds.Bar{want}) {
				t.Errorf("bars %+v, rejected %v; want %+v", bars, rejected, want)
			}
		})
	}
}

func TestCSVColumnsOption(t *testing.T) {
	opt := settings()
	opt.Columns = map[string]string{"ts": "When", "close": "#3", "volume": ""}
	bars, _, d := decode(t, "when,close,x,volume\n2020-11-27T14:30:00Z,1,2,3\n", opt)
	if !slices.Equal(bars, []mds.Bar{minute(14, 30, 2)}) {
		t.Errorf("bars %+v", bars)
	}
	if !slices.Equal(d.Ignored(), []string{"close", "volume"}) {
		t.Errorf("ignored %q", d.Ignored())
	}
}

func TestCSVNoHeader(t *testing.T) {
	opt := settings()
	opt.NoHeader, opt.Columns = true, map[string]string{"ts": "#1", "close": " #3 "}
	bars, rejected, d := decode(t, "2020-11-27T14:30:00Z,x,1\n2020-11-27T14:31:00Z,x,2\n2020-11-27T14:32:00Z,x\n", opt)
	if !slices.Equal(bars, []mds.Bar{minute(14, 30, 1), minute(14, 31, 2)}) || len(rejected) != 1 || rejected[0].Line != 3 {
		t.Errorf("bars %+v, rejected %v", bars, rejected)
	}
	if !slices.Equal(d.Ignored(), []string{"#2"}) {
		t.Errorf("ignored %q", d.Ignored())
	}
}

// TestCSVDecimalComma: in a file with semicolons 1,234 may be either.
func TestCSVDecimalComma(t *testing.T) {
	bars, rejected, _ := decode(t, "ts;close;volume\n2020-11-27T14:30:00Z;1,234;\n2020-11-27T14:31:00Z;2;1,000\n2020-11-27T14:32:00Z;3;\n", settings())
	if !slices.Equal(bars, []mds.Bar{minute(14, 32, 3)}) || len(rejected) != 2 || !strings.Contains(rejected[0].Reason, "write decimals with a point") {
		t.Errorf("bars %+v, rejected %v", bars, rejected)
	}
}

func TestCSVIdentityFromColumns(t *testing.T) {
	opt := codec.Options{}
	bars, rejected, _ := decode(t, "ticker,date,close,interval\nbrk.b,2020-11-27,1,daily\naapl,2020-11-27,2,1week\naapl,2020-11-27,3,7x\n", opt)
	want := []mds.Bar{
		{Vendor: "local", Symbol: "BRK.B", Timeframe: mds.Day, Close: 1, TS: time.Date(2020, 11, 27, 0, 0, 0, 0, time.UTC)},
		{Vendor: "local", Symbol: "AAPL", Timeframe: mds.Week, Close: 2, TS: time.Date(2020, 11, 23, 0, 0, 0, 0, time.UTC)},
	}
	if !slices.Equal(bars, want) || len(rejected) != 1 || rejected[0].Field != "timeframe" {
		t.Errorf("bars %+v, rejected %v", bars, rejected)
	}
}

func TestCSVMissingValues(t *testing.T) {
	var text strings.Builder
	text.WriteString("ts,close,volume\n")
	spellings := []string{"", " ", "null", "NULL", "N/A", "n/a", "NA", "None", "#N/A", "-", `\N`, "nil"}
	for _, s := range spellings {
		fmt.Fprintf(&text, "2020-11-27T14:30:00Z,1,%s\n", s)
	}
	bars, rejected, _ := decode(t, text.String(), settings())
	if len(bars) != len(spellings) || len(rejected) > 0 {
		t.Fatalf("%d bars, rejected %v", len(bars), rejected)
	}
	for i, b := range bars {
		if b != minute(14, 30, 1) {
			t.Errorf("%q: %+v", spellings[i], b)
		}
	}
}

func TestCSVBadRows(t *testing.T) {
	for row, want := range map[string]string{
		"2020-11-27T14:30:00Z,x,1":                 `line 3: close: "x" is not a number`,
		"2020-11-27T14:30:00Z,,1":                  "line 3: close: is missing",
		"2020-11-27T14:30:00Z,NaN,1":               `line 3: close: "NaN" is not a number that can be kept; leave a missing value blank`,
		"2020-11-27T14:30:00Z,1,-inf":              `line 3: volume: "-inf" is not a number that can be kept; leave a missing value blank`,
		"2020-11-27T14:30:00Z,1e999,1":             `line 3: close: "1e999" is out of range`,
		"2020-11-27T14:30:00Z,0x10,1":              `line 3: close: "0x10" is not a number`,
		"2020-11-27T14:30:00Z,1_000,1":             `line 3: close: "1_000" is not a number`,
		`2020-11-27T14:30:00Z,"1,5",1`:             `line 3: close: "1,5" is not a number`,
		`2020-11-27T14:30:00Z,"1,2345",1`:          `line 3: close: "1,2345" is not a number`,
		"2020-11-27T14:30:00Z,1,-5":                "line 3: volume: -5 is negative",
		"0001-01-01T00:00:00Z,1,1":                 `line 3: ts: "0001-01-01T00:00:00Z" is the one instant that cannot be kept`,
		"soon,x,-5":                                `line 3: close: "x" is not a number; ts: "soon" is not a time; volume: -5 is negative`,
		",1,1":                                     "line 3: ts: is missing",
		"2020-11-27,1,1":                           `line 3: ts: "2020-11-27" has no time of day, which bars of 1m need`,
		"2020-11-27T14:30:00Z,1":                   "line 3: the row has 2 cells and the header 3",
		"2020-11-27T14:30:00Z,1,1,9":               "line 3: the row has 4 cells and the header 3",
		`2020-11-27T14:30:00Z,"1" ,1`:              "line 3: the row has text after a closing quote",
		`2020-11-27T14:30:00Z,"1,1`:                "line 3: the row has a quote that is not closed",
		`"2020-11-27T14:30:00Z,1,1`:                "line 3: the row has a quote that is not closed",
		"2016-12-31T23:59:60Z,1,1":                 `line 3: ts: "2016-12-31T23:59:60Z" has second 60; leap seconds cannot be kept`,
		"2020-11-27T14:30:00Z,1\x00,1":             `line 3: close: "1\x00" is not a number`,
		strings.Repeat("9", 5<<20):                 "line 3: the line is longer than 4 MiB",
		"2020-11-27T14:30:00Z," + "1e400000" + ",": `line 3: close: "1e400000" is out of range`,
	} {
		text := "ts,close,volume\n2020-11-27T14:29:00Z,1,\n" + row + "\n2020-11-27T14:31:00Z,2,\n2020-11-27T14:32:00Z,3,\n"
		bars, rejected, _ := decode(t, text, settings())
		if !slices.Equal(bars, []mds.Bar{minute(14, 29, 1), minute(14, 31, 2), minute(14, 32, 3)}) {
			t.Errorf("%.40q: its neighbours are %+v", row, bars)
		}
		if len(rejected) != 1 || rejected[0].Error() != want {
			t.Errorf("%.40q: rejected %v, want %s", row, rejected, want)
			continue
		}
		if len(row) < 100 && rejected[0].Raw != row {
			t.Errorf("%q: raw %q", row, rejected[0].Raw)
		}
	}
}

// TestCSVLongLineAfterAStrayQuote: both cost themselves, and the numbers of
// the lines after them stay right.
func TestCSVLongLineAfterAStrayQuote(t *testing.T) {
	text := "ts,close\n2020-11-27T14:30:00Z,1\n\"x,1\n" + strings.Repeat("9", 5<<20) + "\n2020-11-27T14:31:00Z,y\n2020-11-27T14:32:00Z,3\n"
	bars, rejected, _ := decode(t, text, settings())
	lines := make([]int, len(rejected))
	for i, r := range rejected {
		lines[i] = r.Line
	}
	if !slices.Equal(bars, []mds.Bar{minute(14, 30, 1), minute(14, 32, 3)}) || !slices.Equal(lines, []int{3, 4, 5}) {
		t.Errorf("bars %+v, rejected lines %v; want 3, 4 and 5", bars, lines)
	}
}

func TestCSVMissingSymbols(t *testing.T) {
	opt := settings()
	delete(opt.Fixed, "symbol")
	bars, rejected, _ := decode(t, "ts,close,symbol\n2020-11-27T14:30:00Z,1,NA\n2020-11-27T14:30:00Z,1,null\n2020-11-27T14:30:00Z,1,N/A\n2020-11-27T14:30:00Z,1, \n", opt)
	if len(bars) != 1 || bars[0].Symbol != "NA" || len(rejected) != 3 || rejected[0].Reason != "symbol: is missing" {
		t.Errorf("bars %+v, rejected %v", bars, rejected)
	}
}

// TestCSVBinaryOrNot: one stray control byte in a text with other characters
// makes no binary file, wherever the first block of it ends.
func TestCSVBinaryOrNot(t *testing.T) {
	for pad := range 4 {
		text := "ts,close,note\n2020-11-27T14:30:00Z,1,\x01" + strings.Repeat("x", pad) + strings.Repeat("é", 4000) + "\n"
		if bars, rejected, _ := decode(t, text, settings()); len(bars) != 1 || len(rejected) > 0 {
			t.Errorf("pad %d: %d bars, rejected %v", pad, len(bars), rejected)
		}
	}
}

func TestCSVRowsOverLines(t *testing.T) {
	opt := settings()
	delete(opt.Fixed, "vendor")
	opt.Columns = map[string]string{"vendor": "who"}
	bars, rejected, d := decode(t, "ts,close,who,note\n2020-11-27T14:30:00Z,1,test,\"two\nlines, \"\"and\"\" more\"\n2020-11-27T14:31:00Z,x,test,\n", opt)
	if !slices.Equal(bars, []mds.Bar{minute(14, 30, 1)}) || !slices.Equal(d.Ignored(), []string{"note"}) {
		t.Errorf("bars %+v, ignored %q", bars, d.Ignored())
	}
	if len(rejected) != 1 || rejected[0].Line != 4 {
		t.Errorf("rejected %v, want line 4", rejected)
	}
}

// TestCSVStrayQuotes has a stray quote in every third row: each costs its own
// row and no other.
func TestCSVStrayQuotes(t *testing.T) {
	var text strings.Builder
	text.WriteString("ts,close,volume\n")
	for i := range 30 {
		quote := ""
		if i%3 == 1 {
			quote = `"`
		}
		fmt.Fprintf(&text, "2020-11-27T14:%02d:00Z,%s1,2\n", i, quote)
	}
	bars, rejected, _ := decode(t, text.String(), settings())
	if len(bars) != 20 || len(rejected) != 10 {
		t.Fatalf("%d bars, %d rejected", len(bars), len(rejected))
	}
	for i, r := range rejected {
		if r.Line != 3+3*i {
			t.Errorf("rejected line %d, want %d", r.Line, 3+3*i)
		}
	}
}

func TestCSVZonesAndLabels(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	instant := func(timeframe, ts string, opt codec.Options) string {
		opt.Fixed["timeframe"] = timeframe
		bars, rejected, _ := decode(t, "ts,close\n"+ts+",1\n", opt)
		if len(rejected) > 0 {
			return rejected[0].Reason
		}
		return bars[0].TS.Format(time.RFC3339)
	}
	for _, c := range []struct {
		timeframe, ts string
		zone          *time.Location
		label         codec.Label
		want          string
	}{
		{"1m", "2020-11-27 09:30:00", newYork, codec.LabelStart, "2020-11-27T14:30:00Z"},
		{"1m", "2020-07-01 09:30:00", newYork, codec.LabelStart, "2020-07-01T13:30:00Z"},
		{"1m", "2020-07-01 09:30:00Z", newYork, codec.LabelStart, "2020-07-01T09:30:00Z"},
		{"1m", "2024-03-10 02:30:00", newYork, codec.LabelStart, "ts: 2024-03-10 02:30:00 does not exist in America/New_York, whose clocks skipped it"},
		{"5m", "2020-11-27 09:35:00", newYork, codec.LabelEnd, "2020-11-27T14:30:00Z"},
		{"1h", "1606489200", nil, codec.LabelEnd, "2020-11-27T14:00:00Z"},
		// Calendar bars: the local date, whatever the zone.
		{"1d", "2020-11-27", nil, codec.LabelStart, "2020-11-27T00:00:00Z"},
		{"1d", "2020-11-27 16:00:00", nil, codec.LabelStart, "2020-11-27T00:00:00Z"},
		{"1d", "2022-01-03 00:00:00+01:00", nil, codec.LabelStart, "2022-01-03T00:00:00Z"},
		{"1d", "2022-01-03 23:00:00-05:00", newYork, codec.LabelStart, "2022-01-03T00:00:00Z"},
		{"1d", "1606453200", newYork, codec.LabelStart, "2020-11-27T00:00:00Z"}, // midnight in New York
		{"1d", "1606453200", nil, codec.LabelStart, "2020-11-27T00:00:00Z"},
		{"1d", "1606521600", newYork, codec.LabelStart, "2020-11-27T00:00:00Z"}, // 19:00 in New York
		{"1w", "11/27/2020", nil, codec.LabelStart, "2020-11-23T00:00:00Z"},
		{"1mo", "2020-11-30", nil, codec.LabelStart, "2020-11-01T00:00:00Z"},
		{"1d", "2020-11-28 00:00:00", nil, codec.LabelEnd, "2020-11-27T00:00:00Z"},
		{"1d", "2020-11-27", nil, codec.LabelEnd, "2020-11-27T00:00:00Z"},
		{"1mo", "2020-12-01T00:00:00Z", nil, codec.LabelEnd, "2020-11-01T00:00:00Z"},
		{"1d", "2020-11-27 16:00:00", nil, codec.LabelEnd, "2020-11-27T00:00:00Z"},
	} {
		opt := settings()
		opt.Zone, opt.Label = c.zone, c.label
		if got := instant(c.timeframe, c.ts, opt); got != c.want {
			t.Errorf("%s %s, label %d: %s, want %s", c.timeframe, c.ts, c.label, got, c.want)
		}
	}
}

func TestCSVWarnings(t *testing.T) {
	opt := settings()
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	opt.Zone = newYork
	bars, rejected, d := decode(t, `ts,open,high,low,close
2024-11-03 01:30:00,1,1,1,1
2024-11-04 01:30:00.0000019,1,1,1,1
2024-11-04 01:31:00,1,0.5,1,1
2024-11-04 01:32:00,1,2,1.5,1
2024-11-04 01:33:00,,2,1.5,1
-86400,,,,1
2024-03-10 02:30:00.0000001,1,0.5,1,1
`, opt)
	want := map[string]int64{
		"a local time that occurred twice was read as the first": 1,
		"a time finer than microseconds was cut":                 1,
		"open, high, low and close contradict each other":        2,
		"an epoch within a year of 1970: is the column a time?":  1,
	}
	if len(bars) != 6 || len(rejected) != 1 || !maps.Equal(d.Warnings(), want) {
		t.Errorf("%d bars, rejected %v, warnings %v", len(bars), rejected, d.Warnings())
	}
	if got := bars[0].TS.Format(time.RFC3339); got != "2024-11-03T05:30:00Z" {
		t.Errorf("the ambiguous time is %s", got)
	}
	if got := bars[1].TS.Nanosecond(); got != 1000 {
		t.Errorf("the fine time has %d ns", got)
	}
}

func TestCSVSetupErrors(t *testing.T) {
	header := func(change func(*codec.Options), text string) error {
		opt := settings()
		change(&opt)
		d, err := codec.NewCSV[mds.Bar](strings.NewReader(text), opt)
		if err != nil {
			return err
		}
		var bar mds.Bar
		return d.Next(&bar)
	}
	keep := func(*codec.Options) {}
	for _, c := range []struct {
		name, text, want string
		change           func(*codec.Options)
		setup            bool // another setting mends it
	}{
		{"empty", "", "it is empty", keep, false},
		{"blank", "\n \n", "it is empty", keep, false},
		{"binary", "\x7fELF\x02\x01\x00\x00", "it is a binary file, not CSV", keep, false},
		{"random bytes", "\x01\x02\xff\xfe\xfd", "it is a binary file, not CSV", keep, false},
		{"parquet", "PAR1....", "it is a Parquet file", keep, false},
		{"workbook", "PK\x03\x04....", "Excel workbook", keep, false},
		{"UTF-16", "\xff\xfet\x00s\x00", "it is UTF-16 text", keep, false},
		{"no header", "2020-11-27,1,2\n2020-11-28,1,2\n", `no usable columns: the first line is "2020-11-27", "1", "2"`, keep, true},
		{"no header, mapped", "2020-11-27,1,2\n2020-11-28,1,2\n", `the first line holds data ("2020-11-27" for the ts), not names; if the file has no header, say --no-header`, func(o *codec.Options) { o.Columns = map[string]string{"ts": "#1", "close": "#2"} }, true},
		{"time of day alone", "time,close\n09:30:00,1\n", `line 2: ts: "09:30:00" is a time of day without a date; map both, with --columns date=NAME,time=NAME`, keep, true},
		{"JSON", `{"ts":1}`, "it is JSON, not CSV", keep, false},
		{"CR", "ts,close\r1,2\r", "its lines end in CR alone", keep, false},
		{"open quote", "\"ts,close\n", "the header has a quote that is not closed", keep, false},
		{"no close", "ts,open\n1,1\n", `no column holds the close (last price): map one of "ts", "open" with --columns close=NAME`, keep, true},
		{"no time", "close,open\n1,1\n", "no column holds the ts", keep, true},
		{"no symbol", "ts,close\n1,1\n", "no column holds the symbol: give one with --symbol", func(o *codec.Options) { delete(o.Fixed, "symbol") }, true},
		{"two symbols", "ts,close,symbol\n1,1,A\n", `the file's column "symbol" gives the symbol already: give no other, or leave the column out`, keep, true},
		{"two closes", "ts,close,Close\n1,1,A\n", `the file has two columns "Close"; pick one by its number, such as --columns close=#2`, keep, true},
		{"unknown column", "ts,close\n1,1\n", `--columns volume=Vol: the file has no column "Vol"; it has "ts", "close"`, func(o *codec.Options) { o.Columns = map[string]string{"volume": "Vol"} }, true},
		{"unknown field", "ts,close\n1,1\n", `--columns bid=ts: bars have no column "bid"; they have vendor, symbol, timeframe, ts, open`, func(o *codec.Options) { o.Columns = map[string]string{"bid": "ts"} }, true},
		{"number too large", "ts,close\n1,1\n", "--columns close=#3: the file has columns #1 to #2", func(o *codec.Options) { o.Columns = map[string]string{"close": "#3"} }, true},
		{"no zone", "ts,close\n2020-11-27 14:30,1\n", `line 2: ts: "2020-11-27 14:30" has no time zone; name the file's zone with --tz`, func(o *codec.Options) { o.Zone = nil }, true},
		{"timeframe", "ts,close\n1,1\n", `not a timeframe: "7q"`, func(o *codec.Options) { o.Fixed["timeframe"] = "7q" }, true},
	} {
		err := header(c.change, c.text)
		var setup *codec.SetupError
		if err == nil || !strings.Contains(err.Error(), c.want) || errors.As(err, &setup) != c.setup {
			t.Errorf("%s: %v; want %q, mended by a setting: %v", c.name, err, c.want, c.setup)
		}
	}
}

func FuzzCSV(f *testing.F) {
	f.Add("ts,open,close,volume\n2020-11-27T14:30:00Z,210.25,211.5,1234.5\n")
	f.Add("date;time;close\n11/27/2020;14:30;\"1,234.5\"\n\"a\nb\";x\n")
	f.Add("ts\tclose\n1606487400\tNaN\n")
	f.Fuzz(func(t *testing.T, text string) {
		d, err := codec.NewCSV[mds.Bar](strings.NewReader(text), settings())
		if err != nil {
			return
		}
		lines := strings.Count(text, "\n") + 1
		for range lines {
			var bar mds.Bar
			err := d.Next(&bar)
			var row *codec.RowError
			var setup *codec.SetupError
			switch {
			case err == nil:
				if err := bar.Validate(); err != nil {
					t.Fatalf("an invalid bar was decoded: %v", err)
				}
				if bar != bar.Normalized() {
					t.Fatalf("bar %+v is not in its stored form", bar)
				}
			case errors.As(err, &row):
				if row.Line < 2 || row.Line > lines || row.Reason == "" {
					t.Fatalf("%+v", row)
				}
			case errors.Is(err, io.EOF), errors.As(err, &setup):
				return
			default:
				t.Fatal(err)
			}
		}
		if err := d.Next(new(mds.Bar)); !errors.Is(err, io.EOF) {
			t.Fatalf("more rows than lines: %v", err)
		}
	})
}
