package arrow

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strconv"

	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/marketdatastore/mds/codec"
)

const (
	maxMetadata  = 16 << 20 // of one message
	step         = 1 << 20  // that a buffer grows by at first: what is claimed is not believed
	continuation = 0xffffffff
)

// messages reads the messages of a stream for arrow-go: in bounded memory,
// verified, and decompressed. A body is read into memory that is used again, and
// is valid until the next message; arrow-go has released the batch by then.
type messages struct {
	r        *bufio.Reader
	limit    int64
	inflater inflater
	started  bool
	legacy   bool  // as before version 0.15, messages begin with their length
	err      error // why the stream ended, io.EOF where it should

	layouts              layouts
	meta, body, inflated []byte
	// dictionaries are the bytes that each holds, with its deltas.
	dictionaries map[int64]int64
	// endless says that the stream ended without an end mark.
	endless bool
}

func newMessages(r io.Reader, limit int64) *messages {
	return &messages{
		r: bufio.NewReaderSize(r, 64<<10), limit: limit, inflater: inflater{limit: limit},
		dictionaries: make(map[int64]int64),
	}
}

// Retain and Release are arrow-go's; memory is the garbage collector's.
func (m *messages) Retain()  {}
func (m *messages) Release() {}

// Message returns the next message, valid until the call after; io.EOF after the
// last.
func (m *messages) Message() (*ipc.Message, error) {
	if m.err != nil {
		return nil, m.err
	}
	msg, err := m.next()
	if err != nil {
		m.err = err
		return nil, err
	}
	m.started = true
	return msg, nil
}

func (m *messages) next() (*ipc.Message, error) {
	if err := m.readMetadata(); err != nil {
		return nil, err
	}
	head, err := verify(m.meta, &m.layouts)
	if err != nil && !m.started && m.legacy {
		return nil, foreign(m.meta)
	}
	if err != nil && !m.started {
		return nil, &codec.HeaderError{Reason: fmt.Sprintf("it is not an Arrow stream that can be read: %v", err)}
	}
	if err != nil {
		return nil, damaged(err)
	}
	if !m.started && head.header != headerSchema {
		return nil, &codec.HeaderError{Reason: "it does not begin with a schema, as an Arrow stream should"}
	}
	if head.layouts != nil {
		m.layouts = *head.layouts
	}
	if head.bodyLength > m.limit {
		return nil, m.tooLarge(head.bodyLength)
	}
	if m.body, err = m.readFull(m.body, int(head.bodyLength)); err != nil {
		return nil, err
	}
	body := m.body
	if head.codec >= 0 {
		if body, err = m.inflate(&head); err != nil {
			return nil, err
		}
	}
	if head.header == headerDictionary {
		if body, err = m.keep(&head, body); err != nil {
			return nil, err
		}
	}
	return ipc.NewMessage(memory.NewBufferBytes(m.meta), memory.NewBufferBytes(body)), nil
}

// readMetadata reads the metadata of the next message; io.EOF at the end of the
// stream.
func (m *messages) readMetadata() error {
	if !m.started {
		if err := m.sniff(); err != nil {
			return err
		}
	}
	length, err := m.word()
	if errors.Is(err, io.EOF) && m.started {
		m.endless = true // which is allowed
		return io.EOF
	}
	m.legacy = length != continuation
	if err == nil && !m.legacy {
		if length, err = m.word(); errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
	}
	if err != nil {
		return cut(err)
	}
	if length == 0 && !m.started {
		return foreign(make([]byte, 4))
	}
	if length == 0 {
		return m.end()
	}
	if length > maxMetadata {
		if !m.started {
			return foreign(binary.LittleEndian.AppendUint32(nil, length))
		}
		return damaged(fmt.Errorf("a message claims %d bytes of metadata", length))
	}
	m.meta, err = m.readFull(m.meta, int(length))
	return err
}

// word reads four bytes. It fails with io.EOF only where there are none.
func (m *messages) word() (uint32, error) {
	var b [4]byte
	_, err := io.ReadFull(m.r, b[:])
	return binary.LittleEndian.Uint32(b[:]), err
}

// end makes sure that nothing follows the end mark.
func (m *messages) end() error {
	if _, err := m.r.Peek(1); err == nil {
		return &StreamError{Reason: "the stream goes on after its end mark: are there several in one? send each on its own"}
	} else if !errors.Is(err, io.EOF) {
		return err
	}
	return io.EOF
}

// readFull reads n bytes into a buffer, which grows as they come.
func (m *messages) readFull(buf []byte, n int) ([]byte, error) {
	buf = buf[:0]
	for len(buf) < n {
		have := len(buf)
		room := min(n, max(cap(buf), have+max(step, have)))
		if room > cap(buf) {
			grown := make([]byte, have, room)
			copy(grown, buf)
			buf = grown
		}
		buf = buf[:room]
		if _, err := io.ReadFull(m.r, buf[have:]); err != nil {
			return buf[:0], cut(err)
		}
	}
	return buf, nil
}

// inflate decompresses the body of a message.
func (m *messages) inflate(head *message) ([]byte, error) {
	size, err := m.inflater.size(head, m.body)
	if errors.Is(err, errTooLarge) {
		return nil, m.tooLarge(-1)
	}
	if err != nil {
		return nil, damaged(err)
	}
	if int64(cap(m.inflated)) < size {
		m.inflated = make([]byte, 0, size)
	}
	if m.inflated, err = m.inflater.inflate(head, m.inflated, m.body); err != nil {
		return nil, damaged(err)
	}
	m.meta = plain(m.meta, head, len(m.inflated))
	// The metadata was written to: it may be wrong only now.
	if after, err := verify(m.meta, &m.layouts); err != nil || after.codec >= 0 || after.header != head.header {
		return nil, damaged(errMetadata)
	}
	return m.inflated, nil
}

// keep takes the body of a dictionary out of the memory that is used again.
func (m *messages) keep(head *message, body []byte) ([]byte, error) {
	total := int64(len(body))
	if head.delta {
		total += m.dictionaries[head.id]
	}
	m.dictionaries[head.id] = total
	if total = 0; len(m.dictionaries) > maxFields {
		return nil, damaged(errMetadata)
	}
	for _, n := range m.dictionaries {
		total += n
	}
	if total > m.limit {
		return nil, m.tooLarge(total)
	}
	return bytes.Clone(body), nil
}

// sniff refuses what is no Arrow stream by its first bytes.
func (m *messages) sniff() error {
	head, err := m.r.Peek(8)
	if err != nil && !errors.Is(err, io.EOF) {
		return err
	}
	switch {
	case len(head) == 0:
		return &codec.HeaderError{Reason: "it is empty: an Arrow stream begins with its schema"}
	case bytes.HasPrefix(head, []byte("ARROW1")):
		return &codec.HeaderError{Reason: "it is an Arrow file (Feather), not an Arrow stream; write it as a stream, such as with pyarrow.ipc.new_stream or polars' write_ipc_stream"}
	case len(head) < 8, known(head) != "":
		return foreign(head)
	case binary.LittleEndian.Uint32(head) != continuation && binary.LittleEndian.Uint32(head) > maxMetadata:
		return foreign(head)
	}
	return nil
}

// foreign is the error of a stream that is none.
func foreign(head []byte) error {
	head = head[:min(len(head), 8)]
	what := known(head)
	if what == "" {
		what = "it begins with " + strconv.Quote(string(head))
	}
	return &codec.HeaderError{Reason: "it is not an Arrow stream: " + what}
}

// known names a format by its first bytes, or returns "".
func known(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")):
		return "it is a Parquet file"
	case bytes.HasPrefix(head, []byte(`{"`)), bytes.HasPrefix(head, []byte("[{")):
		return "it looks like JSON"
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}), bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		return "it is compressed as a whole"
	}
	return ""
}

func (m *messages) tooLarge(n int64) error {
	size := "more"
	if n >= 0 {
		size = fmt.Sprintf("%d bytes", n)
	}
	return &StreamError{Reason: fmt.Sprintf("a batch needs %s, and %d bytes are allowed: write smaller batches", size, m.limit)}
}

// cut is the error of a read within a message.
func cut(err error) error {
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		return &StreamError{Reason: "the stream ends within a message: it was cut; send it again"}
	}
	return err
}

func damaged(err error) error {
	return &StreamError{Reason: fmt.Sprintf("the stream is damaged (%v); send it again", err)}
}
