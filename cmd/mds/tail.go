package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"unicode/utf8"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
)

// usualServer is where mds serve listens unless it is told.
const usualServer = "http://127.0.0.1:8080"

func (a *app) tailCommand() *cobra.Command {
	return a.perKind("tail", "Follow what a server commits, as it comes", func(k kind) func(*app) *cobra.Command { return k.tail })
}

func tailKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	f := newSelectionFlags[R]()
	var most int64
	cmd := &cobra.Command{
		Use:   schema.Kind,
		Short: "Follow the " + schema.Kind + " that a server commits, as they come",
		Long: `Follow the ` + schema.Kind + ` that a server (mds serve) commits, from now on, until it is interrupted.

It is the server of --server or MDS_SERVER, or else the one at ` + usualServer + `, to
which no API key is sent. Where the connection is lost it connects again; what it misses
meanwhile it says, on standard error: that is in the store.`,
		Example: fmt.Sprintf("  mds tail %[1]s\n  mds tail %[1]s --symbol MSFT,AAPL --format ndjson | jq .\n  mds tail %[1]s -n 100 --server https://mds.example.com", schema.Kind),
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if f.format == string(codec.FormatJSON) {
				return usagef("--format json is an array, which has an end: use table, csv or ndjson")
			}
			sel, err := f.selection(cmd)
			if err != nil {
				return err
			}
			if most < 0 || most == 0 && cmd.Flags().Changed("count") {
				return usagef("-n %d: write how many records to show, 1 or more", most)
			}
			return tail[R](cmd, a, sel, f.format, most)
		},
	}
	f.register(cmd, true, false)
	cmd.Flags().Int64VarP(&most, "count", "n", 0, "end after so many records (default: go on until it is interrupted)")
	cmd.Flags().StringVar(&f.format, "format", formatTable, "table, csv or ndjson")
	offer(cmd, "format", formatTable, string(codec.FormatCSV), string(codec.FormatNDJSON))
	return cmd
}

// tailed is the server to follow; it is the usual one where none is named.
func (a *app) tailed(cmd *cobra.Command) (c *client.Client, usual bool, err error) {
	cfg := client.Config{URL: a.dsn, Tenant: a.tenant}
	switch {
	case a.dsn == "":
		cfg.URL, usual = usualServer, true // without a key, which is for who was named
		if !a.settings.IsSet("store.tenant") {
			cfg.Tenant = ""
		}
	case !remote.IsDSN(a.dsn):
		return nil, false, usagef("%s follows a server, not a store: start one there with mds serve, and name it with --server, such as --server %s", cmd.CommandPath(), usualServer)
	}
	if cfg.Key, err = a.keyFor(a.dsn); err != nil {
		return nil, false, err
	}
	c, err = client.New(cfg)
	return c, usual, err
}

// tail shows what is committed until it is interrupted, or there were enough.
func tail[R mds.Record[R]](cmd *cobra.Command, a *app, sel mds.Selection, format string, most int64) error {
	c, usual, err := a.tailed(cmd)
	if err != nil {
		return err
	}
	defer c.Close() //nolint:errcheck // it cannot fail
	out, err := newTailWriter[R](a.stdout, format)
	if err != nil {
		return err
	}
	where := usualServer
	if !usual {
		where = store.Redact(a.dsn)
	}
	kind := mds.SchemaOf[R]().Kind
	lost, connected := false, "following "+kind+" at "+where
	query := client.TailQuery{
		Selection: sel,
		Connected: func() {
			fmt.Fprintln(a.stderr, connected)
			lost, connected = false, "connected again"
		},
		Disconnected: func(err error) {
			if !lost { // once
				fmt.Fprintf(a.stderr, "the connection to %s is lost (%v); connecting again\n", where, err)
			}
			lost = true
		},
	}
	var shown int64
	for records, err := range client.TableOf[R](c).Tail(cmd.Context(), mds.Tenant{}, query) {
		var gap *client.GapError
		switch {
		case errors.As(err, &gap):
			fmt.Fprintf(a.stderr, "%v; mds query %s reads them from the store\n", gap, kind)
			continue
		case errors.Is(err, context.Canceled) && most == 0:
			return nil // it is how it ends
		case err != nil:
			return tailFailed(err, usual)
		}
		if most > 0 {
			records = records[:min(int64(len(records)), most-shown)]
		}
		if err := out.write(records); err != nil {
			return err
		}
		if shown += int64(len(records)); shown == most {
			return nil
		}
	}
	return nil
}

// tailFailed is why nothing could be followed, of a server that was not named what to do.
func tailFailed(err error, usual bool) error {
	var e *client.Error
	switch {
	case !usual || !errors.As(err, &e):
	case e.Status == 0:
		return fmt.Errorf("no server answers at %s: start one with mds serve, or name one with --server (%w)", usualServer, err)
	case e.Code == "no_key":
		return usagef("the server at %s asks for an API key: name it with --server %[1]s, so that the one in MDS_API_KEY is sent to it", usualServer)
	}
	return err
}

// tailWriter shows records at once.
type tailWriter[R mds.Record[R]] struct {
	w       *bufio.Writer
	encoder *codec.Encoder[R] // nil for a table
	schema  mds.Schema[R]
	width   []int // of the columns; they grow
}

func newTailWriter[R mds.Record[R]](w io.Writer, format string) (t *tailWriter[R], err error) {
	t = &tailWriter[R]{w: bufio.NewWriter(w), schema: mds.SchemaOf[R]()}
	if format != formatTable {
		t.encoder, err = codec.NewEncoder[R](t.w, codec.Format(format)) // which takes this buffer for its own
	}
	return t, err
}

func (t *tailWriter[R]) write(records []R) error {
	rows := newRecordTable(&t.schema)
	for i := range records {
		if t.encoder == nil {
			addRecord(rows, &t.schema, &records[i])
		} else if err := t.encoder.Encode(&records[i]); err != nil {
			return err
		}
	}
	if t.encoder == nil {
		t.table(rows)
	}
	return t.w.Flush()
}

// table writes rows below those that are there, the header before the first.
func (t *tailWriter[R]) table(rows *table) {
	lines := rows.rows
	if t.width == nil {
		t.width = make([]int, len(rows.header))
		lines = append([][]string{rows.header}, lines...)
	}
	for _, line := range lines {
		for i, cell := range line {
			t.width[i] = max(t.width[i], utf8.RuneCountInString(cell))
		}
	}
	var b strings.Builder
	for _, line := range lines {
		b.Reset()
		for i, cell := range line {
			pad := strings.Repeat(" ", t.width[i]-utf8.RuneCountInString(cell))
			if i > 0 {
				b.WriteString("  ")
			}
			if rows.right[i] {
				b.WriteString(pad + cell)
			} else {
				b.WriteString(cell + pad)
			}
		}
		fmt.Fprintln(t.w, strings.TrimRight(b.String(), " ")) // Flush tells what fails
	}
}
