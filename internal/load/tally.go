package load

import (
	"context"
	"errors"

	"github.com/marketdatastore/mds/ingest"
)

// Tally is an intake that knows what became of what it took over.
type Tally[R any] struct {
	// Into takes the records over.
	Into Intake[R]
	// Open bounds the records that are not settled: before more are taken over it is waited
	// for the oldest. 0 does not.
	Open int64

	open     []pending[R] // in order
	pending  int64
	outcome  ingest.Outcome
	accepted int64
}

// pending is a submit that is not settled, or not looked at.
type pending[R any] struct {
	receipt ingest.Receipt[R]
	n       int64
}

// Submit takes records over.
func (t *Tally[R]) Submit(ctx context.Context, records ...R) (ingest.Receipt[R], error) {
	t.look()
	for t.Open > 0 && t.pending > 0 && t.pending+int64(len(records)) > t.Open {
		if err := t.next(ctx); err != nil {
			return ingest.Receipt[R]{}, err
		}
	}
	receipt, err := t.Into.Submit(ctx, records...)
	if err == nil {
		t.open = append(t.open, pending[R]{receipt, int64(len(records))})
		t.pending += int64(len(records))
		t.accepted += int64(len(records))
	}
	return receipt, err
}

// look takes in what became of the records that were handed over first, as far as it is known:
// a long run does not gather receipts.
func (t *Tally[R]) look() {
	n := 0
	for ; n < len(t.open); n++ {
		o, settled := t.open[n].receipt.Settled()
		if !settled {
			break
		}
		t.add(o, t.open[n].n)
	}
	t.open = append(t.open[:0], t.open[n:]...)
}

func (t *Tally[R]) add(o ingest.Outcome, n int64) {
	t.pending -= n
	t.outcome.Committed += o.Committed
	t.outcome.DeadLettered += o.DeadLettered
	t.outcome.Dropped += o.Dropped
	t.outcome.Unwritten += o.Unwritten
}

// next waits for the oldest.
func (t *Tally[R]) next(ctx context.Context) error {
	first := &t.open[0]
	first.receipt.Hurry()
	o, err := first.receipt.Wait(ctx)
	var lost *ingest.LostError
	if err != nil && !errors.As(err, &lost) {
		return err
	}
	t.add(o, first.n)
	t.open = t.open[1:]
	return nil
}

// Settle waits until all that was taken over is settled, or ctx ends.
func (t *Tally[R]) Settle(ctx context.Context) error {
	for i := range t.open {
		t.open[i].receipt.Hurry()
	}
	for len(t.open) > 0 {
		if err := t.next(ctx); err != nil {
			return err
		}
	}
	return nil
}

// Outcome is what became of the records so far; Accepted is how many were taken over.
func (t *Tally[R]) Outcome() (o ingest.Outcome, accepted int64) {
	t.look()
	return t.outcome, t.accepted
}
