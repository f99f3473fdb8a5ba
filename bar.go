package mds

import (
	"fmt"
	"strconv"
	"time"
)

// Bar is the summary of trading in one symbol over one timeframe. Vendor,
// symbol, timeframe and TS are its key within a tenant.
//
// Prices and volumes are kept as the vendor sent them: raw, unadjusted unless
// the vendor adjusted them, negative where the market was (WTI, 2020-04-20).
type Bar struct {
	// Vendor is who delivered the bar, such as "ibkr". Case does not matter;
	// it is stored in lower case.
	Vendor string `json:"vendor"`
	// Symbol is the vendor's name of the instrument. Case does not matter; it
	// is stored in upper case.
	Symbol string `json:"symbol"`
	// Timeframe is the span of the bar.
	Timeframe Timeframe `json:"timeframe"`
	// TS is the start of the bar. Stored in UTC, cut to microseconds; for
	// calendar timeframes as 00:00 UTC of the date TS shows in its location.
	TS time.Time `json:"ts"`

	// Prices are in the instrument's quote currency. Close is required.
	Open  Opt[float64] `json:"open"`
	High  Opt[float64] `json:"high"`
	Low   Opt[float64] `json:"low"`
	Close float64      `json:"close"`
	// Volume is in units of the instrument (shares, contracts, coins); it may
	// be fractional.
	Volume Opt[float64] `json:"volume"`
	// VWAP is the volume-weighted average price of the bar.
	VWAP Opt[float64] `json:"vwap"`
	// TradeCount is the number of trades in the bar.
	TradeCount Opt[int64] `json:"trade_count"`
}

// Schema describes the bars kind.
func (Bar) Schema() Schema[Bar] {
	return Schema[Bar]{
		Kind: "bars",
		Noun: "bar",
		Columns: []Column[Bar]{
			{
				Name: "vendor", Role: Identity, Doc: "who delivered the bar",
				Text: func(b *Bar) *string { return &b.Vendor }, Parse: parseVendor,
				Aliases: []string{"provider", "source"}, Default: DefaultVendor,
			},
			{
				Name: "symbol", Role: Identity, Doc: "the vendor's name of the instrument",
				Text: func(b *Bar) *string { return &b.Symbol }, Parse: parseSymbol,
				Aliases: []string{"ticker", "stock", "sym", "act_symbol", "instrument"},
			},
			{
				Name: "timeframe", Role: Identity, Doc: "the span of the bar",
				Text: func(b *Bar) *string { return (*string)(&b.Timeframe) },
				Parse: func(s string) (string, error) {
					tf, err := ParseTimeframe(s)
					return string(tf), err
				},
				Aliases: []string{"interval", "bar_size", "resolution"},
			},
			{
				Name: "ts", Role: Time, Doc: "start of the bar, UTC",
				Time:    func(b *Bar) *time.Time { return &b.TS },
				Aliases: []string{"timestamp", "datetime", "date_time", "trade_date", "epoch", "open_time", "time_utc", "t"},
			},
			{
				Name: "open", Role: Value, Doc: "first price",
				OptFloat: func(b *Bar) *Opt[float64] { return &b.Open },
				Aliases:  []string{"open_price", "o"},
			},
			{
				Name: "high", Role: Value, Doc: "highest price",
				OptFloat: func(b *Bar) *Opt[float64] { return &b.High },
				Aliases:  []string{"high_price", "h"},
			},
			{
				Name: "low", Role: Value, Doc: "lowest price",
				OptFloat: func(b *Bar) *Opt[float64] { return &b.Low },
				Aliases:  []string{"low_price", "l"},
			},
			{
				Name: "close", Role: Value, Doc: "last price",
				Float:   func(b *Bar) *float64 { return &b.Close },
				Aliases: []string{"close_price", "c", "last"},
			},
			{
				Name: "volume", Role: Value, Doc: "units traded",
				OptFloat: func(b *Bar) *Opt[float64] { return &b.Volume },
				Aliases:  []string{"vol", "v"},
			},
			{
				Name: "vwap", Role: Value, Doc: "volume-weighted average price",
				OptFloat: func(b *Bar) *Opt[float64] { return &b.VWAP },
				Aliases:  []string{"vw"},
			},
			{
				Name: "trade_count", Role: Value, Doc: "number of trades",
				OptInt:  func(b *Bar) *Opt[int64] { return &b.TradeCount },
				Aliases: []string{"trades", "number_of_trades", "num_trades", "transactions", "n"},
			},
		},
		Validate:  (*Bar).Validate,
		Normalize: (*Bar).normalize,

		Timeframe: func(b *Bar) Timeframe { return b.Timeframe },
		Warning:   (*Bar).warning,
	}
}

// Validate reports every fault of the bar at once, as an [*InvalidError].
func (b *Bar) Validate() error {
	if b.sound() {
		return nil
	}
	var f faults
	add := f.add
	add("vendor", vendorFault(b.Vendor))
	add("symbol", symbolFault(b.Symbol))
	if b.Timeframe == "" {
		add("timeframe", "is missing")
	} else if !b.Timeframe.Valid() {
		add("timeframe", fmt.Sprintf("%q is not one of %s", string(b.Timeframe), timeframeList()))
	}
	add("ts", timeFault(b.TS))
	if b.Timeframe.Calendar() && len(f) == 0 {
		add("ts", timeFault(b.Timeframe.Truncate(b.TS)))
	}
	add("open", optFault(b.Open))
	add("high", optFault(b.High))
	add("low", optFault(b.Low))
	add("close", floatFault(b.Close))
	add("volume", countFault(b.Volume))
	add("vwap", optFault(b.VWAP))
	if n, ok := b.TradeCount.Value(); ok && n < 0 {
		add("trade_count", strconv.FormatInt(n, 10)+" is negative")
	}
	return f.err()
}

// sound reports a bar that has no fault, as nearly all bars are; of others it may
// say no too. It is what each row of a load pays.
func (b *Bar) sound() bool {
	const slack = 400 * 24 * 3600 // no calendar bar is labelled so far from its time
	seconds := b.TS.Unix()
	if seconds < firstSecond+slack || seconds > lastSecond-slack {
		return false
	}
	open, high, low := b.Open.value, b.High.value, b.Low.value
	last, volume, vwap := b.Close, b.Volume.value, b.VWAP.value
	// The difference of a number to itself is 0, that of NaN or an infinity NaN.
	if (open-open)+(high-high)+(low-low)+(last-last)+(volume-volume)+(vwap-vwap) != 0 {
		return false
	}
	return volume >= 0 && b.TradeCount.value >= 0 && b.Timeframe.Valid() && plainSymbol(b.Symbol) && plainVendor(b.Vendor)
}

// Normalized returns the bar in the form that is stored: vendor in lower case,
// symbol in upper case, TS in UTC and microseconds (see [Bar.TS]).
func (b Bar) Normalized() Bar {
	b.normalize()
	return b
}

func (b *Bar) normalize() {
	b.Vendor = NormalizeVendor(b.Vendor)
	b.Symbol = NormalizeSymbol(b.Symbol)
	b.TS = time.UnixMicro(b.micros()).UTC()
}

func (b *Bar) micros() int64 {
	if b.Timeframe.Calendar() {
		return b.Timeframe.Truncate(b.TS).UnixMicro()
	}
	return b.TS.UnixMicro()
}

// warning reports a bar whose high is below, or whose low is above, one of its
// other prices. Vendors' data holds such rows, and raw means raw.
func (b *Bar) warning() string {
	open, ok1 := b.Open.Value()
	high, ok2 := b.High.Value()
	low, ok3 := b.Low.Value()
	if !ok1 || !ok2 || !ok3 {
		return ""
	}
	if high < max(open, low, b.Close) || low > min(open, high, b.Close) {
		return "open, high, low and close contradict each other"
	}
	return ""
}
