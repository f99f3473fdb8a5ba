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
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// The media types that are spoken.
const (
	columns  = "application/vnd.apache.arrow.stream"
	ndjson   = "application/x-ndjson" // where a record may come by itself
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

// WriteBatch upserts records, and returns when they are on the store's disk; see
// [ingest.Writer]. Of records that are invalid none is sent, and the error is an
// [*mds.RecordError]. Where the server's store refuses some, the others are stored, and the
// error is a [*RejectedError], which names them as a [*mds.RefusedError]. The receipt counts
// all that are stored as written: what they changed only the server knows.
//
// A batch whose answer was lost is sent again (see Config.MaxRetries), and replaces what others
// wrote at the same keys meanwhile: where several write the same ones, [Table.WriteOnce] does
// not. A batch that is too large for one request is sent in several, of which an error leaves
// those that came before written.
func (t *Table[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	answer, err := t.send(ctx, tenant, records, request{})
	return mds.Receipt{Written: answer.Committed}, err
}

// WriteOnce is WriteBatch under an idempotency key of 1 to 255 visible ASCII characters: once
// the records are written, the same ones sent again under it, within 24 hours, change nothing,
// whoever changed them meanwhile. Other records under it are refused.
func (t *Table[R]) WriteOnce(ctx context.Context, tenant mds.Tenant, key string, records []R) (Answer, error) {
	if key == "" {
		return Answer{}, errors.New("client: the idempotency key is empty")
	}
	return t.send(ctx, tenant, records, request{key: key})
}

// send sends records, all of which are valid, and returns when all are on the disk.
func (t *Table[R]) send(ctx context.Context, tenant mds.Tenant, records []R, r request) (Answer, error) {
	for i := range records {
		if err := t.schema.Validate(&records[i]); err != nil {
			return Answer{}, &mds.RecordError{Index: i, Err: err}
		}
	}
	if err := t.wait(ctx, len(records)); err != nil {
		return Answer{}, err
	}
	r.tenant, r.contentType = t.c.tenant(tenant), columns
	if r.query == nil && r.key == "" { // what is sent again under a key has the same parameters
		r.query = url.Values{"max_errors": {strconv.Itoa(MaxListed)}}
	}
	answer, err := t.deliver(ctx, records, r)
	if err == nil && answer.Committed != int64(len(records)) {
		err = &RejectedError{answer, t.refused(records, &answer)}
	}
	return answer, err
}

// batch is records as a stream of Arrow's.
func (t *Table[R]) batch(records []R) ([]byte, error) {
	var body bytes.Buffer
	w, err := arrow.NewWriter[R](&body, arrow.WriterOptions{Dictionaries: true})
	if err != nil {
		return nil, err
	}
	for _, r := range records {
		t.schema.Normalize(&r) // the date of a calendar bar is the one that its time shows
		if err := w.Append(&r); err != nil {
			return nil, err
		}
	}
	err = w.Close()
	return body.Bytes(), err
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
	r.method, r.path, r.accept = http.MethodPost, t.path(), document
	resp, err := t.c.do(ctx, r)
	if err != nil {
		return Answer{}, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	var a Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		if ctx.Err() != nil {
			return a, ended(ctx)
		}
		return a, &Error{Err: fmt.Errorf("the answer is none: %w", err), connection: true}
	}
	return a, nil
}

// WriteLate upserts records that come late, as they were submitted at a time: a stored row
// that changed at that time or after it stays, and its record counts as superseded, or as
// unchanged where the two are equal. The server writes portions of some thousand records, of
// which an error leaves those that came before written.
func (t *Table[R]) WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	answer, err := t.send(ctx, tenant, records, request{query: url.Values{"late": {as.UTC().Format(time.RFC3339Nano)}}})
	return mds.Receipt{Written: answer.Committed - answer.Unchanged - answer.Superseded, Unchanged: answer.Unchanged, Superseded: answer.Superseded}, err
}

// Delete removes records and returns their number. It is not made again by itself, whatever
// Config.MaxRetries is: one whose answer was lost may have been done, and once more it would
// remove what was written since, and return another number.
func (t *Table[R]) Delete(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error) {
	values, ok, err := t.pick(sel)
	if err != nil || !ok {
		return 0, err
	}
	if len(values) == 0 {
		values.Set("all", "true")
	}
	var n Removed
	err = t.c.ask(ctx, request{method: http.MethodDelete, tenant: t.c.tenant(tenant), path: t.path(), query: values, accept: document, once: true}, &n)
	return n.Removed, err
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
	answer, err := t.post(ctx, request{tenant: t.c.tenant(tenant), contentType: ndjson, body: func() io.Reader { return r }, once: true})
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
		t.schema.Normalize(&r)
		if err := encoder.Encode(&r); err != nil {
			return err
		}
	}
	return encoder.Close()
}
