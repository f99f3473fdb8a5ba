package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/marketdatastore/mds"
)

// NDJSON decodes one JSON object a line (RFC 8259, UTF-8). Names are found as
// CSV columns are; a number may also be written as a string, and what is null
// or not there is missing. It is not safe for concurrent use.
type NDJSON[R mds.Record[R]] struct {
	*builder[R]
	lines   *lineReader
	fields  map[string]*field
	ignored []string

	decoder *jsontext.Decoder
	input   bytes.Reader

	// The row being read.
	line  int
	raw   []byte
	from  []*field // the names that the columns were set by
	date  string
	clock string
	text  []byte // of the string being read
}

// field says what a name in the file feeds.
type field struct {
	name   string
	column int  // or one of the below
	rank   int  // its place among the column's names; the lowest wins
	told   bool // that it is ignored
}

const (
	fieldIgnored = -1 - iota
	fieldDate
	fieldClock
)

// NewNDJSON returns a decoder.
func NewNDJSON[R mds.Record[R]](r io.Reader, opt Options) (*NDJSON[R], error) {
	b, err := newBuilder[R](opt)
	if err != nil {
		return nil, err
	}
	if opt.NoHeader {
		return nil, &SetupError{Reason: "--no-header is for CSV files; NDJSON names its fields in every line"}
	}
	if err := checkColumns(&b.schema, opt); err != nil {
		return nil, err
	}
	d := &NDJSON[R]{builder: b, lines: newLineReader(r), fields: make(map[string]*field)}
	d.decoder = jsontext.NewDecoder(&d.input)
	d.from = make([]*field, len(b.schema.Columns))
	head, err := d.lines.peek()
	if err != nil {
		return nil, err
	}
	if rest, ok := bytes.CutPrefix(head, []byte("\ufeff")); ok {
		_, _ = d.lines.r.Discard(len("\ufeff")) // just peeked
		head = rest
	}
	if fault := notNDJSON(head); fault != "" {
		return nil, &HeaderError{fault}
	}
	return d, d.fix(func(string) bool { return false })
}

// notNDJSON tells by its first bytes why a file is not NDJSON, or returns "".
func notNDJSON(head []byte) string {
	head = bytes.TrimLeft(head, " \t\r\n")
	first, rest, more := bytes.Cut(head, []byte("\n"))
	switch {
	case len(head) == 0:
		return "it is empty: each line should be a JSON object"
	case bytes.HasPrefix(head, []byte("[")):
		return "it is a JSON array; write one object a line instead, with jq -c '.[]'"
	case !bytes.HasPrefix(head, []byte("{")):
		if fault := foreignFormat(head); fault != "" {
			return strings.Replace(fault, "not CSV", "not NDJSON", 1)
		}
		return fmt.Sprintf("it is not NDJSON: its first line begins with %s, not with {", strconv.Quote(clip(first)))
	case more && len(bytes.TrimSpace(first)) == 1, more && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte(`"`)):
		return "its JSON is spread over lines; write one object a line instead, with jq -c . (a vendor's body is read with --format)"
	}
	return ""
}

// Ignored returns the names of fields that fed no column, in the order in
// which they were met.
func (d *NDJSON[R]) Ignored() []string { return d.ignored }

// Warnings counts the rows that became records but had something odd about
// them, by what it was.
func (d *NDJSON[R]) Warnings() map[string]int64 { return d.warnings }

// fault is an error of the row being read.
func (d *NDJSON[R]) rowError(field, reason string) error {
	return &RowError{Line: d.line, Field: field, Reason: reason, Raw: strings.ToValidUTF8(string(d.raw), "\ufffd")}
}

// Next decodes the next line; see [Decoder].
func (d *NDJSON[R]) Next(record *R) error {
	for {
		line, err := d.lines.next()
		d.line, d.raw = d.lines.number, line
		if errors.Is(err, errLineTooLong) {
			return d.rowError("", err.Error())
		}
		if err != nil {
			return err
		}
		if len(bytes.TrimSpace(line)) > 0 {
			break
		}
	}
	d.begin(record)
	d.date, d.clock = "", ""
	clear(d.from)
	if err := d.object(record); err != nil {
		return err
	}
	d.joinClock()
	err := d.finish(record)
	var setup *SetupError
	var invalid *mds.InvalidError
	switch {
	case errors.As(err, &setup):
		setup.Line = d.line
	case errors.As(err, &invalid):
		return d.rowError(rowFault(invalid))
	}
	return err
}

// joinClock makes a time of a date and a time of day that stand apart; a lone
// one is the whole.
func (d *NDJSON[R]) joinClock() {
	if d.timeText == "" {
		d.timeText = strings.TrimSpace(d.date + " " + d.clock)
	}
}

// object reads the members of the line's object.
func (d *NDJSON[R]) object(record *R) error {
	d.input.Reset(d.raw)
	d.decoder.Reset(&d.input)
	if d.decoder.PeekKind() != '{' {
		if _, err := d.decoder.ReadValue(); err != nil {
			return d.syntax(err)
		}
		return d.rowError("", "the line is not a JSON object")
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return d.syntax(err)
	}
	for d.decoder.PeekKind() == '"' {
		name, err := d.decoder.ReadValue()
		if err != nil {
			return d.syntax(err)
		}
		target, err := d.field(name)
		if err != nil {
			return err
		}
		value, err := d.decoder.ReadValue()
		if err != nil {
			return d.syntax(err)
		}
		d.member(record, target, value)
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return d.syntax(err)
	}
	if _, err := d.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return d.rowError("", "the line goes on after its JSON object")
	}
	return nil
}

// syntax is the error of a line that is no JSON.
func (d *NDJSON[R]) syntax(err error) error {
	reason := "the line is not JSON: " + strings.TrimPrefix(err.Error(), "jsontext: ")
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = "the line names a field twice: " + strings.TrimPrefix(err.Error(), "jsontext: ")
	case errors.Is(err, io.ErrUnexpectedEOF), errors.Is(err, io.EOF):
		reason = "the line is not JSON: it ends too early"
	case bytes.Contains(d.raw, []byte("NaN")), bytes.Contains(d.raw, []byte("Infinity")):
		reason += "; NaN and Infinity are no JSON, write null for a missing value"
	}
	return d.rowError("", reason)
}

// field finds what a quoted name feeds.
func (d *NDJSON[R]) field(quoted []byte) (*field, error) {
	if f, ok := d.fields[string(quoted)]; ok {
		return f, nil
	}
	name, err := jsontext.AppendUnquote(nil, quoted)
	if err != nil {
		return nil, d.syntax(err)
	}
	found := d.find(string(name))
	f := &found
	f.name = string(name)
	if f.column >= 0 {
		column := d.schema.Columns[f.column].Name
		if _, fixed := d.opt.Fixed[column]; fixed {
			setup := givenTwice(string(name), column)
			setup.Line, setup.Field = d.line, column
			return f, setup
		}
	}
	if f.column == fieldIgnored {
		d.ignore(f)
	}
	const maxFields = 100_000 // a file whose names are data fills no memory
	if len(d.fields) < maxFields {
		d.fields[string(quoted)] = f
	}
	return f, nil
}

// ignore names a field that feeds nothing, once.
func (d *NDJSON[R]) ignore(f *field) {
	if !f.told {
		f.told = true
		d.ignored = append(d.ignored, f.name)
	}
}

// find looks a name up: where the options say, else by the columns' names and
// aliases.
func (d *NDJSON[R]) find(name string) field {
	for column, from := range d.opt.Columns {
		if !strings.EqualFold(strings.TrimSpace(from), name) || from == "" {
			continue
		}
		switch column = strings.TrimSpace(column); column {
		case dateColumn:
			return field{column: fieldDate}
		case timeColumn:
			return field{column: fieldClock}
		}
		return field{column: d.index(column)}
	}
	key := fieldKey(name)
	best := field{column: fieldIgnored}
	for i := range d.schema.Columns {
		c := &d.schema.Columns[i]
		if _, mapped := d.opt.Columns[c.Name]; mapped {
			continue
		}
		for rank, alias := range append([]string{c.Name}, c.Aliases...) {
			if fieldKey(alias) == key && (best.column < 0 || rank+1 < best.rank) {
				best = field{column: i, rank: rank + 1}
			}
		}
	}
	_, mapped := d.opt.Columns[d.schema.Columns[d.timeAt].Name]
	switch {
	case best.column >= 0 || mapped:
	case key == dateColumn:
		best.column = fieldDate
	case key == timeColumn:
		best.column = fieldClock
	}
	return best
}

func (d *NDJSON[R]) index(column string) int {
	for i := range d.schema.Columns {
		if d.schema.Columns[i].Name == column {
			return i
		}
	}
	return fieldIgnored
}

// member feeds a value to its column.
func (d *NDJSON[R]) member(record *R, f *field, value jsontext.Value) {
	if f.column == fieldIgnored || value.Kind() == 'n' {
		return
	}
	text := []byte(value)
	if value.Kind() == '"' {
		var err error
		if d.text, err = jsontext.AppendUnquote(d.text[:0], value); err != nil {
			return // the decoder has checked it
		}
		text = d.text
	}
	switch f.column {
	case fieldDate:
		d.date = string(text)
		return
	case fieldClock:
		d.clock = string(text)
		return
	}
	c := &d.schema.Columns[f.column]
	if better := d.from[f.column]; better != nil {
		if better.rank == f.rank {
			d.fault(c.Name, "is there twice, as "+strconv.Quote(better.name)+" and "+strconv.Quote(f.name))
			return
		}
		if better.rank < f.rank {
			d.ignore(f)
			return
		}
		d.ignore(better)
	}
	d.from[f.column] = f
	switch kind := value.Kind(); {
	case kind == '"', kind == '0' && c.List == nil && c.Metrics == nil:
		d.setText(record, f.column, text, true)
	case kind == '[' && c.List != nil:
		d.setItems(record, f.column, value)
	case kind == '{' && c.Metrics != nil:
		d.setText(record, f.column, text, true)
	default:
		d.fault(c.Name, clip(text)+" is "+kindName(kind)+", which it cannot be")
	}
}

// setItems gives a List column its value.
func (d *NDJSON[R]) setItems(record *R, column int, value jsontext.Value) {
	c := &d.schema.Columns[column]
	var items []string
	list := jsontext.NewDecoder(bytes.NewReader(value))
	_, err := list.ReadToken() // the bracket
	for err == nil && list.PeekKind() != ']' {
		var token jsontext.Token
		if token, err = list.ReadToken(); err == nil && token.Kind() != '"' {
			err = errors.New(clip(value) + " is not an array of strings")
		}
		if err == nil {
			items = append(items, token.String())
		}
	}
	if err == nil {
		items, err = c.ParseItems(items)
	}
	if err != nil {
		d.fault(c.Name, err.Error())
		return
	}
	d.set[column] = true
	*c.List(record) = items
}

func kindName(kind jsontext.Kind) string {
	switch kind {
	case 't', 'f':
		return "a truth value"
	case '[':
		return "an array"
	case '{':
		return "an object"
	}
	return "a number"
}
