package deadletter

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// repair is [Dir.Repair] for who holds the folder's lock.
func (d Dir) repair() error {
	entries, err := os.ReadDir(d.Path)
	if err != nil {
		return ignoreMissing(err)
	}
	for _, e := range entries {
		path := filepath.Join(d.Path, e.Name())
		name, isCompanion := strings.CutSuffix(e.Name(), removedExt)
		switch {
		case strings.HasSuffix(e.Name(), draftExt):
			err = os.Remove(path)
		case isCompanion && names.MatchString(name):
			if _, missing := os.Stat(segment{d.Path, name}.path()); errors.Is(missing, fs.ErrNotExist) {
				err = os.Remove(path)
			}
		}
		if err != nil {
			return err
		}
	}
	list, err := segmentsIn(d.Path)
	if err != nil {
		return err
	}
	for _, s := range list {
		if err := d.settle(s); err != nil {
			return err
		}
	}
	return nil
}

// settle puts a segment in order, unless somebody writes it, and removes it with its
// companion where all its letters are gone. The caller holds the folder's lock.
func (d Dir) settle(s segment) error {
	lock, ok := lockFile(s.path())
	if !ok {
		return nil
	}
	defer lock.Close() //nolint:errcheck // nothing is written through it
	c, err := s.companion()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.path(), os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer f.Close() //nolint:errcheck // what is written is synced
	var damage []int64
	o, err := s.scan(f, c.cut, func(found scanned) bool {
		var damaged *DamagedError
		if errors.As(found.err, &damaged) {
			damage = append(damage, damaged.Offset)
		}
		return true
	})
	switch {
	case err != nil:
		return err
	case o.newer:
		d.logger().Error("dead letters of a newer version are left as they are", "file", s.path())
		return nil
	case c.damaged:
		if err := d.replace(s.removed(), bytes.Join(append(c.lines, nil), []byte{'\n'})); err != nil {
			return err
		}
		d.logger().Error("what was removed of the dead letters was damaged: some of them may be back", "file", s.removed(), "quarantine", filepath.Join(d.Path, quarantine))
	}
	if o.damaged {
		if err := d.rebuild(s, f, &c, damage); err != nil {
			return err
		}
	} else if info, err := f.Stat(); err != nil {
		return err
	} else if info.Size() > o.end {
		d.logger().Warn("dead letters: the end of a file that was written when its process died is cut off", "file", s.path(), "bytes", info.Size()-o.end)
		if err := errors.Join(f.Truncate(o.end), f.Sync()); err != nil {
			return err
		}
	}
	if !o.present.within(&c.gone) {
		return nil
	}
	return s.drop()
}

// drop removes a segment, then its companion: the other way round its letters would
// be back after a crash.
func (s segment) drop() error {
	if err := os.Remove(s.path()); err != nil {
		return err
	}
	if err := syncDir(s.dir); err != nil {
		return err
	}
	return ignoreMissing(os.Remove(s.removed()))
}

// rebuild puts the intact letters of a damaged segment in its place, and the
// damaged one into quarantine.
func (d Dir) rebuild(s segment, f *os.File, c *companion, damage []int64) error {
	content := header()
	kept := 0
	_, err := s.scan(f, c.cut, func(found scanned) bool {
		if found.err == nil && !c.gone.has(found.number) {
			content = append(append(content, found.line...), '\n')
			kept++
		}
		return true
	})
	if err != nil {
		return err
	}
	if err := d.replace(s.path(), content); err != nil {
		return err
	}
	d.logger().Error("dead letters were damaged: those that are intact are kept, the file is in quarantine",
		"file", s.path(), "quarantine", filepath.Join(d.Path, quarantine), "bytes_at", damage, "letters_kept", kept)
	return nil
}

// replace puts content in the place of a damaged file, which goes into quarantine.
// The name always stands for one of the two.
func (d Dir) replace(path string, content []byte) error {
	draft := path + draftExt
	f, err := os.OpenFile(draft, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, privateFile) //nolint:gosec // in the folder of the letters
	if err != nil {
		return err
	}
	_, err = f.Write(content)
	if err = errors.Join(err, f.Sync(), f.Close()); err != nil {
		return errors.Join(err, os.Remove(draft))
	}
	folder := filepath.Join(d.Path, quarantine)
	if err := os.MkdirAll(folder, privateDir); err != nil {
		return err
	}
	if err := keepAs(path, filepath.Join(folder, filepath.Base(path))); err != nil {
		return err
	}
	if err := errors.Join(syncDir(folder), syncDir(d.Path)); err != nil {
		return err
	}
	if err := os.Rename(draft, path); err != nil {
		return err
	}
	return syncDir(d.Path)
}

// keepAs gives a file a second name, one that is not taken.
func keepAs(path, as string) error {
	for n := 1; ; n++ {
		name := as
		if n > 1 {
			name += "." + strconv.Itoa(n)
		}
		err := os.Link(path, name)
		if !errors.Is(err, fs.ErrExist) {
			return err
		}
		have, err := os.Stat(path)
		if err != nil {
			return err
		}
		if there, err := os.Stat(name); err == nil && os.SameFile(have, there) {
			return nil // a crash came between
		}
	}
}
