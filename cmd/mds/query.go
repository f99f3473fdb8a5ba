package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/store"
)

// tableLimit is how many rows a table shows unless asked.
const tableLimit = 100

// selectionFlags pick records.
type selectionFlags struct {
	vendor, timeframe string
	symbols           []string
	start, end, tz    string
}

func (f *selectionFlags) register(flags *pflag.FlagSet, symbols, window bool) {
	flags.StringVar(&f.vendor, "vendor", "", "only this vendor")
	if symbols {
		flags.StringSliceVar(&f.symbols, "symbol", nil, "only these symbols, separated by commas")
	}
	flags.StringVar(&f.timeframe, "timeframe", "", "only this timeframe, such as 1m or 1d")
	if window {
		flags.StringVar(&f.start, "start", "", "from this time on, such as 2020-11-27 or 2020-11-27T14:30:00Z")
		flags.StringVar(&f.end, "end", "", "before this time")
		flags.StringVar(&f.tz, "tz", "UTC", "the time zone of --start and --end without an offset")
	}
}

func (f *selectionFlags) selection() (mds.Selection, error) {
	sel := mds.Selection{Vendor: f.vendor, Symbols: f.symbols}
	var err error
	if f.timeframe != "" {
		if sel.Timeframe, err = mds.ParseTimeframe(f.timeframe); err != nil {
			return sel, usagef("--timeframe: %w", err)
		}
	}
	if f.tz == "" {
		return sel, nil
	}
	zone, err := loadZone(f.tz)
	if err != nil {
		return sel, err
	}
	for _, bound := range []struct {
		flag, text string
		target     *time.Time
	}{{"--start", f.start, &sel.Start}, {"--end", f.end, &sel.End}} {
		if bound.text == "" {
			continue
		}
		if *bound.target, err = codec.ParseTime(bound.text, zone); err != nil {
			return sel, usagef("%s: %w", bound.flag, err)
		}
	}
	if !sel.Start.IsZero() && !sel.End.IsZero() && !sel.Start.Before(sel.End) {
		return sel, usagef("--start %s is not before --end %s", f.start, f.end)
	}
	return sel, nil
}

func (a *app) queryCommand() *cobra.Command {
	return group("query", "Read a window of records", queryKind[mds.Bar](a))
}

func queryKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	var f selectionFlags
	var format, order string
	var limit int
	cmd := &cobra.Command{
		Use:   schema.Kind,
		Short: "Read a window of " + schema.Kind,
		Long: `Read ` + schema.Kind + ` in order of time, from --start up to and without --end.

Times are shown in UTC. A table shows ` + strconv.Itoa(tableLimit) + ` rows unless --limit says otherwise, and says
when it cut; csv, ndjson and json give all.`,
		Example: `  mds query bars --symbol MSFT --timeframe 1m --start 2020-11-27 --end 2020-11-28
  mds query bars --symbol MSFT,AAPL --timeframe 1d --order desc --limit 20
  mds query bars --vendor yahoo --format csv > yahoo.csv`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection()
			if err != nil {
				return err
			}
			if err := checkFormat(format); err != nil {
				return err
			}
			if order != "asc" && order != "desc" {
				return usagef("--order %q: use asc or desc", order)
			}
			if limit < 0 {
				return usagef("--limit %d: use 0 for all rows, or more", limit)
			}
			if format == formatTable && !cmd.Flags().Changed("limit") {
				limit = tableLimit
			}
			query := mds.Query{Selection: sel, Descending: order == "desc", Limit: limit}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return runQuery[R](cmd.Context(), a, s, query, format)
			})
		},
	}
	f.register(cmd.Flags(), true, true)
	cmd.Flags().IntVar(&limit, "limit", 0, fmt.Sprintf("at most this many rows, 0 for all (default %d for a table, else all)", tableLimit))
	cmd.Flags().StringVar(&order, "order", "asc", "oldest first (asc) or newest first (desc)")
	cmd.Flags().StringVar(&format, "format", formatTable, "table, csv, ndjson or json")
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
		fmt.Fprintf(a.stderr, "no %s match; mds series lists what there is\n", kind)
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

func (a *app) latestCommand() *cobra.Command {
	var f selectionFlags
	var format string
	cmd := &cobra.Command{
		Use:     "latest SYMBOL…",
		Short:   "Show the newest bar of each series of some symbols",
		Example: "  mds latest MSFT AAPL --timeframe 1m",
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usagef("name the symbols; mds series lists what there is")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := f.selection()
			if err != nil {
				return err
			}
			if err := checkFormat(format); err != nil {
				return err
			}
			sel.Symbols = args
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.latest(cmd.Context(), s, sel, format)
			})
		},
	}
	f.register(cmd.Flags(), false, false)
	cmd.Flags().StringVar(&format, "format", formatTable, "table, csv, ndjson or json")
	return cmd
}

func (a *app) latest(ctx context.Context, s *session, sel mds.Selection, format string) error {
	bars, err := store.Bars(s.Store).Latest(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	found := func(yield func(mds.Bar, error) bool) {
		for _, b := range bars {
			if !yield(b, nil) {
				return
			}
		}
	}
	if _, err := writeRecords(a.stdout, format, found); err != nil {
		return err
	}
	var none []string
	for _, symbol := range sel.Symbols {
		symbol = mds.NormalizeSymbol(symbol)
		if !slices.ContainsFunc(bars, func(b mds.Bar) bool { return b.Symbol == symbol }) {
			none = append(none, symbol)
		}
	}
	if none != nil {
		return fmt.Errorf("no bars of %s; mds series lists what there is", strings.Join(none, ", "))
	}
	return nil
}

func (a *app) seriesCommand() *cobra.Command {
	var f selectionFlags
	var format string
	cmd := &cobra.Command{
		Use:   "series",
		Short: "List the series of bars with their counts and time ranges",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection()
			if err != nil {
				return err
			}
			if err := checkFormat(format); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.series(cmd.Context(), s, sel, format)
			})
		},
	}
	f.register(cmd.Flags(), true, true)
	cmd.Flags().StringVar(&format, "format", formatTable, "table, csv, ndjson or json")
	return cmd
}

func (a *app) series(ctx context.Context, s *session, sel mds.Selection, format string) error {
	list, err := store.Bars(s.Store).Series(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		fmt.Fprintln(a.stderr, "no bars are stored; load some with: mds ingest bars FILE")
	}
	t := &table{
		header: []string{"vendor", "symbol", "timeframe", "rows", "first", "last"},
		right:  []bool{false, false, false, true, false, false},
	}
	for _, series := range list {
		id := series.Identity
		if format == formatTable {
			calendar := id.Timeframe.Calendar()
			t.add(id.Vendor, id.Symbol, string(id.Timeframe), count(series.Rows), displayTime(series.First, calendar), displayTime(series.Last, calendar))
			continue
		}
		t.add(id.Vendor, id.Symbol, string(id.Timeframe), strconv.FormatInt(series.Rows, 10), series.First.Format(time.RFC3339Nano), series.Last.Format(time.RFC3339Nano))
	}
	return t.writeAs(a.stdout, format, "rows")
}

// noArgs refuses arguments, which are most often a forgotten flag name.
func noArgs(cmd *cobra.Command, args []string) error {
	if len(args) > 0 {
		return usagef("%s takes no arguments, and %q is one; did you mean --symbol %s?", cmd.CommandPath(), args[0], args[0])
	}
	return nil
}
