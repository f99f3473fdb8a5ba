package server_test

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		pgtest.Stop()
		os.Exit(code)
	}))
}

// engines runs a test on each.
func engines(t *testing.T, test func(t *testing.T, dsn string)) {
	t.Run("DuckDB", func(t *testing.T) { test(t, "duckdb://"+t.TempDir()) })
	t.Run("PostgreSQL", func(t *testing.T) { test(t, migrated(t)) })
}

// migrated is the DSN of a database that has its schema.
func migrated(t *testing.T) string {
	t.Helper()
	return pgtest.Fresh(t, "migrated", func(d pgtest.Database) error {
		_, err := postgres.Migrate(context.Background(), d.Owner, postgres.MigrateConfig{})
		_, grantErr := postgres.GrantService(context.Background(), d.Owner, d.Service)
		return errors.Join(err, grantErr)
	}).Service
}

// copying is a server whose store refuses a row that is there already.
func copying(t *testing.T) *world {
	t.Helper()
	dsn := migrated(t)
	st, err := store.Open(t.Context(), dsn, store.Config{WriteMode: "copy"})
	if err != nil {
		t.Fatal(err)
	}
	return serve(t, dsn, server.Config{}, st)
}

// world is a server that runs.
type world struct {
	url    string
	admin  string // the URL of the administration
	addr   string
	store  *store.Store
	jobs   store.Jobs
	server *server.Server
	logs   *journal
	stop   context.CancelFunc // has it drain
	over   context.CancelFunc // and give up
	ended  chan error
	client *http.Client
}

// journal is what a server says, which goes on saying things.
type journal struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (j *journal) Write(b []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.Write(b)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.text.String()
}

// serve runs a server over a store, or one that is open, until the test ends.
func serve(t testing.TB, dsn string, cfg server.Config, opened ...*store.Store) *world {
	t.Helper()
	return run(t, dsn, cfg, server.RunConfig{}, opened...)
}

// run is serve with settings of how it runs.
func run(t testing.TB, dsn string, cfg server.Config, running server.RunConfig, opened ...*store.Store) *world {
	t.Helper()
	var st *store.Store
	var err error
	if len(opened) > 0 {
		st = opened[0]
	} else if st, err = store.Open(context.Background(), dsn, store.Config{}); err != nil {
		t.Fatal(err)
	}
	w := &world{store: st, logs: &journal{}, ended: make(chan error, 1), client: &http.Client{Transport: &http.Transport{}}}
	cfg.Store = st
	cfg.Kinds = []server.Kind{server.KindOf[mds.Bar](), server.KindOf[mds.OptionSnap](), server.KindOf[mds.Fundamentals](), server.KindOf[mds.News](), server.ReadOnlyKindOf[mds.Rollup]()}
	if cfg.SQL == nil {
		if cfg.SQL, err = store.OpenSQL(context.Background(), st, nil); err != nil {
			t.Fatal(err)
		}
	}
	if cfg.Jobs == nil {
		cfg.Jobs = &server.JobsConfig{}
	}
	w.jobs = jobsOf(t, st, cfg.Jobs)
	cfg.Version = "test"
	cfg.Logger = slog.New(slog.NewTextHandler(w.logs, nil))
	if w.server, err = server.New(context.Background(), cfg); err != nil {
		t.Fatal(err)
	}
	listener := listen(t, "127.0.0.1:0")
	if running.Admin == nil {
		running.Admin = listen(t, "127.0.0.1:0")
	}
	running.Drain, running.HeaderTimeout = 30*time.Second, cmp.Or(running.HeaderTimeout, 30*time.Second)
	w.admin = "http://" + running.Admin.Addr().String()
	w.addr = listener.Addr().String()
	w.url = "http://" + w.addr
	ctx, stop := context.WithCancel(context.Background())
	over, give := context.WithCancel(context.Background())
	w.stop, w.over = stop, give
	go func() {
		w.ended <- w.server.Run(ctx, over, listener, running)
	}()
	t.Cleanup(func() {
		stop()
		w.client.CloseIdleConnections()
		if err := <-w.ended; err != nil {
			t.Error(err)
		}
		give()
		if err := errors.Join(w.jobs.Close(), st.Close()); err != nil {
			t.Error(err)
		}
		if t.Failed() {
			t.Log(w.logs.String())
		}
	})
	return w
}

// jobsOf fills in what a server needs to run the jobs of a store.
func jobsOf(t testing.TB, st *store.Store, cfg *server.JobsConfig) store.Jobs {
	t.Helper()
	var err error
	if cfg.Jobs, err = store.OpenJobs(context.Background(), st); err != nil {
		t.Fatal(err)
	}
	cfg.Worker = cmp.Or(cfg.Worker, "test")
	cfg.Rejects = cmp.Or(cfg.Rejects, t.TempDir())
	return cfg.Jobs
}

func listen(t testing.TB, address string) net.Listener {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", address)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// answer is what a request was answered with.
type answer struct {
	status  int
	header  http.Header
	trailer http.Header
	body    string
}

// ask makes a request. headers are pairs of name and value.
func (w *world) ask(t testing.TB, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	return w.askAt(t, w.url, method, path, body, headers...)
}

// askAt makes a request of another listener.
func (w *world) askAt(t testing.TB, url, method, path string, body io.Reader, headers ...string) answer {
	t.Helper()
	r, err := http.NewRequestWithContext(context.Background(), method, url+path, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(headers); i += 2 {
		if r.Header.Set(headers[i], headers[i+1]); headers[i] == "Host" {
			r.Host = headers[i+1]
		}
	}
	resp, err := w.client.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	return answer{resp.StatusCode, resp.Header, resp.Trailer, string(text)}
}

// post posts NDJSON.
func (w *world) post(t testing.TB, path, body string, headers ...string) answer {
	t.Helper()
	return w.ask(t, http.MethodPost, path, strings.NewReader(body), append([]string{"Content-Type", "application/x-ndjson"}, headers...)...)
}

func (w *world) get(t testing.TB, path string, headers ...string) answer {
	t.Helper()
	return w.ask(t, http.MethodGet, path, nil, headers...)
}

// into reads a JSON answer, of a status.
func (a answer) into(t testing.TB, status int, to any) {
	t.Helper()
	if a.status != status {
		t.Fatalf("status %d, want %d: %s", a.status, status, a.body)
	}
	if err := json.Unmarshal([]byte(a.body), to); err != nil {
		t.Fatalf("%v: %s", err, a.body)
	}
}

// problem checks that an answer is a problem with a code.
func (a answer) problem(t testing.TB, status int, code, detail string) client.Problem {
	t.Helper()
	var p client.Problem
	a.into(t, status, &p)
	if p.Status != status || p.Code != code || !strings.Contains(p.Detail, detail) || a.header.Get("Content-Type") != "application/problem+json" || p.RequestID == "" {
		t.Errorf("%+v, want %s: %s", p, code, detail)
	}
	return p
}

// bar is a line of NDJSON: minute number n of a symbol.
func bar(symbol string, n int, price float64) string {
	return fmt.Sprintf(`{"vendor":"v","symbol":%q,"timeframe":"1m","ts":%q,"close":%v}`+"\n", symbol, minute(n), price)
}

func minute(n int) string {
	return time.Date(2026, 1, 2, 14, 30+n, 0, 0, time.UTC).Format(time.RFC3339)
}
