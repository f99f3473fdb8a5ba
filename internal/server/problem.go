package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

// problem is an error with its answer.
type problem struct {
	status   int
	code     string
	detail   string
	retry    time.Duration // after which to come back; 0 for none
	asks     string        // for what, where a key is missing or no good
	ledger   *client.Answer
	feedback *feedback.Event
	position int   // in a statement
	err      error // for the log, where the answer does not say it
}

func (p *problem) Error() string {
	if p.err != nil {
		return p.detail + ": " + p.err.Error()
	}
	return p.detail
}

func (p *problem) Unwrap() error { return p.err }

// badRequest refuses a request for what is written in it.
func badRequest(code, detail string) *problem {
	return &problem{status: http.StatusBadRequest, code: code, detail: detail}
}

// problemOf is the answer to an error of whatever layer.
func problemOf(err error) *problem {
	var p *problem
	var header *codec.HeaderError
	var setup *codec.SetupError
	var refused *mds.RecordError
	var statement *mds.SQLError
	switch {
	case errors.As(err, &p):
		return p
	case errors.As(err, &statement):
		return &problem{status: http.StatusBadRequest, code: "bad_sql", detail: statement.Detail, position: statement.Position}
	case errors.Is(err, mds.ErrSQLLimit):
		return &problem{status: http.StatusUnprocessableEntity, code: "sql_limit", detail: err.Error()}
	case errors.Is(err, mds.ErrNoSQLLogin):
		return &problem{status: http.StatusForbidden, code: "no_sql_login", detail: err.Error()}
	case errors.Is(err, mds.ErrSQLBusy):
		return &problem{status: http.StatusTooManyRequests, code: "too_many_requests", retry: time.Second, detail: err.Error()}
	case errors.As(err, &refused):
		return &problem{status: http.StatusUnprocessableEntity, code: "record_refused", detail: "the store refuses a record for good: " + err.Error()}
	case errors.As(err, &header), errors.As(err, &setup):
		return badRequest("unreadable_body", asParameters(err.Error()))
	case errors.Is(err, mds.ErrResample):
		return badRequest("bad_parameter", "every: "+err.Error()+"; timeframe picks those that it is made of")
	case errors.Is(err, mds.ErrUnknownTenant):
		return &problem{status: http.StatusNotFound, code: "unknown_tenant", detail: "there is no such tenant", err: err}
	case errors.Is(err, ingest.ErrTooLarge):
		return &problem{status: http.StatusRequestEntityTooLarge, code: "record_too_large", detail: "a record is larger than the server's queue: " + err.Error()}
	case errors.Is(err, ingest.ErrStopped), errors.Is(err, ingest.ErrUnwritten):
		return &problem{status: http.StatusServiceUnavailable, code: "stopping", detail: "the server is being stopped; send it again to one that runs", retry: time.Second, err: err}
	case errors.Is(err, context.Canceled):
		return &problem{status: 499, code: "canceled", detail: "the client has gone", err: err}
	case errors.Is(err, context.DeadlineExceeded):
		return &problem{status: http.StatusServiceUnavailable, code: "timeout", detail: "it took too long; ask for less at a time", retry: time.Second, err: err}
	case mds.Unavailable(err), mds.Retryable(err):
		return &problem{status: http.StatusServiceUnavailable, code: "store_unavailable", detail: "the store is not well; try again later", retry: 5 * time.Second, err: err}
	}
	return &problem{status: http.StatusInternalServerError, code: "internal", detail: "that went wrong here; the server's log has it under this request_id", err: err}
}

// flag is a flag of the command line, with its value where it has one.
var flag = regexp.MustCompile(`--([a-z]+(?:-[a-z]+)*)(?: ([^\s,;-][^\s,;]*))?`)

// asParameters says what a codec says of flags in words of parameters.
func asParameters(text string) string {
	return flag.ReplaceAllStringFunc(text, func(f string) string {
		parts := flag.FindStringSubmatch(f)
		name, value := strings.ReplaceAll(parts[1], "-", "_"), parts[2]
		switch {
		case name == "no_header":
			return "no_header=true" + map[bool]string{true: " " + value}[value != ""]
		case value != "" && (strings.Contains(value, "=") || name == "tz"):
			return name + "=" + value
		case value != "":
			return name + " " + value
		}
		return name
	})
}

// write answers with the problem.
func (p *problem) write(w http.ResponseWriter, requestID string) {
	if p.retry > 0 {
		w.Header().Set("Retry-After", strconv.Itoa(max(1, int((p.retry+time.Second-1)/time.Second))))
	}
	if p.asks != "" {
		w.Header().Set("WWW-Authenticate", p.asks)
	}
	w.Header().Set("Content-Type", "application/problem+json")
	w.Header().Set("Cache-Control", "no-store")
	w.WriteHeader(p.status)
	title := http.StatusText(p.status)
	if title == "" {
		title = "Client Closed Request"
	}
	// Who has gone does not read it.
	_ = json.NewEncoder(w).Encode(client.Problem{
		Title: title, Status: p.status, Code: p.code, Detail: p.detail, RequestID: requestID, Ledger: p.ledger, Feedback: p.feedback, Position: p.position,
	})
}
