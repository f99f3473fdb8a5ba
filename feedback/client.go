package feedback

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/url"
	"time"
)

// ClientConfig configures a [Client]. URL and OnEvent must be given.
type ClientConfig struct {
	// URL is that of a [Handler]. It may hold a secret: it is not logged.
	URL string
	// Header is sent with each request, such as Authorization.
	Header http.Header
	// Producer says that the client submits records to the store, and shares its rate.
	Producer bool
	// Heartbeat must be that of the handler. Without an event for three of them a
	// coordinator counts as lost. Defaults to 5 seconds.
	Heartbeat time.Duration
	// MinBackoff and MaxBackoff bound the pauses between connections, which are drawn
	// from 0 to a span that doubles. Default to 100 ms and 10 seconds. A Retry-After is
	// heeded up to 30 seconds.
	MinBackoff, MaxBackoff time.Duration
	// HTTPClient makes the requests; its Timeout is not used. Defaults to one of the
	// client's own, which goes through the proxy of the environment.
	HTTPClient *http.Client
	// Logger receives that the connection is lost, and that it is there again. Defaults
	// to discarding it.
	Logger *slog.Logger

	// OnEvent is called with each event, and OnLost, which may be nil, with a coordinator
	// of which nothing is heard any more: once, until an event of it comes. They are
	// called one after the other; a panic is logged.
	OnEvent func(Event)
	OnLost  func(coordinatorID string)
}

// Client follows the events that a [Handler] serves. It has a [RateController] follow them
// with
//
//	ClientConfig{URL: url, Producer: true, OnEvent: controller.Observe, OnLost: controller.Lost}
type Client struct {
	cfg  ClientConfig
	url  string
	host string
	http http.Client
}

// NewClient returns a client, which connects when it runs.
func NewClient(cfg ClientConfig) (*Client, error) {
	u, err := endpoint(cfg.URL)
	if cfg.OnEvent == nil {
		err = errors.Join(err, errors.New("there is no function OnEvent to hand events to"))
	}
	err = errors.Join(err, notNegative(map[string]time.Duration{
		"Heartbeat": cfg.Heartbeat, "MinBackoff": cfg.MinBackoff, "MaxBackoff": cfg.MaxBackoff,
	}))
	if err != nil {
		return nil, fmt.Errorf("feedback client: %w", err)
	}
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = 5 * time.Second
	}
	if cfg.MinBackoff == 0 {
		cfg.MinBackoff = 100 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = max(cfg.MinBackoff, 10*time.Second)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	c := &Client{cfg: cfg, url: withProducer(*u, cfg.Producer), host: u.Host}
	if cfg.HTTPClient != nil {
		c.http = *cfg.HTTPClient
		c.http.Timeout = 0 // silence ends a connection
	} else {
		c.http.Transport = newTransport()
	}
	return c, nil
}

func withProducer(u url.URL, producer bool) string {
	if producer {
		q := u.Query()
		q.Set("producer", "1")
		u.RawQuery = q.Encode()
	}
	return u.String()
}

// missed is after how many heartbeats without an event a coordinator is lost.
const missed = 3

// Run follows the events, over as many connections as it takes, until ctx ends, whose error
// it returns. It also fails when the server refuses the request for good, with a 4xx answer
// but 408 and 429; all coordinators count as lost then.
func (c *Client) Run(ctx context.Context) error {
	events, ended := make(chan Event), make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = c.follow(ctx, events)
	}()
	heard := make(map[string]time.Time) // when, of each coordinator that is not lost
	c.dispatch(events, ended, heard)
	if ctx.Err() == nil {
		c.lose(heard, func(time.Time) bool { return true })
	}
	if c.cfg.HTTPClient == nil {
		c.http.CloseIdleConnections()
	}
	return err
}

// silence is for how long nothing may be heard.
func (c *Client) silence() time.Duration { return missed * c.cfg.Heartbeat }

// dispatch calls the functions until no events will come.
func (c *Client) dispatch(events <-chan Event, ended <-chan struct{}, heard map[string]time.Time) {
	hear := func(e Event) {
		call(c.cfg.OnEvent, e, c.cfg.Logger)
		heard[e.CoordinatorID] = time.Now()
	}
	timer := time.NewTimer(c.silence())
	defer timer.Stop()
	for {
		select {
		case e := <-events:
			hear(e)
		case <-timer.C:
			select {
			case e := <-events: // it came while OnEvent was at another
				hear(e)
			default:
			}
			c.lose(heard, func(at time.Time) bool { return time.Since(at) >= c.silence() })
		case <-ended:
			return
		}
		wait := c.silence()
		for _, at := range heard {
			wait = min(wait, time.Until(at.Add(c.silence())))
		}
		timer.Reset(wait)
	}
}

// lose reports coordinators lost, by when they were heard of.
func (c *Client) lose(heard map[string]time.Time, lost func(time.Time) bool) {
	for id, at := range heard {
		if !lost(at) {
			continue
		}
		delete(heard, id)
		c.cfg.Logger.Warn("nothing is heard of a coordinator any more", "host", c.host, "coordinator", id)
		if c.cfg.OnLost != nil {
			call(func(e Event) { c.cfg.OnLost(e.CoordinatorID) }, Event{CoordinatorID: id}, c.cfg.Logger)
		}
	}
}
