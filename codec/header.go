package codec

import (
	"bytes"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// The names under which a separate date and time of day are mapped.
const (
	dateColumn = "date"
	timeColumn = "time"
)

// mapping says which cell of a row feeds which column of the record.
type mapping struct {
	cells   map[string]int // by column name; dateColumn and timeColumn too
	ignored []string
}

// header is what names the columns of a file: the first row of text, the schema
// of a typed stream.
type header struct {
	names []string // as written
	keys  []string // as compared: see fieldKey
	// index is the unnamed index of a data frame, -1 where there is none.
	index int
	typed bool
}

func newHeader(cells [][]byte) header {
	h := header{names: make([]string, len(cells)), keys: make([]string, len(cells)), index: -1}
	for i, cell := range cells {
		h.names[i] = strings.TrimSpace(string(cell))
		h.keys[i] = fieldKey(h.names[i])
	}
	if h.keys[0] == "" {
		h.index = 0
	}
	return h
}

// unnamedIndex is what pandas calls the index that has no name.
const unnamedIndex = "__index_level_0__"

// typedHeader stands for the header of a stream whose schema names its columns.
func typedHeader(names []string) header {
	h := header{names: names, keys: make([]string, len(names)), index: -1, typed: true}
	for i, name := range names {
		if name == unnamedIndex {
			h.index = i
			continue
		}
		h.keys[i] = fieldKey(strings.TrimSpace(name))
	}
	return h
}

// fieldKey is a name as it is compared: without case, spaces, hyphens and
// underscores, so that netIncome, net_income and Net Income are one.
func fieldKey(name string) string {
	return strings.Map(func(r rune) rune {
		if r == ' ' || r == '-' || r == '_' {
			return -1
		}
		return r
	}, strings.ToLower(name))
}

// numberedHeader stands for the header of a file that has none.
func numberedHeader(width int) header {
	h := header{names: make([]string, width), keys: make([]string, width), index: -1}
	for i := range width {
		h.names[i] = "#" + strconv.Itoa(i+1)
		h.keys[i] = h.names[i]
	}
	return h
}

// mapColumns finds the cell of every column: where the options say, else under
// the column's name, else under the first of its aliases that is there.
func mapColumns[R any](h header, schema *mds.Schema[R], opt Options) (*mapping, error) {
	m := &mapping{cells: make(map[string]int)}
	timeName := schema.TimeColumn().Name
	unmapped := make(map[string]bool)
	if err := checkColumns(schema, opt); err != nil {
		return nil, err
	}
	for _, name := range sortedKeys(opt.Columns) {
		from := strings.TrimSpace(opt.Columns[name])
		name = strings.TrimSpace(name)
		if from == "" {
			unmapped[name] = true
			continue
		}
		cell, err := h.find(name, from)
		if err != nil {
			return nil, err
		}
		m.cells[name] = cell
	}
	given := len(m.cells) > 0
	for i := range schema.Columns {
		c := &schema.Columns[i]
		if _, ok := m.cells[c.Name]; ok || unmapped[c.Name] {
			continue
		}
		if c.Role == mds.Time && m.has(dateColumn) {
			continue
		}
		cell, ok, err := h.alias(append([]string{c.Name}, c.Aliases...))
		if err != nil {
			return nil, err
		}
		if ok {
			m.cells[c.Name] = cell
		}
	}
	if err := m.mapTime(h, timeName, unmapped); err != nil {
		return nil, err
	}
	if len(m.cells) == 0 && !given && h.typed {
		return nil, &SetupError{Reason: fmt.Sprintf("no usable columns: the stream has %s; map some with --columns %s=NAME,…", h.list(), timeName)}
	}
	if len(m.cells) == 0 && !given {
		return nil, &SetupError{Reason: fmt.Sprintf("no usable columns: the first line is %s; it should name them; map other names with --columns %s=NAME,… and columns without names with --no-header --columns %s=#1,…",
			h.list(), timeName, timeName)}
	}
	if err := checkMapping(m, h, schema, opt); err != nil {
		return nil, err
	}
	if values := schema.ByRole(mds.Value); len(values) > 0 && !slices.ContainsFunc(values, func(c *mds.Column[R]) bool { return m.has(c.Name) || opt.Fixed[c.Name] != "" }) {
		return nil, &SetupError{Reason: fmt.Sprintf("no column holds a value of %s, such as %s: the file has %s; map some with --columns NAME=NAME",
			schema.Kind, strings.Join(columnNamesOf(schema.ByRole(mds.Value))[:min(3, len(schema.ByRole(mds.Value)))], ", "), h.list())}
	}
	m.nameIgnored(h)
	return m, nil
}

// checkColumns refuses a mapping of columns that the kind does not have.
func checkColumns[R any](schema *mds.Schema[R], opt Options) error {
	for _, name := range sortedKeys(opt.Columns) {
		column := strings.TrimSpace(name)
		if schema.Lookup(column) == nil && column != dateColumn && column != timeColumn {
			return &SetupError{Reason: fmt.Sprintf("--columns %s=%s: %s have no column %q; they have %s",
				column, strings.TrimSpace(opt.Columns[name]), schema.Kind, column, strings.Join(columnNames(schema), ", "))}
		}
	}
	return nil
}

func (m *mapping) has(column string) bool {
	_, ok := m.cells[column]
	return ok
}

// mapTime settles where the time comes from: one cell, or a date and a time
// of day. A lone "date" or "time" holds the whole; so does the unnamed index of a
// data frame, which in text is a first column without a name.
func (m *mapping) mapTime(h header, timeName string, unmapped map[string]bool) error {
	if m.has(timeName) || unmapped[timeName] {
		return nil
	}
	for _, part := range []string{dateColumn, timeColumn} {
		if m.has(part) || unmapped[part] {
			continue
		}
		cell, ok, err := h.alias([]string{part})
		if err != nil {
			return err
		}
		if ok {
			m.cells[part] = cell
		}
	}
	switch {
	case m.has(dateColumn) && m.has(timeColumn):
	case m.has(dateColumn):
		m.cells[timeName] = m.cells[dateColumn]
		delete(m.cells, dateColumn)
	case m.has(timeColumn):
		m.cells[timeName] = m.cells[timeColumn]
		delete(m.cells, timeColumn)
	case len(m.cells) > 0 && h.index >= 0:
		m.cells[timeName] = h.index
	}
	return nil
}

// checkMapping refuses a mapping that cannot make a record, or that leaves
// two answers to what a column holds.
func checkMapping[R any](m *mapping, h header, schema *mds.Schema[R], opt Options) error {
	for i := range schema.Columns {
		c := &schema.Columns[i]
		cell, mapped := m.cells[c.Name]
		_, fixed := opt.Fixed[c.Name]
		switch {
		case mapped && fixed:
			return givenTwice(h.names[cell], c.Name)
		case fixed && c.Role == mds.Time && m.has(dateColumn):
			return givenTwice(h.names[m.cells[dateColumn]], c.Name)
		case mapped, fixed, c.Default != "", c.Optional():
		case c.Role == mds.Time && m.has(dateColumn):
		default:
			return lacks(c, h.list())
		}
	}
	return nil
}

// givenTwice is a field of the file that an option gives, too.
func givenTwice(name, column string) *SetupError {
	return &SetupError{Reason: fmt.Sprintf("the file's column %q gives the %s already: give no other, or leave the column out with --columns %s=", name, column, column)}
}

// lacks says that no field feeds a column, and what to do about it.
func lacks[R any](c *mds.Column[R], list string) error {
	if c.Role == mds.Identity || c.Role == mds.Key {
		return &SetupError{Reason: fmt.Sprintf("no column holds the %s: give one with --%s, or map one of %s with --columns %s=NAME",
			c.Name, flagName(c.Name), list, c.Name)}
	}
	return &SetupError{Reason: fmt.Sprintf("no column holds the %s (%s): map one of %s with --columns %s=NAME", c.Name, c.Doc, list, c.Name)}
}

// find resolves the right side of a --columns entry: a header name, in any
// case, or #N for the N-th column.
func (h header) find(column, from string) (int, error) {
	if number, ok := strings.CutPrefix(from, "#"); ok {
		n, err := strconv.Atoi(number)
		if err == nil && n >= 1 && n <= len(h.names) {
			return n - 1, nil
		}
		return 0, &SetupError{Reason: fmt.Sprintf("--columns %s=%s: the file has columns #1 to #%d", column, from, len(h.names))}
	}
	found := -1
	for i, name := range h.names {
		if !strings.EqualFold(name, from) {
			continue
		}
		if found >= 0 {
			return 0, &SetupError{Reason: fmt.Sprintf("--columns %s=%s: the file has two columns of that name; pick one by its number, such as %s=#%d",
				column, from, column, found+1)}
		}
		found = i
	}
	if found < 0 {
		return 0, &SetupError{Reason: fmt.Sprintf("--columns %s=%s: the file has no column %q; it has %s", column, from, from, h.list())}
	}
	return found, nil
}

// alias returns the cell of the first name that the header has.
func (h header) alias(candidates []string) (int, bool, error) {
	for _, candidate := range candidates {
		found := -1
		for i, key := range h.keys {
			if key != fieldKey(candidate) {
				continue
			}
			if found >= 0 {
				return 0, false, &SetupError{Reason: fmt.Sprintf("the file has two columns %q; pick one by its number, such as --columns %s=#%d",
					h.names[i], candidates[0], found+1)}
			}
			found = i
		}
		if found >= 0 {
			return found, true, nil
		}
	}
	return 0, false, nil
}

// list quotes the header for a message.
func (h header) list() string {
	const most = 12
	shown := make([]string, 0, most+1)
	for _, name := range h.names[:min(len(h.names), most)] {
		shown = append(shown, strconv.Quote(clip([]byte(name))))
	}
	if len(h.names) > most {
		shown = append(shown, fmt.Sprintf("… (%d columns)", len(h.names)))
	}
	return strings.Join(shown, ", ")
}

func (m *mapping) nameIgnored(h header) {
	used := make([]bool, len(h.names))
	for _, cell := range m.cells {
		used[cell] = true
	}
	for i, name := range h.names {
		switch {
		case used[i]:
		case name == "":
			m.ignored = append(m.ignored, "#"+strconv.Itoa(i+1))
		default:
			m.ignored = append(m.ignored, name)
		}
	}
}

func columnNamesOf[R any](columns []*mds.Column[R]) []string {
	names := make([]string, len(columns))
	for i, c := range columns {
		names[i] = c.Name
	}
	return names
}

func columnNames[R any](schema *mds.Schema[R]) []string {
	names := make([]string, len(schema.Columns))
	for i := range schema.Columns {
		names[i] = schema.Columns[i].Name
	}
	return names
}

func sortedKeys(m map[string]string) []string {
	keys := make([]string, 0, len(m))
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

// sniffDelimiter picks the separator that the header holds most of.
func sniffDelimiter(line []byte) byte {
	best, most := byte(','), 0
	for _, candidate := range []byte{',', ';', '\t', '|'} {
		n, quoted := 0, false
		for _, c := range line {
			switch {
			case c == '"':
				quoted = !quoted
			case c == candidate && !quoted:
				n++
			}
		}
		if n > most {
			best, most = candidate, n
		}
	}
	return best
}

// foreignFormat recognises what is not CSV by its first bytes and says what
// to do, or returns "".
func foreignFormat(head []byte) string {
	switch {
	case bytes.HasPrefix(head, []byte("PAR1")):
		return "it is a Parquet file; convert it to CSV first"
	case bytes.HasPrefix(head, []byte("PK\x03\x04")):
		return "it is a zip archive or an Excel workbook; unpack it, or save it as CSV"
	case bytes.HasPrefix(head, []byte("[")):
		return "it is a JSON array; write one object a line instead, with jq -c '.[]'"
	case bytes.HasPrefix(head, []byte("{")):
		return "it is JSON, not CSV"
	case bytes.IndexByte(head, 0) < 0 && bytes.IndexByte(head, '\r') >= 0 && bytes.IndexByte(head, '\n') < 0:
		return "its lines end in CR alone; convert them first, with tr '\\r' '\\n'"
	case bytes.HasPrefix(head, []byte{0xff, 0xfe}), bytes.HasPrefix(head, []byte{0xfe, 0xff}):
		return "it is UTF-16 text; convert it to UTF-8 first, with iconv -f UTF-16 -t UTF-8"
	}
	// A stray control byte in one row costs that row; in the header, or among
	// bytes that are no text, it tells what the file is.
	first, _, _ := bytes.Cut(head, []byte("\n"))
	control := bytes.IndexFunc(head, func(r rune) bool { return r < 0x20 && r != '\t' && r != '\n' && r != '\r' }) >= 0
	if bytes.IndexByte(first, 0) >= 0 || (control && !utf8.Valid(wholeRunes(head))) {
		return "it is a binary file, not CSV"
	}
	return ""
}

// wholeRunes leaves out a character that the end of b cuts in two.
func wholeRunes(b []byte) []byte {
	for i := 1; i < utf8.UTFMax && i <= len(b); i++ {
		if tail := b[len(b)-i:]; utf8.RuneStart(tail[0]) {
			if !utf8.FullRune(tail) {
				return b[:len(b)-i]
			}
			break
		}
	}
	return b
}
