package deadletter

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"iter"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/gofrs/flock"
)

// Dir is a folder of letters, for those who read and remove them beside the
// processes that append. A folder that is not there holds none.
type Dir struct {
	Path string
	// Logger is told what is damaged. Defaults to slog's default.
	Logger *slog.Logger
}

func (d Dir) logger() *slog.Logger {
	if d.Logger == nil {
		return slog.Default()
	}
	return d.Logger
}

// Bytes is what the folder takes, all that is in it.
func (d Dir) Bytes() (int64, error) {
	n, err := bytesIn(d.Path)
	return n, ignoreMissing(err)
}

// Quarantined names the files that were found damaged. They stay until somebody
// removes them.
func (d Dir) Quarantined() ([]string, error) {
	entries, err := os.ReadDir(filepath.Join(d.Path, quarantine))
	if err != nil {
		return nil, ignoreMissing(err)
	}
	var paths []string
	for _, e := range entries {
		paths = append(paths, filepath.Join(d.Path, quarantine, e.Name()))
	}
	return paths, nil
}

// lock excludes others that remove or repair.
func (d Dir) lock(ctx context.Context) (*flock.Flock, error) {
	lock := flock.New(filepath.Join(d.Path, lockName), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(privateFile))
	if _, err := lock.TryLockContext(ctx, 5*time.Millisecond); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (d Dir) tryLock() (*flock.Flock, bool) {
	lock := flock.New(filepath.Join(d.Path, lockName), flock.SetFlag(os.O_CREATE|os.O_RDWR), flock.SetPermissions(privateFile))
	if ok, err := lock.TryLock(); err != nil || !ok {
		_ = lock.Close()
		return nil, false
	}
	return lock, true
}

// Letters reads the letters that are there when it begins, in order of arrival, one
// at a time: what is appended meanwhile may be missed, and what is removed may still
// come. The order of several writers' letters is that of their segments. What
// is damaged is a [*DamagedError]; who goes on gets what comes after it. Any other error
// is the last.
func (d Dir) Letters(ctx context.Context, filter Filter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		list, err := segmentsIn(d.Path)
		if err != nil {
			yield(Letter{}, failed(d.Path, err))
			return
		}
		wanted := filter.segments()
		for _, s := range list {
			only := wanted[s.name]
			if wanted != nil && only == nil {
				continue
			}
			more, err := s.letters(ctx, &filter, only, yield)
			if more && err != nil {
				yield(Letter{}, failed(d.Path, err))
			}
			if !more || err != nil {
				return
			}
		}
	}
}

// letters yields those of a segment that the filter picks, of some numbers unless only
// is nil, and reports whether more are wanted.
func (s segment) letters(ctx context.Context, filter *Filter, only *numbers, yield func(Letter, error) bool) (more bool, err error) {
	f, c, err := s.open()
	if err != nil || f == nil {
		return true, err
	}
	defer f.Close() //nolint:errcheck // it was read
	more = true
	_, err = s.scan(f, c.cut, func(found scanned) bool {
		switch {
		case ctx.Err() != nil:
			return false
		case found.err != nil:
			more = yield(Letter{}, found.err)
		case c.gone.has(found.number), only != nil && !only.has(found.number):
		default:
			letter, failure := parseLetter(found.line)
			letter.ID = s.id(found.number)
			if failure != nil {
				more = yield(Letter{ID: letter.ID}, &DamagedError{s.path(), found.at, failure})
			} else if filter.picks(&letter) {
				more = yield(letter, nil)
			}
		}
		return more
	})
	return more, errors.Join(err, ctx.Err())
}

// open opens a segment together with what was removed of it; the file is nil
// where the segment is gone.
func (s segment) open() (*os.File, companion, error) {
	for {
		f, err := os.Open(s.path())
		if err != nil {
			return nil, companion{}, ignoreMissing(err)
		}
		c, err := s.companion()
		if err != nil {
			return nil, c, errors.Join(err, f.Close())
		}
		// A segment goes before its companion: if it is still there, so was that.
		opened, err := f.Stat()
		if err != nil {
			return nil, c, errors.Join(err, f.Close())
		}
		if now, err := os.Stat(s.path()); err == nil && os.SameFile(opened, now) {
			return f, c, nil
		}
		_ = f.Close() // it is gone, or was repaired
	}
}

// scanned is a letter's line, or something that is none.
type scanned struct {
	line   []byte
	number int
	at     int64
	err    error // a *DamagedError
}

// outline is what was found in a segment.
type outline struct {
	present numbers
	// end is where the last piece ends that is not torn.
	end           int64
	torn, damaged bool
	newer         bool // it is of a newer version
}

// scan reads a segment as it is now, up to cut, piece by piece, until visit
// returns false.
func (s segment) scan(f *os.File, cut int64, visit func(scanned) bool) (o outline, err error) {
	info, err := f.Stat()
	if err != nil {
		return o, err
	}
	p := newPieces(io.NewSectionReader(f, 0, min(info.Size(), cut)))
	for first := true; ; first = false {
		piece, err := p.next()
		if errors.Is(err, io.EOF) {
			return o, nil
		}
		if err != nil {
			return o, err
		}
		if piece.torn {
			o.torn = true
			return o, nil
		}
		o.end = p.at
		found := scanned{line: piece.line, at: piece.at}
		if found.line != nil {
			found.number = numberOf(found.line)
		}
		if first && found.line != nil && found.number == 0 {
			version := versionOf(found.line)
			if version > formatVersion {
				o.newer = true
				visit(scanned{err: &DamagedError{s.path(), 0, errVersion}})
				return o, nil
			}
			if version == formatVersion && !piece.damaged {
				continue
			}
		}
		// A segment begins with its header, and has no other.
		if piece.damaged || first || found.number == 0 {
			o.damaged = true
			if !visit(scanned{err: &DamagedError{s.path(), piece.at, nil}}) {
				return o, nil
			}
		}
		if found.number > 0 {
			o.present.add(found.number)
			if !visit(found) {
				return o, nil
			}
		}
	}
}

// Remove removes letters for good, and returns how many were there. They are gone, on
// the disk, when it returns; of those of one segment all are or none. An id that no letter
// has any more is no error; one that no letter can have is.
func (d Dir) Remove(ctx context.Context, ids []string) (n int, err error) {
	bySegment := make(map[string][]int)
	for _, id := range ids {
		name, number, ok := splitID(id)
		if !ok {
			return 0, fmt.Errorf("%q is no letter's id; one is like 20261126T084200.123456Z-1a2b.7", id)
		}
		bySegment[name] = append(bySegment[name], number)
	}
	if _, err := os.Stat(d.Path); err != nil || len(ids) == 0 {
		if err = ignoreMissing(err); err != nil {
			err = failed(d.Path, err)
		}
		return 0, err
	}
	lock, err := d.lock(ctx)
	if err != nil {
		return 0, failed(d.Path, err)
	}
	defer func() { err = errors.Join(err, lock.Close()) }()
	for name, list := range bySegment {
		removed, err := d.remove(segment{d.Path, name}, list)
		n += removed
		if err != nil {
			return n, failed(d.Path, err)
		}
	}
	return n, nil
}

func (d Dir) remove(s segment, list []int) (n int, err error) {
	f, c, err := s.open()
	if err != nil || f == nil {
		return 0, err
	}
	o, err := s.scan(f, c.cut, func(scanned) bool { return true })
	if err = errors.Join(err, f.Close()); err != nil {
		return 0, err
	}
	list = slices.DeleteFunc(slices.Compact(slices.Sorted(slices.Values(list))), func(number int) bool {
		return !o.present.has(number) || c.gone.has(number)
	})
	if len(list) == 0 {
		return 0, nil
	}
	if err := s.note(removedLine(list)); err != nil {
		return 0, err
	}
	for _, number := range list {
		c.gone.add(number)
	}
	if o.present.within(&c.gone) {
		err = d.settle(s)
	}
	return len(list), err
}

// Repair makes good what a crash or a bad disk left: it cuts torn tails off, puts
// damaged files into quarantine once their intact letters are safe, and removes what is
// empty. It leaves alone what another process writes. A folder that is not there is
// in order.
func (d Dir) Repair(ctx context.Context) error {
	if _, err := os.Stat(d.Path); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	lock, err := d.lock(ctx)
	if err != nil {
		return failed(d.Path, err)
	}
	if err := errors.Join(d.repair(), lock.Close()); err != nil {
		return failed(d.Path, err)
	}
	return nil
}
