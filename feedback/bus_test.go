package feedback

import (
	"context"
	"log/slog"
	"slices"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
)

func sizes(events []Event) (out []int64) {
	for _, e := range events {
		out = append(out, e.QueueSize)
	}
	return out
}

// TestBus hands events to all who listen, each once and in order, the newest first of all.
func TestBus(t *testing.T) {
	b := NewBus(nil)
	b.Publish(Event{QueueSize: 1})
	b.Publish(Event{QueueSize: 2})
	s, other := b.Subscribe(Options{}), b.Subscribe(Options{Producer: true})
	many := b.Subscribe(Options{Producers: 5})
	if b.Producers() != 6 {
		t.Errorf("%d produce", b.Producers())
	}
	many.Close()
	if b.Listeners() != 2 || b.Producers() != 1 {
		t.Errorf("%d listen, %d produce", b.Listeners(), b.Producers())
	}
	b.Publish(Event{QueueSize: 3})
	other.Close()
	other.Close()
	b.Publish(Event{QueueSize: 4})
	b.Close()
	b.Publish(Event{QueueSize: 5})
	var got, gone []Event
	for e := range s.C {
		got = append(got, e)
	}
	for e := range other.C {
		gone = append(gone, e)
	}
	if !slices.Equal(sizes(got), []int64{2, 3, 4}) || !slices.Equal(sizes(gone), []int64{2, 3}) || b.Listeners() != 0 || b.Producers() != 0 {
		t.Errorf("%v and %v, %d listen", sizes(got), sizes(gone), b.Listeners())
	}
	if last, ok := b.Last(); !ok || last.QueueSize != 4 {
		t.Errorf("%+v", last)
	}
	if _, open := <-b.Subscribe(Options{}).C; open {
		t.Error("it listens to a bus that is closed")
	}
}

// TestSlowSubscriber loses the oldest events, which are counted, and keeps nobody waiting.
func TestSlowSubscriber(t *testing.T) {
	reg := prometheus.NewPedanticRegistry()
	metrics, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	b := NewBus(metrics)
	slow := b.Subscribe(Options{Buffer: 3, Transport: "sse"})
	for n := range int64(10) {
		b.Publish(Event{CoordinatorID: "c", QueueSize: n, Level: []Level{OK, Soft}[n%2], SuggestedRate: float64(n)})
	}
	if slow.Dropped() != 7 {
		t.Errorf("%d were lost, want 7", slow.Dropped())
	}
	const want = `
# HELP mds_feedback_events_dropped_total Events that a slow subscriber lost, by transport.
# TYPE mds_feedback_events_dropped_total counter
mds_feedback_events_dropped_total{transport="grpc"} 0
mds_feedback_events_dropped_total{transport="memory"} 0
mds_feedback_events_dropped_total{transport="sse"} 7
mds_feedback_events_dropped_total{transport="webhook"} 0
# HELP mds_feedback_level Level of a coordinator's queue: 0 ok, 1 soft, 2 hard.
# TYPE mds_feedback_level gauge
mds_feedback_level{coord_id="c"} 1
# HELP mds_feedback_subscribers Subscribers, by transport.
# TYPE mds_feedback_subscribers gauge
mds_feedback_subscribers{transport="grpc"} 0
mds_feedback_subscribers{transport="memory"} 0
mds_feedback_subscribers{transport="sse"} 1
mds_feedback_subscribers{transport="webhook"} 0
# HELP mds_feedback_suggested_rate Rate suggested to all producers together, in records a second.
# TYPE mds_feedback_suggested_rate gauge
mds_feedback_suggested_rate{coord_id="c"} 9
# HELP mds_feedback_transitions_total Changes of level, by the new one.
# TYPE mds_feedback_transitions_total counter
mds_feedback_transitions_total{coord_id="c",to="hard"} 0
mds_feedback_transitions_total{coord_id="c",to="ok"} 4
mds_feedback_transitions_total{coord_id="c",to="soft"} 5
`
	if err := testutil.GatherAndCompare(reg, strings.NewReader(want), "mds_feedback_events_dropped_total", "mds_feedback_level", "mds_feedback_subscribers", "mds_feedback_suggested_rate", "mds_feedback_transitions_total"); err != nil {
		t.Error(err)
	}
	b.Close()
	var got []Event
	for e := range slow.C {
		got = append(got, e)
	}
	if !slices.Equal(sizes(got), []int64{7, 8, 9}) {
		t.Errorf("%v", sizes(got))
	}
}

// TestHandlerThatPanics is called again with the next event.
func TestHandlerThatPanics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var log strings.Builder
		b := NewBus(nil)
		ctx, cancel := context.WithCancel(t.Context())
		var got []int64
		done := make(chan struct{})
		go func() {
			defer close(done)
			b.Handle(ctx, Options{}, slog.New(slog.NewTextHandler(&log, nil)), func(e Event) {
				got = append(got, e.QueueSize)
				if e.QueueSize == 2 {
					panic("two")
				}
			})
		}()
		for n := range int64(4) {
			b.Publish(Event{QueueSize: n})
			synctest.Wait()
		}
		cancel()
		<-done
		if !slices.Equal(got, []int64{0, 1, 2, 3}) || !strings.Contains(log.String(), "panic=two") || b.Listeners() != 0 {
			t.Errorf("%v, %s", got, log.String())
		}
		b.Close()
	})
}

// TestMetricsForget has the level and the rate of a coordinator that is no more not stand on
// as if it were.
func TestMetricsForget(t *testing.T) {
	reg := prometheus.NewRegistry()
	m, err := NewMetrics(reg)
	if err != nil {
		t.Fatal(err)
	}
	gone, stays := NewBus(m), NewBus(m)
	gone.Publish(Event{CoordinatorID: "gone", Level: Hard, SuggestedRate: 1})
	stays.Publish(Event{CoordinatorID: "stays", Level: Soft, SuggestedRate: 2})
	gone.Close()
	err = testutil.GatherAndCompare(reg, strings.NewReader(`
# HELP mds_feedback_level Level of a coordinator's queue: 0 ok, 1 soft, 2 hard.
# TYPE mds_feedback_level gauge
mds_feedback_level{coord_id="stays"} 1
# HELP mds_feedback_suggested_rate Rate suggested to all producers together, in records a second.
# TYPE mds_feedback_suggested_rate gauge
mds_feedback_suggested_rate{coord_id="stays"} 2
`), "mds_feedback_level", "mds_feedback_suggested_rate")
	if err != nil {
		t.Error(err)
	}
}
