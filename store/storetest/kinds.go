package storetest

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// RunKinds runs the part of the suite that holds for every kind, for each kind of this
// module, on stores that are opened with a configuration.
func RunKinds(t *testing.T, fresh func(testing.TB) string, cfg store.Config) {
	t.Run("bars", func(t *testing.T) { runKind(t, fresh, barKind(), cfg) })
	t.Run("options", func(t *testing.T) { runKind(t, fresh, optionKind(), cfg) })
	t.Run("fundamentals", func(t *testing.T) { runKind(t, fresh, fundamentalsKind(), cfg) })
	t.Run("news", func(t *testing.T) { runKind(t, fresh, newsKind(), cfg) })
	t.Run("rollups", func(t *testing.T) { runKind(t, fresh, rollupKind(), cfg) })
}

func runKind[R mds.Record[R]](t *testing.T, fresh func(testing.TB) string, kind Kind[R], cfg store.Config) {
	kind.Config = cfg
	RunKind(t, fresh, kind)
}

func barKind() Kind[mds.Bar] {
	extreme := bar("贵州茅台", time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC), -math.MaxFloat64)
	extreme.Volume = mds.Some(4e15)
	spelled := bar(" msft ", at(9, 0).In(time.FixedZone("", 3600)), 1)
	nan := bar("A", at(9, 0), math.NaN())
	return Kind[mds.Bar]{
		Draw:     drawBar,
		Numbered: func(n, k int) mds.Bar { return bar(fmt.Sprint("S", n), at(0, k), 1) },
		Extremes: []mds.Bar{bar("A", at(9, 0), 1), extreme},
		Spelled:  []mds.Bar{spelled},
		Invalid:  map[string]mds.Bar{"nothing": {}, "NaN": nan},
	}
}

func rollupKind() Kind[mds.Rollup] {
	of := func(symbol string, to, source mds.Timeframe, ts time.Time, price float64) mds.Rollup {
		b := bar(symbol, ts, price)
		b.Timeframe = to
		return mds.Rollup{Bar: b, Source: source}
	}
	return Kind[mds.Rollup]{
		Draw: func(t *rapid.T) mds.Rollup {
			r := mds.Rollup{Bar: drawBar(t), Source: rapid.SampledFrom([]mds.Timeframe{mds.Minute, "30s"}).Draw(t, "source")}
			r.Timeframe = rapid.SampledFrom([]mds.Timeframe{mds.Hour, mds.Day}).Draw(t, "rollup")
			r.Bar = r.Normalized()
			return r
		},
		Numbered: func(n, k int) mds.Rollup {
			return of(fmt.Sprint("S", n), mds.Minute5, mds.Minute, at(0, 0).Add(time.Duration(k)*5*time.Minute), 1)
		},
		Extremes: []mds.Rollup{of("A", mds.Hour, mds.Minute, at(9, 0), 1), of("A", mds.Hour, mds.Minute5, at(9, 0), -math.MaxFloat64)},
		Spelled:  []mds.Rollup{of(" msft ", mds.Hour, mds.Minute, at(9, 0).In(time.FixedZone("", 3600)), 1)},
		Invalid:  map[string]mds.Rollup{"nothing": {}, "no source": of("A", mds.Hour, "", at(9, 0), 1), "does not fit": of("A", mds.Hour, "1h", at(9, 0), 1)},
	}
}

// opt draws a value from very few, or none.
func opt(t *rapid.T, name string) mds.Opt[float64] {
	if rapid.Bool().Draw(t, "has "+name) {
		return mds.Some(float64(rapid.IntRange(-1, 1).Draw(t, name)))
	}
	return mds.None[float64]()
}

func optionKind() Kind[mds.OptionSnap] {
	march := mds.Date{Year: 2024, Month: 3, Day: 15}
	good := mds.OptionSnap{Vendor: "test", Symbol: "SPX", Expiry: march, OptionType: mds.Call, Strike: 150_000_000_000, TS: at(14, 30)}
	with := func(change func(*mds.OptionSnap)) mds.OptionSnap {
		o := good
		change(&o)
		return o
	}
	full := with(func(o *mds.OptionSnap) {
		o.OptionType = mds.Put
		o.Bid, o.Ask, o.Last, o.IV = mds.Some(0.0), mds.Some(0.05), mds.Some(-1.5), mds.Some(1e-5)
		o.Delta, o.Gamma, o.Theta, o.Vega, o.Rho = mds.Some(-1.0), mds.Some(1.0/3), mds.Some(25.1577), mds.Some(0.3713), mds.Some(-0.1)
		o.OpenInterest, o.Volume, o.Spot = mds.Some(4e15), mds.Some(0.5), mds.Some(1989.63)
	})
	return Kind[mds.OptionSnap]{
		Numbered: func(n, k int) mds.OptionSnap {
			return with(func(o *mds.OptionSnap) { o.Strike, o.TS = mds.Decimal(n+1), at(0, k) })
		},
		Draw: func(t *rapid.T) mds.OptionSnap {
			o := good
			o.Vendor = rapid.SampledFrom([]string{"test", "other"}).Draw(t, "vendor")
			o.Symbol = rapid.SampledFrom([]string{"SPX", "SPXW"}).Draw(t, "symbol")
			o.Expiry.Day = rapid.IntRange(14, 15).Draw(t, "expiry")
			o.OptionType = rapid.SampledFrom([]mds.OptionType{mds.Call, mds.Put}).Draw(t, "type")
			o.Strike = mds.Decimal(rapid.SampledFrom([]int64{-1, 9_500_000_000, 10_000_000_000, 10_000_000_001}).Draw(t, "strike"))
			o.TS = at(14, rapid.IntRange(0, 3).Draw(t, "minute"))
			o.Bid, o.Rho, o.OpenInterest = opt(t, "bid"), opt(t, "rho"), mds.Some(1.0)
			return o
		},
		Extremes: []mds.OptionSnap{
			good, full,
			with(func(o *mds.OptionSnap) { o.Strike = 1 }),
			with(func(o *mds.OptionSnap) { o.Strike = 999_999_999_999_999_999 }),
			with(func(o *mds.OptionSnap) { o.Strike = -999_999_999_999_999_999 }),
			with(func(o *mds.OptionSnap) { o.Expiry = mds.Date{Year: 9999, Month: 12, Day: 31} }),
			with(func(o *mds.OptionSnap) { o.TS = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC) }),
			with(func(o *mds.OptionSnap) { o.TS = at(14, 30).Add(time.Microsecond) }),
		},
		Spelled: []mds.OptionSnap{
			{Vendor: "TEST", Symbol: "spx   240315c00150500", TS: at(14, 30)},
			{Vendor: "TEST", Symbol: "aapl", Expiry: march, OptionType: "put", Strike: 1, TS: at(14, 30).In(time.FixedZone("", 3600))},
		},
		Invalid: map[string]mds.OptionSnap{
			"nothing":         {},
			"type":            with(func(o *mds.OptionSnap) { o.OptionType = "X" }),
			"no expiry":       with(func(o *mds.OptionSnap) { o.Expiry = mds.Date{} }),
			"no such day":     with(func(o *mds.OptionSnap) { o.Expiry.Day = 32 }),
			"expired":         with(func(o *mds.OptionSnap) { o.Expiry.Day = 3 }),
			"no strike":       with(func(o *mds.OptionSnap) { o.Strike = 0 }),
			"strike":          with(func(o *mds.OptionSnap) { o.Strike = math.MaxInt64 }),
			"smallest strike": with(func(o *mds.OptionSnap) { o.Strike = math.MinInt64 }),
			"other contract":  with(func(o *mds.OptionSnap) { o.Symbol = "SPX240315P00150000" }),
			"NaN":             with(func(o *mds.OptionSnap) { o.IV = mds.Some(math.NaN()) }),
			"open interest":   with(func(o *mds.OptionSnap) { o.OpenInterest = mds.Some(-1.0) }),
		},
	}
}

func fundamentalsKind() Kind[mds.Fundamentals] {
	end := mds.Date{Year: 2023, Month: 1, Day: 31}
	filed := time.Date(2023, 3, 29, 0, 0, 0, 0, time.UTC)
	good := mds.Fundamentals{Vendor: "sec", Symbol: "SNOW", Period: mds.FiscalYear, FiledAt: filed, AsOf: end}
	with := func(change func(*mds.Fundamentals)) mds.Fundamentals {
		f := good
		change(&f)
		return f
	}
	many := make(map[string]float64)
	for i := range 4096 {
		many["x:"+strings.Repeat("n", i%200)+string(rune('a'+i%26))+string(rune(0x4e00+i))] = float64(i)
	}
	return Kind[mds.Fundamentals]{
		Numbered: func(n, k int) mds.Fundamentals {
			return with(func(f *mds.Fundamentals) {
				f.Symbol = fmt.Sprint("S", n%7) // the rest of n tells the filings apart
				f.FiledAt, f.AsOf = filed.Add(time.Duration(n)*time.Hour), mds.DateOf(at(0, 0).AddDate(0, 0, k))
			})
		},
		Draw: func(t *rapid.T) mds.Fundamentals {
			f := good
			f.Symbol = drawSymbol(t)
			f.Period = rapid.SampledFrom([]mds.Period{mds.FiscalYear, mds.ThreeMonths}).Draw(t, "period")
			f.FiledAt = filed.AddDate(0, rapid.IntRange(0, 3).Draw(t, "filed"), 0)
			f.AsOf.Day -= rapid.IntRange(0, 2).Draw(t, "asof")
			f.Revenue, f.EPS = opt(t, "revenue"), opt(t, "eps")
			f.Form = rapid.SampledFrom([]string{"", "10-K", "10-K/A"}).Draw(t, "form")
			extra := make(map[string]float64)
			for _, name := range []string{"us-gaap:Goodwill/USD", "dei:Shares/shares"} {
				if v, ok := opt(t, name).Value(); ok {
					extra[name] = v
					f.Extra = extra
				}
			}
			return f
		},
		Extremes: []mds.Fundamentals{
			good,
			with(func(f *mds.Fundamentals) { f.Extra = many; f.AsOf.Day = 30 }),
			with(func(f *mds.Fundamentals) {
				f.Period = "45D"
				f.Revenue, f.OperatingIncome, f.NetIncome = mds.Some(math.MaxFloat64), mds.Some(-1.0), mds.Some(0.1)
				f.TotalAssets, f.TotalLiabilities, f.TotalEquity = mds.Some(5e-324), mds.Some(4e15), mds.Some(0.0)
				f.EPS, f.SharesOutstanding = mds.Some(-0.01), mds.Some(3e8)
				f.Currency, f.Form, f.Accession = "USD", "10-K/A", "0001640147-21-000073"
				f.Extra = map[string]float64{`a"b\c:ü😀/USD`: math.MaxFloat64, "x": 5e-324, "zero": 0}
			}),
			with(func(f *mds.Fundamentals) { f.Period = mds.Instant; f.AsOf = mds.Date{Year: 1, Month: 1, Day: 1} }),
			with(func(f *mds.Fundamentals) { f.Period = "120M"; f.AsOf = mds.Date{Year: 9999, Month: 12, Day: 31} }),
			with(func(f *mds.Fundamentals) { f.Period = mds.UnstatedSpan; f.FiledAt = filed.Add(time.Microsecond) }),
		},
		Spelled: []mds.Fundamentals{
			{Vendor: "SEC", Symbol: " snow", Period: mds.FiscalYear, AsOf: end, Extra: map[string]float64{}},
		},
		Invalid: map[string]mds.Fundamentals{
			"nothing":      {},
			"period":       with(func(f *mds.Fundamentals) { f.Period = "Q3" }),
			"spelling":     with(func(f *mds.Fundamentals) { f.Period = "12M" }),
			"no asof":      with(func(f *mds.Fundamentals) { f.AsOf = mds.Date{} }),
			"NaN":          with(func(f *mds.Fundamentals) { f.EPS = mds.Some(math.NaN()) }),
			"NaN in extra": with(func(f *mds.Fundamentals) { f.Extra = map[string]float64{"a": math.Inf(1)} }),
			"NUL in extra": with(func(f *mds.Fundamentals) { f.Extra = map[string]float64{"a\x00": 1} }),
			"no name":      with(func(f *mds.Fundamentals) { f.Extra = map[string]float64{"": 1} }),
			"NUL":          with(func(f *mds.Fundamentals) { f.Form = "\x00" }),
		},
	}
}

func newsKind() Kind[mds.News] {
	good := mds.News{Vendor: "test", ID: "SS$0c7d507f", PublishedAt: at(9, 0), Title: "A headline"}
	with := func(change func(*mds.News)) mds.News {
		n := good
		change(&n)
		return n
	}
	return Kind[mds.News]{
		Numbered: func(n, k int) mds.News {
			return with(func(i *mds.News) { i.ID, i.PublishedAt = strconv.Itoa(n), at(0, k) })
		},
		Draw: func(t *rapid.T) mds.News {
			n := good
			n.Vendor = rapid.SampledFrom([]string{"test", "other"}).Draw(t, "vendor")
			n.ID = rapid.SampledFrom([]string{"1", "2", "10", "ü", "a"}).Draw(t, "id")
			n.PublishedAt = at(9, rapid.IntRange(0, 3).Draw(t, "minute"))
			n.Title = rapid.SampledFrom([]string{"up", "down"}).Draw(t, "title")
			n.Symbols = rapid.SampledFrom([][]string{nil, {"A"}, {"B", "A"}, {"A", "B"}}).Draw(t, "symbols")
			n.Summary = rapid.SampledFrom([]string{"", "why"}).Draw(t, "summary")
			n.SentimentScore = opt(t, "sentiment")
			return n
		},
		Extremes: []mds.News{
			good,
			with(func(n *mds.News) {
				n.ID = `贵"州\茅,台`
				n.Title = "\tquotes \" ' ` and \\ backslashes\r\nand line ends\nand 😀 "
				n.Symbols = []string{"贵州茅台", "BRK B", `O"NEIL`, "A;B", "C,D"}
				n.URL = "https://example.com/?a=1&b=%20#c"
				n.Summary = strings.Repeat("line\n", 50_000) + "\x01\u2028"
				n.SentimentScore = mds.Some(-1.0)
			}),
			with(func(n *mds.News) { n.ID = "~"; n.Title = "null"; n.Summary = "N/A"; n.SentimentScore = mds.Some(1.0) }),
			with(func(n *mds.News) {
				n.ID = strings.Repeat("i", 256)
				n.PublishedAt = time.Date(1, 1, 1, 0, 0, 0, 1000, time.UTC)
			}),
		},
		Spelled: []mds.News{
			{Vendor: "TEST", PublishedAt: at(9, 0), Title: "x", Symbols: []string{"msft", " aapl", "MSFT"}},
			{Vendor: "TEST", PublishedAt: at(9, 1), Title: "x", URL: "u", Symbols: []string{}},
		},
		Invalid: map[string]mds.News{
			"nothing":      {},
			"blank title":  with(func(n *mds.News) { n.Title = " \n" }),
			"NUL in title": with(func(n *mds.News) { n.Title = "a\x00" }),
			"broken UTF-8": with(func(n *mds.News) { n.Summary = "\xff" }),
			"sentiment":    with(func(n *mds.News) { n.SentimentScore = mds.Some(1.5) }),
			"NaN":          with(func(n *mds.News) { n.SentimentScore = mds.Some(math.NaN()) }),
			"symbol":       with(func(n *mds.News) { n.Symbols = []string{"A", ""} }),
			"id":           with(func(n *mds.News) { n.ID = "a\nb" }),
			"long title":   with(func(n *mds.News) { n.Title = strings.Repeat("x", 8<<10+1) }),
			"no time":      with(func(n *mds.News) { n.PublishedAt = time.Time{} }),
		},
	}
}

// drawBar draws a stored-form bar from few keys and values, so that batches
// collide with themselves and each other.
func drawBar(t *rapid.T) mds.Bar {
	b := bar(drawSymbol(t), drawMinute(t), float64(rapid.IntRange(1, 2).Draw(t, "close")))
	if rapid.Bool().Draw(t, "daily") {
		b.Timeframe = mds.Day
		b.TS = mds.Day.Truncate(b.TS)
	}
	if rapid.Bool().Draw(t, "has volume") {
		b.Volume = mds.Some(float64(rapid.IntRange(0, 1).Draw(t, "volume")))
	}
	if rapid.Bool().Draw(t, "has count") {
		b.TradeCount = mds.Some(int64(rapid.IntRange(0, 1).Draw(t, "count")))
	}
	return b
}

func drawSymbol(t *rapid.T) string {
	return rapid.SampledFrom([]string{"A", "B", "C"}).Draw(t, "symbol")
}

func drawMinute(t *rapid.T) time.Time {
	return at(9, rapid.IntRange(0, 20).Draw(t, "minute"))
}
