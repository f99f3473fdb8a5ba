package duckdb

import "sync"

// readers counts the reads under way, so that a file is not closed beneath
// them: DuckDB keeps an instance, and its lock on the file, for as long as
// anyone holds a connection to it. The zero value lets readers in.
type readers struct {
	mu      sync.Mutex
	n       int
	stopped bool
	last    func() // called when the last one leaves after stop
}

// enter lets a reader in, unless stop or exclude was called.
func (r *readers) enter() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.stopped {
		return false
	}
	r.n++
	return true
}

func (r *readers) leave() {
	r.mu.Lock()
	r.n--
	var last func()
	if r.n == 0 {
		last, r.last = r.last, nil
	}
	r.mu.Unlock()
	if last != nil {
		last()
	}
}

// stop lets no more readers in and calls last when none is in: at once, or as
// the last one leaves.
func (r *readers) stop(last func()) {
	r.mu.Lock()
	r.stopped = true
	now := r.n == 0
	if !now {
		r.last = last
	}
	r.mu.Unlock()
	if now {
		last()
	}
}

// exclude keeps readers out until admit is called, if none is in.
func (r *readers) exclude() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.n > 0 || r.stopped {
		return false
	}
	r.stopped = true
	return true
}

func (r *readers) admit() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stopped = false
}
