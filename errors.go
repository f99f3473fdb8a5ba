package mds

import (
	"errors"
	"fmt"
	"strings"
)

// ErrNoStore is returned for a store that is opened for reading and is not
// there: nothing was ever written to it.
var ErrNoStore = errors.New("there is no store")

// ErrUnknownTenant is returned for a tenant that the store does not hold.
var ErrUnknownTenant = errors.New("unknown tenant")

// ErrTenantName is wrapped by the refusal of a name that no tenant can have.
var ErrTenantName = errors.New("tenant name")

// ErrTenantExists is returned by CreateTenant for a slug that is taken.
var ErrTenantExists = errors.New("tenant exists")

// ErrUnknownKey is returned for an API key that the store does not hold.
var ErrUnknownKey = errors.New("unknown API key")

// ErrKeyEnded is wrapped by the refusal to rotate an API key that does not work any more.
var ErrKeyEnded = errors.New("the API key has ended")

// Fault is one thing wrong with one field of a record.
type Fault struct {
	// Field is the column name as the schema says it, such as "close".
	Field string
	// Reason completes the sentence that begins with the field.
	Reason string
}

// InvalidError reports every fault of one record. It is permanent: the same
// record is refused again.
type InvalidError struct {
	Faults []Fault
}

func (e *InvalidError) Error() string {
	parts := make([]string, len(e.Faults))
	for i, f := range e.Faults {
		parts[i] = f.Field + ": " + f.Reason
	}
	return strings.Join(parts, "; ")
}

// RecordError says which record of a batch an error is about. No record of
// the batch was stored.
type RecordError struct {
	// Index counts from 0 within the batch.
	Index int
	Err   error
}

func (e *RecordError) Error() string {
	return fmt.Sprintf("record %d of the batch: %v", e.Index, e.Err)
}

func (e *RecordError) Unwrap() error { return e.Err }

// RefusedError names the records of a batch that no write takes, by a store that stored all
// others of it. A server does so, which joins the batches of many; a store of one's own
// stores none of such a batch, and returns a [*RecordError].
type RefusedError struct {
	// Records are in order of their index, each once. There is one at least.
	Records []RefusedRecord
}

// RefusedRecord is a record of a batch that is refused for good.
type RefusedRecord struct {
	// Index counts from 0 within the batch.
	Index int
	Err   error
	// Kept says that the store keeps the record itself, as a dead letter.
	Kept bool
}

func (e *RefusedError) Error() string {
	if len(e.Records) == 0 {
		return "records were refused, and none is named"
	}
	text := e.Unwrap().Error()
	if n := len(e.Records) - 1; n > 0 {
		text += fmt.Sprintf(" (and %d more)", n)
	}
	return text
}

// Unwrap is the first of them, as a [*RecordError].
func (e *RefusedError) Unwrap() error {
	if len(e.Records) == 0 {
		return nil
	}
	return &RecordError{Index: e.Records[0].Index, Err: e.Records[0].Err}
}

// Retryable reports whether the same call may succeed if it is made again.
// The layer that knows says so, by a method Retryable on its error; an error
// that says nothing is permanent.
func Retryable(err error) bool {
	var r interface{ Retryable() bool }
	return errors.As(err, &r) && r.Retryable()
}

// Unavailable reports whether the error says that the backend is not well: it cannot be
// reached, has no room, does not answer in time, or refuses everything until its
// administrator acts. Any write may fail then, whatever its records. The layer that
// knows says so, by a method Unavailable on its error.
func Unavailable(err error) bool {
	var u interface{ Unavailable() bool }
	return errors.As(err, &u) && u.Unavailable()
}
