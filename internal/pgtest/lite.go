package pgtest

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// Lite starts a PostgreSQL 17 with TimescaleDB in WebAssembly, with one database: there is
// no such server in Debian. It has one backend, which its connections take turns with: one
// that is in a transaction keeps the others waiting. Nothing waits for locks there, no
// statement is interrupted, and any password is right.
//
// Where Node.js or what it needs is not installed the test is skipped, in CI it fails.
func Lite(t testing.TB) Database {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	dir := filepath.Join(filepath.Dir(here), "lite")
	_, err := exec.LookPath("node")
	if err == nil {
		_, err = os.Stat(filepath.Join(dir, "node_modules"))
	}
	if err != nil {
		must(t, fmt.Errorf("%w: TimescaleDB in WebAssembly needs Node.js: %w", errNotInstalled, err))
	}
	port, err := freePort()
	must(t, err)
	address := fmt.Sprintf("127.0.0.1:%d", port)
	server := exec.Command("node", "--liftoff-only", filepath.Join(dir, "serve.mjs"), address) //nolint:gosec // the port is ours
	server.Stderr = os.Stderr
	alive, err := server.StdinPipe() // it ends with this process
	must(t, err)
	out, err := server.StdoutPipe()
	must(t, err)
	must(t, server.Start())
	t.Cleanup(func() {
		_ = alive.Close()
		_ = server.Wait() // whatever it says, it is gone
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); strings.TrimSpace(line) != "ready" {
		t.Fatalf("it did not start: %q, %v", line, err)
	}
	dsn := func(login string) string {
		return fmt.Sprintf("postgres://%s:any@%s/template1?sslmode=disable", login, address)
	}
	d := Database{Admin: dsn("postgres"), Owner: dsn(owner), Service: dsn(service), Name: "template1"}
	Exec(t, d.Admin, "CREATE ROLE "+owner+" LOGIN", "CREATE ROLE "+service+" LOGIN", "ALTER DATABASE template1 OWNER TO "+owner)
	return d
}
