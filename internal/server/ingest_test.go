package server_test

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/internal/server"
)

func zipped(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := io.WriteString(w, text); err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zstandard(t *testing.T, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

// arrowStream has the two bars of TestForms.
func arrowStream(t *testing.T, c arrow.Compression) string {
	t.Helper()
	var b bytes.Buffer
	w, err := arrow.NewWriter[mds.Bar](&b, arrow.WriterOptions{Compression: c})
	if err == nil {
		first := mds.Bar{Vendor: "v", Symbol: "MSFT", Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC), Close: 1.5}
		second := first
		second.TS, second.Close = first.TS.Add(time.Minute), 2.5
		err = w.Write([]mds.Bar{first, second})
	}
	if err != nil || w.Close() != nil {
		t.Fatal(err)
	}
	return b.String()
}

// TestForms takes in the same two bars in every form, packed in every way: the first time
// they are written, and then nothing changes.
func TestForms(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		ndjson := bar("msft", 0, 1.5) + bar("MSFT", 1, 2.5)
		array := "[" + strings.Replace(strings.TrimSpace(ndjson), "\n", ",\n", 1) + "]"
		csv := "symbol,ts,close\nmsft," + minute(0) + ",1.5\nmsft," + minute(1) + ",2.5\n"
		fixed := "/v1/bars?vendor=v&timeframe=1m"
		for _, tt := range []struct{ name, path, media, coding, body string }{
			{"NDJSON", "/v1/bars", "application/x-ndjson", "", ndjson},
			{"NDJSON, charset", "/v1/bars", "application/ndjson; charset=utf-8", "", ndjson},
			{"JSON", "/v1/bars", "application/json", "", array},
			{"CSV", fixed, "text/csv", "", csv},
			{"NDJSON, gzip", "/v1/bars", "application/x-ndjson", "gzip", zipped(t, ndjson)},
			{"JSON, gzip", "/v1/bars", "application/json", "gzip", zipped(t, array)},
			{"CSV, zstd", fixed, "text/csv", "zstd", zstandard(t, csv)},
			{"NDJSON, zstd", "/v1/bars", "application/x-ndjson", "zstd", zstandard(t, ndjson)},
			{"Arrow", "/v1/bars", "application/vnd.apache.arrow.stream", "", arrowStream(t, arrow.Uncompressed)},
			{"Arrow, packed within", "/v1/bars", "application/vnd.apache.arrow.stream", "", arrowStream(t, arrow.Zstd)},
			{"Arrow, gzip", "/v1/bars", "application/vnd.apache.arrow.stream", "gzip", zipped(t, arrowStream(t, arrow.LZ4))},
		} {
			a := w.ask(t, http.MethodPost, tt.path, strings.NewReader(tt.body), "Content-Type", tt.media, "Content-Encoding", tt.coding)
			const want = `{"kind":"bars","read":2,"rejected":0,"accepted":2,"committed":2,"dead_lettered":0,"dropped":0,"unwritten":0,"pending":0}` + "\n"
			if a.status != http.StatusOK || a.body != want {
				t.Errorf("%s: %d %s", tt.name, a.status, a.body)
			}
		}
		var stats client.Statistics
		w.get(t, "/v1/stats").into(t, http.StatusOK, &stats)
		if l := stats.Kinds[0]; l.Kind != "bars" || l.Accepted != 22 || l.Written != 2 || l.Unchanged != 20 || l.Pending != 0 {
			t.Errorf("%+v", l)
		}
		a := w.get(t, "/v1/bars?format=csv")
		const want = "vendor,symbol,timeframe,ts,open,high,low,close,volume,vwap,trade_count\n" +
			"v,MSFT,1m,2026-01-02T14:30:00Z,,,,1.5,,,\nv,MSFT,1m,2026-01-02T14:31:00Z,,,,2.5,,,\n"
		if a.body != want || a.header.Get("Content-Type") != "text/csv" {
			t.Errorf("%s", a.body)
		}
		a = w.get(t, "/v1/bars?format=arrow")
		r, err := arrow.NewReader[mds.Bar](strings.NewReader(a.body), arrow.Options{})
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		bars := make([]mds.Bar, 10)
		if n, rejected, err := r.Next(bars); n != 2 || rejected != nil || err != nil || bars[1].Close != 2.5 || bars[1].Symbol != "MSFT" || a.header.Get("Content-Type") != "application/vnd.apache.arrow.stream" {
			t.Errorf("%d %v %v %+v", n, rejected, err, bars[:n])
		}
	})
}

// TestKinds takes in and gives out one record of each kind.
func TestKinds(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		for kind, record := range map[string]string{
			"bars":         `{"vendor":"v","symbol":"S","timeframe":"1d","ts":"2026-01-02T00:00:00Z","open":1,"high":3,"low":0.5,"close":2,"volume":10,"vwap":null,"trade_count":7}`,
			"options":      `{"vendor":"v","symbol":"S","expiry":"2026-03-20","option_type":"C","strike":150.5,"ts":"2026-01-02T21:00:00Z","bid":1.25,"ask":1.5,"last":null,"iv":0.2,"delta":null,"gamma":null,"theta":null,"vega":null,"rho":null,"open_interest":100,"volume":5,"spot":149}`,
			"fundamentals": `{"vendor":"v","symbol":"S","period":"FY","filed_at":"2026-02-01T00:00:00Z","asof":"2025-12-31","revenue":100,"operating_income":null,"net_income":10,"total_assets":null,"total_liabilities":null,"total_equity":null,"eps":1.5,"shares_outstanding":null,"currency":"USD","form":"10-K","accession":"","extra":{"us-gaap:Goodwill/USD":5}}`,
			"news":         `{"vendor":"v","id":"n1","published_at":"2026-01-02T09:00:00Z","title":"A \"headline\"","symbols":["S","T"],"url":"","summary":"","sentiment_score":0.5}`,
		} {
			a := w.post(t, "/v1/"+kind, record+"\n")
			var got client.Answer
			a.into(t, http.StatusOK, &got)
			if got.Committed != 1 || got.Kind != kind {
				t.Errorf("%s: %s", kind, a.body)
			}
			if a := w.get(t, "/v1/"+kind+"?format=ndjson"); !sameJSON(t, a.body, record) {
				t.Errorf("%s comes back as %s", kind, a.body)
			}
			if kind == "news" {
				continue
			}
			var latest struct{ Records []json.RawMessage }
			if w.get(t, "/v1/"+kind+"/latest?symbol=s").into(t, http.StatusOK, &latest); len(latest.Records) != 1 || !sameJSON(t, string(latest.Records[0]), record) {
				t.Errorf("the latest of %s is %s", kind, latest.Records)
			}
		}
		var series struct {
			Series []struct {
				Symbol, Strike, First string
				Rows                  int
			}
		}
		w.get(t, "/v1/bars/series").into(t, http.StatusOK, &series)
		if len(series.Series) != 1 || series.Series[0].Symbol != "S" || series.Series[0].Rows != 1 || series.Series[0].First != "2026-01-02T00:00:00Z" {
			t.Errorf("%+v", series)
		}
		w.post(t, "/v1/rollups", "{}").problem(t, http.StatusMethodNotAllowed, "method_not_allowed", "GET")
	})
}

// sameJSON compares documents; members without a value may be left out.
func sameJSON(t *testing.T, a, b string) bool {
	t.Helper()
	var x, y map[string]any
	if err := json.Unmarshal([]byte(a), &x); err != nil {
		t.Errorf("%v: %s", err, a)
	}
	if err := json.Unmarshal([]byte(b), &y); err != nil {
		t.Fatal(err)
	}
	for _, m := range []map[string]any{x, y} {
		for name, v := range m {
			if v == nil || v == "" {
				delete(m, name)
			}
		}
	}
	return reflect.DeepEqual(x, y)
}

// TestRowErrors lists the rows that are no records, with their lines, and stores the others.
func TestRowErrors(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	body := bar("A", 0, 1) + "nonsense\n\n" + strings.Replace(bar("A", 1, 1), `"close":1`, `"close":"x","ts2":0`, 1) + bar("B", 2, 2) + `{"vendor":"v"}` + "\n"
	a := w.post(t, "/v1/bars", body)
	const want = `{"kind":"bars","read":5,"rejected":3,"accepted":2,"committed":2,"dead_lettered":0,"dropped":0,"unwritten":0,"pending":0,"errors":[` +
		`{"line":2,"reason":"the line is not JSON: invalid character 'o' in literal null (expecting 'u') after offset 1"},` +
		`{"line":4,"field":"close","reason":"close: \"x\" is not a number"},` +
		`{"line":6,"field":"ts,close,symbol,timeframe","reason":"ts: is missing; close: is missing; symbol: is missing; timeframe: is missing"}],"ignored":["ts2"]}` + "\n"
	if a.status != http.StatusOK || a.body != want {
		t.Errorf("%d %s", a.status, a.body)
	}
	var got client.Answer
	w.post(t, "/v1/bars?max_errors=1", body).into(t, http.StatusOK, &got)
	if len(got.Errors) != 1 || got.Omitted != 2 || got.Rejected != 3 {
		t.Errorf("%+v", got)
	}
}

// TestAckAccepted answers before the records are written, and says so.
func TestAckAccepted(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	var got client.Answer
	w.post(t, "/v1/bars?ack=accepted", bar("A", 0, 1)).into(t, http.StatusAccepted, &got)
	if got.Accepted != 1 || got.Pending+got.Committed != 1 {
		t.Errorf("%+v", got)
	}
	w.post(t, "/v1/bars", bar("A", 1, 1)) // is written with it, or after it
	if a := w.get(t, "/v1/bars?format=ndjson"); strings.Count(a.body, "\n") != 2 {
		t.Errorf("%s", a.body)
	}
}

// TestRefused has every bad request be told what is wrong with it.
func TestRefused(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{Hosts: []string{"127.0.0.1"}})
	ndjson := []string{"Content-Type", "application/x-ndjson"}
	for name, tt := range map[string]struct {
		method, path, body string
		headers            []string
		status             int
		code, detail       string
	}{
		"no content type":       {"POST", "/v1/bars", "{}", nil, 415, "unsupported_media_type", `Content-Type is "": send application/vnd.apache.arrow.stream, application/x-ndjson, application/json or text/csv`},
		"another one":           {"POST", "/v1/bars", "{}", []string{"Content-Type", "text/plain"}, 415, "unsupported_media_type", `Content-Type is "text/plain"`},
		"unknown coding":        {"POST", "/v1/bars", "{}", append(ndjson, "Content-Encoding", "br"), 415, "unsupported_encoding", `Content-Encoding is "br": send gzip, zstd or none`},
		"no gzip":               {"POST", "/v1/bars", "hello", append(ndjson, "Content-Encoding", "gzip"), 400, "unreadable_body", "the body is no gzip"},
		"no zstd":               {"POST", "/v1/bars", "hello", append(ndjson, "Content-Encoding", "zstd"), 400, "unreadable_body", "the body is no zstd"},
		"no Arrow":              {"POST", "/v1/bars", "hello", []string{"Content-Type", "application/vnd.apache.arrow.stream"}, 400, "unreadable_body", "it is not an Arrow stream"},
		"Arrow of others":       {"POST", "/v1/news", arrowStream(t, arrow.Uncompressed), []string{"Content-Type", "application/vnd.apache.arrow.stream"}, 400, "unreadable_body", "title"},
		"nothing":               {"POST", "/v1/bars", "", ndjson, 400, "unreadable_body", "it is empty"},
		"an array as NDJSON":    {"POST", "/v1/bars", "[]", ndjson, 400, "unreadable_body", "it is a JSON array"},
		"an array not closed":   {"POST", "/v1/bars", "[", []string{"Content-Type", "application/json"}, 400, "unreadable_body", "the JSON array ends too early"},
		"no such CSV":           {"POST", "/v1/bars", "a,b\n1,2\n", []string{"Content-Type", "text/csv"}, 400, "unreadable_body", "map other names with columns=ts=NAME,… and columns without names with no_header=true columns=ts=#1,…"},
		"a time without a zone": {"POST", "/v1/bars", strings.Replace(bar("A", 0, 1), "Z", "", 1), ndjson, 400, "unreadable_body", "name the file's zone with tz, such as tz=America/New_York or tz=UTC"},
		"fixed twice":           {"POST", "/v1/bars?symbol=X", bar("A", 0, 1), ndjson, 400, "unreadable_body", "symbol"},
		"no zone":               {"POST", "/v1/bars?tz=Mars", "{}", ndjson, 400, "bad_parameter", `tz "Mars" is no time zone`},
		"no ack":                {"POST", "/v1/bars?ack=never", "{}", ndjson, 400, "bad_parameter", `ack "never": use committed or accepted`},
		"too many errors":       {"POST", "/v1/bars?max_errors=-1", "{}", ndjson, 400, "bad_parameter", `max_errors "-1": write a whole number from 0 to 10000`},
		"no column":             {"POST", "/v1/bars?columns=close", "{}", ndjson, 400, "bad_parameter", `columns "close": write column=name in the body`},
		"no parameter":          {"GET", "/v1/bars?symbl=A", "", nil, 400, "bad_parameter", `there is no parameter "symbl" here; it takes vendor, symbol,`},
		"without a value":       {"GET", "/v1/bars?symbol=", "", nil, 400, "bad_parameter", "symbol is there without a value"},
		"no UTF-8":              {"GET", "/v1/news?id=%ff", "", nil, 400, "bad_parameter", `id "\xff" is no text`},
		"a NUL":                 {"GET", "/v1/news?symbol=a%00", "", nil, 400, "bad_parameter", `symbol "a\x00" is no text`},
		"twice":                 {"GET", "/v1/bars?start=2020-01-01&start=2020-01-02", "", nil, 400, "bad_parameter", "start is there twice"},
		"half a query":          {"GET", "/v1/bars?a=%zz", "", nil, 400, "bad_parameter", "the query of the URL is no query"},
		"no time":               {"GET", "/v1/bars?start=yesterday", "", nil, 400, "bad_parameter", "start: "},
		"ends before it starts": {"GET", "/v1/bars?start=2020-01-02&end=2020-01-01", "", nil, 400, "bad_parameter", "start 2020-01-02 is not before end 2020-01-01"},
		"no timeframe":          {"GET", "/v1/bars?timeframe=7x", "", nil, 400, "bad_parameter", "timeframe"},
		"an empty symbol":       {"GET", "/v1/bars?symbol=A,,B", "", nil, 400, "bad_parameter", `symbol "A,,B" names an empty symbol`},
		"no limit":              {"GET", "/v1/bars?limit=0", "", nil, 400, "bad_parameter", `limit "0": write a whole number from 1`},
		"no order":              {"GET", "/v1/bars?order=up", "", nil, 400, "bad_parameter", `order "up": use asc, desc, identity, identity_desc or any`},
		"no cursor":             {"GET", "/v1/bars?cursor=abc", "", nil, 400, "bad_cursor", "cursor is none of this request's"},
		"no form":               {"GET", "/v1/bars", "", []string{"Accept", "image/png"}, 406, "not_acceptable", `Accept is "image/png"`},
		"too long bars":         {"GET", "/v1/bars?every=1x", "", nil, 400, "bad_parameter", "every: "},
		"no strike":             {"GET", "/v1/options?strike=abc", "", nil, 400, "bad_parameter", "strike: "},
		"news have none":        {"GET", "/v1/news?timeframe=1m", "", nil, 400, "bad_parameter", `there is no parameter "timeframe" here`},
		"no tenant":             {"GET", "/v1/bars", "", []string{"Mds-Tenant", "nobody"}, 404, "unknown_tenant", "there is no such tenant"},
		"another host":          {"GET", "/v1/bars", "", []string{"Host", "evil.example:80"}, 421, "wrong_host", `this server is not called "evil.example:80"`},
		"nothing there":         {"GET", "/v2/bars", "", nil, 404, "not_found", `there is no "/v2/bars" here; /openapi.json describes what there is`},
		"another method":        {"PUT", "/v1/bars", "", nil, 405, "method_not_allowed", "use GET, POST or DELETE"},
		"a method of one":       {"POST", "/v1/info", "", nil, 405, "method_not_allowed", "use GET"},
		"all is gone":           {"DELETE", "/v1/bars", "", nil, 400, "bad_parameter", "say which bars to remove, or all=true"},
		"all, and some":         {"DELETE", "/v1/bars?all=true&symbol=A", "", nil, 400, "bad_parameter", "all=true removes everything: leave it out"},
		"lines without ends":    {"POST", "/v1/bars?vendor=v&symbol=A&timeframe=1d", "ts,open,close,volume2026-01-02,1,2,3002026-01-03,1,2,300", []string{"Content-Type", "text/csv"}, 400, "unreadable_body", "its line ends are missing; curl sends them with --data-binary"},
		"an order with pages":   {"GET", "/v1/bars?order=identity&limit=3&format=csv", "", nil, 400, "bad_parameter", "order=identity goes without limit, cursor and every, and as ndjson, csv or arrow"},
		"an order in JSON":      {"GET", "/v1/bars?order=any", "", nil, 400, "bad_parameter", "order=any goes without"},
		"late, and not waiting": {"POST", "/v1/bars?late=2026-01-02&ack=accepted", "{}", []string{"Content-Type", "application/x-ndjson"}, 400, "bad_parameter", "leave ack=accepted out"},
		"late at no time":       {"POST", "/v1/bars?late=soon", "{}", []string{"Content-Type", "application/x-ndjson"}, 400, "bad_parameter", `late: "soon" is not a time`},
	} {
		t.Run(name, func(t *testing.T) {
			w.ask(t, tt.method, tt.path, strings.NewReader(tt.body), tt.headers...).problem(t, tt.status, tt.code, tt.detail)
		})
	}
	// What a browser sends for another page.
	w.post(t, "/v1/bars", bar("A", 0, 1), "Origin", "https://evil.example", "Sec-Fetch-Site", "cross-site").problem(t, http.StatusForbidden, "cross_origin", "a page of another site may not send this")
	if a := w.get(t, "/v1/bars?format=ndjson"); a.body != "" {
		t.Errorf("stored all the same: %s", a.body)
	}
}

// TestRequestID gives a request's id back, if it is one.
func TestRequestID(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	if a := w.get(t, "/healthz", "X-Request-Id", "abc-1.2_3"); a.header.Get("X-Request-Id") != "abc-1.2_3" {
		t.Error(a.header)
	}
	for _, bad := range []string{"a b", "a\tb", strings.Repeat("x", 65), `"`} {
		if a := w.get(t, "/healthz", "X-Request-Id", bad); a.header.Get("X-Request-Id") == bad || len(a.header.Get("X-Request-Id")) < 16 {
			t.Errorf("%q is %q", bad, a.header.Get("X-Request-Id"))
		}
	}
}

// TestTenants keeps the records of tenants apart.
func TestTenants(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		for _, slug := range []string{"one", "two"} {
			if _, err := w.store.CreateTenant(t.Context(), slug); err != nil {
				t.Fatal(err)
			}
		}
		for i, slug := range []string{"one", "two", "default"} {
			w.post(t, "/v1/bars", bar("A", i, 1), "Mds-Tenant", slug)
		}
		for i, slug := range []string{"one", "two", "default"} {
			a := w.get(t, "/v1/bars?format=ndjson", "Mds-Tenant", slug)
			if strings.Count(a.body, "\n") != 1 || !strings.Contains(a.body, minute(i)) {
				t.Errorf("%s has %s", slug, a.body)
			}
		}
	})
}

// TestLong takes in more than a queue holds, in one body.
func TestLong(t *testing.T) {
	cfg := server.Config{}
	cfg.Ingest.Capacity = 5000
	w := serve(t, "duckdb://"+t.TempDir(), cfg)
	const n = 100_000
	r, wr := io.Pipe()
	go func() {
		line := make([]byte, 0, 200)
		for i := range n {
			line = append(line[:0], `{"vendor":"v","symbol":"S`...)
			line = strconv.AppendInt(line, int64(i%10), 10)
			line = append(line, `","timeframe":"1s","ts":`...)
			line = strconv.AppendInt(line, int64(1_700_000_000+i), 10)
			line = append(line, `,"close":1}`+"\n"...)
			if _, err := wr.Write(line); err != nil {
				return
			}
		}
		_ = wr.Close()
	}()
	var got client.Answer
	w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson").into(t, http.StatusOK, &got)
	if got.Read != n || got.Committed != n {
		t.Errorf("%+v", got)
	}
}

// TestRefusedIsBounded lists no more of what is refused than an answer has room for.
func TestRefusedIsBounded(t *testing.T) {
	w := copying(t)
	var body strings.Builder
	for i := range 30 {
		fmt.Fprintf(&body, `{"vendor":"v","id":"%d","published_at":"2026-01-02T14:30:00Z","title":"t","summary":"%s"}`+"\n", i, strings.Repeat("x", 250_000))
	}
	if a := w.post(t, "/v1/news", body.String()); a.status != http.StatusOK {
		t.Fatal(a.status)
	}
	a := w.post(t, "/v1/news?max_errors=10000", body.String())
	if n := strings.Count(a.body, `"record"`); len(a.body) > 4<<20 || n != 16 || !strings.Contains(a.body, `"dropped":30`) || !strings.Contains(a.body, `"refused_omitted":14`) {
		t.Errorf("%d bytes, %d records, %.200s … %.100s", len(a.body), n, a.body, a.body[max(0, len(a.body)-100):])
	}
}
