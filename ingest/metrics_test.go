package ingest_test

import (
	"context"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
)

func TestMetrics(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewPedanticRegistry()
		metrics, err := ingest.NewMetrics(reg)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ingest.NewMetrics(reg); err == nil {
			t.Error("registered twice")
		}
		w := newWorld()
		gate := make(chan struct{})
		w.before = func(context.Context, mds.Tenant, []mds.Bar) error {
			<-gate
			return nil
		}
		c := newCoordinator(t, w, ingest.Config[mds.Bar]{
			Metrics: metrics, Lanes: 1, BatchSize: 2, BatchMax: 2, Capacity: 8, Overflow: ingest.DropOldest, DeadLetters: &drawer{},
		})
		if _, err := ingest.New(t.Context(), w, ingest.Config[mds.Bar]{Metrics: metrics}); err == nil || err.Error() != "there is another coordinator bars with these metrics: give each an ID of its own" {
			t.Errorf("two of one name: %v", err)
		}
		h := c.For(mds.DefaultTenant())
		const atFirst = `
# HELP mds_coord_items_dropped_total Records dropped, by reason.
# TYPE mds_coord_items_dropped_total counter
mds_coord_items_dropped_total{coord_id="bars",reason="overflow"} 0
mds_coord_items_dropped_total{coord_id="bars",reason="undeliverable"} 0
# HELP mds_coord_queue_depth Records queued or being written.
# TYPE mds_coord_queue_depth gauge
mds_coord_queue_depth{coord_id="bars"} 0
# HELP mds_worker_write_errors_total Writes that failed, by what the error says.
# TYPE mds_worker_write_errors_total counter
mds_worker_write_errors_total{error_type="abandoned"} 0
mds_worker_write_errors_total{error_type="panic"} 0
mds_worker_write_errors_total{error_type="passing"} 0
mds_worker_write_errors_total{error_type="refused"} 0
mds_worker_write_errors_total{error_type="unavailable"} 0
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(atFirst), "mds_coord_items_dropped_total", "mds_coord_queue_depth", "mds_worker_write_errors_total"); err != nil {
			t.Error(err)
		}
		submit(t, h, bar("s", 0, 1), bar("s", 0, 2), invalid("s", 1), bar("s", 2, 1))
		synctest.Wait()
		submit(t, h, bars("t", 7)...) // one of it, or what waits, has to go
		pass(3 * time.Second)
		const full = `
# HELP mds_coord_circuit_state State of the circuit: 0 closed, 1 open, 2 half-open.
# TYPE mds_coord_circuit_state gauge
mds_coord_circuit_state{coord_id="bars"} 0
# HELP mds_coord_in_flight_records Records being written.
# TYPE mds_coord_in_flight_records gauge
mds_coord_in_flight_records{coord_id="bars"} 2
# HELP mds_coord_items_dropped_total Records dropped, by reason.
# TYPE mds_coord_items_dropped_total counter
mds_coord_items_dropped_total{coord_id="bars",reason="overflow"} 3
mds_coord_items_dropped_total{coord_id="bars",reason="undeliverable"} 0
# HELP mds_coord_items_submitted_total Records accepted.
# TYPE mds_coord_items_submitted_total counter
mds_coord_items_submitted_total{coord_id="bars"} 11
# HELP mds_coord_oldest_record_age_seconds Age of the record that waits longest, in seconds.
# TYPE mds_coord_oldest_record_age_seconds gauge
mds_coord_oldest_record_age_seconds{coord_id="bars"} 3
# HELP mds_coord_queue_bytes Bytes of memory that they take, roughly.
# TYPE mds_coord_queue_bytes gauge
mds_coord_queue_bytes{coord_id="bars"} 1440
# HELP mds_coord_queue_depth Records queued or being written.
# TYPE mds_coord_queue_depth gauge
mds_coord_queue_depth{coord_id="bars"} 8
# HELP mds_coord_utilization_ratio How full the queue is, from 0 to 1.
# TYPE mds_coord_utilization_ratio gauge
mds_coord_utilization_ratio{coord_id="bars"} 1
# HELP mds_coord_workers_alive Workers that are alive.
# TYPE mds_coord_workers_alive gauge
mds_coord_workers_alive{coord_id="bars"} 4
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(full), "mds_coord_circuit_state", "mds_coord_in_flight_records", "mds_coord_items_dropped_total",
			"mds_coord_items_submitted_total", "mds_coord_oldest_record_age_seconds", "mds_coord_queue_bytes", "mds_coord_queue_depth", "mds_coord_utilization_ratio", "mds_coord_workers_alive"); err != nil {
			t.Error(err)
		}
		w.before = nil
		close(gate)
		synctest.Wait()
		submit(t, h, invalid("u", 0), bar("u", 1, 1))
		stop(t, c)
		const settled = `
# HELP mds_coord_items_settled_total Records settled, by outcome.
# TYPE mds_coord_items_settled_total counter
mds_coord_items_settled_total{coord_id="bars",outcome="dead_lettered"} 1
mds_coord_items_settled_total{coord_id="bars",outcome="dropped"} 3
mds_coord_items_settled_total{coord_id="bars",outcome="superseded"} 1
mds_coord_items_settled_total{coord_id="bars",outcome="unchanged"} 0
mds_coord_items_settled_total{coord_id="bars",outcome="written"} 8
# HELP mds_coord_workers_alive Workers that are alive.
# TYPE mds_coord_workers_alive gauge
mds_coord_workers_alive{coord_id="bars"} 0
# HELP mds_worker_batches_written_total Batches written by coordinators' workers.
# TYPE mds_worker_batches_written_total counter
mds_worker_batches_written_total 5
`
		if err := testutil.GatherAndCompare(reg, strings.NewReader(settled), "mds_coord_items_settled_total", "mds_coord_workers_alive", "mds_worker_batches_written_total"); err != nil {
			t.Error(err)
		}
	})
}
