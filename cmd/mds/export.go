package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/store"
)

func (a *app) exportCommand() *cobra.Command {
	return a.perKind("export", "Write records to files that ingest reads back", func(k kind) func(*app) *cobra.Command { return k.export })
}

func exportKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	var format, template string
	var placeholders []string
	for _, c := range schema.ByRole(mds.Identity) {
		placeholders = append(placeholders, "{"+c.Name+"}")
	}
	cmd := &cobra.Command{
		Use:   schema.Kind + " OUT",
		Short: "Write " + schema.Kind + " to a file",
		Long: `Write ` + schema.Kind + ` to the file OUT (- is standard output), ordered by identity, then by time,
with every column, so that mds ingest ` + schema.Kind + ` OUT needs no further flag. A file that is
there is replaced when the new one is complete.

The format is that of the extension: .csv or .ndjson, and .gz or .zst after it for
compression; --format says it otherwise.

With --template OUT is a folder, and the template names many files in it, one for
each combination of what it holds: {table}, ` + strings.Join(placeholders, ", ") + `,
and {start} and {end}, the dates (UTC) of the first and the last record.`,
		Example: fmt.Sprintf(`  mds export %[1]s all.csv.zst
  mds export %[1]s - --format ndjson --symbol MSFT | gzip > msft.ndjson.gz
  mds export %[1]s backup --template '{table}-{vendor}-%[2]s{start}-{end}.csv.gz'`, schema.Kind, symbolPlaceholder(&schema)),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || args[0] == "" {
				return usagef("%s needs one file to write, or - for standard output", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			e := &export[R]{app: a, schema: &schema, sel: sel, out: args[0], format: format, template: template}
			if err := e.check(); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error { return e.run(cmd.Context(), s) })
		},
	}
	f.register(cmd, true, true)
	cmd.Flags().StringVar(&format, "format", "", "csv or ndjson, where the name does not say")
	cmd.Flags().StringVar(&template, "template", "", "names for many files, such as '{table}-{vendor}-{start}-{end}.csv.gz'")
	offer(cmd, "format", string(codec.FormatCSV), string(codec.FormatNDJSON))
	return cmd
}

func symbolPlaceholder[R any](schema *mds.Schema[R]) string {
	if c := schema.Lookup("symbol"); c != nil {
		return "{symbol}-"
	}
	return ""
}

// export is one run of the command.
type export[R mds.Record[R]] struct {
	app              *app
	schema           *mds.Schema[R]
	sel              mds.Selection
	out              string
	format, template string
}

var placeholder = regexp.MustCompile(`\{[^{}]*\}`)

// check refuses a command line that cannot be carried out.
func (e *export[R]) check() error {
	name := e.out
	if e.template != "" {
		name = e.template
		if e.out == "-" {
			return usagef("--template names files in a folder: give the folder, not -")
		}
		known := []string{"{table}", "{start}", "{end}"}
		for _, c := range e.schema.ByRole(mds.Identity) {
			known = append(known, "{"+c.Name+"}")
		}
		for _, p := range placeholder.FindAllString(e.template, -1) {
			if !slices.Contains(known, p) {
				return usagef("--template: there is no %s for %s; use %s", p, e.schema.Kind, and(known))
			}
		}
	}
	_, err := e.formatOf(name)
	return err
}

// formatOf is the format of a file's name, unless a flag says it.
func (e *export[R]) formatOf(name string) (codec.Format, error) {
	switch codec.Format(e.format) {
	case codec.FormatCSV, codec.FormatNDJSON:
		return codec.Format(e.format), nil
	case "":
	default:
		return "", usagef("--format %q: use csv or ndjson", e.format)
	}
	base := strings.TrimSuffix(strings.TrimSuffix(strings.ToLower(name), ".gz"), ".zst")
	switch filepath.Ext(base) {
	case ".csv":
		return codec.FormatCSV, nil
	case ".ndjson", ".jsonl":
		return codec.FormatNDJSON, nil
	}
	if name == "-" {
		return "", usagef("say how to write to standard output: --format csv or ndjson")
	}
	return "", usagef("%s does not say its format: name it .csv or .ndjson (and .gz or .zst after that), or give --format", name)
}

func (e *export[R]) run(ctx context.Context, s *session) error {
	records := store.TableOf[R](s.Store)
	if e.template == "" {
		n, err := e.file(ctx, s, records, e.sel, e.out)
		if err == nil && n == 0 {
			e.noMatch()
		}
		if err == nil && e.out != "-" {
			fmt.Fprintf(e.app.stdout, "%s to %s\n", plural(n, e.schema.Noun), e.out)
		}
		return err
	}
	parts, err := e.parts(ctx, s, records)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.out, 0o750); err != nil {
		return fileError(e.out, err)
	}
	var total int64
	for _, p := range parts {
		name := filepath.Join(e.out, p.name)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			return fileError(name, err)
		}
		n, err := e.file(ctx, s, records, p.sel, name)
		if err != nil {
			return err
		}
		total += n
	}
	if total == 0 {
		e.noMatch()
	}
	fmt.Fprintf(e.app.stdout, "%s to %s in %s\n", plural(total, e.schema.Noun), plural(int64(len(parts)), "file"), e.out)
	return nil
}

func (e *export[R]) noMatch() {
	fmt.Fprintf(e.app.stderr, "no %s match; %s lists what there is\n", e.schema.Kind, listing(e.schema.Kind))
}

// file writes one file and returns the number of its records. A file that is
// cut short by an error is not left behind.
func (e *export[R]) file(ctx context.Context, s *session, records store.Table[R], sel mds.Selection, name string) (n int64, err error) {
	format, err := e.formatOf(name)
	if err != nil {
		return 0, err
	}
	found := records.Query(ctx, s.tenant, mds.Query{Selection: sel, ByIdentity: true})
	if name == "-" {
		return writeRecords(e.app.stdout, string(format), found)
	}
	out, err := codec.Create(name)
	if err != nil {
		return 0, fileError(name, err)
	}
	n, err = writeRecords(out, string(format), found)
	complete := err == nil
	if closeErr := out.Close(complete); complete && closeErr != nil {
		err = fileError(name, closeErr)
	}
	return n, err
}

func fileError(name string, err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return fmt.Errorf("%s: %w", name, err)
}

// part is one file of a template.
type part struct {
	name        string
	sel         mds.Selection
	first, last time.Time
}

// parts finds the files that a template names: series with the same values in
// its placeholders share one.
func (e *export[R]) parts(ctx context.Context, s *session, records store.Table[R]) ([]part, error) {
	list, err := records.Series(ctx, s.tenant, e.sel)
	if err != nil {
		return nil, err
	}
	var parts []part
	at := make(map[string]int)
	for i := range list {
		series := &list[i]
		name := strings.ReplaceAll(e.template, "{table}", e.schema.Kind)
		sel := e.sel
		sel.Symbols, sel.Where = nil, make(map[string][]string)
		for column, values := range e.sel.Where {
			sel.Where[column] = values
		}
		for _, c := range e.schema.ByRole(mds.Identity) {
			value := string(c.AppendText(nil, &series.Identity))
			if strings.Contains(e.template, "{"+c.Name+"}") {
				name = strings.ReplaceAll(name, "{"+c.Name+"}", fileSafe(value))
				sel.Where[c.Name] = []string{value}
			} else if c == e.schema.SymbolColumn() {
				sel.Symbols = e.sel.Symbols
			}
		}
		if c := e.schema.SymbolColumn(); c != nil && c.List != nil {
			sel.Symbols = e.sel.Symbols
		}
		if known, ok := at[name]; ok {
			if fmt.Sprint(parts[known].sel.Where) != fmt.Sprint(sel.Where) {
				return nil, fmt.Errorf("--template: two series would go into one file %s, since their names differ in characters that file names cannot have; export them apart", name)
			}
			if series.First.Before(parts[known].first) {
				parts[known].first = series.First
			}
			if series.Last.After(parts[known].last) {
				parts[known].last = series.Last
			}
			continue
		}
		at[name] = len(parts)
		parts = append(parts, part{name: name, sel: sel, first: series.First, last: series.Last})
	}
	for i := range parts {
		const date = "20060102"
		parts[i].name = strings.NewReplacer("{start}", parts[i].first.Format(date), "{end}", parts[i].last.Format(date)).Replace(parts[i].name)
	}
	return parts, nil
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
