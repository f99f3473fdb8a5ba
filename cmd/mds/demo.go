package main

import (
	"context"
	"fmt"
	"os"
	"slices"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/demo"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// demoTenant keeps the synthetic data apart from the user's own.
const demoTenant = "demo"

func (a *app) demoCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "demo",
		Short: "Load a synthetic week of minute bars and show what the store does with it",
		Long: `Make a synthetic week of minute bars, load it through the sink and query it.

The bars belong to tenant "demo" and vendor "synthetic", apart from all other
data. An earlier demo's bars are removed first.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.makeDemoTenant(cmd.Context()); err != nil {
				return err
			}
			a.tenant = demoTenant
			if err := a.withStore(cmd.Context(), writing, func(s *session) error {
				return a.demoIngest(cmd.Context(), s)
			}); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.demoShow(cmd.Context(), s)
			})
		},
	}
}

func (a *app) makeDemoTenant(ctx context.Context) error {
	s, err := a.open(ctx, writing)
	if err != nil {
		return err
	}
	defer s.Close() //nolint:errcheck // opened again below
	if _, err := s.Tenant(ctx, demoTenant); err == nil {
		return nil
	}
	_, err = s.CreateTenant(ctx, demoTenant)
	return err
}

func (a *app) demoIngest(ctx context.Context, s *session) error {
	bars := store.Bars(s.Store)
	if _, err := bars.Delete(ctx, s.tenant, mds.Selection{Vendor: demo.Vendor}); err != nil {
		return err
	}
	a.heading("A synthetic week: %d symbols × 5 sessions × 390 minutes = %s bars", demo.Symbols, count(demo.Bars))
	records := make([]mds.Bar, 0, demo.Bars)
	for bar := range demo.Week() {
		records = append(records, bar)
	}
	first, err := a.demoLoad(ctx, s, records)
	if err != nil {
		return err
	}
	a.heading("The same week again: nothing changes")
	second, err := a.demoLoad(ctx, s, records)
	if err != nil {
		return err
	}
	if first.Written != demo.Bars || second.Unchanged != demo.Bars {
		return fmt.Errorf("the demo expected %d bars written and then unchanged, and got %+v and %+v", demo.Bars, first, second)
	}
	return nil
}

// demoShow shows what the store gives back.
func (a *app) demoShow(ctx context.Context, s *session) error {
	info, err := s.Info(ctx, s.tenant)
	if err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "stored       %s in %s\n", size(info.Bytes), info.Location)
	if err := a.demoQueries(ctx, s); err != nil {
		return err
	}
	a.demoNext(s)
	return nil
}

// demoLoad writes the records in batches, as a feed handler would.
func (a *app) demoLoad(ctx context.Context, s *session, records []mds.Bar) (mds.Receipt, error) {
	const batch = 50_000
	out := sink.New(store.Bars(s.Store), sink.Config{}).For(s.tenant)
	var total mds.Receipt
	start := time.Now()
	for part := range slices.Chunk(records, batch) {
		receipt, err := out.Write(ctx, part)
		if err != nil {
			return total, err
		}
		total = total.Add(receipt)
	}
	elapsed := time.Since(start)
	all := total.Written + total.Unchanged + total.Superseded
	fmt.Fprintf(a.stdout, "ingested     %s written, %s unchanged, %s superseded in %.2f s: %s bars/s, each batch of %s on disk before the next\n",
		count(total.Written), count(total.Unchanged), count(total.Superseded), elapsed.Seconds(),
		count(int64(float64(all)/elapsed.Seconds())), count(batch))
	return total, nil
}

func (a *app) demoQueries(ctx context.Context, s *session) error {
	bars := store.Bars(s.Store)
	symbol := demo.Symbol(0)

	a.heading("mds query bars --symbol %s --limit 5", symbol)
	start := time.Now()
	window := mds.Query{Selection: mds.Selection{Symbols: []string{symbol}}, Limit: 5}
	if _, err := writeRecords(a.stdout, formatTable, bars.Query(ctx, s.tenant, window)); err != nil {
		return err
	}
	fmt.Fprintf(a.stdout, "(%s)\n", time.Since(start).Round(time.Millisecond))

	a.heading("mds latest %s %s %s", demo.Symbol(0), demo.Symbol(1), demo.Symbol(2))
	latest := mds.Selection{Symbols: []string{demo.Symbol(0), demo.Symbol(1), demo.Symbol(2)}}
	if err := runLatest[mds.Bar](ctx, a, s, latest, formatTable); err != nil {
		return err
	}

	friday := demo.Monday().AddDate(0, 0, 4)
	a.heading("%s, Friday in bars of 5 minutes (UTC; synthetic)", symbol)
	var session []mds.Bar
	day := mds.Query{Selection: mds.Selection{Symbols: []string{symbol}, Start: friday, End: friday.AddDate(0, 0, 1)}}
	for bar, err := range bars.Query(ctx, s.tenant, day) {
		if err != nil {
			return err
		}
		session = append(session, bar)
	}
	fmt.Fprint(a.stdout, demo.Candles(demo.Combine(session, mds.Minute5), 14, a.color))
	return nil
}

// demoNext prints commands that work as they stand.
func (a *app) demoNext(s *session) {
	program := os.Args[0]
	where := ""
	if a.dsnGiven {
		where = " --dsn " + s.dsn
	}
	a.heading("Try next")
	fmt.Fprintf(a.stdout, `%[1]s%[2]s series --tenant demo
%[1]s%[2]s query bars --tenant demo --symbol SYN007 --order desc --limit 20
%[1]s%[2]s query bars --tenant demo --symbol SYN007 --format csv > SYN007.csv
%[1]s%[2]s ingest bars SYN007.csv        # into your own tenant, from any CSV file
%[1]s%[2]s delete bars --tenant demo --all
`, program, where)
}

func (a *app) heading(format string, args ...any) {
	fmt.Fprintf(a.stdout, "\n== "+format+"\n", args...)
}
