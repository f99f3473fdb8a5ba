// Package codec turns the bytes of files and streams into records and says,
// for each row it cannot read, which line and field is at fault and why.
//
// A decoder reads one record at a time in constant memory. A bad row costs
// that row: Next returns a [*RowError] and goes on with the next one.
package codec

import (
	"fmt"
	"strings"
)

// RowError is a row that became no record. The decoder that returned it goes
// on with the next row.
type RowError struct {
	// Line is where the row begins, counted from 1, the header included.
	Line int
	// Field is the column, or the columns separated by commas, as the schema
	// names them; empty where the row as a whole is at fault.
	Field string
	// Reason says what is wrong with every field at fault.
	Reason string
	// Raw is the row as it was read, without its line end.
	Raw string
}

func (e *RowError) Error() string {
	return fmt.Sprintf("line %d: %s", e.Line, e.Reason)
}

// HeaderError is a file that is no table of records. Nothing was read.
type HeaderError struct {
	Reason string
}

func (e *HeaderError) Error() string { return e.Reason }

// SetupError is a file that needs another setting to be read, such as a time
// zone or the name of a column. Decoding ends: every row needs it.
type SetupError struct {
	// Line and Field say where the need showed; 0 and "" for the header.
	Line   int
	Field  string
	Reason string
}

func (e *SetupError) Error() string {
	if e.Line == 0 {
		return e.Reason
	}
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Field, e.Reason)
}

// Label says which end of its span a bar's time names in a file.
type Label int

const (
	// LabelStart is the start of the bar, which is how bars are stored.
	LabelStart Label = iota
	// LabelEnd is the end of the bar. Intraday times are moved back by the
	// timeframe. A calendar bar's bare date stays the date it is; a time of
	// exactly midnight ends the day before.
	LabelEnd
)

// ParseLabel reads "start" or "end".
func ParseLabel(s string) (Label, error) {
	switch strings.ToLower(s) {
	case "start":
		return LabelStart, nil
	case "end":
		return LabelEnd, nil
	}
	return LabelStart, fmt.Errorf("label %q: use start or end", s)
}
