package backfill

import "testing"

// SetMostEntries bounds what is looked at for the files of a job, for a test.
func SetMostEntries(t *testing.T, n int) {
	before := mostEntries
	mostEntries = n
	t.Cleanup(func() { mostEntries = before })
}
