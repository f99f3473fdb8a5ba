package server

import (
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc"
)

// mountRPC serves the events of all kinds over gRPC, to whom server-sent events are served.
func (s *Server) mountRPC(buses map[string]*feedback.Bus) {
	path, h := rpc.NewKindsHandler(buses, rpc.HandlerConfig{ReadTimeout: s.cfg.IdleTimeout, Done: s.drain, Logger: s.cfg.Logger})
	s.mux.Handle(path, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, r: r} // a stream has its own patience
		defer func() { s.metrics.served(knownMethod(r.Method), path+"Watch", rec.status, time.Since(start)) }()
		c := &call{w: rec, r: r, id: requestIDOf(r)}
		rec.Header().Set(requestID, c.id)
		leave, err := s.admit(c, &operation{scope: mds.ScopeWrite, limit: s.streams})
		if err != nil {
			unread(rec, r)
			if p := problemOf(err); !rpc.Refuse(rec, r, p.status, p.detail, p.retry) {
				p.write(rec, c.id)
			}
			return
		}
		defer leave()
		h.ServeHTTP(flushing{rec}, r)
	}))
}

// flushing is a [http.Flusher], for who looks for no [http.ResponseController].
type flushing struct{ *recorder }

func (f flushing) Flush() {
	_ = http.NewResponseController(f.ResponseWriter).Flush() // whose error the next write has, too
}
