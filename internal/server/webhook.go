package server

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

// webhooks post the events of each kind's coordinator.
type webhooks struct {
	running sync.WaitGroup
	cancel  context.CancelFunc
}

// startWebhooks has the events of all kinds be posted, where there is a place to post them to.
func (s *Server) startWebhooks() error {
	if s.cfg.Webhook == nil {
		return nil
	}
	cfg := *s.cfg.Webhook
	if cfg.Logger == nil {
		cfg.Logger = s.cfg.Logger
	}
	var hooks []*feedback.Webhook
	for _, k := range s.kinds {
		if k.bus == nil {
			continue
		}
		h, err := feedback.NewWebhook(k.bus, cfg)
		if err != nil {
			return fmt.Errorf("%s: %w", k.name, err)
		}
		hooks = append(hooks, h)
	}
	ctx, cancel := context.WithCancel(s.background)
	s.hooks.cancel = cancel
	for _, h := range hooks {
		s.hooks.running.Go(func() { _ = h.Run(ctx) }) // it ends with the bus, or when it is not waited for any longer
	}
	return nil
}

// stopWebhooks ends them, whose buses are closed: the last event has a little time.
func (s *Server) stopWebhooks() {
	if s.hooks.cancel == nil {
		return
	}
	defer time.AfterFunc(lastAnswers, s.hooks.cancel).Stop()
	s.hooks.running.Wait()
	s.hooks.cancel()
}
