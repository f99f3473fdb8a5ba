package mds

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"
)

// Job is work that a server does by itself, whoever waits for it: filling in history,
// refreshing rollups, carrying out policies. It is kept in the store until it is cleaned up.
// Times are UTC, to the microsecond; the zero time is none.
type Job struct {
	// ID names the job; ids are in order of their making.
	ID string
	// Tenant is whose data the job is about; the zero one is that of all.
	Tenant Tenant
	// Action is what it does.
	Action JobAction
	// Name tells people what it is for: one line of at most [MaxJobText] bytes, or "".
	Name string
	// Params say the rest of what it does, as the action has it: a JSON object of at most
	// [MaxJobParams] bytes. A store keeps it without white space, and none as {}.
	Params json.RawMessage
	// Key is an idempotency key: of jobs of one tenant with the same key one is made. "" is
	// none.
	Key string
	// Priority has a job with a higher one begin first; of equal ones the oldest does.
	Priority int
	// Mode is ModeLive or ModeBackfill, for the records that it brings; "" where it brings none.
	Mode JobMode
	// Dataset is the kind of its records, such as "bars", and Vendor whose they are; ""
	// where it has none.
	Dataset, Vendor string
	// Symbols are those that it is about, at most [MaxJobSymbols]; none is all.
	Symbols []string
	// Start and End bound the time of its records, the end excluded.
	Start, End time.Time
	// Fingerprint tells configurations apart: a digest of what it was told to do, which a
	// store makes where there is none (see [Job.MakeFingerprint]).
	Fingerprint string
	// By is who asked for it, such as the id of an API key.
	By string

	State JobState
	// Created is when it was asked for, Started when it was begun first, and Finished when
	// it ended.
	Created, Started, Finished time.Time
	// NotBefore is when it may begin at the earliest.
	NotBefore time.Time
	// Heartbeat is when the server that runs it was heard of last.
	Heartbeat time.Time
	// LeaseUntil is until when that server has it: later another one takes it over.
	LeaseUntil time.Time
	// Worker is the server that runs it, or ran it last, and Version its program's.
	Worker, Version string
	// Attempt counts how often it was begun, and MaxAttempts is how often it may be, 0 for
	// [DefaultJobAttempts].
	Attempt, MaxAttempts int
	// CancelRequested says that it is to end.
	CancelRequested bool
	// Error is why it failed, or was given up; of one that waits or runs, why the attempt
	// before failed.
	Error string

	JobProgress
}

// JobProgress is how far a job is.
type JobProgress struct {
	// Parts is of how many parts it is, 0 where it is not known, and PartsDone how many are
	// done.
	Parts, PartsDone int64
	// Written counts the records that it brought, or rows that it changed, and Failed those
	// that it could not.
	Written, Failed int64
	// Note is what it does at the moment, or did last.
	Note string
}

// JobPart is a part of a job that is done, and is not done again when the job is taken over.
type JobPart struct {
	// Name tells it from the others.
	Name string
	// Written and Failed are its records.
	Written, Failed int64
	// Done is when it was, UTC.
	Done time.Time
}

// JobAction is what a job does.
type JobAction string

// The actions.
const (
	JobBackfill JobAction = "backfill" // loads files, or what URLs answer
	JobRefresh  JobAction = "refresh"  // makes rollups of what changed
	JobPolicies JobAction = "policies" // does what policies ask for
	JobReplay   JobAction = "replay"   // writes dead letters again
	JobCompact  JobAction = "compact"  // puts rows in order
	JobExport   JobAction = "export"   // writes files
	JobMigrate  JobAction = "migrate"  // brings the database to the program's schema
)

// JobActions lists the actions.
func JobActions() []JobAction {
	return []JobAction{JobBackfill, JobRefresh, JobPolicies, JobReplay, JobCompact, JobExport, JobMigrate}
}

// OfAll reports that the action is about all tenants, and no job of it about one.
func (a JobAction) OfAll() bool { return a == JobPolicies || a == JobMigrate }

// JobMode says what a job's records are.
type JobMode string

// The modes.
const (
	ModeLive     JobMode = "live"     // of now
	ModeBackfill JobMode = "backfill" // of before
)

// JobState is where a job stands.
type JobState string

// The states. A job that failed and may be begun again is queued.
const (
	JobQueued    JobState = "queued"
	JobRunning   JobState = "running"
	JobDone      JobState = "done"
	JobFailed    JobState = "failed"
	JobCancelled JobState = "cancelled"
)

// Ended reports that a job is not run any more.
func (s JobState) Ended() bool { return s == JobDone || s == JobFailed || s == JobCancelled }

// JobStates lists the states.
func JobStates() []JobState {
	return []JobState{JobQueued, JobRunning, JobDone, JobFailed, JobCancelled}
}

// JobFilter picks jobs; the zero value picks all.
type JobFilter struct {
	// TenantID picks those of a tenant, and Common those that are of all, beside or, without
	// a tenant, alone.
	TenantID string
	Common   bool
	States   []JobState
	Actions  []JobAction
	// Since picks those that were made at that time or later, and Before those made earlier.
	Since, Before time.Time
	// SilentSince picks those that run and whose server was heard of last before that time.
	SilentSince time.Time
	// Limit is the most jobs, the newest first; 0 is all.
	Limit int
	// After goes on after the job with this id, in that order.
	After string
}

// JobCount is how many jobs there are of an action in a state.
type JobCount struct {
	Action          JobAction
	State           JobState
	Jobs            int64
	Written, Failed int64
	// Seconds is how long they ran, those that run until now (see [Job.Elapsed]).
	Seconds float64
}

// Errors of jobs.
var (
	// ErrUnknownJob is wrapped where there is no such job.
	ErrUnknownJob = errors.New("there is no such job")
	// ErrJobLost is wrapped where a server has a job no more: it was taken over, or has ended.
	ErrJobLost = errors.New("the job is not this worker's any more")
	// ErrJobKey is wrapped where an idempotency key is that of another job.
	ErrJobKey = errors.New("the idempotency key is that of another job")
	// ErrJobsWaiting is wrapped where a tenant has as many jobs that wait as it may; see
	// [MaxJobsWaiting]. It passes.
	ErrJobsWaiting = errors.New("too many jobs wait")
)

// What a job may be.
const (
	MaxJobText   = 200     // bytes of a name, a dataset, a vendor, a symbol, a fingerprint and of who asked
	MaxJobKey    = 255     // bytes
	MaxJobParams = 1 << 16 // bytes
	// MaxJobSymbols is how many symbols it may name, of MaxJobParams bytes together.
	MaxJobSymbols = 10_000
	// MaxJobsWaiting is how many jobs of a tenant may wait or run at once; of those that are of
	// all tenants it may be as many.
	MaxJobsWaiting = 10_000

	// MaxJobPart is the bytes of the name of a part.
	MaxJobPart = 1_000

	maxPriority = 1000
	maxAttempts = 1000

	// DefaultJobAttempts is how often a job may be begun that does not say.
	DefaultJobAttempts = 5
)

// Validate checks a job that is to be made, and reports every fault as an [*InvalidError].
// What a store says of a job, such as its state, does not matter.
func (j *Job) Validate() error {
	var f faults
	if !slices.Contains(JobActions(), j.Action) {
		f.add("action", fmt.Sprintf("%s is none: use %s", quoted(string(j.Action)), actionNames()))
	}
	if want, err := NewTenant(j.Tenant.Slug); j.Tenant != (Tenant{}) && (err != nil || want != j.Tenant) {
		f.add("tenant", fmt.Sprintf("%s with the id %s is none", quoted(j.Tenant.Slug), quoted(j.Tenant.ID)))
	}
	f.add("name", lineFault(j.Name))
	if len(j.Key) > MaxJobKey || strings.ContainsFunc(j.Key, func(r rune) bool { return r < '!' || r > '~' }) {
		f.add("key", fmt.Sprintf("is not at most %d visible ASCII characters", MaxJobKey))
	}
	f.add("params", paramsFault(j.Params))
	if j.Priority < -maxPriority || j.Priority > maxPriority {
		f.add("priority", fmt.Sprintf("%d is not from %d to %d", j.Priority, -maxPriority, maxPriority))
	}
	if j.Mode != "" && j.Mode != ModeLive && j.Mode != ModeBackfill {
		f.add("mode", fmt.Sprintf("%s is none: use %s or %s", quoted(string(j.Mode)), ModeLive, ModeBackfill))
	}
	f.add("dataset", lineFault(j.Dataset))
	f.add("vendor", lineFault(j.Vendor))
	f.add("symbols", symbolsFault(j.Symbols))
	for _, at := range []struct {
		field string
		time  time.Time
	}{{"start", j.Start}, {"end", j.End}, {"not_before", j.NotBefore}} {
		if !at.time.IsZero() {
			f.add(at.field, timeFault(at.time))
		}
	}
	if !j.Start.IsZero() && !j.End.IsZero() && !j.Start.Before(j.End) {
		f.add("start", "is not before the end")
	}
	f.add("fingerprint", lineFault(j.Fingerprint))
	f.add("by", lineFault(j.By))
	if j.MaxAttempts < 0 || j.MaxAttempts > maxAttempts {
		f.add("max_attempts", fmt.Sprintf("%d is not from 1 to %d", j.MaxAttempts, maxAttempts))
	}
	return f.err()
}

func lineFault(text string) string {
	if fault := textFault(text, MaxJobText); fault != "" {
		return fault
	}
	if strings.ContainsFunc(text, unicode.IsControl) {
		return quoted(text) + " is not one line"
	}
	return ""
}

func paramsFault(params json.RawMessage) string {
	var object map[string]json.RawMessage
	switch {
	case len(params) > MaxJobParams:
		return fmt.Sprintf("are longer than %d bytes", MaxJobParams)
	case len(params) > 0 && (!utf8.Valid(params) || json.Unmarshal(params, &object) != nil || object == nil):
		return "are no JSON object"
	}
	return ""
}

func symbolsFault(symbols []string) string {
	if len(symbols) > MaxJobSymbols {
		return fmt.Sprintf("are %d, more than %d: make several jobs, or name none for all", len(symbols), MaxJobSymbols)
	}
	size := 0
	for _, s := range symbols {
		if size += len(s); size > MaxJobParams {
			return fmt.Sprintf("are longer than %d bytes together: make several jobs, or name none for all", MaxJobParams)
		}
		if s == "" {
			return "has an empty one"
		}
		if fault := lineFault(s); fault != "" {
			return fault
		}
	}
	return ""
}

func actionNames() string {
	names := make([]string, 0, len(JobActions()))
	for _, a := range JobActions() {
		names = append(names, string(a))
	}
	return strings.Join(names, ", ")
}

// Elapsed is how long the job ran, until it ended or, where it runs, until now, with what it
// waited between attempts; 0 where it waits.
func (j *Job) Elapsed(now time.Time) time.Duration {
	end := j.Finished
	if j.State == JobRunning {
		end = now
	}
	if j.Started.IsZero() || end.IsZero() {
		return 0
	}
	return max(0, end.Sub(j.Started))
}

// MakeFingerprint is the fingerprint of what the job is told to do: of its action, tenant,
// params, dataset, vendor, symbols and times. It is the SHA-256 of these as JSON, cut to 32
// hexadecimal digits. Spelling does not matter where it says nothing: the order of symbols
// and of names in params, white space, time zones. A store takes it where a job has none.
func (j *Job) MakeFingerprint() string {
	var params any = struct{}{}
	if len(j.Params) > 0 {
		decoder := json.NewDecoder(bytes.NewReader(j.Params))
		decoder.UseNumber() // which loses no digit
		if decoder.Decode(&params) != nil {
			params = string(j.Params)
		}
	}
	symbols := slices.Clone(j.Symbols)
	slices.Sort(symbols)
	at := func(t time.Time) string {
		if t.IsZero() {
			return ""
		}
		return t.UTC().Truncate(time.Microsecond).Format(time.RFC3339Nano)
	}
	text, err := json.Marshal([]any{j.Action, j.Tenant.ID, params, j.Dataset, j.Vendor, slices.Compact(symbols), at(j.Start), at(j.End)})
	if err != nil { // of numbers that are none, which no JSON has
		text = j.Params
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:16])
}
