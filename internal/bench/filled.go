package bench

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// filled measures writes to, and reads of, a table that holds rows already: loaded as
// an ingest of files in order of time does it, then compacted as it is then.
func (b *storeBench) filled(ctx context.Context, n int) (rows []Row, err error) {
	err = b.in(ctx, b.auto, func(tenant mds.Tenant) error {
		f := &filled{storeBench: b, tenant: tenant, n: n, minutes: n / symbols}
		if err := f.fill(ctx); err != nil {
			return err
		}
		if err := f.reads(ctx); err != nil {
			return err
		}
		err := f.writes(ctx)
		rows = f.rows
		return err
	})
	return rows, err
}

type filled struct {
	*storeBench
	tenant  mds.Tenant
	n       int
	minutes int // that each symbol has
	rows    []Row
}

func (f *filled) add(r Row) {
	r.Stored = int64(f.n)
	f.rows = append(f.rows, r)
}

func (f *filled) fill(ctx context.Context) error {
	const size, part = 122_880, 10 * 122_880
	f.say("filling a table with %d rows", f.n)
	var elapsed time.Duration
	for done := 0; done < f.n; done += part {
		// A part ends with a minute; what is over is the next one's.
		bars := f.market.inTime(done/symbols, (min(f.n, done+part)/symbols-done/symbols)*symbols)
		took, err := write(ctx, f.auto, f.tenant, bars, size, int64(len(bars)))
		if err != nil {
			return err
		}
		elapsed += took
	}
	f.add(Row{Name: "fill, in order of time", Batch: size, RowsPerS: float64(f.n) / elapsed.Seconds()})
	f.say("reading before compaction")
	if err := f.window(ctx, "window of 10,000 bars, rows as they came"); err != nil {
		return err
	}
	if table, ok := store.Bars(f.auto).(store.Compacter); ok {
		f.say("compacting")
		var moved int64
		took, err := timed(func() error {
			done, err := table.Compact(ctx, f.tenant)
			moved = done.Moved
			return err
		})
		if err != nil {
			return err
		}
		f.add(Row{Name: "compaction", RowsPerS: float64(moved) / took.Seconds(), Millis: millis(took)})
	}
	info, err := f.auto.Info(ctx, f.tenant)
	if err != nil {
		return err
	}
	f.add(Row{Name: "bytes a row on the disk, free blocks of the file included", Bytes: float64(info.Bytes) / float64(f.n)})
	return nil
}

// window reads 10,000 bars of one symbol, or all where there are fewer.
func (f *filled) window(ctx context.Context, name string) error {
	n := min(10_000, f.minutes)
	symbol := 0
	return f.read(ctx, name, n, func() (int, error) {
		symbol = (symbol + 77) % symbols
		from := (f.minutes - n) / 2
		query := mds.Query{Selection: mds.Selection{
			Symbols: []string{f.market.symbols[symbol]},
			Start:   start.Add(time.Duration(from) * time.Minute), End: start.Add(time.Duration(from+n) * time.Minute),
		}}
		got := 0
		for _, err := range store.Bars(f.auto).Query(ctx, f.tenant, query) {
			if err != nil {
				return got, err
			}
			got++
		}
		return got, nil
	})
}

// read measures a read several times.
func (f *filled) read(ctx context.Context, name string, want int, fn func() (int, error)) error {
	var times []float64
	for range 15 {
		var got int
		took, err := timed(func() (err error) {
			got, err = fn()
			return err
		})
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%s: %d rows, want %d", name, got, want)
		}
		times = append(times, millis(took))
		if ctx.Err() != nil {
			return ctx.Err()
		}
	}
	f.add(Row{Name: name, RowsPerS: float64(want) / median(times) * 1000, Millis: median(times)})
	return nil
}

func millis(d time.Duration) float64 { return float64(d.Microseconds()) / 1000 }

func (f *filled) reads(ctx context.Context) error {
	f.say("reading")
	if err := f.window(ctx, "window of 10,000 bars"); err != nil {
		return err
	}
	bars := store.Bars(f.auto)
	first, err := timed(func() error {
		_, err := bars.Latest(ctx, f.tenant, mds.Selection{})
		return err
	})
	if err != nil {
		return err
	}
	f.add(Row{Name: "latest of 500 symbols, the first time", RowsPerS: symbols / first.Seconds(), Millis: millis(first)})
	err = f.read(ctx, "latest of 500 symbols", symbols, func() (int, error) {
		latest, err := bars.Latest(ctx, f.tenant, mds.Selection{})
		return len(latest), err
	})
	if err != nil {
		return err
	}
	day := min(f.minutes, 1440)
	return f.read(ctx, "a day of all symbols, counted", day*symbols, func() (int, error) {
		n, err := bars.Count(ctx, f.tenant, mds.Selection{Start: start, End: start.Add(time.Duration(day) * time.Minute)})
		return int(n), err
	})
}

// writes measures what is written to a table that holds rows.
func (f *filled) writes(ctx context.Context) error {
	const size = 5_000
	n := 300_000
	if f.cfg.Quick {
		n = 20_000
	}
	next := f.minutes
	before := 0
	ordered := f.market.inTime(next, n)
	next += n / symbols
	for _, w := range []struct {
		name    string
		batch   int
		bars    []mds.Bar
		written int
	}{
		{"more, in order of time", size, ordered, n},
		{"the same again", size, ordered, 0},
		{"more, in order of time", 10 * size, f.market.inTime(next, n), n},
		{"backfill symbol by symbol, before what is there", size, f.market.bySymbol(n/size, before-size, size), n},
		{"backfill symbol by symbol, between what is there", size, f.between(n, size), n},
		{"mixed: a tenth late or sent again", size, f.mixed(next+n/symbols, n), n - n/20},
	} {
		f.say("writing %s", w.name)
		var before, after int64
		if f.peers != nil {
			var err error
			if before, err = f.peers.logged(ctx); err != nil {
				return err
			}
		}
		took, err := write(ctx, f.auto, f.tenant, w.bars, w.batch, int64(w.written))
		if err != nil {
			return fmt.Errorf("%s: %w", w.name, err)
		}
		if f.peers != nil && w.written == 0 {
			if after, err = f.peers.logged(ctx); err != nil {
				return err
			}
			f.add(Row{Name: "bytes a row in the server's log, what is there being sent again", Bytes: float64(after-before) / float64(len(w.bars))})
		}
		f.add(Row{Name: w.name, Batch: w.batch, RowsPerS: float64(len(w.bars)) / took.Seconds()})
	}
	return nil
}

// between are bars half-way between the minutes that are stored.
func (f *filled) between(n, size int) []mds.Bar {
	minutes := min(size, f.minutes/2)
	bars := f.market.bySymbol(n/minutes, f.minutes/3, minutes)
	for i := range bars {
		bars[i].TS = bars[i].TS.Add(30 * time.Second)
	}
	return bars
}

// mixed are bars in order of time; of each twenty one was sent before and one is late.
func (f *filled) mixed(minute, n int) []mds.Bar {
	bars := f.market.inTime(minute, n)
	for i := range bars {
		switch i % 20 {
		case 7:
			bars[i] = f.market.bar(i%symbols, i/symbols)
		case 13:
			bars[i].TS = start.Add(time.Duration(i/symbols)*time.Minute + 10*time.Second)
		}
	}
	return bars
}

// peakMemory is the most memory that the process had, 0 where the system does not
// tell.
func peakMemory() float64 {
	f, err := os.Open("/proc/self/status")
	if err != nil {
		return 0
	}
	defer f.Close() //nolint:errcheck // read only
	for lines := bufio.NewScanner(f); lines.Scan(); {
		var kib float64
		if _, err := fmt.Sscanf(strings.TrimSpace(lines.Text()), "VmHWM: %f kB", &kib); err == nil {
			return kib * 1024
		}
	}
	return 0
}
