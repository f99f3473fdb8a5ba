package client_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWithoutCgo: programs import the client without a C compiler, and without an engine.
func TestWithoutCgo(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", ".")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, not := range []string{"duckdb", "pgx", "runtime/cgo", "marketdatastore/mds/store", "huma"} {
		if strings.Contains(string(out), not) {
			t.Errorf("there is %s", not)
		}
	}
}
