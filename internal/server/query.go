package server

import (
	"bufio"
	"fmt"
	"io"
	"iter"
	"net/http"
	"slices"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/internal/selection"
)

// usualLimit is how many records an answer in JSON has, unless it is told: it is the one
// form that programs read as a whole.
const usualLimit = 10_000

// mostLimit is more than any store holds.
const mostLimit = 1 << 40

// The header, or trailer, of an answer that has the cursor of what comes after it.
const nextCursor = "Mds-Next-Cursor"

func zone(name string) (*time.Location, error) {
	z, err := selection.Zone("tz", name)
	if err != nil {
		return nil, badRequest("bad_parameter", err.Error())
	}
	return z, nil
}

// columnParams are the parameters that pick by columns.
func (k *service[R]) columnParams() []param {
	var params []param
	for _, c := range selection.Columns(&k.schema) {
		name, doc := c.Name, c.Doc
		if c == k.schema.SymbolColumn() {
			name = "symbol"
		}
		params = append(params, text(name, "Only this "+doc+"; several with commas").several())
	}
	return params
}

// selectionParams are the parameters that pick records.
func (k *service[R]) selectionParams() []param {
	params := append(k.columnParams(),
		text("start", "From this time on, such as 2020-11-27 or 2020-11-27T14:30:00Z"),
		text("end", "Before this time"),
		text("tz", "The time zone of times without an offset, such as America/New_York; UTC unless it is said"))
	if k.schema.RevisionColumn() != nil {
		params = append(params, text("known_at", "As known at this time, by the end of this date, or now: each figure from the newest filing until then"))
	}
	return params
}

// selection reads the parameters that pick records.
func (k *service[R]) selection(c *call) (mds.Selection, error) {
	t := selection.Texts{
		Symbols: c.list("symbol"), Picks: make(map[string][]string),
		Start: c.value("start"), End: c.value("end"), Zone: c.value("tz"), KnownAt: c.value("known_at"),
	}
	for _, column := range selection.Columns(&k.schema) {
		switch {
		case column == k.schema.SymbolColumn():
		case column.Role == mds.Key && column.Parse == nil: // any text, commas and all
			t.Picks[column.Name] = c.values[column.Name]
		default:
			t.Picks[column.Name] = c.list(column.Name)
		}
	}
	sel, err := selection.Parse(&k.schema, t)
	if err != nil {
		return sel, badRequest("bad_parameter", err.Error())
	}
	if _, err := k.schema.Conditions(sel); err != nil {
		return sel, badRequest("bad_parameter", err.Error())
	}
	return sel, nil
}

func (k *service[R]) queryOperation() operation {
	o := operation{
		method: http.MethodGet, path: "/v1/" + k.schema.Kind, id: "query-" + k.schema.Kind, tag: k.schema.Kind, scope: mds.ScopeRead,
		summary: "Read " + k.schema.Kind + " of a window",
		description: "Records come in order of time, then of identity. What Accept asks for is streamed, of any length, in constant memory; " +
			fmt.Sprintf("JSON has at most %d records unless limit says more. ", usualLimit) +
			"Where limit cuts an answer, next has the cursor of the rest: as a member in JSON, as the trailer " + nextCursor + " otherwise.",
		params: append(k.selectionParams(),
			choice("order", "Oldest first, or newest first; by what identifies a record, then by time, or the whole of that turned round; or as they are read fastest. The last three go without limit and cursor, and not as JSON", "asc", "desc", byIdentity, byIdentityDesc, asRead),
			number("limit", "At most this many records", 1, mostLimit), formParam(),
			text("cursor", "Go on after the last record of an answer: its next; all else stays the same")),
		responses: k.recordsResponses(),
		limit:     k.queries,
		serve:     k.query,
	}
	if k.schema.Kind == "bars" {
		o.params = append(o.params,
			text("every", "Make bars of this timeframe of shorter ones, such as 1h or 1d; days are those of tz"),
			choice("as_refreshed", "With every: read rollups as they were made last, whatever changed since", "false", "true"))
	}
	return o
}

// query answers with the records of a window.
func (k *service[R]) query(c *call) error {
	sel, err := k.selection(c)
	if err != nil {
		return err
	}
	form, err := k.output(c)
	if err != nil {
		return err
	}
	usual := 0
	if form == typeJSON {
		usual = usualLimit
	}
	limit, err := c.integer("limit", usual, 1, mostLimit)
	if err != nil {
		return err
	}
	if order := c.value("order"); slices.Contains([]string{byIdentity, byIdentityDesc, asRead}, order) {
		return k.whole(c, order, sel, form)
	}
	p := page[R]{schema: &k.schema, sel: sel, descending: c.value("order") == "desc", digest: digestOf(c.values)}
	if text := c.value("cursor"); text != "" {
		if err := p.parse(text); err != nil {
			return err
		}
	}
	if c.value("every") != "" {
		return k.resample(c, sel, form, limit, p.descending)
	}
	records := p.rest(p.queries(sel, limit), func(q mds.Query) iter.Seq2[R, error] { return k.table.Query(c.Context(), c.tenant, q) })
	return send(c, form, records, limit, &p)
}

// The orders in which there are no pages.
const (
	byIdentity     = "identity"
	byIdentityDesc = "identity_desc"
	asRead         = "any"
)

// whole answers with all of a window.
func (k *service[R]) whole(c *call, order string, sel mds.Selection, form string) error {
	if c.value("limit") != "" || c.value("cursor") != "" || c.value("every") != "" || form == typeJSON {
		return badRequest("bad_parameter", fmt.Sprintf("order=%s goes without limit, cursor and every, and as ndjson, csv or arrow", order))
	}
	query := mds.Query{Selection: sel, ByIdentity: order != asRead, Descending: order == byIdentityDesc, Unordered: order == asRead}
	return send(c, form, k.table.Query(c.Context(), c.tenant, query), 0, &page[R]{schema: &k.schema})
}

// resample answers with longer bars than are stored.
func (k *service[R]) resample(c *call, sel mds.Selection, form string, limit int, descending bool) error {
	if descending {
		return badRequest("bad_parameter", "every makes bars oldest first: leave order=desc out")
	}
	every, err := mds.ParseTimeframe(c.value("every"))
	if err != nil {
		return badRequest("bad_parameter", "every: "+err.Error())
	}
	place := time.UTC
	if tz := c.value("tz"); tz != "" {
		if place, err = zone(tz); err != nil {
			return err
		}
	}
	query := mds.ResampleQuery{Selection: sel, Every: every, Zone: place, AsRefreshed: c.value("as_refreshed") == "true"}
	schema := mds.SchemaOf[mds.Bar]()
	p := page[mds.Bar]{schema: &schema, digest: digestOf(c.values)}
	if text := c.value("cursor"); text != "" {
		if err := p.parse(text); err != nil {
			return err
		}
		if begin := p.span(every, place); begin.After(sel.Start) {
			query.Start = begin
		}
	} else if limit > 0 {
		query.Limit = limit + 1
	}
	records := p.rest([]mds.Query{{}}, func(mds.Query) iter.Seq2[mds.Bar, error] { return k.cfg.Store.Resample(c.Context(), c.tenant, query) })
	return send(c, form, records, limit, &p)
}

// streams refuses to stream an answer to who would take one that is cut for whole.
func streams(c *call) error {
	if c.r.ProtoAtLeast(1, 1) {
		return nil
	}
	return &problem{status: http.StatusHTTPVersionNotSupported, code: "http_version", detail: "records are streamed over HTTP/1.1 or HTTP/2: have the client, or the proxy before the server, speak one of them"}
}

// send streams records in a form.
func send[R mds.Record[R]](c *call, form string, records iter.Seq2[R, error], limit int, p *page[R]) error {
	if err := streams(c); err != nil {
		return err
	}
	out := &stream[R]{call: c, form: form, w: bufio.NewWriterSize(c.w, 64<<10)}
	n := 0
	for r, err := range records {
		if err == nil && limit > 0 && n == limit {
			p.more = true
			break
		}
		if err == nil {
			err = out.write(&r)
		}
		if err != nil {
			return out.fail(err)
		}
		p.last = r
		n++
	}
	next := ""
	if p.more {
		next = p.cursor()
	}
	return out.end(next)
}

// stream is an answer of records, whose status is sent with the first one.
type stream[R mds.Record[R]] struct {
	*call
	form    string
	w       *bufio.Writer
	encoder encoder[R]
}

// encoder writes records in a form.
type encoder[R any] interface {
	Encode(*R) error
	Close() error
}

// columns writes records as a stream of Arrow's batches.
type columns[R mds.Record[R]] struct{ *arrow.Writer[R] }

func (c columns[R]) Encode(r *R) error { return c.Append(r) }

var outputs = map[string]codec.Format{typeJSON: codec.FormatJSON, typeNDJSON: codec.FormatNDJSON, typeCSV: codec.FormatCSV}

// begin sends the status and what comes before the records.
func (s *stream[R]) begin() (err error) {
	s.call.w.Header().Set("Content-Type", s.form)
	s.call.w.Header().Set("Cache-Control", "no-store")
	if s.form != typeJSON {
		s.call.w.Header().Set("Trailer", nextCursor)
	} else if _, err := io.WriteString(s.w, `{"records":`); err != nil {
		return err
	}
	if s.form == typeArrow {
		w, err := arrow.NewWriter[R](s.w, arrow.WriterOptions{})
		s.encoder = columns[R]{w}
		return err
	}
	s.encoder, err = codec.NewEncoder[R](s.w, outputs[s.form])
	return err
}

func (s *stream[R]) write(r *R) error {
	if s.encoder == nil {
		if err := s.begin(); err != nil {
			return err
		}
	}
	return s.encoder.Encode(r)
}

// fail ends an answer with an error: after the first record all that is left to do is to
// end it so that it is not taken for whole.
func (s *stream[R]) fail(err error) error {
	if s.encoder == nil {
		return err
	}
	return &cutError{err}
}

// cutError is an error in the middle of an answer.
type cutError struct{ error }

func (e *cutError) Unwrap() error { return e.error }

func (s *stream[R]) end(next string) error {
	if s.encoder == nil {
		if err := s.begin(); err != nil {
			return &cutError{err}
		}
	}
	err := s.encoder.Close()
	if err == nil && s.form == typeJSON {
		tail := `,"next":null}` + "\n"
		if next != "" {
			tail = `,"next":` + strconv.Quote(next) + "}\n" // it is of base64
		}
		_, err = io.WriteString(s.w, tail)
	}
	if err == nil {
		err = s.w.Flush()
	}
	if err != nil {
		return &cutError{err}
	}
	if s.form != typeJSON && next != "" {
		s.call.w.Header().Set(nextCursor, next)
	}
	return nil
}
