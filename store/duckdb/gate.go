package duckdb

import (
	"context"
	"math"

	"golang.org/x/sync/semaphore"
)

// gate lets in any number of those who share it, or one who has it alone. They are let
// in as they came: one who waits to have it alone keeps out those who come later. All
// wait no longer than their contexts.
type gate struct{ semaphore *semaphore.Weighted }

// everybody is all who may share a gate.
const everybody = math.MaxInt64

func newGate() gate { return gate{semaphore.NewWeighted(everybody)} }

func (g gate) share(ctx context.Context) error { return g.semaphore.Acquire(ctx, 1) }
func (g gate) unshare()                        { g.semaphore.Release(1) }

func (g gate) lock(ctx context.Context) error { return g.semaphore.Acquire(ctx, everybody) }
func (g gate) unlock()                        { g.semaphore.Release(everybody) }
