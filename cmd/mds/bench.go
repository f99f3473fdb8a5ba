package main

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/internal/bench"
)

func (a *app) benchCommand() *cobra.Command {
	return group("bench", "Measure this machine", a.benchStoreCommand(), a.benchCodecsCommand(), a.benchCoordinatorCommand(), a.benchHTTPCommand())
}

func (a *app) benchStoreCommand() *cobra.Command {
	var cfg bench.Config
	var asJSON bool
	var admin string
	cmd := &cobra.Command{
		Use:   "store",
		Short: "Measure writing and reading, beside what the database takes at most",
		Long: `Measure writing and reading on a throw-away store, or with --dsn in tenants of their
own, which are removed. It never touches your data, and does not heed MDS_DSN. It
takes a minute or two; with --full, which needs 3 GB of disk, five to ten. PostgreSQL
takes five minutes, with --full half an hour and 20 GB; with the owner's login in
--admin-dsn it is measured beside what a program would do by itself.

Rates and ratios are the medians of three rounds in which both sides had their turn;
the smallest and the largest ratio stand beside. Where they are far apart, something
else was busy: run it again.`,
		Example: "  mds bench store\n  mds bench store --json > store.json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cfg.Full && cfg.Quick {
				return usagef("--full measures more and --quick next to nothing; give one of them")
			}
			if cfg.Rows < 0 || cfg.Rows > 0 && (cfg.Full || cfg.Quick) {
				return usagef("--rows is how many rows the one table has that is measured, without --full and --quick")
			}
			if cmd.Flags().Changed("dsn") {
				cfg.DSN = a.dsn
			}
			if cfg.AdminDSN = admin; admin != "" && cfg.DSN == "" {
				return usagef("--admin-dsn is for a PostgreSQL store; name it with --dsn, too")
			}
			return a.runBench(cmd.Context(), cfg, asJSON, bench.Store)
		},
	}
	cmd.Flags().StringVar(&admin, "admin-dsn", "", "the owner's DSN of a PostgreSQL database, to measure its peers in a table of their own")
	cmd.Flags().BoolVar(&cfg.Full, "full", false, "on tables of 1, 10 and 100 million rows (PostgreSQL: 50)")
	cmd.Flags().IntVar(&cfg.Rows, "rows", 0, "on one table of `ROWS` rows only")
	benchFlags(cmd, &cfg, &asJSON)
	return cmd
}

func (a *app) benchCodecsCommand() *cobra.Command {
	var cfg bench.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "codecs",
		Short: "Measure reading and writing files, beside the standard library",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.runBench(cmd.Context(), cfg, asJSON, bench.Codecs)
		},
	}
	benchFlags(cmd, &cfg, &asJSON)
	return cmd
}

func (a *app) benchCoordinatorCommand() *cobra.Command {
	var cfg bench.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "coordinator",
		Short: "Measure the coordinator: by itself, on top of the sink, and how long records are under way",
		Long: `Measure the coordinator: what it takes into a writer that takes all, the CPU time that
it adds to the same batches through the sink, how long records are under way from their
submit until they are committed, and how much longer beside another tenant that floods it.

It measures on a throw-away store, or with --dsn in tenants of their own, which are
removed. Of a server the CPU time is that of the whole machine: nothing else should run.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("dsn") {
				cfg.DSN = a.dsn
			}
			return a.runBench(cmd.Context(), cfg, asJSON, bench.Coordinator)
		},
	}
	benchFlags(cmd, &cfg, &asJSON)
	return cmd
}

func (a *app) benchHTTPCommand() *cobra.Command {
	var cfg bench.Config
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "http",
		Short: "Measure a server: large bodies, many clients, windows, live streams",
		Long: `Measure mds serve, with its clients in the same process, over loopback: bodies of 50,000
rows in each form beside the sink, which has no HTTP; 200 clients that send 100 rows at a
time; windows of 10,000 bars; and live streams, what a hundred of them cost and how late
they are.

It measures on a throw-away store, or with --dsn in tenants of their own, which are
removed.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if cmd.Flags().Changed("dsn") {
				cfg.DSN = a.dsn
			}
			cfg.Embedded, a.memoryLimit = embedded, cmp.Or(a.memoryLimit, hostingMemory)
			return a.runBench(cmd.Context(), cfg, asJSON, bench.HTTP)
		},
	}
	benchFlags(cmd, &cfg, &asJSON)
	return cmd
}

func benchFlags(cmd *cobra.Command, cfg *bench.Config, asJSON *bool) {
	cmd.Flags().BoolVar(asJSON, "json", false, "print one JSON document")
	cmd.Flags().BoolVar(&cfg.Quick, "quick", false, "do little, to see that it works: the figures mean nothing")
}

func (a *app) runBench(ctx context.Context, cfg bench.Config, asJSON bool, run func(context.Context, bench.Config) (bench.Report, error)) error {
	cfg.MemoryLimit = a.memoryLimit
	cfg.Progress = func(what string) { fmt.Fprintln(a.stderr, what) }
	report, err := run(ctx, cfg)
	if err != nil {
		return err
	}
	if asJSON {
		return writeJSON(a.stdout, report)
	}
	return printReport(a.stdout, report)
}

// printReport prints a table for people.
func printReport(w io.Writer, report bench.Report) error {
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	stored, batch := int64(-1), -1
	for _, r := range report.Rows {
		if r.Stored != stored || r.Batch != batch && r.Stored == 0 {
			var about []string
			if r.Stored > 0 {
				about = append(about, "table of "+count(r.Stored)+" rows")
			} else if r.Batch > 0 {
				about = append(about, "empty table, batches of "+count(int64(r.Batch)))
			}
			if out.Flush() != nil {
				break // the next writing says it again
			}
			if len(about) > 0 {
				fmt.Fprintf(w, "\n%s\n", strings.Join(about, ", "))
			} else {
				fmt.Fprintln(w)
			}
			stored, batch = r.Stored, r.Batch
		}
		name := r.Name
		if r.Stored > 0 && r.Batch > 0 {
			name += ", batches of " + count(int64(r.Batch))
		}
		var figures []string
		if r.RowsPerS > 0 {
			figures = append(figures, count(int64(r.RowsPerS))+" rows/s")
		}
		if r.Millis > 0 {
			figures = append(figures, fmt.Sprintf("%.2f ms", r.Millis))
		}
		if r.Allocations > 0 {
			figures = append(figures, fmt.Sprintf("%.4f a row", r.Allocations))
		}
		if r.Bytes > 1e6 {
			figures = append(figures, size(int64(r.Bytes)))
		} else if r.Bytes > 0 {
			figures = append(figures, fmt.Sprintf("%.1f bytes", r.Bytes))
		}
		if r.Ratio > 0 {
			figures = append(figures, fmt.Sprintf("%.2f × %s (%.2f to %.2f)", r.Ratio, r.Of, r.Low, r.High))
		}
		fmt.Fprintf(out, "  %s\t%s\n", name, strings.Join(figures, "\t"))
	}
	return out.Flush()
}
