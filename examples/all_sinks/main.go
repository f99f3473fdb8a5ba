// Command all_sinks sends one batch of each kind through its sink: bars,
// options, fundamentals and news of one company, into a store of its own.
//
//	go run ./examples/all_sinks [DSN]
package main

import (
	"context"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/common/expfmt"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func main() {
	dir, err := os.MkdirTemp("", "mds-all-sinks-")
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
	registry := prometheus.NewRegistry()
	metrics, err := sink.NewMetrics(registry)
	if err != nil {
		return err
	}

	open := time.Date(2024, 3, 15, 13, 30, 0, 0, time.UTC)
	bars := []mds.Bar{
		{Vendor: "demo", Symbol: "AAPL", Timeframe: mds.Minute, TS: open, Close: 171.2, Volume: mds.Some(1200.0)},
		{Vendor: "demo", Symbol: "AAPL", Timeframe: mds.Minute, TS: open.Add(time.Minute), Close: 171.4, Volume: mds.Some(900.0)},
	}
	options := []mds.OptionSnap{
		{Vendor: "demo", Symbol: "AAPL240419C00170000", TS: open, Bid: mds.Some(5.1), Ask: mds.Some(5.2), IV: mds.Some(0.24)},
		{Vendor: "demo", Symbol: "AAPL240419P00170000", TS: open, Bid: mds.Some(2.9), Ask: mds.Some(3.0), IV: mds.Some(0.25)},
	}
	fundamentals := []mds.Fundamentals{{
		Vendor: "demo", Symbol: "AAPL", Period: mds.FiscalYear, AsOf: mds.Date{Year: 2023, Month: 9, Day: 30},
		FiledAt: time.Date(2023, 11, 3, 0, 0, 0, 0, time.UTC), Revenue: mds.Some(383.285e9), EPS: mds.Some(6.13), Currency: "USD",
	}}
	news := []mds.News{{
		Vendor: "demo", Title: "A headline about two companies", PublishedAt: open.Add(-time.Hour), Symbols: []string{"AAPL", "MSFT"}, SentimentScore: mds.Some(0.4),
	}}

	// Twice: what is in the store already changes nothing.
	for range 2 {
		if err := send(ctx, w, st, metrics, bars); err != nil {
			return err
		}
		if err := send(ctx, w, st, metrics, options); err != nil {
			return err
		}
		if err := send(ctx, w, st, metrics, fundamentals); err != nil {
			return err
		}
		if err := send(ctx, w, st, metrics, news); err != nil {
			return err
		}
	}
	return writeCounters(w, registry)
}

// send writes a batch of any kind through its sink.
func send[R mds.Record[R]](ctx context.Context, w io.Writer, st *store.Store, metrics *sink.Metrics, batch []R) error {
	out := sink.New(store.TableOf[R](st), sink.Config{Metrics: metrics}).For(mds.DefaultTenant())
	receipt, err := out.Write(ctx, batch)
	if err != nil {
		return err
	}
	fmt.Fprintf(w, "%-12s %d written, %d unchanged\n", mds.SchemaOf[R]().Kind, receipt.Written, receipt.Unchanged)
	return nil
}

// writeCounters prints what a scrape of the counters would read.
func writeCounters(w io.Writer, registry *prometheus.Registry) error {
	families, err := registry.Gather()
	if err != nil {
		return err
	}
	for _, family := range families {
		if family.GetName() == "sink_writes_total" {
			if _, err := expfmt.MetricFamilyToText(w, family); err != nil {
				return err
			}
		}
	}
	return nil
}
