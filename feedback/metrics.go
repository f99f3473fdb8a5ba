package feedback

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the Prometheus metrics of the buses of a process:
//
//	mds_feedback_level{coord_id}                          0 ok, 1 soft, 2 hard
//	mds_feedback_transitions_total{coord_id, to}          changes of level, by the new one
//	mds_feedback_suggested_rate{coord_id}                 records a second
//	mds_feedback_subscribers{transport}                   memory, webhook, sse, grpc
//	mds_feedback_events_dropped_total{transport}          that a slow subscriber lost
//	mds_feedback_publish_latency_seconds                  histogram
//	mds_feedback_webhook_posts_total{status}              success, failure
//
// A nil *Metrics exports nothing.
type Metrics struct {
	level       *prometheus.GaugeVec
	transitions *prometheus.CounterVec
	suggested   *prometheus.GaugeVec
	subscribers *prometheus.GaugeVec
	lost        *prometheus.CounterVec
	latency     prometheus.Histogram
	posts       *prometheus.CounterVec
}

// transports are the label values of subscribers.
var transports = []string{"memory", "webhook", "sse", "grpc"}

// NewMetrics registers the metrics. It fails when reg holds others under the same names.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		level: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mds_feedback_level", Help: "Level of a coordinator's queue: 0 ok, 1 soft, 2 hard.",
		}, []string{"coord_id"}),
		transitions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mds_feedback_transitions_total", Help: "Changes of level, by the new one.",
		}, []string{"coord_id", "to"}),
		suggested: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mds_feedback_suggested_rate", Help: "Rate suggested to all producers together, in records a second.",
		}, []string{"coord_id"}),
		subscribers: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Name: "mds_feedback_subscribers", Help: "Subscribers, by transport.",
		}, []string{"transport"}),
		lost: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mds_feedback_events_dropped_total", Help: "Events that a slow subscriber lost, by transport.",
		}, []string{"transport"}),
		latency: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "mds_feedback_publish_latency_seconds", Help: "Duration of handing an event to all subscribers, in seconds.",
			Buckets: prometheus.ExponentialBuckets(1e-6, 4, 9), // to 65 ms
		}),
		posts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "mds_feedback_webhook_posts_total", Help: "Events posted to webhooks, by status (success or failure).",
		}, []string{"status"}),
	}
	for _, t := range transports {
		m.subscribers.WithLabelValues(t)
		m.lost.WithLabelValues(t)
	}
	for _, status := range []string{"success", "failure"} {
		m.posts.WithLabelValues(status)
	}
	var errs []error
	for _, c := range []prometheus.Collector{m.level, m.transitions, m.suggested, m.subscribers, m.lost, m.latency, m.posts} {
		errs = append(errs, reg.Register(c))
	}
	return m, errors.Join(errs...)
}

// event notes an event, after one of another level.
func (m *Metrics) event(e *Event, before Level) {
	if m == nil {
		return
	}
	for i, l := range []Level{OK, Soft, Hard} {
		c := m.transitions.WithLabelValues(e.CoordinatorID, string(l))
		if e.Level == l {
			m.level.WithLabelValues(e.CoordinatorID).Set(float64(i))
			if before != "" && before != l {
				c.Inc()
			}
		}
	}
	m.suggested.WithLabelValues(e.CoordinatorID).Set(e.SuggestedRate)
}

// forget removes the figures of a coordinator that has been stopped.
func (m *Metrics) forget(coordinatorID string) {
	if m != nil {
		m.level.DeleteLabelValues(coordinatorID)
		m.suggested.DeleteLabelValues(coordinatorID)
	}
}

func (m *Metrics) subscribed(transport string, n float64) {
	if m != nil {
		m.subscribers.WithLabelValues(transport).Add(n)
	}
}

func (m *Metrics) dropped(transport string) {
	if m != nil {
		m.lost.WithLabelValues(transport).Inc()
	}
}

func (m *Metrics) publishedIn(d time.Duration) {
	if m != nil {
		m.latency.Observe(d.Seconds())
	}
}

func (m *Metrics) posted(err error) {
	switch {
	case m == nil:
	case err != nil:
		m.posts.WithLabelValues("failure").Inc()
	default:
		m.posts.WithLabelValues("success").Inc()
	}
}
