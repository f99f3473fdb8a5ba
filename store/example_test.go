package store_test

import (
	"context"
	"fmt"
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
	ctx, now := context.Background(), time.Date(2020, 11, 27, 14, 30, 0, 0, time.UTC)

	// README begins
	st, err := store.Open(ctx, "duckdb://"+dir, store.Config{})
	bars := sink.New(store.Bars(st), sink.Config{}).For(mds.DefaultTenant())
	receipt, err2 := bars.Write(ctx, []mds.Bar{{Vendor: "ibkr", Symbol: "AAPL", Timeframe: mds.Minute, TS: now, Close: 150.5}})
	latest, err3 := store.Bars(st).Latest(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{"AAPL"}})
	fmt.Println(receipt.Written, latest[0].Close, st.Close(), err, err2, err3)
	// README ends

	// Output: 1 150.5 <nil> <nil> <nil> <nil>
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
