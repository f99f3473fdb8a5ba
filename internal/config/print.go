package config

import (
	"fmt"
	"io"
	"strconv"
	"strings"
)

// Print writes the settings in force as a file: those that are set, each with where, and
// as comments the defaults of the others. Loaded again it is the same settings, but for
// passwords, which are not in it.
func (s *Settings) Print(w io.Writer) error {
	return write(w, s.table, func(i int) (string, string, bool) {
		row, v := &s.table[i], s.values[i]
		switch from := s.from(i); {
		case v.origin == fromDefault && row.Default == "":
			return row.form.written(row.Example), "not set; an example", false
		case v.origin == fromDefault:
			return row.form.written(v.text), "default", false
		case row.hidden:
			return row.form.written(row.Example), "set by " + from + ", and not shown", false
		case row.Secret && s.redact(v.text) != v.text:
			return row.form.written(s.redact(v.text)), from + "; its password is not shown", true
		default:
			return row.form.written(v.text), from, true
		}
	})
}

// from is where a setting was set.
func (s *Settings) from(i int) string {
	switch v := s.values[i]; v.origin {
	case fromFile:
		return s.file + ":" + strconv.Itoa(v.line)
	case fromEnvironment:
		return "environment " + s.table[i].Env
	case fromFlag:
		return "--" + s.table[i].Flag
	}
	return "default"
}

// Template writes a file that sets nothing, with all that can be set as comments.
func Template(w io.Writer) error {
	rows := List()
	return write(w, rows, func(i int) (string, string, bool) {
		if rows[i].Default == "" {
			return rows[i].form.written(rows[i].Example), "an example; " + rows[i].Env, false
		}
		return rows[i].form.written(rows[i].Default), "the default; " + rows[i].Env, false
	})
}

// write writes a file, of each setting what it is, a remark, and whether it is set.
func write(w io.Writer, rows []Setting, of func(int) (text, remark string, set bool)) error {
	var b strings.Builder
	b.WriteString("# Settings of mds. What begins with # is not set: it is the default, or an example.\n")
	in := ""
	for i := range rows {
		section, name, _ := strings.Cut(rows[i].Key, ".")
		if section != in {
			fmt.Fprintf(&b, "\n[%s]\n", section)
			in = section
		}
		for _, line := range wrapped(rows[i].Doc, 92) {
			fmt.Fprintf(&b, "# %s\n", line)
		}
		text, remark, set := of(i)
		if !set {
			b.WriteString("#")
		}
		fmt.Fprintf(&b, "%s = %s  # %s\n", name, text, oneLine(remark))
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// oneLine keeps a path with odd characters from ending a comment.
func oneLine(remark string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}, strings.ToValidUTF8(remark, "?"))
}

// wrapped breaks a text into lines of so many bytes at most, where words allow.
func wrapped(text string, most int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > most {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
