package arrow

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow/array"
	"github.com/apache/arrow-go/v18/arrow/ipc"
	"github.com/apache/arrow-go/v18/arrow/memory"

	"github.com/marketdatastore/mds"
)

// Compression is how the buffers of batches are compressed.
type Compression string

const (
	// Uncompressed is what every reader takes, and the fastest.
	Uncompressed Compression = ""
	// LZ4 is the frame format of LZ4.
	LZ4 Compression = "lz4"
	// Zstd is Zstandard.
	Zstd Compression = "zstd"
)

// WriterOptions say how to write a stream. The zero value is what every reader
// of Arrow takes.
type WriterOptions struct {
	// BatchRows is the most rows of one record batch. Defaults to 8192.
	BatchRows int
	// Compression of the buffers. Defaults to none.
	Compression Compression
	// Dictionaries writes the texts of identity columns, such as the symbol, once a
	// batch, and references to them. Defaults to false: some readers take no
	// dictionary that changes from batch to batch.
	Dictionaries bool
}

const (
	defaultBatchRows = 8192
	maxBatchRows     = 1 << 20
	// maxBatchBytes of text ends a batch early, long before the 32 bits of an offset.
	maxBatchBytes = 32 << 20
)

// Writer writes records as an Arrow IPC stream; see [Schema]. What it writes
// decodes to the same records. It is not safe for concurrent use.
type Writer[R mds.Record[R]] struct {
	ipc     *ipc.Writer
	columns []appender[R]
	build   *array.RecordBuilder
	most    int // rows of a batch
	rows    int // of the batch
	bytes   int // of its texts
	room    int // that the next batch is made with: where one was full, others are
	one     [1]R
	err     error
}

// appender appends the values of records to a column, and returns the bytes of
// their texts.
type appender[R any] func(records []R) int

// errClosed is a write after Close.
var errClosed = errors.New("the stream is closed")

// NewWriter returns a writer; Close it to write what is buffered and the end mark.
func NewWriter[R mds.Record[R]](w io.Writer, opt WriterOptions) (*Writer[R], error) {
	if opt.BatchRows == 0 {
		opt.BatchRows = defaultBatchRows
	}
	if opt.BatchRows < 0 || opt.BatchRows > maxBatchRows {
		return nil, fmt.Errorf("batches of %d rows: use 1 to %d", opt.BatchRows, maxBatchRows)
	}
	schema := Schema[R](opt.Dictionaries)
	options := []ipc.Option{ipc.WithSchema(schema)}
	switch opt.Compression {
	case Uncompressed:
	case LZ4:
		options = append(options, ipc.WithLZ4())
	case Zstd:
		options = append(options, ipc.WithZstd())
	default:
		return nil, fmt.Errorf("compression %q: use lz4, zstd or none", opt.Compression)
	}
	e := &Writer[R]{ipc: ipc.NewWriter(w, options...), most: opt.BatchRows}
	e.build = array.NewRecordBuilder(memory.NewGoAllocator(), schema)
	kind := mds.SchemaOf[R]()
	for i := range kind.Columns {
		e.columns = append(e.columns, newAppender(&kind.Columns[i], e.build.Field(i)))
	}
	return e, nil
}

// Append writes one record.
func (e *Writer[R]) Append(record *R) error {
	e.one[0] = *record
	return e.Write(e.one[:])
}

// Write writes records. They are not kept. After an error the stream is of no use.
func (e *Writer[R]) Write(records []R) error {
	const piece = 64 // records, so that a batch is cut soon after its bytes are enough
	for len(records) > 0 && e.err == nil {
		n := min(len(records), e.most-e.rows, piece)
		e.build.Reserve(max(n, e.room))
		e.room = 0
		for _, add := range e.columns {
			e.bytes += add(records[:n])
		}
		records = records[n:]
		if e.rows += n; e.rows == e.most || e.bytes >= maxBatchBytes {
			e.flush()
		}
	}
	return e.err
}

// flush writes the batch.
func (e *Writer[R]) flush() {
	batch := e.build.NewRecordBatch()
	e.err = e.ipc.Write(batch)
	batch.Release()
	if e.rows == e.most {
		e.room = e.most
	}
	e.rows, e.bytes = 0, 0
}

// Flush writes what is buffered, so that a reader sees it.
func (e *Writer[R]) Flush() error {
	if e.err == nil && e.rows > 0 {
		e.flush()
	}
	return e.err
}

// Close writes what is buffered and ends the stream. It does not close the writer
// below.
func (e *Writer[R]) Close() error {
	if errors.Is(e.err, errClosed) {
		return nil
	}
	err := e.Flush()
	if err == nil {
		err = e.ipc.Close()
	}
	e.build.Release()
	e.err = errClosed
	return err
}
