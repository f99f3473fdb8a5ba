package codec

import (
	"strings"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// Table makes records of the rows of a table whose columns are named once and
// whose values are typed, for formats that have a package of their own. It finds
// columns as the header of a CSV file does, and says of a row that is no record
// what the other formats say.
//
// A row goes through Begin, a Set method for each value that is there, and
// Finish. A format that knows its values to be sound may fill a record in itself,
// from [Table.Template], and hand it to Complete. It is not safe for concurrent
// use.
type Table[R mds.Record[R]] struct {
	*builder[R]
	mapping *mapping
	feeds   []Feed

	date, clock string // of the row being read
	mayBeEmpty  bool
}

// Feed says which column of the file feeds which of the record.
type Feed struct {
	// Column is the index among the schema's columns, or DateFeed or ClockFeed.
	Column int
	// Cell is the index among the names that the table was made of.
	Cell int
}

// A date and a time of day that stand apart make the record's time.
const (
	DateFeed  = fieldDate
	ClockFeed = fieldClock
)

// NewTable finds the columns of a file by their names. It fails with a
// [*SetupError] where the options do not say enough, or one is missing that the
// kind requires.
func NewTable[R mds.Record[R]](names []string, opt Options) (*Table[R], error) {
	b, err := newBuilder[R](opt)
	if err != nil {
		return nil, err
	}
	if opt.NoHeader {
		return nil, &SetupError{Reason: "--no-header is for CSV files; a typed stream names its columns"}
	}
	t := &Table[R]{builder: b}
	if t.mapping, err = mapColumns(typedHeader(names), &t.schema, opt); err != nil {
		return nil, err
	}
	for i := range t.schema.Columns {
		if cell, ok := t.mapping.cells[t.schema.Columns[i].Name]; ok {
			t.feeds = append(t.feeds, Feed{Column: i, Cell: cell})
		}
	}
	if cell, ok := t.mapping.cells[dateColumn]; ok {
		t.feeds = append(t.feeds, Feed{Column: DateFeed, Cell: cell})
	}
	if cell, ok := t.mapping.cells[timeColumn]; ok {
		t.feeds = append(t.feeds, Feed{Column: ClockFeed, Cell: cell})
	}
	t.mayBeEmpty = true
	for _, i := range t.values {
		t.mayBeEmpty = t.mayBeEmpty && t.schema.Columns[i].Optional()
	}
	return t, t.fix(t.mapping.has)
}

// Schema returns the schema of the kind.
func (t *Table[R]) Schema() *mds.Schema[R] { return &t.schema }

// Feeds returns what feeds the columns, in the schema's order.
func (t *Table[R]) Feeds() []Feed { return t.feeds }

// Ignored returns the names that feed no column, in the file's order.
func (t *Table[R]) Ignored() []string { return t.mapping.ignored }

// Warnings counts the rows that became records but had something odd about
// them, by what it was; 0 is of what is odd about the file.
func (t *Table[R]) Warnings() map[string]int64 { return t.warnings }

// Template returns the record that all begin as: what the options fix, and the
// defaults of columns that nothing feeds. A fixed time is not in it: it hangs on
// the timeframe, and such rows go through Begin.
func (t *Table[R]) Template() R { return t.fixed }

// Begin starts a record.
func (t *Table[R]) Begin(record *R) {
	t.begin(record)
	t.date, t.clock = "", ""
}

// SetText gives a column its value as text, which is never taken for a missing
// value unless it is empty.
func (t *Table[R]) SetText(record *R, column int, text []byte) {
	switch column {
	case DateFeed:
		t.date = string(text)
	case ClockFeed:
		t.clock = string(text)
	default:
		t.setText(record, column, text, true)
	}
}

// SetItems gives a List column its items.
func (t *Table[R]) SetItems(record *R, column int, items []string) {
	c := &t.schema.Columns[column]
	items, err := c.ParseItems(items)
	if err != nil {
		t.fault(c.Name, err.Error())
		return
	}
	t.set[column] = true
	*c.List(record) = items
}

// SetMetrics gives a Metrics column its figures.
func (t *Table[R]) SetMetrics(record *R, column int, metrics map[string]float64) {
	c := &t.schema.Columns[column]
	t.set[column] = true
	*c.Metrics(record) = metrics
}

// Fault notes what is wrong with the value of a column, of which its name
// completes a sentence.
func (t *Table[R]) Fault(column int, reason string) {
	if column < 0 {
		column = t.timeAt
	}
	t.fault(t.schema.Columns[column].Name, reason)
}

// Finish completes a record that Begin started: normalised and valid. It returns
// an [*mds.InvalidError] that [InvalidRow] makes a [*RowError] of, or a
// [*SetupError] without its line.
func (t *Table[R]) Finish(record *R) error {
	if len(t.timeText) == 0 {
		t.timeText = append(t.timeText, strings.TrimSpace(t.date+" "+t.clock)...)
	}
	return t.finish(record)
}

// Complete brings a record that was filled in from the template into its stored
// form and counts what is odd about it. Where the record is not valid it leaves
// it as it is and returns false.
func (t *Table[R]) Complete(record *R) bool {
	if t.schema.Validate(record) != nil {
		return false
	}
	if t.schema.Warning != nil {
		if warning := t.schema.Warning(record); warning != "" {
			t.warnings[warning]++
		}
	}
	t.schema.Normalize(record)
	if t.mayBeEmpty && t.blank(record) {
		t.warnings["without any value"]++
	}
	return true
}

// blank reports a record of which there is nothing but the key.
func (t *Table[R]) blank(record *R) bool {
	for _, i := range t.values {
		if !t.schema.Columns[i].Missing(record) {
			return false
		}
	}
	return true
}

// Offset returns how far the wall clocks of the file's zone are ahead of UTC at a
// wall clock given as Unix seconds. It reports false where no zone is known, or
// the clocks are changed too near: the row then goes through Begin.
func (t *Table[R]) Offset(wall int64) (seconds int64, ok bool) {
	if t.zone == nil || wall < t.zone.from || wall >= t.zone.to {
		return 0, false
	}
	return t.zone.offset, true
}

// ShortText shortens a text for a message or the raw form of a row.
func ShortText(text []byte) string {
	if short := clip(text); utf8.ValidString(short) {
		return short
	}
	return strings.ToValidUTF8(clip(text), "\ufffd")
}
