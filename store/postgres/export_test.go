package postgres

import "time"

// SetPatience sets for how long calls wait for a connection.
func (s *Store) SetPatience(d time.Duration) { s.patience = d }
