package codec_test

import (
	"errors"
	"io"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/arbitrary"
)

// TestRoundTrip writes random records of each kind and reads them back.
func TestRoundTrip(t *testing.T) {
	for _, format := range []codec.Format{codec.FormatCSV, codec.FormatNDJSON} {
		t.Run(string(format)+" bars", func(t *testing.T) { roundTrip(t, format, arbitrary.Bar) })
		t.Run(string(format)+" options", func(t *testing.T) { roundTrip(t, format, arbitrary.Option) })
		t.Run(string(format)+" fundamentals", func(t *testing.T) { roundTrip(t, format, arbitrary.Fundamentals) })
		t.Run(string(format)+" news", func(t *testing.T) { roundTrip(t, format, arbitrary.News) })
	}
}

func roundTrip[R mds.Record[R]](t *testing.T, format codec.Format, draw func(*rapid.T) R) {
	t.Parallel()
	schema := mds.SchemaOf[R]()
	rapid.Check(t, func(t *rapid.T) {
		records := rapid.SliceOfN(rapid.Custom(draw), 1, 10).Draw(t, "records")
		for i := range records {
			if err := schema.Validate(&records[i]); err != nil {
				t.Fatalf("an invalid record was drawn: %v", err)
			}
		}
		text := encode(t, format, records)
		d, err := codec.NewDecoder[R](strings.NewReader(text), "", codec.Options{})
		if err != nil {
			t.Fatal(err)
		}
		for i := range records {
			var got R
			if err := d.Next(&got); err != nil || !schema.Equal(&got, &records[i]) {
				t.Fatalf("record %d is %+v, %v; want %+v\n%s", i, got, err, records[i], text)
			}
		}
		if err := d.Next(new(R)); !errors.Is(err, io.EOF) || len(d.Ignored()) > 0 {
			t.Fatalf("at the end: %v, ignored %q", err, d.Ignored())
		}
		if again := encode(t, format, records); again != text {
			t.Fatalf("written again it is\n%s\nand was\n%s", again, text)
		}
	})
}

func encode[R mds.Record[R]](t interface{ Fatal(...any) }, format codec.Format, records []R) string {
	var text strings.Builder
	encoder, err := codec.NewEncoder[R](&text, format)
	if err != nil {
		t.Fatal(err)
	}
	for i := range records {
		if err := encoder.Encode(&records[i]); err != nil {
			t.Fatal(err)
		}
	}
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
	return text.String()
}
