package duckdb

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"
)

// sqls are the statements of people that are under way on a file.
type sqls struct {
	places   chan struct{} // that are taken
	patience time.Duration // with which a large commit waits for them

	mu    sync.Mutex
	under map[*underway]bool
}

// underway is one of them.
type underway struct {
	cancel   context.CancelCauseFunc
	scanning bool // it may hold up a commit
	ended    chan struct{}
}

func newSQLs() *sqls {
	return &sqls{places: make(chan struct{}, maxSQL), patience: sqlPatience, under: make(map[*underway]bool)}
}

// begin notes a statement until end is called. Once left is, it holds up no commit.
func (s *sqls) begin(ctx context.Context) (_ context.Context, left, end func()) {
	ctx, cancel := context.WithCancelCause(ctx)
	u := &underway{cancel, true, make(chan struct{})}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.under[u] = true
	left = func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		u.scanning = false
	}
	return ctx, left, func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.under, u)
		cancel(context.Canceled)
		close(u.ended)
	}
}

// endScans ends those that may hold up a commit.
func (s *sqls) endScans() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for u := range s.under {
		if u.scanning {
			u.cancel(errGaveWay)
		}
	}
}

// endAll ends all, and waits a while until they have ended, with what memory they have.
func (s *sqls) endAll() {
	s.mu.Lock()
	under := slices.Collect(maps.Keys(s.under))
	for _, u := range under {
		u.cancel(errGaveWay)
	}
	s.mu.Unlock()
	timer := time.NewTimer(s.patience)
	defer timer.Stop()
	for _, u := range under {
		select {
		case <-u.ended:
		case <-timer.C: // its client does not read
			return
		}
	}
}

// waitFor locks a gate, and ends the statements that still keep it after a while.
func (s *sqls) waitFor(ctx context.Context, g *gate) error {
	if g.semaphore.TryAcquire(everybody) {
		return nil
	}
	timer := time.AfterFunc(s.patience, s.endScans)
	defer timer.Stop()
	return g.lock(ctx)
}
