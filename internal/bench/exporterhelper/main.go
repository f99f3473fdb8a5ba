// Command exporterhelper measures the coordinator beside the sending queue that the
// exporters of the OpenTelemetry Collector share: exporterhelper, in memory, with its
// batcher, retries and time limit.
//
// Both move the same bars, made beforehand, into a writer that takes all: slices of 500
// from 2 producers, and one at a time from 4, until the last is written. Both have room
// for 262,144 records and block where there is none, write up to 4 batches at once, of 500
// records or more or 250 ms old, and export neither metrics nor spans.
//
// exporterhelper takes telemetry, and has a function make it into a request of one's own.
// Here the telemetry is empty and the bars come with the context: a queue is measured, not
// a conversion. A request is bars that the producer hands over and must not touch again;
// [ingest.Handle.Submit] copies them, and so does "copied". While the writer is busy the
// coordinator's batches grow; those of exporterhelper do not, nor those of "of 500".
//
// The coordinator also keeps the records of a series in order, counts bytes, gives a
// receipt and keeps a ledger. exporterhelper writes its batches in any order.
//
// The sides take turns, and to be the first. Rates and allocations are medians of the
// rounds; ratios are those of the rounds' ratios, with the smallest and the largest.
package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/marketdatastore/mds"
)

const rounds = 5

// stream is how n bars arrive: size at a time, from so many producers.
type stream struct {
	name               string
	producers, size, n int
}

// queue is one that is open.
type queue struct {
	submit  func(part int) error            // one of the parts
	stop    func(context.Context) error     // writes what is queued
	written func() (records, batches int64) // that the writer took
}

// side opens a queue of bars that arrive in parts.
type side struct {
	name string
	open func(ctx context.Context, parts [][]mds.Bar) (queue, error)
}

// figures are of one run: records a second, allocations a record, records a batch.
type figures [3]float64

func main() {
	ctx, cancel := signal.NotifyContext(context.Background(), os.Interrupt) //nolint:forbidigo // the program's own
	err := measure(ctx, os.Stdout)
	cancel()
	if err != nil {
		fmt.Fprintln(os.Stderr, "exporterhelper:", err)
		os.Exit(1)
	}
}

func measure(ctx context.Context, w io.Writer) error {
	bars := make([]mds.Bar, 500)
	for i := range bars {
		bars[i] = mds.Bar{
			Vendor: "bench", Symbol: "SYM" + strconv.Itoa(i), Timeframe: mds.Minute, TS: time.Unix(1_700_000_000, 0).UTC(),
			Open: mds.Some(1.5), High: mds.Some(2.5), Low: mds.Some(0.5), Close: 2, Volume: mds.Some(100.0),
		}
	}
	sides := []side{
		{"coordinator", openOurs(0)}, {"coordinator, batches of 500", openOurs(batch)},
		{"exporterhelper", openTheirs(false)}, {"exporterhelper, copied", openTheirs(true)},
	}
	if info, ok := debug.ReadBuildInfo(); ok {
		for _, m := range info.Deps {
			if m.Path == "go.opentelemetry.io/collector/exporter/exporterhelper" {
				fmt.Fprintf(w, "exporterhelper %s, %s, %d CPUs, %d rounds\n", m.Version, runtime.Version(), runtime.GOMAXPROCS(0), rounds)
			}
		}
	}
	for _, s := range []stream{
		{"slices of 500 by 2 producers", 2, 500, 40_000_000},
		{"one at a time by 4 producers", 4, 1, 2_000_000},
	} {
		of := make([][]figures, len(sides))
		for round := range rounds {
			for i := range sides {
				at := (i + round) % len(sides)
				f, err := run(ctx, sides[at], s, slices.Collect(slices.Chunk(bars, s.size)))
				if err != nil {
					return fmt.Errorf("%s, %s: %w", s.name, sides[at].name, err)
				}
				of[at] = append(of[at], f)
			}
		}
		if err := report(w, s, sides, of); err != nil {
			return err
		}
	}
	return nil
}

// run has the producers submit all of a stream.
func run(ctx context.Context, side side, s stream, parts [][]mds.Bar) (figures, error) {
	q, err := side.open(ctx, parts)
	if err != nil {
		return figures{}, err
	}
	runtime.GC()
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	start := time.Now()
	errs := make([]error, s.producers)
	var wg sync.WaitGroup
	for p := range s.producers {
		wg.Go(func() {
			for i := 0; i < s.n/s.size/s.producers && errs[p] == nil; i++ {
				errs[p] = q.submit(i % len(parts))
			}
		})
	}
	wg.Wait()
	err = errors.Join(append(errs, q.stop(ctx))...)
	elapsed := time.Since(start)
	runtime.ReadMemStats(&after)
	records, batches := q.written()
	if err == nil && records != int64(s.n) {
		err = fmt.Errorf("%d of %d records were written", records, s.n)
	}
	n := float64(s.n)
	return figures{n / elapsed.Seconds(), float64(after.Mallocs-before.Mallocs) / n, n / float64(max(1, batches))}, err
}

// report prints the sides of a stream, the first of which is compared with each other one.
func report(w io.Writer, s stream, sides []side, of [][]figures) error {
	fmt.Fprintf(w, "\n%s, %d million records\n", s.name, s.n/1_000_000)
	out := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	fmt.Fprintln(out, "\tmillion records/s\tallocations/record\trecords/batch\tthe coordinator to it")
	for i, side := range sides {
		values, ratios := make([][]float64, len(figures{})), make([]float64, 0, rounds)
		for round, f := range of[i] {
			for k := range f {
				values[k] = append(values[k], f[k])
			}
			ratios = append(ratios, of[0][round][0]/f[0])
		}
		for k := range values {
			slices.Sort(values[k])
		}
		slices.Sort(ratios)
		const middle = rounds / 2
		fmt.Fprintf(out, "%s\t%.2f\t%.4f\t%.0f\t", side.name, values[0][middle]/1e6, values[1][middle], values[2][middle])
		if i > 0 {
			fmt.Fprintf(out, "%.2f (%.2f to %.2f)", ratios[middle], ratios[0], ratios[rounds-1])
		}
		fmt.Fprintln(out)
	}
	return out.Flush()
}
