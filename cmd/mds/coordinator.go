package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"os"
	"os/signal"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/pflag"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/store"
)

// coordinatorFlags are those of commands that write through a coordinator. What is 0 is
// left to the environment, and then to the coordinator.
type coordinatorFlags struct {
	workers, capacity int
	flushInterval     time.Duration
	patience          time.Duration
	dlqDir            string
}

func (f *coordinatorFlags) add(flags *pflag.FlagSet) {
	flags.IntVar(&f.workers, "workers", 0, "batches written at once (default 4; DuckDB, which has one writer: 1; environment MDS_COORDINATOR_WORKERS)")
	flags.IntVar(&f.capacity, "capacity", 0, "records that are queued and being written at most (default 262144; environment MDS_COORDINATOR_CAPACITY)")
	flags.DurationVar(&f.flushInterval, "flush-interval", 0, "write a batch when its oldest record is that old, however small (default 1s; environment MDS_COORDINATOR_FLUSH_INTERVAL)")
	flags.DurationVar(&f.patience, "give-up-after", 5*time.Minute, "end when the store has not been well for so long; 0 waits for ever")
	addSetting(flags, "dlq.dir", &f.dlqDir)
}

// check refuses what no coordinator takes.
func (f *coordinatorFlags) check(flags *pflag.FlagSet) error {
	for _, n := range []struct {
		flag            string
		is, least, most int64
	}{
		{"workers", int64(f.workers), 1, maxWorkers}, {"capacity", int64(f.capacity), 1, 1 << 40},
		{"flush-interval", int64(f.flushInterval), 1, math.MaxInt64}, {"give-up-after", int64(f.patience), 0, math.MaxInt64},
	} {
		if flags.Changed(n.flag) && (n.is < n.least || n.is > n.most) {
			return usagef("--%s %s: write %s", n.flag, flags.Lookup(n.flag).Value, map[string]string{
				"workers": "1 to " + count(maxWorkers), "capacity": "a number of records, 1 or more", "flush-interval": "a duration such as 250ms", "give-up-after": "a duration such as 5m, or 0 to wait for ever",
			}[n.flag])
		}
	}
	return nil
}

// maxWorkers is more than any store can use.
const maxWorkers = 1024

// coordinatorSettings are those of the settings.
func coordinatorSettings[R any](s *config.Settings) ingest.Config[R] {
	c, r := &s.Coordinator, &s.Retry
	return ingest.Config[R]{
		Capacity: c.Capacity, CapacityBytes: c.CapacityBytes, Workers: c.Workers,
		BatchSize: c.BatchSize, BatchMax: c.BatchMax, FlushInterval: c.FlushInterval,
		Retry:   ingest.Retry{MaxAttempts: r.MaxAttempts, InitialBackoff: r.InitialBackoff, MaxBackoff: r.MaxBackoff, Multiplier: r.BackoffMultiplier, NoJitter: r.NoJitter},
		Circuit: ingest.Circuit{FailureThreshold: s.Circuit.FailureThreshold, HalfOpenAfter: s.Circuit.HalfOpenAfter},
	}
}

// coordinate opens a coordinator over the tenant's store, with its dead letters. End it
// with stop.
func coordinate[R mds.Record[R]](ctx context.Context, a *app, s *session, f *coordinatorFlags, cfg ingest.Config[R]) (*coordination[R], error) {
	dir, err := a.deadLetters(f.dlqDir)
	if err != nil {
		return nil, err
	}
	version, err := s.SchemaVersion(ctx, s.tenant)
	if err != nil {
		return nil, err
	}
	letters, err := a.openLetters(dir)
	if err != nil && f.dlqDir != "" {
		return nil, usagef("--dlq-dir %s: %w", f.dlqDir, err)
	} else if err != nil {
		return nil, err
	}
	cfg.DeadLetters = dlq.For[R](letters, version)
	cfg.Logger = dir.Logger
	cfg.WriteTimeout = a.sinkConfig().WriteTimeout
	c, err := ingest.New(ctx, store.TableOf[R](s.Store), cfg)
	if err != nil {
		return nil, errors.Join(usageError{err}, letters.Close())
	}
	return &coordination[R]{Coordinator: c, handle: c.For(s.tenant), letters: letters, dir: dir, patience: f.patience}, nil
}

// coordination is a coordinator at work for one command.
type coordination[R mds.Record[R]] struct {
	*ingest.Coordinator[R]
	handle   *ingest.Handle[R]
	letters  *dlq.Folder
	dir      deadletter.Dir
	patience time.Duration

	stopOnce sync.Once
	stopped  error
}

// stop drains the coordinator until ctx ends. It may be called again, by others, too.
func (c *coordination[R]) stop(ctx context.Context) error {
	c.stopOnce.Do(func() { c.stopped = errors.Join(c.Stop(ctx), c.letters.Close()) })
	return c.stopped
}

// impatience ends when what is queued is to be left unwritten: at the second signal, of
// which the first ends ctx.
func (c *coordination[R]) impatience(ctx context.Context, p *progress) (context.Context, context.CancelFunc) {
	over, cancel := context.WithCancel(context.WithoutCancel(ctx))
	signals := make(chan os.Signal, 2)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	go func() {
		defer signal.Stop(signals)
		again := time.NewTicker(time.Second)
		defer again.Stop()
		for n := 0; n < 2; {
			select {
			case <-signals:
				n++
			case <-over.Done():
				return
			case <-again.C:
				if n == 1 { // whoever interrupts has no time to wait for a store
					c.Hurry()
				}
				continue
			}
			if pending := c.Stats().Pending; n == 1 && pending > 0 {
				p.say(fmt.Sprintf("interrupted: writing %s that are queued; interrupt again to leave them unwritten", plural(pending, "row")))
			}
			c.Hurry()
		}
		cancel()
	}()
	return over, cancel
}

// watch shows what is queued, and calls gaveUp with the reason when the store has not been
// well for too long. What it returns ends it.
func (c *coordination[R]) watch(ctx context.Context, p *progress, gaveUp func(error)) (end func()) {
	ctx, cancel := context.WithCancel(ctx)
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		tick := time.NewTicker(100 * time.Millisecond)
		defer tick.Stop()
		var blocked time.Time // since when
		for {
			select {
			case <-tick.C:
			case <-ctx.Done():
				return
			}
			s := c.Stats()
			p.queued(&s)
			if s.Blocked == nil {
				blocked = time.Time{}
			} else if blocked.IsZero() {
				blocked = time.Now()
			}
			if err := c.outOfPatience(&s, blocked); err != nil {
				gaveUp(err)
				return
			}
		}
	}()
	return func() {
		cancel()
		<-ended
	}
}

// outOfPatience returns the error to end with, nil while the store is well or may become
// so.
func (c *coordination[R]) outOfPatience(s *ingest.Stats, blocked time.Time) error {
	blockedFor := time.Since(blocked)
	switch {
	case c.patience == 0:
		return nil
	case s.Failing >= c.patience && s.Failure != nil:
		return fmt.Errorf("given up after %s: %w; run the same command again for the rest", s.Failing.Round(time.Second), s.Failure)
	case s.Blocked != nil && blockedFor >= c.patience:
		return fmt.Errorf("given up after %s: %w; run the same command again for the rest", blockedFor.Round(time.Second), s.Blocked)
	}
	return nil
}

// unwrittenSeries is what is left of one series.
type unwrittenSeries struct {
	name        string
	n           int64
	first, last time.Time
}

// seriesOf sums up what is unwritten by its series, in order of their names.
func seriesOf[R mds.Record[R]](e *ingest.UnwrittenError[R]) []unwrittenSeries {
	schema := mds.SchemaOf[R]()
	identity := schema.ByRole(mds.Identity)
	byName := make(map[string]*unwrittenSeries)
	for _, u := range e.Unwritten {
		for i := range u.Records {
			r := &u.Records[i]
			var name []byte
			for _, c := range identity {
				name = append(c.AppendText(name, r), ' ')
			}
			s, ok := byName[string(name)]
			if !ok {
				s = &unwrittenSeries{name: strings.TrimSpace(string(name))}
				byName[string(name)] = s
			}
			at := time.UnixMicro(schema.Micros(r)).UTC()
			if s.n++; s.n == 1 || at.Before(s.first) {
				s.first = at
			}
			if at.After(s.last) {
				s.last = at
			}
		}
	}
	var list []unwrittenSeries
	for _, name := range slices.Sorted(maps.Keys(byName)) {
		list = append(list, *byName[name])
	}
	return list
}

// nameUnwritten names what is unwritten, of many series the first.
func (a *app) nameUnwritten(list []unwrittenSeries) {
	const most = 20
	for i, s := range list {
		if i == most {
			fmt.Fprintf(a.stderr, "unwritten: and %s more series\n", count(int64(len(list)-most)))
			break
		}
		fmt.Fprintf(a.stderr, "unwritten: %s: %s, %s to %s\n", s.name, plural(s.n, "row"), s.first.Format(time.RFC3339), s.last.Format(time.RFC3339))
	}
}
