package rpc

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds/feedback"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// within is how long tests wait for what must come.
const within = 20 * time.Second

// both are HTTP/1 and HTTP/2 without TLS.
func both() *http.Protocols {
	p := new(http.Protocols)
	p.SetHTTP1(true)
	p.SetUnencryptedHTTP2(true)
	return p
}

// serve serves a handler on loopback, at an address or at any.
func serve(t *testing.T, address string, h http.Handler) *httptest.Server {
	t.Helper()
	s := httptest.NewUnstartedServer(h)
	s.Config.Protocols = both()
	if address != "" {
		_ = s.Listener.Close()
		var err error
		if s.Listener, err = new(net.ListenConfig).Listen(t.Context(), "tcp", address); err != nil {
			t.Fatal(err)
		}
	}
	s.Start()
	t.Cleanup(s.Close)
	return s
}

// kill ends a server in the middle of its streams.
func kill(s *httptest.Server) {
	_ = s.Config.Close()
	s.Close()
}

// serveBus serves a bus, which ends with the test. Each request is announced when it ends.
func serveBus(t *testing.T, address string, bus *feedback.Bus, cfg HandlerConfig) (s *httptest.Server, ended chan *http.Request) {
	t.Helper()
	ended = make(chan *http.Request, 100)
	path, h := NewHandler(bus, cfg)
	mux := http.NewServeMux()
	mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		defer func() { ended <- r }()
		h.ServeHTTP(w, r)
	}))
	s = serve(t, address, mux)
	t.Cleanup(bus.Close)
	return s, ended
}

// receive takes from a channel.
func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	timeout := time.NewTimer(within)
	defer timeout.Stop()
	select {
	case v, ok := <-c:
		if !ok {
			t.Fatalf("%s: the channel was closed", what)
		}
		return v
	case <-timeout.C:
		t.Fatalf("%s: nothing came", what)
		panic("not reached")
	}
}

// start runs a client until the test or stop ends it, and checks how it ended.
func start(t *testing.T, cfg ClientConfig) (stop func()) {
	t.Helper()
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	stop = sync.OnceFunc(func() {
		cancel()
		if err := receive(t, ended, "the end of a client"); !errors.Is(err, context.Canceled) {
			t.Errorf("the client ended with %v", err)
		}
	})
	t.Cleanup(stop)
	return stop
}

// memory is a network of one server, for bubbles of synctest, which sockets would leave.
type memory struct {
	connections chan net.Conn
	closed      chan struct{}
	once        sync.Once
}

func newMemory() *memory {
	return &memory{connections: make(chan net.Conn), closed: make(chan struct{})}
}

func (m *memory) Accept() (net.Conn, error) {
	select {
	case c := <-m.connections:
		return c, nil
	case <-m.closed:
		return nil, net.ErrClosed
	}
}

func (m *memory) Close() error {
	m.once.Do(func() { close(m.closed) })
	return nil
}

func (m *memory) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

func (m *memory) dial(ctx context.Context, _, _ string) (net.Conn, error) {
	here, there := net.Pipe()
	select {
	case m.connections <- there:
		return here, nil
	case <-m.closed:
		return nil, errors.New("connection refused")
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// client speaks HTTP/2 to the server of a network in memory.
func (m *memory) client() *http.Client {
	tr := transport(heartbeat)
	tr.DialContext = m.dial
	return &http.Client{Transport: tr}
}
