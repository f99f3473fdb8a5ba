package pgtest

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

var errNoPooler = fmt.Errorf("PgBouncer is not installed; `make test` installs it: %w", errNotInstalled)

// poolerGuard runs PgBouncer until its standard input ends, as it does with the process.
const poolerGuard = `
cd "$DIR"
"$BIN" pgbouncer.ini >log 2>&1 &
server=$!
trap '' PIPE
echo started
read -r end
kill -INT $server
wait $server
rm -rf "$DIR"
`

// Pooler starts a PgBouncer that lends each database's connections to the cluster for a
// transaction, and returns its address. It lets logins in that the cluster has.
func (c *Cluster) Pooler(t testing.TB, connections int, logins ...string) (addr string) {
	t.Helper()
	bin, err := exec.LookPath("pgbouncer")
	if err != nil {
		bin, err = exec.LookPath("/usr/sbin/pgbouncer")
	}
	if err != nil {
		must(t, errNoPooler)
	}
	addr, err = c.startPooler(t, bin, connections, logins)
	must(t, err)
	return addr
}

func (c *Cluster) startPooler(t testing.TB, bin string, connections int, logins []string) (addr string, err error) {
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return "", err
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	port, err := freePort()
	if err != nil {
		return "", err
	}
	var users strings.Builder
	for _, login := range append([]string{superuser, owner, service}, logins...) {
		fmt.Fprintf(&users, "%q %q\n", login, c.password)
	}
	config := fmt.Sprintf(`[databases]
* = host=127.0.0.1 port=%d
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = scram-sha-256
auth_file = users
pool_mode = transaction
default_pool_size = %d
max_client_conn = 500
`, c.port, port, connections)
	for name, text := range map[string]string{"pgbouncer.ini": config, "users": users.String()} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil { //nolint:gosec // the folder is the user's
			return "", err
		}
	}
	cmd := exec.Command("/bin/sh", "-c", poolerGuard)
	cmd.Env = append(os.Environ(), "DIR="+dir, "BIN="+bin)
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 { // PgBouncer refuses to run as root
		if err := drop(cmd.SysProcAttr, dir); err != nil {
			return "", err
		}
	}
	stdin, err := cmd.StdinPipe()
	if err != nil {
		return "", err
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		return "", err
	}
	if err := cmd.Start(); err != nil {
		return "", err
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // whatever it says, it is gone
	})
	if line, err := bufio.NewReader(stdout).ReadString('\n'); err != nil || line != "started\n" {
		return "", errors.Join(fmt.Errorf("PgBouncer did not start: %q", line), err)
	}
	addr = "127.0.0.1:" + strconv.Itoa(port)
	again, limit := time.NewTicker(10*time.Millisecond), time.After(30*time.Second)
	defer again.Stop()
	for waits := true; waits; { // it listens in a moment, on a busy machine in several
		var conn net.Conn
		if conn, err = net.Dial("tcp", addr); err == nil {
			return addr, conn.Close()
		}
		select {
		case <-again.C:
			waits = cmd.Process.Signal(syscall.Signal(0)) == nil
		case <-limit:
			waits = false
		}
	}
	log, _ := os.ReadFile(filepath.Join(dir, "log")) //nolint:gosec // the folder is of our making
	return "", fmt.Errorf("PgBouncer does not listen: %w: %s", err, log)
}
