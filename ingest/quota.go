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
	if passed := now.Sub(q.at); passed > 0 {
		q.tokens = min(size, q.tokens+passed.Seconds()*q.rate)
	}
	q.at = now
	if short := min(float64(n), size) - q.tokens; short > 1e-9*size {
		return time.Duration(math.Ceil(short / q.rate * 1e9))
	}
	q.tokens -= float64(n)
	return 0
}

// give gives tokens back that were taken for nothing.
func (q *Quota) give(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens += float64(n)
}
