package live

import (
	"sync"
	"sync/atomic"

	"github.com/marketdatastore/mds"
)

// frame is encoded records, for all who want the same.
type frame struct {
	data    []byte
	records int64
	at      int64 // the position after which they end, or before
	waiting atomic.Int32
}

// release notes that one subscriber less has it waiting.
func (f *frame) release(h *Hub) {
	if f.waiting.Add(-1) == 0 {
		h.held.Add(-int64(len(f.data)))
	}
}

// queued is a frame in the line of a subscriber, of one of its kinds.
type queued struct {
	*frame
	kind int
}

// Subscription is what waits for one subscriber.
type Subscription struct {
	hub    *Hub
	tenant mds.Tenant
	form   Form
	picks  []Pick
	wake   chan struct{}

	mu     sync.Mutex
	frames []queued
	bytes  int
	at     []int64 // by kind, where what was told ends
	gone   []int64 // and where what was lost ends, which is to be told
	away   *Gap    // to be told first
	slow   int64   // lost since it was told last
	unsure int64   // of those that were never encoded, at most
	closed bool
}

// Event is what a subscriber is to be told next: a gap, or records.
type Event struct {
	// ID is that of the event; see [Hub.Subscribe].
	ID string
	// Gap is what was missed before what follows.
	Gap *Gap
	// Data is one or more encoded records, shared with others: of [Events] lines that lack
	// the empty one at the end.
	Data []byte
}

// Wake has something when there may be events to be taken.
func (s *Subscription) Wake() <-chan struct{} { return s.wake }

func (s *Subscription) signal() {
	select {
	case s.wake <- struct{}{}:
	default:
	}
}

// Take appends what is to be told next, oldest first, some bytes of it but at least one
// event, and reports whether there may be more.
func (s *Subscription) Take(events []Event, bytes int) ([]Event, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for n, at := range s.gone {
		s.at[n] = max(s.at[n], at)
	}
	for _, g := range s.gaps() {
		events = append(events, Event{ID: s.hub.id(s.at), Gap: g})
	}
	n := 0
	for ; n < len(s.frames) && (n == 0 || bytes > 0); n++ {
		f := s.frames[n]
		bytes -= len(f.data)
		s.bytes -= len(f.data)
		s.at[f.kind] = max(s.at[f.kind], f.at)
		events = append(events, Event{ID: s.hub.id(s.at), Data: f.data})
		s.hub.sent.Add(f.records)
		f.release(s.hub)
		s.frames[n] = queued{}
	}
	s.frames = s.frames[n:]
	return events, len(s.frames) > 0
}

// Flush has all that was committed before be there to be taken, however little time has
// passed since.
func (s *Subscription) Flush() {
	for _, p := range s.picks {
		p.flush()
	}
}

// gaps are those that were not told yet. It is called with the lock.
func (s *Subscription) gaps() (list []*Gap) {
	if s.away != nil {
		list = append(list, s.away)
	}
	if s.slow > 0 {
		lost := s.slow
		list = append(list, &Gap{Reason: Slow, Lost: lost, AtMost: &lost})
	}
	if s.unsure > 0 {
		most := s.unsure
		list = append(list, &Gap{Reason: Overload, AtMost: &most})
	}
	s.away, s.slow, s.unsure = nil, 0, 0
	return list
}

// ID is that of a sign of life: the subscriber has all up to it.
func (s *Subscription) ID() string {
	passed := make([]int64, len(s.picks))
	for n, p := range s.picks {
		passed[n] = p.passed(s.tenant) // before it is seen that nothing waits
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.frames) == 0 && s.away == nil && s.slow == 0 && s.unsure == 0 {
		for n := range passed {
			s.at[n] = max(s.at[n], passed[n])
		}
	}
	return s.hub.id(s.at)
}

// push puts a frame in line, and lets go of the oldest where there are too many bytes.
func (s *Subscription) push(f *frame, kind int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		f.release(s.hub)
		return
	}
	s.frames = append(s.frames, queued{f, kind})
	s.bytes += len(f.data)
	n := 0
	for limit := s.hub.limit(); s.bytes > limit && n < len(s.frames)-1; n++ {
		old := s.frames[n]
		s.bytes -= len(old.data)
		s.gone[old.kind] = old.at
		s.slow += old.records
		s.hub.slow.Add(old.records)
		old.release(s.hub)
		s.frames[n] = queued{}
	}
	s.frames = s.frames[n:]
	s.signal()
}

// miss notes records that were not encoded, of which it might have wanted some.
func (s *Subscription) miss(n int64) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.closed {
		s.unsure += n
		s.hub.overload.Add(n)
		s.signal()
	}
}
