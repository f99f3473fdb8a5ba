package deadletter

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// faulty is a file on a bad disk.
type faulty struct {
	*os.File
	fail *faults
}

type faults struct {
	write, sync, truncate bool
	syncOnce              bool
	part                  int    // of what is written all the same
	after                 func() // a write failed
}

var errDisk = errors.New("input/output error")

func (f faulty) Write(p []byte) (int, error) {
	if f.fail.write {
		n, _ := f.File.Write(p[:min(f.fail.part, len(p))])
		if f.fail.after != nil {
			f.fail.after()
		}
		return n, errDisk
	}
	return f.File.Write(p)
}

func (f faulty) Sync() error {
	if f.fail.sync || f.fail.syncOnce {
		f.fail.syncOnce = false
		return errDisk
	}
	return f.File.Sync()
}

func (f faulty) Truncate(size int64) error {
	if f.fail.truncate {
		return errDisk
	}
	return f.File.Truncate(size)
}

// TestFailedAppend: whatever fails, the letters of the append are not there, then nor
// later, those before it are, and the log goes on.
func TestFailedAppend(t *testing.T) {
	for name, c := range map[string]struct {
		fail     faults
		segments int // in the end
	}{
		"write":             {faults{write: true}, 1},
		"half a write":      {faults{write: true, part: 700}, 1},
		"write, no cut":     {faults{write: true, part: 1 << 20, truncate: true}, 2},
		"write, no sync":    {faults{write: true, part: 1 << 20, sync: true}, 2},
		"sync":              {faults{sync: true}, 2},
		"one sync":          {faults{syncOnce: true}, 2},
		"sync, no cut":      {faults{sync: true, truncate: true}, 2},
		"nothing works any": {faults{write: true, part: 1000, sync: true, truncate: true}, 2},
	} {
		for _, first := range []bool{false, true} {
			t.Run(fmt.Sprint(name, " first=", first), func(t *testing.T) {
				dir := t.TempDir()
				l := openLog(t, Config{Dir: dir})
				var fail faults
				l.wrap = func(f *os.File) media { return faulty{f, &fail} }
				want, count := "S0 S9", c.segments
				if first {
					want, count = "S9", 1
				} else {
					add(t, l, letters(0, 1))
				}
				fail = c.fail
				failing := letters(1, 4)
				err := l.Append(t.Context(), failing)
				if !errors.Is(err, errDisk) || !strings.HasPrefix(err.Error(), "dead letters in "+dir+": input/output error") || failing[0].ID != "" {
					t.Fatalf("%v, %q", err, failing[0].ID)
				}
				fail = faults{}
				if got := symbols(t, dir); got != strings.TrimSpace(strings.TrimSuffix(want, "S9")) {
					t.Errorf("after the failure there are %s", got)
				}
				add(t, l, letters(9, 10))
				if got := symbols(t, dir); got != want || len(segmentsOf(t, dir)) != count {
					t.Errorf("%s in %v; want %s in %d segments", got, files(t, dir), want, count)
				}
				if err := l.Close(); err != nil {
					t.Fatal(err)
				}
				openLog(t, Config{Dir: dir}) // what is repaired stays away
				if got := symbols(t, dir); got != want {
					t.Errorf("opened again: %s, want %s", got, want)
				}
				all, _ := read(t, dir, Filter{})
				remove(t, dir, all)
				if got := files(t, dir); len(got) != 0 {
					t.Errorf("emptied, there is %v", got)
				}
			})
		}
	}
}

// TestRemovedBeforeItFailed: a letter that was read and removed before its append failed
// takes no other with it.
func TestRemovedBeforeItFailed(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	var fail faults
	l.wrap = func(f *os.File) media { return faulty{f, &fail} }
	add(t, l, letters(0, 1))
	fail = faults{write: true, part: 1 << 20, after: func() {
		list, _ := read(t, dir, Filter{})
		if n := remove(t, dir, list[1:]); n != 3 {
			t.Errorf("%d removed", n)
		}
	}}
	if err := l.Append(t.Context(), letters(1, 4)); !errors.Is(err, errDisk) {
		t.Fatal(err)
	}
	fail = faults{}
	add(t, l, letters(5, 9))
	if got := symbols(t, dir); got != "S0 S5 S6 S7 S8" {
		t.Errorf("there are %s", got)
	}
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	all, _ := read(t, dir, Filter{})
	remove(t, dir, all)
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("emptied, there is %v", got)
	}
}

// TestFolderRemoved: a log whose folder somebody removed makes it again.
func TestFolderRemoved(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	add(t, l, letters(0, 1))
	if err := os.RemoveAll(dir); err != nil {
		t.Fatal(err)
	}
	add(t, l, letters(1, 2))
	if got := symbols(t, dir); got != "S1" {
		t.Errorf("there are %q", got)
	}
}
