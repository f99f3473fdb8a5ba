// Package selection reads what people write to pick records, as flags of a command or
// parameters of a request.
package selection

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// Texts are what was written, as it was.
type Texts struct {
	Symbols []string
	// Picks are values by column.
	Picks map[string][]string
	// Start and End are dates or times; those without an offset are of Zone, which defaults
	// to UTC.
	Start, End, Zone string
	// KnownAt is a time, a date, which stands for its end, or "now".
	KnownAt string
	// Label is what a name is called in errors, such as --start. Defaults to the name.
	Label func(name string) string
}

func (t *Texts) label(name string) string {
	if t.Label == nil {
		return name
	}
	return t.Label(name)
}

// Parse makes a selection of texts. An error names what of them is wrong, and how it is
// written.
func Parse[R any](schema *mds.Schema[R], t Texts) (sel mds.Selection, err error) {
	if sel.Symbols, err = t.Clean("symbol", t.Symbols); err != nil {
		return sel, err
	}
	for _, c := range Columns(schema) {
		if len(t.Picks[c.Name]) == 0 {
			continue
		}
		if sel.Where == nil {
			sel.Where = make(map[string][]string)
		}
		if sel.Where[c.Name], err = values(&t, c, t.Picks[c.Name]); err != nil {
			return sel, err
		}
	}
	var zone *time.Location
	if sel.Start, sel.End, zone, err = t.Window(); err != nil {
		return sel, err
	}
	if t.KnownAt != "" {
		if sel.KnownAt, err = t.knownAt(zone); err != nil {
			return sel, err
		}
	}
	return Expand(schema, sel, t.label("symbol"))
}

// Expand resolves symbols that stand for more, such as an option's.
func Expand[R any](schema *mds.Schema[R], sel mds.Selection, label string) (mds.Selection, error) {
	sel, err := schema.Expand(sel)
	if err != nil {
		return sel, fmt.Errorf("%s: %w", label, err)
	}
	return sel, nil
}

// Columns are those that records are picked by, and that files may lack.
func Columns[R any](schema *mds.Schema[R]) []*mds.Column[R] {
	columns := schema.ByRole(mds.Identity, mds.Key, mds.Revision)
	if c := schema.SymbolColumn(); c != nil && !slices.Contains(columns, c) {
		columns = append(columns, c)
	}
	return columns
}

// values brings values of a column into the column's form.
func values[R any](t *Texts, c *mds.Column[R], given []string) ([]string, error) {
	given, err := t.Clean(c.Name, given)
	if err != nil {
		return nil, err
	}
	out := make([]string, len(given))
	for i, value := range given {
		var r R
		if c.Name == "vendor" { // any may be asked for
			out[i] = mds.NormalizeVendor(value)
			continue
		}
		if err := c.SetText(&r, value); err != nil {
			return nil, fmt.Errorf("%s: %w", t.label(c.Name), err)
		}
		out[i] = string(c.AppendText(nil, &r))
	}
	return out, nil
}

// Clean trims the items of a list and refuses empty ones.
func (t *Texts) Clean(name string, items []string) ([]string, error) {
	var clean []string
	for _, item := range items {
		if item = strings.TrimSpace(item); item == "" {
			return nil, fmt.Errorf("%s %q names an empty %s", t.label(name), strings.Join(items, ","), strings.ReplaceAll(name, "_", " "))
		}
		clean = append(clean, item)
	}
	return clean, nil
}

// Window reads the bounds of a window, and the zone of times without an offset.
func (t *Texts) Window() (start, end time.Time, zone *time.Location, err error) {
	zone = time.UTC
	if t.Zone != "" {
		if zone, err = Zone(t.label("tz"), t.Zone); err != nil {
			return start, end, zone, err
		}
	}
	for _, bound := range []struct {
		name, text string
		to         *time.Time
	}{{"start", t.Start, &start}, {"end", t.End, &end}} {
		if bound.text == "" {
			continue
		}
		if *bound.to, err = codec.ParseTime(bound.text, zone); err != nil {
			return start, end, zone, fmt.Errorf("%s: %w", t.label(bound.name), err)
		}
	}
	if !start.IsZero() && !end.IsZero() && !start.Before(end) {
		return start, end, zone, fmt.Errorf("%s %s is not before %s %s", t.label("start"), t.Start, t.label("end"), t.End)
	}
	return start, end, zone, nil
}

// Zone loads a time zone.
func Zone(label, name string) (*time.Location, error) {
	zone, err := time.LoadLocation(name)
	if err != nil || name == "Local" {
		return nil, fmt.Errorf("%s %q is no time zone; use a name such as America/New_York, Europe/London or UTC", label, name)
	}
	return zone, nil
}

// knownAt is an instant, or the last one of a date.
func (t *Texts) knownAt(zone *time.Location) (time.Time, error) {
	if strings.EqualFold(t.KnownAt, "now") {
		return time.Now(), nil
	}
	at, err := codec.ParseTime(t.KnownAt, zone)
	if err != nil {
		return at, fmt.Errorf("%s: %w; write a date, a time or now", t.label("known_at"), err)
	}
	if !codec.HasTimeOfDay(t.KnownAt) {
		return at.AddDate(0, 0, 1).Add(-time.Microsecond), nil
	}
	return at, nil
}

// Narrow reports whether a selection leaves anything out.
func Narrow(sel mds.Selection) bool {
	return sel.Vendor != "" || len(sel.Symbols) > 0 || sel.Timeframe != "" || len(sel.Where) > 0 || !sel.Start.IsZero() || !sel.End.IsZero()
}
