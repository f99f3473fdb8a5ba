package server

import (
	"context"
	"testing"
	"testing/synctest"
	"time"
)

// TestJobsLeaveHalfOfTheTime has jobs take at most half of what there is to stop in.
func TestJobsLeaveHalfOfTheTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		all, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		begun := time.Now()
		half, done := halfOf(all)
		defer done()
		<-half.Done()
		if took := time.Since(begun); took != 5*time.Second || all.Err() != nil {
			t.Errorf("they took %v", took)
		}
		endless, done := halfOf(t.Context())
		if _, ok := endless.Deadline(); ok || endless.Err() != nil {
			t.Errorf("of all time there is %v", endless.Err())
		}
		done()
	})
}
