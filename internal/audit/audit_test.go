package audit_test

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/marketdatastore/mds/internal/audit"
	"github.com/marketdatastore/mds/internal/mountns"
)

func open(t *testing.T, path string) *audit.Log {
	t.Helper()
	l, err := audit.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	})
	return l
}

func write(t *testing.T, l *audit.Log, id string) {
	t.Helper()
	if err := l.Write(&audit.Entry{RequestID: id}, true); err != nil {
		t.Fatal(err)
	}
}

// ids are those of the entries in a file, and its lines that are none.
func ids(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var list []string
	for line := range strings.Lines(string(text)) {
		var e audit.Entry
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			e.RequestID = "(" + strings.TrimSpace(line) + ")"
		}
		list = append(list, e.RequestID)
	}
	return strings.Join(list, " ")
}

// TestRotation follows the name of the file.
func TestRotation(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	write(t, l, "a")
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
	if err := os.Rename(path, path+".1"); err != nil {
		t.Fatal(err)
	}
	write(t, l, "b")
	write(t, l, "c")
	if err := os.Rename(path, path+".2"); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, nil, 0o640); err != nil { // as logrotate does with create
		t.Fatal(err)
	}
	write(t, l, "d")
	if err := os.Truncate(path, 0); err != nil { // and with copytruncate
		t.Fatal(err)
	}
	write(t, l, "e")
	if got := ids(t, path+".1") + " | " + ids(t, path+".2") + " | " + ids(t, path); got != "a | b c | e" {
		t.Errorf("the files have %s", got)
	}
}

// TestReopened appends, and takes what a crash left of a line for no part of the next.
func TestReopened(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	write(t, open(t, path), "a")
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"time":`); err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	l := open(t, path)
	write(t, l, "b")
	write(t, l, "c")
	if got := ids(t, path); got != `a ({"time":) b c` {
		t.Errorf("the file has %s", got)
	}
}

// TestBounded leaves long parameters to the attempt, and writes text as it is.
func TestBounded(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	l := open(t, path)
	long := map[string][]string{"symbol": {strings.Repeat("<&>", 4000)}}
	for _, event := range []string{audit.Attempt, audit.Outcome} {
		if err := l.Write(&audit.Entry{Event: event, Parameters: long}, true); err != nil {
			t.Fatal(err)
		}
	}
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	attempt, outcome, _ := strings.Cut(string(text), "\n")
	if !strings.Contains(attempt, strings.Repeat("<&>", 4000)) || strings.Contains(attempt, "cut") {
		t.Errorf("the attempt is %.300s", attempt)
	}
	if len(outcome) > 200 || !strings.Contains(outcome, `"cut":true`) {
		t.Errorf("the outcome is %.300s", outcome)
	}
}

// TestTogether has several write at once, each its own lines.
func TestTogether(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	var writers sync.WaitGroup
	for range 2 {
		l := open(t, path)
		for range 4 {
			writers.Go(func() {
				for range 50 {
					if err := l.Write(&audit.Entry{RequestID: "x", Path: strings.Repeat("p", 300)}, false); err != nil {
						t.Error(err)
					}
				}
			})
		}
	}
	writers.Wait()
	if got := ids(t, path); got != strings.TrimSpace(strings.Repeat("x ", 400)) {
		t.Errorf("the file has %s", got)
	}
}

func TestRefuses(t *testing.T) {
	dir := t.TempDir()
	for path, says := range map[string]string{
		dir:                         "is no file",
		"/dev/null":                 "is no file",
		filepath.Join(dir, "x/y"):   "no such file or directory",
		filepath.Join(dir, "audit"): "",
	} {
		l, err := audit.Open(path)
		if says == "" && err != nil || says != "" && (err == nil || !strings.Contains(err.Error(), says) || !strings.Contains(err.Error(), "the audit log")) {
			t.Errorf("%s: %v", path, err)
		}
		if l != nil {
			_ = l.Close()
		}
	}
}

// TestFullDisk fails while there is no room, and goes on after that, with whole lines.
func TestFullDisk(t *testing.T) {
	if dir := os.Getenv("MDS_TEST_SMALL_DISK"); dir != "" {
		fullDisk(t, dir)
		return
	}
	cmd := mountns.Command(t, `mount -t tmpfs -o size=64k none "$DIR" && MDS_TEST_SMALL_DISK="$DIR" exec "$PROGRAM" -test.run='^TestFullDisk$' -test.v`)
	cmd.Env = append(cmd.Env, "PROGRAM="+os.Args[0])
	if out, err := cmd.CombinedOutput(); err != nil || !strings.Contains(string(out), "PASS") {
		t.Errorf("%v\n%s", err, out)
	}
}

func fullDisk(t *testing.T, dir string) {
	filler := filepath.Join(dir, "filler")
	if err := os.WriteFile(filler, make([]byte, 40<<10), 0o600); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "audit")
	l := open(t, path)
	written, failed := 0, 0
	for n := range 400 {
		if err := l.Write(&audit.Entry{RequestID: strconv.Itoa(n), Path: strings.Repeat("p", 300)}, true); err != nil {
			if failed++; !strings.Contains(err.Error(), "no space left on device") {
				t.Fatal(err)
			}
			continue
		}
		written++
	}
	if written == 0 || failed == 0 {
		t.Fatalf("%d were written, %d failed", written, failed)
	}
	if err := os.Remove(filler); err != nil {
		t.Fatal(err)
	}
	write(t, l, "after")
	whole := 0
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		var e audit.Entry
		if json.Unmarshal([]byte(line), &e) == nil {
			whole++
		}
	}
	if whole != written+1 {
		t.Errorf("%d of %d are whole", whole, written+1)
	}
}
