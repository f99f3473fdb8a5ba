package codec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"
)

// rowReader cuts delimited text into rows of cells.
type rowReader struct {
	lines     *lineReader
	delimiter byte
	width     int // cells in the header

	// The row being read: where it begins, its text and its cells.
	line  int
	raw   []byte
	cells [][]byte
	// quoted tells which cells were in quotes.
	quoted []bool

	scratch []byte // of unquoted cells
}

// fault is an error of the row being read.
func (r *rowReader) fault(field, reason string) error {
	return &RowError{Line: r.line, Field: field, Reason: reason, Raw: strings.ToValidUTF8(string(r.raw), "\ufffd")}
}

// next reads the cells of the next row into r.cells.
func (r *rowReader) next() error {
	for {
		line, err := r.lines.next()
		cr := r.lines.cr
		if errors.Is(err, errLineTooLong) {
			r.line, r.raw = r.lines.number, line
			return r.fault("", err.Error())
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) == 0 {
			continue
		}
		r.line, r.raw = r.lines.number, line
		cells, open, fault := r.split(line)
		if open {
			return r.readJoined(line, cr)
		}
		if fault == "" {
			fault = r.setCells(cells)
		}
		if fault != "" {
			return r.fault("", "the row "+fault)
		}
		return nil
	}
}

// setCells takes the cells of a row of the header's width. Blank cells past
// it are let go.
func (r *rowReader) setCells(cells [][]byte) string {
	for len(cells) > r.width && len(bytes.TrimSpace(cells[len(cells)-1])) == 0 {
		cells = cells[:len(cells)-1]
	}
	if len(cells) != r.width {
		return fmt.Sprintf("has %d cells and the header %d", len(cells), r.width)
	}
	r.cells = cells
	return ""
}

var quote = []byte{'"'}

// readJoined reads a row that begins with line and goes on past a quoted line
// end. Where the lines make no row, the first alone is at fault and the
// others are read again: a stray quote must not swallow its neighbours. Line
// ends in quotes are kept as they are.
func (r *rowReader) readJoined(line []byte, cr bool) error {
	joined := slices.Clone(line)
	r.raw = joined
	first := slices.Clone(line)
	var ahead []pendingLine
	fault := "has a quote that is not closed"
	odd := bytes.Count(line, quote)%2 == 1
	for len(joined) < maxLine {
		if cr {
			joined = append(joined, '\r')
		}
		more, err := r.lines.next()
		cr = r.lines.cr
		if errors.Is(err, errLineTooLong) {
			ahead = append(ahead, pendingLine{text: slices.Clone(more), err: err})
			break
		}
		if err != nil {
			// The end, or a reader that failed: it says so again when the
			// lines given back are read.
			break
		}
		ahead = append(ahead, pendingLine{text: slices.Clone(more), cr: cr})
		joined = append(append(joined, '\n'), more...)
		if odd = odd != (bytes.Count(more, quote)%2 == 1); odd {
			continue // still inside quotes: each splitting would be in vain
		}
		cells, open, why := r.split(joined)
		if open {
			continue
		}
		if why == "" {
			why = r.setCells(cells)
		}
		if why == "" {
			r.raw = joined
			return nil
		}
		fault = why
		break
	}
	r.lines.giveBack(ahead)
	r.raw = first
	return r.fault("", "the row "+fault)
}

// split cuts a line into cells, valid until the next split. open reports that
// the line ends inside quotes.
func (r *rowReader) split(line []byte) (cells [][]byte, open bool, fault string) {
	cells = r.cells[:0]
	r.quoted = r.quoted[:0]
	defer func() { r.cells = cells }()
	if bytes.IndexByte(line, '"') < 0 {
		for {
			at := bytes.IndexByte(line, r.delimiter)
			r.quoted = append(r.quoted, false)
			if at < 0 {
				return append(cells, line), false, ""
			}
			cells = append(cells, line[:at])
			line = line[at+1:]
		}
	}
	r.scratch = slices.Grow(r.scratch[:0], len(line)) // cells point into it: it must not move
	for {
		if len(line) == 0 || line[0] != '"' {
			at := bytes.IndexByte(line, r.delimiter)
			r.quoted = append(r.quoted, false)
			if at < 0 {
				return append(cells, line), false, ""
			}
			cells = append(cells, line[:at])
			line = line[at+1:]
			continue
		}
		start := len(r.scratch)
		line = line[1:]
		for {
			at := bytes.IndexByte(line, '"')
			if at < 0 {
				return cells, true, ""
			}
			r.scratch = append(r.scratch, line[:at]...)
			line = line[at+1:]
			if len(line) == 0 || line[0] != '"' {
				break
			}
			r.scratch = append(r.scratch, '"')
			line = line[1:]
		}
		cells = append(cells, r.scratch[start:])
		r.quoted = append(r.quoted, true)
		if len(line) == 0 {
			return cells, false, ""
		}
		if line[0] != r.delimiter {
			return cells, false, "has text after a closing quote"
		}
		line = line[1:]
	}
}
