package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"math"
	"os"
)

// companion is what the file beside a segment says of it.
type companion struct {
	gone numbers
	// cut is where the segment ends, whatever is in it from there on: letters of an
	// append that failed and could not be taken back.
	cut int64
	// whole is the length of the file up to its torn tail; damaged says that something
	// before that is not as it was written.
	whole   int64
	damaged bool
	lines   [][]byte // that are intact
}

// companionOf reads what was removed of a segment.
func (s segment) companion() (c companion, err error) {
	c.cut = math.MaxInt64
	f, err := os.Open(s.removed())
	if errors.Is(err, fs.ErrNotExist) {
		return c, nil
	}
	if err != nil {
		return c, err
	}
	defer f.Close() //nolint:errcheck // it was read
	p := newPieces(f)
	for {
		piece, err := p.next()
		if errors.Is(err, io.EOF) {
			return c, nil
		}
		if err != nil {
			return c, err
		}
		c.damaged = c.damaged || piece.damaged
		if !piece.torn {
			c.whole = p.at
		}
		if piece.line == nil {
			continue
		}
		if err := c.take(piece.line); err != nil {
			c.damaged = true
			continue
		}
		c.lines = append(c.lines, append([]byte(nil), piece.line...))
	}
}

func (c *companion) take(line []byte) error {
	var entry struct {
		Removed string `json:"removed"`
		Cut     *int64 `json:"cut"`
	}
	if err := json.Unmarshal(line, &entry); err != nil {
		return err
	}
	if entry.Cut != nil {
		c.cut = min(c.cut, *entry.Cut)
		return nil
	}
	return c.gone.addRanges(entry.Removed)
}

func removedLine(list []int) []byte {
	return appendLine(nil, append(appendRanges([]byte(`"removed":"`), list), `"}`...))
}

func cutLine(at int64) []byte { return appendLine(nil, fmt.Appendf(nil, `"cut":%d}`, at)) }

// note adds a line to what is beside a segment and brings it to the disk. The
// caller holds the folder's lock.
func (s segment) note(line []byte) (err error) {
	c, err := s.companion()
	if err != nil {
		return err
	}
	f, err := os.OpenFile(s.removed(), os.O_CREATE|os.O_WRONLY|os.O_APPEND, privateFile)
	if err != nil {
		return err
	}
	defer func() {
		if err != nil { // what nobody is told of does not count
			_ = f.Truncate(c.whole)
		}
		err = errors.Join(err, f.Close())
	}()
	if err := f.Truncate(c.whole); err != nil { // a torn tail would swallow the line
		return err
	}
	if _, err := f.Write(line); err != nil {
		return err
	}
	if err := f.Sync(); err != nil {
		return err
	}
	if c.whole == 0 {
		return syncDir(s.dir)
	}
	return nil
}
