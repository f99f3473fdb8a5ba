package main

import (
	"context"
	"fmt"
	"io"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

// sample is what was seen of the coordinator at a moment.
type sample struct {
	at        time.Duration // since the program began
	submitted float64       // records a second, since the last sample
	suggested float64       // records a second, 0 where nothing is known
	depth     int64         // records that are queued or being written
	level     feedback.Level
}

// watch takes a sample twice a second until ctx ends, and prints it.
func watch(ctx context.Context, w io.Writer, c *ingest.Coordinator[mds.Bar], began time.Time) (samples []sample) {
	tick := time.NewTicker(time.Second / 2)
	defer tick.Stop()
	last, accepted := began, int64(0)
	for {
		select {
		case <-tick.C:
		case <-ctx.Done():
			return samples
		}
		now, stats := time.Now(), c.Stats()
		event, _ := c.Feedback().Last()
		s := sample{
			at: now.Sub(began), submitted: float64(stats.Accepted-accepted) / now.Sub(last).Seconds(),
			suggested: event.SuggestedRate, depth: stats.Records, level: stats.Level,
		}
		last, accepted = now, stats.Accepted
		samples = append(samples, s)
		fmt.Fprintf(w, "%5.1f s  submitted %6.0f/s  suggested %6.0f/s  queue %6d  %s\n", s.at.Seconds(), s.submitted, s.suggested, s.depth, s.level)
	}
}
