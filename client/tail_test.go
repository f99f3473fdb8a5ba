package client_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

const tailBar = `{"vendor":"v","symbol":"A","timeframe":"1m","ts":"2026-01-02T14:30:00Z","open":null,"close":%d}` + "\n"

// stream serves one connection after the other, each by its own function, and the last for
// ever.
func stream(t *testing.T, connections ...func(w http.ResponseWriter, r *http.Request)) string {
	t.Helper()
	var n atomic.Int64
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/stream" || r.Header.Get("Accept") != "text/event-stream" {
			t.Errorf("%s, accepting %s", r.URL, r.Header.Get("Accept"))
		}
		w.Header().Set("Content-Type", "text/event-stream")
		connections[min(int(n.Add(1)), len(connections))-1](w, r)
	}))
	t.Cleanup(s.Close)
	return s.URL
}

// say sends some of a stream.
func say(w http.ResponseWriter, format string, args ...any) {
	fmt.Fprintf(w, format, args...)
	w.(http.Flusher).Flush()
}

func newTail(t *testing.T, url string) *client.Table[mds.Bar] {
	t.Helper()
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	c, err := client.New(client.Config{URL: url, Backoff: time.Millisecond, HTTPClient: &http.Client{Transport: transport, Timeout: time.Millisecond}})
	if err != nil {
		t.Fatal(err)
	}
	return client.TableOf[mds.Bar](c)
}

// TestTail follows over several connections, from where the one before ended, and tells of
// each gap at its place, until the server refuses it.
func TestTail(t *testing.T) {
	var last []string
	url := stream(t,
		func(w http.ResponseWriter, r *http.Request) {
			if q := r.URL.Query(); q.Get("kind") != "bars" || q.Get("symbol") != "A" || r.Header.Get("Last-Event-ID") != "" {
				t.Errorf("%s %v", r.URL, r.Header)
			}
			say(w, "retry: 1000\nid: e-0\n\n")
			say(w, "event: bars\ndata: "+tailBar+"data: "+tailBar+"id: e-2\n\n", 1, 2)
			say(w, ": 2026-01-02T14:30:00Z\nid: e-3\n\nevent: of a newer version\ndata: x\n\n")
			say(w, "event: gap\ndata: {\"reason\":\"slow\",\"lost\":3,\"at_most\":3}\nid: e-6\n\n")
			say(w, "event: bars\ndata: "+tailBar, 99) // which is cut
		},
		func(w http.ResponseWriter, r *http.Request) {
			last = append(last, r.Header.Get("Last-Event-ID"))
			w.WriteHeader(http.StatusServiceUnavailable)
		},
		func(w http.ResponseWriter, r *http.Request) {
			last = append(last, r.Header.Get("Last-Event-ID"))
			say(w, "id: e-9\n\nevent: gap\ndata: {\"reason\":\"away\",\"lost\":0,\"at_most\":3}\nid: e-9\n\n")
			say(w, "event: gap\ndata: {\"reason\":\"restarted\",\"lost\":0}\n\nevent: bars\ndata: "+tailBar+"id: e-10\n\n", 4)
		},
		func(w http.ResponseWriter, r *http.Request) {
			last = append(last, r.Header.Get("Last-Event-ID"))
			w.WriteHeader(http.StatusUnauthorized)
		},
	)
	var got []string
	query := client.TailQuery{
		Selection: mds.Selection{Symbols: []string{"A"}}, Connected: func() { got = append(got, "connected") },
		Disconnected: func(err error) { got = append(got, "lost: "+err.Error()) },
	}
	for bars, err := range newTail(t, url).Tail(t.Context(), mds.Tenant{}, query) {
		if err != nil {
			got = append(got, err.Error())
		}
		for _, b := range bars {
			got = append(got, fmt.Sprint(b.Symbol, b.Close))
		}
	}
	want := []string{
		"connected", "A1", "A2", "3 records were missed: what is read is read too slowly",
		"lost: the server does not answer: the server has ended the stream", "lost: the server answers 503 Service Unavailable", "connected",
		"at most 3 records were missed: the connection was lost",
		"some records, nobody knows how many, were missed: the server was started again", "A4",
		"lost: the server does not answer: the server has ended the stream", "the server answers 401 Unauthorized",
	}
	if !slices.Equal(got, want) {
		t.Errorf("%q\nwant %q", got, want)
	}
	if want := []string{"e-6", "e-6", "e-10"}; !slices.Equal(last, want) {
		t.Errorf("it comes back after %q, want %q", last, want)
	}
}

// TestTailSilent takes a connection over which nothing comes for lost.
func TestTailSilent(t *testing.T) {
	silent := func(w http.ResponseWriter, r *http.Request) {
		say(w, "id: e-0\n\n")
		<-r.Context().Done()
	}
	url := stream(t, silent, func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNotFound) })
	var lost error
	query := client.TailQuery{Heartbeat: 10 * time.Millisecond, Disconnected: func(err error) { lost = err }}
	for _, err := range newTail(t, url).Tail(t.Context(), mds.Tenant{}, query) {
		var e *client.Error
		if !errors.As(err, &e) || e.Status != http.StatusNotFound {
			t.Error(err)
		}
	}
	if lost == nil || lost.Error() != "the server does not answer: nothing was heard for three heartbeats" {
		t.Error(lost)
	}
}

// TestTailEnds ends with who reads, with its context, and at once where the server refuses
// it or there is none.
func TestTailEnds(t *testing.T) {
	ended := make(chan struct{}, 2)
	url := stream(t, func(w http.ResponseWriter, r *http.Request) {
		say(w, "id: e-0\n\nevent: bars\ndata: "+tailBar+"id: e-1\n\n", 1)
		<-r.Context().Done()
		ended <- struct{}{}
	})
	for bars, err := range newTail(t, url).Tail(t.Context(), mds.Tenant{}, client.TailQuery{}) {
		if err != nil || len(bars) != 1 {
			t.Error(bars, err)
		}
		break
	}
	<-ended
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	for _, err := range newTail(t, url).Tail(ctx, mds.Tenant{}, client.TailQuery{}) {
		if n++; n == 2 && !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		cancel()
	}
	if <-ended; n != 2 {
		t.Errorf("%d are yielded", n)
	}
	for name, tt := range map[string]struct {
		url  string
		sel  mds.Selection
		want string
	}{
		"none there": {"http://127.0.0.1:1", mds.Selection{}, "the server does not answer: "},
		"a window":   {url, mds.Selection{Start: time.Now()}, "client: what is followed has no window"},
		"no column":  {url, mds.Selection{Where: map[string][]string{"strike": {"1"}}}, "bars have no identity column"},
	} {
		n := 0
		for _, err := range newTail(t, tt.url).Tail(t.Context(), mds.Tenant{}, client.TailQuery{Selection: tt.sel}) {
			if n++; err == nil || len(err.Error()) < len(tt.want) || err.Error()[:len(tt.want)] != tt.want {
				t.Errorf("%s: %v", name, err)
			}
		}
		if n != 1 {
			t.Errorf("%s: %d are yielded", name, n)
		}
	}
}
