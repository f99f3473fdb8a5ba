package deadletter

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func TestAppendAndRead(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "a", "dead-letters")
	l := openLog(t, Config{Dir: dir})
	if _, err := os.Stat(dir); err == nil {
		t.Error("the folder is made before there is a letter")
	}
	if got := symbols(t, dir); got != "" {
		t.Errorf("of no folder: %s", got)
	}
	want := letters(0, 3)
	want[1].Reason, want[1].Tenant = "has \xff, \n and \"", mds.Tenant{ID: "x", Slug: "y\x00"}
	want[2].Submitted = time.Time{}
	add(t, l, want[:2])
	add(t, l, want[2:])
	got, damaged := read(t, dir, Filter{})
	if damaged != nil || !reflect.DeepEqual(got, want) {
		t.Errorf("%v\nread  %+v\nwrote %+v", damaged, got, want)
	}
	for i := range want {
		name, number, ok := splitID(want[i].ID)
		if !ok || number != i+1 || len(name) != len("20261126T084200.123456Z-1a2b") {
			t.Errorf("the id %q", want[i].ID)
		}
	}
	if info, err := os.Stat(dir); err != nil || info.Mode().Perm() != 0o700 {
		t.Errorf("the folder has mode %v, %v", info.Mode(), err)
	}
	text, err := os.ReadFile(segmentsOf(t, dir)[0].path())
	if err != nil || bytes.Count(text, []byte("\n")) != 4 || !bytes.Contains(text, []byte(`"reason":"close: is not a number"`)) {
		t.Errorf("%v\n%s", err, text)
	}
}

func TestFilters(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	list := letters(0, 4)
	news := mds.News{Vendor: "IBKR ", Symbols: []string{"aapl", "MSFT"}}
	list[1].Kind, list[1].Record = "news", Encode(&news)
	list[2].Code, list[2].Tenant = "refused", mds.Tenant{ID: "other", Slug: "other"}
	list[3].Died = born.Add(2 * time.Hour)
	add(t, l, list)
	for name, c := range map[string]struct {
		filter Filter
		want   []string
	}{
		"kind":      {Filter{Kinds: []string{"news"}}, ids(list[1:2])},
		"tenant":    {Filter{Tenant: "other"}, ids(list[2:3])},
		"tenant id": {Filter{Tenant: "170955CD-45b1-5e79-a214-43560e6e8b6c", Kinds: []string{"news"}}, ids(list[1:2])},
		"code":      {Filter{Codes: []string{"refused"}}, ids(list[2:3])},
		"submitted": {Filter{SubmittedFrom: born.Add(time.Second), SubmittedBefore: born.Add(3 * time.Second)}, ids(list[1:3])},
		"died":      {Filter{DiedFrom: born.Add(2 * time.Hour)}, ids(list[3:])},
		"died till": {Filter{DiedBefore: born.Add(2 * time.Hour)}, ids(list[:3])},
		"vendor":    {Filter{Vendors: []string{"ibkr", "x"}}, ids(list[1:2])},
		"symbol":    {Filter{Symbols: []string{"s2"}}, ids(list[2:3])},
		"symbols":   {Filter{Symbols: []string{"msft"}}, ids(list[1:2])},
		"ids":       {Filter{IDs: []string{list[3].ID, list[0].ID, "nonsense"}}, []string{list[0].ID, list[3].ID}},
		"none":      {Filter{Kinds: []string{"news"}, Codes: []string{"refused"}}, nil},
		"all":       {Filter{}, ids(list)},
	} {
		got, _ := read(t, dir, c.filter)
		if !slices.Equal(ids(got), c.want) || c.filter.All() != (name == "all") {
			t.Errorf("%s: %v, want %v", name, ids(got), c.want)
		}
	}
}

func TestRotationAndRemoval(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir, SegmentBytes: 4000})
	var all []Letter
	for n := range 30 {
		one := letters(n, n+1)
		add(t, l, one)
		all = append(all, one...)
	}
	list := segmentsOf(t, dir)
	for _, s := range list {
		if info, err := os.Stat(s.path()); err != nil || info.Size() > 4000 {
			t.Errorf("%s has %d bytes, %v", s.name, info.Size(), err)
		}
	}
	if got, _ := read(t, dir, Filter{}); len(list) < 3 || !slices.Equal(ids(got), ids(all)) {
		t.Fatalf("%d segments with %v", len(list), ids(got))
	}
	second, _ := read(t, dir, Filter{})
	second = slices.DeleteFunc(second, func(l Letter) bool { return !strings.HasPrefix(l.ID, list[1].name) })
	before, err := os.ReadFile(list[1].path())
	if err != nil {
		t.Fatal(err)
	}
	if n := remove(t, dir, append(second[:1:1], second[0])); n != 1 {
		t.Errorf("%d removed", n)
	}
	if n := remove(t, dir, second[:1]); n != 0 {
		t.Errorf("%d removed again", n)
	}
	after, err := os.ReadFile(list[1].path())
	if err != nil || !bytes.Equal(before, after) {
		t.Errorf("removal rewrites the segment, or %v", err)
	}
	if got, _ := read(t, dir, Filter{}); len(got) != 29 || slices.Contains(ids(got), second[0].ID) {
		t.Errorf("%d letters are left", len(got))
	}
	if n := remove(t, dir, second); n != len(second)-1 {
		t.Errorf("%d removed of the rest", n)
	}
	if got := files(t, dir); slices.Contains(got, list[1].name+segmentExt) || slices.Contains(got, list[1].name+removedExt) {
		t.Errorf("of an empty segment there is %v", got)
	}
	// All of it: what the writer holds stays until it lets go.
	if n := remove(t, dir, all); n != 30-len(second) {
		t.Errorf("%d removed of all", n)
	}
	if got := files(t, dir); len(got) != 2 || symbols(t, dir) != "" {
		t.Errorf("left are %v", got)
	}
	add(t, l, letters(99, 100))
	if got := symbols(t, dir); got != "S99" {
		t.Errorf("the segment goes on with %q", got)
	}
	rest, _ := read(t, dir, Filter{})
	remove(t, dir, rest)
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	if got := files(t, dir); len(got) != 0 {
		t.Errorf("closed, there is %v", got)
	}
	if err := l.Append(t.Context(), letters(0, 1)); !errors.Is(err, ErrClosed) {
		t.Errorf("closed: %v", err)
	}
}

func TestRemoveRefusesNonsense(t *testing.T) {
	d := Dir{Path: t.TempDir()}
	for _, id := range []string{"", "7", "x.7", "20261126T084200.123456Z-1a2b", "20261126T084200.123456Z-1a2b.0", "20261126T084200.123456Z-1a2b.07", "20261126T084200.123456Z-1a2b.-1", "../20261126T084200.123456Z-1a2b.1"} {
		want := fmt.Sprintf("%q is no letter's id; one is like 20261126T084200.123456Z-1a2b.7", id)
		if _, err := d.Remove(t.Context(), []string{id}); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
	if n, err := d.Remove(t.Context(), []string{"20261126T084200.123456Z-1a2b.7"}); n != 0 || err != nil {
		t.Errorf("of a letter that is not there: %d, %v", n, err)
	}
}

// TestFull: at the bound nothing is lost, and a remover makes room, also of what the
// log itself was writing.
func TestFull(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir, MaxBytes: 10_000, SegmentBytes: 8_000})
	var kept []Letter
	var err error
	for n := 0; err == nil && n < 100; n++ {
		one := letters(n, n+1)
		if err = l.Append(t.Context(), one); err == nil {
			kept = append(kept, one...)
		}
	}
	if !errors.Is(err, ErrFull) || !strings.Contains(err.Error(), "of 10000 bytes are taken; run mds dlq replay or mds dlq discard, or raise MDS_DLQ_MAX_BYTES") {
		t.Fatalf("%v", err)
	}
	if n, err := l.Dir().Bytes(); err != nil || n > 10_000 || n < 9_000 {
		t.Errorf("the folder takes %d, %v", n, err)
	}
	if got, _ := read(t, dir, Filter{}); !slices.Equal(ids(got), ids(kept)) {
		t.Errorf("%d letters, want %d", len(got), len(kept))
	}
	newest := segmentsOf(t, dir)
	own := newest[len(newest)-1].name
	mine := slices.DeleteFunc(slices.Clone(kept), func(l Letter) bool { return !strings.HasPrefix(l.ID, own) })
	remove(t, dir, mine)
	if got := files(t, dir); slices.Contains(got, own+segmentExt) {
		t.Errorf("the segment of the log is still there: %v", got)
	}
	add(t, l, letters(200, 201))
	if got, _ := read(t, dir, Filter{}); len(got) != len(kept)-len(mine)+1 {
		t.Errorf("%d letters", len(got))
	}
	if err := l.Append(t.Context(), letters(0, 100)); !errors.Is(err, ErrFull) {
		t.Errorf("a batch that can never fit: %v", err)
	}
}

// TestFullOfWhatIsRemoved: letters that were removed while their segment was written
// take no room.
func TestFullOfWhatIsRemoved(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir, MaxBytes: 10_000, SegmentBytes: 10_000})
	for n := range 100 {
		one := letters(n, n+1)
		add(t, l, one)
		remove(t, dir, one)
	}
}

func TestTwoLogs(t *testing.T) {
	dir := t.TempDir()
	a, b := openLog(t, Config{Dir: dir}), openLog(t, Config{Dir: dir})
	add(t, a, letters(0, 1))
	add(t, b, letters(1, 2))
	third := openLog(t, Config{Dir: dir}) // it repairs nothing that others write
	add(t, a, letters(2, 3))
	add(t, third, letters(3, 4))
	if got := symbols(t, dir); got != "S0 S2 S1 S3" || len(segmentsOf(t, dir)) != 3 {
		t.Errorf("%s in %v", got, files(t, dir))
	}
}

// TestClockPutBack: a segment is named after those that are there.
func TestClockPutBack(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	add(t, l, letters(0, 1))
	old := segmentsOf(t, dir)[0]
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	future := segment{dir, "29990101T000000.000000Z-ffff"}
	if err := os.Rename(old.path(), future.path()); err != nil {
		t.Fatal(err)
	}
	add(t, openLog(t, Config{Dir: dir}), letters(1, 2))
	if list := segmentsOf(t, dir); symbols(t, dir) != "S0 S1" || !strings.HasPrefix(list[1].name, "29990101T000000.000001Z-") {
		t.Errorf("%v", files(t, dir))
	}
}

// TestReadingAndRemovingWhileAppending has everybody at it at once. Each letter is
// removed exactly once, and none is lost.
func TestReadingAndRemovingWhileAppending(t *testing.T) {
	const writers, each = 3, 60
	dir := t.TempDir()
	var appending, removing sync.WaitGroup
	for w := range writers {
		l := openLog(t, Config{Dir: dir, SegmentBytes: 3000})
		appending.Go(func() {
			for n := range each {
				if err := l.Append(context.WithoutCancel(t.Context()), letters(w*each+n, w*each+n+1)); err != nil {
					t.Error(err)
				}
			}
		})
	}
	finished := make(chan struct{})
	var mu sync.Mutex
	total := 0
	seen := make(map[string]int)
	sweep := func() {
		for l, err := range (Dir{Path: dir}).Letters(t.Context(), Filter{}) {
			if err != nil {
				t.Error(err)
				return
			}
			n, err := (Dir{Path: dir}).Remove(t.Context(), []string{l.ID})
			if err != nil {
				t.Error(err)
				return
			}
			mu.Lock()
			total += n
			seen[l.Texts("symbol")[0]] += n
			mu.Unlock()
		}
	}
	for range 2 {
		removing.Go(func() {
			for {
				select {
				case <-finished:
					return
				default:
					sweep()
				}
			}
		})
	}
	appending.Wait()
	close(finished)
	removing.Wait()
	sweep()
	if total != writers*each || len(seen) != writers*each {
		t.Errorf("%d letters of %d were removed, %d of them different", total, writers*each, len(seen))
	}
}

func TestAppendRefuses(t *testing.T) {
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	bad := letters(0, 2)
	bad[1].Record = []byte(`{"a":`)
	if err := l.Append(t.Context(), bad); err == nil || err.Error() != "dead letters in "+dir+": the record of letter 1 is no JSON" {
		t.Errorf("%v", err)
	}
	lines := letters(5, 6)
	lines[0].Record = []byte("{\n\"symbol\": \"S\\n5\"\n}")
	add(t, l, lines)
	if got := symbols(t, dir); got != "S\n5" {
		t.Errorf("%q", got)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	l.turn <- struct{}{}
	err := l.Append(ctx, letters(0, 1))
	<-l.turn
	if !errors.Is(err, context.Canceled) {
		t.Errorf("waiting for another: %v", err)
	}
}

func TestOpenRefuses(t *testing.T) {
	file := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, cfg := range map[string]Config{
		"dead letters: no folder is named":                                           {},
		"dead letters: -1 bytes a segment, 0 in all: a size is not negative":         {Dir: "x", SegmentBytes: -1},
		"dead letters in " + file + ": it is a file, not a folder":                   {Dir: file},
		"dead letters in " + file + "/x: " + file + "/x: " + syscall.ENOTDIR.Error(): {Dir: file + "/x"},
	} {
		if _, err := Open(cfg); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}

func TestNumbers(t *testing.T) {
	var set numbers
	text := string(appendRanges(nil, []int{9, 3, 1, 2, 2, 70, 71}))
	if err := set.addRanges(text); err != nil || text != "1-3,9,70-71" || !set.has(71) || set.has(8) || set.has(1000) {
		t.Errorf("%s: %v, %v", text, set, err)
	}
	var more numbers
	more.add(500)
	if !set.within(&set) || set.within(&more) || more.within(&set) || !(&numbers{}).within(&set) {
		t.Error("within is wrong")
	}
	for _, text := range []string{"", "0", "-1", "2-1", "1,", "a", strconv.Itoa(maxNumber + 1), "1-" + strconv.Itoa(maxNumber+1)} {
		if err := set.addRanges(text); err == nil {
			t.Errorf("%q is taken", text)
		}
	}
}

// TestCheck leaves nothing behind where letters can be kept.
func TestCheck(t *testing.T) {
	parent := t.TempDir()
	for _, dir := range []string{parent, filepath.Join(parent, "a", "b")} {
		l, err := Open(Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Check(); err != nil {
			t.Error(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	left, err := os.ReadDir(parent)
	if left = slices.DeleteFunc(left, func(e os.DirEntry) bool { return e.Name() == lockName }); err != nil || len(left) > 0 { // of a folder that is there
		t.Errorf("it leaves %v, %v", left, err)
	}
}
