package client

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"math"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
)

// Query reads a window of records as it is streamed. The sequence ends after its first error.
func (t *Table[R]) Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error] {
	values, ok, err := t.pick(query.Selection)
	if err != nil || !ok {
		return func(yield func(R, error) bool) {
			if err != nil {
				yield(*new(R), err)
			}
		}
	}
	limited := false // by the server; in other orders the sequence ends at the limit
	switch {
	case query.Unordered && query.KnownAt.IsZero():
		values.Set("order", "any")
	case query.ByIdentity && query.Descending:
		values.Set("order", "identity_desc")
	case query.ByIdentity:
		values.Set("order", "identity")
	case query.Descending:
		values.Set("order", "desc")
		limited = true
	default:
		limited = true
	}
	if query.Limit > 0 && limited {
		values.Set("limit", strconv.Itoa(query.Limit))
	}
	return func(yield func(R, error) bool) {
		n := 0
		t.read(ctx, t.get(tenant, "", values), func(r R, err error) bool {
			n++
			return yield(r, err) && (query.Limit <= 0 || n < query.Limit)
		})
	}
}

// Latest returns the newest record of each series, in order of identity.
func (t *Table[R]) Latest(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (list []R, err error) {
	values, ok, err := t.pick(sel)
	if err != nil || !ok {
		return nil, err
	}
	t.read(ctx, t.get(tenant, "/latest", values), func(r R, e error) bool {
		if err = e; e == nil {
			list = append(list, r)
		}
		return true
	})
	return list, err
}

// get is a request for records.
func (t *Table[R]) get(tenant mds.Tenant, path string, values url.Values) request {
	return request{method: http.MethodGet, tenant: t.c.tenant(tenant), path: t.path() + path, query: values, accept: columns}
}

// Resample reads longer bars than are stored, oldest first, as [mds.ResampleQuery] says; what
// they are read from it does not tell.
func (c *Client) Resample(ctx context.Context, tenant mds.Tenant, query mds.ResampleQuery) iter.Seq2[mds.Bar, error] {
	bars := TableOf[mds.Bar](c)
	values, ok, err := bars.pick(query.Selection)
	if err != nil || !ok {
		return func(yield func(mds.Bar, error) bool) {
			if err != nil {
				yield(mds.Bar{}, err)
			}
		}
	}
	values.Set("every", string(query.Every))
	if query.Zone != nil {
		values.Set("tz", query.Zone.String())
	}
	if query.AsRefreshed {
		values.Set("as_refreshed", "true")
	}
	if query.Limit > 0 {
		values.Set("limit", strconv.Itoa(query.Limit))
	}
	return func(yield func(mds.Bar, error) bool) { bars.read(ctx, bars.get(tenant, "", values), yield) }
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
	if err := decode(ctx, body, yield); err != nil {
		switch {
		case ctx.Err() != nil:
			err = ended(ctx)
		case body.err != nil:
			err = body.err
			fallthrough
		default:
			err = &Error{Err: fmt.Errorf("the answer ends too early: %w", err), connection: true}
		}
		yield(*new(R), err)
	}
}

// decode yields the records of a stream until it ends, or nobody wants more.
func decode[R mds.Record[R]](ctx context.Context, body io.Reader, yield func(R, error) bool) error {
	reader, err := arrow.NewReader[R](body, arrow.Options{})
	if err != nil {
		return err
	}
	defer reader.Close()
	into := make([]R, 1024)
	for {
		if ctx.Err() != nil { // what came before it may still be read
			return ctx.Err()
		}
		n, rejected, err := reader.Next(into)
		for i := range into[:n] {
			if !yield(into[i], nil) {
				return nil
			}
		}
		switch {
		case len(rejected) > 0:
			return fmt.Errorf("record %d: %s", rejected[0].Line, rejected[0].Reason)
		case errors.Is(err, io.EOF):
			return ctx.Err() // an end that came of breaking off is none
		case err != nil:
			return err
		}
	}
}

// streamed notes how a stream ends.
type streamed struct {
	r   io.Reader
	err error
}

func (s *streamed) Read(p []byte) (int, error) {
	n, err := s.r.Read(p)
	if err != nil && !errors.Is(err, io.EOF) {
		s.err = err
	}
	return n, err
}

// Count returns the number of records.
func (t *Table[R]) Count(ctx context.Context, tenant mds.Tenant, sel mds.Selection) (int64, error) {
	values, ok, err := t.pick(sel)
	if err != nil || !ok {
		return 0, err
	}
	var n Count
	err = t.c.get(ctx, t.c.tenant(tenant), t.path()+"/count", values, &n)
	return n.Count, err
}

// Info sums up the kind.
func (t *Table[R]) Info(ctx context.Context, tenant mds.Tenant) (info mds.KindInfo, err error) {
	return info, t.c.get(ctx, t.c.tenant(tenant), t.path()+"/info", nil, &info)
}

// Series lists the series that hold records, in order of identity.
func (t *Table[R]) Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error) {
	values, ok, err := t.pick(sel)
	if err != nil || !ok {
		return nil, err
	}
	var answer struct {
		Series []map[string]any `json:"series"`
	}
	if err := t.c.get(ctx, t.c.tenant(tenant), t.path()+"/series", values, &answer); err != nil {
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

// comma is what a list takes for none of its own.
var comma = strings.NewReplacer(`\`, `\\`, `,`, `\,`)

// list adds values of a parameter that may have several.
func list(v url.Values, name string, values []string) {
	for _, value := range values {
		v.Add(name, comma.Replace(value))
	}
}

// instant writes a time with its offset, since of calendar bars it is the date that it shows.
// What is written has no seconds in an offset, as zones had once, and no day that begins later
// than at midnight: the offset is the nearest one then that shows a time of the same bounds.
func instant(at time.Time) string {
	if at.IsZero() {
		return ""
	}
	_, offset := at.Zone()
	date := mds.Bound(at, true)
	for _, seconds := range []int64{int64(offset), int64(offset) + 59, date/1e6 - at.Unix()} {
		minutes := int(math.Floor(float64(seconds) / 60))
		if shown := at.In(time.FixedZone("", minutes*60)); mds.Bound(shown, true) == date {
			return shown.Format(time.RFC3339Nano)
		}
	}
	return at.UTC().Format(time.RFC3339Nano)
}

// pick are the parameters of a selection; it is not ok where none are picked.
func (t *Table[R]) pick(sel mds.Selection) (v url.Values, ok bool, err error) {
	if _, err := t.schema.Conditions(sel); err != nil {
		return nil, false, err
	}
	start, end := sel.Start, sel.End
	if !start.IsZero() && !end.IsZero() && !start.Before(end) {
		return nil, false, nil
	}
	const first, last = 1, 9999 // the years of records, and of times as they are written
	if start.Year() > last || !end.IsZero() && end.Year() < first {
		return nil, false, nil
	}
	if start.Year() < first {
		start = time.Time{}
	}
	if end.Year() > last {
		end = time.Time{}
	}
	v = make(url.Values)
	set := func(name, value string) {
		if value != "" {
			v.Set(name, value)
		}
	}
	if sel.Vendor != "" {
		list(v, "vendor", []string{sel.Vendor})
	}
	set("timeframe", string(sel.Timeframe))
	set("start", instant(start))
	set("end", instant(end))
	set("known_at", instant(sel.KnownAt))
	list(v, "symbol", sel.Symbols)
	for name, values := range sel.Where {
		switch c := t.schema.Lookup(name); {
		case c != nil && c == t.schema.SymbolColumn():
			list(v, "symbol", values)
		case c != nil && c.Role == mds.Key && c.Parse == nil: // any text, commas and all
			v[name] = append(v[name], values...)
		default:
			list(v, name, values)
		}
	}
	for name, values := range v {
		if len(values) == 0 {
			delete(v, name)
		}
	}
	return v, true, nil
}
