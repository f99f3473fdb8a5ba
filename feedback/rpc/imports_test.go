package rpc

import (
	"os"
	"os/exec"
	"strings"
	"testing"
)

// Those who use records, a coordinator or feedback in one process do not pay for gRPC.
func TestStaysOut(t *testing.T) {
	for _, pkg := range []string{".", "./ingest", "./feedback"} {
		cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", pkg)
		cmd.Dir = "../.."
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(string(out)) {
			if strings.HasPrefix(line, "connectrpc.com/") || strings.HasPrefix(line, "github.com/marketdatastore/mds/feedback/rpc") {
				t.Errorf("%s depends on %s", pkg, line)
			}
		}
	}
}

func TestWithoutC(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "go", "build", "./feedback/...")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
}
