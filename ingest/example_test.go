package ingest_test

import (
	"context"
	"fmt"
	"log"
	"math"
	"os"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// Producers submit to a coordinator, which writes to a store. A bar without a close costs
// itself only.
func ExampleCoordinator() {
	ctx := context.Background()
	st, remove := temporary(ctx)
	defer remove()
	c, err := ingest.New(ctx, store.Bars(st), ingest.Config[mds.Bar]{
		Lanes: 1, // DuckDB has one writer
		Dropped: func(_ mds.Tenant, bars []mds.Bar, reason ingest.Reason, err error) {
			fmt.Println(len(bars), reason, err)
		},
	})
	check(err)
	bars := c.For(mds.DefaultTenant())

	start := time.Date(2024, 1, 2, 14, 30, 0, 0, time.UTC)
	aapl := mds.Bar{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: start, Close: 185.5}
	bad := mds.Bar{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: start.Add(time.Minute), Close: math.NaN()}
	receipt, err := bars.Submit(ctx, aapl, bad)
	check(err)                        // full, too large, stopped, or ctx ended: nothing was taken over
	outcome, err := receipt.Wait(ctx) // until it is committed
	fmt.Printf("%d committed, %d dropped\n", outcome.Committed, outcome.Dropped)
	fmt.Println(err)

	check(c.Stop(ctx)) // names what is unwritten
	l := c.Stats().Ledger
	fmt.Println(l.Accepted, "=", l.Written, "+", l.Unchanged, "+", l.Superseded, "+", l.DeadLettered, "+", l.Dropped, "+", l.Pending)
	// Output:
	// 1 undeliverable close: NaN is not a number that can be kept; leave a missing value out
	// 1 committed, 1 dropped
	// 1 of 2 records were not committed: dropped: close: NaN is not a number that can be kept; leave a missing value out
	// 2 = 1 + 0 + 0 + 0 + 1 + 0
}

// One producer adds its bars one at a time.
func ExampleBatcher() {
	ctx := context.Background()
	st, remove := temporary(ctx)
	defer remove()
	out := sink.New(store.Bars(st), sink.Config{}).For(mds.DefaultTenant())
	b := ingest.NewBatcher(ctx, out, ingest.BatcherConfig{MaxRows: 100, MaxAge: time.Second})
	start := time.Date(2024, 1, 2, 14, 30, 0, 0, time.UTC)
	for i := range 250 {
		bar := mds.Bar{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: start.Add(time.Duration(i) * time.Minute), Close: 185 + float64(i)/100}
		check(b.Add(ctx, bar)) // an *ingest.BatchError has the records that were not written
	}
	fmt.Println(b.Receipt().Written, "written")
	check(b.Close(ctx))
	fmt.Println(b.Receipt().Written, "written")
	// Output:
	// 200 written
	// 250 written
}

// temporary is a store that is gone after it is removed.
func temporary(ctx context.Context) (st *store.Store, remove func()) {
	dir, err := os.MkdirTemp("", "mds-example-")
	if err == nil {
		st, err = store.Open(ctx, "duckdb://"+dir, store.Config{})
	}
	check(err)
	return st, func() {
		_ = st.Close()
		_ = os.RemoveAll(dir)
	}
}

func check(err error) {
	if err != nil {
		log.Fatal(err)
	}
}
