// Command smoke checks in a second that the pieces fit: it opens a store,
// writes and reads each kind through its sink, and looks at the metrics. It
// needs no test framework; its exit status is the answer.
//
//	go run ./internal/smoke [DSN]
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func main() {
	dir, err := os.MkdirTemp("", "mds-smoke-")
	if err == nil {
		dsn := "duckdb://" + dir
		if len(os.Args) > 1 {
			dsn = os.Args[1]
		}
		start := time.Now()
		if err = run(context.Background(), os.Stdout, dsn); err == nil {
			fmt.Fprintf(os.Stdout, "all is well (%s)\n", time.Since(start).Round(time.Millisecond))
		}
		_ = os.RemoveAll(dir)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "smoke:", err)
		os.Exit(1)
	}
}

// vendor keeps the records apart from all others; they are removed in the end.
const vendor = "mds-smoke"

func run(ctx context.Context, w io.Writer, dsn string) error {
	st, err := store.Open(ctx, dsn, store.Config{})
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	metrics, err := sink.NewMetrics(registry)
	if err != nil {
		return err
	}
	at := time.Date(2024, 3, 15, 13, 30, 0, 0, time.UTC)
	for _, err := range []error{
		check(ctx, w, st, metrics, mds.Bar{Vendor: vendor, Symbol: "A", Timeframe: mds.Minute, TS: at, Close: 1.5}),
		check(ctx, w, st, metrics, mds.OptionSnap{Vendor: vendor, Symbol: "A240419C00170500", TS: at, Bid: mds.Some(0.0)}),
		check(ctx, w, st, metrics, mds.Fundamentals{
			Vendor: vendor, Symbol: "A", Period: mds.FiscalYear, AsOf: mds.Date{Year: 2023, Month: 12, Day: 31}, Extra: map[string]float64{"x:y/USD": 1},
		}),
		check(ctx, w, st, metrics, mds.News{Vendor: vendor, Title: "A headline", PublishedAt: at, Symbols: []string{"A", "B"}}),
		checkMetrics(registry),
		st.Close(),
	} {
		if err != nil {
			return err
		}
	}
	return nil
}

// check writes a record twice and reads it back.
func check[R mds.Record[R]](ctx context.Context, w io.Writer, st *store.Store, metrics *sink.Metrics, record R) error {
	schema := mds.SchemaOf[R]()
	table := store.TableOf[R](st)
	out := sink.New(table, sink.Config{Metrics: metrics}).For(mds.DefaultTenant())
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{Vendor: vendor}); err != nil {
		return err
	}
	for _, want := range []mds.Receipt{{Written: 1}, {Unchanged: 1}} {
		receipt, err := out.Write(ctx, []R{record})
		if err != nil {
			return err
		}
		if want.Modes = receipt.Modes; receipt != want {
			return fmt.Errorf("%s: receipt %+v, want %+v", schema.Kind, receipt, want)
		}
	}
	schema.Normalize(&record)
	n := 0
	for got, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{Selection: mds.Selection{Vendor: vendor}}) {
		if err != nil {
			return err
		}
		if n++; !schema.Equal(&got, &record) {
			return fmt.Errorf("%s: read %+v, want %+v", schema.Kind, got, record)
		}
	}
	if n != 1 {
		return fmt.Errorf("%s: read %d records, want 1", schema.Kind, n)
	}
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{Vendor: vendor}); err != nil {
		return err
	}
	fmt.Fprintf(w, "%-12s written, unchanged when sent again, read back, removed\n", schema.Kind)
	return nil
}

// checkMetrics wants two successful batches of each sink, and no failure.
func checkMetrics(registry *prometheus.Registry) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	seen := 0
	for _, family := range families {
		if family.GetName() != "sink_writes_total" {
			continue
		}
		for _, metric := range family.GetMetric() {
			labels := make(map[string]string)
			for _, l := range metric.GetLabel() {
				labels[l.GetName()] = l.GetValue()
			}
			want := map[string]float64{"success": 2, "failure": 0}[labels["status"]]
			if got := metric.GetCounter().GetValue(); got != want {
				return fmt.Errorf("sink_writes_total%v is %v, want %v", labels, got, want)
			}
			seen++
		}
	}
	const sinks, statuses = 4, 2
	if seen != sinks*statuses {
		return fmt.Errorf("sink_writes_total has %d series, want %d", seen, sinks*statuses)
	}
	return nil
}
