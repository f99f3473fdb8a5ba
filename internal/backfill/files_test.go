package backfill_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/marketdatastore/mds/internal/backfill"
)

// tree makes empty files below a folder.
func tree(t *testing.T, names ...string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	for _, name := range names {
		path := filepath.Join(dir, name)
		if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o750), os.WriteFile(path, nil, 0o600)); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// partsOf are the names of the parts of files.
func partsOf(ctx context.Context, dir string, files ...string) (names []string, err error) {
	parts, err := (&backfill.Spec{Files: files}).Parts(ctx, &backfill.Rules{Dir: dir}, backfill.Range{})
	for _, p := range parts {
		names = append(names, p.Name)
	}
	return names, err
}

// TestPatterns finds what patterns match, each file once, in order.
func TestPatterns(t *testing.T) {
	dir := tree(t, "b.csv", "a.csv", "2024/01/x.csv", "2024/02/x.csv", "2025/01/x.csv", "2025/x.csv", "[odd].csv")
	if err := syscall.Mkfifo(filepath.Join(dir, "2025", "pipe.csv"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name  string
		files []string
		want  []string
	}{
		{"a name", []string{"2024/01/x.csv"}, []string{"2024/01/x.csv"}},
		{"a pattern", []string{"?.csv"}, []string{"a.csv", "b.csv"}},
		{"folders", []string{"*/01/x.csv"}, []string{"2024/01/x.csv", "2025/01/x.csv"}},
		{"patterns below one another", []string{"20*/*/*"}, []string{"2024/01/x.csv", "2024/02/x.csv", "2025/01/x.csv"}},
		{"no folders and no pipes", []string{"2025/*"}, []string{"2025/x.csv"}},
		{"twice", []string{"a.csv", "*.csv", "a*", "./a.csv"}, []string{"[odd].csv", "a.csv", "b.csv"}},
		{"a name that looks like a pattern", []string{`\[odd\].csv`}, []string{"[odd].csv"}},
		{"so often", slices.Repeat([]string{"a.csv"}, 10_000), []string{"a.csv"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := partsOf(t.Context(), dir, c.files...); err != nil || !slices.Equal(got, c.want) {
				t.Errorf("%q, %v; want %q", got, err, c.want)
			}
		})
	}
}

// TestFilesRefused says of what cannot be loaded why, before anything is.
func TestFilesRefused(t *testing.T) {
	deep := strings.Repeat(strings.Repeat("d", 200)+"/", 5) + "x.csv"
	dir := tree(t, "a.csv", "sub/x.csv", deep, "bad\xff.csv")
	if err := syscall.Mkfifo(filepath.Join(dir, "pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	var many []string
	for n := range 101 {
		many = append(many, fmt.Sprint("a*", n))
	}
	for _, c := range []struct {
		name  string
		files []string
		want  string
	}{
		{"many", many, "files: these are 101 patterns, and a job has at most 100: make several jobs"},
		{"a pipe", []string{"pipe"}, `files: "pipe" is no regular file`},
		{"below a pipe", []string{"pipe/*"}, "files: there is no pipe/* in the folder that this server reads"},
		{"below a file", []string{"a.csv/b"}, "files: there is no a.csv/b in the folder that this server reads"},
		{"a folder", []string{"sub"}, `files: "sub" is no regular file`},
		{"no text", []string{"bad*"}, `files: the name "bad\xff.csv" is not at most 1000 bytes of UTF-8: name the file otherwise`},
		{"a long name", []string{"*/*/*/*/*/*"}, `files: the name "` + deep + `" is not at most 1000 bytes of UTF-8: name the file otherwise`},
		{"one that is there twice and one that is not", []string{"a.csv", "b.csv"}, "files: there is no b.csv in the folder that this server reads"},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got, err := partsOf(t.Context(), dir, c.files...); err == nil || err.Error() != c.want {
				t.Errorf("%q, %v; want %s", got, err, c.want)
			}
		})
	}
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := partsOf(gone, dir, "a*"); !errors.Is(err, context.Canceled) {
		t.Errorf("after the end: %v", err)
	}
	if _, err := (&backfill.Spec{Files: []string{"a.csv"}}).Parts(t.Context(), &backfill.Rules{Dir: dir}, backfill.Range{Symbols: []string{"A"}}); err == nil || !strings.HasPrefix(err.Error(), "files: symbols, start and end belong to a url") {
		t.Errorf("of symbols: %v", err)
	}
	if _, err := (&backfill.Spec{Files: []string{"a.csv"}}).Parts(t.Context(), &backfill.Rules{Dir: dir}, backfill.Range{End: time.Now()}); err == nil {
		t.Error("of a window: no error")
	}
}

// TestEntriesAreBounded stops at a bound of what is looked at, however often it is matched.
func TestEntriesAreBounded(t *testing.T) {
	backfill.SetMostEntries(t, 50)
	var names []string
	for n := range 10 {
		names = append(names, fmt.Sprintf("%d/x.csv", n))
	}
	dir := tree(t, names...)
	if got, err := partsOf(t.Context(), dir, "*/*", "*/x*"); err != nil || len(got) != 10 {
		t.Errorf("%q, %v", got, err)
	}
	want := "files: there are more than 50 entries to look at: name folders, or files with fewer beside them"
	if _, err := partsOf(t.Context(), dir, "*/*", "*/x*", "*/x.*"); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
}

// TestPipeInPlaceOfFile has a file be a pipe by the time it is opened: it is refused, and not
// waited for.
func TestPipeInPlaceOfFile(t *testing.T) {
	dir := tree(t, "a.csv")
	spec, rules := &backfill.Spec{Files: []string{"a.csv"}}, &backfill.Rules{Dir: dir}
	parts, err := spec.Parts(t.Context(), rules, backfill.Range{})
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "a.csv")
	if err := errors.Join(os.Remove(path), syscall.Mkfifo(path, 0o600)); err != nil {
		t.Fatal(err)
	}
	if _, err := spec.Open(t.Context(), rules, parts[0]); err == nil || err.Error() != "a.csv: it is no regular file" {
		t.Error(err)
	}
}
