package feedback

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"
)

// Bus hands the events of one coordinator to those who listen. Publishing never waits: who
// is slow loses the oldest events, which are counted.
type Bus struct {
	listeners atomic.Int64 // whether anybody listens, without the lock
	producers atomic.Int64
	metrics   *Metrics

	mu            sync.Mutex
	subscriptions map[*Subscription]struct{}
	last          Event
	published     bool
	closed        bool
}

// NewBus returns a bus. Metrics may be nil.
func NewBus(metrics *Metrics) *Bus {
	return &Bus{subscriptions: make(map[*Subscription]struct{}), metrics: metrics}
}

// Subscription receives events.
type Subscription struct {
	// C has the events, oldest first. It is closed when the bus or the subscription is.
	C <-chan Event

	c         chan Event
	bus       *Bus
	transport string
	producers int64
	dropped   atomic.Int64
}

// Options say what a subscription is for.
type Options struct {
	// Buffer is how many events wait at most. Defaults to 16.
	Buffer int
	// Transport is the label of metrics: "memory", "webhook", "sse" or "grpc". Defaults to
	// "memory".
	Transport string
	// Producer says that the listener submits records to the store, and shares its rate;
	// Producers is how many do that stand behind it.
	Producer  bool
	Producers int
}

// Subscribe listens, from the newest event on, which comes first. Close it when done.
func (b *Bus) Subscribe(opt Options) *Subscription {
	if opt.Buffer <= 0 {
		opt.Buffer = 16
	}
	if opt.Transport == "" {
		opt.Transport = "memory"
	}
	producers := int64(max(opt.Producers, 0))
	if opt.Producer {
		producers = max(producers, 1)
	}
	s := &Subscription{c: make(chan Event, opt.Buffer), bus: b, transport: opt.Transport, producers: producers}
	s.C = s.c
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		close(s.c)
		return s
	}
	b.subscriptions[s] = struct{}{}
	b.listeners.Add(1)
	b.producers.Add(producers)
	b.metrics.subscribed(opt.Transport, 1)
	if b.published {
		s.c <- b.last
	}
	return s
}

// Dropped counts the events that were lost because they were not taken in time.
func (s *Subscription) Dropped() int64 { return s.dropped.Load() }

// Close ends the subscription. It is idempotent.
func (s *Subscription) Close() {
	s.bus.mu.Lock()
	defer s.bus.mu.Unlock()
	s.bus.remove(s)
}

// remove ends a subscription. It is called with the lock.
func (b *Bus) remove(s *Subscription) {
	if _, there := b.subscriptions[s]; !there {
		return
	}
	delete(b.subscriptions, s)
	b.listeners.Add(-1)
	b.producers.Add(-s.producers)
	b.metrics.subscribed(s.transport, -1)
	close(s.c)
}

// Listeners is how many listen, and Producers how many of them submit records.
func (b *Bus) Listeners() int { return int(b.listeners.Load()) }

// Producers is how many of those who listen submit records.
func (b *Bus) Producers() int { return int(b.producers.Load()) }

// Last returns the newest event, and whether there was one.
func (b *Bus) Last() (Event, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.last, b.published
}

// Publish hands an event to all who listen.
func (b *Bus) Publish(e Event) {
	start := time.Now()
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.metrics.event(&e, b.last.Level)
	b.last, b.published = e, true
	for s := range b.subscriptions {
		for {
			select {
			case s.c <- e:
			default:
				select {
				case <-s.c: // the oldest
					s.dropped.Add(1)
					b.metrics.dropped(s.transport)
				default:
				}
				continue
			}
			break
		}
	}
	b.metrics.publishedIn(time.Since(start))
}

// Close ends all subscriptions. It is idempotent.
func (b *Bus) Close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return
	}
	b.closed = true
	b.metrics.forget(b.last.CoordinatorID)
	for s := range b.subscriptions {
		b.remove(s)
	}
}

// Handle calls a function with each event, one after the other, until ctx ends or the bus
// is closed, and returns then. A function that panics is called again with the next event.
func (b *Bus) Handle(ctx context.Context, opt Options, logger *slog.Logger, handle func(Event)) {
	s := b.Subscribe(opt)
	defer s.Close()
	for {
		select {
		case e, ok := <-s.C:
			if !ok {
				return
			}
			call(handle, e, logger)
		case <-ctx.Done():
			return
		}
	}
}

func call(handle func(Event), e Event, logger *slog.Logger) {
	defer func() {
		if p := recover(); p != nil && logger != nil {
			logger.Error("a feedback handler panicked", "coordinator", e.CoordinatorID, "panic", p)
		}
	}()
	handle(e)
}
