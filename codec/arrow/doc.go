// Package arrow reads and writes records as Arrow IPC streams, the format that
// pyarrow, polars, DuckDB, R and JavaScript exchange tables in
// (https://arrow.apache.org/docs/format/Columnar.html, "IPC Streaming Format",
// media type application/vnd.apache.arrow.stream).
//
// A [Reader] decodes batch by batch, column by column, into records that the
// caller owns, and costs a bad row that row. A [Writer] writes the columns of a
// kind as its schema names them. Both work in memory that does not grow with the
// stream.
package arrow

import (
	"fmt"

	"github.com/marketdatastore/mds/codec"
)

// Options say how to read a stream. The zero value reads one that names every
// column and whose timestamps have a zone.
type Options struct {
	// Options are those of the other formats; NoHeader is refused. Zone is that
	// of timestamps without one, and the one in which epochs of calendar bars
	// show their date.
	codec.Options

	// MaxBytes bounds the memory that one record batch may take, as it is sent
	// and after it is decompressed, and that all dictionaries together may.
	// A stream that says it needs more ends with a [*StreamError]. Defaults to
	// 256 MiB.
	MaxBytes int64
}

const defaultMaxBytes = 256 << 20

// StreamError is a stream that cannot be read to its end: it was cut, is damaged,
// or needs more memory than it may have. Rows that were read before it stand.
type StreamError struct {
	// Row is the number of rows before it, good and bad.
	Row int
	// Reason is a sentence.
	Reason string
}

func (e *StreamError) Error() string {
	return fmt.Sprintf("after row %d: %s", e.Row, e.Reason)
}
