package rpc

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1/feedbackv1connect"
)

// heard collects what a client hands over.
type heard struct {
	events chan feedback.Event
	lost   chan string
}

func listen() *heard {
	return &heard{events: make(chan feedback.Event, 1000), lost: make(chan string, 1000)}
}

func (h *heard) config(url string) ClientConfig {
	return ClientConfig{
		URL: url, Backoff: time.Millisecond, MaxBackoff: 5 * time.Millisecond,
		OnEvent: func(e feedback.Event) { h.events <- e }, OnLost: func(id string) { h.lost <- id },
	}
}

// until takes events until one of a level.
func (h *heard) until(t *testing.T, l feedback.Level) feedback.Event {
	t.Helper()
	for {
		if e := receive(t, h.events, "an event at "+string(l)); e.Level == l {
			return e
		}
	}
}

func TestClient(t *testing.T) {
	bus := feedback.NewBus(nil)
	bus.Publish(full)
	s, ended := serveBus(t, "", bus, HandlerConfig{})
	h := listen()
	cfg := h.config(s.URL + "/") // a slash is no other service
	cfg.Producer = true
	cfg.Header = http.Header{"Authorization": {"Bearer token"}}
	stop := start(t, cfg)
	if e := receive(t, h.events, "the newest event"); e != full {
		t.Errorf("the first is %+v, not %+v", e, full)
	}
	if bus.Listeners() != 1 || bus.Producers() != 1 {
		t.Errorf("there are %d listeners and %d producers", bus.Listeners(), bus.Producers())
	}
	for n := range int64(10) {
		bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "soft", QueueSize: n})
	}
	for n := range int64(10) {
		if e := receive(t, h.events, "an event"); e.QueueSize != n || e.Level != feedback.Soft {
			t.Errorf("event %d is %+v", n, e)
		}
	}
	stop()
	r := receive(t, ended, "the end of the request")
	if r.Header.Get("Authorization") != "Bearer token" || r.ProtoMajor != 2 || r.Header.Get("Content-Type") != "application/grpc" {
		t.Errorf("the request was HTTP/%d with %v", r.ProtoMajor, r.Header)
	}
	if len(h.lost) != 0 || bus.Producers() != 0 {
		t.Errorf("%d outages; %d producers are left", len(h.lost), bus.Producers())
	}
}

// A server is killed in the middle of hard, and another comes in its place.
func TestResume(t *testing.T) {
	var log bytes.Buffer
	first := feedback.NewBus(nil)
	first.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard", RetryAfterMS: 100})
	s, _ := serveBus(t, "", first, HandlerConfig{})
	h := listen()
	cfg := h.config(s.URL)
	cfg.Heartbeat = time.Hour
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	stop := start(t, cfg)
	h.until(t, "hard")
	address := s.Listener.Addr().String()
	kill(s)

	second := feedback.NewBus(nil)
	second.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "ok", SuggestedRate: 5000})
	serveBus(t, address, second, HandlerConfig{})
	want := feedback.Event{CoordinatorID: "bars-1", Level: "ok", SuggestedRate: 5000}
	if e := receive(t, h.events, "the newest event"); e != want {
		t.Errorf("it goes on with %+v, not %+v", e, want)
	}
	second.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "soft"})
	h.until(t, "soft")
	stop()
	if len(h.lost) != 0 {
		t.Error("an outage shorter than three heartbeats was reported")
	}
	if strings.Count(log.String(), "feedback was interrupted") != 1 || strings.Count(log.String(), "feedback goes on") != 1 {
		t.Errorf("the log says of one outage:\n%s", log.String())
	}
}

// attempts counts requests, and announces each.
type attempts struct {
	http.RoundTripper
	made chan struct{}
}

func (a *attempts) RoundTrip(r *http.Request) (*http.Response, error) {
	a.made <- struct{}{}
	return a.RoundTripper.RoundTrip(r)
}

func TestLostOncePerOutage(t *testing.T) {
	h := listen()
	tr := transport(time.Hour)
	defer tr.CloseIdleConnections()
	made := make(chan struct{}, 100_000)
	address := ""
	for outage := 1; outage <= 2; outage++ {
		bus := feedback.NewBus(nil)
		bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard"})
		s, _ := serveBus(t, address, bus, HandlerConfig{Heartbeat: 50 * time.Millisecond})
		if outage == 1 {
			address = s.Listener.Addr().String()
			cfg := h.config(s.URL)
			cfg.Heartbeat = 300 * time.Millisecond // more than the server's: a machine may be busy
			cfg.HTTPClient = &http.Client{Transport: &attempts{tr, made}}
			start(t, cfg)
		}
		for range 3 { // heartbeats among them
			h.until(t, "hard")
		}
		kill(s)
		if id := receive(t, h.lost, "the loss"); id != "bars-1" {
			t.Errorf("%q is lost", id)
		}
		for len(made) > 0 {
			<-made
		}
		for range 100 {
			receive(t, made, "another try")
		}
		if n := len(h.lost); n != 0 {
			t.Fatalf("outage %d was reported %d times more", outage, n)
		}
		for len(h.events) > 0 {
			<-h.events
		}
	}
}

// A connection that is dead, which neither side was told of.
func TestDeadConnection(t *testing.T) {
	bus := feedback.NewBus(nil)
	bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard"})
	s, _ := serveBus(t, "", bus, HandlerConfig{Heartbeat: 20 * time.Millisecond})
	p := newProxy(t, s.Listener.Addr().String())
	h := listen()
	cfg := h.config("http://" + p.Addr().String())
	cfg.Heartbeat = 20 * time.Millisecond
	start(t, cfg)
	h.until(t, "hard")
	p.swallow()
	if id := receive(t, h.lost, "the loss"); id != "bars-1" {
		t.Errorf("%q is lost", id)
	}
	bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "ok"})
	since := time.Now()
	h.until(t, "ok") // over another connection, not after 250 streams on the dead one, which HTTP/2 has room for
	if took := time.Since(since); took > 5*time.Second {
		t.Errorf("it took %v", took)
	}
	if n := p.connections(); n < 2 {
		t.Errorf("there were %d connections", n)
	}
}

// A server that hangs is left, and asked anew.
func TestSilentStream(t *testing.T) {
	event := func(l feedbackv1.Level, suggested float64) *feedbackv1.Event {
		return &feedbackv1.Event{CoordinatorId: "c", Level: l, SuggestedRate: suggested}
	}
	for _, c := range []struct {
		name  string
		first []*feedbackv1.Event
	}{
		{"after an event", []*feedbackv1.Event{event(feedbackv1.Level_LEVEL_HARD, 0)}},
		{"after what is no event", []*feedbackv1.Event{event(feedbackv1.Level_LEVEL_HARD, 0), event(feedbackv1.Level_LEVEL_OK, -1)}},
		{"from the beginning", nil},
	} {
		t.Run(c.name, func(t *testing.T) {
			var mu sync.Mutex
			first := true
			s := serveScript(t, func(ctx context.Context, stream *connect.ServerStream[feedbackv1.Event]) error {
				mu.Lock()
				events := []*feedbackv1.Event{event(feedbackv1.Level_LEVEL_SOFT, 0)}
				if first {
					events, first = c.first, false
				}
				mu.Unlock()
				for _, e := range events {
					if err := stream.Send(e); err != nil {
						return err
					}
				}
				<-ctx.Done()
				return nil
			})
			h := listen()
			cfg := h.config(s.URL)
			cfg.Heartbeat = 20 * time.Millisecond
			stop := start(t, cfg)
			h.until(t, "soft")
			stop()
		})
	}
}

// The client closes the connections that it made.
func TestClosesConnections(t *testing.T) {
	bus := feedback.NewBus(nil)
	bus.Publish(full)
	_, handler := NewHandler(bus, HandlerConfig{})
	closed := make(chan struct{}, 10)
	s := httptest.NewUnstartedServer(handler)
	s.Config.Protocols = both()
	s.Config.ConnState = func(_ net.Conn, state http.ConnState) {
		if state == http.StateClosed {
			closed <- struct{}{}
		}
	}
	s.Start()
	defer s.Close()
	h := listen()
	stop := start(t, h.config(s.URL))
	h.until(t, "hard")
	stop()
	receive(t, closed, "the end of the connection")
}

// proxy passes on connections, and can swallow what comes on those that are there.
type proxy struct {
	net.Listener
	mu    sync.Mutex
	conns []net.Conn
	dead  int // of the first conns
	busy  sync.WaitGroup
}

func newProxy(t *testing.T, to string) *proxy {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &proxy{Listener: l}
	p.busy.Go(func() {
		for {
			here, err := l.Accept()
			if err != nil {
				return
			}
			there, err := new(net.Dialer).Dial("tcp", to)
			if err != nil {
				_ = here.Close()
				continue
			}
			p.mu.Lock()
			n := len(p.conns) / 2
			p.conns = append(p.conns, here, there)
			p.mu.Unlock()
			p.busy.Go(func() { p.pass(n, here, there) })
			p.busy.Go(func() { p.pass(n, there, here) })
		}
	})
	t.Cleanup(func() {
		_ = l.Close()
		p.mu.Lock()
		for _, c := range p.conns {
			_ = c.Close()
		}
		p.mu.Unlock()
		p.busy.Wait()
	})
	return p
}

func (p *proxy) pass(n int, from io.Reader, to net.Conn) {
	buf := make([]byte, 4096)
	for {
		k, err := from.Read(buf)
		p.mu.Lock()
		dead := n < p.dead
		p.mu.Unlock()
		if dead && err == nil {
			continue
		}
		if err == nil {
			_, err = to.Write(buf[:k])
		}
		if err != nil {
			if !dead {
				_ = to.Close()
			}
			return
		}
	}
}

// swallow has nothing pass any more on the connections that are there.
func (p *proxy) swallow() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.dead = len(p.conns) / 2
}

func (p *proxy) connections() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return len(p.conns) / 2
}

// scripted answers Watch with what a test says.
type scripted func(context.Context, *connect.ServerStream[feedbackv1.Event]) error

func (f scripted) Watch(ctx context.Context, _ *connect.Request[feedbackv1.WatchRequest], s *connect.ServerStream[feedbackv1.Event]) error {
	return f(ctx, s)
}

func serveScript(t *testing.T, f scripted) *httptest.Server {
	t.Helper()
	_, h := feedbackv1connect.NewFeedbackServiceHandler(f)
	return serve(t, "", h)
}

func TestGivesUp(t *testing.T) {
	status := func(code int) http.Handler {
		return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(code) })
	}
	grpc := func(code connect.Code) http.Handler {
		_, h := feedbackv1connect.NewFeedbackServiceHandler(scripted(func(context.Context, *connect.ServerStream[feedbackv1.Event]) error {
			return connect.NewError(code, errors.New("no"))
		}))
		return h
	}
	for _, c := range []struct {
		name string
		h    http.Handler
		want string
	}{
		{"unauthenticated", grpc(connect.CodeUnauthenticated), "unauthenticated: no"},
		{"no permission", grpc(connect.CodePermissionDenied), "permission_denied: no"},
		{"unimplemented", grpc(connect.CodeUnimplemented), "unimplemented: no"},
		{"HTTP 401", status(401), "unauthenticated: HTTP status 401 Unauthorized"},
		{"HTTP 403", status(403), "permission_denied: HTTP status 403 Forbidden"},
		{"another server", http.NotFoundHandler(), "unimplemented: HTTP status 404 Not Found"},
	} {
		t.Run(c.name, func(t *testing.T) {
			s := serve(t, "", c.h)
			client, err := NewClient(listen().config(strings.Replace(s.URL, "://", "://me:secret@", 1)))
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			err = client.Run(ctx)
			want := "feedback from " + strings.Replace(s.URL, "://", "://me:xxxxx@", 1) + ": " + c.want
			if err == nil || err.Error() != want {
				t.Errorf("it ends with\n%v, not\n%s", err, want)
			}
		})
	}
}

// Whatever else a server says, it is asked again.
func TestGoesOn(t *testing.T) {
	var mu sync.Mutex
	codes := []connect.Code{connect.CodeInternal, connect.CodeUnavailable, connect.CodeUnknown, connect.CodeResourceExhausted, connect.CodeCanceled}
	s := serveScript(t, func(_ context.Context, stream *connect.ServerStream[feedbackv1.Event]) error {
		mu.Lock()
		defer mu.Unlock()
		if len(codes) > 0 {
			code := codes[0]
			codes = codes[1:]
			return connect.NewError(code, errors.New("not now"))
		}
		return stream.Send(toProto(&full))
	})
	h := listen()
	start(t, h.config(s.URL))
	for range 2 { // the stream that ends well is opened again too
		if e := receive(t, h.events, "an event"); e != full {
			t.Errorf("it is %+v", e)
		}
	}
}

// What a newer server says is kept, and what is no event is passed over.
func TestNewerServer(t *testing.T) {
	var log bytes.Buffer
	s := serveScript(t, func(ctx context.Context, stream *connect.ServerStream[feedbackv1.Event]) error {
		for _, e := range []*feedbackv1.Event{
			{CoordinatorId: "c", Level: 17},
			{CoordinatorId: "c", LevelName: "melting"},
			{CoordinatorId: "c", Level: feedbackv1.Level_LEVEL_OK, SuggestedRate: -1},
			{CoordinatorId: "c", Level: feedbackv1.Level_LEVEL_SOFT},
		} {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
		<-ctx.Done()
		return nil
	})
	h := listen()
	cfg := h.config(s.URL)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	stop := start(t, cfg)
	for _, want := range []feedback.Level{"17", "melting", "soft"} {
		if e := receive(t, h.events, "an event"); e.Level != want {
			t.Errorf("the level is %q, not %q", e.Level, want)
		}
	}
	stop()
	if !strings.Contains(log.String(), `msg="a feedback event is passed over" url=`+s.URL+` error="feedback event: suggested_rate is -1"`) {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestHandlerPanics(t *testing.T) {
	var log bytes.Buffer
	bus := feedback.NewBus(nil)
	bus.Publish(full)
	s, _ := serveBus(t, "", bus, HandlerConfig{})
	h := listen()
	cfg := h.config(s.URL)
	cfg.Logger = slog.New(slog.NewTextHandler(&log, nil))
	cfg.OnEvent = func(e feedback.Event) {
		h.events <- e
		panic("boom")
	}
	stop := start(t, cfg)
	h.until(t, "hard")
	bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "ok"})
	h.until(t, "ok")
	stop()
	if strings.Count(log.String(), `msg="a feedback handler panicked" url=`+s.URL+" panic=boom") != 2 {
		t.Errorf("the log says:\n%s", log.String())
	}
}

func TestNewClient(t *testing.T) {
	on := func(feedback.Event) {}
	for _, c := range []struct {
		name string
		cfg  ClientConfig
		want string
	}{
		{"nothing", ClientConfig{}, "feedback client: URL is \"\": write https://host:port\nOnEvent is missing"},
		{"no scheme", ClientConfig{URL: "host:80", OnEvent: on}, `feedback client: URL is "host:80": write https://host:port`},
		{"a password", ClientConfig{URL: "ftp://me:secret@host", OnEvent: on}, `feedback client: URL is "ftp://me:xxxxx@host": write https://host:port`},
		{"a password in what is no URL", ClientConfig{URL: "http://me:secret@host:x", OnEvent: on}, `feedback client: URL cannot be read: write https://host:port`},
		{"less than nothing", ClientConfig{URL: "http://host", OnEvent: on, Heartbeat: -1, Backoff: -2, MaxBackoff: -1},
			"feedback client: Heartbeat is -1ns: it must be more than 0\nBackoff is -2ns: it must be more than 0\nMaxBackoff is -1ns: it must be more than 0"},
		{"maximum below the backoff", ClientConfig{URL: "http://host", OnEvent: on, MaxBackoff: time.Millisecond},
			"feedback client: the backoff is 500ms, and its maximum 1ms"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if _, err := NewClient(c.cfg); err == nil || err.Error() != c.want {
				t.Errorf("it fails with\n%v, not\n%s", err, c.want)
			}
		})
	}
}
