package main

import (
	"context"
	"errors"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

// replay plays a recording at a speed, and submits its bars, each with its clones, at the
// rate that the store suggests. Where that is less than what comes it falls behind, and
// makes up for it once the store takes more: nothing is left out.
type replay struct {
	*recording
	timeframe  mds.Timeframe
	speed      float64
	clones     int
	bars       *ingest.Handle[mds.Bar]
	controller *feedback.RateController
}

// run plays until ctx ends. Bars that are not complete then are not submitted.
func (r *replay) run(ctx context.Context) error {
	err := r.submit(ctx)
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, context.Canceled) {
		return nil
	}
	return err
}

func (r *replay) submit(ctx context.Context) error {
	began := time.Now()
	for at, bar := range r.recording.bars(r.timeframe, 0) {
		if err := wait(ctx, time.Until(began.Add(time.Duration(float64(at)/r.speed)))); err != nil {
			return err
		}
		batch := clones(bar, r.clones)
		if err := r.controller.Wait(ctx, len(batch)); err != nil {
			return err
		}
		if _, err := r.bars.Submit(ctx, batch...); err != nil {
			return err
		}
	}
	return nil
}

// wait waits, unless ctx ends first.
func wait(ctx context.Context, d time.Duration) error {
	if d <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
