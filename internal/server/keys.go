package server

import (
	"errors"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/store"
)

// keyOperations make, list and end the API keys of the tenant that asks.
func (s *Server) keyOperations() []operation {
	id := text("id", "The key's id").inPath()
	made := func() map[string]*huma.Response {
		r := s.document200("The key", client.MadeKey{})
		r["201"] = r["200"]
		delete(r, "200")
		return r
	}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/keys", id: "keys", tag: "control", scope: mds.ScopeAdmin,
			summary: "List the API keys of a tenant", description: "Whatever their state, without their tokens, which the store does not have.",
			responses: s.document200("The keys", client.APIKeys{}),
			serve:     s.listKeys,
		},
		control(s, operation{
			method: http.MethodPost, path: "/v1/keys", id: "make-key", tag: "control", scope: mds.ScopeAdmin,
			summary:     "Make an API key of a tenant",
			description: "The answer has its token, once. It may do what the key that asks may do, or less.",
			body:        s.documentBody(client.KeyRequest{}),
			responses:   made(),
		}, func(r *client.KeyRequest) map[string][]string {
			return map[string][]string{"name": {r.Name}, "scopes": r.Scopes, "expires": {r.Expires}}
		}, s.makeKey),
		control(s, operation{
			method: http.MethodPost, path: "/v1/keys/{id}/rotate", id: "rotate-key", tag: "control", scope: mds.ScopeAdmin,
			summary:     "Put a new API key in the place of one",
			description: "With its name and scopes, which the key that asks must have. The answer has the new token, once.",
			params:      []param{id}, body: s.documentBody(client.RotateRequest{}), responses: made(),
		}, func(r *client.RotateRequest) map[string][]string {
			return map[string][]string{"until": {r.Until}, "expires": {r.Expires}}
		}, s.rotateKey),
		{
			method: http.MethodDelete, path: "/v1/keys/{id}", id: "revoke-key", tag: "control", scope: mds.ScopeAdmin, audit: true,
			summary:     "Have an API key no longer work, for good",
			description: "This server refuses it from the answer on, and others of the store within a second. A key may revoke itself, and the last one that may make others: the answer warns of that.",
			params:      []param{id}, responses: s.document200("The key", client.APIKey{}),
			serve: s.revokeKey,
		},
	}
}

// openKeys opens what makes and ends keys.
func (s *Server) openKeys(c *call) (store.Keys, error) {
	if s.cfg.Control.Keys == nil {
		return nil, notDoneHere("make, list or end API keys", needsOwner)
	}
	return s.cfg.Control.Keys(c.Context())
}

// keysChanged has what was made or ended count for the next request.
func (s *Server) keysChanged() {
	if s.cfg.Keys != nil {
		s.cfg.Keys.Changed()
	}
}

// mayGive refuses to give scopes that who asks has not.
func (s *Server) mayGive(c *call, scopes []mds.Scope) error {
	if s.cfg.Keys == nil {
		return nil
	}
	for _, scope := range scopes {
		if !apikey.Allow(c.scopes, scope) {
			return &problem{
				status: http.StatusForbidden, code: "forbidden",
				detail: fmt.Sprintf("the key %s may not give the scope %s, which it has not itself", c.key, scope),
			}
		}
	}
	return nil
}

// ofTenant are the keys of the tenant that asks; those of others are as if they were not there.
func ofTenant(c *call, keys store.Keys) ([]mds.APIKey, error) {
	list, err := keys.List(c.Context())
	return slices.DeleteFunc(list, func(k mds.APIKey) bool { return k.Tenant.ID != c.tenant.ID }), err
}

// ownKey is the key that a request names, if it is the tenant's.
func ownKey(c *call, keys store.Keys) (key mds.APIKey, all []mds.APIKey, err error) {
	if all, err = ofTenant(c, keys); err != nil {
		return key, nil, err
	}
	at := slices.IndexFunc(all, func(k mds.APIKey) bool { return k.ID == c.r.PathValue("id") })
	if at < 0 {
		return key, nil, &problem{status: http.StatusNotFound, code: "no_such_key", detail: "the tenant has no such key; /v1/keys lists them"}
	}
	return all[at], all, nil
}

func (s *Server) listKeys(c *call) error {
	keys, err := s.openKeys(c)
	if err != nil {
		return err
	}
	list, err := ofTenant(c, keys)
	if err != nil {
		return err
	}
	out := client.APIKeys{Keys: make([]client.APIKey, len(list))}
	for i := range list {
		out.Keys[i] = client.APIKeyOf(&list[i], time.Now())
	}
	return c.json(http.StatusOK, out)
}

func (s *Server) makeKey(c *call, r *client.KeyRequest) error {
	keys, err := s.keysFor(c, r)
	if err != nil {
		return err
	}
	made, err := s.create(c, keys, c.tenant, r)
	if err != nil {
		return err
	}
	return c.json(http.StatusCreated, made)
}

// keysFor opens the keys for one that is to be made, once it is known that it may be; nil where
// none is asked for.
func (s *Server) keysFor(c *call, r *client.KeyRequest) (store.Keys, error) {
	if r == nil {
		return nil, nil //nolint:nilnil // there is nothing to make
	}
	_, key, err := newKey(c.tenant, r, time.Now())
	if err == nil {
		err = s.mayGive(c, key.Scopes)
	}
	if err != nil {
		return nil, err
	}
	return s.openKeys(c)
}

// newKey is a key as it is asked for.
func newKey(tenant mds.Tenant, r *client.KeyRequest, now time.Time) (token apikey.Token, key mds.APIKey, err error) {
	token, key = apikey.New(now)
	key.Tenant, key.Name = tenant, r.Name
	if key.Scopes, err = mds.ParseScopes(r.Scopes); err != nil {
		return token, key, badRequest("bad_parameter", "scopes: "+err.Error())
	}
	if key.Expires, err = timeIn("expires", r.Expires); err != nil {
		return token, key, err
	}
	if !key.Expires.IsZero() && !key.Expires.After(now) {
		return token, key, badRequest("bad_parameter", "expires: "+r.Expires+" is over")
	}
	return token, key, invalid("bad_parameter", key.Validate())
}

// create makes a key of a tenant.
func (s *Server) create(c *call, keys store.Keys, tenant mds.Tenant, r *client.KeyRequest) (*client.MadeKey, error) {
	token, key, err := newKey(tenant, r, time.Now())
	if err != nil {
		return nil, err
	}
	c.note("id", key.ID)
	if err := keys.Create(c.Context(), key); err != nil {
		return nil, err
	}
	s.keysChanged()
	made := &client.MadeKey{Key: client.APIKeyOf(&key, time.Now()), Token: token.Reveal()}
	if s.cfg.Keys == nil {
		made.Key.Warning = "this server asks for no keys until it is started again"
	}
	return made, nil
}

func (s *Server) rotateKey(c *call, r *client.RotateRequest) error {
	keys, err := s.openKeys(c)
	if err != nil {
		return err
	}
	old, _, err := ownKey(c, keys)
	if err != nil {
		return err
	}
	if err := s.mayGive(c, old.Scopes); err != nil {
		return err
	}
	now := time.Now()
	token, next, err := newKey(c.tenant, &client.KeyRequest{Name: old.Name, Scopes: scopeNames(old.Scopes), Expires: r.Expires}, now)
	if err != nil {
		return err
	}
	until, err := timeIn("until", r.Until)
	if err != nil {
		return err
	}
	if until.Before(next.Created) {
		until = next.Created
	}
	c.note("id", next.ID)
	before, after, err := keys.Rotate(c.Context(), old.ID, next, until)
	if errors.Is(err, mds.ErrKeyEnded) {
		return &problem{status: http.StatusConflict, code: "key_ended", detail: err.Error()}
	}
	if err != nil {
		return err
	}
	s.keysChanged()
	told := client.APIKeyOf(&before, now)
	return c.json(http.StatusCreated, client.MadeKey{Key: client.APIKeyOf(&after, now), Token: token.Reveal(), Before: &told})
}

func scopeNames(scopes []mds.Scope) []string {
	names := make([]string, len(scopes))
	for i, scope := range scopes {
		names[i] = string(scope)
	}
	return names
}

func (s *Server) revokeKey(c *call) error {
	keys, err := s.openKeys(c)
	if err != nil {
		return err
	}
	old, all, err := ownKey(c, keys)
	if err != nil {
		return err
	}
	now := time.Now().UTC().Truncate(time.Microsecond)
	key, err := keys.Revoke(c.Context(), old.ID, now)
	if err != nil {
		return err
	}
	s.keysChanged()
	told := client.APIKeyOf(&key, now)
	looksAfter := func(k mds.APIKey) bool {
		return k.ID != key.ID && k.State(now) == mds.KeyActive && slices.Contains(k.Scopes, mds.ScopeAdmin)
	}
	if slices.Contains(key.Scopes, mds.ScopeAdmin) && !slices.ContainsFunc(all, looksAfter) {
		told.Warning = "the tenant has no key with the scope admin any more: where the store is, mds keys create makes one"
	}
	return c.json(http.StatusOK, told)
}
