package feedback_test

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// TestWithoutCgo: producers import the package without a C compiler, and without a database.
func TestWithoutCgo(t *testing.T) {
	for _, command := range []string{"go list -deps .", "go build ."} {
		args := strings.Fields(command)
		cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
		out, err := cmd.CombinedOutput()
		if err != nil {
			t.Fatalf("%s: %v: %s", command, err, out)
		}
		for _, not := range []string{"duckdb", "pgx", "runtime/cgo", "marketdatastore/mds/store", "marketdatastore/mds/ingest"} {
			if strings.Contains(string(out), not) {
				t.Errorf("%s: there is %s", command, not)
			}
		}
	}
}
