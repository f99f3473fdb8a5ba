package store_test

import (
	"context"
	"fmt"
	"log"
	"os"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// The README shows the lines between the marks; readme_test.go compares them.
func Example() {
	dir, err := os.MkdirTemp("", "mds-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx, dsn := context.Background(), "duckdb://"+dir
	batch := []mds.Bar{{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC), Close: 150.5}}
	check := func(err error) {
		if err != nil {
			log.Fatal(err)
		}
	}

	// README begins
	st, err := store.Open(ctx, dsn, store.Config{})
	check(err)
	receipt, err := sink.New(store.Bars(st), sink.Config{}).For(mds.DefaultTenant()).Write(ctx, batch)
	check(err)
	fmt.Println(receipt.Written, receipt.Unchanged, receipt.Superseded, st.Close())
	// README ends

	// Output: 1 0 0 <nil>
}

func ExampleStore() {
	dir, err := os.MkdirTemp("", "mds-example-")
	if err != nil {
		fmt.Println(err)
		return
	}
	defer os.RemoveAll(dir)
	ctx := context.Background()
	st, err := store.Open(ctx, "duckdb://"+dir, store.Config{})
	if err != nil {
		fmt.Println(err)
		return
	}
	defer st.Close()

	bars := store.Bars(st)
	open := time.Date(2024, 3, 5, 14, 30, 0, 0, time.UTC)
	for range 2 { // the second time nothing changes
		var batch []mds.Bar
		for minute := range 3 {
			batch = append(batch, mds.Bar{
				Vendor: "ibkr", Symbol: "MSFT", Timeframe: mds.Minute,
				TS: open.Add(time.Duration(minute) * time.Minute), Close: 400 + float64(minute),
			})
		}
		receipt, err := bars.WriteBatch(ctx, mds.DefaultTenant(), batch)
		fmt.Printf("%d written, %d unchanged %v\n", receipt.Written, receipt.Unchanged, err)
	}
	window := mds.Query{Selection: mds.Selection{Start: open.Add(time.Minute)}}
	for bar, err := range bars.Query(ctx, mds.DefaultTenant(), window) {
		if err != nil {
			fmt.Println(err)
			return
		}
		fmt.Println(bar.TS.Format(time.TimeOnly), bar.Close)
	}
	// Output:
	// 3 written, 0 unchanged <nil>
	// 0 written, 3 unchanged <nil>
	// 14:31:00 401
	// 14:32:00 402
}
