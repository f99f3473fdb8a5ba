package ingest

import (
	"context"
	"errors"

	"github.com/marketdatastore/mds"
)

// Isolation is how far [Isolate] came.
type Isolation struct {
	// Receipt is what became of the records that were stored.
	Receipt mds.Receipt
	// Done is how many records, from the first, are settled: stored, or refused.
	Done int
	// Refused are those of them that no write takes, in order.
	Refused []Refusal
}

// Refusal is a record that is refused for good.
type Refusal struct {
	// Index counts from 0 within the records.
	Index int
	// Writes is how many writes had the record in them.
	Writes int
	Err    error
	// Kept says that the store keeps the record itself; see [mds.RefusedRecord].
	Kept bool
}

// Isolate writes records in order, and where they are refused for good in halves, down to
// the records that are guilty: these are named, all others are stored. Nothing is written again
// where the error names them itself (see [mds.RefusedError]). A batch is refused as a whole for a tenant that the store does not hold.
//
// The error is one that is no fault of the records: the store is not well (see
// [mds.Unavailable]), or the same write may succeed later ([mds.Retryable]), or a
// context ended. What is done by then is told; the rest may be written again.
func Isolate[R mds.Record[R]](ctx context.Context, records []R, write func(context.Context, []R) (mds.Receipt, error)) (Isolation, error) {
	i := isolation[R]{write: write, records: records}
	err := i.part(ctx, 0, len(records), 1)
	return i.Isolation, err
}

type isolation[R mds.Record[R]] struct {
	Isolation
	write   func(context.Context, []R) (mds.Receipt, error)
	records []R
}

// part writes records[from:to], after all before it are done, as the n-th write that has
// them.
func (i *isolation[R]) part(ctx context.Context, from, to, n int) error {
	if from == to {
		return nil
	}
	receipt, err := i.write(ctx, i.records[from:to])
	if err == nil {
		i.Receipt = i.Receipt.Add(receipt)
		i.Done = to
		return nil
	}
	if faultOf(err) != refused {
		return err
	}
	if i.told(receipt, err, from, to, n) {
		return nil
	}
	var record *mds.RecordError
	named := errors.As(err, &record) && record.Index >= 0 && record.Index < to-from
	if to-from == 1 || errors.Is(err, mds.ErrUnknownTenant) {
		if named {
			err = record.Err
		}
		for at := from; at < to; at++ {
			i.refuse(at, n, err, false)
		}
		return nil
	}
	var invalid *mds.InvalidError
	if named && errors.As(record.Err, &invalid) {
		return i.valid(ctx, from, to, n)
	}
	if !named {
		return i.halves(ctx, from, to, n)
	}
	guilty := from + record.Index
	if err := i.part(ctx, from, guilty, n+1); err != nil {
		return err
	}
	i.refuse(guilty, n, record.Err, false)
	return i.halves(ctx, guilty+1, to, n)
}

// halves writes records[from:to] in two parts: of many that are guilty, each would
// otherwise have all after it sent again.
func (i *isolation[R]) halves(ctx context.Context, from, to, n int) error {
	middle := from + (to-from)/2
	if err := i.part(ctx, from, middle, n+1); err != nil {
		return err
	}
	return i.part(ctx, middle, to, n+1)
}

// told settles records[from:to] where the error names all among them that are refused.
func (i *isolation[R]) told(receipt mds.Receipt, err error, from, to, n int) bool {
	named := refusedOf(err, to-from)
	if len(named) == 0 {
		return false
	}
	for _, r := range named {
		i.refuse(from+r.Index, n, r.Err, r.Kept)
	}
	i.Receipt = i.Receipt.Add(counted(receipt, to-from-len(named)))
	i.Done = to
	return true
}

// refusedOf returns the records that an error names as all that are refused of a batch of n;
// none where it does not.
func refusedOf(err error, n int) []mds.RefusedRecord {
	var named *mds.RefusedError
	if !errors.As(err, &named) {
		return nil
	}
	before := -1
	for _, r := range named.Records {
		if r.Index <= before || r.Index >= n {
			return nil
		}
		before = r.Index
	}
	return named.Records
}

// counted is the receipt of n records: a writer that does not count has written all.
func counted(receipt mds.Receipt, n int) mds.Receipt {
	if receipt.Written+receipt.Unchanged+receipt.Superseded == int64(n) {
		return receipt
	}
	return mds.Receipt{Written: int64(n), Modes: receipt.Modes}
}

func (i *isolation[R]) refuse(at, n int, err error, kept bool) {
	i.Refused = append(i.Refused, Refusal{Index: at, Writes: n, Err: err, Kept: kept})
	i.Done = at + 1
}

// valid writes the valid ones among records[from:to], where some are not: they are found
// by looking at each, not by a write for each.
func (i *isolation[R]) valid(ctx context.Context, from, to, n int) error {
	schema := mds.SchemaOf[R]()
	var good []R
	var index []int
	var bad []Refusal
	for at := from; at < to; at++ {
		if err := schema.Validate(&i.records[at]); err != nil {
			bad = append(bad, Refusal{Index: at, Writes: n, Err: err})
			continue
		}
		good, index = append(good, i.records[at]), append(index, at)
	}
	if len(bad) == 0 { // the writer knows better
		return i.halves(ctx, from, to, n)
	}
	rest, err := Isolate(ctx, good, i.write)
	i.Receipt = i.Receipt.Add(rest.Receipt)
	if err == nil {
		i.Done = to
	} else if rest.Done > 0 {
		i.Done = index[rest.Done-1] + 1
	}
	i.merge(bad, rest.Refused, index, n)
	return err
}

// merge adds refusals in order, of those that are done.
func (i *isolation[R]) merge(bad, more []Refusal, index []int, n int) {
	for len(bad) > 0 || len(more) > 0 {
		var next Refusal
		if len(more) == 0 || len(bad) > 0 && bad[0].Index < index[more[0].Index] {
			next, bad = bad[0], bad[1:]
		} else {
			next, more = more[0], more[1:]
			next.Index, next.Writes = index[next.Index], n+next.Writes
		}
		if next.Index < i.Done {
			i.Refused = append(i.Refused, next)
		}
	}
}
