package store_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/storetest"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.Stop()
		os.Exit(code)
	}))
}

func TestDuckDB(t *testing.T) {
	storetest.Run(t, func(t testing.TB) string {
		return "duckdb://" + filepath.Join(t.TempDir(), "store")
	})
}

func TestDuckDBRollups(t *testing.T) {
	storetest.RunRollups(t, func(t testing.TB) (dsn, owner string) {
		return "duckdb://" + filepath.Join(t.TempDir(), "store"), ""
	})
}

func TestDuckDBKeys(t *testing.T) {
	storetest.RunKeys(t, func(t testing.TB) (dsn, owner string) {
		dsn = "duckdb://" + filepath.Join(t.TempDir(), "store")
		return dsn, dsn
	})
}

func TestDuckDBJobs(t *testing.T) {
	storetest.RunJobs(t, func(t testing.TB) string { return "duckdb://" + filepath.Join(t.TempDir(), "store") })
}

func TestOpenRefusesUnknownSchemes(t *testing.T) {
	for _, dsn := range []string{"", "store", "sqlite://x", "mysql://user:secret@host/db"} {
		_, err := store.Open(context.Background(), dsn, store.Config{})
		if err == nil || !strings.Contains(err.Error(), "duckdb://DIR") {
			t.Errorf("%q: %v", dsn, err)
		}
		if err != nil && strings.Contains(err.Error(), "secret") {
			t.Errorf("%q: the message shows the password: %v", dsn, err)
		}
	}
}
