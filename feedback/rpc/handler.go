// Package rpc carries the feedback events of a bus over gRPC, gRPC-Web and the Connect
// protocol. The service is described by feedback.proto in this package, from which clients
// in other languages are generated.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1/feedbackv1connect"
)

// HandlerConfig configures a handler. The zero value is usable.
type HandlerConfig struct {
	// Heartbeat is after how long without an event the newest is sent again, with a new
	// time. Defaults to 5 s, which clients rely on.
	Heartbeat time.Duration
	// ReadTimeout is how long a client may take for its request. Defaults to 10 s.
	ReadTimeout time.Duration
	// WriteTimeout is how long a client may keep an event from being sent, by not reading,
	// before its stream ends. Defaults to three heartbeats.
	WriteTimeout time.Duration
	// Done ends streams when it is closed, and waiting for requests, without an error. Nil does not: the bus does.
	Done <-chan struct{}
	// Logger is told of panics. Defaults to discarding them.
	Logger *slog.Logger
}

// Bounds of messages, in bytes: what a client may send, and from where on one is compressed.
const (
	requestMax   = 4096
	compressFrom = 1024
)

// NewHandler serves the events of a bus, whatever kind a client asks for, and returns the path
// to serve them at. A stream
// begins with the newest event, and ends with the request or the bus: close the bus before
// an [http.Server] is shut down, which waits for streams.
//
// gRPC needs HTTP/2. Without TLS that is the server's UnencryptedHTTP2 of [http.Protocols].
// The timeouts of the server do not apply to streams.
func NewHandler(bus *feedback.Bus, cfg HandlerConfig) (path string, h http.Handler) {
	return newHandler(func(string) ([]*feedback.Bus, error) { return []*feedback.Bus{bus}, nil }, cfg)
}

// NewKindsHandler is NewHandler for the buses of several kinds of records, by their names.
// Clients name one of the kinds, or watch all; a stream ends with the first bus that it
// watches.
func NewKindsHandler(kinds map[string]*feedback.Bus, cfg HandlerConfig) (path string, h http.Handler) {
	names := slices.Sorted(maps.Keys(kinds))
	return newHandler(func(kind string) (buses []*feedback.Bus, err error) {
		for _, name := range names {
			if kind == "" || kind == name {
				buses = append(buses, kinds[name])
			}
		}
		if buses == nil {
			err = connect.NewError(connect.CodeNotFound, fmt.Errorf("there is no queue of %q here: kind is one of %s, or empty for all", kind, strings.Join(names, ", ")))
		}
		return buses, err
	}, cfg)
}

// newHandler serves the buses of the kinds that are asked for.
func newHandler(buses func(kind string) ([]*feedback.Bus, error), cfg HandlerConfig) (path string, h http.Handler) {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = heartbeat
	}
	if cfg.ReadTimeout <= 0 {
		cfg.ReadTimeout = 10 * time.Second
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = missed * cfg.Heartbeat
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &service{buses: buses, cfg: cfg}
	path, streams := feedbackv1connect.NewFeedbackServiceHandler(s,
		connect.WithReadMaxBytes(requestMax), connect.WithCompressMinBytes(compressFrom), connect.WithRecover(s.recovered))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := &connection{ResponseController: http.NewResponseController(w)}
		_ = c.SetWriteDeadline(time.Time{}) // one that has no deadlines needs none lifted
		c.await(cfg.ReadTimeout, cfg.Done)
		defer c.read()
		streams.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connectionKey{}, c)))
	})
}

// connectionKey is the key of a request's [connection] in its context.
type connectionKey struct{}

// connection has the deadlines of a request.
type connection struct {
	*http.ResponseController
	come func() // ends waiting for the message
}

// await bounds for how long the message of the request may take to come.
func (c *connection) await(most time.Duration, done <-chan struct{}) {
	_ = c.SetReadDeadline(time.Now().Add(most)) // where there are none, a request ends with its connection
	come, over := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(over)
		select {
		case <-done:
			_ = c.SetReadDeadline(time.Unix(1, 0))
		case <-come:
		}
	}()
	c.come = sync.OnceFunc(func() {
		close(come)
		<-over // which must not touch what is over
	})
}

// read says that the message has come: nothing else will.
func (c *connection) read() {
	c.come()
	_ = c.SetReadDeadline(time.Time{})
}

type service struct {
	buses func(kind string) ([]*feedback.Bus, error)
	cfg   HandlerConfig
}

// Watch is the method of the service.
func (s *service) Watch(ctx context.Context, req *connect.Request[feedbackv1.WatchRequest], stream *connect.ServerStream[feedbackv1.Event]) error {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		c.read()
	}
	buses, err := s.buses(req.Msg.GetKind())
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancel(ctx)
	w := watched{last: make([]latest, len(buses)), next: make(chan arrival)}
	defer w.forwarding.Wait()
	defer cancel()
	for i, bus := range buses {
		events := bus.Subscribe(feedback.Options{Transport: "grpc", Producer: req.Msg.GetProducer()})
		defer events.Close()
		w.forwarding.Go(func() { w.forward(ctx, i, events) })
	}
	if err := stream.Send(nil); err != nil { // the headers, which proxies and clients wait for
		return err
	}
	return s.relay(ctx, stream, &w)
}

// relay sends events, and the newest of each bus again while that is quiet.
func (s *service) relay(ctx context.Context, stream *connect.ServerStream[feedbackv1.Event], w *watched) error {
	quiet := time.NewTimer(s.cfg.Heartbeat)
	quiet.Stop() // there is nothing to repeat yet
	for {
		var l *latest
		select {
		case e := <-w.next:
			if e.over {
				return nil
			}
			l = &w.last[e.bus]
			l.event = e.Event
		case <-quiet.C:
			l = w.due()
			l.event.Stamp(time.Now())
		case <-s.cfg.Done:
			return nil
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.send(ctx, stream, &l.event); err != nil {
			return err
		}
		l.again = time.Now().Add(s.cfg.Heartbeat)
		quiet.Reset(time.Until(w.due().again))
	}
}

// watched are the buses of a stream.
type watched struct {
	last       []latest     // of each
	next       chan arrival // of any
	forwarding sync.WaitGroup
}

// latest is the newest event of a bus, and when to send it again; zero where there is none.
type latest struct {
	event feedback.Event
	again time.Time
}

// arrival is an event of a bus, or its end.
type arrival struct {
	feedback.Event
	bus  int
	over bool
}

// forward hands the events of one bus on. Those that a client is too slow for the
// subscription drops.
func (w *watched) forward(ctx context.Context, bus int, events *feedback.Subscription) {
	for {
		a := arrival{bus: bus}
		select {
		case e, ok := <-events.C:
			a.Event, a.over = e, !ok
		case <-ctx.Done():
			return
		}
		select {
		case w.next <- a:
		case <-ctx.Done():
			return
		}
		if a.over {
			return
		}
	}
}

// due is the event that is to be sent again first. There is one.
func (w *watched) due() (first *latest) {
	for i := range w.last {
		if l := &w.last[i]; !l.again.IsZero() && (first == nil || l.again.Before(first.again)) {
			first = l
		}
	}
	return first
}

// send sends an event, or ends the stream of a client that does not read.
func (s *service) send(ctx context.Context, stream *connect.ServerStream[feedbackv1.Event], e *feedback.Event) error {
	if c, ok := ctx.Value(connectionKey{}).(*connection); ok {
		_ = c.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)) // where there are none, a stream ends with its connection
		defer func() { _ = c.SetWriteDeadline(time.Time{}) }()
	}
	return stream.Send(toProto(e))
}

// recovered answers a request that panicked.
func (s *service) recovered(_ context.Context, _ connect.Spec, _ http.Header, p any) error {
	s.cfg.Logger.Error("a feedback stream panicked", "panic", p)
	return connect.NewError(connect.CodeInternal, errors.New("the stream failed: its server's log says why"))
}
