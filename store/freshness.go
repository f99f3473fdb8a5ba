package store

import (
	"context"
	"errors"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/marketdatastore/mds"
)

// freshness are the metrics of a store's rollups.
type freshness struct {
	ctx            context.Context //nolint:containedctx // a collector is given none
	store          *Store
	changes, since *prometheus.Desc
}

// NewFreshness returns a collector of how fresh the rollups of all tenants of a store are,
// which it asks each time, for as long as ctx does not end:
//
//	mds_rollup_stale_changes{timeframe}      changes of bars that are not in their rollups yet
//	mds_rollup_staleness_seconds{timeframe}  how long the oldest of them is so, 0 for none
//
// The timeframe is that of the bars; there is one series for each that has rollups.
func NewFreshness(ctx context.Context, s *Store) prometheus.Collector {
	labels := []string{"timeframe"}
	return &freshness{
		ctx: ctx, store: s,
		changes: prometheus.NewDesc("mds_rollup_stale_changes", "Changes of bars that are not in their rollups yet.", labels, nil),
		since:   prometheus.NewDesc("mds_rollup_staleness_seconds", "How long the oldest change is not in its rollups, 0 for none.", labels, nil),
	}
}

// Describe tells what there is.
func (f *freshness) Describe(descs chan<- *prometheus.Desc) {
	descs <- f.changes
	descs <- f.since
}

// Collect asks the store.
func (f *freshness) Collect(metrics chan<- prometheus.Metric) {
	list, err := f.policies()
	if err != nil {
		metrics <- prometheus.NewInvalidMetric(f.changes, err)
		return
	}
	for i := range list {
		p := &list[i]
		if len(p.Rollups) == 0 {
			continue
		}
		age := 0.0
		if !p.StaleSince.IsZero() {
			age = max(0, time.Since(p.StaleSince).Seconds())
		}
		metrics <- prometheus.MustNewConstMetric(f.changes, prometheus.GaugeValue, float64(p.Stale), string(p.Timeframe))
		metrics <- prometheus.MustNewConstMetric(f.since, prometheus.GaugeValue, age, string(p.Timeframe))
	}
}

// policies are those of all tenants.
func (f *freshness) policies() (list []mds.PolicyStatus, err error) {
	tenants, err := f.store.Tenants(f.ctx)
	if err != nil {
		return nil, err
	}
	for _, tenant := range tenants {
		of, err := f.store.Policies(f.ctx, tenant)
		if errors.Is(err, mds.ErrNoStore) {
			continue
		}
		if err != nil {
			return nil, err
		}
		for i := range of {
			list = mds.MergePolicies(list, of[i])
		}
	}
	return mds.SortPolicies(list), nil
}
