package load

import (
	"bufio"
	"encoding/json"
	"errors"
	"io"
	"io/fs"
	"os"
)

// Name has rows of standard input be told as those of a name.
func (r *Rejects) Name(stdin string) { r.stdin = stdin }

// Bound has the file take about so many bytes; its last line says then that there are more. Rows are
// counted all the same.
func (r *Rejects) Bound(bytes int64) { r.most = bytes }

// full reports that the file takes no more, and has it say so.
func (r *Rejects) full(file string) (bool, error) {
	if r.most == 0 || r.size < r.most {
		return false, nil
	}
	if r.told {
		return true, nil
	}
	r.told = true
	return true, r.write(Reject{File: file, Reason: "more rows were rejected than this file takes: this one and those after it are counted only"})
}

// Keep drops the rows that the file has of inputs that are begun again, before it takes others.
func (r *Rejects) Keep(of func(file string) bool) error {
	before, err := os.Open(r.path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return r.fail(err)
	}
	defer before.Close()                                                                //nolint:errcheck // it is only read
	draft, err := os.OpenFile(r.path+".tmp", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o640) //nolint:gosec // the user names it
	if err != nil {
		return r.fail(err)
	}
	w := bufio.NewWriter(draft)
	err = errors.Join(keep(w, bufio.NewReader(before), of), w.Flush(), draft.Sync(), draft.Close())
	if err == nil {
		err = os.Rename(draft.Name(), r.path)
	}
	if err != nil {
		return r.fail(errors.Join(err, os.Remove(draft.Name())))
	}
	return nil
}

// keep copies lines. One that was broken off is none.
func keep(w io.Writer, from *bufio.Reader, of func(file string) bool) error {
	for {
		line, err := from.ReadBytes('\n')
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		var row Reject
		if json.Unmarshal(line, &row) != nil || !of(row.File) {
			continue
		}
		if _, err := w.Write(line); err != nil {
			return err
		}
	}
}
