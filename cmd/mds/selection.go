package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// noEmptyFlags refuses a flag that is given without a value. It is most often
// a shell variable that is not set, and would pick everything.
func noEmptyFlags(cmd *cobra.Command) error {
	var empty error
	cmd.Flags().Visit(func(f *pflag.Flag) {
		value := strings.Trim(f.Value.String(), "[]")
		if value == "" && empty == nil {
			empty = usagef("--%s is given without a value", f.Name)
		}
	})
	return empty
}

// selectionFlags pick records.
type selectionFlags struct {
	vendor, timeframe string
	symbols           []string
	start, end, tz    string
	format            string // "" for commands without one
}

// registerFormat adds --format, which selection checks.
func (f *selectionFlags) registerFormat(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", formatTable, "table, csv, ndjson or json")
	offer(cmd, "format", formatTable, string(codec.FormatCSV), string(codec.FormatNDJSON), string(codec.FormatJSON))
}

func (f *selectionFlags) register(cmd *cobra.Command, symbols, window bool) {
	flags := cmd.Flags()
	flags.StringVar(&f.vendor, "vendor", "", "only this vendor")
	if symbols {
		flags.StringSliceVar(&f.symbols, "symbol", nil, "only these symbols, separated by commas")
	}
	flags.StringVar(&f.timeframe, "timeframe", "", "only this timeframe, such as 1m or 1d")
	offer(cmd, "timeframe", timeframes()...)
	if window {
		flags.StringVar(&f.start, "start", "", "from this time on, such as 2020-11-27 or 2020-11-27T14:30:00Z")
		flags.StringVar(&f.end, "end", "", "before this time")
		flags.StringVar(&f.tz, "tz", "UTC", "the time zone of --start and --end without an offset")
	}
}

// selection turns the flags of cmd into a selection.
func (f *selectionFlags) selection(cmd *cobra.Command) (mds.Selection, error) {
	if err := noEmptyFlags(cmd); err != nil {
		return mds.Selection{}, err
	}
	if f.format != "" {
		if err := checkFormat(f.format); err != nil {
			return mds.Selection{}, err
		}
	}
	given := strings.Join(f.symbols, ",")
	for i, symbol := range f.symbols {
		if f.symbols[i] = strings.TrimSpace(symbol); f.symbols[i] == "" {
			return mds.Selection{}, usagef("--symbol %q names an empty symbol", given)
		}
	}
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
