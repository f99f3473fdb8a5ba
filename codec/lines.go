package codec

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// maxLine bounds a row, whose quoted fields may span lines: more is a missing
// quote, not data. Every valid record fits.
const maxLine = 4 << 20

var errLineTooLong = errors.New("the line is longer than 4 MiB")

// lineReader yields lines without their ends (LF or CRLF), and takes lines
// back that were read ahead in vain.
type lineReader struct {
	r       *bufio.Reader
	number  int           // of the line last returned, from 1
	cr      bool          // it ended in CRLF
	pending []pendingLine // given back, first to be read first
	scratch []byte
}

// pendingLine is a line that was read ahead, with what next said of it.
type pendingLine struct {
	text []byte
	cr   bool
	err  error
}

func newLineReader(r io.Reader) *lineReader {
	return &lineReader{r: bufio.NewReaderSize(r, 256<<10)}
}

// next returns the next line, valid until the call after. A line longer than
// maxLine is skipped and reported as errLineTooLong with its beginning.
func (l *lineReader) next() ([]byte, error) {
	if len(l.pending) > 0 {
		line := l.pending[0]
		l.pending = l.pending[1:]
		l.number++
		l.cr = line.cr
		return line.text, line.err
	}
	line, err := l.r.ReadSlice('\n')
	if errors.Is(err, bufio.ErrBufferFull) {
		l.scratch = l.scratch[:0]
		tooLong := false
		for errors.Is(err, bufio.ErrBufferFull) {
			if len(l.scratch) < maxLine {
				l.scratch = append(l.scratch, line...)
			} else {
				tooLong = true
			}
			line, err = l.r.ReadSlice('\n')
		}
		if tooLong || len(l.scratch)+len(line) > maxLine {
			if err != nil && !errors.Is(err, io.EOF) {
				return nil, err
			}
			l.number++
			return l.scratch[:100], errLineTooLong
		}
		l.scratch = append(l.scratch, line...)
		line = l.scratch
	}
	if err != nil && (!errors.Is(err, io.EOF) || len(line) == 0) {
		return nil, err
	}
	l.number++
	line = bytes.TrimSuffix(line, []byte("\n"))
	line, l.cr = bytes.CutSuffix(line, []byte("\r"))
	return line, nil
}

// giveBack puts lines before what is still to be read. They are kept.
func (l *lineReader) giveBack(lines []pendingLine) {
	l.number -= len(lines)
	l.pending = append(lines, l.pending...)
}

// peek returns the first bytes, as many as one read gives, at most 4096: a
// live stream may not have more for a while.
func (l *lineReader) peek() ([]byte, error) {
	if _, err := l.r.Peek(1); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	return l.r.Peek(min(l.r.Buffered(), 4096))
}
