package arrow_test

import (
	"bytes"
	"errors"
	"io"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

const benchRows = 50_000

// benchBars are bars of 26 symbols, neighbours of which differ in symbol.
func benchBars(n int) []mds.Bar {
	bars := make([]mds.Bar, n)
	for i := range bars {
		price := 20 + float64(i%977)/100
		bars[i] = mds.Bar{
			Vendor: "synthetic", Symbol: "SYN" + string(rune('A'+i%26)), Timeframe: mds.Minute, TS: time.Unix(1767623400+int64(i/26)*60, 0).UTC(),
			Open: mds.Some(price), High: mds.Some(price + 0.05), Low: mds.Some(price - 0.05), Close: price + 0.01,
			Volume: mds.Some(float64(1000 + i)), VWAP: mds.Some(price + 0.005), TradeCount: mds.Some(int64(i % 300)),
		}
	}
	return bars
}

// endless is a stream whose batches come again and again.
type endless struct{ head, batches, left []byte }

func newEndless[R mds.Record[R]](t testing.TB, records []R, opt arrow.WriterOptions) *endless {
	const endMark = 8
	head := write[R](t, nil, opt)
	head = head[:len(head)-endMark]
	stream := write(t, records, opt)
	return &endless{head: head, batches: stream[len(head) : len(stream)-endMark], left: head}
}

func (e *endless) Read(p []byte) (int, error) {
	if len(e.left) == 0 {
		e.left = e.batches
	}
	n := copy(p, e.left)
	e.left = e.left[n:]
	return n, nil
}

// BenchmarkRow decodes bars of a stream that is read already, as a long one is.
func BenchmarkRow(b *testing.B) {
	for name, opt := range writers() {
		b.Run(name, func(b *testing.B) {
			d, err := arrow.NewReader[mds.Bar](newEndless(b, benchBars(benchRows), opt), arrow.Options{})
			if err != nil {
				b.Fatal(err)
			}
			into := make([]mds.Bar, 8192)
			if _, _, err := d.Next(into); err != nil {
				b.Fatal(err)
			}
			b.ReportAllocs()
			before := d.Rows()
			for b.Loop() {
				if _, rejected, err := d.Next(into); err != nil || len(rejected) > 0 {
					b.Fatal(err, rejected)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(d.Rows()-before), "ns/row")
		})
	}
}

// BenchmarkDecode opens a stream and decodes 50,000 bars of eleven columns.
func BenchmarkDecode(b *testing.B) {
	for name, opt := range writers() {
		stream := write(b, benchBars(benchRows), opt)
		b.Run(name, func(b *testing.B) {
			into := make([]mds.Bar, 8192)
			b.SetBytes(int64(len(stream)))
			b.ReportAllocs()
			for b.Loop() {
				n := 0
				d, err := arrow.NewReader[mds.Bar](bytes.NewReader(stream), arrow.Options{})
				if err != nil {
					b.Fatal(err)
				}
				for {
					got, rejected, err := d.Next(into)
					if errors.Is(err, io.EOF) {
						break
					} else if err != nil || len(rejected) > 0 {
						b.Fatal(err, rejected)
					}
					n += got
				}
				d.Close()
				if n != benchRows {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
		})
	}
}

// BenchmarkEncode encodes them.
func BenchmarkEncode(b *testing.B) {
	bars := benchBars(benchRows)
	for name, opt := range writers() {
		b.Run(name, func(b *testing.B) {
			b.ReportAllocs()
			for b.Loop() {
				w, err := arrow.NewWriter[mds.Bar](io.Discard, opt)
				if err != nil {
					b.Fatal(err)
				}
				if err := errors.Join(w.Write(bars), w.Close()); err != nil {
					b.Fatal(err)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/benchRows, "ns/row")
		})
	}
}

func writers() map[string]arrow.WriterOptions {
	return map[string]arrow.WriterOptions{
		"plain":        {},
		"dictionaries": {Dictionaries: true},
		"lz4":          {Compression: arrow.LZ4},
		"zstd":         {Compression: arrow.Zstd},
	}
}

// write writes records as a stream.
func write[R mds.Record[R]](t testing.TB, records []R, opt arrow.WriterOptions) []byte {
	t.Helper()
	var stream bytes.Buffer
	w, err := arrow.NewWriter[R](&stream, opt)
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(w.Write(records), w.Close()); err != nil {
		t.Fatal(err)
	}
	return stream.Bytes()
}

// read reads a stream to its end, or to its error.
func read[R mds.Record[R]](stream io.Reader, opt arrow.Options) (records []R, rejected []*codec.RowError, err error) {
	d, err := arrow.NewReader[R](stream, opt)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	return readAll(d)
}

// atEnd is the error of a reader that did not come to the end.
func atEnd(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
