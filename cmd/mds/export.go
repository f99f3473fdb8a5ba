package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	files "github.com/marketdatastore/mds/internal/export"
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

// of is what it writes, of a store's table.
func (e *export[R]) of(s *session, records store.Table[R]) *files.Export[R] {
	return &files.Export[R]{Source: records, Tenant: s.tenant, Selection: e.sel, Name: e.out, Template: e.template, Format: e.format, Label: flagLabel}
}

// check refuses a command line that cannot be carried out.
func (e *export[R]) check() error {
	switch {
	case e.template != "" && e.out == "-":
		return usagef("--template names files in a folder: give the folder, not -")
	case e.template == "" && e.out == "-" && e.format == "":
		return usagef("say how to write to standard output: --format csv or ndjson")
	}
	if err := e.of(&session{}, nil).Check(); err != nil {
		return usageError{err}
	}
	return nil
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
	parts, err := e.of(s, records).Files(ctx)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(e.out, 0o750); err != nil {
		return files.FileError(e.out, err)
	}
	var total int64
	for i := range parts {
		name := filepath.Join(e.out, parts[i].Name)
		if err := os.MkdirAll(filepath.Dir(name), 0o750); err != nil {
			return files.FileError(name, err)
		}
		n, err := e.file(ctx, s, records, parts[i].Selection, name)
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
	x, f := e.of(s, records), files.File{Name: name, Selection: sel}
	if name == "-" {
		return x.WriteTo(ctx, e.app.stdout, &f, nil)
	}
	out, err := codec.Create(name)
	if err != nil {
		return 0, files.FileError(name, err)
	}
	return x.Write(ctx, out, &f, nil)
}
