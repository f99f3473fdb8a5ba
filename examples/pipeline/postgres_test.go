package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store/postgres"
)

// TestPostgreSQL has the connection to a server become slow: the producer does too, before the
// queue is full, and is as fast as before, or faster, when the connection is well again.
func TestPostgreSQL(t *testing.T) {
	d := pgtest.Fresh(t, "pipeline", func(d pgtest.Database) error {
		if _, err := postgres.Migrate(context.Background(), d.Owner, postgres.MigrateConfig{}); err != nil {
			return err
		}
		_, err := postgres.GrantService(context.Background(), d.Owner, d.Service)
		return err
	})
	proxy := pgtest.NewProxy(t, d.Cluster.Addr())
	// The generator's 76 bars of ten symbols in a minute come to 5,000 a second.
	opt, err := parse(strings.Fields("--for 5m --speed 20 --symbols 2000 --dsn "+d.Through(d.Service, proxy.Listen)), io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	out, printed := io.Pipe()
	defer out.Close()
	done := make(chan error, 1)
	go func() {
		err := run(ctx, printed, opt)
		printed.Close()
		done <- err
	}()
	r := &reader{t: t, lines: bufio.NewScanner(out), deadline: time.Now().Add(2 * time.Minute)}
	r.lines.Scan() // what is replayed

	r.until("at the replay's rate", func(s sample) bool { return s.submitted > 4000 && s.depth < capacity/8 })
	proxy.Add("bandwidth", pgtest.ToServer, map[string]any{"rate": 30}) // KB a second, of each connection
	r.until("slow", func(s sample) bool { return s.submitted < 2500 && s.suggested < 2500 })
	proxy.Heal()
	r.until("as fast as before", func(s sample) bool { return s.submitted > 4000 && s.depth < capacity/8 && s.level == "ok" })

	stop()
	last := ""
	for r.lines.Scan() {
		last = r.lines.Text()
	}
	if err := <-done; err != nil {
		t.Fatal(err)
	}
	t.Log(strings.Join(r.seen, "\n"))
	allStored(t, last, d.Service)
}

// reader reads what a run prints.
type reader struct {
	t        *testing.T
	lines    *bufio.Scanner
	deadline time.Time
	seen     []string
}

// until reads until two samples in a row are what is waited for. None may show a queue that
// is nearly full.
func (r *reader) until(what string, reached func(sample) bool) {
	r.t.Helper()
	for in := 0; in < 2; {
		if !r.lines.Scan() || time.Now().After(r.deadline) {
			r.t.Fatalf("it did not come to be %s:\n%s", what, strings.Join(r.seen, "\n"))
		}
		var s sample
		var at float64
		text := r.lines.Text()
		r.seen = append(r.seen, text)
		if _, err := fmt.Sscanf(text, "%f s submitted %f/s suggested %f/s queue %d %s", &at, &s.submitted, &s.suggested, &s.depth, &s.level); err != nil {
			r.t.Fatalf("%q: %v", text, err)
		}
		if s.depth > capacity*9/10 {
			r.t.Errorf("the queue is nearly full: %s", text)
		}
		if in++; !reached(s) {
			in = 0
		}
	}
	r.seen = append(r.seen, what)
}
