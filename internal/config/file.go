package config

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"

	"github.com/pelletier/go-toml/v2"
	"github.com/pelletier/go-toml/v2/unstable"
)

// entry is what the file says of one setting.
type entry struct {
	line  int
	text  string // as the environment would have it
	wrong string // what it is, where the setting may not be that
}

// document is a file that was read.
type document struct {
	entries map[string]entry // by the settings' keys
	faults  []Fault
}

// read reads a file. Its syntax ends with the first fault, and the settings have all of
// theirs told.
func read(name string, data []byte, settings []Setting) document {
	d := document{entries: make(map[string]entry)}
	if err := toml.Unmarshal(data, new(map[string]any)); err != nil { // it also tells what is there twice
		d.faults = append(d.faults, syntaxFault(name, err))
		return d
	}
	r := &reader{document: &d, name: name, settings: make(map[string]*Setting), sections: make(map[string]bool)}
	for i := range settings {
		s := &settings[i]
		r.settings[s.Key] = s
		section, _, _ := strings.Cut(s.Key, ".")
		r.sections[section] = true
	}
	r.parser.Reset(data)
	for r.parser.NextExpression() {
		r.expression(r.parser.Expression())
	}
	return d
}

func syntaxFault(name string, err error) Fault {
	f := Fault{Where: name, Says: strings.TrimPrefix(err.Error(), "toml: ")}
	var at *toml.DecodeError
	if errors.As(err, &at) {
		row, _ := at.Position()
		f.Where += ":" + strconv.Itoa(row)
	}
	f.Says = "it is no TOML: " + f.Says
	return f
}

// reader walks through a file.
type reader struct {
	*document
	name     string
	parser   unstable.Parser
	settings map[string]*Setting // by key
	sections map[string]bool
	section  string // that is open, with the dot behind it
	lost     bool   // there is no such section
}

func (r *reader) expression(e *unstable.Node) {
	switch e.Kind {
	case unstable.Table, unstable.ArrayTable:
		key, line := r.key(e)
		s := r.settings[key]
		r.section, r.lost = key+".", false
		switch {
		case e.Kind == unstable.ArrayTable:
			r.lost = true
			r.fault(line, "[[%s]] is a list of sections: write [%s] once", key, key)
		case !r.sections[key] && (s == nil || !s.form.byTenant()):
			r.lost = true
			r.unknown(line, "section", key)
		}
	case unstable.KeyValue:
		if !r.lost {
			r.pair(r.section, e)
		}
	}
}

// key is the dotted key of a section or a pair, and its line.
func (r *reader) key(e *unstable.Node) (key string, line int) {
	var parts []string
	for it := e.Key(); it.Next(); {
		if k := it.Node(); line == 0 {
			line = r.parser.Shape(k.Raw).Start.Line
		}
		part := string(it.Node().Data)
		if part == "" || strings.Contains(part, ".") {
			part = quoted(part) // which is no setting's
		}
		parts = append(parts, part)
	}
	return strings.Join(parts, "."), line
}

// pair reads a key and its value.
func (r *reader) pair(prefix string, e *unstable.Node) {
	key, line := r.key(e)
	key = prefix + key
	value := e.Value()
	if s := r.settings[key]; s != nil {
		r.value(s, line, value)
		return
	}
	section, tenant := cutLast(key)
	if s := r.settings[section]; s != nil && s.form.byTenant() {
		r.item(s, line, tenant, value)
		return
	}
	if value.Kind == unstable.InlineTable && r.sections[key] {
		for it := value.Children(); it.Next(); {
			r.pair(key+".", it.Node())
		}
		return
	}
	r.unknown(line, "setting", key)
}

func cutLast(key string) (before, after string) {
	i := strings.LastIndexByte(key, '.')
	if i < 0 {
		return "", key
	}
	return key[:i], key[i+1:]
}

// value takes in what a setting is.
func (r *reader) value(s *Setting, line int, v *unstable.Node) {
	if s.form.byTenant() && v.Kind == unstable.InlineTable {
		for it := v.Children(); it.Next(); {
			tenant, at := r.key(it.Node())
			r.item(s, at, tenant, it.Node().Value())
		}
		return
	}
	e := entry{line: line}
	e.text, e.wrong = r.scalar(s.form.shape, v)
	if s.form.shape == shapeList && v.Kind == unstable.Array {
		e.text, e.wrong = r.list(v)
	}
	r.entries[s.Key] = e
}

// list is a list of texts, with commas.
func (r *reader) list(v *unstable.Node) (list, wrong string) {
	var items []string
	for it := v.Children(); it.Next(); {
		item := it.Node()
		if item.Kind == unstable.Comment {
			continue
		}
		if item.Kind != unstable.String || strings.Contains(string(item.Data), ",") {
			return "", "a list of something else than texts without commas"
		}
		items = append(items, string(item.Data))
	}
	if len(items) == 0 {
		return "", "empty"
	}
	return strings.Join(items, ","), ""
}

// item takes in what a setting that has something for each tenant has for one.
func (r *reader) item(s *Setting, line int, tenant string, v *unstable.Node) {
	e := r.entries[s.Key]
	if e.line == 0 {
		e.line = line
	}
	of, write, separator := shapeNumber, "write a number a second, or 0 for no limit", ","
	if s.form.shape == shapeTexts {
		of, write, separator = shapeText, "write a DSN, postgres://LOGIN@HOST/DATABASE", " "
	}
	text, wrong := r.scalar(of, v)
	if wrong == "" && of == shapeText && strings.ContainsFunc(text, unicode.IsSpace) {
		wrong = "a text with spaces"
	}
	if wrong != "" {
		r.fault(line, "%s.%s is %s: %s", s.Key, tenant, wrong, write)
		return
	}
	if e.text != "" {
		e.text += separator
	}
	e.text += tenant + "=" + text
	r.entries[s.Key] = e
}

// scalar is a value as the environment would have it, or what it is that does not go there.
func (r *reader) scalar(shape shape, v *unstable.Node) (text, wrong string) {
	raw := string(v.Data)
	switch v.Kind {
	case unstable.String:
		switch {
		case raw == "":
			return "", "empty"
		case shape == shapeText || shape == shapeSize:
			return raw, ""
		}
		return "", "a text in quotes"
	case unstable.Integer, unstable.Float:
		if shape == shapeText {
			return "", "a number, without quotes" // which may be secret
		}
		if n, err := strconv.ParseInt(raw, 0, 64); err == nil {
			raw = strconv.FormatInt(n, 10)
		}
		raw = strings.ReplaceAll(raw, "_", "")
	case unstable.Bool:
		if shape != shapeBool {
			return "", "true or false"
		}
		return raw, ""
	case unstable.Array:
		return "", "a list"
	case unstable.InlineTable:
		return "", "a section"
	default:
		return "", "a time without quotes"
	}
	if shape != shapeNumber && shape != shapeSize {
		return "", "a number"
	}
	return raw, ""
}

func (r *reader) fault(line int, format string, args ...any) {
	r.faults = append(r.faults, Fault{Where: r.name + ":" + strconv.Itoa(line), Says: fmt.Sprintf(format, args...)})
}

// unknown tells of a key that nothing has, and of one that is spelled much like it.
func (r *reader) unknown(line int, what, key string) {
	hint := "mds config print --defaults lists what there is"
	var names []string
	if what == "setting" {
		for name := range r.settings {
			names = append(names, name)
		}
	} else {
		for name := range r.sections {
			names = append(names, name)
		}
	}
	if like := nearest(key, names); like != "" {
		hint = "did you mean " + like + "?"
	}
	r.fault(line, "there is no %s %s; %s", what, key, hint)
}

// byTenant reports that a setting is a table, of tenants.
func (f form) byTenant() bool { return f.shape == shapeTable || f.shape == shapeTexts }
