package deadletter

import (
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/gofrs/flock"
)

const (
	segmentExt   = ".ndjson"
	removedExt   = ".removed"
	draftExt     = ".draft"
	lockName     = "lock"
	quarantine   = "quarantine"
	nameLayout   = "20060102T150405.000000Z"
	privateDir   = 0o700
	privateFile  = 0o600
	namesPattern = `^\d{8}T\d{6}\.\d{6}Z-[0-9a-f]{4}$`
)

var names = regexp.MustCompile(namesPattern)

// segment is a file of letters. Its name is the part of their ids before the
// number.
type segment struct{ dir, name string }

func (s segment) path() string    { return filepath.Join(s.dir, s.name+segmentExt) }
func (s segment) removed() string { return filepath.Join(s.dir, s.name+removedExt) }

func (s segment) id(number int) string { return s.name + "." + strconv.Itoa(number) }

// splitID takes an id apart.
func splitID(id string) (name string, number int, ok bool) {
	at := strings.LastIndexByte(id, '.')
	if at < 0 || !names.MatchString(id[:at]) {
		return "", 0, false
	}
	number, err := strconv.Atoi(id[at+1:])
	return id[:at], number, err == nil && number > 0 && number <= maxNumber && strconv.Itoa(number) == id[at+1:]
}

// IsID reports whether a letter can have the id.
func IsID(id string) bool {
	_, _, ok := splitID(id)
	return ok
}

// segmentsIn lists the segments of a folder in order of arrival; none where
// there is no folder.
func segmentsIn(dir string) ([]segment, error) {
	entries, err := os.ReadDir(dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	var list []segment
	for _, e := range entries {
		if name, ok := strings.CutSuffix(e.Name(), segmentExt); ok && names.MatchString(name) && e.Type().IsRegular() {
			list = append(list, segment{dir, name})
		}
	}
	return list, nil
}

// newSegment names a segment after those that are there, also where the clock
// was put back.
func newSegment(dir string, now time.Time) (segment, error) {
	list, err := segmentsIn(dir)
	if err != nil {
		return segment{}, err
	}
	now = now.UTC().Truncate(time.Microsecond)
	if len(list) > 0 {
		last, err := time.Parse(nameLayout, list[len(list)-1].name[:len(nameLayout)])
		if err == nil && !now.After(last) {
			now = last.Add(time.Microsecond)
		}
	}
	var random [2]byte
	_, _ = rand.Read(random[:]) // it never fails
	return segment{dir, now.Format(nameLayout) + "-" + hex.EncodeToString(random[:])}, nil
}

// lockFile takes the lock of a file that is there, unless another has it or the
// file goes or is replaced meanwhile. It never waits.
func lockFile(path string) (*flock.Flock, bool) {
	lock := flock.New(path, flock.SetFlag(os.O_RDWR))
	if ok, err := lock.TryLock(); err != nil || !ok {
		_ = lock.Close()
		return nil, false
	}
	held, err := lock.Stat()
	there, pathErr := os.Stat(path)
	if err != nil || pathErr != nil || !os.SameFile(held, there) {
		_ = lock.Close()
		return nil, false
	}
	return lock, true
}

// syncDir brings the names in a folder to the disk.
func syncDir(dir string) error {
	f, err := os.Open(dir) //nolint:gosec // the operator names it
	if err != nil {
		return err
	}
	return errors.Join(f.Sync(), f.Close())
}

// makeDir makes a folder and those above it, and brings their names to the disk.
func makeDir(dir string) error {
	if _, err := os.Stat(dir); err == nil {
		return nil
	}
	above := filepath.Dir(filepath.Clean(dir))
	if err := makeDir(above); err != nil {
		return err
	}
	if err := os.Mkdir(dir, privateDir); err != nil {
		if errors.Is(err, fs.ErrExist) { // another process was quicker, or it is a file
			return nil
		}
		return err
	}
	return syncDir(above)
}

// bytesIn is what a folder takes, all that is in it.
func bytesIn(dir string) (total int64, err error) {
	err = filepath.WalkDir(dir, func(_ string, e fs.DirEntry, err error) error {
		if err == nil && e.Type().IsRegular() {
			var info fs.FileInfo
			if info, err = e.Info(); err == nil {
				total += info.Size()
			}
		}
		if errors.Is(err, fs.ErrNotExist) { // removed meanwhile
			err = nil
		}
		return err
	})
	return total, err
}

// maxNumber bounds the memory that a damaged file can ask for.
const maxNumber = 1 << 26

// numbers is a set of letters' numbers.
type numbers struct{ words []uint64 }

func (s *numbers) add(n int) {
	if word := n / 64; word >= len(s.words) {
		s.words = append(s.words, make([]uint64, max(word+1, 2*len(s.words))-len(s.words))...)
	}
	s.words[n/64] |= 1 << (n % 64)
}

func (s *numbers) has(n int) bool {
	return n/64 < len(s.words) && s.words[n/64]&(1<<(n%64)) != 0
}

// within reports whether all of the set are in the other.
func (s *numbers) within(other *numbers) bool {
	for i, word := range s.words {
		if i < len(other.words) {
			word &^= other.words[i]
		}
		if word != 0 {
			return false
		}
	}
	return true
}

// appendRanges appends numbers as "1-5,9".
func appendRanges(dst []byte, list []int) []byte {
	list = slices.Compact(slices.Sorted(slices.Values(list)))
	for i := 0; i < len(list); i++ {
		first := list[i]
		for i+1 < len(list) && list[i+1] == list[i]+1 {
			i++
		}
		if len(dst) > 0 && dst[len(dst)-1] != '"' {
			dst = append(dst, ',')
		}
		dst = strconv.AppendInt(dst, int64(first), 10)
		if list[i] > first {
			dst = strconv.AppendInt(append(dst, '-'), int64(list[i]), 10)
		}
	}
	return dst
}

func (s *numbers) addRanges(text string) error {
	for part := range strings.SplitSeq(text, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		first, err := strconv.Atoi(from)
		last, lastErr := strconv.Atoi(to)
		if err != nil || lastErr != nil || first < 1 || last < first || last > maxNumber {
			return fmt.Errorf("%q are no numbers", text)
		}
		for n := first; n <= last; n++ {
			s.add(n)
		}
	}
	return nil
}
