package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
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
	members []simpleMember
	order   []*field // of the members of the line before
	// newNames are names of the line that no line before has.
	newNames [][]byte
	row      int  // of those that were cut as simple ones
	careful  bool // no line is: for tests

	mapped map[string]bool // names of Options.Columns, and whether they were met
	cut    bool            // that more names were ignored than are listed

	// The row being read.
	line    int
	raw     []byte
	pending []pending // by column
	date    string
	clock   string
	text    []byte // of the string being read
}

// field says what a name in the file feeds: nothing, or columns.
type field struct {
	name    string
	quoted  string // as it was met
	targets []target
	told    bool // that it is ignored
	row     int  // that it was last met in; see simple
}

// target is a column that a name feeds.
type target struct {
	column int // or one of the below
	rank   int // the name's place among the column's names; the lowest wins
}

// pending is what a line gives for a column.
type pending struct {
	from  *field
	rank  int
	value jsontext.Value
	twice *field // another name of the same rank
}

const (
	fieldDate = -1 - iota
	fieldClock
)

// NewNDJSON returns a decoder.
func NewNDJSON[R mds.Record[R]](r io.Reader, opt Options) (*NDJSON[R], error) {
	d, err := newNDJSON[R](r, opt)
	if err != nil {
		return nil, err
	}
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
	return d, nil
}

// newNDJSON returns a decoder of lines.
func newNDJSON[R mds.Record[R]](r io.Reader, opt Options) (*NDJSON[R], error) {
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
	for column, from := range opt.Columns {
		if strings.HasPrefix(strings.TrimSpace(from), "#") {
			return nil, &SetupError{Reason: fmt.Sprintf("--columns %s=%s: NDJSON has names, no numbers of columns", column, from)}
		}
	}
	d := &NDJSON[R]{builder: b, lines: newLineReader(r), fields: make(map[string]*field)}
	d.decoder = jsontext.NewDecoder(&d.input)
	d.pending = make([]pending, len(b.schema.Columns))
	d.mapped = make(map[string]bool)
	for _, from := range opt.Columns {
		if from = strings.TrimSpace(from); from != "" {
			d.mapped[strings.ToLower(from)] = false
		}
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
	case more && len(bytes.TrimSpace(first)) == 1, more && bytes.HasPrefix(bytes.TrimLeft(rest, " \t"), []byte(`"`)) && !jsontext.Value(first).IsValid():
		return "its JSON is spread over lines; write one object a line instead, with jq -c . (a vendor's body is read with --format)"
	}
	return ""
}

// Ignored returns the names of fields that fed no column, in the order in
// which they were met.
func (d *NDJSON[R]) Ignored() []string { return d.ignored }

// Warnings counts the rows that became records but had something odd about
// them, by what it was; 0 is of what is odd about the file.
func (d *NDJSON[R]) Warnings() map[string]int64 { return d.warnings }

// rowError is an error of the row being read.
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
		if errors.Is(err, io.EOF) {
			d.unmet()
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
	clear(d.pending)
	done, err := d.simple(record)
	if !done {
		err = d.object(record)
	}
	if err != nil {
		return err
	}
	d.joinClock()
	err = d.finish(record)
	if err == nil {
		return nil
	}
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
	if len(d.timeText) == 0 && (d.date != "" || d.clock != "") {
		d.timeText = append(d.timeText[:0], strings.TrimSpace(d.date+" "+d.clock)...)
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
		from, err := d.field(name)
		if err != nil {
			return err
		}
		d.meet(from)
		value, err := d.decoder.ReadValue()
		if err != nil {
			return d.syntax(err)
		}
		if value.Kind() == 'n' {
			continue
		}
		// The decoder's own copy does not last.
		end := d.decoder.InputOffset()
		value = d.raw[end-int64(len(value)) : end]
		if err := d.member(from, value); err != nil {
			return err
		}
	}
	if _, err := d.decoder.ReadToken(); err != nil {
		return d.syntax(err)
	}
	if _, err := d.decoder.ReadToken(); !errors.Is(err, io.EOF) {
		return d.rowError("", "the line goes on after its JSON object")
	}
	for i := range d.pending {
		if p := &d.pending[i]; p.from != nil {
			d.feed(record, i, p)
		}
	}
	return nil
}

// syntax is the error of a line that is no JSON.
func (d *NDJSON[R]) syntax(err error) error {
	reason := "the line is not JSON: " + strings.TrimPrefix(err.Error(), "jsontext: ")
	switch {
	case errors.Is(err, jsontext.ErrDuplicateName):
		reason = "the line names a field twice: " + clip([]byte(strings.TrimPrefix(err.Error(), "jsontext: ")))
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
	f := &field{name: string(name), quoted: string(quoted), targets: d.find(string(name))}
	if len(d.fields) < maxFields && len(quoted) <= maxRemembered {
		d.fields[f.quoted] = f
	}
	return f, nil
}

// meet notes that a line has a field.
func (d *NDJSON[R]) meet(f *field) {
	if len(f.targets) == 0 {
		d.ignore(f)
	}
}

// maxFields is the most names that are remembered: a file whose names are data
// fills no memory.
const maxFields = 10_000

// maxRemembered is the longest name, in its quotes, that is: longer ones name no column.
const maxRemembered = 512

// maxIgnored is the most names that are listed as ignored.
const maxIgnored = 100

// ignore names a field that feeds nothing, once.
func (d *NDJSON[R]) ignore(f *field) {
	switch {
	case f.told || d.cut:
	case len(d.ignored) == maxIgnored:
		d.cut = true
		d.ignored = append(d.ignored, "… and more")
	default:
		if name := clip([]byte(f.name)); !slices.Contains(d.ignored, name) { // a long name is not remembered
			d.ignored = append(d.ignored, name)
		}
	}
	f.told = true
}

// unmet warns of names that the options map and no line has.
func (d *NDJSON[R]) unmet() {
	for _, column := range sortedKeys(d.opt.Columns) {
		from := strings.TrimSpace(d.opt.Columns[column])
		if met, ok := d.mapped[strings.ToLower(from)]; ok && !met && from != "" {
			d.warnings[fmt.Sprintf("no line has a field %q, which --columns %s=%s names", from, column, from)] = 0
		}
	}
}

// find looks a name up: where the options say, else by the columns' names and
// aliases.
func (d *NDJSON[R]) find(name string) []target {
	var targets []target
	for _, column := range sortedKeys(d.opt.Columns) {
		from := strings.TrimSpace(d.opt.Columns[column])
		if from == "" || !strings.EqualFold(from, name) {
			continue
		}
		d.mapped[strings.ToLower(from)] = true
		switch column = strings.TrimSpace(column); column {
		case dateColumn:
			targets = append(targets, target{column: fieldDate})
		case timeColumn:
			targets = append(targets, target{column: fieldClock})
		default:
			targets = append(targets, target{column: d.index(column)})
		}
	}
	if targets != nil {
		return targets
	}
	// A date or a time that is mapped stands for the time column, too.
	_, mappedDate := d.opt.Columns[dateColumn]
	_, mappedClock := d.opt.Columns[timeColumn]
	timeName := d.schema.Columns[d.timeAt].Name
	_, mappedTime := d.opt.Columns[timeName]
	key := fieldKey(name)
	best := target{rank: -1}
	for i := range d.schema.Columns {
		c := &d.schema.Columns[i]
		if _, mapped := d.opt.Columns[c.Name]; mapped || c.Name == timeName && d.opt.Columns[dateColumn] != "" {
			continue
		}
		for rank, alias := range append([]string{c.Name}, c.Aliases...) {
			if fieldKey(alias) == key && (best.rank < 0 || rank+1 < best.rank) {
				best = target{column: i, rank: rank + 1}
			}
		}
	}
	switch {
	case best.rank >= 0:
		return []target{best}
	case mappedTime:
	case key == dateColumn && !mappedDate:
		return []target{{column: fieldDate, rank: 1}}
	case key == timeColumn && !mappedClock:
		return []target{{column: fieldClock, rank: 1}}
	}
	return nil
}

func (d *NDJSON[R]) index(column string) int {
	return slices.IndexFunc(d.schema.Columns, func(c mds.Column[R]) bool { return c.Name == column })
}

// member keeps a value for the columns that it feeds, the best name of each.
func (d *NDJSON[R]) member(f *field, value jsontext.Value) error {
	for _, t := range f.targets {
		if name := d.schema.Columns[d.timeAt].Name; t.column < 0 && d.opt.Fixed[name] != "" {
			setup := givenTwice(f.name, name)
			setup.Line, setup.Field = d.line, name
			return setup
		}
		switch t.column {
		case fieldDate:
			d.date = d.string(value)
			continue
		case fieldClock:
			d.clock = d.string(value)
			continue
		}
		if column := d.schema.Columns[t.column].Name; d.opt.Fixed[column] != "" {
			setup := givenTwice(f.name, column)
			setup.Line, setup.Field = d.line, column
			return setup
		}
		switch p := &d.pending[t.column]; {
		case p.from == nil:
			*p = pending{from: f, rank: t.rank, value: value}
		case p.rank == t.rank:
			p.twice = f
		case p.rank < t.rank:
			d.ignore(f)
		default:
			d.ignore(p.from)
			*p = pending{from: f, rank: t.rank, value: value}
		}
	}
	return nil
}

// string is the text of a string or a number.
func (d *NDJSON[R]) string(value jsontext.Value) string {
	if value.Kind() != '"' {
		return string(value)
	}
	text, err := jsontext.AppendUnquote(nil, value)
	if err != nil {
		return "" // the decoder has checked it
	}
	return string(text)
}

// feed gives a column its value.
func (d *NDJSON[R]) feed(record *R, column int, p *pending) {
	c := &d.schema.Columns[column]
	if p.twice != nil {
		d.fault(c.Name, "is there twice, as "+strconv.Quote(clip([]byte(p.from.name)))+" and "+strconv.Quote(clip([]byte(p.twice.name))))
		return
	}
	text := []byte(p.value)
	kind := p.value.Kind()
	if kind == '"' && bytes.IndexByte(text, '\\') < 0 {
		text = text[1 : len(text)-1]
	} else if kind == '"' {
		var err error
		if d.text, err = jsontext.AppendUnquote(d.text[:0], p.value); err != nil {
			return // the decoder has checked it
		}
		text = d.text
	}
	switch {
	case kind == '"', kind == '0' && c.List == nil && c.Metrics == nil:
		d.setText(record, column, text, true)
	case kind == '[' && c.List != nil:
		d.setItems(record, column, p.value)
	case kind == '{' && c.Metrics != nil:
		d.setText(record, column, text, true)
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
