// Package rpc carries the feedback events of a bus over gRPC, gRPC-Web and the Connect
// protocol. The service is described by feedback.proto in this package, from which clients
// in other languages are generated.
package rpc

import (
	"context"
	"errors"
	"log/slog"
	"net/http"
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
	// WriteTimeout is how long a client may keep an event from being sent, by not reading,
	// before its stream ends. Defaults to three heartbeats.
	WriteTimeout time.Duration
	// Logger is told of panics. Defaults to discarding them.
	Logger *slog.Logger
}

// Bounds of messages, in bytes: what a client may send, and from where on one is compressed.
const (
	requestMax   = 4096
	compressFrom = 1024
)

// NewHandler serves the events of a bus, and returns the path to serve them at. A stream
// begins with the newest event, and ends with the request or the bus: close the bus before
// an [http.Server] is shut down, which waits for streams.
//
// gRPC needs HTTP/2. Without TLS that is the server's UnencryptedHTTP2 of [http.Protocols].
// The timeouts of the server do not apply to streams.
func NewHandler(bus *feedback.Bus, cfg HandlerConfig) (path string, h http.Handler) {
	if cfg.Heartbeat <= 0 {
		cfg.Heartbeat = heartbeat
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = missed * cfg.Heartbeat
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	s := &service{bus: bus, cfg: cfg}
	path, streams := feedbackv1connect.NewFeedbackServiceHandler(s,
		connect.WithReadMaxBytes(requestMax), connect.WithCompressMinBytes(compressFrom), connect.WithRecover(s.recovered))
	return path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		connection := http.NewResponseController(w)
		_ = connection.SetReadDeadline(time.Time{}) // one that has no deadlines needs none lifted
		_ = connection.SetWriteDeadline(time.Time{})
		streams.ServeHTTP(w, r.WithContext(context.WithValue(r.Context(), connectionKey{}, connection)))
	})
}

// connectionKey is the key of a request's [http.ResponseController] in its context.
type connectionKey struct{}

type service struct {
	bus *feedback.Bus
	cfg HandlerConfig
}

// Watch is the method of the service.
func (s *service) Watch(ctx context.Context, req *connect.Request[feedbackv1.WatchRequest], stream *connect.ServerStream[feedbackv1.Event]) error {
	events := s.bus.Subscribe(feedback.Options{Transport: "grpc", Producer: req.Msg.GetProducer()})
	defer events.Close()
	if err := stream.Send(nil); err != nil { // the headers, which proxies and clients wait for
		return err
	}
	quiet := time.NewTimer(s.cfg.Heartbeat)
	quiet.Stop() // there is nothing to repeat yet
	var newest feedback.Event
	for {
		select {
		case e, ok := <-events.C:
			if !ok {
				return nil
			}
			newest = e
		case <-quiet.C:
			newest.Stamp(time.Now())
		case <-ctx.Done():
			return ctx.Err()
		}
		if err := s.send(ctx, stream, &newest); err != nil {
			return err
		}
		quiet.Reset(s.cfg.Heartbeat)
	}
}

// send sends an event, or ends the stream of a client that does not read.
func (s *service) send(ctx context.Context, stream *connect.ServerStream[feedbackv1.Event], e *feedback.Event) error {
	if connection, ok := ctx.Value(connectionKey{}).(*http.ResponseController); ok {
		_ = connection.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)) // where there are none, a stream ends with its connection
		defer func() { _ = connection.SetWriteDeadline(time.Time{}) }()
	}
	return stream.Send(toProto(e))
}

// recovered answers a request that panicked.
func (s *service) recovered(_ context.Context, _ connect.Spec, _ http.Header, p any) error {
	s.cfg.Logger.Error("a feedback stream panicked", "panic", p)
	return connect.NewError(connect.CodeInternal, errors.New("the stream failed: its server's log says why"))
}
