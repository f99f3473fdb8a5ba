package bench

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/live"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// The names of the figures of live streams.
const (
	nameUnheard   = "20,000 rows/s, nobody listens: rows a second of CPU time"
	nameHub       = "the same beside 100 that take all, without HTTP"
	nameNoStream  = "20,000 rows/s over HTTP, nobody listens: rows a second of CPU time"
	nameFew       = "the same beside 100 live streams of one symbol in 500 each, with their clients"
	nameFollowers = "the same beside 100 live streams of everything, with their clients"
	nameHundredth = "20,000 rows/s, from a row's acknowledgement until the last of 100 live streams has it"
	nameSent      = "20,000 rows/s, from when a row is sent until the last of 100 live streams has it"
)

const (
	liveListeners = 100
	liveBody      = 500
	liveEvery     = 25 * time.Millisecond // a body
)

// steady calls submit with a body's worth of bars at a steady rate.
func (b *storeBench) steady(seconds int, submit func([]mds.Bar) error) (rows int, err error) {
	n := seconds * int(time.Second/liveEvery)
	bars := b.market.inTime(0, n*liveBody)
	tick := time.NewTicker(liveEvery)
	defer tick.Stop()
	for part := range slices.Chunk(bars, liveBody) {
		<-tick.C
		if err := submit(part); err != nil {
			return 0, err
		}
	}
	return len(bars), nil
}

// hub measures what live subscribers cost a coordinator before anything is sent to them.
func (b *storeBench) hub(ctx context.Context, seconds int) ([]Row, error) {
	var rounds [][]timing
	for i := range b.rounds {
		b.say("a hub without HTTP")
		round := []timing{{name: nameUnheard}, {name: nameHub, of: nameUnheard}}
		for w := range round {
			way := &round[(w+i)%2]
			err := b.in(ctx, b.auto, func(t mds.Tenant) (err error) {
				h := live.New(live.Config{})
				feed := live.NewFeed[mds.Bar](h)
				c, err := ingest.New(ctx, sink.New(store.Bars(b.auto), sink.Config{}), ingest.Config[mds.Bar]{Workers: b.lanes(), Committed: feed.Publish})
				if err != nil {
					return err
				}
				listening, cancel := context.WithCancel(ctx)
				var taking sync.WaitGroup
				for range liveListeners {
					if way.name == nameHub {
						s := h.Subscribe(t, live.Events, "", feed.Pick(nil))
						taking.Go(func() { takeAll(listening, s) })
					}
				}
				before := cpuTime(false)
				way.rows, err = b.steady(seconds, func(bars []mds.Bar) error {
					_, err := c.For(t).Submit(ctx, bars...)
					return err
				})
				err = errors.Join(err, c.Stop(ctx))
				way.elapsed = cpuTime(false) - before
				cancel()
				taking.Wait()
				h.Close()
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	return summarize(liveBody, rounds), nil
}

// takeAll takes what waits, and does nothing with it.
func takeAll(ctx context.Context, s *live.Subscription) {
	defer s.Close()
	var events []live.Event
	for {
		select {
		case <-s.Wake():
			for more := true; more; {
				events, more = s.Take(events[:0], 1<<20)
			}
		case <-ctx.Done():
			return
		}
	}
}

// live measures live streams: what they cost, and how late they are.
func (h *httpBench) live(ctx context.Context) ([]Row, error) {
	seconds := 8
	if h.cfg.Quick {
		seconds = 1
	}
	rows, err := h.hub(ctx, seconds)
	if err != nil {
		return nil, err
	}
	var rounds [][]timing
	for i := range h.rounds {
		h.say("%d live streams", liveListeners)
		round := []timing{{name: nameNoStream}, {name: nameFew, of: nameNoStream}, {name: nameFollowers, of: nameNoStream}}
		for w := range round {
			way := &round[(w+i)%len(round)]
			var query func(int) string
			switch way.name {
			case nameFew:
				query = func(n int) string { return fmt.Sprintf("?kind=bars&symbol=SYM%04d", n) }
			case nameFollowers:
				query = func(int) string { return "?kind=bars" }
			}
			err := h.in(ctx, h.auto, func(t mds.Tenant) error {
				stop, err := h.listen(ctx, t, query, func([]byte) {})
				if err != nil {
					return err
				}
				defer stop()
				before := cpuTime(false)
				way.rows, err = h.steady(seconds, h.poster(ctx, t))
				way.elapsed = cpuTime(false) - before
				return err
			})
			if err != nil {
				return nil, err
			}
		}
		rounds = append(rounds, round)
	}
	rows = append(rows, summarize(liveBody, rounds)...)
	late, err := h.lateness(ctx, seconds)
	return append(rows, late...), err
}

// poster posts bars until they are taken.
func (h *httpBench) poster(ctx context.Context, t mds.Tenant) func([]mds.Bar) error {
	media := forms[1].media
	return func(bars []mds.Bar) error {
		body, err := bodyOf(media, bars)
		for done := false; err == nil && !done; {
			done, err = h.post(ctx, media, t, body, len(bars))
		}
		return err
	}
}

// listen has clients read live streams, each as query says; nil is none.
func (h *httpBench) listen(ctx context.Context, t mds.Tenant, query func(int) string, read func([]byte)) (stop func(), err error) {
	var conns []net.Conn
	var running sync.WaitGroup
	stop = func() {
		for _, c := range conns {
			_ = c.Close()
		}
		running.Wait()
	}
	for n := 0; query != nil && n < liveListeners; n++ {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", strings.TrimPrefix(h.url, "http://"))
		if err == nil {
			conns = append(conns, conn)
			_, err = fmt.Fprintf(conn, "GET /v1/stream%s HTTP/1.1\r\nHost: bench\r\nMds-Tenant: %s\r\n\r\n", query(n), t.ID)
		}
		chunk := make([]byte, 64<<10)
		if err == nil {
			_, err = conn.Read(chunk) // it has begun
		}
		if err != nil {
			stop()
			return nil, err
		}
		running.Go(func() {
			kept := 0 // of what was read before: what is looked for may be cut
			for {
				n, err := conn.Read(chunk[kept:])
				if err != nil {
					return // it is closed
				}
				read(chunk[:kept+n])
				tail := chunk[max(0, kept+n-len(markSymbol)) : kept+n]
				kept = copy(chunk, tail)
			}
		})
	}
	return stop, nil
}

// markSymbol is that of rows which are looked for, before their number.
const markSymbol = `"symbol":"MARK000000"`

// lateness measures how long single rows are under way to the last of the streams, beside
// the others.
func (h *httpBench) lateness(ctx context.Context, seconds int) (rows []Row, err error) {
	h.say("how late live streams are")
	err = h.in(ctx, h.auto, func(t mds.Tenant) error {
		var seen [1_000]atomic.Int64
		arrived := make(chan int, len(seen))
		prefix := []byte(markSymbol[:len(`"symbol":"MARK`)])
		var found sync.Map // by stream and number: a cut one may be seen twice
		stop, err := h.listen(ctx, t, func(int) string { return "?kind=bars" }, func(text []byte) {
			stream := &text[0]
			for i := bytes.Index(text, prefix); i >= 0 && i+len(markSymbol) <= len(text); {
				n, _ := strconv.Atoi(string(text[i+len(prefix) : i+len(prefix)+6]))
				if _, again := found.LoadOrStore([2]any{stream, n}, true); !again && seen[n].Add(1) == liveListeners {
					arrived <- n
				}
				next := bytes.Index(text[i+1:], prefix)
				if next < 0 {
					break
				}
				i += 1 + next
			}
		})
		if err != nil {
			return err
		}
		defer stop()
		flooding, cancel := context.WithCancel(ctx)
		flooded := make(chan error, 1)
		go func() {
			_, err := h.steady(seconds, h.poster(flooding, t))
			flooded <- err
		}()
		defer cancel()
		var fromSent, fromAcknowledged []time.Duration
		mark := h.market.inTime(0, 1)[0]
		for n := range min(seconds*15, len(seen)) {
			mark.Symbol = fmt.Sprintf("MARK%06d", n)
			sent := time.Now()
			if err := h.poster(ctx, t)([]mds.Bar{mark}); err != nil {
				return err
			}
			acknowledged := time.Now()
			select {
			case <-arrived:
			case <-ctx.Done():
				return ctx.Err()
			}
			at := time.Now()
			fromSent, fromAcknowledged = append(fromSent, at.Sub(sent)), append(fromAcknowledged, at.Sub(acknowledged))
		}
		cancel()
		if err := <-flooded; err != nil && !errors.Is(err, context.Canceled) {
			return err
		}
		for _, f := range []struct {
			name string
			took []time.Duration
		}{{nameSent, fromSent}, {nameHundredth, fromAcknowledged}} {
			slices.Sort(f.took)
			rows = append(rows, Row{Name: f.name + ": p50", Millis: max(0.01, millis(f.took[len(f.took)/2]))}, Row{Name: f.name + ": p99", Millis: max(0.01, millis(f.took[len(f.took)*99/100]))})
		}
		return nil
	})
	return rows, err
}
