package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/demo"
	"github.com/marketdatastore/mds/internal/mountns"
	"github.com/marketdatastore/mds/store"
)

// program prepares a run of the program in a process of its own.
func (c *cli) program(args ...string) *exec.Cmd {
	c.t.Helper()
	self := c.binary
	if self == "" {
		var err error
		if self, err = os.Executable(); err != nil {
			c.t.Fatal(err)
		}
	}
	cmd := exec.Command(self, args...)
	home := c.t.TempDir()
	cmd.Env = append(os.Environ(), asProgram+"=1", "MDS_DSN="+c.dsn, "MDS_TENANT_ID=", "HOME="+home, "XDG_DATA_HOME="+home)
	for name, value := range c.env {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	return cmd
}

// exitOf runs a command and returns its output and exit status.
func exitOf(t *testing.T, cmd *exec.Cmd) (stdout, stderr string, exit int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	err := cmd.Run()
	var exitErr *exec.ExitError
	if err != nil && !errors.As(err, &exitErr) {
		t.Fatal(err)
	}
	return out.String(), errs.String(), cmd.ProcessState.ExitCode()
}

// syntheticCSV is a file of bars of the demo's week, in order of time.
func syntheticCSV(t *testing.T, rows int) []byte {
	t.Helper()
	var b bytes.Buffer
	encoder, err := codec.NewEncoder[mds.Bar](&b, codec.FormatCSV)
	if err != nil {
		t.Fatal(err)
	}
	for bar := range demo.Week() {
		if rows--; rows < 0 {
			break
		}
		if err := encoder.Encode(&bar); err != nil {
			t.Fatal(err)
		}
	}
	if err := encoder.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// storedCloses reads the store as a check would: in this process, after the
// program has gone. It fails on a key that is there twice.
func (c *cli) storedCloses() []float64 {
	c.t.Helper()
	st, err := store.Open(context.Background(), c.dsn, store.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	defer st.Close()
	var closes []float64
	seen := make(map[string]bool)
	for bar, err := range store.Bars(st).Query(context.Background(), mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			c.t.Fatal(err)
		}
		key := fmt.Sprint(bar.Vendor, bar.Symbol, bar.Timeframe, bar.TS)
		if seen[key] {
			c.t.Fatalf("%s is stored twice", key)
		}
		seen[key] = true
		closes = append(closes, bar.Close)
	}
	return closes
}

// killMidway feeds a file to ingests that are killed in the middle, ten times
// over, and then to one that is not. The file's rows are in order of time.
func killMidway(t *testing.T, file []byte, flags ...string) *cli {
	const batch = 1000
	lines := bytes.SplitAfter(file, []byte("\n"))
	header, lines := lines[0], lines[1:]
	if len(lines[len(lines)-1]) == 0 {
		lines = lines[:len(lines)-1]
	}
	c := newCLI(t)
	random := rand.New(rand.NewPCG(7, 7))
	args := append([]string{"ingest", "bars", "-", "--batch-size", strconv.Itoa(batch), "--flush-interval", "1h"}, flags...)
	stored := 0
	for kill := range 10 {
		cmd := c.program(args...)
		stdin, err := cmd.StdinPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// The pipe holds a few hundred rows: when these are through, the
		// program has read all but those, and is writing.
		sent := len(lines)*(kill+1)/11 + random.IntN(batch)
		if _, err := stdin.Write(append(bytes.Clone(header), bytes.Join(lines[:sent], nil)...)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		closes := c.storedCloses()
		if len(closes)%batch != 0 || len(closes) < stored || len(closes) > sent {
			t.Fatalf("kill %d after %d rows: %d bars are stored, before it %d; want whole batches", kill, sent, len(closes), stored)
		}
		stored = len(closes)
	}
	if stored == 0 {
		t.Fatal("no kill came after a batch: the test shows nothing")
	}
	last := c.program(args...)
	last.Stdin = bytes.NewReader(file)
	stdout, stderr, exit := exitOf(t, last)
	ledger := outcome{t: t, stdout: stdout, stderr: stderr}.ledger()
	if exit != exitDone || ledger.Written != int64(len(lines)-stored) || ledger.Unchanged != int64(stored) {
		t.Errorf("the rerun: exit %d, %+v; want %d unchanged and the rest of %d written\n%s", exit, ledger, stored, len(lines), stderr)
	}
	if n := len(c.storedCloses()); n != len(lines) {
		t.Errorf("%d bars are stored, want %d", n, len(lines))
	}
	return c
}

func TestKillMidway(t *testing.T) {
	killMidway(t, syntheticCSV(t, 30_000))
}

func TestInterrupt(t *testing.T) {
	c := newCLI(t)
	file := syntheticCSV(t, 20_000)
	cmd := c.program("ingest", "bars", "-", "--batch-size", "3000")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The input stays open: the program waits for more when the signal comes.
	if _, err := stdin.Write(file[:len(file)/2]); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait() // its status is looked at below
	ledger := outcome{t: t, stdout: stdout.String(), stderr: stderr.String()}.ledger()
	stored := len(c.storedCloses())
	if cmd.ProcessState.ExitCode() != exitFailed || ledger.Written != int64(stored) || ledger.Accepted() != ledger.Written || stored == 0 {
		t.Errorf("exit %d, ledger %+v, %d bars stored", cmd.ProcessState.ExitCode(), ledger, stored)
	}
	if want := "run the same command again to load the rest"; !strings.Contains(stderr.String(), want) {
		t.Errorf("no %q in\n%s", want, stderr.String())
	}
	c.stdin = bytes.NewReader(file)
	if again := c.must("ingest", "bars", "-").ledger(); again.Unchanged != int64(stored) || again.Written != 20_000-int64(stored) {
		t.Errorf("the rerun: %+v, %d were stored", again, stored)
	}
}

// TestOneProcessOwnsTheFile has an ingest wait for input while others come.
func TestOneProcessOwnsTheFile(t *testing.T) {
	c := newCLI(t)
	owner := c.program("ingest", "bars", "-", "--batch-size", "100")
	stdin, err := owner.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := owner.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		t.Fatal(err)
	}
	// It says where the store is once it has opened it.
	output := bufio.NewReader(stderr)
	if line, err := output.ReadString('\n'); err != nil || !strings.HasPrefix(line, "store: ") {
		t.Fatalf("%q, %v", line, err)
	}
	_, message, exit := exitOf(t, c.program("series"))
	want := fmt.Sprintf("(PID %d), and one process owns the file; wait for it to end, stop it, or reach it with --server if it is mds serve", owner.Process.Pid)
	if exit != exitFailed || !strings.Contains(message, "default.duckdb is in use by") || !strings.Contains(message, want) {
		t.Errorf("exit %d, %q; want %q", exit, message, want)
	}
	if lines := strings.Count(message, "\n"); lines != 1 {
		t.Errorf("the message has %d lines:\n%s", lines, message)
	}
	if _, err := stdin.Write(syntheticCSV(t, 500)); err != nil {
		t.Fatal(err)
	}
	if err := stdin.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := io.Copy(io.Discard, output); err != nil {
		t.Fatal(err)
	}
	if err := owner.Wait(); err != nil {
		t.Fatal(err)
	}
	if _, message, exit := exitOf(t, c.program("series")); exit != exitDone {
		t.Errorf("after the owner: exit %d, %s", exit, message)
	}
}

// inNamespace prepares a shell script that runs in a mount namespace, with
// the program as $PROGRAM.
func inNamespace(t *testing.T, c *cli, script string) *exec.Cmd {
	t.Helper()
	cmd, program := mountns.Command(t, script), c.program()
	cmd.Env = append(cmd.Env, program.Env...)
	cmd.Env = append(cmd.Env, "PROGRAM="+program.Path)
	return cmd
}

func TestDiskFull(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(t.TempDir(), "bars.csv")
	if err := os.WriteFile(file, syntheticCSV(t, 200_000), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := inNamespace(t, c, `
		mount -t tmpfs -o size=6m none "$DIR"
		export MDS_DSN="duckdb://$DIR/store"
		set +e
		"$PROGRAM" ingest bars "$FILE" --batch-size 5000 --flush-interval 1h --give-up-after 1s
		echo "exit $?"
		"$PROGRAM" info --json`)
	cmd.Env = append(cmd.Env, "FILE="+file)
	stdout, stderr, _ := exitOf(t, cmd)
	if !strings.Contains(stdout, "exit 1\n") || !strings.Contains(stderr, "the disk is full; free some space and run it again") {
		t.Fatalf("stdout\n%s\nstderr\n%s", stdout, stderr)
	}
	ledger := outcome{t: t, stdout: stdout, stderr: stderr}.ledger()
	if ledger.Written == 0 || !strings.Contains(stdout, " unwritten") {
		t.Errorf("ledger %+v in %s", ledger, stdout)
	}
	if want := fmt.Sprintf(`"rows": %d,`, ledger.Written); !strings.Contains(stdout, want) {
		t.Errorf("acknowledged rows are not in the store: no %s in\n%s", want, stdout)
	}
}

// TestDeadLettersReadOnly: a folder that cannot be written is told at the start, not with the
// first letter, by what would write to it.
func TestDeadLettersReadOnly(t *testing.T) {
	c := newCLI(t)
	file := testFile(t, "bars.csv", "ts,close\n2020-11-27T14:30:00Z,1\n")
	cmd := inNamespace(t, c, `
		mount -t tmpfs none "$DIR"
		mkdir "$DIR/there"
		mount -o remount,ro "$DIR"
		set +e
		for letters in there none/deeper; do
			"$PROGRAM" ingest bars "$FILE" --symbol A --timeframe 1m --dlq-dir "$DIR/$letters"
			echo "exit $?"
			"$PROGRAM" serve --listen 127.0.0.1:0 --dlq-dir "$DIR/$letters"
			echo "exit $?"
		done`)
	cmd.Env = append(cmd.Env, "FILE="+file)
	stdout, stderr, _ := exitOf(t, cmd)
	if stdout != strings.Repeat("exit 2\n", 4) || strings.Count(stderr, ": read-only file system; let this program write there, or name another folder with MDS_DLQ_DIR\n") != 4 || strings.Contains(stderr, "serving") {
		t.Errorf("stdout\n%s\nstderr\n%s", stdout, stderr)
	}
}

// TestDiskFullAtTheStart: a store that there was no room to make can be made
// when there is.
func TestDiskFullAtTheStart(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(t.TempDir(), "bars.csv")
	if err := os.WriteFile(file, syntheticCSV(t, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := inNamespace(t, c, `
		mount -t tmpfs -o size=8k none "$DIR"
		export MDS_DSN="duckdb://$DIR"
		"$PROGRAM" ingest bars "$FILE" && exit 99
		ls -A "$DIR"
		mount -o remount,size=20m "$DIR"
		"$PROGRAM" ingest bars "$FILE"`)
	cmd.Env = append(cmd.Env, "FILE="+file)
	stdout, stderr, exit := exitOf(t, cmd)
	if exit != exitDone || !strings.HasPrefix(stdout, "bars: 10 read") || !strings.Contains(stderr, "the disk is full") {
		t.Errorf("exit %d\n%s\n%s", exit, stdout, stderr)
	}
}

func TestReadOnlyFolder(t *testing.T) {
	c := newCLI(t)
	file := filepath.Join(t.TempDir(), "bars.csv")
	if err := os.WriteFile(file, syntheticCSV(t, 10), 0o600); err != nil {
		t.Fatal(err)
	}
	cmd := inNamespace(t, c, `
		"$PROGRAM" ingest bars "$FILE" --dsn "duckdb://$DIR/store" >/dev/null 2>&1
		mkdir "$DIR/empty"
		mount --bind "$DIR" "$DIR"
		mount -o remount,ro,bind "$DIR"
		set +e
		"$PROGRAM" ingest bars "$FILE" --dsn "duckdb://$DIR/store"; echo "exit $?"
		"$PROGRAM" ingest bars "$FILE" --dsn "duckdb://$DIR/new"; echo "exit $?"
		"$PROGRAM" ingest bars "$FILE" --dsn "duckdb://$DIR/empty"; echo "exit $?"
		"$PROGRAM" series --dsn "duckdb://$DIR/store" --format csv`)
	cmd.Env = append(cmd.Env, "FILE="+file)
	stdout, stderr, _ := exitOf(t, cmd)
	for _, want := range []string{
		"/store/default.duckdb: permission denied; make the folder writable, or name another with --dsn duckdb://DIR\n",
		"/empty/default.duckdb: permission denied; make the folder writable, or name another with --dsn duckdb://DIR\n",
		"/new: read-only file system; name another with --dsn duckdb://DIR\n",
	} {
		if !strings.Contains(stderr, want) {
			t.Errorf("no %q in\n%s", want, stderr)
		}
	}
	if strings.Count(stdout, "exit 1\n") != 3 || !strings.Contains(stdout, "synthetic,SYN001,1m,1,") {
		t.Errorf("stdout\n%s", stdout)
	}
}
