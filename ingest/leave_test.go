package ingest_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// TestLeave has a tenant leave that has records queued, one being written and a submit that waits
// for room: they are settled when Leave is over, the submit is refused, and so is each later one,
// but not those of another tenant that has the id then.
func TestLeave(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{Capacity: 6, BatchSize: 4, BatchMax: 4, Lanes: 1, Workers: 1, FlushInterval: time.Hour})
		acme := tenantOf(t, "acme")
		h := c.For(acme)
		for n := range 6 { // four are a batch, two wait for theirs
			submit(t, h, bar("s", n, 1))
		}
		waited := make(chan error, 1)
		go func() {
			_, err := h.Submit(t.Context(), bar("s", 6, 1))
			waited <- err
		}()
		synctest.Wait()
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := c.Leave(short, acme); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it has not waited for what is queued: %v", err)
		}
		left := make(chan error, 1)
		go func() { left <- c.Leave(t.Context(), acme) }()
		synctest.Wait()
		if _, err := h.TrySubmit(bar("s", 7, 1)); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("a submit of one who leaves: %v", err)
		}
		close(gate)
		synctest.Wait()
		if err := <-left; err != nil || len(w.stored()) != 6 {
			t.Errorf("%d of 6 are stored: %v", len(w.stored()), err)
		}
		if err := <-waited; !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("the submit that waited: %v", err)
		}
		if err := h.Pay(t.Context(), 1); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("who writes beside the coordinator: %v", err)
		}
		again := c.For(acme)
		for n := range 6 { // whose room was given back
			if _, err := again.TrySubmit(bar("again", n, 1)); err != nil {
				t.Errorf("the next of the name: %v", err)
			}
		}
		if err := c.Leave(t.Context(), tenantOf(t, "nobody")); err != nil {
			t.Error(err)
		}
		stop(t, c)
	})
}
