package server_test

import (
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// twoTenants is a server without keys with the tenants a and b.
func twoTenants(t *testing.T, cfg server.Config) *world {
	t.Helper()
	dsn := "duckdb://" + t.TempDir()
	st, err := store.Open(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	for _, slug := range []string{"a", "b"} {
		if _, err := st.CreateTenant(t.Context(), slug); err != nil {
			t.Fatal(err)
		}
	}
	cfg.Tenant = "a"
	return serve(t, dsn, cfg, st)
}

// TestRequestRate has a tenant be refused that makes too many requests, and no other.
func TestRequestRate(t *testing.T) {
	w := twoTenants(t, server.Config{RequestRate: func(tenant mds.Tenant) float64 {
		return map[string]float64{"a": 0.001}[tenant.Slug]
	}})
	begun := time.Now()
	w.post(t, "/v1/bars", bar("A", 1, 1)).into(t, http.StatusOK, new(any))
	read := false
	refused := w.ask(t, http.MethodPost, "/v1/bars", watched{strings.NewReader(bar("A", 2, 1)), &read}, "Content-Type", "application/x-ndjson", "Expect", "100-continue")
	passed := int(time.Since(begun).Seconds()) // whole seconds, which are 0 most often
	refused.problem(t, http.StatusTooManyRequests, "too_many_requests", "the tenant a makes more than its 0.001 requests a second: nothing of this was read; come back after the time in Retry-After")
	if after, err := strconv.Atoi(refused.header.Get("Retry-After")); err != nil || after < 1000-passed || after > 1000 {
		t.Errorf("Retry-After is %s", refused.header.Get("Retry-After"))
	}
	if read {
		t.Error("the body was read")
	}
	// By its id it is the same, reading is no other thing, and what is of no tenant is there.
	id := mustTenant(t, w, "a").ID
	w.get(t, "/v1/bars/series", "Mds-Tenant", id).problem(t, http.StatusTooManyRequests, "too_many_requests", "the tenant a ")
	w.get(t, "/v1/bars").problem(t, http.StatusTooManyRequests, "too_many_requests", "the tenant a ")
	w.get(t, "/readyz").into(t, http.StatusOK, new(any))
	for n := range 20 {
		w.post(t, "/v1/bars", bar("B", n, 1), "Mds-Tenant", "b").into(t, http.StatusOK, new(any))
	}
}

// watched notes that it is read.
type watched struct {
	*strings.Reader
	read *bool
}

func (r watched) Read(p []byte) (int, error) {
	*r.read = true
	return r.Reader.Read(p)
}

func mustTenant(t *testing.T, w *world, slug string) mds.Tenant {
	t.Helper()
	tenant, err := w.store.Tenant(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// TestRecordRate has the body of a tenant wait that sends more than its rate, and no other
// tenant's.
func TestRecordRate(t *testing.T) {
	w := twoTenants(t, server.Config{Ingest: ingest.Config[any]{Rate: func(tenant mds.Tenant) float64 {
		return map[string]float64{"a": 0.001}[tenant.Slug]
	}}})
	var body strings.Builder
	for n := range 2500 {
		body.WriteString(bar("A", n, 1))
	}
	ended := make(chan answer, 1)
	go func() { ended <- w.post(t, "/v1/bars", body.String()) }()
	accepted := func() (n int64) {
		for _, l := range w.server.Ledgers() {
			if l.Kind == "bars" && l.Tenant == "a" {
				n += l.Accepted
			}
		}
		return n
	}
	for deadline := time.Now().Add(time.Minute); accepted() == 0; {
		if time.Now().After(deadline) {
			t.Fatal("nothing of it is taken in")
		}
	}
	for n := range 20 {
		w.post(t, "/v1/bars", bar("B", n, 1), "Mds-Tenant", "b").into(t, http.StatusOK, new(any))
	}
	select {
	case a := <-ended:
		t.Fatalf("it is taken in beyond its rate: %d %s", a.status, a.body)
	default:
	}
	w.server.EndIntake()
	if p := (<-ended).problem(t, http.StatusServiceUnavailable, "stopping", ""); p.Ledger == nil || p.Ledger.Accepted != 1 || p.Ledger.Committed != 1 {
		t.Errorf("%+v", p.Ledger)
	}
}

// TestBodyTooLarge has a body be refused that is larger than it may be: before it is read
// where it says so, and else with what became of its rows.
func TestBodyTooLarge(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{MaxBodyBytes: 100_000})
	small := strings.Repeat(bar("A", 1, 1), 1000)
	w.post(t, "/v1/bars", small).into(t, http.StatusOK, new(any))
	large := strings.Repeat(bar("B", 1, 1), 3000)
	const says = "the body is larger than the 100000 bytes that this server takes: send its records in several"
	if p := w.post(t, "/v1/bars", large).problem(t, http.StatusRequestEntityTooLarge, "body_too_large", says); p.Ledger != nil {
		t.Errorf("%+v", p.Ledger)
	}
	// Of unknown length.
	p := w.ask(t, http.MethodPost, "/v1/bars", onlyReader{strings.NewReader(large)}, "Content-Type", "application/x-ndjson").
		problem(t, http.StatusRequestEntityTooLarge, "body_too_large", says)
	if p.Ledger == nil || p.Ledger.Accepted == 0 || p.Ledger.Accepted > 100_000/int64(len(bar("B", 1, 1))) || p.Ledger.Committed != p.Ledger.Accepted {
		t.Errorf("%+v", p.Ledger)
	}
}

// onlyReader hides what else a reader is, such as how long.
type onlyReader struct{ *strings.Reader }

func (onlyReader) Len() {}
