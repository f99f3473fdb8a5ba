package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// sqlFlags are those of mds sql.
type sqlFlags struct {
	file, format, login string
	timeout             time.Duration
	maxRows             int64
}

func (a *app) sqlCommand() *cobra.Command {
	f := &sqlFlags{}
	cmd := &cobra.Command{
		Use:   "sql SELECT | - | --file FILE",
		Short: "Run one statement that reads, in the SQL of the store's engine",
		Long: `Run one SELECT, of the views bars, options, fundamentals, news and rollups. It writes
nothing, and reads nothing but the tenant's data.

On a DuckDB store it reads the tenant's file, which no other program may have open for
writing: where mds serve has it, go through that, with --server. On a PostgreSQL server
it is run as the tenant's own login, which --login names, or sql.logins in the
configuration; never as the service.

A table shows ` + strconv.Itoa(tableLimit) + ` rows unless --max-rows says otherwise, and says when it cut.`,
		Example: `  mds sql "SELECT symbol, max(ts) FROM bars GROUP BY symbol ORDER BY 1"
  mds sql --file vwap.sql --format csv > vwap.csv
  mds sql --server https://mds.example.com "SELECT count(*) FROM news"`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := checkFormat(f.format); err != nil {
				return err
			}
			switch {
			case f.timeout <= 0:
				return usagef("--timeout %s: write a duration such as 30s", f.timeout)
			case f.maxRows < 0:
				return usagef("--max-rows %d: use 0 for all rows, or more", f.maxRows)
			}
			text, err := a.statement(args, f.file)
			if err != nil {
				return err
			}
			if f.format == formatTable && !cmd.Flags().Changed("max-rows") {
				f.maxRows = tableLimit
			}
			return a.runSQL(cmd.Context(), f, text)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&f.file, "file", "", "read the statement from a `file`")
	flags.StringVar(&f.login, "login", "", "the `DSN` of the tenant's login on a PostgreSQL server, such as postgres://acme_bi@HOST/DATABASE; its password may be in ~/.pgpass")
	flags.DurationVar(&f.timeout, "timeout", 5*time.Minute, "end it after this time; a server has a bound of its own")
	flags.Int64Var(&f.maxRows, "max-rows", 0, fmt.Sprintf("at most this many rows, 0 for all (default %d for a table, else all)", tableLimit))
	flags.StringVar(&f.format, "format", formatTable, "table, csv, ndjson or json")
	offer(cmd, "format", formatTable, string(codec.FormatCSV), string(codec.FormatNDJSON), string(codec.FormatJSON))
	return cmd
}

// statement is what the arguments, standard input or a file say.
func (a *app) statement(args []string, file string) (string, error) {
	const say = `say which statement: mds sql "SELECT …", - for standard input, or --file FILE`
	switch {
	case file != "" && len(args) > 0:
		return "", usagef("--file and an argument each have a statement: give one of them")
	case file != "":
		text, err := os.ReadFile(file) //nolint:gosec // the file that the user names
		if err != nil {
			return "", usageError{fmt.Errorf("--file: %w", err)}
		}
		return string(text), nil
	case len(args) == 1 && args[0] == "-":
		text, err := io.ReadAll(a.stdin)
		return string(text), err
	case len(args) == 1:
		return args[0], nil
	case len(args) > 1:
		return "", usagef("%d arguments: put the statement in quotes", len(args))
	}
	return "", usagef("%s", say)
}

// runSQL runs a statement and prints its answer.
func (a *app) runSQL(ctx context.Context, f *sqlFlags, text string) error {
	return a.withSQL(ctx, f.login, func(sql store.SQL, tenant mds.Tenant) error {
		within, cancel := context.WithTimeout(ctx, f.timeout)
		defer cancel()
		out, err := newSQLOutput(a.stdout, f.format)
		if err != nil {
			return err
		}
		more, err := sql.SQL(within, tenant, mds.SQLQuery{Text: text, MaxRows: f.maxRows}, out)
		if err == nil {
			err = out.close(more)
		}
		var refused *mds.SQLError
		switch {
		case errors.As(err, &refused):
			return usageError{errors.New(pointedAt(text, refused))}
		case errors.Is(err, context.DeadlineExceeded) && ctx.Err() == nil:
			return fmt.Errorf("%w: --timeout %s is over", mds.ErrSQLLimit, f.timeout)
		case err != nil:
			return err
		case out.none():
			fmt.Fprintln(a.stderr, "no rows")
		case more && f.maxRows > 0:
			fmt.Fprintf(a.stderr, "%s rows, and there are more; --max-rows 0 gives all\n", count(f.maxRows))
		case more:
			fmt.Fprintln(a.stderr, "there are more rows than the server gives at once; ask for less")
		}
		return nil
	})
}

// withSQL runs fn with what runs SQL of a tenant.
func (a *app) withSQL(ctx context.Context, login string, fn func(store.SQL, mds.Tenant) error) error {
	if login != "" {
		if !postgres.IsDSN(login) {
			return usagef("--login is the DSN of a tenant's login: postgres://LOGIN@HOST/DATABASE")
		}
		if remote.IsDSN(a.dsn) {
			return usagef("--login is for a PostgreSQL database: with --server the server has the login")
		}
		sql, err := postgres.OpenLogin(ctx, login)
		if err != nil {
			return err
		}
		return errors.Join(fn(sql, mds.Tenant{}), sql.Close())
	}
	return a.withStore(ctx, reading, func(s *session) error {
		logins := a.settings.SQL.Logins
		if dsn, ok := logins[s.tenant.Slug]; ok {
			logins = map[string]string{s.tenant.Slug: dsn} // the others are nobody's business here
		} else if postgres.IsDSN(a.dsn) {
			return usagef("on a PostgreSQL server SQL is run as a login of the tenant: name that of %s with --login, or in sql.logins of the configuration; mds tenant grant-login makes one", s.tenant.Slug)
		}
		sql, err := store.OpenSQL(ctx, s.Store, logins)
		if err != nil {
			return err
		}
		return errors.Join(fn(sql, s.tenant), sql.Close())
	})
}

// pointedAt is the refusal of a statement, with its line and a mark where that is known.
func pointedAt(text string, refused *mds.SQLError) string {
	runes := []rune(text)
	at := refused.Position - 1
	if at < 0 || at > len(runes) {
		return refused.Detail
	}
	before, after := string(runes[:at]), string(runes[at:])
	start := strings.LastIndexByte(before, '\n') + 1
	line := before[start:]
	rest, _, _ := strings.Cut(after, "\n")
	indent := strings.Map(func(r rune) rune {
		if r == '\t' {
			return r
		}
		return ' '
	}, line)
	return refused.Detail + "\n  " + strings.TrimRight(line+rest, "\r") + "\n  " + indent + "^"
}

// sqlOutput prints an answer.
type sqlOutput interface {
	mds.SQLRows
	close(more bool) error
	// none reports that nothing would be printed for people.
	none() bool
}

func newSQLOutput(w io.Writer, format string) (sqlOutput, error) {
	if format == formatTable {
		return &sqlTable{w: w}, nil
	}
	out, err := codec.NewSQLWriter(w, codec.Format(format))
	return sqlWriter{out}, err
}

// sqlWriter is the codec's.
type sqlWriter struct{ *codec.SQLWriter }

func (w sqlWriter) close(more bool) error { return w.Close(more) }
func (sqlWriter) none() bool              { return false }

// sqlTable prints a table, in parts.
type sqlTable struct {
	w      io.Writer
	header []string
	part   *table
	rows   int64
}

func (t *sqlTable) Columns(columns []mds.SQLColumn) error {
	for _, c := range columns {
		t.header = append(t.header, oneLine(c.Name))
	}
	t.begin()
	return nil
}

func (t *sqlTable) begin() {
	t.part = &table{header: t.header, right: make([]bool, len(t.header))}
}

func (t *sqlTable) Row(values []any) error {
	cells := make([]string, len(values))
	for i, v := range values {
		switch v := v.(type) {
		case int64, uint64, float64, json.Number:
			t.part.right[i] = true
		case time.Time:
			cells[i] = displayTime(v, false)
			continue
		case nil:
			cells[i] = "NULL"
			continue
		}
		cells[i] = oneLine(codec.SQLText(v))
	}
	t.part.add(cells...)
	t.rows++
	if len(t.part.rows) < tableRows {
		return nil
	}
	err := t.part.write(t.w)
	t.begin()
	return err
}

func (t *sqlTable) none() bool { return t.rows == 0 }

func (t *sqlTable) close(bool) error {
	return t.part.write(t.w)
}
