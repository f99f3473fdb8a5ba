package server

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds/internal/live"
)

// metrics are those of requests.
type metrics struct {
	requests *prometheus.CounterVec
	duration *prometheus.HistogramVec
	late     *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	labels := []string{"method", "route", "status"}
	m := &metrics{
		requests: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "http_requests_total", Help: "Requests answered, by method, route and status.",
		}, labels),
		duration: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "http_request_duration_seconds", Help: "Duration of requests until their answer is sent, in seconds.",
			Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 60},
		}, labels),
		late: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mds_late_records_total", Help: "Records that came late and were written, past the queue and its ledger, by kind.",
		}, []string{"kind"}),
	}
	return m, errors.Join(reg.Register(m.requests), reg.Register(m.duration), reg.Register(m.late))
}

// served notes a request that was answered.
func (m *metrics) served(method, route string, status int, took time.Duration) {
	m.requests.WithLabelValues(method, route, statusText(status)).Inc()
	m.duration.WithLabelValues(method, route, statusText(status)).Observe(took.Seconds())
}

// measureLive registers the metrics of live streams:
//
//	mds_live_subscribers
//	mds_live_records_encoded_total               each once, however many want it
//	mds_live_records_sent_total                  to all subscribers together
//	mds_live_records_lost_total{reason}          that subscribers missed: slow; overload, at most
//	mds_live_buffer_bytes                        that wait for subscribers, each once
func measureLive(reg prometheus.Registerer, hub *live.Hub) error {
	gauge := func(name, help string, value func(live.Stats) int64) error {
		return reg.Register(prometheus.NewGaugeFunc(prometheus.GaugeOpts{Name: name, Help: help}, func() float64 { return float64(value(hub.Stats())) }))
	}
	counter := func(name, help string, labels prometheus.Labels, value func(live.Stats) int64) error {
		return reg.Register(prometheus.NewCounterFunc(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, func() float64 { return float64(value(hub.Stats())) }))
	}
	const lost, lostHelp = "mds_live_records_lost_total", "Records that live subscribers missed, by reason; of overload at most."
	return errors.Join(
		gauge("mds_live_subscribers", "Subscribers of live records.", func(s live.Stats) int64 { return s.Subscribers }),
		gauge("mds_live_buffer_bytes", "Bytes that wait for live subscribers, each counted once.", func(s live.Stats) int64 { return s.Bytes }),
		counter("mds_live_records_encoded_total", "Records encoded for live subscribers, each once.", nil, func(s live.Stats) int64 { return s.Encoded }),
		counter("mds_live_records_sent_total", "Records sent to live subscribers, to all together.", nil, func(s live.Stats) int64 { return s.Sent }),
		counter(lost, lostHelp, prometheus.Labels{"reason": live.Slow}, func(s live.Stats) int64 { return s.LostSlow }),
		counter(lost, lostHelp, prometheus.Labels{"reason": live.Overload}, func(s live.Stats) int64 { return s.LostOverload }),
	)
}
