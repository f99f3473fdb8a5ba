package duckdb

import (
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/mountns"
)

// fullDisk makes the test binary be a process that fills a disk.
const fullDisk = "MDS_TEST_FULL_DISK"

// fillDisk writes batches into dir until the disk is full, removes the file
// "filler" that takes the room, goes on with the same store and the batch that
// failed, and dies without closing it. It prints what was acknowledged.
func fillDisk(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "store"), Config{Logger: slog.New(slog.NewTextHandler(os.Stdout, nil))})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	table := NewTable[mds.Bar](s)
	acknowledged, after, failures := 0, 0, 0
	for n := 0; after < 20 && failures < 5; n++ {
		receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), diskBatch(n))
		if err != nil {
			failures++
			fmt.Printf("failed retryable=%v %v\n", mds.Retryable(err), err)
			_ = os.Remove(filepath.Join(dir, "filler")) // gone at the second failure
			n--
			continue
		}
		acknowledged += int(receipt.Written + receipt.Unchanged)
		if failures > 0 {
			after++
		}
	}
	fmt.Printf("acknowledged %d after %d\n", acknowledged, after)
	os.Exit(9)
}

// diskBatch is a batch of bars that compress badly.
func diskBatch(n int) []mds.Bar {
	bars := make([]mds.Bar, 1000)
	for i := range bars {
		bars[i] = mds.Bar{
			Vendor: "test", Symbol: fmt.Sprint("S", n%50), Timeframe: "1s",
			TS:     time.Unix(int64(n*len(bars)+i), 0),
			Close:  float64(n*7919%1000) + float64(i*31%97)/97,
			Volume: mds.Some(float64((i*7919 + n*31) % 100_003)),
			VWAP:   mds.Some(float64((i*104_729+n)%999_983) / 3),
		}
	}
	return bars
}

// TestFullDisk has the disk fill up in the middle of a write (4 MB free) and
// in the middle of a checkpoint (67 MB, past DuckDB's log of 64), after which
// DuckDB gives the instance up. In both the store goes on once there is room,
// and nothing acknowledged is lost.
func TestFullDisk(t *testing.T) {
	for _, free := range []int{4, 67} {
		t.Run(fmt.Sprint(free, " MB"), func(t *testing.T) {
			self, err := os.Executable()
			if err != nil {
				t.Fatal(err)
			}
			cmd := mountns.Command(t, `
				mount -t tmpfs -o size=130m none "$DIR"
				head -c "$FILLER" /dev/zero > "$DIR/filler"
				`+fullDisk+`="$DIR" "$SELF" || true
				cp "$DIR"/store/* "$OUT"`)
			out := t.TempDir()
			cmd.Env = append(cmd.Env, "SELF="+self, "OUT="+out, fmt.Sprintf("FILLER=%d", (130-free)<<20))
			text, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s", err, text)
			}
			var acknowledged, after int
			_, last, _ := strings.Cut(string(text), "\nacknowledged ")
			if _, err := fmt.Sscanf(last, "%d after %d", &acknowledged, &after); err != nil {
				t.Fatalf("%v in\n%s", err, text)
			}
			if !strings.Contains(string(text), "failed retryable=true write bars: the disk is full") || after != 20 {
				t.Errorf("%d batches after the disk was full:\n%s", after, text)
			}
			if again := strings.Contains(string(text), "file opened again after a failure"); again != (free > 64) {
				t.Errorf("the file was opened again: %v\n%s", again, text)
			}
			n, err := NewTable[mds.Bar](open(t, out, Config{})).Count(context.Background(), mds.DefaultTenant(), mds.Selection{})
			if err != nil || n != int64(acknowledged) {
				t.Errorf("%d bars are stored, %v; acknowledged were %d", n, err, acknowledged)
			}
		})
	}
}

// compactFull makes the test binary be a process that compacts on a full disk.
const compactFull = "MDS_TEST_COMPACT_FULL_DISK"

// compactOnFullDisk fills most of a disk with bars in order of time, compacts in vain,
// makes room, and compacts.
func compactOnFullDisk(dir string) {
	ctx := context.Background()
	s, err := Open(ctx, filepath.Join(dir, "store"), Config{Compaction: CompactManual})
	if err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	table := NewTable[mds.Bar](s)
	random := rand.New(rand.NewPCG(1, 1))
	for n := range 10 {
		batch := make([]mds.Bar, 50_000)
		for i := range batch {
			batch[i] = modelBar(i%100, n*500+i/100, random.Float64())
		}
		if _, err := table.WriteBatch(ctx, mds.DefaultTenant(), batch); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
	}
	if err := leaveFree(dir, 3<<20); err != nil {
		fmt.Println(err)
		os.Exit(1)
	}
	done, err := table.Compact(ctx, mds.DefaultTenant())
	fmt.Printf("full: %+v retryable=%v %v\n", done, mds.Retryable(err), err)
	n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{})
	fmt.Println("count", n, err)
	_ = os.Remove(filepath.Join(dir, "filler"))
	receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), []mds.Bar{modelBar(0, 1_000_000, 1)})
	fmt.Printf("write %+v %v\n", receipt, err)
	done, err = table.Compact(ctx, mds.DefaultTenant())
	fmt.Printf("room: %+v %v\n", done, err)
	os.Exit(9)
}

// leaveFree fills a disk with a file "filler", but for some bytes.
func leaveFree(dir string, bytes int64) error {
	f, err := os.Create(filepath.Join(dir, "filler"))
	if err != nil {
		return err
	}
	defer f.Close()
	size, block := int64(0), make([]byte, 1<<16)
	for err == nil {
		var n int
		n, err = f.Write(block)
		size += int64(n)
	}
	return f.Truncate(size - bytes)
}

// TestCompactOnFullDisk has the disk fill up in a compaction, and go on once there is
// room. The process is gone without closing the store.
func TestCompactOnFullDisk(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := mountns.Command(t, `
		mount -t tmpfs -o size=150m none "$DIR"
		`+compactFull+`="$DIR" "$SELF" || true
		cp "$DIR"/store/*.duckdb* "$OUT"`)
	out := t.TempDir()
	cmd.Env = append(cmd.Env, "SELF="+self, "OUT="+out)
	text, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	for _, want := range []string{
		"full: {Kind:bars Moved:0 Steps:0} retryable=true compact bars: the disk is full",
		"count 500000 <nil>\n",
		"write {Written:1 Unchanged:0 Superseded:0 Modes:insert} <nil>\n",
		"room: {Kind:bars Moved:500001 Steps:1} <nil>\n",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("no %q in\n%s", want, text)
		}
	}
	n, err := NewTable[mds.Bar](open(t, out, Config{})).Count(context.Background(), mds.DefaultTenant(), mds.Selection{})
	if err != nil || n != 500_001 {
		t.Errorf("%d bars are stored, %v", n, err)
	}
}
