package server

import (
	"context"
	"log/slog"
	"net/http"
	"sync"
	"time"
	"unicode/utf8"

	"github.com/marketdatastore/mds/internal/audit"
)

// act does what an operation does. A control action is done only once it is written down
// that it will be, so that none is without a trace, and what became of it is written after:
// an attempt without an outcome is one of which the process saw no end.
func (s *Server) act(c *call, rec *recorder, o *operation) (err error) {
	if !o.audit {
		return o.serve(c)
	}
	if err := s.write(c, s.entry(c, o, audit.Attempt, 0, ""), true); err != nil {
		return &problem{
			status: http.StatusServiceUnavailable, code: "audit_unavailable", retry: 5 * time.Second, err: err,
			detail: "this is done only where it can be noted in the audit log, which cannot be written; the server's log says why",
		}
	}
	ended := false
	defer func() {
		status, code := rec.status, ""
		switch {
		case !ended: // it panicked
			status, code = http.StatusInternalServerError, "internal"
		case err != nil:
			p := problemOf(err)
			status, code = p.status, p.code
		}
		e := s.entry(c, o, audit.Outcome, status, code)
		e.Removed = c.removed
		_ = s.write(c, e, true) // it is done, and what cannot be noted is logged
	}()
	err = o.serve(c)
	ended = true
	return err
}

// refused notes a control action that was not tried.
func (s *Server) refused(c *call, o *operation, err error) {
	if !o.audit {
		return
	}
	leftOut, ok := s.refusals.next(time.Now())
	if !ok {
		return
	}
	p := problemOf(err)
	// Whoever has no key must not have a disk be synced.
	e := s.entry(c, o, audit.Refused, p.status, p.code)
	e.LeftOut = leftOut
	_ = s.write(c, e, false) // it is refused, whether noted or not
}

// mostRefusals is how many refusals of a second are written down: whoever has no key must not
// fill a disk.
const mostRefusals = 10

// refusals bounds those that are written down.
type refusals struct {
	mu      sync.Mutex
	second  time.Time
	written int
	leftOut int64 // since the last that was written
}

// next reports whether another one is written down, and how many before it were not.
func (r *refusals) next(now time.Time) (leftOut int64, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if second := now.Truncate(time.Second); !second.Equal(r.second) {
		r.second, r.written = second, 0
	}
	if r.written == mostRefusals {
		r.leftOut++
		return 0, false
	}
	r.written++
	leftOut, r.leftOut = r.leftOut, 0
	return leftOut, true
}

// entry is one of the audit log. That of an attempt has the parameters whole, so that it can
// be told what was done; one of who has shown no key has none.
func (s *Server) entry(c *call, o *operation, event string, status int, code string) *audit.Entry {
	e := &audit.Entry{
		Time: time.Now().UTC(), Event: event, RequestID: c.id, Operation: o.id, Method: o.method, Path: cut(c.r.URL.Path),
		Tenant: c.tenant.Slug, Key: c.key, Remote: c.r.RemoteAddr, Status: status, Code: code,
	}
	if s.cfg.Keys == nil || c.key != "" {
		e.Parameters = o.shown(c.r, event == audit.Attempt)
		for name, values := range c.noted {
			for _, v := range values[:min(len(values), mostShown)] {
				if event != audit.Attempt {
					v = cut(v)
				}
				e.Parameters[name] = append(e.Parameters[name], v)
			}
		}
	}
	return e
}

// write writes an entry of the audit log, or logs it where there is none, or where it cannot
// be written.
func (s *Server) write(c *call, e *audit.Entry, sync bool) error {
	if s.cfg.Audit == nil {
		s.logAction(c.Context(), slog.LevelWarn, "control action", e)
		return nil
	}
	err := s.cfg.Audit.Write(e, sync)
	if err != nil {
		s.logAction(c.Context(), slog.LevelError, "a control action is not in the audit log", e, "error", err)
	}
	return err
}

func (s *Server) logAction(ctx context.Context, level slog.Level, what string, e *audit.Entry, more ...any) {
	if e.Removed != nil {
		more = append(more, "removed", *e.Removed)
	}
	if e.LeftOut > 0 {
		more = append(more, "left_out", e.LeftOut)
	}
	s.cfg.Logger.Log(ctx, level, what, append([]any{
		"event", e.Event, "request_id", e.RequestID, "operation", e.Operation, "method", e.Method, "path", e.Path, "tenant", e.Tenant,
		"key", e.Key, "remote", e.Remote, "parameters", e.Parameters, "status", e.Status, "code", e.Code,
	}, more...)...)
}

// shown are the parameters of a request that the operation has, without secrets: whole, as
// long as a request may be, or cut.
func (o *operation) shown(r *http.Request, whole bool) map[string][]string {
	shown := make(map[string][]string)
	given := r.URL.Query() // what of it can be read
	for _, p := range o.params {
		for _, v := range given[p.name] {
			if p.secret {
				v = "(secret)"
			}
			if !whole {
				v = cut(v)
			}
			shown[p.name] = append(shown[p.name], v)
			if !whole && len(shown[p.name]) == mostShown {
				break
			}
		}
	}
	return shown
}

// What of a request is written down at most: values of a parameter, and bytes of each.
const (
	mostShown = 100
	mostText  = 256
)

// cut is text of bounded length.
func cut(text string) string {
	if len(text) <= mostText {
		return text
	}
	end := mostText
	for !utf8.RuneStart(text[end]) && end > mostText-utf8.UTFMax {
		end--
	}
	return text[:end] + "…"
}
