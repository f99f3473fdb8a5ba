package ingest

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
)

// Coordinator stands between producers and a writer. It promises, of all records that it
// accepts:
//
//   - Each is accounted for: written, unchanged, superseded, dead-lettered, dropped or
//     pending, and after Stop unwritten. See [Ledger].
//   - Those of one series are written in the order of their submits, whatever the number
//     of workers, and whatever fails: of two with the same key the later wins. Submits
//     that run at the same time have no order.
//   - Queued and being written are never more than Capacity and CapacityBytes.
//   - A record that no write takes costs that record: its neighbours are stored.
//   - While the backend is not well they wait, for as long as it takes.
//
// A record is in memory only until its [Receipt] says that it is committed: what the
// process loses with its life was never acknowledged.
//
// It is safe for concurrent use. Stop it when done.
type Coordinator[R mds.Record[R]] struct {
	writer  Writer[R]
	cfg     Config[R]
	schema  mds.Schema[R]
	router  *router[R]
	routes  sync.Pool // of *routes[R]
	waiters sync.Pool // of *waiter

	writes  context.Context // what workers write within; ended by a Stop whose time is up
	giveUp  context.CancelFunc
	refuses chan struct{} // closed when submits are refused
	done    chan struct{} // closed when all workers have ended
	bus     *feedback.Bus
	noticed chan struct{} // has the level be looked at
	quit    chan struct{} // closed when Stop has named what is unwritten

	mu        sync.Mutex
	work      sync.Cond // workers wait for offers, and for what is parked
	circuit   circuit   // of the backend
	tenants   map[string]*tenant[R]
	offers    fifo[*tenant[R]] // those with a chunk to be written, in turn
	running   []*job[R]        // those that workers have
	parked    []*job[R]        // those that wait for their next attempt
	idle      []*job[R]        // to be used again
	wake      *time.Timer      // when one of the parked may go on
	records   room
	bytes     room
	inFlight  load             // of all jobs
	round     fifo[*tenant[R]] // those that have submits waiting for room, in turn
	elder     *waiter          // that has waited long, while others were let in
	opening   fifo[*chunk[R]]  // in the order in which they were begun, for their age
	timer     *time.Timer
	spare     [][]R // buffers to be used again
	submits   uint64
	alive     int // workers
	counts    counts
	stopping  bool
	band      band    // the level
	told      Level   // that was published
	perSecond float64 // records of one write, roughly
	over      bool    // Stop has named what is unwritten
	result    error   // of Stop
}

// counts are what the coordinator has done, beside the ledger.
type counts struct {
	writes, retries, failures int64
}

// New returns a coordinator over a writer, with its workers waiting. Its error names every
// fault of cfg. Writes see the values of ctx, not its end: Stop ends them.
func New[R mds.Record[R]](ctx context.Context, writer Writer[R], cfg Config[R]) (*Coordinator[R], error) {
	schema := mds.SchemaOf[R]()
	cfg = cfg.withDefaults(schema.Kind)
	err := cfg.validate()
	if writer == nil {
		err = errors.Join(errors.New("there is no writer"), err)
	}
	if err != nil {
		return nil, fmt.Errorf("coordinator %s: %w", cfg.ID, err)
	}
	c := &Coordinator[R]{
		writer:  writer,
		cfg:     cfg,
		schema:  schema,
		router:  newRouter(schema, cfg.Lanes),
		refuses: make(chan struct{}),
		done:    make(chan struct{}),
		bus:     feedback.NewBus(cfg.FeedbackMetrics),
		noticed: make(chan struct{}, 1),
		quit:    make(chan struct{}),
		told:    LevelOK,
		tenants: make(map[string]*tenant[R]),
		records: room{capacity: int64(cfg.Capacity)},
		bytes:   room{capacity: cfg.CapacityBytes},
		alive:   cfg.Workers,
	}
	c.work.L = &c.mu
	c.circuit.cfg = &c.cfg.Circuit
	c.waiters.New = func() any { return &waiter{turn: make(chan error, 1)} }
	c.routes.New = func() any { return newRoutes[R](cfg.Lanes) }
	c.writes, c.giveUp = context.WithCancel(context.WithoutCancel(ctx))
	c.band = c.bandOf(LevelOK)
	if err := cfg.Metrics.add(cfg.ID, c); err != nil {
		c.giveUp()
		return nil, err
	}
	for range cfg.Workers {
		go c.worker()
	}
	go c.monitor()
	return c, nil
}

// Handle is a coordinator for one tenant.
type Handle[R mds.Record[R]] struct {
	c    *Coordinator[R]
	t    *tenant[R]
	term int
}

// For binds the coordinator to a tenant. It keeps some hundred bytes, and some for each
// lane, of each tenant that it was ever asked for.
func (c *Coordinator[R]) For(t mds.Tenant) *Handle[R] {
	var limit *Quota
	if c.cfg.Rate != nil {
		if perSecond := c.cfg.Rate(t); perSecond > 0 {
			limit = NewQuota(perSecond, time.Now())
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	q, ok := c.tenants[t.ID]
	if !ok {
		q = &tenant[R]{Tenant: t, lanes: make([]*lane[R], c.cfg.Lanes), quota: limit, circuit: circuit{cfg: &c.cfg.Circuit}}
		for i := range q.lanes {
			q.lanes[i] = &lane[R]{}
		}
		c.tenants[t.ID] = q
	}
	return &Handle[R]{c: c, t: q, term: q.term}
}

// join gives a tenant its share, at its first submit.
func (c *Coordinator[R]) join(t *tenant[R]) {
	if t.joined {
		return
	}
	t.joined = true
	c.records.join(func(yield func(int64) bool) { c.eachUsed(t, yield, func(l load) int64 { return l.records }) })
	c.bytes.join(func(yield func(int64) bool) { c.eachUsed(t, yield, func(l load) int64 { return l.bytes }) })
}

// eachUsed yields what each tenant uses that has a share, but one.
func (c *Coordinator[R]) eachUsed(but *tenant[R], yield func(int64) bool, of func(load) int64) {
	for _, t := range c.tenants {
		if t.joined && t != but && !yield(of(t.used)) {
			return
		}
	}
}
