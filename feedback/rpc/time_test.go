package rpc

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

// run runs a client in a bubble; stop waits for its end.
func run(t *testing.T, cfg ClientConfig) (stop func()) {
	t.Helper()
	cfg.URL = "http://memory"
	c, err := NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the client ended with %v", err)
		}
	}
}

func TestLostAfterThreeHeartbeats(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		_, h := NewHandler(bus, HandlerConfig{})
		network := newMemory()
		server := &http.Server{Handler: h, Protocols: both()}
		go func() { _ = server.Serve(network) }()
		hc := network.client()
		var log bytes.Buffer
		var events int
		var last time.Time
		var lost []time.Duration
		stop := run(t, ClientConfig{
			HTTPClient: hc,
			OnEvent: func(feedback.Event) {
				events++
				last = time.Now()
			},
			OnLost: func(string) { lost = append(lost, time.Since(last)) },
			Logger: slog.New(slog.NewTextHandler(&log, nil)),
		})
		<-time.After(time.Minute) // nothing was published, so that nothing is lost
		bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard"})
		<-time.After(61 * time.Second)
		synctest.Wait()
		if events < 10 || len(lost) != 0 {
			t.Errorf("in a minute there were %d events, and %d outages", events, len(lost))
		}
		_ = server.Close()
		<-time.After(time.Hour)
		synctest.Wait()
		if len(lost) != 1 || lost[0] != 15*time.Second {
			t.Errorf("it was lost %v after the last event, not once after 15 s", lost)
		}
		stop()
		if strings.Count(log.String(), "feedback was interrupted") != 2 || strings.Count(log.String(), "feedback goes on") != 1 {
			t.Errorf("the log says, of the wait for the first event and the outage:\n%s", log.String())
		}
		bus.Close()
		hc.CloseIdleConnections()
	})
}

// Who is busy with one event has not lost those that wait meanwhile.
func TestBusyIsNotLost(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard"})
		_, h := NewHandler(bus, HandlerConfig{})
		network := newMemory()
		streams := 0
		server := &http.Server{Protocols: both(), Handler: http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			streams++
			h.ServeHTTP(w, r)
		})}
		go func() { _ = server.Serve(network) }()
		hc := network.client()
		events, lost := 0, 0
		stop := run(t, ClientConfig{
			HTTPClient: hc,
			OnEvent: func(feedback.Event) {
				events++
				<-time.After(40 * time.Second)
			},
			OnLost: func(string) { lost++ },
		})
		<-time.After(time.Hour)
		stop()
		if events < 80 || lost != 0 || streams != 1 {
			t.Errorf("in an hour there were %d events, %d streams and %d outages", events, streams, lost)
		}
		bus.Close()
		_ = server.Close()
		hc.CloseIdleConnections()
	})
}

// refused is a network without a server.
type refused func()

func (f refused) RoundTrip(*http.Request) (*http.Response, error) {
	f()
	return nil, errors.New("connection refused")
}

func TestBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var pauses []time.Duration
		last := time.Now()
		stop := run(t, ClientConfig{
			HTTPClient: &http.Client{Transport: refused(func() {
				pauses = append(pauses, time.Since(last))
				last = time.Now()
			})},
			OnEvent: func(feedback.Event) { t.Error("an event") },
			OnLost:  func(string) { t.Error("what was never there is lost") },
		})
		<-time.After(24 * time.Hour)
		stop()
		bounds := []time.Duration{0, 500 * time.Millisecond, time.Second, 2 * time.Second, 4 * time.Second, 8 * time.Second, 16 * time.Second}
		short, long := 0, 0
		for i, p := range pauses {
			bound := 30 * time.Second
			switch {
			case i < len(bounds):
				bound = bounds[i]
			case p < 10*time.Second:
				short++
			case p > 20*time.Second:
				long++
			}
			if p > bound {
				t.Errorf("pause %d is %v, more than %v", i, p, bound)
			}
		}
		// A day has 5,760 pauses of 15 s, a third of them short and a third long.
		if n := len(pauses); n < 5000 || n > 6600 || short < n/4 || long < n/4 {
			t.Errorf("of %d pauses %d are short and %d long", n, short, long)
		}
	})
}

// flaky is a network that can be down.
type flaky struct {
	http.RoundTripper
	mu   sync.Mutex
	down bool
	at   []time.Time
}

// set has it be down or up, and forgets when it was tried, which it returns.
func (f *flaky) set(down bool) (at []time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	at, f.at, f.down = f.at, nil, down
	return at
}

func (f *flaky) RoundTrip(r *http.Request) (*http.Response, error) {
	f.mu.Lock()
	f.at = append(f.at, time.Now())
	down := f.down
	f.mu.Unlock()
	if down {
		return nil, errors.New("connection refused")
	}
	return f.RoundTripper.RoundTrip(r)
}

func TestBackoffBeginsAnew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "ok"})
		_, h := NewHandler(bus, HandlerConfig{})
		network := newMemory()
		server := &http.Server{Handler: h, Protocols: both()}
		go func() { _ = server.Serve(network) }()
		hc := network.client()
		way := &flaky{RoundTripper: hc.Transport, down: true}
		events := 0
		stop := run(t, ClientConfig{HTTPClient: &http.Client{Transport: way}, OnEvent: func(feedback.Event) { events++ }})
		<-time.After(time.Hour) // the pause is up to 30 s by now
		way.set(false)
		<-time.After(time.Minute)
		synctest.Wait()
		if events == 0 {
			t.Error("there was no event")
		}
		way.set(true)
		interrupted := time.Now()
		bus.Close()
		<-time.After(time.Minute)
		stop()
		at := way.set(true)
		for i, bound := range []time.Duration{500 * time.Millisecond, 1500 * time.Millisecond, 3500 * time.Millisecond, 7500 * time.Millisecond} {
			if took := at[i].Sub(interrupted); took > bound {
				t.Errorf("try %d is %v after the interruption, more than %v", i, took, bound)
			}
		}
		_ = server.Close()
		hc.CloseIdleConnections()
	})
}
