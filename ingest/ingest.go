// Package ingest takes in records from many producers and has them written in batches.
//
// A [Coordinator] is for producers that burst, a database that may stall and data that
// may be bad: it queues within bounds, keeps the order of each series, retries, waits
// while the backend is not well, and sets aside what no write takes. A [Batcher] is for
// one producer that has its records one at a time. For data that comes in batches
// already there is package sink.
package ingest

import (
	"context"
	"errors"
	"time"

	"github.com/marketdatastore/mds"
)

// Writer upserts a batch in one transaction, all or none. It must be safe for concurrent
// use and must not keep or change records. Its errors say by the methods Retryable and
// Unavailable what may help (see [mds.Retryable], [mds.Unavailable]); one that says
// nothing refuses the records for good. Sinks and tables of stores are writers.
//
// A write that failed may have been committed: it is made again, which changes nothing.
type Writer[R any] interface {
	WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error)
}

// DeadLetters keeps the records that no write takes.
type DeadLetters[R any] interface {
	// Keep returns when the letters are safe. After an error it is called again with
	// the same ones, until it succeeds: meanwhile the series they are of wait, and Stop
	// does until its context ends. Their records may be what no store and no JSON can
	// hold, such as NaN and text that is no UTF-8; what cannot be kept in one form must be
	// kept in another.
	Keep(ctx context.Context, letters []Letter[R]) error
}

// Letter is a record that no write takes.
type Letter[R any] struct {
	Tenant mds.Tenant
	Record R
	// Submitted is when it was submitted.
	Submitted time.Time
	// Code is why in a word, one of the Code… constants, and Reason in a sentence.
	Code, Reason string
	// Attempts is how often it was written, alone or among others.
	Attempts int
}

// The codes of dead letters.
const (
	// CodeInvalid is of records that do not validate.
	CodeInvalid = "invalid"
	// CodeRefused is of records that the backend refuses for good.
	CodeRefused = "refused"
	// CodePanic is of records that the writer panics at.
	CodePanic = "panic"
	// CodeExhausted is of records that could not be written while others could: sent
	// again later they may be.
	CodeExhausted = "exhausted"
)

// Overflow says what a submit does for which there is no room.
type Overflow string

// The overflow policies.
const (
	// Block waits for room, or for the context to end.
	Block Overflow = "block"
	// Reject fails at once, with [ErrFull].
	Reject Overflow = "reject"
	// DropOldest makes room: the tenant's oldest records that wait are dropped, then
	// the first of the submit itself. Each is counted, and told to [Config.Dropped].
	DropOldest Overflow = "drop_oldest"
)

// Reason is why a record was dropped.
type Reason string

// The reasons for dropping records.
const (
	// Overflowed records made room for newer ones, by [DropOldest].
	Overflowed Reason = "overflow"
	// Undeliverable records are those that no write takes, where there are no dead
	// letters to keep them.
	Undeliverable Reason = "undeliverable"
)

// Errors of submits and receipts.
var (
	// ErrStopped is returned by submits once Stop has been called.
	ErrStopped = errors.New("the coordinator is stopped")
	// ErrFull is returned for a submit for which there is no room now, where it does
	// not wait for room.
	ErrFull = errors.New("the queue is full")
	// ErrTooLarge is wrapped by the refusal of a submit that would never fit.
	ErrTooLarge = errors.New("it can never fit")
	// ErrQuota is returned by TrySubmit for a tenant that is over its rate.
	ErrQuota = errors.New("the tenant is over its rate")
	// ErrDropped, ErrDeadLettered and ErrUnwritten are wrapped by the errors of receipts.
	ErrDropped      = errors.New("dropped")
	ErrDeadLettered = errors.New("dead-lettered")
	ErrUnwritten    = errors.New("unwritten: the coordinator was stopped")
)
