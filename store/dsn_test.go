//go:build dsn

package store_test

import (
	"os"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/store/storetest"
)

// TestDSN runs the conformance suite against a store of one's own: make
// test-dsn DSN=… sets the variable. It works in folders of its own inside the
// store's, and removes them.
func TestDSN(t *testing.T) {
	dsn := os.Getenv("MDS_TEST_DSN")
	if dsn == "" {
		t.Fatal("MDS_TEST_DSN is not set; run make test-dsn DSN=duckdb://DIR")
	}
	dir, ok := strings.CutPrefix(dsn, "duckdb://")
	if !ok || dir == "" {
		t.Fatal("the suite needs an empty store for each test: write duckdb://DIR; on PostgreSQL it has servers of its own, in go test ./store/postgres")
	}
	if err := os.MkdirAll(dir, 0o750); err != nil {
		t.Fatal(err)
	}
	storetest.Run(t, func(t testing.TB) string {
		own, err := os.MkdirTemp(dir, "conformance-")
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := os.RemoveAll(own); err != nil {
				t.Error(err)
			}
		})
		return "duckdb://" + own
	})
}
