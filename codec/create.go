package codec

import (
	"crypto/rand"
	"errors"
	"io"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Created is a file being written. It gets its name when it is closed
// complete; until then the file that had the name stays.
type Created struct {
	io.Writer
	file   *os.File
	finish func() error // ends the compression
	// name has the file take its name, and discard removes it; nil of what is no regular
	// file.
	name, discard func() error
}

// Create makes a file, compressed where its name ends in .gz or .zst. What is
// no regular file, such as a pipe, is written to as it is.
func Create(path string) (*Created, error) {
	c := &Created{}
	if stat, statErr := os.Stat(path); statErr == nil && !stat.Mode().IsRegular() {
		if stat.IsDir() {
			return nil, errors.New("it is a directory; name a file in it")
		}
		var err error
		if c.file, err = os.OpenFile(path, os.O_WRONLY, 0); err != nil { //nolint:gosec // the user names it
			return nil, err
		}
		return c.compress(path)
	}
	target := path
	if resolved, err := filepath.EvalSymlinks(path); err == nil {
		target = resolved // replace what a link points to, not the link
	}
	draft := filepath.Join(filepath.Dir(target), draftOf(filepath.Base(target), rand.Text()))
	var err error
	if c.file, err = os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666); err != nil { //nolint:gosec // the user's umask says who may read it
		return nil, err
	}
	c.name = func() error { return os.Rename(draft, target) }
	c.discard = func() error { return os.Remove(draft) }
	return c.compress(path)
}

// CreateIn is Create within a folder, which nothing leads out of: a link that has the name is
// refused, as is whatever else is no regular file. Until the file is closed it is a draft, of
// which by is a part of the name; [Discard] removes one that was left. The name is on the disk
// when Close returns.
func CreateIn(root *os.Root, name, by string) (*Created, error) {
	if stat, err := root.Lstat(name); err == nil && !stat.Mode().IsRegular() {
		return nil, errors.New("there is something of that name that is no regular file")
	}
	folder, base := path.Split(name)
	draft := folder + draftOf(base, by)
	c := &Created{}
	var err error
	if c.file, err = root.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o640); err != nil {
		return nil, err
	}
	c.name = func() error {
		if err := root.Rename(draft, name); err != nil {
			return err
		}
		dir, err := root.Open(path.Clean(folder))
		if err != nil {
			return err
		}
		return errors.Join(dir.Sync(), dir.Close())
	}
	c.discard = func() error { return Discard(root, name, by) }
	return c.compress(name)
}

// Discard removes the draft of a file that [CreateIn] made and that was never closed, if it is
// there.
func Discard(root *os.Root, name, by string) error {
	folder, base := path.Split(name)
	if err := root.Remove(folder + draftOf(base, by)); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}

func draftOf(base, by string) string { return "." + base + "." + by }

// compress has what is written be compressed, as the name says.
func (c *Created) compress(name string) (*Created, error) {
	c.Writer, c.finish = c.file, func() error { return nil }
	switch strings.ToLower(filepath.Ext(name)) {
	case ".gz":
		w := gzip.NewWriter(c.file)
		c.Writer, c.finish = w, w.Close
	case ".zst":
		w, err := zstd.NewWriter(c.file)
		if err != nil {
			return nil, errors.Join(err, c.Close(false))
		}
		c.Writer, c.finish = w, w.Close
	}
	return c, nil
}

// Close ends the file. Where it is complete it is brought to the disk and gets
// its name; otherwise nothing is left of it.
func (c *Created) Close(complete bool) error {
	err := c.finish()
	if c.name == nil {
		return errors.Join(err, c.file.Close())
	}
	if err == nil && complete {
		err = c.file.Sync()
	}
	err = errors.Join(err, c.file.Close())
	if err == nil && complete {
		if err = c.name(); err == nil {
			return nil
		}
	}
	return errors.Join(err, c.discard())
}
