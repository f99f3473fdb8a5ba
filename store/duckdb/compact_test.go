package duckdb

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/mountns"
)

// small is a layout that a few rows are enough for.
var small = layout{group: 8, segment: 64, chunk: 4}

// TestPlan has what is moved, by the sizes of the runs, which follow each other.
func TestPlan(t *testing.T) {
	l := layout{group: 10, segment: 100, chunk: 1}
	for _, c := range []struct {
		name string
		runs []int64
		want [][]int64
	}{
		{"nothing", nil, nil},
		{"one run is in order", []int64{400}, nil},
		{"large runs stay", []int64{100, 50, 70}, nil},
		{"too little to be worth while", []int64{5, 5}, nil},
		{"small ones are put together", []int64{5, 5, 5}, [][]int64{{5, 5, 5}}},
		{"segments of what there is enough of", []int64{30, 30, 30, 30, 30, 30, 30, 30}, [][]int64{{30, 30, 30, 30}, {30, 30, 30, 30}}},
		{"around what is in order", []int64{40, 200, 40, 300, 40}, [][]int64{{40, 40, 40}}},
		{"like the digits of a number", []int64{49, 30, 9, 2, 2}, [][]int64{{9, 2, 2}}},
		{"up to the first digit", []int64{40, 26, 9, 4, 2}, [][]int64{{40, 26, 9, 4, 2}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var runs []run
			at := int64(0)
			for _, rows := range c.runs {
				runs = append(runs, run{at, at + rows - 1, rows})
				at += rows
			}
			var got [][]int64
			for _, step := range l.plan(runs) {
				var rows []int64
				for _, r := range step {
					rows = append(rows, r.rows)
				}
				got = append(got, rows)
			}
			if !reflect.DeepEqual(got, c.want) {
				t.Errorf("moved are %v, want %v", got, c.want)
			}
		})
	}
}

// TestRuns has how rows lie, in chunks of 10 by their lowest and highest series.
func TestRuns(t *testing.T) {
	l := layout{chunk: 10}
	sorted := func(from, to int64) (series [][2]int64) {
		for ; from < to; from++ {
			series = append(series, [2]int64{from, from + 1})
		}
		return series
	}
	for _, c := range []struct {
		name   string
		series [][2]int64
		want   []int64 // rows of the runs
	}{
		{"one series", [][2]int64{{1, 1}, {1, 1}}, []int64{20}},
		{"series after series", [][2]int64{{1, 3}, {3, 3}, {3, 7}, {9, 9}}, []int64{40}},
		{"all series over and over", [][2]int64{{1, 9}, {1, 9}, {1, 9}}, []int64{10, 10, 10}},
		{"sorted batches", [][2]int64{{1, 5}, {5, 9}, {1, 5}, {5, 9}}, []int64{20, 20}},
		{"two runs that meet in a chunk", slices.Concat(sorted(1, 20), [][2]int64{{1, 20}}, sorted(1, 20)), []int64{190, 200}},
	} {
		t.Run(c.name, func(t *testing.T) {
			var chunks []chunk
			for i, s := range c.series {
				chunks = append(chunks, chunk{int64(i) * 10, int64(i)*10 + 9, 10, s[0], s[1]})
			}
			var got []int64
			next := int64(0)
			for _, r := range l.runs(chunks) {
				if r.first != next || r.last != r.first+r.rows-1 {
					t.Errorf("run %+v does not begin at %d", r, next)
				}
				next = r.last + 1
				got = append(got, r.rows)
			}
			if !slices.Equal(got, c.want) {
				t.Errorf("runs of %v rows, want %v", got, c.want)
			}
		})
	}
}

// barModel is what a store of bars should hold.
type barModel struct {
	table *Table[mds.Bar]
	bars  map[string]mds.Bar
	clock int // of batches in order of time
	last  []mds.Bar
}

func modelKey(b *mds.Bar) string { return fmt.Sprint(b.Symbol, " ", b.TS.Unix()) }

func modelBar(symbol, minute int, close float64) mds.Bar {
	return mds.Bar{
		Vendor: "test", Symbol: fmt.Sprint("S", symbol), Timeframe: mds.Minute,
		TS: time.Unix(1_700_000_000+int64(minute)*60, 0).UTC(), Close: close,
	}
}

// draw draws a batch: in order of time, late, or one that was written before.
func (m *barModel) draw(t *rapid.T) []mds.Bar {
	const symbols = 5
	var batch []mds.Bar
	rows := rapid.IntRange(1, 60).Draw(t, "rows")
	close := float64(rapid.IntRange(0, 3).Draw(t, "close"))
	switch rapid.SampledFrom([]string{"ordered", "ordered", "late", "again", "backfill"}).Draw(t, "batch") {
	case "ordered":
		for i := range rows {
			batch = append(batch, modelBar(i%symbols, m.clock, close))
			if i%symbols == symbols-1 {
				m.clock++
			}
		}
		m.clock++
	case "late":
		for range rows {
			batch = append(batch, modelBar(rapid.IntRange(0, symbols).Draw(t, "symbol"), rapid.IntRange(0, m.clock).Draw(t, "minute"), close))
		}
	case "backfill":
		symbol := rapid.IntRange(0, symbols).Draw(t, "symbol")
		for i := range rows {
			batch = append(batch, modelBar(symbol, i-30, close))
		}
	default:
		batch = m.last
	}
	m.last = batch
	return batch
}

// write sends a batch and compares its receipt.
func (m *barModel) write(t *rapid.T, batch []mds.Bar) {
	var want mds.Receipt
	kept := make(map[string]mds.Bar)
	for i := range batch {
		kept[modelKey(&batch[i])] = batch[i]
	}
	want.Superseded = int64(len(batch) - len(kept))
	for key, b := range kept {
		if have, ok := m.bars[key]; ok && have == b {
			want.Unchanged++
		} else {
			want.Written++
		}
		m.bars[key] = b
	}
	if got, err := m.table.WriteBatch(context.Background(), mds.DefaultTenant(), batch); err != nil || got != want {
		t.Fatalf("receipt %+v, %v; want %+v", got, err, want)
	}
}

func (m *barModel) delete(t *rapid.T) {
	symbol := fmt.Sprint("S", rapid.IntRange(0, 5).Draw(t, "symbol"))
	from := rapid.IntRange(-30, m.clock).Draw(t, "from")
	start := modelBar(0, from, 0).TS
	maps.DeleteFunc(m.bars, func(_ string, b mds.Bar) bool { return b.Symbol == symbol && !b.TS.Before(start) })
	if _, err := m.table.Delete(context.Background(), mds.DefaultTenant(), mds.Selection{Symbols: []string{symbol}, Start: start}); err != nil {
		t.Fatal(err)
	}
}

// check compares every bar, and the newest of each symbol.
func (m *barModel) check(t *rapid.T) {
	ctx := context.Background()
	want := slices.SortedFunc(maps.Values(m.bars), func(a, b mds.Bar) int {
		return min(1, max(-1, 2*a.TS.Compare(b.TS)+strings.Compare(a.Symbol, b.Symbol)))
	})
	var got []mds.Bar
	for b, err := range m.table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		got = append(got, b)
	}
	if !slices.Equal(got, want) {
		t.Fatalf("%d bars are stored, want %d:\n%v\n%v", len(got), len(want), got, want)
	}
	newest := make(map[string]mds.Bar)
	for _, b := range want {
		newest[b.Symbol] = b
	}
	latest, err := m.table.Latest(ctx, mds.DefaultTenant(), mds.Selection{})
	if wantLatest := slices.SortedFunc(maps.Values(newest), func(a, b mds.Bar) int { return strings.Compare(a.Symbol, b.Symbol) }); err != nil || !slices.Equal(latest, wantLatest) {
		t.Fatalf("the latest are %v, %v; want %v", latest, err, wantLatest)
	}
}

// TestModelWithCompaction compares a store with a map under random batches in order,
// late, sent again and removed, while compaction runs all the time, and with files
// closed and opened between.
func TestModelWithCompaction(t *testing.T) {
	dir := t.TempDir()
	steps := 0
	rapid.Check(t, func(rt *rapid.T) {
		ctx := context.Background()
		m := &barModel{bars: make(map[string]mds.Bar)}
		for opening := range rapid.IntRange(1, 3).Draw(rt, "openings") {
			s, err := Open(ctx, dir, Config{})
			if err != nil {
				rt.Fatal(err)
			}
			s.layout = small
			m.table = NewTable[mds.Bar](s)
			if opening == 0 {
				if _, err := m.table.Delete(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
					rt.Fatal(err)
				}
			}
			stop, stopped := make(chan struct{}), make(chan error)
			go func() {
				var err error
				for running := true; running && err == nil; {
					var done mds.Compaction
					done, err = m.table.Compact(ctx, mds.DefaultTenant())
					steps += done.Steps
					select {
					case <-stop:
						running = false
					default:
					}
				}
				stopped <- err
			}()
			func() {
				defer func() {
					close(stop)
					if err := <-stopped; err != nil {
						rt.Fatal(err)
					}
				}()
				for range rapid.IntRange(1, 6).Draw(rt, "actions") {
					switch rapid.IntRange(0, 9).Draw(rt, "action") {
					case 0:
						m.delete(rt)
					case 1, 2:
						m.check(rt)
					default:
						m.write(rt, m.draw(rt))
					}
				}
				m.check(rt)
			}()
			if err := s.Close(); err != nil {
				rt.Fatal(err)
			}
		}
	})
	if steps == 0 {
		t.Error("nothing was compacted")
	}
}

// TestCompactionClusters loads bars in order of time and finds each symbol's in one
// place afterwards.
func TestCompactionClusters(t *testing.T) {
	const symbols, minutes = 50, 8000
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	s.layout = layout{group: 1000, segment: 200_000, chunk: 100}
	table := NewTable[mds.Bar](s)
	for minute := range minutes {
		if minute%100 != 0 {
			continue
		}
		var batch []mds.Bar
		for m := minute; m < minute+100; m++ {
			for symbol := range symbols {
				batch = append(batch, modelBar(symbol, m, float64(m)))
			}
		}
		write(t, s, batch)
	}
	ctx := context.Background()
	done, err := table.Compact(ctx, mds.DefaultTenant())
	if err != nil || done.Moved != symbols*minutes || done.Steps != 2 || done.Kind != "bars" {
		t.Errorf("compaction %+v, %v", done, err)
	}
	if again, err := table.Compact(ctx, mds.DefaultTenant()); err != nil || again.Steps != 0 {
		t.Errorf("a second compaction %+v, %v", again, err)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	var stretches int
	err = f.snapshot(ctx, func(conn *reader) error {
		return conn.QueryRowContext(ctx, `SELECT count(*) FROM (SELECT series_id, lag(series_id) OVER (ORDER BY rowid) AS before FROM bar_facts) WHERE series_id IS DISTINCT FROM before`).Scan(&stretches)
	})
	if err != nil || stretches != 2*symbols {
		t.Errorf("the rows lie in %d stretches of one series, %v; want %d", stretches, err, 2*symbols)
	}
	if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != symbols*minutes {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestReadsDuringCompaction begins queries, moves all rows, and reads on.
func TestReadsDuringCompaction(t *testing.T) {
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	s.layout = layout{group: 1000, segment: 50_000, chunk: 100}
	table := NewTable[mds.Bar](s)
	const n = 60_000
	var want []mds.Bar
	for minute := range n / 10 {
		for symbol := range 10 {
			want = append(want, modelBar(symbol, minute, float64(minute)))
		}
	}
	for batch := range slices.Chunk(want, 5000) {
		write(t, s, batch)
	}
	ctx := context.Background()
	var got []mds.Bar
	for b, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 100 || len(got) == 40_000 {
			if done, err := table.Compact(ctx, mds.DefaultTenant()); err != nil || (len(got) == 100) != (done.Steps > 0) {
				t.Fatalf("compaction %+v, %v", done, err)
			}
		}
		got = append(got, b)
	}
	if !slices.Equal(got, want) {
		t.Errorf("%d bars were read, want %d in order", len(got), len(want))
	}
}

// TestUpkeep has what is compacted when: in quiet time at once, in busy times when
// there is much.
func TestUpkeep(t *testing.T) {
	l := layout{group: 10, segment: 100}
	for _, c := range []struct {
		name      string
		rows      int64
		writes    int
		busy      time.Duration
		due, must bool
	}{
		{"too little", 9, 0, 0, false, false},
		{"quiet", 10, 0, 0, true, false},
		{"some writes", 99, 3, quiet / 10, false, true},
		{"a segment, some writes", 100, 3, quiet / 10, true, true},
		{"a segment, busy", 100, 3, quiet, false, true},
		{"much, busy", 1600, 3, quiet, true, true},
	} {
		k := &keeping{rows: c.rows, layout: l}
		if due, must := k.due(c.writes, c.busy); due != c.due || due && must != c.must {
			t.Errorf("%s: due %v, must %v", c.name, due, must)
		}
	}
}

// TestCompactionInQuietTime looks, as the timer would, after a second without a write.
func TestCompactionInQuietTime(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	s.layout = small
	ctx := context.Background()
	table := NewTable[mds.Bar](s)
	var batch []mds.Bar
	for minute := range 50 {
		for symbol := range 5 {
			batch = append(batch, modelBar(symbol, minute, 1))
		}
	}
	for part := range slices.Chunk(batch, 10) {
		write(t, s, part)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	f.upkeep.look(f) // writes came since the last look
	f.upkeep.look(f)
	for range 10 { // a step each
		f.upkeep.look(f)
	}
	if again, err := table.Compact(ctx, mds.DefaultTenant()); err != nil || again.Steps != 0 {
		t.Errorf("left to be compacted: %+v, %v", again, err)
	}
	if n := f.upkeep.kinds["bars"].rows; n != 0 {
		t.Errorf("%d rows are still thought to be in no order", n)
	}
}

// TestWriterComesFirst has a writer end a compaction that can wait.
func TestWriterComesFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := newFile("", mds.DefaultTenant(), Config{})
	f.upkeep.yield = cancel
	f.writer <- struct{}{} // compaction has the token
	done := make(chan struct{})
	close(done)
	if err := f.lockWriterUnless(context.Background(), done); !errors.Is(err, errDone) {
		t.Error(err)
	}
	if ctx.Err() == nil {
		t.Error("the compaction goes on")
	}
}

// TestTogether has batches that wait for their turn written in one transaction, in
// the order in which they came, each with its own receipt.
func TestTogether(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx := context.Background()
	write(t, s, []mds.Bar{modelBar(0, 0, 1), modelBar(1, 0, 1), modelBar(1, 5, 1)})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	q := queueOf[mds.Bar](f, "bars")
	f.writer <- struct{}{}
	gone, leave := context.WithCancel(ctx)
	batches := []struct {
		ctx     context.Context
		batch   []mds.Bar
		receipt mds.Receipt
		err     error
	}{
		{ctx: ctx, batch: []mds.Bar{modelBar(0, 1, 1), modelBar(0, 2, 1)}, receipt: mds.Receipt{Written: 1, Superseded: 1}},
		{ctx: gone, batch: []mds.Bar{modelBar(7, 7, 7)}, err: context.Canceled},
		{ctx: ctx, batch: []mds.Bar{modelBar(0, 2, 2), modelBar(0, 0, 1)}, receipt: mds.Receipt{Written: 1, Unchanged: 1}},
		{ctx: ctx, batch: []mds.Bar{modelBar(1, 5, 1), modelBar(1, 0, 3), modelBar(1, 3, 3)}, receipt: mds.Receipt{Written: 2, Unchanged: 1}},
	}
	var wg sync.WaitGroup
	for i := range batches {
		b := &batches[i]
		wg.Go(func() {
			receipt, err := table.WriteBatch(b.ctx, mds.DefaultTenant(), b.batch)
			if receipt != b.receipt || !errors.Is(err, b.err) {
				t.Errorf("batch %d: %+v, %v; want %+v, %v", i, receipt, err, b.receipt, b.err)
			}
		})
		waitFor(t, q, i+1)
	}
	leave()
	waitFor(t, q, 3)
	f.unlockWriter()
	wg.Wait()
	// What is sent again together is looked at together.
	f.writer <- struct{}{}
	for i, b := range [][]mds.Bar{{modelBar(0, 1, 1)}, {modelBar(1, 3, 3), modelBar(1, 0, 3)}} {
		wg.Go(func() {
			if receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), b); err != nil || receipt != (mds.Receipt{Unchanged: int64(len(b))}) {
				t.Errorf("batch %d again: %+v, %v", i, receipt, err)
			}
		})
		waitFor(t, q, i+1)
	}
	f.unlockWriter()
	wg.Wait()
	var stamps int
	err = f.snapshot(ctx, func(conn *reader) error {
		return conn.QueryRowContext(ctx, `SELECT count(DISTINCT updated_at) FROM bar_facts`).Scan(&stamps)
	})
	if err != nil || stamps != 2 {
		t.Errorf("the rows are of %d transactions, %v; want 2", stamps, err)
	}
	var closes []float64
	for b, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{ByIdentity: true}) {
		if err != nil {
			t.Fatal(err)
		}
		closes = append(closes, b.Close)
	}
	if want := []float64{1, 1, 2, 3, 3, 1}; !slices.Equal(closes, want) {
		t.Errorf("closes %v, want %v", closes, want)
	}
}

// TestTurnThatCameTooLate has a writer get the token after another one has written its
// batch: it gives the token back.
func TestTurnThatCameTooLate(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	w := &pending[mds.Bar]{ctx: ctx, done: make(chan struct{})}
	w.finish(mds.Receipt{}, nil)
	for range 2 {
		if err := f.lockWriter(ctx); err != nil {
			t.Fatal(err)
		}
		table.takeTurn(f, queueOf[mds.Bar](f, "bars"), w)
	}
}

// waitFor waits until some batches wait for the writer.
func waitFor(t *testing.T, q *queue[mds.Bar], n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		q.mu.Lock()
		waiting := len(q.waiting)
		q.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d batches wait, want %d", waiting, n)
		}
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
		"write {Written:1 Unchanged:0 Superseded:0} <nil>\n",
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
