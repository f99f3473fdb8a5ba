package duckdb

import (
	"context"
	"database/sql"
	"database/sql/driver"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/duckdb/duckdb-go/v2"

	"github.com/marketdatastore/mds"
)

// What keeps SQL that people write from doing more than read their tenant's file:
//
//   - the file's instance is opened without access to other files, networks and extensions
//     (lockedDown), for everybody: the store itself needs none;
//   - it is parsed first, and has to be one SELECT, or EXPLAIN of one, of functions that
//     touch nothing beside their arguments (readsOnly);
//   - it is prepared as one statement, whose type is looked at; the driver runs all but the
//     last of several as it prepares them, unless it is asked in this way;
//   - it runs in a transaction that reads only, which refuses nextval as well.
//
// The answer goes into a temporary table, which the memory limit counts, and which may be
// written out to the disk: the driver would hold all of it, uncounted. It is read from there
// in pages, so that a client that is slow holds up nobody.

// maxSQL is how many statements of a tenant run at once.
const maxSQL = 2

// sqlPatience is how long a large commit waits for SQL before it ends it; see
// [file.inTransaction].
const sqlPatience = 3 * time.Second

// errGaveWay ends SQL that keeps a writer waiting, or has the memory that a writer needs.
var errGaveWay = fmt.Errorf("%w: records had to be written, which wait for no query longer than %s; run it again, or ask for less at a time", mds.ErrSQLBusy, sqlPatience)

// SQL runs one statement that reads; see store.SQL.
func (s *Store) SQL(ctx context.Context, tenant mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error) {
	f, err := s.file(ctx, tenant)
	if err != nil {
		return false, err
	}
	select {
	case f.sqls.places <- struct{}{}:
		defer func() { <-f.sqls.places }()
	case <-ctx.Done():
		if errors.Is(ctx.Err(), context.Canceled) {
			return false, wrap(ctx, "sql", ctx.Err())
		}
		return false, fmt.Errorf("%w: %d of the tenant are under way; come back a little later", mds.ErrSQLBusy, maxSQL)
	}
	ctx, left, end := f.sqls.begin(ctx)
	defer end()
	run := &userSQL{query: query, rows: rows, left: left}
	err = f.connected(ctx, func(conn *reader) error {
		run.reader = conn
		more, err = run.run(ctx)
		return err
	})
	if run.taken != nil {
		return false, run.taken
	}
	return more, f.sqlError(ctx, err)
}

// sqlError classifies what a statement failed with.
func (f *file) sqlError(ctx context.Context, err error) error {
	var refused *mds.SQLError
	var driverErr *duckdb.Error
	switch {
	case err == nil, errors.As(err, &refused):
		return err
	case errors.Is(context.Cause(ctx), errGaveWay):
		return errGaveWay
	case errors.Is(ctx.Err(), context.DeadlineExceeded):
		return fmt.Errorf("%w: it was ended when its time was over", mds.ErrSQLLimit)
	case ctx.Err() != nil || !errors.As(err, &driverErr):
		return wrap(ctx, "sql", err)
	}
	switch driverErr.Type {
	case duckdb.ErrorTypeOutOfMemory:
		return fmt.Errorf("%w: it needs more memory, or room to write out what does not fit, than a query has", mds.ErrSQLLimit)
	case duckdb.ErrorTypeFatal, duckdb.ErrorTypeInternal, duckdb.ErrorTypeIO, duckdb.ErrorTypeInterrupt, duckdb.ErrorTypeTransaction:
		return wrap(ctx, "sql", err)
	}
	return refusal(driverErr.Msg, f.path)
}

// userSQL is a statement under way.
type userSQL struct {
	*reader
	query   mds.SQLQuery
	rows    mds.SQLRows
	columns []mds.SQLColumn
	left    func() // called when nothing is scanned any more
	taken   error  // what rows failed with
}

const answerTable = "temp.mds_answer"

func (u *userSQL) run(ctx context.Context) (more bool, err error) {
	u.query.Text = strings.TrimRight(u.query.Text, "; \t\r\n")
	explains := false
	defer u.drop(ctx)
	err = bracket(ctx, u.Conn, statement{text: "BEGIN TRANSACTION READ ONLY"}, statement{text: "COMMIT"}, func() (err error) {
		if explains, err = u.readsOnly(ctx); err != nil {
			return err
		}
		if err := u.prepare(ctx, explains); err != nil || explains {
			return err
		}
		return u.fill(ctx)
	})
	if err != nil {
		return false, err
	}
	if explains {
		return false, u.explain(ctx)
	}
	u.left()
	if u.taken = u.rows.Columns(u.columns); u.taken != nil {
		return false, u.taken
	}
	return u.pages(ctx)
}

// drop removes the answer from the connection, which is of no use to others with it.
func (u *userSQL) drop(ctx context.Context) {
	if _, err := u.ExecContext(context.WithoutCancel(ctx), "DROP TABLE IF EXISTS "+answerTable); err != nil {
		_ = u.Raw(func(any) error { return driver.ErrBadConn }) // which drops the connection, and the table with it
	}
}

// prepare looks whether it is one statement of the right type, and what its columns are.
func (u *userSQL) prepare(ctx context.Context, explains bool) error {
	if err := u.scans.share(ctx); err != nil {
		return err
	}
	defer u.scans.unshare()
	return u.Raw(func(raw any) error {
		// Unlike PrepareContext it runs nothing.
		prepared, err := raw.(driver.Conn).Prepare(u.query.Text)
		if err != nil {
			return err
		}
		defer prepared.Close() //nolint:errcheck // it was not run
		stmt := prepared.(*duckdb.Stmt)
		kind, err := stmt.StatementType()
		if err != nil {
			return err
		}
		want := duckdb.STATEMENT_TYPE_SELECT
		if explains {
			want = duckdb.STATEMENT_TYPE_EXPLAIN
		}
		if kind != want {
			return errOnlyReads
		}
		if stmt.NumInput() > 0 {
			return &mds.SQLError{Detail: "it has parameters, for which there are no values: write them out"}
		}
		u.columns, err = columnsOf(stmt)
		return err
	})
}

func columnsOf(stmt *duckdb.Stmt) ([]mds.SQLColumn, error) {
	n, err := stmt.ColumnCount()
	if err != nil {
		return nil, err
	}
	columns := make([]mds.SQLColumn, n)
	for i := range columns {
		if columns[i].Name, err = stmt.ColumnName(i); err != nil {
			return nil, err
		}
	}
	return columns, nil
}

// fill runs the statement, and learns the types of its answer.
func (u *userSQL) fill(ctx context.Context) error {
	names := make([]string, len(u.columns))
	for i := range names {
		names[i] = fmt.Sprintf("c%d", i)
	}
	text := fmt.Sprintf("CREATE TEMP TABLE %s AS SELECT * FROM (\n%s\n) AS answer(%s)", answerTable, u.query.Text, strings.Join(names, ", "))
	if u.query.MaxRows > 0 {
		text += fmt.Sprintf(" LIMIT %d", u.query.MaxRows+1)
	}
	if err := u.scans.share(ctx); err != nil {
		return err
	}
	defer u.scans.unshare()
	if _, err := u.ExecContext(ctx, text); err != nil {
		return err
	}
	rows, err := u.QueryContext(ctx, "SELECT data_type FROM duckdb_columns() WHERE database_name = 'temp' AND table_name = 'mds_answer' ORDER BY column_index")
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // rows.Err below tells
	for i := 0; rows.Next(); i++ {
		if err := rows.Scan(&u.columns[i].Type); err != nil {
			return err
		}
	}
	return rows.Err()
}

// explain answers with the plan, which is small.
func (u *userSQL) explain(ctx context.Context) error {
	for i := range u.columns {
		u.columns[i].Type = "VARCHAR"
	}
	var lines [][]any
	err := inSnapshot(ctx, u.Conn, func() error {
		return eachRow(ctx, u.reader, u.query.Text, nil, func(values []driver.Value) error {
			line := make([]any, len(values))
			for i, v := range values {
				line[i] = v
			}
			lines = append(lines, line)
			return nil
		})
	})
	if err != nil {
		return err
	}
	u.taken = u.rows.Columns(u.columns)
	for _, line := range lines {
		if u.taken == nil {
			u.taken = u.rows.Row(line)
		}
	}
	return u.taken
}

// What a page of an answer takes, roughly, and its rows at first and at most.
const (
	answerBytes = 4 << 20
	leastAnswer = 64
	mostAnswer  = 8 << 10
)

// pages hands on what is in the table.
func (u *userSQL) pages(ctx context.Context) (more bool, err error) {
	var last sql.NullInt64
	if err := u.QueryRowContext(ctx, "SELECT max(rowid) FROM "+answerTable).Scan(&last); err != nil || !last.Valid {
		return false, err
	}
	end := last.Int64 + 1
	if most := u.query.MaxRows; most > 0 && end > most {
		end, more = most, true
	}
	fields, convert := readings(u.columns)
	row := make([]any, len(convert))
	for first, size := int64(0), int64(leastAnswer); first < end; {
		size = min(size, end-first)
		text := fmt.Sprintf("SELECT %s FROM %s WHERE rowid >= %d AND rowid < %d ORDER BY rowid", fields, answerTable, first, first+size)
		taken := 0
		err := u.page(ctx, text, func(values []driver.Value) error {
			for i, v := range values {
				if text, ok := v.(string); ok {
					taken += len(text)
				}
				if row[i], err = convert[i](v); err != nil {
					return err
				}
			}
			u.taken = u.rows.Row(row)
			return u.taken
		})
		if err != nil {
			return false, err
		}
		first += size
		each := int64(taken)/size + 16*int64(len(row)) + 1
		size = min(max(answerBytes/each, leastAnswer), mostAnswer, 4*size)
	}
	return more, nil
}

// page reads a page. It shares no gate: the table is nobody else's.
func (u *userSQL) page(ctx context.Context, text string, each func([]driver.Value) error) error {
	var rows driver.Rows
	err := u.Raw(func(raw any) (err error) {
		rows, err = raw.(driver.QueryerContext).QueryContext(ctx, text, nil)
		return err
	})
	if err != nil {
		return err
	}
	defer rows.Close() //nolint:errcheck // it was read
	values := make([]driver.Value, len(rows.Columns()))
	for {
		if err := rows.Next(values); errors.Is(err, io.EOF) {
			return nil
		} else if err != nil {
			return err
		}
		if err := each(values); err != nil {
			return err
		}
	}
}
