package deadletter

import (
	"bytes"
	"context"
	"errors"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/marketdatastore/mds"
)

// written is a segment of three letters, closed, and its bytes.
func written(t *testing.T) (segment, []byte) {
	t.Helper()
	dir := t.TempDir()
	l := openLog(t, Config{Dir: dir})
	add(t, l, letters(0, 3))
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := segmentsOf(t, dir)[0]
	text, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	return s, text
}

func (s segment) set(t *testing.T, text []byte) {
	t.Helper()
	if err := os.WriteFile(s.path(), text, 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestTornTail cuts the last line at every byte.
func TestTornTail(t *testing.T) {
	s, text := written(t)
	last := bytes.LastIndexByte(text[:len(text)-1], '\n') + 1
	for size := last; size < len(text); size++ {
		s.set(t, text[:size])
		if got := symbols(t, s.dir); got != "S0 S1" {
			t.Fatalf("cut at %d: %s", size, got)
		}
		l := openLog(t, Config{Dir: s.dir})
		if info, err := os.Stat(s.path()); err != nil || info.Size() != int64(last) {
			t.Fatalf("cut at %d: %d bytes after opening, want %d, %v", size, info.Size(), last, err)
		}
		if err := l.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if got := files(t, s.dir); len(got) != 1 {
		t.Errorf("there is %v", got)
	}
	// Space that was reserved and not written.
	s.set(t, append(text[:last:last], make([]byte, 5000)...))
	openLog(t, Config{Dir: s.dir})
	if info, err := os.Stat(s.path()); err != nil || info.Size() != int64(last) || symbols(t, s.dir) != "S0 S1" {
		t.Errorf("zeros: %d bytes, %v", info.Size(), err)
	}
}

// TestTornHeader: of a segment whose first write was torn nothing stays.
func TestTornHeader(t *testing.T) {
	s, text := written(t)
	for _, size := range []int{0, 1, 20, bytes.IndexByte(text, '\n'), bytes.IndexByte(text, '\n') + 1, bytes.IndexByte(text, '\n') + 50} {
		s.set(t, text[:size])
		if got := symbols(t, s.dir); got != "" {
			t.Errorf("cut at %d: %s", size, got)
		}
		openLog(t, Config{Dir: s.dir})
		if got := files(t, s.dir); len(got) != 0 {
			t.Errorf("cut at %d: %v is left", size, got)
		}
	}
}

// TestFlippedByte damages a line in the middle at every byte, its line feed included,
// in several ways.
func TestFlippedByte(t *testing.T) {
	s, text := written(t)
	from := bytes.Index(text, []byte(`"no":2`))
	from = bytes.LastIndexByte(text[:from], '\n') + 1
	to := from + bytes.IndexByte(text[from:], '\n')
	whole, _ := read(t, s.dir, Filter{})
	for at := from; at <= to; at++ {
		for _, mask := range []byte{0x01, 0x20, 0xff, text[at] ^ '\n'} {
			if mask == 0 {
				mask = 0x80
			}
			damaged := slices.Clone(text)
			damaged[at] ^= mask
			s.set(t, damaged)
			want, notWant := []string{whole[0].ID, whole[2].ID}, whole[1].ID
			got, errs := read(t, s.dir, Filter{})
			if len(errs) == 0 || !strings.HasPrefix(errs[0].Error(), s.path()+" is damaged at byte ") {
				t.Fatalf("byte %d ^ %#x is not told: %v", at, mask, errs)
			}
			if at == to { // the line itself is intact
				want, notWant = ids(whole), ""
			}
			if !slices.Equal(ids(got), want) || slices.Contains(ids(got), notWant) {
				t.Fatalf("byte %d ^ %#x: %v, want %v", at, mask, ids(got), want)
			}
			var log bytes.Buffer
			l := openLog(t, Config{Dir: s.dir, Logger: slog.New(slog.NewTextHandler(&log, nil))})
			quarantined, err := l.Dir().Quarantined()
			if err != nil || len(quarantined) != 1 || !strings.Contains(log.String(), "level=ERROR") || !strings.Contains(log.String(), s.path()) {
				t.Fatalf("byte %d ^ %#x: in quarantine is %v, %v; the log says %s", at, mask, quarantined, err, &log)
			}
			kept, err := os.ReadFile(quarantined[0])
			if err != nil || !bytes.Equal(kept, damaged) {
				t.Fatalf("byte %d ^ %#x: the damaged file is not what it was: %v", at, mask, err)
			}
			after, errs := read(t, s.dir, Filter{})
			if errs != nil || !slices.Equal(ids(after), want) || after[len(after)-1].Reason != whole[2].Reason {
				t.Fatalf("byte %d ^ %#x: after the repair %v, %v, want %v", at, mask, ids(after), errs, want)
			}
			if err := os.RemoveAll(filepath.Join(s.dir, quarantine)); err != nil {
				t.Fatal(err)
			}
		}
	}
}

// TestDamageElsewhere: of the header, of the last line although it is complete, and of
// a file that is no segment.
func TestDamageElsewhere(t *testing.T) {
	s, text := written(t)
	flip := func(at int) []byte {
		damaged := slices.Clone(text)
		damaged[at] ^= 4
		return damaged
	}
	for name, c := range map[string]struct {
		text []byte
		want string
	}{
		"header":       {flip(30), "S0 S1 S2"},
		"last line":    {flip(len(text) - 10), "S0 S1"},
		"no header":    {text[bytes.IndexByte(text, '\n')+1:], "S0 S1 S2"},
		"two headers":  {append(slices.Clone(text), text[:bytes.IndexByte(text, '\n')+1]...), "S0 S1 S2"},
		"another file": {[]byte("a,b\n1,2\n"), ""},
		"other format": {appendLine(nil, []byte(`"format":"x","version":1}`)), ""},
	} {
		s.set(t, c.text)
		l := openLog(t, Config{Dir: s.dir})
		quarantined, err := l.Dir().Quarantined()
		if err != nil || len(quarantined) != 1 || symbols(t, s.dir) != c.want {
			t.Errorf("%s: %q, in quarantine is %v, %v", name, symbols(t, s.dir), quarantined, err)
		}
		if c.want == "" && slices.Contains(files(t, s.dir), s.name+segmentExt) {
			t.Errorf("%s: %v", name, files(t, s.dir))
		}
		if err := os.RemoveAll(filepath.Join(s.dir, quarantine)); err != nil {
			t.Fatal(err)
		}
	}
}

// TestNewerVersion: what a newer program wrote is left for it, and told.
func TestNewerVersion(t *testing.T) {
	s, text := written(t)
	newer := appendLine(nil, []byte(`"format":"mds-dead-letters","version":2}`))
	s.set(t, append(newer, text[bytes.IndexByte(text, '\n')+1:]...))
	before, err := os.ReadFile(s.path())
	if err != nil {
		t.Fatal(err)
	}
	openLog(t, Config{Dir: s.dir})
	after, err := os.ReadFile(s.path())
	list, damaged := read(t, s.dir, Filter{})
	if err != nil || !bytes.Equal(before, after) || list != nil || len(damaged) != 1 || !strings.HasSuffix(damaged[0].Error(), "it was written by a newer version of this program; use that one") {
		t.Errorf("%v, %v, %v", list, damaged, err)
	}
}

// TestDamageWithRemoved: what was removed does not come back with a repair, which ends
// wherever it was interrupted.
func TestDamageWithRemoved(t *testing.T) {
	s, text := written(t)
	all, _ := read(t, s.dir, Filter{})
	remove(t, s.dir, all[:1])
	at := bytes.Index(text, []byte(`"no":2`))
	text[at] ^= 1
	s.set(t, text)
	// A repair that was killed left its draft, and the name in quarantine.
	if err := os.WriteFile(s.path()+draftExt, []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	folder := filepath.Join(s.dir, quarantine)
	if err := errors.Join(os.Mkdir(folder, 0o700), os.Link(s.path(), filepath.Join(folder, s.name+segmentExt))); err != nil {
		t.Fatal(err)
	}
	openLog(t, Config{Dir: s.dir})
	if got := symbols(t, s.dir); got != "S2" {
		t.Errorf("left are %s", got)
	}
	quarantined, err := (Dir{Path: s.dir}).Quarantined()
	if err != nil || len(quarantined) != 1 {
		t.Errorf("in quarantine is %v, %v", quarantined, err)
	}
	if got := files(t, s.dir); len(got) != 3 {
		t.Errorf("there is %v", got)
	}
}

func TestCompanion(t *testing.T) {
	s, _ := written(t)
	all, _ := read(t, s.dir, Filter{})
	remove(t, s.dir, all[:1])
	remove(t, s.dir, all[1:2])
	text, err := os.ReadFile(s.removed())
	if want := `{"crc":"0089ff2d","len":14,"removed":"1"}` + "\n" + `{"crc":"eaa73f5e","len":14,"removed":"2"}` + "\n"; err != nil || string(text) != want {
		t.Fatalf("%s, %v", text, err)
	}
	second := bytes.IndexByte(text, '\n') + 1
	t.Run("torn", func(t *testing.T) {
		for size := second; size < len(text); size++ {
			if err := os.WriteFile(s.removed(), text[:size], 0o600); err != nil {
				t.Fatal(err)
			}
			if got := symbols(t, s.dir); got != "S1 S2" {
				t.Fatalf("cut at %d: %s", size, got)
			}
			remove(t, s.dir, all[1:2]) // the torn tail does not swallow it
			if got := symbols(t, s.dir); got != "S2" {
				t.Fatalf("cut at %d, then removed: %s", size, got)
			}
		}
	})
	t.Run("damaged", func(t *testing.T) {
		damaged := slices.Clone(text)
		damaged[second-4] ^= 1
		if err := os.WriteFile(s.removed(), damaged, 0o600); err != nil {
			t.Fatal(err)
		}
		openLog(t, Config{Dir: s.dir})
		quarantined, err := (Dir{Path: s.dir}).Quarantined()
		if got := symbols(t, s.dir); err != nil || got != "S0 S2" || len(quarantined) != 1 {
			t.Errorf("%s, in quarantine %v, %v", got, quarantined, err)
		}
	})
	t.Run("without its segment", func(t *testing.T) {
		if err := os.WriteFile(s.removed()+draftExt, []byte("half"), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := os.Remove(s.path()); err != nil {
			t.Fatal(err)
		}
		openLog(t, Config{Dir: s.dir})
		if got := files(t, s.dir); !slices.Equal(got, []string{quarantine}) {
			t.Errorf("there is %v", got)
		}
	})
}

// TestSegmentGoesWhileItIsOpened: a segment that is dropped between the opening of it and
// of its companion has no letters, although nothing says any more that they are removed.
func TestSegmentGoesWhileItIsOpened(t *testing.T) {
	s, _ := written(t)
	if err := syscall.Mkfifo(s.removed(), 0o600); err != nil {
		t.Fatal(err)
	}
	done := make(chan string)
	go func() { done <- symbols(t, s.dir) }()
	companion, err := os.OpenFile(s.removed(), os.O_WRONLY, 0) // waits for the reader
	if err == nil {
		err = errors.Join(os.Remove(s.path()), companion.Close())
	}
	if got := <-done; err != nil || got != "" {
		t.Errorf("%q, %v", got, err)
	}
}

// TestForeignFiles are left alone.
func TestForeignFiles(t *testing.T) {
	dir := t.TempDir()
	for _, name := range []string{"notes.ndjson", "notes.removed", "README"} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte("mine\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	add(t, openLog(t, Config{Dir: dir}), letters(0, 1))
	if got := files(t, dir); len(got) != 4 || symbols(t, dir) != "S0" {
		t.Errorf("%v", got)
	}
}

func FuzzLines(f *testing.F) {
	l := letter(1)
	good := appendLine(header(), append([]byte(numberMark+"1,"), appendLetter(nil, &l)...))
	f.Add(good, 0, byte(0))
	f.Add(good, len(good)-1, byte(1))
	f.Add([]byte(`{"crc":"00000000","len":5,x`), 0, byte(0))
	f.Fuzz(func(t *testing.T, data []byte, at int, mask byte) {
		if at >= 0 && at < len(data) {
			data[at] ^= mask
		}
		p := newPieces(bytes.NewReader(data))
		covered := int64(0)
		for {
			piece, err := p.next()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil || piece.at != covered || p.at <= covered {
				t.Fatalf("%+v, %v at %d", piece, err, covered)
			}
			covered = p.at
			if piece.line == nil {
				continue
			}
			if again := lineIn(appendLine(nil, body(piece.line))); !bytes.Equal(again, piece.line) {
				t.Fatalf("%q written again is %q", piece.line, again)
			}
			if letter, err := parseLetter(piece.line); err == nil {
				if back, err := parseLetter(appendLine(nil, appendLetter(nil, &letter))); err != nil || back.Reason != letter.Reason || !back.Died.Equal(letter.Died) {
					t.Fatalf("%v of %q", err, piece.line)
				}
			}
		}
		if covered != int64(len(data)) {
			t.Fatalf("%d bytes of %d", covered, len(data))
		}
	})
}

// TestReadEnds: a reader ends with its context, and where its caller stops.
func TestReadEnds(t *testing.T) {
	s, _ := written(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	n := 0
	var last error
	for _, err := range (Dir{Path: s.dir}).Letters(ctx, Filter{}) {
		n++
		last = err
		cancel()
	}
	if n != 2 || !errors.Is(last, context.Canceled) {
		t.Errorf("%d, %v", n, last)
	}
	second, stop := context.WithCancel(t.Context())
	defer stop()
	for range (Dir{Path: s.dir}).Letters(second, Filter{Tenant: mds.DefaultTenant().ID}) {
		n++
		stop()
		break
	}
	if n != 3 {
		t.Errorf("it goes on after the caller stopped")
	}
}
