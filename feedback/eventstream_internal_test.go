package feedback

import (
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
)

// messages reads a whole stream.
func messages(r io.Reader) (all []string, err error) {
	reader := newEventReader(r)
	for {
		m, err := reader.next()
		if err != nil {
			return all, err
		}
		if m.comment {
			all = append(all, "a comment")
		} else {
			all = append(all, m.event+"="+string(m.data))
		}
	}
}

func TestEventReader(t *testing.T) {
	for _, tt := range []struct {
		name, stream string
		want         []string
	}{
		{"nothing", "", nil},
		{"one", "event: a\ndata: b\n\n", []string{"a=b"}},
		{"without spaces", "event:a\ndata:b\n\n", []string{"a=b"}},
		{"with two", "data:  b\n\n", []string{"= b"}},
		{"lines", "data: a\ndata: b\ndata\n\n", []string{"=a\nb\n"}},
		{"CR LF", "event: a\r\ndata: b\r\n\r\ndata: c\r\n\r\n", []string{"a=b", "=c"}},
		{"CR", "event: a\rdata: b\r\rdata: c\r\r", []string{"a=b", "=c"}},
		{"mixed", "data: a\r\n\rdata: b\n\r\n", []string{"=a", "=b"}},
		{"a byte order mark", "\ufeffdata: a\n\n", []string{"=a"}},
		{"one that is late", "data: a\n\n\ufeffdata: b\n\n", []string{"=a"}},
		{"comments", ":\n: a\n\ndata: b\n\n", []string{"a comment", "a comment", "=b"}},
		{"a comment within", "data: a\n: b\ndata: c\n\n", []string{"=a\nc"}},
		{"no data", "event: a\n\ndata: b\n\n", []string{"=b"}},
		{"the last type", "event: a\nevent: b\ndata: c\n\n", []string{"b=c"}},
		{"other fields", "id: 1\nretry: 5\nfoo: bar\nfoo\ndata: a\n\n", []string{"=a"}},
		{"cut", "data: a\n\ndata: b\n", []string{"=a"}},
		{"cut in a line", "data: a\n\ndata: b", []string{"=a"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			for how, r := range map[string]io.Reader{
				"at once": strings.NewReader(tt.stream), "byte by byte": iotest.OneByteReader(strings.NewReader(tt.stream)),
			} {
				if got, err := messages(r); !slices.Equal(got, tt.want) || !errors.Is(err, io.EOF) {
					t.Errorf("%s: %q, %v", how, got, err)
				}
			}
		})
	}
}

// TestEventReaderBounds: what is too long ends the stream, and is not kept.
func TestEventReaderBounds(t *testing.T) {
	for name, text := range map[string]string{"line": "data: x", "event": "data: x\n", "event without data": "data\n", "field": "x"} {
		r := &repeat{text: []byte(text)}
		if _, err := messages(io.LimitReader(r, 8<<20)); !errors.Is(err, errTooLong) || r.read > 1<<20 {
			t.Errorf("%s: %v after %d bytes", name, err, r.read)
		}
	}
}

// repeat is a text without end.
type repeat struct {
	text []byte
	read int
}

func (r *repeat) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) {
		n += copy(p[n:], r.text[(r.read+n)%len(r.text):])
	}
	r.read += n
	return n, nil
}

// FuzzEventReader: however a stream is cut into reads, it says the same.
func FuzzEventReader(f *testing.F) {
	f.Add([]byte("event: a\r\ndata: b\r\n\r\n: c\n\ndata: d\r\rdata"))
	f.Fuzz(func(t *testing.T, stream []byte) {
		a, errA := messages(bytes.NewReader(stream))
		b, errB := messages(iotest.OneByteReader(bytes.NewReader(stream)))
		if !slices.Equal(a, b) || !errors.Is(errB, errA) {
			t.Errorf("%q, %v at once; %q, %v byte by byte", a, errA, b, errB)
		}
	})
}
