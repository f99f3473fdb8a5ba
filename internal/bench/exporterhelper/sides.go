package main

import (
	"context"
	"errors"
	"slices"
	"sync/atomic"
	"time"
	"unsafe"

	"go.opentelemetry.io/collector/component"
	"go.opentelemetry.io/collector/config/configoptional"
	"go.opentelemetry.io/collector/config/configretry"
	"go.opentelemetry.io/collector/exporter"
	"go.opentelemetry.io/collector/exporter/exporterhelper"
	"go.opentelemetry.io/collector/exporter/exporterhelper/xexporterhelper"
	"go.opentelemetry.io/collector/pdata/pcommon"
	"go.opentelemetry.io/collector/pdata/plog"
	metrics "go.opentelemetry.io/otel/metric/noop"
	traces "go.opentelemetry.io/otel/trace/noop"
	"go.uber.org/zap"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

// What both queues are given.
const (
	room    = 262_144 // records
	workers = 4
	batch   = 500 // records at least
	flush   = 250 * time.Millisecond
	limit   = time.Minute // of a write
)

// null takes everything.
type null struct{}

func (null) WriteBatch(_ context.Context, _ mds.Tenant, records []mds.Bar) (mds.Receipt, error) {
	return mds.Receipt{Written: int64(len(records))}, nil
}

// openOurs opens a coordinator, whose batches have no more records than most; 0 is its
// default.
func openOurs(most int) func(context.Context, [][]mds.Bar) (queue, error) {
	return func(ctx context.Context, parts [][]mds.Bar) (queue, error) {
		c, err := ingest.New(ctx, null{}, ingest.Config[mds.Bar]{
			Capacity: room, Workers: workers, BatchSize: batch, BatchMax: most, FlushInterval: flush, WriteTimeout: limit,
		})
		if err != nil {
			return queue{}, err
		}
		h := c.For(mds.DefaultTenant())
		return queue{
			submit: func(part int) error {
				_, err := h.Submit(ctx, parts[part]...)
				return err
			},
			stop: c.Stop,
			written: func() (records, batches int64) {
				s := c.Stats()
				return s.Written, s.Batches
			},
		}, nil
	}
}

// barsKey is the context's key of the bars that are submitted.
type barsKey struct{}

// openTheirs opens exporterhelper's queue.
func openTheirs(copied bool) func(context.Context, [][]mds.Bar) (queue, error) {
	return func(ctx context.Context, parts [][]mds.Bar) (queue, error) {
		contexts := make([]context.Context, len(parts))
		for i, part := range parts {
			contexts[i] = context.WithValue(ctx, barsKey{}, part)
		}
		convert := func(ctx context.Context, _ plog.Logs) (xexporterhelper.Request, error) {
			bars, ok := ctx.Value(barsKey{}).([]mds.Bar)
			if !ok {
				return nil, errors.New("a context without bars")
			}
			if copied {
				bars = slices.Clone(bars)
			}
			return &request{bars}, nil
		}
		var records, batches atomic.Int64
		take := func(_ context.Context, r xexporterhelper.Request) error {
			records.Add(int64(r.ItemsCount()))
			batches.Add(1)
			return nil
		}
		e, err := xexporterhelper.NewLogsRequest(ctx, exporter.Settings{
			ID: component.MustNewID("bench"),
			TelemetrySettings: component.TelemetrySettings{
				Logger: zap.NewNop(), TracerProvider: traces.NewTracerProvider(),
				MeterProvider: metrics.NewMeterProvider(), Resource: pcommon.NewResource(),
			},
		}, convert, take,
			exporterhelper.WithTimeout(exporterhelper.TimeoutConfig{Timeout: limit}),
			exporterhelper.WithRetry(configretry.NewDefaultBackOffConfig()),
			xexporterhelper.WithQueueBatch(configoptional.Some(config()), xexporterhelper.QueueBatchSettings{}))
		if err != nil {
			return queue{}, err
		}
		none := plog.NewLogs()
		return queue{
			submit:  func(part int) error { return e.ConsumeLogs(contexts[part], none) },
			stop:    e.Shutdown,
			written: func() (int64, int64) { return records.Load(), batches.Load() },
		}, e.Start(ctx, nil)
	}
}

func config() exporterhelper.QueueBatchConfig {
	batches := exporterhelper.NewDefaultBatchConfig()
	batches.MinSize, batches.FlushTimeout = batch, flush
	cfg := exporterhelper.NewDefaultQueueConfig()
	cfg.Sizer, cfg.QueueSize = exporterhelper.RequestSizerTypeItems, room
	cfg.NumConsumers, cfg.BlockOnOverflow = workers, true
	cfg.Batch = configoptional.Some(batches)
	return cfg
}

// request is bars on their way through exporterhelper.
type request struct{ bars []mds.Bar }

func (r *request) ItemsCount() int { return len(r.bars) }

// BytesSize is asked only where bytes are what bounds the queue.
func (r *request) BytesSize() int { return len(r.bars) * int(unsafe.Sizeof(mds.Bar{})) }

// MergeSplit appends other, which may be nil. The first time it makes room for a batch,
// so that bars are moved once; a slice that is a batch by itself is not moved at all.
func (r *request) MergeSplit(_ context.Context, _ int, _ exporterhelper.RequestSizerType, other xexporterhelper.Request) ([]xexporterhelper.Request, error) {
	if other, ok := other.(*request); ok {
		if cap(r.bars) < batch {
			r.bars = append(make([]mds.Bar, 0, batch), r.bars...)
		}
		r.bars = append(r.bars, other.bars...)
	}
	return []xexporterhelper.Request{r}, nil
}
