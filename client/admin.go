package client

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/marketdatastore/mds"
)

// TenantRequest asks for a tenant.
type TenantRequest struct {
	Tenant string `json:"tenant" doc:"Its name: lower-case letters, digits, - and _"`
	// Key is its first key.
	Key *KeyRequest `json:"key,omitempty" doc:"A first key for it, which is made with it, and not where the tenant was there"`
}

// MadeTenant is a tenant that was made, or was there.
type MadeTenant struct {
	ID   string `json:"id" doc:"A UUID"`
	Slug string `json:"slug" doc:"A short name"`
	Made bool   `json:"made" doc:"Whether it was made; else it was there"`
	// Key is its first key, where one was made.
	Key *MadeKey `json:"key,omitempty" doc:"Its first key, where one was asked for and the tenant was not there"`
}

// KeyRequest asks for an API key.
type KeyRequest struct {
	Name    string   `json:"name,omitempty" doc:"What it is for, to tell keys apart"`
	Scopes  []string `json:"scopes" doc:"What it may do: read, write, admin, metrics, or some of them, of those that the key that asks may do itself"`
	Expires string   `json:"expires,omitempty" doc:"When it stops working; never unless it is said"`
}

// RotateRequest asks for a key in the place of another one.
type RotateRequest struct {
	Until   string `json:"until,omitempty" doc:"Until when the old one still works; at once it does not unless it is said"`
	Expires string `json:"expires,omitempty" doc:"When the new one stops working; when the old one was to, unless it is said"`
}

// APIKey is what may be told of an API key. Times are UTC.
type APIKey struct {
	ID       string       `json:"id" doc:"Its id, which stands in its token and is no secret"`
	Tenant   string       `json:"tenant" doc:"Whose it is"`
	TenantID string       `json:"tenant_id" doc:"The tenant's UUID"`
	Name     string       `json:"name,omitempty" doc:"What it is for"`
	Scopes   []mds.Scope  `json:"scopes" doc:"What it may do"`
	State    mds.KeyState `json:"state" doc:"active, expired or revoked"`
	Created  *time.Time   `json:"created,omitempty" doc:"When it was made"`
	Expires  *time.Time   `json:"expires,omitempty" doc:"When it stops working; left out for never"`
	Revoked  *time.Time   `json:"revoked,omitempty" doc:"When it was revoked"`
	// Warning is what one should know of what was done.
	Warning string `json:"warning,omitempty" doc:"What one should know of what was done"`
}

// APIKeyOf is a key as it is told, as of a time.
func APIKeyOf(k *mds.APIKey, now time.Time) APIKey {
	return APIKey{
		ID: k.ID, Tenant: k.Tenant.Slug, TenantID: k.Tenant.ID, Name: k.Name, Scopes: k.Scopes, State: k.State(now),
		Created: known(k.Created), Expires: known(k.Expires), Revoked: known(k.Revoked),
	}
}

// Key is the key, without what its secret is checked by.
func (k *APIKey) Key() mds.APIKey {
	key := mds.APIKey{ID: k.ID, Tenant: mds.Tenant{ID: k.TenantID, Slug: k.Tenant}, Name: k.Name, Scopes: k.Scopes}
	for to, from := range map[*time.Time]*time.Time{&key.Created: k.Created, &key.Expires: k.Expires, &key.Revoked: k.Revoked} {
		if from != nil {
			*to = from.UTC()
		}
	}
	return key
}

// APIKeys are some keys.
type APIKeys struct {
	Keys []APIKey `json:"keys" doc:"In order of their making"`
}

// MadeKey is a key that was made.
type MadeKey struct {
	Key   APIKey `json:"key" doc:"The key"`
	Token string `json:"token" doc:"What is sent as Authorization: Bearer …; it is told this once"`
	// Before is the one whose place it takes.
	Before *APIKey `json:"before,omitempty" doc:"The key whose place it takes"`
}

// LoginRequest lets a login of the database read a tenant.
type LoginRequest struct {
	Tenant string `json:"tenant" doc:"The tenant, by slug or id"`
	Login  string `json:"login" doc:"The name of the login"`
	Create bool   `json:"create,omitempty" doc:"Whether to make the login where there is none"`
	// Password is that of a login that is made.
	Password string `json:"password,omitempty" doc:"The password of a login that is made; a random one unless it is said"`
}

// Login is a login of the database that reads a tenant.
type Login struct {
	Login    string `json:"login" doc:"Its name"`
	Tenant   string `json:"tenant" doc:"The tenant that it reads"`
	TenantID string `json:"tenant_id" doc:"The tenant's UUID"`
	// Made and Password are told of one that was just made.
	Made     bool   `json:"made,omitempty" doc:"Whether it was made"`
	Password string `json:"password,omitempty" doc:"The password that was drawn for it; it is told this once"`
}

// Logins are some logins.
type Logins struct {
	Logins []Login `json:"logins" doc:"In order of their names"`
}

// Setting is a setting of the server that is in force.
type Setting struct {
	Key    string `json:"key" doc:"Its section and name in the configuration file"`
	Value  string `json:"value" doc:"What it is, without secrets; empty where it is not set"`
	From   string `json:"from" doc:"Where it was set: the file and its line, the variable or the flag, or default"`
	Secret bool   `json:"secret,omitempty" doc:"Whether something of the value is not shown"`
}

// Settings are those of a server.
type Settings struct {
	Settings []Setting `json:"settings" doc:"Section by section"`
}

// send makes a request with a document, or without one where it is nil. One that may be done
// twice is made again where its answer is lost.
func (c *Client) send(ctx context.Context, r request, doc any, to any) error {
	r.accept = document
	if doc != nil {
		body, err := json.Marshal(doc)
		if err != nil {
			return err
		}
		r.contentType = document
		r.body = func() io.Reader { return bytes.NewReader(body) }
	}
	return c.ask(ctx, r, to)
}

// Operates reports whether the key looks after the store of all tenants.
func (c *Client) Operates(ctx context.Context) (bool, error) {
	var t Tenant
	err := c.get(ctx, c.cfg.Tenant, "/v1/tenant", nil, &t)
	return t.Operator, err
}

// AllTenants lists the tenants of the store. It takes an operator's key.
func (c *Client) AllTenants(ctx context.Context) ([]mds.Tenant, error) {
	return c.listTenants(ctx, url.Values{"all": {"true"}})
}

// MakeTenant makes a tenant, with a first key where one is asked for. It takes an operator's
// key. Where there is such a tenant it is left as it is, and Made is
// false. The request is not made again where a key is asked for, whose token would be lost.
func (c *Client) MakeTenant(ctx context.Context, ask TenantRequest) (tenant MadeTenant, err error) {
	return tenant, c.send(ctx, request{method: http.MethodPost, tenant: c.cfg.Tenant, path: "/v1/tenants", once: ask.Key != nil}, ask, &tenant)
}

// DropTenant removes a tenant and all that it has: records, keys, logins' rights, jobs and dead
// letters. It takes an operator's key.
func (c *Client) DropTenant(ctx context.Context, tenant mds.Tenant) error {
	return c.send(ctx, request{
		method: http.MethodDelete, tenant: c.cfg.Tenant, path: "/v1/tenants/" + url.PathEscape(tenant.Slug), query: url.Values{"all": {"true"}}, once: true,
	}, nil, &struct{}{})
}

// Keys lists the API keys of a tenant, whatever their state.
func (c *Client) Keys(ctx context.Context, tenant mds.Tenant) ([]APIKey, error) {
	var list APIKeys
	err := c.get(ctx, c.tenant(tenant), "/v1/keys", nil, &list)
	return list.Keys, err
}

// MakeKey makes an API key of a tenant, with scopes that the client's own key has. It is not
// made again where its answer is lost: revoke what [Client.Keys] then shows.
func (c *Client) MakeKey(ctx context.Context, tenant mds.Tenant, ask KeyRequest) (made MadeKey, err error) {
	return made, c.send(ctx, request{method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/keys", once: true}, ask, &made)
}

// RotateKey puts a new key in the place of one.
func (c *Client) RotateKey(ctx context.Context, tenant mds.Tenant, id string, ask RotateRequest) (made MadeKey, err error) {
	return made, c.send(ctx, request{method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/keys/" + url.PathEscape(id) + "/rotate", once: true}, ask, &made)
}

// RevokeKey has a key no longer work, for good.
func (c *Client) RevokeKey(ctx context.Context, tenant mds.Tenant, id string) (key APIKey, err error) {
	return key, c.send(ctx, request{method: http.MethodDelete, tenant: c.tenant(tenant), path: "/v1/keys/" + url.PathEscape(id)}, nil, &key)
}

// Logins lists the logins of the database that read a tenant. It takes an operator's key, as
// GrantLogin and RevokeLogin do.
func (c *Client) Logins(ctx context.Context) ([]Login, error) {
	var list Logins
	err := c.get(ctx, c.cfg.Tenant, "/v1/logins", nil, &list)
	return list.Logins, err
}

// GrantLogin lets a login of the database read a tenant, and makes it where that is asked for.
func (c *Client) GrantLogin(ctx context.Context, ask LoginRequest) (login Login, err error) {
	return login, c.send(ctx, request{method: http.MethodPost, tenant: c.cfg.Tenant, path: "/v1/logins", once: ask.Create}, ask, &login)
}

// RevokeLogin takes from a login what GrantLogin gave it.
func (c *Client) RevokeLogin(ctx context.Context, tenant, login string) error {
	return c.send(ctx, request{
		method: http.MethodDelete, tenant: c.cfg.Tenant, path: "/v1/logins/" + url.PathEscape(login), query: url.Values{"tenant": {tenant}}, once: true,
	}, nil, &Login{})
}

// Settings are those of the server that are in force, without secrets. It takes an operator's
// key.
func (c *Client) Settings(ctx context.Context) ([]Setting, error) {
	var list Settings
	err := c.get(ctx, c.cfg.Tenant, "/v1/settings", nil, &list)
	return list.Settings, err
}
