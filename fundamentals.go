package mds

import (
	"fmt"
	"strings"
	"time"
	"unicode"
)

// Fundamentals are the figures of one company about one period, as one filing
// told them. They are point-in-time: a later filing that restates them is
// another record, and [Selection.KnownAt] reads what was known at a time.
// Vendor, symbol, period, FiledAt and AsOf are the key within a tenant.
type Fundamentals struct {
	// Vendor is who delivered the figures. Stored in lower case.
	Vendor string `json:"vendor"`
	// Symbol is the vendor's name of the company. Stored in upper case.
	Symbol string `json:"symbol"`
	// Period is the span that the figures are about.
	Period Period `json:"period"`
	// FiledAt is when the figures became known. Stored in UTC, cut to
	// microseconds; of a filing known by its date alone, 00:00 UTC of that date.
	// Defaults to 00:00 UTC of AsOf.
	FiledAt time.Time `json:"filed_at"`
	// AsOf is the last day of the period.
	AsOf Date `json:"asof"`

	// Figures are in Currency, in units (not thousands).
	Revenue          Opt[float64] `json:"revenue"`
	OperatingIncome  Opt[float64] `json:"operating_income"`
	NetIncome        Opt[float64] `json:"net_income"`
	TotalAssets      Opt[float64] `json:"total_assets"`
	TotalLiabilities Opt[float64] `json:"total_liabilities"`
	TotalEquity      Opt[float64] `json:"total_equity"`
	// EPS is the diluted earnings a share.
	EPS Opt[float64] `json:"eps"`
	// SharesOutstanding is in shares.
	SharesOutstanding Opt[float64] `json:"shares_outstanding"`
	// Currency is the ISO 4217 code, such as USD; empty where it is not known.
	Currency string `json:"currency"`
	// Form is the kind of filing, such as 10-K; empty where it is not known.
	Form string `json:"form"`
	// Accession is the filing's number, such as 0001640147-21-000073; empty
	// where it is not known.
	Accession string `json:"accession"`
	// Extra are all other figures by "taxonomy:tag/unit", such as
	// "us-gaap:Goodwill/USD".
	Extra map[string]float64 `json:"extra"`
}

// Limits of what a record may hold, so that every file format and database
// takes it.
const (
	maxShortText   = 64
	maxMetrics     = 4096
	maxMetricBytes = 256
)

// Schema describes the fundamentals kind.
func (Fundamentals) Schema() Schema[Fundamentals] {
	value := func(name, doc string, field func(*Fundamentals) *Opt[float64], aliases ...string) Column[Fundamentals] {
		return Column[Fundamentals]{Name: name, Role: Value, Doc: doc, OptFloat: field, Aliases: aliases}
	}
	text := func(name, doc string, field func(*Fundamentals) *string, aliases ...string) Column[Fundamentals] {
		return Column[Fundamentals]{Name: name, Role: Value, Doc: doc, Text: field, Aliases: aliases}
	}
	return Schema[Fundamentals]{
		Kind: "fundamentals",
		Noun: "fundamental",
		Columns: []Column[Fundamentals]{
			{
				Name: "vendor", Role: Identity, Doc: "who delivered the figures",
				Text: func(f *Fundamentals) *string { return &f.Vendor }, Parse: parseVendor,
				Aliases: []string{"provider", "source"}, Default: DefaultVendor,
			},
			{
				Name: "symbol", Role: Identity, Doc: "the vendor's name of the company",
				Text: func(f *Fundamentals) *string { return &f.Symbol }, Parse: parseSymbol,
				Aliases: []string{"ticker", "company"},
			},
			{
				Name: "period", Role: Key, Doc: "the span that the figures are about",
				Text: func(f *Fundamentals) *string { return (*string)(&f.Period) },
				Parse: func(s string) (string, error) {
					p, err := ParsePeriod(s)
					return string(p), err
				},
				Aliases: []string{"period_type", "duration", "span"}, Default: string(UnstatedSpan),
			},
			{
				Name: "filed_at", Role: Revision, Doc: "when the figures became known, UTC", Derived: true,
				Time:    func(f *Fundamentals) *time.Time { return &f.FiledAt },
				Aliases: []string{"filed", "filing_date", "filed_date", "publish_date", "known_at"},
			},
			{
				Name: "asof", Role: Time, Doc: "the last day of the period",
				Date:    func(f *Fundamentals) *Date { return &f.AsOf },
				Aliases: []string{"as_of", "period_end", "end", "fiscal_date_ending", "end_date"},
			},
			value("revenue", "revenue", func(f *Fundamentals) *Opt[float64] { return &f.Revenue }, "total_revenue", "sales"),
			value("operating_income", "operating income", func(f *Fundamentals) *Opt[float64] { return &f.OperatingIncome }),
			value("net_income", "net income", func(f *Fundamentals) *Opt[float64] { return &f.NetIncome }),
			value("total_assets", "total assets", func(f *Fundamentals) *Opt[float64] { return &f.TotalAssets }),
			value("total_liabilities", "total liabilities", func(f *Fundamentals) *Opt[float64] { return &f.TotalLiabilities }),
			value("total_equity", "total shareholders' equity", func(f *Fundamentals) *Opt[float64] { return &f.TotalEquity }, "stockholders_equity", "total_shareholder_equity"),
			value("eps", "diluted earnings a share", func(f *Fundamentals) *Opt[float64] { return &f.EPS }, "diluted_eps", "eps_diluted"),
			value("shares_outstanding", "shares outstanding", func(f *Fundamentals) *Opt[float64] { return &f.SharesOutstanding }, "common_stock_shares_outstanding"),
			{
				Name: "currency", Role: Value, Doc: "ISO 4217 code of the figures", Unit: true,
				Text: func(f *Fundamentals) *string { return &f.Currency }, Aliases: []string{"reported_currency"},
			},
			text("form", "the kind of filing, such as 10-K", func(f *Fundamentals) *string { return &f.Form }),
			text("accession", "the filing's number", func(f *Fundamentals) *string { return &f.Accession }, "accn", "accession_number"),
			{
				Name: "extra", Role: Value, Doc: "other figures by taxonomy:tag/unit",
				Metrics: func(f *Fundamentals) *map[string]float64 { return &f.Extra },
				Aliases: []string{"metrics"},
			},
		},
		Validate:  (*Fundamentals).Validate,
		Normalize: (*Fundamentals).normalize,
		Warning: func(f *Fundamentals) string {
			switch {
			case f.FiledAt.IsZero():
				return "without filed_at: it counts as known from asof on"
			case f.FiledAt.Before(f.AsOf.Time()):
				return "filed before the period ended"
			}
			return ""
		},
	}
}

// Validate reports every fault of the record at once, as an [*InvalidError].
func (f *Fundamentals) Validate() error {
	var w faults
	w.add("vendor", vendorFault(f.Vendor))
	w.add("symbol", symbolFault(f.Symbol))
	if f.Period == "" {
		w.add("period", "is missing")
	} else if !f.Period.Valid() {
		_, err := ParsePeriod(string(f.Period))
		if err == nil {
			err = fmt.Errorf("%s is not the standard spelling; use ParsePeriod", quoted(string(f.Period)))
		}
		w.add("period", err.Error())
	}
	if !f.FiledAt.IsZero() {
		w.add("filed_at", timeFault(f.FiledAt))
	}
	w.add("asof", dateFault(f.AsOf))
	for _, figure := range []struct {
		name  string
		value Opt[float64]
	}{
		{"revenue", f.Revenue}, {"operating_income", f.OperatingIncome}, {"net_income", f.NetIncome},
		{"total_assets", f.TotalAssets}, {"total_liabilities", f.TotalLiabilities}, {"total_equity", f.TotalEquity},
		{"eps", f.EPS}, {"shares_outstanding", f.SharesOutstanding},
	} {
		w.add(figure.name, optFault(figure.value))
	}
	w.add("currency", textFault(f.Currency, maxShortText))
	w.add("form", textFault(f.Form, maxShortText))
	w.add("accession", textFault(f.Accession, maxShortText))
	w.add("extra", metricsFault(f.Extra))
	return w.err()
}

// metricsFault says what is wrong with figures by name, or "".
func metricsFault(metrics map[string]float64) string {
	if len(metrics) > maxMetrics {
		return fmt.Sprintf("holds more than %d figures", maxMetrics)
	}
	for name, v := range metrics {
		fault := textFault(name, maxMetricBytes)
		switch {
		case fault != "":
		case name == "":
			fault = "is empty"
		case strings.ContainsFunc(name, func(r rune) bool { return !unicode.IsPrint(r) }):
			fault = "holds a character that cannot be printed"
		default:
			if fault = floatFault(v); fault == "" {
				continue
			}
			return "the figure " + quoted(name) + ": " + fault
		}
		return "a figure's name " + fault
	}
	return ""
}

// Normalized returns the record in the form that is stored.
func (f Fundamentals) Normalized() Fundamentals {
	f.normalize()
	return f
}

func (f *Fundamentals) normalize() {
	f.Vendor = NormalizeVendor(f.Vendor)
	f.Symbol = NormalizeSymbol(f.Symbol)
	if f.FiledAt.IsZero() {
		f.FiledAt = f.AsOf.Time()
	}
	f.FiledAt = time.UnixMicro(f.FiledAt.UnixMicro()).UTC()
	if len(f.Extra) == 0 {
		f.Extra = nil
	}
}
