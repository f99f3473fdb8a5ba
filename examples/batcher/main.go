// Command batcher adds bars one at a time, as a feed handler gets them, and lets a batcher
// write them: a thousand at a time, or when the oldest is a second old.
//
//	go run ./examples/batcher [DSN]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"os"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func main() {
	dir, err := os.MkdirTemp("", "mds-batcher-")
	if err == nil {
		dsn := "duckdb://" + dir
		if len(os.Args) > 1 {
			dsn = os.Args[1]
		}
		err = run(context.Background(), os.Stdout, dsn)
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, dsn string) error {
	st, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // every batch is on the disk by then
	out := sink.New(store.Bars(st), sink.Config{}).For(mds.DefaultTenant())
	b := ingest.NewBatcher(ctx, out, ingest.BatcherConfig{MaxRows: 1000, MaxAge: time.Second})

	start := time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC)
	for minute := range 2500 {
		bar := mds.Bar{
			Vendor: "demo", Symbol: "BTC-PERP", Timeframe: mds.Minute,
			TS: start.Add(time.Duration(minute) * time.Minute), Close: 67_000 + 10*math.Sin(float64(minute)/60),
		}
		if minute == 1234 {
			bar.Close = math.NaN()
		}
		if err := add(ctx, w, b, bar); err != nil {
			return err
		}
	}
	if err := b.Close(ctx); err != nil {
		return err
	}
	r := b.Receipt()
	fmt.Fprintf(w, "%d written, %d unchanged, %d superseded\n", r.Written, r.Unchanged, r.Superseded)
	return nil
}

// add adds a bar. What is not valid is told and left out; records of a batch that could not
// be written come back, and are added again where that may help.
func add(ctx context.Context, w io.Writer, b *ingest.Batcher[mds.Bar], bar mds.Bar) error {
	err := b.Add(ctx, bar)
	var invalid *mds.InvalidError
	var failed *ingest.BatchError[mds.Bar]
	switch {
	case errors.As(err, &invalid):
		fmt.Fprintf(w, "left out: %v\n", err)
		return nil
	case errors.As(err, &failed) && mds.Retryable(err):
		for _, again := range failed.Records {
			if err := b.Add(ctx, again); err != nil {
				return err
			}
		}
		return nil
	}
	return err
}
