package postgres

import (
	"cmp"
	"slices"
	"strings"
)

// row is a record of a batch: what it is sorted by.
type row struct {
	series int64
	micros int64
	record int32
	table  int32 // of the kind's
}

// arranger sorts the rows of a batch and keeps the last of each key. Its memory is used
// again.
type arranger struct {
	rows, spare []row // rows[i] is that of record i, until they are sorted
	keys        []string
	key         []byte
	entries     []*seriesEntry // by record
	late        []bool         // by table: it may hold a key of the batch already
	copied      []byte         // what is being copied
}

// begin makes room for a batch.
func (a *arranger) begin(records int, keyed bool, tables int) {
	a.rows = slices.Grow(a.rows[:0], records)[:records]
	a.spare = slices.Grow(a.spare[:0], records)[:records]
	a.entries = slices.Grow(a.entries[:0], records)[:records]
	a.keys = a.keys[:0]
	if keyed {
		a.keys = slices.Grow(a.keys, records)[:records]
	}
	a.late = slices.Grow(a.late[:0], tables)[:tables]
	clear(a.late)
}

// end forgets what a batch refers to.
func (a *arranger) end() {
	clear(a.entries)
	clear(a.keys)
}

// arrange sorts the rows by table, series and key, of those without by time, and
// returns the last of each.
//
// Ids are small integers that lie near each other, so that the rows are dealt out by
// their digits; those of one series come in order of time, most often, and stay so.
func (a *arranger) arrange(timeIsValue bool) []row {
	a.deal()
	order := func(x, y row) int { return cmp.Compare(x.micros, y.micros) }
	if len(a.keys) > 0 {
		order = func(x, y row) int {
			by := strings.Compare(a.keys[x.record], a.keys[y.record])
			if by != 0 || timeIsValue {
				return by
			}
			return cmp.Compare(x.micros, y.micros)
		}
	}
	kept := a.rows[:0]
	tables := false
	for start := 0; start < len(a.rows); {
		end := start + 1
		for end < len(a.rows) && a.rows[end].series == a.rows[start].series {
			end++
		}
		of := a.rows[start:end]
		if !slices.IsSortedFunc(of, order) {
			slices.SortStableFunc(of, order)
		}
		for i := range of {
			if i+1 == len(of) || order(of[i], of[i+1]) != 0 {
				kept = append(kept, of[i])
			}
		}
		tables = tables || of[0].table != a.rows[0].table
		start = end
	}
	if tables {
		slices.SortStableFunc(kept, func(x, y row) int { return cmp.Compare(x.table, y.table) })
	}
	return kept
}

// deal sorts the rows by series and leaves those of one in their order: a radix sort,
// least digits first.
func (a *arranger) deal() {
	const bits, few = 11, 128
	if len(a.rows) < few {
		slices.SortStableFunc(a.rows, func(x, y row) int { return cmp.Compare(x.series, y.series) })
		return
	}
	least, most := a.rows[0].series, a.rows[0].series
	for i := range a.rows {
		least, most = min(least, a.rows[i].series), max(most, a.rows[i].series)
	}
	for shift := 0; uint64(most-least)>>shift > 0; shift += bits {
		var at [1<<bits + 1]int32
		digit := func(r *row) uint64 { return uint64(r.series-least) >> shift & (1<<bits - 1) }
		for i := range a.rows {
			at[digit(&a.rows[i])+1]++
		}
		for i := 1; i < len(at); i++ {
			at[i] += at[i-1]
		}
		for i := range a.rows {
			to := &at[digit(&a.rows[i])]
			a.spare[*to] = a.rows[i]
			*to++
		}
		a.rows, a.spare = a.spare, a.rows
	}
}

// byTable yields the rows of each table.
func byTable(rows []row) func(func(int32, []row) bool) {
	return func(yield func(int32, []row) bool) {
		for len(rows) > 0 {
			n := 1
			for n < len(rows) && rows[n].table == rows[0].table {
				n++
			}
			if !yield(rows[0].table, rows[:n]) {
				return
			}
			rows = rows[n:]
		}
	}
}
