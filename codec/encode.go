package codec

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"strings"

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
// What it writes decodes to the same records. It is not safe for concurrent
// use.
type Encoder[R mds.Record[R]] struct {
	schema mds.Schema[R]
	format Format
	w      *bufio.Writer
	rows   int
	line   []byte
	cell   []byte
}

// NewEncoder returns an encoder; Close it to write what is buffered.
func NewEncoder[R mds.Record[R]](w io.Writer, format Format) (*Encoder[R], error) {
	e := &Encoder[R]{schema: mds.SchemaOf[R](), format: format, w: bufio.NewWriter(w)}
	switch format {
	case FormatCSV:
		_, err := e.w.WriteString(strings.Join(columnNames(&e.schema), ",") + "\n")
		return e, err
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
	e.line = e.line[:0]
	if e.format == FormatCSV {
		e.appendRow(record)
		_, err := e.w.Write(e.line)
		return err
	}
	if e.format == FormatJSON {
		if e.rows > 1 {
			e.line = append(e.line, ',')
		}
		e.line = append(e.line, '\n')
	}
	e.line = AppendObject(e.line, &e.schema, record)
	if e.format == FormatNDJSON {
		e.line = append(e.line, '\n')
	}
	_, err := e.w.Write(e.line)
	return err
}

// Close writes what is buffered. It does not close the writer below.
func (e *Encoder[R]) Close() error {
	switch e.format {
	case FormatJSON:
		end := "\n]\n"
		if e.rows == 0 {
			end = "]\n"
		}
		if _, err := e.w.WriteString(end); err != nil {
			return err
		}
	case FormatCSV, FormatNDJSON:
	}
	return e.w.Flush()
}

// appendRow appends a row of CSV as RFC 4180 has it. Text that a reader would
// take for something else, such as a missing value, is quoted.
func (e *Encoder[R]) appendRow(record *R) {
	for i := range e.schema.Columns {
		if i > 0 {
			e.line = append(e.line, ',')
		}
		c := &e.schema.Columns[i]
		e.cell = c.AppendText(e.cell[:0], record)
		words := c.Text != nil || c.List != nil || c.Metrics != nil
		if !words || !needsQuotes(e.cell) {
			e.line = append(e.line, e.cell...)
			continue
		}
		e.line = append(e.line, '"')
		e.line = append(e.line, bytes.ReplaceAll(e.cell, []byte{'"'}, []byte(`""`))...)
		e.line = append(e.line, '"')
	}
	e.line = append(e.line, '\n')
}

func needsQuotes(cell []byte) bool {
	switch {
	case len(cell) == 0:
		return false
	case bytes.ContainsAny(cell, ",\"\r\n"), len(bytes.TrimSpace(cell)) != len(cell):
		return true
	}
	return missingText(cell)
}

// AppendCells appends the text of each column of a record, "" for a missing
// value.
func AppendCells[R any](cells []string, schema *mds.Schema[R], record *R) []string {
	for i := range schema.Columns {
		cells = append(cells, string(schema.Columns[i].AppendText(nil, record)))
	}
	return cells
}

// AppendObject appends a record as a JSON object on one line, without an end, as
// [FormatNDJSON] has it.
func AppendObject[R any](line []byte, schema *mds.Schema[R], record *R) []byte {
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
		line = c.AppendJSON(line, record)
	}
	return append(line, '}')
}
