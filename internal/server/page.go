package server

import (
	"cmp"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"iter"
	"net/url"
	"time"

	"github.com/marketdatastore/mds"
)

// page is a part of an answer, from a cursor on.
type page[R mds.Record[R]] struct {
	schema     *mds.Schema[R]
	descending bool
	digest     string // of the other parameters
	sel        mds.Selection

	from bool // there is a cursor, after
	at   int64
	id   R // its identity and the rest of its key

	more bool // records are left
	last R    // of this page
}

// position is a cursor as it is written: the time of a record, in microseconds, and what
// orders those of one time.
type position struct {
	At     int64    `json:"t"`
	ID     []string `json:"k"`
	Digest string   `json:"q"`
}

// digestOf tells requests apart whose cursors are not each other's.
func digestOf(values url.Values) string {
	same := make(url.Values)
	for name, v := range values {
		if name != "cursor" && name != "limit" && name != "format" {
			same[name] = v
		}
	}
	sum := sha256.Sum256([]byte(same.Encode()))
	return base64.RawURLEncoding.EncodeToString(sum[:9])
}

// key are the columns that order records of one time.
func (p *page[R]) key() []*mds.Column[R] {
	return p.schema.ByRole(mds.Identity, mds.Key, mds.Revision)
}

// cursor is that of the page's last record.
func (p *page[R]) cursor() string {
	at := position{At: p.schema.Micros(&p.last), Digest: p.digest}
	for _, c := range p.key() {
		at.ID = append(at.ID, string(c.AppendText(nil, &p.last)))
	}
	text, _ := json.Marshal(at) // numbers and texts
	return base64.RawURLEncoding.EncodeToString(text)
}

var errCursor = badRequest("bad_cursor", "cursor is none of this request's: send the next of its answer, with all other parameters as they were")

// parse reads a cursor.
func (p *page[R]) parse(text string) error {
	raw, err := base64.RawURLEncoding.DecodeString(text)
	var at position
	if err != nil || json.Unmarshal(raw, &at) != nil || at.Digest != p.digest || len(at.ID) != len(p.key()) {
		return errCursor
	}
	for i, c := range p.key() {
		if err := c.SetText(&p.id, at.ID[i]); err != nil {
			return errCursor
		}
	}
	if year := time.UnixMicro(at.At).UTC().Year(); year < 1 || year > 9999 {
		return errCursor
	}
	p.from, p.at = true, at.At
	return nil
}

// queries are those that read a page of some records: first what is left of the cursor's
// time, then what comes after it.
func (p *page[R]) queries(sel mds.Selection, limit int) []mds.Query {
	all := mds.Query{Selection: sel, Descending: p.descending}
	if limit > 0 {
		all.Limit = limit + 1 // to see whether there are more
	}
	if !p.from {
		return []mds.Query{all}
	}
	if p.mixed() {
		all.Limit = 0 // some of what is read is left out
	}
	at := time.UnixMicro(p.at).UTC()
	next := at.Add(time.Microsecond)
	if !sel.Start.IsZero() && at.Before(sel.Start) || !sel.End.IsZero() && !at.Before(sel.End) {
		// It is a date's, which begins elsewhere at another time.
		all.Limit = 0
		return []mds.Query{all}
	}
	same, rest := all, all
	same.Start, same.End, same.Limit = at, next, 0
	if !sel.End.IsZero() && sel.End.Before(next) {
		same.End = sel.End
	}
	if rest.Start = next; p.descending {
		rest.Start, rest.End = sel.Start, at
	}
	return []mds.Query{same, rest}
}

// span is when the span of longer bars begins that the cursor is of.
func (p *page[R]) span(every mds.Timeframe, zone *time.Location) time.Time {
	at := time.UnixMicro(p.at).UTC()
	if !every.Calendar() {
		return at
	}
	year, month, day := at.Date()
	return time.Date(year, month, day, 0, 0, 0, 0, zone)
}

// rest are the records of queries that come after the cursor.
func (p *page[R]) rest(queries []mds.Query, read func(mds.Query) iter.Seq2[R, error]) iter.Seq2[R, error] {
	key := p.key()
	return func(yield func(R, error) bool) {
		for _, q := range queries {
			for r, err := range read(q) {
				if err == nil && p.from && (!p.after(key, &r) || p.outside(&r)) {
					continue
				}
				if !yield(r, err) || err != nil {
					return
				}
			}
		}
	}
}

// mixed reports that a window may hold records that are labelled by dates beside such that
// are by instants: the bounds of a cursor, which are in UTC, mean another day to those than
// the window's.
func (p *page[R]) mixed() bool {
	return p.schema.Timeframe != nil && p.sel.Timeframe == "" && len(p.sel.Where["timeframe"]) == 0 && (!p.sel.Start.IsZero() || !p.sel.End.IsZero())
}

// outside reports that a record is not within the window.
func (p *page[R]) outside(r *R) bool {
	if !p.mixed() {
		return false
	}
	calendar, at := p.schema.Timeframe(r).Calendar(), p.schema.Micros(r)
	return !p.sel.Start.IsZero() && at < mds.Bound(p.sel.Start, calendar) || !p.sel.End.IsZero() && at >= mds.Bound(p.sel.End, calendar)
}

// after reports that a record comes after the cursor.
func (p *page[R]) after(key []*mds.Column[R], r *R) bool {
	order := cmp.Compare(p.schema.Micros(r), p.at)
	if order == 0 {
		order = mds.Compare(key, r, &p.id)
	}
	if p.descending {
		return order < 0
	}
	return order > 0
}
