package main

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
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
	var asRefreshed bool
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
			resample, err := resampling[R](cmd, every, f.tz, asRefreshed, query)
			if err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				if resample != nil {
					return runResample(cmd.Context(), a, s, *resample, f.format)
				}
				return runQuery[R](cmd.Context(), a, s, query, f.format)
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
		cmd.Flags().BoolVar(&asRefreshed, "as-refreshed", false, "with --every: read rollups as they were made last, whatever changed since")
	}
	f.registerFormat(cmd)
	offer(cmd, "order", "asc", "desc")
	return cmd
}

// resampling is what longer bars are asked for, nil where bars are wanted as they are.
func resampling[R mds.Record[R]](cmd *cobra.Command, every, tz string, asRefreshed bool, query mds.Query) (*mds.ResampleQuery, error) {
	if every == "" {
		if asRefreshed {
			return nil, usagef("--as-refreshed is about what is made with --every")
		}
		return nil, nil //nolint:nilnil // there is none, and that is no error
	}
	to, err := mds.ParseTimeframe(every)
	if err != nil {
		return nil, usagef("--every: %w", err)
	}
	if query.Descending {
		return nil, usagef("--every makes bars oldest first: leave --order desc out")
	}
	zone, err := loadZone(tz)
	if err != nil {
		return nil, err
	}
	if mds.SchemaOf[R]().Kind != "bars" {
		return nil, usagef("%s has no --every", cmd.CommandPath())
	}
	return &mds.ResampleQuery{Selection: query.Selection, Every: to, Zone: zone, AsRefreshed: asRefreshed, Limit: query.Limit}, nil
}

// runResample prints longer bars, and says where they are not those of the bars as they are.
func runResample(ctx context.Context, a *app, s *session, query mds.ResampleQuery, format string) error {
	var fresh mds.Freshness
	query.Freshness = func(f mds.Freshness) { fresh = f }
	n, err := writeRecords(a.stdout, format, s.Resample(ctx, s.tenant, query))
	if errors.Is(err, mds.ErrResample) {
		return usageError{fmt.Errorf("--every: %w; --timeframe picks those that it is made of", err)}
	}
	if err != nil {
		return err
	}
	switch _, served := s.Backend.(*remote.Store); {
	case served && query.AsRefreshed:
		fmt.Fprintln(a.stderr, "how fresh the rollups are that a server answers with it does not tell; mds policies status does")
	case served:
	case query.AsRefreshed && !fresh.Rollup:
		fmt.Fprintln(a.stderr, "there are no rollups that answer this: it is made of the bars, and exact")
	case query.AsRefreshed && fresh.Stale > 0:
		verb := "are"
		if fresh.Stale == 1 {
			verb = "is"
		}
		fmt.Fprintf(a.stderr, "%s since %s %s not in these rollups yet; leave --as-refreshed out to have all\n", plural(fresh.Stale, "change"), instantText(fresh.Since), verb)
	case query.AsRefreshed:
		fmt.Fprintf(a.stderr, "these rollups have all changes; they were refreshed at %s\n", instantText(fresh.RefreshedAt))
	}
	if !fresh.KeptFrom.IsZero() && (query.Start.IsZero() || query.Start.Before(fresh.KeptFrom)) {
		if fresh.Rollup {
			fmt.Fprintf(a.stderr, "bars before %s are dropped: those are of rollups alone\n", date(fresh.KeptFrom))
		} else {
			fmt.Fprintf(a.stderr, "bars before %s are dropped, and no rollup makes up %s: there are none from before\n", date(fresh.KeptFrom), query.Every)
		}
	}
	switch {
	case n == 0:
		fmt.Fprintf(a.stderr, "no bars match; %s lists what there is\n", listing("bars"))
	case query.Limit > 0 && n == int64(query.Limit):
		fmt.Fprintf(a.stderr, "%s rows, and there may be more; --limit 0 gives all, --start and --end narrow the window\n", count(n))
	}
	return nil
}

func runQuery[R mds.Record[R]](ctx context.Context, a *app, s *session, query mds.Query, format string) error {
	records := store.TableOf[R](s.Store)
	n, err := writeRecords(a.stdout, format, records.Query(ctx, s.tenant, query))
	if err != nil {
		return err
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
