package bench

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
)

const (
	nameAlonePaced  = "2,000,000 records/s to a writer that takes all: records a second of CPU time"
	nameSubscribers = "the same beside 1,000 subscribers of server-sent events, 100 of which never read, their own time included"
)

// subscribers measures what listening costs a coordinator at a steady rate.
func (b *storeBench) subscribers(ctx context.Context) ([]Row, error) {
	seconds, listeners := 4, 1000
	if b.cfg.Quick {
		seconds, listeners = 1, 10
	}
	b.say("subscribers of server-sent events")
	bars := b.market.inTime(0, symbols)
	n := 2_000_000 * seconds
	var rounds [][]timing
	for i := range b.rounds {
		round := []timing{{name: nameAlonePaced, rows: n}, {name: nameSubscribers, of: nameAlonePaced, rows: n}}
		for w := range round {
			way := &round[(w+i)%2]
			c, err := ingest.New(ctx, nullTable{}, ingest.Config[mds.Bar]{})
			if err != nil {
				return nil, err
			}
			stop := func() {}
			if way.name == nameSubscribers {
				if stop, err = subscribe(ctx, c.Feedback(), listeners); err != nil {
					return nil, errors.Join(err, c.Stop(ctx))
				}
			}
			before := cpuTime(false)
			err = atRate(ctx, c.For(mds.DefaultTenant()), bars, seconds)
			way.elapsed = cpuTime(false) - before
			stop()
			if err := errors.Join(err, c.Stop(ctx)); err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	return summarize(0, rounds), nil
}

// atRate submits 2,000,000 records a second, in slices of 500.
func atRate(ctx context.Context, h *ingest.Handle[mds.Bar], bars []mds.Bar, seconds int) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	begin := time.Now()
	for i := range 1000 * seconds {
		for time.Since(begin) < time.Duration(i)*time.Millisecond {
			<-tick.C
		}
		for range 4 { // of 500
			if _, err := h.Submit(ctx, bars...); err != nil {
				return err
			}
		}
	}
	return nil
}

// subscribe serves a bus on loopback to so many subscribers, of which one in ten never
// reads.
func subscribe(ctx context.Context, bus *feedback.Bus, n int) (stop func(), err error) {
	handler, err := feedback.NewHandler(bus, feedback.HandlerConfig{})
	if err != nil {
		return nil, err
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	server := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
	var running sync.WaitGroup
	running.Go(func() { _ = server.Serve(listener) }) // it ends when it is closed
	var conns []net.Conn
	stop = func() {
		_ = server.Close()
		for _, conn := range conns {
			_ = conn.Close()
		}
		running.Wait()
	}
	for i := range n {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", listener.Addr().String())
		if err == nil {
			conns = append(conns, conn)
			_, err = fmt.Fprintf(conn, "GET / HTTP/1.1\r\nHost: bench\r\nAccept: text/event-stream\r\n\r\n")
		}
		if err != nil {
			stop()
			return nil, err
		}
		if i%10 > 0 {
			running.Go(func() { _, _ = io.Copy(io.Discard, bufio.NewReaderSize(conn, 512)) }) // until it is closed
		}
	}
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for bus.Listeners() < n {
		select {
		case <-tick.C:
		case <-ctx.Done():
			stop()
			return nil, ctx.Err()
		}
	}
	return stop, nil
}
