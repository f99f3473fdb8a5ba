package codec

import (
	"crypto/rand"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/zstd"
)

// Created is a file being written. It gets its name when it is closed
// complete; until then the file that had the name stays.
type Created struct {
	io.Writer
	path   string
	file   *os.File
	finish func() error // ends the compression
}

// Create makes a file, compressed where its name ends in .gz or .zst. What is
// no regular file, such as a pipe, is written to as it is.
func Create(path string) (*Created, error) {
	c := &Created{path: path, finish: func() error { return nil }}
	var err error
	if stat, statErr := os.Stat(path); statErr == nil && !stat.Mode().IsRegular() {
		if stat.IsDir() {
			return nil, errors.New("it is a directory; name a file in it")
		}
		c.path = ""
		c.file, err = os.OpenFile(path, os.O_WRONLY, 0) //nolint:gosec // the user names it
	} else {
		if resolved, linkErr := filepath.EvalSymlinks(path); linkErr == nil {
			c.path = resolved // replace what a link points to, not the link
		}
		draft := filepath.Join(filepath.Dir(c.path), "."+filepath.Base(c.path)+"."+rand.Text())
		c.file, err = os.OpenFile(draft, os.O_CREATE|os.O_EXCL|os.O_WRONLY, 0o666) //nolint:gosec // the user's umask says who may read it
	}
	if err != nil {
		return nil, err
	}
	c.Writer = c.file
	switch strings.ToLower(filepath.Ext(path)) {
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
	if c.path == "" {
		return errors.Join(err, c.file.Close())
	}
	if err == nil && complete {
		err = c.file.Sync()
	}
	err = errors.Join(err, c.file.Close())
	if err == nil && complete {
		err = os.Rename(c.file.Name(), c.path)
		if err == nil {
			return nil
		}
	}
	return errors.Join(err, os.Remove(c.file.Name()))
}
