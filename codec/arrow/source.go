package arrow

import (
	"fmt"
	"strings"
	"time"

	"github.com/apache/arrow-go/v18/arrow"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// source is a column of the stream that feeds one of the record.
type source[R any] struct {
	column int // see [codec.Feed]
	cell   int
	name   string
	to     *mds.Column[R] // nil for a date or a time of day that stand apart
	zone   *time.Location // of a timestamp that has one
	array  arrow.Array    // of the batch being read

	// fill is nil where values have to be read one by one.
	fill filler[R]
}

// filler gives a column of records their values. A value that it cannot, or about
// which something is to be said, marks its row as slow, which is then read again
// value by value.
type filler[R any] interface {
	// bind takes the column of the next batch.
	bind(arrow.Array)
	// fill gives records the values from row at on.
	fill(records []R, at int, slow []bool)
}

// newSource refuses a column of a type that its values cannot be made of.
func newSource[R mds.Record[R]](table *codec.Table[R], feed codec.Feed, field arrow.Field) (source[R], error) {
	s := source[R]{column: feed.Column, cell: feed.Cell, name: field.Name}
	if feed.Column >= 0 {
		s.to = &table.Schema().Columns[feed.Column]
	}
	if t, ok := field.Type.(*arrow.TimestampType); ok && t.TimeZone != "" {
		var err error
		if s.zone, err = location(t.TimeZone); err != nil {
			return s, &codec.SetupError{Reason: fmt.Sprintf("the stream's column %q has the time zone %q, which is not known: use a name such as America/New_York or an offset such as +05:30", s.name, t.TimeZone)}
		}
	}
	takes, ok := s.takes(field.Type)
	if !ok {
		what := "a " + apart(feed.Column)
		if s.to != nil {
			what = "the " + s.to.Name
		}
		return s, &codec.SetupError{Reason: fmt.Sprintf("the stream's column %q is of type %s, and %s is taken from %s", s.name, field.Type, what, takes)}
	}
	if s.to != nil {
		s.fill = newFiller(table, s.to, field.Type, s.zone)
	}
	return s, nil
}

// apart names what stands apart in the file.
func apart(column int) string {
	if column == codec.DateFeed {
		return "date"
	}
	return "time of day"
}

// takes reports whether a column's values can be made of a type, and says of
// which they can.
func (s *source[R]) takes(t arrow.DataType) (types string, ok bool) {
	id := t.ID()
	text, number := textual(t), integer(id) || floating(id) || arrow.IsDecimal(id)
	null := id == arrow.NULL
	switch c := s.to; {
	case c == nil && s.column == codec.DateFeed:
		return "date32, date64 or text", text || id == arrow.DATE32 || id == arrow.DATE64
	case c == nil:
		return "time32, time64 or text", text || id == arrow.TIME32 || id == arrow.TIME64
	case c.Text != nil:
		return "utf8, large_utf8, utf8_view or a dictionary of one of them", text || null
	case c.Time != nil, c.Date != nil:
		return "a timestamp, date32, date64, text, or an integer of seconds, milliseconds, microseconds or nanoseconds since 1970",
			text || integer(id) || id == arrow.TIMESTAMP || id == arrow.DATE32 || id == arrow.DATE64 || null && c.Role != mds.Time
	case c.Decimal != nil:
		return "a decimal, an integer, a float or text", text || number || null
	case c.Numeric():
		return "a float, an integer or a decimal", number || null
	case c.List != nil:
		list, isList := t.(arrow.ListLikeType)
		return "a list or large_list of utf8, or text", text || null || (id == arrow.LIST || id == arrow.LARGE_LIST) && isList && textual(list.Elem())
	}
	return "a map of utf8 to numbers, a struct of numbers, or JSON as text", text || null || metrics(t)
}

func integer(id arrow.Type) bool { return arrow.IsInteger(id) }

func floating(id arrow.Type) bool {
	return id == arrow.FLOAT64 || id == arrow.FLOAT32 || id == arrow.FLOAT16
}

// textual reports a type whose values are texts, or references to texts.
func textual(t arrow.DataType) bool {
	switch t := t.(type) {
	case *arrow.StringType, *arrow.LargeStringType, *arrow.StringViewType:
		return true
	case *arrow.DictionaryType:
		return t.ValueType.ID() != arrow.DICTIONARY && textual(t.ValueType)
	}
	return false
}

// metrics reports a type whose values are numbers by name.
func metrics(t arrow.DataType) bool {
	number := func(t arrow.DataType) bool { return integer(t.ID()) || floating(t.ID()) || arrow.IsDecimal(t.ID()) }
	switch t := t.(type) {
	case *arrow.MapType:
		return textual(t.KeyType()) && number(t.ItemType())
	case *arrow.StructType:
		for _, f := range t.Fields() {
			if !number(f.Type) && f.Type.ID() != arrow.NULL {
				return false
			}
		}
		return true
	}
	return false
}

// location finds a zone by its name, or by an offset such as +05:30.
func location(name string) (*time.Location, error) {
	switch strings.ToUpper(name) {
	case "UTC", "Z", "GMT", "ETC/UTC", "+00:00", "-00:00":
		return time.UTC, nil
	case "LOCAL":
		return nil, fmt.Errorf("the time zone %q says nothing", name)
	}
	if name[0] == '+' || name[0] == '-' {
		for _, layout := range []string{"-07:00", "-0700", "-07"} {
			if t, err := time.Parse(layout, name); err == nil {
				_, offset := t.Zone()
				return time.FixedZone(name, offset), nil
			}
		}
	}
	return time.LoadLocation(name)
}
