package client

import (
	"bufio"
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// TailQuery says what to follow.
type TailQuery struct {
	// Selection picks by columns; it has no window, and is not as known at a time.
	mds.Selection
	// Disconnected is called when the connection is lost, before the pause to the next try,
	// and Connected when the server answers. Nil is none.
	Disconnected func(err error)
	Connected    func()
	// Heartbeat is that of the server: without a sign of life for three of them the
	// connection counts as lost. Defaults to 5 seconds.
	Heartbeat time.Duration
}

// GapError says that records were missed: they are in the store, and come by themselves no
// more.
type GapError struct {
	// Reason is "slow" where the client did not read as fast as they came, "overload" where
	// they came faster than the server encodes them, "away" where it was not connected, and
	// "restarted" where meanwhile the server was started again.
	Reason string `json:"reason"`
	// Lost is how many were missed, at least.
	Lost int64 `json:"lost"`
	// AtMost is how many were missed at most; nil where nobody knows.
	AtMost *int64 `json:"at_most"`
}

func (e *GapError) Error() string {
	many := "some records, nobody knows how many,"
	switch {
	case e.AtMost == nil:
	case *e.AtMost == e.Lost:
		many = fmt.Sprintf("%d records", e.Lost)
	default:
		many = fmt.Sprintf("at most %d records", *e.AtMost)
	}
	why := map[string]string{
		"slow": "what is read is read too slowly", "overload": "they came faster than the server encodes them",
		"away": "the connection was lost", "restarted": "the server was started again",
	}[e.Reason]
	return fmt.Sprintf("%s were missed: %s", many, cmp.Or(why, e.Reason))
}

// Tail follows what the server commits from now on: the records that came together, which
// are valid until the next ones. Those of a series come in the order in which they were
// committed.
//
// It goes on for ever, over as many connections as it takes. A [*GapError] says that some
// were missed there, and the sequence goes on after it; any other error ends it: that of ctx,
// or of a server that cannot be reached at first or refuses the request.
func (t *Table[R]) Tail(ctx context.Context, tenant mds.Tenant, query TailQuery) iter.Seq2[[]R, error] {
	return func(yield func([]R, error) bool) {
		values, _, err := t.pick(query.Selection)
		if err == nil && (!query.Start.IsZero() || !query.End.IsZero() || !query.KnownAt.IsZero()) {
			err = errors.New("client: what is followed has no window, and is not as known at a time")
		}
		if err != nil {
			yield(nil, err)
			return
		}
		values.Set("kind", t.schema.Kind)
		f := &following[R]{c: t.c, kind: t.schema.Kind, query: query, yield: yield}
		f.silence = 3 * cmp.Or(query.Heartbeat, 5*time.Second)
		f.request = request{method: http.MethodGet, tenant: t.c.tenant(tenant), path: "/v1/stream", query: values, accept: eventStream, streams: true}
		if err := f.run(ctx); err != nil {
			yield(nil, err)
		}
	}
}

const eventStream = "text/event-stream"

// errSilent ends a connection over which nothing comes.
var errSilent = errors.New("nothing was heard for three heartbeats")

// errEnough ends a sequence of which nobody wants more.
var errEnough = errors.New("nobody wants more")

// following is a sequence under way.
type following[R mds.Record[R]] struct {
	c       *Client
	kind    string
	query   TailQuery
	request request
	silence time.Duration
	yield   func([]R, error) bool
	records []R
}

// run connects for ever. It returns nil when nobody wants more.
func (f *following[R]) run(ctx context.Context) error {
	pauses := backoff{first: f.c.cfg.Backoff}
	resp, err := f.c.do(ctx, f.request) //nolint:bodyclose // read closes it
	for {
		if err == nil {
			pauses.n = 0
			if f.query.Connected != nil {
				f.query.Connected()
			}
			err = f.read(ctx, resp)
		}
		var e *Error
		switch {
		case errors.Is(err, errEnough):
			return nil
		case ctx.Err() != nil:
			return ended(ctx)
		case f.request.last == "", errors.As(err, &e) && !e.Retryable():
			return err // it never worked, or does no more
		}
		if f.query.Disconnected != nil {
			f.query.Disconnected(err)
		}
		var after time.Duration
		if e != nil {
			after = min(e.RetryAfter, time.Minute)
		}
		if sleep(ctx, max(pauses.next(), after)) != nil {
			return ended(ctx)
		}
		resp, err = f.c.once(ctx, f.request) //nolint:bodyclose // read closes it
	}
}

// read yields what comes over one connection, and returns why that ended.
func (f *following[R]) read(ctx context.Context, resp *http.Response) error {
	watchdog := time.AfterFunc(f.silence, func() { _ = resp.Body.Close() }) // which ends the reading
	defer func() {
		watchdog.Stop()
		_ = resp.Body.Close() // it was only read
	}()
	events := eventReader{lines: bufio.NewReaderSize(resp.Body, 64<<10)}
	for {
		m, err := events.next()
		if err != nil {
			switch {
			case ctx.Err() != nil:
				return ctx.Err()
			case !watchdog.Stop():
				err = errSilent
			case errors.Is(err, io.EOF):
				err = errors.New("the server has ended the stream")
			}
			return &Error{Err: err, connection: true}
		}
		stopped := watchdog.Stop() // who reads may take its time
		if !stopped {
			return &Error{Err: errSilent, connection: true}
		}
		if err := f.hand(m); err != nil {
			return err
		}
		watchdog.Reset(f.silence)
	}
}

// hand yields what an event says.
func (f *following[R]) hand(m message) error {
	var more bool
	switch m.event {
	case f.kind:
		if err := f.decode(m.data); err != nil {
			return &Error{Err: fmt.Errorf("an event cannot be read: %w", err)}
		}
		more = f.yield(f.records, nil)
	case "gap":
		gap := &GapError{}
		if err := json.Unmarshal(m.data, gap); err != nil {
			return &Error{Err: fmt.Errorf("an event cannot be read: %w", err)}
		}
		more = f.yield(nil, gap)
	default:
		more = true // a sign of life, or of a newer version
	}
	if m.id != "" {
		f.request.last = m.id
	}
	if !more {
		return errEnough
	}
	return nil
}

// decode reads the records of an event.
func (f *following[R]) decode(data []byte) error {
	decoder, err := codec.NewDecoder[R](bytes.NewReader(data), codec.FormatNDJSON, codec.Options{})
	if err != nil {
		return err
	}
	f.records = f.records[:0]
	for {
		var r R
		err := decoder.Next(&r)
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		f.records = append(f.records, r)
	}
}

// message is what a stream of server-sent events says.
type message struct {
	event, id string
	data      []byte // valid until the next message
}

// mostMessage bounds an event: the server puts some 64 KiB into one, or one record.
const mostMessage = 64 << 20

// eventReader reads what the server writes of server-sent events: lines that end with LF.
type eventReader struct {
	lines *bufio.Reader
	data  []byte
}

// next returns the next message, also one without data. What is not complete at the end of
// the stream is none.
func (r *eventReader) next() (m message, err error) {
	r.data = r.data[:0]
	for {
		begin := len(r.data)
		for { // a line, however long
			part, err := r.lines.ReadSlice('\n')
			r.data = append(r.data, part...)
			if err == nil {
				break
			}
			if !errors.Is(err, bufio.ErrBufferFull) {
				return m, err
			}
			if len(r.data) > mostMessage {
				return m, errors.New("an event is longer than 64 MiB")
			}
		}
		line := r.data[begin:]
		if len(line) == 1 {
			m.data = r.data[:begin]
			return m, nil
		}
		name, value, _ := bytes.Cut(line[:len(line)-1], []byte(":"))
		value = bytes.TrimPrefix(value, []byte(" "))
		r.data = r.data[:begin]
		switch string(name) {
		case "event":
			m.event = string(value)
		case "id":
			m.id = string(value)
		case "data":
			r.data = append(append(r.data, value...), '\n')
		}
	}
}
