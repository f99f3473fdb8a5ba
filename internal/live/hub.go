// Package live hands records that were committed to those who listen, as they come. A record
// is encoded once, however many want it. Handing over waits for nobody: who is slow loses the
// oldest, counted, and is told so.
package live

import (
	"cmp"
	"crypto/rand"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
)

// Config configures a [Hub]. The zero value is usable.
type Config struct {
	// Pace is how long records are gathered while they keep coming; the first after a pause
	// is handed over at once. Defaults to 25 ms.
	Pace time.Duration
	// Buffer is how many bytes of encoded records wait for one subscriber. Defaults to
	// 16 MiB, some 100,000 bars.
	Buffer int
	// Total is how many bytes wait for all of them together, each counted once, before a
	// subscriber gets no more than Scarce. Default to 128 MiB and 256 KiB.
	Total, Scarce int
	// Queue is how many bytes of records of a kind wait to be encoded. Defaults to 64 MiB.
	Queue int
}

// Form is how records are written.
type Form int

const (
	// Events are server-sent events named after the kind, whose data has a record a line.
	Events Form = iota
	// Lines are NDJSON.
	Lines
)

// Gap says that a subscriber missed records.
type Gap struct {
	// Reason is Slow, Overload, Away or Restarted.
	Reason string `json:"reason"`
	// Lost is how many records were missed, at least.
	Lost int64 `json:"lost"`
	// AtMost is how many were missed at most; nil where nobody knows.
	AtMost *int64 `json:"at_most,omitempty"`
}

// Why records are missed.
const (
	// Slow is a subscriber that does not read as fast as records come.
	Slow = "slow"
	// Overload is records that came faster than they are encoded.
	Overload = "overload"
	// Away is a subscriber that was not connected.
	Away = "away"
	// Restarted is one that was not connected when the server was started again.
	Restarted = "restarted"
)

// Stats are a hub's figures.
type Stats struct {
	Subscribers int64
	// Encoded records, each counted once; Sent are those that subscribers took.
	Encoded, Sent int64
	// LostSlow and LostOverload are records that subscribers missed; the second at most.
	LostSlow, LostOverload int64
	// Bytes wait for subscribers, each counted once.
	Bytes int64
}

// Hub has the subscribers of all kinds. Close it when done.
type Hub struct {
	cfg    Config
	epoch  string // positions are those of this hub alone
	closed chan struct{}
	once   sync.Once
	feeds  sync.WaitGroup

	subscribers, encoded, sent, slow, overload, held atomic.Int64
}

// New returns a hub without feeds.
func New(cfg Config) *Hub {
	cfg.Pace = cmp.Or(cfg.Pace, 25*time.Millisecond)
	cfg.Buffer = cmp.Or(cfg.Buffer, 16<<20)
	cfg.Total, cfg.Scarce = cmp.Or(cfg.Total, 128<<20), cmp.Or(cfg.Scarce, 256<<10)
	cfg.Queue = cmp.Or(cfg.Queue, 64<<20)
	return &Hub{cfg: cfg, epoch: strings.ToLower(rand.Text()[:12]), closed: make(chan struct{})}
}

// Close ends the feeds: what is published from then on reaches nobody. It is idempotent.
func (h *Hub) Close() {
	h.once.Do(func() { close(h.closed) })
	h.feeds.Wait()
}

// Stats are the figures of the moment.
func (h *Hub) Stats() Stats {
	return Stats{
		Subscribers: h.subscribers.Load(), Encoded: h.encoded.Load(), Sent: h.sent.Load(),
		LostSlow: h.slow.Load(), LostOverload: h.overload.Load(), Bytes: h.held.Load(),
	}
}

// limit is how many bytes may wait for one subscriber.
func (h *Hub) limit() int {
	if h.held.Load() > int64(h.cfg.Total) {
		return min(h.cfg.Scarce, h.cfg.Buffer)
	}
	return h.cfg.Buffer
}

// Pick is a kind, and which records of it are wanted.
type Pick struct {
	kind string
	// join has a subscriber listen, as its kind number n, and returns the position from
	// which on it hears all.
	join func(s *Subscription, n int) int64
	// leave ends that, and passed is the position up to which all was handed over.
	leave  func(*Subscription)
	passed func(mds.Tenant) int64
	// flush has all be handed over that was published before.
	flush func()
}

// Subscribe listens to what is committed from now on. last is the ID of the last event that
// the subscriber has of an earlier subscription to the same, "" for none: what it missed
// since comes as a [Gap], since nothing is kept. Close the subscription when done.
func (h *Hub) Subscribe(tenant mds.Tenant, form Form, last string, picks ...Pick) *Subscription {
	s := &Subscription{hub: h, tenant: tenant, form: form, picks: picks, at: make([]int64, len(picks)), gone: make([]int64, len(picks)), wake: make(chan struct{}, 1)}
	h.subscribers.Add(1)
	from := make([]int64, len(picks))
	for n, p := range picks {
		from[n] = p.join(s, n)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for n := range from {
		s.at[n] = max(s.at[n], from[n])
	}
	if last != "" {
		s.missed(last, from)
	}
	return s
}

// missed notes what was committed since an event. It is called with the lock.
func (s *Subscription) missed(last string, from []int64) {
	parts := strings.Split(last, "-")
	unknown := parts[0] != s.hub.epoch || len(parts) != len(from)+1
	var n int64
	for i := 0; i < len(from) && !unknown; i++ {
		at, err := strconv.ParseInt(parts[i+1], 10, 64)
		unknown = err != nil || at < 0 || at > from[i]
		n += from[i] - at
	}
	switch {
	case unknown:
		s.away = &Gap{Reason: Restarted}
	case n > 0:
		s.away = &Gap{Reason: Away, AtMost: &n}
	}
	s.signal()
}

// id is that of an event after which a subscriber has all up to some positions.
func (h *Hub) id(at []int64) string {
	b := append(make([]byte, 0, 32), h.epoch...)
	for _, n := range at {
		b = strconv.AppendInt(append(b, '-'), n, 10)
	}
	return string(b)
}

// Close ends the subscription. It is idempotent.
func (s *Subscription) Close() {
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return
	}
	s.closed = true
	for _, f := range s.frames {
		f.release(s.hub)
	}
	s.frames, s.bytes = nil, 0
	s.mu.Unlock()
	for _, p := range slices.Backward(s.picks) {
		p.leave(s)
	}
	s.hub.subscribers.Add(-1)
}
