package codec

import (
	"bytes"
	"slices"
)

// Most lines of NDJSON are flat objects of numbers and strings without escapes. Such
// a line is cut here, in a fraction of the time; any other is left to the tokenizer,
// which also finds what is wrong with it. Whatever is cut here is JSON as RFC 8259
// has it: FuzzSimple compares the two.

// simpleMember is a member of a line's object: the name in its quotes, and the value.
type simpleMember struct {
	name, value []byte
	from        *field
}

// nameless stands for a name that is not remembered.
var nameless field

// cutSimple cuts a line, and reports whether it is a simple one.
func cutSimple(members []simpleMember, line []byte) ([]simpleMember, bool) {
	members = members[:0]
	i := skipSpace(line, 0)
	if i >= len(line) || line[i] != '{' {
		return members, false
	}
	for i = skipSpace(line, i+1); ; i = skipSpace(line, i+1) {
		start := i
		if i = skipString(line, i); i < 0 {
			return members, false
		}
		name := line[start:i]
		if i = skipSpace(line, i); i >= len(line) || line[i] != ':' {
			return members, false
		}
		start = skipSpace(line, i+1)
		if start >= len(line) {
			return members, false
		}
		switch c := line[start]; {
		case c == '"':
			i = skipString(line, start)
		case c == 'n' && len(line) > start+4 && string(line[start:start+4]) == "null":
			i = start + 4
		default:
			i = skipNumber(line, start)
		}
		if i < 0 {
			return members, false
		}
		members = append(members, simpleMember{name: name, value: line[start:i]})
		i = skipSpace(line, i)
		switch {
		case i >= len(line):
			return members, false
		case line[i] == '}':
			return members, skipSpace(line, i+1) == len(line)
		case line[i] != ',':
			return members, false
		}
	}
}

func skipSpace(line []byte, i int) int {
	for i < len(line) && (line[i] == ' ' || line[i] == '\t' || line[i] == '\r' || line[i] == '\n') {
		i++
	}
	return i
}

// skipString returns the end of a string of ASCII without escapes that begins at i,
// or -1.
func skipString(line []byte, i int) int {
	if i >= len(line) || line[i] != '"' {
		return -1
	}
	for i++; i < len(line); i++ {
		switch c := line[i]; {
		case c == '"':
			return i + 1
		case c < ' ', c > '~', c == '\\':
			return -1
		}
	}
	return -1
}

// skipNumber returns the end of a number that begins at i, or -1.
func skipNumber(line []byte, i int) int {
	digits := func() bool {
		start := i
		for i < len(line) && '0' <= line[i] && line[i] <= '9' {
			i++
		}
		return i > start
	}
	if i < len(line) && line[i] == '-' {
		i++
	}
	zero := i < len(line) && line[i] == '0'
	if start := i; !digits() || zero && i > start+1 {
		return -1
	}
	if i < len(line) && line[i] == '.' {
		if i++; !digits() {
			return -1
		}
	}
	if i < len(line) && (line[i] == 'e' || line[i] == 'E') {
		if i++; i < len(line) && (line[i] == '+' || line[i] == '-') {
			i++
		}
		if !digits() {
			return -1
		}
	}
	return i
}

// twice finds the fields of the members that were met before, and reports whether
// there may be one name twice.
func (d *NDJSON[R]) twice() bool {
	const most = 64 // names that were not met before
	d.row++
	d.newNames = d.newNames[:0]
	for i := range d.members {
		m := &d.members[i]
		// Lines name their fields in the same order, most often.
		if i < len(d.order) && d.order[i].quoted == string(m.name) {
			m.from = d.order[i]
		} else {
			m.from = d.fields[string(m.name)]
		}
		switch {
		case m.from == nil && (len(d.newNames) == most || slices.ContainsFunc(d.newNames, func(name []byte) bool { return bytes.Equal(name, m.name) })):
			return true
		case m.from == nil:
			d.newNames = append(d.newNames, m.name)
		case m.from.row == d.row:
			return true
		default:
			m.from.row = d.row
		}
	}
	return false
}

// simple reads the members of the line's object, unless it is no simple one, or names
// a field twice.
func (d *NDJSON[R]) simple(record *R) (done bool, err error) {
	if d.careful || len(d.fields) >= maxFields {
		return false, nil
	}
	var ok bool
	if d.members, ok = cutSimple(d.members, d.raw); !ok {
		return false, nil
	}
	if d.twice() {
		return false, nil
	}
	for i := range d.members {
		m := &d.members[i]
		if m.from == nil {
			if m.from, err = d.field(m.name); err != nil {
				return true, err
			}
		}
		known := m.from
		if len(m.name) > maxRemembered {
			known = &nameless // so that what one line says is not kept beyond it
		}
		if i < len(d.order) {
			d.order[i] = known
		} else {
			d.order = append(d.order, known)
		}
		d.meet(m.from)
		if m.value[0] == 'n' {
			continue
		}
		if err := d.member(m.from, m.value); err != nil {
			return true, err
		}
	}
	for i := range d.pending {
		if p := &d.pending[i]; p.from != nil {
			d.feed(record, i, p)
		}
	}
	return true, nil
}
