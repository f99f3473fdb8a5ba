package main

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// tableLimit is how many rows a table shows unless asked.
const tableLimit = 100

func (a *app) queryCommand() *cobra.Command {
	return a.perKind("query", "Read a window of records", func(k kind) func(*app) *cobra.Command { return k.query })
}

func queryKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	var order, every string
	var limit int
	cmd := &cobra.Command{
		Use:   schema.Kind,
		Short: "Read a window of " + schema.Kind,
		Long: `Read ` + schema.Kind + ` in order of time, from --start up to and without --end.

Times are shown in UTC. A table shows ` + strconv.Itoa(tableLimit) + ` rows unless --limit says otherwise, and says
when it cut; csv, ndjson and json give all.`,
		Example: fmt.Sprintf(`  mds query %[1]s --symbol MSFT --start 2020-11-27 --end 2020-11-28
  mds query %[1]s --symbol MSFT,AAPL --order desc --limit 20
  mds query %[1]s --vendor yahoo --format csv > yahoo.csv`, schema.Kind),
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			if order != "asc" && order != "desc" {
				return usagef("--order %q: use asc or desc", order)
			}
			if limit < 0 {
				return usagef("--limit %d: use 0 for all rows, or more", limit)
			}
			if f.format == formatTable && !cmd.Flags().Changed("limit") {
				limit = tableLimit
			}
			query := mds.Query{Selection: sel, Descending: order == "desc", Limit: limit}
			resample, err := resampling[R](cmd, every, f.tz, query.Descending)
			if err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return runQuery(cmd.Context(), a, s, query, f.format, resample)
			})
		},
	}
	f.register(cmd, true, true)
	f.registerKnownAt(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, fmt.Sprintf("at most this many rows, 0 for all (default %d for a table, else all)", tableLimit))
	cmd.Flags().StringVar(&order, "order", "asc", "oldest first (asc) or newest first (desc)")
	if schema.Timeframe != nil {
		cmd.Flags().StringVar(&every, "every", "", "make bars of this timeframe of shorter ones, such as 1h or 1d; days are those of --tz")
		offer(cmd, "every", timeframes()...)
	}
	f.registerFormat(cmd)
	offer(cmd, "order", "asc", "desc")
	return cmd
}

// resampling is what makes longer bars of those of a query, nil where they are wanted as
// they are.
func resampling[R mds.Record[R]](cmd *cobra.Command, every, tz string, descending bool) (func(iter.Seq2[R, error]) iter.Seq2[R, error], error) {
	if every == "" {
		return nil, nil
	}
	to, err := mds.ParseTimeframe(every)
	if err != nil {
		return nil, usagef("--every: %w", err)
	}
	if descending {
		return nil, usagef("--every makes bars oldest first: leave --order desc out")
	}
	zone, err := loadZone(tz)
	if err != nil {
		return nil, err
	}
	of, ok := any(func(bars iter.Seq2[mds.Bar, error]) iter.Seq2[mds.Bar, error] { return mds.Resample(bars, to, zone) }).(func(iter.Seq2[R, error]) iter.Seq2[R, error])
	if !ok {
		return nil, usagef("%s has no --every", cmd.CommandPath())
	}
	return of, nil
}

func runQuery[R mds.Record[R]](ctx context.Context, a *app, s *session, query mds.Query, format string, resample func(iter.Seq2[R, error]) iter.Seq2[R, error]) error {
	records := store.TableOf[R](s.Store)
	limit := query.Limit
	if resample != nil {
		query.Limit = 0
	}
	found := records.Query(ctx, s.tenant, query)
	if resample != nil {
		found = mds.Limited(resample(found), limit)
	}
	n, err := writeRecords(a.stdout, format, found)
	if errors.Is(err, mds.ErrResample) {
		return usageError{fmt.Errorf("--every: %w; --timeframe picks those that it is made of", err)}
	}
	if err != nil {
		return err
	}
	if resample != nil && n > 0 {
		if limit > 0 && n == int64(limit) {
			fmt.Fprintf(a.stderr, "%s rows, and there may be more; --limit 0 gives all, --start and --end narrow the window\n", count(n))
		}
		return nil
	}
	kind := mds.SchemaOf[R]().Kind
	if n == 0 {
		fmt.Fprintf(a.stderr, "no %s match; %s lists what there is\n", kind, listing(kind))
	}
	if query.Limit == 0 || n < int64(query.Limit) {
		return nil
	}
	all, err := records.Count(ctx, s.tenant, query.Selection)
	if err != nil {
		return err
	}
	if all > n {
		fmt.Fprintf(a.stderr, "%s of %s rows; --limit 0 gives all, --start and --end narrow the window\n", count(n), count(all))
	}
	return nil
}
