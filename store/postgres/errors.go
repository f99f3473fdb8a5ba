package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/marketdatastore/mds"
)

// Class says what kind of failure an [Error] is.
type Class string

// The classes of failures.
const (
	Constraint  Class = "constraint"  // the database refuses the data
	Denied      Class = "denied"      // the login may not
	Timeout     Class = "timeout"     // a deadline passed
	Unavailable Class = "unavailable" // the server cannot be reached, or has no room
	Conflict    Class = "conflict"    // another one was at the same rows
	Other       Class = "other"
)

// Error is a failure of the database below an operation.
type Error struct {
	// Op is the operation, such as "write bars".
	Op    string
	Class Class
	// Code is the SQLSTATE (PostgreSQL, appendix A), "" where there is none.
	Code string
	// Hint says what to do about it; may be empty.
	Hint string
	Err  error
}

func (e *Error) Error() string {
	text := e.Op + ": " + e.Err.Error()
	if e.Hint != "" {
		text += "; " + e.Hint
	}
	return text
}

func (e *Error) Unwrap() error { return e.Err }

// Retryable reports whether the same call may succeed later.
func (e *Error) Retryable() bool {
	return e.Class == Timeout || e.Class == Unavailable || e.Class == Conflict
}

// Unavailable reports whether the server is not well, or not set up for this program and
// its login: whatever is written fails until somebody acts. Only what the server says of
// the data is not: it refuses them.
func (e *Error) Unavailable() bool {
	switch e.Class {
	case Timeout, Unavailable, Denied:
		return true
	case Other:
		return e == errClosed || e == errReadOnly || e.Code != "" && !slices.Contains(aboutData, e.Code[:min(2, len(e.Code))])
	}
	return false
}

// aboutData are the classes of SQLSTATE, beside 22 and 23, in which a row is refused, by
// its size or by a rule of the database's owner (PostgreSQL, appendix A): cardinality
// violation, WITH CHECK OPTION violation, program limit exceeded, PL/pgSQL error.
var aboutData = []string{"21", "44", "54", "P0"}

// message is an error without what the driver says around it, which has the host in it
// and may have more.
type message struct {
	text string
	err  error
}

func (m message) Error() string { return m.text }
func (m message) Unwrap() error { return m.err }

var errClosed = &Error{Op: "open", Class: Other, Err: errors.New("the store is closed")}

var errReadOnly = &Error{Op: "open", Class: Other, Err: errors.New("the store was opened for reading only")}

// wrap classifies an error of the driver. It leaves alone what is classified already.
func wrap(ctx context.Context, op string, err error) error {
	var mine *Error
	var grant *GrantError
	if err == nil || errors.Is(err, ErrDSN) || errors.As(err, &mine) || errors.As(err, &grant) || errors.Is(err, mds.ErrUnknownTenant) || errors.Is(err, mds.ErrTenantExists) || errors.Is(err, mds.ErrUnknownKey) || errors.Is(err, mds.ErrKeyEnded) || errors.Is(err, mds.ErrUnknownJob) || errors.Is(err, mds.ErrJobLost) || errors.Is(err, mds.ErrJobsWaiting) || errors.Is(err, mds.ErrTimeframe) {
		return err
	}
	if cause := ctx.Err(); cause != nil {
		class := Other
		if errors.Is(cause, context.DeadlineExceeded) {
			class = Timeout
		}
		return &Error{Op: op, Class: class, Err: cause}
	}
	var server *pgconn.PgError
	if errors.As(err, &server) {
		e := &Error{Op: op, Code: server.Code, Err: message{fmt.Sprintf("%s (SQLSTATE %s)", strings.Join(strings.Fields(server.Message), " "), server.Code), err}}
		e.Class, e.Hint = classify(poolersCode(server))
		if strings.Contains(server.Message, "during recovery") {
			e.Class, e.Hint = classify("25006")
		}
		if e.Class == Unavailable && strings.HasPrefix(op, "write") {
			e.Hint = strings.TrimPrefix(e.Hint+"; what was acknowledged is kept", "; ")
		}
		return e
	}
	var connect *pgconn.ConnectError
	var network net.Error
	switch {
	case errors.As(err, &connect):
		hint := "is the server running, and is the DSN right?"
		if strings.Contains(err.Error(), "TLS") {
			hint = "sslmode in the DSN says whether TLS is asked for"
		}
		return &Error{Op: op, Class: Unavailable, Err: message{fmt.Sprintf("no connection to %s:%d: %s", connect.Config.Host, connect.Config.Port, cause(err)), err}, Hint: hint}
	case errors.As(err, &network), pgconn.SafeToRetry(err), strings.Contains(err.Error(), "conn closed"), strings.Contains(err.Error(), "unexpected EOF"):
		hint := "run it again"
		if strings.HasPrefix(op, "write") {
			hint += ": what was acknowledged is kept"
		}
		return &Error{Op: op, Class: Unavailable, Err: message{"the connection was lost: " + cause(err), err}, Hint: hint}
	}
	return &Error{Op: op, Class: Other, Err: err}
}

// poolersCode is the code of an error; PgBouncer gives its own one for all.
func poolersCode(err *pgconn.PgError) string {
	if err.Code != "08P01" {
		return err.Code
	}
	for text, code := range map[string]string{
		"authentication failed": "28P01", "no such user": "28P01", "password": "28P01",
		"no such database": "3D000", "does not exist": "3D000",
		"no more connections":           "53300",
		"unsupported startup parameter": unsupportedParameter,
	} {
		if strings.Contains(err.Message, text) {
			return code
		}
	}
	return err.Code
}

// unsupportedParameter stands for a parameter that a pooler does not hand on.
const unsupportedParameter = "pooler"

// cause is why a connection failed, in a few words.
func cause(err error) string {
	var lookup *net.DNSError
	var operation *net.OpError
	var network net.Error
	switch {
	case errors.As(err, &lookup):
		return lookup.Err
	case errors.As(err, &operation):
		if !operation.Timeout() {
			return operation.Err.Error()
		}
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.As(err, &network) && network.Timeout() {
		return "no answer in time"
	}
	// Of several attempts, such as with and without TLS, the last; without what the driver
	// says of the host and the login.
	text := err.Error()
	lines := strings.Split(strings.TrimSpace(text), "\n")
	text = strings.TrimSpace(lines[len(lines)-1])
	if _, after, ok := strings.Cut(text, "): "); ok && len(lines) > 1 {
		text = after
	}
	return text
}

// classify maps SQLSTATE codes (PostgreSQL, appendix A).
func classify(code string) (Class, string) {
	switch code {
	case "23505", "40001", "40P01":
		return Conflict, ""
	case "28P01", "28000":
		return Denied, "check the login and its password in the DSN; mds migrate with the owner's DSN makes a login that is not there"
	case unsupportedParameter:
		return Other, "leave it out of the DSN: the pooler hands no such setting on (ignore_startup_parameters)"
	case "3D000":
		return Other, "make the database, or name another in the DSN"
	case "42501":
		return Denied, "let the owner run mds migrate, which gives the service's login its rights (a tenant's login reads the views in schema mds, such as mds.bars, with psql or a driver)"
	case "42P01", "3F000", "42883":
		return Other, "the database is not set up: let the owner run mds migrate"
	case "55P03":
		return Timeout, "another one holds a lock on the table"
	case "57014":
		return Timeout, "the statement took longer than it may (MDS_STATEMENT_TIMEOUT, or the server's own limit): does another one hold a lock on the table?"
	case "53100":
		return Unavailable, "the server's disk is full: free some space and run it again"
	case "25006":
		return Unavailable, "the server takes no writes, as a standby does: name the primary in the DSN, or all hosts"
	case "25P03", "25P04":
		return Timeout, "the transaction was open for longer than the server allows: take the rows faster, or fewer"
	case "53300":
		return Unavailable, "no connections are left: raise the limit of the server, the database or the role, or lower MDS_POOL_MAX"
	}
	switch code[:min(2, len(code))] {
	case "22", "23":
		return Constraint, ""
	case "57":
		return Unavailable, "the server is going down or has crashed: run it again when it is up"
	case "08", "53", "58":
		return Unavailable, ""
	case "40", "55":
		return Conflict, ""
	}
	return Other, ""
}
