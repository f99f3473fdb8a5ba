package duckdb

import (
	"bufio"
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"testing"

	"github.com/marketdatastore/mds"
)

// compactKilled makes the test binary be a process that writes and compacts until it
// is killed.
const compactKilled = "MDS_TEST_COMPACT_KILLED"

const killedRows = 2_000 // of a batch

// killedBatch is the n-th batch, in order of time.
func killedBatch(n int) []mds.Bar {
	bars := make([]mds.Bar, killedRows)
	for i := range bars {
		bars[i] = modelBar(i%50, n*killedRows/50+i/50, float64(n))
	}
	return bars
}

// compactUntilKilled writes batches after those that are there, and says each number
// once it is acknowledged, while another goroutine compacts all the time, and says
// that after each turn.
func compactUntilKilled(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, dir, Config{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	s.layout = layout{group: 500, segment: 6_000, chunk: 100}
	table := NewTable[mds.Bar](s)
	rows, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	go func() {
		for {
			err := table.compact(ctx, f, func(ctx context.Context, fn func() error) error {
				defer fmt.Println("compacted")
				return f.taking(ctx, fn)
			}, new(mds.Compaction))
			if err != nil {
				fmt.Println(err)
				os.Exit(1)
			}
		}
	}()
	for n := int(rows) / killedRows; ; n++ {
		if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), killedBatch(n)); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		fmt.Println("acknowledged", n)
	}
}

// TestKilledWhileCompacting kills a process that writes and compacts, at random
// moments, ten times over, and looks for every acknowledged row once.
func TestKilledWhileCompacting(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	random := rand.New(rand.NewPCG(9, 9))
	compactions := 0
	for round := range 10 {
		cmd := exec.Command(self)
		cmd.Env = append(os.Environ(), compactKilled+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		acknowledged := -1
		left := 5 + random.IntN(60)
		for lines := bufio.NewScanner(out); lines.Scan(); {
			text := lines.Text()
			if text == "compacted" {
				compactions++
			} else if _, err := fmt.Sscanf(text, "acknowledged %d", &acknowledged); err != nil {
				t.Errorf("round %d: %s", round, text)
			}
			if left--; left == 0 {
				if err := cmd.Process.Kill(); err != nil { // what it says yet is acknowledged, too
					t.Fatal(err)
				}
			}
		}
		_ = cmd.Wait() // it was killed
		s, err := Open(context.Background(), dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		n := 0
		for b, err := range NewTable[mds.Bar](s).Query(context.Background(), mds.DefaultTenant(), mds.Query{}) {
			if err != nil {
				t.Fatal(err)
			}
			// Each minute has one bar of each symbol: in order of time, then of symbols.
			minute := b.TS.Sub(modelBar(0, 0, 0).TS).Minutes()
			if want := n / 50; int(minute) != want || b.Close != float64(n/killedRows) {
				t.Fatalf("round %d: row %d is %v, want minute %d of batch %d", round, n, b, want, n/killedRows)
			}
			n++
		}
		if batches := n / killedRows; n%killedRows != 0 || batches < acknowledged+1 || batches > acknowledged+2 {
			t.Fatalf("round %d: %d rows; acknowledged were %d batches of %d", round, n, acknowledged+1, killedRows)
		}
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if compactions < 30 {
		t.Errorf("%d turns of compaction in ten rounds", compactions)
	}
}
