package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func (a *app) writeCommand() *cobra.Command {
	return a.perKind("write", "Write one record, given on the command line", func(k kind) func(*app) *cobra.Command { return k.write })
}

func writeKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	values := make(map[string]*string)
	var tz string
	cmd := &cobra.Command{
		Use:   schema.Kind + " [JSON | -]",
		Short: "Write one " + schema.Noun,
		Long: "Write one " + schema.Noun + `, from flags or from a JSON object with the columns' names (- reads it from
standard input). A record of the same key is replaced whole.`,
		Example: fmt.Sprintf("  mds write %[1]s --symbol MSFT --%[2]s 2024-03-15 --COLUMN VALUE …\n  mds write %[1]s '{\"symbol\": \"MSFT\", \"%[3]s\": \"2024-03-15\", …}'",
			schema.Kind, flagOf(&schema, schema.TimeColumn()), schema.TimeColumn().Name),
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) > 1 {
				return usagef("%s takes one JSON object; quote it for the shell", cmd.CommandPath())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			text, err := recordText(cmd, a.stdin, args, values, &schema)
			if err != nil {
				return err
			}
			var opt codec.Options
			if tz != "" {
				if opt.Zone, err = loadZone(tz); err != nil {
					return err
				}
			}
			record, warnings, err := oneRecord[R](text, opt)
			if err != nil {
				return err
			}
			for warning := range warnings {
				fmt.Fprintf(a.stderr, "warning: %s\n", warning)
			}
			return a.withStore(cmd.Context(), writing, func(s *session) error {
				return runWrite(cmd.Context(), a, s, record)
			})
		},
	}
	for i := range schema.Columns {
		c := &schema.Columns[i]
		values[c.Name] = cmd.Flags().String(flagOf(&schema, c), "", c.Doc)
	}
	if schema.Lookup("timeframe") != nil {
		offer(cmd, "timeframe", timeframes()...)
	}
	cmd.Flags().StringVar(&tz, "tz", "", "the time zone of a time without an offset")
	return cmd
}

// recordText is the record as a JSON object, as it was given or made of flags.
func recordText[R any](cmd *cobra.Command, stdin io.Reader, args []string, values map[string]*string, schema *mds.Schema[R]) (string, error) {
	fields := make(map[string]string)
	for name, value := range values {
		flag := flagOf(schema, schema.Lookup(name))
		if !cmd.Flags().Changed(flag) {
			continue
		}
		if !utf8.ValidString(*value) {
			return "", usagef("--%s %q is not valid UTF-8", flag, *value)
		}
		fields[name] = *value
	}
	switch {
	case len(args) == 1 && len(fields) > 0:
		return "", usagef("give the %s as flags or as JSON, not both", schema.Noun)
	case len(args) == 0 && len(fields) == 0:
		names := make([]string, len(schema.Columns))
		for i := range schema.Columns {
			names[i] = schema.Columns[i].Name
		}
		return "", usagef("give the %s as flags or as a JSON object; its columns are %s", schema.Noun, strings.Join(names, ", "))
	case len(args) == 0:
		text, err := json.Marshal(fields)
		return string(text), err
	case args[0] != "-":
		return compactJSON(args[0]), nil
	}
	const most = 4 << 20
	text, err := io.ReadAll(io.LimitReader(stdin, most))
	return compactJSON(string(text)), err
}

// compactJSON puts JSON that is spread over lines on one.
func compactJSON(text string) string {
	var message json.RawMessage
	if err := json.Unmarshal([]byte(text), &message); err != nil {
		return text // the decoder says what is wrong
	}
	line, err := json.Marshal(message)
	if err != nil {
		return text
	}
	return string(line)
}

// oneRecord decodes a JSON object.
func oneRecord[R mds.Record[R]](text string, opt codec.Options) (record R, warnings map[string]int64, err error) {
	decoder, err := codec.NewNDJSON[R](strings.NewReader(text), opt)
	if err != nil {
		return record, nil, usageError{err}
	}
	err = decoder.Next(&record)
	var row *codec.RowError
	var setup *codec.SetupError
	switch {
	case errors.As(err, &row):
		return record, nil, usageError{errors.New(row.Reason)}
	case errors.As(err, &setup):
		return record, nil, usagef("%s: %s", setup.Field, setup.Reason)
	case err != nil:
		return record, nil, err
	}
	var another R
	if err := decoder.Next(&another); !errors.Is(err, io.EOF) {
		return record, nil, usagef("there is more than one record; load many with mds ingest")
	}
	if ignored := decoder.Ignored(); len(ignored) > 0 {
		schema := mds.SchemaOf[R]()
		return record, nil, usagef("%s have no column %s", schema.Kind, strings.Join(ignored, ", "))
	}
	return record, decoder.Warnings(), nil
}

func runWrite[R mds.Record[R]](ctx context.Context, a *app, s *session, record R) error {
	schema := mds.SchemaOf[R]()
	receipt, err := sink.New(store.TableOf[R](s.Store), sink.Config{}).For(s.tenant).Write(ctx, []R{record})
	if err != nil {
		return err
	}
	what := "written"
	if receipt.Unchanged > 0 {
		what = "unchanged: the store holds the same"
	}
	var key []string
	for _, c := range slices.Concat(schema.ByRole(mds.Identity, mds.Key, mds.Revision), schema.ByRole(mds.Time)) {
		text := string(c.AppendText(nil, &record))
		if c.Time != nil {
			text = c.Time(&record).UTC().Format(time.RFC3339Nano)
		}
		key = append(key, text)
	}
	fmt.Fprintf(a.stdout, "%s %s: %s\n", schema.Noun, strings.Join(key, " "), what)
	return nil
}
