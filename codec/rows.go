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
			return r.readJoined(line)
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
// others are read again: a stray quote must not swallow its neighbours.
func (r *rowReader) readJoined(line []byte) error {
	joined := slices.Clone(line)
	r.raw = joined
	first := slices.Clone(line)
	var ahead []pendingLine
	fault := "has a quote that is not closed"
	odd := bytes.Count(line, quote)%2 == 1
	for len(ahead) < maxJoined && len(joined) < maxLine {
		more, err := r.lines.next()
		if errors.Is(err, errLineTooLong) {
			ahead = append(ahead, pendingLine{slices.Clone(more), err})
			break
		}
		if err != nil {
			// The end, or a reader that failed: it says so again when the
			// lines given back are read.
			break
		}
		ahead = append(ahead, pendingLine{slices.Clone(more), nil})
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
	defer func() { r.cells = cells }()
	if bytes.IndexByte(line, '"') < 0 {
		for {
			at := bytes.IndexByte(line, r.delimiter)
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
		if len(line) == 0 {
			return cells, false, ""
		}
		if line[0] != r.delimiter {
			return cells, false, "has text after a closing quote"
		}
		line = line[1:]
	}
}
