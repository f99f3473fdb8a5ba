package arrow_test

import (
	"bytes"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/internal/arbitrary"
)

// TestRoundTrip writes random records of each kind and reads them back.
func TestRoundTrip(t *testing.T) {
	for name, opt := range writers() {
		t.Run(name+" bars", func(t *testing.T) { roundTrip(t, opt, arbitrary.Bar) })
		t.Run(name+" options", func(t *testing.T) { roundTrip(t, opt, arbitrary.Option) })
		t.Run(name+" fundamentals", func(t *testing.T) { roundTrip(t, opt, arbitrary.Fundamentals) })
		t.Run(name+" news", func(t *testing.T) { roundTrip(t, opt, arbitrary.News) })
	}
}

func roundTrip[R mds.Record[R]](t *testing.T, opt arrow.WriterOptions, draw func(*rapid.T) R) {
	t.Parallel()
	schema := mds.SchemaOf[R]()
	rapid.Check(t, func(rt *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(draw), 0, 20).Draw(rt, "records")
		opt := opt
		opt.BatchRows = rapid.IntRange(1, 30).Draw(rt, "rows of a batch")
		got, rejected, err := read[R](bytes.NewReader(write(t, records, opt)), arrow.Options{})
		if err != nil || len(rejected) > 0 || len(got) != len(records) {
			rt.Fatalf("of %d records %d came back, rejected %v: %v", len(records), len(got), rejected, err)
		}
		for i := range records {
			if !schema.Equal(&got[i], &records[i]) {
				rt.Fatalf("record %d is %+v; want %+v", i, got[i], records[i])
			}
		}
	})
}
