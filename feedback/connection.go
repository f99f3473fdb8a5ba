package feedback

import (
	"context"
	"errors"
	"fmt"
	"mime"
	"net/http"
	"time"
)

// errSilent ends a connection over which nothing comes.
var errSilent = errors.New("nothing was heard for three heartbeats")

// follow connects for ever, until ctx ends or the server refuses it for good.
func (c *Client) follow(ctx context.Context, events chan<- Event) error {
	pauses := backoff{first: c.cfg.MinBackoff, most: max(c.cfg.MinBackoff, c.cfg.MaxBackoff)}
	failing := false
	for {
		err := c.connect(ctx, events, func() {
			pauses.reset()
			if failing {
				c.cfg.Logger.Info("feedback is heard again", "host", c.host)
			}
			failing = false
		})
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if e, ok := errors.AsType[*statusError](err); ok && e.refused() {
			return fmt.Errorf("feedback client: %s: %w; %s", c.host, err, e.advice())
		}
		if !failing {
			failing = true
			c.cfg.Logger.Warn("the feedback connection is lost; connecting again", "host", c.host, "error", err)
		}
		if err := sleep(ctx, max(pauses.next(), retryAfterOf(err))); err != nil {
			return err
		}
	}
}

// advice says what to do about a refusal.
func (e *statusError) advice() string {
	switch e.status {
	case http.StatusUnauthorized, http.StatusForbidden, http.StatusProxyAuthRequired:
		return "check the credentials in Header"
	case http.StatusNotFound, http.StatusGone, http.StatusMethodNotAllowed, http.StatusNotAcceptable:
		return "check that URL is that of a feedback handler"
	}
	return "check URL and Header"
}

// connect hands over the events of one connection, and returns why that ended. Works is
// called when the first has come, or a comment in its place.
func (c *Client) connect(ctx context.Context, events chan<- Event, works func()) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	watchdog := time.AfterFunc(c.silence(), func() { cancel(errSilent) })
	defer watchdog.Stop()
	resp, err := c.open(ctx)
	if err != nil {
		return because(ctx, err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	messages, garbage := newEventReader(resp.Body), false
	for {
		m, err := messages.next()
		if err != nil {
			return because(ctx, err)
		}
		var e Event
		if !m.comment {
			if m.event != "feedback" {
				continue // of a newer version
			}
			if e, err = Parse(m.data); err != nil {
				if !garbage {
					garbage = true
					c.cfg.Logger.Warn("an event cannot be read, and is left out", "host", c.host, "error", err)
				}
				continue
			}
		}
		watchdog.Stop() // OnEvent may take its time
		works()
		if !m.comment {
			select {
			case events <- e:
			case <-ctx.Done():
				return context.Cause(ctx)
			}
		}
		watchdog.Reset(c.silence())
	}
}

// because is why a connection failed: that it was given up, if it was.
func because(ctx context.Context, err error) error {
	if cause := context.Cause(ctx); cause != nil {
		return cause
	}
	return err
}

// open connects.
func (c *Client) open(ctx context.Context) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, c.url, http.NoBody)
	if err != nil {
		return nil, withoutURL(err)
	}
	for name, values := range c.cfg.Header {
		req.Header[name] = append([]string(nil), values...)
	}
	req.Header.Set("Accept", eventStream)
	req.Header.Set("Accept-Encoding", "identity") // a compressor would hold events back
	req.Header.Set("Cache-Control", "no-cache")
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, withoutURL(err)
	}
	switch media, _, _ := mime.ParseMediaType(resp.Header.Get("Content-Type")); {
	case resp.StatusCode != http.StatusOK:
		err = newStatusError(resp)
	case media != eventStream:
		err = fmt.Errorf("the answer is %.100q and not %s: is URL that of a feedback handler?", media, eventStream)
	default:
		return resp, nil
	}
	_ = resp.Body.Close() // it was only read
	return nil, err
}
