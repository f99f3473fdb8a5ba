package postgres

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// WriteLate upserts records that come late, as they were submitted at a time: it is
// [Table.WriteBatch], but a stored row that changed at that time or after it, by the
// server's clock, stays, also where another one is writing it meanwhile. Its record counts
// as superseded, or as unchanged where the two are equal.
func (t *Table[R]) WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error) {
	micros := batches.As(as)
	return t.send(ctx, tenant, records, &micros)
}

// lateTexts are the statements that write the rows of a query that come late.
//
// They are always upserted. A merge does not lock the rows that stay, so that another one
// could change them before they are counted; an upsert does, and is the only way for
// tables that take no MERGE.
type lateTexts struct {
	upsert string // its last argument is the time that rows changed before which it replaces
	newer  string // counts the rows that are stored otherwise after it
}

// lateTexts are those for a query with so many arguments.
func (t *Table[R]) lateTexts(table, rows string, args int) lateTexts {
	return lateTexts{
		upsert: t.upsert(table, rows, fmt.Sprintf(" AND f.updated_at < $%d::timestamptz", args+1)),
		// Not to be flattened into a join, which may begin with the table.
		newer: fmt.Sprintf("SELECT count(*) FROM (%s) b CROSS JOIN LATERAL (SELECT FROM %s f WHERE %s AND (%s) LIMIT 1) f",
			rows, table, each(t.key, "f.%[1]s = b.%[1]s", " AND "), each(t.replaced(), "f.%[1]s IS DISTINCT FROM b.%[1]s", " OR ")),
	}
}

// upsertLate upserts n rows that are the arguments of statements, or staged, and notes how
// many of them are not written since newer ones are stored.
func (t *Table[R]) upsertLate(ctx context.Context, b *batchWrite[R], texts *lateTexts, args [][]byte, n int) (written int64, err error) {
	binary := slices.Repeat([]int16{1}, len(args)+1)
	as := appendMicros(nil, *b.as)[4:]
	result := b.PgConn().ExecParams(ctx, texts.upsert, append(args, as), nil, binary, nil).Read()
	written = result.CommandTag.RowsAffected()
	if result.Err != nil || written == int64(n) {
		return written, result.Err
	}
	result = b.PgConn().ExecParams(ctx, texts.newer, args, nil, binary[1:], binary[:1]).Read()
	if result.Err != nil {
		return 0, result.Err
	}
	b.newer += int64Of(result.Rows[0][0])
	return written, nil
}
