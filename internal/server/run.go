package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marketdatastore/mds/internal/systemd"
)

// Limits of what a connection may take of the server before it is known what it wants.
const (
	keepAlive = 2 * time.Minute
	// lastAnswers is how long answers have that are known when all is stopped.
	lastAnswers = 2 * time.Second
)

// Handler serves requests.
func (s *Server) Handler() http.Handler { return s.handler }

// errCrossOrigin refuses what a page of another site has a browser send.
var errCrossOrigin error = &problem{status: http.StatusForbidden, code: "cross_origin", detail: "a page of another site may not send this"}

// refusal answers with an error.
func refusal(err error) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { problemOf(err).write(w, requestIDOf(r)) })
}

// RunConfig configures how a server runs.
type RunConfig struct {
	// TLS is used where it is not nil.
	TLS *tls.Config
	// Drain is how long requests under way and what is queued have to be finished. Required.
	Drain time.Duration
	// HeaderTimeout is how long a connection may take for the head of a request. Defaults
	// to 10 seconds.
	HeaderTimeout time.Duration
	// MaxHeaderBytes is how large the head of a request may be. Defaults to 64 KiB.
	MaxHeaderBytes int
	// Admin is another listener, which is not reached from other machines, for profiles,
	// metrics and health without keys. It is served until all is stopped. Nil is none.
	Admin net.Listener
	// Manager is told when it serves and when it stops, and while it is well. Nil is nobody.
	Manager *systemd.Manager
}

// Run serves a listener until ctx ends, and then stops the server, by when over ends at the
// latest: it takes in nothing new; requests under way have half of the drain time to end by
// themselves, and are then answered with what became of their records; what is queued is
// written. Its error names what is unwritten when the time is over.
//
// It speaks HTTP/1.1 and HTTP/2.
func (s *Server) Run(ctx, over context.Context, listener net.Listener, cfg RunConfig) error {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(cfg.TLS == nil)
	h := s.httpServer(cfg, s.Handler())
	h.TLSConfig, h.Protocols = cfg.TLS, protocols
	if cfg.Admin != nil {
		defer s.serveAdmin(cfg)()
	}
	manager := cmp.Or(cfg.Manager, &systemd.Manager{})
	defer s.watched(manager)()
	failed := make(chan error, 1)
	go func() {
		if cfg.TLS != nil {
			failed <- h.ServeTLS(listener, "", "")
			return
		}
		failed <- h.Serve(listener)
	}()
	manager.Tell(s.background, systemd.Ready) // the listener takes connections since before
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	manager.Tell(s.background, systemd.Stopping)
	over, cancel := context.WithTimeout(over, cfg.Drain)
	defer cancel()
	s.Drain()
	stopErr := s.shutdown(over, h, cfg.Drain)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, stopErr)
}

// watched tells that the server is well until the function that it returns is called.
func (s *Server) watched(manager *systemd.Manager) (end func()) {
	ctx, cancel := context.WithCancel(s.background)
	var wg sync.WaitGroup
	wg.Go(func() { manager.Watch(ctx, s.alive) })
	return func() {
		cancel()
		wg.Wait()
	}
}

// alive returns when each queue can be reached. How the store is does not matter: a process
// that is killed for it comes back to the same store, without what is queued.
func (s *Server) alive() {
	for _, k := range s.kinds {
		if k.health != nil {
			k.health()
		}
	}
}

// httpServer is a server with the limits that all of them have.
func (s *Server) httpServer(cfg RunConfig, h http.Handler) *http.Server {
	return &http.Server{
		Handler: h, ReadHeaderTimeout: cmp.Or(cfg.HeaderTimeout, 10*time.Second), IdleTimeout: keepAlive, MaxHeaderBytes: cmp.Or(cfg.MaxHeaderBytes, 64<<10),
		ConnContext: withConnection,
		ErrorLog:    slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug), // what clients do to their connections
	}
}

// shutdown ends requests, then what was taken in.
func (s *Server) shutdown(ctx context.Context, h *http.Server, drain time.Duration) error {
	reading := time.AfterFunc(drain/2, s.EndIntake)
	defer reading.Stop()
	requests, cancel := context.WithTimeout(ctx, drain*3/4)
	defer cancel()
	if err := h.Shutdown(requests); err != nil {
		s.cfg.Logger.Warn("requests that did not end are cut off", "error", err)
	}
	err := s.Stop(ctx)
	// Whoever still waits is told by now what became of its records.
	last, cancelLast := context.WithTimeout(context.WithoutCancel(ctx), lastAnswers)
	defer cancelLast()
	_ = h.Shutdown(last) // what it leaves Close ends
	return errors.Join(err, h.Close())
}
