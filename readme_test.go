package mds_test

import (
	"os"
	"strings"
	"testing"
)

// TestReadmeExample: the library example in the README is the one that
// store/example_test.go compiles and runs.
func TestReadmeExample(t *testing.T) {
	readme, err := os.ReadFile("README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("store/example_test.go")
	if err != nil {
		t.Fatal(err)
	}
	_, block, ok := strings.Cut(string(readme), "```go\n")
	block, _, closed := strings.Cut(block, "```")
	_, example, begins := strings.Cut(string(source), "// README begins\n")
	example, _, ends := strings.Cut(example, "\t// README ends")
	if !ok || !closed || !begins || !ends {
		t.Fatal("the README has no Go example, or the example no marks")
	}
	if example = strings.ReplaceAll("\n"+example, "\n\t", "\n")[1:]; block != example {
		t.Errorf("the README says\n%s\nand the tested example\n%s", block, example)
	}
	if lines := strings.Count(block, "\n"); lines != 5 {
		t.Errorf("the example has %d lines, want 5", lines)
	}
}
