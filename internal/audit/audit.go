// Package audit keeps a file of what was done to a server, and by whom.
package audit

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"
)

// What an entry is about.
const (
	Attempt = "attempt" // it is about to be done
	Outcome = "outcome" // what became of an attempt
	Refused = "refused" // it was not tried
)

// Entry is a line of the file.
type Entry struct {
	Time       time.Time           `json:"time"` // UTC
	Event      string              `json:"event"`
	RequestID  string              `json:"request_id"`
	Operation  string              `json:"operation"`
	Method     string              `json:"method"`
	Path       string              `json:"path"`
	Tenant     string              `json:"tenant,omitempty"`
	Key        string              `json:"key,omitempty"` // the id of the API key
	Remote     string              `json:"remote"`        // the address of the client, or of a proxy
	Parameters map[string][]string `json:"parameters,omitempty"`
	Cut        bool                `json:"cut,omitempty"` // the parameters are too long; an attempt has them
	Status     int                 `json:"status,omitempty"`
	Code       string              `json:"code,omitempty"`
	Removed    *int64              `json:"removed,omitempty"`  // records; nil where it removes none, or failed
	LeftOut    int64               `json:"left_out,omitempty"` // refusals before it that have no entry: there were too many
}

// mostLine is how long a line may be, but of an attempt, which has all that is to be done.
const mostLine = 8 << 10

// line is the entry as it is written.
func (e *Entry) line() ([]byte, error) {
	var b bytes.Buffer
	as := json.NewEncoder(&b)
	as.SetEscapeHTML(false) // six times as long
	if err := as.Encode(e); err != nil {
		return nil, err
	}
	if b.Len() > mostLine && e.Event != Attempt && e.Parameters != nil {
		short := *e
		short.Parameters, short.Cut = nil, true
		return short.line()
	}
	return b.Bytes(), nil
}

// Log appends entries to a file. It is safe for concurrent use, by several processes also.
type Log struct {
	path string
	mu   sync.Mutex
	file *os.File
	torn bool // the file ends within a line
}

// Open opens a file, which it makes where there is none, for its owner only.
func Open(path string) (*Log, error) {
	l := &Log{path: path}
	if err := l.open(); err != nil {
		return nil, err
	}
	return l, nil
}

// Close ends writing.
func (l *Log) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.file == nil {
		return nil
	}
	err := l.file.Close()
	l.file = nil
	return err
}

func (l *Log) open() error {
	// A pipe without a reader would have it wait.
	info, err := os.Stat(l.path)
	if err == nil && !info.Mode().IsRegular() {
		return fmt.Errorf("the audit log %s is no file", l.path)
	}
	made := errors.Is(err, fs.ErrNotExist)
	file, err := os.OpenFile(l.path, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o600)
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	torn, err := endsWithin(file)
	if err != nil {
		return errors.Join(fmt.Errorf("the audit log: %w", err), file.Close())
	}
	if made {
		if err := l.syncFolder(); err != nil {
			return errors.Join(fmt.Errorf("the audit log: %w", err), file.Close())
		}
	}
	l.file, l.torn = file, torn
	return nil
}

// syncFolder has the name of the file be on the disk.
func (l *Log) syncFolder() error {
	folder, err := os.Open(filepath.Dir(l.path))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

// endsWithin reports that a file ends within a line: whoever wrote it was killed, or the disk
// full.
func endsWithin(file *os.File) (bool, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil || size == 0 {
		return false, err
	}
	var last [1]byte
	_, err = file.ReadAt(last[:], size-1)
	return last[0] != '\n', err
}

// Write appends an entry. Where sync is set it is on the disk when that returns. A file that
// was moved away is made anew, so that logs can be rotated without a signal.
func (l *Log) Write(e *Entry, sync bool) error {
	line, err := e.line()
	if err != nil {
		return fmt.Errorf("the audit log: %w", err)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if err := l.follow(); err != nil {
		return err
	}
	if l.torn {
		line = append([]byte{'\n'}, line...) // what was begun is not taken for a part of it
	}
	if n, err := l.file.Write(line); err != nil {
		l.torn = l.torn || n > 0 // one line feed too many is an empty line
		return fmt.Errorf("the audit log: %w", err)
	}
	l.torn = false
	if sync {
		if err := l.file.Sync(); err != nil {
			return fmt.Errorf("the audit log: %w", err)
		}
	}
	return nil
}

// follow opens the file anew where another one, or none, has its name by now.
func (l *Log) follow() error {
	there, err := os.Stat(l.path)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("the audit log: %w", err)
	}
	if l.file != nil && err == nil {
		is, err := l.file.Stat()
		if err != nil {
			return fmt.Errorf("the audit log: %w", err)
		}
		if os.SameFile(is, there) {
			return nil
		}
	}
	if l.file != nil {
		err = l.file.Close() // all that it holds was written
		l.file = nil
		if err != nil {
			return fmt.Errorf("the audit log: %w", err)
		}
	}
	return l.open()
}
