// Package config reads the process's environment. No other package does.
package config

import (
	"os"
	"path/filepath"
	"runtime"
)

// Env are the settings that come from the environment; flags override them.
type Env struct {
	// DSN is MDS_DSN; "" where it is not set.
	DSN string
	// AdminDSN is MDS_ADMIN_DSN, that of the owner of a PostgreSQL database, who
	// migrates it; "" where it is not set.
	AdminDSN string
	// Tenant is MDS_TENANT_ID, a slug or a UUID; "" where it is not set.
	Tenant string
	// Server is MDS_SERVER, the URL of a server, in the place of a DSN; "" where it is not
	// set.
	Server string
	// APIKey is MDS_API_KEY, the key for the server; "" where it is not set.
	APIKey string
	// MemoryLimit is MDS_MEMORY_LIMIT, an embedded database's memory, such as 2GB; ""
	// where it is not set.
	MemoryLimit string
	// WriteMode is MDS_WRITE_MODE, how batches are written; "" where it is not set.
	WriteMode string
	// PoolMax is MDS_POOL_MAX, the most connections to a server; "" where it is not set.
	PoolMax string
	// StatementTimeout is MDS_STATEMENT_TIMEOUT, such as 30s; "" where it is not set.
	StatementTimeout string
	// DLQDir is MDS_DLQ_DIR, the folder of the dead letters; "" where it is not set.
	DLQDir string
	// DLQMaxBytes is MDS_DLQ_MAX_BYTES, what the dead letters take at most, such as 1GiB; ""
	// where it is not set.
	DLQMaxBytes string
	// Coordinator are the MDS_COORDINATOR_…, MDS_RETRY_… and MDS_CB_… that are set, by
	// their names.
	Coordinator map[string]string
	// LogLevel is MDS_LOG_LEVEL. Defaults to "warn".
	LogLevel string
	// LogFormat is MDS_LOG_FORMAT, text or json. Defaults to "text".
	LogFormat string
}

// coordinatorNames are the settings of coordinators.
var coordinatorNames = []string{
	"MDS_COORDINATOR_CAPACITY", "MDS_COORDINATOR_CAPACITY_BYTES", "MDS_COORDINATOR_WORKERS", "MDS_COORDINATOR_BATCH_SIZE",
	"MDS_COORDINATOR_BATCH_MAX", "MDS_COORDINATOR_FLUSH_INTERVAL", "MDS_RETRY_MAX_ATTEMPTS", "MDS_RETRY_INITIAL_BACKOFF",
	"MDS_RETRY_MAX_BACKOFF", "MDS_RETRY_BACKOFF_MULTIPLIER", "MDS_RETRY_JITTER", "MDS_CB_FAILURE_THRESHOLD", "MDS_CB_HALF_OPEN_AFTER",
}

// FromEnvironment reads the environment.
func FromEnvironment() Env {
	coordinator := make(map[string]string)
	for _, name := range coordinatorNames {
		if value := os.Getenv(name); value != "" {
			coordinator[name] = value
		}
	}
	return Env{
		DSN:              os.Getenv("MDS_DSN"),
		AdminDSN:         os.Getenv("MDS_ADMIN_DSN"),
		Server:           os.Getenv("MDS_SERVER"),
		APIKey:           os.Getenv("MDS_API_KEY"),
		Tenant:           os.Getenv("MDS_TENANT_ID"),
		MemoryLimit:      os.Getenv("MDS_MEMORY_LIMIT"),
		WriteMode:        os.Getenv("MDS_WRITE_MODE"),
		PoolMax:          os.Getenv("MDS_POOL_MAX"),
		StatementTimeout: os.Getenv("MDS_STATEMENT_TIMEOUT"),
		DLQDir:           os.Getenv("MDS_DLQ_DIR"),
		DLQMaxBytes:      os.Getenv("MDS_DLQ_MAX_BYTES"),
		Coordinator:      coordinator,
		LogLevel:         or(os.Getenv("MDS_LOG_LEVEL"), "warn"),
		LogFormat:        or(os.Getenv("MDS_LOG_FORMAT"), "text"),
	}
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

func or(value, fallback string) string {
	if value == "" {
		return fallback
	}
	return value
}
