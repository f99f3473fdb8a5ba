package server_test

import (
	"bytes"
	"compress/gzip"
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// keyedOnDuckDB is a server that asks for keys, and a token that may all.
func keyedOnDuckDB(t *testing.T, cfg server.Config) (w *world, token, id string) {
	t.Helper()
	dsn := "duckdb://" + t.TempDir()
	st, err := store.Open(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := store.OpenKeys(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	cfg.Keys = apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Nanosecond})
	k := &keyed{serve(t, dsn, cfg, st), keys}
	token, id = k.make(t, "default", time.Time{}, mds.ScopeRead, mds.ScopeWrite, mds.ScopeAdmin)
	return k.world, token, id
}

// TestAdmin serves who runs the server without a key, where a server asks for them, and
// serves nothing else there.
func TestAdmin(t *testing.T) {
	w, _, _ := keyedOnDuckDB(t, server.Config{})
	get := func(path string, headers ...string) answer {
		return w.askAt(t, w.admin, http.MethodGet, path, nil, headers...)
	}
	for path, says := range map[string]string{
		"/metrics":                       "store_up 1",
		"/healthz":                       `"state":"healthy"`,
		"/readyz":                        `"state":"healthy"`,
		"/debug/pprof/":                  "goroutine",
		"/debug/pprof/goroutine?debug=1": "goroutine profile: total",
		"/debug/pprof/symbol":            "num_symbols",
	} {
		if a := get(path); a.status != http.StatusOK || !strings.Contains(a.body, says) {
			t.Errorf("%s is answered %d, %.200s", path, a.status, a.body)
		}
	}
	zipped, err := gzip.NewReader(bytes.NewBufferString(get("/debug/pprof/heap").body))
	if err != nil {
		t.Fatalf("a profile of the heap is none: %v", err)
	}
	if profile, err := io.ReadAll(zipped); err != nil || !bytes.Contains(profile, []byte("inuse_space")) {
		t.Errorf("a profile of the heap has no inuse_space: %v", err)
	}
	for _, path := range []string{"/v1/bars", "/v1/stats", "/schema/version", "/openapi.json", "/debug/pprof/cmdline", "/debug/vars", "/"} {
		if a := get(path); a.status != http.StatusNotFound {
			t.Errorf("%s is answered %d, %.200s", path, a.status, a.body)
		}
	}
	if a := w.askAt(t, w.admin, http.MethodPost, "/v1/bars", strings.NewReader(bar("A", 0, 1))); a.status != http.StatusNotFound {
		t.Errorf("a record is answered %d, %s", a.status, a.body)
	}
}

// TestAdminByAnotherName refuses pages that were made to lead there.
func TestAdminByAnotherName(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	_, port, _ := strings.Cut(strings.TrimPrefix(w.admin, "http://"), ":")
	for _, path := range []string{"/metrics", "/debug/pprof/", "/healthz", "/"} {
		w.askAt(t, w.admin, http.MethodGet, path, nil, "Host", "evil.example:"+port).problem(t, http.StatusMisdirectedRequest, "wrong_host", `this server is not called "evil.example:`)
		w.askAt(t, w.admin, http.MethodGet, path, nil, "Sec-Fetch-Site", "cross-site").problem(t, http.StatusForbidden, "cross_origin", "a page of another site")
	}
	for _, host := range []string{"localhost:" + port, "127.0.0.1", "[::1]:" + port} {
		if a := w.askAt(t, w.admin, http.MethodGet, "/metrics", nil, "Host", host, "Sec-Fetch-Site", "none"); a.status != http.StatusOK {
			t.Errorf("as %s it is answered %d, %s", host, a.status, a.body)
		}
	}
}

// TestAdminOnAnotherAddress serves it by the name of its own address, which is none of those
// of a server without keys.
func TestAdminOnAnotherAddress(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("there is one address of loopback")
	}
	w := run(t, "duckdb://"+t.TempDir(), server.Config{Hosts: server.Loopback()}, server.RunConfig{Admin: listen(t, "127.0.0.2:0")})
	for _, path := range []string{"/metrics", "/debug/pprof/", "/healthz"} {
		if a := w.askAt(t, w.admin, http.MethodGet, path, nil); a.status != http.StatusOK {
			t.Errorf("%s is answered %d, %s", path, a.status, a.body)
		}
		w.askAt(t, w.admin, http.MethodGet, path, nil, "Host", "evil.example").problem(t, http.StatusMisdirectedRequest, "wrong_host", "")
	}
	w.get(t, "/healthz", "Host", "127.0.0.2").problem(t, http.StatusMisdirectedRequest, "wrong_host", "")
}

// TestNoProfilesInPublic has a server give no profile to whom it serves, whatever key there
// is, though the package of profiles puts them where programs serve by default.
func TestNoProfilesInPublic(t *testing.T) {
	if _, pattern := http.DefaultServeMux.Handler(httptest.NewRequest(http.MethodGet, "/debug/pprof/", nil)); pattern == "" {
		t.Error("the package has none any more: the test shows nothing")
	}
	w, token, _ := keyedOnDuckDB(t, server.Config{})
	for _, path := range []string{"/debug/pprof/", "/debug/pprof/heap", "/debug/pprof/cmdline", "/debug/pprof/profile?seconds=1", "/debug/vars", "/debug"} {
		for _, headers := range [][]string{nil, bearer(token), {"Host", "localhost"}} {
			w.get(t, path, headers...).problem(t, http.StatusNotFound, "not_found", "there is no")
		}
	}
}

// TestAdminEnds has the administration say that the server is being stopped while it is,
// cut off a profile that goes on, and end with it.
func TestAdminEnds(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	r, body := io.Pipe()
	sent := make(chan answer)
	go func() { sent <- w.ask(t, http.MethodPost, "/v1/bars", r, "Content-Type", "application/x-ndjson") }()
	if _, err := io.WriteString(body, bar("A", 0, 1)); err != nil {
		t.Fatal(err)
	}
	await(t, "the row is stored", func() bool { return strings.Count(w.get(t, "/v1/bars?format=ndjson").body, "\n") == 1 })
	profile := make(chan error, 1)
	go func() {
		req, err := http.NewRequestWithContext(context.Background(), http.MethodGet, w.admin+"/debug/pprof/trace?seconds=600", nil)
		if err != nil {
			profile <- err
			return
		}
		resp, err := w.client.Do(req)
		if err == nil {
			_, err = io.Copy(io.Discard, resp.Body)
			_ = resp.Body.Close()
		}
		profile <- err
	}()
	w.stop()
	await(t, "it is told that the server is being stopped", func() bool {
		a := w.askAt(t, w.admin, http.MethodGet, "/readyz", nil)
		return a.status == http.StatusServiceUnavailable && strings.Contains(a.body, "it is being stopped")
	})
	_ = body.Close()
	<-sent
	err := <-w.ended
	w.ended <- err
	if err := <-profile; err == nil {
		t.Error("a trace of ten minutes is whole")
	}
	if resp, err := w.client.Get(w.admin + "/healthz"); err == nil {
		_ = resp.Body.Close()
		t.Error("the administration is still served")
	}
}
