package server

import (
	"context"
	"errors"
	"net"
	"net/http"
	"net/http/pprof"

	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// Loopback are the names by which a server is asked for that serves its own machine only.
func Loopback() []string { return []string{"localhost", "127.0.0.1", "::1"} }

// administrationKey is the key in the context of requests that came by the listener of the
// administration, which has names of its own.
type administrationKey struct{}

// adminHandler serves what is for who runs the server, without keys: it must be reached
// from its own machine only, under the name that it is reached by there.
func (s *Server) adminHandler(host string) http.Handler {
	mux := http.NewServeMux()
	for _, o := range s.stateOperations() {
		if o.scope == public {
			mux.Handle(o.method+" "+o.path, s.serve(&o))
		}
	}
	add := func(path, route string, h http.Handler) { mux.Handle("GET "+path, s.plain(public, route, h)) }
	add("/metrics", "/metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{}))
	const profiles = "/debug/pprof/"
	// All but the command line, which may hold the password of a DSN.
	for name, h := range map[string]http.HandlerFunc{"": pprof.Index, "profile": pprof.Profile, "symbol": pprof.Symbol, "trace": pprof.Trace} {
		add(profiles+name, profiles, h)
	}
	mux.Handle("/", s.plain(public, "other", http.HandlerFunc(nothingHere)))
	names := append(Loopback(), host)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		r = r.WithContext(context.WithValue(r.Context(), administrationKey{}, true))
		err := knownAs(names, r)
		// A page of another site cannot read an answer, but have work be done for it.
		if site := r.Header.Get("Sec-Fetch-Site"); err == nil && site != "" && site != "none" && site != "same-origin" {
			err = errCrossOrigin
		}
		if err != nil {
			s.plain(public, "other", refusal(err)).ServeHTTP(w, r)
			return
		}
		mux.ServeHTTP(w, r)
	})
}

func nothingHere(w http.ResponseWriter, r *http.Request) {
	p := &problem{status: http.StatusNotFound, code: "not_found", detail: "there are /metrics, /healthz, /readyz and /debug/pprof/ here"}
	p.write(w, requestIDOf(r))
}

// serveAdmin serves the administration until the function that it returns is called, which
// cuts off what is under way.
func (s *Server) serveAdmin(cfg RunConfig) (end func()) {
	host, _, _ := net.SplitHostPort(cfg.Admin.Addr().String()) // another kind of address has no other name
	h := s.httpServer(cfg, s.adminHandler(host))
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		if err := h.Serve(cfg.Admin); !errors.Is(err, http.ErrServerClosed) {
			s.cfg.Logger.Error("the administration is not served any more", "error", err)
		}
	}()
	return func() {
		_ = h.Close() // whose error is that of closing the listener
		<-ended
	}
}
