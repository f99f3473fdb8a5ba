package duckdb

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Limit measures what the database takes at most. It appends records in batches,
// which are resolved and sorted beforehand, to an empty table of its own, each in a
// transaction, without looking for what is there already, and drops the table. It
// returns the time that the appending took. The tenant's own tables are not touched.
func (t *Table[R]) Limit(ctx context.Context, tenant mds.Tenant, records []R, size int) (elapsed time.Duration, err error) {
	if t.store.cfg.ReadOnly {
		return 0, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return 0, err
	}
	err = f.taking(ctx, func() (err error) {
		elapsed, err = t.limit(ctx, f, records, size)
		f.noteWrite(err)
		return err
	})
	return elapsed, wrap(ctx, "limit", err)
}

func (t *Table[R]) limit(ctx context.Context, f *file, records []R, size int) (elapsed time.Duration, err error) {
	if err := t.register(f); err != nil {
		return 0, err
	}
	// One that was killed left its table.
	if _, err := f.conn.ExecContext(ctx, "CREATE OR REPLACE TABLE mds_limit AS SELECT * FROM "+t.sql.facts+" LIMIT 0"); err != nil {
		return 0, err
	}
	sql := t.sql
	sql.facts = "mds_limit"
	known := &seriesIDs{ids: make(map[string]int64), next: 1}
	type prepared struct {
		*batch[R]
		text string
	}
	var batches []prepared
	for part := range slices.Chunk(records, size) {
		t.resolve(known, part)
		cells, _ := given(t.factCells, part)
		b := newBatch(cells, part, slices.Clone(known.arranger.arrange()))
		batches = append(batches, prepared{b, newWriteTexts(&sql, &t.schema, cells).insert})
	}
	start := time.Now()
	for _, b := range batches {
		err = f.inTransaction(ctx, true, func() error {
			_, err := t.exec(ctx, f, b.text, b.batch, start.UnixMicro())
			return err
		})
		if err != nil {
			break
		}
		if f.checkpoint(ctx); f.conn == nil { // as after every write
			break
		}
	}
	elapsed = time.Since(start)
	if f.conn == nil {
		return elapsed, err // it failed in the middle of it
	}
	_, dropErr := f.conn.ExecContext(context.WithoutCancel(ctx), "DROP TABLE mds_limit")
	return elapsed, errors.Join(err, dropErr)
}
