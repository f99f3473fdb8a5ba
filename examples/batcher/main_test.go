package main

import (
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(t.Context(), &out, "duckdb://"+t.TempDir()); err != nil {
		t.Fatal(err)
	}
	const want = "left out: close: NaN is not a number that can be kept; leave a missing value out\n2499 written, 0 unchanged, 0 superseded\n"
	if out.String() != want {
		t.Errorf("%s\nwant\n%s", out.String(), want)
	}
}
