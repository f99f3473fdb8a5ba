package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

// walk makes a minute of trades of ten symbols, random walks that are the same each time, for
// where there are no recordings. Like those they come in bursts: a symbol trades in each
// eighth second.
func walk() *recording {
	const symbols, seconds, every = 10, 60, 8
	random := rand.New(rand.NewPCG(1, 2)) //nolint:gosec // the same each time
	start := time.Date(2024, 3, 4, 14, 30, 0, 0, time.UTC)
	made := &recording{name: "a generator of random walks"}
	var prices [symbols]float64
	for i := range prices {
		prices[i] = 100 * float64(i+1)
	}
	for second := range seconds {
		at := time.Duration(second) * time.Second
		for i := second % every; i < symbols; i += every {
			for n := range 1 + random.IntN(5) {
				prices[i] *= 1 + random.NormFloat64()/2000
				at := at + time.Duration(n)*200*time.Millisecond
				made.trades = append(made.trades, trade{
					vendor: "walk", symbol: fmt.Sprintf("WALK%d", i), price: prices[i], size: random.ExpFloat64(),
					ts: start.Add(at), at: at,
				})
			}
		}
	}
	made.messages = len(made.trades)
	inOrder(made.trades)
	return made
}
