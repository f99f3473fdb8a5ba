package load

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/codec"
)

// TestRejectsOfParts keeps the rows of parts that are done, once, whatever became of those after
// them, and stays within its bound.
func TestRejectsOfParts(t *testing.T) {
	path := filepath.Join(t.TempDir(), "job.ndjson")
	attempt := func(most int64, done string, rows ...string) string {
		t.Helper()
		r := NewRejects(path)
		r.Bound(most)
		if err := r.Keep(func(part string) bool { return strings.Contains(done, part) }); err != nil {
			t.Fatal(err)
		}
		for _, row := range rows {
			part, raw, _ := strings.Cut(row, " ")
			r.Name(part)
			if err := r.add("-", &codec.RowError{Line: 2, Reason: "bad", Raw: raw}); err != nil {
				t.Fatal(err)
			}
		}
		if err := r.Close(); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	line := func(part, raw string) string {
		return `{"file":"` + part + `","line":2,"reason":"bad","raw":"` + raw + `"}` + "\n"
	}
	want := line("a", "1") + line("b", "2")
	if got := attempt(0, "", "a 1", "b 2"); got != want {
		t.Errorf("at first:\n%s", got)
	}
	f, err := os.OpenFile(path, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := f.WriteString(`{"file":"a","li`); err != nil { // its server died
		t.Fatal(err)
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	if got := attempt(0, "a", "b 2", "b 3"); got != want+line("b", "3") {
		t.Errorf("b begun again:\n%s", got)
	}
	got := attempt(int64(len(want)+len(line("c", "4"))), "a b", "c 5", "c 6")
	if want += line("b", "3"); !strings.HasPrefix(got, want+`{"file":"c","line":0,"reason":"more rows were rejected than this file takes`) || strings.Count(got, "\n") != 4 {
		t.Errorf("within its bound:\n%s", got)
	}
	if entries, err := os.ReadDir(filepath.Dir(path)); err != nil || len(entries) != 1 {
		t.Errorf("there are %v, %v", entries, err)
	}
}
