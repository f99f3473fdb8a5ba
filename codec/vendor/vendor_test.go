package vendor_test

import (
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/vendor"
)

// read decodes a body to its end.
func read[R mds.Record[R]](t *testing.T, format, body string, opt codec.Options) (records []R, rejected []string, err error) {
	t.Helper()
	for _, f := range vendor.Formats[R]() {
		if f.Name != format {
			continue
		}
		d, err := f.New(strings.NewReader(body), opt)
		if err != nil {
			return nil, nil, err
		}
		for {
			var r R
			err := d.Next(&r)
			var row *codec.RowError
			switch {
			case err == nil:
				records = append(records, r)
			case errors.As(err, &row):
				rejected = append(rejected, row.Error()+" | "+row.Raw)
			case errors.Is(err, io.EOF):
				return records, rejected, nil
			default:
				return records, rejected, err
			}
		}
	}
	t.Fatalf("there is no format %s", format)
	return nil, nil, nil
}

// companyfacts is a body of facts about us-gaap:X in USD.
func companyfacts(facts ...string) string {
	return `{"cik":1640147,"entityName":"X","facts":{"us-gaap":{"X":{"label":"x","units":{"USD":[` + strings.Join(facts, ",") + `]}}}}}`
}

func fact(start, end, val, accn, filed string) string {
	text := `{"end":"` + end + `","val":` + val + `,"accn":"` + accn + `","form":"10-K","fy":2020,"filed":"` + filed + `"`
	if start != "" {
		text += `,"start":"` + start + `"`
	}
	return text + "}"
}

// TestCompanyFactsAreApart: no fact replaces another.
func TestCompanyFactsAreApart(t *testing.T) {
	records, rejected, err := read[mds.Fundamentals](t, "sec-companyfacts", companyfacts(
		fact("", "2020-12-31", "1", "A-1", "2021-02-01"),
		fact("", "2020-12-31", "2", "A-2", "2021-02-01"),           // an amendment of the same day
		fact("2020-01-01", "2020-12-31", "3", "A-1", "2021-02-01"), // 366 days
		fact("2020-01-05", "2020-12-31", "4", "A-1", "2021-02-01"), // 362 days: as many months
		fact("2020-10-01", "2020-12-31", "5", "A-1", "2021-02-01"), // another span
		fact("2020-10-01", "2020-12-31", "5", "A-1", "2021-02-01"), // told twice
		fact("2020-10-01", "2020-12-31", "6", "A-1", "2021-02-01"), // contradicts it
		fact("2020-01-01", "2020-12-31", "7", "B-1", "2022-02-01"), // restated
	), codec.Options{})
	if err != nil {
		t.Fatal(err)
	}
	schema := mds.SchemaOf[mds.Fundamentals]()
	extra := schema.Lookup("extra")
	var got []string
	for _, r := range records {
		got = append(got, strings.Join([]string{r.Symbol, string(r.Period), r.FiledAt.Format("2006-01-02T15:04:05.999999"), r.AsOf.String(), r.Accession, string(extra.AppendText(nil, &r))}, " "))
	}
	want := []string{
		`CIK0001640147 instant 2021-02-01T00:00:00 2020-12-31 A-1 {"us-gaap:X/USD":1}`,
		`CIK0001640147 366D 2021-02-01T00:00:00 2020-12-31 A-1 {"us-gaap:X/USD":3}`,
		`CIK0001640147 FY 2021-02-01T00:00:00 2020-12-31 A-1 {"us-gaap:X/USD":4}`, // of two spans with one fact the later
		`CIK0001640147 3M 2021-02-01T00:00:00 2020-12-31 A-1 {"us-gaap:X/USD":5}`,
		`CIK0001640147 instant 2021-02-01T00:00:00.000001 2020-12-31 A-2 {"us-gaap:X/USD":2}`,
		`CIK0001640147 FY 2022-02-01T00:00:00 2020-12-31 B-1 {"us-gaap:X/USD":7}`,
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if len(rejected) != 1 || !strings.HasPrefix(rejected[0], "line 1: extra: us-gaap:X/USD has two values in one filing | {") || !strings.Contains(rejected[0], `"val":6`) {
		t.Errorf("rejected %q", rejected)
	}
}

// TestBadFacts: a bad fact costs that fact.
func TestBadFacts(t *testing.T) {
	good := fact("", "2020-12-31", "1", "A-1", "2021-02-01")
	for bad, want := range map[string]string{
		fact("", "2020-12-31", "null", "A-1", "2021-02-01"):        "us-gaap:X/USD has no value",
		fact("", "2020-12-31", `"n/a"`, "A-1", "2021-02-01"):       "us-gaap:X/USD is no fact: ",
		fact("", "2020-12-31", "1e999", "A-1", "2021-02-01"):       "us-gaap:X/USD is 1e999, not a number that can be kept",
		fact("", "2020-02-31", "1", "A-1", "2021-02-01"):           "us-gaap:X/USD is no fact: ",
		fact("", "2020-12-31", "1", "A-1", ""):                     "us-gaap:X/USD lacks the end of its period or its filing's date, or starts after it ends",
		fact("2021-12-31", "2020-12-31", "1", "A-1", "2021-02-01"): "us-gaap:X/USD lacks the end of its period or its filing's date, or starts after it ends",
		`7`: "us-gaap:X/USD is no fact: ",
	} {
		records, rejected, err := read[mds.Fundamentals](t, "sec-companyfacts", companyfacts(good, bad), codec.Options{Fixed: map[string]string{"symbol": "x"}})
		if err != nil || len(records) != 1 || records[0].Symbol != "X" || len(rejected) != 1 || !strings.Contains(rejected[0], want) || !strings.HasSuffix(rejected[0], "| "+bad) {
			t.Errorf("%s: %d records, rejected %q, %v; want %s", bad, len(records), rejected, err, want)
		}
	}
	odd := strings.Replace(companyfacts(good), `"X":{"label"`, `"X":{"units":{"USD":[`+good+`]}},"a\u0001":{"label"`, 1)
	records, rejected, err := read[mds.Fundamentals](t, "sec-companyfacts", odd, codec.Options{})
	if err != nil || len(records) != 1 || len(rejected) != 1 || !strings.Contains(rejected[0], "a figure's name holds a character that cannot be printed") {
		t.Errorf("an odd name: %d records, rejected %q, %v", len(records), rejected, err)
	}
}

func TestNoBodies(t *testing.T) {
	good := companyfacts(fact("", "2020-12-31", "1", "A-1", "2021-02-01"))
	for body, want := range map[string]string{
		"":                "it is not the whole of a companyfacts body of the SEC: it ends too early; fetch it again",
		good[:100]:        "it is not the whole of a companyfacts body of the SEC: it ends too early; fetch it again",
		"ts,close\n1,2\n": "it is not a companyfacts body of the SEC: invalid character",
		`{"cik":7}`:       "it is not a companyfacts body of the SEC: it lacks cik or facts",
		`[]`:              "it is not a companyfacts body of the SEC: cannot unmarshal array",
		good + good:       "it goes on after its companyfacts body; load one body a file",
	} {
		var header *codec.HeaderError
		if _, _, err := read[mds.Fundamentals](t, "sec-companyfacts", body, codec.Options{}); !errors.As(err, &header) || !strings.HasPrefix(header.Reason, want) {
			t.Errorf("%.40q: %v, want %s", body, err, want)
		}
	}
	for body, want := range map[string]string{
		"":         "it is not the whole of a news body of Interactive Brokers: it ends too early; fetch it again",
		`{"a":1}`:  "it is not a news body of Interactive Brokers: it has neither news.content nor articles",
		`{"news":`: "it is not the whole of a news body of Interactive Brokers: it ends too early; fetch it again",
	} {
		var header *codec.HeaderError
		if _, _, err := read[mds.News](t, "ibkr-news", body, codec.Options{}); !errors.As(err, &header) || header.Reason != want {
			t.Errorf("%q: %v, want %s", body, err, want)
		}
	}
}

func TestIBKRItems(t *testing.T) {
	body := `{"news":{"content":[
{"newsId":"1","headlineContent":"A &amp; B &#x2018;x&#x2019;","time":1583462153123,"sentiment":"-0.50"},
{"newsId":"2","headlineContent":"x","time":"soon","sentiment":""},
{"newsId":"3","headlineContent":"x","time":1583462153000,"sentiment":"good"},
7,
{"newsId":"5","headlineContent":"x","time":1583462153000,"sentiment":"2"}
]},"articles":[{"date":"2020-03-05T16:28:46.65","title":"t","link":"u"},{"date":"x","title":"t"}]}`
	items, rejected, err := read[mds.News](t, "ibkr-news", body, codec.Options{Zone: time.UTC, Fixed: map[string]string{"symbols": "aapl,msft"}})
	if err != nil || len(items) != 2 || items[0].Title != "A & B ‘x’" || items[0].SentimentScore.Or(0) != -0.5 ||
		items[0].PublishedAt.Format(time.RFC3339Nano) != "2020-03-06T02:35:53.123Z" || !slices.Equal(items[0].Symbols, []string{"AAPL", "MSFT"}) ||
		items[1].URL != "u" || items[1].PublishedAt.Format(time.RFC3339Nano) != "2020-03-05T16:28:46.65Z" {
		t.Errorf("%+v, %v", items, err)
	}
	for i, want := range []string{"line 3: ", "line 4: sentiment_score: \"good\" is not a number", "line 5: news: ", "line 6: sentiment_score: 2 is outside -1 to 1", "line 7: published_at: \"x\" is not a time"} {
		if len(rejected) != 5 || !strings.HasPrefix(rejected[i], want) {
			t.Errorf("rejected %q", rejected)
			break
		}
	}
}
