package rpc

import (
	"errors"
	"net/http"

	"connectrpc.com/connect"
)

// Refuse answers a request in the place of a handler, with an error in the protocol that the
// request speaks: gRPC says in its trailers what HTTP says by a status. It reports false,
// having written nothing, where the request speaks none that a handler does.
func Refuse(w http.ResponseWriter, r *http.Request, status int, detail string) bool {
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
	_ = answer.Write(w, r, connect.NewError(code, errors.New(detail))) // who has gone does not read it
	return true
}
