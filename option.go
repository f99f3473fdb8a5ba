package mds

import (
	"errors"
	"fmt"
	"math"
	"strings"
	"time"
)

// OptionType says whether an option is a call or a put.
type OptionType string

// The two types of option.
const (
	Call OptionType = "C"
	Put  OptionType = "P"
)

// ParseOptionType reads "C", "P", "call" or "put" in any case.
func ParseOptionType(s string) (OptionType, error) {
	if t := OptionType(s); t == Call || t == Put {
		return t, nil
	}
	switch strings.ToLower(strings.TrimSpace(s)) {
	case "c", "call", "calls":
		return Call, nil
	case "p", "put", "puts":
		return Put, nil
	}
	return "", errors.New(quoted(s) + " is not an option type; use C or P")
}

// OptionSnap is what was known of one option contract at one moment: quotes,
// implied volatility, greeks, open interest. Vendor, symbol, expiry, option
// type, strike and TS are its key within a tenant.
type OptionSnap struct {
	// Vendor is who delivered the snapshot. Stored in lower case.
	Vendor string `json:"vendor"`
	// Symbol is the underlying, or the root of the option where the two differ
	// (SPXW). Stored in upper case. An OCC symbol (see [ParseOCC]) stands for
	// its contract: expiry, option type and strike may then be left out.
	Symbol string `json:"symbol"`
	// Expiry is the last day of the contract, in the exchange's time zone.
	Expiry     Date       `json:"expiry"`
	OptionType OptionType `json:"option_type"`
	// Strike is exact, in the quote currency. It may be negative, as strikes on
	// WTI were in April 2020. Zero is missing.
	Strike Decimal `json:"strike"`
	// TS is the moment of the snapshot. Stored in UTC, cut to microseconds; of
	// an end-of-day snapshot known by its date alone, 00:00 UTC of that date.
	TS time.Time `json:"ts"`

	// Bid, Ask and Last are prices in the quote currency.
	Bid  Opt[float64] `json:"bid"`
	Ask  Opt[float64] `json:"ask"`
	Last Opt[float64] `json:"last"`
	// IV is the implied volatility a year, as a fraction: 0.2 is 20 %.
	IV Opt[float64] `json:"iv"`
	// The greeks are as the vendor computes them; units of theta (a day or a
	// year) and vega (a point or a unit) differ among vendors.
	Delta Opt[float64] `json:"delta"`
	Gamma Opt[float64] `json:"gamma"`
	Theta Opt[float64] `json:"theta"`
	Vega  Opt[float64] `json:"vega"`
	Rho   Opt[float64] `json:"rho"`
	// OpenInterest and Volume are in contracts; they may be fractional.
	OpenInterest Opt[float64] `json:"open_interest"`
	Volume       Opt[float64] `json:"volume"`
	// Spot is the price of the underlying at TS.
	Spot Opt[float64] `json:"spot"`
}

// Schema describes the options kind.
func (OptionSnap) Schema() Schema[OptionSnap] {
	value := func(name, doc string, field func(*OptionSnap) *Opt[float64], aliases ...string) Column[OptionSnap] {
		return Column[OptionSnap]{Name: name, Role: Value, Doc: doc, OptFloat: field, Aliases: aliases}
	}
	return Schema[OptionSnap]{
		Kind: "options",
		Noun: "option",
		Columns: []Column[OptionSnap]{
			{
				Name: "vendor", Role: Identity, Doc: "who delivered the snapshot",
				Text: func(o *OptionSnap) *string { return &o.Vendor }, Parse: parseVendor,
				Aliases: []string{"provider", "source"}, Default: DefaultVendor,
			},
			{
				Name: "symbol", Role: Identity, Doc: "the underlying, or an OCC symbol",
				Text: func(o *OptionSnap) *string { return &o.Symbol }, Parse: parseSymbol,
				// What tells SPXW from SPX comes before the underlying of both.
				Aliases: []string{"contract_symbol", "occ_symbol", "option_symbol", "optionroot", "root", "ticker", "underlying_symbol", "underlying"},
			},
			{
				Name: "expiry", Role: Identity, Doc: "the last day of the contract", Derived: true,
				Date:    func(o *OptionSnap) *Date { return &o.Expiry },
				Aliases: []string{"expiration", "expiration_date", "expiry_date", "maturity", "exdate"},
			},
			{
				Name: "option_type", Role: Identity, Doc: "C or P", Derived: true,
				Text: func(o *OptionSnap) *string { return (*string)(&o.OptionType) },
				Parse: func(s string) (string, error) {
					t, err := ParseOptionType(s)
					return string(t), err
				},
				Aliases: []string{"type", "right", "cp_flag", "call_put", "put_call", "cp"},
			},
			{
				Name: "strike", Role: Identity, Doc: "the strike, in the quote currency", Derived: true,
				Decimal: func(o *OptionSnap) *Decimal { return &o.Strike },
				Aliases: []string{"strike_price"},
			},
			{
				Name: "ts", Role: Time, Doc: "the moment of the snapshot, UTC",
				Time:    func(o *OptionSnap) *time.Time { return &o.TS },
				Aliases: []string{"timestamp", "datetime", "quote_date", "quote_datetime", "quote_time", "trade_date", "data_date", "t"},
			},
			value("bid", "best bid", func(o *OptionSnap) *Opt[float64] { return &o.Bid }, "bid_price", "best_bid"),
			value("ask", "best ask", func(o *OptionSnap) *Opt[float64] { return &o.Ask }, "ask_price", "best_offer", "offer"),
			value("last", "last traded price", func(o *OptionSnap) *Opt[float64] { return &o.Last }, "last_price", "close"),
			value("iv", "implied volatility a year, a fraction", func(o *OptionSnap) *Opt[float64] { return &o.IV }, "implied_vol", "implied_volatility", "impl_volatility"),
			value("delta", "change of price with the underlying", func(o *OptionSnap) *Opt[float64] { return &o.Delta }),
			value("gamma", "change of delta with the underlying", func(o *OptionSnap) *Opt[float64] { return &o.Gamma }),
			value("theta", "change of price with time, in the vendor's unit", func(o *OptionSnap) *Opt[float64] { return &o.Theta }),
			value("vega", "change of price with volatility, in the vendor's unit", func(o *OptionSnap) *Opt[float64] { return &o.Vega }),
			value("rho", "change of price with the interest rate, in the vendor's unit", func(o *OptionSnap) *Opt[float64] { return &o.Rho }),
			value("open_interest", "contracts open", func(o *OptionSnap) *Opt[float64] { return &o.OpenInterest }, "oi"),
			value("volume", "contracts traded", func(o *OptionSnap) *Opt[float64] { return &o.Volume }, "vol"),
			value("spot", "price of the underlying", func(o *OptionSnap) *Opt[float64] { return &o.Spot }, "underlying_last", "underlying_price", "spot_price"),
		},
		Validate:  (*OptionSnap).Validate,
		Normalize: (*OptionSnap).normalize,
		Warning:   (*OptionSnap).warning,
	}
}

// contract returns the identity that is stored, and what is wrong with it.
func (o *OptionSnap) contract() (OptionSnap, faults) {
	c := OptionSnap{Symbol: NormalizeSymbol(o.Symbol), Expiry: o.Expiry, OptionType: o.OptionType, Strike: o.Strike}
	var f faults
	err := errOCC
	var root string
	var expiry Date
	var optionType OptionType
	var strike Decimal
	if len(c.Symbol) > occTail { // most symbols are shorter, and the refusal has its price
		root, expiry, optionType, strike, err = ParseOCC(c.Symbol)
	}
	if err != nil {
		f.add("expiry", dateFault(o.Expiry))
		if t, err := ParseOptionType(string(o.OptionType)); err == nil {
			c.OptionType = t
		} else if o.OptionType != "" {
			f.add("option_type", err.Error())
		} else {
			f.add("option_type", "is missing")
		}
		if o.Strike == 0 {
			f.add("strike", "is 0 or missing")
		}
		f.add("strike", decimalFault(o.Strike))
		return c, f
	}
	contradicts := func(field, given, told string) {
		f.add(field, fmt.Sprintf("%s contradicts the symbol %s, which says %s", given, c.Symbol, told))
	}
	if !o.Expiry.IsZero() && o.Expiry != expiry {
		contradicts("expiry", o.Expiry.String(), expiry.String())
	}
	if t, err := ParseOptionType(string(o.OptionType)); o.OptionType != "" && (err != nil || t != optionType) {
		contradicts("option_type", string(o.OptionType), string(optionType))
	}
	if o.Strike != 0 && o.Strike != strike {
		contradicts("strike", o.Strike.String(), strike.String())
	}
	return OptionSnap{Symbol: root, Expiry: expiry, OptionType: optionType, Strike: strike}, f
}

// Validate reports every fault of the snapshot at once, as an
// [*InvalidError].
func (o *OptionSnap) Validate() error {
	var f faults
	f.add("vendor", vendorFault(o.Vendor))
	f.add("symbol", symbolFault(o.Symbol))
	c, wrong := o.contract()
	f = append(f, wrong...)
	f.add("ts", timeFault(o.TS))
	// The day of expiry ends last at UTC-12.
	if end := c.Expiry.Time().AddDate(0, 0, 1).Add(12 * time.Hour); len(f) == 0 && !o.TS.Before(end) {
		f.add("expiry", fmt.Sprintf("%s is before the snapshot's time, %s", c.Expiry, o.TS.UTC().Format(time.RFC3339)))
	}
	f.add("bid", optFault(o.Bid))
	f.add("ask", optFault(o.Ask))
	f.add("last", optFault(o.Last))
	f.add("iv", optFault(o.IV))
	f.add("delta", optFault(o.Delta))
	f.add("gamma", optFault(o.Gamma))
	f.add("theta", optFault(o.Theta))
	f.add("vega", optFault(o.Vega))
	f.add("rho", optFault(o.Rho))
	f.add("open_interest", countFault(o.OpenInterest))
	f.add("volume", countFault(o.Volume))
	f.add("spot", optFault(o.Spot))
	return f.err()
}

// Normalized returns the snapshot in the form that is stored.
func (o OptionSnap) Normalized() OptionSnap {
	o.normalize()
	return o
}

func (o *OptionSnap) normalize() {
	c, _ := o.contract()
	o.Vendor = NormalizeVendor(o.Vendor)
	o.Symbol, o.Expiry, o.OptionType, o.Strike = c.Symbol, c.Expiry, c.OptionType, c.Strike
	o.TS = time.UnixMicro(o.TS.UnixMicro()).UTC()
}

// warning reports what vendors' data holds now and then: a crossed quote, and
// figures that are of another unit than they should be.
func (o *OptionSnap) warning() string {
	bid, ok1 := o.Bid.Value()
	ask, ok2 := o.Ask.Value()
	const most = 10 // 1,000 %
	switch iv := o.IV.Or(0); {
	case ok1 && ok2 && bid > ask:
		return "the bid is above the ask"
	case iv < 0, iv > most:
		return "iv is not between 0 and 10: is it in percent?"
	case math.Abs(o.Delta.Or(0)) > 1:
		return "delta is not between -1 and 1: is it in percent?"
	}
	return ""
}
