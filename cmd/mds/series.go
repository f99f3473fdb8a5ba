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
	all := a.perKind("series", "List the series with their counts and time ranges", func(k kind) func(*app) *cobra.Command { return k.series })
	return ofBars(all, "series [KIND]")
}

// listing is the command that lists the series of a kind.
func listing(kind string) string {
	if kind == "bars" {
		return "mds series"
	}
	return "mds series " + kind
}

func seriesKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	cmd := &cobra.Command{
		Use:   schema.Kind,
		Short: "List the series of " + schema.Kind + " with their counts and time ranges",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return runSeries[R](cmd.Context(), a, s, sel, f.format)
			})
		},
	}
	f.register(cmd, true, true)
	f.registerFormat(cmd)
	return cmd
}

func runSeries[R mds.Record[R]](ctx context.Context, a *app, s *session, sel mds.Selection, format string) error {
	schema := mds.SchemaOf[R]()
	records := store.TableOf[R](s.Store)
	list, err := records.Series(ctx, s.tenant, sel)
	if err != nil {
		return err
	}
	if len(list) == 0 {
		info, err := records.Info(ctx, s.tenant)
		if err != nil {
			return err
		}
		if info.Rows > 0 {
			fmt.Fprintf(a.stderr, "no series match, of the %s there are\n", count(info.Series))
		} else {
			fmt.Fprintf(a.stderr, "no %s are stored; load some with: mds ingest %[1]s FILE\n", schema.Kind)
		}
	}
	identity := schema.ByRole(mds.Identity)
	t := &table{}
	for _, c := range identity {
		t.header = append(t.header, c.Name)
	}
	t.header = append(t.header, "rows", "first", "last")
	t.right = make([]bool, len(t.header))
	t.right[len(identity)] = true
	for _, series := range list {
		var cells []string
		for _, c := range identity {
			cells = append(cells, string(c.AppendText(nil, &series.Identity)))
		}
		dates := schema.Dated() || schema.Timeframe != nil && schema.Timeframe(&series.Identity).Calendar()
		switch {
		case format == formatTable:
			cells = append(cells, count(series.Rows), displayTime(series.First, dates), displayTime(series.Last, dates))
		case schema.Dated():
			cells = append(cells, strconv.FormatInt(series.Rows, 10), displayTime(series.First, true), displayTime(series.Last, true))
		default:
			cells = append(cells, strconv.FormatInt(series.Rows, 10), series.First.Format(time.RFC3339Nano), series.Last.Format(time.RFC3339Nano))
		}
		t.add(cells...)
	}
	numeric := []string{"rows"}
	for _, c := range identity {
		if c.Numeric() {
			numeric = append(numeric, c.Name)
		}
	}
	return t.writeAs(a.stdout, format, numeric...)
}
