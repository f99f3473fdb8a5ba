package server_test

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/server"
)

// rated are two tenants, of which a has a rate.
func rated(t *testing.T, rate float64, cfg server.Config) *world {
	t.Helper()
	cfg.Ingest = ingest.Config[any]{Rate: func(tenant mds.Tenant) float64 { return map[string]float64{"a": rate}[tenant.Slug] }}
	return twoTenants(t, cfg)
}

// accepted is how many bars of a tenant were taken in.
func (w *world) accepted(tenant string) (n int64) {
	for _, l := range w.server.Ledgers() {
		if l.Kind == "bars" && l.Tenant == tenant {
			n += l.Accepted
		}
	}
	return n
}

// open begins a body, whose end is that of the pipe.
func (w *world) open(t *testing.T, begin []byte, contentType string) (*io.PipeWriter, chan answer) {
	t.Helper()
	r, body := io.Pipe()
	ended := make(chan answer, 1)
	go func() { ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", contentType) }()
	if _, err := body.Write(begin); err != nil {
		t.Fatal(err)
	}
	return body, ended
}

// TestOverRate refuses another body of a tenant whose records wait for its rate, until they
// are paid for.
func TestOverRate(t *testing.T) {
	w := rated(t, 0.001, server.Config{})
	ended := make(chan answer, 1)
	go func() { ended <- w.post(t, "/v1/bars", bar("A", 0, 1)+bar("A", 1, 1)) }()
	await(t, "one record is taken in, and the other waits", func() bool { return w.accepted("a") == 1 })
	read := false
	refused := w.ask(t, http.MethodPost, "/v1/bars", watched{strings.NewReader(bar("A", 2, 1)), &read}, "Content-Type", "application/x-ndjson", "Expect", "100-continue")
	refused.problem(t, http.StatusTooManyRequests, "too_many_requests", "the tenant a sends more than its 0.001 records a second: nothing of this was read")
	if after, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || after < 990 || after > 2000 || read {
		t.Errorf("Retry-After is %d, the body was read: %t", after, read)
	}
	w.post(t, "/v1/bars", bar("B", 0, 1), "Mds-Tenant", "b").into(t, http.StatusOK, new(any))
	w.server.EndIntake()
	<-ended
}

// TestLatePays has records that come late wait for the rate, too, and be counted.
func TestLatePays(t *testing.T) {
	w := rated(t, 0.001, server.Config{})
	w.post(t, "/v1/bars?late=2026-06-01", bar("A", 0, 1)).into(t, http.StatusOK, new(any))
	w.post(t, "/v1/bars?late=2026-06-01", bar("A", 1, 1)).problem(t, http.StatusTooManyRequests, "too_many_requests", "more than its 0.001 records a second")
	w.post(t, "/v1/bars", bar("A", 1, 1)).problem(t, http.StatusTooManyRequests, "too_many_requests", "more than its 0.001 records a second")
	for n := range 3 {
		w.post(t, "/v1/bars?late=2026-06-01", bar("B", n, 1), "Mds-Tenant", "b").into(t, http.StatusOK, new(any))
	}
	metrics := w.get(t, "/metrics").body
	for _, want := range []string{`mds_late_records_total{kind="bars"} 4`, `mds_late_records_total{kind="news"} 0`} {
		if !strings.Contains(metrics, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestLateInItsZone reads the time of late in the zone of tz.
func TestLateInItsZone(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	w.post(t, "/v1/bars", bar("A", 0, 1)).into(t, http.StatusOK, new(any))
	now := time.Now().UTC() // by the clock: in New York it is four or five hours later
	for _, tt := range []struct {
		zone       string
		superseded int64
	}{{"UTC", 1}, {"America/New_York", 0}} { // which is written, and changes what the next one finds
		var a client.Answer
		late := now.Add(-time.Hour).Format("2006-01-02T15:04:05")
		w.post(t, "/v1/bars?late="+late+"&tz="+tt.zone, bar("A", 0, 1.5)).into(t, http.StatusOK, &a)
		if a.Superseded != tt.superseded {
			t.Errorf("%s: %+v", tt.zone, a)
		}
	}
}

// TestShareOfPlaces leaves places to others, whatever a tenant with a rate sends.
func TestShareOfPlaces(t *testing.T) {
	w := rated(t, 1000, server.Config{MaxIngests: 8})
	var bodies []*io.PipeWriter
	var ends []chan answer
	for range 4 {
		body, ended := w.open(t, []byte(bar("A", 0, 1)), "application/x-ndjson")
		bodies, ends = append(bodies, body), append(ends, ended)
	}
	await(t, "four are under way", func() bool { return w.accepted("a") == 4 })
	w.post(t, "/v1/bars", bar("A", 1, 1)).problem(t, http.StatusTooManyRequests, "too_many_requests", "the bodies of the tenant a that are under way hold all")
	w.post(t, "/v1/bars", bar("B", 0, 1), "Mds-Tenant", "b").into(t, http.StatusOK, new(any))
	for i, body := range bodies {
		_ = body.Close()
		(<-ends[i]).into(t, http.StatusOK, new(any))
	}
	w.post(t, "/v1/bars", bar("A", 1, 1)).into(t, http.StatusOK, new(any))
}

// TestShareOfMemory leaves memory to others.
func TestShareOfMemory(t *testing.T) {
	w := rated(t, 1000, server.Config{BodyMemory: 64 << 20})
	stream := arrowOf(t, 3)
	const contentType = "application/vnd.apache.arrow.stream"
	body, ended := w.open(t, stream, contentType)
	await(t, "it is under way", func() bool { return w.accepted("a") == 3 })
	again := func(tenant string) answer {
		return w.ask(t, http.MethodPost, "/v1/bars", onlyReader{strings.NewReader(string(stream))}, "Content-Type", contentType, "Mds-Tenant", tenant)
	}
	again("a").problem(t, http.StatusTooManyRequests, "too_many_requests", "the bodies of the tenant a that are under way hold all")
	again("b").into(t, http.StatusOK, new(any))
	_ = body.Close()
	(<-ended).into(t, http.StatusOK, new(any))
	again("a").into(t, http.StatusOK, new(any))
}

// arrowOf is a stream of n bars.
func arrowOf(t *testing.T, n int) []byte {
	t.Helper()
	var b bytes.Buffer
	w, err := arrow.NewWriter[mds.Bar](&b, arrow.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range n {
		if err := w.Append(&mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30+i, 0, 0, time.UTC), Close: 1}); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// TestGoneWhileItWaits gives the place of a body free whose client goes while it waits for
// its rate and is not read.
func TestGoneWhileItWaits(t *testing.T) {
	w := rated(t, 0.001, server.Config{MaxIngests: 1})
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	body := bar("A", 0, 1) + bar("A", 1, 1) + bar("A", 2, 1)
	if _, err := fmt.Fprintf(conn, "POST /v1/bars HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n", len(body), body); err != nil {
		t.Fatal(err)
	}
	await(t, "one record is taken in", func() bool { return w.accepted("a") == 1 })
	send := func() answer { return w.post(t, "/v1/bars", bar("B", 0, 1), "Mds-Tenant", "b") }
	send().problem(t, http.StatusTooManyRequests, "too_many_requests", "too many bodies are under way")
	left := time.Now()
	if err := conn.Close(); err != nil {
		t.Fatal(err)
	}
	await(t, "there is room for another", func() bool { return send().status == http.StatusOK })
	if took := time.Since(left); took > 5*time.Second {
		t.Errorf("it took %s", took)
	}
}
