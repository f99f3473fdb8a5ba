package main

import (
	"strings"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/selection"
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
type selectionFlags[R mds.Record[R]] struct {
	schema         mds.Schema[R]
	picks          map[string]*[]string // by column
	symbols        []string
	start, end, tz string
	knownAt        string
	format         string // "" for commands without one
}

func newSelectionFlags[R mds.Record[R]]() *selectionFlags[R] {
	return &selectionFlags[R]{schema: mds.SchemaOf[R](), picks: make(map[string]*[]string)}
}

// registerFormat adds --format, which selection checks.
func (f *selectionFlags[R]) registerFormat(cmd *cobra.Command) {
	cmd.Flags().StringVar(&f.format, "format", formatTable, "table, csv, ndjson or json")
	offer(cmd, "format", formatTable, string(codec.FormatCSV), string(codec.FormatNDJSON), string(codec.FormatJSON))
}

// register adds the flags that pick by the kind's columns; symbols and window
// tell whether by these, too.
func (f *selectionFlags[R]) register(cmd *cobra.Command, symbols, window bool) {
	flags := cmd.Flags()
	for _, c := range selection.Columns(&f.schema) {
		switch {
		case c == f.schema.SymbolColumn():
			if symbols {
				flags.StringSliceVar(&f.symbols, "symbol", nil, "only these symbols, separated by commas")
			}
		case c.Role == mds.Key && c.Parse == nil: // any text, commas and all
			f.picks[c.Name] = flags.StringArray(flagOf(&f.schema, c), nil, "only this "+c.Name+" ("+c.Doc+"); give it again for several")
		default:
			f.picks[c.Name] = flags.StringSlice(flagOf(&f.schema, c), nil, "only this "+strings.ReplaceAll(c.Name, "_", " ")+" ("+c.Doc+"); several separated by commas")
		}
	}
	if f.schema.Lookup("timeframe") != nil {
		offer(cmd, "timeframe", timeframes()...)
	}
	if window {
		flags.StringVar(&f.start, "start", "", "from this time on, such as 2020-11-27 or 2020-11-27T14:30:00Z")
		flags.StringVar(&f.end, "end", "", "before this time")
		flags.StringVar(&f.tz, "tz", "UTC", "the time zone of times given without an offset")
	}
}

// registerKnownAt adds --known-at for kinds with versions.
func (f *selectionFlags[R]) registerKnownAt(cmd *cobra.Command) {
	if f.schema.RevisionColumn() != nil {
		cmd.Flags().StringVar(&f.knownAt, "known-at", "", "as known at this time, by the end of this date, or now: each figure from the newest filing until then")
	}
}

// selection turns the flags of cmd into a selection.
func (f *selectionFlags[R]) selection(cmd *cobra.Command) (sel mds.Selection, err error) {
	if err := noEmptyFlags(cmd); err != nil {
		return sel, err
	}
	if f.format != "" {
		if err := checkFormat(f.format); err != nil {
			return sel, err
		}
	}
	picks := make(map[string][]string)
	for column, values := range f.picks {
		picks[column] = *values
	}
	sel, err = selection.Parse(&f.schema, selection.Texts{
		Symbols: f.symbols, Picks: picks, Start: f.start, End: f.end, Zone: f.tz, KnownAt: f.knownAt, Label: flagLabel,
	})
	if err != nil {
		return sel, usageError{err}
	}
	return sel, nil
}

// flagLabel is what a parameter is called on the command line.
func flagLabel(name string) string {
	if name == "symbols" {
		name = "symbol"
	}
	return "--" + strings.ReplaceAll(name, "_", "-")
}

// window reads the flags of a window; a time without an offset is of the zone.
func window(startText, endText, tz string) (start, end time.Time, zone *time.Location, err error) {
	t := selection.Texts{Start: startText, End: endText, Zone: tz, Label: flagLabel}
	if start, end, zone, err = t.Window(); err != nil {
		err = usageError{err}
	}
	return start, end, zone, err
}

// loadZone loads the time zone of --tz.
func loadZone(name string) (*time.Location, error) {
	zone, err := selection.Zone("--tz", name)
	if err != nil {
		return nil, usageError{err}
	}
	return zone, nil
}

// expand resolves symbols that stand for more.
func (f *selectionFlags[R]) expand(sel mds.Selection) (mds.Selection, error) {
	sel, err := selection.Expand(&f.schema, sel, "--symbol")
	if err != nil {
		return sel, usageError{err}
	}
	return sel, nil
}

// cleanList trims the items of a flag and refuses empty ones.
func cleanList(flag string, items []string) ([]string, error) {
	t := selection.Texts{Label: flagLabel}
	clean, err := t.Clean(flag, items)
	if err != nil {
		return nil, usageError{err}
	}
	return clean, nil
}
