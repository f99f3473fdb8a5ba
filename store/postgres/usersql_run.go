package postgres

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgtype"

	"github.com/marketdatastore/mds"
)

// userSQL is a statement of people that is under way.
type userSQL struct {
	conn  *pgconn.PgConn
	types *pgtype.Map
	query mds.SQLQuery
	rows  mds.SQLRows
	taken error // what rows failed with
}

// prepared is the name of the statement on its connection. Only one can be prepared at a
// time, as the protocol has it, so that nothing of a text comes after what was looked at.
const prepared = "mds_sql"

func (u *userSQL) run(ctx context.Context) (more bool, err error) {
	if _, err := u.conn.Exec(ctx, begin(ctx)).ReadAll(); err != nil {
		return false, err
	}
	if strings.ContainsRune(u.query.Text, 0) {
		return false, &mds.SQLError{Detail: "it has a NUL character"}
	}
	described, err := u.conn.Prepare(ctx, prepared, u.query.Text, nil)
	switch {
	case err != nil:
		return false, err
	case len(described.ParamOIDs) > 0:
		return false, &mds.SQLError{Detail: "it has parameters, for which there are no values: write them out"}
	case len(described.Fields) == 0:
		// Such as COMMIT, which would end the transaction that reads only.
		return false, &mds.SQLError{Detail: "one statement that reads is taken, such as a SELECT: this one yields no rows"}
	}
	columns, err := u.columns(ctx, described.Fields)
	if err != nil {
		return false, err
	}
	return u.answer(ctx, columns, described.Fields)
}

// columns names the types of columns.
func (u *userSQL) columns(ctx context.Context, fields []pgconn.FieldDescription) ([]mds.SQLColumn, error) {
	columns := make([]mds.SQLColumn, len(fields))
	texts := make([]string, len(fields))
	for i := range fields {
		columns[i].Name = fields[i].Name
		texts[i] = fmt.Sprintf("pg_catalog.format_type(%d, %d)", fields[i].DataTypeOID, fields[i].TypeModifier)
	}
	results, err := u.conn.Exec(ctx, "SELECT "+strings.Join(texts, ", ")).ReadAll()
	if err != nil {
		return nil, err
	}
	for i, name := range results[0].Rows[0] {
		columns[i].Type = string(name)
	}
	return columns, nil
}

// answer runs the statement and hands its rows on as they come.
func (u *userSQL) answer(ctx context.Context, columns []mds.SQLColumn, fields []pgconn.FieldDescription) (more bool, err error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	result := u.conn.ExecPrepared(ctx, prepared, nil, nil, nil)
	defer func() { // what is left need not be sent
		cancel()
		_, closeErr := result.Close()
		if err == nil && !more {
			err = closeErr
		}
	}()
	row := make([]any, len(fields))
	begun := false
	for n := int64(0); ; n++ {
		next := result.NextRow()
		if !begun && !next {
			// It may have failed: then nothing was answered.
			if _, err := result.Close(); err != nil {
				return false, err
			}
		}
		if !begun {
			begun = true
			if u.taken = u.rows.Columns(columns); u.taken != nil {
				return false, u.taken
			}
		}
		if !next {
			_, err := result.Close()
			return false, err
		}
		if u.query.MaxRows > 0 && n == u.query.MaxRows {
			return true, nil
		}
		for i, text := range result.Values() {
			row[i] = u.value(fields[i].DataTypeOID, text)
		}
		if u.taken = u.rows.Row(row); u.taken != nil {
			return false, u.taken
		}
	}
}

// putBack leaves the connection as the next one needs it, or closes it.
func (u *userSQL) putBack(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), unread)
	defer cancel()
	for _, text := range []string{"ROLLBACK", "DISCARD ALL"} { // settings, advisory locks, statements
		if _, err := u.conn.Exec(ctx, text).ReadAll(); err != nil {
			_ = u.conn.Close(ctx)
			return
		}
	}
}

// value is what a field's text stands for. What has no form of its own stays a text.
func (u *userSQL) value(oid uint32, text []byte) any {
	if text == nil {
		return nil
	}
	s := string(text)
	switch oid {
	case pgtype.BoolOID:
		return s == "t"
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID, pgtype.OIDOID:
		return textUnless(strconv.ParseInt(s, 10, 64))(s)
	case pgtype.Float4OID, pgtype.Float8OID:
		return textUnless(strconv.ParseFloat(s, 64))(s)
	case pgtype.NumericOID:
		if strings.ContainsAny(s, "NI") { // NaN, Infinity
			return s
		}
		return json.Number(s)
	case pgtype.DateOID:
		return textUnless(mds.ParseDate(s))(s)
	case pgtype.TimestampOID:
		return textUnless(time.Parse("2006-01-02 15:04:05.999999", s))(s)
	case pgtype.TimestamptzOID:
		at, err := time.Parse("2006-01-02 15:04:05.999999-07", s)
		return textUnless(at.UTC(), err)(s)
	case pgtype.JSONOID, pgtype.JSONBOID:
		return json.RawMessage(text)
	case pgtype.ByteaOID:
		return textUnless(hex.DecodeString(strings.TrimPrefix(s, `\x`)))(s)
	}
	return u.list(oid, text)
}

// textUnless is a value that was read, or the text where it could not be.
func textUnless[T any](v T, err error) func(text string) any {
	return func(text string) any {
		if err != nil {
			return text
		}
		return v
	}
}

// list is an array as JSON has it, and anything else as a text.
func (u *userSQL) list(oid uint32, text []byte) any {
	kind, ok := u.types.TypeForOID(oid)
	if !ok {
		return string(text)
	}
	if _, ok := kind.Codec.(*pgtype.ArrayCodec); !ok {
		return string(text)
	}
	v, err := kind.Codec.DecodeValue(u.types, oid, pgtype.TextFormatCode, text)
	if err != nil {
		return string(text)
	}
	out, err := json.Marshal(v)
	if err != nil {
		return string(text)
	}
	return json.RawMessage(out)
}
