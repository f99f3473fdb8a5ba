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
	for _, c := range pickable(&f.schema) {
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
	if sel.Symbols, err = cleanList("symbol", f.symbols); err != nil {
		return sel, err
	}
	for _, c := range pickable(&f.schema) {
		values := f.picks[c.Name]
		if values == nil || len(*values) == 0 {
			continue
		}
		if sel.Where == nil {
			sel.Where = make(map[string][]string)
		}
		if sel.Where[c.Name], err = f.values(c, *values); err != nil {
			return sel, err
		}
	}
	var zone *time.Location
	if sel.Start, sel.End, zone, err = window(f.start, f.end, f.tz); err != nil {
		return sel, err
	}
	if f.knownAt != "" {
		if sel.KnownAt, err = knownAt(f.knownAt, zone); err != nil {
			return sel, err
		}
	}
	return f.expand(sel)
}

// window reads the flags of a window; a time without an offset is of the zone.
func window(startText, endText, tz string) (start, end time.Time, zone *time.Location, err error) {
	zone = time.UTC
	if tz != "" {
		if zone, err = loadZone(tz); err != nil {
			return start, end, zone, err
		}
	}
	for _, bound := range []struct {
		flag, text string
		target     *time.Time
	}{{"--start", startText, &start}, {"--end", endText, &end}} {
		if bound.text == "" {
			continue
		}
		if *bound.target, err = codec.ParseTime(bound.text, zone); err != nil {
			return start, end, zone, usagef("%s: %w", bound.flag, err)
		}
	}
	if !start.IsZero() && !end.IsZero() && !start.Before(end) {
		return start, end, zone, usagef("--start %s is not before --end %s", startText, endText)
	}
	return start, end, zone, nil
}

// expand resolves symbols that stand for more.
func (f *selectionFlags[R]) expand(sel mds.Selection) (mds.Selection, error) {
	sel, err := f.schema.Expand(sel)
	if err != nil {
		return sel, usagef("--symbol: %w", err)
	}
	return sel, nil
}

// values brings what a flag gives for a column into the column's form.
func (f *selectionFlags[R]) values(c *mds.Column[R], given []string) ([]string, error) {
	flag := flagOf(&f.schema, c)
	given, err := cleanList(flag, given)
	if err != nil {
		return nil, err
	}
	values := make([]string, len(given))
	for i, value := range given {
		var r R
		if c.Name == "vendor" { // any may be asked for
			values[i] = mds.NormalizeVendor(value)
			continue
		}
		if err := c.SetText(&r, value); err != nil {
			return nil, usagef("--%s: %w", flag, err)
		}
		values[i] = string(c.AppendText(nil, &r))
	}
	return values, nil
}

// cleanList trims the items of a flag and refuses empty ones.
func cleanList(flag string, items []string) ([]string, error) {
	var clean []string
	for _, item := range items {
		item = strings.TrimSpace(item)
		if item == "" {
			return nil, usagef("--%s %q names an empty %s", flag, strings.Join(items, ","), strings.ReplaceAll(flag, "-", " "))
		}
		clean = append(clean, item)
	}
	return clean, nil
}

// knownAt is an instant, or the last one of a date.
func knownAt(text string, zone *time.Location) (time.Time, error) {
	if strings.EqualFold(text, "now") {
		return time.Now(), nil
	}
	t, err := codec.ParseTime(text, zone)
	if err != nil {
		return t, usagef("--known-at: %w; write a date, a time or now", err)
	}
	if !codec.HasTimeOfDay(text) {
		return t.AddDate(0, 0, 1).Add(-time.Microsecond), nil
	}
	return t, nil
}

// narrow reports whether a selection leaves anything out.
func narrow(sel mds.Selection) bool {
	return sel.Vendor != "" || len(sel.Symbols) > 0 || sel.Timeframe != "" || len(sel.Where) > 0 || !sel.Start.IsZero() || !sel.End.IsZero()
}
