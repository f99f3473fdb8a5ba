package ingest

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
)

// Config configures a [Coordinator]. The zero value is usable.
type Config[R any] struct {
	// ID is the coordinator's name in metrics and logs, where no other one that runs has
	// it. Defaults to the kind, such as "bars".
	ID string

	// Capacity and CapacityBytes bound what is queued and being written, in records and
	// in bytes of memory. Default to 262,144 and 64 MiB. With several tenants half of
	// it is shared out among those that have submitted anything, and the other half
	// goes to whoever comes first. The coordinator's buffers take up to twice as much.
	Capacity      int
	CapacityBytes int64

	// Overflow says what a submit does for which there is no room. Defaults to [Block].
	Overflow Overflow

	// Workers is how many batches are written at once. Defaults to 4. Where several
	// tenants submit, one is left to the others.
	Workers int
	// Lanes is how many batches of one tenant are written at once: the records of a
	// series go through one lane, in order. Defaults to Workers. For a store with one
	// writer, as DuckDB is, 1 saves work.
	Lanes int

	// A batch is written when it has BatchSize records or BatchBytes, or its oldest
	// record is FlushInterval old, and grows to BatchMax records while the backend is
	// busy. Default to 500 records, 32 MiB, 250 ms and 50,000 records, of which
	// Capacity and CapacityBytes allow half at most.
	BatchSize, BatchMax int
	BatchBytes          int64
	FlushInterval       time.Duration

	// WriteTimeout bounds one write. Defaults to 60 seconds: writers are expected to
	// have limits of their own.
	WriteTimeout time.Duration

	// Retry says how often a write is made again that may succeed later.
	Retry Retry
	// Circuit says when the backend counts as not well, and when it is asked again.
	Circuit Circuit

	// Watermarks say at which shares of the capacity the level is soft and hard. They
	// default to 0.5 and 0.8, with a margin of 0.1 on the way down.
	Watermarks feedback.Watermarks

	// Rate is the most records a second that a tenant may submit; 0 is no limit. It may
	// submit a second's worth at once. Nil limits none.
	Rate func(mds.Tenant) float64

	// DeadLetters keeps the records that no write takes, as package dlq does in a folder.
	// Nil loses them: they are counted, and told to Dropped.
	DeadLetters DeadLetters[R]
	// Dropped is told of records that are dropped, in its own copy, by the submitter
	// or a worker, which wait for it: it must not wait for room itself, but may call
	// TrySubmit. Nil is none.
	Dropped func(tenant mds.Tenant, records []R, reason Reason, err error)

	// Committed is told of records that a write has put on the store's disk, before their
	// receipts are, with what became of them: those that changed nothing or were followed
	// by one with the same key are among them, since the writer tells only how many. Of a
	// batch of which some are refused it is told the parts that were written; never what
	// failed, was refused or dropped, nor a write whose outcome is not known before Stop
	// ends.
	//
	// It is called by the workers, of which several call at once; of one series in the order
	// in which its records were submitted. It must neither wait, since the series do
	// meanwhile, nor keep or change the records. Nil is none, and costs nothing.
	Committed func(tenant mds.Tenant, records []R, receipt mds.Receipt)

	// Metrics is shared by the coordinators of a process. Nil exports nothing.
	Metrics *Metrics
	// FeedbackMetrics are those of the bus on which the coordinator tells its level. Nil
	// exports nothing.
	FeedbackMetrics *feedback.Metrics
	// Logger receives what an operator has to know: the circuit opens and closes,
	// records go to the dead letters or cannot. Defaults to discarding it.
	Logger *slog.Logger

	oddBatches bool // as they were given
}

// Retry says how often a write is made again that failed and may succeed later. The
// pause before attempt n is drawn from 0 to the backoff (full jitter), which grows from
// InitialBackoff by Multiplier to MaxBackoff. Waiting for the circuit, and failures
// while no write succeeds at all, use up neither attempts nor time.
type Retry struct {
	// MaxAttempts bounds the attempts, the first included. Defaults to 5.
	MaxAttempts int
	// MaxElapsed bounds the time that attempts and their pauses take. Defaults to 2
	// minutes.
	MaxElapsed time.Duration
	// InitialBackoff, MaxBackoff and Multiplier default to 50 ms, 2 s and 2.
	InitialBackoff, MaxBackoff time.Duration
	Multiplier                 float64
	// NoJitter makes each pause the whole backoff. Defaults to false.
	NoJitter bool
}

// Circuit says when the backend counts as not well, and when it is asked again.
type Circuit struct {
	// FailureThreshold is after how many failures in a row, of any worker, the circuit
	// opens: nothing is written. Defaults to 5.
	FailureThreshold int
	// HalfOpenAfter is for how long it stays open before one write probes the backend:
	// with its success the circuit closes. Defaults to 60 seconds.
	HalfOpenAfter time.Duration
}

// withDefaults fills in what is not set.
func (c Config[R]) withDefaults(kind string) Config[R] {
	set(&c.ID, kind)
	set(&c.Capacity, 262_144)
	set(&c.CapacityBytes, 64<<20)
	set(&c.Overflow, Block)
	set(&c.Workers, 4)
	set(&c.Lanes, max(1, c.Workers))
	if c.BatchSize == 0 {
		c.BatchSize = 500
		if c.BatchMax > 0 {
			c.BatchSize = min(c.BatchSize, c.BatchMax)
		}
	}
	set(&c.BatchMax, max(50_000, c.BatchSize))
	set(&c.BatchBytes, 32<<20)
	set(&c.FlushInterval, 250*time.Millisecond)
	set(&c.WriteTimeout, time.Minute)
	set(&c.Retry.MaxAttempts, 5)
	set(&c.Retry.MaxElapsed, 2*time.Minute)
	set(&c.Retry.InitialBackoff, 50*time.Millisecond)
	set(&c.Retry.MaxBackoff, 2*time.Second)
	set(&c.Retry.Multiplier, 2)
	set(&c.Circuit.FailureThreshold, 5)
	set(&c.Circuit.HalfOpenAfter, time.Minute)
	c.Watermarks = c.Watermarks.WithDefaults()
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	c.oddBatches = c.BatchMax < c.BatchSize && c.BatchMax > 0 && c.BatchSize > 0
	c.BatchMax = min(c.BatchMax, max(1, c.Capacity/2))
	c.BatchSize = min(c.BatchSize, c.BatchMax)
	c.BatchBytes = min(c.BatchBytes, max(1, c.CapacityBytes/2))
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate names every fault.
func (c *Config[R]) validate() error {
	var errs []error
	positive := func(name string, value float64, is any) {
		if !(value > 0) {
			errs = append(errs, fmt.Errorf("%s is %v: it must be more than 0", name, is))
		}
	}
	for _, n := range []struct {
		name string
		is   int
	}{
		{"Capacity", c.Capacity}, {"CapacityBytes", int(c.CapacityBytes)}, {"Workers", c.Workers}, {"Lanes", c.Lanes},
		{"BatchSize", c.BatchSize}, {"BatchMax", c.BatchMax}, {"BatchBytes", int(c.BatchBytes)},
		{"Retry.MaxAttempts", c.Retry.MaxAttempts}, {"Circuit.FailureThreshold", c.Circuit.FailureThreshold},
	} {
		positive(n.name, float64(n.is), n.is)
	}
	for _, d := range []struct {
		name string
		is   time.Duration
	}{
		{"FlushInterval", c.FlushInterval}, {"WriteTimeout", c.WriteTimeout}, {"Retry.MaxElapsed", c.Retry.MaxElapsed},
		{"Retry.InitialBackoff", c.Retry.InitialBackoff}, {"Retry.MaxBackoff", c.Retry.MaxBackoff},
		{"Circuit.HalfOpenAfter", c.Circuit.HalfOpenAfter},
	} {
		positive(d.name, float64(d.is), d.is)
	}
	if !(c.Retry.Multiplier >= 1) {
		errs = append(errs, fmt.Errorf("Retry.Multiplier is %v: it must be 1 or more", c.Retry.Multiplier))
	}
	if c.Overflow != Block && c.Overflow != Reject && c.Overflow != DropOldest {
		errs = append(errs, fmt.Errorf("Overflow is %q: use %s, %s or %s", c.Overflow, Block, Reject, DropOldest))
	}
	if c.oddBatches {
		errs = append(errs, errors.New("BatchMax is less than BatchSize"))
	}
	if w := c.Watermarks; !(w.Margin > 0 && w.Margin < w.Low && w.Low < w.High && w.High <= 1 && w.Low <= w.High-w.Margin) {
		errs = append(errs, fmt.Errorf("the Watermarks are %+v: it takes 0 < Margin < Low <= High-Margin and High <= 1", w))
	}
	const most = 1 << 12
	if c.Workers > most || c.Lanes > most {
		errs = append(errs, fmt.Errorf("more than %[3]d at once: Workers is %[1]d, Lanes %[2]d", c.Workers, c.Lanes, most))
	}
	return errors.Join(errs...)
}
