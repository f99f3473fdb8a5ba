package ingest

import (
	"math/rand/v2"
	"time"
)

// attempts are those of one batch, or of what is left of it.
type attempts struct {
	made      int           // writes
	used      int           // of them that count
	spent     time.Duration // on those that count, pauses included
	pauses    int           // since the last progress
	successes int           // of any write of the tenant, at the last failure
	failed    bool          // there was one
}

// count notes a failure and what it took, and reports whether it counts: it says itself
// that the backend is well, or another write of the tenant has succeeded since the last
// failure.
func (a *attempts) count(f fault, successes int, took time.Duration) bool {
	others := a.failed && successes > a.successes
	a.failed, a.successes = true, successes
	if f != passing && !others {
		return false
	}
	a.used++
	a.spent += took
	return true
}

// over reports that there is to be no other attempt.
func (a *attempts) over(cfg *Retry) bool {
	return a.used >= cfg.MaxAttempts || a.spent >= cfg.MaxElapsed
}

// pause is the time to wait before the next attempt: exponential, with full jitter.
func (a *attempts) pause(cfg *Retry) time.Duration {
	backoff := float64(cfg.InitialBackoff)
	for range a.pauses {
		if backoff *= cfg.Multiplier; backoff >= float64(cfg.MaxBackoff) {
			break
		}
	}
	a.pauses++
	d := time.Duration(min(backoff, float64(cfg.MaxBackoff)))
	if cfg.NoJitter {
		return d
	}
	return rand.N(d + 1) //nolint:gosec // nothing secret
}
