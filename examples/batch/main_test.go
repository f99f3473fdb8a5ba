package main

import (
	"context"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	var out strings.Builder
	if err := run(context.Background(), &out, "duckdb://"+t.TempDir()); err != nil {
		t.Fatal(err)
	}
	want := `left out: close: NaN is not a number that can be kept; leave a missing value out
10079 written, 0 unchanged, 1 superseded
10079 bars are stored
`
	if out.String() != want {
		t.Errorf("it printed\n%s\nwant\n%s", out.String(), want)
	}
}
