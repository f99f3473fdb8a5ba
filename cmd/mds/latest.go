package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func (a *app) latestCommand() *cobra.Command {
	var f selectionFlags
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
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			for _, arg := range args {
				for symbol := range strings.SplitSeq(arg, ",") {
					if symbol = strings.TrimSpace(symbol); symbol == "" {
						return usagef("%q names an empty symbol", arg)
					}
					sel.Symbols = append(sel.Symbols, symbol)
				}
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.latest(cmd.Context(), s, sel, f.format)
			})
		},
	}
	f.register(cmd, false, false)
	f.registerFormat(cmd)
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
		what := "bars"
		if sel.Timeframe != "" {
			what = string(sel.Timeframe) + " " + what
		}
		if sel.Vendor != "" {
			what = sel.Vendor + " " + what
		}
		return fmt.Errorf("no %s of %s; mds series lists what there is", what, strings.Join(none, ", "))
	}
	return nil
}
