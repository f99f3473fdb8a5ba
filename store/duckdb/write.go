package duckdb

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// WriteBatch upserts records in one transaction, all or none: when it returns
// without an error they are on the disk. Of records with one key the last
// wins. A record that differs from the stored row replaces it whole, also
// where it has no value; an equal one changes nothing.
//
// Batches of one kind that wait for their turn together are written together, in
// the order in which they came; of records with one key in several of them the
// last is written, and the others are superseded. A batch whose context ends while
// it is being written is written, and says so.
//
// It refuses the batch with an [*mds.RecordError] that wraps an
// [*mds.InvalidError] for a record that does not validate, with an error
// wrapping [mds.ErrUnknownTenant] for a tenant that the store does not hold.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	return t.send(ctx, tenant, records, nil)
}

// send has a batch written in its turn; as is that of late ones, see [pending].
func (t *Table[R]) send(ctx context.Context, tenant mds.Tenant, records []R, as *int64) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	if len(records) > math.MaxInt32/2 {
		return mds.Receipt{}, fmt.Errorf("a batch of %d records is too large", len(records))
	}
	if err := batches.Validate(&t.schema, records); err != nil {
		return mds.Receipt{}, err
	}
	if t.store.cfg.ReadOnly {
		return mds.Receipt{}, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return mds.Receipt{}, err
	}
	if !t.plain {
		records = slices.Clone(records)
		for i := range records {
			t.schema.Normalize(&records[i])
		}
	}
	w := &pending[R]{ctx: ctx, records: records, as: as, bytes: t.bytes(records), done: make(chan struct{})}
	op := "write " + t.sql.kind
	queue := queueOf[R](f, t.sql.kind)
	queue.push(w)
	if err := f.lockWriterUnless(ctx, w.done); err != nil {
		if queue.remove(w) {
			return mds.Receipt{}, wrap(ctx, op, err)
		}
		<-w.done // another one is writing it, and knows how it ends
		return w.receipt, wrap(ctx, op, w.err)
	}
	t.takeTurn(f, queue, w)
	return w.receipt, wrap(ctx, op, w.err)
}

// write writes batches in one transaction. Rows that lie outside of what a series
// has are appended, the others merged: that the table does not hold a key need not
// be looked up where the marks tell it.
func (t *Table[R]) write(ctx context.Context, f *file, batches []*pending[R]) ([]mds.Receipt, error) {
	start := time.Now()
	if err := f.repair(ctx); err != nil {
		return nil, err
	}
	if err := t.register(f); err != nil {
		return nil, err
	}
	known, err := t.loadSeries(ctx, f)
	if err != nil {
		return nil, err
	}
	records := batches[0].records
	if len(batches) > 1 {
		records = nil
		for _, w := range batches {
			records = append(records, w.records...)
		}
	}
	added := t.resolve(known, records)
	rows := known.arranger.arrange()
	cells, mask := given(t.factCells, records)
	w := &batchWrite[R]{records: records, as: batches[0].as, cells: cells, texts: t.writeTexts(cells, mask)}
	receipts := make([]mds.Receipt, len(batches))
	of := owners(batches)
	for i, w := range batches {
		receipts[i].Superseded = int64(len(w.records))
	}
	appended, merged := known.split(rows, t.fresh(known), len(batches), of)
	for i := range appended {
		r := &receipts[of(&appended[i])]
		r.Written++
		r.Superseded--
		r.Modes |= mds.WroteInsert
	}
	for i := range merged {
		if len(merged[i]) > 0 {
			receipts[i].Modes |= mds.WroteMerge
		}
	}
	large := len(rows) >= rowGroup/2 || !known.stored
	if !t.plain && t.bytes(records) > int(f.memory/8) {
		defer f.lend(ctx)() // a commit, too, holds the texts of 2,048 rows at once
	}
	err = f.inTransaction(ctx, large, func() error {
		if err := t.insertSeries(ctx, f, added, known.next-1); err != nil {
			return err
		}
		w.now = time.Now().UnixMicro()
		if err := t.insert(ctx, f, w, appended); err != nil {
			return err
		}
		if err := t.merge(ctx, f, w, merged, receipts, of); err != nil {
			return err
		}
		if !slices.ContainsFunc(receipts, func(r mds.Receipt) bool { return r.Written > 0 }) {
			return nil
		}
		return t.touch(ctx, f, records, rows)
	})
	if err != nil {
		return nil, err
	}
	known.note(rows)
	f.texts = f.texts || !t.plain
	if t.plain && t.store.cfg.Compaction == CompactAuto {
		f.upkeep.wrote(f, t.sql.kind, t.store.layout, len(appended), time.Since(start), func(ctx context.Context, turn turn, done *mds.Compaction) error {
			return t.compact(ctx, f, turn, done)
		})
	}
	if t.plain {
		if l := latestOf[R](f, t.sql.kind); w.as != nil && receipts[0].Superseded > int64(len(records)-len(rows)) {
			l.forget() // some of the rows are not what is stored
		} else {
			t.noteLatest(l, records, rows)
		}
	}
	return receipts, nil
}

// batchWrite is what statements over a batch go by.
type batchWrite[R any] struct {
	records []R
	as      *int64 // see pending
	cells   []cell[R]
	texts   writeTexts
	now     int64 // updated_at
}

// insert appends rows of which none is stored.
func (t *Table[R]) insert(ctx context.Context, f *file, w *batchWrite[R], rows []batchRow) error {
	for part := range t.parts(w.records, rows) {
		n, err := t.exec(ctx, f, w.texts.insert, newBatch(w.cells, w.records, part), w.now)
		if err == nil && n != int64(len(part)) {
			err = fmt.Errorf("%d of %d rows were appended", n, len(part))
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// merge writes rows of which some may be stored, which are kept apart by their batches,
// and notes in the receipts what became of them.
func (t *Table[R]) merge(ctx context.Context, f *file, w *batchWrite[R], merged [][]batchRow, receipts []mds.Receipt, of func(*batchRow) int) error {
	for i, rows := range merged {
		receipts[i].Superseded -= int64(len(rows))
	}
	if !t.plain {
		rows := slices.Concat(merged...)
		unchanged, newer, err := t.upsertTexts(ctx, f, w, rows)
		for i := range merged {
			receipts[i].Written += int64(len(merged[i]))
		}
		for i := range unchanged {
			receipts[of(&unchanged[i])].Written--
			receipts[of(&unchanged[i])].Unchanged++
		}
		for i := range newer {
			receipts[of(&newer[i])].Written--
			receipts[of(&newer[i])].Superseded++
		}
		return err
	}
	if w.as != nil {
		return t.mergeLate(ctx, f, w, merged[0], &receipts[0])
	}
	done, err := t.unchanged(ctx, f, w, merged)
	if err != nil {
		return err
	}
	for i, rows := range merged {
		var n int64
		if !done && len(rows) > 0 {
			if n, err = t.exec(ctx, f, w.texts.merge, newBatch(w.cells, w.records, rows), w.now); err != nil {
				return err
			}
		}
		receipts[i].Written += n
		receipts[i].Unchanged += int64(len(rows)) - n
	}
	return nil
}

// unchanged reports that all rows of several batches are stored as they are, as those
// are that are sent again: one look at them together spares a merge of each. For one
// batch the merge is that look.
func (t *Table[R]) unchanged(ctx context.Context, f *file, w *batchWrite[R], merged [][]batchRow) (bool, error) {
	var rows []batchRow
	batches := 0
	for _, m := range merged {
		rows = append(rows, m...)
		if len(m) > 0 {
			batches++
		}
	}
	if batches < 2 {
		return false, nil
	}
	var equal int64
	b := newBatch(w.cells, w.records, rows)
	err := f.writerReads().one(context.WithValue(ctx, batchKey{}, b), w.texts.equal, []any{w.now}, &equal)
	return equal == int64(len(rows)), err
}

// register makes the kind's batch function known to the instance.
func (t *Table[R]) register(f *file) error {
	if f.functions[t.sql.function] {
		return nil
	}
	err := registerBatch(f.conn, t.sql.function)
	f.functions[t.sql.function] = err == nil
	return err
}

// fresh tells rows whose keys the table cannot hold yet.
func (t *Table[R]) fresh(known *seriesIDs) func(*batchRow) bool {
	if t.store.cfg.WriteMode == WriteMerge {
		return func(*batchRow) bool { return false }
	}
	return func(row *batchRow) bool { return known.fresh(row, t.schema.TimeIsValue) }
}

// exec runs a statement over a batch.
func (t *Table[R]) exec(ctx context.Context, f *file, text string, b *batch[R], args ...any) (int64, error) {
	result, err := f.conn.ExecContext(context.WithValue(ctx, batchKey{}, b), text, args...)
	if err != nil {
		return 0, err
	}
	return result.RowsAffected()
}

// writeTexts returns the statements for batches of some cells.
func (t *Table[R]) writeTexts(cells []cell[R], mask uint64) writeTexts {
	if texts, ok := t.texts.Load(mask); ok {
		return texts.(writeTexts)
	}
	texts := newWriteTexts(&t.sql, &t.schema, cells)
	t.texts.Store(mask, texts)
	return texts
}

// owners tells the batch that a row is of.
func owners[R any](batches []*pending[R]) func(*batchRow) int {
	if len(batches) == 1 {
		return func(*batchRow) int { return 0 }
	}
	ends := make([]int32, len(batches))
	end := int32(0)
	for i, w := range batches {
		end += int32(len(w.records)) // take bounds their sum
		ends[i] = end
	}
	return func(r *batchRow) int {
		at, found := slices.BinarySearch(ends, r.record)
		if found { // ends are the first indices after
			at++
		}
		return at
	}
}

// split tells rows to be appended from those to be merged, which are kept apart by
// their owners.
func (k *seriesIDs) split(rows []batchRow, fresh func(*batchRow) bool, n int, of func(*batchRow) int) (appended []batchRow, merged [][]batchRow) {
	merged = make([][]batchRow, n)
	a := &k.arranger
	a.appended, a.merged = a.appended[:0], a.merged[:0]
	for i := range rows {
		switch {
		case fresh(&rows[i]):
			a.appended = append(a.appended, rows[i])
		case n == 1:
			a.merged = append(a.merged, rows[i])
		default:
			owner := of(&rows[i])
			merged[owner] = append(merged[owner], rows[i])
		}
	}
	if n == 1 {
		merged[0] = a.merged
	}
	return a.appended, merged
}
