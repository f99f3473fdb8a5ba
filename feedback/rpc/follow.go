package rpc

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
)

// Why a stream ended of which the server says nothing.
var (
	errEnded  = errors.New("the server ended the stream")
	errSilent = errors.New("three heartbeats were missed")
)

// follow hands over the events of one stream after the other, until ctx ends or another
// stream would not help.
func (c *Client) follow(ctx context.Context, events chan<- feedback.Event) error {
	backoff, down := c.cfg.Backoff, false
	for {
		heard, err := c.watch(ctx, events, &down)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		switch connect.CodeOf(err) {
		case connect.CodeUnauthenticated, connect.CodePermissionDenied, connect.CodeUnimplemented, connect.CodeNotFound:
			return fmt.Errorf("feedback from %s: %w", c.where, err)
		}
		if heard {
			backoff = c.cfg.Backoff
		}
		if !down {
			down = true
			c.cfg.Logger.Warn("feedback was interrupted", "url", c.where, "error", err)
		}
		if err := pause(ctx, rand.N(backoff+1)); err != nil { //nolint:gosec // nothing secret
			return err
		}
		backoff = min(2*backoff, c.cfg.MaxBackoff)
	}
}

// watch hands over the events of one stream until it ends, and reports whether there were
// any, and why it ended. One that says nothing for three heartbeats is ended.
func (c *Client) watch(ctx context.Context, events chan<- feedback.Event, down *bool) (heard bool, err error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	silence := time.AfterFunc(missed*c.cfg.Heartbeat, func() { cancel(errSilent) })
	defer silence.Stop()
	req := connect.NewRequest(&feedbackv1.WatchRequest{Producer: c.cfg.Producer, Kind: c.cfg.Kind})
	maps.Copy(req.Header(), c.cfg.Header)
	stream, err := c.rpc.Watch(ctx, req)
	if err != nil {
		return false, cmp.Or(silent(ctx), err)
	}
	defer func() { _ = stream.Close() }()
	for stream.Receive() {
		silence.Stop()
		e, err := fromProto(stream.Msg())
		if err != nil {
			c.cfg.Logger.Warn("a feedback event is passed over", "url", c.where, "error", err)
			silence.Reset(missed * c.cfg.Heartbeat)
			continue
		}
		if *down {
			*down = false
			c.cfg.Logger.Info("feedback goes on", "url", c.where, "coordinator", e.CoordinatorID)
		}
		select {
		case events <- e:
			heard = true
		case <-ctx.Done():
		}
		silence.Reset(missed * c.cfg.Heartbeat)
	}
	return heard, cmp.Or(silent(ctx), stream.Err(), errEnded)
}

// silent returns errSilent where it is why ctx ended.
func silent(ctx context.Context) error {
	if errors.Is(context.Cause(ctx), errSilent) {
		return errSilent
	}
	return nil
}

func pause(ctx context.Context, d time.Duration) error {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
