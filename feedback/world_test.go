package feedback_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

// event is one of the coordinator "bars".
func event(l feedback.Level) feedback.Event {
	return feedback.Event{CoordinatorID: "bars", QueueSize: 9, Capacity: 10, Utilization: 0.9, Level: l, Source: "store", TS: 946684800}
}

func publish(bus *feedback.Bus, levels ...feedback.Level) {
	for _, l := range levels {
		bus.Publish(event(l))
	}
}

// diary keeps what happens, with the time since it was begun.
type diary struct {
	start time.Time
	mu    sync.Mutex
	lines []string
}

func newDiary() *diary { return &diary{start: time.Now()} }

func (d *diary) note(format string, args ...any) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.lines = append(d.lines, fmt.Sprintf("%v ", time.Since(d.start))+fmt.Sprintf(format, args...))
}

// take returns what there is, and begins a new page.
func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

func (d *diary) expect(t *testing.T, want ...string) {
	t.Helper()
	if got := d.take(); !slices.Equal(got, want) {
		t.Errorf("\n got %q\nwant %q", got, want)
	}
}

// logs is a logger's output.
type logs struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logs) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

func (l *logs) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.String()
}

func (l *logs) logger() *slog.Logger { return slog.New(slog.NewTextHandler(l, nil)) }

// run runs a webhook or a client until the test ends or the function it returns is called,
// which returns its error.
func run(t *testing.T, f func(context.Context) error) (stop func() error) {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- f(ctx) }()
	stop = sync.OnceValue(func() error {
		cancel()
		return <-ended
	})
	t.Cleanup(func() { stop() })
	return stop
}

// network has servers in memory, so that time can be the bubble's. Connections have no
// buffers: who does not read blocks the other side at once.
type network struct {
	mu    sync.Mutex
	up    *pipes
	dials atomic.Int32
}

var errDown = errors.New("connection refused")

func (n *network) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	n.mu.Lock()
	n.dials.Add(1)
	up := n.up
	n.mu.Unlock()
	if up == nil {
		return nil, errDown
	}
	client, server := net.Pipe()
	select {
	case up.conns <- server:
		return client, nil
	case <-up.closed:
		return nil, errDown
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

func (n *network) client() *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: n.DialContext}}
}

// serve has a handler served until the function it returns is called.
func (n *network) serve(t *testing.T, h http.Handler, set ...func(*http.Server)) (stop func()) {
	p := &pipes{conns: make(chan net.Conn), closed: make(chan struct{})}
	srv := &http.Server{Handler: h, ErrorLog: slog.NewLogLogger(slog.DiscardHandler, slog.LevelError)}
	for _, f := range set {
		f(srv)
	}
	n.mu.Lock()
	n.up = p
	n.mu.Unlock()
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = srv.Serve(p)
	}()
	stop = sync.OnceFunc(func() {
		n.mu.Lock()
		if n.up == p {
			n.up = nil
		}
		n.mu.Unlock()
		_ = srv.Close()
		<-ended
	})
	t.Cleanup(stop)
	return stop
}

// pipes is a listener.
type pipes struct {
	conns  chan net.Conn
	closed chan struct{}
	once   sync.Once
}

func (p *pipes) Accept() (net.Conn, error) {
	select {
	case c := <-p.conns:
		return c, nil
	case <-p.closed:
		return nil, net.ErrClosed
	}
}

func (p *pipes) Close() error {
	p.once.Do(func() { close(p.closed) })
	return nil
}

func (p *pipes) Addr() net.Addr { return &net.UnixAddr{Name: "pipe"} }

// transport is a function as a transport.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// answer is a response.
func answer(status int, header ...string) *http.Response {
	r := &http.Response{StatusCode: status, Header: http.Header{}, Body: io.NopCloser(bytes.NewReader([]byte("as is said\n")))}
	for i := 0; i < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

// pass lets the bubble's time pass, and what is due by then happen.
func pass(d time.Duration) {
	<-time.After(d)
	synctest.Wait()
}
