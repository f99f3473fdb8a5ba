package server

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// requestID is the header with a request's id, which a client may choose.
const requestID = "X-Request-Id"

// handle serves an operation, and describes it.
func (s *Server) handle(o operation) {
	s.mux.Handle(o.method+" "+o.path, s.serve(&o))
	s.document.AddOperation(o.described())
}

// serve is the handler of an operation.
func (s *Server) serve(o *operation) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, r: r, patience: s.cfg.WriteTimeout}
		if o.stream {
			rec.patience = 0 // it has its own
		}
		if o.body == nil {
			unread(rec, r)
		}
		c := &call{w: rec, r: r, id: requestIDOf(r)}
		rec.Header().Set(requestID, c.id)
		defer func() {
			p := recover()
			s.metrics.served(o.method, o.path, rec.status, time.Since(start))
			if p == nil {
				return
			}
			if err, ok := p.(error); ok && errors.Is(err, http.ErrAbortHandler) {
				panic(http.ErrAbortHandler)
			}
			s.cfg.Logger.Error("a request panicked", "request_id", c.id, "path", o.path, "panic", p, "stack", string(debug.Stack()))
			if rec.status > 0 {
				panic(http.ErrAbortHandler)
			}
			problemOf(fmt.Errorf("panic: %v", p)).write(rec, c.id)
		}()
		s.finish(c, rec, o, s.answer(c, rec, o))
	})
}

// admit finds who asks for what, and takes a place for it.
func (s *Server) admit(c *call, o *operation) (leave func(), err error) {
	if err := s.allowed(c.r); err != nil {
		return nil, err
	}
	if err := s.identify(c, o.scope); err != nil {
		return nil, err
	}
	if o.operator && !c.operator {
		return nil, errNoOperator
	}
	if err := s.paces.admit(c.tenant, time.Now()); err != nil {
		return nil, err
	}
	if c.values, err = o.parameters(c.r); err != nil {
		return nil, err
	}
	if err := refuseKey(c); err != nil {
		return nil, err
	}
	if o.enter != nil {
		return o.enter(c)
	}
	return o.limit.enter()
}

// answer does what a request asks for.
func (s *Server) answer(c *call, rec *recorder, o *operation) error {
	leave, err := s.admit(c, o)
	if err != nil {
		s.refused(c, o, err)
		return err
	}
	defer leave()
	if o.limit == s.queries && o.limit != nil {
		ctx, cancel := context.WithTimeout(c.Context(), s.cfg.QueryTimeout)
		defer cancel()
		c.r = c.r.WithContext(ctx)
	}
	if o.read != nil {
		if err := o.read(c); err != nil {
			s.refused(c, o, err)
			return err
		}
	}
	return s.act(c, rec, o)
}

// finish answers a request that failed.
func (s *Server) finish(c *call, rec *recorder, o *operation, err error) {
	if err == nil {
		return
	}
	p := problemOf(err)
	level := slog.LevelInfo
	if p.status >= 500 && p.code != "stopping" {
		level = slog.LevelError
	}
	s.cfg.Logger.Log(c.Context(), level, "a request failed", "request_id", c.id, "method", o.method, "path", o.path, "tenant", c.tenant.Slug, "key", c.key, "status", p.status, "code", p.code, "error", err.Error())
	if rec.status > 0 {
		panic(http.ErrAbortHandler) // so that what was sent is not taken for whole
	}
	unread(rec, c.r)
	if o.body == nil || errors.Is(err, errBody) || c.Context().Err() != nil || s.draining() || c.r.Header.Get("Expect") != "" {
		p.write(rec, c.id)
		return
	}
	refuse(c, rec, p)
}

// What is read on, and for how long, of a body that was refused.
const (
	readOn    = 16 << 20
	readOnFor = 2 * time.Second
)

// refuse answers, and reads for a while what the client still sends: one whose connection is
// closed while it sends does not see the answer.
func refuse(c *call, rec *recorder, p *problem) {
	control := http.NewResponseController(rec.ResponseWriter)
	_ = control.EnableFullDuplex() // HTTP/2 is so, and needs none
	p.write(rec, c.id)
	if control.Flush() != nil || control.SetReadDeadline(time.Now().Add(readOnFor)) != nil {
		return
	}
	_, _ = io.CopyN(io.Discard, c.r.Body, readOn) // however it ends
}

// unread has a body that was not read to its end not hold the answer up: net/http would read
// on first, for the sake of the connection.
func unread(w http.ResponseWriter, r *http.Request) {
	const little, soon = 64 << 10, 250 * time.Millisecond
	if r.ContentLength == 0 {
		return
	}
	if r.ContentLength < 0 || r.ContentLength > little {
		w.Header().Set("Connection", "close")
		return
	}
	_ = http.NewResponseController(w).SetReadDeadline(time.Now().Add(soon)) // where there are deadlines
}

// plain is a handler that is no operation, for who has a scope. The route is its label in
// metrics.
func (s *Server) plain(scope mds.Scope, route string, h http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &recorder{ResponseWriter: w, r: r, patience: s.cfg.WriteTimeout}
		unread(rec, r)
		defer func() { s.metrics.served(knownMethod(r.Method), route, rec.status, time.Since(start)) }()
		err := s.allowed(r)
		if err == nil {
			err = s.identify(&call{w: rec, r: r}, scope)
		}
		if err != nil {
			problemOf(err).write(rec, requestIDOf(r))
			return
		}
		h.ServeHTTP(rec, r)
	})
}

// requestIDOf is the id that the client has chosen, if it is one, or a new one.
func requestIDOf(r *http.Request) string {
	id := r.Header.Get(requestID)
	if id == "" || len(id) > 64 || strings.ContainsFunc(id, func(c rune) bool {
		return c != '-' && c != '_' && c != '.' && (c < '0' || c > '9') && (c < 'a' || c > 'z') && (c < 'A' || c > 'Z')
	}) {
		return rand.Text()
	}
	return id
}

// knownMethod is a method as a label.
func knownMethod(method string) string {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete, http.MethodOptions:
		return method
	}
	return "other"
}

// recorder notes the status of an answer, and bounds for how long who does not read keeps
// it from being written.
type recorder struct {
	http.ResponseWriter
	r        *http.Request
	patience time.Duration // 0 is not bounded here
	status   int
}

func (r *recorder) WriteHeader(status int) {
	if r.status == 0 && status >= 200 {
		r.status = status
	}
	r.ResponseWriter.WriteHeader(status)
}

func (r *recorder) Write(p []byte) (int, error) {
	if r.status == 0 {
		r.status = http.StatusOK
	}
	if r.patience == 0 {
		return r.ResponseWriter.Write(p)
	}
	control := http.NewResponseController(r.ResponseWriter)
	_ = control.SetWriteDeadline(time.Now().Add(r.patience)) // where there are deadlines
	n, err := r.ResponseWriter.Write(p)
	if err == nil && r.r.ProtoMajor > 1 {
		_ = control.SetWriteDeadline(time.Time{}) // there it ends a stream also while nothing is written
	}
	return n, err
}

// Unwrap is for [http.ResponseController].
func (r *recorder) Unwrap() http.ResponseWriter { return r.ResponseWriter }

func statusText(status int) string {
	if status == 0 {
		status = http.StatusOK
	}
	return strconv.Itoa(status)
}
