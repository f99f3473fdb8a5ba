package rollup_test

import (
	"reflect"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/rollup"
)

// micros is a time of 2024-03-05 in microseconds.
func micros(hour, minute int) int64 {
	return time.Date(2024, 3, 5, hour, minute, 0, 0, time.UTC).UnixMicro()
}

func TestNotes(t *testing.T) {
	n := rollup.NewNotes(mds.Minute)
	for _, row := range [][3]int64{{1, 9, 0}, {1, 9, 1}, {1, 10, 1}, {1, 11, 2}, {2, 11, 3}} { // an hour on, an hour and a minute on, another series
		n.Add(row[0], micros(int(row[1]), int(row[2])))
	}
	spans, err := rollup.Decode(nil, 7, false, n.Encode())
	want := []rollup.Span{{ID: 7, Series: 1, First: micros(9, 0), Last: micros(10, 1)}, {ID: 7, Series: 1, First: micros(11, 2), Last: micros(11, 2)}, {ID: 7, Series: 2, First: micros(11, 3), Last: micros(11, 3)}}
	if err != nil || !reflect.DeepEqual(spans, want) {
		t.Errorf("spans %v, %v\nwant %v", spans, err, want)
	}
	// Long ones are cut, so that each can be made anew at once.
	n = rollup.NewNotes(mds.Minute)
	for i := range int64(50_000) {
		n.Add(1, micros(0, 0)+i*60_000_000)
	}
	if len(n.Series) != 3 {
		t.Errorf("%d spans of 50,000 minutes, want 3", len(n.Series))
	}
}

func TestSpansComeBack(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var want []rollup.Span
		for range rapid.IntRange(0, 20).Draw(t, "n") {
			first := rapid.Int64Range(rollup.Never, -rollup.Never).Draw(t, "first")
			want = append(want, rollup.Span{ID: 3, Gone: true, Series: rapid.Int64Range(1, 1<<40).Draw(t, "series"), First: first, Last: first + rapid.Int64Range(0, 1<<50).Draw(t, "length")})
		}
		got, err := rollup.Decode(nil, 3, true, rollup.Encode(want))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v, %v, want %v", got, err, want)
		}
	})
	if _, err := rollup.Decode(nil, 1, false, []byte{2, 2}); err == nil {
		t.Error("half a span was read")
	}
}

func TestRest(t *testing.T) {
	spans := []rollup.Span{{ID: 1, Series: 1}, {ID: 2, Series: 2}, {ID: 2, Series: 3}, {ID: 3, Series: 4}}
	if got, want := rollup.Rest(spans, 2), (map[int64][]rollup.Span{1: nil, 2: {{ID: 2, Series: 3}}}); !reflect.DeepEqual(got, want) {
		t.Errorf("rest %v, want %v", got, want)
	}
}

// TestWindows reads rollups where they are whole and nothing changed, and bars elsewhere.
func TestWindows(t *testing.T) {
	rule := &rollup.Rule{Source: mds.Minute, Rollups: []mds.Timeframe{mds.Hour}, Zone: time.UTC, KeptFrom: rollup.Never}
	at := func(hour, minute int) time.Time { return time.UnixMicro(micros(hour, minute)).UTC() }
	window := func(from, to time.Time, bars bool) rollup.Window {
		return rollup.Window{Start: from, End: to, Bars: bars}
	}
	touched := []rollup.Span{{First: micros(10, 59), Last: micros(11, 0)}, {First: micros(14, 5), Last: micros(14, 6)}, {First: micros(20, 0), Last: micros(20, 0)}}
	for _, c := range []struct {
		name       string
		start, end time.Time
		kept       int64
		want       []rollup.Window
	}{
		{"all", time.Time{}, time.Time{}, rollup.Never, []rollup.Window{
			window(time.Time{}, at(10, 0), false), window(at(10, 0), at(12, 0), true), window(at(12, 0), at(14, 0), false), window(at(14, 0), at(15, 0), true),
			window(at(15, 0), at(20, 0), false), window(at(20, 0), at(21, 0), true), window(at(21, 0), time.Time{}, false),
		}},
		{"part of an hour at both ends", at(8, 30), at(13, 15), rollup.Never, []rollup.Window{
			window(at(8, 30), at(9, 0), true), window(at(9, 0), at(10, 0), false), window(at(10, 0), at(12, 0), true), window(at(12, 0), at(13, 0), false), window(at(13, 0), at(13, 15), true),
		}},
		{"within an hour", at(8, 10), at(8, 20), rollup.Never, []rollup.Window{window(at(8, 10), at(8, 20), true)}},
		{"bars before 14:30 are dropped", at(8, 30), at(15, 0), micros(14, 30), []rollup.Window{window(at(8, 30), at(15, 0), false)}},
		{"nothing", at(9, 0), at(9, 0), rollup.Never, nil},
	} {
		rule.KeptFrom = c.kept
		if got := rule.Windows(mds.Hour, mds.Selection{Start: c.start, End: c.end}, touched); !reflect.DeepEqual(got, c.want) {
			t.Errorf("%s:\n%v\nwant\n%v", c.name, got, c.want)
		}
	}
	// Many changes are read together, and none is left out.
	rule.KeptFrom = rollup.Never
	var many []rollup.Span
	for i := range int64(1000) {
		many = append(many, rollup.Span{First: micros(0, 0) + i*2*3_600_000_000, Last: micros(0, 0) + i*2*3_600_000_000})
	}
	windows := rule.Windows(mds.Hour, mds.Selection{}, many)
	if len(windows) > 201 {
		t.Errorf("%d windows", len(windows))
	}
	for _, s := range many {
		read := false
		for _, w := range windows {
			read = read || w.Bars && w.Start.UnixMicro() <= s.First && s.First < w.End.UnixMicro()
		}
		if !read {
			t.Fatal("a change is read from rollups")
		}
	}
}

// TestPasses reads the bars of all rollups once, or less for each alone.
func TestPasses(t *testing.T) {
	rule := &rollup.Rule{Source: mds.Minute, Rollups: []mds.Timeframe{mds.Minute5, mds.Hour, mds.Day}, Zone: time.UTC, KeptFrom: rollup.Never}
	day := int64(24 * 3_600_000_000)
	var few, whole []rollup.Span
	for i := range int64(10) {
		few = append(few, rollup.Span{Series: i, First: micros(9, 0), Last: micros(9, 0)})
		whole = append(whole, rollup.Span{Series: i, First: micros(0, 0), Last: micros(23, 59) + 5*day})
	}
	if passes := rule.Passes(whole); len(passes) != 1 || len(passes[0].Rollups) != 3 || len(passes[0].Ranges) != 10 || passes[0].Ranges[0] != (rollup.Range{Series: 0, From: micros(0, 0), To: micros(0, 0) + 6*day}) {
		t.Errorf("whole days: %v", passes)
	}
	if passes := rule.Passes(few); len(passes) != 1 { // the day is read anyway, and has the rest
		t.Errorf("a minute each: %v", passes)
	}
	rule.Rollups = []mds.Timeframe{mds.Minute5, mds.Hour, mds.Week, mds.Month}
	for _, p := range rule.Passes(few) {
		for _, r := range p.Ranges {
			for _, to := range p.Rollups {
				start, _ := to.Span(time.UnixMicro(r.From), time.UTC)
				_, end := to.Span(time.UnixMicro(r.To-1), time.UTC)
				if start.UnixMicro() != r.From || end.UnixMicro() != r.To {
					t.Errorf("%s: a range from %d to %d is no whole number of them", to, r.From, r.To)
				}
			}
		}
	}
	rule.KeptFrom = micros(9, 30)
	got := rule.Passes([]rollup.Span{{Series: 1, First: micros(8, 0), Last: micros(9, 45)}})
	if want := []rollup.Pass{{Rollups: []mds.Timeframe{mds.Minute5}, Ranges: []rollup.Range{{Series: 1, From: micros(9, 30), To: micros(9, 50)}}}}; !reflect.DeepEqual(got, want) {
		t.Errorf("beside what was dropped: %v, want %v", got, want)
	}
}
