// Package vendor reads the bodies of vendors' interfaces, which are no tables:
// nested JSON with a shape of its own. Each format is a file here.
package vendor

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// Format is the shape of one vendor's body.
type Format[R any] struct {
	// Name is what --format calls it, such as "sec-companyfacts".
	Name string
	// Doc completes the sentence "it reads …".
	Doc string
	// New returns a decoder for one body. Of the options it heeds Fixed and
	// Zone. It fails with a [*codec.HeaderError] for a body of another shape.
	New func(io.Reader, codec.Options) (codec.Decoder[R], error)
}

// Formats returns the formats that hold records of a kind.
func Formats[R mds.Record[R]]() []Format[R] {
	var formats []Format[R]
	for _, f := range []any{secCompanyFacts(), ibkrNews()} {
		if f, ok := f.(Format[R]); ok {
			formats = append(formats, f)
		}
	}
	return formats
}

// Decoder returns what reads a format by its name: csv, ndjson, json or one of [Formats]; ""
// tells CSV and NDJSON apart.
func Decoder[R mds.Record[R]](format string) (func(io.Reader, codec.Options) (codec.Decoder[R], error), error) {
	names := []string{string(codec.FormatCSV), string(codec.FormatNDJSON), string(codec.FormatJSON)}
	if format == "" || slices.Contains(names, format) {
		return func(r io.Reader, opt codec.Options) (codec.Decoder[R], error) {
			return codec.NewDecoder[R](r, codec.Format(format), opt)
		}, nil
	}
	for _, f := range Formats[R]() {
		if f.Name == format {
			return f.New, nil
		}
		names = append(names, f.Name)
	}
	last := len(names) - 1
	return nil, fmt.Errorf("%q: use %s or %s", format, strings.Join(names[:last], ", "), names[last])
}

// item is a part of a body that should become a record.
type item[R any] struct {
	record R
	line   int    // where it begins, counted from 1
	fault  string // why it is no record, "" if nothing is known against it
	field  string // that is at fault
	raw    string // the item as it was read
}

// list is a decoder of a body that has been read whole.
type list[R mds.Record[R]] struct {
	schema   mds.Schema[R]
	items    []item[R]
	ignored  []string
	warnings map[string]int64
	next     int
}

func newList[R mds.Record[R]](items []item[R], ignored []string) *list[R] {
	return &list[R]{schema: mds.SchemaOf[R](), items: items, ignored: ignored, warnings: make(map[string]int64)}
}

// Next returns the next record, normalised and valid; see [codec.Decoder].
func (l *list[R]) Next(record *R) error {
	if l.next == len(l.items) {
		return io.EOF
	}
	at := &l.items[l.next]
	l.next++
	if at.fault != "" {
		return &codec.RowError{Line: at.line, Field: at.field, Reason: at.fault, Raw: at.raw}
	}
	*record = at.record
	if err := l.schema.Validate(record); err != nil {
		return codec.InvalidRow(err, at.line, at.raw)
	}
	if l.schema.Warning != nil {
		if warning := l.schema.Warning(record); warning != "" {
			l.warnings[warning]++
		}
	}
	l.schema.Normalize(record)
	return nil
}

// Ignored returns the names of the body that fed nothing.
func (l *list[R]) Ignored() []string { return l.ignored }

// Warnings counts the records with something odd about them, by what it was.
func (l *list[R]) Warnings() map[string]int64 { return l.warnings }

// apply gives the record that all begin as the fixed values. It refuses options
// that the format has no use for.
func apply[R mds.Record[R]](record *R, opt codec.Options, columns ...string) error {
	schema := mds.SchemaOf[R]()
	if len(opt.Columns) > 0 || opt.NoHeader {
		return &codec.SetupError{Reason: "--columns and --no-header are for CSV and NDJSON files; a vendor's body names its own"}
	}
	for name, value := range opt.Fixed {
		if !slices.Contains(columns, name) {
			return &codec.SetupError{Reason: "the body says the " + name + " itself; leave --" + strings.ReplaceAll(name, "_", "-") + " out"}
		}
		if err := schema.Lookup(name).SetText(record, value); err != nil {
			return &codec.SetupError{Reason: "--" + name + ": " + err.Error()}
		}
	}
	return nil
}

// notBody is the error of a body that cannot be read.
func notBody(what string, err error) error {
	var syntax *json.SyntaxError
	var shape *json.UnmarshalTypeError
	switch {
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF), errors.As(err, &syntax) && strings.Contains(err.Error(), "unexpected end"):
		return &codec.HeaderError{Reason: "it is not the whole of " + what + ": it ends too early; fetch it again"}
	case errors.As(err, &syntax), errors.As(err, &shape):
		return &codec.HeaderError{Reason: "it is not " + what + ": " + strings.TrimPrefix(err.Error(), "json: ")}
	}
	return err // the reader's
}
