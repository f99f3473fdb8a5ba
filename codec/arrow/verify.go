package arrow

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// arrow-go trusts the metadata of a message: lengths that it allocates by, and
// offsets that may lead back to where they came from, which is recursion without
// end and ends the process. What it would follow is therefore walked here first,
// within the bounds of the message, to a limited depth and a limited sum.
//
// The layout is that of FlatBuffers and of Arrow's Message.fbs and Schema.fbs. A
// field of a table is named by its place there, from 0.

var (
	errMetadata = errors.New("its metadata is damaged")
	errTooWide  = fmt.Errorf("its schema has more than %d columns, or they are nested more than %d deep", maxFields, maxDepth)
)

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

// layout is how much of a batch a column takes: arrow-go reads on after the ends
// of these lists, too.
type layout struct {
	nodes, buffers int
	views          int // columns that have a count of further buffers
	unions         int // that had one buffer more before version 1.0
}

func (l *layout) add(of layout) {
	l.nodes += of.nodes
	l.buffers += of.buffers
	l.views += of.views
	l.unions += of.unions
}

// layouts are those of a stream: of its batches, and of dictionaries by their ids.
type layouts struct {
	batch        layout
	dictionaries map[int64]layout
}

// Types (Type), in part.
const (
	typeNull          = 1
	typeBinary        = 4
	typeUtf8          = 5
	typeTimestamp     = 10
	typeStruct        = 13
	typeUnion         = 14
	typeFixedSizeList = 16
	typeLargeBinary   = 19
	typeLargeUtf8     = 20
	typeRunEndEncoded = 22
	typeBinaryView    = 23
	typeUtf8View      = 24
	typeListView      = 25
	typeLargeListView = 26
)

// buffersOf is how many buffers a type has, its children's apart.
func buffersOf(kind byte) int {
	switch kind {
	case typeNull, typeRunEndEncoded:
		return 0
	case typeStruct, typeFixedSizeList, typeUnion:
		return 1
	case typeBinary, typeUtf8, typeLargeBinary, typeLargeUtf8, typeListView, typeLargeListView:
		return 3
	}
	return 2
}

// message is what the metadata of a message says.
type message struct {
	header       byte
	bodyLength   int64
	bodyLengthAt int
	layouts      *layouts // of a schema

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
	buf     []byte
	budget  int // bytes and tables that may still be visited
	fields  int
	layouts *layouts // being found
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

// verify walks the metadata of a message of a stream whose layouts are known but
// for the schema.
func verify(meta []byte, known *layouts) (m message, err error) {
	defer func() {
		switch p := recover(); p {
		case nil:
		case errTooWide:
			err = errTooWide
		default: // a read past the end of the metadata
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
		m.layouts = &layouts{dictionaries: make(map[int64]layout)}
		v.layouts = m.layouts
		m.layouts.batch = v.fieldVector(header, 1, 0)
		v.keyValues(header, 2)
	case headerDictionary:
		m.id, m.delta = header.int64(0), header.byte(2) != 0
		batch, ok := header.child(1)
		if !ok {
			return m, errMetadata
		}
		of, ok := known.dictionaries[m.id]
		if !ok {
			return m, errMetadata
		}
		m.readBatch(batch, of, root.old())
	case headerBatch:
		m.readBatch(header, known.batch, root.old())
	}
	return m, nil
}

// old reports a message of a version before 1.0.
func (t table) old() bool {
	at, ok := t.field(0)
	return !ok || binary.LittleEndian.Uint16(t.v.buf[at:]) < 4
}

// readBatch reads what a RecordBatch of a layout says of the body.
func (m *message) readBatch(batch table, of layout, old bool) {
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
	if old {
		of.buffers += of.unions
	}
	counts := batch.vector(4, 8)
	left := int64(m.buffers.len - of.buffers)
	if nodes.len < of.nodes || left < 0 || counts.len < of.views {
		panic(errMetadata)
	}
	for i := range counts.len {
		n := int64(binary.LittleEndian.Uint64(counts.v.buf[counts.at+8*i:]))
		if n < 0 || n > left {
			panic(errMetadata)
		}
		left -= n
	}
}

// fieldVector walks the fields of a schema, or the children of a field, and
// returns what they take in a batch.
func (v *verifier) fieldVector(t table, place, depth int) (all layout) {
	fields := t.vector(place, 4)
	if v.fields += fields.len; v.fields > maxFields || depth > maxDepth {
		panic(errTooWide)
	}
	for i := range fields.len {
		field := v.table(v.follow(fields.at + 4*i))
		v.text(field, 0)
		v.keyValues(field, 6)
		of := v.values(field, depth)
		if dictionary, ok := field.child(4); ok {
			dictionary.child(1)
			v.layouts.dictionaries[dictionary.int64(0)] = of
			of = layout{nodes: 1, buffers: 2} // references into it
		}
		all.add(of)
	}
	return all
}

// values walks the type of a field, and returns what its values take.
func (v *verifier) values(field table, depth int) layout {
	kind := field.byte(2)
	of := layout{nodes: 1, buffers: buffersOf(kind)}
	typ, ok := field.child(3)
	switch {
	case !ok:
	case kind == typeTimestamp:
		v.text(typ, 1)
	case kind == typeUnion:
		typ.vector(1, 4)
		const dense = 1
		of.unions = 1
		if at, ok := typ.field(0); ok && binary.LittleEndian.Uint16(v.buf[at:]) == dense {
			of.buffers++
		}
	case kind == typeBinaryView, kind == typeUtf8View:
		of.views = 1
	}
	of.add(v.fieldVector(field, 5, depth+1))
	return of
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
