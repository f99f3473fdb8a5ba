package codec_test

import (
	"errors"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

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
