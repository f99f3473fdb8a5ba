package bench

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"slices"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// The names of the coordinator's figures.
const (
	nameSlices     = "submitted in slices of 500 by 2 producers, to a writer that takes all"
	nameSingles    = "submitted one at a time by 4 producers, to a writer that takes all"
	nameSlicesMem  = nameSlices + ": allocations"
	nameSinglesMem = nameSingles + ": allocations"
	nameBySink     = "through the sink: rows a second of CPU time"
	nameByCoord    = "through the coordinator, the same batches: rows a second of CPU time"
	nameMedian     = "submit to committed at 50,000 rows/s: p50"
	nameTail       = "submit to committed at 50,000 rows/s: p99"
	nameAlone      = "a quiet tenant by itself, submit to committed: p99"
	nameFlooded    = "a quiet tenant beside a hundred times as much of another: p99"
)

// Coordinator measures what the coordinator costs and how long records are under way.
func Coordinator(ctx context.Context, cfg Config) (report Report, err error) {
	b := &storeBench{cfg: cfg, market: newMarket(), rounds: 5}
	if cfg.Quick {
		b.rounds = 1
	}
	b.say("a writer that takes all")
	rows, err := b.nullWriter(ctx)
	if err != nil {
		return report, err
	}
	report.Rows = rows
	if rows, err = b.subscribers(ctx); err != nil {
		return report, err
	}
	report.Rows = append(report.Rows, rows...)
	if cfg.DSN == "" {
		dir, err := os.MkdirTemp("", "mds-bench-")
		if err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		cfg.DSN = "duckdb://" + dir
	}
	b.server = isServer(cfg.DSN)
	b.auto, err = store.Open(ctx, cfg.DSN, store.Config{MemoryLimit: cfg.MemoryLimit, Compaction: compactionFor(b.server)})
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, b.auto.Close()) }()
	for _, measure := range []func(context.Context) ([]Row, error){b.overhead, b.latency, b.quiet} {
		rows, err := measure(ctx)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	return report, nil
}

// compactionFor keeps an embedded store from putting rows in order while it is measured.
func compactionFor(server bool) string {
	if server {
		return ""
	}
	return "manual"
}

// nullTable takes all.
type nullTable struct{}

func (nullTable) WriteBatch(_ context.Context, _ mds.Tenant, records []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{Written: int64(len(records))}, nil
}

// nullWriter measures the coordinator by itself.
func (b *storeBench) nullWriter(ctx context.Context) ([]Row, error) {
	bars := b.market.inTime(0, symbols)
	n := 20_000_000
	if b.cfg.Quick {
		n = 100_000
	}
	allocations := make(map[string][]float64)
	var rounds [][]timing
	for range b.rounds {
		var round []timing
		for _, way := range []struct {
			name, memory    string
			producers, size int
			n               int
		}{{nameSlices, nameSlicesMem, 2, 500, n}, {nameSingles, nameSinglesMem, 4, 1, n / 4}} {
			c, err := ingest.New(ctx, nullTable{}, ingest.Config[mds.Bar]{})
			if err != nil {
				return nil, err
			}
			h := c.For(mds.DefaultTenant())
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			elapsed, err := timed(func() error {
				errs := make([]error, way.producers)
				var wg sync.WaitGroup
				for p := range way.producers {
					wg.Go(func() {
						for i := 0; i < way.n/way.producers && errs[p] == nil; i += way.size {
							first := i % len(bars) / way.size * way.size
							_, errs[p] = h.Submit(ctx, bars[first:first+way.size]...)
						}
					})
				}
				wg.Wait()
				return errors.Join(append(errs, c.Stop(ctx))...)
			})
			if err != nil {
				return nil, err
			}
			runtime.ReadMemStats(&after)
			if l := c.Stats().Ledger; l.Written != int64(way.n) {
				return nil, fmt.Errorf("of %d records %+v", way.n, l)
			}
			allocations[way.memory] = append(allocations[way.memory], float64(after.Mallocs-before.Mallocs)/float64(way.n))
			round = append(round, timing{name: way.name, rows: way.n, elapsed: elapsed})
		}
		rounds = append(rounds, round)
	}
	rows := summarize(0, rounds)
	for _, name := range []string{nameSlicesMem, nameSinglesMem} {
		rows = append(rows, Row{Name: name, Allocations: median(allocations[name]), Low: slices.Min(allocations[name]), High: slices.Max(allocations[name])})
	}
	return rows, nil
}

// overhead measures the CPU time of the same batches through the sink, and through the
// coordinator on top of it, from submits of 500.
func (b *storeBench) overhead(ctx context.Context) ([]Row, error) {
	size, n := 50_000, 2_000_000
	if b.cfg.Quick {
		size, n = 5_000, 20_000
	}
	b.say("CPU time through the sink and through the coordinator")
	bars := b.market.inTime(0, n)
	submits := func(s *store.Store, tenant mds.Tenant) error {
		c, err := ingest.New(ctx, sink.New(store.Bars(s), sink.Config{}), ingest.Config[mds.Bar]{
			Workers: 1, Lanes: 1, BatchSize: size, BatchMax: size, FlushInterval: time.Hour,
		})
		if err != nil {
			return err
		}
		h := c.For(tenant)
		for part := range slices.Chunk(bars, 500) {
			if _, err := h.Submit(ctx, part...); err != nil {
				return err
			}
		}
		if err := c.Stop(ctx); err != nil {
			return err
		}
		if s := c.Stats(); s.Written != int64(n) || s.Batches != int64(n/size) {
			return fmt.Errorf("of %d bars %+v in %d batches", n, s.Ledger, s.Batches)
		}
		return nil
	}
	var rounds [][]timing
	err := b.in(ctx, b.auto, func(tenant mds.Tenant) error {
		for i := range b.rounds {
			round := []timing{{name: nameBySink, rows: n}, {name: nameByCoord, of: nameBySink, rows: n}}
			for w := range round {
				way := &round[(w+i)%2] // they take turns to be the first
				runtime.GC()
				before := cpuTime(b.server)
				var err error
				if way.name == nameBySink {
					_, err = write(ctx, b.auto, tenant, bars, size, int64(n))
				} else {
					err = submits(b.auto, tenant)
				}
				if err != nil {
					return err
				}
				way.elapsed = cpuTime(b.server) - before
				for i := range bars { // the next are later, rather than written again
					bars[i].TS = bars[i].TS.Add(time.Duration(n/symbols) * time.Minute)
				}
			}
			rounds = append(rounds, round)
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return summarize(size, rounds), nil
}

// paced submits slices of n bars of a tenant once a millisecond, and returns how long each
// took to be committed, in order of length.
func paced(ctx context.Context, h *ingest.Handle[mds.Bar], bars []mds.Bar, n int) ([]time.Duration, error) {
	slots := len(bars) / n
	took, errs := make([]time.Duration, slots), make([]error, slots)
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range slots {
		for time.Since(begin) < time.Duration(i)*time.Millisecond { // a tick that was missed is made up for
			<-tick.C
		}
		start := time.Now()
		r, err := h.Submit(ctx, bars[i*n:(i+1)*n]...)
		if err != nil {
			return nil, err
		}
		wg.Go(func() {
			_, errs[i] = r.Wait(ctx)
			took[i] = time.Since(start)
		})
	}
	wg.Wait()
	slices.Sort(took)
	return took, errors.Join(errs...)
}

// latency measures how long records are under way at a steady rate, with the settings as
// they come.
func (b *storeBench) latency(ctx context.Context) (rows []Row, err error) {
	seconds := 10
	if b.cfg.Quick {
		seconds = 1
	}
	b.say("50,000 rows/s")
	bars := b.market.inTime(0, 50_000*seconds)
	err = b.in(ctx, b.auto, func(tenant mds.Tenant) error {
		c, err := ingest.New(ctx, sink.New(store.Bars(b.auto), sink.Config{}), ingest.Config[mds.Bar]{Lanes: b.lanes()})
		if err != nil {
			return err
		}
		took, err := paced(ctx, c.For(tenant), bars, 50)
		err = errors.Join(err, c.Stop(ctx))
		if err == nil {
			rows = append(rows, Row{Name: nameMedian, Millis: millis(took[len(took)/2])}, Row{Name: nameTail, Millis: millis(took[len(took)*99/100])})
		}
		return err
	})
	return rows, err
}

// lanes are those that suit the store.
func (b *storeBench) lanes() int {
	if b.server {
		return 4
	}
	return 1
}

// quiet measures how long the records of a tenant that submits 1,000 rows/s are under way,
// by itself and beside one that submits 100,000 rows/s.
func (b *storeBench) quiet(ctx context.Context) (rows []Row, err error) {
	seconds := 8
	if b.cfg.Quick {
		seconds = 1
	}
	b.say("a quiet tenant and a flood")
	few, many := b.market.inTime(0, 1_000*seconds), b.market.inTime(0, 100_000*seconds)
	for _, way := range []struct {
		name  string
		flood bool
	}{{nameAlone, false}, {nameFlooded, true}} {
		err = b.in(ctx, b.auto, func(quiet mds.Tenant) error {
			return b.in(ctx, b.auto, func(loud mds.Tenant) error {
				c, err := ingest.New(ctx, sink.New(store.Bars(b.auto), sink.Config{}), ingest.Config[mds.Bar]{Lanes: b.lanes()})
				if err != nil {
					return err
				}
				var wg sync.WaitGroup
				var floodErr error
				if way.flood {
					wg.Go(func() { _, floodErr = paced(ctx, c.For(loud), many, 100) })
				}
				took, err := paced(ctx, c.For(quiet), few, 1)
				wg.Wait()
				err = errors.Join(err, floodErr, c.Stop(ctx))
				if err == nil {
					rows = append(rows, Row{Name: way.name, Millis: millis(took[len(took)*99/100])})
				}
				return err
			})
		})
		if err != nil {
			return nil, err
		}
	}
	if last := &rows[1]; rows[0].Millis > 0 {
		last.Of, last.Ratio = rows[0].Name, last.Millis/rows[0].Millis
		last.Low, last.High = last.Ratio, last.Ratio
	}
	return rows, nil
}
