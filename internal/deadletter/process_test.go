package deadletter

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/mountns"
)

const (
	// appendKilled makes the test binary be a process that appends until it is killed.
	appendKilled = "MDS_TEST_APPEND_KILLED"
	// fullDisk makes it be one that fills a disk.
	fullDisk = "MDS_TEST_DEAD_LETTERS_FULL_DISK"
	// readOnly makes it be one that may not write.
	readOnly = "MDS_TEST_DEAD_LETTERS_READ_ONLY"
)

// appendUntilKilled appends one to three letters at a time and says what is
// acknowledged.
func appendUntilKilled(dir string) {
	l, err := Open(Config{Dir: dir, SegmentBytes: 20_000})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	for n := 0; ; n++ {
		batch := letters(n, n+1+n%3)
		if err := l.Append(context.Background(), batch); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		for i := range batch {
			fmt.Println("acknowledged", batch[i].ID)
		}
	}
}

// TestKilled kills a process that appends, twenty times over in one folder, and
// looks for every letter that was acknowledged.
func TestKilled(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(7, 7))
	acknowledged := make(map[string]bool)
	for round := range 20 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), appendKilled+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		left := 1 + random.IntN(150)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			id, ok := strings.CutPrefix(lines.Text(), "acknowledged ")
			if !ok {
				t.Errorf("round %d: %s", round, lines.Text())
			}
			acknowledged[id] = true
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil { // what it says yet is acknowledged, too
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		there := make(map[string]bool)
		list, damaged := read(t, dir, Filter{})
		for i := range list {
			there[list[i].ID] = true
		}
		for id := range acknowledged {
			if !there[id] {
				t.Fatalf("round %d: %s was acknowledged and is not there", round, id)
			}
		}
		if damaged != nil || len(there) != len(list) || len(list) > len(acknowledged)+3*(round+1) {
			t.Fatalf("round %d: %d letters, %d of them different, %d acknowledged, damaged %v", round, len(list), len(there), len(acknowledged), damaged)
		}
	}
}

// fillDisk appends until the disk is full, removes the file "filler" and goes on.
// It prints how many letters were acknowledged.
func fillDisk(dir string) {
	l, err := Open(Config{Dir: filepath.Join(dir, "letters"), SegmentBytes: 100_000})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	acknowledged, after, failures := 0, 0, 0
	for n := 0; after < 20 && failures < 3; n++ {
		if err := l.Append(context.Background(), letters(n*7, n*7+7)); err != nil {
			failures++
			fmt.Println("failed", err)
			if list, err := os.ReadDir(filepath.Join(dir, "letters")); err == nil {
				fmt.Println("files", len(list))
			}
			_ = os.Remove(filepath.Join(dir, "filler"))
			n--
			continue
		}
		acknowledged += 7
		if failures > 0 {
			after++
		}
	}
	fmt.Printf("acknowledged %d after %d\n", acknowledged, after)
	os.Exit(9)
}

func TestFullDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := mountns.Command(t, `
		mount -t tmpfs -o size=2m none "$DIR"
		head -c 1700000 /dev/zero > "$DIR/filler"
		`+fullDisk+`="$DIR" "$SELF" || true
		cp "$DIR"/letters/* "$OUT"`)
	out := t.TempDir()
	cmd.Env = append(cmd.Env, "SELF="+self, "OUT="+out)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var acknowledged, after int
	_, last, _ := strings.Cut(string(text), "\nacknowledged ")
	if _, err := fmt.Sscanf(last, "%d after %d", &acknowledged, &after); err != nil || after != 20 || acknowledged < 300 {
		t.Fatalf("%v in\n%s", err, text)
	}
	if !strings.Contains(string(text), "/letters: no space left on device; make room on the disk\n") {
		t.Errorf("it says\n%s", text)
	}
	list, damaged := read(t, out, Filter{})
	if damaged != nil || len(list) != acknowledged {
		t.Errorf("%d letters of %d acknowledged, damaged %v", len(list), acknowledged, damaged)
	}
	for i := range list {
		if list[i].Texts("symbol")[0] != fmt.Sprint("S", i) {
			t.Fatalf("letter %d is %s", i, list[i].Record)
		}
	}
}

// appendReadOnly appends where it may not, and reads what is there.
func appendReadOnly(dir string) {
	for _, folder := range []string{filepath.Join(dir, "letters"), filepath.Join(dir, "none")} {
		l, err := Open(Config{Dir: folder})
		if err != nil {
			fmt.Println("open:", err)
			continue
		}
		fmt.Println("check:", l.Check())
		fmt.Println(l.Append(context.Background(), letters(0, 1)))
		n := 0
		var last error
		for _, err := range l.Dir().Letters(context.Background(), Filter{}) {
			n++
			last = errors.Join(last, err)
		}
		fmt.Println(n, last, l.Close())
	}
}

func TestReadOnly(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	s, _ := written(t)
	cmd := mountns.Command(t, `
		mount -t tmpfs none "$DIR"
		cp -r "$LETTERS" "$DIR/letters"
		mount -o remount,ro "$DIR"
		`+readOnly+`="$DIR" "$SELF" | sed "s|$DIR|DIR|g; s|/20[^ ]*: |/SEGMENT: |"`)
	cmd.Env = append(cmd.Env, "SELF="+self, "LETTERS="+s.dir)
	text, err := cmd.CombinedOutput()
	want := `check: dead letters in DIR/letters: DIR/letters: read-only file system; let this program write there, or name another folder with MDS_DLQ_DIR
dead letters in DIR/letters: DIR/letters/SEGMENT: read-only file system; let this program write there, or name another folder with MDS_DLQ_DIR
3 <nil> <nil>
check: dead letters in DIR/none: DIR: read-only file system; let this program write there, or name another folder with MDS_DLQ_DIR
dead letters in DIR/none: DIR/none: read-only file system; let this program write there, or name another folder with MDS_DLQ_DIR
0 <nil> <nil>
`
	if err != nil || string(text) != want {
		t.Errorf("%v\n%s, want\n%s", err, text, want)
	}
}
