// Package pgtest runs PostgreSQL servers for the tests of a process: clusters of its own
// in temporary folders, which are gone afterwards however the process ends.
package pgtest

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
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

	"github.com/jackc/pgx/v5"
)

// superuser is the login that a cluster is made with.
const superuser = "admin"

// Cluster is a server.
type Cluster struct {
	dir      string
	port     int
	password string // of every login
	guard    *exec.Cmd
	commands *os.File // what the guard is told
	answers  *bufio.Reader
}

var (
	once    sync.Once
	running *Cluster
	failure error
)

// Start returns the process's cluster, which the first call starts. Where there is no
// PostgreSQL the test is skipped, in CI it fails. It does not wait for the disk.
func Start(t testing.TB) *Cluster {
	t.Helper()
	once.Do(func() { running, failure = start("", "fsync = off") })
	must(t, failure)
	return running
}

// Own starts a cluster of the test's own, which waits for the disk, with lines of
// configuration.
func Own(t testing.TB, settings ...string) *Cluster {
	t.Helper()
	c, err := start("", settings...)
	must(t, err)
	t.Cleanup(c.stop)
	return c
}

// OnSmallDisk starts a cluster of the test's own that has a tablespace on a disk of some
// MB, half of which a file takes until FreeDisk. Where the system allows no namespaces
// the test is skipped, in CI it fails.
func OnSmallDisk(t testing.TB, megabytes int) *Cluster {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), "unshare", "-rm", "unshare", "-U", "--map-user=1000", "true").CombinedOutput(); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("unshare: %v: %s", err, out)
		}
		t.Skipf("this system allows no namespaces (unshare: %v: %s); CI does", err, out)
	}
	c, err := start(strconv.Itoa(megabytes))
	must(t, err)
	t.Cleanup(c.stop)
	Exec(t, c.DSN(superuser, "postgres"), "CREATE TABLESPACE small LOCATION '"+c.dir+"/small/space'")
	return c
}

func must(t testing.TB, err error) {
	t.Helper()
	if err == nil {
		return
	}
	if os.Getenv("CI") == "" && errors.Is(err, errNotInstalled) {
		t.Skip(err)
	}
	t.Fatal(err)
}

// Stop ends the process's cluster, if there is one, and removes it. It is for TestMain.
func Stop() {
	if running != nil {
		running.stop()
	}
}

var errNotInstalled = errors.New("PostgreSQL is not installed; `make test` installs it")

// Binaries finds the folder of the server's programs, the newest where there are several.
func Binaries() (string, error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		path, err = filepath.EvalSymlinks(path)
		return filepath.Dir(path), err
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

// guard makes a cluster and starts it, does what it is told, a line each, and ends and
// removes the cluster when its standard input ends, as it does with the process.
const guard = `
set -eu
cd "$DIR"
gone() {
	trap '' EXIT TERM INT HUP
	[ -z "$server" ] || { kill -QUIT $server && wait $server; } 2>/dev/null || true
	rm -rf "$DIR"
	exit
}
server=
# The server's processes: those of connections outlive it for a moment, and answer.
backends() {
	for stat in /proc/[0-9]*/stat; do
		if read -r pid _ _ parent _ 2>/dev/null <$stat && [ "$parent" = $server ]; then
			echo $pid
		fi
	done
}
runs() { read -r _ _ state _ 2>/dev/null </proc/$1/stat && [ $state != Z ]; }
# What a killed server leaves behind is in the way for a moment.
start() {
	for try in 1 2 3 4 5 6 7 8 9 10; do
		"$BIN"/postgres -D data >>log 2>&1 &
		server=$!
		while kill -0 $server 2>/dev/null; do
			if [ "$(head -1 data/postmaster.pid 2>/dev/null)" = $server ] && grep -q "^ready" data/postmaster.pid; then
				echo ready || exit
				return
			fi
			sleep 0.05
		done
		wait $server || server=
		sleep 0.2
	done
	tail -n 3 log | tr '\n' ' '
	echo
}
trap gone EXIT
trap 'exit 1' TERM INT HUP
trap '' PIPE
echo "$PGPASSWORD" >password
if [ -n "$PRIMARY" ]; then
	"$BIN"/pg_basebackup -h 127.0.0.1 -p "$PRIMARY" -U admin -D data -R -c fast >log 2>&1 || { tr '\n' ' ' <log; echo; exit 1; }
else
"$BIN"/initdb -D data -U admin --auth=scram-sha-256 --pwfile=password --encoding=UTF8 --locale=C.UTF-8 --no-sync >log 2>&1 || { tr '\n' ' ' <log; echo; exit 1; }
fi
cat >>data/postgresql.conf <<END
listen_addresses = '127.0.0.1'
port = $PORT
unix_socket_directories = ''
max_connections = 200
$SETTINGS
END
if [ -n "$SMALL" ]; then
	mkdir small/space
	head -c "$((SMALL / 2))m" /dev/zero >small/filler
fi
start
while read -r what; do
	case $what in
	start) start ;;
	kill)
		all=$(backends)
		kill -9 $server $all 2>/dev/null || true
		wait $server || server=
		for pid in $all; do
			while runs $pid; do sleep 0.01; done
		done
		echo killed
		;;
	promote) "$BIN"/pg_ctl -D data -w promote >/dev/null 2>&1 && echo promoted ;;
	free) rm small/filler && echo freed ;;
	esac
done
gone
`

// small runs the guard where a small disk is mounted, and where it is not root.
const small = `
mkdir "$DIR/small"
mount -t tmpfs -o "size=${SMALL}m" tmpfs "$DIR/small"
exec unshare -U --map-user=1000 --map-group=1000 /bin/sh -c "$GUARD"
`

// start starts a cluster; where a number of megabytes is given, with a small disk.
func start(megabytes string, settings ...string) (c *Cluster, err error) {
	return startLike(nil, megabytes, settings...)
}

func startLike(primary *Cluster, megabytes string, settings ...string) (c *Cluster, err error) {
	bin, err := Binaries()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest-")
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	c = &Cluster{dir: dir, port: port, password: rand.Text()}
	if Timescale() { // whose workers would keep databases from being copied
		settings = append(settings, "shared_preload_libraries = 'timescaledb'", "timescaledb.max_background_workers = 0", "timescaledb.telemetry_level = off")
	}
	follows := ""
	if primary != nil {
		c.password, follows = primary.password, strconv.Itoa(primary.port)
	}
	c.guard = exec.Command("/bin/sh", "-c", guard)
	if megabytes != "" {
		c.guard = exec.Command("unshare", "-rm", "/bin/sh", "-euc", small)
	}
	c.guard.Env = append(os.Environ(), "DIR="+dir, "BIN="+bin, "PORT="+strconv.Itoa(port), "PGPASSWORD="+c.password, "SETTINGS="+strings.Join(settings, "\n"), "SMALL="+megabytes, "PRIMARY="+follows, "GUARD="+guard)
	// A group of its own: what interrupts the tests must leave it to clean up.
	c.guard.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if os.Getuid() == 0 && megabytes == "" { // PostgreSQL refuses to run as root
		if err := drop(c.guard.SysProcAttr, dir); err != nil {
			return nil, err
		}
	}
	commands, told, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	defer commands.Close() // the guard's end
	answers, err := c.guard.StdoutPipe()
	if err != nil {
		return nil, err
	}
	c.guard.Stdin, c.commands, c.answers = commands, told, bufio.NewReader(answers)
	if err := c.guard.Start(); err != nil {
		return nil, errors.Join(err, told.Close())
	}
	if err := c.expect("ready"); err != nil {
		return nil, errors.Join(fmt.Errorf("PostgreSQL did not start: %w", err), told.Close(), c.guard.Wait())
	}
	if Timescale() && primary == nil {
		if err := c.extend(); err != nil {
			c.stop()
			return nil, err
		}
	}
	return c, nil
}

// Timescale reports that the tests are to run on servers with TimescaleDB, in all their
// databases: that is asked for with MDS_TEST_TIMESCALEDB, where the server's programs that
// PATH leads to have it.
func Timescale() bool { return os.Getenv("MDS_TEST_TIMESCALEDB") != "" }

// extend has all databases that are made have TimescaleDB.
func (c *Cluster) extend() error {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, c.DSN(superuser, "template1"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	_, err = conn.Exec(ctx, "CREATE EXTENSION IF NOT EXISTS timescaledb")
	return err
}

func (c *Cluster) expect(answer string) error {
	line, err := c.answers.ReadString('\n')
	if line = strings.TrimSpace(line); line != answer {
		return errors.Join(errors.New(line), err)
	}
	return nil
}

// stop ends and removes the cluster.
func (c *Cluster) stop() {
	_ = c.commands.Close()
	_ = c.guard.Wait() // whatever it says, it is gone
	_ = os.RemoveAll(c.dir)
}

func (c *Cluster) tell(t testing.TB, what, answer string) {
	t.Helper()
	if _, err := c.commands.WriteString(what + "\n"); err != nil {
		t.Fatal(err)
	}
	if err := c.expect(answer); err != nil {
		t.Fatalf("%s: %v", what, err)
	}
}

// Standby starts a server that follows this one, with all its databases.
func (c *Cluster) Standby(t testing.TB) *Cluster {
	t.Helper()
	s, err := startLike(c, "")
	must(t, err)
	t.Cleanup(s.stop)
	return s
}

// Promote has a standby take writes.
func (c *Cluster) Promote(t testing.TB) { t.Helper(); c.tell(t, "promote", "promoted") }

// Kill ends the server with kill -9, with the processes of its connections.
func (c *Cluster) Kill(t testing.TB) { t.Helper(); c.tell(t, "kill", "killed") }

// Restart starts the server after Kill.
func (c *Cluster) Restart(t testing.TB) { t.Helper(); c.tell(t, "start", "ready") }

// FreeDisk removes the file that takes half of a small disk.
func (c *Cluster) FreeDisk(t testing.TB) { t.Helper(); c.tell(t, "free", "freed") }

// Log is what the server has logged.
func (c *Cluster) Log(t testing.TB) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(c.dir, "log"))
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// Addr is where the server listens.
func (c *Cluster) Addr() string { return "127.0.0.1:" + strconv.Itoa(c.port) }

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
	return fmt.Sprintf("postgres://%s:%s@%s/%s?sslmode=disable", login, c.password, c.Addr(), strings.ToLower(database))
}
