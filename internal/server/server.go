// Package server serves a store over HTTP: records in and out, what producers are told, and
// how the server is.
package server

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"slices"
	"sync"
	"time"

	"github.com/danielgtaylor/huma/v2"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/semaphore"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/audit"
	"github.com/marketdatastore/mds/internal/jobs"
	"github.com/marketdatastore/mds/internal/live"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

// Config configures a [Server].
type Config struct {
	// Store is what is served. It is closed by whoever opened it, after Stop. Required.
	Store *store.Store
	// Kinds are served, in this order. Required.
	Kinds []Kind
	// Ingest configures the coordinator of each kind; what it says of IDs, overflow, dead
	// letters, dropped records and metrics is not used.
	Ingest ingest.Config[any]
	// Letters keeps records that the store refuses for good. Nil drops them, counted.
	Letters *dlq.Folder
	// Version is the program's.
	Version string
	// Metrics are registered there. Defaults to a registry of the server's own.
	Metrics *prometheus.Registry
	// Logger receives requests that failed, and what the server does. Defaults to
	// discarding it.
	Logger *slog.Logger
	// Audit receives control actions, before and after they are done; those that it cannot
	// receive are not done. Nil has them be logged.
	Audit *audit.Log
	// Webhook says where the feedback of each kind is posted. Nil posts none.
	Webhook *feedback.WebhookConfig

	// Keys checks the keys of requests, which are then about the key's tenant. Nil asks for
	// none.
	Keys *apikey.Authenticator
	// Tenant is whose records are served where no keys are asked for and a request does not
	// say it. Defaults to the default one.
	Tenant string
	// Hosts are the names that the Host header of a request may have, without ports, where
	// no keys are asked for: a page of another name must not reach a server on its
	// reader's machine. None allows all.
	Hosts []string

	// Origins are the origins of pages in a browser that may use the server, as
	// https://notebook.example.com, or * for all where keys are asked for. None may by
	// default.
	Origins []string
	// RequestRate is how many requests a second are answered to a tenant, which may make a
	// second's worth at once; 0 is no limit. Nil limits none.
	RequestRate func(mds.Tenant) float64
	// SQL runs the statements of /v1/sql, which is not served where it is nil. It is closed by
	// whoever opened it.
	SQL store.SQL
	// SQLTimeout bounds a statement, its answer included. Defaults to 30 seconds.
	SQLTimeout time.Duration
	// SQLMaxRows is how many rows the answer to a statement has at most. Defaults to a million.
	SQLMaxRows int
	// Jobs has the server keep and run jobs; nil has it do neither.
	Jobs *JobsConfig
	// Control says what may be done through the server to the store itself.
	Control ControlConfig

	// IdleTimeout is how long a body may bring nothing. Defaults to one minute.
	IdleTimeout time.Duration
	// CommitTimeout is how long a request waits for its records to be on the store's disk.
	// Defaults to one minute.
	CommitTimeout time.Duration
	// QueryTimeout bounds a query, its answer included. Defaults to 10 minutes.
	QueryTimeout time.Duration
	// WriteTimeout is how long a client may keep an answer from being written, by not
	// reading. Defaults to 30 seconds.
	WriteTimeout time.Duration
	// Heartbeat is how often a live stream gives a sign of life, and its key is looked at
	// again. Defaults to 5 seconds.
	Heartbeat time.Duration
	// MaxIngests, MaxQueries and MaxStreams are how many bodies, queries and streams are
	// under way at once, of feedback and of records each; more are refused. Default to 512,
	// 128 and 1,024.
	MaxIngests, MaxQueries, MaxStreams int
	// MaxBodyBytes is how large a body may be, as it is sent; 0 is any size.
	MaxBodyBytes int64
	// BodyMemory is what reading the bodies under way may take of memory together, roughly:
	// 64 MiB at least. Defaults to 512 MiB.
	BodyMemory int64
}

func (c Config) withDefaults() Config {
	c.IdleTimeout = cmp.Or(c.IdleTimeout, time.Minute)
	c.CommitTimeout = cmp.Or(c.CommitTimeout, time.Minute)
	c.QueryTimeout = cmp.Or(c.QueryTimeout, 10*time.Minute)
	c.WriteTimeout = cmp.Or(c.WriteTimeout, 30*time.Second)
	c.Heartbeat = cmp.Or(c.Heartbeat, 5*time.Second)
	c.MaxIngests, c.MaxQueries, c.MaxStreams = cmp.Or(c.MaxIngests, 512), cmp.Or(c.MaxQueries, 128), cmp.Or(c.MaxStreams, 1024)
	c.BodyMemory = max(cmp.Or(c.BodyMemory, 512<<20), leastMemory)
	c.SQLTimeout, c.SQLMaxRows = cmp.Or(c.SQLTimeout, 30*time.Second), cmp.Or(c.SQLMaxRows, 1_000_000)
	c.Tenant = cmp.Or(c.Tenant, mds.DefaultTenant().Slug)
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// StoreMetrics registers the metrics of the store, which is to be opened with them.
func (c *Config) StoreMetrics() (*store.Metrics, error) {
	if c.Metrics == nil {
		c.Metrics = prometheus.NewRegistry()
	}
	return store.NewMetrics(c.Metrics)
}

// Server serves a store. Stop it when done.
type Server struct {
	cfg           Config
	background    context.Context // of what outlives requests
	mux           *http.ServeMux
	handler       http.Handler // of all requests
	document      *huma.OpenAPI
	schemaVersion int
	kinds         []*served
	sinks         *sink.Metrics
	metrics       *metrics
	jobMetrics    *jobs.Metrics
	tenants       *tenants
	paces         paces
	refusals      refusals // of control actions
	hooks         webhooks
	live          *live.Hub

	jobs             *jobs.Runner
	timers           sync.WaitGroup // of jobs that are made by themselves
	ingests, queries *gate
	streams          *gate               // of events
	follows          *gate               // of live records: who reads takes no place of who submits
	memory           *semaphore.Weighted // of bodies
	bodies           *shares             // places of those of tenants that have a rate
	bodyMemory       *shares             // and their memory, in bytes

	drain    chan struct{} // closed when nothing new is taken in
	ended    chan struct{} // closed when what is under way is no longer read
	drainOne sync.Once
	endOne   sync.Once
}

// New returns a server of a store that is open. Its coordinators see the values of ctx, not
// its end.
func New(ctx context.Context, cfg Config) (*Server, error) {
	s := &Server{cfg: cfg.withDefaults(), background: context.WithoutCancel(ctx), mux: http.NewServeMux(), drain: make(chan struct{}), ended: make(chan struct{})}
	if s.cfg.Keys == nil && slices.Contains(s.cfg.Origins, anyOrigin) {
		return nil, errAnyOrigin
	}
	var err error
	if s.handler, err = s.pages(s.mux); err != nil {
		return nil, err
	}
	s.document = newDocument(s.cfg.Version)
	s.ingests, s.queries = newGate("bodies", s.cfg.MaxIngests), newGate("queries", s.cfg.MaxQueries)
	s.streams, s.follows = newGate("streams of events", s.cfg.MaxStreams), newGate("live streams", s.cfg.MaxStreams)
	s.live = live.New(live.Config{})
	s.memory = semaphore.NewWeighted(s.cfg.BodyMemory)
	s.bodies, s.bodyMemory = newShares(int64(s.cfg.MaxIngests)), newShares(s.cfg.BodyMemory)
	s.paces = paces{rate: s.cfg.RequestRate, of: make(map[string]*ingest.Quota)}
	s.tenants = newTenants(s.cfg.Store)
	tenant, err := s.tenants.find(ctx, s.cfg.Tenant)
	if err != nil {
		return nil, err
	}
	if s.schemaVersion, err = s.cfg.Store.SchemaVersion(ctx, tenant); err != nil {
		return nil, err
	}
	if err := s.measure(); err != nil {
		return nil, err
	}
	for _, k := range s.cfg.Kinds {
		served, err := k.open(s)
		if err != nil {
			return nil, errors.Join(fmt.Errorf("%s: %w", k.name, err), s.stopKinds(ctx))
		}
		s.kinds = append(s.kinds, served)
	}
	if err := errors.Join(s.mount(), s.startWebhooks()); err != nil {
		return nil, errors.Join(err, s.stopKinds(ctx))
	}
	s.startJobs()
	return s, nil
}

// measure registers the metrics.
func (s *Server) measure() (err error) {
	reg := s.cfg.Metrics
	if s.metrics, err = newMetrics(reg); err != nil {
		return err
	}
	if err := measureLive(reg, s.live); err != nil {
		return err
	}
	if s.sinks, err = sink.NewMetrics(reg); err != nil {
		return err
	}
	if s.jobMetrics, err = jobs.NewMetrics(reg); err != nil {
		return err
	}
	if s.cfg.Ingest.Metrics, err = ingest.NewMetrics(reg); err != nil {
		return err
	}
	if s.cfg.Ingest.FeedbackMetrics, err = feedback.NewMetrics(reg); err != nil {
		return err
	}
	if s.cfg.Ingest.Logger == nil {
		s.cfg.Ingest.Logger = s.cfg.Logger
	}
	up := prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: "store_up", Help: "1 while the store answers, as of when it is asked for."}, func() float64 {
		if s.pinged(s.background).State == ingest.Healthy {
			return 1
		}
		return 0
	})
	return errors.Join(reg.Register(up), reg.Register(collectors.NewGoCollector()), reg.Register(collectors.NewProcessCollector(collectors.ProcessCollectorOpts{})))
}

// mount adds what is of no kind.
func (s *Server) mount() error {
	for _, o := range slices.Concat(s.stateOperations(), s.contentsOperations(), s.controlOperations(), s.jobOperations(), []operation{s.followOperation()}) {
		s.handle(o)
	}
	if s.cfg.SQL != nil {
		s.handle(s.sqlOperation())
	}
	s.mux.Handle("GET /metrics", s.plain(mds.ScopeMetrics, "/metrics", promhttp.HandlerFor(s.cfg.Metrics, promhttp.HandlerOpts{})))
	buses := make(map[string]*feedback.Bus)
	for _, k := range s.kinds {
		if k.bus == nil {
			continue
		}
		buses[k.name] = k.bus
		h, err := feedback.NewHandler(k.bus, feedback.HandlerConfig{Logger: s.cfg.Logger})
		if err != nil {
			return err
		}
		s.handleFeedback(k.name, h)
	}
	s.mountRPC(buses)
	return s.describe()
}

// draining reports that the server is being stopped.
func (s *Server) draining() bool {
	select {
	case <-s.drain:
		return true
	default:
		return false
	}
}

// until is a context that also ends when a channel is closed, with [ingest.ErrStopped] as its
// cause.
func until(ctx context.Context, closed <-chan struct{}) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancelCause(ctx)
	go func() {
		select {
		case <-closed:
			cancel(ingest.ErrStopped)
		case <-ctx.Done():
		}
	}()
	return ctx, func() { cancel(context.Canceled) }
}

// Drain has nothing new be taken in: the server is not ready any more, and streams of
// events and jobs end, which others go on with. What else is under way goes on.
func (s *Server) Drain() {
	s.drainOne.Do(func() {
		close(s.drain)
		if s.jobs != nil {
			s.jobs.End()
		}
	})
}

// EndIntake has bodies under way not be read any further: their requests are answered with
// what became of the records until then.
func (s *Server) EndIntake() {
	s.Drain()
	s.endOne.Do(func() { close(s.ended) })
}

// Stop has all that was taken in be written, until ctx ends; its error names what could
// not be. Call it after the listeners are closed.
func (s *Server) Stop(ctx context.Context) error {
	s.EndIntake()
	defer s.stopWebhooks()
	s.timers.Wait()
	if s.jobs != nil { // what they have handed over is written below
		ending, done := halfOf(ctx) // the rest is for what is taken in
		err := s.jobs.Stop(ending)
		done()
		if err != nil {
			s.cfg.Logger.Warn("the server is stopped without them", "error", err)
		}
	}
	return s.stopKinds(ctx)
}

// halfOf ends when half of the time of ctx is over, if it has any.
func halfOf(ctx context.Context) (context.Context, context.CancelFunc) {
	end, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, time.Until(end)/2)
}

// stopKinds stops the coordinators at the same time, and then what they publish to.
func (s *Server) stopKinds(ctx context.Context) error {
	errs := make([]error, len(s.kinds))
	var wg sync.WaitGroup
	for i, k := range s.kinds {
		if k.stop != nil {
			wg.Go(func() { errs[i] = k.stop(ctx) })
		}
	}
	wg.Wait()
	s.live.Close()
	return errors.Join(errs...)
}

// Ledgers are those of all kinds and tenants of which anything was taken in.
func (s *Server) Ledgers() []client.KindLedger {
	var list []client.KindLedger
	for _, k := range s.kinds {
		if k.ledgers == nil {
			continue
		}
		for _, l := range k.ledgers() {
			list = append(list, client.KindLedger{Kind: k.name, Tenant: l.Tenant.Slug, Ledger: l.Ledger})
		}
	}
	return list
}

// tenantLedgers are those of one tenant, of every kind.
func (s *Server) tenantLedgers(t mds.Tenant) []client.KindLedger {
	var list []client.KindLedger
	for _, k := range s.kinds {
		if k.ledgers == nil {
			continue
		}
		l := client.KindLedger{Kind: k.name, Tenant: t.Slug}
		all := k.ledgers()
		if i := slices.IndexFunc(all, func(l ingest.TenantLedger) bool { return l.Tenant.ID == t.ID }); i >= 0 {
			l.Ledger = all[i].Ledger
		}
		list = append(list, l)
	}
	return list
}
