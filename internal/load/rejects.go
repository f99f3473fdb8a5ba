package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marketdatastore/mds/codec"
)

// Reject is one row that became no record, as it is written to the rejects
// file: one JSON object a line.
type Reject struct {
	File   string `json:"file"`
	Line   int    `json:"line"`
	Field  string `json:"field,omitempty"`
	Reason string `json:"reason"`
	Raw    string `json:"raw"`
}

// Rejects is the file of rejected rows. It is made with its first row, so
// that a load without any leaves none; what a file of that name held before
// stays, and the rows are added to it.
type Rejects struct {
	path  string
	first []Reject // for the summary
	file  *os.File
	w     *bufio.Writer

	stdin string // the name of standard input, where it is not "-"
	most  int64  // bytes; 0 is no bound
	size  int64
	told  bool // that there are more
}

// RejectsError is a rejects file that cannot be written. It ends a load: a
// row that is neither stored nor kept would be lost.
type RejectsError struct {
	Path string
	Err  error
}

func (e *RejectsError) Error() string {
	return fmt.Sprintf("rejects file %s: %v; name another with --rejects", e.Path, e.Err)
}

func (e *RejectsError) Unwrap() error { return e.Err }

// shown is the number of rejects kept for the summary.
const shown = 3

// NewRejects returns a rejects file that will be made at path.
func NewRejects(path string) *Rejects { return &Rejects{path: path} }

// Path returns where the rejects are, "" while there are none.
func (r *Rejects) Path() string {
	if r.file == nil {
		return ""
	}
	return r.path
}

// First returns the first few rejects.
func (r *Rejects) First() []Reject { return r.first }

func (r *Rejects) add(file string, row *codec.RowError) error {
	if file == "-" && r.stdin != "" {
		file = r.stdin
	}
	reject := Reject{File: file, Line: row.Line, Field: row.Field, Reason: row.Reason, Raw: row.Raw}
	if len(r.first) < shown {
		r.first = append(r.first, reject)
	}
	if r.file == nil {
		if err := r.open(); err != nil {
			return err
		}
	}
	if full, err := r.full(file); full || err != nil {
		return err
	}
	return r.write(reject)
}

func (r *Rejects) write(reject Reject) error {
	line, err := json.Marshal(reject)
	if err != nil {
		return r.fail(err)
	}
	n, err := r.w.Write(append(line, '\n'))
	if r.size += int64(n); err != nil {
		return r.fail(err)
	}
	return nil
}

func (r *Rejects) open() error {
	if err := os.MkdirAll(filepath.Dir(r.path), 0o750); err != nil {
		return r.fail(err)
	}
	f, err := os.OpenFile(r.path, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o640) //nolint:gosec // the user names it
	if err != nil {
		return r.fail(err)
	}
	r.file, r.w, r.size = f, bufio.NewWriter(f), 0
	if stat, err := f.Stat(); err == nil {
		r.size = stat.Size()
	}
	return nil
}

func (r *Rejects) fail(err error) error {
	var pathErr *os.PathError
	if errors.As(err, &pathErr) {
		err = pathErr.Err
	}
	return &RejectsError{Path: r.path, Err: err}
}

// Check tries, before a load, whether the file can be written, and that it is
// none of the inputs.
func (r *Rejects) Check(inputs []string) error {
	stat, err := os.Stat(r.path)
	fresh := err != nil
	for _, input := range inputs {
		if in, err := os.Stat(input); err == nil && !fresh && os.SameFile(in, stat) {
			return r.fail(errors.New("it is one of the files to load"))
		}
	}
	if err := r.open(); err != nil {
		return err
	}
	err = r.file.Close()
	r.file = nil
	if fresh {
		err = errors.Join(err, os.Remove(r.path))
	}
	if err != nil {
		return r.fail(err)
	}
	return nil
}

// Flush brings the rejects to the disk.
func (r *Rejects) Flush() error {
	if r.file == nil {
		return nil
	}
	if err := errors.Join(r.w.Flush(), r.file.Sync()); err != nil {
		return r.fail(err)
	}
	return nil
}

// Close brings the rejects to the disk, and closes the file.
func (r *Rejects) Close() error {
	if r.file == nil {
		return nil
	}
	if err := errors.Join(r.Flush(), r.file.Close()); err != nil {
		return r.fail(err)
	}
	return nil
}
