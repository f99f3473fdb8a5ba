package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math"
	"net/url"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// options are what the command line says.
type options struct {
	dsn, data, svg string
	timeframe      mds.Timeframe
	speed          float64
	symbols        int
	duration       time.Duration
	throttle       throttle
	command        string // as it was given, without a password
}

func parse(args []string, stderr io.Writer) (opt options, err error) {
	flags := flag.NewFlagSet("pipeline", flag.ContinueOnError)
	flags.SetOutput(stderr)
	flags.StringVar(&opt.dsn, "dsn", "", "the `store`, duckdb://DIR or postgres://…; a throw-away DuckDB where it is not given")
	flags.StringVar(&opt.data, "data", "", "the `folder` of cryptofeed's recordings; a generator makes trades where it is not given")
	timeframe := flags.String("timeframe", "1s", "that of the bars, 1s or 1m")
	flags.Float64Var(&opt.speed, "speed", 60, "how many `times` as fast as it was recorded the replay is")
	flags.IntVar(&opt.symbols, "symbols", 4000, "how many symbols there are, roughly: those recorded, and synthetic ones like them")
	flags.DurationVar(&opt.duration, "for", 20*time.Second, "how long the replay runs")
	flags.StringVar(&opt.svg, "svg", "", "the `file` that a picture of the run is written to")
	flags.Var(&opt.throttle, "throttle", "`from,to,share`: between these times the store takes only that share of what it took before, as in 10s,20s,0.2")
	if err := flags.Parse(args); err != nil {
		return opt, err
	}
	opt.timeframe = mds.Timeframe(*timeframe)
	opt.command = "go run ./examples/pipeline"
	flags.Visit(func(f *flag.Flag) {
		value := f.Value.String()
		if u, err := url.Parse(value); f.Name == "dsn" && err == nil {
			value = u.Redacted()
		}
		opt.command += " -" + f.Name + " " + value
	})
	return opt, opt.validate(flags.Args())
}

// validate names every fault.
func (o *options) validate(rest []string) error {
	var errs []error
	fault := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf(format, args...))
		}
	}
	fault(len(rest) > 0, "%s: there are flags only", strings.Join(rest, " "))
	fault(spans[o.timeframe] == 0, "--timeframe is %s: it must be 1s or 1m", o.timeframe)
	fault(!(o.speed > 0) || math.IsInf(o.speed, 0), "--speed is %v: it must be over 0", o.speed)
	fault(o.symbols < 1 || o.symbols > 1_000_000, "--symbols is %d: it must be from 1 to 1,000,000", o.symbols)
	fault(o.duration <= 0, "--for is %v: it must be over 0", o.duration)
	return errors.Join(errs...)
}

// duckDB reports that the store is one.
func (o *options) duckDB() bool { return strings.HasPrefix(o.dsn, "duckdb:") }

// recording is that of a folder, or else what a generator makes.
func (o *options) recording() (*recording, error) {
	if o.data == "" {
		return walk(), nil
	}
	return load(o.data)
}
