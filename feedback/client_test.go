package feedback_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

// follower is a client with what it was told in the diary.
type follower struct {
	*diary
	network
	logs logs
	stop func() error
}

// follow runs a client. Once is called first with each event, and may be nil.
func (f *follower) follow(t *testing.T, cfg feedback.ClientConfig, once func(feedback.Event)) {
	f.diary = newDiary()
	cfg.URL = "http://h/a-secret-path?x=1"
	client := f.client()
	cfg.HTTPClient, cfg.Logger = client, f.logs.logger()
	cfg.OnEvent = func(e feedback.Event) {
		f.note("%s", e.Level)
		if once != nil {
			once(e)
		}
	}
	cfg.OnLost = func(id string) { f.note("%s lost", id) }
	c, err := feedback.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	f.stop = run(t, func(ctx context.Context) error {
		defer client.CloseIdleConnections()
		return c.Run(ctx)
	})
	synctest.Wait()
}

// says is a handler that sends a text for each request, from 1, and then nothing more. The
// connection ends when hangUp says so.
func says(text func(n int) (s string, hangUp bool)) http.HandlerFunc {
	n := 0
	return func(w http.ResponseWriter, r *http.Request) {
		n++
		s, hangUp := text(n)
		w.Header().Set("Content-Type", "text/event-stream")
		_, _ = w.Write([]byte(s))
		_ = http.NewResponseController(w).Flush()
		if !hangUp {
			<-r.Context().Done()
		}
	}
}

// sent is an event as it is sent.
func sent(coordinator, level string) string {
	return fmt.Sprintf("event: feedback\ndata: {\"coordinator_id\":%q,\"level\":%q}\n\n", coordinator, level)
}

// TestClient follows a handler: the newest at once, changes, heartbeats.
func TestClient(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "soft")
		var f follower
		f.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		f.follow(t, feedback.ClientConfig{Producer: true}, nil)
		if bus.Producers() != 1 {
			t.Errorf("%d producers", bus.Producers())
		}
		pass(time.Second)
		publish(bus, "hard")
		pass(11 * time.Second)
		publish(bus, "soft")
		synctest.Wait()
		f.expect(t, "0s soft", "1s hard", "6s hard", "11s hard", "12s soft")
		if err := f.stop(); !errors.Is(err, context.Canceled) {
			t.Error(err)
		}
		f.expect(t) // the end of the client is no loss
		if f.logs.String() != "" {
			t.Error(f.logs.String())
		}
		if synctest.Wait(); bus.Producers() != 0 {
			t.Error("it is still a producer")
		}
	})
}

// TestClientOutage: the server goes away in the middle of hard. The client says so once,
// after three heartbeats, and resumes with the level that is then; so it is the next time.
func TestClientOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		bus := feedback.NewBus(nil)
		publish(bus, "hard")
		stop := f.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		f.follow(t, feedback.ClientConfig{}, nil)
		for outage := range 2 {
			pass(time.Second)
			stop()
			pass(13 * time.Second)
			if got := f.take(); len(got) != 1 {
				t.Errorf("outage %d: %q before three heartbeats", outage, got)
			}
			pass(time.Second)
			if got := f.take(); len(got) != 1 || !strings.HasSuffix(got[0], "s bars lost") {
				t.Errorf("outage %d: %q after three heartbeats", outage, got)
			}
			pass(time.Hour)
			f.expect(t)
			bus = feedback.NewBus(nil) // as of another process
			publish(bus, "soft")
			stop = f.serve(t, newHandler(t, bus, feedback.HandlerConfig{Heartbeat: time.Hour}))
			for f.start = time.Now(); bus.Listeners() == 0; pass(time.Millisecond) {
				if time.Since(f.start) > 10*time.Second {
					t.Fatalf("outage %d: not connected after %v", outage, time.Since(f.start))
				}
			}
			synctest.Wait()
		}
		if got := f.take(); len(got) != 1 || !strings.HasSuffix(got[0], " soft") {
			t.Errorf("%q", got)
		}
		log := f.logs.String()
		if strings.Count(log, "connection is lost") != 2 || strings.Count(log, "heard again") != 2 || strings.Contains(log, "a-secret-path") {
			t.Error(log)
		}
		bus.Close()
	})
}

// TestClientShortOutage: what lasts less than three heartbeats is no loss.
func TestClientShortOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		bus := feedback.NewBus(nil)
		publish(bus, "hard")
		stop := f.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		f.follow(t, feedback.ClientConfig{MaxBackoff: time.Second}, nil)
		stop()
		pass(10 * time.Second)
		publish(bus, "ok")
		f.serve(t, newHandler(t, bus, feedback.HandlerConfig{Heartbeat: time.Hour}))
		pass(2 * time.Second)
		if got := f.take(); len(got) != 2 || got[0] != "0s hard" || !strings.HasSuffix(got[1], " ok") {
			t.Errorf("%q", got)
		}
	})
}

// TestClientSilence: a connection over which nothing comes is given up after three
// heartbeats, and the coordinator is lost; comments keep the connection, not the
// coordinator.
func TestClientSilence(t *testing.T) {
	for _, tt := range []struct {
		name, every string
		dials       int
	}{
		{"nothing", "", 2},
		{"comments", ": still here\n\n", 1},
		{"garbage", "event: feedback\ndata: {}\nnonsense\n\n", 2},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f follower
				f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Type", "text/event-stream")
					text := sent("bars", "hard")
					for {
						_, _ = w.Write([]byte(text))
						_ = http.NewResponseController(w).Flush()
						text = tt.every
						select {
						case <-time.After(time.Second):
						case <-r.Context().Done():
							return
						}
					}
				}))
				f.follow(t, feedback.ClientConfig{}, nil)
				pass(15*time.Second - 1)
				f.expect(t, "0s hard")
				pass(time.Second)
				if got := f.take(); len(got) == 0 || got[0] != "15s bars lost" || len(got) != tt.dials {
					t.Errorf("%q", got)
				}
				if int(f.dials.Load()) != tt.dials {
					t.Errorf("%d connections", f.dials.Load())
				}
			})
		})
	}
}

// TestClientNoAnswer: a server that does not answer is given up after three heartbeats.
func TestClientNoAnswer(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		f.serve(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { <-r.Context().Done() }))
		f.follow(t, feedback.ClientConfig{}, nil)
		pass(15*time.Second - 1)
		if f.dials.Load() != 1 {
			t.Errorf("%d connections", f.dials.Load())
		}
		pass(time.Second)
		if f.dials.Load() != 2 || !strings.Contains(f.logs.String(), "nothing was heard for three heartbeats") {
			t.Errorf("%d connections: %s", f.dials.Load(), f.logs.String())
		}
	})
}

// TestClientBackoff: pauses grow while there is no connection, and are short again after one.
func TestClientBackoff(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		f.follow(t, feedback.ClientConfig{}, nil)
		pass(time.Hour)
		if f.dials.Load() < 360 || f.dials.Load() > 1500 { // 720 are to be expected
			t.Errorf("%d attempts in an hour", f.dials.Load())
		}
		f.serve(t, says(func(int) (string, bool) { return sent("bars", "ok"), true }))
		pass(11 * time.Second)
		f.take()
		pass(time.Second)
		if n := len(f.take()); n < 8 {
			t.Errorf("%d connections in a second", n)
		}
	})
}

// TestClientCoordinators: of two coordinators that one handler tells of, the silent one is
// lost.
func TestClientCoordinators(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Content-Type", "text/event-stream")
			text := sent("news", "soft")
			for {
				_, _ = w.Write([]byte(text + sent("bars", "ok")))
				_ = http.NewResponseController(w).Flush()
				text = ""
				select {
				case <-time.After(6 * time.Second):
				case <-r.Context().Done():
					return
				}
			}
		}))
		f.follow(t, feedback.ClientConfig{}, nil)
		pass(20 * time.Second)
		f.expect(t, "0s soft", "0s ok", "6s ok", "12s ok", "15s news lost", "18s ok")
	})
}

// TestClientStreams: what is not as it should be costs as little as it can.
func TestClientStreams(t *testing.T) {
	hard := sent("bars", "hard")
	for _, tt := range []struct {
		name  string
		first string // what the first connection says
		keep  bool   // it stays open
		want  []string
	}{
		{"cut in an event", strings.TrimSuffix(hard, "}\n\n"), false, []string{"ok"}},
		{"cut before its end", strings.TrimSuffix(hard, "\n"), false, []string{"ok"}},
		{"cut after its end", hard, false, []string{"hard", "ok"}},
		{"an unknown level", sent("bars", "frozen") + hard, true, []string{"frozen", "hard"}},
		{"garbage", "\x00\xff\nnonsense\n: \ndata\nevent\n\ndata: {\nevent: feedback\n\n" + hard, true, []string{"hard"}},
		{"no event of ours", "event: feedback\ndata: {\"level\":\"soft\"}\n\n" + hard, true, []string{"hard"}},
		{"another type", "data: {\"coordinator_id\":\"bars\",\"level\":\"soft\"}\n\nevent: gossip\ndata: {\"coordinator_id\":\"bars\",\"level\":\"soft\"}\n\n" + hard, true, []string{"hard"}},
		{"an endless line", hard + "data: " + strings.Repeat("x", 64<<10) + "\n\n", true, []string{"hard", "ok"}},
		{"an endless event", hard + strings.Repeat("data: "+strings.Repeat("x", 1000)+"\n", 70), true, []string{"hard", "ok"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f follower
				f.serve(t, says(func(n int) (string, bool) {
					if n == 1 {
						return tt.first, !tt.keep
					}
					return sent("bars", "ok"), false
				}))
				f.follow(t, feedback.ClientConfig{}, nil)
				pass(time.Second)
				got := f.take()
				for i := range got {
					_, got[i], _ = strings.Cut(got[i], " ")
				}
				if strings.Join(got, " ") != strings.Join(tt.want, " ") {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// TestClientPanic: functions that panic are called again, and the panic is logged.
func TestClientPanic(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "soft")
		var f follower
		f.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		f.follow(t, feedback.ClientConfig{}, func(e feedback.Event) {
			if e.Level == "soft" {
				panic("oh no")
			}
		})
		publish(bus, "hard")
		synctest.Wait()
		f.expect(t, "0s soft", "0s hard")
		if !strings.Contains(f.logs.String(), "oh no") {
			t.Error(f.logs.String())
		}
	})
}

// TestClientSlowHandler: a function that takes longer than three heartbeats costs neither
// the connection nor the coordinator.
func TestClientSlowHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "soft")
		var f follower
		f.serve(t, newHandler(t, bus, feedback.HandlerConfig{WriteTimeout: time.Hour}))
		f.follow(t, feedback.ClientConfig{}, func(e feedback.Event) {
			if e.Level == "soft" {
				<-time.After(21 * time.Second)
			}
		})
		publish(bus, "hard")
		pass(22 * time.Second)
		for _, line := range f.take() {
			if strings.HasSuffix(line, "lost") {
				t.Error(line)
			}
		}
		if f.dials.Load() != 1 {
			t.Errorf("%d connections", f.dials.Load())
		}
	})
}

// TestClientSlowHandlers: what waits for a function counts as heard.
func TestClientSlowHandlers(t *testing.T) {
	for range 20 {
		synctest.Test(t, func(t *testing.T) {
			var f follower
			f.serve(t, says(func(int) (string, bool) {
				return sent("news", "ok") + sent("bars", "hard") + sent("news", "soft"), false
			}))
			f.follow(t, feedback.ClientConfig{}, func(e feedback.Event) {
				if e.Level == "hard" {
					<-time.After(21 * time.Second)
				}
			})
			pass(22 * time.Second)
			f.expect(t, "0s ok", "0s hard", "21s soft")
		})
	}
}

// TestClientStatuses: a request that will be refused again ends Run, with what to do, and
// the coordinators are lost; all else is asked for again.
func TestClientStatuses(t *testing.T) {
	for _, tt := range []struct {
		status int
		header string // Retry-After
		want   string // the error; "" is none
		asked  int    // in 20 seconds, at least
		atMost int
	}{
		{400, "", `feedback client: h: the answer is 400 Bad Request: "no"; check URL and Header`, 1, 1},
		{401, "", `feedback client: h: the answer is 401 Unauthorized: "no"; check the credentials in Header`, 1, 1},
		{403, "", `feedback client: h: the answer is 403 Forbidden: "no"; check the credentials in Header`, 1, 1},
		{404, "", `feedback client: h: the answer is 404 Not Found: "no"; check that URL is that of a feedback handler`, 1, 1},
		{406, "", `feedback client: h: the answer is 406 Not Acceptable: "no"; check that URL is that of a feedback handler`, 1, 1},
		{408, "", "", 4, 100},
		{429, "", "", 4, 100},
		{429, "8", "", 3, 3},
		{500, "", "", 4, 100},
		{503, "3600", "", 1, 1},
		{200, "", "", 4, 100}, // but not an event stream
		{204, "", "", 4, 100},
	} {
		t.Run(fmt.Sprint(tt.status, tt.header), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				var f follower
				requests, asked, ok := 0, 0, says(func(int) (string, bool) { return sent("bars", "soft"), true })
				f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					if r.Header.Get("Authorization") != "Bearer t" || r.Header.Get("Accept") != "text/event-stream" || r.URL.RawQuery != "x=1" {
						t.Errorf("%v %v", r.URL, r.Header)
					}
					if requests++; requests == 1 {
						ok(w, r)
						return
					}
					asked++
					w.Header().Set("Retry-After", tt.header)
					if tt.status == 204 {
						w.WriteHeader(http.StatusNoContent)
						return
					}
					http.Error(w, "no", tt.status)
				}))
				f.follow(t, feedback.ClientConfig{Header: http.Header{"Authorization": {"Bearer t"}}, Heartbeat: time.Minute}, nil)
				pass(20 * time.Second)
				if asked < tt.asked || asked > tt.atMost {
					t.Errorf("asked %d times", asked)
				}
				err := f.stop()
				if tt.want == "" {
					if !errors.Is(err, context.Canceled) {
						t.Error(err)
					}
					f.expect(t, "0s soft")
					return
				}
				if err == nil || err.Error() != tt.want {
					t.Error(err)
				}
				if got := f.take(); len(got) != 2 || !strings.HasSuffix(got[1], "bars lost") {
					t.Errorf("%q", got)
				}
			})
		})
	}
}

// TestClientNotAStream: what a proxy shows in the place of events is not taken for them.
func TestClientNotAStream(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var f follower
		f.serve(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "text/html; charset=utf-8")
			_, _ = w.Write([]byte(sent("bars", "hard")))
		}))
		f.follow(t, feedback.ClientConfig{}, nil)
		pass(time.Second)
		f.expect(t)
		if want := `the answer is \"text/html\" and not text/event-stream: is URL that of a feedback handler?`; !strings.Contains(f.logs.String(), want) {
			t.Error(f.logs.String())
		}
	})
}

func TestClientConfig(t *testing.T) {
	_, err := feedback.NewClient(feedback.ClientConfig{URL: "h/events", Heartbeat: -1})
	for _, want := range []string{
		"feedback client: URL must be absolute, as in https://host/path", "there is no function OnEvent to hand events to", "Heartbeat is -1ns: it must be 0, for the default, or more",
	} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Error(err)
		}
	}
}

// ExampleClient has a producer take its rate from a store in another process.
func ExampleClient() {
	controller, err := feedback.NewRateController(feedback.ControllerConfig{Initial: 1000})
	if err != nil {
		fmt.Println(err)
		return
	}
	client, err := feedback.NewClient(feedback.ClientConfig{
		URL: "https://store.example/feedback", Producer: true, OnEvent: controller.Observe, OnLost: controller.Lost,
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = client // go client.Run(ctx)
	fmt.Println(controller.Rate())
	// Output: 1000
}
