// Package mountns runs test scripts in a Linux mount namespace of their own,
// where a file system can be made small or read-only without being root.
package mountns

import (
	"os"
	"os/exec"
	"testing"
)

// Command prepares a shell script. $DIR is an empty folder of the test's own,
// to mount on. Where the system allows no namespaces the test is skipped, or
// fails in CI, which does.
func Command(t testing.TB, script string) *exec.Cmd {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", "-rm", "true").CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("unshare: %v: %s", err, out)
		}
		t.Skipf("this system allows no mount namespaces (unshare: %v: %s); CI does", err, out)
	}
	cmd := exec.CommandContext(t.Context(), "unshare", "-rm", "sh", "-euc", script) //nolint:gosec // a test's own script
	cmd.Env = append(os.Environ(), "DIR="+t.TempDir())
	return cmd
}
