package ingest

import (
	"context"
	"fmt"

	"github.com/marketdatastore/mds"
)

// Leave ends a tenant's handles: for one who is removed from the store, before another gets the
// name, and with it the id. Their submits fail from then on, with an error that wraps
// [mds.ErrUnknownTenant], also those that wait for room; handles of the tenant that [Coordinator.For]
// returns later are another one's. What was submitted before is written, however small, and Leave
// waits until all of it is settled, or ctx ends. It may be called again.
func (c *Coordinator[R]) Leave(ctx context.Context, tenant mds.Tenant) error {
	c.mu.Lock()
	var open []*chunk[R]
	if t, ok := c.tenants[tenant.ID]; ok {
		t.term++
		open = c.hurried(t, nil)
	}
	c.mu.Unlock()
	return waitFor(ctx, open)
}

// hurried has what a tenant has queued be written, and adds it to a list of what is waited for.
// It is called with the lock.
func (c *Coordinator[R]) hurried(t *tenant[R], open []*chunk[R]) []*chunk[R] {
	for _, l := range t.lanes {
		for _, ch := range l.chunks {
			ch.due = true
			ch.wait()
			open = append(open, ch)
		}
	}
	c.offer(t)
	return open
}

// waitFor waits until chunks are settled, or ctx ends.
func waitFor[R any](ctx context.Context, open []*chunk[R]) error {
	for _, ch := range open {
		select {
		case <-ch.done:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
	return nil
}

// current refuses a handle whose tenant has left. It is called with the lock.
func (h *Handle[R]) current() error {
	if h.term != h.t.term {
		return fmt.Errorf("%w %q: it was removed", mds.ErrUnknownTenant, h.t.Slug)
	}
	return nil
}
