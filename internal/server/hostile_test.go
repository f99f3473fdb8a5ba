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

// TestLabels has no path, and no method, of a client's invention become a label.
func TestLabels(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	for i := range 20 {
		w.get(t, fmt.Sprint("/invented/", i))
		w.ask(t, fmt.Sprint("INVENTED", i), "/v1/bars", nil)
	}
	w.get(t, "/%ff").problem(t, http.StatusNotFound, "not_found", "")
	if text := w.get(t, "/metrics").body; strings.Contains(strings.ToLower(text), "invented") || !strings.Contains(text, `http_requests_total{method="GET",route="other",status="404"} 21`) {
		t.Error("labels are as clients like")
	}
}

// TestUnreadBodies answers, and soon, who promises a body that nobody reads and that never
// comes.
func TestUnreadBodies(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	for _, request := range []string{"GET /healthz", "GET /v1/bars", "POST /nowhere", "GET /", "GET /metrics"} {
		for _, length := range []string{"Content-Length: 5", "Content-Length: 1000000", "Transfer-Encoding: chunked"} {
			begun := time.Now()
			said(t, w.raw(t, request+" HTTP/1.1\r\nHost: x\r\n"+length+"\r\n\r\n"))
			if took := time.Since(begun); took > 10*time.Second {
				t.Errorf("%s, %s is answered after %v", request, length, took)
			}
		}
	}
}

// TestSlowReader has a client that does not read lose its place to others.
func TestSlowReader(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxQueries: 1, WriteTimeout: 2 * time.Second})
	var body strings.Builder
	for i := range 100_000 {
		fmt.Fprintf(&body, `{"vendor":"v","symbol":"S","timeframe":"1s","ts":%d,"close":1}`+"\n", 1_700_000_000+i)
	}
	if a := w.post(t, "/v1/bars", body.String()); a.status != http.StatusOK {
		t.Fatal(a.body)
	}
	slow := w.raw(t, "GET /v1/bars?format=ndjson HTTP/1.1\r\nHost: x\r\n\r\n")
	begin := make([]byte, len("HTTP/1.1 200"))
	if _, err := io.ReadFull(slow, begin); err != nil || string(begin) != "HTTP/1.1 200" {
		t.Fatalf("%s, %v", begin, err)
	}
	await(t, "the place is taken", func() bool { return w.get(t, "/v1/bars?limit=1").status == http.StatusTooManyRequests })
	await(t, "the place is free", func() bool { return w.get(t, "/v1/bars?limit=1").status == http.StatusOK })
}

// TestArrowMemory has bodies that take all the memory that there is for bodies cost others a
// moment, not for ever.
func TestArrowMemory(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	for range 16 {
		w.raw(t, "POST /v1/bars HTTP/1.1\r\nHost: x\r\nContent-Type: application/vnd.apache.arrow.stream\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\n")
	}
	var a answer
	await(t, "a row is refused, as its memory is taken", func() bool {
		a = w.post(t, "/v1/bars", bar("A", 0, 1))
		return a.status == http.StatusTooManyRequests
	})
	a.problem(t, http.StatusTooManyRequests, "too_many_requests", "take all the memory that there is for them")
}

// TestDrainWhileStoreIsDown answers who waits for a commit that will not come, when the
// server is stopped: with what is unwritten.
func TestDrainWhileStoreIsDown(t *testing.T) {
	d := pgtest.Empty(t)
	proxy := pgtest.NewProxy(t, d.Cluster.Addr())
	_, err := postgres.Migrate(t.Context(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(t.Context(), d.Owner, d.Service)
	if err := errors.Join(err, grantErr); err != nil {
		t.Fatal(err)
	}
	w := serve(t, d.Through(d.Service, proxy.Listen), server.Config{})
	w.post(t, "/v1/bars", bar("A", 0, 1))
	proxy.Stop()
	answers := make([]answer, 10)
	var producers sync.WaitGroup
	for i := range answers {
		producers.Go(func() { answers[i] = w.post(t, "/v1/bars", bar("A", 1+i, 1)) })
	}
	await(t, "all are taken in", func() bool {
		return strings.Contains(w.get(t, "/metrics").body, `mds_coord_items_submitted_total{coord_id="bars"} 11`)
	})
	w.stop()
	w.over()
	producers.Wait()
	err = <-w.ended
	if err == nil || !strings.Contains(err.Error(), "10 records unwritten") {
		t.Errorf("it ends with %v", err)
	}
	w.ended <- nil
	for _, a := range answers {
		p := a.problem(t, http.StatusServiceUnavailable, "stopping", "")
		if p.Ledger == nil || p.Ledger.Unwritten != 1 {
			t.Errorf("%+v", p.Ledger)
		}
	}
}

// TestPackedWhenItStops has a packed body that is under way when intake ends be answered as
// another is, by both protocols: with what is committed.
func TestPackedWhenItStops(t *testing.T) {
	for _, protocol := range []string{"HTTP/1.1", "HTTP/2.0"} {
		t.Run(protocol, func(t *testing.T) {
			w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
			protocols := new(http.Protocols)
			protocols.SetHTTP1(protocol == "HTTP/1.1")
			protocols.SetUnencryptedHTTP2(protocol != "HTTP/1.1")
			w.client = &http.Client{Transport: &http.Transport{Protocols: protocols}}
			r, body := io.Pipe()
			ended := make(chan answer)
			go func() {
				ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson", "Content-Encoding", "gzip")
			}()
			z := gzip.NewWriter(body)
			if _, err := io.WriteString(z, bar("A", 0, 1)); err != nil || z.Flush() != nil {
				t.Fatal(err)
			}
			await(t, "the row is stored", func() bool { return strings.Count(w.get(t, "/v1/bars?format=ndjson").body, "\n") == 1 })
			w.server.EndIntake()
			p := (<-ended).problem(t, http.StatusServiceUnavailable, "stopping", "")
			if p.Ledger == nil || p.Ledger.Committed != 1 || p.Ledger.Pending != 0 {
				t.Errorf("%+v", p.Ledger)
			}
			_ = body.Close()
		})
	}
}

// TestPortions takes in batches that are larger than the queue, or than a portion.
func TestPortions(t *testing.T) {
	cfg := server.Config{}
	cfg.Ingest.Capacity = 1000
	w := serve(t, "duckdb://"+t.TempDir(), cfg)
	news := make([]mds.News, 1200)
	for i := range news {
		news[i] = mds.News{Vendor: "v", ID: strconv.Itoa(i), PublishedAt: time.Unix(1_700_000_000, 0), Title: "t", Summary: strings.Repeat("s", 100_000)}
	}
	var body bytes.Buffer
	stream, err := arrow.NewWriter[mds.News](&body, arrow.WriterOptions{BatchRows: 200, Compression: arrow.Zstd})
	if err == nil {
		err = stream.Write(news)
	}
	if err != nil || stream.Close() != nil {
		t.Fatal(err)
	}
	var got client.Answer
	a := w.ask(t, http.MethodPost, "/v1/news", strings.NewReader(zipped(t, body.String())), "Content-Type", "application/vnd.apache.arrow.stream", "Content-Encoding", "gzip")
	if a.into(t, http.StatusOK, &got); got.Read != 1200 || got.Committed != 1200 {
		t.Errorf("%+v", got)
	}
}
