// Package batches has what every backend does with the records of a batch before it
// writes them.
package batches

import (
	"cmp"
	"encoding/binary"
	"runtime"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
)

// Validate refuses records for the first that is not valid, with an
// [*mds.RecordError]. Large batches are looked at by several threads.
func Validate[R any](schema *mds.Schema[R], records []R) error {
	const least = 16 << 10 // records for a thread
	shares := max(1, min(len(records)/least, runtime.GOMAXPROCS(0)))
	errs := make([]error, shares)
	panics := make([]any, shares) // of a kind's own code: they are the caller's to recover
	check := func(n int) {
		defer func() { panics[n] = recover() }()
		for i := n * len(records) / shares; i < (n+1)*len(records)/shares; i++ {
			if err := schema.Validate(&records[i]); err != nil {
				errs[n] = &mds.RecordError{Index: i, Err: err}
				return
			}
		}
	}
	var wg sync.WaitGroup
	for n := 1; n < shares; n++ {
		wg.Go(func() { check(n) })
	}
	check(0)
	wg.Wait()
	for _, p := range panics {
		if p != nil {
			panic(p)
		}
	}
	return cmp.Or(errs...)
}

// As is the time of late records in microseconds, as those of stored rows are compared
// with it: cut, so that a row that changed in the same one is none that changed before.
func As(as time.Time) int64 { return mds.Bound(as.Truncate(time.Microsecond), false) }

// AppendKey appends columns as they are spelled, so that different values make
// different keys.
func AppendKey[R any](key []byte, columns []*mds.Column[R], record *R) []byte {
	for _, c := range columns {
		switch {
		case c.Text != nil:
			key = append(append(key, *c.Text(record)...), 0) // valid text holds no NUL
		case c.Time != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(c.Time(record).UnixMicro()))
		case c.Date != nil:
			d := *c.Date(record)
			key = binary.BigEndian.AppendUint64(key, uint64(d.Year)<<32|uint64(d.Month)<<16|uint64(d.Day))
		case c.Decimal != nil:
			key = binary.BigEndian.AppendUint64(key, uint64(*c.Decimal(record)))
		}
	}
	return key
}

// Same reports whether columns of two records are spelled alike.
func Same[R any](columns []*mds.Column[R], a, b *R) bool {
	for _, c := range columns {
		if c.Text != nil && *c.Text(a) != *c.Text(b) || c.Text == nil && c.Compare(a, b) != 0 {
			return false
		}
	}
	return true
}
