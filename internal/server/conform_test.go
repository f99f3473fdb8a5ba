package server_test

import (
	"testing"

	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store/storetest"
)

// TestConformance holds a served store to what is promised of stores.
func TestConformance(t *testing.T) {
	storetest.RunServed(t, func(t testing.TB) string {
		return serve(t, "duckdb://"+t.TempDir(), server.Config{}).url
	})
}
