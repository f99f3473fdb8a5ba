package arrow_test

import (
	"bytes"
	"errors"
	"io"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// FuzzReader reads what may be a stream as each kind, column by column and value
// by value: both give the same records, each valid, and say the same of each row
// that is none. It never needs much more memory than it may have.
func FuzzReader(f *testing.F) {
	streams, err := filepath.Glob("testdata/*.arrows")
	if err != nil || len(streams) == 0 {
		f.Fatal(streams, err)
	}
	for _, path := range streams {
		data, err := os.ReadFile(path)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(data)
	}
	f.Add(write(f, benchBars(3), arrow.WriterOptions{Compression: arrow.LZ4}))
	f.Add(write(f, benchBars(3), arrow.WriterOptions{Compression: arrow.Zstd, Dictionaries: true, BatchRows: 2}))
	for _, columns := range [][]column{bar(), daily(), option(), fundamental(), news()} {
		f.Add(stream(f, columns...))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		fuzzKind[mds.Bar](t, data)
		fuzzKind[mds.OptionSnap](t, data)
		fuzzKind[mds.Fundamentals](t, data)
		fuzzKind[mds.News](t, data)
	})
}

func fuzzKind[R mds.Record[R]](t *testing.T, data []byte) {
	schema := mds.SchemaOf[R]()
	const limit = 1 << 20
	opt := arrow.Options{MaxBytes: limit, Options: codec.Options{Zone: newYork(t)}}
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	fast, fastRejected, fastErr := fuzzRead[R](t, data, opt, false)
	runtime.ReadMemStats(&after)
	if grown := after.TotalAlloc - before.TotalAlloc; grown > 64<<20+uint64(len(data))*1000 {
		t.Errorf("%d bytes were allocated for %d", grown, len(data))
	}
	slow, slowRejected, slowErr := fuzzRead[R](t, data, opt, true)
	if damage := (*arrow.StreamError)(nil); errors.As(fastErr, &damage) { // found a chunk of rows earlier
		slow, slowRejected = slow[:min(len(slow), len(fast))], slowRejected[:min(len(slowRejected), len(fastRejected))]
	}
	if (fastErr == nil) != (slowErr == nil) || len(fast) != len(slow) || !slices.Equal(fastRejected, slowRejected) {
		t.Fatalf("column by column there are %d records, %v, %v; value by value %d, %v, %v", len(fast), fastRejected, fastErr, len(slow), slowRejected, slowErr)
	}
	for i := range fast {
		if err := schema.Validate(&fast[i]); err != nil {
			t.Errorf("record %d is not valid: %v", i, err)
		}
		normal := fast[i]
		schema.Normalize(&normal)
		if !schema.Equal(&normal, &fast[i]) || !schema.Equal(&fast[i], &slow[i]) {
			t.Errorf("record %d is\n%+v\nnormalised\n%+v\nvalue by value\n%+v", i, fast[i], normal, slow[i])
		}
	}
}

// fuzzRead reads some of a stream.
func fuzzRead[R mds.Record[R]](t *testing.T, data []byte, opt arrow.Options, careful bool) (records []R, rejected []codec.RowError, err error) {
	d, err := arrow.NewReader[R](bytes.NewReader(data), opt)
	if err != nil {
		return nil, nil, err
	}
	defer d.Close()
	if careful {
		arrow.Careful(d)
	}
	into := make([]R, 100)
	for d.Rows() < 1000 {
		n, bad, err := d.Next(into)
		records = append(records, into[:n]...)
		for _, row := range bad {
			rejected = append(rejected, *row)
		}
		var header *codec.HeaderError
		switch {
		case errors.Is(err, io.EOF):
			return records, rejected, nil
		case errors.As(err, &header):
			t.Errorf("it is said after the schema was read: %v", err)
		case err != nil:
			return records, rejected, err
		case n == 0 && len(bad) == 0:
			t.Fatal("nothing came of it")
		}
	}
	return records, rejected, nil
}
