package main

import (
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
)

// TestThroughAServer runs the commands on data against a server, with the key of a tenant.
func TestThroughAServer(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c *keysCLI) {
		t.Setenv("XDG_DATA_HOME", t.TempDir())
		key := func(scopes string) string {
			return strings.TrimSpace(c.mustKeys("create", "--tenant", "acme", "--scopes", scopes).stdout)
		}
		all, reads, writes := key("read,write,admin"), key("read"), key("write")
		c.apiKey = all
		s := c.serve("--tenant", "acme")
		run := func(args ...string) outcome { return c.run(append(args, "--server", s.url)...) }
		file := filepath.Join(t.TempDir(), "a.csv")
		if err := os.WriteFile(file, []byte("vendor,symbol,timeframe,ts,open,high,low,close,volume\n"+
			"v,A,1m,2026-01-02T14:30:00Z,1,3,1,2,10\nv,A,1m,2026-01-02T14:31:00Z,2,4,2,3,20\nv,\"B,C\",1m,2026-01-02T14:30:00Z,,,,5,\nv,A,1m,2026-01-02T14:32:00Z,,,,x,\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		for _, tt := range []struct {
			args []string
			exit int
			want string // in the output
		}{
			{[]string{"ingest", "bars", file}, exitRejected, "bars: 4 read = 1 rejected + 3 accepted; accepted = 3 committed\n"},
			{[]string{"query", "bars", "--format", "csv", "--symbol", "A"}, exitDone, "v,A,1m,2026-01-02T14:30:00Z,1,3,1,2,10,,\nv,A,1m,2026-01-02T14:31:00Z,2,4,2,3,20,,\n"},
			{[]string{"query", "bars", "--format", "csv", "--symbol", "A", "--every", "5m"}, exitDone, "v,A,5m,2026-01-02T14:30:00Z,1,4,1,3,30,,\n"},
			{[]string{"latest", "A", "--format", "csv"}, exitDone, "v,A,1m,2026-01-02T14:31:00Z,2,4,2,3,20,,\n"},
			{[]string{"series", "bars"}, exitDone, "B,C"},
			{[]string{"export", "bars", "-", "--format", "csv", "--symbol", `"B,C"`}, exitDone, "v,\"B,C\",1m,2026-01-02T14:30:00Z,,,,5,,,\n"},
			{[]string{"write", "bars", "--vendor", "v", "--symbol", "D", "--timeframe", "1d", "--ts", "2026-01-02", "--close", "7"}, exitDone, "bar v D 1d 2026-01-02T00:00:00Z: written\n"},
			{[]string{"info"}, exitDone, "bars         4 rows in 3 series, 2026-01-02 00:00:00 to 2026-01-02 14:31:00 UTC\n"},
			{[]string{"delete", "bars", "--symbol", "D", "--yes"}, exitDone, "1 bar removed\n"},
			{[]string{"delete", "bars", "--symbol", "D", "--yes"}, exitDone, "0 bars removed\n"},
			{[]string{"ping"}, exitDone, " answers for tenant acme in "},
			{[]string{"schema-version"}, exitDone, "\n"},
			{[]string{"health"}, exitDone, "healthy\n"},
			{[]string{"tenant", "list"}, exitDone, "acme"},
			{[]string{"tenant", "create", "x"}, exitFailed, "mds: this is about all tenants: it takes a key with the scope admin of the tenant that the server's setting serve.operator_tenant names; where that is not set nobody does it through the server\n"},
			{[]string{"compact"}, exitUsage, "mds: mds compact works on a store itself, not through a server: run it where the store is, with --dsn\n"},
			{[]string{"policies"}, exitUsage, "mds: mds policies: say which, "},
			{[]string{"serve"}, exitUsage, "mds: mds serve works on a store itself"},
			{[]string{"query", "bars", "--tenant", "default"}, exitFailed, "mds: there is no such tenant; mds tenant list --server http://127.0.0.1:"},
			{[]string{"query", "bars", "--dsn", "duckdb://x"}, exitUsage, "mds: --server and --dsn each name a store: give one of them\n"},
		} {
			if out := run(tt.args...); out.exit != tt.exit || !strings.Contains(out.stdout+out.stderr, tt.want) {
				t.Errorf("mds %s: exit %d, want %d with %q:\n%s%s", strings.Join(tt.args, " "), out.exit, tt.exit, tt.want, out.stdout, out.stderr)
			}
		}
		if out := c.run("ping", "--server", "localhost:80"); out.exit != exitUsage || out.stderr != `mds: --server "…": write the URL of a server, such as http://127.0.0.1:8080 or https://mds.example.com`+"\n" {
			t.Errorf("%d %s", out.exit, out.stderr)
		}
		to := "duckdb://" + filepath.Join(t.TempDir(), "copy")
		if out := c.run("copy", s.url, to, "--tenant", "acme"); out.exit != exitDone || !strings.Contains(out.stdout, "identical") {
			t.Errorf("copy: %d %s%s", out.exit, out.stdout, out.stderr)
		}
		if out := c.run("copy", to, s.url, "--tenant", "acme"); out.exit != exitDone || !strings.Contains(out.stdout, "identical") {
			t.Errorf("copy: %d %s%s", out.exit, out.stdout, out.stderr)
		}
		c.apiKey = reads
		if out := run("ingest", "bars", file); out.exit != exitFailed || !strings.Contains(out.stderr, "mds: the API key may not write: it takes one with the scope write") || strings.Contains(out.stderr, "dead") {
			t.Errorf("a key that may not write: %d %s", out.exit, out.stderr)
		}
		c.apiKey = writes
		if out := run("ingest", "bars", file); out.exit != exitRejected || !strings.Contains(out.stdout, "3 committed") {
			t.Errorf("a key that may only write: %d %s%s", out.exit, out.stdout, out.stderr)
		}
		c.apiKey = ""
		if out := run("info"); out.exit != exitFailed || out.stderr != "mds: the server asks for an API key: set MDS_API_KEY to one; mds keys create makes it, where the store is\n" {
			t.Errorf("without a key: %d %s", out.exit, out.stderr)
		}
		if out := run("health"); out.exit != exitDone || !strings.HasPrefix(out.stdout, "healthy\n") || !strings.Contains(out.stdout, "server_store healthy\n") || strings.Contains(out.stdout, "key") {
			t.Errorf("how it is, without a key: %d %s%s", out.exit, out.stdout, out.stderr)
		}
		if err := s.Process.Signal(os.Interrupt); err != nil {
			t.Fatal(err)
		}
		_ = s.Wait()
		if out := run("ping"); out.exit != exitFailed || !strings.Contains(out.stderr, "mds: no server answers at "+s.url+" (connection refused)") {
			t.Errorf("of none: %d %s", out.exit, out.stderr)
		}
		http.DefaultClient.CloseIdleConnections()
	})
}

// TestNoServer says that there is none only where that is all, and not of a proxy.
func TestNoServer(t *testing.T) {
	dial := &net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}
	for _, tt := range []struct {
		err  error
		want bool
	}{
		{&client.Error{Err: dial}, true},
		{fmt.Errorf("given up after 3s: %w; run the same command again for the rest", &client.Error{Err: dial}), false},
		{&client.Error{Err: &net.OpError{Op: "proxyconnect", Err: dial}}, false},
		{dial, false},
	} {
		if got := isRefused(tt.err); got != tt.want {
			t.Errorf("%v: %t", tt.err, got)
		}
	}
}

// TestLettersThroughAServer works on the letters of the key's tenant where none is named, and
// on none where the server cannot tell.
func TestLettersThroughAServer(t *testing.T) {
	c := newCLI(t)
	c.must("tenant", "create", "acme")
	c.apiKey = strings.TrimSpace(c.must("keys", "create", "--tenant", "acme", "--scopes", "read,write").stdout)
	acme, err := mds.NewTenant("acme")
	if err != nil {
		t.Fatal(err)
	}
	first, second := deadBar("A", 1, 0), deadBar("B", 2, 1)
	first.Tenant, second.Tenant = acme, acme
	ids := c.bury(first, second, deadBar("C", 3, 2))
	s := c.serve()
	dlq := func(args ...string) outcome {
		return c.run(append(append([]string{"dlq"}, args...), "--server", s.url, "--dlq-dir", c.dlqDir())...)
	}
	if out := dlq("list"); out.exit != exitDone || !strings.HasPrefix(out.stderr, "2 bars exhausted; ") {
		t.Errorf("list: %d %s", out.exit, out.stderr)
	}
	if out := dlq("export", "-"); strings.Count(out.stdout, `"tenant":"acme"`) != 2 || strings.Contains(out.stdout, "default") {
		t.Errorf("export: %s", out.stdout)
	}
	if out := dlq("show", ids[2]); out.exit != exitFailed || !strings.HasPrefix(out.stderr, "mds: there is no letter "+ids[2]+" of tenant acme in ") {
		t.Errorf("show: %d %s%s", out.exit, out.stdout, out.stderr)
	}
	if out := dlq("replay", ids[0], ids[2]); out.exit != exitDone || out.stdout != "1 letter read = 1 written + 0 unchanged + 0 superseded + 0 still refused\n" {
		t.Errorf("replay: %d %s%s", out.exit, out.stdout, out.stderr)
	}
	if out := dlq("discard", "--yes"); out.stdout != "1 letter discarded\n" || c.buried() != ids[2] {
		t.Errorf("discard: %s%s; %s are left, want %s", out.stdout, out.stderr, c.buried(), ids[2])
	}
	c.apiKey = ""
	want := "mds: the server asks for an API key: set MDS_API_KEY to one; mds keys create makes it, where the store is; say whose letters are meant with --tenant, or --all-tenants for each\n"
	if out := dlq("discard", "--yes"); out.exit != exitFailed || out.stderr != want || c.buried() != ids[2] {
		t.Errorf("without a key: %d %s%s; %s are left", out.exit, out.stdout, out.stderr, c.buried())
	}
	if out := dlq("discard", "--yes", "--tenant", "default"); out.stdout != "1 letter discarded\n" || c.buried() != "" {
		t.Errorf("of default: %s%s", out.stdout, out.stderr)
	}
}

// TestServerFolder tells servers apart whose letters are not each other's.
func TestServerFolder(t *testing.T) {
	for text, want := range map[string]string{
		"https://MDS.Example.com":        "mds.example.com",
		"http://127.0.0.1:8080/":         "127.0.0.1_8080",
		"http://[::1]:8080":              "__1_8080",
		"https://example.com/eu/market/": "example.com%2Feu%2Fmarket",
		"https://example.com/a%2Fb":      "example.com%2Fa%252Fb",
		"https://example.com/..":         "example.com%2F..",
	} {
		server, err := url.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		if got := serverFolder(server); got != want {
			t.Errorf("%s: %s, want %s", text, got, want)
		}
	}
}

// TestCopyAndServers settles the tenant and the key of each store by what that store is,
// whatever server the environment names.
func TestCopyAndServers(t *testing.T) {
	from, to, c := newCLI(t), newCLI(t), newCLI(t)
	from.must("write", "bars", "--vendor", "v", "--symbol", "A", "--timeframe", "1m", "--ts", "2026-01-02T14:30:00Z", "--close", "1")
	from.env = map[string]string{"MDS_SERVER": "https://mds.example.com", "MDS_DSN": ""}
	if out := from.run("copy", from.dsn, to.dsn); out.exit != exitDone || !strings.Contains(out.stdout, "default      bars  ") {
		t.Errorf("with a server in the environment: %d %s%s", out.exit, out.stdout, out.stderr)
	}
	c.must("tenant", "create", "beta")
	from.apiKey = strings.TrimSpace(c.must("keys", "create", "--tenant", "beta", "--scopes", "read,write").stdout)
	s := c.serve()
	for _, flags := range [][]string{nil, {"--compare"}} {
		out := from.run(append([]string{"copy", from.dsn, s.url}, flags...)...)
		if want := "mds: to " + s.url + ": the server's key is of the tenant beta, and the records are of default: set MDS_API_KEY to a key of that tenant\n"; out.exit != exitFailed || out.stderr != want {
			t.Errorf("%v to another tenant: %d %s", flags, out.exit, out.stderr)
		}
	}
	if status, body, err := post(s.url+"/v1/bars", from.apiKey, "B", 3); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	if out := from.run("copy", s.url, to.dsn); out.exit != exitDone || !strings.Contains(out.stdout, "beta         bars  ") {
		t.Errorf("from a server: %d %s%s", out.exit, out.stdout, out.stderr)
	}
	two := "mds: MDS_API_KEY is the key for one server, and FROM and TO are two: copy to a store here, such as duckdb://DIR, and from there\n"
	if out := from.run("copy", s.url, "http://127.0.0.1:1"); out.exit != exitUsage || out.stderr != two {
		t.Errorf("between servers: %d %s", out.exit, out.stderr)
	}
	other := "mds: MDS_API_KEY is the key for the server of MDS_SERVER, and is not sent to " + s.url + ": name that one with --server\n"
	if out := from.run("info", "--dsn", s.url); out.exit != exitUsage || out.stderr != other {
		t.Errorf("another server than that of the environment: %d %s", out.exit, out.stderr)
	}
}

// TestPlainKeys warns of a key that can be read on its way.
func TestPlainKeys(t *testing.T) {
	for url, want := range map[string]string{
		"http://mds.example.com:8080": "warning: the API key goes to http://mds.example.com:8080 as it is, and who listens on the way has it: use https\n",
		"http://10.0.0.7":             "warning: the API key goes to http://10.0.0.7 as it is, and who listens on the way has it: use https\n",
		"https://mds.example.com":     "", "http://localhost:8080": "", "http://127.0.0.2": "", "http://[::1]:8080": "",
	} {
		var said strings.Builder
		(&app{stderr: &said}).warnOfPlain(url)
		if said.String() != want {
			t.Errorf("%s: %q", url, said.String())
		}
	}
	if origin("https://MDS.example.com/eu") != origin("https://mds.example.com:443") || origin("http://h") == origin("https://h") || origin("http://h:1") == origin("http://h:2") {
		t.Error("origins are not told apart")
	}
}
