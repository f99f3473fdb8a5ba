package mds_test

import (
	"math"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func goodOption() mds.OptionSnap {
	return mds.OptionSnap{
		Vendor: "cboe", Symbol: "SPX", Expiry: mds.Date{Year: 2016, Month: 6, Day: 17}, OptionType: mds.Call, Strike: 650_000_000_000,
		TS: time.Date(2014, 12, 15, 21, 0, 0, 0, time.UTC),
	}
}

func TestOptionSentences(t *testing.T) {
	expiry := time.Date(2016, 6, 17, 0, 0, 0, 0, time.UTC)
	for _, c := range []struct {
		change func(*mds.OptionSnap)
		want   string
	}{
		{func(*mds.OptionSnap) {}, ""},
		{func(o *mds.OptionSnap) { o.Bid, o.Theta = mds.Some(0.0), mds.Some(25.1577) }, ""},
		{func(o *mds.OptionSnap) { o.Strike = 0 }, "strike: is 0 or missing"},
		{func(o *mds.OptionSnap) { o.Strike = -37_630_000_000 }, ""},
		{func(o *mds.OptionSnap) { o.OptionType = "call" }, ""},
		{func(o *mds.OptionSnap) { o.OptionType = "X" }, `option_type: "X" is not an option type; use C or P`},
		{func(o *mds.OptionSnap) { o.OptionType = "" }, "option_type: is missing"},
		{func(o *mds.OptionSnap) { o.Expiry = mds.Date{} }, "expiry: is missing"},
		{func(o *mds.OptionSnap) { o.Expiry.Day = 31 }, "expiry: there is no day 2016-06-31"},
		{func(o *mds.OptionSnap) { o.Expiry.Year = 12016 }, "expiry: year 12016 is outside 1 to 9999"},
		{func(o *mds.OptionSnap) { o.TS = expiry.Add(36*time.Hour - 1) }, ""}, // the day lasts so long at UTC-12
		{func(o *mds.OptionSnap) { o.TS = expiry.Add(36 * time.Hour) }, "expiry: 2016-06-17 is before the snapshot's time, 2016-06-18T12:00:00Z"},
		{func(o *mds.OptionSnap) { o.Strike = 1_000_000_000_000_000_000 }, "strike: 1000000000 is not below 1,000,000,000 in size"},
		{func(o *mds.OptionSnap) { o.IV = mds.Some(math.NaN()) }, "iv: NaN is not a number that can be kept; leave a missing value out"},
		{func(o *mds.OptionSnap) { o.OpenInterest = mds.Some(-1.0) }, "open_interest: -1 is negative"},
		{func(o *mds.OptionSnap) { o.Symbol = "" }, "symbol: is missing"},
		{func(o *mds.OptionSnap) { o.Symbol = "SPX160617C00650000" }, ""},
		{func(o *mds.OptionSnap) { o.Symbol = "SPX160617P00650000" }, "option_type: C contradicts the symbol SPX160617P00650000, which says P"},
		{func(o *mds.OptionSnap) { o.Symbol = "SPX160618C00650000" }, "expiry: 2016-06-17 contradicts the symbol SPX160618C00650000, which says 2016-06-18"},
		{func(o *mds.OptionSnap) { o.Symbol = "SPX160617C00651000" }, "strike: 650 contradicts the symbol SPX160617C00651000, which says 651"},
	} {
		o := goodOption()
		c.change(&o)
		got := ""
		if err := o.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

func TestOCC(t *testing.T) {
	for symbol, want := range map[string]string{
		"SPX160617C00650000":    "SPX 2016-06-17 C 650",
		"SPX   160617C00650000": "SPX 2016-06-17 C 650", // as the clearing house pads it
		"aapl240315p00172500":   "AAPL 2024-03-15 P 172.5",
		"F240119C00012350":      "F 2024-01-19 C 12.35",
		"BRKB1 251219P99999999": "BRKB1 2025-12-19 P 99999.999",
		"SPXW  990101C00000001": "SPXW 2099-01-01 C 0.001",
	} {
		root, expiry, optionType, strike, err := mds.ParseOCC(symbol)
		if got := root + " " + expiry.String() + " " + string(optionType) + " " + strike.String(); err != nil || got != want {
			t.Errorf("%q is %s, %v; want %s", symbol, got, err, want)
		}
		o := mds.OptionSnap{Symbol: root, Expiry: expiry, OptionType: optionType, Strike: strike}
		if back, err := o.OCC(); err != nil || back != strings.ToUpper(strings.ReplaceAll(symbol, " ", "")) {
			t.Errorf("%q went back to %q, %v", symbol, back, err)
		}
	}
	for _, symbol := range []string{
		"", "SPX", "160617C00650000", "SPX160617X00650000", "SPX161317C00650000", "SPX160230C00650000", "SPX160617C0065000", "SPX160617C00650OOO",
		"SPX160617C00000000", "TOOLONG160617C00650000", "S-X160617C00650000", "S X160617C00650000", "É160617C00650000",
	} {
		if root, _, _, _, err := mds.ParseOCC(symbol); err == nil {
			t.Errorf("%q is an option on %s", symbol, root)
		}
	}
	for name, change := range map[string]func(*mds.OptionSnap){
		"negative strike": func(o *mds.OptionSnap) { o.Strike = -1_000_000_000 },
		"fine strike":     func(o *mds.OptionSnap) { o.Strike = 100_000 },
		"high strike":     func(o *mds.OptionSnap) { o.Strike = 100_000_000_000_000 },
		"far expiry":      func(o *mds.OptionSnap) { o.Expiry.Year = 2116 },
		"odd root":        func(o *mds.OptionSnap) { o.Symbol = "BTC-USD" },
		"no type":         func(o *mds.OptionSnap) { o.OptionType = "" },
	} {
		o := goodOption()
		change(&o)
		if symbol, err := o.OCC(); err == nil {
			t.Errorf("%s: %s", name, symbol)
		}
	}
}

func FuzzParseOCC(f *testing.F) {
	for _, seed := range []string{"SPX160617C00650000", "SPX   160617C00650000", "aapl240315p00172500", "X"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, symbol string) {
		root, expiry, optionType, strike, err := mds.ParseOCC(symbol)
		if err != nil {
			return
		}
		o := mds.OptionSnap{Symbol: root, Expiry: expiry, OptionType: optionType, Strike: strike}
		back, err := o.OCC()
		if err != nil || back != strings.ReplaceAll(mds.NormalizeSymbol(symbol), " ", "") {
			t.Fatalf("%q is %s %s %s %s and went back to %q, %v", symbol, root, expiry, optionType, strike, back, err)
		}
	})
}

func TestOptionNormalized(t *testing.T) {
	o := mds.OptionSnap{Vendor: "CBOE ", Symbol: "spx160617c00650500", TS: time.Date(2014, 12, 15, 16, 0, 0, 1999, time.FixedZone("", -5*3600))}
	got := o.Normalized()
	want := goodOption()
	want.Strike, want.TS = 650_500_000_000, want.TS.Add(time.Microsecond)
	if got != want || got != got.Normalized() {
		t.Errorf("%+v, want %+v", got, want)
	}
	crossed := goodOption()
	crossed.Bid, crossed.Ask = mds.Some(2.0), mds.Some(1.0)
	schema := mds.SchemaOf[mds.OptionSnap]()
	if schema.Warning(&crossed) != "the bid is above the ask" || schema.Warning(&want) != "" {
		t.Error("the warning of a crossed quote")
	}
}
