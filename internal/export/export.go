// Package export writes records to files that are read back as the same records: one, or one
// for each combination of what a template holds.
package export

import (
	"context"
	"errors"
	"fmt"
	"io"
	"iter"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// Source is what records are read from: the table of a store.
type Source[R any] interface {
	Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error]
	Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error)
}

// Export says what is written.
type Export[R mds.Record[R]] struct {
	Source    Source[R]
	Tenant    mds.Tenant
	Selection mds.Selection
	// Name is that of the file, where there is no template.
	Name string
	// Template names many files: {table}, the kind's identity columns in braces, and {start}
	// and {end}, the dates (UTC) of the first and the last record.
	Template string
	// Format is csv or ndjson; "" has the names say it: .csv, .ndjson or .jsonl, and .gz or .zst
	// after that.
	Format string
	// Label is what a setting is called in errors, such as --template. Defaults to its name.
	Label func(name string) string
}

// File is one file, with the records that go into it.
type File struct {
	Name      string
	Selection mds.Selection

	first, last time.Time
}

func (e *Export[R]) label(name string) string {
	if e.Label == nil {
		return name
	}
	return e.Label(name)
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// Check refuses what cannot be carried out, whatever the store holds.
func (e *Export[R]) Check() error {
	name := e.Name
	if e.Template != "" {
		name = e.Template
		schema := mds.SchemaOf[R]()
		known := []string{"{table}", "{start}", "{end}"}
		for _, c := range schema.ByRole(mds.Identity) {
			known = append(known, "{"+c.Name+"}")
		}
		for _, p := range placeholder.FindAllString(e.Template, -1) {
			if !slices.Contains(known, p) {
				last := len(known) - 1
				return fmt.Errorf("%s: there is no %s for %s; use %s and %s", e.label("template"), p, schema.Kind, strings.Join(known[:last], ", "), known[last])
			}
		}
	}
	_, err := e.format(name)
	return err
}

// format is that of a file's name, unless it is said.
func (e *Export[R]) format(name string) (codec.Format, error) {
	switch codec.Format(e.Format) {
	case codec.FormatCSV, codec.FormatNDJSON:
		return codec.Format(e.Format), nil
	case "":
	default:
		return "", fmt.Errorf("%s %q: use csv or ndjson", e.label("format"), e.Format)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), ".gz"), ".zst")
	switch filepath.Ext(base) {
	case ".csv":
		return codec.FormatCSV, nil
	case ".ndjson", ".jsonl":
		return codec.FormatNDJSON, nil
	}
	return "", fmt.Errorf("%s does not say its format: name it .csv or .ndjson (and .gz or .zst after that), or give %s", name, e.label("format"))
}

// Files are those that are to be written, in order of the series in them: series with the same
// values in a template's placeholders share one.
func (e *Export[R]) Files(ctx context.Context) ([]File, error) {
	if e.Template == "" {
		return []File{{Name: e.Name, Selection: e.Selection}}, nil
	}
	list, err := e.Source.Series(ctx, e.Tenant, e.Selection)
	if err != nil {
		return nil, err
	}
	var files []File
	at := make(map[string]int)
	for i := range list {
		series := &list[i]
		name, sel := e.nameOf(series)
		known, ok := at[name]
		if !ok {
			at[name] = len(files)
			files = append(files, File{Name: name, Selection: sel, first: series.First, last: series.Last})
			continue
		}
		f := &files[known]
		if fmt.Sprint(f.Selection.Where) != fmt.Sprint(sel.Where) {
			return nil, fmt.Errorf("%s: two series would go into one file %s, since their names differ in characters that file names cannot have; export them apart", e.label("template"), name)
		}
		if series.First.Before(f.first) {
			f.first = series.First
		}
		if series.Last.After(f.last) {
			f.last = series.Last
		}
	}
	for i := range files {
		const date = "20060102"
		f := &files[i]
		f.Name = strings.NewReplacer("{start}", f.first.Format(date), "{end}", f.last.Format(date)).Replace(f.Name)
	}
	return files, nil
}

// nameOf is the name of the file of a series, but for its dates, and what picks its records.
func (e *Export[R]) nameOf(series *mds.Series[R]) (name string, sel mds.Selection) {
	schema := mds.SchemaOf[R]()
	name = strings.ReplaceAll(e.Template, "{table}", schema.Kind)
	sel = e.Selection
	sel.Symbols, sel.Where = nil, make(map[string][]string)
	for column, values := range e.Selection.Where {
		sel.Where[column] = values
	}
	for _, c := range schema.ByRole(mds.Identity) {
		value := string(c.AppendText(nil, &series.Identity))
		if strings.Contains(e.Template, "{"+c.Name+"}") {
			name = strings.ReplaceAll(name, "{"+c.Name+"}", fileSafe(value))
			sel.Where[c.Name] = []string{value}
		} else if c == schema.SymbolColumn() {
			sel.Symbols = e.Selection.Symbols
		}
	}
	if c := schema.SymbolColumn(); c != nil && c.List != nil {
		sel.Symbols = e.Selection.Symbols
	}
	return name, sel
}

// fileSafe puts '_' for what file names cannot have everywhere.
func fileSafe(value string) string {
	value = strings.Map(func(r rune) rune {
		if strings.ContainsRune(`/\:*?"<>|`, r) || r < ' ' {
			return '_'
		}
		return r
	}, value)
	if strings.HasPrefix(value, ".") {
		return "_" + value[1:]
	}
	return value
}

// WriteTo writes the records of a file, ordered by identity, then by time, and returns how
// many they are. Each is called with their number now and then; nil is not.
func (e *Export[R]) WriteTo(ctx context.Context, w io.Writer, f *File, each func(n int64)) (n int64, err error) {
	format, err := e.format(f.Name)
	if err != nil {
		return 0, err
	}
	return Encode(w, format, e.Source.Query(ctx, e.Tenant, mds.Query{Selection: f.Selection, ByIdentity: true}), each)
}

// Write writes a file that was created: it gets its name when it is complete, and otherwise
// nothing is left of it.
func (e *Export[R]) Write(ctx context.Context, out *codec.Created, f *File, each func(n int64)) (n int64, err error) {
	n, err = e.WriteTo(ctx, out, f, each)
	complete := err == nil
	if closeErr := out.Close(complete); complete && closeErr != nil {
		err = FileError(f.Name, closeErr)
	}
	return n, err
}

// FileError is an error of a file under the name that it was given.
func FileError(name string, err error) error {
	for {
		var path *os.PathError
		var link *os.LinkError
		switch {
		case errors.As(err, &path):
			err = path.Err
		case errors.As(err, &link):
			err = link.Err
		default:
			return fmt.Errorf("%s: %w", name, err)
		}
	}
}

// Encode writes records in a format, and returns how many they are. Each is called with their
// number now and then; nil is not.
func Encode[R mds.Record[R]](w io.Writer, format codec.Format, records iter.Seq2[R, error], each func(n int64)) (n int64, err error) {
	const every = 4096
	encoder, err := codec.NewEncoder[R](w, format)
	if err != nil {
		return 0, err
	}
	for record, err := range records {
		if err != nil {
			return n, err
		}
		if err := encoder.Encode(&record); err != nil {
			return n, err
		}
		if n++; each != nil && n%every == 0 {
			each(n)
		}
	}
	return n, encoder.Close()
}
