package main

import (
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
)

// pythonWithPandas finds one. Where there is none the test is skipped, in CI it fails.
func pythonWithPandas(t *testing.T) string {
	t.Helper()
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		if exec.Command(python, "-c", "import pandas").Run() == nil {
			return python
		}
	}
	if os.Getenv("CI") != "" {
		t.Fatal("no Python has pandas; scripts/deps-test installs it")
	}
	t.Skip("no Python has pandas; scripts/deps-test installs it")
	return ""
}

// TestNotebooks runs the recipes of docs/notebooks.md, with and without a key.
func TestNotebooks(t *testing.T) {
	python := pythonWithPandas(t)
	page, err := os.ReadFile("../../docs/notebooks.md")
	if err != nil {
		t.Fatal(err)
	}
	var program strings.Builder
	program.WriteString("import os\nURL, KEY = os.environ['URL'], os.environ['KEY']\n")
	blocks := regexp.MustCompile("(?s)```python\n(.*?)```").FindAllStringSubmatch(string(page), -1)
	for _, block := range blocks {
		program.WriteString(block[1])
	}
	if len(blocks) != 5 {
		t.Errorf("the page has %d recipes", len(blocks))
	}
	for name, d := range engineDatabases(t) {
		t.Run(name, func(t *testing.T) {
			c, token := served(t, d())
			s := c.serve()
			cmd := exec.Command(python, "-W", "error", "-c", program.String())
			cmd.Env = append(os.Environ(), "URL="+s.url, "KEY="+token)
			stdout, stderr, exit := exitOf(t, cmd)
			if exit != 0 {
				t.Fatal(stderr)
			}
			for _, want := range []string{
				"10 on the disk, 0 rejected \n", "10 470.39\n", "[4, 4, 2]\n", "count     10.0", "max      470.39", "2 on the disk\n",
				"2026-01-05 00:00:00+00:00", "474.25",
			} {
				if !strings.Contains(stdout, want) {
					t.Errorf("no %q in\n%s", want, stdout)
				}
			}
			interrupt(t, s)
		})
	}
}
