package arrow

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
)

// Codecs of compressed bodies (CompressionType).
const (
	codecLZ4  = 0
	codecZstd = 1
)

var errTooLarge = errors.New("it needs more memory than it may have")

// inflater decompresses the bodies of messages. arrow-go could, but with a
// decompressor made for each batch, and with whatever memory the message asks for.
type inflater struct {
	zstd  *zstd.Decoder
	lz4   *lz4.Reader
	input bytes.Reader
	limit int64
}

// raw says in a compressed body that a buffer is not.
const raw = -1

// sizes returns the bytes that the buffers of a body take when decompressed, each
// from a multiple of 64 bytes on.
func (f *inflater) size(m *message, body []byte) (total int64, err error) {
	for i := range m.buffers.len {
		offset, length := m.buffers.pair(i)
		if length == 0 {
			continue
		}
		if length < 8 {
			return 0, errMetadata
		}
		size := int64(binary.LittleEndian.Uint64(body[offset:]))
		if size == raw {
			size = length - 8
		}
		if size < 0 || size > f.limit || total > f.limit {
			return 0, errTooLarge
		}
		total += (size + 63) &^ 63
	}
	if total > f.limit {
		return 0, errTooLarge
	}
	return total, nil
}

// inflate decompresses a body into dst, which has room for it, and makes the
// metadata that of a body that is not compressed.
func (f *inflater) inflate(m *message, dst, body []byte) ([]byte, error) {
	dst = dst[:0]
	for i := range m.buffers.len {
		offset, length := m.buffers.pair(i)
		if length == 0 {
			continue
		}
		packed := body[offset : offset+length]
		size := int64(binary.LittleEndian.Uint64(packed))
		start := len(dst)
		if size == raw {
			size = length - 8
			dst = append(dst, packed[8:]...)
		} else {
			dst = dst[:start+int(size)]
			if err := f.unpack(m.codec, dst[start:], packed[8:]); err != nil {
				return nil, err
			}
		}
		m.buffers.setPair(i, int64(start), size)
		for len(dst)%64 != 0 {
			dst = append(dst, 0)
		}
	}
	return dst, nil
}

func (f *inflater) unpack(codec int8, dst, packed []byte) error {
	switch codec {
	case codecLZ4:
		f.input.Reset(packed)
		if f.lz4 == nil {
			f.lz4 = lz4.NewReader(nil)
		}
		f.lz4.Reset(&f.input)
		if _, err := io.ReadFull(f.lz4, dst); err != nil {
			return fmt.Errorf("its lz4 data is damaged (%w)", err)
		}
	case codecZstd:
		if f.zstd == nil {
			var err error
			f.zstd, err = zstd.NewReader(nil, zstd.WithDecoderConcurrency(1), zstd.WithDecodeAllCapLimit(true), zstd.WithDecoderMaxMemory(uint64(f.limit)))
			if err != nil {
				return err
			}
		}
		got, err := f.zstd.DecodeAll(packed, dst[:0:len(dst)])
		if err == nil && len(got) != len(dst) {
			err = io.ErrUnexpectedEOF
		}
		if err != nil {
			return fmt.Errorf("its zstd data is damaged (%w)", err)
		}
	default:
		return fmt.Errorf("it is compressed in a way that is not known (%d): use lz4, zstd or none", codec)
	}
	return nil
}

func (f *inflater) close() {
	if f.zstd != nil {
		f.zstd.Close()
	}
}

// plain makes the metadata of a message that of a body of some bytes without
// compression. The table gets a list of its fields of its own, since it may share
// one with other tables.
func plain(meta []byte, m *message, bodyLength int) []byte {
	binary.LittleEndian.PutUint64(meta[m.bodyLengthAt:], uint64(bodyLength))
	const compression = 4 + 2*3
	at := (len(meta) + 7) &^ 7
	meta = append(slices.Grow(meta, at-len(meta)+m.batch.entries), make([]byte, at-len(meta))...)
	meta = append(meta, meta[m.batch.vtable:m.batch.vtable+m.batch.entries]...)
	binary.LittleEndian.PutUint16(meta[at+compression:], 0)
	binary.LittleEndian.PutUint32(meta[m.batch.at:], uint32(int32(m.batch.at-at)))
	return meta
}
