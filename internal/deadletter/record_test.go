package deadletter

import (
	"bytes"
	"encoding/json"
	"math"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/arbitrary"
)

// ruin puts values into a record that no store takes.
func ruin[R mds.Record[R]](t *rapid.T, r *R) {
	schema := mds.SchemaOf[R]()
	for i := range schema.Columns {
		c := &schema.Columns[i]
		if !rapid.Bool().Draw(t, "ruin "+c.Name) {
			continue
		}
		switch {
		case c.Text != nil:
			*c.Text(r) = anyText(t, c.Name)
		case c.Time != nil:
			*c.Time(r) = anyTime(t, c.Name)
		case c.Date != nil:
			*c.Date(r) = mds.Date{
				Year: rapid.Int().Draw(t, "year"), Month: time.Month(rapid.IntRange(-1, 14).Draw(t, "month")), Day: rapid.IntRange(-1, 32).Draw(t, "day"),
			}
		case c.Decimal != nil:
			*c.Decimal(r) = mds.Decimal(rapid.OneOf(rapid.Int64(), rapid.SampledFrom([]int64{0, math.MinInt64, math.MaxInt64})).Draw(t, c.Name))
		case c.Float != nil:
			*c.Float(r) = anyFloat(t, c.Name)
		case c.OptFloat != nil:
			*c.OptFloat(r) = mds.Some(anyFloat(t, c.Name))
		case c.OptInt != nil:
			*c.OptInt(r) = mds.Some(rapid.Int64().Draw(t, c.Name))
		case c.List != nil:
			*c.List(r) = []string{}
			for range rapid.IntRange(0, 3).Draw(t, "items") {
				*c.List(r) = append(*c.List(r), anyText(t, c.Name))
			}
		case c.Metrics != nil:
			*c.Metrics(r) = map[string]float64{}
			for range rapid.IntRange(0, 3).Draw(t, "figures") {
				(*c.Metrics(r))[anyText(t, c.Name)] = anyFloat(t, "figure")
			}
		}
	}
}

func anyText(t *rapid.T, label string) string {
	return rapid.OneOf(
		rapid.Map(rapid.SliceOf(rapid.Byte()), func(b []byte) string { return string(b) }),
		rapid.String(),
		rapid.SampledFrom([]string{"", "\x00", "caf\xe9", "\ufffd", `{"quoted":"x"}`, "\u2028\n\r\t\\\"<&>", "NaN", "null"}),
	).Draw(t, label)
}

func anyTime(t *rapid.T, label string) time.Time {
	at := rapid.OneOf(
		rapid.Map(rapid.Int64(), func(n int64) time.Time { return time.Unix(0, n) }),
		rapid.Map(rapid.Int64(), func(n int64) time.Time { return time.Unix(n, 999_999_999) }),
		rapid.SampledFrom([]time.Time{{}, time.Date(0, 1, 1, 0, 0, 0, 1, time.UTC), time.Date(10_000, 1, 1, 0, 0, 0, 0, time.UTC), time.Date(-1, 12, 31, 0, 0, 0, 0, time.UTC)}),
	).Draw(t, label)
	if rapid.Bool().Draw(t, "zone") {
		return at.In(time.FixedZone("X", rapid.OneOf(rapid.IntRange(-100_000, 100_000), rapid.SampledFrom([]int{-5 * 3600, 19_800, 24 * 3600, -24 * 3600})).Draw(t, "offset")))
	}
	return at.UTC()
}

func anyFloat(t *rapid.T, label string) float64 {
	return rapid.OneOf(
		rapid.Map(rapid.Uint64(), math.Float64frombits),
		rapid.SampledFrom([]float64{0, math.Copysign(0, -1), math.NaN(), math.Inf(1), math.Inf(-1), math.MaxFloat64, 5e-324, 1e21, 1e-7}),
	).Draw(t, label)
}

// same compares records by what is in memory: bits, bytes, nil or empty.
func same[R mds.Record[R]](a, b *R) string {
	schema := mds.SchemaOf[R]()
	bits := func(x, y float64) bool { return math.Float64bits(x) == math.Float64bits(y) }
	for i := range schema.Columns {
		c, equal := &schema.Columns[i], false
		switch {
		case c.Text != nil:
			equal = *c.Text(a) == *c.Text(b)
		case c.Time != nil:
			_, x := c.Time(a).Zone()
			_, y := c.Time(b).Zone()
			equal = c.Time(a).Equal(*c.Time(b)) && x == y && mds.DateOf(*c.Time(a)) == mds.DateOf(*c.Time(b)) && c.Time(a).IsZero() == c.Time(b).IsZero()
		case c.Date != nil:
			equal = *c.Date(a) == *c.Date(b)
		case c.Decimal != nil:
			equal = *c.Decimal(a) == *c.Decimal(b)
		case c.Float != nil:
			equal = bits(*c.Float(a), *c.Float(b))
		case c.OptFloat != nil:
			x, okX := c.OptFloat(a).Value()
			y, okY := c.OptFloat(b).Value()
			equal = okX == okY && bits(x, y)
		case c.OptInt != nil:
			equal = *c.OptInt(a) == *c.OptInt(b)
		case c.List != nil:
			equal = slices.Equal(*c.List(a), *c.List(b)) && (*c.List(a) == nil) == (*c.List(b) == nil)
		case c.Metrics != nil:
			x, y := *c.Metrics(a), *c.Metrics(b)
			equal = len(x) == len(y) && (x == nil) == (y == nil)
			for name, v := range x {
				w, ok := y[name]
				equal = equal && ok && bits(v, w)
			}
		}
		if !equal {
			return c.Name
		}
	}
	return ""
}

func thereAndBack[R mds.Record[R]](draw func(*rapid.T) R) func(*testing.T) {
	return rapid.MakeCheck(func(t *rapid.T) {
		record := draw(t)
		ruin(t, &record)
		raw := Encode(&record)
		if !json.Valid(raw) || bytes.IndexByte(raw, '\n') >= 0 {
			t.Fatalf("%s is not one line of JSON", raw)
		}
		back, err := Decode[R](raw)
		if err != nil {
			t.Fatalf("%v of %s", err, raw)
		}
		if column := same(&record, &back); column != "" {
			t.Fatalf("%s: %+v came back as %+v from %s", column, record, back, raw)
		}
	})
}

func TestThereAndBack(t *testing.T) {
	t.Run("bars", thereAndBack(arbitrary.Bar))
	t.Run("options", thereAndBack(arbitrary.Option))
	t.Run("fundamentals", thereAndBack(arbitrary.Fundamentals))
	t.Run("news", thereAndBack(arbitrary.News))
	t.Run("rollups", thereAndBack(func(t *rapid.T) mds.Rollup { return mds.Rollup{Bar: arbitrary.Bar(t)} }))
}

// TestEncodedForm pins the form, which later versions have to read.
func TestEncodedForm(t *testing.T) {
	bar := mds.Bar{
		Vendor: "caf\xe9", Symbol: "A&B\x00", Timeframe: "1d",
		TS:    time.Date(2024, 3, 15, 0, 30, 0, 1, time.FixedZone("IST", 19_800)),
		Close: math.NaN(), Open: mds.Some(math.Copysign(0, -1)), High: mds.Some(math.Inf(1)), Low: mds.Some(0.1), TradeCount: mds.Some[int64](-7),
	}
	want := `{"vendor":{"quoted":"\"caf\\xe9\""},"symbol":"A&B\u0000","timeframe":"1d","ts":"2024-03-15T00:30:00.000000001+05:30",` +
		`"open":-0,"high":"+Inf","low":0.1,"close":"NaN","volume":null,"vwap":null,"trade_count":-7}`
	if got := string(Encode(&bar)); got != want {
		t.Errorf("%s, want\n%s", got, want)
	}
	option := mds.OptionSnap{Expiry: mds.Date{Year: 2024, Month: 2, Day: 31}, Strike: math.MinInt64, TS: time.Date(12_024, 1, 1, 0, 0, 0, 0, time.UTC)}
	text := string(Encode(&option))
	for _, part := range []string{`"expiry":{"year":2024,"month":2,"day":31}`, `"strike":{"units":"-9223372036854775808"}`, `"ts":{"unix":317273587200,"nanoseconds":0,"offset":0}`} {
		if !strings.Contains(text, part) {
			t.Errorf("no %s in %s", part, text)
		}
	}
	figures := mds.Fundamentals{Extra: map[string]float64{"a\xff": 1, "b": 2}}
	if text := string(Encode(&figures)); !strings.Contains(text, `"extra":[[{"quoted":"\"a\\xff\""},1],["b",2]]`) {
		t.Errorf("the figures in %s", text)
	}
}

func TestDecodeOtherVersions(t *testing.T) {
	older := `{"vendor":"v","symbol":"S","close":1.5}`
	bar, err := Decode[mds.Bar](json.RawMessage(older))
	if want := (mds.Bar{Vendor: "v", Symbol: "S", Close: 1.5}); err != nil || !reflect.DeepEqual(bar, want) {
		t.Errorf("%+v, %v; want %+v", bar, err, want)
	}
	for raw, want := range map[string]string{
		`{"vendor":"v","fees":1,"broker":"x"}`: "bars of this version have no column broker, fees; use the version that wrote the letter, or a newer one",
		`{"close":true}`:                       "close: true is not in a form that a letter has",
		`{"close":1e999}`:                      "close: 1e999 is not in a form that a letter has",
		`{"ts":"yesterday"}`:                   `ts: "yesterday" is not in a form that a letter has`,
		`{"trade_count":1.5}`:                  "trade_count: 1.5 is not in a form that a letter has",
		`[]`:                                   "the record is not a JSON object",
		`null`:                                 "the record is not a JSON object",
	} {
		if _, err := Decode[mds.Bar](json.RawMessage(raw)); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", raw, err, want)
		}
	}
}

func FuzzDecode(f *testing.F) {
	seed := []any{mds.Bar{Vendor: "\xff", Close: math.Inf(-1)}, mds.Bar{TS: time.Unix(1<<40, 1)}}
	for _, s := range seed {
		bar := s.(mds.Bar)
		f.Add([]byte(Encode(&bar)))
	}
	f.Add([]byte(`{"metrics":[["a",1]],"symbols":[],"extra":{"x":"NaN:7ff8000000000002"},"asof":{"year":0},"ts":{"unix":1}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		decodeAgain[mds.Bar](t, raw)
		decodeAgain[mds.OptionSnap](t, raw)
		decodeAgain[mds.Fundamentals](t, raw)
		decodeAgain[mds.News](t, raw)
	})
}

// decodeAgain: what is decoded at all is encoded and decoded to the same.
func decodeAgain[R mds.Record[R]](t *testing.T, raw []byte) {
	first, err := Decode[R](raw)
	if err != nil {
		return
	}
	second, err := Decode[R](Encode(&first))
	if err != nil {
		t.Fatalf("%v of %s", err, Encode(&first))
	}
	if column := same(&first, &second); column != "" {
		t.Fatalf("%s of %s", column, raw)
	}
}
