package codec

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// File is an input opened for decoding.
type File struct {
	io.Reader
	// Size is the number of bytes on disk, 0 where it is not known.
	Size int64

	close []func() error
	count countingReader
}

// BytesRead is the number of bytes taken from the disk, before decompression.
// It may be called while another goroutine reads.
func (f *File) BytesRead() int64 { return f.count.n.Load() }

// Close closes the input.
func (f *File) Close() error {
	var errs []error
	for i := len(f.close) - 1; i >= 0; i-- {
		errs = append(errs, f.close[i]())
	}
	return errors.Join(errs...)
}

// Open opens a file for decoding; "-" is the reader given as stdin. Gzip and
// Zstandard are recognised by their first bytes and decompressed.
func Open(path string, stdin io.Reader) (*File, error) {
	f := &File{}
	if path == "-" {
		f.count.r = stdin
	} else {
		file, err := openRegular(path)
		if err != nil {
			return nil, err
		}
		f.close = append(f.close, file.Close)
		if stat, err := file.Stat(); err == nil && stat.Mode().IsRegular() {
			f.Size = stat.Size()
		}
		f.count.r = file
	}
	buffered := bufio.NewReaderSize(&f.count, 256<<10)
	head, err := buffered.Peek(4) // no table of records is shorter
	if err != nil && !errors.Is(err, io.EOF) {
		return nil, errors.Join(err, f.Close())
	}
	switch {
	case bytes.HasPrefix(head, []byte{0x1f, 0x8b}):
		unpack, err := gzip.NewReader(buffered)
		if err != nil {
			return nil, errors.Join(compressedError("gzip", err), f.Close())
		}
		f.close = append(f.close, func() error { _ = unpack.Close(); return nil }) // Read has told
		f.Reader = &unpackReader{r: unpack, format: "gzip"}
	case bytes.HasPrefix(head, []byte{0x28, 0xb5, 0x2f, 0xfd}):
		unpack, err := zstd.NewReader(buffered, zstd.WithDecoderConcurrency(1))
		if err != nil {
			return nil, errors.Join(compressedError("zstd", err), f.Close())
		}
		f.close = append(f.close, func() error { unpack.Close(); return nil })
		f.Reader = &unpackReader{r: unpack, format: "zstd"}
	default:
		f.Reader = buffered
	}
	return f, nil
}

func openRegular(path string) (*os.File, error) {
	file, err := os.Open(path) //nolint:gosec // the user names it
	if err != nil {
		var pathErr *os.PathError
		if errors.As(err, &pathErr) {
			err = pathErr.Err
		}
		return nil, err
	}
	stat, err := file.Stat()
	if err == nil && stat.IsDir() {
		err = errors.New("it is a directory; name the files in it")
	}
	if err != nil {
		return nil, errors.Join(err, file.Close())
	}
	return file, nil
}

// unpackReader names the compression in the errors of a decompressor.
type unpackReader struct {
	r      io.Reader
	format string
}

func (u *unpackReader) Read(p []byte) (int, error) {
	n, err := u.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) {
		err = compressedError(u.format, err)
	}
	return n, err
}

func compressedError(format string, err error) error {
	if errors.Is(err, io.ErrUnexpectedEOF) {
		return fmt.Errorf("the %s data ends too early: the file is truncated; fetch it again", format)
	}
	return fmt.Errorf("the %s data is damaged (%w); fetch it again", format, err)
}
