package ingest

import (
	"math"
	"sync"
	"time"
)

// Quota is a token bucket that may be overdrawn: a submit of more than a second's worth
// goes when the bucket is full, and those after it wait. (The usual ones, such as
// golang.org/x/time/rate, refuse what is larger than the bucket.)
type Quota struct {
	rate float64 // tokens a second, and the size of the bucket, 1 at least

	mu     sync.Mutex
	tokens float64
	waits  float64 // tokens that somebody waits for
	at     time.Time
}

// NewQuota returns one of so many tokens a second, more than 0, that is full.
func NewQuota(rate float64, now time.Time) *Quota {
	return &Quota{rate: rate, tokens: max(1, rate), at: now}
}

// Take takes n tokens, or tells how long to wait before it is worth another try.
func (q *Quota) Take(n int, now time.Time) (wait time.Duration) {
	q.mu.Lock()
	defer q.mu.Unlock()
	size := max(1, q.rate)
	q.fill(now)
	if short := min(float64(n), size) - q.tokens; short > 1e-9*size {
		return time.Duration(math.Ceil(short / q.rate * 1e9))
	}
	q.tokens -= float64(n)
	return 0
}

// fill adds what came since. It is called with the lock.
func (q *Quota) fill(now time.Time) {
	if passed := now.Sub(q.at); passed > 0 {
		q.tokens = min(max(1, q.rate), q.tokens+passed.Seconds()*q.rate)
	}
	q.at = now
}

// wait notes that somebody waits for n tokens, or no longer does where n is negative.
func (q *Quota) wait(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waits += float64(n)
}

// owed is how long it takes until there is a token that nobody has taken or waits for.
func (q *Quota) owed(now time.Time) time.Duration {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.fill(now)
	return time.Duration(max(0, math.Ceil((q.waits+1-q.tokens)/q.rate*1e9)))
}

// give gives tokens back that were taken for nothing.
func (q *Quota) give(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens += float64(n)
}
