package server

import (
	"cmp"
	"context"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Limits of what a connection may take of the server before it is known what it wants.
const (
	keepAlive = 2 * time.Minute
	// lastAnswers is how long answers have that are known when all is stopped.
	lastAnswers = 2 * time.Second
)

// Handler serves requests.
func (s *Server) Handler() http.Handler { return s.handler }

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
	h := &http.Server{
		Handler: s.Handler(), TLSConfig: cfg.TLS, Protocols: protocols,
		ReadHeaderTimeout: cmp.Or(cfg.HeaderTimeout, 10*time.Second), IdleTimeout: keepAlive, MaxHeaderBytes: cmp.Or(cfg.MaxHeaderBytes, 64<<10),
		ErrorLog: slog.NewLogLogger(s.cfg.Logger.Handler(), slog.LevelDebug), // what clients do to their connections
	}
	failed := make(chan error, 1)
	go func() {
		if cfg.TLS != nil {
			failed <- h.ServeTLS(listener, "", "")
			return
		}
		failed <- h.Serve(listener)
	}()
	var err error
	select {
	case <-ctx.Done():
	case err = <-failed:
	}
	over, cancel := context.WithTimeout(over, cfg.Drain)
	defer cancel()
	s.Drain()
	stopErr := s.shutdown(over, h, cfg.Drain)
	if errors.Is(err, http.ErrServerClosed) {
		err = nil
	}
	return errors.Join(err, stopErr)
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
