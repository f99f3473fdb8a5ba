package rpc

import (
	"net/http"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"connectrpc.com/connect"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1/feedbackv1connect"
)

// kinds are the buses of two kinds, each with an event.
func kinds() map[string]*feedback.Bus {
	buses := map[string]*feedback.Bus{"bars": feedback.NewBus(nil), "news": feedback.NewBus(nil)}
	for kind, bus := range buses {
		bus.Publish(feedback.Event{CoordinatorID: kind, Kind: kind, Level: feedback.OK})
	}
	return buses
}

func serveKinds(t *testing.T, buses map[string]*feedback.Bus, cfg HandlerConfig) (url string) {
	t.Helper()
	path, h := NewKindsHandler(buses, cfg)
	mux := http.NewServeMux()
	mux.Handle(path, h)
	s := serve(t, "", mux)
	t.Cleanup(func() {
		for _, bus := range buses {
			bus.Close()
		}
	})
	return s.URL
}

// TestKinds sends the events of the kind that is asked for, or of all.
func TestKinds(t *testing.T) {
	for _, tt := range []struct {
		kind string
		want []string // at first
		then []string
		bars int // listeners
	}{
		{"bars", []string{"bars"}, []string{"bars", "bars"}, 1},
		{"news", []string{"news"}, []string{"news"}, 0},
		{"", []string{"bars", "news"}, []string{"bars", "bars", "news"}, 1},
	} {
		t.Run(tt.kind, func(t *testing.T) {
			buses := kinds()
			url := serveKinds(t, buses, HandlerConfig{})
			tr := transport(time.Hour)
			defer tr.CloseIdleConnections()
			stream, err := feedbackv1connect.NewFeedbackServiceClient(&http.Client{Transport: tr}, url, connect.WithGRPC()).
				Watch(t.Context(), connect.NewRequest(&feedbackv1.WatchRequest{Producer: true, Kind: tt.kind}))
			if err != nil {
				t.Fatal(err)
			}
			defer stream.Close()
			take := func(n int) (got []string) {
				for range n {
					if !stream.Receive() {
						t.Fatal(stream.Err())
					}
					got = append(got, stream.Msg().GetKind())
				}
				slices.Sort(got)
				return got
			}
			if got := take(len(tt.want)); !slices.Equal(got, tt.want) {
				t.Errorf("at first there are %v", got)
			}
			if got := buses["bars"].Producers(); got != tt.bars {
				t.Errorf("there are %d producers of bars", got)
			}
			for _, kind := range []string{"bars", "news", "bars"} {
				buses[kind].Publish(feedback.Event{CoordinatorID: kind, Kind: kind, Level: feedback.Hard})
			}
			if got := take(len(tt.then)); !slices.Equal(got, tt.then) {
				t.Errorf("then there are %v", got)
			}
			for _, bus := range buses {
				bus.Close()
			}
			if stream.Receive() || stream.Err() != nil {
				t.Errorf("with the buses the stream ends with %v", stream.Err())
			}
		})
	}
}

// TestUnknownKind says which there are, and has a client give up.
func TestUnknownKind(t *testing.T) {
	url := serveKinds(t, kinds(), HandlerConfig{})
	c, err := NewClient(ClientConfig{URL: url, Kind: "trades", OnEvent: func(feedback.Event) { t.Error("an event") }})
	if err != nil {
		t.Fatal(err)
	}
	err = c.Run(t.Context())
	if connect.CodeOf(err) != connect.CodeNotFound || !strings.Contains(err.Error(), `there is no queue of "trades" here: kind is one of bars, news, or empty for all`) {
		t.Errorf("it ends with %v", err)
	}
}

// TestDone ends streams without an error, while the buses go on.
func TestDone(t *testing.T) {
	buses, done := kinds(), make(chan struct{})
	url := serveKinds(t, buses, HandlerConfig{Done: done})
	tr := transport(time.Hour)
	defer tr.CloseIdleConnections()
	stream := watch(t.Context(), t, &http.Client{Transport: tr}, url, false, connect.WithGRPC())
	defer stream.Close()
	if !stream.Receive() {
		t.Fatal(stream.Err())
	}
	close(done)
	for stream.Receive() {
	}
	if stream.Err() != nil {
		t.Errorf("the stream ends with %v", stream.Err())
	}
	if _, there := buses["bars"].Last(); !there {
		t.Error("there is no event any more")
	}
}

// TestQuietKinds repeats the newest of each kind when that is quiet, however busy another is,
// and has each be lost when the server is.
func TestQuietKinds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		buses := kinds()
		_, h := NewKindsHandler(buses, HandlerConfig{})
		network := newMemory()
		server := &http.Server{Handler: h, Protocols: both()}
		go func() { _ = server.Serve(network) }()
		hc := network.client()
		count := make(map[string]int)
		var lost []string
		stop := run(t, ClientConfig{
			HTTPClient: hc,
			OnEvent:    func(e feedback.Event) { count[e.Kind]++ },
			OnLost:     func(id string) { lost = append(lost, id) },
		})
		for range 61 { // of bars there is an event each second
			<-time.After(time.Second)
			buses["bars"].Publish(feedback.Event{CoordinatorID: "bars", Kind: "bars", Level: feedback.Hard})
		}
		synctest.Wait()
		if count["bars"] != 62 || count["news"] != 13 || len(lost) > 0 {
			t.Errorf("in a minute there are %v, and lost are %v", count, lost)
		}
		_ = server.Close()
		<-time.After(time.Minute)
		synctest.Wait()
		if !slices.Equal(lost, []string{"bars", "news"}) {
			t.Errorf("lost are %v", lost)
		}
		stop()
		for _, bus := range buses {
			bus.Close()
		}
		hc.CloseIdleConnections()
	})
}
