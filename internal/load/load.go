// Package load reads files through a codec and hands their records to a coordinator,
// keeping the ledger: read = rejected + accepted, and accepted = written + unchanged +
// superseded + dead-lettered + unwritten.
package load

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/ingest"
)

// handOverAge is when records are handed over, however few: what comes slowly through a
// pipe does not wait.
const handOverAge = 100 * time.Millisecond

// Intake takes records over, all or none; they are the caller's again when it returns. It
// may wait.
type Intake[R any] interface {
	Submit(ctx context.Context, records ...R) (ingest.Receipt[R], error)
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

	// Intake takes the records over. Required.
	Intake Intake[R]

	// Records are handed over HandOver at a time, or HandOverBytes, roughly. Default to 500
	// and 1 MiB.
	HandOver, HandOverBytes int

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
	// DeadLettered rows are refused by the store, and kept as dead letters.
	DeadLettered int64 `json:"dead_lettered"`
	// Unwritten rows were accepted and could not be stored.
	Unwritten int64 `json:"unwritten"`
}

// Accepted rows became records.
func (l Ledger) Accepted() int64 { return l.Read - l.Rejected }

// Settled returns the ledger with what became of the records that were handed over.
func (l Ledger) Settled(by ingest.Ledger) Ledger {
	l.Receipt, l.DeadLettered = by.Receipt, by.DeadLettered
	l.Unwritten = l.Accepted() - l.Written - l.Unchanged - l.Superseded - l.DeadLettered
	return l
}

// Result is what a load did, also when it ended early.
type Result struct {
	// Ledger has what was read; what became of it the intake knows.
	Ledger Ledger
	// Warnings counts records with something odd about them, by what.
	Warnings map[string]int64
	// Ignored are the columns that feed nothing, each named once.
	Ignored []string
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
// then is handed over; running the load again completes it.
var ErrInterrupted = errors.New("interrupted")

// load is one run.
type load[R mds.Record[R]] struct {
	cfg    Config[R]
	schema mds.Schema[R]
	size   func(*R) int
	result Result
	record R // that is being decoded

	mu     sync.Mutex // held while records are handed over
	batch  []R        // to be handed over
	bytes  int        // of it
	timer  *time.Timer
	failed error // handing over, for good

	// reading ends as handing over fails.
	reading context.Context
	stop    context.CancelFunc

	bytesBefore  int64 // of the files done
	total        int64
	reportedRows int64
}

// Run loads the files. The result is valid with an error, too: what was read before it is
// handed over, unless that failed.
//
// When ctx is cancelled it stops reading, hands over what it has read, however long that
// takes, and returns [ErrInterrupted].
func Run[R mds.Record[R]](ctx context.Context, cfg Config[R]) (Result, error) {
	if cfg.Decoder == nil {
		cfg.Decoder = func(r io.Reader, opt codec.Options) (codec.Decoder[R], error) {
			return codec.NewDecoder[R](r, "", opt)
		}
	}
	cfg.HandOver, cfg.HandOverBytes = cmp.Or(cfg.HandOver, 500), cmp.Or(cfg.HandOverBytes, 1<<20)
	l := &load[R]{cfg: cfg, schema: mds.SchemaOf[R]()}
	l.size = l.schema.Sizer()
	l.result.Warnings = make(map[string]int64)
	start := time.Now()
	l.reading, l.stop = context.WithCancel(ctx)
	defer l.stop()
	l.timer = time.AfterFunc(time.Hour, l.aged)
	defer l.timer.Stop()
	err := l.run(ctx)
	// The records in hand are handed over whatever ended the reading. That they could
	// not be is worse news than what ended it.
	if failed := l.flush(context.WithoutCancel(ctx)); failed != nil {
		err = failed
	}
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
			return ErrInterrupted // or handing over has failed, which is told instead
		}
		more, err := l.next(decoder, name)
		if err != nil || !more {
			return err
		}
		l.report(f, name)
	}
}

// next decodes one row and hands over what there is, where it is enough.
func (l *load[R]) next(decoder codec.Decoder[R], name string) (more bool, err error) {
	l.record = *new(R)
	err = decoder.Next(&l.record)
	var row *codec.RowError
	switch {
	case err == nil:
		l.result.Ledger.Read++
		return true, l.add()
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

// add adds the record that was decoded to those that are handed over next.
func (l *load[R]) add() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.batch) == 0 {
		l.timer.Reset(handOverAge)
	}
	l.batch = append(l.batch, l.record)
	l.bytes += l.size(&l.record)
	if len(l.batch) < l.cfg.HandOver && l.bytes < l.cfg.HandOverBytes {
		return l.failed
	}
	return l.submit(l.reading)
}

// aged hands over records that came a while ago: the next one may be long in coming.
func (l *load[R]) aged() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.submit(l.reading); err != nil {
		l.stop() // what a pipe may yet bring is of no use
	}
}

// flush hands over what is left.
func (l *load[R]) flush(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.submit(ctx)
}

// submit hands records over. It is called with the lock. When ctx ends they stay, for
// flush.
func (l *load[R]) submit(ctx context.Context) error {
	if len(l.batch) == 0 || l.failed != nil {
		return l.failed
	}
	_, err := l.cfg.Intake.Submit(ctx, l.batch...)
	switch {
	case err != nil && ctx.Err() != nil:
		return nil //nolint:nilerr // they stay
	case err != nil:
		l.failed = &writeError{err}
		l.stop()
	}
	clear(l.batch) // let go what they point to
	l.batch, l.bytes = l.batch[:0], 0
	return l.failed
}

// writeError keeps records that are not taken over apart from a file that cannot be read.
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
