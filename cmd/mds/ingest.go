package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/vendor"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/load"
	"github.com/marketdatastore/mds/internal/selection"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// maxBatchSize bounds the memory of an ingest.
const maxBatchSize = 1_000_000

type ingestFlags struct {
	format           string
	fixed            map[string]*string // by column
	tz, label        string
	columns          map[string]string
	symbolFrom       string
	rejects          string
	strict, noHeader bool
	batchSize        int
	queue            coordinatorFlags
}

func (a *app) ingestCommand() *cobra.Command {
	return a.perKind("ingest", "Load files into the store", func(k kind) func(*app) *cobra.Command { return k.ingest })
}

func ingestKind[R mds.Record[R]](a *app) *cobra.Command {
	schema := mds.SchemaOf[R]()
	formats := []string{string(codec.FormatCSV), string(codec.FormatNDJSON)}
	var vendors strings.Builder
	for _, f := range vendor.Formats[R]() {
		formats = append(formats, f.Name)
		fmt.Fprintf(&vendors, "\n--format %s reads %s.\n", f.Name, f.Doc)
	}
	f := ingestFlags{fixed: make(map[string]*string)}
	cmd := &cobra.Command{
		Use:   schema.Kind + " FILE… | -",
		Short: "Load " + schema.Kind + " from CSV or NDJSON files, or from standard input",
		Long: `Load files of CSV or NDJSON (told by their first byte), plain or compressed with
gzip or Zstandard.

Columns are found by their names and the usual aliases, in any order; --columns
maps the rest. A row that cannot be read goes to the rejects file with its
reason, and the others are loaded. Loading a file again changes nothing.
` + vendors.String() + `
A row that the store refuses for good goes to the dead letters (mds dlq). While the store
is not well, rows wait for it. An interrupt ends the reading and writes what was read; a
second one leaves that unwritten, and names it.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but rows were rejected or refused.`,
		Example: fmt.Sprintf(`  mds ingest %[1]s FILE.csv --tz America/New_York
  mds ingest %[1]s daily/*.csv.gz --symbol-from filename --vendor yahoo
  zcat dump.ndjson.gz | mds ingest %[1]s - --columns %[2]s=Time`, schema.Kind, schema.TimeColumn().Name),
		Args: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 || slices.Contains(args, "") {
				return usagef("name the files to load, or - for standard input")
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			if given := cmd.Flags().Changed("batch-size"); f.batchSize < 0 || f.batchSize > maxBatchSize || given && f.batchSize == 0 {
				return usagef("--batch-size %d: use 1 to %s", f.batchSize, count(maxBatchSize))
			}
			if err := f.queue.check(cmd.Flags()); err != nil {
				return err
			}
			return runIngest[R](cmd.Context(), a, &f, args)
		},
	}
	flags := cmd.Flags()
	for _, c := range append(selection.Columns(&schema), schema.TimeColumn()) {
		if c.Role == mds.Key && c.Derived {
			continue // it tells records apart: one value for all makes one of them
		}
		usage := c.Doc + ", where the file has no column for it"
		if c.Default != "" {
			usage += ` (default "` + c.Default + `")`
		}
		f.fixed[c.Name] = flags.String(flagOf(&schema, c), "", usage)
	}
	flags.StringVar(&f.format, "format", "", strings.Join(formats, ", ")+" (default csv or ndjson, told by the first byte)")
	flags.StringVar(&f.tz, "tz", "", "the time zone of times without an offset, such as America/New_York or UTC")
	flags.StringToStringVar(&f.columns, "columns", nil, "columns by their names in the file, such as ts=Date,close=Last; #3 is the third; date=, time= apart; an empty name leaves a column out")
	flags.BoolVar(&f.noHeader, "no-header", false, "the first line of a CSV file is data; map the columns by their numbers")
	flags.StringVar(&f.symbolFrom, "symbol-from", "", "where the symbol comes from: column or filename")
	flags.StringVar(&f.rejects, "rejects", "", "the file for rejected rows, as NDJSON, added to what it holds (default a new file in the folder rejects of the store)")
	flags.BoolVar(&f.strict, "strict", false, "stop at the first row that cannot be read")
	flags.IntVar(&f.batchSize, "batch-size", 0, "records written in one transaction (default 122880, with PostgreSQL 30000; environment MDS_COORDINATOR_BATCH_SIZE)")
	f.queue.add(flags)
	f.label = "start"
	if schema.Timeframe != nil {
		flags.StringVar(&f.label, "label", "start", "the end of a bar that its time names: start or end")
		offer(cmd, "timeframe", timeframes()...)
		offer(cmd, "label", "start", "end")
	}
	offer(cmd, "format", formats...)
	offer(cmd, "symbol-from", "column", "filename")
	return cmd
}

// options checks the flags and turns them into the codec's options.
func (f *ingestFlags) options() (codec.Options, error) {
	opt := codec.Options{Columns: f.columns, NoHeader: f.noHeader, Fixed: map[string]string{}}
	var err error
	if opt.Label, err = codec.ParseLabel(f.label); err != nil {
		return opt, usagef("--label: %w", err)
	}
	if f.tz != "" {
		if opt.Zone, err = loadZone(f.tz); err != nil {
			return opt, err
		}
	}
	switch f.symbolFrom {
	case "", "column", "filename":
	default:
		return opt, usagef("--symbol-from %q: use column or filename", f.symbolFrom)
	}
	for name, value := range f.fixed {
		if *value != "" {
			opt.Fixed[name] = *value
		}
	}
	if f.symbolFrom != "" && (opt.Fixed["symbol"] != "" || opt.Fixed["symbols"] != "") {
		return opt, usagef("give --symbol or --symbol-from, not both")
	}
	if f.noHeader && len(f.columns) == 0 {
		return opt, usagef("--no-header needs --columns with the columns' numbers, such as ts=#1,close=#5")
	}
	return opt, nil
}

// The records written in one transaction: a row group of DuckDB, which such a transaction
// writes straight into its file, past the log; and where several are written at once less.
const (
	duckdbBatch = 122_880
	serverBatch = 30_000
)

// ingestSettings are those of the coordinator: flags, then the environment, then what is
// best for files.
func ingestSettings[R mds.Record[R]](a *app, f *ingestFlags) (ingest.Config[R], error) {
	cfg := coordinatorSettings[R](a.settings)
	server := postgres.IsDSN(a.dsn) || remote.IsDSN(a.dsn)
	if !server {
		cfg.Lanes = 1 // it has one writer
	}
	// It is asked often whether a store is well again: somebody waits.
	cfg.Circuit.HalfOpenAfter = cmp.Or(cfg.Circuit.HalfOpenAfter, 2*time.Second)
	if f.queue.capacity > 0 && cfg.CapacityBytes == 0 { // what one asks for fits
		cfg.CapacityBytes = max(64<<20, int64(f.queue.capacity)*recordBytes[R]())
	}
	cfg.FlushInterval = cmp.Or(f.queue.flushInterval, cfg.FlushInterval, time.Second)
	cfg.Capacity = cmp.Or(f.queue.capacity, cfg.Capacity, 1<<18)
	cfg.CapacityBytes = cmp.Or(cfg.CapacityBytes, 64<<20)
	cfg.Workers = cmp.Or(f.queue.workers, cfg.Workers)
	batch := duckdbBatch
	if server {
		batch = serverBatch
	} else if cfg.Workers == 0 {
		cfg.Workers = 1
	}
	cfg.BatchSize = cmp.Or(f.batchSize, cfg.BatchSize, batch)
	if cfg.BatchMax > 0 && (cfg.BatchMax < cfg.BatchSize || cfg.BatchMax > maxBatchSize) && f.batchSize == 0 {
		return cfg, usagef("%s: write at least the %s of a batch, and at most %s", a.settings.Is("coordinator.batch_max"), count(int64(cfg.BatchSize)), count(maxBatchSize))
	}
	cfg.BatchMax = max(cfg.BatchSize, cfg.BatchMax)
	if f.batchSize > 0 { // there has to be room for one that is written and one that is read
		if f.queue.capacity > 0 && f.queue.capacity < 2*f.batchSize {
			return cfg, usagef("--capacity %d does not hold two batches of --batch-size %d", f.queue.capacity, f.batchSize)
		}
		cfg.BatchMax = f.batchSize
		cfg.Capacity = max(cfg.Capacity, 2*f.batchSize)
		cfg.CapacityBytes = max(cfg.CapacityBytes, 2*int64(f.batchSize)*recordBytes[R]())
	}
	if cfg.BatchSize > maxBatchSize {
		return cfg, usagef("%s: write at most %s", a.settings.Is("coordinator.batch_size"), count(maxBatchSize))
	}
	return cfg, nil
}

// recordBytes is what a small record takes in memory, roughly; 0 of kinds whose records may
// be large.
func recordBytes[R mds.Record[R]]() int64 {
	schema := mds.SchemaOf[R]()
	if !schema.Plain() {
		return 0
	}
	var none R
	return int64(schema.Sizer()(&none)) + 64
}

// loadZone finds a time zone by its IANA name.
func runIngest[R mds.Record[R]](ctx context.Context, a *app, f *ingestFlags, files []string) error {
	opt, err := f.options()
	if err != nil {
		return err
	}
	decoder, err := vendor.Decoder[R](f.format)
	if err != nil {
		return usagef("--format %w", err)
	}
	cfg, err := ingestSettings[R](a, f)
	if err != nil {
		return err
	}
	if slices.Contains(files, "-") && (len(files) > 1 || f.symbolFrom == "filename") {
		return usagef("- is standard input: it goes without other files and has no file name for --symbol-from")
	}
	schema := mds.SchemaOf[R]()
	access := loading
	if schema.Plain() {
		access = loadingPlain
	}
	return a.withStore(ctx, access, func(s *session) error {
		fmt.Fprintf(a.stderr, "store: %s, tenant %s\n", s.dsn, s.tenant.Slug)
		rejectsPath := f.rejects
		if rejectsPath == "" {
			rejectsPath = s.rejectsPath(schema.Kind, time.Now())
		}
		rejects := load.NewRejects(rejectsPath)
		if f.rejects != "" {
			if err := rejects.Check(files); err != nil {
				return usageError{err}
			}
		}
		// Records are decoded into the same batches over and over: there is little to
		// collect, and no reason to let the heap grow to twice what is in use.
		defer debug.SetGCPercent(debug.SetGCPercent(25))
		result, err := loadInto(ctx, a, s, f, cfg, load.Config[R]{
			Files:          files,
			Stdin:          a.stdin,
			Options:        opt,
			Decoder:        decoder,
			SymbolFromFile: f.symbolFrom == "filename",
			Strict:         f.strict,
			Rejects:        rejects,
		})
		if closeErr := rejects.Close(); closeErr != nil {
			err = closeErr
		}
		if err == nil || result.Ledger.Read > 0 {
			a.printResult(schema.Kind, result.Result, rejects, f.strict)
			if n := result.elsewhere; n > 0 {
				fmt.Fprintf(a.stderr, "the server's store refuses %s: they are dead letters there now; mds dlq list --at-server shows them\n", plural(n, "row"))
			}
			if n := result.Ledger.DeadLettered - result.elsewhere; n > 0 {
				fmt.Fprintf(a.stderr, "the store refuses %s: they are dead letters now, in %s; mds dlq list shows them\n", plural(n, "row"), result.letters)
			}
		}
		switch {
		case errors.Is(err, load.ErrInterrupted) && result.Ledger.Read == 0:
			return errors.New("interrupted before anything was read; run the same command again")
		case errors.Is(err, load.ErrInterrupted):
			return errors.New("interrupted: what is listed above is in the store; run the same command again to load the rest")
		case err != nil:
			return err
		}
		if err := tidy[R](ctx, a, s, result.Ledger.Written); err != nil {
			return err
		}
		if result.Ledger.Rejected+result.Ledger.DeadLettered > 0 {
			return errRejected
		}
		return nil
	})
}

// ingestion is what a load did, and where the dead letters are.
type ingestion struct {
	load.Result
	letters   string
	elsewhere int64 // letters that a server keeps
}

// loadInto loads files through a coordinator.
func loadInto[R mds.Record[R]](ctx context.Context, a *app, s *session, f *ingestFlags, settings ingest.Config[R], cfg load.Config[R]) (ingestion, error) {
	c, err := coordinate(ctx, a, s, &f.queue, settings)
	if err != nil {
		return ingestion{}, err
	}
	start := time.Now()
	progress := newProgress(a.stderr)
	over, done := c.impatience(ctx, progress)
	defer done()
	reading, stop := context.WithCancel(ctx)
	defer stop()
	var gaveUp error // read when the watch has ended
	watched := c.watch(over, progress, func(err error) {
		gaveUp = err
		stop()
		done()
	})
	defer context.AfterFunc(over, func() { _ = c.stop(over) })() // what is unwritten the last call tells
	cfg.Intake, cfg.Progress = c.handle, progress.update
	cfg.HandOver = min(500, max(1, settings.Capacity/2))
	cfg.HandOverBytes = int(min(1<<20, settings.CapacityBytes/2))
	result, err := load.Run(reading, cfg)
	unwritten := c.stop(over)
	watched()
	progress.done()
	result.Elapsed = time.Since(start)
	result.Ledger = result.Ledger.Settled(c.handle.Ledger())
	s.hurried = over.Err() != nil
	var left *ingest.UnwrittenError[R]
	switch errors.As(unwritten, &left); {
	case left != nil:
		a.nameUnwritten(seriesOf(left))
		if gaveUp == nil && (err == nil || errors.Is(err, load.ErrInterrupted) || errors.Is(err, ingest.ErrStopped)) {
			err = errors.New("interrupted twice: what is unwritten is listed above; run the same command again to load it")
		}
	case unwritten != nil && err == nil:
		err = unwritten
	}
	return ingestion{result, c.dir.Path, c.handle.Ledger().Elsewhere}, cmp.Or(gaveUp, err)
}

// rejectsPath is where rejected rows go unless a flag says otherwise: a new
// file in the store's folder.
func (s *session) rejectsPath(kind string, now time.Time) string {
	dir, embedded := strings.CutPrefix(s.dsn, "duckdb://")
	if !embedded {
		dir = "." // a server has no folder here
		if data, err := config.DataDir(); err == nil {
			dir = data
		}
	}
	return filepath.Join(dir, "rejects", kind+"-"+now.UTC().Format("20060102T150405.000000Z")+".ndjson")
}

// printResult prints the ledger to standard output, and what needs attention
// to standard error.
func (a *app) printResult(kind string, result load.Result, rejects *load.Rejects, strict bool) {
	if len(result.Ignored) > 0 {
		fmt.Fprintf(a.stderr, "ignored columns: %s\n", strings.Join(result.Ignored, ", "))
	}
	warnings := make([]string, 0, len(result.Warnings))
	for what, n := range result.Warnings {
		if n > 0 {
			what = plural(n, "row") + ": " + what
		}
		warnings = append(warnings, "warning: "+what)
	}
	slices.Sort(warnings)
	for _, w := range warnings {
		fmt.Fprintln(a.stderr, w)
	}
	first := rejects.First()
	if strict {
		first = nil // the error that ended the load says it
	}
	for _, r := range first {
		fmt.Fprintf(a.stderr, "rejected: %s, line %d: %s\n", r.File, r.Line, r.Reason)
	}
	l := result.Ledger
	if path := rejects.Path(); path != "" {
		fmt.Fprintf(a.stderr, "%s rejected, all in %s\n", plural(l.Rejected, "row"), path)
	}
	fmt.Fprintf(a.stdout, "%s: %s read = %s rejected + %s accepted; accepted = ", kind, count(l.Read), count(l.Rejected), count(l.Accepted()))
	if remote.IsDSN(a.dsn) { // which of them were there already only the server knows
		fmt.Fprintf(a.stdout, "%s committed", count(l.Written))
	} else {
		fmt.Fprintf(a.stdout, "%s written + %s unchanged + %s superseded", count(l.Written), count(l.Unchanged), count(l.Superseded))
	}
	if l.Unwritten > 0 {
		fmt.Fprintf(a.stdout, " + %s unwritten", count(l.Unwritten))
	}
	if l.DeadLettered > 0 {
		fmt.Fprintf(a.stdout, " + %s dead-lettered", count(l.DeadLettered))
	}
	fmt.Fprintln(a.stdout)
	if seconds := result.Elapsed.Seconds(); seconds > 0 {
		fmt.Fprintf(a.stderr, "%.2f s, %s rows/s\n", seconds, count(int64(float64(l.Read)/seconds)))
	}
}
