package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
)

// CSV decodes delimited text: comma, semicolon, tab or bar, whichever the
// header holds most of; quoting as in RFC 4180; LF or CRLF; a byte-order mark
// is skipped. It is not safe for concurrent use.
type CSV[R mds.Record[R]] struct {
	*builder[R]
	rows    rowReader
	mapping *mapping

	columns   []cellOf // what cells feed
	dateCell  int
	clockCell int
}

// cellOf says which cell feeds a column.
type cellOf struct{ column, cell int }

// NewCSV reads the header and returns a decoder for the rows. It fails with a
// [*HeaderError] where the file is no table of records, and with a
// [*SetupError] where the options do not say enough.
func NewCSV[R mds.Record[R]](r io.Reader, opt Options) (*CSV[R], error) {
	b, err := newBuilder[R](opt)
	if err != nil {
		return nil, err
	}
	d := &CSV[R]{builder: b, rows: rowReader{lines: newLineReader(r)}}
	head, err := d.rows.lines.peek()
	if err != nil {
		return nil, err
	}
	if fault := foreignFormat(head); fault != "" {
		return nil, &HeaderError{fault}
	}
	if bytes.HasPrefix(head, []byte("\ufeff")) {
		_, _ = d.rows.lines.r.Discard(len("\ufeff")) // just peeked
	}
	line, err := d.firstLine()
	if err != nil {
		return nil, err
	}
	d.rows.delimiter = sniffDelimiter(line)
	d.number.noGroups = d.rows.delimiter == ';'
	cells, open, fault := d.rows.split(line)
	if open {
		fault = "has a quote that is not closed"
	}
	if fault != "" {
		return nil, &HeaderError{"the header " + fault}
	}
	h := newHeader(cells)
	d.rows.width = len(cells)
	if opt.NoHeader {
		h = numberedHeader(len(cells))
		d.rows.lines.giveBack([]pendingLine{{text: slices.Clone(line)}})
	}
	if d.mapping, err = mapColumns(h, &d.schema, opt); err != nil {
		return nil, err
	}
	if !opt.NoHeader {
		if err := d.checkHeader(h); err != nil {
			return nil, err
		}
	}
	d.prepare()
	return d, d.fix(d.mapping.has)
}

// checkHeader refuses a first line whose cells, as they are mapped, hold data:
// taken for a header it would be lost.
func (d *CSV[R]) checkHeader(h header) error {
	for i := range d.schema.Columns {
		c := &d.schema.Columns[i]
		cell, ok := d.mapping.cells[c.Name]
		if !ok {
			continue
		}
		var err error
		switch {
		case c.Time != nil, c.Date != nil:
			_, err = parseStamp(h.names[cell])
		case !c.Numeric():
			continue
		default:
			if _, fault := d.number.float([]byte(h.names[cell])); fault != "" {
				err = errors.New(fault)
			}
		}
		if err == nil {
			return &SetupError{Reason: fmt.Sprintf("the first line holds data (%q for the %s), not names; if the file has no header, say --no-header", h.names[cell], c.Name)}
		}
	}
	return nil
}

// firstLine returns the first line that is not blank.
func (d *CSV[R]) firstLine() ([]byte, error) {
	for {
		line, err := d.rows.lines.next()
		if errors.Is(err, io.EOF) {
			return nil, &HeaderError{"it is empty: the first line should name the columns"}
		}
		if errors.Is(err, errLineTooLong) {
			return nil, &HeaderError{"its first line is longer than 4 MiB: is it CSV?"}
		}
		if err != nil || len(bytes.TrimSpace(line)) > 0 {
			return line, err
		}
	}
}

// prepare turns the mapping into what each row needs.
func (d *CSV[R]) prepare() {
	cell := func(name string) int {
		if i, ok := d.mapping.cells[name]; ok {
			return i
		}
		return -1
	}
	d.dateCell, d.clockCell = cell(dateColumn), cell(timeColumn)
	for i := range d.schema.Columns {
		if at := cell(d.schema.Columns[i].Name); at >= 0 {
			d.columns = append(d.columns, cellOf{column: i, cell: at})
		}
	}
}

// Ignored returns the header names that feed no column, in the file's order.
func (d *CSV[R]) Ignored() []string { return d.mapping.ignored }

// Warnings counts the rows that became records but had something odd about
// them, by what it was.
func (d *CSV[R]) Warnings() map[string]int64 { return d.warnings }

// Next decodes the next row into record, normalised and valid. It returns a
// [*RowError] for a row that is no record, after which it may be called
// again; a [*SetupError] or the reader's error when decoding has to end; and
// io.EOF after the last row. Blank lines are no rows.
func (d *CSV[R]) Next(record *R) error {
	if err := d.rows.next(); err != nil {
		return err
	}
	d.begin(record)
	for _, c := range d.columns {
		d.setText(record, c.column, d.rows.cells[c.cell], d.rows.quoted[c.cell])
	}
	if d.dateCell >= 0 {
		d.timeText = append(d.timeText[:0], d.clockText()...)
	}
	err := d.finish(record)
	if err == nil {
		return nil
	}
	var setup *SetupError
	var invalid *mds.InvalidError
	switch {
	case errors.As(err, &setup):
		setup.Line = d.rows.line
	case errors.As(err, &invalid):
		return d.rows.fault(rowFault(invalid))
	}
	return err
}

// clockText joins a date and a time of day that stand apart.
func (d *CSV[R]) clockText() string {
	text := strings.TrimSpace(string(d.rows.cells[d.dateCell])) + " " + strings.TrimSpace(string(d.rows.cells[d.clockCell]))
	if text = strings.TrimSpace(text); missing([]byte(text)) {
		return ""
	}
	return text
}
