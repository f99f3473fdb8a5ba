package codec

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/marketdatastore/mds"
)

// NewJSON returns a decoder of one JSON array of objects, of any length. Rows are counted
// as its elements: the Line of an error is the number of the element, from 1.
func NewJSON[R mds.Record[R]](r io.Reader, opt Options) (*NDJSON[R], error) {
	elements := &elementReader{r: bufio.NewReaderSize(r, 256<<10)}
	if err := elements.begin(); err != nil {
		return nil, err
	}
	if !elements.more {
		return newNDJSON[R](eof{}, opt)
	}
	return newNDJSON[R](elements, opt)
}

type eof struct{}

func (eof) Read([]byte) (int, error) { return 0, io.EOF }

// elementReader yields the elements of a JSON array as lines. What is in them it takes as
// it comes: it tells brackets and strings apart, and no more.
type elementReader struct {
	r    *bufio.Reader
	more bool // there is an element, or the rest of one

	depth   int
	quoted  bool
	escaped bool
	ended   bool // the array has
	n       int  // elements that were begun
	filled  bool // the element has more than space
}

// begin reads up to the first element.
func (e *elementReader) begin() error {
	c, err := e.skip()
	switch {
	case errors.Is(err, io.EOF):
		return &HeaderError{"it is empty: it should be a JSON array of objects"}
	case err != nil:
		return err
	case c != '[':
		return &HeaderError{fmt.Sprintf("it is not a JSON array: it begins with %s, not with [", strconv.QuoteRune(rune(c)))}
	}
	if c, err = e.skip(); err == nil && c == ']' {
		e.ended = true
		return e.end()
	}
	if err == nil {
		e.more, e.n = true, 1
		return e.r.UnreadByte()
	}
	return e.cut(err)
}

// skip returns the next byte that is no space. A byte order mark is none.
func (e *elementReader) skip() (byte, error) {
	for {
		c, err := e.r.ReadByte()
		if err != nil {
			return 0, err
		}
		switch c {
		case ' ', '\t', '\r', '\n', 0xef, 0xbb, 0xbf:
			continue
		}
		return c, nil
	}
}

// end refuses what comes after the array.
func (e *elementReader) end() error {
	c, err := e.skip()
	switch {
	case errors.Is(err, io.EOF):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("the JSON array is followed by %s: write one array", strconv.QuoteRune(rune(c)))
}

// cut is the error of an array that ends too early.
func (e *elementReader) cut(err error) error {
	if errors.Is(err, io.EOF) {
		return fmt.Errorf("the JSON array ends too early, in element %d: there is no ]", max(1, e.n))
	}
	return err
}

// Read fills p with elements, each a line.
func (e *elementReader) Read(p []byte) (n int, err error) {
	if e.ended {
		return 0, io.EOF
	}
	for n < len(p) {
		if n > 0 && e.r.Buffered() == 0 {
			return n, nil // more may be long in coming
		}
		c, err := e.r.ReadByte()
		if err != nil {
			return n, e.cut(err)
		}
		if e.step(&c) {
			if !e.filled {
				return n, fmt.Errorf("the JSON array has nothing where element %d should be", e.n)
			}
			if e.filled = false; c == ']' {
				e.ended = true
				p[n] = '\n'
				if err := e.end(); err != nil {
					return n + 1, err
				}
				return n + 1, nil
			}
			e.n++
			c = '\n'
		}
		p[n] = c
		n++
	}
	return n, nil
}

// step takes in a byte, and reports whether it ends an element. Line ends within one become
// spaces.
func (e *elementReader) step(c *byte) bool {
	if e.quoted {
		switch {
		case e.escaped:
			e.escaped = false
		case *c == '\\':
			e.escaped = true
		case *c == '"':
			e.quoted = false
		case *c == '\n':
			*c = '\r' // no JSON either way, and still one line
		}
		return false
	}
	switch *c {
	case ' ', '\t', '\r', '\n':
		*c = ' '
		return false
	case '"':
		e.quoted = true
	case '{', '[':
		e.depth++
	case '}', ']':
		if e.depth == 0 {
			return *c == ']'
		}
		e.depth--
	case ',':
		if e.depth == 0 {
			return true
		}
	}
	e.filled = true
	return false
}
