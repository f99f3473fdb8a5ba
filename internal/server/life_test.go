package server_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/internal/systemd"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// await has something become true.
func await(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.After(30 * time.Second)
	for tick := time.NewTicker(5 * time.Millisecond); !done(); {
		select {
		case <-tick.C:
		case <-limit:
			t.Fatalf("it never comes that %s", what)
		}
	}
}

// TestStoreDown has the store go away and come back: what was taken in waits, more is
// refused before it is read, and in the end all is there.
func TestStoreDown(t *testing.T) {
	d := pgtest.Empty(t)
	proxy := pgtest.NewProxy(t, d.Cluster.Addr())
	_, err := postgres.Migrate(t.Context(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(t.Context(), d.Owner, d.Service)
	if err := errors.Join(err, grantErr); err != nil {
		t.Fatal(err)
	}
	cfg := server.Config{CommitTimeout: 300 * time.Millisecond}
	cfg.Ingest.Circuit = ingest.Circuit{FailureThreshold: 1, HalfOpenAfter: time.Second}
	w := serve(t, d.Through(d.Service, proxy.Listen), cfg)
	await(t, "one is stored", func() bool { return w.post(t, "/v1/bars", bar("A", 0, 1)).status == http.StatusOK })
	proxy.Stop()

	p := w.post(t, "/v1/bars", bar("A", 1, 1)).problem(t, http.StatusServiceUnavailable, "not_committed", "the records are queued")
	if p.Ledger == nil || p.Ledger.Accepted != 1 || p.Ledger.Pending != 1 {
		t.Errorf("%+v", p.Ledger)
	}
	var refused answer
	await(t, "it is told that the store is not well", func() bool {
		refused = w.post(t, "/v1/bars", bar("A", 2, 1))
		return refused.status == http.StatusTooManyRequests
	})
	p = refused.problem(t, http.StatusTooManyRequests, "queue_full", "nothing of this was read")
	if p.Feedback == nil || p.Feedback.Level != "hard" || p.Feedback.Reason != "the backend is not well" || refused.header.Get("Retry-After") != "1" {
		t.Errorf("%+v, after %s", p.Feedback, refused.header.Get("Retry-After"))
	}
	if a := w.get(t, "/readyz"); a.status != http.StatusServiceUnavailable {
		t.Errorf("it is ready: %s", a.body)
	}
	var h client.Health
	if w.get(t, "/healthz").into(t, http.StatusOK, &h); h.State != ingest.Unhealthy {
		t.Errorf("%+v", h)
	}
	if a := w.get(t, "/v1/bars"); a.status != http.StatusServiceUnavailable || strings.Contains(a.body, "127.0.0.1") {
		t.Errorf("a query is answered %d, %s", a.status, a.body)
	}

	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	await(t, "it is ready again", func() bool { return w.get(t, "/readyz").status == http.StatusOK })
	await(t, "what waited is stored", func() bool { return strings.Count(w.get(t, "/v1/bars?format=ndjson").body, "\n") >= 2 })
	await(t, "more is taken in", func() bool { return w.post(t, "/v1/bars", bar("A", 3, 1)).status == http.StatusOK })
}

// TestWatchdog has the service manager be told that the server is ready, is well, also while
// the store is away, and is being stopped; and not that it is well after that.
func TestWatchdog(t *testing.T) {
	d := pgtest.Empty(t)
	proxy := pgtest.NewProxy(t, d.Cluster.Addr())
	_, err := postgres.Migrate(t.Context(), d.Owner, postgres.MigrateConfig{})
	_, grantErr := postgres.GrantService(t.Context(), d.Owner, d.Service)
	if err := errors.Join(err, grantErr); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	told := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for datagram := make([]byte, 100); ; {
			n, err := conn.Read(datagram)
			if err != nil {
				t.Fatalf("it is never told %s: %v", want, err)
			}
			if string(datagram[:n]) == want {
				return
			}
		}
	}
	manager, err := systemd.New(systemd.Config{Socket: path, WatchdogUSec: "20000", Logger: slog.New(slog.DiscardHandler)})
	if err != nil {
		t.Fatal(err)
	}
	w := run(t, d.Through(d.Service, proxy.Listen), server.Config{}, server.RunConfig{Manager: manager})
	told("READY=1")
	told("WATCHDOG=1")
	proxy.Stop()
	await(t, "the store is away", func() bool { return w.get(t, "/readyz").status == http.StatusServiceUnavailable })
	for range 20 { // those that wait to be read, and more
		told("WATCHDOG=1")
	}
	if err := proxy.Start(); err != nil {
		t.Fatal(err)
	}
	w.stop()
	told("STOPPING=1")
	err = <-w.ended
	w.ended <- err
}

// TestDrain has the server stopped under load: every body that was answered with 200 is
// stored, and nothing is left.
func TestDrain(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{})
		var mu sync.Mutex
		acknowledged := make(map[string]bool)
		var producers sync.WaitGroup
		begun := make(chan struct{})
		var once sync.Once
		for p := range 8 {
			producers.Go(func() {
				for n := 0; ; n++ {
					symbol := fmt.Sprintf("P%dN%d", p, n)
					var body strings.Builder
					for i := range 50 {
						body.WriteString(bar(symbol, i, 1))
					}
					resp, err := w.client.Post(w.url+"/v1/bars", "application/x-ndjson", strings.NewReader(body.String()))
					if err != nil {
						return // it listens no more
					}
					text, _ := io.ReadAll(resp.Body)
					_ = resp.Body.Close()
					if resp.StatusCode != http.StatusOK {
						if resp.StatusCode != http.StatusServiceUnavailable {
							t.Errorf("%d %s", resp.StatusCode, text)
						}
						return
					}
					mu.Lock()
					if acknowledged[symbol] = true; len(acknowledged) == 100 {
						once.Do(func() { close(begun) })
					}
					mu.Unlock()
				}
			})
		}
		<-begun
		w.stop()
		producers.Wait()
		err := <-w.ended
		w.ended <- err
		table := store.Bars(w.store)
		for symbol := range acknowledged {
			n, err := table.Count(t.Context(), mds.DefaultTenant(), mds.Selection{Symbols: []string{symbol}})
			if err != nil || n != 50 {
				t.Errorf("%s has %d rows of 50, %v", symbol, n, err)
			}
		}
		for _, l := range w.server.Ledgers() {
			if l.Pending != 0 || l.Accepted < int64(50*len(acknowledged)) || l.Accepted != l.Written {
				t.Errorf("%+v of %d bodies", l, len(acknowledged))
			}
		}
	})
}

// TestDraining takes in nothing new, is not ready, and ends streams of events.
func TestDraining(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	resp, err := w.client.Get(w.url + "/v1/bars/feedback?producer=1")
	if err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() && !strings.HasPrefix(lines.Text(), "data: ") {
	}
	if !strings.Contains(lines.Text(), `"coordinator_id":"bars"`) || !strings.Contains(lines.Text(), `"level":"ok"`) {
		t.Errorf("%q", lines.Text())
	}
	w.server.Drain()
	for lines.Scan() {
	}
	if err := lines.Err(); err != nil {
		t.Error(err)
	}
	_ = resp.Body.Close()
	if a := w.get(t, "/readyz"); a.status != http.StatusServiceUnavailable || !strings.Contains(a.body, "it is being stopped") {
		t.Errorf("%d %s", a.status, a.body)
	}
	if a := w.get(t, "/healthz"); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
	w.post(t, "/v1/bars", bar("A", 0, 1)).problem(t, http.StatusServiceUnavailable, "stopping", "the server is being stopped")
	if a := w.get(t, "/v1/bars"); a.status != http.StatusOK {
		t.Errorf("a query is answered %d", a.status)
	}
}

// raw speaks to the server as no client would.
func (w *world) raw(t *testing.T, text string) *net.TCPConn {
	t.Helper()
	conn, err := (&net.Dialer{}).DialContext(context.Background(), "tcp", w.addr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(conn, text); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return conn.(*net.TCPConn)
}

// said is the answer on a connection.
func said(t *testing.T, conn net.Conn) answer {
	t.Helper()
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return answer{status: resp.StatusCode, header: resp.Header, body: string(text)}
}

const head = "POST /v1/bars HTTP/1.1\r\nHost: x\r\nContent-Type: application/x-ndjson\r\nContent-Length: 10000\r\n\r\n"

// TestSlowBodies has bodies that stop coming, and such that are cut, cost their connection;
// what came of them whole is stored, and told.
func TestSlowBodies(t *testing.T) {
	w := run(t, "duckdb://"+t.TempDir(), server.Config{IdleTimeout: 2 * time.Second}, server.RunConfig{HeaderTimeout: 2 * time.Second})
	slow := w.raw(t, head+bar("A", 0, 1)+`{"vendor":`)
	p := said(t, slow).problem(t, http.StatusRequestTimeout, "body_timeout", "nothing of the body came for 2s")
	if p.Ledger == nil || p.Ledger.Committed != 1 || p.Ledger.Read != 1 {
		t.Errorf("%+v", p.Ledger)
	}
	cut := w.raw(t, head+bar("A", 1, 1)+`{"vendor":`)
	if err := cut.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	p = said(t, cut).problem(t, http.StatusBadRequest, "body_cut", "the body ends too early")
	if p.Ledger == nil || p.Ledger.Committed != 1 {
		t.Errorf("%+v", p.Ledger)
	}
	// A head that never ends.
	loris := w.raw(t, "POST /v1/bars HTTP/1.1\r\nHost: x\r\nX-")
	if _, err := loris.Read(make([]byte, 1)); err == nil {
		t.Log("it is answered before the connection is closed")
	}
	if a := w.get(t, "/v1/bars?format=ndjson"); strings.Count(a.body, "\n") != 2 {
		t.Errorf("%s", a.body)
	}
}

// TestComesSlowly has rows that come one at a time, in a body that goes on, be written as
// they come.
func TestComesSlowly(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	r, body := io.Pipe()
	ended := make(chan answer)
	go func() { ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson") }()
	for n := range 3 {
		if _, err := io.WriteString(body, bar("A", n, 1)); err != nil {
			t.Fatal(err)
		}
		await(t, "the row is stored", func() bool { return strings.Count(w.get(t, "/v1/bars?format=ndjson").body, "\n") == n+1 })
	}
	_ = body.Close()
	var got client.Answer
	if (<-ended).into(t, http.StatusOK, &got); got.Committed != 3 {
		t.Errorf("%+v", got)
	}
}

// TestEndOfIntake has a body that never ends be answered, when the server is stopped, with
// what became of its rows.
func TestEndOfIntake(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	r, body := io.Pipe()
	ended := make(chan answer)
	go func() { ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson") }()
	if _, err := io.WriteString(body, bar("A", 0, 1)+bar("A", 1, 1)); err != nil {
		t.Fatal(err)
	}
	await(t, "the rows are stored", func() bool { return strings.Count(w.get(t, "/v1/bars?format=ndjson").body, "\n") == 2 })
	w.server.EndIntake()
	p := (<-ended).problem(t, http.StatusServiceUnavailable, "stopping", "the server is being stopped")
	if p.Ledger == nil || p.Ledger.Committed != 2 {
		t.Errorf("%+v", p.Ledger)
	}
	_ = body.Close()
}

// TestBomb has a body that is packed as no records are be refused, in little memory.
func TestBomb(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	var packed bytes.Buffer
	z, err := zstd.NewWriter(&packed, zstd.WithEncoderConcurrency(1))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := io.WriteString(z, bar("A", 0, 1)); err != nil {
		t.Fatal(err)
	}
	blank := bytes.Repeat([]byte("\n"), 1<<20)
	for range 80 {
		if _, err := z.Write(blank); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	a := w.ask(t, http.MethodPost, "/v1/bars", &packed, "Content-Type", "application/x-ndjson", "Content-Encoding", "zstd")
	p := a.problem(t, http.StatusRequestEntityTooLarge, "packed_too_tightly", "the zstd body becomes more than 400 times as large")
	if p.Ledger == nil || p.Ledger.Committed != 1 {
		t.Errorf("%+v", p.Ledger)
	}
}

// TestGates has more requests than may be under way be refused.
func TestGates(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxIngests: 1})
	r, body := io.Pipe()
	ended := make(chan answer)
	go func() { ended <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson") }()
	if _, err := io.WriteString(body, bar("A", 0, 1)); err != nil {
		t.Fatal(err)
	}
	var refused answer
	await(t, "another is refused", func() bool {
		refused = w.post(t, "/v1/news", "{}")
		return refused.status == http.StatusTooManyRequests
	})
	refused.problem(t, http.StatusTooManyRequests, "too_many_requests", "too many bodies are under way")
	if refused.header.Get("Retry-After") != "1" {
		t.Error(refused.header)
	}
	_ = body.Close()
	<-ended
	if a := w.post(t, "/v1/bars", bar("A", 1, 1)); a.status != http.StatusOK {
		t.Errorf("%d %s", a.status, a.body)
	}
}

// TestMetrics exports what was asked for, and what the coordinators do.
func TestMetrics(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	w.post(t, "/v1/bars", bar("A", 0, 1))
	w.get(t, "/v1/bars?limit=x")
	text := w.get(t, "/metrics").body
	for _, want := range []string{
		`http_requests_total{method="POST",route="/v1/bars",status="200"} 1`, `http_requests_total{method="GET",route="/v1/bars",status="400"} 1`,
		`http_request_duration_seconds_count{method="POST",route="/v1/bars",status="200"} 1`, `sink_writes_total{sink="bars",status="success"} 1`,
		`mds_coord_items_submitted_total{coord_id="bars"} 1`, `mds_coord_queue_depth{coord_id="news"} 0`, `mds_feedback_level{coord_id="options"} 0`, "go_goroutines", "process_resident_memory_bytes",
		`store_up 1`,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("no %s", want)
		}
	}
}

// TestHTTP2 is spoken, unencrypted too.
func TestHTTP2(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	protocols := new(http.Protocols)
	protocols.SetUnencryptedHTTP2(true)
	transport := &http.Transport{Protocols: protocols}
	client := &http.Client{Transport: transport}
	resp, err := client.Post(w.url+"/v1/bars", "application/x-ndjson", strings.NewReader(bar("A", 0, 1)))
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.ProtoMajor != 2 || resp.StatusCode != http.StatusOK {
		t.Errorf("%s %s", resp.Proto, resp.Status)
	}
	transport.CloseIdleConnections()
}
