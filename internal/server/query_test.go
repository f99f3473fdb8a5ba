package server_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/server"
)

// page is an answer in JSON.
type page struct {
	Records []json.RawMessage
	Next    *string
}

func texts(records []json.RawMessage) (all []string) {
	for _, r := range records {
		all = append(all, string(r))
	}
	return all
}

// pages follows cursors until there are none, and returns all records.
func pages(t *testing.T, w *world, path string, limit int) (all []string) {
	t.Helper()
	cursor := ""
	for n := 0; ; n++ {
		var p page
		w.get(t, path+fmt.Sprintf("&limit=%d", limit)+cursor).into(t, http.StatusOK, &p)
		if len(p.Records) > limit || p.Next != nil && len(p.Records) < limit || n > 200 {
			t.Fatalf("page %d has %d records of %d, and next is %v", n, len(p.Records), limit, p.Next)
		}
		all = append(all, texts(p.Records)...)
		if p.Next == nil {
			return all
		}
		cursor = "&cursor=" + url.QueryEscape(*p.Next)
	}
}

// TestPages reads windows page by page: together they are the window, in order, whatever the
// size of a page, also where many records are of one time, and where days and minutes are
// in one answer.
func TestPages(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		var body strings.Builder
		for i := range 12 {
			for s := range 7 - i%3 {
				body.WriteString(bar(fmt.Sprint("S", s), i/2, float64(i)))
			}
		}
		for day := 1; day < 5; day++ {
			for s := range 3 {
				fmt.Fprintf(&body, `{"vendor":"v","symbol":"S%d","timeframe":"1d","ts":"2026-01-%02d","close":1}`+"\n", s, day)
			}
		}
		w.post(t, "/v1/bars", body.String())
		var news strings.Builder
		for i := range 25 {
			fmt.Fprintf(&news, `{"vendor":"v","id":"a, b&%d","published_at":"2026-01-02T09:0%d:00Z","title":"t","symbols":["A"]}`+"\n", i, i/9)
		}
		w.post(t, "/v1/news", news.String())
		for _, path := range []string{
			"/v1/bars?order=asc", "/v1/bars?order=desc", "/v1/bars?symbol=S1,S3&order=asc", "/v1/bars?timeframe=1m&start=2026-01-02T14:32:00Z&end=2026-01-02T14:35:00Z",
			"/v1/bars?start=2026-01-02&tz=America/New_York", "/v1/bars?start=2026-01-02&end=2026-01-03&tz=America/New_York&order=desc",
			"/v1/bars?start=2026-01-02&end=2026-01-03&tz=Asia/Tokyo&order=desc", "/v1/bars?start=2026-01-02&end=2026-01-03&tz=Asia/Tokyo", "/v1/bars?order=desc&start=2026-01-02&end=2026-01-02T20:00:00&tz=America/New_York",
			"/v1/bars?start=2026-01-02T08:00:00&tz=Asia/Tokyo", "/v1/bars?start=2026-01-01T20:00:00&end=2026-01-03&tz=Asia/Tokyo", "/v1/news?order=asc", "/v1/news?order=desc",
			"/v1/bars?timeframe=1m&every=5m", "/v1/bars?timeframe=1m&every=1d&tz=America/New_York", "/v1/bars?timeframe=1d&every=1w&symbol=S0,S1",
		} {
			whole := pages(t, w, path, 10_000)
			if len(whole) == 0 {
				t.Errorf("%s has nothing", path)
			}
			ndjson := w.get(t, path+"&format=ndjson")
			if ndjson.body != strings.Join(whole, "\n")+"\n" || ndjson.trailer.Get("Mds-Next-Cursor") != "" {
				t.Errorf("%s is another in NDJSON", path)
			}
			for _, limit := range []int{1, 2, 5, len(whole) - 1, len(whole)} {
				if limit < 1 {
					continue
				}
				if got := pages(t, w, path, limit); !slices.Equal(got, whole) {
					t.Errorf("%s by %d has %d records, not %d:\n%s\n%s", path, limit, len(got), len(whole), strings.Join(got, "\n"), strings.Join(whole, "\n"))
				}
			}
		}
		// In other forms the cursor is in the trailer, and good for any.
		a := w.get(t, "/v1/bars?order=desc&limit=3&format=csv")
		next := a.trailer.Get("Mds-Next-Cursor")
		if strings.Count(a.body, "\n") != 4 || next == "" {
			t.Fatalf("%s, next %q", a.body, next)
		}
		var second page
		w.get(t, "/v1/bars?order=desc&limit=3&cursor="+url.QueryEscape(next)).into(t, http.StatusOK, &second)
		if all := pages(t, w, "/v1/bars?order=desc", 10_000); !slices.Equal(texts(second.Records), all[3:6]) {
			t.Errorf("the second page is %s", second.Records)
		}
		w.get(t, "/v1/bars?order=asc&cursor="+url.QueryEscape(next)).problem(t, http.StatusBadRequest, "bad_cursor", "cursor is none of this request's")
	})
}

// TestOldHTTP refuses to stream records to who cannot tell a whole answer from one that is
// cut.
func TestOldHTTP(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	said(t, w.raw(t, "GET /v1/bars HTTP/1.0\r\nHost: x\r\n\r\n")).problem(t, http.StatusHTTPVersionNotSupported, "http_version", "records are streamed over HTTP/1.1 or HTTP/2")
	if a := said(t, w.raw(t, "GET /healthz HTTP/1.0\r\nHost: x\r\n\r\n")); a.status != http.StatusOK {
		t.Errorf("%d", a.status)
	}
}

// TestAccept answers in the form that a client takes best.
func TestAccept(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	w.post(t, "/v1/bars", bar("A", 0, 1))
	for accept, want := range map[string]string{
		"": "application/json", "*/*": "application/json", "text/csv": "text/csv", "application/x-ndjson": "application/x-ndjson",
		"text/html, application/x-ndjson;q=0.9, */*;q=0.8": "application/x-ndjson", "application/json;q=0.1, text/csv;q=0.5": "text/csv",
	} {
		if a := w.get(t, "/v1/bars", "Accept", accept); a.status != http.StatusOK || a.header.Get("Content-Type") != want {
			t.Errorf("%q is answered %d with %s", accept, a.status, a.header.Get("Content-Type"))
		}
	}
}

// TestKnownAt reads fundamentals as they were known.
func TestKnownAt(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		for _, f := range []string{"2026-02-01T00:00:00Z 10", "2026-05-01T00:00:00Z 11"} {
			filed, income, _ := strings.Cut(f, " ")
			w.post(t, "/v1/fundamentals", fmt.Sprintf(`{"vendor":"v","symbol":"S","period":"FY","asof":"2025-12-31","filed_at":%q,"net_income":%s}`+"\n", filed, income))
		}
		for at, want := range map[string]string{"2026-03-01": `"net_income":10,`, "2026-05-01": `"net_income":11,`, "now": `"net_income":11,`} {
			a := w.get(t, "/v1/fundamentals?format=ndjson&known_at="+at)
			if strings.Count(a.body, "\n") != 1 || !strings.Contains(a.body, want) {
				t.Errorf("at %s: %s", at, a.body)
			}
		}
	})
}
