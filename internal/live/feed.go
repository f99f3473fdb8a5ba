package live

import (
	"bytes"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/internal/batches"
)

// frameBytes is about how much a frame has: one event.
const frameBytes = 64 << 10

// Feed hands over the records of one kind.
type Feed[R mds.Record[R]] struct {
	hub    *Hub
	schema mds.Schema[R]
	symbol *mds.Column[R]
	key    []*mds.Column[R]
	size   func(*R) int
	plain  bool
	wake   chan struct{}
	flush  chan chan struct{} // has what waits be handed over at once

	changing sync.Mutex // who subscribes
	members  map[string][]member[R]

	mu      sync.Mutex
	tenants map[string]*tenant[R]
	queue   []batch[R]
	bytes   int   // of the queue
	spare   [][]R // memory to be used again

	// What follows is the encoder's.
	number int64
	hits   []*topic[R]
	line   []byte
}

// tenant is what a feed knows of one. Positions count its records since the hub began.
type tenant[R any] struct {
	index     *index[R] // nil while nobody listens
	committed int64
	passed    atomic.Int64 // all up to here was handed over
}

// batch is records that were committed together, or those that anybody may want.
type batch[R any] struct {
	tenant     *tenant[R]
	index      *index[R]
	records    []R
	bytes      int
	begin, end int64
	superseded bool // by one with the same key
}

// NewFeed adds the feed of a kind to a hub.
func NewFeed[R mds.Record[R]](h *Hub) *Feed[R] {
	f := &Feed[R]{
		hub: h, schema: mds.SchemaOf[R](), wake: make(chan struct{}, 1), flush: make(chan chan struct{}),
		members: make(map[string][]member[R]), tenants: make(map[string]*tenant[R]),
	}
	f.symbol, f.size, f.plain = f.schema.SymbolColumn(), f.schema.Sizer(), f.schema.Plain()
	if f.key = f.schema.ByRole(mds.Identity, mds.Key, mds.Revision); !f.schema.TimeIsValue {
		f.key = append(f.key, f.schema.TimeColumn())
	}
	h.feeds.Go(f.run)
	return f
}

// Publish takes in records that a write has put on the disk, in its own copy, and waits for
// nobody. It is what [ingest.Config.Committed] asks for.
func (f *Feed[R]) Publish(t mds.Tenant, records []R, receipt mds.Receipt) {
	f.mu.Lock()
	q := f.of(t)
	x := q.index
	if x == nil {
		q.committed += int64(len(records))
		q.passed.Store(q.committed)
		f.mu.Unlock()
		return
	}
	memory := f.memory()
	f.mu.Unlock()

	b := batch[R]{tenant: q, index: x, superseded: receipt.Superseded > 0}
	b.records = f.pick(memory, x, records)
	f.mu.Lock()
	defer f.mu.Unlock()
	if q.index != x { // somebody came meanwhile, and hears all that is committed from now on
		b.index = q.index
		b.records = f.pick(b.records[:0], q.index, records)
	}
	b.bytes = f.weigh(b.records)
	b.begin, b.end = q.committed, q.committed+int64(len(records))
	q.committed = b.end
	f.queue = append(f.queue, b)
	f.bytes += b.bytes
	f.shed()
	select {
	case f.wake <- struct{}{}:
	default:
	}
}

// of is a tenant. It is called with the lock.
func (f *Feed[R]) of(t mds.Tenant) *tenant[R] {
	q := f.tenants[t.ID]
	if q == nil {
		q = &tenant[R]{}
		f.tenants[t.ID] = q
	}
	return q
}

// pick copies the records of which some subscriber may want one: all where one has no
// symbols, or where a later record of a key may have others.
func (f *Feed[R]) pick(memory []R, x *index[R], records []R) []R {
	switch {
	case x == nil:
		return memory
	case len(x.any) > 0 || f.symbol.Text == nil || f.symbol.Role != mds.Identity:
		return append(memory, records...)
	}
	for i := range records {
		if _, wanted := x.bySymbol[mds.NormalizeSymbol(*f.symbol.Text(&records[i]))]; wanted {
			memory = append(memory, records[i])
		}
	}
	return memory
}

// weigh is the memory that records take, roughly.
func (f *Feed[R]) weigh(records []R) (n int) {
	if f.plain && len(records) > 0 {
		return len(records) * f.size(&records[0])
	}
	for i := range records {
		n += f.size(&records[i])
	}
	return n
}

// shed lets go of the oldest batches where more wait than may. It is called with the lock.
func (f *Feed[R]) shed() {
	n := 0
	for ; f.bytes > f.hub.cfg.Queue && n < len(f.queue)-1; n++ {
		b := &f.queue[n]
		f.bytes -= b.bytes
		if len(b.records) > 0 {
			for _, t := range b.index.topics {
				for _, l := range t.listeners {
					l.miss(int64(len(b.records)))
				}
			}
		}
		f.recycle(b.records)
	}
	f.queue = slices.Delete(f.queue, 0, n)
}

// memory is some to copy records to. It is called with the lock.
func (f *Feed[R]) memory() []R {
	if last := len(f.spare) - 1; last >= 0 {
		m := f.spare[last]
		f.spare = f.spare[:last]
		return m
	}
	return nil
}

// recycle keeps memory to be used again, of a few batches. It is called with the lock.
func (f *Feed[R]) recycle(memory []R) {
	const few = 4
	if !f.plain {
		clear(memory) // it holds on to texts
	}
	if len(f.spare) < few && cap(memory) > 0 {
		f.spare = append(f.spare, memory[:0])
	}
}

// run encodes what comes until the hub is closed.
func (f *Feed[R]) run() {
	pause := time.NewTimer(f.hub.cfg.Pace)
	defer pause.Stop()
	wake := f.wake
	for {
		select {
		case <-wake:
			f.round()
			wake = nil // more is gathered meanwhile
			pause.Reset(f.hub.cfg.Pace)
		case <-pause.C:
			wake = f.wake
		case done := <-f.flush:
			f.round()
			close(done)
		case <-f.hub.closed:
			return
		}
	}
}

// round hands over all that waits.
func (f *Feed[R]) round() {
	f.mu.Lock()
	waiting := f.queue
	f.queue, f.bytes = nil, 0
	f.mu.Unlock()
	last := make(map[*tenant[R]]*batch[R])
	for i := range waiting {
		b := &waiting[i]
		if before := last[b.tenant]; before != nil && before.index != b.index {
			f.finish(before)
		}
		last[b.tenant] = b
		f.encode(b)
	}
	for _, b := range last {
		f.finish(b)
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for i := range waiting {
		f.recycle(waiting[i].records)
	}
}

// encode adds the records of a batch to the topics that want them.
func (f *Feed[R]) encode(b *batch[R]) {
	if b.index == nil {
		return
	}
	for i := range b.records {
		f.schema.Normalize(&b.records[i])
	}
	records := b.records
	if b.superseded {
		records = f.newest(records)
	}
	encoded := int64(0)
	for i := range records {
		r := &records[i]
		f.number++
		f.hits = b.index.find(f.hits[:0], r, f.number)
		if len(f.hits) == 0 {
			continue
		}
		encoded++
		f.line = codec.AppendObject(append(f.line[:0], dataField...), &f.schema, r)
		f.line = append(f.line, '\n')
		for _, t := range f.hits {
			f.add(t, b.begin)
		}
	}
	f.hub.encoded.Add(encoded)
}

// dataField begins a line of data of an event.
const dataField = "data: "

// add adds the line to a topic. at is the position that all before its batch end at.
func (f *Feed[R]) add(t *topic[R], at int64) {
	line := f.line
	if t.form == Lines {
		line = line[len(dataField):]
	}
	if len(t.open)+len(line) > frameBytes {
		f.cut(t, at)
	}
	if len(t.open) == 0 && t.form == Events {
		t.open = append(append(append(t.open, "event: "...), f.schema.Kind...), '\n')
	}
	t.open = append(t.open, line...)
	t.records++
}

// cut makes a frame of what a topic has, and puts it in line.
func (f *Feed[R]) cut(t *topic[R], at int64) {
	if t.records == 0 {
		return
	}
	made := &frame{data: bytes.Clone(t.open), records: t.records, at: at}
	made.waiting.Store(int32(len(t.listeners)))
	f.hub.held.Add(int64(len(made.data)))
	t.open, t.records = t.open[:0], 0
	for _, l := range t.listeners {
		l.push(made, l.kind)
	}
}

// finish hands over what the topics of a batch's index have, and notes that all up to its
// end was.
func (f *Feed[R]) finish(b *batch[R]) {
	if b.index != nil {
		for _, t := range b.index.topics {
			f.cut(t, b.end)
		}
	}
	b.tenant.passed.Store(b.end)
}

// newest leaves out the records that are followed by one with the same key.
func (f *Feed[R]) newest(records []R) []R {
	last := make(map[string]int, len(records))
	var key []byte
	for i := range records {
		key = batches.AppendKey(key[:0], f.key, &records[i])
		last[string(key)] = i
	}
	kept := records[:0]
	for i := range records {
		if key = batches.AppendKey(key[:0], f.key, &records[i]); last[string(key)] == i {
			kept = append(kept, records[i])
		}
	}
	return kept
}

// Pick picks the records that meet conditions, of [mds.Schema.Conditions].
func (f *Feed[R]) Pick(conditions []mds.Condition[R]) Pick {
	key := [2]string{keyOf(Events, conditions), keyOf(Lines, conditions)}
	return Pick{
		kind: f.schema.Kind,
		join: func(s *Subscription, n int) int64 {
			m := member[R]{listener: listener{s, n}, key: key[s.form], conditions: conditions}
			return f.change(s.tenant, func(members []member[R]) []member[R] { return append(members, m) })
		},
		leave: func(s *Subscription) {
			f.change(s.tenant, func(members []member[R]) []member[R] {
				return slices.DeleteFunc(members, func(m member[R]) bool { return m.Subscription == s })
			})
		},
		flush: func() {
			done := make(chan struct{})
			select {
			case f.flush <- done:
				<-done
			case <-f.hub.closed:
			}
		},
		passed: func(t mds.Tenant) int64 {
			f.mu.Lock()
			q := f.of(t)
			f.mu.Unlock()
			return q.passed.Load()
		},
	}
}

// change has other subscribers listen, from the position on that it returns.
func (f *Feed[R]) change(t mds.Tenant, to func([]member[R]) []member[R]) int64 {
	f.changing.Lock()
	defer f.changing.Unlock()
	members := to(f.members[t.ID])
	if f.members[t.ID] = members; len(members) == 0 {
		delete(f.members, t.ID)
	}
	x := newIndex(f.symbol, members)
	f.mu.Lock()
	defer f.mu.Unlock()
	q := f.of(t)
	q.index = x
	return q.committed
}
