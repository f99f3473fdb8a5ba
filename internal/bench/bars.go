package bench

import (
	"fmt"
	"math"
	"math/rand/v2"
	"time"

	"github.com/marketdatastore/mds"
)

// start is the first minute of the bars that are measured with.
var start = time.Date(2024, 1, 2, 14, 30, 0, 0, time.UTC)

// market makes minute bars: prices that walk in cents, without vwap and trade count,
// as most vendors send them. The same bars come whenever it is asked for them.
type market struct{ symbols []string }

func newMarket() *market {
	m := &market{symbols: make([]string, symbols)}
	for i := range m.symbols {
		m.symbols[i] = fmt.Sprintf("SYM%04d", i)
	}
	return m
}

// bar is that of a symbol and a minute from the start, which may be before it.
func (m *market) bar(symbol, minute int) mds.Bar {
	random := rand.New(rand.NewPCG(uint64(symbol), uint64(minute))) //nolint:gosec // the same bars every time
	// A slow wave and small steps: neighbours are near each other.
	base := 20 + float64(symbol%400) + 5*math.Sin(float64(minute)/500+float64(symbol))
	open := cents(base + random.Float64()/10)
	last := cents(base + random.Float64()/10)
	return mds.Bar{
		Vendor: "bench", Symbol: m.symbols[symbol], Timeframe: mds.Minute, TS: start.Add(time.Duration(minute) * time.Minute),
		Open: mds.Some(open), High: mds.Some(cents(max(open, last) + 0.02)), Low: mds.Some(cents(min(open, last) - 0.02)), Close: last,
		Volume: mds.Some(math.Round(random.ExpFloat64() * 5000)),
	}
}

func cents(v float64) float64 { return math.Round(v*100) / 100 }

// inTime are rows in order of time, from a minute on.
func (m *market) inTime(minute, rows int) []mds.Bar {
	bars := make([]mds.Bar, rows)
	for i := range bars {
		bars[i] = m.bar(i%len(m.symbols), minute+i/len(m.symbols))
	}
	return bars
}

// bySymbol are minutes of one symbol after the other.
func (m *market) bySymbol(symbols, minute, minutes int) []mds.Bar {
	bars := make([]mds.Bar, 0, symbols*minutes)
	for symbol := range symbols {
		for i := range minutes {
			bars = append(bars, m.bar(symbol, minute+i))
		}
	}
	return bars
}
