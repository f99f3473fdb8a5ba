package ingest

import (
	"context"
	"errors"
	"fmt"

	"github.com/marketdatastore/mds"
)

// fault is what a failed write says.
type fault int

const (
	refused fault = iota // of the records: the same ones are refused again
	passing              // of the moment: others were at the same rows
	unwell               // of the backend
	ended                // of nobody: the write was given up
)

// faultOf goes by the error's own classification: the layer that knows says so (see
// [mds.Retryable], [mds.Unavailable]). An error that may be retried and does not say
// whether the backend is well counts as a sign that it is not; so does a time limit
// that passed, of an error that says nothing.
func faultOf(err error) fault {
	var health interface{ Unavailable() bool }
	said := errors.As(err, &health)
	switch {
	case errors.Is(err, errAbandoned):
		return ended
	case said && health.Unavailable():
		return unwell
	case mds.Retryable(err) && said:
		return passing
	case mds.Retryable(err):
		return unwell
	case classified(err):
		return refused
	case errors.Is(err, context.DeadlineExceeded):
		return unwell
	case errors.Is(err, context.Canceled):
		return passing // not by us, which errAbandoned tells
	}
	return refused
}

// classified reports that an error says whether it may be retried, or whether the backend
// is well, or what is wrong with the records.
func classified(err error) bool {
	var retryable interface{ Retryable() bool }
	var health interface{ Unavailable() bool }
	var record *mds.RecordError
	var panicked *PanicError
	return errors.As(err, &retryable) || errors.As(err, &health) || errors.As(err, &record) || errors.As(err, &panicked) || errors.Is(err, mds.ErrUnknownTenant)
}

// errAbandoned ends a write that Stop gave up.
var errAbandoned = errors.New("the write was given up")

// PanicError is a writer's panic. It counts as a refusal of the records. Where it came from
// is logged.
type PanicError struct{ Value any }

func (e *PanicError) Error() string { return fmt.Sprintf("the writer panicked: %v", e.Value) }

// ExhaustedError ends the attempts to write records while others are written.
type ExhaustedError struct {
	Attempts int
	Err      error // of the last
}

func (e *ExhaustedError) Error() string {
	return fmt.Sprintf("given up after %d attempts: %v", e.Attempts, e.Err)
}

func (e *ExhaustedError) Unwrap() error { return e.Err }
