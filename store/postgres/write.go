package postgres

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/marketdatastore/mds"
)

// WriteBatch upserts records in one transaction, all or none: when it returns without an
// error they are committed. Of records with one key the last wins. A record that differs
// from the stored row replaces it whole; an equal one changes nothing.
//
// It refuses the batch with an [*mds.RecordError] that wraps an [*mds.InvalidError] for a
// record that does not validate, with an error wrapping [mds.ErrUnknownTenant] for a
// tenant that the store does not hold.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	if len(records) > math.MaxInt32/2 {
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
	for attempt := 1; ; attempt++ {
		receipt, err := t.write(ctx, tenant, records, attempt > 1)
		if err = wrap(ctx, "write "+t.schema.Kind, err); err == nil {
			return receipt, nil
		}
		const attempts = 5
		var e *Error
		if !errors.As(err, &e) || e.Class != Conflict {
			return mds.Receipt{}, err
		}
		if t.store.cfg.WriteMode == WriteCopy && e.Code == "23505" { // the row stays there
			e.Class, e.Hint = Constraint, "a row is there already: use the write mode auto"
			return mds.Receipt{}, err
		}
		if attempt == attempts {
			return mds.Receipt{}, err
		}
	}
}

// row is a record of a batch: what it is sorted by.
type row struct {
	series int64
	micros int64
	key    string // of the key columns, "" for kinds without
	record int32
}

// write writes a batch in one transaction.
func (t *Table[R]) write(ctx context.Context, tenant mds.Tenant, records []R, again bool) (receipt mds.Receipt, err error) {
	err = t.store.inTransaction(ctx, tenant, pgx.TxOptions{}, func(w *work) error {
		receipt = mds.Receipt{}
		parts := make(map[string][]row) // by table
		ids, err := t.resolve(ctx, w, records)
		if err != nil {
			return err
		}
		for i := range records {
			r := row{series: ids[i], micros: t.schema.Micros(&records[i]), record: int32(i)}
			if len(t.keys) > 0 {
				r.key = string(appendKey(nil, t.keys, &records[i]))
			}
			table := t.tableOf(&records[i])
			parts[table] = append(parts[table], r)
		}
		for _, table := range sortedKeys(parts) { // in one order, so that two writers do not wait for each other
			rows := t.unique(parts[table])
			receipt.Superseded += int64(len(parts[table]) - len(rows))
			written, err := t.writeRows(ctx, w, t.tables(table)[0].name, records, rows, again)
			if err != nil {
				return err
			}
			receipt.Written += written
			receipt.Unchanged += int64(len(rows)) - written
		}
		return nil
	})
	if err != nil {
		return mds.Receipt{}, err
	}
	return receipt, nil
}

// unique sorts rows by key and returns the last of each.
func (t *Table[R]) unique(rows []row) []row {
	order := func(a, b row) int {
		if by := cmp.Or(cmp.Compare(a.series, b.series), strings.Compare(a.key, b.key)); by != 0 || t.schema.TimeIsValue {
			return by
		}
		return cmp.Compare(a.micros, b.micros)
	}
	slices.SortStableFunc(rows, order)
	kept := make([]row, 0, len(rows))
	for i := range rows {
		if i+1 == len(rows) || order(rows[i], rows[i+1]) != 0 {
			kept = append(kept, rows[i])
		}
	}
	return kept
}

// writeRows copies rows into their table where none of them can be there, and merges
// them otherwise. It returns how many were new or another.
func (t *Table[R]) writeRows(ctx context.Context, w *work, table string, records []R, rows []row, again bool) (int64, error) {
	direct := t.store.cfg.WriteMode == WriteCopy
	if t.store.cfg.WriteMode == WriteAuto && len(t.keys) == 0 && !again {
		taken, err := t.probe(ctx, w, table, rows)
		if err != nil {
			return 0, err
		}
		direct = !taken
	}
	if direct {
		return int64(len(rows)), t.copy(ctx, w, table, records, rows)
	}
	stage := "mds_stage_" + t.noun
	// A connection makes it once; what the planner knows of it is nothing, so it is told.
	if _, err := w.Exec(ctx, fmt.Sprintf("CREATE TEMP TABLE IF NOT EXISTS %s (LIKE %s) ON COMMIT DELETE ROWS", stage, table)); err != nil {
		return 0, err
	}
	if _, err := w.Exec(ctx, "TRUNCATE "+stage); err != nil { // of another timeframe's rows
		return 0, err
	}
	if err := t.copy(ctx, w, "pg_temp."+stage, records, rows); err != nil {
		return 0, err
	}
	merged, err := w.Exec(ctx, t.merge(table, stage))
	return merged.RowsAffected(), err
}

// probe tells whether the table has rows within the spans that the rows of each series
// take.
func (t *Table[R]) probe(ctx context.Context, w *work, table string, rows []row) (taken bool, err error) {
	var ids []int64
	var first, last []time.Time
	for i := range rows {
		at := time.UnixMicro(rows[i].micros).UTC()
		if n := len(ids); n > 0 && ids[n-1] == rows[i].series {
			last[n-1] = at
			continue
		}
		ids, first, last = append(ids, rows[i].series), append(first, at), append(last, at)
	}
	err = w.QueryRow(ctx, fmt.Sprintf(`SELECT EXISTS (
		SELECT FROM unnest($1::bigint[], $2::timestamptz[], $3::timestamptz[]) AS b (id, first, last)
		CROSS JOIN LATERAL (SELECT FROM %s f WHERE f.series_id = b.id AND f.%s BETWEEN b.first AND b.last LIMIT 1) f)`, table, t.timeName),
		ids, first, last).Scan(&taken)
	return taken, err
}

// copy copies rows into a table.
func (t *Table[R]) copy(ctx context.Context, w *work, table string, records []R, rows []row) error {
	source := &copySource[R]{table: t, records: records, rows: rows, now: w.now.UnixMicro(), buffer: append(make([]byte, 0, 2*copyBytes), copyHeader...)}
	tag, err := w.Conn().PgConn().CopyFrom(ctx, source, fmt.Sprintf("COPY %s (%s) FROM STDIN (FORMAT binary)", table, strings.Join(t.columns, ", ")))
	if err == nil && tag.RowsAffected() != int64(len(rows)) {
		err = fmt.Errorf("%d of %d rows were copied", tag.RowsAffected(), len(rows))
	}
	return err
}

// copyBytes is how much is encoded at a time, roughly.
const copyBytes = 64 << 10

// copySource yields rows in the binary form of COPY.
type copySource[R mds.Record[R]] struct {
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

func (t *Table[R]) appendRow(dst []byte, r *row, records []R, now int64) []byte {
	dst = append(dst, byte(len(t.columns)>>8), byte(len(t.columns)))
	dst = appendInt(dst, r.series)
	for _, encode := range t.encode {
		dst = encode(dst, &records[r.record])
	}
	return appendMicros(dst, now)
}

// merge upserts the staged rows; equal ones are not touched.
func (t *Table[R]) merge(table, stage string) string {
	replaced := names(t.values)
	if t.schema.TimeIsValue {
		replaced = append(replaced, t.timeName)
	}
	return fmt.Sprintf(`MERGE INTO %s f USING (SELECT * FROM pg_temp.%s ORDER BY %s) b ON %s
		WHEN MATCHED AND (%s) THEN UPDATE SET %s, updated_at = b.updated_at
		WHEN NOT MATCHED THEN INSERT (%s) VALUES (%s)`,
		table, stage, strings.Join(t.key, ", "), each(t.key, "f.%[1]s = b.%[1]s", " AND "),
		each(replaced, "f.%[1]s IS DISTINCT FROM b.%[1]s", " OR "), each(replaced, "%[1]s = b.%[1]s", ", "),
		strings.Join(t.columns, ", "), each(t.columns, "b.%s", ", "))
}
