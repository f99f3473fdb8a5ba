package duckdb

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
)

// Table is one kind of record in a store. It is safe for concurrent use;
// writes of one tenant are done one after the other.
type Table[R mds.Record[R]] struct {
	store    *Store
	schema   mds.Schema[R]
	identity []*mds.Column[R]
	keys     []*mds.Column[R] // the revision last
	values   []*mds.Column[R]
	// plain facts are written from where they are, and read whole; see plain.
	plain         bool
	sql           statements
	identityCells []cell[R]
	factCells     []cell[R]
}

// NewTable returns the table of kind R.
func NewTable[R mds.Record[R]](s *Store) *Table[R] {
	schema := mds.SchemaOf[R]()
	t := &Table[R]{store: s, schema: schema, sql: newStatements(schema)}
	t.identity = t.schema.ByRole(mds.Identity)
	t.keys = slices.Concat(t.schema.ByRole(mds.Key), t.schema.ByRole(mds.Revision))
	t.values = t.schema.ByRole(mds.Value)
	t.identityCells = cellsOf(t.identity)
	t.factCells = cellsOf(t.schema.ByRole(mds.Key, mds.Revision, mds.Time, mds.Value))
	t.plain = plain(&t.schema)
	return t
}

// WriteBatch upserts records in one transaction, all or none: when it returns
// without an error they are on the disk. Of records with one key the last
// wins. A record that differs from the stored row replaces it whole, also
// where it has no value; an equal one changes nothing.
//
// It refuses the batch with an [*mds.RecordError] that wraps an
// [*mds.InvalidError] for a record that does not validate, with an error
// wrapping [mds.ErrUnknownTenant] for a tenant that the store does not hold.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	if len(records) > math.MaxInt32 {
		return mds.Receipt{}, fmt.Errorf("a batch of %d records is too large", len(records))
	}
	for i := range records {
		if err := t.schema.Validate(&records[i]); err != nil {
			return mds.Receipt{}, &mds.RecordError{Index: i, Err: err}
		}
	}
	if t.store.cfg.ReadOnly {
		return mds.Receipt{}, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return mds.Receipt{}, err
	}
	op := "write " + t.sql.kind
	if err := f.lockWriter(ctx); err != nil {
		return mds.Receipt{}, wrap(ctx, op, err)
	}
	defer f.unlockWriter()
	receipt, err := t.write(ctx, f, records)
	if err != nil {
		// Whether new series were stored is not known: read them again.
		delete(f.series, t.sql.kind)
		f.noteWrite(err)
		return mds.Receipt{}, wrap(ctx, op, err)
	}
	return receipt, nil
}

func (t *Table[R]) write(ctx context.Context, f *file, records []R) (mds.Receipt, error) {
	if !f.functions[t.sql.function] {
		if err := registerBatch(f.conn, t.sql.function); err != nil {
			return mds.Receipt{}, err
		}
		f.functions[t.sql.function] = true
	}
	known, err := t.loadSeries(ctx, f)
	if err != nil {
		return mds.Receipt{}, err
	}
	if !t.plain {
		records = slices.Clone(records)
		for i := range records {
			t.schema.Normalize(&records[i])
		}
	}
	rows, keys, added := t.resolve(known, records)
	b := &batch[R]{
		cells:       t.factCells,
		timeIsValue: t.schema.TimeIsValue,
		records:     records,
		keys:        keys,
		rows:        rows,
	}
	b.dedupe()

	var written int64
	err = inTransaction(ctx, f.conn, func() error {
		if err := t.insertSeries(ctx, f.conn, added, known.next-1); err != nil {
			return err
		}
		result, err := f.conn.ExecContext(context.WithValue(ctx, batchKey{}, b), t.sql.merge, time.Now().UnixMicro())
		if err != nil {
			return err
		}
		written, err = result.RowsAffected()
		return err
	})
	if err != nil {
		return mds.Receipt{}, err
	}
	kept := int64(len(b.rows))
	return mds.Receipt{
		Written:    written,
		Unchanged:  kept - written,
		Superseded: int64(len(records)) - kept,
	}, nil
}

// Delete removes what the selection picks and returns the number of records.
// The zero selection removes all of the kind.
func (t *Table[R]) Delete(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error) {
	if t.store.cfg.ReadOnly {
		return 0, errReadOnly
	}
	f, err := t.store.file(ctx, tenant)
	if err != nil {
		return 0, err
	}
	op := "delete " + t.sql.kind
	if err := f.lockWriter(ctx); err != nil {
		return 0, wrap(ctx, op, err)
	}
	defer f.unlockWriter()
	if !sel.KnownAt.IsZero() {
		return 0, &Error{Op: op, Err: errors.New("what was known at a time is joined from several records; pick these by their own columns")}
	}
	s, err := t.selectSeries(ctx, f.conn, sel)
	if err != nil {
		return 0, wrap(ctx, op, err)
	}
	var deleted int64
	err = inTransaction(ctx, f.conn, func() error {
		result, err := f.conn.ExecContext(ctx, "DELETE FROM "+t.sql.facts+" WHERE "+s.where, s.args...)
		if err != nil {
			return err
		}
		deleted, err = result.RowsAffected()
		return err
	})
	if err != nil {
		f.noteWrite(err)
		return 0, wrap(ctx, op, err)
	}
	return deleted, nil
}
