package duckdb

import (
	"context"
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/marketdatastore/mds"
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
	err = f.snapshot(ctx, false, func(conn *reader) error {
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

// TestMoveRefuses moves rows of which some come twice: nothing is done.
func TestMoveRefuses(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	table := NewTable[mds.Bar](s)
	write(t, s, bars(20, 1))
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	var done mds.Compaction
	err = f.taking(ctx, func() error {
		return table.move(ctx, f, []run{{0, 9, 10}, {5, 14, 10}}, &done)
	})
	if err == nil || !strings.Contains(err.Error(), "20 rows were written anew and 15 removed") || done != (mds.Compaction{}) {
		t.Errorf("%+v, %v", done, err)
	}
	if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 20 {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestPlanOfOtherRows has the file written out, which gives rows new ids, between the
// plan of a compaction and what it does.
func TestPlanOfOtherRows(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	s.layout = layout{group: 1000, segment: 50_000, chunk: 100}
	table := NewTable[mds.Bar](s)
	batch := make([]mds.Bar, 300_000)
	for i := range batch {
		batch[i] = modelBar(i%100, i/100, 1)
	}
	for part := range slices.Chunk(batch, 20_000) {
		write(t, s, part)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := table.Delete(ctx, mds.DefaultTenant(), mds.Selection{End: modelBar(0, 1500, 0).TS}); err != nil {
		t.Fatal(err)
	}
	first := true
	var done mds.Compaction
	err = table.compact(ctx, f, func(ctx context.Context, fn func() error) error {
		return f.taking(ctx, func() error {
			if first {
				first = false
				if err := f.writeOut(ctx); err != nil {
					return err
				}
			}
			return fn()
		})
	}, &done)
	if err != nil || done.Steps != 2 || done.Moved < 100_000 || done.Moved > 150_000 {
		t.Errorf("%+v, %v; want most of 150,000 rows moved in two steps", done, err)
	}
	if n, err := table.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 150_000 {
		t.Errorf("%d bars, %v", n, err)
	}
}

// TestCompactionGivesRoomBack writes the file out before much is moved.
func TestCompactionGivesRoomBack(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	s.layout = layout{group: 100, segment: 1000, chunk: 20}
	table := NewTable[mds.Bar](s)
	const rows = 24_000
	for at := 0; at < rows; at += 200 {
		batch := make([]mds.Bar, 200)
		for i := range batch {
			batch[i] = modelBar(i%20, (at+i)/20, 1)
		}
		write(t, s, batch)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	most := int64(0)
	var done mds.Compaction
	err = table.compact(ctx, f, func(ctx context.Context, fn func() error) error {
		err := f.taking(ctx, fn)
		most = max(most, f.moved.Load())
		return err
	}, &done)
	if err != nil || done.Moved < rows/2 || most < 1000 || most > rows/12+1500 {
		t.Errorf("%+v, %v; %d rows were moved at most before the file was written out", done, err, most)
	}
}
