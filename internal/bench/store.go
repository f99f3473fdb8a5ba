package bench

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// Config configures a run.
type Config struct {
	// DSN is the store to measure on: in tenants of their own, which are removed. ""
	// measures on a throw-away store.
	DSN string
	// AdminDSN is the owner's of a server's database, where its peers get a table, which
	// is dropped; "" measures without them.
	AdminDSN string
	// MemoryLimit is the database's; "" is its default.
	MemoryLimit string
	// Embedded sets what a server of an embedded store has otherwise than others, until the
	// returned function is called.
	Embedded func(*ingest.Config[any]) (undo func())
	// Full measures on tables of 1, 10 and 100 million rows.
	Full bool
	// Rows measures on one table of as many rows only, 0 on what Full says.
	Rows int
	// Quick does little of everything: to see that it works.
	Quick bool
	// Progress receives what is being done.
	Progress func(string)
}

const symbols = 500

// Store measures the store.
func Store(ctx context.Context, cfg Config) (report Report, err error) {
	b := &storeBench{cfg: cfg, market: newMarket(), rounds: 3}
	sizes := []int{100, 1_000, 5_000, 50_000, 122_880}
	stored := []int{5_000_000}
	switch {
	case cfg.Quick:
		b.rounds, sizes, stored = 1, []int{100, 5_000}, []int{100_000}
	case cfg.Full:
		stored = []int{1_000_000, 10_000_000, 100_000_000}
	}
	if cfg.DSN == "" {
		dir, err := os.MkdirTemp("", "mds-bench-")
		if err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		cfg.DSN = "duckdb://" + dir
	}
	if isServer(cfg.DSN) {
		b.server, sizes = true, sizes[:len(sizes)-1]
		if cfg.Full { // the disk that 100 take is not there everywhere
			stored = []int{1_000_000, 10_000_000, 50_000_000}
		}
		if cfg.AdminDSN != "" {
			if b.peers, err = newPeers(ctx, cfg.AdminDSN, b.market); err != nil {
				return report, err
			}
			defer func() { err = errors.Join(err, b.peers.close(ctx)) }()
		} else {
			b.say("without the owner's login (--admin-dsn) its peers are not measured")
		}
	}
	for _, open := range []struct {
		mode  string
		store **store.Store
	}{{"auto", &b.auto}, {"merge", &b.merge}} {
		s, err := store.Open(ctx, cfg.DSN, store.Config{WriteMode: open.mode, MemoryLimit: cfg.MemoryLimit})
		if err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, s.Close()) }()
		*open.store = s
	}
	shares := []share{{8, 100, 40_000}}
	if b.server {
		shares = append(shares, share{2, 5_000, 1_200_000})
	}
	if cfg.Rows > 0 {
		sizes, shares, stored = nil, nil, []int{cfg.Rows}
	}
	for _, size := range sizes {
		rows, err := b.writes(ctx, size)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	for _, s := range shares {
		rows, err := b.together(ctx, s)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	for _, n := range stored {
		rows, err := b.filled(ctx, n)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	if peak := peakMemory(); peak > 0 {
		report.Rows = append(report.Rows, Row{Name: "peak memory of this process, with the bars it writes", Bytes: peak})
	}
	return report, nil
}

type storeBench struct {
	cfg         Config
	market      *market
	rounds      int
	auto, merge *store.Store
	server      bool   // it is PostgreSQL
	peers       *peers // of a server; nil where they are not measured
}

func (b *storeBench) say(format string, args ...any) {
	if b.cfg.Progress != nil {
		b.cfg.Progress(fmt.Sprintf(format, args...))
	}
}

// in runs fn with a tenant of its own, which is removed afterwards.
func (b *storeBench) in(ctx context.Context, s *store.Store, fn func(mds.Tenant) error) (err error) {
	if b.peers != nil {
		defer func() { err = errors.Join(err, b.peers.tidy(context.WithoutCancel(ctx))) }()
	}
	tenant, err := s.CreateTenant(ctx, "bench-"+strings.ToLower(rand.Text()[:12]))
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.RemoveTenant(context.WithoutCancel(ctx), tenant)) }()
	return fn(tenant)
}

// write writes bars through a sink, in batches, and checks what the receipts say.
func write(ctx context.Context, s *store.Store, tenant mds.Tenant, bars []mds.Bar, size int, written int64) (time.Duration, error) {
	out := sink.New(store.Bars(s), sink.Config{}).For(tenant)
	var total mds.Receipt
	elapsed, err := timed(func() error {
		for batch := range slices.Chunk(bars, size) {
			receipt, err := out.Write(ctx, batch)
			if err != nil {
				return err
			}
			total = total.Add(receipt)
		}
		return nil
	})
	if err == nil && (total.Written != written || total.Written+total.Unchanged != int64(len(bars))) {
		err = fmt.Errorf("of %d bars %+v; %d should have been written", len(bars), total, written)
	}
	return elapsed, err
}

// The names of the figures.
const (
	nameLimit       = "limit: insert, unchecked"
	nameAppend      = "write, in order of time"
	nameReplay      = "write again, all equal"
	nameMerge       = "write, every batch merged"
	nameMergeReplay = "write again, every batch merged"
	nameHalf        = "write, half of a batch new and half changed"
)

// limiter is a table that can tell what its database takes at most.
type limiter interface {
	Limit(ctx context.Context, tenant mds.Tenant, records []mds.Bar, size int) (time.Duration, error)
}

// writes measures the ways of writing to an empty table, by turns.
func (b *storeBench) writes(ctx context.Context, size int) ([]Row, error) {
	n := min(max(200*size, 600_000), 1_200_000)
	switch {
	case b.cfg.Quick:
		n = 10 * size
	case size < 1_000:
		n = 30_000
	case size < 5_000:
		n = 150_000
	}
	n = n / size * size
	b.say("writing batches of %d", size)
	bars := b.market.inTime(0, n)
	half := b.half(bars)
	of := ""
	if _, ok := store.Bars(b.auto).(limiter); ok {
		of = nameLimit
	} else if b.peers != nil {
		of = namePeerA
	}
	var rounds [][]timing
	for range b.rounds {
		var round []timing
		if b.peers != nil {
			for _, name := range []string{namePeerA, namePeerB, nameUnnest, nameSingle} {
				part, of := bars, namePeerA
				switch name {
				case namePeerA:
					of = ""
				case nameUnnest, nameSingle: // a fifth of it tells as much
					part = bars[:max(1, n/size/5)*size]
				}
				elapsed, err := b.peers.measure(ctx, name, part, size)
				if err != nil {
					return nil, err
				}
				round = append(round, timing{name: name, of: of, rows: len(part), elapsed: elapsed})
			}
		}
		if of == nameLimit {
			err := b.in(ctx, b.auto, func(tenant mds.Tenant) error {
				elapsed, err := store.Bars(b.auto).(limiter).Limit(ctx, tenant, bars, size)
				round = append(round, timing{name: nameLimit, rows: n, elapsed: elapsed})
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		for _, way := range []struct {
			store        *store.Store
			load, replay string
		}{{b.auto, nameAppend, nameReplay}, {b.merge, nameMerge, nameMergeReplay}} {
			err := b.in(ctx, way.store, func(tenant mds.Tenant) error {
				load, err := write(ctx, way.store, tenant, bars, size, int64(n))
				if err != nil {
					return err
				}
				replay, err := write(ctx, way.store, tenant, bars, size, 0)
				round = append(round, timing{name: way.load, of: of, rows: n, elapsed: load}, timing{name: way.replay, of: way.load, rows: n, elapsed: replay})
				if err != nil || way.store != b.auto {
					return err
				}
				elapsed, err := write(ctx, way.store, tenant, half, size, int64(n))
				round = append(round, timing{name: nameHalf, of: cmp.Or(of, nameAppend), rows: n, elapsed: elapsed})
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	return summarize(size, rounds), nil
}

// half are as many bars as bars are, in batches of which every other one is stored with
// another price, and every other one new.
func (b *storeBench) half(bars []mds.Bar) []mds.Bar {
	fresh := b.market.inTime(len(bars)/symbols+1, len(bars)-len(bars)/2)
	mixed := make([]mds.Bar, len(bars))
	for i := range mixed {
		if mixed[i] = fresh[i/2]; i%2 == 1 {
			mixed[i] = bars[i/2]
			mixed[i].Close += 0.01
		}
	}
	return mixed
}

// share is how several writers share rows.
type share struct{ writers, size, rows int }

// together measures batches of several writers, small ones of which an engine may write
// together.
func (b *storeBench) together(ctx context.Context, s share) ([]Row, error) {
	writers, size, n := s.writers, s.size, s.rows
	if b.cfg.Quick {
		n = 16 * size
	}
	b.say("%d writers with batches of %d", writers, size)
	bars := b.market.inTime(0, n)
	// Each has symbols of its own, as feeds do.
	shares := make([][]mds.Bar, writers)
	for i := range bars {
		w := i % symbols % writers
		shares[w] = append(shares[w], bars[i])
	}
	var rounds [][]timing
	for range b.rounds {
		var round []timing
		for _, t := range []struct {
			name, of string
			writers  int
		}{{"1 writer", "", 1}, {fmt.Sprint(writers, " writers at once"), "1 writer", writers}} {
			err := b.in(ctx, b.auto, func(tenant mds.Tenant) error {
				run := func(again bool) error {
					var wg sync.WaitGroup
					errs := make([]error, t.writers)
					for w := range t.writers {
						wg.Go(func() {
							share := bars
							if t.writers > 1 {
								share = shares[w]
							}
							written := int64(len(share))
							if again {
								written = 0
							}
							_, errs[w] = write(ctx, b.auto, tenant, share, size, written)
						})
					}
					wg.Wait()
					return errors.Join(errs...)
				}
				first, err := timed(func() error { return run(false) })
				if err != nil {
					return err
				}
				again, err := timed(func() error { return run(true) })
				round = append(round, timing{name: t.name, of: t.of, rows: n, elapsed: first}, timing{name: t.name + ", the same again", of: t.name, rows: n, elapsed: again})
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	return summarize(size, rounds), nil
}
