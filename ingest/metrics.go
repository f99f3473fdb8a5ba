package ingest

import (
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds"
)

// Metrics are the Prometheus metrics of the coordinators of a process. Of each, by
// coord_id:
//
//	mds_coord_items_submitted_total              records accepted
//	mds_coord_items_dropped_total{reason}        overflow, undeliverable
//	mds_coord_items_settled_total{outcome}       written, unchanged, superseded, dead_lettered, dropped
//	mds_coord_queue_depth                        records queued or being written
//	mds_coord_queue_bytes                        their memory
//	mds_coord_in_flight_records, …_bytes         those being written
//	mds_coord_utilization_ratio                  of the capacity
//	mds_coord_oldest_record_age_seconds          of the record that waits longest
//	mds_coord_workers_alive
//	mds_coord_circuit_state                      0 closed, 1 open, 2 half-open
//	mds_coord_retries_total                      attempts made again
//	mds_coord_dead_letters_blocked               1 while dead letters cannot be kept
//
// and of all of them together:
//
//	mds_worker_batches_written_total
//	mds_worker_batch_records                     histogram of their sizes
//	mds_worker_write_errors_total{error_type}    refused, passing, unavailable, abandoned, panic
//	mds_worker_write_latency_seconds             histogram, of writes that succeed and fail
//
// A nil *Metrics exports nothing.
type Metrics struct {
	mu           sync.Mutex
	coordinators map[string]interface{ Stats() Stats }

	batches prometheus.Counter
	sizes   prometheus.Histogram
	errors  *prometheus.CounterVec
	latency prometheus.Histogram
}

// NewMetrics registers the metrics. It fails when reg holds others under the same names.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		coordinators: make(map[string]interface{ Stats() Stats }),
		batches: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "mds_worker_batches_written_total", Help: "Batches written by coordinators' workers.",
		}),
		sizes: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mds_worker_batch_records", Help: "Records of a batch that was written.",
			Buckets: prometheus.ExponentialBuckets(1, 4, 9), // to 65,536
		}),
		errors: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mds_worker_write_errors_total", Help: "Writes that failed, by what the error says.",
		}, []string{"error_type"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mds_worker_write_latency_seconds", Help: "Duration of a batch write in seconds.",
			Buckets: prometheus.ExponentialBuckets(0.001, 2, 16), // 1 ms to 33 s
		}),
	}
	for _, kind := range []string{"refused", "passing", "unavailable", "abandoned", "panic"} {
		m.errors.WithLabelValues(kind)
	}
	return m, errors.Join(reg.Register(m.batches), reg.Register(m.sizes), reg.Register(m.errors), reg.Register(m.latency), reg.Register(&collector{m}))
}

// add has a coordinator's figures exported, instead of those of an earlier one of the
// same name, which must have been stopped.
func (m *Metrics) add(id string, c interface{ Stats() Stats }) error {
	if m == nil {
		return nil
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	if other, ok := m.coordinators[id]; ok && !other.Stats().Stopped {
		return fmt.Errorf("there is another coordinator %s with these metrics: give each an ID of its own", id)
	}
	m.coordinators[id] = c
	return nil
}

// wrote notes a write.
func (m *Metrics) wrote(records int, took time.Duration, err error) {
	if m == nil {
		return
	}
	m.latency.Observe(took.Seconds())
	if err == nil {
		m.batches.Inc()
		m.sizes.Observe(float64(records))
		return
	}
	kind := map[fault]string{refused: "refused", passing: "passing", unwell: "unavailable", ended: "abandoned"}[faultOf(err)]
	var panicked *PanicError
	if errors.As(err, &panicked) {
		kind = "panic"
	}
	m.errors.WithLabelValues(kind).Inc()
}

// collector exports the coordinators' figures as they are when they are asked for: they
// cost nothing in between.
type collector struct{ m *Metrics }

type figure struct {
	desc  *prometheus.Desc
	kind  prometheus.ValueType
	value func(*Stats) float64
	label []string
}

func describe(name, help string, labels ...string) *prometheus.Desc {
	return prometheus.NewDesc(name, help, append([]string{"coord_id"}, labels...), nil)
}

// figures are what is exported of each coordinator.
func figures() []figure {
	dropped := describe("mds_coord_items_dropped_total", "Records dropped, by reason.", "reason")
	settled := describe("mds_coord_items_settled_total", "Records settled, by outcome.", "outcome")
	blocked := func(s *Stats) float64 {
		if s.Blocked != nil {
			return 1
		}
		return 0
	}
	of := func(receipt func(mds.Receipt) int64) func(*Stats) float64 {
		return func(s *Stats) float64 { return float64(receipt(s.Receipt)) }
	}
	counter, gauge := prometheus.CounterValue, prometheus.GaugeValue
	return []figure{
		{describe("mds_coord_items_submitted_total", "Records accepted."), counter, func(s *Stats) float64 { return float64(s.Accepted) }, nil},
		{dropped, counter, func(s *Stats) float64 { return float64(s.Overflowed) }, []string{string(Overflowed)}},
		{dropped, counter, func(s *Stats) float64 { return float64(s.Dropped - s.Overflowed) }, []string{string(Undeliverable)}},
		{settled, counter, of(func(r mds.Receipt) int64 { return r.Written }), []string{"written"}},
		{settled, counter, of(func(r mds.Receipt) int64 { return r.Unchanged }), []string{"unchanged"}},
		{settled, counter, of(func(r mds.Receipt) int64 { return r.Superseded }), []string{"superseded"}},
		{settled, counter, func(s *Stats) float64 { return float64(s.DeadLettered) }, []string{"dead_lettered"}},
		{settled, counter, func(s *Stats) float64 { return float64(s.Dropped) }, []string{"dropped"}},
		{describe("mds_coord_queue_depth", "Records queued or being written."), gauge, func(s *Stats) float64 { return float64(s.Records) }, nil},
		{describe("mds_coord_queue_bytes", "Bytes of memory that they take, roughly."), gauge, func(s *Stats) float64 { return float64(s.Bytes) }, nil},
		{describe("mds_coord_in_flight_records", "Records being written."), gauge, func(s *Stats) float64 { return float64(s.InFlight) }, nil},
		{describe("mds_coord_in_flight_bytes", "Bytes of memory that they take, roughly."), gauge, func(s *Stats) float64 { return float64(s.InFlightBytes) }, nil},
		{describe("mds_coord_utilization_ratio", "How full the queue is, from 0 to 1."), gauge, func(s *Stats) float64 { return s.Utilization }, nil},
		{describe("mds_coord_oldest_record_age_seconds", "Age of the record that waits longest, in seconds."), gauge, func(s *Stats) float64 { return s.OldestAge.Seconds() }, nil},
		{describe("mds_coord_workers_alive", "Workers that are alive."), gauge, func(s *Stats) float64 { return float64(s.Workers) }, nil},
		{describe("mds_coord_circuit_state", "State of the circuit: 0 closed, 1 open, 2 half-open."), gauge, func(s *Stats) float64 { return float64(s.Circuit) }, nil},
		{describe("mds_coord_retries_total", "Attempts made again."), counter, func(s *Stats) float64 { return float64(s.Retries) }, nil},
		{describe("mds_coord_dead_letters_blocked", "1 while dead letters cannot be kept."), gauge, blocked, nil},
	}
}

// Describe implements prometheus.Collector.
func (*collector) Describe(ch chan<- *prometheus.Desc) {
	for _, f := range figures() {
		ch <- f.desc
	}
}

// Collect implements prometheus.Collector.
func (c *collector) Collect(ch chan<- prometheus.Metric) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for id, coordinator := range c.m.coordinators {
		s := coordinator.Stats()
		for _, f := range figures() {
			ch <- prometheus.MustNewConstMetric(f.desc, f.kind, f.value(&s), append([]string{id}, f.label...)...)
		}
	}
}
