package rollup

import (
	"encoding/binary"
	"errors"
	"slices"
)

// Spans are kept many in one value, a few bytes each: for each of them the differences of
// series and first time to those of the span before, and how long it is, as varints
// (encoding/binary). A batch of live bars has a span for each series, at one time.

// Encode returns the notes as one value.
func (n *Notes) Encode() []byte {
	spans := make([]Span, len(n.Series))
	for i := range spans {
		spans[i] = Span{Series: n.Series[i], First: n.First[i], Last: n.Last[i]}
	}
	return Encode(spans)
}

// Bounds are the first and the last time of the notes, of which there are some.
func (n *Notes) Bounds() (first, last int64) { return slices.Min(n.First), slices.Max(n.Last) }

// Bounds are the first and the last time of spans, of which there are some.
func Bounds(spans []Span) (first, last int64) {
	first, last = spans[0].First, spans[0].Last
	for _, s := range spans {
		first, last = min(first, s.First), max(last, s.Last)
	}
	return first, last
}

// Encode returns spans as one value.
func Encode(spans []Span) []byte {
	const usual = 4 // bytes
	text := make([]byte, 0, usual*len(spans)+binary.MaxVarintLen64)
	var before Span
	for _, s := range spans {
		text = binary.AppendVarint(text, s.Series-before.Series)
		text = binary.AppendVarint(text, s.First-before.First)
		text = binary.AppendVarint(text, s.Last-s.First)
		before = s
	}
	return text
}

var errSpans = errors.New("what was noted of changed bars cannot be read")

// Decode appends the spans of a value, which is known by an id.
func Decode(spans []Span, id int64, gone bool, text []byte) ([]Span, error) {
	before := Span{ID: id, Gone: gone}
	for len(text) > 0 {
		for i, of := range []*int64{&before.Series, &before.First, &before.Last} {
			v, n := binary.Varint(text)
			if n <= 0 {
				return nil, errSpans
			}
			if text = text[n:]; i < 2 {
				*of += v
			} else {
				*of = before.First + v
			}
		}
		spans = append(spans, before)
	}
	return spans, nil
}

// Rest are the spans, by their ids, that are left of values of which some were taken:
// an empty list for one of which none are.
func Rest(spans []Span, taken int) map[int64][]Span {
	rest := make(map[int64][]Span)
	for _, s := range spans[:taken] {
		rest[s.ID] = nil
	}
	for _, s := range spans[taken:] {
		if left, ok := rest[s.ID]; ok {
			rest[s.ID] = append(left, s)
		}
	}
	return rest
}

// Within appends the spans that are of some series, of all where ids is nil, and have
// something between two instants.
func Within(spans, of []Span, ids map[int64]bool, from, until int64) []Span {
	for _, s := range of {
		if (ids == nil || ids[s.Series]) && s.Last >= from && s.First < until {
			spans = append(spans, s)
		}
	}
	return spans
}
