package server

import (
	"context"
	"errors"
	"fmt"
	"io"
	"mime"
	"net/http"
	"os"
	"strings"
	"sync"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/ingest"
)

// The media types of records.
const (
	typeJSON   = "application/json"
	typeNDJSON = "application/x-ndjson"
	typeCSV    = "text/csv"
	typeArrow  = "application/vnd.apache.arrow.stream"
)

// formatArrow is a stream of Arrow's IPC format.
const formatArrow codec.Format = "arrow"

// inputs are the media types that bodies may have, by the format that they say.
var inputs = map[string]codec.Format{
	typeArrow:            formatArrow,
	typeJSON:             codec.FormatJSON,
	typeNDJSON:           codec.FormatNDJSON,
	"application/ndjson": codec.FormatNDJSON,
	"application/jsonl":  codec.FormatNDJSON,
	typeCSV:              codec.FormatCSV,
}

// format is that of a request's body.
func (c *call) format() (codec.Format, error) {
	said := c.r.Header.Get("Content-Type")
	media, _, err := mime.ParseMediaType(said)
	format, ok := inputs[media]
	if err != nil || !ok {
		return "", &problem{
			status: http.StatusUnsupportedMediaType, code: "unsupported_media_type",
			detail: fmt.Sprintf("Content-Type is %q: send %s, %s, %s or %s", said, typeArrow, typeNDJSON, typeJSON, typeCSV),
		}
	}
	return format, nil
}

// What a body of rows takes of memory, roughly: buffers, a long line, and the window of what
// is packed; and one of batches. All under way have leastMemory at least, in which any one fits.
const (
	leastMemory = 64 << 20
	rowsBody    = 1 << 20
	zstdWindow  = 8 << 20
	leastArrow  = 1 << 20
	mostArrow   = 32 << 20
	arrowPacked = 20 // times as large as it came a batch may become
)

// A body that keeps much memory must come at some rate, after a while.
const (
	slowFor    = 10 * time.Second
	leastBytes = 4 << 10 // a second
)

// memoryPatience is how long a body waits for memory that others have.
const memoryPatience = time.Second

// memory is what reading a body may take.
func (c *call) memory(format codec.Format) int64 {
	n := int64(rowsBody)
	plain := c.r.Header.Get("Content-Encoding") == "" && c.r.ContentLength >= 0
	switch {
	case format == formatArrow && plain:
		n = min(max(arrowPacked*c.r.ContentLength, leastArrow), mostArrow)
	case format == formatArrow:
		n = mostArrow
	}
	if strings.EqualFold(c.r.Header.Get("Content-Encoding"), "zstd") {
		n += zstdWindow
	}
	return n
}

// raw is the body of a request as it comes. Before it waits for more of it, before is called.
// It may have most bytes, or any number of them for 0. When ctx ends no more of it is read.
func (c *call) raw(ctx context.Context, format codec.Format, idle time.Duration, most int64, before func() error) *rawBody {
	raw := &rawBody{c: c, ctx: ctx, control: http.NewResponseController(c.w), idle: idle, most: most, before: before}
	if format == formatArrow {
		raw.least = leastBytes
	}
	raw.forget = context.AfterFunc(ctx, raw.end)
	return raw
}

// unpack is a body unpacked as it is read, in bounded memory.
func (c *call) unpack(raw *rawBody) (io.ReadCloser, error) {
	switch coding := strings.ToLower(strings.TrimSpace(c.r.Header.Get("Content-Encoding"))); coding {
	case "", "identity":
		return raw, nil
	case "gzip", "x-gzip":
		r, err := gzip.NewReader(raw)
		if err != nil {
			_ = raw.Close()
			if raw.err != nil {
				return nil, raw.err
			}
			return nil, packedError("gzip", err)
		}
		return &unpacked{Reader: r, raw: raw, coding: "gzip", close: r.Close}, nil
	case "zstd":
		// A window of 8 MiB is what RFC 8878 has every decoder take, and no more.
		r, err := zstd.NewReader(raw, zstd.WithDecoderConcurrency(1), zstd.WithDecoderMaxWindow(zstdWindow), zstd.WithDecoderLowmem(true))
		if err != nil {
			_ = raw.Close()
			return nil, packedError("zstd", err)
		}
		return &unpacked{Reader: r, raw: raw, coding: "zstd", close: func() error { r.Close(); return nil }}, nil
	default:
		_ = raw.Close()
		return nil, &problem{
			status: http.StatusUnsupportedMediaType, code: "unsupported_encoding",
			detail: fmt.Sprintf("Content-Encoding is %q: send gzip, zstd or none", coding),
		}
	}
}

// rawBody reads what comes over the connection.
type rawBody struct {
	c       *call
	ctx     context.Context // of reading it
	control *http.ResponseController
	idle    time.Duration
	before  func() error
	least   float64 // bytes a second; 0 for as few as there are
	n       int64
	most    int64         // bytes; 0 for any number
	waited  time.Duration // for them
	err     error         // how it ended, but for its end

	forget func() bool // the end of reading, when all is read

	mu     sync.Mutex
	ended  bool
	closed bool
}

// Close leaves the connection to the next request.
func (b *rawBody) Close() error {
	b.forget()
	b.mu.Lock() // end may have begun, and must not touch the answer once the request is over
	defer b.mu.Unlock()
	b.closed = true
	return nil
}

// errBody is wrapped by errors of bodies that did not come whole.
var errBody = errors.New("the body did not come whole")

func (b *rawBody) Read(p []byte) (n int, err error) {
	defer func() {
		if err != nil && !errors.Is(err, io.EOF) {
			b.err = err
		}
	}()
	if err := b.before(); err != nil {
		return 0, err
	}
	// Time that passes while nobody reads is not the client's.
	if err := b.wait(time.Now().Add(b.idle)); err != nil {
		return 0, err
	}
	if b.most > 0 {
		p = p[:min(int64(len(p)), max(1, b.most-b.n))]
	}
	begun := time.Now()
	n, err = b.c.r.Body.Read(p)
	if b.c.again != nil {
		b.c.again.body.Write(p[:n])
	}
	b.n += int64(n)
	b.waited += time.Since(begun)
	if b.most > 0 && b.n > b.most { // it was only to be seen whether there is more
		return 0, tooLarge(b.most)
	}
	if err == nil && b.waited > slowFor && float64(b.n) < b.least*b.waited.Seconds() {
		return n, &problem{status: http.StatusRequestTimeout, code: "body_timeout", detail: fmt.Sprintf("the body comes too slowly: less than %.0f bytes a second; send Arrow in smaller bodies, or another form", b.least), err: errBody}
	}
	if err == nil {
		return n, nil
	}
	// The server itself reads on, to see whether the client goes: it may take its time.
	_ = b.wait(time.Time{})
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case errors.Is(err, io.EOF):
	case stopped(b.ctx): // and not the client, whose end ends it, too
		err = ingest.ErrStopped
	case errors.Is(err, os.ErrDeadlineExceeded):
		err = &problem{status: http.StatusRequestTimeout, code: "body_timeout", detail: fmt.Sprintf("nothing of the body came for %s", b.idle), err: errBody}
	case errors.Is(err, io.ErrUnexpectedEOF) || b.c.Context().Err() == nil:
		err = &problem{status: http.StatusBadRequest, code: "body_cut", detail: "the body ends too early: send it again", err: fmt.Errorf("%w: %w", errBody, err)}
	default:
		err = b.c.Context().Err()
	}
	return n, err
}

// tooLarge refuses a body for its size.
func tooLarge(most int64) error {
	return &problem{
		status: http.StatusRequestEntityTooLarge, code: "body_too_large",
		detail: fmt.Sprintf("the body is larger than the %d bytes that this server takes: send its records in several", most), err: errBody,
	}
}

// stopped reports that a context has ended because intake has.
func stopped(ctx context.Context) bool { return errors.Is(context.Cause(ctx), ingest.ErrStopped) }

// wait sets until when a read waits.
func (b *rawBody) wait(until time.Time) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.ended || b.closed {
		return nil
	}
	err := b.control.SetReadDeadline(until)
	if errors.Is(err, http.ErrNotSupported) {
		return nil
	}
	return err
}

// end has reads end at once, and no other begin.
func (b *rawBody) end() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.ended = true
	_ = b.control.SetReadDeadline(time.Unix(1, 0)) // where there are deadlines
}

// unpacked is a body that was packed.
type unpacked struct {
	io.Reader
	raw    *rawBody
	coding string
	close  func() error
	n      int64
}

// A body that becomes larger than plenty may be packed this tightly, and no more: records
// are at most some hundred times smaller.
const (
	plenty   = 64 << 20
	tightest = 400
)

func (u *unpacked) Read(p []byte) (int, error) {
	n, err := u.Reader.Read(p)
	u.n += int64(n)
	if u.raw.err != nil {
		return n, u.raw.err // which the unpacking takes for damage
	}
	if u.n > plenty && u.n > tightest*u.raw.n {
		return n, &problem{
			status: http.StatusRequestEntityTooLarge, code: "packed_too_tightly",
			detail: fmt.Sprintf("the %s body becomes more than %d times as large: no records do; send it unpacked", u.coding, tightest),
		}
	}
	if err != nil && !errors.Is(err, io.EOF) {
		err = packedError(u.coding, err)
	}
	return n, err
}

func (u *unpacked) Close() error {
	return errors.Join(u.raw.Close(), u.close())
}

func packedError(coding string, err error) error {
	var p *problem
	if errors.As(err, &p) {
		return p
	}
	return &problem{status: http.StatusBadRequest, code: "unreadable_body", detail: "the body is no " + coding + ", as Content-Encoding has it, or damaged", err: err}
}

// options say how a body is read, from the parameters.
func options[R mds.Record[R]](c *call, schema *mds.Schema[R]) (opt codec.Options, err error) {
	if tz := c.value("tz"); tz != "" {
		if opt.Zone, err = zone(tz); err != nil {
			return opt, err
		}
	}
	if label := c.value("label"); label != "" {
		if opt.Label, err = codec.ParseLabel(label); err != nil {
			return opt, badRequest("bad_parameter", err.Error())
		}
	}
	opt.NoHeader = c.value("no_header") == "true"
	for _, column := range fixable(schema) {
		if value := c.value(column.Name); value != "" {
			if opt.Fixed == nil {
				opt.Fixed = make(map[string]string)
			}
			opt.Fixed[column.Name] = value
		}
	}
	for _, pair := range c.values["columns"] {
		column, from, ok := strings.Cut(pair, "=")
		if !ok {
			return opt, badRequest("bad_parameter", fmt.Sprintf("columns %q: write column=name in the body, such as close=Adj Close", pair))
		}
		if opt.Columns == nil {
			opt.Columns = make(map[string]string)
		}
		opt.Columns[strings.TrimSpace(column)] = strings.TrimSpace(from)
	}
	return opt, nil
}
