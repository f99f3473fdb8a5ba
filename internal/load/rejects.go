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
// that a load without any leaves none; an older one of that name is replaced.
type Rejects struct {
	path  string
	first []Reject // for the summary
	file  *os.File
	w     *bufio.Writer
}

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
	if r.file == nil {
		if err := os.MkdirAll(filepath.Dir(r.path), 0o750); err != nil {
			return fmt.Errorf("rejects file: %w", err)
		}
		f, err := os.Create(r.path)
		if err != nil {
			return fmt.Errorf("rejects file: %w", err)
		}
		r.file, r.w = f, bufio.NewWriter(f)
	}
	reject := Reject{File: file, Line: row.Line, Field: row.Field, Reason: row.Reason, Raw: row.Raw}
	if len(r.first) < shown {
		r.first = append(r.first, reject)
	}
	line, err := json.Marshal(reject)
	if err != nil {
		return fmt.Errorf("rejects file: %w", err)
	}
	if _, err := r.w.Write(append(line, '\n')); err != nil {
		return fmt.Errorf("rejects file: %w", err)
	}
	return nil
}

// Close flushes the rejects to the disk.
func (r *Rejects) Close() error {
	if r.file == nil {
		return nil
	}
	if err := errors.Join(r.w.Flush(), r.file.Sync(), r.file.Close()); err != nil {
		return fmt.Errorf("rejects file %s: %w", r.path, err)
	}
	return nil
}
