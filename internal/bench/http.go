package bench

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// The names of the figures of a server.
const (
	nameDirect = "through the sink, without HTTP"
	nameSmall  = "200 clients, 100 rows a body, NDJSON, committed"
)

// form is a way in which records are sent.
type form struct{ name, media string }

var forms = []form{
	{"Arrow over HTTP, committed", "application/vnd.apache.arrow.stream"},
	{"NDJSON over HTTP, committed", "application/x-ndjson"},
	{"CSV over HTTP, committed", "text/csv"},
}

// HTTP measures a server, with its clients in the same process, over loopback.
func HTTP(ctx context.Context, cfg Config) (report Report, err error) {
	h := &httpBench{storeBench: storeBench{cfg: cfg, market: newMarket(), rounds: 3}}
	if cfg.Quick {
		h.rounds = 1
	}
	dsn := cfg.DSN
	if dsn == "" {
		dir, err := os.MkdirTemp("", "mds-bench-")
		if err != nil {
			return report, err
		}
		defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
		dsn = "duckdb://" + dir
	}
	begun := time.Now()
	if h.auto, err = store.Open(ctx, dsn, store.Config{MemoryLimit: cfg.MemoryLimit, Compaction: compactionFor(isServer(dsn))}); err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, h.auto.Close()) }()
	stop, err := h.serve(ctx, isServer(dsn))
	if err != nil {
		return report, err
	}
	defer func() { err = errors.Join(err, stop()) }()
	if err := h.ready(ctx); err != nil {
		return report, err
	}
	report.Rows = append(report.Rows, Row{Name: "from the start until it is ready", Millis: float64(time.Since(begun).Microseconds()) / 1000})
	for _, measure := range []func(context.Context) ([]Row, error){h.large, h.small, h.queries, h.live} {
		rows, err := measure(ctx)
		if err != nil {
			return report, err
		}
		report.Rows = append(report.Rows, rows...)
	}
	return report, nil
}

// httpBench measures one server.
type httpBench struct {
	storeBench
	url    string
	client *http.Client
}

// serve has the store served until it is stopped.
func (h *httpBench) serve(ctx context.Context, isServer bool) (stop func() error, err error) {
	cfg := server.Config{Store: h.auto, Kinds: []server.Kind{server.KindOf[mds.Bar]()}, Version: "bench", Logger: slog.New(slog.DiscardHandler)}
	undo := func() {}
	if !isServer {
		undo = h.cfg.Embedded(&cfg.Ingest)
	}
	srv, err := server.New(ctx, cfg)
	if err != nil {
		return nil, err
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, errors.Join(err, srv.Stop(ctx))
	}
	h.url = "http://" + listener.Addr().String()
	transport := &http.Transport{MaxIdleConnsPerHost: 256}
	h.client = &http.Client{Transport: transport}
	over, cancel := context.WithCancel(ctx)
	ended := make(chan error, 1)
	go func() {
		ended <- srv.Run(over, context.WithoutCancel(ctx), listener, server.RunConfig{Drain: time.Minute})
	}()
	return func() error {
		defer undo()
		cancel()
		transport.CloseIdleConnections()
		return <-ended
	}, nil
}

func (h *httpBench) ready(ctx context.Context) error {
	resp, err := h.ask(ctx, http.MethodGet, "/readyz", "", mds.Tenant{}, nil)
	if err != nil {
		return err
	}
	return resp.Body.Close()
}

// ask makes a request, which must succeed or ask to come back.
func (h *httpBench) ask(ctx context.Context, method, path, media string, tenant mds.Tenant, body []byte) (*http.Response, error) {
	r, err := http.NewRequestWithContext(ctx, method, h.url+path, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	r.Header.Set("Mds-Tenant", tenant.ID)
	r.Header.Set("Content-Type", media)
	resp, err := h.client.Do(r)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK && resp.StatusCode != http.StatusTooManyRequests {
		text, _ := io.ReadAll(io.LimitReader(resp.Body, 1000))
		return nil, errors.Join(fmt.Errorf("%s %s: %s: %s", method, path, resp.Status, text), resp.Body.Close())
	}
	return resp, nil
}

// post sends a body, and checks that all of it is committed; it reports false where the
// server asks to come back.
func (h *httpBench) post(ctx context.Context, media string, tenant mds.Tenant, body []byte, rows int) (bool, error) {
	resp, err := h.ask(ctx, http.MethodPost, "/v1/bars", media, tenant, body)
	if err != nil {
		return false, err
	}
	defer resp.Body.Close() //nolint:errcheck // it is only read
	if resp.StatusCode != http.StatusOK {
		_, err := io.Copy(io.Discard, resp.Body)
		return false, err
	}
	var a client.Answer
	if err := json.NewDecoder(resp.Body).Decode(&a); err != nil {
		return false, err
	}
	if a.Committed != int64(rows) {
		return false, fmt.Errorf("%d of %d rows are committed", a.Committed, rows)
	}
	return true, nil
}

// bodyOf is bars as a body.
func bodyOf(media string, bars []mds.Bar) ([]byte, error) {
	var b bytes.Buffer
	if media == forms[0].media {
		w, err := arrow.NewWriter[mds.Bar](&b, arrow.WriterOptions{BatchRows: 50_000})
		if err == nil {
			err = w.Write(bars)
		}
		if err != nil {
			return nil, err
		}
		err = w.Close()
		return b.Bytes(), err
	}
	w, err := codec.NewEncoder[mds.Bar](&b, map[string]codec.Format{"text/csv": codec.FormatCSV, "application/x-ndjson": codec.FormatNDJSON}[media])
	for i := range bars {
		if err == nil {
			err = w.Encode(&bars[i])
		}
	}
	if err == nil {
		err = w.Close()
	}
	return b.Bytes(), err
}

// large measures bodies of 50,000 rows, two under way at a time.
func (h *httpBench) large(ctx context.Context) ([]Row, error) {
	const size = 50_000
	n := 1_000_000
	if h.cfg.Quick {
		n = size
	}
	bars := h.market.inTime(0, n)
	var rounds [][]timing
	for range h.rounds {
		h.say("bodies of %d rows", size)
		var round []timing
		err := h.in(ctx, h.auto, func(t mds.Tenant) error {
			elapsed, err := write(ctx, h.auto, t, bars, size, int64(n))
			round = append(round, timing{name: nameDirect, rows: n, elapsed: elapsed})
			return err
		})
		for _, f := range forms {
			if err != nil {
				return nil, err
			}
			err = h.in(ctx, h.auto, func(t mds.Tenant) error {
				elapsed, err := h.largeOf(ctx, f, t, bars, size)
				round = append(round, timing{name: f.name, of: nameDirect, rows: n, elapsed: elapsed})
				return err
			})
		}
		if err != nil {
			return nil, err
		}
		rounds = append(rounds, round)
	}
	return summarize(size, rounds), nil
}

func (h *httpBench) largeOf(ctx context.Context, f form, t mds.Tenant, bars []mds.Bar, size int) (time.Duration, error) {
	var bodies [][]byte
	for part := range slices.Chunk(bars, size) {
		body, err := bodyOf(f.media, part)
		if err != nil {
			return 0, err
		}
		bodies = append(bodies, body)
	}
	next := make(chan []byte, len(bodies))
	for _, b := range bodies {
		next <- b
	}
	close(next)
	return timed(func() error {
		errs := make([]error, 2)
		var wg sync.WaitGroup
		for p := range errs {
			wg.Go(func() {
				for body := range next {
					for done := false; !done && errs[p] == nil; {
						done, errs[p] = h.post(ctx, f.media, t, body, size)
					}
				}
			})
		}
		wg.Wait()
		return errors.Join(errs...)
	})
}

// small measures many clients with little at a time.
func (h *httpBench) small(ctx context.Context) (rows []Row, err error) {
	const clients, size = 200, 100
	each := 50
	if h.cfg.Quick {
		each = 1
	}
	h.say("%d clients, %d rows a body", clients, size)
	media := "application/x-ndjson"
	bodies := make([][]byte, clients*each)
	bars := h.market.inTime(0, len(bodies)*size)
	for i := range bodies {
		if bodies[i], err = bodyOf(media, bars[i*size:][:size]); err != nil {
			return nil, err
		}
	}
	err = h.in(ctx, h.auto, func(t mds.Tenant) error {
		took := make([]time.Duration, len(bodies))
		errs := make([]error, clients)
		elapsed, _ := timed(func() error {
			var wg sync.WaitGroup
			for c := range clients {
				wg.Go(func() {
					for i := range each {
						at := c*each + i
						begun := time.Now()
						for done := false; !done && errs[c] == nil; {
							done, errs[c] = h.post(ctx, media, t, bodies[at], size)
						}
						took[at] = time.Since(begun)
					}
				})
			}
			wg.Wait()
			return nil
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if n, err := store.Bars(h.auto).Count(ctx, t, mds.Selection{}); err != nil || n != int64(len(bars)) {
			return errors.Join(err, fmt.Errorf("%d of %d rows are stored", n, len(bars)))
		}
		slices.Sort(took)
		rows = []Row{
			{Name: nameSmall, RowsPerS: float64(len(bars)) / elapsed.Seconds()},
			{Name: nameSmall + ": p50", Millis: float64(took[len(took)/2].Microseconds()) / 1000},
			{Name: nameSmall + ": p99", Millis: float64(took[len(took)*99/100].Microseconds()) / 1000},
		}
		return nil
	})
	return rows, err
}

// queries measures answers of 10,000 bars.
func (h *httpBench) queries(ctx context.Context) (rows []Row, err error) {
	const n = 10_000
	h.say("windows of %d bars", n)
	times := 50
	if h.cfg.Quick {
		times = 1
	}
	err = h.in(ctx, h.auto, func(t mds.Tenant) error {
		if _, err := write(ctx, h.auto, t, h.market.inTime(0, 50*n), 50_000, 50*n); err != nil {
			return err
		}
		for _, format := range []string{"arrow", "ndjson", "json", "csv"} {
			took := make([]time.Duration, times)
			for i := range took {
				begun := time.Now()
				path := fmt.Sprintf("/v1/bars?symbol=%s,%s,%s,%s,%s,%s,%s,%s,%s,%s&limit=%d&format=%s", append(symbolsFrom(i), n, format)...)
				resp, err := h.ask(ctx, http.MethodGet, path, "", t, nil)
				if err != nil {
					return err
				}
				_, err = io.Copy(io.Discard, resp.Body)
				if err := errors.Join(err, resp.Body.Close()); err != nil {
					return err
				}
				took[i] = time.Since(begun)
			}
			rows = append(rows, Row{Name: fmt.Sprintf("a window of %d bars of ten symbols as %s", n, format), Millis: float64(median(took).Microseconds()) / 1000})
		}
		return nil
	})
	return rows, err
}

// symbolsFrom are ten symbols, others each time.
func symbolsFrom(i int) (names []any) {
	for s := range 10 {
		names = append(names, fmt.Sprintf("SYM%04d", (i*10+s)%symbols))
	}
	return names
}
