package feedback

import "sync"

// maxInbox bounds the changes of level that wait to be posted.
const maxInbox = 64

// inbox holds the events that wait to be posted: the changes of level, each with the newest
// event of its level.
type inbox struct {
	wake    chan struct{} // has one when there is something new
	dropped func()        // is called for each event that a newer one replaces

	mu     sync.Mutex
	events []Event
	ended  bool
}

func newInbox(dropped func()) *inbox {
	return &inbox{wake: make(chan struct{}, 1), dropped: dropped}
}

// fill takes in what comes until the channel is closed.
func (b *inbox) fill(events <-chan Event) {
	for e := range events {
		b.add(e)
	}
	b.mu.Lock()
	b.ended = true
	b.mu.Unlock()
	b.signal()
}

func (b *inbox) signal() {
	select {
	case b.wake <- struct{}{}:
	default:
	}
}

func (b *inbox) add(e Event) {
	b.mu.Lock()
	switch n := len(b.events); {
	case n > 0 && b.events[n-1].Level == e.Level:
		b.events[n-1] = e
		b.dropped()
	case n == maxInbox:
		b.events = append(b.events[:0], b.events[1:]...)
		b.dropped()
		fallthrough
	default:
		b.events = append(b.events, e)
	}
	b.mu.Unlock()
	b.signal()
}

// take returns the oldest event. Over says that there is none, and none will come.
func (b *inbox) take() (e Event, ok, over bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if len(b.events) == 0 {
		return e, false, b.ended
	}
	e = b.events[0]
	b.events = append(b.events[:0], b.events[1:]...)
	return e, true, false
}

// newest returns the newest event, and drops the others.
func (b *inbox) newest() (e Event, ok bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := len(b.events)
	if n == 0 {
		return e, false
	}
	e = b.events[n-1]
	for range n - 1 {
		b.dropped()
	}
	b.events = b.events[:0]
	return e, true
}

// over says that there is nothing, and nothing will come.
func (b *inbox) over() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.ended && len(b.events) == 0
}
