package codec

import (
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Options say how to read a file. The zero value reads one that names every
// column and whose times carry their offset.
type Options struct {
	// Columns maps a column of the record to the name in the file, or for CSV to
	// "#N", the N-th column; "" leaves the column out. "date" and "time" map a
	// date and a time of day apart. Columns not named here are found by their
	// names and the usual aliases.
	Columns map[string]string

	// NoHeader says that the first line of a CSV file is data. Columns then maps
	// every column by its number.
	NoHeader bool

	// Fixed gives columns one value for the whole file, such as
	// {"symbol": "MSFT"}. A file that has such a column too is refused.
	Fixed map[string]string

	// Zone is the time zone of times without an offset, and the one in which
	// epoch times of calendar bars show their date. Nil means none is
	// known: a time without an offset ends the decoding with a [*SetupError],
	// and epochs show their date in UTC.
	Zone *time.Location

	// Label says which end of a bar its time names. Defaults to LabelStart.
	Label Label
}

// Decoder reads records one after the other. It is not safe for concurrent
// use.
type Decoder[R any] interface {
	// Next decodes the next row into record, normalised and valid. It returns a
	// [*RowError] for a row that is no record, after which it may be called
	// again; a [*SetupError] or the reader's error when decoding has to end; and
	// io.EOF after the last row. Blank lines are no rows.
	Next(record *R) error
	// Ignored returns the names in the file that feed no column, in the file's
	// order, each once. It is complete when Next has returned io.EOF.
	Ignored() []string
	// Warnings counts the rows that became records but had something odd about
	// them, by what it was; 0 is of what is odd about the file.
	Warnings() map[string]int64
}

// NewDecoder returns a decoder for a format; "" tells CSV, NDJSON and a JSON array apart by
// the first byte. It fails with a [*HeaderError] where the data is not in the
// format, and with a [*SetupError] where the options do not say enough.
func NewDecoder[R mds.Record[R]](r io.Reader, format Format, opt Options) (Decoder[R], error) {
	switch format {
	case FormatCSV:
		return NewCSV[R](r, opt)
	case FormatNDJSON:
		return NewNDJSON[R](r, opt)
	case FormatJSON:
		return NewJSON[R](r, opt)
	case "":
		lines := newLineReader(r)
		head, err := lines.peek()
		if err != nil {
			return nil, err
		}
		switch text := strings.TrimLeft(string(head), "\ufeff \t\r\n"); {
		case strings.HasPrefix(text, "{"):
			return NewNDJSON[R](lines.r, opt)
		case strings.HasPrefix(text, "["):
			return NewJSON[R](lines.r, opt)
		}
		return NewCSV[R](lines.r, opt)
	}
	return nil, &SetupError{Reason: fmt.Sprintf("format %q: use csv, ndjson or json", format)}
}
