package server

import (
	"context"
	"log/slog"
	"net/http"
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
	if err := s.note(c, o, audit.Attempt, 0, "", true); err != nil {
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
		_ = s.note(c, o, audit.Outcome, status, code, true) // it is done, and what cannot be noted is logged
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
	p := problemOf(err)
	// Whoever has no key must not have a disk be synced.
	_ = s.note(c, o, audit.Refused, p.status, p.code, false) // it is refused, whether noted or not
}

// note writes an entry of the audit log, or logs it where there is none, or where it cannot
// be written.
func (s *Server) note(c *call, o *operation, event string, status int, code string, sync bool) error {
	e := audit.Entry{
		Time: time.Now().UTC(), Event: event, RequestID: c.id, Operation: o.id, Method: o.method, Path: cut(c.r.URL.Path),
		Tenant: c.tenant.Slug, Key: c.key, Remote: c.r.RemoteAddr, Parameters: o.shown(c.r), Status: status, Code: code,
	}
	if s.cfg.Audit == nil {
		s.logAction(c.Context(), slog.LevelInfo, "control action", &e)
		return nil
	}
	err := s.cfg.Audit.Write(&e, sync)
	if err != nil {
		s.logAction(c.Context(), slog.LevelError, "a control action is not in the audit log", &e, "error", err)
	}
	return err
}

func (s *Server) logAction(ctx context.Context, level slog.Level, what string, e *audit.Entry, more ...any) {
	s.cfg.Logger.Log(ctx, level, what, append([]any{
		"event", e.Event, "request_id", e.RequestID, "operation", e.Operation, "method", e.Method, "path", e.Path, "tenant", e.Tenant,
		"key", e.Key, "remote", e.Remote, "parameters", e.Parameters, "status", e.Status, "code", e.Code,
	}, more...)...)
}

// shown are the parameters of a request that the operation has, without secrets.
func (o *operation) shown(r *http.Request) map[string][]string {
	shown := make(map[string][]string)
	given := r.URL.Query() // what of it can be read
	for _, p := range o.params {
		for _, v := range given[p.name] {
			if p.secret {
				v = "(secret)"
			}
			shown[p.name] = append(shown[p.name], cut(v))
			if len(shown[p.name]) == mostShown {
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
