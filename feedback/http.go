package feedback

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// maxMessage bounds what is read of an event, of a line and of an answer, in bytes.
const maxMessage = 64 << 10

// endpoint reads a URL. Its errors do not tell it: it may hold a secret.
func endpoint(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return nil, fmt.Errorf("URL cannot be read: %w", withoutURL(err))
	}
	if u.Scheme != "http" && u.Scheme != "https" || u.Host == "" {
		return nil, errors.New("URL must be absolute, as in https://host/path")
	}
	return u, nil
}

// withoutURL takes the URL out of an error of net/url or net/http.
func withoutURL(err error) error {
	if e, ok := errors.AsType[*url.Error](err); ok {
		return e.Err
	}
	return err
}

// notNegative returns an error for each duration that is negative.
func notNegative(durations map[string]time.Duration) error {
	var errs []error
	for name, d := range durations {
		if d < 0 {
			errs = append(errs, fmt.Errorf("%s is %v: it must be 0, for the default, or more", name, d))
		}
	}
	return errors.Join(errs...)
}

// newTransport returns a transport for one endpoint.
func newTransport() *http.Transport {
	return &http.Transport{
		Proxy: http.ProxyFromEnvironment, ForceAttemptHTTP2: true,
		MaxIdleConns: 2, IdleConnTimeout: 90 * time.Second, TLSHandshakeTimeout: 10 * time.Second,
	}
}

// statusError is an answer that is no success.
type statusError struct {
	status     int
	text       string        // the beginning of its body
	location   string        // of a redirect
	retryAfter time.Duration // 0 where the answer does not say it
}

// newStatusError reads an answer, of its body so much as is to be told.
func newStatusError(resp *http.Response) *statusError {
	text, _ := io.ReadAll(io.LimitReader(resp.Body, 200)) // what there is of it
	e := &statusError{status: resp.StatusCode, location: resp.Header.Get("Location")}
	e.text = strings.TrimSpace(strings.ToValidUTF8(string(text), ""))
	if e.status == http.StatusTooManyRequests || e.status == http.StatusServiceUnavailable {
		e.retryAfter = retryAfter(resp.Header.Get("Retry-After"), time.Now())
	}
	return e
}

func (e *statusError) Error() string {
	says := fmt.Sprintf("the answer is %d %s", e.status, http.StatusText(e.status))
	switch {
	case e.redirect():
		return says + ", and redirects are not followed: give the URL that it leads to, on " + hostOf(e.location)
	case e.text != "":
		return fmt.Sprintf("%s: %q", says, e.text)
	}
	return says
}

func (e *statusError) redirect() bool { return e.status >= 300 && e.status < 400 }

// refused reports that the same request will be refused again.
func (e *statusError) refused() bool {
	return e.status >= 400 && e.status < 500 && e.status != http.StatusRequestTimeout && e.status != http.StatusTooManyRequests
}

// longestRetryAfter bounds how long a server may have its clients wait.
const longestRetryAfter = 30 * time.Second

// retryAfter reads a Retry-After header: seconds or a date. What cannot be read is 0.
func retryAfter(header string, now time.Time) time.Duration {
	if seconds, err := strconv.ParseUint(header, 10, 64); err == nil {
		return time.Duration(min(seconds, uint64(longestRetryAfter/time.Second))) * time.Second
	}
	if t, err := http.ParseTime(header); err == nil {
		return max(0, min(t.Sub(now), longestRetryAfter))
	}
	return 0
}

// retryAfterOf is how long the server has asked to wait.
func retryAfterOf(err error) time.Duration {
	if e, ok := errors.AsType[*statusError](err); ok {
		return e.retryAfter
	}
	return 0
}

// backoff is the pauses between attempts, drawn from 0 to a span that doubles (exponential,
// with full jitter).
type backoff struct{ first, most, span time.Duration }

func (b *backoff) reset() { b.span = 0 }

func (b *backoff) next() time.Duration {
	b.span = min(max(b.first, 2*b.span), b.most)
	return rand.N(b.span + 1) //nolint:gosec // nothing secret
}

// sleep waits, or returns the context's error when it ends first.
func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// hostOf is the scheme and host of a URL: its path and query may hold a secret.
func hostOf(text string) string {
	u, err := url.Parse(text)
	if err != nil || u.Host == "" {
		return "the same host"
	}
	return u.Scheme + "://" + u.Host
}
