package sink

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the Prometheus metrics of the sinks of a process:
//
//	sink_writes_total{sink, status="success|failure"}   batches written
//	sink_write_latency_seconds{sink}                    duration of a batch write
//
// Empty batches are not counted. Both series of a sink are exported, at 0,
// from the moment the sink is made. A nil *Metrics exports nothing.
type Metrics struct {
	writes  *prometheus.CounterVec
	latency *prometheus.HistogramVec
}

// NewMetrics registers the metrics, or takes those that are registered there
// already. It fails when reg holds others under the same names.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		writes: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "sink_writes_total",
			Help: "Batches written, by sink and status (success or failure).",
		}, []string{"sink", "status"}),
		latency: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name:    "sink_write_latency_seconds",
			Help:    "Duration of a batch write in seconds, by sink.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s, the write timeout
		}, []string{"sink"}),
	}
	var err error
	if m.writes, err = register(reg, m.writes); err != nil {
		return nil, err
	}
	if m.latency, err = register(reg, m.latency); err != nil {
		return nil, err
	}
	return m, nil
}

func register[C prometheus.Collector](reg prometheus.Registerer, c C) (C, error) {
	err := reg.Register(c)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(C); ok {
			return existing, nil
		}
	}
	return c, err
}

// sinkMetrics are the metrics of one sink, looked up once.
type sinkMetrics struct {
	success, failure prometheus.Counter
	latency          prometheus.Observer
}

func (m *Metrics) forSink(name string) *sinkMetrics {
	if m == nil {
		return nil
	}
	return &sinkMetrics{
		success: m.writes.WithLabelValues(name, "success"),
		failure: m.writes.WithLabelValues(name, "failure"),
		latency: m.latency.WithLabelValues(name),
	}
}

func (m *sinkMetrics) observe(d time.Duration, err error) {
	if m == nil {
		return
	}
	m.latency.Observe(d.Seconds())
	if err != nil {
		m.failure.Inc()
	} else {
		m.success.Inc()
	}
}
