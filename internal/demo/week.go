// Package demo makes a synthetic week of minute bars, and draws bars as
// candles in a terminal. The data is deterministic, and labelled as synthetic
// by its vendor and symbols.
package demo

import (
	"fmt"
	"iter"
	"math"
	"math/rand/v2"
	"time"

	"github.com/marketdatastore/mds"
)

// Vendor marks every synthetic bar.
const Vendor = "synthetic"

// The shape of the week: Monday to Friday, 9:30 to 16:00 in New York, where it
// is winter and the clocks are five hours behind UTC.
const (
	Symbols        = 300
	sessions       = 5
	minutesSession = 390
)

// Bars is the number of bars in the week.
const Bars = Symbols * sessions * minutesSession

// Monday is the first day of the week.
func Monday() time.Time { return time.Date(2026, 1, 5, 0, 0, 0, 0, time.UTC) }

// Symbol names the i-th symbol, from 0.
func Symbol(i int) string { return fmt.Sprintf("SYN%03d", i+1) }

// Week yields the bars in order of time, as they would arrive: all symbols of
// one minute, then the next minute. Prices walk at random with a volatility
// and a gap over night that differ by symbol; volume is highest at the open
// and the close.
func Week() iter.Seq[mds.Bar] {
	return func(yield func(mds.Bar) bool) {
		random := rand.New(rand.NewPCG(20260105, 1)) //nolint:gosec // it has to be the same every time
		walks := make([]walk, Symbols)
		for i := range walks {
			walks[i] = walk{
				price:      math.Round(100*math.Exp(random.NormFloat64()*0.8+4)) / 100,
				volatility: 0.0004 + 0.0008*random.Float64(),
				volume:     math.Exp(random.NormFloat64()*1.2 + 7),
			}
		}
		for session := range sessions {
			open := Monday().AddDate(0, 0, session).Add(14*time.Hour + 30*time.Minute)
			for i := range walks {
				walks[i].price *= math.Exp(random.NormFloat64() * 0.006)
			}
			for minute := range minutesSession {
				for i := range walks {
					bar := walks[i].next(random, minute)
					bar.Symbol, bar.TS = Symbol(i), open.Add(time.Duration(minute)*time.Minute)
					if !yield(bar) {
						return
					}
				}
			}
		}
	}
}

// walk is the state of one symbol.
type walk struct {
	price, volatility, volume float64
}

func (w *walk) next(random *rand.Rand, minute int) mds.Bar {
	activity := 0.6 + 2.2*math.Exp(-float64(minute)/25) + 1.6*math.Exp(-float64(minutesSession-1-minute)/15)
	open := w.price
	high, low, price := open, open, open
	const steps = 4
	for range steps {
		price *= math.Exp(random.NormFloat64() * w.volatility * math.Sqrt(activity/steps))
		high, low = max(high, price), min(low, price)
	}
	w.price = price
	volume := math.Round(w.volume * activity * math.Exp(random.NormFloat64()*0.5))
	return mds.Bar{
		Vendor:     Vendor,
		Timeframe:  mds.Minute,
		Open:       mds.Some(cents(open)),
		High:       mds.Some(cents(high)),
		Low:        mds.Some(cents(low)),
		Close:      cents(price),
		Volume:     mds.Some(volume),
		VWAP:       mds.Some(cents((high + low + price) / 3)),
		TradeCount: mds.Some(int64(volume/80) + 1),
	}
}

func cents(v float64) float64 { return math.Round(v*100) / 100 }
