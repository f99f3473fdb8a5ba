package ingest_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// killDir is set in the child that TestKilled kills.
const killDir = "MDS_TEST_KILL_DIR"

// TestKilled kills a process that submits, in the middle of it, several times: every
// record whose receipt said that it is committed is in the store, once.
func TestKilled(t *testing.T) {
	if dir := os.Getenv(killDir); dir != "" {
		submitUntilKilled(t, dir)
		return
	}
	dir := filepath.Join(t.TempDir(), "store")
	acknowledged := make(map[string]bool)
	for round := range 5 {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
		cmd.Env = append(os.Environ(), killDir+"="+dir, "MDS_TEST_KILL_ROUND="+strconv.Itoa(round))
		cmd.Stderr = os.Stderr
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for n := 0; n < 20*(round+1) && lines.Scan(); n++ {
			acknowledged[lines.Text()] = true
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		for lines.Scan() { // what it had said before it died
			acknowledged[lines.Text()] = true
		}
		cmd.Wait()
	}
	st, err := store.Open(t.Context(), "duckdb://"+dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer st.Close()
	stored := make(map[string]bool)
	for b, err := range store.Bars(st).Query(t.Context(), mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprint("ack ", b.Symbol, " ", b.TS.Unix())
		if stored[name] {
			t.Errorf("%s is there twice", name)
		}
		stored[name] = true
	}
	for name := range acknowledged {
		if strings.HasPrefix(name, "ack ") && !stored[name] {
			t.Errorf("%q, and it is not in the store", name)
		}
	}
	if len(acknowledged) < 300 {
		t.Errorf("%d records acknowledged only", len(acknowledged))
	}
}

// submitUntilKilled has producers submit and say which records are committed.
func submitUntilKilled(t *testing.T, dir string) {
	st, err := store.Open(t.Context(), "duckdb://"+dir, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	c := newCoordinator(t, sink.New(store.Bars(st), sink.Config{}), ingest.Config[mds.Bar]{BatchSize: 5, FlushInterval: 5 * time.Millisecond})
	h := c.For(mds.DefaultTenant())
	for p := range 4 {
		go func() {
			for i := 0; ; i++ {
				b := bar(fmt.Sprint("S", os.Getenv("MDS_TEST_KILL_ROUND"), p), i, 1)
				r := submit(t, h, b)
				if _, err := r.Wait(context.Background()); err == nil {
					// One write a line: what is cut off is none.
					fmt.Fprint(os.Stdout, "ack ", b.Symbol, " ", b.TS.Unix(), "\n")
				}
			}
		}()
	}
	select {}
}
