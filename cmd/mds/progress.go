package main

import (
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"

	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/load"
)

// progress shows how far a load has come: a bar that is redrawn on a
// terminal, a line every few seconds elsewhere.
type progress struct {
	mu       sync.Mutex
	now      load.Progress
	queue    string // what there is to say of it
	pending  int64  // records in it
	w        io.Writer
	terminal bool
	start    time.Time
	last     time.Time
	drawn    bool
}

func newProgress(w io.Writer) *progress {
	file, ok := w.(*os.File)
	now := time.Now()
	return &progress{w: w, terminal: ok && term.IsTerminal(int(file.Fd())), start: now, last: now}
}

// update tells how far a load has come.
func (p *progress) update(now load.Progress) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now = now
	p.draw()
}

// queued tells what waits to be written.
func (p *progress) queued(s *ingest.Stats) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.now.Ledger.Read = max(p.now.Ledger.Read, s.Accepted) // of few rows it is told late
	p.queue = fmt.Sprintf(", %s queued (%s)", count(s.Pending), s.Level)
	if s.Retries > 0 {
		p.queue += ", " + retries(s.Retries)
	}
	if s.DeadLettered > 0 {
		p.queue += fmt.Sprintf(", %s dead-lettered", count(s.DeadLettered))
	}
	if s.Failing > 0 {
		p.queue += fmt.Sprintf(", the store is not well for %s", s.Failing.Round(time.Second))
	}
	if s.Blocked != nil {
		p.queue += ", waiting: " + s.Blocked.Error()
	}
	p.pending = s.Pending
	p.draw()
}

func retries(n int64) string {
	if n == 1 {
		return "1 retry"
	}
	return count(n) + " retries"
}

// draw draws, now and then. It is called with the lock.
func (p *progress) draw() {
	every := 5 * time.Second
	if p.terminal {
		every = 100 * time.Millisecond
	}
	if time.Since(p.last) < every {
		return
	}
	p.last = time.Now()
	line := p.line(p.now, time.Since(p.start))
	if p.terminal {
		p.drawn = true
		if width, _, err := term.GetSize(int(p.w.(*os.File).Fd())); err == nil && width > 0 && len(line) >= width {
			line = line[:width-1] // what wraps cannot be drawn over
		}
		fmt.Fprintf(p.w, "\r\x1b[K%s", line)
		return
	}
	fmt.Fprintln(p.w, line)
}

// line is "[#####     ] 48 % 1,234,567 rows 310,000 rows/s 4s left FILE".
func (p *progress) line(now load.Progress, elapsed time.Duration) string {
	rate := float64(now.Ledger.Read) / elapsed.Seconds()
	text := fmt.Sprintf("%s rows, %s rows/s", count(now.Ledger.Read), count(int64(rate)))
	if now.Ledger.Rejected > 0 {
		text += fmt.Sprintf(", %s rejected", count(now.Ledger.Rejected))
	}
	text += p.queue
	if now.Total <= 0 || now.Bytes <= 0 {
		return text
	}
	done := min(float64(now.Bytes)/float64(now.Total), 1)
	if now.Ledger.Read > 0 { // what is queued is not done
		done *= 1 - min(1, float64(p.pending)/float64(now.Ledger.Read))
	}
	if done <= 0 {
		return text
	}
	left := time.Duration(float64(elapsed) * (1 - done) / done).Round(time.Second)
	const width = 24
	filled := int(done * width)
	bar := strings.Repeat("#", filled) + strings.Repeat(".", width-filled)
	return fmt.Sprintf("[%s] %3.0f %%  %s, %s left", bar, done*100, text, left)
}

// say prints a line, above the bar.
func (p *progress) say(text string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
	fmt.Fprintln(p.w, text)
}

// done clears the bar.
func (p *progress) done() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.drawn {
		fmt.Fprint(p.w, "\r\x1b[K")
	}
}

// plural is "1 row" or "2 rows".
func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return count(n) + " " + noun + "s"
}

// count writes a whole number with thousands separators.
func count(n int64) string {
	if n < 0 {
		return "-" + count(-n)
	}
	digits := strconv.FormatInt(n, 10)
	var b strings.Builder
	for i, d := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(d)
	}
	return b.String()
}
