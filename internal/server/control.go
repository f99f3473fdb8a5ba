package server

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/document"
	"github.com/marketdatastore/mds/store"
)

// ControlConfig says what may be done through a server to the store itself. Of the zero value
// that is what its own login may: tenants, and the dead letters that it keeps.
type ControlConfig struct {
	// Operator is the slug of the tenant whose keys with the scope admin look after the store
	// of all tenants; "" is none. Where no keys are asked for, everybody does.
	Operator string
	// Keys opens what makes and ends API keys; nil where the server may not.
	Keys func(ctx context.Context) (store.Keys, error)
	// Keeper opens what puts policies in force and carries them out; nil where the server may not.
	Keeper func(ctx context.Context) (store.Keeper, error)
	// Logins opens what lets logins of the database read tenants; nil where the server may not.
	Logins func() (*store.Logins, error)
	// Settings are those in force, without secrets; nil where they are nobody's business.
	Settings func() []client.Setting
}

// controlOperations are those that look after the store itself.
func (s *Server) controlOperations() []operation {
	return slices.Concat(s.tenantOperations(), s.keyOperations(), s.loginOperations(), s.policyOperations(), s.letterOperations(), []operation{s.settingsOperation()})
}

// notDoneHere refuses what takes more than the server has.
func notDoneHere(what, why string) error {
	return &problem{status: http.StatusConflict, code: "not_done_here", detail: fmt.Sprintf("this server does not %s: %s", what, why)}
}

// needsOwner is why a server with a login of its own only does not do something.
const needsOwner = "it needs the owner of the database: set MDS_ADMIN_DSN"

// mostControl bounds the body of a control action.
const mostControl = 2 << 20

// control is a control action with a document as its body, which is read first: so the audit log
// has what is to be done before it is. noted is what of the document goes there; no secrets.
func control[T any](s *Server, o operation, noted func(*T) map[string][]string, serve func(*call, *T) error) operation {
	o.audit = true
	o.read = func(c *call) error {
		asked, err := read[T](s, c)
		if err == nil {
			c.asked, c.noted = asked, noted(asked)
		}
		return err
	}
	o.serve = func(c *call) error { return serve(c, c.asked.(*T)) }
	return o
}

// read reads a body that is one document, which has no members that there are not.
func read[T any](s *Server, c *call) (*T, error) {
	body, err := c.unpack(c.raw(c.Context(), codec.FormatNDJSON, s.cfg.IdleTimeout, mostControl, func() error { return nil }))
	if err != nil {
		return nil, err
	}
	defer body.Close() //nolint:errcheck // it was read, or has failed
	text, err := io.ReadAll(io.LimitReader(body, mostControl+1))
	switch {
	case err != nil:
		return nil, err
	case len(text) > mostControl:
		return nil, &problem{status: http.StatusRequestEntityTooLarge, code: "body_too_large", detail: fmt.Sprintf("the body is larger than %d KiB, which is more than this takes", mostControl>>10)}
	case len(bytes.TrimSpace(text)) == 0:
		return nil, badRequest("unreadable_body", "the body is empty: send a JSON object, as /openapi.json describes it")
	}
	to := new(T)
	switch err := document.Read(text, to); {
	case errors.Is(err, document.ErrMore):
		return nil, badRequest("unreadable_body", "there is more in the body than one JSON object")
	case err != nil:
		return nil, badRequest("unreadable_body", "the body is not the JSON object that /openapi.json describes: "+err.Error())
	}
	return to, nil
}

// note adds to what the audit log is told of the call.
func (c *call) note(name string, values ...string) {
	if c.noted == nil {
		c.noted = make(map[string][]string)
	}
	c.noted[name] = append(c.noted[name], values...)
}

// timeIn reads a member of a document that is a time; zero where it is not there.
func timeIn(name, text string) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	at, err := codec.ParseTime(text, time.UTC)
	if err != nil {
		return at, badRequest("bad_parameter", name+": "+err.Error())
	}
	if at.IsZero() {
		return at, badRequest("bad_parameter", name+": "+noTime)
	}
	return at.UTC().Truncate(time.Microsecond), nil
}

// noTime refuses the zero time, which stands for none: it would pick everything.
const noTime = "the first moment of the year 1 is none to go by; leave it out, or say a later one"

// invalid is a fault that a document has, in the words of the store.
func invalid(code string, err error) error {
	var fault *mds.InvalidError
	if errors.As(err, &fault) {
		return badRequest(code, err.Error())
	}
	return err
}

// settingsOperation tells what is set.
func (s *Server) settingsOperation() operation {
	return operation{
		method: http.MethodGet, path: "/v1/settings", id: "settings", tag: "control", scope: mds.ScopeAdmin, operator: true,
		summary:     "List the settings in force",
		description: "Each with where it was set. Passwords, keys and what else is secret are not told.",
		responses:   s.document200("The settings", client.Settings{}),
		serve: func(c *call) error {
			if s.cfg.Control.Settings == nil {
				return notDoneHere("tell its settings", "it was started without any")
			}
			return c.json(http.StatusOK, client.Settings{Settings: s.cfg.Control.Settings()})
		},
	}
}
