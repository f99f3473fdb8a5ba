package export_test

import (
	"context"
	"errors"
	"io/fs"
	"iter"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/export"
)

// bars are a table; failing is what a query of it ends with.
type bars struct {
	list    []mds.Bar
	failing error
}

func (b bars) Series(context.Context, mds.Tenant, mds.Selection) (list []mds.Series[mds.Bar], err error) {
	for _, bar := range b.list {
		identity := mds.Bar{Vendor: bar.Vendor, Symbol: bar.Symbol, Timeframe: bar.Timeframe}
		list = append(list, mds.Series[mds.Bar]{Identity: identity, Rows: 1, First: bar.TS, Last: bar.TS.AddDate(0, 0, 1)})
	}
	return list, nil
}

func (b bars) Query(_ context.Context, _ mds.Tenant, q mds.Query) iter.Seq2[mds.Bar, error] {
	return func(yield func(mds.Bar, error) bool) {
		for _, bar := range b.list {
			if want := q.Where["symbol"]; len(want) > 0 && !slices.Contains(want, bar.Symbol) {
				continue
			}
			if !yield(bar, nil) {
				return
			}
		}
		if b.failing != nil {
			yield(mds.Bar{}, b.failing)
		}
	}
}

func day(symbol string, timeframe mds.Timeframe, n int) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: timeframe, TS: time.Date(2026, 1, n, 0, 0, 0, 0, time.UTC), Close: float64(n)}
}

// TestFiles has series with the same values in a template's placeholders share a file, whose
// dates are those of all of them.
func TestFiles(t *testing.T) {
	table := bars{list: []mds.Bar{day("A", mds.Day, 5), day("B", mds.Day, 2), day("B", mds.Minute, 9), day("../C", mds.Day, 3)}}
	for template, want := range map[string]string{
		"all.csv":                             "all.csv",
		"{table}/{vendor}-{start}-{end}.csv":  "bars/v-20260102-20260110.csv",
		"{symbol}.csv":                        "A.csv B.csv _._C.csv",
		"{timeframe}/{symbol}-{start}.ndjson": "1d/A-20260105.ndjson 1d/B-20260102.ndjson 1m/B-20260109.ndjson 1d/_._C-20260103.ndjson",
	} {
		e := export.Export[mds.Bar]{Source: table, Template: template}
		files, err := e.Files(t.Context())
		if err := errors.Join(err, e.Check()); err != nil {
			t.Errorf("%s: %v", template, err)
		}
		var names []string
		for _, f := range files {
			names = append(names, f.Name)
		}
		if got := strings.Join(names, " "); got != want {
			t.Errorf("%s names %s, want %s", template, got, want)
		}
	}
	e := export.Export[mds.Bar]{Source: bars{list: []mds.Bar{day("A/B", mds.Day, 1), day("A_B", mds.Day, 1)}}, Template: "{symbol}.csv", Label: func(name string) string { return "--" + name }}
	if _, err := e.Files(t.Context()); err == nil || !strings.HasPrefix(err.Error(), "--template: two series would go into one file A_B.csv") {
		t.Error(err)
	}
}

// TestWrite has a file get its name when all of its records are in it.
func TestWrite(t *testing.T) {
	table := bars{list: slices.Repeat([]mds.Bar{day("A", mds.Day, 1), day("B", mds.Day, 1)}, 5000)}
	name := filepath.Join(t.TempDir(), "x.csv")
	write := func(table bars) (n int64, told []int64, err error) {
		e := export.Export[mds.Bar]{Source: table, Name: name}
		out, err := codec.Create(name)
		if err != nil {
			t.Fatal(err)
		}
		f := export.File{Name: name, Selection: mds.Selection{Where: map[string][]string{"symbol": {"B"}}}}
		n, err = e.Write(t.Context(), out, &f, func(n int64) { told = append(told, n) })
		return n, told, err
	}
	table.failing = errors.New("the store is away")
	if _, _, err := write(table); !errors.Is(err, table.failing) {
		t.Error(err)
	}
	if _, err := os.Stat(name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("a file that was cut short is there: %v", err)
	}
	table.failing = nil
	n, told, err := write(table)
	text, readErr := os.ReadFile(name)
	if err := errors.Join(err, readErr); err != nil || n != 5000 || !slices.Equal(told, []int64{4096}) || strings.Count(string(text), "\nv,B,1d,2026-01-01T00:00:00Z,") != 5000 {
		t.Errorf("%d of which it told %v, %v, %d bytes", n, told, err, len(text))
	}
}

// TestFileError says once what of a file failed.
func TestFileError(t *testing.T) {
	err := &fs.PathError{Op: "mkdirat", Path: "/srv/a", Err: &os.LinkError{Op: "renameat", Old: "/srv/b", New: "/srv/c", Err: fs.ErrExist}}
	if got := export.FileError("a.csv", err); got.Error() != "a.csv: file already exists" || !errors.Is(got, fs.ErrExist) {
		t.Error(got)
	}
}
