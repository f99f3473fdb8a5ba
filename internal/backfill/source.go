package backfill

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Rules say what may be read.
type Rules struct {
	// Dir is the folder that files are below; "" allows none.
	Dir string
	// Hosts are the names, with ports where they are not the usual ones, that URLs may lead
	// to, and the headers that each is asked with, such as a vendor's API key. Of hosts on
	// this machine http:// will do, of others only https://.
	Hosts map[string]http.Header
	// Timeout is how long an answer may bring nothing. Defaults to one minute.
	Timeout time.Duration
	// MaxBytes bounds a body, packed as it comes. Defaults to 4 GiB.
	MaxBytes int64
	// Transport makes the requests. Defaults to one of its own.
	Transport http.RoundTripper
}

// inner is an error of a file without its path.
func inner(err error) error {
	var path *fs.PathError
	if errors.As(err, &path) {
		return path.Err
	}
	return err
}

// allow refuses a URL that leads elsewhere.
func (r *Rules) allow(u *url.URL) error {
	host := strings.ToLower(u.Host)
	if _, ok := r.Hosts[host]; !ok {
		return &RuleError{fmt.Sprintf("url: the host %s is none that this server asks: its setting jobs.hosts names them", host)}
	}
	if u.Scheme != "https" && !slices.Contains([]string{"127.0.0.1", "::1", "localhost"}, u.Hostname()) {
		return fmt.Errorf("url: %s is asked over https only", host)
	}
	return nil
}

// RuleError is what the rules of a server do not allow; those of another may.
type RuleError struct{ reason string }

func (e *RuleError) Error() string { return e.reason }

// Retryable reports that a server of the same store may do it; see [mds.Retryable].
func (e *RuleError) Retryable() bool { return true }

// Error is a part that could not be read.
type Error struct {
	// Reason is a sentence without what may be secret.
	Reason string
	// After is when to try again; 0 where that is not said.
	After time.Duration

	passes bool
	err    error
}

func (e *Error) Error() string { return e.Reason }

func (e *Error) Unwrap() error { return e.err }

// Retryable reports that it may be read later; see [mds.Retryable].
func (e *Error) Retryable() bool { return e.passes }

// RetryAfter is After.
func (e *Error) RetryAfter() time.Duration { return e.After }

// ErrNothing is what a part without anything is.
var ErrNothing = errors.New("there is nothing")

// Open opens a part. Close what it returns. It fails with an [*Error], and with [ErrNothing]
// where there is nothing and that is said to be so.
func (s *Spec) Open(ctx context.Context, rules *Rules, part Part) (io.ReadCloser, error) {
	if part.url != "" {
		return s.fetch(ctx, rules, part)
	}
	root, err := os.OpenRoot(rules.Dir)
	if err != nil {
		return nil, &Error{Reason: "the folder of jobs.dir cannot be opened: " + inner(err).Error(), err: err}
	}
	defer root.Close() //nolint:errcheck // the file stays open
	f, err := openRegular(root, part.path)
	if err != nil {
		return nil, &Error{Reason: part.path + ": " + inner(err).Error(), err: err}
	}
	return f, nil
}

// fetch asks for a URL.
func (s *Spec) fetch(ctx context.Context, rules *Rules, part Part) (io.ReadCloser, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, part.url, nil)
	if err != nil {
		cancel(nil)
		return nil, &Error{Reason: "url: " + err.Error(), err: err}
	}
	for name, values := range rules.Hosts[strings.ToLower(req.URL.Host)] {
		req.Header[name] = values
	}
	client := http.Client{Transport: cmp.Or(rules.Transport, http.DefaultTransport), CheckRedirect: func(to *http.Request, via []*http.Request) error {
		if len(via) >= 5 {
			return errors.New("it leads on and on")
		}
		to.Header.Del("Referer") // the URL may have a key in it
		if to.URL.Host != req.URL.Host {
			for name := range rules.Hosts[strings.ToLower(req.URL.Host)] {
				to.Header.Del(name) // another host's business
			}
		}
		return rules.allow(to.URL)
	}}
	body := &patient{ctx: ctx, cancel: cancel, patience: cmp.Or(rules.Timeout, time.Minute), left: cmp.Or(rules.MaxBytes, 4<<30), host: req.URL.Host}
	body.timer = time.AfterFunc(body.patience, func() { cancel(fmt.Errorf("nothing came for %v", body.patience)) })
	resp, err := client.Do(req) //nolint:bodyclose // patient closes it
	if err != nil {
		body.timer.Stop()
		cancel(nil)
		var outer *url.Error
		if errors.As(err, &outer) {
			err = outer.Err // without the URL, which may have a key in it
		}
		return nil, &Error{Reason: req.URL.Host + " does not answer: " + err.Error(), passes: !strings.HasPrefix(err.Error(), "url: "), err: err}
	}
	body.body = resp.Body
	if resp.StatusCode == http.StatusOK {
		return body, nil
	}
	_ = body.Close()
	if (resp.StatusCode == http.StatusNotFound || resp.StatusCode == http.StatusNoContent) && s.Missing == "skip" {
		return nil, ErrNothing
	}
	e := &Error{Reason: fmt.Sprintf("%s answers %s for %s", req.URL.Host, resp.Status, part.Name)}
	e.passes = resp.StatusCode == http.StatusTooManyRequests || resp.StatusCode == http.StatusRequestTimeout || resp.StatusCode >= 500
	if seconds, err := strconv.Atoi(resp.Header.Get("Retry-After")); err == nil && seconds > 0 {
		e.After = time.Duration(seconds) * time.Second
	}
	return nil, e
}

// patient is an answer that has to go on coming, and is of bounded length.
type patient struct {
	ctx      context.Context // of the request
	body     io.ReadCloser
	cancel   context.CancelCauseFunc
	timer    *time.Timer
	patience time.Duration
	left     int64
	host     string
}

func (p *patient) Read(b []byte) (int, error) {
	p.timer.Reset(p.patience)
	n, err := p.body.Read(b)
	p.timer.Stop() // what is done with it takes its own time
	if p.left -= int64(n); p.left < 0 {
		return n, &Error{Reason: "the answer of " + p.host + " is larger than a body may be"}
	}
	if errors.Is(err, io.EOF) && p.ctx.Err() != nil {
		// The other side learns of it when we break off, and may end its answer
		// as if that were whole before the connection is closed.
		err = context.Cause(p.ctx)
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = &Error{Reason: "the answer of " + p.host + " ends too early: " + err.Error(), passes: true, err: err}
	}
	return n, err
}

func (p *patient) Close() error {
	p.timer.Stop()
	p.cancel(nil)
	return p.body.Close()
}
