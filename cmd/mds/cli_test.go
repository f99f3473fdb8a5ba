package main

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"path/filepath"
	"strings"
	"testing"

	"github.com/marketdatastore/mds/internal/load"
)

// cli runs commands, in this process, on a store of the test's own.
type cli struct {
	t     *testing.T
	dsn   string
	stdin io.Reader

	binary string // of the program in a process of its own, where it is not this one
	apiKey string
	env    map[string]string // more of the environment
}

func newCLI(t *testing.T) *cli {
	return &cli{t: t, dsn: "duckdb://" + filepath.Join(t.TempDir(), "store")}
}

// outcome is what a command left.
type outcome struct {
	t              *testing.T
	exit           int
	stdout, stderr string
}

func (c *cli) run(args ...string) outcome {
	c.t.Helper()
	return c.runContext(context.Background(), args...)
}

func (c *cli) runContext(ctx context.Context, args ...string) outcome {
	c.t.Helper()
	var stdout, stderr bytes.Buffer
	stdin := c.stdin
	if stdin == nil {
		stdin = strings.NewReader("")
	}
	env := map[string]string{"MDS_DSN": c.dsn, "MDS_API_KEY": c.apiKey}
	maps.Copy(env, c.env)
	a := &app{stdin: stdin, stdout: &stdout, stderr: &stderr, env: env}
	hasRejects := false
	for _, arg := range args {
		hasRejects = hasRejects || arg == "--rejects"
	}
	if len(args) > 1 && args[0] == "ingest" && args[1] != "quotes" && !hasRejects {
		args = append(args, "--rejects", filepath.Join(c.t.TempDir(), "rejects.ndjson"))
	}
	exit := a.run(ctx, args)
	return outcome{t: c.t, exit: exit, stdout: stdout.String(), stderr: stderr.String()}
}

// must is run for commands that have to succeed.
func (c *cli) must(args ...string) outcome {
	c.t.Helper()
	o := c.run(args...)
	if o.exit != exitDone {
		c.t.Fatalf("mds %s: exit %d\n%s%s", strings.Join(args, " "), o.exit, o.stdout, o.stderr)
	}
	return o
}

// ledger reads the printed ledger back.
func (o outcome) ledger() load.Ledger {
	o.t.Helper()
	var l load.Ledger
	var accepted int64
	text := strings.ReplaceAll(o.stdout, ",", "")
	_, text, _ = strings.Cut(text, ": ") // the kind
	_, err := fmt.Sscanf(text, "%d read = %d rejected + %d accepted; accepted = %d written + %d unchanged + %d superseded",
		&l.Read, &l.Rejected, &accepted, &l.Written, &l.Unchanged, &l.Superseded)
	if err != nil || accepted != l.Accepted() {
		o.t.Fatalf("no ledger in %q: %v\n%s", o.stdout, err, o.stderr)
	}
	return l
}
