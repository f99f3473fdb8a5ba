package main

import (
	"context"
	"path/filepath"
	"strings"
	"testing"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func TestRun(t *testing.T) {
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	ctx := context.Background()
	dir, letters := t.TempDir(), filepath.Join(t.TempDir(), "letters")
	dsn := "duckdb://" + dir
	var out strings.Builder
	if err := run(ctx, &out, dsn, letters); err != nil {
		t.Fatal(err)
	}
	want := `producer 0: 500 committed, 0 dead-lettered
producer 1: 500 committed, 0 dead-lettered
producer 2: 500 committed, 0 dead-lettered
producer 3: 495 committed, 5 dead-lettered
2000 accepted = 1995 written + 0 unchanged + 0 superseded + 5 dead-lettered + 0 dropped + 0 pending
5 dead letters. To look at them, and to write again those that the store takes by now:
  mds dlq list --dlq-dir ` + letters + `
  mds dlq replay --dlq-dir ` + letters + ` --dsn ` + dsn + `
`
	if out.String() != want {
		t.Errorf("it printed\n%s\nwant\n%s", out.String(), want)
	}

	st, err := store.Open(ctx, dsn, store.Config{ReadOnly: true})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	for symbol, want := range map[string]int64{"SYM0": 500, "SYM3": 495} {
		n, err := store.Bars(st).Count(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{symbol}})
		if n != want || err != nil {
			t.Errorf("%d bars of %s are stored, want %d: %v", n, symbol, want, err)
		}
	}
}

func TestRedacted(t *testing.T) {
	if got := redacted("postgres://mds:secret@localhost/bars"); got != "postgres://mds:xxxxx@localhost/bars" {
		t.Error(got)
	}
}
