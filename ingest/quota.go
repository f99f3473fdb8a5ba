package ingest

import (
	"math"
	"sync"
	"time"
)

// quota is a token bucket that may be overdrawn: a submit of more than a second's worth
// goes when the bucket is full, and those after it wait. (The usual ones, such as
// golang.org/x/time/rate, refuse what is larger than the bucket.)
type quota struct {
	rate float64 // tokens a second, and the size of the bucket, 1 at least

	mu     sync.Mutex
	tokens float64
	at     time.Time
}

func newQuota(rate float64, now time.Time) *quota {
	return &quota{rate: rate, tokens: max(1, rate), at: now}
}

// take takes n tokens, or tells how long to wait before it is worth another try.
func (q *quota) take(n int, now time.Time) (wait time.Duration) {
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
func (q *quota) give(n int) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.tokens += float64(n)
}
