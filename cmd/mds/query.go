package main

import (
	"context"
	"fmt"
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
	var order string
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
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return runQuery[R](cmd.Context(), a, s, query, f.format)
			})
		},
	}
	f.register(cmd, true, true)
	f.registerKnownAt(cmd)
	cmd.Flags().IntVar(&limit, "limit", 0, fmt.Sprintf("at most this many rows, 0 for all (default %d for a table, else all)", tableLimit))
	cmd.Flags().StringVar(&order, "order", "asc", "oldest first (asc) or newest first (desc)")
	f.registerFormat(cmd)
	offer(cmd, "order", "asc", "desc")
	return cmd
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
