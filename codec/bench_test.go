package codec_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// BenchmarkCut cuts a line of eleven fields into names and raw values, as the
// decoder does and as encoding/json can.
func BenchmarkCut(b *testing.B) {
	line := []byte(`{"vendor":"synthetic","symbol":"SYN001","timeframe":"1m","ts":"2026-01-05T14:30:00Z","open":22.08,"high":22.12,"low":22.08,"close":22.12,"volume":12897,"vwap":22.11,"trade_count":162}`)
	b.Run("jsontext", func(b *testing.B) {
		b.ReportAllocs()
		input := bytes.NewReader(line)
		d := jsontext.NewDecoder(input)
		for b.Loop() {
			input.Reset(line)
			d.Reset(input)
			if _, err := d.ReadToken(); err != nil {
				b.Fatal(err)
			}
			for d.PeekKind() == '"' {
				_, err := d.ReadValue()
				_, valueErr := d.ReadValue()
				if err != nil || valueErr != nil {
					b.Fatal(err, valueErr)
				}
			}
		}
	})
	b.Run("encoding-json", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var fields map[string]json.RawMessage
			if err := json.Unmarshal(line, &fields); err != nil {
				b.Fatal(err)
			}
		}
	})
}

// BenchmarkDecode decodes 20,000 bars of eleven columns, neighbours of which
// differ in symbol.
func BenchmarkDecode(b *testing.B) {
	const rows = 20_000
	bars := make([]mds.Bar, rows)
	for i := range bars {
		price := 20 + float64(i%977)/100
		bars[i] = mds.Bar{
			Vendor: "synthetic", Symbol: "SYN" + string(rune('A'+i%26)), Timeframe: mds.Minute, TS: time.Unix(1767623400+int64(i/26)*60, 0),
			Open: mds.Some(price), High: mds.Some(price + 0.05), Low: mds.Some(price - 0.05), Close: price + 0.01,
			Volume: mds.Some(float64(1000 + i)), VWAP: mds.Some(price + 0.005), TradeCount: mds.Some(int64(i % 300)),
		}
	}
	for _, format := range []codec.Format{codec.FormatCSV, codec.FormatNDJSON} {
		text := encode(b, format, bars)
		b.Run(string(format), func(b *testing.B) {
			b.SetBytes(int64(len(text)))
			b.ReportAllocs()
			for b.Loop() {
				d, err := codec.NewDecoder[mds.Bar](strings.NewReader(text), format, codec.Options{})
				if err != nil {
					b.Fatal(err)
				}
				n := 0
				for {
					var bar mds.Bar
					if err := d.Next(&bar); errors.Is(err, io.EOF) {
						break
					} else if err != nil {
						b.Fatal(err)
					}
					n++
				}
				if n != rows {
					b.Fatal(n)
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/rows, "ns/row")
		})
	}
}
