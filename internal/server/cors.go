package server

import (
	"errors"
	"net/http"
	"slices"

	"github.com/rs/cors"
)

// anyOrigin stands for all of them.
const anyOrigin = "*"

// errAnyOrigin refuses to let every page in: without keys it is the browser's place on the
// network that lets it in, which every page shares.
var errAnyOrigin = errors.New("pages of any origin may not use a server that asks for no keys: name the origins")

// pages lets pages in a browser use a handler, if they are of origins that may, and refuses
// what those of others send: whatever they make a browser send, they must not submit records.
func (s *Server) pages(h http.Handler) (http.Handler, error) {
	every := slices.Contains(s.cfg.Origins, anyOrigin)
	if !every {
		protection := http.NewCrossOriginProtection()
		for _, origin := range s.cfg.Origins {
			if err := protection.AddTrustedOrigin(origin); err != nil {
				return nil, err
			}
		}
		protection.SetDenyHandler(s.plain(public, "other", refusal(errCrossOrigin)))
		h = protection.Handler(h)
	}
	if len(s.cfg.Origins) == 0 {
		return h, nil
	}
	return cors.New(cors.Options{
		AllowedOrigins: s.cfg.Origins,
		AllowedMethods: []string{http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodDelete},
		AllowedHeaders: []string{"Authorization", "Content-Type", "Content-Encoding", "Idempotency-Key", "Last-Event-Id", requestID, tenantHeader,
			// of gRPC-Web and Connect
			"X-Grpc-Web", "X-User-Agent", "Grpc-Timeout", "Connect-Protocol-Version", "Connect-Timeout-Ms"},
		ExposedHeaders: []string{"Mds-Next-Cursor", requestID, "Retry-After", "Idempotency-Replayed", "Grpc-Status", "Grpc-Message", "Grpc-Status-Details-Bin"},
		MaxAge:         600,
		// A page of the network may use a server on its reader's machine, where it is named.
		AllowPrivateNetwork: !every,
	}).Handler(h), nil
}
