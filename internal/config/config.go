// Package config reads the settings of the program: from a file, from the environment, and
// from flags that it is given. No other package reads the environment.
//
// What can be set is one table, which [List] lists.
package config

import (
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Settings are those in force. Where a field says that it is left, it is 0 unless it is
// set, and whoever uses it knows its default.
type Settings struct {
	Store       Store
	DLQ         DLQ
	Log         Log
	Coordinator Coordinator
	Retry       Retry
	Circuit     Circuit
	Serve       Serve
	Rates       Rates
	Feedback    Feedback
	SQL         SQL
	Jobs        Jobs

	// Warnings are about the file, one sentence each.
	Warnings []string

	file   string
	table  []Setting
	values []value // of the table's, in its order
	redact func(string) string
}

// Store is which store it is, and how it is used.
type Store struct {
	// DSN and AdminDSN are "" where they are not set.
	DSN, AdminDSN string
	// Server is the URL of a server in the place of a DSN, and APIKey the key for it.
	Server, APIKey string
	Tenant         string
	// MemoryLimit, WriteMode, PoolMax and StatementTimeout are left; a timeout of less
	// than 0 is none.
	MemoryLimit, WriteMode string
	PoolMax                int
	StatementTimeout       time.Duration
}

// DLQ is where dead letters go; both are left.
type DLQ struct {
	Dir      string
	MaxBytes int64
}

// Log is what is logged, and how.
type Log struct{ Level, Format string }

// Coordinator are settings of queues, all left.
type Coordinator struct {
	Capacity            int
	CapacityBytes       int64
	Workers             int
	BatchSize, BatchMax int
	FlushInterval       time.Duration
}

// Retry is how often a write is made again, all left.
type Retry struct {
	MaxAttempts                int
	InitialBackoff, MaxBackoff time.Duration
	BackoffMultiplier          float64
	NoJitter                   bool
}

// Circuit is when a store counts as not well, all left.
type Circuit struct {
	FailureThreshold int
	HalfOpenAfter    time.Duration
}

// Serve is how a store is served.
type Serve struct {
	Listen          string
	AdminListen     string // on loopback; "" is none
	AuditLog        string // a file; "" is the log
	OperatorTenant  string // whose keys look after all tenants; "" is none's
	TLSCert, TLSKey string // files; "" serves without TLS
	DrainTimeout    time.Duration

	HeaderTimeout, IdleTimeout, CommitTimeout, QueryTimeout, WriteTimeout time.Duration

	MaxIngests, MaxQueries, MaxStreams int
	MaxHeaderBytes                     int64
	MaxBodyBytes                       int64 // 0 is any
	BodyMemory                         int64
	// CORSOrigins are the origins whose pages may use the server, or "*".
	CORSOrigins []string
}

// Rates are what a tenant may send at most, a second; 0 is no limit.
type Rates struct {
	Records, Requests float64
	// RecordsOf and RequestsOf are those of single tenants, by slug.
	RecordsOf, RequestsOf map[string]float64
}

// Feedback is where the feedback of each kind is posted; the URL is "" for nowhere.
type Feedback struct {
	WebhookURL, WebhookSecret      string
	WebhookTimeout, WebhookBackoff time.Duration
	WebhookMaxRetries              int
}

// SQL is what statements of people may take, and as whom they are run.
type SQL struct {
	Timeout time.Duration
	MaxRows int
	// Logins are the DSNs of tenants' own logins, by slug; left.
	Logins map[string]string
}

// Jobs is what jobs may do, and how many at once.
type Jobs struct {
	// Concurrency is how many are run at once, 0 for none.
	Concurrency int
	// Lease is after how long without a word of a server its jobs are taken over.
	Lease time.Duration
	// PoliciesEvery is how often policies are carried out; left.
	PoliciesEvery time.Duration
	// Dir is the folder whose files backfills may read, and Exports the one that exports are
	// written below; "" is none. Rejects is left.
	Dir, Exports, Rejects string
	// Hosts may be asked by backfills. HeadersDir has a file for some, with what they are
	// asked with; "" is none.
	Hosts      []string
	HeadersDir string
}

// Environment are the variables of the process that are settings, and not empty.
func Environment() map[string]string {
	env := make(map[string]string)
	for _, pair := range os.Environ() {
		if name, text, _ := strings.Cut(pair, "="); strings.HasPrefix(name, "MDS_") && text != "" {
			env[name] = text
		}
	}
	return env
}

// Systemd is what systemd says in the environment of what it wants to be told: NOTIFY_SOCKET,
// WATCHDOG_USEC and WATCHDOG_PID; "" where they are not set.
func Systemd() (socket, watchdogUSec, watchdogPID string) {
	return os.Getenv("NOTIFY_SOCKET"), os.Getenv("WATCHDOG_USEC"), os.Getenv("WATCHDOG_PID")
}

// DataDir is where a user's store lies unless a DSN names another place: mds
// in the user's data directory ($XDG_DATA_HOME, which defaults to
// ~/.local/share, as the XDG Base Directory Specification 0.8 says; on macOS
// ~/Library/Application Support; on Windows %LocalAppData%).
func DataDir() (string, error) {
	switch runtime.GOOS {
	case "darwin":
		dir, err := os.UserConfigDir()
		return filepath.Join(dir, "mds"), err
	case "windows":
		dir, err := os.UserCacheDir()
		return filepath.Join(dir, "mds"), err
	}
	if dir := os.Getenv("XDG_DATA_HOME"); filepath.IsAbs(dir) {
		return filepath.Join(dir, "mds"), nil
	}
	home, err := os.UserHomeDir()
	return filepath.Join(home, ".local", "share", "mds"), err
}
