package jobs

import (
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds"
)

// Metrics count the jobs that a server runs.
type Metrics struct {
	runs    *prometheus.CounterVec
	seconds *prometheus.HistogramVec
}

// NewMetrics registers
//
//	store_job_runs_total{name, status}             attempts that ended, by the state that they left
//	store_job_runs_duration_seconds{name}          how long they took
//
// where name is the action; all are there at 0 from the start. A label job would be in the way
// of Prometheus's own, and be called exported_job there.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{
		runs: prometheus.NewCounterVec(prometheus.CounterOpts{Name: "store_job_runs_total", Help: "Attempts of jobs that ended, by the state that they left."}, []string{"name", "status"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "store_job_runs_duration_seconds", Help: "How long attempts of jobs took.", Buckets: []float64{0.1, 1, 10, 60, 600, 3600, 6 * 3600},
		}, []string{"name"}),
	}
	for _, action := range mds.JobActions() {
		for _, state := range []mds.JobState{mds.JobDone, mds.JobFailed, mds.JobCancelled, mds.JobQueued} {
			m.runs.WithLabelValues(string(action), string(state))
		}
		m.seconds.WithLabelValues(string(action))
	}
	return m, errors.Join(reg.Register(m.runs), reg.Register(m.seconds))
}

func (m *Metrics) ended(action mds.JobAction, state mds.JobState, took time.Duration) {
	if m != nil {
		m.runs.WithLabelValues(string(action), string(state)).Inc()
		m.seconds.WithLabelValues(string(action)).Observe(took.Seconds())
	}
}
