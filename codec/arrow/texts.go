package arrow

import (
	"strings"

	"github.com/apache/arrow-go/v18/arrow"
	"github.com/apache/arrow-go/v18/arrow/array"

	"github.com/marketdatastore/mds"
)

// texts are an array of texts, which lie in the memory of the batch.
type texts interface {
	arrow.Array
	Value(int) string
}

// maxWords bounds what is remembered of a column.
const maxWords = 1 << 16

// word is a text in the column's form, by how it was written.
type word struct {
	raw, text string
	ok        bool
}

// textFiller fills a column of texts. A text that stands in the row before costs
// nothing, one of an identity column that stood anywhere before a look-up.
type textFiller[R any] struct {
	nulls
	to     func(*R) *string
	parse  func(string) (string, error)
	known  map[string]word // nil where it is not kept
	near   [64]word        // of the known ones, by their hash
	values texts
	last   word
}

func newTextFiller[R any](c *mds.Column[R], t arrow.DataType) filler[R] {
	f := &textFiller[R]{to: c.Text, parse: c.Parse, last: word{ok: true}}
	for i := range f.near {
		f.near[i].ok = true // of ""
	}
	if c.Role == mds.Identity {
		f.known = make(map[string]word)
	}
	if t.ID() == arrow.DICTIONARY {
		return &dictionaryFiller[R]{words: f}
	}
	return f
}

func (f *textFiller[R]) bind(a arrow.Array) {
	f.nulls.bind(a)
	f.values = a.(texts)
}

func (f *textFiller[R]) fill(records []R, at int, slow []bool) {
	if a, ok := f.values.(*array.String); ok {
		f.fillStrings(a, records, at, slow)
		return
	}
	for i := range records {
		if f.null(at + i) {
			*f.to(&records[i]) = ""
			continue
		}
		if raw := f.values.Value(at + i); raw != f.last.raw {
			f.last = f.word(raw)
		}
		slow[i] = slow[i] || !f.last.ok
		*f.to(&records[i]) = f.last.text
	}
}

// fillStrings is fill for the type that most streams have.
func (f *textFiller[R]) fillStrings(a *array.String, records []R, at int, slow []bool) {
	ends := a.ValueOffsets()[at : at+len(records)+1]
	var bytes []byte
	if buffer := a.Data().Buffers()[2]; buffer != nil {
		bytes = buffer.Bytes()
	}
	for i := range records {
		if f.null(at + i) {
			*f.to(&records[i]) = ""
			continue
		}
		raw := bytes[ends[i]:ends[i+1]]
		if string(raw) != f.last.raw {
			if near := &f.near[hash(raw)]; near.raw == string(raw) {
				f.last = *near
			} else {
				f.last = f.word(a.Value(at + i))
				if f.known != nil {
					*near = f.last
				}
			}
		}
		slow[i] = slow[i] || !f.last.ok
		*f.to(&records[i]) = f.last.text
	}
}

// hash tells symbols apart by their ends, mostly.
func hash(text []byte) int {
	h := len(text)
	for i := len(text) - 1; i >= 0 && i >= len(text)-4; i-- {
		h = h*31 + int(text[i])
	}
	return h % 64
}

// word brings a text into the column's form, in memory of its own.
func (f *textFiller[R]) word(raw string) word {
	if w, ok := f.known[raw]; ok {
		return w
	}
	w := word{raw: strings.Clone(raw), ok: true}
	w.text = w.raw
	if f.parse != nil && raw != "" {
		text, err := f.parse(w.raw)
		w.text, w.ok = text, err == nil
	}
	if f.known == nil {
		return w
	}
	if len(f.known) >= maxWords {
		clear(f.known)
	}
	f.known[w.raw] = w
	return w
}

// dictionaryFiller fills a column of texts from references into a dictionary,
// each text of which is read once.
type dictionaryFiller[R any] struct {
	words      *textFiller[R]
	dictionary arrow.ArrayData
	known      []word
	codes      func(row int) int
}

func (f *dictionaryFiller[R]) bind(a arrow.Array) {
	f.words.nulls.bind(a)
	d := a.(*array.Dictionary)
	f.codes = codes(d.Indices())
	if data := d.Dictionary().Data(); data != f.dictionary {
		f.dictionary = data
		f.known = f.known[:0]
		values := d.Dictionary().(texts)
		for i := range values.Len() {
			w := word{ok: true} // of a null
			if !values.IsNull(i) {
				w = f.words.word(values.Value(i))
			}
			f.known = append(f.known, w)
		}
	}
}

func (f *dictionaryFiller[R]) fill(records []R, at int, slow []bool) {
	for i := range records {
		if f.words.null(at + i) {
			*f.words.to(&records[i]) = ""
			continue
		}
		w := &f.known[f.codes(at+i)]
		slow[i] = slow[i] || !w.ok
		*f.words.to(&records[i]) = w.text
	}
}

// codes returns a function that gives the place in the dictionary for a row.
func codes(a arrow.Array) func(int) int {
	switch a := a.(type) {
	case *array.Int8:
		return codesOf(a.Values())
	case *array.Int16:
		return codesOf(a.Values())
	case *array.Int32:
		return codesOf(a.Values())
	case *array.Int64:
		return codesOf(a.Values())
	case *array.Uint8:
		return codesOf(a.Values())
	case *array.Uint16:
		return codesOf(a.Values())
	case *array.Uint32:
		return codesOf(a.Values())
	}
	return codesOf(a.(*array.Uint64).Values())
}

func codesOf[T int8 | int16 | int32 | int64 | uint8 | uint16 | uint32 | uint64](values []T) func(int) int {
	return func(row int) int { return int(values[row]) }
}
