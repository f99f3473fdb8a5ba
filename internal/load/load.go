// Package load reads files through a codec and writes them through a sink,
// keeping the ledger: read = rejected + accepted, and accepted = written +
// unchanged + superseded + unwritten.
package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// DefaultBatchSize is the number of records written in one transaction: a row group
// of DuckDB, which such a transaction writes straight into its file, past the log.
const DefaultBatchSize = 122_880

// maxBatchBytes is how large the records of a batch may be together, roughly.
const maxBatchBytes = 32 << 20

// Writer stores a batch, all or none.
type Writer[R any] interface {
	Write(ctx context.Context, records []R) (mds.Receipt, error)
}

// Config configures a load.
type Config[R any] struct {
	// Files are read in order; "-" is Stdin.
	Files []string
	Stdin io.Reader

	// Options say how to read the files.
	Options codec.Options

	// Decoder reads one file. Defaults to codec.NewDecoder, which tells CSV and
	// NDJSON apart.
	Decoder func(io.Reader, codec.Options) (codec.Decoder[R], error)

	// SymbolFromFile takes the symbol of each file from its name; see SymbolOf.
	SymbolFromFile bool

	// Strict ends the load at the first row that is no record.
	Strict bool

	// Rejects receives the rows that are no records. Required.
	Rejects *Rejects

	// Writer stores the records. Required.
	Writer Writer[R]

	// BatchSize is the most records written at once; large records make smaller
	// batches. Defaults to DefaultBatchSize.
	BatchSize int

	// Progress is called now and then. Optional.
	Progress func(Progress)
}

// Progress is how far a load has come.
type Progress struct {
	Ledger Ledger
	// Bytes of Total are read; Total is 0 where it is not known.
	Bytes, Total int64
	File         string
}

// Ledger accounts for every row.
type Ledger struct {
	Read     int64 `json:"read"`
	Rejected int64 `json:"rejected"`
	mds.Receipt
	// Unwritten rows were accepted and could not be stored.
	Unwritten int64 `json:"unwritten"`
}

// Accepted rows became records.
func (l Ledger) Accepted() int64 { return l.Read - l.Rejected }

// Result is what a load did, also when it ended early.
type Result struct {
	Ledger Ledger
	// Warnings counts records with something odd about them, by what.
	Warnings map[string]int64
	// Ignored are the columns that feed nothing, each named once.
	Ignored []string
	Batches int
	Elapsed time.Duration
}

// FileError is an error in one of the files.
type FileError struct {
	File string
	Err  error
	// Unread files come after it and were not begun.
	Unread int
}

func (e *FileError) Error() string {
	text := e.File + ": " + e.Err.Error()
	if line := e.Err.Error(); strings.HasPrefix(line, "line ") {
		text = e.File + ", " + line
	}
	switch {
	case e.Unread == 1:
		text += " (the file after it was not read)"
	case e.Unread > 1:
		text += fmt.Sprintf(" (the %d files after it were not read)", e.Unread)
	}
	return text
}

func (e *FileError) Unwrap() error { return e.Err }

// ErrInterrupted ends a load whose context was cancelled. What was read until
// then is written; running the load again completes it.
var ErrInterrupted = errors.New("interrupted")

// load is one run. While a batch is being written, the next is read.
type load[R mds.Record[R]] struct {
	cfg    Config[R]
	schema mds.Schema[R]
	small  bool // records are: their number bounds the bytes of a batch
	batch  []R
	bytes  int // of the batch
	result Result

	// writing receives the outcome of the batch that is being written, nil while
	// none is.
	writing chan outcome[R]
	// reading ends as a write fails.
	reading context.Context
	stop    context.CancelFunc
	spare   []R // a batch that was written, to be filled again

	bytesBefore  int64 // of the files done
	total        int64
	reportedRows int64
}

// Run loads the files. The result is valid with an error, too: what was read
// before it is written, or named as unwritten.
//
// When ctx is cancelled it stops reading, writes what it has read and returns
// [ErrInterrupted].
func Run[R mds.Record[R]](ctx context.Context, cfg Config[R]) (Result, error) {
	if cfg.BatchSize <= 0 {
		cfg.BatchSize = DefaultBatchSize
	}
	if cfg.Decoder == nil {
		cfg.Decoder = func(r io.Reader, opt codec.Options) (codec.Decoder[R], error) {
			return codec.NewDecoder[R](r, "", opt)
		}
	}
	l := &load[R]{cfg: cfg, schema: mds.SchemaOf[R]()}
	l.small = l.schema.Plain()
	l.result.Warnings = make(map[string]int64)
	start := time.Now()
	l.reading, l.stop = context.WithCancel(ctx)
	defer l.stop()
	err := l.run(ctx)
	// The batch in hand is written whatever ended the reading. That it could
	// not be is worse news than what ended it.
	if flushErr := l.flush(ctx); flushErr != nil {
		err = flushErr
	} else if writeErr := l.wait(); writeErr != nil {
		err = writeErr
	}
	l.result.Ledger.Unwritten = l.result.Ledger.Accepted() - l.result.Ledger.Written - l.result.Ledger.Unchanged - l.result.Ledger.Superseded
	l.result.Elapsed = time.Since(start)
	return l.result, err
}

func (l *load[R]) run(ctx context.Context) error {
	if err := l.measure(); err != nil {
		return err
	}
	for i, name := range l.cfg.Files {
		if err := l.file(ctx, name); err != nil {
			if cause := l.reading.Err(); cause != nil && errors.Is(err, cause) {
				return ErrInterrupted
			}
			if errors.Is(err, ErrInterrupted) || !aboutInput(err) {
				return err
			}
			return &FileError{File: name, Err: err, Unread: len(l.cfg.Files) - i - 1}
		}
	}
	return nil
}

// measure looks at every file once before the first is read: a name that is
// wrong is better known before an hour of loading than after it. It opens
// regular files only, since what is read off a pipe is gone.
func (l *load[R]) measure() error {
	for _, name := range l.cfg.Files {
		if name == "-" {
			l.total = 0
			return nil
		}
		if stat, err := os.Stat(name); err == nil && !stat.Mode().IsRegular() && !stat.IsDir() {
			continue
		}
		f, err := codec.Open(name, nil)
		if err != nil {
			return &FileError{File: name, Err: err}
		}
		l.total += f.Size
		if err := f.Close(); err != nil {
			return &FileError{File: name, Err: err}
		}
	}
	return nil
}

func (l *load[R]) file(ctx context.Context, name string) (err error) {
	open, stdin := name, l.cfg.Stdin
	if stat, err := os.Stat(name); err == nil && name != "-" && !stat.Mode().IsRegular() && !stat.IsDir() {
		pipe, err := os.Open(name) //nolint:gosec // the user's own
		if err != nil {
			return err
		}
		defer func() { err = errors.Join(err, pipe.Close()) }()
		open, stdin = "-", pipe
	}
	if open == "-" {
		stdin = interruptible(l.reading, stdin)
	}
	f, err := codec.Open(open, stdin)
	if err != nil {
		return err
	}
	defer func() {
		l.bytesBefore += f.BytesRead()
		err = errors.Join(err, f.Close())
	}()
	options := l.cfg.Options
	if l.cfg.SymbolFromFile {
		options.Fixed = withSymbol[R](options.Fixed, name)
	}
	decoder, err := l.cfg.Decoder(f, options)
	if err != nil {
		return err
	}
	defer func() {
		l.ignore(decoder.Ignored())
		for what, n := range decoder.Warnings() {
			l.result.Warnings[what] += n
		}
	}()
	for {
		if ctx.Err() != nil || l.reading.Err() != nil {
			return ErrInterrupted // or a write has failed, which is told instead
		}
		more, err := l.next(ctx, decoder, name)
		if err != nil || !more {
			return err
		}
		l.report(f, name)
	}
}

// next decodes one row and writes the batch when it is full.
func (l *load[R]) next(ctx context.Context, decoder codec.Decoder[R], name string) (more bool, err error) {
	l.batch = append(l.batch, *new(R))
	err = decoder.Next(&l.batch[len(l.batch)-1])
	if err != nil {
		l.batch = l.batch[:len(l.batch)-1]
	}
	var row *codec.RowError
	switch {
	case err == nil:
		l.result.Ledger.Read++
		if !l.small {
			l.bytes += l.schema.Size(&l.batch[len(l.batch)-1])
		}
		if len(l.batch) == l.cfg.BatchSize || l.bytes >= maxBatchBytes {
			return true, l.flush(ctx)
		}
		return true, nil
	case errors.As(err, &row):
		l.result.Ledger.Read++
		l.result.Ledger.Rejected++
		if rejectErr := l.cfg.Rejects.add(name, row); rejectErr != nil {
			return false, rejectErr
		}
		if l.cfg.Strict {
			return false, err
		}
		return true, nil
	case errors.Is(err, io.EOF):
		return false, nil
	default:
		return false, err
	}
}

// outcome is what became of a batch.
type outcome[R any] struct {
	batch   []R
	receipt mds.Receipt
	err     error
}

// flush has the batch written while the next is read. It waits for the one before,
// whose error it returns: batches are written in order, and none after one that could
// not be.
//
// A write is not given up when ctx ends: the writer's own time limit bounds it.
func (l *load[R]) flush(ctx context.Context) error {
	if err := l.wait(); err != nil || len(l.batch) == 0 {
		return err
	}
	batch, done := l.batch, make(chan outcome[R], 1)
	go func() {
		receipt, err := l.cfg.Writer.Write(context.WithoutCancel(ctx), batch)
		if err != nil {
			l.stop() // what a pipe may yet bring is of no use
		}
		done <- outcome[R]{batch, receipt, err}
	}()
	l.writing = done
	l.batch, l.spare, l.bytes = l.spare[:0], nil, 0
	return nil
}

// wait waits for the batch that is being written, if there is one.
func (l *load[R]) wait() error {
	if l.writing == nil {
		return nil
	}
	o := <-l.writing
	l.writing = nil
	clear(o.batch) // let go what they point to
	l.spare = o.batch[:0]
	if o.err != nil {
		l.batch = l.batch[:0] // named as unwritten in the ledger, as the one that failed
		return &writeError{o.err}
	}
	l.result.Batches++
	l.result.Ledger.Receipt = l.result.Ledger.Add(o.receipt)
	return nil
}

// writeError keeps a failed write apart from a file that cannot be read.
type writeError struct{ error }

func (e *writeError) Unwrap() error { return e.error }

// aboutInput tells a file that cannot be read from what cannot be written.
func aboutInput(err error) bool {
	var write *writeError
	var rejects *RejectsError
	return !errors.As(err, &write) && !errors.As(err, &rejects)
}

func (l *load[R]) report(f *codec.File, name string) {
	const every = 1024
	if l.cfg.Progress == nil || l.result.Ledger.Read-l.reportedRows < every {
		return
	}
	l.reportedRows = l.result.Ledger.Read
	l.cfg.Progress(Progress{
		Ledger: l.result.Ledger,
		Bytes:  l.bytesBefore + f.BytesRead(),
		Total:  l.total,
		File:   name,
	})
}

func (l *load[R]) ignore(columns []string) {
	for _, c := range columns {
		if !slices.Contains(l.result.Ignored, c) {
			l.result.Ignored = append(l.result.Ignored, c)
		}
	}
}

// withSymbol adds the symbol that a file's name gives to the fixed values.
func withSymbol[R mds.Record[R]](fixed map[string]string, file string) map[string]string {
	out := make(map[string]string)
	schema := mds.SchemaOf[R]()
	if c := schema.SymbolColumn(); c != nil {
		out[c.Name] = SymbolOf(file)
	}
	for k, v := range fixed {
		out[k] = v
	}
	return out
}

// SymbolOf is the symbol that a file's name gives: its base name without the
// extensions of its format and compression. BRK.B.csv.gz is BRK.B.
func SymbolOf(file string) string {
	base := filepath.Base(file)
	for {
		switch ext := strings.ToLower(filepath.Ext(base)); ext {
		case ".csv", ".tsv", ".txt", ".ndjson", ".jsonl", ".json", ".gz", ".zst":
			base = base[:len(base)-len(ext)]
		default:
			return mds.NormalizeSymbol(base)
		}
	}
}
