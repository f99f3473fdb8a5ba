package mds_test

import (
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// BenchmarkValidate checks a bar and an option, as every write does.
func BenchmarkValidate(b *testing.B) {
	at := time.Date(2024, 3, 15, 14, 30, 0, 0, time.UTC)
	b.Run("bars", func(b *testing.B) {
		bar := mds.Bar{
			Vendor: "polygon", Symbol: "BRK.B", Timeframe: mds.Minute, TS: at,
			Open: mds.Some(410.1), High: mds.Some(410.9), Low: mds.Some(409.8), Close: 410.5, Volume: mds.Some(12000.0),
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := bar.Validate(); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("options", func(b *testing.B) {
		option := mds.OptionSnap{
			Vendor: "polygon", Symbol: "SPX", Expiry: mds.DateOf(at), OptionType: "C", Strike: 5_000 * 1_000_000_000, TS: at,
			Bid: mds.Some(1.1), Ask: mds.Some(1.2), IV: mds.Some(0.2), Delta: mds.Some(0.5), OpenInterest: mds.Some(10.0),
		}
		b.ReportAllocs()
		for b.Loop() {
			if err := option.Validate(); err != nil {
				b.Fatal(err)
			}
		}
	})
}
