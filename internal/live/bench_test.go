package live_test

import (
	"fmt"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/live"
)

// BenchmarkPublish measures what a record costs who commits it, and with the flush what it
// costs altogether but for the sending.
func BenchmarkPublish(b *testing.B) {
	records := make([]mds.Bar, 500)
	for i := range records {
		records[i] = bar(fmt.Sprintf("SYM%04d", i), 0, 100.25)
		records[i].Open, records[i].High, records[i].Low, records[i].Volume = mds.Some(100.5), mds.Some(101.75), mds.Some(99.125), mds.Some(12_345.0)
	}
	for _, way := range []struct {
		name        string
		subscribers int
		symbols     bool
		flush       bool
	}{
		{"nobody", 0, false, false}, {"few, committing", 100, true, false}, {"few", 100, true, true}, {"all, committing", 100, false, false}, {"all", 100, false, true},
	} {
		b.Run(way.name, func(b *testing.B) {
			h := live.New(live.Config{})
			defer h.Close()
			f := live.NewFeed[mds.Bar](h)
			var first *live.Subscription
			for i := range way.subscribers {
				var sel mds.Selection
				if way.symbols {
					sel.Symbols = []string{fmt.Sprintf("SYM%04d", i)}
				}
				s := h.Subscribe(mds.DefaultTenant(), live.Events, "", f.Pick(conditions[mds.Bar](b, sel)))
				defer s.Close()
				first = s
			}
			for n := 0; b.Loop(); n++ {
				f.Publish(mds.DefaultTenant(), records, mds.Receipt{Written: 500})
				switch {
				case way.flush:
					first.Flush()
				case n%20 == 0 && first != nil:
					b.StopTimer()
					first.Flush()
					b.StartTimer()
				}
			}
			b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N)/500, "ns/record")
		})
	}
}
