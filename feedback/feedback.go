// Package feedback tells producers how full a store's queue is, and at what rate it takes
// more, so that they slow down before it is full and speed up as soon as it empties.
//
// A coordinator publishes events on its [Bus]. They reach producers in the same process
// by a channel or a function, and others by a webhook ([Webhook], [Receiver]), by
// server-sent events ([Handler], [Client]) or by gRPC (package feedback/rpc). A producer
// hands them to a [RateController] and asks it before it submits.
package feedback

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"time"
)

// Level says how full a queue is.
type Level string

// The levels. One that is not among them, of a newer version, counts as hard.
const (
	OK   Level = "ok"
	Soft Level = "soft" // slow down
	Hard Level = "hard" // stop, or take the rate that is suggested
)

// Known reports whether the level is one of this version's.
func (l Level) Known() bool { return l == OK || l == Soft || l == Hard }

// Event is what a store tells of its queue. Events replace each other: the newest says all.
// Its JSON is described by event.v1.schema.json in this package; consumers ignore what they
// do not know.
type Event struct {
	// CoordinatorID names the queue, and Kind the kind of its records, such as "bars".
	CoordinatorID string `json:"coordinator_id"`
	Kind          string `json:"kind,omitempty"`
	// QueueSize records are queued or being written, of Capacity; Utilization is the
	// fuller of records and bytes, from 0 to 1.
	QueueSize   int64   `json:"queue_size"`
	Capacity    int64   `json:"capacity"`
	Utilization float64 `json:"utilization"`
	Level       Level   `json:"level"`
	// Source is who tells: "store".
	Source string `json:"source"`
	// TS is when, in seconds since 1970-01-01 00:00 UTC.
	TS float64 `json:"ts"`
	// Reason is why the level is what it is, where the queue alone does not say it.
	Reason string `json:"reason,omitempty"`
	// SuggestedRate is what all producers together should submit, in records a second; 0
	// where nothing is known yet, or nothing should come (see RetryAfter).
	SuggestedRate float64 `json:"suggested_rate"`
	// ArrivalRate is what they do submit, and Producers how many they are, as far as they
	// are known; 0 where they are not.
	ArrivalRate float64 `json:"arrival_rate,omitempty"`
	Producers   int     `json:"producers,omitempty"`
	// RetryAfterMS is when a producer that stopped should come back, in milliseconds; 0
	// where it need not stop.
	RetryAfterMS int64 `json:"retry_after_ms,omitempty"`
}

// RetryAfter is when a producer that stopped should come back; 0 where it need not stop.
func (e *Event) RetryAfter() time.Duration {
	return time.Duration(min(e.RetryAfterMS, math.MaxInt64/int64(time.Millisecond))) * time.Millisecond
}

// Time is when the event was made, UTC.
func (e *Event) Time() time.Time { return time.UnixMicro(int64(e.TS * 1e6)).UTC() }

// Stamp sets the time of the event.
func (e *Event) Stamp(t time.Time) { e.TS = float64(t.UnixMicro()) / 1e6 }

// ErrEvent is wrapped by the refusal of what is no event.
var ErrEvent = errors.New("feedback event")

// Parse reads an event. Fields that are not known are ignored, and a level that is not
// known is kept.
func Parse(text []byte) (Event, error) {
	var e Event
	if err := json.Unmarshal(text, &e); err != nil {
		return e, fmt.Errorf("%w: %w", ErrEvent, err)
	}
	return e, e.Validate()
}

// Validate reports what makes an event none: its error wraps [ErrEvent].
func (e *Event) Validate() error {
	switch {
	case e.CoordinatorID == "":
		return fmt.Errorf("%w: coordinator_id is missing", ErrEvent)
	case e.Level == "":
		return fmt.Errorf("%w: level is missing", ErrEvent)
	}
	for _, f := range []struct {
		name  string
		value float64
	}{{"utilization", e.Utilization}, {"suggested_rate", e.SuggestedRate}, {"arrival_rate", e.ArrivalRate}, {"retry_after_ms", float64(e.RetryAfterMS)}} {
		if f.value < 0 || math.IsInf(f.value, 0) || math.IsNaN(f.value) {
			return fmt.Errorf("%w: %s is %v", ErrEvent, f.name, f.value)
		}
	}
	return nil
}

// resendAfter is when an event is sent again over a network that says nothing much new.
const resendAfter = time.Second

// resembles reports that an event says nothing much new after another: the level is the
// same, and rate and utilization are within a tenth.
func (e *Event) resembles(o *Event) bool {
	return e.Level == o.Level && e.CoordinatorID == o.CoordinatorID && e.Reason == o.Reason && e.Producers == o.Producers &&
		math.Abs(e.SuggestedRate-o.SuggestedRate) <= 0.1*o.SuggestedRate && math.Abs(e.Utilization-o.Utilization) <= 0.1
}
