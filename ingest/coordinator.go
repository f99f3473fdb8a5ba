package ingest

import (
	"context"
	"fmt"
	"math"
	"sync"
	"time"

	"golang.org/x/time/rate"

	"github.com/marketdatastore/mds"
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
	circuit *circuit
	routes  sync.Pool // of *routes[R]
	waiters sync.Pool // of *waiter

	writes context.Context // what workers write within; ended by a Stop whose time is up
	giveUp context.CancelFunc
	done   chan struct{} // closed when all workers have ended

	mu       sync.Mutex
	work     sync.Cond // workers wait for offers
	tenants  map[string]*tenant[R]
	offers   []*tenant[R] // those with a chunk to be written, in turn
	records  room
	bytes    room
	inFlight load
	round    []*tenant[R] // those that have submits waiting for room, in turn
	opening  []*chunk[R]  // in the order in which they were begun, for their age
	timer    *time.Timer
	spare    [][]R // buffers to be used again
	submits  uint64
	alive    int // workers
	counts   counts
	stopping bool
	over     bool         // Stop has named what is unwritten
	held     []*batch[R]  // by workers
	left     []remains[R] // what workers could not write before Stop's time was up
	result   error        // of Stop
	blocked  error        // why dead letters cannot be kept
}

// counts are what the coordinator has done, beside the ledger.
type counts struct {
	batches, retries, failures int64
}

// New returns a coordinator over a writer, with its workers waiting. Its error names every
// fault of cfg. Writes see the values of ctx, not its end: Stop ends them.
func New[R mds.Record[R]](ctx context.Context, writer Writer[R], cfg Config[R]) (*Coordinator[R], error) {
	schema := mds.SchemaOf[R]()
	cfg = cfg.withDefaults(schema.Kind)
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("coordinator %s: %w", cfg.ID, err)
	}
	c := &Coordinator[R]{
		writer:  writer,
		cfg:     cfg,
		schema:  schema,
		router:  newRouter(schema, cfg.Lanes),
		done:    make(chan struct{}),
		tenants: make(map[string]*tenant[R]),
		records: room{capacity: int64(cfg.Capacity)},
		bytes:   room{capacity: cfg.CapacityBytes},
		alive:   cfg.Workers,
	}
	c.work.L = &c.mu
	c.waiters.New = func() any { return &waiter{turn: make(chan error, 1)} }
	c.routes.New = func() any { return newRoutes[R](cfg.Lanes) }
	c.circuit = &circuit{cfg: cfg.Circuit, changed: c.circuitChanged}
	c.writes, c.giveUp = context.WithCancel(context.WithoutCancel(ctx)) //nolint:gosec // Stop calls it
	for range cfg.Workers {
		go c.worker()
	}
	cfg.Metrics.add(c)
	return c, nil
}

// Handle is a coordinator for one tenant.
type Handle[R mds.Record[R]] struct {
	c *Coordinator[R]
	t *tenant[R]
}

// For binds the coordinator to a tenant. It keeps some hundred bytes for each tenant that
// it was ever asked for.
func (c *Coordinator[R]) For(t mds.Tenant) *Handle[R] {
	c.mu.Lock()
	defer c.mu.Unlock()
	q, ok := c.tenants[t.ID]
	if !ok {
		q = &tenant[R]{Tenant: t, lanes: make([]*lane[R], c.cfg.Lanes)}
		for i := range q.lanes {
			q.lanes[i] = &lane[R]{}
		}
		if c.cfg.Rate != nil {
			if perSecond := c.cfg.Rate(t); perSecond > 0 {
				q.limiter = rate.NewLimiter(rate.Limit(perSecond), max(1, int(math.Ceil(perSecond))))
			}
		}
		c.records.join(func(yield func(int64) bool) { c.eachUsed(yield, func(l load) int64 { return l.records }) })
		c.bytes.join(func(yield func(int64) bool) { c.eachUsed(yield, func(l load) int64 { return l.bytes }) })
		c.tenants[t.ID] = q
	}
	return &Handle[R]{c: c, t: q}
}

func (c *Coordinator[R]) eachUsed(yield func(int64) bool, of func(load) int64) {
	for _, t := range c.tenants {
		if !yield(of(t.used)) {
			return
		}
	}
}
