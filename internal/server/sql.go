package server

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"time"
	"unicode/utf8"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
)

// mostSQL is how long a statement may be.
const mostSQL = 1 << 20

// truncated is the trailer of an answer to SQL: true where rows were left out.
const truncated = "Mds-Truncated"

// sqlForms are the media types of answers to SQL, the usual one first.
var sqlForms = []string{typeJSON, typeNDJSON, typeCSV}

// The media types of statements.
const (
	typeSQL   = "application/sql"
	typePlain = "text/plain"
)

func (s *Server) sqlOperation() operation {
	text := &huma.MediaType{Schema: &huma.Schema{Type: huma.TypeString, Description: "The statement"}}
	most := s.cfg.SQLMaxRows
	return operation{
		method: http.MethodPost, path: "/v1/sql", id: "sql", tag: "sql", scope: mds.ScopeRead,
		summary: "Run a statement that reads",
		description: "Runs one SELECT, in the SQL of the store's engine, and sees what is the tenant's. It writes nothing and reads nothing else. " +
			fmt.Sprintf("It is ended after %s, or what timeout says. An answer has at most %d rows, in JSON %d unless max_rows says it; ", s.cfg.SQLTimeout, most, usualLimit) +
			"where rows are left out, truncated is true: a member in JSON, the trailer " + truncated + " otherwise.",
		params: []param{
			number("max_rows", "At most this many rows; 0 is as many as the server allows", 0, float64(most)),
			{name: "timeout", doc: "End it after this time, such as 5s; the server's own bound is the most", schema: &huma.Schema{Type: huma.TypeString}},
			{name: "format", doc: "The form of the answer, where Accept does not say it", schema: &huma.Schema{Type: huma.TypeString, Enum: []any{"json", "ndjson", "csv"}}},
		},
		body: &huma.RequestBody{Required: true, Description: "The statement", Content: map[string]*huma.MediaType{
			typeSQL: text, typePlain: text,
			typeJSON: {Schema: s.schemaOf(client.Statement{})},
		}},
		responses: map[string]*huma.Response{
			"200": {Description: "The rows", Content: map[string]*huma.MediaType{
				typeJSON: {Schema: s.schemaOf(client.SQLAnswer{})}, typeNDJSON: {Schema: &huma.Schema{Type: huma.TypeObject}}, typeCSV: {Schema: &huma.Schema{Type: huma.TypeString}},
			}},
			"400":     s.problemResponse("The database refuses it: detail says why, and position where"),
			"403":     s.problemResponse("The tenant has no login for SQL on the database's server"),
			"422":     s.problemResponse("It takes more time or memory than it may"),
			"default": s.problemResponse("It could not be done"),
		},
		limit: s.queries,
		serve: s.runSQL,
	}
}

// runSQL answers a statement.
func (s *Server) runSQL(c *call) error {
	form, err := c.form(sqlForms)
	if err != nil {
		return err
	}
	usual := 0
	if form == typeJSON {
		usual = usualLimit
	}
	most, err := c.integer("max_rows", min(usual, s.cfg.SQLMaxRows), 0, s.cfg.SQLMaxRows)
	if err != nil {
		return err
	}
	if most == 0 {
		most = s.cfg.SQLMaxRows
	}
	limit, err := s.sqlTimeout(c)
	if err != nil {
		return err
	}
	text, err := s.statement(c)
	if err != nil {
		return err
	}
	if err := streams(c); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(c.Context(), limit)
	defer cancel()
	out := &sqlAnswer{call: c, form: form}
	more, err := s.cfg.SQL.SQL(ctx, c.tenant, mds.SQLQuery{Text: text, MaxRows: int64(most)}, out)
	if err != nil {
		c.w.Header().Del("Trailer")
		return err // before anything is sent, unless the answer is long
	}
	return out.end(more)
}

// sqlTimeout is how long a statement may take.
func (s *Server) sqlTimeout(c *call) (time.Duration, error) {
	text := c.value("timeout")
	if text == "" {
		return s.cfg.SQLTimeout, nil
	}
	limit, err := time.ParseDuration(text)
	if err != nil || limit <= 0 || limit > s.cfg.SQLTimeout {
		return 0, badRequest("bad_parameter", fmt.Sprintf("timeout %q: write a duration up to %s, such as 5s", text, s.cfg.SQLTimeout))
	}
	return limit, nil
}

// statement reads the statement of a request.
func (s *Server) statement(c *call) (string, error) {
	said := c.r.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(said)
	if err != nil || media != typeSQL && media != typePlain && media != typeJSON {
		return "", &problem{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			detail: fmt.Sprintf(`Content-Type is %q: send %s or %s, or %s with {"sql": …}`, said, typeSQL, typePlain, typeJSON),
		}
	}
	body, err := c.unpack(c.raw(c.Context(), codec.FormatNDJSON, s.cfg.IdleTimeout, mostSQL, func() error { return nil }))
	if err != nil {
		return "", err
	}
	defer body.Close() //nolint:errcheck // it was read, or has failed
	text, err := io.ReadAll(io.LimitReader(body, mostSQL+1))
	if err != nil {
		return "", err
	}
	if len(text) > mostSQL {
		return "", &problem{status: http.StatusRequestEntityTooLarge, code: "body_too_large", detail: fmt.Sprintf("the statement is longer than %d bytes", mostSQL)}
	}
	if media == typeJSON {
		var statement client.Statement
		if err := json.Unmarshal(text, &statement); err != nil || statement.SQL == "" {
			return "", badRequest("unreadable_body", `the body is not {"sql": "SELECT …"}`)
		}
		return statement.SQL, nil
	}
	if !utf8.Valid(text) {
		return "", badRequest("unreadable_body", "the statement is not in UTF-8")
	}
	return string(text), nil
}

// sqlAnswer streams the rows of an answer.
type sqlAnswer struct {
	*call
	form string
	*codec.SQLWriter
}

func (a *sqlAnswer) Columns(columns []mds.SQLColumn) (err error) {
	if a.SQLWriter, err = codec.NewSQLWriter(a.w, outputs[a.form]); err != nil {
		return err
	}
	a.w.Header().Set("Content-Type", a.form)
	a.w.Header().Set("Cache-Control", "no-store")
	if a.form != typeJSON {
		a.w.Header().Set("Trailer", truncated)
	}
	return a.SQLWriter.Columns(columns)
}

// end ends the answer.
func (a *sqlAnswer) end(more bool) error {
	if err := a.Close(more); err != nil {
		return &cutError{err}
	}
	if a.form != typeJSON {
		a.w.Header().Set(truncated, strconv.FormatBool(more))
	}
	return nil
}
