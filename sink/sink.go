// Package sink writes batches of one record kind to a storage backend, with
// metrics and a time limit.
//
// It is the entrance for data that comes in batches already. A sink retries
// nothing and queues nothing: a batch is stored whole or not at all, and the
// error says whether sending it again may help ([mds.Retryable]).
package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/marketdatastore/mds"
)

// Writer upserts a batch in one transaction, all or none. It must be safe for
// concurrent use and must not keep or change records. Every table of a
// [github.com/marketdatastore/mds/store.Store] is one.
type Writer[R any] interface {
	WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error)
}

// Config configures a [Sink]. The zero value is usable.
type Config struct {
	// Name is the sink label on metrics. Defaults to the kind, such as "bars".
	Name string

	// WriteTimeout bounds one batch write. Defaults to 35 seconds.
	WriteTimeout time.Duration

	// Metrics is shared by the sinks of a process. Nil exports nothing.
	Metrics *Metrics
}

// BatchError reports a batch of which no record was stored.
type BatchError struct {
	Sink    string
	Records int
	Err     error
}

func (e *BatchError) Error() string {
	return fmt.Sprintf("sink %s: batch of %d records: %v", e.Sink, e.Records, e.Err)
}

func (e *BatchError) Unwrap() error { return e.Err }

// Sink writes batches of R. It is safe for concurrent use.
type Sink[R mds.Record[R]] struct {
	writer  Writer[R]
	cfg     Config
	metrics *sinkMetrics
}

// New returns a sink over a writer.
func New[R mds.Record[R]](writer Writer[R], cfg Config) *Sink[R] {
	if cfg.Name == "" {
		cfg.Name = mds.SchemaOf[R]().Kind
	}
	if cfg.WriteTimeout <= 0 {
		cfg.WriteTimeout = 35 * time.Second
	}
	return &Sink[R]{writer: writer, cfg: cfg, metrics: cfg.Metrics.forSink(cfg.Name)}
}

// WriteBatch stores all records for a tenant, or none of them and returns a
// [*BatchError]. An empty batch is no write. It makes a Sink a [Writer].
func (s *Sink[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	if len(records) == 0 {
		return mds.Receipt{}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, s.cfg.WriteTimeout)
	defer cancel()

	start := time.Now()
	receipt, err := s.writer.WriteBatch(ctx, tenant, records)
	s.metrics.observe(time.Since(start), err)
	if err != nil {
		return mds.Receipt{}, &BatchError{Sink: s.cfg.Name, Records: len(records), Err: err}
	}
	return receipt, nil
}

// For binds the sink to a tenant.
func (s *Sink[R]) For(tenant mds.Tenant) Bound[R] {
	return Bound[R]{sink: s, tenant: tenant}
}

// Bound is a sink for one tenant.
type Bound[R mds.Record[R]] struct {
	sink   *Sink[R]
	tenant mds.Tenant
}

// Write stores all records, or none of them and returns a [*BatchError].
func (b Bound[R]) Write(ctx context.Context, records []R) (mds.Receipt, error) {
	return b.sink.WriteBatch(ctx, b.tenant, records)
}
