package server

import (
	"github.com/marketdatastore/mds"
)

// Control has a server do something for tests, as a control action.
func (s *Server) Control(method, path string, do func(answer func(status int) error) error) {
	secret := text("password", "A secret")
	secret.secret = true
	s.handle(operation{
		method: method, path: path, id: "test-control", tag: "test", scope: mds.ScopeAdmin, audit: true,
		params: []param{text("symbol", "Which").several(), secret},
		serve: func(c *call) error {
			return do(func(status int) error { return c.json(status, struct{}{}) })
		},
	})
}
