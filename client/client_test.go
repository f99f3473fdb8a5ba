package client_test

import (
	"context"
	"errors"
	"fmt"
	"iter"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"
	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/arbitrary"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a server, and a client of it.
type world struct {
	*client.Client
	store *store.Store
	addr  string
	stop  func()
}

func serve(t *testing.T, cfg client.Config) *world {
	t.Helper()
	st, err := store.Open(context.Background(), "duckdb://"+t.TempDir(), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := st.Close(); err != nil {
			t.Error(err)
		}
	})
	w := &world{store: st}
	w.listen(t, "127.0.0.1:0")
	cfg.URL = "http://" + w.addr
	transport := &http.Transport{}
	t.Cleanup(transport.CloseIdleConnections)
	cfg.HTTPClient = &http.Client{Transport: transport}
	if w.Client, err = client.New(cfg); err != nil {
		t.Fatal(err)
	}
	return w
}

// listen has a server of the store begin.
func (w *world) listen(t *testing.T, addr string) {
	t.Helper()
	srv, err := server.New(context.Background(), server.Config{
		Store: w.store, Version: "test", Logger: slog.New(slog.DiscardHandler),
		Kinds: []server.Kind{server.KindOf[mds.Bar](), server.KindOf[mds.OptionSnap](), server.KindOf[mds.Fundamentals](), server.KindOf[mds.News]()},
	})
	if err != nil {
		t.Fatal(err)
	}
	listener, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	w.addr = listener.Addr().String()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		ended <- srv.Run(ctx, context.WithoutCancel(ctx), listener, server.RunConfig{Drain: 10 * time.Second})
	}()
	stopped := false
	w.stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
	t.Cleanup(w.stop)
}

func collect[R any](t testing.TB, seq iter.Seq2[R, error]) (all []R) {
	t.Helper()
	for r, err := range seq {
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, r)
	}
	return all
}

// TestRoundTrip writes records of each kind through the client, and finds in the store, and
// through the client, what was written.
func TestRoundTrip(t *testing.T) {
	w := serve(t, client.Config{})
	roundTrip(t, w, arbitrary.Bar)
	roundTrip(t, w, arbitrary.Option)
	roundTrip(t, w, arbitrary.Fundamentals)
	roundTrip(t, w, arbitrary.News)
}

func roundTrip[R mds.Record[R]](t *testing.T, w *world, draw func(*rapid.T) R) {
	schema := mds.SchemaOf[R]()
	t.Run(schema.Kind, func(t *testing.T) {
		there, here := store.TableOf[R](w.store), client.TableOf[R](w.Client)
		rapid.Check(t, func(t *rapid.T) {
			records := rapid.SliceOfN(rapid.Custom(draw), 1, 20).Draw(t, "records")
			receipt, err := here.WriteBatch(context.Background(), mds.Tenant{}, records)
			if err != nil || receipt.Written != int64(len(records)) {
				t.Fatal(receipt, err)
			}
			var want, got []R
			for r, err := range there.Query(context.Background(), mds.DefaultTenant(), mds.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				want = append(want, r)
			}
			for r, err := range here.Query(context.Background(), mds.Tenant{}, mds.Query{}) {
				if err != nil {
					t.Fatal(err)
				}
				got = append(got, r)
			}
			if !slices.EqualFunc(got, want, func(a, b R) bool { return schema.Equal(&a, &b) }) {
				t.Fatalf("%d records, %d in the store", len(got), len(want))
			}
			stored := func(r R) bool {
				schema.Normalize(&r)
				return slices.ContainsFunc(want, func(w R) bool { return schema.Equal(&r, &w) })
			}
			if last := records[len(records)-1]; !stored(last) {
				t.Fatalf("%+v is not there", last)
			}
		})
		series, err := here.Series(t.Context(), mds.Tenant{}, mds.Selection{})
		want, wantErr := there.Series(t.Context(), mds.DefaultTenant(), mds.Selection{})
		if err != nil || wantErr != nil || !slices.EqualFunc(series, want, func(a, b mds.Series[R]) bool {
			return schema.Equal(&a.Identity, &b.Identity) && a.Rows == b.Rows && a.First.Equal(b.First) && a.Last.Equal(b.Last)
		}) {
			t.Errorf("%d series, want %d: %v %v", len(series), len(want), err, wantErr)
		}
	})
}

// TestSelections picks through the client what the store picks.
func TestSelections(t *testing.T) {
	w := serve(t, client.Config{})
	here, there := client.TableOf[mds.Bar](w.Client), store.Bars(w.store)
	var bars []mds.Bar
	for i := range 60 {
		for _, tf := range []mds.Timeframe{mds.Minute, "1d"} {
			ts := time.Date(2026, 1, 1+i/10, 0, 0, 0, 0, time.UTC)
			if tf == mds.Minute {
				ts = ts.Add(time.Duration(i%10) * 150 * time.Minute)
			}
			bars = append(bars, mds.Bar{Vendor: []string{"a", "b"}[i%2], Symbol: fmt.Sprint("S", i%3), Timeframe: tf, TS: ts, Close: float64(i)})
		}
	}
	if err := here.Write(t.Context(), bars...); err != nil {
		t.Fatal(err)
	}
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	day := func(d int, in *time.Location) time.Time { return time.Date(2026, 1, d, 0, 0, 0, 0, in) }
	for i, q := range []mds.Query{
		{}, {Descending: true}, {Limit: 7}, {ByIdentity: true}, {ByIdentity: true, Descending: true, Limit: 5}, {Selection: mds.Selection{Vendor: "A", Symbols: []string{"s1", "S2"}}},
		{Selection: mds.Selection{Timeframe: "1d", Start: day(2, time.UTC), End: day(4, time.UTC)}},
		{Selection: mds.Selection{Start: day(2, newYork), End: day(4, newYork)}}, {Selection: mds.Selection{Start: day(2, newYork).Add(time.Nanosecond)}},
		{Selection: mds.Selection{Where: map[string][]string{"timeframe": {"1m"}, "vendor": {"b"}}}},
	} {
		want, got := collect(t, there.Query(t.Context(), mds.DefaultTenant(), q)), collect(t, here.Query(t.Context(), mds.Tenant{}, q))
		if len(want) == 0 || !slices.Equal(got, want) {
			t.Errorf("query %d has %d bars, want %d", i, len(got), len(want))
		}
	}
	if all := collect(t, here.Query(t.Context(), mds.Tenant{}, mds.Query{Unordered: true})); len(all) != 96 { // of those with one key the last
		t.Errorf("%d of 96 bars in any order", len(all))
	}
	if some := collect(t, here.Query(t.Context(), mds.Tenant{}, mds.Query{Unordered: true, Limit: 9})); len(some) != 9 {
		t.Errorf("%d of 9 bars in any order", len(some))
	}
	longer := mds.ResampleQuery{Selection: mds.Selection{Timeframe: mds.Minute, Start: day(2, newYork)}, Every: mds.Day, Zone: newYork, Limit: 8}
	want8, got8 := collect(t, w.store.Resample(t.Context(), mds.DefaultTenant(), longer)), collect(t, w.Resample(t.Context(), mds.Tenant{}, longer))
	if len(want8) != 8 || !slices.Equal(got8, want8) {
		t.Errorf("resampled to %v, want %v", got8, want8)
	}
	latest, err := here.Latest(t.Context(), mds.Tenant{}, mds.Selection{Symbols: []string{"S1"}})
	want, wantErr := there.Latest(t.Context(), mds.DefaultTenant(), mds.Selection{Symbols: []string{"S1"}})
	if err != nil || wantErr != nil || len(want) != 4 || !slices.Equal(latest, want) {
		t.Errorf("%d of %d, %v %v", len(latest), len(want), err, wantErr)
	}
	if none := collect(t, here.Query(t.Context(), mds.Tenant{}, mds.Query{Selection: mds.Selection{Symbols: []string{"none"}}})); none != nil {
		t.Errorf("%v", none)
	}
	symbols := append(make([]string, 0, 2), "A")
	for _, bad := range []mds.Selection{{Timeframe: "7x"}, {Symbols: symbols, Where: map[string][]string{"symbol": {"B"}}}, {Where: map[string][]string{"close": {"1"}}}} {
		for _, err := range here.Query(t.Context(), mds.Tenant{}, mds.Query{Selection: bad}) {
			if err == nil || mds.Retryable(err) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if _, err := here.Latest(t.Context(), mds.Tenant{}, bad); err == nil {
			t.Errorf("%+v: the latest", bad)
		}
		if _, err := here.Series(t.Context(), mds.Tenant{}, bad); err == nil {
			t.Errorf("%+v: series", bad)
		}
	}
	collect(t, here.Query(t.Context(), mds.Tenant{}, mds.Query{Selection: mds.Selection{Symbols: symbols}}))
	if symbols[:2][1] != "" {
		t.Error("the caller's slice is written to")
	}
}

// TestContents tells what there is, whose, and removes it.
func TestContents(t *testing.T) {
	w := serve(t, client.Config{})
	acme, err := w.store.CreateTenant(t.Context(), "acme")
	if err != nil {
		t.Fatal(err)
	}
	bars := client.TableOf[mds.Bar](w.Client)
	at := time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC)
	of := func(symbol string, minute int) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: at.Add(time.Duration(minute) * time.Minute), Close: 1}
	}
	if err := bars.Write(t.Context(), of("A", 0), of("A", 1), of("B", 2), of(`C,"\`, 3)); err != nil {
		t.Fatal(err)
	}
	if _, err := bars.WriteBatch(t.Context(), acme, []mds.Bar{of("A", 0)}); err != nil {
		t.Fatal(err)
	}
	tenants, err := w.Tenants(t.Context())
	if want := []mds.Tenant{acme, mds.DefaultTenant()}; err != nil || !slices.Equal(tenants, want) {
		t.Errorf("%v, %v, want %v", tenants, err, want)
	}
	if tenant, err := w.Tenant(t.Context(), ""); err != nil || tenant != mds.DefaultTenant() {
		t.Errorf("%v, %v", tenant, err)
	}
	if tenant, err := w.Tenant(t.Context(), acme.ID); err != nil || tenant != acme {
		t.Errorf("%v, %v", tenant, err)
	}
	if _, err := w.Tenant(t.Context(), "nobody"); !errors.Is(err, mds.ErrUnknownTenant) || mds.Retryable(err) {
		t.Errorf("nobody: %v", err)
	}
	info, err := w.Info(t.Context(), acme)
	if err != nil || info.Tenant != "acme" || info.TenantID != acme.ID || !strings.HasPrefix(info.Engine, "DuckDB v") || info.Location != "http://"+w.addr || info.Bytes == 0 || info.SchemaVersion == 0 {
		t.Errorf("%+v, %v", info, err)
	}
	kind, err := bars.Info(t.Context(), mds.Tenant{})
	if err != nil || kind.Rows != 4 || kind.Series != 3 || !kind.First.Equal(at) || !kind.Last.Equal(at.Add(3*time.Minute)) {
		t.Errorf("%+v, %v", kind, err)
	}
	count := func(tenant mds.Tenant, sel mds.Selection, want int64) {
		t.Helper()
		if n, err := bars.Count(t.Context(), tenant, sel); err != nil || n != want {
			t.Errorf("%+v counts %d, %v, want %d", sel, n, err, want)
		}
	}
	remove := func(sel mds.Selection, want int64) {
		t.Helper()
		if n, err := bars.Delete(t.Context(), mds.Tenant{}, sel); err != nil || n != want {
			t.Errorf("%+v removed %d, %v, want %d", sel, n, err, want)
		}
	}
	count(mds.Tenant{}, mds.Selection{}, 4)
	count(mds.Tenant{}, mds.Selection{Symbols: []string{"A", `C,"\`}, Start: at.Add(time.Minute)}, 2)
	remove(mds.Selection{Start: at, End: at}, 0) // it picks nothing, and not all
	remove(mds.Selection{Symbols: []string{`C,"\`}}, 1)
	remove(mds.Selection{Start: at.Add(time.Minute)}, 2)
	remove(mds.Selection{}, 1)
	count(mds.Tenant{}, mds.Selection{}, 0)
	count(acme, mds.Selection{}, 1)
	if err := w.Close(); err != nil {
		t.Error(err)
	}
	if err := bars.Write(t.Context(), of("A", 0)); !errors.Is(err, client.ErrClosed) || mds.Retryable(err) || mds.Unavailable(err) {
		t.Errorf("closed: %v", err)
	}
}

// TestWriteOnce writes under a key once, whatever became of the records since.
func TestWriteOnce(t *testing.T) {
	w := serve(t, client.Config{})
	bars := client.TableOf[mds.Bar](w.Client)
	of := func(price float64) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: time.Date(2026, 1, 2, 14, 30, 0, 0, time.UTC), Close: price}
	}
	once := func(key string, price float64) error {
		answer, err := bars.WriteOnce(t.Context(), mds.Tenant{}, key, []mds.Bar{of(price)})
		if err == nil && answer.Committed != 1 {
			t.Errorf("%+v", answer)
		}
		return err
	}
	if err := errors.Join(once("k1", 1), bars.Write(t.Context(), of(2)), once("k1", 1)); err != nil {
		t.Fatal(err)
	}
	if got := collect(t, bars.Query(t.Context(), mds.Tenant{}, mds.Query{})); len(got) != 1 || got[0].Close != 2 {
		t.Errorf("an old batch came through: %v", got)
	}
	var refused *client.Error
	if err := once("k1", 3); !errors.As(err, &refused) || refused.Code != "idempotency_key_reused" || mds.Retryable(err) {
		t.Errorf("another batch under the key: %v", err)
	}
	if err := once("", 3); err == nil {
		t.Error("no key")
	}
}

// TestCalendarBars keeps the date that the time of a daily bar shows.
func TestCalendarBars(t *testing.T) {
	w := serve(t, client.Config{})
	bars := client.TableOf[mds.Bar](w.Client)
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	// 20:00 in New York is the next day in UTC.
	evening := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Day, TS: time.Date(2024, 3, 8, 20, 0, 0, 0, newYork), Close: 1}
	if err := bars.Write(t.Context(), evening); err != nil {
		t.Fatal(err)
	}
	evening.Symbol = "B"
	if _, err := bars.WriteAll(t.Context(), mds.Tenant{}, func(yield func(mds.Bar, error) bool) { yield(evening, nil) }); err != nil {
		t.Fatal(err)
	}
	want := time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC)
	for _, bar := range collect(t, store.Bars(w.store).Query(t.Context(), mds.DefaultTenant(), mds.Query{})) {
		if !bar.TS.Equal(want) {
			t.Errorf("%s is of %s, want %s", bar.Symbol, bar.TS, want)
		}
	}
}

// TestWriteAll streams many in one request, at the rate of a controller that follows the
// server; one that is no record ends it.
func TestWriteAll(t *testing.T) {
	controller, err := feedback.NewRateController(feedback.ControllerConfig{Initial: 1e6})
	if err != nil {
		t.Fatal(err)
	}
	w := serve(t, client.Config{Controller: controller})
	ctx, cancel := context.WithCancel(t.Context())
	followed := make(chan error)
	go func() { followed <- w.Follow(ctx, "bars") }()
	table := client.TableOf[mds.Bar](w.Client)
	const n = 20_000
	bars := func(bad int) iter.Seq2[mds.Bar, error] {
		return func(yield func(mds.Bar, error) bool) {
			for i := range n {
				b := mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1s", TS: time.Unix(int64(1_700_000_000+i), 0), Close: 1}
				if i == bad {
					b.Symbol = ""
				}
				if !yield(b, nil) {
					return
				}
			}
		}
	}
	answer, err := table.WriteAll(t.Context(), mds.Tenant{}, bars(-1))
	if err != nil || answer.Committed != n || answer.Read != n {
		t.Errorf("%+v, %v", answer, err)
	}
	var record *mds.RecordError
	if _, err := table.WriteAll(t.Context(), mds.Tenant{}, bars(10_000)); !errors.As(err, &record) || record.Index != 10_000 {
		t.Errorf("%v", err)
	}
	cancel()
	if err := <-followed; !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	if s, err := w.Statistics(t.Context(), mds.Tenant{}); err != nil || s.Tenant != "default" || s.Kinds[0].Accepted < n {
		t.Errorf("%+v, %v", s, err)
	}
	if h, err := w.Health(t.Context()); err != nil || h.State != ingest.Healthy || h.Version != "test" {
		t.Errorf("%+v, %v", h, err)
	}
	if v, err := w.SchemaVersion(t.Context(), mds.Tenant{}); err != nil || v < 5 {
		t.Error(v, err)
	}
}

// TestCoordinator has a coordinator stand before a server that is stopped and comes back:
// nothing is lost.
func TestCoordinator(t *testing.T) {
	w := serve(t, client.Config{MaxRetries: -1})
	c, err := ingest.New(t.Context(), client.TableOf[mds.Bar](w.Client), ingest.Config[mds.Bar]{
		FlushInterval: 10 * time.Millisecond, Circuit: ingest.Circuit{FailureThreshold: 1, HalfOpenAfter: 50 * time.Millisecond},
	})
	if err != nil {
		t.Fatal(err)
	}
	h := c.For(mds.DefaultTenant())
	bar := func(i int) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1s", TS: time.Unix(int64(1_700_000_000+i), 0), Close: 1}
	}
	submit := func(i int) ingest.Receipt[mds.Bar] {
		r, err := h.Submit(t.Context(), bar(i))
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	first := submit(0)
	if _, err := first.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	w.stop()
	later := submit(1)
	for c.Stats().Failures == 0 {
		<-time.After(time.Millisecond)
	}
	w.listen(t, w.addr)
	if o, err := later.Wait(t.Context()); err != nil || o.Committed != 1 {
		t.Errorf("%+v, %v", o, err)
	}
	if err := c.Stop(t.Context()); err != nil {
		t.Error(err)
	}
	if n := len(collect(t, store.Bars(w.store).Query(t.Context(), mds.DefaultTenant(), mds.Query{}))); n != 2 {
		t.Errorf("%d bars", n)
	}
}

// TestRefusals tells what the server says, and sends nothing that is invalid.
func TestRefusals(t *testing.T) {
	w := serve(t, client.Config{Tenant: "nobody"})
	table := client.TableOf[mds.Bar](w.Client)
	good := mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1m", TS: time.Unix(1_700_000_000, 0), Close: 1}
	var e *client.Error
	if err := table.Write(t.Context(), good); !errors.As(err, &e) || e.Status != http.StatusNotFound || e.Code != "unknown_tenant" || err.Error() != "there is no such tenant" {
		t.Errorf("%v", err)
	}
	var record *mds.RecordError
	if err := table.Write(t.Context(), good, mds.Bar{}); !errors.As(err, &record) || record.Index != 1 {
		t.Errorf("%v", err)
	}
	if _, err := table.WriteBatch(t.Context(), mds.DefaultTenant(), []mds.Bar{good}); err != nil {
		t.Errorf("another tenant than the client's: %v", err)
	}
	for _, bad := range []string{"", "localhost:8080", "ftp://h", "http://", "http://u:p@h", "http://h?x=1"} {
		if _, err := client.New(client.Config{URL: bad}); err == nil || strings.Contains(err.Error(), "u:p") {
			t.Errorf("%q: %v", bad, err)
		}
	}
}

// TestRetries makes a request again where that may help, and heeds what the server asks.
func TestRetries(t *testing.T) {
	for name, tt := range map[string]struct {
		answers []string // of attempts; a status and a Retry-After, or "cut"
		calls   int
		ok      bool
	}{
		"at once":          {[]string{"200"}, 1, true},
		"503 and well":     {[]string{"503", "200"}, 2, true},
		"429 for a second": {[]string{"429 1", "200"}, 2, true},
		"no connection":    {[]string{"cut", "cut", "200"}, 3, true},
		"never well":       {[]string{"503"}, 3, false},
		"its own fault":    {[]string{"400"}, 1, false},
		"an odd answer":    {[]string{"500"}, 1, false},
	} {
		t.Run(name, func(t *testing.T) {
			var calls atomic.Int32
			s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				n := int(calls.Add(1))
				status, after, _ := strings.Cut(tt.answers[min(n, len(tt.answers))-1], " ")
				switch status {
				case "cut":
					panic(http.ErrAbortHandler)
				case "200":
					_, _ = w.Write([]byte(`{"read":1,"accepted":1,"committed":1}`))
				default:
					w.Header().Set("Retry-After", after)
					code := map[string]int{"400": 400, "429": 429, "500": 500, "503": 503}[status]
					w.WriteHeader(code)
				}
			}))
			defer s.Close()
			c, err := client.New(client.Config{URL: s.URL, MaxRetries: 2, Backoff: time.Millisecond, HTTPClient: s.Client()})
			if err != nil {
				t.Fatal(err)
			}
			start := time.Now()
			err = client.TableOf[mds.Bar](c).Write(t.Context(), mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1m", TS: time.Unix(1_700_000_000, 0), Close: 1})
			if (err == nil) != tt.ok || int(calls.Load()) != tt.calls {
				t.Errorf("%v after %d requests", err, calls.Load())
			}
			if strings.Contains(name, "second") && time.Since(start) < time.Second {
				t.Error("it did not wait")
			}
		})
	}
}

// TestWriteAllRefused tells what the server says, though the body goes on, and does not wait
// for a source that is silent.
func TestWriteAllRefused(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Retry-After", "7")
		w.Header().Set("Connection", "close")
		w.WriteHeader(http.StatusTooManyRequests)
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	silent, ended := make(chan struct{}), make(chan struct{})
	for range 20 {
		_, err = client.TableOf[mds.Bar](c).WriteAll(t.Context(), mds.Tenant{}, func(yield func(mds.Bar, error) bool) {
			defer func() { ended <- struct{}{} }()
			yield(mds.Bar{Vendor: "v", Symbol: "S", Timeframe: "1m", TS: time.Unix(1_700_000_000, 0), Close: 1}, nil)
			<-silent
		})
		var e *client.Error
		if !errors.As(err, &e) || e.Status != http.StatusTooManyRequests || e.RetryAfter != 7*time.Second || !mds.Retryable(err) {
			t.Errorf("%v", err)
		}
		silent <- struct{}{}
		<-ended
	}
	if _, err = client.New(client.Config{URL: "http://127.0.0.1:1"}); err != nil {
		t.Fatal(err)
	}
	nobody, err := client.New(client.Config{URL: "http://127.0.0.1:1", MaxRetries: -1})
	if err != nil {
		t.Fatal(err)
	}
	_, err = client.TableOf[mds.Bar](nobody).WriteAll(t.Context(), mds.Tenant{}, func(func(mds.Bar, error) bool) {})
	if !mds.Retryable(err) {
		t.Errorf("%v", err)
	}
}

// TestCutAnswer has an answer that ends too early be an error, never a short answer.
func TestCutAnswer(t *testing.T) {
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/vnd.apache.arrow.stream")
		out, err := arrow.NewWriter[mds.Bar](w, arrow.WriterOptions{BatchRows: 1})
		for i := range 3 {
			err = errors.Join(err, out.Append(&mds.Bar{Vendor: "v", Symbol: "S", Timeframe: mds.Minute, TS: time.Unix(int64(1_700_000_000+60*i), 0).UTC(), Close: 1}))
		}
		if err := errors.Join(err, out.Flush()); err != nil {
			t.Error(err)
		}
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	}))
	defer s.Close()
	c, err := client.New(client.Config{URL: s.URL, HTTPClient: s.Client()})
	if err != nil {
		t.Fatal(err)
	}
	n := 0
	var last error
	for _, err := range client.TableOf[mds.Bar](c).Query(t.Context(), mds.Tenant{}, mds.Query{}) {
		if last = err; err == nil {
			n++
		}
	}
	if n != 3 || last == nil || !strings.Contains(last.Error(), "the answer ends too early") {
		t.Errorf("%d bars, %v", n, last)
	}
}
