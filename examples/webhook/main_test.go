package main

import (
	"strings"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out); err != nil {
		t.Fatal(err)
	}
	// What comes first is up to who is first; then every change comes.
	if !strings.HasSuffix(out.String(), "hard\nsoft\nok\n") {
		t.Errorf("%s", out.String())
	}
}
