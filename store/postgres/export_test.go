package postgres

import "time"

// SetMergeAttempts sets how often a batch is merged before it is upserted, and returns
// what it was.
func SetMergeAttempts(n int) (before int) {
	before, mergeAttempts = mergeAttempts, n
	return before
}

// SetMaxPicked sets how many series are picked before a query, and returns what it was.
func SetMaxPicked(n int) (before int) {
	before, maxPicked = maxPicked, n
	return before
}

// SetPatience sets for how long calls wait for a connection.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }
