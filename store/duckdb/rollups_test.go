package duckdb

import (
	"bufio"
	"context"
	"fmt"
	"iter"
	"os"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// refreshKilled makes the test binary be a process that writes bars and makes rollups of
// them until it is killed.
const refreshKilled = "MDS_TEST_REFRESH_KILLED"

// refreshUntilKilled writes batches, in any order of time, and deletes some of it, while
// another goroutine refreshes all the time; it says each round.
func refreshUntilKilled(dir string) {
	ctx := context.Background()
	fail := func(err error) {
		if err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	s, err := Open(ctx, dir, Config{})
	fail(err)
	refreshBars = 500
	k := OpenKeeper(s)
	_, err = k.Keep(ctx, killedPolicy())
	fail(err)
	table := NewTable[mds.Bar](s)
	go func() {
		for {
			_, err := s.Refresh(ctx, mds.DefaultTenant(), 0)
			fail(err)
		}
	}()
	for n := 0; ; n++ {
		bars := make([]mds.Bar, 400)
		for i := range bars {
			bars[i] = modelBar(i%5, (n*7919+i*61)%20_000, float64(n*1000+i))
		}
		_, err := table.WriteBatch(ctx, mds.DefaultTenant(), bars)
		fail(err)
		if n%3 == 0 {
			_, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{Symbols: []string{fmt.Sprint("S", n%5)}, Start: bars[n%400].TS, End: bars[n%400].TS.Add(5 * time.Hour)})
			fail(err)
		}
		fmt.Println("round")
	}
}

func killedPolicy() mds.Policy {
	return mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: []mds.Timeframe{"5m", "1h", "1d"}}
}

// TestKilledWhileRefreshing ends a process with kill -9 that writes and refreshes: what is
// answered of rollups is what all bars make up, at once and when they are refreshed.
func TestKilledWhileRefreshing(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	for round := range 5 {
		cmd := exec.Command(os.Args[0])
		cmd.Env = append(os.Environ(), refreshKilled+"="+dir)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(out)
		for range 5 + 7*round {
			if !lines.Scan() || lines.Text() != "round" {
				_ = cmd.Process.Kill()
				_ = cmd.Wait()
				t.Fatalf("it says %q", lines.Text())
			}
		}
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		s, err := Open(ctx, dir, Config{})
		if err != nil {
			t.Fatal(err)
		}
		all := func(bars iter.Seq2[mds.Bar, error]) (list []mds.Bar) {
			t.Helper()
			for b, err := range bars {
				if err != nil {
					t.Fatal(err)
				}
				list = append(list, b)
			}
			return list
		}
		same := func(what string, asRefreshed bool) {
			t.Helper()
			for _, every := range killedPolicy().Rollups {
				got := all(s.Resample(ctx, mds.DefaultTenant(), mds.ResampleQuery{Every: every, AsRefreshed: asRefreshed}))
				want := all(mds.Resample(NewTable[mds.Bar](s).Query(ctx, mds.DefaultTenant(), mds.Query{}), every, nil))
				if !slices.Equal(got, want) {
					t.Errorf("%s, bars of %s: %d, which differ from the %d that are made of bars", what, every, len(got), len(want))
				}
			}
		}
		same("killed", false)
		if _, err := s.Refresh(ctx, mds.DefaultTenant(), 0); err != nil {
			t.Fatal(err)
		}
		same("refreshed", true)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
	}
}
