package rpc

import (
	"bytes"
	"context"
	"encoding/binary"
	"encoding/hex"
	"encoding/json"
	"io"
	"log/slog"
	"math/rand/v2"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1/feedbackv1connect"
)

// watch opens a stream.
func watch(ctx context.Context, t *testing.T, hc *http.Client, url string, producer bool, options ...connect.ClientOption) *connect.ServerStreamForClient[feedbackv1.Event] {
	t.Helper()
	stream, err := feedbackv1connect.NewFeedbackServiceClient(hc, url, options...).
		Watch(ctx, connect.NewRequest(&feedbackv1.WatchRequest{Producer: producer}))
	if err != nil {
		t.Fatal(err)
	}
	return stream
}

func TestProtocols(t *testing.T) {
	http1 := &http.Transport{}
	http2 := transport(time.Hour)
	t.Cleanup(http1.CloseIdleConnections)
	t.Cleanup(http2.CloseIdleConnections)
	for _, c := range []struct {
		name        string
		transport   *http.Transport
		options     []connect.ClientOption
		version     int
		contentType string
	}{
		{"gRPC", http2, []connect.ClientOption{connect.WithGRPC()}, 2, "application/grpc"},
		{"gRPC-Web", http2, []connect.ClientOption{connect.WithGRPCWeb()}, 2, "application/grpc-web+proto"},
		{"gRPC-Web over HTTP/1", http1, []connect.ClientOption{connect.WithGRPCWeb()}, 1, "application/grpc-web+proto"},
		{"Connect", http2, nil, 2, "application/connect+proto"},
		{"Connect with JSON", http2, []connect.ClientOption{connect.WithProtoJSON()}, 2, "application/connect+json"},
		{"Connect with JSON over HTTP/1", http1, []connect.ClientOption{connect.WithProtoJSON()}, 1, "application/connect+json"},
	} {
		t.Run(c.name, func(t *testing.T) {
			bus := feedback.NewBus(nil)
			bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "ok", QueueSize: 1}) // which the next replaces
			bus.Publish(full)
			s, ended := serveBus(t, "", bus, HandlerConfig{})
			ctx, cancel := context.WithTimeout(t.Context(), within)
			defer cancel()
			stream := watch(ctx, t, &http.Client{Transport: c.transport}, s.URL, true, c.options...)
			defer stream.Close()

			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			if got, err := fromProto(stream.Msg()); got != full || err != nil {
				t.Errorf("the newest is %+v, not %+v (%v)", got, full, err)
			}
			if bus.Listeners() != 1 || bus.Producers() != 1 {
				t.Errorf("there are %d listeners and %d producers", bus.Listeners(), bus.Producers())
			}
			for _, level := range []feedback.Level{"soft", "ok", "melting"} {
				bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: level, SuggestedRate: 7})
			}
			for _, level := range []feedback.Level{"soft", "ok", "melting"} {
				if !stream.Receive() {
					t.Fatal(stream.Err())
				}
				want := feedback.Event{CoordinatorID: "bars-1", Level: level, SuggestedRate: 7}
				if got, err := fromProto(stream.Msg()); got != want || err != nil {
					t.Errorf("then comes %+v, not %+v (%v)", got, want, err)
				}
			}
			bus.Close()
			if stream.Receive() || stream.Err() != nil {
				t.Errorf("with the bus the stream ends with %v, after %v", stream.Err(), stream.Msg())
			}
			r := receive(t, ended, "the end of the request")
			if r.ProtoMajor != c.version || r.Header.Get("Content-Type") != c.contentType {
				t.Errorf("it was HTTP/%d, %s", r.ProtoMajor, r.Header.Get("Content-Type"))
			}
			if bus.Listeners() != 0 || bus.Producers() != 0 {
				t.Errorf("afterwards there are %d listeners and %d producers", bus.Listeners(), bus.Producers())
			}
		})
	}
}

// What a program sees that has no library but HTTP and JSON.
func TestJSON(t *testing.T) {
	bus := feedback.NewBus(nil)
	bus.Publish(full)
	s, _ := serveBus(t, "", bus, HandlerConfig{})
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, s.URL+"/mds.feedback.v1.FeedbackService/Watch",
		strings.NewReader("\x00\x00\x00\x00\x11"+`{"producer":true}`))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/connect+json")
	client := &http.Client{Transport: &http.Transport{}}
	defer client.CloseIdleConnections()
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	for i, want := range []string{
		`{"coordinator_id":"bars-1","kind":"bars","queue_size":"900","capacity":"1000","utilization":0.9,` +
			`"level":"LEVEL_HARD","source":"store","ts":1767225600.25,"reason":"the circuit is open",` +
			`"suggested_rate":1500,"arrival_rate":2000,"producers":"3","retry_after_ms":"250"}`,
		`{"coordinator_id":"bars-1","level_name":"melting"}`,
	} {
		if i == 1 {
			bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "melting"})
		}
		head := make([]byte, 5)
		if _, err := io.ReadFull(resp.Body, head); err != nil {
			t.Fatal(err)
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:]))
		if _, err := io.ReadFull(resp.Body, body); err != nil {
			t.Fatal(err)
		}
		var got bytes.Buffer // the spaces are not the same in each build
		if err := json.Compact(&got, body); err != nil {
			t.Fatal(err)
		}
		if head[0] != 0 || got.String() != want {
			t.Errorf("event %d is, with flags %d,\n%s, not\n%s", i, head[0], got.String(), want)
		}
	}
	if bus.Producers() != 1 {
		t.Errorf("there are %d producers", bus.Producers())
	}
}

// The end of a request ends its subscription.
func TestRequestEnds(t *testing.T) {
	bus := feedback.NewBus(nil)
	bus.Publish(full)
	s, ended := serveBus(t, "", bus, HandlerConfig{Heartbeat: time.Hour})
	tr := transport(time.Hour)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	stream := watch(ctx, t, &http.Client{Transport: tr}, s.URL, false, connect.WithGRPC())
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if bus.Listeners() != 1 || bus.Producers() != 0 {
		t.Errorf("there are %d listeners and %d producers", bus.Listeners(), bus.Producers())
	}
	cancel()
	_ = stream.Close()
	receive(t, ended, "the end of the request")
	if bus.Listeners() != 0 {
		t.Errorf("there are %d listeners", bus.Listeners())
	}
}

// With short timeouts, of the server too, which end no stream that is quiet.
func TestHeartbeat(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		bus := feedback.NewBus(nil)
		_, h := NewHandler(bus, HandlerConfig{WriteTimeout: time.Second})
		network := newMemory()
		server := &http.Server{Handler: h, Protocols: both(), ReadTimeout: time.Second, WriteTimeout: time.Second}
		go func() { _ = server.Serve(network) }()
		defer server.Close()
		hc := network.client()
		defer hc.CloseIdleConnections()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		stream := watch(ctx, t, hc, "http://memory", false, connect.WithGRPC())
		messages := make(chan *feedbackv1.Event)
		go func() {
			defer close(messages)
			for stream.Receive() {
				messages <- stream.Msg()
			}
		}()
		<-time.After(time.Minute) // nothing was published: there is nothing to repeat
		began := time.Now()
		for _, level := range []feedback.Level{"ok", "soft", "hard"} {
			e := feedback.Event{CoordinatorID: "bars-1", Level: level, QueueSize: 5}
			e.Stamp(time.Now())
			bus.Publish(e)
			for _, after := range []time.Duration{0, 5 * time.Second, 10 * time.Second} {
				m := <-messages
				got, err := fromProto(m)
				if err != nil || got.Level != level || got.QueueSize != 5 {
					t.Errorf("after %v there is %+v (%v)", after, got, err)
				}
				if at := time.Since(began); at != after {
					t.Errorf("at %s, what should come after %v came after %v", level, after, at)
				}
				if !got.Time().Equal(began.Add(after)) {
					t.Errorf("at %s, after %v, the event is of %v", level, after, got.Time().Sub(began))
				}
			}
			<-time.After(2 * time.Second) // from where on the next heartbeat counts
			began = time.Now()
		}
		bus.Close()
		for range messages {
		}
		if stream.Err() != nil {
			t.Error(stream.Err())
		}
		_ = stream.Close()
	})
}

// One who never reads costs the bus and the others nothing, and is let go in time.
func TestNeverReads(t *testing.T) {
	large := make([]byte, 1<<17) // so that what HTTP/2 buffers, 4 MiB, is full soon
	for i := range large {
		large[i] = byte(rand.Uint32())
	}
	reason := hex.EncodeToString(large)
	for _, c := range []struct {
		name    string
		timeout time.Duration
		events  int64 // 0 is until the stream ends
	}{
		{"while it is waited for", time.Hour, 200},
		{"until it is let go", 50 * time.Millisecond, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			bus := feedback.NewBus(nil)
			bus.Publish(full)
			s, ended := serveBus(t, "", bus, HandlerConfig{WriteTimeout: c.timeout})
			tr := transport(time.Hour)
			defer tr.CloseIdleConnections()
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			stream := watch(ctx, t, &http.Client{Transport: tr}, s.URL, false,
				connect.WithGRPC(), connect.WithAcceptCompression("gzip", nil, nil))
			if !stream.Receive() {
				t.Fatal(stream.Err())
			}
			other := bus.Subscribe(feedback.Options{Buffer: 1})
			receive(t, other.C, "the newest event")
			deadline := time.Now().Add(within)
			for n := int64(1); n <= c.events || c.events == 0; n++ {
				bus.Publish(feedback.Event{CoordinatorID: "bars-1", Level: "hard", QueueSize: n, Reason: reason})
				if got := receive(t, other.C, "an event"); got.QueueSize != n {
					t.Fatalf("the other got %d, not %d", got.QueueSize, n)
				}
				if len(ended) > 0 {
					break
				}
				if time.Now().After(deadline) {
					t.Fatal("the stream does not end")
				}
			}
			if want := 1 + min(1, int(c.events)); bus.Listeners() != want {
				t.Errorf("there are %d listeners, not %d", bus.Listeners(), want)
			}
			cancel()
			_ = stream.Close()
		})
	}
}

// A stream has headers before there is an event, so that who waits knows that it is open.
func TestNothingPublished(t *testing.T) {
	bus := feedback.NewBus(nil)
	s, _ := serveBus(t, "", bus, HandlerConfig{})
	tr := transport(time.Hour)
	defer tr.CloseIdleConnections()
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	stream := watch(ctx, t, &http.Client{Transport: tr}, s.URL, false, connect.WithGRPC()) // which waits for them
	defer stream.Close()
	bus.Publish(full)
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	if got, err := fromProto(stream.Msg()); got != full || err != nil {
		t.Errorf("the first is %+v (%v)", got, err)
	}
	bus.Close()
}

func TestPanic(t *testing.T) {
	var log bytes.Buffer
	path, h := NewHandler(nil, HandlerConfig{Logger: slog.New(slog.NewTextHandler(&log, nil))})
	if path != "/mds.feedback.v1.FeedbackService/" {
		t.Errorf("the path is %s", path)
	}
	s := serve(t, "", h)
	tr := transport(time.Hour)
	defer tr.CloseIdleConnections()
	for range 2 { // the first has not ended the connection
		stream := watch(t.Context(), t, &http.Client{Transport: tr}, s.URL, false, connect.WithGRPC())
		if stream.Receive() || stream.Err() == nil || stream.Err().Error() != "internal: the stream failed: its server's log says why" {
			t.Errorf("the stream ends with %v", stream.Err())
		}
		_ = stream.Close()
	}
	if n := strings.Count(log.String(), `level=ERROR msg="a feedback stream panicked"`); n != 2 {
		t.Errorf("the log names %d panics: %s", n, log.String())
	}
}
