package client_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httptrace"
	"net/http/httputil"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/store"
)

// minutes are bars of a series, a minute apart.
func minutes(n int) (bars []mds.Bar) {
	for i := range n {
		bars = append(bars, mds.Bar{Vendor: "v", Symbol: "S", Timeframe: mds.Minute, TS: time.Unix(int64(1_700_000_000/60*60+60*i), 0).UTC(), Close: float64(i)})
	}
	return bars
}

// refuse answers with a problem of the server's.
func refuse(w http.ResponseWriter, status int, code string) {
	w.Header().Set("Content-Type", "application/problem+json")
	w.WriteHeader(status)
	fmt.Fprintf(w, `{"status":%d,"code":%q,"detail":"no"}`, status, code)
}

// taking is a server that writes bars down, once it is well.
type taking struct {
	mu       sync.Mutex
	requests int
	bars     map[time.Time]bool
}

func (s *taking) take(w http.ResponseWriter, r *http.Request) {
	reader, err := arrow.NewReader[mds.Bar](r.Body, arrow.Options{})
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	defer reader.Close()
	into, read := make([]mds.Bar, 100), 0
	for err == nil {
		var n int
		n, _, err = reader.Next(into)
		for _, bar := range into[:n] {
			s.bars[bar.TS.UTC()] = true
		}
		read += n
	}
	fmt.Fprintf(w, `{"read":%d,"accepted":%[1]d,"committed":%[1]d}`, read)
}

// TestCoordinatorWaits has a coordinator wait, rather than give records up one by one, for as
// long as the server takes none whatever they are.
func TestCoordinatorWaits(t *testing.T) {
	for name, away := range map[string]http.HandlerFunc{
		"a revoked key":        func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusUnauthorized, "no_key") },
		"a key without rights": func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusForbidden, "forbidden") },
		"another path":         func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusNotFound, "not_found") },
		"another host":         func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusMisdirectedRequest, "wrong_host") },
		"a fault of its own":   func(w http.ResponseWriter, _ *http.Request) { refuse(w, http.StatusInternalServerError, "internal") },
		"a proxy":              func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusInternalServerError) },
		"a proxy that refuses": func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "<html>", http.StatusBadRequest) },
		"a login": func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, "https://login.example.com", http.StatusMovedPermanently)
		},
		"silence": func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			<-r.Context().Done()
		},
	} {
		t.Run(name, func(t *testing.T) {
			well := make(chan struct{})
			s := &taking{bars: make(map[time.Time]bool)}
			front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				s.mu.Lock()
				s.requests++
				s.mu.Unlock()
				select {
				case <-well:
					s.mu.Lock()
					defer s.mu.Unlock()
					s.take(w, r)
				default:
					away(w, r)
				}
			}))
			defer front.Close()
			c, err := client.New(client.Config{URL: front.URL, MaxRetries: -1, HTTPClient: front.Client()})
			if err != nil {
				t.Fatal(err)
			}
			co, err := ingest.New(t.Context(), client.TableOf[mds.Bar](c), ingest.Config[mds.Bar]{
				FlushInterval: 10 * time.Millisecond, WriteTimeout: 200 * time.Millisecond,
				Circuit: ingest.Circuit{FailureThreshold: 1, HalfOpenAfter: 20 * time.Millisecond},
			})
			if err != nil {
				t.Fatal(err)
			}
			receipt, err := co.For(mds.DefaultTenant()).Submit(t.Context(), minutes(100)...)
			if err != nil {
				t.Fatal(err)
			}
			for patience := time.Now().Add(10 * time.Second); co.Stats().Failures < 6 && time.Now().Before(patience); {
				<-time.After(time.Millisecond)
			}
			close(well)
			if o, err := receipt.Wait(t.Context()); err != nil || o.Committed != 100 {
				t.Errorf("%+v, %v", o, err)
			}
			if err := co.Stop(t.Context()); err != nil {
				t.Error(err)
			}
			if len(s.bars) != 100 || s.requests > 20 {
				t.Errorf("%d of 100 bars in %d requests", len(s.bars), s.requests)
			}
		})
	}
}

// TestFaults says of each answer whether it is about the request, and whether the client asks
// again.
func TestFaults(t *testing.T) {
	for _, tt := range []struct {
		status                 int
		code                   string // of the document; "" is none
		unavailable, retryable bool
	}{
		{400, "unreadable_body", false, false},
		{404, "unknown_tenant", false, false},
		{404, "unknown_job", false, false},
		{409, "conflict", false, false},
		{413, "record_too_large", false, false},
		{415, "unsupported_media_type", false, false},
		{422, "record_refused", false, false},
		{400, "", true, false},
		{404, "", true, false},
		{422, "", true, false},
		{401, "no_key", true, false},
		{403, "forbidden", true, false},
		{404, "not_found", true, false},
		{405, "method_not_allowed", true, false},
		{421, "wrong_host", true, false},
		{500, "internal", true, false},
		{505, "http_version", true, false},
		{408, "body_timeout", true, true},
		{429, "queue_full", true, true},
		{502, "", true, true},
		{503, "store_unavailable", true, true},
	} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			if tt.code == "" {
				http.Error(w, "<html>", tt.status)
				return
			}
			refuse(w, tt.status, tt.code)
		}))
		c, err := client.New(client.Config{URL: s.URL, MaxRetries: -1, HTTPClient: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = c.Health(t.Context())
		if mds.Unavailable(err) != tt.unavailable || mds.Retryable(err) != tt.retryable {
			t.Errorf("%d %s: unavailable %t, retryable %t: %v", tt.status, tt.code, mds.Unavailable(err), mds.Retryable(err), err)
		}
		s.Close()
	}
}

// TestRedirects follows none, and says where the server leads.
func TestRedirects(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		calls.Add(1)
		http.Redirect(w, r, "https://mds.example.com"+strings.TrimPrefix(r.URL.RequestURI(), "/old"), http.StatusMovedPermanently)
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL + "/old", HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	bars := client.TableOf[mds.Bar](c)
	_, deleting := bars.Delete(t.Context(), mds.Tenant{}, mds.Selection{Symbols: []string{"A"}})
	for _, err := range []error{bars.Write(t.Context(), minutes(1)...), deleting} {
		var e *client.Error
		if !errors.As(err, &e) || e.Status != http.StatusMovedPermanently || err.Error() != "the server leads to https://mds.example.com: set the URL to that" {
			t.Errorf("%v", err)
		}
	}
	if calls.Load() != 2 || s.Client().CheckRedirect != nil {
		t.Errorf("%d requests", calls.Load())
	}
}

// TestDeleteOnce makes a request once that may have removed something.
func TestDeleteOnce(t *testing.T) {
	var calls atomic.Int32
	s := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		calls.Add(1)
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, Backoff: time.Millisecond, HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	if _, err = client.TableOf[mds.Bar](c).Delete(t.Context(), mds.Tenant{}, mds.Selection{}); err == nil || calls.Load() != 1 {
		t.Errorf("%v after %d requests", err, calls.Load())
	}
}

// TestCutDocument has a document that ends too early be the connection's fault.
func TestCutDocument(t *testing.T) {
	for body, retryable := range map[string]bool{`{"count":`: true, `<html>`: false} {
		s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "100")
			_, _ = io.WriteString(w, body)
		}))
		c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
		if err != nil {
			t.Fatal(err)
		}
		_, err = client.TableOf[mds.Bar](c).Count(t.Context(), mds.Tenant{}, mds.Selection{})
		if err == nil || mds.Retryable(err) != retryable || !mds.Unavailable(err) {
			t.Errorf("%s: %v", body, err)
		}
		s.Close()
	}
}

// breaking is the body of an answer whose reader breaks it off, whereupon the other side ends
// it as if it were whole.
type breaking struct {
	io.Reader
	off func()
}

func (b breaking) Read(p []byte) (int, error) {
	n, err := b.Reader.Read(p)
	if errors.Is(err, io.EOF) {
		b.off()
	}
	return n, err
}

func (b breaking) Close() error { return nil }

func (b breaking) RoundTrip(*http.Request) (*http.Response, error) {
	return &http.Response{StatusCode: http.StatusOK, Header: http.Header{}, Body: b}, nil
}

// TestBrokenOff takes no end of an answer for the end of the records once it was broken off.
func TestBrokenOff(t *testing.T) {
	var bars strings.Builder
	w, err := arrow.NewWriter[mds.Bar](&bars, arrow.WriterOptions{})
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(minutes(3)), w.Flush()); err != nil {
		t.Fatal(err)
	}
	connect := func(body string) (context.Context, *client.Client) {
		ctx, cancel := context.WithCancel(t.Context())
		t.Cleanup(cancel)
		c, err := client.New(client.Config{URL: "http://mds.example", HTTPClient: &http.Client{Transport: breaking{strings.NewReader(body), cancel}}})
		if err != nil {
			t.Fatal(err)
		}
		return ctx, c
	}
	var n int
	ctx, c := connect(bars.String())
	for _, err = range client.TableOf[mds.Bar](c).Query(ctx, mds.Tenant{}, mds.Query{}) {
		n++
	}
	if n != 4 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v: want 3 bars and what ended them", n, err)
	}
	n = 0
	ctx, c = connect(`{"id":"1"}` + "\n")
	for _, err = range c.Letters(ctx, mds.Tenant{}, client.LetterFilter{}) {
		n++
	}
	if n != 2 || !errors.Is(err, context.Canceled) {
		t.Errorf("%d, %v: want a letter and what ended them", n, err)
	}
}

// TestHalves sends what is too large for one request in several, so that the last of a key
// wins all the same; but not under an idempotency key.
func TestHalves(t *testing.T) {
	w := serve(t, client.Config{})
	transport := &http.Transport{}
	defer transport.CloseIdleConnections()
	proxy := httputil.NewSingleHostReverseProxy(&url.URL{Scheme: "http", Host: w.addr})
	proxy.Transport = transport
	const most = 8000
	var taken atomic.Int32
	front := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.ContentLength > most {
			_, _ = io.Copy(io.Discard, r.Body)
			refuse(w, http.StatusRequestEntityTooLarge, "body_too_large")
			return
		}
		if r.Method == http.MethodPost {
			taken.Add(1)
		}
		proxy.ServeHTTP(w, r)
	}))
	defer front.Close()
	c, err := client.New(client.Config{URL: front.URL, HTTPClient: front.Client()})
	if err != nil {
		t.Fatal(err)
	}
	bars := client.TableOf[mds.Bar](c)
	batch := minutes(400)
	batch[399].TS, batch[399].Close = batch[0].TS, 7
	stored := func() []mds.Bar {
		return collect(t, store.Bars(w.store).Query(t.Context(), mds.DefaultTenant(), mds.Query{}))
	}

	receipt, err := bars.WriteBatch(t.Context(), mds.Tenant{}, batch)
	if got := stored(); err != nil || receipt.Written != 400 || len(got) != 399 || got[0].Close != 7 || taken.Load() < 2 {
		t.Errorf("%+v, %v: %d bars in %d requests, the first %v", receipt, err, len(got), taken.Load(), got[0])
	}
	for i := range batch {
		batch[i].Symbol = "LATE"
	}
	receipt, err = bars.WriteLate(t.Context(), mds.Tenant{}, batch, time.Now())
	got := slices.DeleteFunc(stored(), func(b mds.Bar) bool { return b.Symbol != "LATE" })
	if err != nil || receipt.Written+receipt.Unchanged+receipt.Superseded != 400 || len(got) != 399 || got[0].Close != 7 {
		t.Errorf("late: %+v, %v: %d bars, the first %v", receipt, err, len(got), got[0])
	}
	var e *client.Error
	if _, err = bars.WriteOnce(t.Context(), mds.Tenant{}, "k", batch); !errors.As(err, &e) || e.Code != "body_too_large" {
		t.Errorf("under a key: %v", err)
	}
}

// TestOldZones asks for the bounds that are meant, where the offset of a zone has seconds and
// where a day begins later than at midnight.
func TestOldZones(t *testing.T) {
	w := serve(t, client.Config{})
	here, there := client.TableOf[mds.Bar](w.Client), store.Bars(w.store)
	zone := func(name string) *time.Location {
		z, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		return z
	}
	monrovia, sao := zone("Africa/Monrovia"), zone("America/Sao_Paulo") // -00:44:30 until 1972; no midnight on 2018-11-04
	first, gap := time.Date(1970, 6, 1, 0, 0, 0, 0, monrovia), time.Date(2018, 11, 4, 1, 0, 0, 0, sao)
	var bars []mds.Bar
	for _, at := range []time.Time{first, gap} {
		for _, by := range []time.Duration{-24 * time.Hour, -time.Minute, -time.Second, 0, time.Second, time.Minute, 24 * time.Hour} {
			bars = append(bars, mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1s", TS: at.Add(by).UTC(), Close: 1})
		}
		for day := -2; day < 3; day++ {
			y, m, d := at.Date()
			bars = append(bars, mds.Bar{Vendor: "v", Symbol: "S", Timeframe: mds.Day, TS: time.Date(y, m, d+day, 0, 0, 0, 0, time.UTC), Close: 1})
		}
	}
	if err := here.Write(t.Context(), bars...); err != nil {
		t.Fatal(err)
	}
	for _, at := range []time.Time{first, first.Add(-15 * time.Second), first.Add(time.Nanosecond), first.Add(-24*time.Hour + 30*time.Second), first.Add(-23 * time.Hour), gap, gap.Add(time.Second)} {
		for _, sel := range []mds.Selection{{Start: at}, {End: at}} {
			want, wantErr := there.Count(t.Context(), mds.DefaultTenant(), sel)
			got, err := here.Count(t.Context(), mds.Tenant{}, sel)
			if err != nil || wantErr != nil || got != want {
				t.Errorf("%s (start %t): %d, want %d; %v %v", at, sel.End.IsZero(), got, want, err, wantErr)
			}
		}
	}
}

// TestCloseLeavesOthers closes no connection of a client that others use, too.
func TestCloseLeavesOthers(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, "{}") }))
	defer s.Close()
	defer http.DefaultClient.CloseIdleConnections()
	reused := false
	ctx := httptrace.WithClientTrace(t.Context(), &httptrace.ClientTrace{GotConn: func(info httptrace.GotConnInfo) { reused = info.Reused }})
	for range 2 {
		c, err := client.New(client.Config{URL: s.URL})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.Health(ctx); err != nil {
			t.Fatal(err)
		}
		if err := c.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if !reused {
		t.Error("the connection of http.DefaultClient was closed")
	}
}

// TestLate has a server that does not answer in time not be well, whoever set the time.
func TestLate(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Millisecond)
	defer cancel()
	if _, err := c.Health(ctx); !errors.Is(err, context.DeadlineExceeded) || !mds.Unavailable(err) || !mds.Retryable(err) {
		t.Errorf("%v: unavailable %t, retryable %t", err, mds.Unavailable(err), mds.Retryable(err))
	}
}
