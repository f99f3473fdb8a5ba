package mds_test

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func date(t *testing.T, s string) mds.Date {
	t.Helper()
	d, err := mds.ParseDate(s)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestPeriodOf has spans of SEC filings, and of years of 52 and 53 weeks.
func TestPeriodOf(t *testing.T) {
	for _, c := range []struct{ start, end, want string }{
		{"2020-02-01", "2021-01-31", "FY"},
		{"2022-09-25", "2023-09-30", "FY"}, // 53 weeks
		{"2021-09-26", "2022-09-24", "FY"}, // 52 weeks
		{"2020-08-01", "2020-10-31", "3M"},
		{"2022-12-25", "2023-04-01", "3M"}, // 14 weeks
		{"2022-01-01", "2022-03-31", "3M"},
		{"2020-02-01", "2020-07-31", "6M"},
		{"2020-02-01", "2020-10-31", "9M"},
		{"2019-04-01", "2020-04-30", "13M"},
		{"2018-11-01", "2018-11-30", "1M"},
		{"2024-01-01", "2024-01-07", "7D"},
		{"2024-01-01", "2024-02-14", "45D"},
		{"2014-01-01", "2023-12-31", "120M"},
		{"2013-12-01", "2023-12-31", "3683D"},
	} {
		if got := mds.PeriodOf(date(t, c.start), date(t, c.end)); string(got) != c.want || !got.Valid() {
			t.Errorf("%s to %s is %s, want %s", c.start, c.end, got, c.want)
		}
	}
	if got := mds.PeriodOf(mds.Date{}, date(t, "2024-01-01")); got != mds.Instant {
		t.Errorf("without a start it is %s", got)
	}
}

func TestParsePeriod(t *testing.T) {
	for text, want := range map[string]mds.Period{
		"instant": "instant", "3M": "3M", "3m": "3M", " 3 months": "3M", "Q": "3M", "quarterly": "3M", "FY": "FY", "fy": "FY", "annual": "FY",
		"12M": "FY", "1Y": "FY", "2 years": "24M", "semi-annual": "6M", "45D": "45D", "1 day": "1D", "unstated": "unstated", "120M": "120M",
	} {
		if got, err := mds.ParsePeriod(text); err != nil || got != want {
			t.Errorf("%q is %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "Q3", "0M", "121M", "10000D", "FY2023", "M", "3X", "-3M", "03M ago"} {
		if got, err := mds.ParsePeriod(text); !errors.Is(err, mds.ErrPeriod) {
			t.Errorf("%q is %q, %v", text, got, err)
		}
	}
}

func FuzzParsePeriod(f *testing.F) {
	for _, seed := range []string{"3M", "FY", "45 days", "2Y", "Q3"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		p, err := mds.ParsePeriod(text)
		if err != nil {
			return
		}
		if again, err := mds.ParsePeriod(string(p)); !p.Valid() || err != nil || again != p {
			t.Fatalf("%q is %q, and that %q, %v", text, p, again, err)
		}
	})
}

func goodFundamentals() mds.Fundamentals {
	return mds.Fundamentals{
		Vendor: "sec", Symbol: "SNOW", Period: mds.FiscalYear, AsOf: mds.Date{Year: 2023, Month: 1, Day: 31},
		FiledAt: time.Date(2023, 3, 29, 0, 0, 0, 0, time.UTC), Revenue: mds.Some(2065659000.0),
	}
}

func TestFundamentalsSentences(t *testing.T) {
	for _, c := range []struct {
		change func(*mds.Fundamentals)
		want   string
	}{
		{func(*mds.Fundamentals) {}, ""},
		{func(f *mds.Fundamentals) { f.FiledAt = time.Time{} }, ""},
		{func(f *mds.Fundamentals) { f.Period = "" }, "period: is missing"},
		{func(f *mds.Fundamentals) { f.Period = "Q3" }, `period: not a period: "Q3" (use instant, 3M, 6M, 9M, FY or another number of months, such as 1M, or of days, such as 45D)`},
		{func(f *mds.Fundamentals) { f.Period = "12M" }, `period: "12M" is not the standard spelling; use ParsePeriod`},
		{func(f *mds.Fundamentals) { f.AsOf = mds.Date{} }, "asof: is missing"},
		{func(f *mds.Fundamentals) { f.FiledAt = time.Date(12023, 1, 1, 0, 0, 0, 0, time.UTC) }, "filed_at: year 12023 is outside 1 to 9999"},
		{func(f *mds.Fundamentals) { f.EPS = mds.Some(math.Inf(1)) }, "eps: +Inf is not a number that can be kept; leave a missing value out"},
		{func(f *mds.Fundamentals) { f.Currency = strings.Repeat("X", 65) }, "currency: is longer than 64 bytes"},
		{func(f *mds.Fundamentals) { f.Accession = "a\x00" }, `accession: "a\x00" holds a NUL character`},
		{func(f *mds.Fundamentals) { f.Form = "\xff" }, `form: "\xff" is not valid UTF-8`},
		{func(f *mds.Fundamentals) { f.Extra = map[string]float64{"": 1} }, "extra: a figure's name is empty"},
		{func(f *mds.Fundamentals) { f.Extra = map[string]float64{"a\nb": 1} }, "extra: a figure's name holds a character that cannot be printed"},
		{func(f *mds.Fundamentals) { f.Extra = map[string]float64{"a": math.NaN()} }, `extra: the figure "a": NaN is not a number that can be kept; leave a missing value out`},
	} {
		f := goodFundamentals()
		c.change(&f)
		got := ""
		if err := f.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
	f := goodFundamentals()
	f.FiledAt, f.Vendor, f.Extra = time.Time{}, "SEC", map[string]float64{}
	f = f.Normalized()
	if !f.FiledAt.Equal(time.Date(2023, 1, 31, 0, 0, 0, 0, time.UTC)) || f.Vendor != "sec" || f.Extra != nil {
		t.Errorf("normalised %+v", f)
	}
	schema := mds.SchemaOf[mds.Fundamentals]()
	if f.FiledAt = f.FiledAt.AddDate(0, 0, -1); schema.Warning(&f) == "" {
		t.Error("figures filed before the period ended were not warned of")
	}
}

// TestAsKnown joins three filings about one year and one about another.
func TestAsKnown(t *testing.T) {
	first, second, third, other := goodFundamentals(), goodFundamentals(), goodFundamentals(), goodFundamentals()
	first.TotalAssets, first.Form, first.Extra = mds.Some(1.0), "10-K", map[string]float64{"a": 1, "b": 1}
	second.FiledAt, second.Revenue, second.Extra = second.FiledAt.AddDate(1, 0, 0), mds.None[float64](), map[string]float64{"b": 2}
	third.FiledAt, third.Revenue, third.Accession = third.FiledAt.AddDate(2, 0, 0), mds.Some(7.0), "x"
	other.AsOf.Year++
	want := third
	want.TotalAssets, want.Extra = mds.Some(1.0), map[string]float64{"a": 1, "b": 2}
	schema := mds.SchemaOf[mds.Fundamentals]()
	records := []mds.Fundamentals{first, second, third, other}
	for _, descending := range []bool{false, true} {
		var got []mds.Fundamentals
		for r, err := range mds.AsKnown(sequence(records), descending) {
			if err != nil {
				t.Fatal(err)
			}
			got = append(got, r)
		}
		expected := []mds.Fundamentals{want, other}
		if descending {
			slices.Reverse(expected)
		}
		if len(got) != 2 || !schema.Equal(&got[0], &expected[0]) || !schema.Equal(&got[1], &expected[1]) {
			t.Errorf("descending %v: %+v\nwant %+v", descending, got, expected)
		}
		slices.Reverse(records)
	}
	if first.Extra["b"] != 1 || second.Extra["b"] != 2 || len(second.Extra) != 1 {
		t.Error("a record that was read was changed")
	}
}

// TestAsKnownKeepsCurrenciesApart: yen do not become dollars, in either order.
func TestAsKnownKeepsCurrenciesApart(t *testing.T) {
	yen, dollars, unsaid, last := goodFundamentals(), goodFundamentals(), goodFundamentals(), goodFundamentals()
	yen.NetIncome, yen.Currency, yen.Extra = mds.Some(100.0), "JPY", map[string]float64{"x:y/JPY": 100, "z": 1}
	dollars.FiledAt, dollars.Currency, dollars.Revenue = dollars.FiledAt.AddDate(1, 0, 0), "USD", mds.Some(2.0)
	unsaid.FiledAt, unsaid.TotalAssets, unsaid.Revenue = unsaid.FiledAt.AddDate(2, 0, 0), mds.Some(3.0), mds.None[float64]()
	last.FiledAt, last.EPS, last.Revenue = last.FiledAt.AddDate(3, 0, 0), mds.Some(1.0), mds.None[float64]()
	want := last
	want.Currency, want.Revenue, want.TotalAssets, want.Extra = "USD", mds.Some(2.0), mds.Some(3.0), map[string]float64{"x:y/JPY": 100}
	schema := mds.SchemaOf[mds.Fundamentals]()
	for _, descending := range []bool{false, true} {
		versions := []mds.Fundamentals{yen, dollars, unsaid, last}
		if descending {
			slices.Reverse(versions)
		}
		for r := range mds.AsKnown(sequence(versions), descending) {
			if !schema.Equal(&r, &want) {
				t.Errorf("descending %v: %+v, want %+v", descending, r, want)
			}
		}
	}
}

func sequence[R any](records []R) func(func(R, error) bool) {
	return func(yield func(R, error) bool) {
		for _, r := range records {
			if !yield(r, nil) {
				return
			}
		}
	}
}
