package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
)

// Error is a request that was not answered as it should be: by what the server says, or
// because there was no answer.
type Error struct {
	// Problem is what the server says; its Status is 0 where there was no answer.
	Problem
	// RetryAfter is when the server asks to come back; 0 where it does not.
	RetryAfter time.Duration
	// Err is why there was no answer.
	Err error

	connection bool
	late       bool // the time of the call was over
	document   bool // the server said it, not something before it
}

func (e *Error) Error() string {
	switch {
	case e.late, errors.Is(e.Err, ErrClosed):
		return e.Err.Error()
	case e.Err != nil:
		return "the server does not answer: " + e.Err.Error()
	case e.Detail != "":
		return e.Detail
	}
	return "the server answers " + e.Title
}

func (e *Error) Unwrap() error { return e.Err }

// ended is the error of a call whose context has.
func ended(ctx context.Context) error {
	if err := ctx.Err(); !errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return &Error{Err: ctx.Err(), late: true}
}

// Is has an error of the store be the one that it is here.
func (e *Error) Is(target error) bool {
	switch e.Code {
	case "unknown_tenant":
		return target == mds.ErrUnknownTenant
	case "unknown_job":
		return target == mds.ErrUnknownJob
	case "no_such_key":
		return target == mds.ErrUnknownKey
	case "key_ended":
		return target == mds.ErrKeyEnded
	case "job_key_reused":
		return target == mds.ErrJobKey
	case "jobs_waiting":
		return target == mds.ErrJobsWaiting
	case "sql_limit":
		return target == mds.ErrSQLLimit
	case "no_sql_login":
		return target == mds.ErrNoSQLLogin
	}
	return false
}

// Retryable reports that the same request may be answered otherwise later; see
// [mds.Retryable].
func (e *Error) Retryable() bool {
	switch e.Status {
	case http.StatusRequestTimeout, http.StatusTooManyRequests, http.StatusBadGateway, http.StatusServiceUnavailable, http.StatusGatewayTimeout:
		return true
	}
	return e.connection || e.late
}

// Unavailable reports that the server, or its store, is not well, is not reached, does not
// answer in time, or lets nobody in with this key: any request may fail then, whatever is in
// it; see [mds.Unavailable]. It is so of all but what the server itself says of the request.
func (e *Error) Unavailable() bool {
	if !e.document {
		return !errors.Is(e.Err, ErrClosed) // which no waiting opens
	}
	switch e.Status {
	case http.StatusBadRequest, http.StatusConflict, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity:
		return false
	case http.StatusNotFound:
		return e.Code != "unknown_tenant" && e.Code != "unknown_job"
	}
	return true
}

// tooLarge reports a body that is larger than what the server takes, or a proxy before it.
func tooLarge(err error) bool {
	var e *Error
	return errors.As(err, &e) && e.Status == http.StatusRequestEntityTooLarge && (!e.document || e.Code == "body_too_large")
}

// ErrClosed is wrapped by errors of a client that was closed.
var ErrClosed = errors.New("the client was closed")

// backoff draws pauses from a bound that doubles.
type backoff struct {
	first time.Duration
	n     int
}

const mostBackoff = 10 * time.Second

func (b *backoff) next() time.Duration {
	bound := min(b.first<<min(b.n, 16), mostBackoff)
	b.n++
	return rand.N(bound + 1) //nolint:gosec // nothing secret
}

func sleep(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
