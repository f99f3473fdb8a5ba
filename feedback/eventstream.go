package feedback

import (
	"bufio"
	"bytes"
	"errors"
	"io"
)

// errTooLong is a line or an event of more than [maxMessage].
var errTooLong = errors.New("a line or an event is longer than 64 KiB")

// message is what a stream of server-sent events says.
type message struct {
	event   string // its type
	data    []byte // valid until the next message
	comment bool   // it is none but a sign of life
}

// eventReader reads a stream of server-sent events, by the rules of the HTML standard. IDs
// and reconnection times are ignored: there is nothing to replay.
type eventReader struct {
	lines *bufio.Scanner
	data  []byte
	begun bool
}

func newEventReader(r io.Reader) *eventReader {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, 4<<10), maxMessage)
	lines.Split(splitLines())
	return &eventReader{lines: lines}
}

// next returns the next message. What is not complete at the end of the stream is none.
func (r *eventReader) next() (message, error) {
	var event string
	r.data = r.data[:0]
	for r.lines.Scan() {
		line := r.lines.Bytes()
		if !r.begun {
			r.begun = true
			line = bytes.TrimPrefix(line, []byte("\ufeff"))
		}
		if len(line) == 0 {
			if len(r.data) == 0 {
				event = ""
				continue
			}
			return message{event: event, data: r.data[:len(r.data)-1]}, nil
		}
		field, value, _ := bytes.Cut(line, []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		switch string(field) {
		case "":
			if len(r.data) == 0 && event == "" { // within an event it would cut that in two
				return message{comment: true}, nil
			}
		case "event":
			event = string(value)
		case "data":
			if len(r.data)+len(value) >= maxMessage {
				return message{}, errTooLong
			}
			r.data = append(append(r.data, value...), '\n')
		}
	}
	err := r.lines.Err()
	switch {
	case errors.Is(err, bufio.ErrTooLong):
		err = errTooLong
	case err == nil:
		err = io.EOF
	}
	return message{}, err
}

// splitLines returns a split function for lines that end with CR LF, LF or CR. A line
// without an end is none.
func splitLines() bufio.SplitFunc {
	afterCR := false
	return func(data []byte, _ bool) (advance int, line []byte, err error) {
		if afterCR && len(data) > 0 {
			afterCR = false
			if data[0] == '\n' {
				advance = 1
			}
		}
		i := bytes.IndexAny(data[advance:], "\r\n")
		if i < 0 {
			return advance, nil, nil
		}
		end := advance + i
		afterCR = data[end] == '\r'
		return end + 1, data[advance:end:end], nil
	}
}
