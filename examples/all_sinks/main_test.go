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
	want := `bars         2 written, 0 unchanged
options      2 written, 0 unchanged
fundamentals 1 written, 0 unchanged
news         1 written, 0 unchanged
bars         0 written, 2 unchanged
options      0 written, 2 unchanged
fundamentals 0 written, 1 unchanged
news         0 written, 1 unchanged
# HELP sink_writes_total Batches written, by sink and status (success or failure).
# TYPE sink_writes_total counter
sink_writes_total{sink="bars",status="failure"} 0
sink_writes_total{sink="bars",status="success"} 2
sink_writes_total{sink="fundamentals",status="failure"} 0
sink_writes_total{sink="fundamentals",status="success"} 2
sink_writes_total{sink="news",status="failure"} 0
sink_writes_total{sink="news",status="success"} 2
sink_writes_total{sink="options",status="failure"} 0
sink_writes_total{sink="options",status="success"} 2
`
	if out.String() != want {
		t.Errorf("it printed\n%s\nwant\n%s", out.String(), want)
	}
}
