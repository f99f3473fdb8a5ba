package ingest

import (
	"context"
	"math/rand/v2"
	"time"
)

// attempts are those of one batch, or of what is left of it.
type attempts struct {
	cfg       Retry
	made      int           // writes, of which each may have been split up
	used      int           // of them that count
	spent     time.Duration // on those that count, pauses included
	pauses    int           // since the last progress
	successes int           // of any write, at the last failure
	failed    bool          // there was one
}

// again notes a failure, and reports whether there may be another attempt. A failure
// counts where the backend is well: it says so itself, or another write has succeeded
// since the last failure.
func (a *attempts) again(f fault, closed bool, successes int, took time.Duration) bool {
	others := a.failed && successes > a.successes
	a.failed, a.successes = true, successes
	if f == passing || closed && others {
		a.used++
		a.spent += took
	}
	return a.used < a.cfg.MaxAttempts && a.spent < a.cfg.MaxElapsed
}

// pause is the time to wait before the next attempt: exponential, with full jitter.
func (a *attempts) pause() time.Duration {
	backoff := float64(a.cfg.InitialBackoff)
	for range a.pauses {
		if backoff *= a.cfg.Multiplier; backoff >= float64(a.cfg.MaxBackoff) {
			break
		}
	}
	a.pauses++
	d := time.Duration(min(backoff, float64(a.cfg.MaxBackoff)))
	if a.cfg.NoJitter {
		return d
	}
	return rand.N(d + 1) //nolint:gosec // nothing secret
}

// sleep waits, and reports whether it could.
func sleep(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
