// Command pipeline is the producers' side of backpressure. It replays recorded trades of
// exchanges, faster than they were made, into bars of many synthetic symbols, and submits
// them to a coordinator at the rate that this suggests: when the store becomes slow the
// replay does too, before the queue is full, and when the store is well again it catches up.
//
//	go run ./examples/pipeline --for 30s --throttle 10s,20s,0.2 --svg feedback.svg
//
// The store is a throw-away DuckDB unless --dsn names another. Without recordings a
// generator makes the trades.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/store"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	opt, err := parse(os.Args[1:], os.Stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return
	case err == nil && opt.dsn == "":
		var dir string
		if dir, err = os.MkdirTemp("", "mds-pipeline-"); err == nil {
			opt.dsn = "duckdb://" + dir
			err = run(ctx, os.Stdout, opt)
			_ = os.RemoveAll(dir)
		}
	case err == nil:
		err = run(ctx, os.Stdout, opt)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1) //nolint:gocritic // what is deferred ends with the process
	}
}

// capacity is small, for a queue that can be seen to fill. With a real feed take the default.
// The replay catches up at ceiling bars a second at most.
const (
	capacity = 50_000
	ceiling  = 100_000
)

func run(ctx context.Context, w io.Writer, opt options) (err error) {
	rec, err := opt.recording()
	if err != nil {
		return err
	}
	st, err := store.Open(ctx, opt.dsn, store.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	began := time.Now()
	cfg := ingest.Config[mds.Bar]{Capacity: capacity, BatchMax: 5000}
	if opt.duckDB() {
		cfg.Lanes = 1 // it has one writer
	}
	c, err := ingest.New(ctx, &throttled{Writer: store.Bars(st), throttle: opt.throttle, began: began}, cfg)
	if err != nil {
		return err
	}
	copies := max(1, opt.symbols/rec.series())
	fmt.Fprintf(w, "replaying %s: %d trades in %d messages, %g times as fast, as %s bars of %d symbols\n",
		rec.name, len(rec.trades), rec.messages, opt.speed, opt.timeframe, copies*rec.series())
	samples, err := produce(ctx, w, c, &replay{recording: rec, timeframe: opt.timeframe, speed: opt.speed, clones: copies}, opt.duration, began)
	stopping, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	// What was accepted is written, or named in the error.
	if err := errors.Join(err, c.Stop(stopping)); err != nil {
		return err
	}
	l := c.Stats().Ledger
	fmt.Fprintf(w, "%d accepted = %d written + %d unchanged + %d superseded + %d dead-lettered + %d dropped + %d pending\n",
		l.Accepted, l.Written, l.Unchanged, l.Superseded, l.DeadLettered, l.Dropped, l.Pending)
	if opt.svg == "" {
		return nil
	}
	return os.WriteFile(opt.svg, chart(samples, opt), 0o644) //nolint:gosec // a picture is for all to see
}

// produce runs a replay for a time, at the rate that the coordinator suggests, and returns
// what was seen.
func produce(ctx context.Context, w io.Writer, c *ingest.Coordinator[mds.Bar], r *replay, d time.Duration, began time.Time) (samples []sample, err error) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	r.bars = c.For(mds.DefaultTenant())
	if r.controller, err = feedback.NewRateController(feedback.ControllerConfig{Ceiling: ceiling}); err != nil {
		return nil, err
	}
	var wg sync.WaitGroup
	wg.Go(func() { c.Feedback().Handle(ctx, feedback.Options{Producer: true}, nil, r.controller.Observe) })
	wg.Go(func() { samples = watch(ctx, w, c, began) })
	err = r.run(ctx)
	if err != nil {
		cancel()
	}
	wg.Wait()
	return samples, err
}
