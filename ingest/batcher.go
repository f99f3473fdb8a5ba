package ingest

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/marketdatastore/mds"
)

// BatchWriter upserts the batches of one tenant, all or none, as a sink that is bound to
// one does. It must not keep the records.
type BatchWriter[R any] interface {
	Write(ctx context.Context, records []R) (mds.Receipt, error)
}

// BatcherConfig configures a [Batcher]. The zero value is usable.
type BatcherConfig struct {
	// A batch is written when it has MaxRows records, when its oldest record is MaxAge
	// old, or when it takes MaxBytes of memory. Default to 1,000, 5 seconds and 1 MiB.
	MaxRows  int
	MaxAge   time.Duration
	MaxBytes int64
}

// Batcher collects the records of one tenant, and writes them in batches. It is the
// entrance for a stream of single records and one writer; it retries nothing. It is safe
// for concurrent use: who adds a record waits while a batch is written. Close it when done.
type Batcher[R mds.Record[R]] struct {
	writer BatchWriter[R]
	cfg    BatcherConfig
	size   func(*R) int

	validate func(*R) error
	ctx      context.Context // of batches that are written for their age

	turn    chan struct{} // holds one while a batch is written: what is added meanwhile waits
	records []R
	bytes   int64
	timer   *time.Timer
	batch   int   // number of the one being filled
	failed  error // of a batch that was written for its age
	receipt mds.Receipt
	closed  bool
}

// ErrClosed is returned by a [Batcher] that was closed.
var ErrClosed = errors.New("the batcher is closed")

// BatchError reports records that were added and could not be written. The batcher holds
// them no longer: they are the caller's, to be added again if mds.Retryable, or later if
// mds.Unavailable, says that it may help.
type BatchError[R any] struct {
	Records []R
	Err     error
}

func (e *BatchError[R]) Error() string {
	return fmt.Sprintf("%d records were not written: %v", len(e.Records), e.Err)
}

func (e *BatchError[R]) Unwrap() error { return e.Err }

// NewBatcher returns a batcher over a writer. Batches are written for their age within ctx,
// until it ends: what comes then is written when it is enough, and by Close.
func NewBatcher[R mds.Record[R]](ctx context.Context, writer BatchWriter[R], cfg BatcherConfig) *Batcher[R] {
	cfg.MaxRows, cfg.MaxAge, cfg.MaxBytes = max(cfg.MaxRows, 0), max(cfg.MaxAge, 0), max(cfg.MaxBytes, 0)
	set(&cfg.MaxRows, 1000)
	set(&cfg.MaxAge, 5*time.Second)
	set(&cfg.MaxBytes, 1<<20)
	schema := mds.SchemaOf[R]()
	return &Batcher[R]{writer: writer, cfg: cfg, size: schema.Sizer(), validate: schema.Validate, ctx: ctx, turn: make(chan struct{}, 1)}
}

// Add adds a record, and writes the batch where that fills it. A record that does not
// validate is not taken, and costs the others nothing: the error is an
// [*mds.InvalidError].
//
// A batch that could not be written, this one or one before that was written for its age,
// is reported by a [*BatchError] with its records. The record of this call is either
// among these, or held. With any other error, such as the context's, it was not taken.
func (b *Batcher[R]) Add(ctx context.Context, record R) error {
	if err := b.take(ctx); err != nil {
		return err
	}
	defer b.give()
	if b.closed {
		return ErrClosed
	}
	if err := b.validate(&record); err != nil {
		return err
	}
	if len(b.records) == 0 {
		number := b.batch
		b.timer = time.AfterFunc(b.cfg.MaxAge, func() { b.aged(number) })
	}
	b.records = append(b.records, record)
	b.bytes += int64(b.size(&b.records[len(b.records)-1]))
	before := b.failed
	b.failed = nil
	if len(b.records) < b.cfg.MaxRows && b.bytes < b.cfg.MaxBytes {
		return before
	}
	return both[R](before, b.write(ctx))
}

// Flush writes what is held.
func (b *Batcher[R]) Flush(ctx context.Context) error {
	if err := b.take(ctx); err != nil {
		return err
	}
	defer b.give()
	before := b.failed
	b.failed = nil
	return both[R](before, b.write(ctx))
}

// Close writes what is held, and refuses new records. Its error has all that could not be
// written and was not reported before. It may be called again.
func (b *Batcher[R]) Close(ctx context.Context) error {
	if err := b.take(ctx); err != nil {
		return err
	}
	defer b.give()
	b.closed = true
	before := b.failed
	b.failed = nil
	return both[R](before, b.write(ctx))
}

// Receipt says what became of the records that were written so far.
func (b *Batcher[R]) Receipt() mds.Receipt {
	b.turn <- struct{}{}
	defer b.give()
	return b.receipt
}

// aged writes a batch for its age, unless it was written already. Its failure is told at
// the next call, and nothing is added before that: what is held of failures is one batch.
func (b *Batcher[R]) aged(number int) {
	if b.take(b.ctx) != nil {
		return // Close writes it
	}
	defer b.give()
	if b.batch == number {
		b.failed = b.write(b.ctx)
	}
}

// take waits for the turn, which give gives back.
func (b *Batcher[R]) take(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case b.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (b *Batcher[R]) give() { <-b.turn }

// write writes the batch, in its turn.
func (b *Batcher[R]) write(ctx context.Context) error {
	if len(b.records) == 0 {
		return nil
	}
	b.timer.Stop()
	b.batch++
	receipt, err := b.call(ctx)
	if err != nil {
		failed := &BatchError[R]{Records: b.records, Err: err}
		b.records, b.bytes = nil, 0
		return failed
	}
	b.receipt = b.receipt.Add(receipt)
	clear(b.records)
	b.records, b.bytes = b.records[:0], 0
	return nil
}

// call is the writer's call. A panic is an error.
func (b *Batcher[R]) call(ctx context.Context) (receipt mds.Receipt, err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("the writer panicked: %v", p)
		}
	}()
	return b.writer.Write(ctx, b.records)
}

// both joins the failures of two batches.
func both[R any](first, second error) error {
	var a, b *BatchError[R]
	if errors.As(first, &a) && errors.As(second, &b) {
		return &BatchError[R]{Records: append(a.Records, b.Records...), Err: errors.Join(a.Err, b.Err)}
	}
	return errors.Join(first, second)
}
