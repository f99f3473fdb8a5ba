package store

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// Metrics are the Prometheus metrics of the stores of a process:
//
//	migrations_applied_total   migrations applied by this process
//
// A nil *Metrics exports nothing.
type Metrics struct{ migrations prometheus.Counter }

// NewMetrics registers the metrics, or takes those that are registered there already. It
// fails when reg holds others under the same names.
func NewMetrics(reg prometheus.Registerer) (*Metrics, error) {
	m := &Metrics{prometheus.NewCounter(prometheus.CounterOpts{
		Name: "migrations_applied_total",
		Help: "Migrations applied by this process.",
	})}
	err := reg.Register(m.migrations)
	var already prometheus.AlreadyRegisteredError
	if errors.As(err, &already) {
		if existing, ok := already.ExistingCollector.(prometheus.Counter); ok {
			return &Metrics{existing}, nil
		}
	}
	if err != nil {
		return nil, err
	}
	return m, nil
}

func (m *Metrics) migrated() {
	if m != nil {
		m.migrations.Inc()
	}
}
