package client

import (
	"encoding/json"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

// Answer accounts for every row of a body:
//
//	read = rejected + accepted
//	accepted = committed + dead-lettered + dropped + unwritten + pending
type Answer struct {
	Kind string `json:"kind" doc:"The kind of the records"`
	Read int64  `json:"read" doc:"Rows in the body"`
	// Rejected rows became no records; Errors says why, of the first.
	Rejected     int64 `json:"rejected" doc:"Rows that are no records: errors says why"`
	Accepted     int64 `json:"accepted" doc:"Rows that became records and were queued"`
	Committed    int64 `json:"committed" doc:"Records that are on the store's disk, or changed nothing there"`
	DeadLettered int64 `json:"dead_lettered" doc:"Records that the store refuses for good, kept as dead letters"`
	Dropped      int64 `json:"dropped" doc:"Records that are gone: no write takes them, and there are no dead letters"`
	Unwritten    int64 `json:"unwritten" doc:"Records that were in memory when the server was stopped: send them again"`
	Pending      int64 `json:"pending" doc:"Records that are queued or being written"`
	// Unchanged and Superseded are told of records that come late.
	Unchanged  int64      `json:"unchanged,omitempty" doc:"With late: of those committed, how many were stored already"`
	Superseded int64      `json:"superseded,omitempty" doc:"With late: of those committed, how many found a newer one stored, which stays"`
	Errors     []RowError `json:"errors,omitempty" doc:"The first rejected rows"`
	// Omitted counts the rejected rows that are not among Errors.
	Omitted int64 `json:"errors_omitted,omitempty" doc:"How many rejected rows are not listed"`
	// Refused are the first of those that are dead letters, or dropped since no write takes them.
	Refused []Refused `json:"refused,omitempty" doc:"The first records that the store refuses, and why: dead letters, unless they are dropped"`
	// RefusedOmitted counts those that are not among Refused.
	RefusedOmitted int64 `json:"refused_omitted,omitempty" doc:"How many refused records are not listed"`

	Ignored  []string         `json:"ignored,omitempty" doc:"Names in the body that feed no column"`
	Warnings map[string]int64 `json:"warnings,omitempty" doc:"Records with something odd about them, by what"`
}

// MaxListed is how many rejected rows and refused records an answer lists at most.
const MaxListed = 10_000

// Refused is a record that no write takes.
type Refused struct {
	Record json.RawMessage `json:"record" doc:"The record, as NDJSON has it"`
	Reason string          `json:"reason" doc:"Why the store refuses it"`
}

// RowError is a row that became no record.
type RowError struct {
	Line   int    `json:"line" doc:"Where the row begins, from 1, the header included; of a JSON array the element"`
	Field  string `json:"field,omitempty" doc:"The column, or columns; left out where the whole row is at fault"`
	Reason string `json:"reason" doc:"What is wrong with it"`
}

// Problem is the body of an answer that is none, as RFC 9457 has it.
type Problem struct {
	Title  string `json:"title" doc:"The status in words"`
	Status int    `json:"status" doc:"The status of the answer"`
	// Code is for programs; it stays what it is when the words change.
	Code      string `json:"code" doc:"What is wrong, in a word that stays the same"`
	Detail    string `json:"detail" doc:"What is wrong, where, and what to do, in a sentence"`
	RequestID string `json:"request_id" doc:"The request in the server's log"`
	// Position is where in a statement something is wrong.
	Position int `json:"position,omitempty" doc:"Of SQL: the character, from 1, at which it is wrong, where that is known"`
	// Ledger is what became of records that were read before it.
	Ledger *Answer `json:"ledger,omitempty" doc:"What became of the records that were read before"`
	// Feedback is why a producer has to wait.
	Feedback *feedback.Event `json:"feedback,omitempty" doc:"How full the queue is, where that is why"`
}

// Health is how a server is.
type Health struct {
	Service    string             `json:"service" doc:"mds"`
	State      ingest.Health      `json:"state" doc:"healthy, degraded or unhealthy: the worst of the components'"`
	Components []ingest.Component `json:"components" doc:"The store, and of each kind the queue, the circuit, the workers and the dead letters"`
	Version    string             `json:"version" doc:"The program's version"`
	TS         time.Time          `json:"ts" doc:"When, UTC"`
}

// Version is that of the store's schema.
type Version struct {
	SchemaVersion int `json:"schema_version" doc:"The newest migration applied"`
}

// Statistics are the figures of one tenant.
type Statistics struct {
	Tenant string       `json:"tenant" doc:"The tenant's slug"`
	Kinds  []KindLedger `json:"kinds" doc:"What became of the records that this server has taken in since it was started"`
}

// KindLedger is the ledger of one kind and tenant.
type KindLedger struct {
	Kind   string `json:"kind" doc:"The kind"`
	Tenant string `json:"tenant" doc:"The tenant's slug"`
	ingest.Ledger
}

// Tenant is whose records a request is about.
type Tenant struct {
	ID   string `json:"id" doc:"A UUID"`
	Slug string `json:"slug" doc:"A short name"`
	// Scopes are those of the key that asks; none where no keys are asked for.
	Scopes []mds.Scope `json:"scopes,omitempty" doc:"What the key that asks may do; left out where no keys are asked for"`
	// Operator says that who asks looks after the store of all tenants.
	Operator bool `json:"operator,omitempty" doc:"Of who asks: whether it looks after the store of all tenants"`
}

// Tenants are those that who asks may know of.
type Tenants struct {
	Tenants []Tenant `json:"tenants" doc:"In order of their slugs"`
}

// Count is a number of records.
type Count struct {
	Count int64 `json:"count" doc:"How many records there are"`
}

// Removed is a number of records that are gone.
type Removed struct {
	Removed int64 `json:"removed" doc:"How many records were removed"`
}

// Statement is what is run.
type Statement struct {
	SQL string `json:"sql" doc:"One statement that reads, in the SQL of the store's engine"`
}

// SQLAnswer is what a statement is answered with.
type SQLAnswer struct {
	Columns []mds.SQLColumn `json:"columns" doc:"The columns, in order"`
	Rows    [][]any         `json:"rows" doc:"The rows, each with a value for each column. Numbers are exact; instants are RFC 3339 in UTC; NaN and Infinity are texts; bytes are base64"`
	// Truncated says that rows were left out.
	Truncated bool `json:"truncated" doc:"Whether rows were left out, by max_rows or by what the server allows"`
}
