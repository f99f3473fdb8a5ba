package codec

import (
	"bufio"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
)

// Format is a way to write records.
type Format string

const (
	// FormatCSV has a header of column names; a missing value is blank.
	FormatCSV Format = "csv"
	// FormatNDJSON is one JSON object a line; a missing value is null.
	FormatNDJSON Format = "ndjson"
	// FormatJSON is one JSON array of objects.
	FormatJSON Format = "json"
)

// Encoder writes records with every column, named as the schema names it.
// Times are RFC 3339 in UTC; numbers are the shortest that read back the same.
// It is not safe for concurrent use.
type Encoder[R mds.Record[R]] struct {
	schema mds.Schema[R]
	format Format
	w      *bufio.Writer
	csv    *csv.Writer
	rows   int
	line   []byte
	cells  []string
}

// NewEncoder returns an encoder; Close it to write what is buffered.
func NewEncoder[R mds.Record[R]](w io.Writer, format Format) (*Encoder[R], error) {
	e := &Encoder[R]{schema: mds.SchemaOf[R](), format: format, w: bufio.NewWriter(w)}
	switch format {
	case FormatCSV:
		e.csv = csv.NewWriter(e.w)
		return e, e.csv.Write(columnNames(&e.schema))
	case FormatJSON:
		_, err := e.w.WriteString("[")
		return e, err
	case FormatNDJSON:
		return e, nil
	}
	return nil, fmt.Errorf("format %q: use csv, ndjson or json", format)
}

// Encode writes one record.
func (e *Encoder[R]) Encode(record *R) error {
	e.rows++
	if e.format == FormatCSV {
		e.cells = AppendCells(e.cells[:0], &e.schema, record)
		return e.csv.Write(e.cells)
	}
	e.line = e.line[:0]
	if e.format == FormatJSON {
		if e.rows > 1 {
			e.line = append(e.line, ',')
		}
		e.line = append(e.line, '\n')
	}
	var err error
	if e.line, err = appendObject(e.line, &e.schema, record); err != nil {
		return err
	}
	if e.format == FormatNDJSON {
		e.line = append(e.line, '\n')
	}
	_, err = e.w.Write(e.line)
	return err
}

// Close writes what is buffered. It does not close the writer below.
func (e *Encoder[R]) Close() error {
	switch e.format {
	case FormatCSV:
		e.csv.Flush()
		if err := e.csv.Error(); err != nil {
			return err
		}
	case FormatJSON:
		end := "\n]\n"
		if e.rows == 0 {
			end = "]\n"
		}
		if _, err := e.w.WriteString(end); err != nil {
			return err
		}
	case FormatNDJSON:
	}
	return e.w.Flush()
}

// AppendCells appends the text of each column of a record, "" for a missing
// value.
func AppendCells[R any](cells []string, schema *mds.Schema[R], record *R) []string {
	for i := range schema.Columns {
		c := &schema.Columns[i]
		cell := ""
		switch {
		case c.Text != nil:
			cell = *c.Text(record)
		case c.Time != nil:
			cell = c.Time(record).UTC().Format(time.RFC3339Nano)
		case c.Float != nil:
			cell = string(appendFloat(nil, *c.Float(record)))
		case c.OptFloat != nil:
			if v, ok := c.OptFloat(record).Value(); ok {
				cell = string(appendFloat(nil, v))
			}
		case c.OptInt != nil:
			if v, ok := c.OptInt(record).Value(); ok {
				cell = strconv.FormatInt(v, 10)
			}
		}
		cells = append(cells, cell)
	}
	return cells
}

func appendObject[R any](line []byte, schema *mds.Schema[R], record *R) ([]byte, error) {
	for i := range schema.Columns {
		c := &schema.Columns[i]
		if i == 0 {
			line = append(line, '{')
		} else {
			line = append(line, ',')
		}
		line = append(line, '"')
		line = append(line, c.Name...)
		line = append(line, '"', ':')
		switch {
		case c.Text != nil:
			text, err := json.Marshal(*c.Text(record))
			if err != nil {
				return nil, err
			}
			line = append(line, text...)
		case c.Time != nil:
			line = append(line, '"')
			line = c.Time(record).UTC().AppendFormat(line, time.RFC3339Nano)
			line = append(line, '"')
		case c.Float != nil:
			line = appendFloat(line, *c.Float(record))
		case c.OptFloat != nil:
			if v, ok := c.OptFloat(record).Value(); ok {
				line = appendFloat(line, v)
			} else {
				line = append(line, "null"...)
			}
		case c.OptInt != nil:
			if v, ok := c.OptInt(record).Value(); ok {
				line = strconv.AppendInt(line, v, 10)
			} else {
				line = append(line, "null"...)
			}
		}
	}
	return append(line, '}'), nil
}

// appendFloat writes the shortest decimal that reads back as v, without an
// exponent where the number is of a size that people write out.
func appendFloat(b []byte, v float64) []byte {
	if abs := math.Abs(v); abs != 0 && (abs < 1e-6 || abs >= 1e21) {
		return strconv.AppendFloat(b, v, 'e', -1, 64)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}
