package duckdb

import (
	"context"
	"errors"
	"slices"
	"sync"
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
	// plain facts are written from where they are, and read whole; see [mds.Schema.Plain].
	plain         bool
	sql           statements
	identityCells []cell[R]
	factCells     []cell[R]
	setIdentity   []setter[R]
	setFact       []setter[R] // what a page has of a fact beside its ids and time
	setValues     []setter[R]
	instant       func(*R) *time.Time // the time column; nil for dates
	texts         sync.Map            // writeTexts by the mask of their cells; see given
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
	t.setIdentity, t.setValues = settersOf(t.identity), settersOf(t.values)
	t.setFact = settersOf(t.keys)
	t.instant = t.schema.TimeColumn().Time
	t.plain = t.schema.Plain()
	if t.plain {
		t.setFact = t.setValues // plain facts have no keys of their own
	}
	return t
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
	deleted, err := t.deleteWithin(ctx, f, sel, true)
	if err != nil {
		f.noteWrite(err)
		return 0, wrap(ctx, op, err)
	}
	f.checkpoint(ctx)
	return deleted, nil
}

// deleteWithin removes what a selection picks, and may note that rollups are to be made
// anew. The caller holds the writer's token.
func (t *Table[R]) deleteWithin(ctx context.Context, f *file, sel mds.Selection, note bool) (deleted int64, err error) {
	s, err := t.selectSeries(ctx, f.writerReads(), sel)
	if err != nil {
		return 0, err
	}
	err = f.inTransaction(ctx, false, func() error {
		if note {
			if err := t.touchGone(ctx, f, s.where, s.args); err != nil {
				return err
			}
		}
		result, err := f.conn.ExecContext(ctx, "DELETE FROM "+t.sql.facts+" WHERE "+s.where, s.args...)
		if err != nil {
			return err
		}
		deleted, err = result.RowsAffected()
		return err
	})
	if known := f.series[t.sql.kind]; known != nil && (deleted > 0 || err != nil) {
		known.marks = nil
	}
	if deleted > 0 || err != nil {
		latestOf[R](f, t.sql.kind).forget()
	}
	return deleted, err
}
