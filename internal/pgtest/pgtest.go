// Package pgtest runs a PostgreSQL server for the tests of a process: a cluster of its
// own in a temporary folder, which is gone afterwards however the process ends.
package pgtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
)

// superuser is the login that the cluster is made with.
const superuser = "admin"

// Cluster is a running server.
type Cluster struct {
	port  int
	alive io.Closer // the guard ends the server when it is closed
}

var (
	once    sync.Once
	running *Cluster
	failure error
)

// Start returns the process's cluster, which the first call starts. Where there is no
// PostgreSQL the test is skipped, in CI it fails.
func Start(t testing.TB) *Cluster {
	t.Helper()
	once.Do(func() { running, failure = start() })
	if failure == nil {
		return running
	}
	if os.Getenv("CI") == "" && errors.Is(failure, errNotInstalled) {
		t.Skip(failure)
	}
	t.Fatal(failure)
	return nil
}

// Stop ends the cluster, if there is one, and removes it. It is for TestMain.
func Stop() {
	if running != nil {
		_ = running.alive.Close()
	}
}

var errNotInstalled = errors.New("PostgreSQL is not installed; `make test` installs it")

// binaries finds the folder of the server's programs, the newest where there are
// several.
func binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		return filepath.Dir(path), nil
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb") // a valid pattern
	if len(found) == 0 {
		return "", errNotInstalled
	}
	version := func(path string) int {
		n, _ := strconv.Atoi(filepath.Base(filepath.Dir(filepath.Dir(path)))) // 0 is last
		return n
	}
	newest := slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) })
	return filepath.Dir(newest), nil
}

// guard makes a cluster, starts it, says "ready", and ends and removes it when its
// standard input ends, as it does with the process.
const guard = `
set -eu
cd "$DIR"
"$BIN"/initdb -D data -U admin --auth=trust --encoding=UTF8 --locale=C.UTF-8 --no-sync >log 2>&1 || { cat log; rm -rf "$DIR"; exit 1; }
cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = ''
fsync = off
max_connections = 200
END
"$BIN"/pg_ctl -D data -l log -w start >/dev/null 2>&1 || { cat log; rm -rf "$DIR"; exit 1; }
echo ready
cat >/dev/null || true
"$BIN"/pg_ctl -D data -m immediate -w stop >/dev/null 2>&1 || true
rm -rf "$DIR"
`

func start() (*Cluster, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	cmd := exec.Command("/bin/sh", "-c", guard)
	cmd.Env = append(os.Environ(), "DIR="+dir, "BIN="+bin, "PORT="+strconv.Itoa(port))
	// A group of its own: what interrupts the tests must leave it to clean up.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 { // PostgreSQL refuses to run as root
		if err := drop(cmd.SysProcAttr, dir); err != nil {
			return nil, err
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	said := make([]byte, 4096)
	n, err := stdout.Read(said)
	if !bytes.HasPrefix(said, []byte("ready")) {
		rest, _ := io.ReadAll(stdout)
		return nil, fmt.Errorf("PostgreSQL did not start: %s%s (%w)", said[:n], rest, errors.Join(err, cmd.Wait()))
	}
	return &Cluster{port: port, alive: closer(func() error {
		_ = stdin.Close()
		return cmd.Wait()
	})}, nil
}

type closer func() error

func (c closer) Close() error { return c() }

// drop has a command run as the user "postgres", or else "nobody".
func drop(attr *syscall.SysProcAttr, dir string) error {
	u, err := user.Lookup("postgres")
	if err != nil {
		u, err = user.Lookup("nobody")
	}
	if err != nil {
		return err
	}
	uid, err1 := strconv.ParseUint(u.Uid, 10, 32)
	gid, err2 := strconv.ParseUint(u.Gid, 10, 32)
	if err := errors.Join(err1, err2); err != nil {
		return err
	}
	attr.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return os.Chown(dir, int(uid), int(gid))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// DSN names a database of the cluster, for a login.
func (c *Cluster) DSN(login, database string) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/%s?sslmode=disable", login, c.port, strings.ToLower(database))
}
