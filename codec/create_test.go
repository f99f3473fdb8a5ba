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
