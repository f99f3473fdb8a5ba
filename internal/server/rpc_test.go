package server_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// follower follows feedback over gRPC, until it is refused or ended.
type follower struct {
	events chan feedback.Event
	ended  chan error
	end    context.CancelFunc
}

func follow(t *testing.T, cfg rpc.ClientConfig) *follower {
	t.Helper()
	f := &follower{events: make(chan feedback.Event, 100), ended: make(chan error, 1)}
	cfg.OnEvent = func(e feedback.Event) { f.events <- e }
	c, err := rpc.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	f.end = cancel
	t.Cleanup(cancel)
	go func() { f.ended <- c.Run(ctx) }()
	return f
}

// kinds are those of the next events.
func (f *follower) kinds(t *testing.T, n int) string {
	t.Helper()
	seen := make(map[string]bool)
	limit := time.After(20 * time.Second)
	for len(seen) < n {
		select {
		case e := <-f.events:
			seen[e.Kind] = true
		case err := <-f.ended:
			t.Fatalf("it ends with %v", err)
		case <-limit:
			t.Fatalf("there are only %v", seen)
		}
	}
	return strings.Join(slices.Sorted(maps.Keys(seen)), " ")
}

// TestFeedbackByGRPC serves the events over gRPC, to who may write, and of one kind or all.
func TestFeedbackByGRPC(t *testing.T) {
	dsn := "duckdb://" + t.TempDir()
	st, err := store.Open(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := store.OpenKeys(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	k := &keyed{serve(t, dsn, server.Config{MaxStreams: 2, Keys: apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Nanosecond})}, st), keys}
	writer, _ := k.make(t, "default", time.Time{}, mds.ScopeWrite)
	reader, readerID := k.make(t, "default", time.Time{}, mds.ScopeRead, mds.ScopeAdmin)
	with := func(token string) rpc.ClientConfig {
		return rpc.ClientConfig{URL: k.url, Header: http.Header{"Authorization": {"Bearer " + token}}}
	}
	for _, tt := range []struct {
		name string
		cfg  rpc.ClientConfig
		says string
	}{
		{"without a key", rpc.ClientConfig{URL: k.url}, "unauthenticated: send an API key, as Authorization: Bearer mds_…"},
		{"without the scope", with(reader), "permission_denied: the key " + readerID + " may not do this: it takes the scope write"},
		{"of another tenant", rpc.ClientConfig{URL: k.url, Header: http.Header{"Authorization": {"Bearer " + writer}, "Mds-Tenant": {"other"}}}, "not_found: there is no such tenant"},
	} {
		f := follow(t, tt.cfg)
		if err := <-f.ended; err == nil || !strings.Contains(err.Error(), tt.says) {
			t.Errorf("%s: it ends with %v, want %s", tt.name, err, tt.says)
		}
	}
	cfg := with(writer)
	cfg.Kind = "trades"
	if err := <-follow(t, cfg).ended; err == nil || !strings.Contains(err.Error(), `not_found: there is no queue of "trades" here: kind is one of bars, fundamentals, news, options, or empty for all`) {
		t.Errorf("of another kind it ends with %v", err)
	}
	all := follow(t, with(writer))
	if got := all.kinds(t, 4); got != "bars fundamentals news options" {
		t.Errorf("of all kinds there are %s", got)
	}
	cfg.Kind = "news"
	one := follow(t, cfg)
	if got := one.kinds(t, 1); got != "news" {
		t.Errorf("of news there are %s", got)
	}
	// There are as many streams as there may be, of whatever protocol.
	k.get(t, "/v1/bars/feedback", bearer(writer)...).problem(t, http.StatusTooManyRequests, "too_many_requests", "too many streams of events")
	one.end()
	<-one.ended
	await(t, "there is room for another", func() bool {
		resp, err := k.client.Do(mustRequest(t, k.url+"/v1/bars/feedback", writer))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	})
	// What speaks no gRPC is told so in words.
	if a := k.get(t, "/mds.feedback.v1.FeedbackService/Watch"); a.status != http.StatusUnauthorized {
		t.Errorf("a browser is answered %d, %s", a.status, a.body)
	}
	all.end()
	<-all.ended
}

func mustRequest(t *testing.T, url, token string) *http.Request {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), http.MethodGet, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	return r
}

// TestGRPCOverTLS serves them on the one port with TLS, too.
func TestGRPCOverTLS(t *testing.T) {
	pair := httptest.NewTLSServer(nil) // of which only the certificate is used
	pair.Close()
	w := run(t, "duckdb://"+t.TempDir(), server.Config{}, server.RunConfig{TLS: &tls.Config{Certificates: pair.TLS.Certificates, MinVersion: tls.VersionTLS12}})
	roots := x509.NewCertPool()
	roots.AddCert(pair.Certificate())
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	tr := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, Protocols: protocols}
	defer tr.CloseIdleConnections()
	f := follow(t, rpc.ClientConfig{URL: "https://" + w.addr, HTTPClient: &http.Client{Transport: tr}, Kind: "bars"})
	if got := f.kinds(t, 1); got != "bars" {
		t.Errorf("there are %s", got)
	}
	f.end()
	<-f.ended
}

// TestDrainEndsGRPC has streams end when the server is stopped, so that it can be.
func TestDrainEndsGRPC(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	f := follow(t, rpc.ClientConfig{URL: w.url, Producer: true})
	f.kinds(t, 4)
	w.stop()
	select {
	case err := <-w.ended:
		w.ended <- err
	case <-time.After(10 * time.Second): // a third of what it may drain
		t.Error("the server waits for the stream")
	}
	f.end()
	<-f.ended
}

// silent asks for events, and sends no message, over either HTTP.
func (w *world) silent(t *testing.T, c *http.Client) (ended chan answer) {
	t.Helper()
	body, never := io.Pipe()
	t.Cleanup(func() { _ = never.Close() })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, w.url+"/mds.feedback.v1.FeedbackService/Watch", body)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/grpc")
	ended = make(chan answer, 1)
	go func() {
		resp, err := c.Do(r)
		if err != nil {
			ended <- answer{}
			return
		}
		text, _ := io.ReadAll(resp.Body)
		_ = resp.Body.Close()
		ended <- answer{resp.StatusCode, resp.Header, resp.Trailer, string(text)}
	}()
	return ended
}

// holding is silent that has the one place of the streams: one that came while it was looked
// for who has it was refused, and comes again.
func (w *world) holding(t *testing.T, c *http.Client) chan answer {
	t.Helper()
	ended, refused := w.silent(t, c), 0
	await(t, "it has the place", func() bool {
		select {
		case <-ended:
			ended, refused = w.silent(t, c), 0
			return false
		default:
		}
		resp, err := w.client.Do(mustRequest(t, w.url+"/v1/bars/feedback", ""))
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if refused++; resp.StatusCode != http.StatusTooManyRequests {
			refused = 0
		}
		return refused == 20
	})
	return ended
}

// TestSilentGRPC gives the place of a stream free whose request does not come, and tells who
// is refused meanwhile when to come back.
func TestSilentGRPC(t *testing.T) {
	for name, client := range map[string]func(*testing.T, *world) *http.Client{
		"HTTP/1.1": func(_ *testing.T, w *world) *http.Client { return w.client },
		"HTTP/2":   func(t *testing.T, _ *world) *http.Client { return h2(t) },
	} {
		t.Run(name, func(t *testing.T) {
			w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxStreams: 1, IdleTimeout: 5 * time.Second})
			ended := w.holding(t, client(t, w))
			refused := w.ask(t, http.MethodPost, "/mds.feedback.v1.FeedbackService/Watch", strings.NewReader("\x00\x00\x00\x00\x02{}"), "Content-Type", "application/connect+json")
			if !strings.Contains(strings.ToLower(refused.body), `"metadata":{"retry-after":["1"]}`) {
				t.Errorf("it is refused with %s", refused.body)
			}
			select {
			case <-ended:
			case <-time.After(30 * time.Second):
				t.Fatal("it has the place for longer than it may")
			}
			f := follow(t, rpc.ClientConfig{URL: w.url, Kind: "bars"})
			f.kinds(t, 1)
			f.end()
			<-f.ended
		})
	}
}

// TestDrainEndsSilentGRPC does not wait for requests that do not come.
func TestDrainEndsSilentGRPC(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxStreams: 1})
	ended := w.holding(t, h2(t))
	w.stop()
	select {
	case err := <-w.ended:
		w.ended <- err
	case <-time.After(10 * time.Second): // a third of what it may drain
		t.Error("the server waits for the message")
	}
	<-ended
}
