package mds_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func goodNews() mds.News {
	return mds.News{Vendor: "ibkr", ID: "SS$0c7d507f", PublishedAt: time.Date(2020, 3, 5, 23, 2, 41, 650_000_000, time.UTC), Title: "A headline"}
}

func TestNewsSentences(t *testing.T) {
	for _, c := range []struct {
		change func(*mds.News)
		want   string
	}{
		{func(*mds.News) {}, ""},
		{func(n *mds.News) { n.ID = "" }, ""},
		{func(n *mds.News) { n.Title = "two\nlines\r\n\tand “quotes” 😀" }, ""},
		{func(n *mds.News) { n.SentimentScore = mds.Some(-1.0) }, ""},
		{func(n *mds.News) { n.SentimentScore = mds.Some(1.5) }, "sentiment_score: 1.5 is outside -1 to 1"},
		{func(n *mds.News) { n.Title = " \n" }, "title: is missing"},
		{func(n *mds.News) { n.Title = "a\x00" }, `title: "a\x00" holds a NUL character`},
		{func(n *mds.News) { n.Title = strings.Repeat("x", 8193) }, "title: is longer than 8192 bytes"},
		{func(n *mds.News) { n.Summary = "\xff" }, `summary: "\xff" is not valid UTF-8`},
		{func(n *mds.News) { n.ID = " 1" }, `id: " 1" holds white space around it, or a character that cannot be printed`},
		{func(n *mds.News) { n.Symbols = []string{"A", " "} }, "symbols: one is missing"},
		{func(n *mds.News) { n.Symbols = []string{"A\n"} }, ""}, // the line end goes
		{func(n *mds.News) { n.Symbols = []string{"A\x01B"} }, `symbols: one "A\x01B" holds a character that cannot be printed`},
		{func(n *mds.News) { n.Symbols = make([]string, 1001) }, "symbols: are more than 1000; symbols: one is missing"},
		{func(n *mds.News) { n.PublishedAt = time.Time{} }, "published_at: is missing"},
		{func(n *mds.News) { n.Vendor, n.PublishedAt = "", time.Time{} }, "vendor: is missing; published_at: is missing"},
	} {
		n := goodNews()
		c.change(&n)
		got := ""
		if err := n.Validate(); err != nil {
			got = err.Error()
		}
		if got != c.want {
			t.Errorf("%q, want %q", got, c.want)
		}
	}
}

// TestDerivedID has figures of testdata/newsids.py.
func TestDerivedID(t *testing.T) {
	n := goodNews()
	n.URL = "https://www.cnbc.com/x.html"
	check := func(want string) {
		t.Helper()
		if got := n.DerivedID(); got != want {
			t.Errorf("id %s, want %s", got, want)
		}
	}
	check("~292e504295264292d1a87f14e86a35c7")
	n.Vendor, n.PublishedAt = " IBKR", n.PublishedAt.In(time.FixedZone("", 3600)).Add(999) // another spelling of the same
	check("~292e504295264292d1a87f14e86a35c7")
	n.URL, n.Title = "", "Sequoia Capital Warns Startups of Coronavirus ‘Black Swan’ Event"
	check("~d880f3e6f441f6eb97721a7f836cea5b")
	n.Title, n.PublishedAt = "A headline", time.Date(1969, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	check("~31ad2aa1dd257c6a8dae25ff9f404efb")
}

func TestNewsNormalized(t *testing.T) {
	n := goodNews()
	n.Vendor, n.ID, n.Symbols = "IBKR", "", []string{"msft", " aapl", "MSFT"}
	given := slices.Clone(n.Symbols)
	got := n.Normalized()
	if got.Vendor != "ibkr" || got.ID != n.DerivedID() || !slices.Equal(got.Symbols, []string{"MSFT", "AAPL"}) {
		t.Errorf("%+v", got)
	}
	if !slices.Equal(n.Symbols, given) {
		t.Errorf("the caller's symbols became %q", n.Symbols)
	}
	n.Symbols = []string{}
	if n.Normalized().Symbols != nil {
		t.Error("no symbols are two things")
	}
}
