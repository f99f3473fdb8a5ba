package arrow

import (
	"errors"
	"fmt"
	"io"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// Reader decodes the rows of an Arrow IPC stream. It is not safe for concurrent
// use.
type Reader[R mds.Record[R]] struct {
	table    *codec.Table[R]
	messages *messages
	ipc      *ipc.Reader
	schema   *arrow.Schema

	sources  []source[R]
	template R
	unfed    bool // that records begin as the template
	careful  bool // that every row goes the careful way

	// The batch being read.
	at, rows int
	before   int // rows of the batches before

	slow     []bool // rows of a chunk that go the careful way
	rejected []*codec.RowError
	failed   error // why no row follows
	scratch  []byte
}

const (
	chunk        = 256 // rows that are decoded column by column: they stay in the cache
	mostRejected = 1024
)

// NewReader reads the schema of a stream. It fails with a [*codec.HeaderError]
// where the data is no Arrow stream, and with a [*codec.SetupError] where the
// options do not say enough, the stream lacks a column that the kind requires, or
// a column has a type that its values cannot be made of.
func NewReader[R mds.Record[R]](r io.Reader, opt Options) (*Reader[R], error) {
	if opt.MaxBytes < 0 {
		return nil, &codec.SetupError{Reason: fmt.Sprintf("MaxBytes is %d; use a positive number, or 0 for the default", opt.MaxBytes)}
	}
	if opt.MaxBytes == 0 {
		opt.MaxBytes = defaultMaxBytes
	}
	d := &Reader[R]{messages: newMessages(r, opt.MaxBytes), slow: make([]bool, chunk)}
	var err error
	if d.ipc, err = ipc.NewReaderFromMessageReader(d.messages); err != nil {
		return nil, d.begun(err)
	}
	d.schema = d.ipc.Schema()
	names := make([]string, d.schema.NumFields())
	for i := range names {
		names[i] = d.schema.Field(i).Name
	}
	if d.table, err = codec.NewTable[R](names, opt.Options); err != nil {
		return nil, err
	}
	schema := d.table.Schema()
	timeName := schema.TimeColumn().Name
	d.careful = opt.Label != codec.LabelStart || opt.Fixed[timeName] != ""
	d.template = d.table.Template()
	for _, feed := range d.table.Feeds() {
		s, err := newSource(d.table, feed, d.schema.Field(feed.Cell))
		if err != nil {
			return nil, err
		}
		d.careful = d.careful || s.fill == nil
		d.sources = append(d.sources, s)
	}
	d.unfed = len(d.sources) < len(schema.Columns)
	return d, nil
}

// begun is the error of a stream whose schema cannot be read.
func (d *Reader[R]) begun(err error) error {
	var stream *StreamError
	switch own := d.messages.err; {
	case errors.As(own, &stream):
		return &codec.HeaderError{Reason: "it is not an Arrow stream: " + stream.Reason}
	case errors.Is(own, io.EOF):
		return &codec.HeaderError{Reason: "it is not an Arrow stream: it ends before its schema"}
	case own != nil:
		return own
	}
	return &codec.HeaderError{Reason: fmt.Sprintf("its schema cannot be read (%v)", err)}
}

// Ignored returns the names of the stream's columns that feed no column of the
// record, in their order.
func (d *Reader[R]) Ignored() []string { return d.table.Ignored() }

// Warnings counts the rows that became records but had something odd about
// them, by what it was; 0 is of what is odd about the stream.
func (d *Reader[R]) Warnings() map[string]int64 { return d.table.Warnings() }

// Rows is the number of rows that were read, good and bad.
func (d *Reader[R]) Rows() int { return d.before + d.at }

// Close releases what the reader holds. It does not close the reader below.
func (d *Reader[R]) Close() {
	if d.failed == nil {
		d.failed = io.EOF
	}
	d.ipc.Release()
	d.messages.inflater.close()
}

// Next decodes the rows that follow into the records, which are written over, and
// returns how many it made, normalised and valid; there may be fewer than there is
// room for, even none. Of each row that is no record it says why: Line is the
// row's number in the stream, from 1, Raw is the row as JSON, long values
// shortened. What is rejected is valid until the call after; the records' texts
// stay.
//
// An error comes alone, after everything before it was returned: io.EOF after the
// last row, a [*codec.SetupError] where every row needs another setting, a
// [*StreamError], or the reader's own.
func (d *Reader[R]) Next(into []R) (n int, rejected []*codec.RowError, err error) {
	d.rejected = d.rejected[:0]
	if len(into) == 0 {
		return 0, nil, d.failed
	}
	n = d.next(into)
	if n == 0 && len(d.rejected) == 0 {
		return 0, nil, d.failed
	}
	return n, d.rejected, nil
}

// next decodes rows of one batch, or sets failed.
func (d *Reader[R]) next(into []R) (n int) {
	defer func() {
		// arrow-go panics on damaged batches, some of them when they are looked at.
		if p := recover(); p != nil {
			d.fail(damaged(fmt.Errorf("%v", p)))
		}
	}()
	for d.failed == nil {
		if d.at == d.rows {
			if n > 0 || len(d.rejected) > 0 {
				return n
			}
			d.advance()
			continue
		}
		size := min(len(into)-n, chunk, d.rows-d.at)
		if size == 0 || len(d.rejected) >= mostRejected {
			return n
		}
		d.decode(into[n:n+size], &n)
	}
	return n
}

// advance goes to the next batch, or sets failed.
func (d *Reader[R]) advance() {
	d.before += d.rows
	d.at, d.rows = 0, 0
	if !d.ipc.Next() {
		err := d.messages.err
		if err == nil {
			err = damaged(d.ipc.Err())
		}
		if d.messages.endless && errors.Is(err, io.EOF) {
			d.table.Warnings()["the stream has no end mark: it may have been cut between two batches"] = 0
		}
		d.fail(err)
		return
	}
	batch := d.ipc.RecordBatch()
	for i := range d.sources {
		s := &d.sources[i]
		s.array = batch.Column(s.cell)
		if s.fill != nil {
			s.fill.bind(s.array)
		}
	}
	d.rows = int(batch.NumRows())
}

// fail ends the reading.
func (d *Reader[R]) fail(err error) {
	var stream *StreamError
	if errors.As(err, &stream) {
		stream.Row = d.before + d.at
	}
	d.failed = err
}

// decode decodes the next rows, and counts those that became records as it goes.
func (d *Reader[R]) decode(records []R, made *int) {
	n := 0
	slow := d.slow[:len(records)]
	for i := range slow {
		slow[i] = d.careful
	}
	if !d.careful {
		if d.unfed {
			for i := range records {
				records[i] = d.template
			}
		}
		for i := range d.sources {
			d.sources[i].fill.fill(records, d.at, slow)
		}
	}
	for i := range records {
		if slow[i] || !d.table.Complete(&records[i]) {
			if !d.row(&records[i]) {
				if d.failed != nil {
					return
				}
				d.at++
				continue
			}
		}
		if n < i {
			records[n] = records[i]
		}
		n++
		*made++
		d.at++
	}
}

// row decodes the row that is next value by value, as the other formats do, and
// reports whether it became a record: it was rejected else, or decoding has to
// end.
func (d *Reader[R]) row(record *R) bool {
	d.table.Begin(record)
	for i := range d.sources {
		d.set(record, &d.sources[i])
	}
	err := d.table.Finish(record)
	if err == nil {
		return true
	}
	line := d.before + d.at + 1
	var setup *codec.SetupError
	if errors.As(err, &setup) {
		setup.Line = line
		d.fail(err)
		return false
	}
	var bad *codec.RowError
	if err := codec.InvalidRow(err, line, ""); !errors.As(err, &bad) {
		d.fail(err)
		return false
	}
	bad.Raw = d.raw()
	d.rejected = append(d.rejected, bad)
	return false
}
