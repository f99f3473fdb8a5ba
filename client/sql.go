package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
)

// SQL runs one statement that reads, and hands its answer on as it comes. It tells whether
// rows were left out: by MaxRows, or else by what the server allows. Numbers are
// [json.Number], lists and maps [json.RawMessage], and instants texts as RFC 3339 has them.
func (c *Client) SQL(ctx context.Context, tenant mds.Tenant, query mds.SQLQuery, rows mds.SQLRows) (more bool, err error) {
	resp, err := c.do(ctx, request{
		method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/sql", accept: document, contentType: "application/sql",
		query: url.Values{"max_rows": {strconv.FormatInt(query.MaxRows, 10)}},
		body:  func() io.Reader { return strings.NewReader(query.Text) },
	})
	if err != nil {
		return false, asSQLError(err)
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	body := &streamed{r: resp.Body}
	reader := &sqlReader{decoder: json.NewDecoder(body), rows: rows}
	more, err = reader.read()
	switch {
	case err == nil, reader.taken:
		return more, err
	case ctx.Err() != nil:
		return false, ended(ctx)
	case body.err != nil:
		err = body.err
	}
	return false, &Error{Err: fmt.Errorf("the answer ends too early: %w", err), connection: true}
}

// asSQLError is the refusal of a statement as the store has it.
func asSQLError(err error) error {
	var e *Error
	if errors.As(err, &e) && e.Code == "bad_sql" {
		return &mds.SQLError{Detail: e.Detail, Position: e.Position}
	}
	return err
}

// sqlReader reads an answer in JSON.
type sqlReader struct {
	decoder *json.Decoder
	rows    mds.SQLRows
	taken   bool // an error is that of rows
}

// read reads it to its end.
func (r *sqlReader) read() (truncated bool, err error) {
	if err := r.expect(json.Delim('{'), "columns"); err != nil {
		return false, err
	}
	var columns []mds.SQLColumn
	if err := r.decoder.Decode(&columns); err != nil {
		return false, err
	}
	if err := r.rows.Columns(columns); err != nil {
		r.taken = true
		return false, err
	}
	if err := r.expect("rows", json.Delim('[')); err != nil {
		return false, err
	}
	row := make([]any, len(columns))
	var values []json.RawMessage
	for r.decoder.More() {
		if err := r.decoder.Decode(&values); err != nil {
			return false, err
		}
		if len(values) != len(row) {
			return false, fmt.Errorf("a row has %d values, and there are %d columns", len(values), len(row))
		}
		for i, v := range values {
			if row[i], err = sqlValue(v); err != nil {
				return false, err
			}
		}
		if err := r.rows.Row(row); err != nil {
			r.taken = true
			return false, err
		}
	}
	if err := r.expect(json.Delim(']'), "truncated"); err != nil {
		return false, err
	}
	if err := r.decoder.Decode(&truncated); err != nil {
		return false, err
	}
	return truncated, r.expect(json.Delim('}'))
}

// expect reads tokens.
func (r *sqlReader) expect(tokens ...json.Token) error {
	for _, want := range tokens {
		got, err := r.decoder.Token()
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%v where %v belongs", got, want)
		}
	}
	return nil
}

// sqlValue is a value of JSON as [mds.SQLRows] has it.
func sqlValue(v json.RawMessage) (any, error) {
	switch v[0] {
	case '"':
		var text string
		err := json.Unmarshal(v, &text)
		return text, err
	case '[', '{':
		return json.RawMessage(bytes.Clone(v)), nil
	case 't', 'f':
		return v[0] == 't', nil
	case 'n':
		return nil, nil
	}
	return json.Number(v), nil
}
