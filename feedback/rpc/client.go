package rpc

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1/feedbackv1connect"
)

// heartbeat is how often a server says something, at least. After so many that are missed it
// is lost.
const (
	heartbeat = 5 * time.Second
	missed    = 3
)

// ClientConfig configures a [Client].
type ClientConfig struct {
	// URL is where the service is, without the path that is its own: "https://host:8443",
	// or "http://host:8080" for HTTP/2 without TLS. Required.
	URL string
	// HTTPClient makes the requests. It must speak HTTP/2, and have no Timeout, which would
	// end each stream. Defaults to one that also notices when a connection is dead.
	HTTPClient *http.Client
	// Header is sent with each request, such as Authorization.
	Header http.Header
	// Producer says that the listener submits records to the store, and shares its rate.
	Producer bool
	// Kind is the kind of records whose queue is followed, such as "bars", where the store
	// has several. Defaults to all: a rate controller then goes by the slowest.
	Kind string
	// Heartbeat is how often the server says something, at least. After three that are
	// missed, feedback is lost. Defaults to 5 s, which is what servers do.
	Heartbeat time.Duration
	// Backoff and MaxBackoff bound the pause before another try: it is drawn from 0 to
	// Backoff, which doubles to MaxBackoff, and begins anew with an event. Default to 500 ms
	// and 30 s.
	Backoff, MaxBackoff time.Duration
	// OnEvent is called with each event, and OnLost, where there is one, once when nothing
	// was heard of a coordinator for three heartbeats; the next event ends the outage. Before
	// the first there is nothing to lose. They are called one at a time, and one that panics
	// is called again. OnEvent is required.
	OnEvent func(feedback.Event)
	OnLost  func(coordinatorID string)
	// Logger is told when an outage begins and ends. Defaults to discarding it.
	Logger *slog.Logger
}

// Client follows the feedback of one store, by gRPC. It keeps nothing between runs.
type Client struct {
	cfg   ClientConfig
	where string // the URL without its password
	rpc   feedbackv1connect.FeedbackServiceClient
}

// NewClient returns a client. Nothing is sent before [Client.Run].
func NewClient(cfg ClientConfig) (*Client, error) {
	if cfg.Heartbeat == 0 {
		cfg.Heartbeat = heartbeat
	}
	if cfg.Backoff == 0 {
		cfg.Backoff = 500 * time.Millisecond
	}
	if cfg.MaxBackoff == 0 {
		cfg.MaxBackoff = max(30*time.Second, cfg.Backoff)
	}
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	if cfg.OnLost == nil {
		cfg.OnLost = func(string) {}
	}
	where, err := cfg.validate()
	if err != nil {
		return nil, fmt.Errorf("feedback client: %w", err)
	}
	c := &Client{cfg: cfg, where: where}
	if cfg.HTTPClient == nil {
		c.cfg.HTTPClient = &http.Client{Transport: transport(cfg.Heartbeat)}
	}
	c.rpc = feedbackv1connect.NewFeedbackServiceClient(c.cfg.HTTPClient, cfg.URL,
		connect.WithGRPC(), connect.WithReadMaxBytes(eventMax))
	return c, nil
}

// eventMax bounds a message, in bytes.
const eventMax = 1 << 20

// validate says all that is wrong, and returns the URL as it may be shown.
func (cfg *ClientConfig) validate() (where string, err error) {
	var errs []error
	u, err := url.Parse(cfg.URL)
	switch {
	case err != nil:
		errs = append(errs, errors.New("URL cannot be read: write https://host:port")) // the error repeats it, with a password
	case u.Scheme != "http" && u.Scheme != "https", u.Host == "":
		errs = append(errs, fmt.Errorf("URL is %q: write https://host:port", u.Redacted()))
	default:
		where = u.Redacted()
	}
	if cfg.OnEvent == nil {
		errs = append(errs, errors.New("OnEvent is missing"))
	}
	for _, d := range []struct {
		name  string
		value time.Duration
	}{{"Heartbeat", cfg.Heartbeat}, {"Backoff", cfg.Backoff}, {"MaxBackoff", cfg.MaxBackoff}} {
		if d.value < 0 {
			errs = append(errs, fmt.Errorf("%s is %v: it must be more than 0", d.name, d.value))
		}
	}
	if cfg.Backoff > cfg.MaxBackoff {
		errs = append(errs, fmt.Errorf("the backoff is %v, and its maximum %v", cfg.Backoff, cfg.MaxBackoff))
	}
	return where, errors.Join(errs...)
}

// transport speaks HTTP/2 alone, without TLS where the URL says http. A connection on which
// nothing comes is closed with the third heartbeat: otherwise streams would be opened on it
// for as long as TCP waits. A connection ends with its stream: to close those that are idle
// misses one whose stream is being broken off.
func transport(heartbeat time.Duration) *http.Transport {
	protocols := new(http.Protocols)
	protocols.SetHTTP2(true)
	protocols.SetUnencryptedHTTP2(true)
	return &http.Transport{
		Proxy:     http.ProxyFromEnvironment,
		Protocols: protocols,

		DisableKeepAlives: true,

		HTTP2: &http.HTTP2Config{SendPingTimeout: (missed - 1) * heartbeat, PingTimeout: heartbeat},
	}
}

// Run follows the feedback until ctx ends, and returns its error then. It connects again
// whenever a stream ends, and goes on with the newest event. It gives up, with an error,
// where that would not help: when the server says that the caller is not known, may not, or
// that it has no such service, or kind.
func (c *Client) Run(ctx context.Context) error {
	events, ended := make(chan feedback.Event), make(chan error, 1)
	go func() { ended <- c.follow(ctx, events) }()
	silence := time.NewTimer(missed * c.cfg.Heartbeat)
	silence.Stop()                 // nothing is lost before the first event
	known := make(map[string]bool) // the coordinators that are not lost
	for {
		select {
		case e := <-events:
			known[e.CoordinatorID] = true
			c.contained(func() { c.cfg.OnEvent(e) })
			silence.Reset(missed * c.cfg.Heartbeat) // what came while the function was busy is there already
		case <-silence.C:
			for _, id := range slices.Sorted(maps.Keys(known)) {
				c.contained(func() { c.cfg.OnLost(id) })
			}
			clear(known)
		case err := <-ended:
			return err
		}
	}
}

func (c *Client) contained(handle func()) {
	defer func() {
		if p := recover(); p != nil {
			c.cfg.Logger.Error("a feedback handler panicked", "url", c.where, "panic", p)
		}
	}()
	handle()
}
