package codec_test

import (
	"errors"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/marketdatastore/mds/codec"
)

// TestCreate: a file gets its name when it is complete, and not before.
func TestCreate(t *testing.T) {
	dir := t.TempDir()
	read := func(path string) string {
		t.Helper()
		f, err := codec.Open(path, nil)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		text, err := io.ReadAll(f)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	write := func(path, text string, complete bool) {
		t.Helper()
		f, err := codec.Create(path)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(f, text); err != nil {
			t.Fatal(err)
		}
		if err := f.Close(complete); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"a.csv", "a.csv.gz", "a.ndjson.ZST"} {
		path := filepath.Join(dir, name)
		write(path, "cut short", false)
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s is there, though it was cut short: %v", name, err)
		}
		write(path, "first", true)
		write(path, "cut short", false)
		if got := read(path); got != "first" {
			t.Errorf("%s holds %q", name, got)
		}
		write(path, "second", true)
		if got := read(path); got != "second" {
			t.Errorf("%s holds %q", name, got)
		}
	}
	link := filepath.Join(dir, "link.csv")
	if err := os.Symlink(filepath.Join(dir, "a.csv"), link); err != nil {
		t.Fatal(err)
	}
	write(link, "through a link", true)
	if got := read(filepath.Join(dir, "a.csv")); got != "through a link" {
		t.Errorf("the link was replaced, not its file: %q", got)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 4 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
	if _, err := codec.Create(dir); err == nil {
		t.Error("a folder was made a file")
	}
	if _, err := codec.Create(filepath.Join(dir, "none", "a.csv")); err == nil {
		t.Error("a file was made in a folder that is not there")
	}
}

// TestCreateIn: within a folder it is the same, and nothing is written outside of it.
func TestCreateIn(t *testing.T) {
	outside, dir := t.TempDir(), t.TempDir()
	root, err := os.OpenRoot(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer root.Close()
	if err := errors.Join(os.Mkdir(filepath.Join(dir, "sub"), 0o750), os.WriteFile(filepath.Join(dir, "there.csv"), []byte("before"), 0o600)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"sub/a.csv.gz", "there.csv"} {
		before, _ := os.ReadFile(filepath.Join(dir, name))
		for _, complete := range []bool{false, true} {
			f, err := codec.CreateIn(root, name, "job-1")
			if err != nil {
				t.Fatal(err)
			}
			if _, err := codec.CreateIn(root, name, "job-1"); !errors.Is(err, os.ErrExist) {
				t.Errorf("%s is written twice at once: %v", name, err)
			}
			if _, err := io.WriteString(f, "after"); err != nil {
				t.Fatal(err)
			}
			if now, _ := os.ReadFile(filepath.Join(dir, name)); string(now) != string(before) {
				t.Errorf("%s is %q before it is complete", name, now)
			}
			if err := f.Close(complete); err != nil {
				t.Fatal(err)
			}
			if now, _ := os.ReadFile(filepath.Join(dir, name)); !complete && string(now) != string(before) {
				t.Errorf("%s is %q though it was cut short", name, now)
			}
		}
		f, err := codec.Open(filepath.Join(dir, name), nil)
		if err != nil {
			t.Fatal(err)
		}
		if text, err := io.ReadAll(f); err != nil || string(text) != "after" {
			t.Errorf("%s is %q, %v", name, text, err)
		}
		_ = f.Close()
	}
	if _, err := codec.CreateIn(root, "left.csv", "job-1"); err != nil { // and its process dies
		t.Fatal(err)
	}
	if err := errors.Join(codec.Discard(root, "left.csv", "job-1"), codec.Discard(root, "left.csv", "job-1")); err != nil {
		t.Error(err)
	}
	for link, to := range map[string]string{"link.csv": filepath.Join(outside, "a.csv"), "linked": outside, "inner.csv": "there.csv"} {
		if err := os.Symlink(to, filepath.Join(dir, link)); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"../a.csv", "/tmp/a.csv", "link.csv", "inner.csv", "linked/a.csv", "sub", "sub/../../a.csv", "none/a.csv"} {
		if f, err := codec.CreateIn(root, name, "job-1"); err == nil {
			t.Errorf("%s is written to %s", name, f.Close(false))
		}
	}
	if entries, err := os.ReadDir(outside); err != nil || len(entries) != 0 {
		t.Errorf("outside are %v, %v", entries, err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 5 {
		t.Errorf("left behind: %v, %v", entries, err)
	}
}
