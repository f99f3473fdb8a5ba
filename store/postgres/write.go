package postgres

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// WriteBatch upserts records in one transaction, all or none: when it returns without an
// error they are committed. Of records with one key the last wins. A record that differs
// from the stored row replaces it whole; an equal one changes nothing. A batch that met
// another writer at the same rows is written again, a few times.
//
// It refuses the batch with an [*mds.RecordError] that wraps an [*mds.InvalidError] for a
// record that does not validate, with an error wrapping [mds.ErrUnknownTenant] for a
// tenant that the store does not hold.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	return t.send(ctx, tenant, records, nil)
}

// send writes a batch, a few times where it meets others; as is that of late records, see
// [batchWrite].
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
	leave, err := t.store.enter(true)
	if err != nil {
		return mds.Receipt{}, err
	}
	defer leave()
	if !t.schema.Plain() { // of others only the identity is normalised, as it is looked up
		records = slices.Clone(records)
		for i := range records {
			t.schema.Normalize(&records[i])
		}
	}
	var receipt mds.Receipt
	err = retrying(ctx, func(attempt int) (err error) {
		receipt, err = t.write(ctx, tenant, records, as, attempt)
		err = wrap(ctx, "write "+t.schema.Kind, err)
		var e *Error
		if t.store.cfg.WriteMode == WriteCopy && errors.As(err, &e) && e.Code == "23505" { // the row stays there
			e.Class, e.Hint = Constraint, "a row is there already: use the write mode auto"
		}
		return err
	})
	return receipt, err
}

// batchWrite is a batch within its transaction.
type batchWrite[R any] struct {
	*work
	*arranger
	records []R
	as      *int64 // of late records, when they were submitted, in microseconds; nil of others
	attempt int    // those before met another writer
	newer   int64  // rows in whose place newer ones stay
}

// contended reports that a merge met others at the same keys, and may for ever: it fails
// where another one inserts a key that it did not see. An upsert does not, but locks
// rows that stay as they are, too.
func (b *batchWrite[R]) contended() bool { return b.attempt > mergeAttempts }

// mergeAttempts is how often a batch is merged before it is upserted; tests change it.
var mergeAttempts = 2

// write writes a batch in one transaction.
func (t *Table[R]) write(ctx context.Context, tenant mds.Tenant, records []R, as *int64, attempt int) (receipt mds.Receipt, err error) {
	err = t.store.inTransaction(ctx, tenant, t.access, func(w *work) error {
		receipt, err = t.writeWithin(ctx, w, records, as, attempt)
		return err
	})
	if err != nil {
		return mds.Receipt{}, err
	}
	return receipt, nil
}

// writeWithin writes a batch in a transaction that was begun as the table's access says.
func (t *Table[R]) writeWithin(ctx context.Context, w *work, records []R, as *int64, attempt int) (receipt mds.Receipt, err error) {
	a := t.arrangers.take()
	defer t.arrangers.give(a)
	a.begin(len(records), len(t.keys) > 0, len(t.tables))
	if err := t.resolve(ctx, w, a, records); err != nil {
		return receipt, err
	}
	rows := a.arrange(t.schema.TimeIsValue)
	receipt = mds.Receipt{Superseded: int64(len(records) - len(rows))}
	b := &batchWrite[R]{work: w, arranger: a, records: records, as: as, attempt: attempt}
	for table, part := range byTable(rows) { // in one order, so that two writers do not wait for each other
		mode, written, err := t.writeRows(ctx, b, int(table), part)
		if err != nil {
			return receipt, err
		}
		if written > 0 {
			w.touch(&t.tables[table], part)
		}
		t.replayed[table].Store(mode == mds.WroteMerge && written < int64(len(part))/2)
		receipt.Modes |= mode
		receipt.Written += written
		receipt.Unchanged += int64(len(part)) - written
		b.noteLast(part, mode == mds.WroteCopy || mode == mds.WroteUnnest && attempt == 1 && written == int64(len(part)))
	}
	receipt.Unchanged -= b.newer
	receipt.Superseded += b.newer
	return receipt, nil
}

// noteLast notes, for when the batch is committed, up to where the series go now: where
// rows were there already that is not known.
func (b *batchWrite[R]) noteLast(rows []row, newest bool) {
	for i := range rows {
		if i+1 < len(rows) && rows[i+1].series == rows[i].series {
			continue
		}
		if e := b.entries[rows[i].record]; newest {
			e.noteCopied(rows[i].micros)
		} else {
			e.last.Store(unknown)
		}
	}
}

// fewRows is up to where a batch goes as arguments of a statement: that takes fewer trips
// than staging it, and more time a row.
const fewRows = 500

// writeRows writes the rows of one table, and returns how, and how many were new or
// another.
func (t *Table[R]) writeRows(ctx context.Context, b *batchWrite[R], table int, rows []row) (mode mds.WriteModes, written int64, err error) {
	facts := &t.tables[table]
	configured := t.store.cfg.WriteMode
	if t.schema.Kind == "rollups" { // which the store writes by itself
		configured = WriteAuto
	}
	switch configured {
	case WriteCopy:
		mode = mds.WroteCopy
	case WriteMerge:
		mode = mds.WroteMerge
	case WriteUnnest:
		mode = mds.WroteUnnest
	default:
		if mode, err = t.choose(ctx, b, table, rows); err != nil {
			return mode, 0, err
		}
	}
	switch mode {
	case mds.WroteCopy:
		return mode, int64(len(rows)), t.copy(ctx, b, facts.copy, rows)
	case mds.WroteUnnest:
		written, err = t.unnest(ctx, b, table, rows)
		return mode, written, err
	}
	if err := t.copy(ctx, b, facts.stage, rows); err != nil {
		return mode, 0, err
	}
	if b.as != nil {
		written, err = t.upsertLate(ctx, b, &facts.late, nil, len(rows))
		return mode, written, err
	}
	text := facts.merge
	if t.upserts(b, table) {
		text = facts.upsert
	}
	merged, err := b.PgConn().Exec(ctx, text).ReadAll()
	if err != nil || len(merged) != 1 {
		return mode, 0, errors.Join(t.noteUnmerged(table, err), ctx.Err())
	}
	return mode, merged[0].CommandTag.RowsAffected(), nil
}

// upserts reports that a batch is upserted into a table, not merged.
func (t *Table[R]) upserts(b *batchWrite[R], table int) bool {
	return b.contended() || t.unmerged[table].Load()
}

// noteUnmerged notes that a table takes no MERGE, as one that TimescaleDB compresses does
// not. The batch is to be written again then.
func (t *Table[R]) noteUnmerged(table int, err error) error {
	var server *pgconn.PgError
	if errors.As(err, &server) && server.Code == "0A000" && strings.Contains(server.Message, "MERGE") {
		t.unmerged[table].Store(true)
		return &Error{Op: "write " + t.schema.Kind, Class: Conflict, Code: server.Code, Err: errors.New("the table takes no MERGE")}
	}
	return err
}

// choose finds the fastest way for rows: they are copied where none of them can be
// there, which is known or else asked for.
func (t *Table[R]) choose(ctx context.Context, b *batchWrite[R], table int, rows []row) (mds.WriteModes, error) {
	few := len(rows) <= fewRows
	if len(t.keys) == 0 && b.attempt == 1 {
		late := b.late[table]
		if late && !few && !t.replayed[table].Load() {
			taken, err := t.probe(ctx, b.work, &t.tables[table], rows)
			if err != nil {
				return 0, err
			}
			late = taken
		}
		if !late {
			return mds.WroteCopy, nil
		}
	}
	if few {
		return mds.WroteUnnest, nil
	}
	return mds.WroteMerge, nil
}

// probe tells whether the table has rows within the spans that the rows of each series
// take.
func (t *Table[R]) probe(ctx context.Context, w *work, table *tables, rows []row) (taken bool, err error) {
	var ids []int64
	var first, last []time.Time
	for i := range rows {
		at := instant(rows[i].micros)
		if n := len(ids); n > 0 && ids[n-1] == rows[i].series {
			last[n-1] = at
			continue
		}
		ids, first, last = append(ids, rows[i].series), append(first, at), append(last, at)
	}
	err = w.QueryRow(ctx, table.probe, ids, first, last).Scan(&taken)
	return taken, err
}

// copy copies rows into a table.
func (t *Table[R]) copy(ctx context.Context, b *batchWrite[R], text string, rows []row) error {
	if b.copied == nil {
		b.copied = make([]byte, 0, 2*copyBytes)
	}
	source := &copySource[R]{table: t, records: b.records, rows: rows, now: b.now.UnixMicro(), buffer: append(b.copied[:0], copyHeader...)}
	tag, err := b.PgConn().CopyFrom(ctx, source, text)
	b.copied = source.end()
	if err == nil && tag.RowsAffected() != int64(len(rows)) {
		err = fmt.Errorf("%d of %d rows were copied", tag.RowsAffected(), len(rows))
	}
	return err
}

// copyBytes is how much is encoded at a time, roughly.
const copyBytes = 64 << 10

// copySource yields rows in the binary form of COPY. The driver reads it in a goroutine
// that may go on after a copy has failed: not past end.
type copySource[R mds.Record[R]] struct {
	mu      sync.Mutex
	closed  bool
	table   *Table[R]
	records []R
	rows    []row
	now     int64
	buffer  []byte // encoded
	read    int    // of it
	ended   bool
}

// Read encodes rows as they are wanted.
func (s *copySource[R]) Read(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return 0, errors.New("the copy has ended")
	}
	if s.read == len(s.buffer) {
		s.buffer, s.read = s.buffer[:0], 0
	}
	for len(s.buffer) < copyBytes && len(s.rows) > 0 {
		s.buffer = s.table.appendRow(s.buffer, &s.rows[0], s.records, s.now)
		s.rows = s.rows[1:]
	}
	if len(s.rows) == 0 && !s.ended {
		s.buffer, s.ended = append(s.buffer, copyEnd...), true
	}
	if s.read == len(s.buffer) {
		return 0, io.EOF
	}
	n := copy(p, s.buffer[s.read:])
	s.read += n
	return n, nil
}

// end has nothing be read any more, and returns the memory that was used.
func (s *copySource[R]) end() []byte {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return s.buffer
}

func (t *Table[R]) appendRow(dst []byte, r *row, records []R, now int64) []byte {
	dst = append(dst, byte(len(t.columns)>>8), byte(len(t.columns)))
	dst = appendInt(dst, r.series)
	for _, encode := range t.encode {
		dst = encode(dst, &records[r.record])
	}
	return appendMicros(dst, now)
}

// unnest upserts rows that are arguments, an array a column.
func (t *Table[R]) unnest(ctx context.Context, b *batchWrite[R], table int, rows []row) (int64, error) {
	args := make([][]byte, 1+len(t.encode))
	formats := make([]int16, len(args))
	buffer, ends := b.copied[:0], make([]int, len(args))
	for c := range args {
		formats[c] = 1
		element := uint32(oidBigint)
		if c > 0 {
			element = t.arrays[c-1].oid
		}
		buffer = appendArray(buffer, element, len(rows))
		for i := range rows {
			if c == 0 {
				buffer = appendInt(buffer, rows[i].series)
				continue
			}
			buffer = t.arrays[c-1].encode(buffer, &b.records[rows[i].record])
		}
		ends[c] = len(buffer)
	}
	start := 0
	for c, end := range ends {
		args[c] = buffer[start:end:end]
		start = end
	}
	b.copied = buffer
	if b.as != nil {
		return t.upsertLate(ctx, b, &t.tables[table].lateUnnest, args, len(rows))
	}
	text := t.tables[table].unnest
	if t.upserts(b, table) {
		text = t.tables[table].upsertUnnest
	}
	result := b.PgConn().ExecParams(ctx, text, args, nil, formats, nil).Read()
	return result.CommandTag.RowsAffected(), t.noteUnmerged(table, result.Err)
}
