// Command coordinator has four producers submit bars to one coordinator over a store. One of
// them sends a bar without a close now and then: it costs that bar only, which is kept as a
// dead letter.
//
//	go run ./examples/coordinator [DSN DEAD-LETTERS]
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net/url"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/store"
)

func main() {
	var err error
	switch len(os.Args) {
	case 1:
		// It stays, for mds dlq to look at.
		var dir string
		if dir, err = os.MkdirTemp("", "mds-coordinator-"); err == nil {
			err = run(context.Background(), os.Stdout, "duckdb://"+dir, filepath.Join(dir, "dead-letters"))
			fmt.Printf("\nStore and dead letters are in %s: remove it when you have looked.\n", dir)
		}
	case 3:
		err = run(context.Background(), os.Stdout, os.Args[1], os.Args[2])
	default:
		err = errors.New("usage: coordinator [DSN DEAD-LETTERS]: a store, and the folder of its dead letters")
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, w io.Writer, dsn, letters string) (err error) {
	st, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	version, err := st.SchemaVersion(ctx, mds.DefaultTenant())
	if err != nil {
		return err
	}
	folder, err := dlq.Open(dlq.Config{Dir: letters})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, folder.Close()) }()
	c, err := ingest.New(ctx, store.Bars(st), ingest.Config[mds.Bar]{
		Lanes:       1, // DuckDB has one writer
		DeadLetters: dlq.For[mds.Bar](folder, version),
	})
	if err != nil {
		return err
	}
	producing := produceAll(ctx, w, c.For(mds.DefaultTenant()))
	// What was accepted is written, or named in the error.
	if err := errors.Join(producing, c.Stop(ctx)); err != nil {
		return err
	}
	l := c.Stats().Ledger
	fmt.Fprintf(w, "%d accepted = %d written + %d unchanged + %d superseded + %d dead-lettered + %d dropped + %d pending\n",
		l.Accepted, l.Written, l.Unchanged, l.Superseded, l.DeadLettered, l.Dropped, l.Pending)
	fmt.Fprintf(w, "%d dead letters. To look at them, and to write again those that the store takes by now:\n", l.DeadLettered)
	fmt.Fprintf(w, "  mds dlq list --dlq-dir %s\n  mds dlq replay --dlq-dir %[1]s --dsn %s\n", letters, redacted(dsn))
	return nil
}

// redacted is a DSN without its password.
func redacted(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return "DSN"
	}
	return u.Redacted()
}

// Each producer submits so many bars, in batches.
const (
	producers = 4
	perBatch  = 50
	batches   = 10
)

// produceAll runs the producers, and tells what became of the bars of each.
func produceAll(ctx context.Context, w io.Writer, bars *ingest.Handle[mds.Bar]) error {
	outcomes, errs := [producers]ingest.Outcome{}, [producers]error{}
	var wg sync.WaitGroup
	for i := range producers {
		wg.Go(func() { outcomes[i], errs[i] = produce(ctx, bars, i) })
	}
	wg.Wait()
	for i, o := range outcomes {
		fmt.Fprintf(w, "producer %d: %d committed, %d dead-lettered\n", i, o.Committed, o.DeadLettered)
	}
	return errors.Join(errs[:]...)
}

// produce submits the bars of one producer. It waits for the receipts at the end: to wait
// for each would be to wait for Config.FlushInterval each time.
func produce(ctx context.Context, bars *ingest.Handle[mds.Bar], producer int) (total ingest.Outcome, err error) {
	var receipts []ingest.Receipt[mds.Bar]
	for batch := range batches {
		receipt, err := bars.Submit(ctx, minutes(producer, batch)...)
		if err != nil {
			return total, err
		}
		receipts = append(receipts, receipt)
	}
	for i := range receipts {
		outcome, err := receipts[i].Wait(ctx)
		if lost := (*ingest.LostError)(nil); err != nil && !errors.As(err, &lost) {
			return total, err
		}
		total.Committed += outcome.Committed
		total.DeadLettered += outcome.DeadLettered
	}
	return total, nil
}

// minutes are the bars of a batch. The last producer's 20th of each other batch has no close.
func minutes(producer, batch int) []mds.Bar {
	start := time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC)
	bars := make([]mds.Bar, perBatch)
	for i := range bars {
		n := batch*perBatch + i
		bars[i] = mds.Bar{
			Vendor: "demo", Symbol: fmt.Sprintf("SYM%d", producer), Timeframe: mds.Minute,
			TS: start.Add(time.Duration(n) * time.Minute), Close: 100 + 5*math.Sin(float64(n)/60),
		}
	}
	if producer == producers-1 && batch%2 == 0 {
		bars[19].Close = math.NaN()
	}
	return bars
}
