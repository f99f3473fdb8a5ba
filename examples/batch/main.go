// Command batch writes a long stream of bars in batches, and shows what to do
// when one is refused: a record that is not valid is taken out, what may be
// tried again is tried again, anything else ends the run.
//
//	go run ./examples/batch [DSN]
package main

import (
	"context"
	"fmt"
	"io"
	"iter"
	"math"
	"os"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func main() {
	dir, err := os.MkdirTemp("", "mds-batch-")
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

// batchSize is a trade: larger batches are faster, and what a crash may cost is
// the batch in hand.
const batchSize = 5000

func run(ctx context.Context, w io.Writer, dsn string) error {
	st, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		return err
	}
	defer st.Close() //nolint:errcheck // every batch is on the disk by then
	out := sink.New(store.Bars(st), sink.Config{}).For(mds.DefaultTenant())

	var total mds.Receipt
	batch := make([]mds.Bar, 0, batchSize)
	flush := func() error {
		receipt, err := write(ctx, w, out, batch)
		total = total.Add(receipt)
		batch = batch[:0]
		return err
	}
	for bar := range feed() {
		if batch = append(batch, bar); len(batch) == batchSize {
			if err := flush(); err != nil {
				return err
			}
		}
	}
	if err := flush(); err != nil {
		return err
	}
	fmt.Fprintf(w, "%d written, %d unchanged, %d superseded\n", total.Written, total.Unchanged, total.Superseded)
	n, err := store.Bars(st).Count(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"BTC-PERP"}})
	fmt.Fprintf(w, "%d bars are stored\n", n)
	return err
}

// write stores a batch, but for records that no write takes.
func write(ctx context.Context, w io.Writer, out sink.Bound[mds.Bar], batch []mds.Bar) (total mds.Receipt, err error) {
	const attempts = 5
	wait := 50 * time.Millisecond
	for attempt := 1; ; attempt++ {
		done, err := ingest.Isolate(ctx, batch, out.Write)
		total = total.Add(done.Receipt)
		for _, refused := range done.Refused {
			fmt.Fprintf(w, "left out: %v\n", refused.Err)
		}
		if err == nil || !mds.Retryable(err) || attempt == attempts {
			return total, err
		}
		// Sending again is safe: what was stored changes nothing.
		batch = batch[done.Done:]
		select {
		case <-time.After(wait):
			wait *= 2
		case <-ctx.Done():
			return total, ctx.Err()
		}
	}
}

// feed is a week of minutes, with a minute sent twice and one broken record.
func feed() iter.Seq[mds.Bar] {
	return func(yield func(mds.Bar) bool) {
		start := time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC)
		for minute := range 7 * 24 * 60 {
			bar := mds.Bar{
				Vendor: "demo", Symbol: "BTC-PERP", Timeframe: mds.Minute,
				TS: start.Add(time.Duration(minute) * time.Minute), Close: 67_000 + 10*math.Sin(float64(minute)/60),
			}
			switch minute {
			case 1000:
				yield(bar)
			case 7000:
				bar.Close = math.NaN()
			}
			if !yield(bar) {
				return
			}
		}
	}
}
