package deadletter

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"path/filepath"
	"syscall"
	"time"

	"github.com/gofrs/flock"
)

const (
	// DefaultSegmentBytes is 16 MiB.
	DefaultSegmentBytes = 16 << 20
	// DefaultMaxBytes is 1 GiB.
	DefaultMaxBytes = 1 << 30
)

// Config configures a [Log].
type Config struct {
	// Dir is the folder of the letters. It is made with the first of them.
	Dir string
	// SegmentBytes is the size at which a segment is ended. Room comes back by whole
	// segments only. Defaults to 16 MiB, and to an eighth of MaxBytes where that is less.
	SegmentBytes int64
	// MaxBytes bounds all that is in Dir, files in quarantine included. Defaults to 1 GiB.
	MaxBytes int64
	// Logger is told what is damaged. Defaults to slog's default.
	Logger *slog.Logger
}

func (c Config) withDefaults() (Config, error) {
	if c.Dir == "" {
		return c, errors.New("dead letters: no folder is named")
	}
	if c.SegmentBytes < 0 || c.MaxBytes < 0 {
		return c, fmt.Errorf("dead letters: %d bytes a segment, %d in all: a size is not negative", c.SegmentBytes, c.MaxBytes)
	}
	if c.MaxBytes == 0 {
		c.MaxBytes = DefaultMaxBytes
	}
	if c.SegmentBytes == 0 {
		c.SegmentBytes = min(DefaultSegmentBytes, c.MaxBytes/8)
	}
	if c.Logger == nil {
		c.Logger = slog.Default()
	}
	return c, nil
}

// Log appends letters. It is safe for concurrent use; several of one folder, in
// one process or many, write a segment each.
type Log struct {
	cfg     Config
	dir     Dir
	turn    chan struct{} // holds the token of who appends
	current *writing
	closed  bool
	full    int64 // what the folder took when there was no room in it

	wrap func(*os.File) media // for tests: a disk that fails
}

// media is what a segment needs of its file.
type media interface {
	io.WriteCloser
	Sync() error
	Truncate(size int64) error
}

// writing is the segment that is appended to.
type writing struct {
	segment
	file media
	lock *flock.Flock
	size int64 // acknowledged, as is last
	last int   // the number of the newest letter
}

// Open opens a folder for appending. Where there is one, what a crash or a bad
// disk left in it is repaired first, unless another process is at that.
func Open(cfg Config) (*Log, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	l := &Log{
		cfg: cfg, dir: Dir{Path: cfg.Dir, Logger: cfg.Logger}, turn: make(chan struct{}, 1),
		wrap: func(f *os.File) media { return f },
	}
	switch info, err := os.Stat(cfg.Dir); {
	case errors.Is(err, fs.ErrNotExist):
		return l, nil
	case err != nil:
		return nil, failed(cfg.Dir, err)
	case !info.IsDir():
		return nil, failed(cfg.Dir, errors.New("it is a file, not a folder"))
	}
	if lock, ok := l.dir.tryLock(); ok {
		err = errors.Join(l.dir.repair(), lock.Close())
	}
	if err != nil && !errors.Is(err, fs.ErrPermission) && !errors.Is(err, syscall.EROFS) { // who appends is told
		return nil, failed(cfg.Dir, err)
	}
	return l, nil
}

// Path is where the folder is.
func (l *Log) Path() string { return l.cfg.Dir }

// Check reports that letters cannot be kept: the folder is not to be written, or not to be
// made. A disk that is full may have room by then.
func (l *Log) Check() error {
	folder := l.cfg.Dir
	for {
		_, err := os.Stat(folder)
		parent := filepath.Dir(folder)
		if !errors.Is(err, fs.ErrNotExist) || parent == folder {
			break
		}
		folder = parent // the first letter makes the folder in it
	}
	probe, err := os.CreateTemp(folder, ".writable-*")
	if err == nil {
		err = errors.Join(probe.Close(), os.Remove(probe.Name()))
	}
	if errors.Is(err, syscall.ENOSPC) || errors.Is(err, syscall.EDQUOT) {
		return nil
	}
	var pathErr *fs.PathError
	if errors.As(err, &pathErr) {
		err = &fs.PathError{Op: pathErr.Op, Path: folder, Err: pathErr.Err} // rather than the probe
	}
	if err != nil {
		return failed(l.cfg.Dir, err)
	}
	return nil
}

// Dir is where the letters are, to read and remove them.
func (l *Log) Dir() Dir { return l.dir }

// Append keeps letters, all or none, in order, and gives them their ids. They are on the
// disk when it returns without an error; after an error none of them is there. It fails
// with [ErrFull] where the folder would take more than its bound. What ctx is for is the
// wait for others; what has begun is carried through. (Of a process that is killed in
// the middle, the first few may be there.)
func (l *Log) Append(ctx context.Context, letters []Letter) error {
	if len(letters) == 0 {
		return nil
	}
	bodies, size, err := encode(letters)
	if err != nil {
		return failed(l.cfg.Dir, err)
	}
	select {
	case l.turn <- struct{}{}:
		defer func() { <-l.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	if l.closed {
		return ErrClosed
	}
	if err := l.makeRoom(ctx, size); err != nil {
		return failed(l.cfg.Dir, err)
	}
	if err := l.write(ctx, letters, bodies); err != nil {
		return failed(l.cfg.Dir, err)
	}
	return nil
}

// overhead bounds what a line has beside its body: length, checksum, number.
const overhead = 64

// encode returns the bodies of letters without their numbers, and what they take at most.
func encode(letters []Letter) (bodies [][]byte, size int64, err error) {
	size = int64(len(header()))
	bodies = make([][]byte, len(letters))
	for i := range letters {
		l := letters[i]
		if !json.Valid(l.Record) {
			return nil, 0, fmt.Errorf("the record of letter %d is no JSON", i)
		}
		if bytes.IndexByte(l.Record, '\n') >= 0 {
			var line bytes.Buffer
			if err := json.Compact(&line, l.Record); err != nil {
				return nil, 0, err
			}
			l.Record = line.Bytes()
		}
		bodies[i] = appendLetter(nil, &l)
		size += int64(len(bodies[i])) + overhead
	}
	return bodies, size, nil
}

// makeRoom ends the segment where the letters would make it too large, and looks
// whether they fit into the folder.
func (l *Log) makeRoom(ctx context.Context, size int64) error {
	if s := l.current; s != nil {
		// Somebody may have removed the folder: what is written to a file without a name is lost.
		if _, err := os.Stat(s.path()); err != nil || s.size+size > l.cfg.SegmentBytes {
			l.seal()
		}
	}
	used, err := bytesIn(l.cfg.Dir)
	if err != nil || used+size <= l.cfg.MaxBytes {
		return ignoreMissing(err)
	}
	// What this log holds can be emptied only once it lets go of it.
	l.seal()
	if used != l.full { // or it was looked through already, and is as it was
		lock, err := l.dir.lock(ctx)
		if err != nil {
			return err
		}
		if err := errors.Join(l.dir.repair(), lock.Close()); err != nil {
			return err
		}
		if used, err = bytesIn(l.cfg.Dir); err != nil {
			return err
		}
	}
	if l.full = used; used+size > l.cfg.MaxBytes {
		return fmt.Errorf("%w: %d of %d bytes are taken; run mds dlq replay or mds dlq discard, or raise MDS_DLQ_MAX_BYTES", ErrFull, used, l.cfg.MaxBytes)
	}
	return nil
}

func ignoreMissing(err error) error {
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

func (l *Log) write(ctx context.Context, letters []Letter, bodies [][]byte) error {
	s := l.current
	if s == nil {
		var err error
		if s, err = l.begin(); err != nil {
			return err
		}
	}
	var lines []byte
	if s.size == 0 {
		lines = header()
	}
	for i, body := range bodies {
		lines = appendLine(lines, append(fmt.Appendf(nil, `%s%d,`, numberMark, s.last+1+i), body...))
	}
	l.current = nil // what fails from here on is not trusted with more
	if _, err := s.file.Write(lines); err != nil {
		// Somebody may have read them, and removed them: their numbers are not given again.
		s.last += len(letters)
		return errors.Join(err, l.takeBack(ctx, s))
	}
	err := s.file.Sync()
	if err == nil && s.size == 0 {
		err = syncDir(s.dir)
	}
	if err != nil {
		// The system may have dropped what it could not write and call it written: a
		// later sync would prove nothing.
		return errors.Join(err, l.abandon(ctx, s))
	}
	l.current = s
	s.size += int64(len(lines))
	for i := range letters {
		s.last++
		letters[i].ID = s.id(s.last)
	}
	return nil
}

// begin makes a segment, locked.
func (l *Log) begin() (*writing, error) {
	if err := makeDir(l.cfg.Dir); err != nil {
		return nil, err
	}
	const attempts = 20
	for range attempts {
		name, err := newSegment(l.cfg.Dir, time.Now())
		if err != nil {
			return nil, err
		}
		f, err := os.OpenFile(name.path(), os.O_CREATE|os.O_EXCL|os.O_RDWR|os.O_APPEND, privateFile)
		if errors.Is(err, fs.ErrExist) {
			continue
		}
		if err != nil {
			return nil, err
		}
		if lock, ok := lockFile(name.path()); ok {
			return &writing{segment: name, file: l.wrap(f), lock: lock}, nil
		}
		// Who repairs looked at it in this moment, and takes it away since it is empty.
		_ = f.Close()
	}
	return nil, errors.New("no file can be locked; the file system has to support locks")
}

// takeBack undoes an append whose write failed: the segment goes on where it was, or
// is given up.
func (l *Log) takeBack(ctx context.Context, s *writing) error {
	if s.size == 0 || s.file.Truncate(s.size) != nil || s.file.Sync() != nil {
		return l.abandon(ctx, s)
	}
	l.current = s
	return nil
}

// abandon gives up a segment at what is acknowledged of it. It is not enough that the
// file is cut, since nothing that it says of itself is believed any more.
func (l *Log) abandon(ctx context.Context, s *writing) error {
	var err error
	if s.size == 0 {
		if err = os.Remove(s.path()); err == nil {
			err = syncDir(s.dir)
		}
	} else {
		_ = s.file.Truncate(s.size) // for those who read now
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 10*time.Second)
		defer cancel()
		var lock *flock.Flock
		if lock, err = l.dir.lock(ctx); err == nil {
			err = errors.Join(s.note(cutLine(s.size)), lock.Close())
		}
	}
	if err != nil {
		l.cfg.Logger.Error("dead letters of an append that failed may be there all the same", "file", s.path(), "from", s.size, "error", err)
	}
	_ = s.file.Close()
	_ = s.lock.Close()
	return nil
}

// seal ends the current segment.
func (l *Log) seal() {
	if s := l.current; s != nil {
		l.current = nil
		_ = s.file.Close() // all of it is synced
		_ = s.lock.Close()
	}
}

// Close ends the log. It waits for the append under way.
func (l *Log) Close() error {
	l.turn <- struct{}{}
	defer func() { <-l.turn }()
	l.closed = true
	s := l.current
	l.seal()
	if s == nil {
		return nil
	}
	// All of it may have been removed while it was open.
	if lock, ok := l.dir.tryLock(); ok {
		return errors.Join(l.dir.settle(s.segment), lock.Close())
	}
	return nil
}
