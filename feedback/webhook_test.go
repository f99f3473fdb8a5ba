package feedback_test

import (
	"context"
	"errors"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds/feedback"
)

const signature = "sha256=f43486eb9e879b8c47372a094cc5c3e6884150694431a36d0ba5e990c2f3958b"

// hook is a webhook whose endpoint is a function of the number of the post, from 1. What is
// posted is in the diary, with its level.
type hook struct {
	*diary
	bus  *feedback.Bus
	reg  *prometheus.Registry
	logs logs
	stop func() error
}

func newHook(t *testing.T, cfg feedback.WebhookConfig, endpoint func(n int, r *http.Request) (*http.Response, error)) *hook {
	h := &hook{diary: newDiary(), reg: prometheus.NewRegistry()}
	metrics, err := feedback.NewMetrics(h.reg)
	if err != nil {
		t.Fatal(err)
	}
	h.bus = feedback.NewBus(metrics)
	posts := 0
	cfg.Client = &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
		body, _ := io.ReadAll(r.Body)
		e, err := feedback.Parse(body)
		if err != nil {
			t.Error(err)
		}
		h.note("%s", e.Level)
		posts++
		return endpoint(posts, r)
	})}
	cfg.Logger = h.logs.logger()
	if cfg.URL == "" {
		cfg.URL = "https://hooks.example/a-secret-path"
	}
	w, err := feedback.NewWebhook(h.bus, cfg)
	if err != nil {
		t.Fatal(err)
	}
	h.stop = run(t, w.Run)
	synctest.Wait()
	return h
}

// metric returns a counter of posts by status, or of dropped events by transport.
func (h *hook) metric(t *testing.T, name, label string) float64 {
	families, err := h.reg.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		for _, m := range f.GetMetric() {
			if f.GetName() == name && m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue()
			}
		}
	}
	t.Fatalf("there is no %s of %s", name, label)
	return 0
}

func takes(int, *http.Request) (*http.Response, error) { return answer(204), nil }

// TestWebhookTransitions: each change of level arrives, up and down, though all come at
// once, signed so that a Receiver takes it in.
func TestWebhookTransitions(t *testing.T) {
	var got []feedback.Level
	receiver, err := feedback.NewReceiver(feedback.ReceiverConfig{Secret: []byte("topsecret")}, func(e feedback.Event) { got = append(got, e.Level) })
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(receiver)
	defer server.Close()
	bus := feedback.NewBus(nil)
	w, err := feedback.NewWebhook(bus, feedback.WebhookConfig{URL: server.URL, Secret: []byte("topsecret")})
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan error)
	go func() { ended <- w.Run(t.Context()) }()
	for bus.Listeners() == 0 {
		select {
		case err := <-ended:
			t.Fatal(err)
		case <-time.After(time.Millisecond):
		}
	}
	publish(bus, "ok", "soft", "hard", "soft", "ok")
	bus.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if want := []feedback.Level{"ok", "soft", "hard", "soft", "ok"}; !slices.Equal(got, want) {
		t.Errorf("got %q", got)
	}
}

// TestWebhookSigns: headers and signature are as testdata/signature.sh works them out.
func TestWebhookSigns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var header http.Header
		h := newHook(t, feedback.WebhookConfig{Secret: []byte("topsecret")}, func(_ int, r *http.Request) (*http.Response, error) {
			header = r.Header
			return answer(200), nil
		})
		publish(h.bus, "hard")
		synctest.Wait()
		for name, want := range map[string]string{
			"Content-Type": "application/json", feedback.TimestampHeader: "946684800", feedback.SignatureHeader: signature,
		} {
			if got := header.Get(name); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
	})
}

// TestWebhookSlowEndpoint: while the endpoint takes its time the bus goes on, and no change
// of level is lost to the events between them.
func TestWebhookSlowEndpoint(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, func(int, *http.Request) (*http.Response, error) {
			<-time.After(2 * time.Second)
			return answer(200), nil
		})
		publish(h.bus, "ok")
		for _, l := range []feedback.Level{"soft", "hard", "soft", "ok"} {
			for range 50 {
				publish(h.bus, l)
				synctest.Wait()
			}
		}
		if d := time.Since(h.start); d != 0 {
			t.Errorf("publishing took %v", d)
		}
		pass(time.Minute)
		h.expect(t, "0s ok", "2s soft", "4s hard", "6s soft", "8s ok")
		if n := h.metric(t, "mds_feedback_events_dropped_total", "webhook"); n != 4*49 {
			t.Errorf("%v events are counted as dropped", n)
		}
	})
}

// TestWebhookFlutter: of more changes of level than can wait, the oldest are dropped, and
// counted.
func TestWebhookFlutter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, func(int, *http.Request) (*http.Response, error) {
			<-time.After(time.Second)
			return answer(200), nil
		})
		for range 50 {
			publish(h.bus, "soft", "ok")
			synctest.Wait()
		}
		pass(time.Hour)
		if got := h.take(); len(got) != 64 || got[0] != "0s soft" || got[63] != "1m3s ok" {
			t.Errorf("%d posts: %q", len(got), got)
		}
		if n := h.metric(t, "mds_feedback_events_dropped_total", "webhook"); n != 35 {
			t.Errorf("%v events are counted as dropped", n)
		}
	})
}

// TestWebhookNoJSON: an event that is none in JSON is logged, and the next one is posted.
func TestWebhookNoJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, takes)
		e := event("hard")
		e.Utilization = math.NaN()
		h.bus.Publish(e)
		pass(time.Second)
		publish(h.bus, "soft")
		synctest.Wait()
		h.expect(t, "1s soft")
		if !strings.Contains(h.logs.String(), "unsupported value: NaN") {
			t.Error(h.logs.String())
		}
	})
}

// TestWebhookTimeout: an endpoint that does not answer is given up after 2.5 seconds.
func TestWebhookTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{MaxRetries: -1}, func(_ int, r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			h := time.Since(time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC))
			if h != 2500*time.Millisecond {
				t.Errorf("given up after %v", h)
			}
			return nil, r.Context().Err()
		})
		publish(h.bus, "hard")
		pass(3 * time.Second)
		h.expect(t, "0s hard")
		if err := h.stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
	})
}

// TestWebhookDown: an event is tried four times, then again with each heartbeat until it is
// delivered, though it is ok; then no more. What goes wrong is logged once, without the URL.
func TestWebhookDown(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var up atomic.Bool
		h := newHook(t, feedback.WebhookConfig{}, func(int, *http.Request) (*http.Response, error) {
			if up.Load() {
				return answer(200), nil
			}
			return nil, errDown
		})
		publish(h.bus, "ok")
		pass(8 * time.Second) // pauses are 0.5, 1, 2 and 4 s at most
		if n := len(h.take()); n != 4 {
			t.Errorf("%d attempts", n)
		}
		pass(time.Minute)
		if n := len(h.take()); n < 4 || n > 24 {
			t.Errorf("%d attempts in a minute", n)
		}
		if n := h.metric(t, "mds_feedback_webhook_posts_total", "failure"); n < 8 {
			t.Errorf("%v failures are counted", n)
		}
		up.Store(true)
		pass(20 * time.Second)
		if got := h.take(); len(got) != 1 || !strings.HasSuffix(got[0], " ok") {
			t.Errorf("then %q", got)
		}
		if n := h.metric(t, "mds_feedback_webhook_posts_total", "success"); n != 1 {
			t.Errorf("%v successes are counted", n)
		}
		pass(time.Hour)
		h.expect(t)
		log := h.logs.String()
		if strings.Count(log, "does not take events") != 1 || strings.Count(log, "takes events again") != 1 || !strings.Contains(log, "connection refused") || strings.Contains(log, "a-secret-path") {
			t.Error(log)
		}
	})
}

// TestWebhookRetries: 500 and then 200.
func TestWebhookRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(500), nil
			}
			return answer(200), nil
		})
		publish(h.bus, "soft")
		pass(500 * time.Millisecond)
		if got := h.take(); len(got) != 2 {
			t.Errorf("%q", got)
		}
	})
}

// TestWebhookNewestWins: what is retried, and what came since, is dropped for the newest.
func TestWebhookNewestWins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, func(n int, _ *http.Request) (*http.Response, error) {
			if n == 1 {
				return answer(503, "Retry-After", "1"), nil
			}
			return answer(200), nil
		})
		publish(h.bus, "ok")
		synctest.Wait()
		publish(h.bus, "soft", "hard")
		pass(2 * time.Second)
		h.expect(t, "0s ok", "1s hard")
		if n := h.metric(t, "mds_feedback_events_dropped_total", "webhook"); n != 2 {
			t.Errorf("%v events are counted as dropped", n)
		}
	})
}

func TestWebhookRetryAfter(t *testing.T) {
	for _, tt := range []struct {
		name, header string
		status       int
		at           string // of the second post; "" is within the backoff
	}{
		{"seconds", "7", 429, "7s ok"},
		{"a date", "Sat, 01 Jan 2000 00:00:09 GMT", 503, "9s ok"},
		{"beyond reason", "86400", 503, "30s ok"},
		{"a date beyond reason", "Sat, 01 Jan 2050 00:00:09 GMT", 429, "30s ok"},
		{"the past", "Sat, 01 Jan 1990 00:00:09 GMT", 503, ""},
		{"nonsense", "soon", 503, ""},
		{"another status", "7", 500, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				h := newHook(t, feedback.WebhookConfig{}, func(n int, _ *http.Request) (*http.Response, error) {
					if n == 1 {
						return answer(tt.status, "Retry-After", tt.header), nil
					}
					return answer(200), nil
				})
				publish(h.bus, "ok")
				pass(500 * time.Millisecond)
				if tt.at == "" {
					if got := h.take(); len(got) != 2 {
						t.Errorf("%q", got)
					}
					return
				}
				pass(time.Minute)
				h.expect(t, "0s ok", tt.at)
			})
		})
	}
}

// TestWebhookHeartbeat: soft and hard are repeated, with the time of the moment; ok is not.
func TestWebhookHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, takes)
		publish(h.bus, "hard")
		pass(25 * time.Second)
		publish(h.bus, "soft")
		pass(15 * time.Second)
		publish(h.bus, "ok")
		pass(time.Hour)
		h.expect(t, "0s hard", "10s hard", "20s hard", "25s soft", "35s soft", "40s ok")
	})
}

// TestWebhookRates: while the level is ok, what is posted is a rate that is another by a
// fifth, and once a second at most.
func TestWebhookRates(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, takes)
		for i, rate := range []float64{1000, 1190, 810, 1210, 1400, 1400, 2000, 3000, 4000, 5000, 900} {
			pass(500 * time.Millisecond)
			h.bus.Publish(feedback.Event{CoordinatorID: "c", Level: feedback.OK, QueueSize: int64(i), SuggestedRate: rate})
		}
		pass(time.Hour)
		// 1,000; 1,210; then from 2,000 on every second
		h.expect(t, "500ms ok", "2s ok", "3.5s ok", "4.5s ok", "5.5s ok")
	})
}

// TestWebhookHeartbeatTime: a receiver can tell a repeated event from an old one.
func TestWebhookHeartbeatTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var times []float64
		bus := feedback.NewBus(nil)
		w, err := feedback.NewWebhook(bus, feedback.WebhookConfig{URL: "http://h", Client: &http.Client{Transport: transport(func(r *http.Request) (*http.Response, error) {
			body, _ := io.ReadAll(r.Body)
			e, err := feedback.Parse(body)
			times = append(times, e.TS)
			return answer(200), err
		})}})
		if err != nil {
			t.Fatal(err)
		}
		run(t, w.Run)
		publish(bus, "hard")
		pass(11 * time.Second)
		if !slices.Equal(times, []float64{946684800, 946684810}) {
			t.Errorf("%v", times)
		}
	})
}

// TestWebhookRefused: what will be refused again is not posted again before the heartbeat,
// and the log says what the answer was.
func TestWebhookRefused(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h := newHook(t, feedback.WebhookConfig{}, func(int, *http.Request) (*http.Response, error) { return answer(401), nil })
		publish(h.bus, "hard")
		pass(9 * time.Second)
		h.expect(t, "0s hard")
		if want := `the answer is 401 Unauthorized: \"as is said\"`; !strings.Contains(h.logs.String(), want) {
			t.Error(h.logs.String())
		}
	})
}

// TestWebhookEnds: when the bus is closed in an outage the last event is tried so often, and
// Run returns.
func TestWebhookEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		attempts := 0
		w, err := feedback.NewWebhook(bus, feedback.WebhookConfig{URL: "http://h", Client: &http.Client{Transport: transport(func(*http.Request) (*http.Response, error) {
			attempts++
			return nil, errDown
		})}})
		if err != nil {
			t.Fatal(err)
		}
		publish(bus, "hard")
		ended := make(chan error, 1)
		go func() { ended <- w.Run(t.Context()) }()
		synctest.Wait()
		publish(bus, "ok")
		bus.Close()
		start := time.Now()
		if err := <-ended; err != nil || attempts != 5 || time.Since(start) > 8*time.Second {
			t.Errorf("%v after %d attempts and %v", err, attempts, time.Since(start))
		}
	})
}

// TestWebhookRedirect: a redirect is a failure that says so, and is not followed.
func TestWebhookRedirect(t *testing.T) {
	var followed atomic.Int32
	elsewhere := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { followed.Add(1) }))
	defer elsewhere.Close()
	posted := make(chan struct{}, 10)
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, elsewhere.URL, http.StatusTemporaryRedirect)
		posted <- struct{}{}
	}))
	defer server.Close()
	bus := feedback.NewBus(nil)
	var l logs
	w, err := feedback.NewWebhook(bus, feedback.WebhookConfig{URL: server.URL, Logger: l.logger()})
	if err != nil {
		t.Fatal(err)
	}
	publish(bus, "hard")
	ended := make(chan error, 1)
	go func() { ended <- w.Run(t.Context()) }()
	<-posted
	bus.Close()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if want := "the answer is 307 Temporary Redirect, and redirects are not followed: give the URL that it leads to"; !strings.Contains(l.String(), want) || followed.Load() != 0 || len(posted) != 0 {
		t.Errorf("followed %d times, posted %d times more: %s", followed.Load(), len(posted), l.String())
	}
}

// TestWebhookEndlessAnswer: of an answer without end so much is read as is bounded, and the
// next event goes out.
func TestWebhookEndlessAnswer(t *testing.T) {
	for _, status := range []int{200, 400} {
		var sent atomic.Int64
		stopped := make(chan struct{}, 2)
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(status)
			for part := make([]byte, 32<<10); sent.Load() < 1<<30; {
				n, err := w.Write(part)
				sent.Add(int64(n))
				if err != nil {
					break
				}
			}
			stopped <- struct{}{}
		}))
		bus := feedback.NewBus(nil)
		w, err := feedback.NewWebhook(bus, feedback.WebhookConfig{URL: server.URL, Timeout: 30 * time.Second})
		if err != nil {
			t.Fatal(err)
		}
		publish(bus, "hard")
		stop := run(t, w.Run)
		<-stopped
		publish(bus, "soft")
		<-stopped
		stop()
		server.Close()
		if n := sent.Load(); n > 64<<20 { // what sockets hold
			t.Errorf("%d: %d bytes were taken", status, n)
		}
	}
}

func TestWebhookConfig(t *testing.T) {
	for _, tt := range []struct {
		name string
		cfg  feedback.WebhookConfig
		want []string
	}{
		{"nothing", feedback.WebhookConfig{}, []string{"webhook: URL must be absolute, as in https://host/path"}},
		{"another scheme", feedback.WebhookConfig{URL: "ftp://h/topsecret"}, []string{"URL must be absolute"}},
		{"no URL", feedback.WebhookConfig{URL: "http://h/topsecret\x7f"}, []string{"URL cannot be read: net/url: invalid control character"}},
		{"all", feedback.WebhookConfig{Timeout: -1, Backoff: -2, Heartbeat: -3}, []string{"URL must", "Timeout is -1ns: it must be", "Backoff is -2ns", "Heartbeat is -3ns"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			_, err := feedback.NewWebhook(feedback.NewBus(nil), tt.cfg)
			for _, want := range tt.want {
				if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "topsecret") {
					t.Errorf("%v", err)
				}
			}
		})
	}
}
