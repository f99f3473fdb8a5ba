package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/internal/pgtest"
)

// serving is a mds serve that runs.
type serving struct {
	*exec.Cmd
	url   string
	lines *bufio.Scanner // of its stderr
	said  []string
}

// serve starts the program and waits until it listens.
func (c *cli) serve(args ...string) *serving {
	c.t.Helper()
	s := &serving{Cmd: c.program(append([]string{"serve", "--listen", "127.0.0.1:0"}, args...)...)}
	stderr, err := s.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := s.Start(); err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() {
		_ = s.Process.Kill() // if it still runs
		_ = s.Wait()
	})
	s.lines = bufio.NewScanner(stderr)
	line := s.next(c.t, "serving ")
	_, s.url, _ = strings.Cut(line, " on ")
	s.url, _, _ = strings.Cut(s.url, ",")
	return s
}

// next reads what it says up to a line with a text.
func (s *serving) next(t *testing.T, part string) string {
	t.Helper()
	for s.lines.Scan() {
		if s.said = append(s.said, s.lines.Text()); strings.Contains(s.lines.Text(), part) {
			return s.lines.Text()
		}
	}
	t.Fatalf("it never says %q:\n%s", part, strings.Join(s.said, "\n"))
	return ""
}

// post posts bars of a symbol, as many as there are minutes, with a key if there is one.
func post(url, token, symbol string, minutes int) (status int, body string, err error) {
	var rows strings.Builder
	for i := range minutes {
		fmt.Fprintf(&rows, `{"vendor":"v","symbol":%q,"timeframe":"1m","ts":%d,"close":1}`+"\n", symbol, 1_700_000_000+60*i)
	}
	r, err := http.NewRequest(http.MethodPost, url, strings.NewReader(rows.String()))
	if err != nil {
		return 0, "", err
	}
	r.Header.Set("Content-Type", "application/x-ndjson")
	if token != "" {
		r.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		return 0, "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	return resp.StatusCode, string(text), err
}

// TestServe serves, is interrupted, and says what became of what it took in; and while it
// serves others are told that the files are its own.
func TestServe(t *testing.T) {
	c := newCLI(t)
	s := c.serve()
	if status, body, err := post(s.url+"/v1/bars", "", "A", 5); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	if out := c.run("query", "bars"); out.exit != exitFailed || !strings.Contains(out.stderr, "one process owns the file") {
		t.Errorf("another program is told %d, %s", out.exit, out.stderr)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	s.next(t, "bars of tenant default: 5 accepted: 5 written, 0 unchanged, 0 superseded, 0 dead-lettered, 0 dropped, 0 unwritten")
	if err := s.Wait(); err != nil {
		t.Errorf("%v, %s", err, strings.Join(s.said, "\n"))
	}
	if out := c.must("query", "bars", "--format", "csv"); strings.Count(out.stdout, "\n") != 6 {
		t.Errorf("%s", out.stdout)
	}
}

// TestServeRefuses tells what would let others in.
func TestServeRefuses(t *testing.T) {
	c := newCLI(t)
	for _, tt := range []struct{ args, says string }{
		{"--listen 0.0.0.0:8080", `--listen "0.0.0.0:8080": it would let others in, and there are no API keys: make one with mds keys create --scopes read,write, or listen on 127.0.0.1`},
		{"--listen :8080", `--listen ":8080": it would let others in`},
		{"--listen example.com:80", `--listen "example.com:80": it would let others in`},
		{"--tls-cert a.pem", "--tls-cert and --tls-key belong together"},
		{"--tls-cert /nowhere/a.pem --tls-key /nowhere/b.pem", "/nowhere/a.pem"},
		{"--listen 8080", `--listen "8080": write host:port, such as 127.0.0.1:8080`},
		{"--drain-timeout 0s", `--drain-timeout "0s": write a duration such as 250ms, 30s or 1m`},
		{"--listen 127.0.0.1:99999", `--listen "127.0.0.1:99999": write host:port, such as 127.0.0.1:8080`},
		{"--admin-listen 6060", `--admin-listen "6060": write an address of loopback, such as 127.0.0.1:6060`},
		{"--admin-listen :6060", `--admin-listen ":6060": write an address of loopback, such as 127.0.0.1:6060: it asks nobody for keys`},
		{"--admin-listen 192.0.2.1:6060", `--admin-listen "192.0.2.1:6060": write an address of loopback`},
		{"--audit-log /", `--audit-log "/": the audit log / is no file`},
		{"now", `mds serve takes no arguments, and "now" is one`},
	} {
		if out := c.run(append([]string{"serve"}, strings.Fields(tt.args)...)...); out.exit != exitUsage || !strings.Contains(out.stderr, tt.says) {
			t.Errorf("serve %s: exit %d, %s", tt.args, out.exit, out.stderr)
		}
	}
	s := c.serve()
	other := newCLI(t)
	_, address, _ := strings.Cut(s.url, "://")
	if out := other.run("serve", "--listen", address); out.exit != exitUsage || !strings.Contains(out.stderr, "address already in use") {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
	if err := s.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// TestServeAdmin gives profiles and metrics on an address of their own.
func TestServeAdmin(t *testing.T) {
	c := newCLI(t)
	s := c.serve("--admin-listen", "localhost:0")
	line := s.next(t, "administration on http://127.0.0.1:")
	_, admin, _ := strings.Cut(line, " on ")
	admin, _, _ = strings.Cut(admin, ",")
	for url, want := range map[string]int{
		admin + "/debug/pprof/": http.StatusOK, admin + "/metrics": http.StatusOK, admin + "/v1/bars": http.StatusNotFound,
		s.url + "/debug/pprof/": http.StatusNotFound, s.url + "/v1/bars": http.StatusOK,
	} {
		resp, err := http.Get(url)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Errorf("%s is answered %d, want %d", url, resp.StatusCode, want)
		}
	}
	_, address, _ := strings.Cut(admin, "://")
	if out := newCLI(t).run("serve", "--listen", "127.0.0.1:0", "--admin-listen", address); out.exit != exitUsage || !strings.Contains(out.stderr, "address already in use") {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
}

// TestServeNotifies tells systemd when it serves, that it is well, and when it stops.
func TestServeNotifies(t *testing.T) {
	path := filepath.Join(t.TempDir(), "notify")
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	t.Setenv("NOTIFY_SOCKET", path)
	t.Setenv("WATCHDOG_USEC", "50000")
	told := func(want string) {
		t.Helper()
		_ = conn.SetReadDeadline(time.Now().Add(20 * time.Second))
		for datagram := make([]byte, 100); ; {
			n, err := conn.Read(datagram)
			if err != nil {
				t.Fatalf("it is never told %s: %v", want, err)
			}
			if string(datagram[:n]) == want {
				return
			}
		}
	}
	s := newCLI(t).serve()
	told("READY=1")
	told("WATCHDOG=1")
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	told("STOPPING=1")
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// TestServeAudits has a file for control actions, which is its owner's.
func TestServeAudits(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit")
	newCLI(t).serve("--audit-log", path)
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o600 {
		t.Errorf("%v, %v", info, err)
	}
}

// TestServePosts posts the feedback of each kind, signed, from the start on.
func TestServePosts(t *testing.T) {
	heard := make(chan string, 100)
	receiver, err := feedback.NewReceiver(feedback.ReceiverConfig{Secret: []byte("topsecret")}, func(e feedback.Event) { heard <- e.Kind })
	if err != nil {
		t.Fatal(err)
	}
	var refused atomic.Int64
	hook := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if refused.Add(1) == 1 { // which is tried again
			w.WriteHeader(http.StatusServiceUnavailable)
			return
		}
		receiver.ServeHTTP(w, r)
	}))
	defer hook.Close()
	c := newCLI(t)
	t.Setenv("MDS_FB_HTTP_ENDPOINT", hook.URL+"/feedback?token=geheim")
	t.Setenv("MDS_FB_HTTP_SECRET", "topsecret")
	t.Setenv("MDS_FB_HTTP_BACKOFF", "1ms")
	s := c.serve()
	kinds := make(map[string]bool)
	for len(kinds) < 4 {
		select {
		case kind := <-heard:
			kinds[kind] = true
		case <-time.After(20 * time.Second):
			t.Fatalf("only of %v", kinds)
		}
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	for s.lines.Scan() {
		if strings.Contains(s.lines.Text(), "geheim") {
			t.Errorf("it says %s", s.lines.Text())
		}
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
}

// TestServeKeys asks for keys where there are any, on both engines: one that is made or
// revoked while it serves counts, or counts no more, within moments.
func TestServeKeys(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c *keysCLI) {
		make := func() (token, id string) {
			out := c.mustKeys("create", "--tenant", "acme", "--scopes", "read,write")
			token = strings.TrimSpace(out.stdout)
			return token, strings.Split(token, "_")[1]
		}
		first, firstID := make()
		s := c.serve("--tenant", "acme")
		if !strings.HasSuffix(s.said[len(s.said)-1], ", with keys") {
			t.Errorf("%q", s.said)
		}
		status := func(token string) int {
			r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/v1/bars", nil)
			if err != nil {
				t.Fatal(err)
			}
			r.Header.Set("Authorization", "Bearer "+token)
			resp, err := http.DefaultClient.Do(r)
			if err != nil {
				t.Fatal(err)
			}
			_ = resp.Body.Close()
			return resp.StatusCode
		}
		await := func(token string, want int) {
			t.Helper()
			for range 500 {
				if status(token) == want {
					return
				}
				<-time.After(10 * time.Millisecond)
			}
			t.Errorf("it never answers %d", want)
		}
		if got := status(first); got != http.StatusOK {
			t.Errorf("a key is answered %d", got)
		}
		if got := status("mds_x"); got != http.StatusUnauthorized {
			t.Errorf("no key is answered %d", got)
		}
		second, id := make()
		await(second, http.StatusOK)
		c.mustKeys("revoke", id)
		await(second, http.StatusUnauthorized)
		if got := status(first); got != http.StatusOK {
			t.Errorf("the other key is answered %d", got)
		}
		if err := s.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		if err := s.Wait(); err != nil {
			t.Error(err)
		}
		c.mustKeys("revoke", firstID)
		s = c.serve("--tenant", "acme")
		if got := status(first); got != http.StatusUnauthorized {
			t.Errorf("when all keys have ended it answers %d", got)
		}
	})
}

// TestServeDatabase serves no database that others use without keys.
func TestServeDatabase(t *testing.T) {
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	c.must("migrate", "--admin-dsn", d.Owner)
	if out := c.run("serve", "--listen", "127.0.0.1:0"); out.exit != exitUsage || !strings.Contains(out.stderr, "a database that others use is not served without API keys: make one with mds keys create --scopes read,write") {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
}

// TestServeConfigured has the settings of a file reach the server, and a flag go before one.
func TestServeConfigured(t *testing.T) {
	c := newCLI(t)
	path := configured(t, `
[serve]
listen = "256.0.0.1:1" # which the flag goes before
cors_origins = ["https://notebook.example.com"]
max_body_bytes = 200
max_header_bytes = "4KiB"

[rates]
requests = 0.001
`)
	s := c.serve("--config", path)
	ask := func(method, body string, headers ...string) (status int, header http.Header) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+"/v1/bars", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Content-Type", "application/x-ndjson")
		for i := 0; i < len(headers); i += 2 {
			r.Header.Set(headers[i], headers[i+1])
		}
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		return resp.StatusCode, resp.Header
	}
	const origin = "https://notebook.example.com"
	if status, header := ask("POST", strings.Repeat(" ", 201), "Origin", origin); status != http.StatusRequestEntityTooLarge || header.Get("Access-Control-Allow-Origin") != origin {
		t.Errorf("%d %v", status, header)
	}
	if status, header := ask("GET", ""); status != http.StatusTooManyRequests || header.Get("Retry-After") == "" {
		t.Errorf("%d %v", status, header)
	}
	if status, _ := ask("GET", "", "X-Long", strings.Repeat("x", 20<<10)); status != http.StatusRequestHeaderFieldsTooLarge {
		t.Errorf("%d", status)
	}
	if err := s.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if err := s.Wait(); err != nil {
		t.Error(err)
	}
	path = configured(t, "[serve]\nlisten = \"0.0.0.0:0\"\n")
	want := "mds: " + path + `:2: serve.listen is "0.0.0.0:0": it would let others in, and there are no API keys`
	if out := c.run("serve", "--config", path); out.exit != exitUsage || !strings.HasPrefix(out.stderr, want) {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
	path = configured(t, "[serve]\nlisten = \"127.0.0.1:0\"\ncors_origins = [\"*\"]\n")
	want = "mds: " + path + `:3: serve.cors_origins is "*": pages of any origin may use a server only where it asks for API keys`
	if out := c.run("serve", "--config", path); out.exit != exitUsage || !strings.HasPrefix(out.stderr, want) {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
}

func TestRateOf(t *testing.T) {
	tenant := func(slug string) mds.Tenant { return mds.Tenant{Slug: slug} }
	if rateOf(0, nil) != nil {
		t.Error("where none is set there is one")
	}
	for _, tt := range []struct {
		name string
		all  float64
		own  map[string]float64
		want [2]float64 // of acme and another
	}{
		{"all", 5, nil, [2]float64{5, 5}},
		{"its own", 5, map[string]float64{"acme": 50}, [2]float64{50, 5}},
		{"its own alone", 0, map[string]float64{"acme": 50}, [2]float64{50, 0}},
		{"no limit of its own", 5, map[string]float64{"acme": 0}, [2]float64{0, 5}},
	} {
		rate := rateOf(tt.all, tt.own)
		if got := [2]float64{rate(tenant("acme")), rate(tenant("other"))}; got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
}
