package feedback

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net/http"
	"time"
)

// WebhookConfig configures a [Webhook]. All but URL may be left out.
type WebhookConfig struct {
	// URL is where events are posted to. It may hold a secret: it is not logged.
	URL string
	// Producers is how many producers follow what is posted, and share the store's rate.
	// Defaults to 0: they are not counted.
	Producers int
	// Secret signs the posts, see [SignatureHeader]. Without one they are not signed.
	Secret []byte
	// Timeout bounds one post, its answer included. Defaults to 2.5 seconds.
	Timeout time.Duration
	// MaxRetries is how often an event is posted again that the endpoint has not taken.
	// Defaults to 3; negative is never.
	MaxRetries int
	// Backoff bounds the pause before the first retry. The bound doubles up to 10
	// seconds, and the pause is drawn from 0 to it. Defaults to 500 ms.
	Backoff time.Duration
	// Heartbeat is how long after the last post the newest event is posted again while
	// its level is not ok, or has not been delivered yet. Defaults to 10 seconds.
	Heartbeat time.Duration
	// Client makes the posts; its CheckRedirect is not used. Defaults to one of the
	// webhook's own, which goes through the proxy of the environment.
	Client *http.Client
	// Logger receives that the endpoint does not take events, and that it does again.
	// Defaults to discarding it.
	Logger *slog.Logger
}

// Webhook posts the events of a bus to a URL, as JSON: each change of level, in order, and
// within a level what is newest. An event that has to be posted again is dropped when there
// is a newer one. A 2xx answer is success. A redirect is not followed, and an answer from
// 300 to 499 but 408 and 429 is not asked for again before the next event or heartbeat. A
// Retry-After is heeded up to 30 seconds. The bus never waits for the endpoint.
type Webhook struct {
	cfg    WebhookConfig
	bus    *Bus
	client http.Client
	host   string
}

// NewWebhook returns a webhook, which posts while it runs.
func NewWebhook(bus *Bus, cfg WebhookConfig) (*Webhook, error) {
	u, err := endpoint(cfg.URL)
	err = errors.Join(err, notNegative(map[string]time.Duration{
		"Timeout": cfg.Timeout, "Backoff": cfg.Backoff, "Heartbeat": cfg.Heartbeat,
	}))
	if err != nil {
		return nil, fmt.Errorf("webhook: %w", err)
	}
	if cfg.Timeout == 0 {
		cfg.Timeout = 2500 * time.Millisecond
	}
	if cfg.MaxRetries == 0 {
		cfg.MaxRetries = 3
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 500 * time.Millisecond
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 10 * time.Second
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	w := &Webhook{cfg: cfg, bus: bus, host: u.Host}
	if cfg.Client != nil {
		w.client = *cfg.Client
	} else {
		w.client.Transport = newTransport()
	}
	w.client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return w, nil
}

// Run posts the events until ctx ends, whose error it returns, or the bus is closed and the
// last event posted or given up.
func (w *Webhook) Run(ctx context.Context) error {
	s := w.bus.Subscribe(Options{Transport: "webhook", Buffer: maxInbox, Producers: w.cfg.Producers})
	p := &posting{Webhook: w, pauses: backoff{first: w.cfg.Backoff, most: max(w.cfg.Backoff, 10*time.Second)}}
	p.in = newInbox(func() { w.bus.metrics.dropped("webhook") })
	filled := make(chan struct{})
	go func() {
		defer close(filled)
		p.in.fill(s.C)
	}()
	defer func() {
		s.Close()
		<-filled
		if w.cfg.Client == nil {
			w.client.CloseIdleConnections()
		}
	}()
	for {
		e, err := p.next(ctx)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err == nil {
			err = p.deliver(ctx, e)
		}
		if err != nil {
			return err
		}
	}
}

// posting is a run of a webhook.
type posting struct {
	*Webhook
	in        *inbox
	last      Event     // the newest
	rate      float64   // that was suggested by the last that was posted
	posted    time.Time // when that was
	pauses    backoff
	failures  int  // in a row
	delivered bool // the last event
	failing   bool // and that has been logged
}

// next waits for what is to be posted. It returns [io.EOF] when nothing will come.
func (p *posting) next(ctx context.Context) (Event, error) {
	var beat <-chan time.Time
	if p.last.Level != "" && (p.last.Level != OK || !p.delivered) {
		t := time.NewTimer(p.cfg.Heartbeat)
		defer t.Stop()
		beat = t.C
	}
	for {
		e, ok, over := p.in.take()
		if ok && p.worth(&e) {
			return e, nil
		}
		if ok {
			p.last = e // for the heartbeat
			continue
		}
		if over {
			return e, io.EOF
		}
		select {
		case <-p.in.wake:
		case <-beat:
			p.last.Stamp(time.Now())
			return p.last, nil
		case <-ctx.Done():
			return e, ctx.Err()
		}
	}
}

// worth reports that an event is posted at once: it is of another level, or suggests another
// rate, by a fifth, a second or more after the last.
func (p *posting) worth(e *Event) bool {
	if e.Level != p.last.Level || !p.delivered {
		return true
	}
	const another = 0.2
	return math.Abs(e.SuggestedRate-p.rate) > another*p.rate && time.Since(p.posted) >= time.Second
}

// deliver posts an event, and while that fails the newest one. It fails when ctx ends.
func (p *posting) deliver(ctx context.Context, e Event) error {
	for attempt := 0; ; attempt++ {
		err := p.post(ctx, e)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		p.bus.metrics.posted(err)
		p.note(e, err)
		if err == nil {
			return nil
		}
		over := attempt >= p.cfg.MaxRetries || permanent(err)
		if over && p.in.over() {
			return nil
		}
		if err := sleep(ctx, max(p.pauses.next(), retryAfterOf(err))); err != nil {
			return err
		}
		if newer, ok := p.in.newest(); ok {
			p.bus.metrics.dropped("webhook")
			e, attempt = newer, -1
		} else if over {
			return nil
		}
	}
}

// permanent reports that the endpoint will not take the same post later.
func permanent(err error) bool {
	e, ok := errors.AsType[*statusError](err)
	return ok && (e.redirect() || e.refused()) || errors.Is(err, ErrEvent)
}

// note keeps what became of a post, and logs when that changes for longer.
func (p *posting) note(e Event, err error) {
	p.last, p.delivered, p.rate, p.posted = e, err == nil, e.SuggestedRate, time.Now()
	if err == nil {
		if p.failing {
			p.cfg.Logger.Info("the webhook takes events again", "host", p.host)
		}
		p.failures, p.failing = 0, false
		p.pauses.reset()
		return
	}
	if p.failures++; !p.failing && (p.failures > p.cfg.MaxRetries || permanent(err)) {
		p.failing = true
		p.cfg.Logger.Warn("the webhook does not take events; the newest is tried again", "host", p.host, "coordinator", e.CoordinatorID, "error", err)
	}
}

// post posts an event once.
func (w *Webhook) post(ctx context.Context, e Event) error {
	body, err := json.Marshal(&e)
	if err != nil {
		return fmt.Errorf("%w: %w", ErrEvent, err)
	}
	ctx, cancel := context.WithTimeout(ctx, w.cfg.Timeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, w.cfg.URL, bytes.NewReader(body))
	if err != nil {
		return withoutURL(err)
	}
	req.Header.Set("Content-Type", "application/json")
	sign(req.Header, w.cfg.Secret, time.Now(), body)
	resp, err := w.client.Do(req)
	if err != nil {
		return withoutURL(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it was only read
	if resp.StatusCode < 200 || resp.StatusCode > 299 {
		return newStatusError(resp)
	}
	// So that the connection can be used again; the answer has been given.
	_, _ = io.CopyN(io.Discard, resp.Body, maxMessage)
	return nil
}
