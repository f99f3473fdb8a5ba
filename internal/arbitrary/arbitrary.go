// Package arbitrary draws any valid record of each kind, in its stored form,
// for property tests: every byte that text may hold, extreme numbers and times.
package arbitrary

import (
	"strings"
	"time"
	"unicode/utf8"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

// Bar draws a bar.
func Bar(t *rapid.T) mds.Bar {
	b := mds.Bar{
		Vendor: vendor(t), Symbol: symbol(t), TS: instant(t, "ts"),
		Timeframe: rapid.SampledFrom(mds.Timeframes()).Draw(t, "timeframe"),
		Open:      number(t, "open"), High: number(t, "high"), Low: number(t, "low"),
		Close: number(t, "close").Or(1), VWAP: number(t, "vwap"), Volume: count(t, "volume"),
	}
	if rapid.Bool().Draw(t, "has count") {
		b.TradeCount = mds.Some(rapid.Int64Range(0, 1<<62).Draw(t, "count"))
	}
	if b = b.Normalized(); b.TS.IsZero() || b.TS.Year() < 1 {
		b.TS = time.Unix(0, 0)
	}
	return b.Normalized()
}

// Option draws an option snapshot.
func Option(t *rapid.T) mds.OptionSnap {
	o := mds.OptionSnap{
		Vendor: vendor(t), Symbol: symbol(t), Expiry: date(t, "expiry"),
		OptionType: rapid.SampledFrom([]mds.OptionType{mds.Call, mds.Put}).Draw(t, "type"),
		Strike:     mds.Decimal(rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "strike")),
		Bid:        number(t, "bid"), Ask: number(t, "ask"), Last: number(t, "last"), IV: number(t, "iv"),
		Delta: number(t, "delta"), Gamma: number(t, "gamma"), Theta: number(t, "theta"), Vega: number(t, "vega"), Rho: number(t, "rho"),
		OpenInterest: count(t, "open interest"), Volume: count(t, "volume"), Spot: number(t, "spot"),
	}
	if o.Strike == 0 {
		o.Strike = 1
	}
	last := o.Expiry.Time().Add(36*time.Hour - time.Microsecond)
	o.TS = last.Add(-time.Duration(rapid.Int64Range(0, 1<<50).Draw(t, "age")) * time.Microsecond)
	if o.TS.Year() < 1 || o.TS.Year() > 9999 || o.TS.IsZero() {
		o.TS = o.Expiry.Time().Add(time.Microsecond)
	}
	return o.Normalized()
}

// Fundamentals draws a company's figures.
func Fundamentals(t *rapid.T) mds.Fundamentals {
	f := mds.Fundamentals{
		Vendor: vendor(t), Symbol: symbol(t), AsOf: date(t, "asof"), FiledAt: instant(t, "filed_at"),
		Period:  rapid.SampledFrom([]mds.Period{"instant", "3M", "6M", "9M", "FY", "1M", "45D", "9999D", "unstated"}).Draw(t, "period"),
		Revenue: number(t, "revenue"), OperatingIncome: number(t, "operating income"), NetIncome: number(t, "net income"),
		TotalAssets: number(t, "assets"), TotalLiabilities: number(t, "liabilities"), TotalEquity: number(t, "equity"),
		EPS: number(t, "eps"), SharesOutstanding: number(t, "shares"),
		Currency: short(t, "currency"), Form: short(t, "form"), Accession: short(t, "accession"),
	}
	for range rapid.IntRange(0, 4).Draw(t, "figures") {
		if f.Extra == nil {
			f.Extra = make(map[string]float64)
		}
		name := rapid.StringMatching(`[ -~é贵😀]{1,30}`).Draw(t, "name")
		f.Extra[name] = number(t, "figure").Or(0)
	}
	return f.Normalized()
}

// News draws a news item.
func News(t *rapid.T) mds.News {
	n := mds.News{
		Vendor: vendor(t), PublishedAt: instant(t, "published_at"),
		Title: "x" + text(t, "title"), URL: text(t, "url"), Summary: text(t, "summary"),
	}
	if rapid.Bool().Draw(t, "has id") {
		n.ID = strings.TrimSpace(rapid.StringMatching(`[ -~é贵😀]{1,30}`).Draw(t, "id"))
	}
	for range rapid.IntRange(0, 3).Draw(t, "symbols") {
		n.Symbols = append(n.Symbols, symbol(t))
	}
	if rapid.Bool().Draw(t, "has sentiment") {
		n.SentimentScore = mds.Some(rapid.Float64Range(-1, 1).Draw(t, "sentiment"))
	}
	return n.Normalized()
}

func vendor(t *rapid.T) string {
	return rapid.StringMatching(`[a-z0-9._-]{1,20}`).Draw(t, "vendor")
}

// symbol draws from what readers may take for something else, too.
func symbol(t *rapid.T) string {
	s := rapid.OneOf(
		rapid.StringMatching(`[A-Z0-9.,"'\\;|=^😀贵\[-]{1,20}`),
		rapid.SampledFrom([]string{"NULL", "N/A", "#N/A", `\N`, "NA", "NONE", "A;B", "[", `["A"]`, "BRK B", "-", "NAN"}),
	).Draw(t, "symbol")
	return mds.NormalizeSymbol(s)
}

// text draws any text: line ends, quotes, control characters, missing values.
func text(t *rapid.T, label string) string {
	s := rapid.OneOf(
		rapid.Just(""),
		rapid.StringOf(rapid.RuneFrom([]rune("a\"\\,;'\n\r\t\x01\x1f\x7f <&>\u2028\ufeffé贵😀"))),
		rapid.SampledFrom([]string{"null", "N/A", "#n/a", `\N`, " ", "\n", "\r\n", `"`, `""`, "=1+1", "-", "[]", "{}", "\ufeff"}),
		rapid.String(),
	).Draw(t, label)
	s = strings.ReplaceAll(s, "\x00", "")
	if !utf8.ValidString(s) {
		return ""
	}
	return s
}

// short draws a text of at most 64 bytes.
func short(t *rapid.T, label string) string {
	s := text(t, label)
	for len(s) > 64 {
		_, size := utf8.DecodeLastRuneInString(s)
		s = s[:len(s)-size]
	}
	return s
}

func number(t *rapid.T, label string) mds.Opt[float64] {
	if !rapid.Bool().Draw(t, "has "+label) {
		return mds.None[float64]()
	}
	return mds.Some(rapid.OneOf(
		rapid.Float64Range(-1.7976931348623157e308, 1.7976931348623157e308),
		rapid.SampledFrom([]float64{0, 5e-324, -5e-324, 0.1, 1e21, 1e-7, 123456789.125, 1 << 53}),
	).Draw(t, label))
}

func count(t *rapid.T, label string) mds.Opt[float64] {
	v, ok := number(t, label).Value()
	switch {
	case !ok:
		return mds.None[float64]()
	case v < 0:
		v = -v
	}
	return mds.Some(v)
}

func instant(t *rapid.T, label string) time.Time {
	at := time.UnixMicro(rapid.Int64Range(-62_135_596_799_999_999, 253_402_300_799_999_999).Draw(t, label)).UTC()
	if rapid.Bool().Draw(t, label+" at midnight") {
		at = at.Truncate(24 * time.Hour)
	}
	if at.Year() < 1 || at.IsZero() {
		return time.Unix(0, 0).UTC()
	}
	return at
}

func date(t *rapid.T, label string) mds.Date { return mds.DateOf(instant(t, label)) }
