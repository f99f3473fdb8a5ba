// Package client writes to a store, and reads from it, through mds serve.
//
//	c, err := client.New(client.Config{URL: "http://127.0.0.1:8080"})
//	bars := client.TableOf[mds.Bar](c)
//	err = bars.Write(ctx, batch...)
//	for bar, err := range bars.Query(ctx, mds.Tenant{}, mds.Query{Selection: mds.Selection{Symbols: []string{"MSFT"}}}) { … }
//
// A table is an [ingest.Writer]: a coordinator in front of it queues and retries.
package client

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
)

// Config configures a [Client]. All but URL may be left out.
type Config struct {
	// URL is the server's, such as http://127.0.0.1:8080.
	URL string
	// Key is an API key, sent with each request.
	Key string
	// Tenant is whose records are meant, by slug or id, where a call does not say it.
	// Defaults to the key's tenant, and without a key to the server's.
	Tenant string
	// MaxRetries is how often a request is made again that failed in a way that passes:
	// the connection, 408, 429, 502, 503 and 504. A Retry-After is heeded, up to a minute.
	// Records whose answer was lost are written once more by that, and replace what others
	// wrote at the same keys meanwhile; [Table.WriteOnce] does not. [Table.Delete] and
	// [Table.WriteAll] are not made again. Defaults to 4; less than 0 is never.
	MaxRetries int
	// Backoff bounds the pause before the first retry. The bound doubles up to 10 seconds,
	// and the pause is drawn from 0 to it. Defaults to 200 ms.
	Backoff time.Duration
	// Controller is told what the server says of its queue, and asked before records are
	// sent. Nil sends at once.
	Controller *feedback.RateController
	// HTTPClient makes the requests. Defaults to [http.DefaultClient]. A redirect is not
	// followed, which would lose the body or the key, unless its CheckRedirect says so.
	HTTPClient *http.Client
}

// Client speaks to one server. It is safe for concurrent use.
type Client struct {
	cfg    Config
	base   string
	closed atomic.Bool
}

// New returns a client, which connects when it is asked for something.
func New(cfg Config) (*Client, error) {
	u, err := url.Parse(cfg.URL)
	if err != nil || u.Scheme != "http" && u.Scheme != "https" || u.Host == "" || u.User != nil || u.RawQuery != "" || u.Fragment != "" {
		return nil, errors.New("client: the URL is not one such as http://127.0.0.1:8080 or https://mds.example.com")
	}
	if cfg.Backoff < 0 {
		return nil, fmt.Errorf("client: Backoff is %s: it must be 0 or more", cfg.Backoff)
	}
	cfg.MaxRetries = cmp.Or(cfg.MaxRetries, 4)
	cfg.Backoff = cmp.Or(cfg.Backoff, 200*time.Millisecond)
	if cfg.HTTPClient == nil {
		cfg.HTTPClient = http.DefaultClient
	}
	if cfg.HTTPClient.CheckRedirect == nil {
		staying := *cfg.HTTPClient
		staying.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
		cfg.HTTPClient = &staying
	}
	return &Client{cfg: cfg, base: strings.TrimRight(cfg.URL, "/")}, nil
}

// Close has requests that begin from now on fail with [ErrClosed], and closes connections that
// are idle, but those of [http.DefaultTransport], which others use. It need not be called.
func (c *Client) Close() error {
	c.closed.Store(true)
	own, known := c.cfg.HTTPClient.Transport.(*http.Transport)
	if c.cfg.HTTPClient.Transport != nil && (!known || own != http.DefaultTransport) {
		c.cfg.HTTPClient.CloseIdleConnections()
	}
	return nil
}

// Health is how the server is.
func (c *Client) Health(ctx context.Context) (h Health, err error) {
	return h, c.get(ctx, "", "/healthz", nil, &h)
}

// SchemaVersion is the newest migration of a tenant's data.
func (c *Client) SchemaVersion(ctx context.Context, tenant mds.Tenant) (int, error) {
	var v Version
	err := c.get(ctx, c.tenant(tenant), "/schema/version", nil, &v)
	return v.SchemaVersion, err
}

// Tenant finds a tenant by slug or id, or that of the client where neither is said. It fails
// with [mds.ErrUnknownTenant], also where the key is of another tenant.
func (c *Client) Tenant(ctx context.Context, slugOrID string) (mds.Tenant, error) {
	var t Tenant
	err := c.get(ctx, cmp.Or(slugOrID, c.cfg.Tenant), "/v1/tenant", nil, &t)
	return mds.Tenant{ID: t.ID, Slug: t.Slug}, err
}

// Scopes are what the key may do; none where the server asks for no keys.
func (c *Client) Scopes(ctx context.Context) ([]mds.Scope, error) {
	var t Tenant
	err := c.get(ctx, c.cfg.Tenant, "/v1/tenant", nil, &t)
	return t.Scopes, err
}

// Tenants lists the tenants that the key is of, in order of their slugs; without keys those of
// the store.
func (c *Client) Tenants(ctx context.Context) ([]mds.Tenant, error) {
	return c.listTenants(ctx, nil)
}

func (c *Client) listTenants(ctx context.Context, query url.Values) ([]mds.Tenant, error) {
	var answer Tenants
	if err := c.get(ctx, "", "/v1/tenants", query, &answer); err != nil {
		return nil, err
	}
	list := make([]mds.Tenant, len(answer.Tenants))
	for i, t := range answer.Tenants {
		list[i] = mds.Tenant{ID: t.ID, Slug: t.Slug}
	}
	return list, nil
}

// Info describes the store of a tenant. Its Location is the server's URL.
func (c *Client) Info(ctx context.Context, tenant mds.Tenant) (info mds.StoreInfo, err error) {
	err = c.get(ctx, c.tenant(tenant), "/v1/info", nil, &info)
	info.Location = c.base
	return info, err
}

// Statistics are what became of what the server has taken in for a tenant.
func (c *Client) Statistics(ctx context.Context, tenant mds.Tenant) (s Statistics, err error) {
	return s, c.get(ctx, c.tenant(tenant), "/v1/stats", nil, &s)
}

// tenant is what a call names, or else the client's.
func (c *Client) tenant(t mds.Tenant) string { return cmp.Or(t.ID, t.Slug, c.cfg.Tenant) }

// Follow has the configured controller follow how full the queue of a kind is, until ctx
// ends, whose error it returns.
func (c *Client) Follow(ctx context.Context, kind string) error {
	if c.cfg.Controller == nil {
		return errors.New("client: there is no Controller to follow with")
	}
	header := make(http.Header)
	c.identify(header, c.cfg.Tenant)
	f, err := feedback.NewClient(feedback.ClientConfig{
		URL: c.base + "/v1/" + kind + "/feedback", Header: header, Producer: true,
		OnEvent: c.cfg.Controller.Observe, OnLost: c.cfg.Controller.Lost,
	})
	if err != nil {
		return err
	}
	return f.Run(ctx)
}

// identify says who asks, and whose records are meant.
func (c *Client) identify(h http.Header, tenant string) {
	if c.cfg.Key != "" {
		h.Set("Authorization", "Bearer "+c.cfg.Key)
	}
	if tenant != "" {
		h.Set("Mds-Tenant", tenant)
	}
}

// get asks for a document.
func (c *Client) get(ctx context.Context, tenant, path string, query url.Values, to any) error {
	return c.ask(ctx, request{method: http.MethodGet, tenant: tenant, path: path, query: query, accept: document}, to)
}

// ask makes a request that is answered with a document.
func (c *Client) ask(ctx context.Context, r request, to any) error {
	resp, err := c.do(ctx, r)
	if err != nil {
		return err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	body := &streamed{r: resp.Body}
	decoder := json.NewDecoder(body)
	decoder.UseNumber() // a strike is exact
	if err := decoder.Decode(to); err != nil {
		if ctx.Err() != nil {
			return ended(ctx)
		}
		cut := body.err != nil || errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, io.EOF)
		return &Error{Err: fmt.Errorf("the answer of %s is none: %w", r.path, err), connection: cut}
	}
	return nil
}

// request is one to be made, and made again.
type request struct {
	method, tenant, path string
	query                url.Values
	accept, contentType  string
	key                  string // an idempotency key
	// body makes the body, each time anew; nil is none. once says that it cannot, or that
	// the request may not be made twice.
	body func() io.Reader
	once bool
	// streams says that the answer goes on for ever, and last is the event that came last
	// of an earlier one.
	streams bool
	last    string
}

// do makes a request until it is answered with 2xx, or fails for good.
func (c *Client) do(ctx context.Context, r request) (*http.Response, error) {
	pauses := backoff{first: c.cfg.Backoff}
	for attempt := 0; ; attempt++ {
		resp, err := c.once(ctx, r)
		if err == nil {
			return resp, nil
		}
		var e *Error
		if r.once || attempt >= c.cfg.MaxRetries || !errors.As(err, &e) || !e.Retryable() || ctx.Err() != nil {
			return nil, err
		}
		if sleep(ctx, max(pauses.next(), min(e.RetryAfter, time.Minute))) != nil {
			return nil, ended(ctx)
		}
	}
}

// once makes a request once.
func (c *Client) once(ctx context.Context, r request) (*http.Response, error) {
	target := c.base + r.path
	if len(r.query) > 0 {
		target += "?" + r.query.Encode()
	}
	var body io.Reader
	if r.body != nil {
		body = r.body()
	}
	req, err := http.NewRequestWithContext(ctx, r.method, target, body)
	if err != nil {
		return nil, &Error{Err: err}
	}
	c.identify(req.Header, r.tenant)
	headers := map[string]string{"Accept": r.accept, "Content-Type": r.contentType, "Idempotency-Key": r.key, "Last-Event-ID": r.last}
	for name, value := range headers {
		if value != "" {
			req.Header.Set(name, value)
		}
	}
	if c.closed.Load() {
		return nil, &Error{Err: ErrClosed}
	}
	client := c.cfg.HTTPClient
	if r.streams {
		untimed := *client
		untimed.Timeout = 0 // silence ends it
		client = &untimed
	}
	resp, err := client.Do(req)
	switch {
	case err == nil:
	case ctx.Err() != nil:
		return nil, ended(ctx)
	default:
		return nil, &Error{Err: err, connection: true}
	}
	if resp.StatusCode < 300 {
		return resp, nil
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	return nil, c.refusal(resp)
}

// mostProblem is how much is read of a problem.
const mostProblem = 1 << 20

// refusal is the error that an answer stands for.
func (c *Client) refusal(resp *http.Response) error {
	e := &Error{Problem: Problem{Status: resp.StatusCode, Title: resp.Status}}
	if text, err := io.ReadAll(io.LimitReader(resp.Body, mostProblem)); err == nil {
		var p Problem
		if json.Unmarshal(text, &p) == nil && p.Code != "" {
			e.Problem, e.document = p, true
		}
	}
	if to, err := resp.Location(); err == nil && !e.document && resp.StatusCode < 400 {
		asked := strings.TrimPrefix(resp.Request.URL.String(), c.base)
		e.Detail = fmt.Sprintf("the server leads to %s: set the URL to that", strings.TrimSuffix(to.Redacted(), asked))
	}
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.RetryAfter = time.Duration(seconds) * time.Second
	}
	if e.Feedback != nil && c.cfg.Controller != nil {
		c.cfg.Controller.Observe(*e.Feedback)
	}
	return e
}
