package arrow

import (
	"encoding/binary"
	"errors"
	"math"
)

// arrow-go trusts the metadata of a message: lengths that it allocates by, and
// offsets that may lead back to where they came from, which is recursion without
// end and ends the process. What it would follow is therefore walked here first,
// within the bounds of the message, to a limited depth and a limited sum.
//
// The layout is that of FlatBuffers and of Arrow's Message.fbs and Schema.fbs. A
// field of a table is named by its place there, from 0.

var errMetadata = errors.New("its metadata is damaged")

const (
	maxFields = 10_000 // of a schema, nested ones included
	maxDepth  = 32     // of nested fields
)

// Kinds of message (MessageHeader).
const (
	headerSchema     = 1
	headerDictionary = 2
	headerBatch      = 3
)

// Types whose tables hold more than numbers (Type).
const (
	typeTimestamp = 10
	typeUnion     = 14
)

// message is what the metadata of a message says.
type message struct {
	header       byte
	bodyLength   int64
	bodyLengthAt int

	// Of a dictionary.
	id    int64
	delta bool
	// Of a dictionary or a record batch; -1 where it is not compressed.
	codec   int8
	batch   table
	buffers vector // of 16 bytes: offset and length in the body
}

// verifier walks the metadata of one message.
type verifier struct {
	buf    []byte
	budget int // bytes and tables that may still be visited
	fields int
}

// table is a table of a FlatBuffer.
type table struct {
	v       *verifier
	at      int
	vtable  int
	entries int // of the vtable, in bytes
}

// vector is a vector of a FlatBuffer.
type vector struct {
	v        *verifier
	at, len  int
	itemSize int
}

// verify walks the metadata of a message.
func verify(meta []byte) (m message, err error) {
	defer func() {
		if recover() != nil { // a read past the end of the metadata
			err = errMetadata
		}
	}()
	v := &verifier{buf: meta, budget: 4*len(meta) + 4096}
	root := v.table(v.follow(0))
	m = message{header: root.byte(1), bodyLength: root.int64(3), codec: -1}
	m.bodyLengthAt, _ = root.field(3)
	v.keyValues(root, 4)
	header, ok := root.child(2)
	if !ok || m.bodyLength < 0 {
		return m, errMetadata
	}
	switch m.header {
	case headerSchema:
		v.fieldVector(header, 1, 0)
		v.keyValues(header, 2)
	case headerDictionary:
		m.id, m.delta = header.int64(0), header.byte(2) != 0
		batch, ok := header.child(1)
		if !ok {
			return m, errMetadata
		}
		m.readBatch(batch)
	case headerBatch:
		m.readBatch(header)
	}
	return m, nil
}

// readBatch reads what a RecordBatch says of the body.
func (m *message) readBatch(batch table) {
	m.batch = batch
	nodes := batch.vector(1, 16)
	m.buffers = batch.vector(2, 16)
	if compression, ok := batch.child(3); ok {
		m.codec = int8(compression.byte(0))
	}
	if batch.int64(0) < 0 {
		panic(errMetadata)
	}
	for i := range nodes.len {
		length, nulls := nodes.pair(i)
		if length < 0 || nulls < 0 || nulls > length {
			panic(errMetadata)
		}
	}
	for i := range m.buffers.len {
		offset, length := m.buffers.pair(i)
		if length < 0 || length > 0 && (offset < 0 || offset%8 != 0 || offset > m.bodyLength || length > m.bodyLength-offset) {
			panic(errMetadata)
		}
	}
	counts := batch.vector(4, 8)
	left := int64(m.buffers.len)
	for i := range counts.len {
		n := int64(binary.LittleEndian.Uint64(counts.v.buf[counts.at+8*i:]))
		if n < 0 || n > left {
			panic(errMetadata)
		}
		left -= n
	}
}

// fieldVector walks the fields of a schema, or the children of a field.
func (v *verifier) fieldVector(t table, place, depth int) {
	fields := t.vector(place, 4)
	if v.fields += fields.len; v.fields > maxFields || depth > maxDepth {
		panic(errMetadata)
	}
	for i := range fields.len {
		field := v.table(v.follow(fields.at + 4*i))
		v.text(field, 0)
		switch kind := field.byte(2); kind {
		case typeTimestamp, typeUnion:
			if typ, ok := field.child(3); ok && kind == typeTimestamp {
				v.text(typ, 1)
			} else if ok {
				typ.vector(1, 4)
			}
		}
		if dictionary, ok := field.child(4); ok {
			dictionary.child(1)
		}
		v.fieldVector(field, 5, depth+1)
		v.keyValues(field, 6)
	}
}

func (v *verifier) keyValues(t table, place int) {
	pairs := t.vector(place, 4)
	for i := range pairs.len {
		pair := v.table(v.follow(pairs.at + 4*i))
		v.text(pair, 0)
		v.text(pair, 1)
	}
}

func (v *verifier) text(t table, place int) { t.vector(place, 1) }

// spend counts what is visited.
func (v *verifier) spend(n int) {
	if v.budget -= n; v.budget < 0 {
		panic(errMetadata)
	}
}

// follow returns where the offset at a place leads: forward, never back.
func (v *verifier) follow(at int) int {
	return at + int(binary.LittleEndian.Uint32(v.buf[at:]))
}

func (v *verifier) table(at int) table {
	v.spend(4)
	t := table{v: v, at: at, vtable: at - int(int32(binary.LittleEndian.Uint32(v.buf[at:])))}
	t.entries = int(binary.LittleEndian.Uint16(v.buf[t.vtable:]))
	_ = v.buf[t.vtable : t.vtable+t.entries]
	return t
}

// field returns where a field of the table lies, false where it is not there.
func (t table) field(place int) (at int, ok bool) {
	entry := 4 + 2*place
	if entry >= t.entries { // as arrow-go has it, even of an odd length
		return 0, false
	}
	offset := int(binary.LittleEndian.Uint16(t.v.buf[t.vtable+entry:]))
	return t.at + offset, offset != 0
}

func (t table) byte(place int) byte {
	if at, ok := t.field(place); ok {
		return t.v.buf[at]
	}
	return 0
}

func (t table) int64(place int) int64 {
	if at, ok := t.field(place); ok {
		return int64(binary.LittleEndian.Uint64(t.v.buf[at:]))
	}
	return 0
}

func (t table) child(place int) (table, bool) {
	at, ok := t.field(place)
	if !ok {
		return table{}, false
	}
	return t.v.table(t.v.follow(at)), true
}

func (t table) vector(place, itemSize int) vector {
	at, ok := t.field(place)
	if !ok {
		return vector{v: t.v}
	}
	start := t.v.follow(at)
	n := int(binary.LittleEndian.Uint32(t.v.buf[start:]))
	if n > math.MaxInt32 {
		panic(errMetadata)
	}
	_ = t.v.buf[start+4 : start+4+n*itemSize]
	t.v.spend(n * itemSize)
	return vector{v: t.v, at: start + 4, len: n, itemSize: itemSize}
}

// pair reads the two numbers of an item of 16 bytes.
func (x vector) pair(i int) (a, b int64) {
	item := x.v.buf[x.at+16*i:]
	return int64(binary.LittleEndian.Uint64(item)), int64(binary.LittleEndian.Uint64(item[8:]))
}

func (x vector) setPair(i int, a, b int64) {
	item := x.v.buf[x.at+16*i:]
	binary.LittleEndian.PutUint64(item, uint64(a))
	binary.LittleEndian.PutUint64(item[8:], uint64(b))
}
