package server_test

import (
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store/postgres"
)

// reused is the code of a key that is another request's.
const reused = "idempotency_key_reused"

// closes is the price of each bar of a symbol.
func (w *world) closes(t *testing.T, symbol string) string {
	t.Helper()
	a := w.get(t, "/v1/bars?format=csv&symbol="+symbol)
	var closes []string
	for _, line := range strings.Split(strings.TrimSpace(a.body), "\n")[1:] {
		closes = append(closes, strings.Split(line, ",")[7])
	}
	return strings.Join(closes, " ")
}

// ran checks that a request was taken in, and not answered as before.
func (a answer) ran(t *testing.T, committed int64) {
	t.Helper()
	var got client.Answer
	if a.into(t, http.StatusOK, &got); got.Committed != committed || got.Warnings != nil {
		t.Errorf("%s, want %d committed", a.body, committed)
	}
	if replayed := a.header.Get("Idempotency-Replayed"); replayed != "" {
		t.Errorf("Idempotency-Replayed is %q", replayed)
	}
}

// repeats checks that an answer is that of before.
func (a answer) repeats(t *testing.T, before answer) {
	t.Helper()
	if a.status != before.status || a.body != before.body || a.header.Get("Idempotency-Replayed") != "true" || a.header.Get("Content-Type") != "application/json" || a.header.Get("Cache-Control") != "no-store" {
		t.Errorf("%d %s %v, want the answer %d %s", a.status, a.body, a.header, before.status, before.body)
	}
}

// end stops the server, and closes its store.
func (w *world) end(t *testing.T) {
	t.Helper()
	w.stop()
	err := <-w.ended
	w.ended <- err
	if err := w.store.Close(); err != nil {
		t.Fatal(err)
	}
}

// TestIdempotencyKey repeats requests under their keys: each is answered as it was, and writes
// nothing, whatever others have written since and whether or not the server runs still.
func TestIdempotencyKey(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		body := bar("A", 0, 1) + "nonsense\n"
		key := []string{"Idempotency-Key", "one"}
		first := w.post(t, "/v1/bars?max_errors=1", body, key...)
		first.ran(t, 1)
		if !strings.Contains(first.body, `"rejected":1`) || !strings.Contains(first.body, `"errors":[{"line":2`) {
			t.Error(first.body)
		}
		w.post(t, "/v1/bars", bar("A", 0, 2), "Idempotency-Key", "two").ran(t, 1)
		w.post(t, "/v1/bars?max_errors=1", body, key...).repeats(t, first)
		w.post(t, "/v1/bars?max_errors=1", body, "Idempotency-Key", `"one"`).repeats(t, first)
		w.end(t)

		w = serve(t, dsn, server.Config{})
		w.post(t, "/v1/bars?max_errors=1", body, key...).repeats(t, first)
		if got := w.closes(t, "A"); got != "2" {
			t.Errorf("A is at %s: an old request was written again", got)
		}
		var stats client.Statistics
		w.get(t, "/v1/stats").into(t, http.StatusOK, &stats)
		if l := stats.Kinds[0]; l.Kind != "bars" || l.Accepted != 0 {
			t.Errorf("%+v", l)
		}
		w.post(t, "/v1/bars?max_errors=1", body).ran(t, 1) // without the key it is
		if got := w.closes(t, "A"); got != "1" {
			t.Errorf("A is at %s", got)
		}
	})
}

// TestIdempotencyKeyReused refuses a key with another request than its own, which is not
// written.
func TestIdempotencyKeyReused(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{IdleTimeout: 5 * time.Second})
		acme, err := w.store.CreateTenant(t.Context(), "acme")
		if err != nil {
			t.Fatal(err)
		}
		key := []string{"Idempotency-Key", "k"}
		w.post(t, "/v1/bars", bar("A", 0, 1), key...).ran(t, 1)
		const news = `{"vendor":"v","id":"n1","published_at":"2026-01-02T09:00:00Z","title":"t"}` + "\n"
		for name, tt := range map[string]struct {
			path, body, detail string
			headers            []string
		}{
			"another body":      {"/v1/bars", bar("A", 0, 2), `the key "k" was used with another body before: send that request as it was, or this one with a key of its own`, nil},
			"a longer one":      {"/v1/bars", bar("A", 0, 1) + "\n", "with another body", nil},
			"none":              {"/v1/bars", "", "with another body", nil},
			"another kind":      {"/v1/news", news, `the key "k" was used for POST /v1/bars before`, nil},
			"other parameters":  {"/v1/bars?max_errors=7", bar("A", 0, 1), "with other parameters, or another Content-Type or Content-Encoding", nil},
			"another form":      {"/v1/bars", bar("A", 0, 1), "another Content-Type", []string{"Content-Type", "application/ndjson"}},
			"unpacked no form":  {"/v1/bars", bar("A", 0, 1), "another Content-Type", []string{"Content-Type", "x"}},
			"said to be packed": {"/v1/bars", bar("A", 0, 1), "Content-Encoding", []string{"Content-Encoding", "gzip"}},
		} {
			t.Run(name, func(t *testing.T) {
				w.post(t, tt.path, tt.body, append(tt.headers, key...)...).problem(t, http.StatusUnprocessableEntity, reused, tt.detail)
			})
		}
		// Before the body is read, where it is known: this one would never come.
		head := "POST /v1/news HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nIdempotency-Key: k\r\nContent-Length: 10000\r\n\r\n"
		said(t, w.raw(t, head)).problem(t, http.StatusUnprocessableEntity, reused, "for POST /v1/bars")

		w.post(t, "/v1/bars", bar("A", 0, 3), append(key, "Mds-Tenant", acme.Slug)...).ran(t, 1)
		if got, news := w.closes(t, "A"), w.get(t, "/v1/news?format=ndjson").body; got != "1" || news != "" {
			t.Errorf("A is at %s, and news are %s", got, news)
		}
	})
}

// TestIdempotencyUnfinished has requests that did not end with an answer to keep run again:
// such that failed, whose body was cut, that the server stopped in the middle.
func TestIdempotencyUnfinished(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{IdleTimeout: 5 * time.Second})
		text := func(key, body string) string {
			return fmt.Sprintf("POST /v1/bars HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nIdempotency-Key: %s\r\nContent-Length: 10000\r\n\r\n%s", key, body)
		}
		cut := w.raw(t, text("cut", bar("A", 0, 1)+`{"vendor":`))
		if err := cut.CloseWrite(); err != nil {
			t.Fatal(err)
		}
		p := said(t, cut).problem(t, http.StatusBadRequest, "body_cut", "")
		if p.Ledger == nil || p.Ledger.Committed != 1 {
			t.Errorf("%+v", p.Ledger)
		}
		w.post(t, "/v1/bars", bar("A", 0, 2), "Idempotency-Key", "cut").ran(t, 1)

		w.post(t, "/v1/bars", "[]", "Idempotency-Key", "failed").problem(t, http.StatusBadRequest, "unreadable_body", "")
		w.post(t, "/v1/bars?tz=Mars", "{}", "Idempotency-Key", "failed").problem(t, http.StatusBadRequest, "bad_parameter", "")
		w.post(t, "/v1/bars", bar("A", 1, 3), "Idempotency-Key", "failed").ran(t, 1)

		gone := w.raw(t, text("gone", bar("G", 0, 1)))
		await(t, "the row is stored", func() bool { return w.closes(t, "G") == "1" })
		if err := gone.Close(); err != nil {
			t.Fatal(err)
		}
		again := w.post(t, "/v1/bars", bar("G", 0, 2), "Idempotency-Key", "gone")
		again.ran(t, 1)
		w.post(t, "/v1/bars", bar("G", 0, 2), "Idempotency-Key", "gone").repeats(t, again)

		r, body := io.Pipe()
		ended := make(chan answer)
		go func() {
			ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson", "Idempotency-Key", "stopped")
		}()
		if _, err := io.WriteString(body, bar("A", 2, 4)); err != nil {
			t.Fatal(err)
		}
		await(t, "the row is stored", func() bool { return w.closes(t, "A") == "2 3 4" })
		w.server.EndIntake()
		(<-ended).problem(t, http.StatusServiceUnavailable, "stopping", "")
		_ = body.Close()
		w.end(t)

		w = serve(t, dsn, server.Config{})
		w.post(t, "/v1/bars", bar("A", 2, 5), "Idempotency-Key", "stopped").ran(t, 1)
		if got := w.closes(t, "A"); got != "2 3 5" {
			t.Errorf("A is at %s", got)
		}
	})
}

// TestIdempotencyForms repeats bodies of every form, packed and not, and knows a body with
// something behind what is decoded.
func TestIdempotencyForms(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	ndjson := bar("A", 0, 1) + bar("A", 1, 1)
	array := "[" + strings.Replace(strings.TrimSpace(ndjson), "\n", ",\n", 1) + "]"
	const stream = "application/vnd.apache.arrow.stream"
	for i, tt := range []struct{ media, coding, body, other string }{
		{"application/x-ndjson", "", ndjson, ndjson + "\n"},
		{"application/x-ndjson", "gzip", zipped(t, ndjson), zipped(t, ndjson+"\n")},
		{"application/x-ndjson", "gzip", zipped(t, ndjson) + zipped(t, bar("A", 2, 1)), zipped(t, ndjson) + zipped(t, bar("A", 2, 2))},
		{"application/x-ndjson", "zstd", zstandard(t, ndjson), zstandard(t, ndjson+"\n")},
		{"application/json", "", array, array + " "},
		{"application/json", "zstd", zstandard(t, array), zstandard(t, array+" ")},
		{"text/csv", "", "vendor,symbol,timeframe,ts,close\nv,A,1m," + minute(0) + ",1\n", "vendor,symbol,timeframe,ts,close\nv,A,1m," + minute(0) + ",1"},
		{stream, "", arrowStream(t, arrow.Uncompressed), arrowStream(t, arrow.Uncompressed) + "\x00"},
		{stream, "gzip", zipped(t, arrowStream(t, arrow.LZ4)), zipped(t, arrowStream(t, arrow.Zstd))},
	} {
		send := func(body string) answer {
			return w.ask(t, http.MethodPost, "/v1/bars", strings.NewReader(body), "Content-Type", tt.media, "Content-Encoding", tt.coding, "Idempotency-Key", strconv.Itoa(i))
		}
		name := fmt.Sprint(i, " ", tt.media, " ", tt.coding)
		first := send(tt.body)
		if first.status != http.StatusOK || first.header.Get("Idempotency-Replayed") != "" {
			t.Errorf("%s: %d %s", name, first.status, first.body)
			continue
		}
		send(tt.body).repeats(t, first)
		send(tt.other).problem(t, http.StatusUnprocessableEntity, reused, "with another body")
	}
}

// TestIdempotencyNotUnpacked compares a body whose key is known without unpacking it, however
// large that would be.
func TestIdempotencyNotUnpacked(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	var packed bytes.Buffer
	z := gzip.NewWriter(&packed)
	blank := bytes.Repeat([]byte("\n"), 1<<20)
	for range 80 {
		if _, err := z.Write(blank); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	headers := []string{"Content-Type", "application/x-ndjson", "Content-Encoding", "gzip", "Idempotency-Key", "k"}
	first := w.ask(t, http.MethodPost, "/v1/bars", strings.NewReader(zipped(t, bar("A", 0, 1))), headers...)
	first.ran(t, 1)
	w.ask(t, http.MethodPost, "/v1/bars", &packed, headers...).problem(t, http.StatusUnprocessableEntity, reused, "with another body")
}

// TestIdempotencyAtOnce has a request be sent several times at once: one answer is that of all.
// Of two bodies with one key both may be written, and one is told that the key is the other's.
func TestIdempotencyAtOnce(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		bodies := []string{bar("A", 0, 1) + "x\n", bar("A", 0, 2)}
		for round := range 5 {
			var answers [16]answer
			var all sync.WaitGroup
			for i := range answers {
				all.Go(func() {
					answers[i] = w.post(t, "/v1/bars", bodies[i%2], "Idempotency-Key", fmt.Sprint("round-", round))
				})
			}
			all.Wait()
			var won string
			for i, a := range answers {
				switch a.status {
				case http.StatusOK:
					if won == "" {
						won = fmt.Sprint(i%2, a.body)
					}
					if got := fmt.Sprint(i%2, a.body); got != won {
						t.Errorf("%s beside %s", got, won)
					}
				default:
					p := a.problem(t, http.StatusUnprocessableEntity, reused, "with another body")
					if p.Ledger != nil && p.Ledger.Committed != 1 {
						t.Errorf("%+v", p.Ledger)
					}
				}
			}
			if won == "" {
				t.Error("none is answered")
			}
		}
	})
}

// TestIdempotencyInTheMiddle has one request with a key end while another one with it is under
// way: that one is answered the same, or told what became of its own rows.
func TestIdempotencyInTheMiddle(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		for name, mine := range map[string]bool{"same": true, "other": false} {
			symbol := strings.ToUpper(name)
			r, body := io.Pipe()
			ended := make(chan answer)
			go func() {
				ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson", "Idempotency-Key", name)
			}()
			if _, err := io.WriteString(body, bar(symbol, 0, 1)); err != nil {
				t.Fatal(err)
			}
			await(t, "the row is stored", func() bool { return w.closes(t, symbol) == "1" })
			rest, quick := bar(symbol, 1, 1), bar(symbol, 0, 1)+bar(symbol, 1, 1)
			if !mine {
				rest = bar(symbol, 1, 2)
			}
			first := w.post(t, "/v1/bars", quick, "Idempotency-Key", name)
			first.ran(t, 2)
			if _, err := io.WriteString(body, rest); err != nil || body.Close() != nil {
				t.Fatal(err)
			}
			if mine {
				// It is the same answer, and not said to be a repeated one: this request did write.
				if second := <-ended; second.status != http.StatusOK || second.body != first.body || second.header.Get("Idempotency-Replayed") != "" {
					t.Errorf("%+v, want %s", second, first.body)
				}
				continue
			}
			p := (<-ended).problem(t, http.StatusUnprocessableEntity, reused, "with another body")
			if p.Ledger == nil || p.Ledger.Committed != 2 {
				t.Errorf("%+v", p.Ledger)
			}
		}
	})
}

// TestIdempotencyEnds has a key whose answer is older than a day be a new one.
func TestIdempotencyEnds(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		for key, ago := range map[string]time.Duration{"old": mds.AnswersKeptFor + time.Second, "young": mds.AnswersKeptFor - time.Minute} {
			kept := mds.KeptAnswer{Key: key, Operation: "POST /v1/bars", Status: http.StatusOK, Body: []byte("{}\n"), At: time.Now().UTC().Add(-ago)}
			if _, err := w.store.KeepAnswer(t.Context(), mds.DefaultTenant(), kept); err != nil {
				t.Fatal(err)
			}
		}
		w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "young").problem(t, http.StatusUnprocessableEntity, reused, "")
		first := w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "old")
		first.ran(t, 1)
		w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "old").repeats(t, first)
	})
}

// TestIdempotencyKeysThatAreNone refuses what is no key, and what no answer is kept of.
func TestIdempotencyKeysThatAreNone(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	for _, key := range []string{"", "a b", "ü", strings.Repeat("k", 256), `"`, `""`, `"a`, `"a"b`, `"a\`, `"a\b"`, `"a b"`, `"a";x=1`} {
		w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", key).problem(t, http.StatusBadRequest, "bad_idempotency_key", "write one key of 1 to 255 visible ASCII characters")
	}
	twice := "POST /v1/bars HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nIdempotency-Key: a\r\nIdempotency-Key: b\r\nContent-Length: 0\r\n\r\n"
	said(t, w.raw(t, twice)).problem(t, http.StatusBadRequest, "bad_idempotency_key", `"a, b"`)
	w.post(t, "/v1/bars?ack=accepted", bar("A", 0, 1), "Idempotency-Key", "k").problem(t, http.StatusBadRequest, "bad_parameter", "leave out ack=accepted or Idempotency-Key")
	w.get(t, "/v1/bars?Idempotency-Key=x").problem(t, http.StatusBadRequest, "bad_parameter", `there is no parameter "Idempotency-Key" here`)
	if a := w.get(t, "/v1/bars?format=ndjson"); a.body != "" {
		t.Errorf("stored all the same: %s", a.body)
	}
	for key, same := range map[string]string{strings.Repeat("k", 255): `"` + strings.Repeat("k", 255) + `"`, `a"\b`: `"a\"\\b"`, "a,b;c=d": `"a,b;c=d"`} {
		first := w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", key)
		first.ran(t, 1)
		w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", same).repeats(t, first)
	}
}

// TestIdempotencyOfDelete refuses a key that would not be kept, and removes nothing.
func TestIdempotencyOfDelete(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	w.post(t, "/v1/bars", bar("A", 0, 1)).into(t, http.StatusOK, new(any))
	w.ask(t, http.MethodDelete, "/v1/bars?symbol=A", nil, "Idempotency-Key", "k").problem(t, http.StatusBadRequest, "bad_idempotency_key", "keys are of POST")
	if got := w.closes(t, "A"); got != "1" {
		t.Errorf("there is %q", got)
	}
}

// TestIdempotencyBodies bounds bodies that are only compared as it does others, and answers
// that are kept.
func TestIdempotencyBodies(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{IdleTimeout: 2 * time.Second, MaxIngests: 1})
	w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "k").ran(t, 1)
	head := strings.Replace(head, "Content-Length", "Idempotency-Key: k\r\nContent-Length", 1)
	said(t, w.raw(t, head+bar("A", 0, 1))).problem(t, http.StatusRequestTimeout, "body_timeout", "nothing of the body came for 2s")
	cut := w.raw(t, head+bar("A", 0, 1))
	if err := cut.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	said(t, cut).problem(t, http.StatusBadRequest, "body_cut", "the body ends too early")

	var got client.Answer
	long := bar("A", 0, 1) + strings.Repeat("<\n", 5000)
	first := w.post(t, "/v1/bars?max_errors=10000", long, "Idempotency-Key", "long")
	if first.into(t, http.StatusOK, &got); got.Rejected != 5000 || len(got.Errors) < 100 || got.Omitted < 100 || int64(len(got.Errors))+got.Omitted != 5000 || got.Warnings != nil || len(first.body) > mds.MaxKeptBody {
		t.Errorf("%d errors, %d omitted, %d bytes, %v", len(got.Errors), got.Omitted, len(first.body), got.Warnings)
	}
	w.post(t, "/v1/bars?max_errors=10000", long, "Idempotency-Key", "long").repeats(t, first)
}

// TestIdempotencyDraining answers a known key while nothing is taken in, and a new one not.
func TestIdempotencyDraining(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	first := w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "k")
	first.ran(t, 1)
	w.server.Drain()
	w.post(t, "/v1/bars", bar("A", 0, 1), "Idempotency-Key", "k").repeats(t, first)
	w.post(t, "/v1/bars", bar("A", 1, 1), "Idempotency-Key", "new").problem(t, http.StatusServiceUnavailable, "stopping", "")
}

// TestIdempotencyNotKept has an answer not be kept: what was written is acknowledged all the
// same, with a warning, and the request runs again. Where it is not known whether one is kept
// nothing is taken in.
func TestIdempotencyNotKept(t *testing.T) {
	d := pgtest.Empty(t)
	_, err := postgres.Migrate(t.Context(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(t.Context(), d.Owner, d.Service)
	if err := errors.Join(err, grantErr); err != nil {
		t.Fatal(err)
	}
	w := serve(t, d.Service, server.Config{})
	post := func(price float64) answer {
		return w.post(t, "/v1/bars", bar("A", 0, price), "Idempotency-Key", "k")
	}
	pgtest.Exec(t, d.Owner, "REVOKE INSERT ON mds_internal.kept_answers FROM service")
	for _, price := range []float64{1, 2} {
		var got client.Answer
		post(price).into(t, http.StatusOK, &got)
		if got.Committed != 1 || got.Warnings["the answer could not be kept under its Idempotency-Key: the same request sent again is run again"] != 1 {
			t.Errorf("%+v", got)
		}
	}
	pgtest.Exec(t, d.Owner, "REVOKE SELECT ON mds_internal.kept_answers FROM service")
	if a := post(3); strings.Contains(a.body, "kept_answers") {
		t.Error(a.body)
	} else {
		a.problem(t, http.StatusServiceUnavailable, "store_unavailable", "")
	}
	pgtest.Exec(t, d.Owner, "GRANT SELECT, INSERT ON mds_internal.kept_answers TO service")
	post(4).ran(t, 1)
	post(5).problem(t, http.StatusUnprocessableEntity, reused, "")
	if got := w.closes(t, "A"); got != "4" {
		t.Errorf("A is at %s", got)
	}
}
