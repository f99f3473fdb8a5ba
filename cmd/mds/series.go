package main

import (
	"context"
	"fmt"
	"strconv"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func (a *app) seriesCommand() *cobra.Command {
	var f selectionFlags
	cmd := &cobra.Command{
		Use:   "series",
		Short: "List the series of bars with their counts and time ranges",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.series(cmd.Context(), s, sel, f.format)
			})
		},
	}
	f.register(cmd, true, true)
	f.registerFormat(cmd)
	return cmd
}

func (a *app) series(ctx context.Context, s *session, sel mds.Selection, format string) error {
	bars := store.Bars(s.Store)
	list, err := bars.Series(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		info, err := bars.Info(ctx, s.tenant)
		if err != nil {
			return err
		}
		if info.Rows > 0 {
			fmt.Fprintf(a.stderr, "no series match, of the %s there are\n", count(info.Series))
		} else {
			fmt.Fprintln(a.stderr, "no bars are stored; load some with: mds ingest bars FILE")
		}
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
