// Package realdata finds the real market data that tests are run on. It is not
// part of the repository: licences differ.
package realdata

import (
	"os"
	"path/filepath"
	"testing"
)

// Dir returns the folder of real data, which lies beside the repository. Where
// it is absent the test is skipped, or fails in CI, which has it.
func Dir(t testing.TB) string {
	t.Helper()
	dir, err := os.Getwd()
	if err != nil {
		t.Fatal(err)
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			break
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			t.Fatal("the test does not run inside the module")
		}
		dir = parent
	}
	data := filepath.Join(filepath.Dir(dir), "shared", "data")
	if _, err := os.Stat(data); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("no real data: %v", err)
		}
		t.Skipf("no real data in %s; this test runs in CI", data)
	}
	return data
}
