package feedback_test

import (
	"bufio"
	"bytes"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds/feedback"
)

func newHandler(t *testing.T, bus *feedback.Bus, cfg feedback.HandlerConfig) *feedback.Handler {
	h, err := feedback.NewHandler(bus, cfg)
	if err != nil {
		t.Fatal(err)
	}
	return h
}

// TestHandler: the newest event at once, then what comes, byte by byte; at every level the
// newest again when nothing has come for five seconds; the end with the bus.
func TestHandler(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "ok", "soft")
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		client := n.client()
		resp, err := client.Get("http://h/?producer=1")
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		for name, want := range map[string]string{"Content-Type": "text/event-stream", "Cache-Control": "no-cache", "X-Accel-Buffering": "no"} {
			if got := resp.Header.Get(name); got != want {
				t.Errorf("%s: %s", name, got)
			}
		}
		text := make(chan string, 1)
		go func(body io.Reader) {
			all, _ := io.ReadAll(body)
			text <- string(all)
		}(resp.Body)
		synctest.Wait()
		if bus.Listeners() != 1 || bus.Producers() != 1 {
			t.Errorf("%d listen, of which %d produce", bus.Listeners(), bus.Producers())
		}
		pass(6 * time.Second)
		publish(bus, "hard")
		synctest.Wait()
		publish(bus, "ok")
		pass(6 * time.Second)
		bus.Close()
		var want strings.Builder
		for i, e := range []struct {
			level string
			ts    int
		}{{"soft", 946684800}, {"soft", 946684805}, {"hard", 946684800}, {"ok", 946684800}, {"ok", 946684811}} {
			fmt.Fprintf(&want, "id: %d\nevent: feedback\n"+
				`data: {"coordinator_id":"bars","queue_size":9,"capacity":10,"utilization":0.9,"level":"%s","source":"store","ts":%d,"suggested_rate":0}`+"\n\n", i+1, e.level, e.ts)
		}
		if got := <-text; got != want.String() {
			t.Errorf("got\n%s\nwant\n%s", got, want.String())
		}
		client.CloseIdleConnections()
	})
}

// TestHandlerNothingYet: before the first event there are comments, and the subscription
// ends with the request.
func TestHandlerNothingYet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{Heartbeat: time.Second}))
		client := n.client()
		resp, err := client.Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 2*len(": no event yet\n\n"))
		if _, err := io.ReadFull(resp.Body, got); err != nil || string(got) != ": no event yet\n\n: no event yet\n\n" {
			t.Errorf("%q, %v", got, err)
		}
		_ = resp.Body.Close()
		synctest.Wait()
		if bus.Listeners() != 0 {
			t.Error("the subscription has not ended")
		}
		client.CloseIdleConnections()
	})
}

// TestHandlerNoJSON: an event that is none in JSON is logged, and the next one is sent.
func TestHandlerNoJSON(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		var f follower
		var l logs
		f.serve(t, newHandler(t, bus, feedback.HandlerConfig{Logger: l.logger()}))
		f.follow(t, feedback.ClientConfig{}, nil)
		e := event("hard")
		e.Utilization = math.NaN()
		bus.Publish(e)
		publish(bus, "soft")
		synctest.Wait()
		f.expect(t, "0s soft")
		if !strings.Contains(l.String(), "unsupported value: NaN") {
			t.Error(l.String())
		}
	})
}

// TestHandlerServerLimits: the time limits of a server do not end the stream.
func TestHandlerServerLimits(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "ok")
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{}), func(s *http.Server) {
			s.ReadTimeout, s.WriteTimeout, s.IdleTimeout = time.Second, time.Second, time.Second
		})
		client := n.client()
		resp, err := client.Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		for range 40 { // ten events
			if !lines.Scan() {
				t.Fatal(lines.Err())
			}
		}
		_ = resp.Body.Close()
		client.CloseIdleConnections()
	})
}

// TestHandlerManySubscribers: of two hundred subscribers a quarter never reads. Nobody
// waits for them, and they are cut off; all others have every event.
func TestHandlerManySubscribers(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{}))
		all := make([]*diary, 0, 150)
		for i := range 200 {
			conn, err := n.DialContext(t.Context(), "", "")
			if err != nil {
				t.Fatal(err)
			}
			defer conn.Close()
			if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
				t.Fatal(err)
			}
			readHeaders(t, conn)
			if i%4 > 0 {
				d := newDiary()
				all = append(all, d)
				go read(conn, d)
			}
		}
		if synctest.Wait(); bus.Listeners() != 200 {
			t.Errorf("%d listen", bus.Listeners())
		}
		for range 10 {
			publish(bus, "soft", "hard", "soft", "ok")
			synctest.Wait()
		}
		if d := time.Since(all[0].start); d != 0 {
			t.Errorf("publishing took %v", d)
		}
		for _, d := range all {
			got := d.take()
			if len(got) != 40 || got[0] != "0s soft" || got[1] != "0s hard" || got[39] != "0s ok" {
				t.Errorf("%d events: %q", len(got), got)
			}
		}
		pass(6 * time.Second)
		if n := bus.Listeners(); n != 150 {
			t.Errorf("%d listen yet", n)
		}
		bus.Close()
	})
}

// readHeaders reads those of a response, and no more.
func readHeaders(t *testing.T, conn net.Conn) {
	for text := make([]byte, 0, 1<<10); !bytes.HasSuffix(text, []byte("\r\n\r\n")); {
		text = append(text, 0)
		if _, err := conn.Read(text[len(text)-1:]); err != nil {
			t.Fatal(err)
		}
	}
}

// read notes the levels that come over a connection.
func read(conn net.Conn, d *diary) {
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		if text, ok := bytes.CutPrefix(lines.Bytes(), []byte("data: ")); ok {
			if e, err := feedback.Parse(text); err == nil {
				d.note("%s", e.Level)
			}
		}
	}
}

// TestHandlerSlowSubscriber: one that reads late has lost the oldest events, and knows the
// newest.
func TestHandlerSlowSubscriber(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{WriteTimeout: time.Hour, Heartbeat: time.Hour}))
		conn, err := n.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		readHeaders(t, conn)
		synctest.Wait()
		publish(bus, "ok") // this one is under way
		synctest.Wait()
		for range 50 {
			publish(bus, "soft", "hard")
		}
		publish(bus, "ok")
		d := newDiary()
		go read(conn, d)
		synctest.Wait()
		if got := d.take(); len(got) != 17 || got[0] != "0s ok" || got[1] != "0s hard" || got[16] != "0s ok" {
			t.Errorf("%d events: %q", len(got), got)
		}
		bus.Close()
	})
}

// TestHandlerHTTP2 is over TLS and real sockets.
func TestHandlerHTTP2(t *testing.T) {
	bus := feedback.NewBus(nil)
	publish(bus, "soft")
	server := httptest.NewUnstartedServer(newHandler(t, bus, feedback.HandlerConfig{}))
	server.EnableHTTP2 = true
	server.StartTLS()
	defer server.Close()
	got := make(chan feedback.Event)
	c, err := feedback.NewClient(feedback.ClientConfig{URL: server.URL, HTTPClient: server.Client(), OnEvent: func(e feedback.Event) { got <- e }})
	if err != nil {
		t.Fatal(err)
	}
	stop := run(t, c.Run)
	if e := <-got; e.Level != "soft" {
		t.Errorf("%+v", e)
	}
	publish(bus, "hard")
	if e := <-got; e.Level != "hard" {
		t.Errorf("%+v", e)
	}
	resp, err := server.Client().Head(server.URL)
	if err != nil {
		t.Fatal(err)
	}
	if _ = resp.Body.Close(); resp.ProtoMajor != 2 {
		t.Error(resp.Proto)
	}
	bus.Close()
	stop()
}

// TestHandlerHTTP2Quiet: over HTTP/2, where a time limit ends a stream also while nothing is
// written, one on which little is said outlives those of writes.
func TestHandlerHTTP2Quiet(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		publish(bus, "soft")
		var n network
		stop := n.serve(t, newHandler(t, bus, feedback.HandlerConfig{WriteTimeout: time.Second, Heartbeat: time.Hour}), func(s *http.Server) {
			s.WriteTimeout = time.Second
			s.Protocols = new(http.Protocols)
			s.Protocols.SetUnencryptedHTTP2(true)
		})
		protocols := new(http.Protocols)
		protocols.SetUnencryptedHTTP2(true)
		client := &http.Client{Transport: &http.Transport{DialContext: n.DialContext, Protocols: protocols}}
		resp, err := client.Get("http://h/")
		if err != nil {
			t.Fatal(err)
		}
		lines := bufio.NewScanner(resp.Body)
		event := func() {
			t.Helper()
			for lines.Scan() {
				if strings.HasPrefix(lines.Text(), "data: ") {
					return
				}
			}
			t.Fatalf("the stream has ended: %v", lines.Err())
		}
		event()
		pass(time.Minute)
		publish(bus, "hard")
		event()
		if resp.ProtoMajor != 2 {
			t.Error(resp.Proto)
		}
		_ = resp.Body.Close()
		bus.Close()
		client.CloseIdleConnections()
		stop()
	})
}

func TestHandlerRefuses(t *testing.T) {
	for _, tt := range []struct {
		name, method, target string
		accept               []string
		status               int
		says                 string
	}{
		{"post", "POST", "/", nil, 405, "events are read: use GET"},
		{"json", "GET", "/", []string{"application/json"}, 406, "events come as text/event-stream: accept it"},
		{"anything but", "GET", "/", []string{"text/event-stream;q=0"}, 406, "events come as text/event-stream: accept it"},
		{"a producer of what", "GET", "/?producer=bars", nil, 400, "producer is 1 or 0"},
		{"among others", "GET", "/", []string{"text/html", "application/json, text/event-stream;q=0.5"}, 200, ""},
		{"anything", "GET", "/?producer=0", []string{"*/*"}, 200, ""},
		{"any text", "GET", "/", []string{"text/*"}, 200, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			bus := feedback.NewBus(nil)
			bus.Close()
			r := httptest.NewRequest(tt.method, tt.target, nil)
			for _, a := range tt.accept {
				r.Header.Add("Accept", a)
			}
			w := httptest.NewRecorder()
			newHandler(t, bus, feedback.HandlerConfig{}).ServeHTTP(w, r)
			if says := strings.TrimSpace(w.Body.String()); w.Code != tt.status || says != tt.says {
				t.Errorf("%d %s", w.Code, says)
			}
			if w.Code == 405 && w.Header().Get("Allow") != "GET" {
				t.Error("the method to use is not told")
			}
		})
	}
}

// TestHandlerCannotStream: a response that cannot be flushed is refused.
func TestHandlerCannotStream(t *testing.T) {
	bus := feedback.NewBus(nil)
	defer bus.Close()
	w := httptest.NewRecorder()
	newHandler(t, bus, feedback.HandlerConfig{}).ServeHTTP(struct{ http.ResponseWriter }{w}, httptest.NewRequest(http.MethodGet, "/", nil))
	if w.Code != 500 || !strings.HasPrefix(w.Body.String(), "this server cannot stream") || bus.Listeners() != 0 {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

func TestHandlerConfig(t *testing.T) {
	_, err := feedback.NewHandler(feedback.NewBus(nil), feedback.HandlerConfig{Heartbeat: -time.Second})
	if err == nil || err.Error() != "feedback handler: Heartbeat is -1s: it must be 0, for the default, or more" {
		t.Error(err)
	}
}

// TestHandlerSaysWhatIsNew sends at once what says something new, and else once a second.
func TestHandlerSaysWhatIsNew(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		var n network
		n.serve(t, newHandler(t, bus, feedback.HandlerConfig{Heartbeat: time.Hour}))
		conn, err := n.DialContext(t.Context(), "", "")
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := io.WriteString(conn, "GET / HTTP/1.1\r\nHost: h\r\n\r\n"); err != nil {
			t.Fatal(err)
		}
		readHeaders(t, conn)
		d := newDiary()
		go read(conn, d)
		e := event("ok")
		for i, rate := range []float64{1000, 1010, 990, 2000, 2010, 2020, 2030, 2040, 2050} { // four a second
			if e.SuggestedRate = rate; i == 2 {
				e.Level = "soft"
			}
			bus.Publish(e)
			pass(250 * time.Millisecond)
		}
		synctest.Wait()
		if got := d.take(); fmt.Sprint(got) != "[0s ok 500ms soft 750ms soft 1.75s soft]" {
			t.Errorf("%q", got)
		}
		bus.Close()
	})
}
