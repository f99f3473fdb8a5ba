package mds

import "errors"

// SQLQuery is one statement that reads, in the SQL of the engine, with what it may take. The
// time that it may take is its context's.
type SQLQuery struct {
	Text string
	// MaxRows is how many rows of the answer are wanted at most; 0 is all.
	MaxRows int64
}

// SQLColumn is a column of an answer.
type SQLColumn struct {
	Name string `json:"name" doc:"The name, as the statement has it"`
	// Type is what the engine calls the type.
	Type string `json:"type" doc:"The type, as the database calls it"`
}

// SQLRows takes the answer to a statement.
type SQLRows interface {
	// Columns is called once, before the rows.
	Columns([]SQLColumn) error
	// Row takes a row, whose values are the caller's. A value is nil (NULL), a bool, an int64,
	// a uint64, a float64, a string, a [json.Number] (a decimal, or an integer of any size), a
	// [time.Time] (an instant; of a type without a zone, in UTC), a [Date], a []byte, or a
	// [json.RawMessage] (JSON, a list, a map).
	Row([]any) error
}

// SQLError is a statement that is refused for what is written in it.
type SQLError struct {
	// Detail is what the database says of it.
	Detail string
	// Position is where, as the number of a character from 1; 0 where that is not known.
	Position int
}

func (e *SQLError) Error() string { return e.Detail }

// ErrSQLLimit is wrapped by the end of a statement that takes more than it may: time,
// memory, or room for what does not fit in memory.
var ErrSQLLimit = errors.New("the query takes more than it may")

// ErrSQLBusy is wrapped where a statement is not run, or ended, for the sake of others: it
// may be run again later.
var ErrSQLBusy = errors.New("the query gives way to others")

// ErrNoSQLLogin is wrapped by the refusal of SQL for a tenant without a login of its own on a
// server.
var ErrNoSQLLogin = errors.New("no login for SQL")
