// Package bench measures the store and the codecs. Both sides of every ratio get the
// same records, made beforehand, in turns within one run.
package bench

import (
	"cmp"
	"slices"
	"time"
)

// Row is one figure.
type Row struct {
	Name string `json:"name"`
	// Stored is how many rows the table held at first.
	Stored int64 `json:"stored"`
	// Batch is the number of rows in one transaction, 0 for what has none.
	Batch int `json:"batch"`
	// RowsPerS is the median over the rounds, 0 where rows do not say anything.
	RowsPerS float64 `json:"rows_per_s"`
	// Ratio is the median of the rounds' ratios to the figure named by Of, 0 where
	// there is none.
	Ratio float64 `json:"ratio"`
	Of    string  `json:"of,omitempty"`
	// Low and High are the smallest and largest of the rounds' ratios, or of their
	// rates where there is no ratio.
	Low  float64 `json:"low"`
	High float64 `json:"high"`
	// Millis is the median time of one operation, 0 where rates say it better.
	Millis float64 `json:"ms,omitempty"`
	// Allocations are those of the heap a row, 0 where they are not counted.
	Allocations float64 `json:"allocations,omitempty"`
	// Bytes is a size: of the process, or of one row on the disk.
	Bytes float64 `json:"bytes,omitempty"`
}

// Report is what a run found.
type Report struct {
	Rows []Row `json:"rows"`
}

// timing is one measurement of a name within a round.
type timing struct {
	name    string
	of      string // the name it is compared with
	rows    int
	elapsed time.Duration
}

func (t *timing) rate() float64 { return float64(t.rows) / t.elapsed.Seconds() }

// summarize makes a row of each name of the rounds.
func summarize(batch int, rounds [][]timing) []Row {
	var rows []Row
	for _, first := range rounds[0] {
		row := Row{Name: first.name, Batch: batch, Of: first.of}
		var rates, ratios []float64
		for _, round := range rounds {
			mine := find(round, first.name)
			rates = append(rates, mine.rate())
			if first.of != "" {
				ratios = append(ratios, mine.rate()/find(round, first.of).rate())
			}
		}
		row.RowsPerS = median(rates)
		if ratios == nil {
			row.Low, row.High = slices.Min(rates), slices.Max(rates)
		} else {
			row.Ratio, row.Low, row.High = median(ratios), slices.Min(ratios), slices.Max(ratios)
		}
		rows = append(rows, row)
	}
	return rows
}

func find(round []timing, name string) *timing {
	at := slices.IndexFunc(round, func(t timing) bool { return t.name == name })
	return &round[at]
}

func median[T cmp.Ordered](values []T) T {
	values = slices.Clone(values)
	slices.Sort(values)
	return values[len(values)/2]
}

// timed runs fn and returns how long it took.
func timed(fn func() error) (time.Duration, error) {
	start := time.Now()
	err := fn()
	return time.Since(start), err
}
