package client

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// The media types that are spoken.
const (
	ndjson   = "application/x-ndjson"
	document = "application/json"
)

// Table reads and writes one kind of record. It is safe for concurrent use.
type Table[R mds.Record[R]] struct {
	c      *Client
	schema mds.Schema[R]
}

// TableOf returns the table of kind R.
func TableOf[R mds.Record[R]](c *Client) *Table[R] {
	return &Table[R]{c: c, schema: mds.SchemaOf[R]()}
}

func (t *Table[R]) path() string { return "/v1/" + t.schema.Kind }

// RejectedError reports records that the server did not store, of a batch that it stored
// otherwise.
type RejectedError struct {
	Answer
}

func (e *RejectedError) Error() string {
	text := fmt.Sprintf("%d of %d %s were not stored", e.Read-e.Committed, e.Read, e.Kind)
	if len(e.Errors) > 0 {
		text += fmt.Sprintf("; record %d: %s", e.Errors[0].Line, e.Errors[0].Reason)
	}
	return text
}

// WriteBatch upserts records, and returns when they are on the store's disk; see
// [ingest.Writer]. Of records that are invalid none is sent, and the error is an
// [*mds.RecordError]. The receipt counts all as written: what they changed only the server
// knows.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	for i := range records {
		if err := t.schema.Validate(&records[i]); err != nil {
			return mds.Receipt{}, &mds.RecordError{Index: i, Err: err}
		}
	}
	if err := t.wait(ctx, len(records)); err != nil {
		return mds.Receipt{}, err
	}
	var body bytes.Buffer
	encoder, err := codec.NewEncoder[R](&body, codec.FormatNDJSON)
	if err != nil {
		return mds.Receipt{}, err
	}
	for i := range records {
		if err := encoder.Encode(&records[i]); err != nil {
			return mds.Receipt{}, err
		}
	}
	if err := encoder.Close(); err != nil {
		return mds.Receipt{}, err
	}
	answer, err := t.post(ctx, request{tenant: t.c.tenant(tenant), body: func() io.Reader { return bytes.NewReader(body.Bytes()) }})
	if err != nil {
		return mds.Receipt{}, err
	}
	if answer.Committed != int64(len(records)) {
		return mds.Receipt{}, &RejectedError{answer}
	}
	return mds.Receipt{Written: answer.Committed}, nil
}

// Write is WriteBatch for the client's tenant.
func (t *Table[R]) Write(ctx context.Context, records ...R) error {
	_, err := t.WriteBatch(ctx, mds.Tenant{}, records)
	return err
}

// wait asks the controller.
func (t *Table[R]) wait(ctx context.Context, n int) error {
	if t.c.cfg.Controller == nil {
		return nil
	}
	return t.c.cfg.Controller.Wait(ctx, n)
}

// post sends a body of records.
func (t *Table[R]) post(ctx context.Context, r request) (Answer, error) {
	r.method, r.path, r.accept, r.contentType = http.MethodPost, t.path(), document, ndjson
	resp, err := t.c.do(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	var a Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return a, &Error{Err: fmt.Errorf("the answer is none: %w", err), connection: true}
	}
	return a, nil
}

// WriteAll streams records, of any number, in one request, in constant memory, and returns
// what became of them. They are sent as fast as the server takes them, and not again: when it
// fails some may be stored, and all may be sent again. The sequence is asked for no more once
// WriteAll has returned; one that may wait for ever should end with its own context.
func (t *Table[R]) WriteAll(ctx context.Context, tenant mds.Tenant, records iter.Seq2[R, error]) (Answer, error) {
	sending, cancel := context.WithCancel(ctx)
	defer cancel()
	r, w := io.Pipe()
	sent := make(chan error, 1)
	go func() {
		err := t.encode(sending, w, records)
		sent <- err
		_ = w.CloseWithError(err) // nil is the end of the body
	}()
	answer, err := t.post(ctx, request{tenant: t.c.tenant(tenant), body: func() io.Reader { return r }, once: true})
	cancel()
	_ = r.CloseWithError(errStopped)
	if err == nil {
		return answer, <-sent
	}
	select {
	case why := <-sent: // the body may be what was wrong
		if why != nil && !errors.Is(why, errStopped) && !errors.Is(why, io.ErrClosedPipe) && !errors.Is(why, context.Canceled) {
			err = why
		}
	default: // a source that is silent is not waited for
	}
	return answer, err
}

var errStopped = errors.New("the request has ended")

// encode writes records as NDJSON.
func (t *Table[R]) encode(ctx context.Context, w io.Writer, records iter.Seq2[R, error]) error {
	encoder, err := codec.NewEncoder[R](w, codec.FormatNDJSON)
	if err != nil {
		return err
	}
	const asked = 100 // at a time, of the controller
	n := 0
	for r, err := range records {
		if err != nil {
			return err
		}
		if n%asked == 0 {
			if err := t.wait(ctx, asked); err != nil {
				return err
			}
		}
		if n++; t.schema.Validate(&r) != nil {
			return &mds.RecordError{Index: n - 1, Err: t.schema.Validate(&r)}
		}
		if err := encoder.Encode(&r); err != nil {
			return err
		}
	}
	return encoder.Close()
}

// Query reads a window of records, in order of time, as it is streamed. The sequence ends
// after its first error. ByIdentity and Unordered are not asked for: records come in order
// of time.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	values := selectionValues(&t.schema, query.Selection)
	if query.Descending {
		values.Set("order", "desc")
	}
	if query.Limit > 0 {
		values.Set("limit", strconv.Itoa(query.Limit))
	}
	return func(yield func(R, error) bool) {
		if _, err := t.schema.Conditions(query.Selection); err != nil {
			yield(*new(R), err)
			return
		}
		t.read(ctx, request{method: http.MethodGet, tenant: t.c.tenant(tenant), path: t.path(), query: values, accept: ndjson}, yield)
	}
}

// Latest returns the newest record of each series, in order of identity.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (list []R, err error) {
	if _, err := t.schema.Conditions(sel); err != nil {
		return nil, err
	}
	t.read(ctx, request{method: http.MethodGet, tenant: t.c.tenant(tenant), path: t.path() + "/latest", query: selectionValues(&t.schema, sel), accept: ndjson}, func(r R, e error) bool {
		if err = e; e == nil {
			list = append(list, r)
		}
		return true
	})
	return list, err
}

// read reads a stream of records.
func (t *Table[R]) read(ctx context.Context, r request, yield func(R, error) bool) {
	resp, err := t.c.do(ctx, r)
	if err != nil {
		yield(*new(R), err)
		return
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	body := &streamed{r: resp.Body}
	decoder, err := codec.NewDecoder[R](body, codec.FormatNDJSON, codec.Options{})
	var none *codec.HeaderError
	if errors.As(err, &none) && body.n == 0 && body.err == nil {
		return // there is nothing in it
	}
	for err == nil {
		var record R
		if err = decoder.Next(&record); err == nil && !yield(record, nil) {
			return
		}
	}
	switch {
	case errors.Is(err, io.EOF):
		return
	case ctx.Err() != nil:
		err = ctx.Err()
	case body.err != nil:
		err = &Error{Err: fmt.Errorf("the answer ends too early: %w", body.err), connection: true}
	}
	yield(*new(R), err)
}

// streamed notes how a stream ends.
type streamed struct {
	r   io.Reader
	n   int64
	err error
}

func (s *streamed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	s.n += int64(n)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Series lists the series that hold records, in order of identity.
func (t *Table[R]) Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error) {
	if _, err := t.schema.Conditions(sel); err != nil {
		return nil, err
	}
	var answer struct {
		Series []map[string]any `json:"series"`
	}
	if err := t.c.get(ctx, t.c.tenant(tenant), t.path()+"/series", selectionValues(&t.schema, sel), &answer); err != nil {
		return nil, err
	}
	list := make([]mds.Series[R], len(answer.Series))
	for i, members := range answer.Series {
		for _, c := range t.schema.ByRole(mds.Identity) {
			if err := c.SetText(&list[i].Identity, fmt.Sprint(members[c.Name])); err != nil {
				return nil, &Error{Err: fmt.Errorf("series %d: %s: %w", i, c.Name, err)}
			}
		}
		rows, err := strconv.ParseInt(fmt.Sprint(members["rows"]), 10, 64)
		if err != nil {
			return nil, &Error{Err: fmt.Errorf("series %d: rows: %w", i, err)}
		}
		list[i].Rows = rows
		for name, to := range map[string]*time.Time{"first": &list[i].First, "last": &list[i].Last} {
			at, err := codec.ParseTime(fmt.Sprint(members[name]), time.UTC)
			if err != nil {
				return nil, &Error{Err: fmt.Errorf("series %d: %s: %w", i, name, err)}
			}
			*to = at.UTC()
		}
	}
	return list, nil
}

// selectionValues are the parameters of a selection.
func selectionValues[R any](schema *mds.Schema[R], sel mds.Selection) url.Values {
	v := make(url.Values)
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	instant := func(at time.Time) string {
		if at.IsZero() {
			return ""
		}
		return at.Format(time.RFC3339Nano) // with its offset: dates are those it shows
	}
	set("vendor", sel.Vendor)
	set("timeframe", string(sel.Timeframe))
	set("start", instant(sel.Start))
	set("end", instant(sel.End))
	set("known_at", instant(sel.KnownAt))
	v["symbol"] = slices.Clone(sel.Symbols)
	for name, values := range sel.Where {
		if c := schema.Lookup(name); c != nil && c == schema.SymbolColumn() {
			name = "symbol"
		}
		v[name] = append(v[name], values...)
	}
	for name, values := range v {
		if len(values) == 0 {
			delete(v, name)
		}
	}
	return v
}
