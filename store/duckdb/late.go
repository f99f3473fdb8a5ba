package duckdb

import (
	"context"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// WriteLate upserts records that come late, as they were submitted at a time: it is
// [Table.WriteBatch], but a stored row that changed at that time or after it, by this
// machine's clock, stays. Its record counts as superseded, or as unchanged where the two
// are equal. It is written in its turn, and never together with other batches.
func (t *Table[R]) WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error) {
	micros := batches.As(as)
	return t.send(ctx, tenant, records, &micros)
}

// mergeLate merges rows of late records. Those that were not written equal what is
// stored, or else what is stored is newer.
func (t *Table[R]) mergeLate(ctx context.Context, f *file, w *batchWrite[R], rows []batchRow, receipt *mds.Receipt) error {
	if len(rows) == 0 {
		return nil
	}
	n, err := t.exec(ctx, f, w.texts.late, newBatch(w.cells, w.records, rows), w.now, *w.as)
	if err != nil {
		return err
	}
	receipt.Written += n
	if n == int64(len(rows)) {
		return nil
	}
	var equal int64 // with those that were written
	b := newBatch(w.cells, w.records, rows)
	if err := f.writerReads().one(context.WithValue(ctx, batchKey{}, b), w.texts.equal, []any{w.now}, &equal); err != nil {
		return err
	}
	receipt.Unchanged += equal - n
	receipt.Superseded += int64(len(rows)) - equal
	return nil
}
