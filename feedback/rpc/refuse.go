package rpc

import (
	"errors"
	"net/http"
	"strconv"
	"time"

	"connectrpc.com/connect"
)

// Refuse answers a request in the place of a handler, with an error in the protocol that the
// request speaks: gRPC says in its trailers what HTTP says by a status. It reports false,
// having written nothing, where the request speaks none that a handler does. retry is when to
// come back, which the metadata has as retry-after, in seconds; 0 says nothing.
func Refuse(w http.ResponseWriter, r *http.Request, status int, detail string, retry time.Duration) bool {
	answer := connect.NewErrorWriter()
	if r.Method != http.MethodPost || !answer.IsSupported(r) {
		return false
	}
	code, ok := map[int]connect.Code{
		http.StatusUnauthorized: connect.CodeUnauthenticated, http.StatusForbidden: connect.CodePermissionDenied,
		http.StatusNotFound: connect.CodeNotFound, http.StatusTooManyRequests: connect.CodeResourceExhausted,
		http.StatusServiceUnavailable: connect.CodeUnavailable,
	}[status]
	if !ok {
		code = connect.CodeInternal
		if status < http.StatusInternalServerError {
			code = connect.CodeInvalidArgument
		}
	}
	refusal := connect.NewError(code, errors.New(detail))
	if retry > 0 {
		refusal.Meta().Set("Retry-After", strconv.FormatInt(int64((retry+time.Second-1)/time.Second), 10))
	}
	_ = answer.Write(w, r, refusal) // who has gone does not read it
	return true
}
