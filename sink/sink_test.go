package sink_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
)

func bar(symbol string) mds.Bar {
	return mds.Bar{Vendor: "test", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2024, 3, 5, 9, 0, 0, 0, time.UTC), Close: 1}
}

func openStore(t *testing.T) *store.Store {
	t.Helper()
	st, err := store.Open(context.Background(), "duckdb://"+filepath.Join(t.TempDir(), "store"), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	return st
}

// writerFunc fails where a store cannot be made to.
type writerFunc func(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) (mds.Receipt, error)

func (f writerFunc) WriteBatch(ctx context.Context, tenant mds.Tenant, bars []mds.Bar) (mds.Receipt, error) {
	return f(ctx, tenant, bars)
}

func TestWriteCountsAndStores(t *testing.T) {
	ctx := context.Background()
	registry := prometheus.NewPedanticRegistry()
	metrics, err := sink.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	bars := store.Bars(openStore(t))
	s := sink.New(bars, sink.Config{Metrics: metrics})
	compare := func(success, failure string) {
		t.Helper()
		want := `
# HELP sink_writes_total Batches written, by sink and status (success or failure).
# TYPE sink_writes_total counter
sink_writes_total{sink="bars",status="failure"} ` + failure + `
sink_writes_total{sink="bars",status="success"} ` + success + "\n"
		if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sink_writes_total"); err != nil {
			t.Error(err)
		}
	}
	compare("0", "0")

	tenant := s.For(mds.DefaultTenant())
	receipt, err := tenant.Write(ctx, []mds.Bar{bar("A"), bar("B"), bar("A")})
	if err != nil || receipt != (mds.Receipt{Written: 2, Superseded: 1, Modes: mds.WroteInsert}) {
		t.Errorf("receipt %+v, %v", receipt, err)
	}
	compare("1", "0")

	bad := bar("C")
	bad.Symbol = ""
	_, err = tenant.Write(ctx, []mds.Bar{bar("C"), bad})
	var batch *sink.BatchError
	var record *mds.RecordError
	if !errors.As(err, &batch) || batch.Records != 2 || batch.Sink != "bars" || !errors.As(err, &record) || record.Index != 1 || mds.Retryable(err) {
		t.Errorf("an invalid batch: %v", err)
	}
	if want := "sink bars: batch of 2 records: record 1 of the batch: symbol: is missing"; err.Error() != want {
		t.Errorf("message %q, want %q", err, want)
	}
	compare("1", "1")
	if n, err := bars.Count(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil || n != 2 {
		t.Errorf("%d bars are stored, %v; want 2", n, err)
	}

	if receipt, err := tenant.Write(ctx, nil); err != nil || receipt != (mds.Receipt{}) {
		t.Errorf("an empty batch: %+v, %v", receipt, err)
	}
	compare("1", "1")
	if n, err := testutil.GatherAndCount(registry, "sink_write_latency_seconds"); err != nil || n != 1 {
		t.Errorf("%d latency series", n)
	}
}

func TestMetricsAreSharedAndOptional(t *testing.T) {
	registry := prometheus.NewRegistry()
	first, err := sink.NewMetrics(registry)
	if err != nil {
		t.Fatal(err)
	}
	second, err := sink.NewMetrics(registry)
	if err != nil {
		t.Fatalf("a second sink of the process: %v", err)
	}
	ok := writerFunc(func(context.Context, mds.Tenant, []mds.Bar) (mds.Receipt, error) { return mds.Receipt{Written: 1}, nil })
	for _, m := range []*sink.Metrics{first, second, nil} {
		if _, err := sink.New[mds.Bar](ok, sink.Config{Metrics: m}).WriteBatch(context.Background(), mds.DefaultTenant(), []mds.Bar{bar("A")}); err != nil {
			t.Error(err)
		}
	}
	want := `
# HELP sink_writes_total Batches written, by sink and status (success or failure).
# TYPE sink_writes_total counter
sink_writes_total{sink="bars",status="failure"} 0
sink_writes_total{sink="bars",status="success"} 2
`
	if err := testutil.GatherAndCompare(registry, strings.NewReader(want), "sink_writes_total"); err != nil {
		t.Error(err)
	}
	other := prometheus.NewRegistry()
	other.MustRegister(prometheus.NewGauge(prometheus.GaugeOpts{Name: "sink_writes_total", Help: "another"}))
	if _, err := sink.NewMetrics(other); err == nil {
		t.Error("a clash of names was not reported")
	}
}

func TestWriteTimeout(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		stuck := writerFunc(func(ctx context.Context, _ mds.Tenant, _ []mds.Bar) (mds.Receipt, error) {
			<-ctx.Done()
			return mds.Receipt{}, ctx.Err()
		})
		for configured, want := range map[time.Duration]time.Duration{0: 35 * time.Second, time.Minute: time.Minute} {
			start := time.Now()
			_, err := sink.New[mds.Bar](stuck, sink.Config{WriteTimeout: configured}).WriteBatch(t.Context(), mds.DefaultTenant(), []mds.Bar{bar("A")})
			if !errors.Is(err, context.DeadlineExceeded) || time.Since(start) != want {
				t.Errorf("timeout %s: %v after %s", configured, err, time.Since(start))
			}
		}
	})
}

func TestSinkIsAWriter(t *testing.T) {
	inner := sink.New(store.Bars(openStore(t)), sink.Config{})
	outer := sink.New[mds.Bar](inner, sink.Config{Name: "outer"})
	if _, err := outer.For(mds.DefaultTenant()).Write(context.Background(), []mds.Bar{bar("A")}); err != nil {
		t.Error(err)
	}
}
