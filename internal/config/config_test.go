package config_test

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/internal/config"
)

// fileOf writes a configuration file.
func fileOf(t testing.TB, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mds.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func load(t testing.TB, src config.Sources) *config.Settings {
	t.Helper()
	s, err := config.Load(src)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestPrecedence(t *testing.T) {
	file := fileOf(t, "[serve]\nlisten = \"127.0.0.1:1\"\n")
	env := map[string]string{"MDS_SERVE_LISTEN": "127.0.0.1:2"}
	flags := map[string]string{"serve.listen": "127.0.0.1:3"}
	for _, tt := range []struct {
		name     string
		src      config.Sources
		want, is string
	}{
		{"nothing", config.Sources{}, "127.0.0.1:8080", `serve.listen is "127.0.0.1:8080"`},
		{"file", config.Sources{File: file}, "127.0.0.1:1", file + `:2: serve.listen is "127.0.0.1:1"`},
		{"environment over file", config.Sources{File: file, Environment: env}, "127.0.0.1:2", `MDS_SERVE_LISTEN is "127.0.0.1:2"`},
		{"flag over environment", config.Sources{File: file, Environment: env, Flags: flags}, "127.0.0.1:3", `--listen "127.0.0.1:3"`},
		{"flag over file", config.Sources{File: file, Flags: flags}, "127.0.0.1:3", `--listen "127.0.0.1:3"`},
		{"an empty variable is none", config.Sources{File: file, Environment: map[string]string{"MDS_SERVE_LISTEN": ""}}, "127.0.0.1:1", file + `:2: serve.listen is "127.0.0.1:1"`},
		{"what a flag is over need not be right", config.Sources{Environment: map[string]string{"MDS_SERVE_LISTEN": "nowhere"}, Flags: flags}, "127.0.0.1:3", `--listen "127.0.0.1:3"`},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := load(t, tt.src)
			if s.Serve.Listen != tt.want || s.Text("serve.listen") != tt.want || s.Is("serve.listen") != tt.is {
				t.Errorf("%s, %s, %s", s.Serve.Listen, s.Text("serve.listen"), s.Is("serve.listen"))
			}
		})
	}
}

// everything is a file that sets all there is, to what is no default.
const everything = `
circuit.failure_threshold = 3 # dotted, before any section
circuit.half_open_after = "5s"

[store]
dsn = "postgres://me:secret@db/prices?sslmode=disable"
admin_dsn = 'postgres://owner:geheim@db/prices'
tenant = "acme"
memory_limit = "2GB"
write_mode = "merge"
pool_max = 1_0
statement_timeout = "0s"
server = "https://me:secret@mds.example.com"
api_key = "mds_geheim"

[dlq]
dir = "/var/lib/\u00e4 \"b\""
max_bytes = 2097152

[log]
level = "debug"
format = "json"

[coordinator]
capacity = 0x10
capacity_bytes = "3MiB"
workers = 2
batch_size = 10
batch_max = 20
flush_interval = "50ms"

[retry]
max_attempts = 7
initial_backoff = "1ms"
max_backoff = "1s"
backoff_multiplier = 1.5
jitter = false

[serve]
listen = "0.0.0.0:9"
tls_cert = "c.pem"
tls_key = "k.pem"
cors_origins = [
  "https://notebook.example.com", # ours
  "http://localhost:3000",
]
drain_timeout = "1s"
header_timeout = "2s"
idle_timeout = "3s"
commit_timeout = "4s"
query_timeout = "5s"
write_timeout = "6s"
max_ingests = 1
max_queries = 2
max_streams = 3
max_header_bytes = "8KiB"
max_body_bytes = "1MB"
body_memory = "64MiB"
operator_tenant = "ops"

[rates]
records = 1e5
requests = 50
tenant_records = { acme = 50_000, "beta-2" = 0.5 }

[rates.tenant_requests]
acme = 0

[jobs]
concurrency = 0
lease = "9s"
policies_every = "1h"
dir = "/srv/in"
hosts = ["api.example.com", "127.0.0.1:8443"]
headers_dir = "/etc/mds/headers"
exports = "/srv/out"
rejects = "/srv/rejects"

[sql]
timeout = "7s"
max_rows = 4

[sql.logins]
acme = "postgres://acme_bi:geheim@db/prices?sslmode=disable"
"beta-2" = "postgres://beta@db/prices?passfile=/run/x"
`

func TestFile(t *testing.T) {
	s := load(t, config.Sources{File: fileOf(t, everything)})
	for _, tt := range []struct {
		section   string
		got, want any
	}{
		{"store", s.Store, config.Store{
			DSN: "postgres://me:secret@db/prices?sslmode=disable", AdminDSN: "postgres://owner:geheim@db/prices", Tenant: "acme",
			MemoryLimit: "2GB", WriteMode: "merge", PoolMax: 10, StatementTimeout: -1,
			Server: "https://me:secret@mds.example.com", APIKey: "mds_geheim",
		}},
		{"dlq", s.DLQ, config.DLQ{Dir: `/var/lib/ä "b"`, MaxBytes: 2 << 20}},
		{"log", s.Log, config.Log{Level: "debug", Format: "json"}},
		{"coordinator", s.Coordinator, config.Coordinator{Capacity: 16, CapacityBytes: 3 << 20, Workers: 2, BatchSize: 10, BatchMax: 20, FlushInterval: 50 * time.Millisecond}},
		{"retry", s.Retry, config.Retry{MaxAttempts: 7, InitialBackoff: time.Millisecond, MaxBackoff: time.Second, BackoffMultiplier: 1.5, NoJitter: true}},
		{"circuit", s.Circuit, config.Circuit{FailureThreshold: 3, HalfOpenAfter: 5 * time.Second}},
		{"serve", s.Serve, config.Serve{
			OperatorTenant: "ops",
			Listen:         "0.0.0.0:9", TLSCert: "c.pem", TLSKey: "k.pem", DrainTimeout: time.Second,
			HeaderTimeout: 2 * time.Second, IdleTimeout: 3 * time.Second, CommitTimeout: 4 * time.Second, QueryTimeout: 5 * time.Second, WriteTimeout: 6 * time.Second,
			MaxIngests: 1, MaxQueries: 2, MaxStreams: 3, MaxHeaderBytes: 8 << 10, MaxBodyBytes: 1e6, BodyMemory: 64 << 20,
			CORSOrigins: []string{"https://notebook.example.com", "http://localhost:3000"},
		}},
		{"rates", s.Rates, config.Rates{Records: 1e5, Requests: 50, RecordsOf: map[string]float64{"acme": 50000, "beta-2": 0.5}, RequestsOf: map[string]float64{"acme": 0}}},
		{"jobs", s.Jobs, config.Jobs{Lease: 9 * time.Second, PoliciesEvery: time.Hour, Dir: "/srv/in", Hosts: []string{"api.example.com", "127.0.0.1:8443"}, HeadersDir: "/etc/mds/headers", Exports: "/srv/out", Rejects: "/srv/rejects"}},
		{"sql", s.SQL, config.SQL{Timeout: 7 * time.Second, MaxRows: 4, Logins: map[string]string{"acme": "postgres://acme_bi:geheim@db/prices?sslmode=disable", "beta-2": "postgres://beta@db/prices?passfile=/run/x"}}},
	} {
		if !reflect.DeepEqual(tt.got, tt.want) {
			t.Errorf("%s: %+v, want %+v", tt.section, tt.got, tt.want)
		}
	}
}

func TestDefaults(t *testing.T) {
	s := load(t, config.Sources{})
	want := config.Serve{
		Listen: "127.0.0.1:8080", DrainTimeout: 30 * time.Second, HeaderTimeout: 10 * time.Second,
		IdleTimeout: time.Minute, CommitTimeout: time.Minute, QueryTimeout: 10 * time.Minute, WriteTimeout: 30 * time.Second,
		MaxIngests: 512, MaxQueries: 128, MaxStreams: 1024, MaxHeaderBytes: 64 << 10, BodyMemory: 512 << 20,
	}
	if !reflect.DeepEqual(s.Serve, want) {
		t.Errorf("%+v", s.Serve)
	}
	if (s.Store != config.Store{Tenant: "default"}) || (s.Log != config.Log{Level: "warn", Format: "text"}) || s.Coordinator != (config.Coordinator{}) || s.Retry != (config.Retry{}) || s.Circuit != (config.Circuit{}) || s.DLQ != (config.DLQ{}) {
		t.Errorf("%+v", s)
	}
}

func TestFaults(t *testing.T) {
	for _, tt := range []struct{ name, text, want string }{
		{"misspelled", "[serve]\nlisten = \"127.0.0.1:1\"\nlisen = \"127.0.0.1:1\"\n", "3: there is no setting serve.lisen; did you mean serve.listen?"},
		{"misspelled section", "[serv]\nlisten = \"127.0.0.1:1\"\nx = 1\n", "1: there is no section serv; did you mean serve?"},
		{"wrong section", "[store]\nlisten = \"127.0.0.1:1\"\n", "2: there is no setting store.listen; did you mean serve.listen?"},
		{"no section", "listen = \"127.0.0.1:1\"\n", "1: there is no setting listen; did you mean serve.listen?"},
		{"like nothing", "[serve]\nfrobnicate = 1\n", "2: there is no setting serve.frobnicate; mds config print --defaults lists what there is"},
		{"a dot in quotes", "\"serve.listen\" = \"127.0.0.1:1\"\n", "1: there is no setting \"serve.listen\"; did you mean serve.listen?"},
		{"a setting as a section", "[serve.listen]\n", "1: there is no section serve.listen; mds config print --defaults lists what there is"},
		{"a list of sections", "[[serve]]\nlisten = 1\n", "1: [[serve]] is a list of sections: write [serve] once"},
		{"a number where a text goes", "[serve]\nidle_timeout = 60\n", "2: serve.idle_timeout is a number, without quotes: write a duration such as 250ms, 30s or 1m"},
		{"a text where a number goes", "[serve]\nmax_queries = \"128\"\n", "2: serve.max_queries is a text in quotes: write a whole number, 1 or more"},
		{"a fraction where a whole number goes", "[serve]\nmax_queries = 1.5\n", "2: serve.max_queries is 1.5: write a whole number, 1 or more"},
		{"a list", "[serve]\nmax_queries = [1]\n", "2: serve.max_queries is a list: write a whole number, 1 or more"},
		{"a section", "[store]\ntenant = { name = \"acme\" }\n", "2: store.tenant is a section: write a text of one line, or leave it out"},
		{"a time", "[serve]\nidle_timeout = 00:01:00\n", "2: serve.idle_timeout is a time without quotes: write a duration such as 250ms, 30s or 1m"},
		{"true", "[serve]\nidle_timeout = true\n", "2: serve.idle_timeout is true or false: write a duration such as 250ms, 30s or 1m"},
		{"empty", "[dlq]\ndir = \"\"\n", "2: dlq.dir is empty: write a text of one line, or leave it out"},
		{"duration", "[serve]\nidle_timeout = \"-1s\"\n", `2: serve.idle_timeout is "-1s": write a duration such as 250ms, 30s or 1m`},
		{"timeout of statements", "[store]\nstatement_timeout = \"soon\"\n", `2: store.statement_timeout is "soon": write a duration such as 30s or 2m, or 0s for the server's own setting`},
		{"too few", "[store]\npool_max = 1\n", "2: store.pool_max is 1: write a number of connections, 2 or more, up to 65,536"},
		{"too many", "[coordinator]\nworkers = 5000\n", "2: coordinator.workers is 5000: write a whole number, 1 or more, up to 1,024"},
		{"no number", "[retry]\nbackoff_multiplier = nan\n", "2: retry.backoff_multiplier is nan: write a number, 1 or more"},
		{"bool", "[retry]\njitter = 1\n", "2: retry.jitter is a number: write true or false"},
		{"size", "[dlq]\nmax_bytes = \"64 apples\"\n", `2: dlq.max_bytes is "64 apples": write a size such as 1GiB, 1MiB or more`},
		{"small size", "[dlq]\nmax_bytes = 5\n", `2: dlq.max_bytes is "5": write a size such as 1GiB, 1MiB or more`},
		{"choice", "[log]\nlevel = \"loud\"\n", `2: log.level is "loud": use debug, info, warn or error`},
		{"address", "[serve]\nlisten = \"8080\"\n", `2: serve.listen is "8080": write host:port, such as 127.0.0.1:8080`},
		{"port", "[serve]\nlisten = \":http\"\n", `2: serve.listen is ":http": write host:port, such as 127.0.0.1:8080`},
		{"memory", "[store]\nmemory_limit = \"lots\"\n", `2: store.memory_limit is "lots": use a number and KB, MB or GB, such as 512MB or 2GB`},
		{"dsn", "[store]\ndsn = \"mysql://me:secret@db/x\"\n", `2: store.dsn is "mysql://me@db/x": write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST`},
		{"origin with a path", "[serve]\ncors_origins = [\"https://a.example/\"]\n", `2: serve.cors_origins is "https://a.example/": write origins as browsers send them`},
		{"origin with the usual port", "[serve]\ncors_origins = [\"https://a.example:443\"]\n", `2: serve.cors_origins is "https://a.example:443": write origins`},
		{"origin in capitals", "[serve]\ncors_origins = [\"https://A.example\"]\n", `2: serve.cors_origins is "https://A.example": write origins`},
		{"pattern of origins", "[serve]\ncors_origins = [\"https://*.example\"]\n", `2: serve.cors_origins is "https://*.example": write origins`},
		{"any and one", "[serve]\ncors_origins = [\"*\", \"https://a.example\"]\n", `2: serve.cors_origins is "*,https://a.example": write origins`},
		{"origin null", "[serve]\ncors_origins = [\"null\"]\n", `2: serve.cors_origins is "null": write origins`},
		{"origins in one text", "[serve]\ncors_origins = [\"https://a.example,https://b.example\"]\n", "2: serve.cors_origins is a list of something else than texts without commas: write origins"},
		{"origins that are no list", "[serve]\ncors_origins = \"https://a.example\"\n", "2: serve.cors_origins is a text in quotes: write origins"},
		{"no origins", "[serve]\ncors_origins = []\n", "2: serve.cors_origins is empty: write origins"},
		{"rate", "[rates]\nrecords = -1\n", "2: rates.records is -1: write a number of records a second, or 0 for no limit"},
		{"rate of a tenant", "[rates]\ntenant_records = { acme = \"fast\" }\n", "2: rates.tenant_records.acme is a text in quotes: write a number a second, or 0 for no limit"},
		{"rate of none", "[rates.tenant_records]\n\"Acme Inc\" = 1\n", `2: rates.tenant_records is "Acme Inc=1": write each tenant once, by its name, with a number a second`},
		{"login for SQL", "[sql.logins]\nacme = \"duckdb://x\"\n", `2: sql.logins is "…": write each tenant once, by its name, with the DSN of its own login`},
		{"login of spaces", "[sql]\nlogins = { acme = \"postgres://a b\" }\n", "2: sql.logins.acme is a text with spaces: write a DSN, postgres://LOGIN@HOST/DATABASE"},
		{"host in upper case", "[jobs]\nhosts = [\"API.example.com\"]\n", `2: jobs.hosts is "API.example.com": write hosts in lower case`},
		{"host with a path", "[jobs]\nhosts = [\"api.example.com/v1\"]\n", `2: jobs.hosts`},
		{"host with a scheme", "[jobs]\nhosts = [\"https://api.example.com\"]\n", `2: jobs.hosts`},
		{"host with the usual port", "[jobs]\nhosts = [\"api.example.com:443\"]\n", `2: jobs.hosts`},
		{"any host", "[jobs]\nhosts = [\"*.example.com\"]\n", `2: jobs.hosts`},
		{"login of none", "[sql.logins]\n\"Acme Inc\" = \"postgres://a@b/c\"\n", `2: sql.logins is "…": write each tenant once`},
		{"no login", "[sql]\nlogins = { acme = 1 }\n", "2: sql.logins.acme is a number, without quotes: write a DSN"},
		{"twice", "[serve]\nmax_queries = 1\nmax_queries = 2\n", "3: it is no TOML: key max_queries is already defined"},
		{"no TOML", "[serve]\nlisten = 127.0.0.1:80\n", "2: it is no TOML: "},
		{"several", "[serve]\nlisen = 1\nmax_queries = 0\n[log]\nlevel = \"loud\"\n", "2: there is no setting serve.lisen; did you mean serve.listen?\n3: serve.max_queries is 0: write a whole number, 1 or more\n5: log.level is \"loud\": use"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := fileOf(t, tt.text)
			_, err := config.Load(config.Sources{File: path, Redact: withoutPassword})
			var wrong *config.FaultsError
			if !errors.As(err, &wrong) {
				t.Fatal(err)
			}
			lines := strings.Split(tt.want, "\n")
			if len(wrong.Faults) != len(lines) {
				t.Fatalf("%v", err)
			}
			for i, f := range wrong.Faults {
				if !strings.HasPrefix(f.String(), path+":"+lines[i]) {
					t.Errorf("%s\nwant %s:%s", f, path, lines[i])
				}
			}
		})
	}
}

// withoutPassword is a DSN without it.
func withoutPassword(dsn string) string {
	for _, secret := range []string{":secret", ":geheim"} {
		dsn = strings.Replace(dsn, secret, "", 1)
	}
	return dsn
}

func TestFaultsElsewhere(t *testing.T) {
	_, err := config.Load(config.Sources{
		File:        fileOf(t, "[serve]\nmax_queries = 0\n"),
		Environment: map[string]string{"MDS_POOL_MAX": "1", "MDS_DSN": "mysql://me:secret@x", "MDS_RATES_TENANT_RECORDS": "acme"},
		Flags:       map[string]string{"serve.listen": "", "log.level": "loud"},
		Redact:      withoutPassword,
	})
	var wrong *config.FaultsError
	if !errors.As(err, &wrong) {
		t.Fatal(err)
	}
	var says []string
	for _, f := range wrong.Faults {
		says = append(says, f.Says)
	}
	want := []string{
		`MDS_DSN is "mysql://me@x": write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST`,
		`MDS_POOL_MAX is "1": write a number of connections, 2 or more, up to 65,536`,
		`--log-level "loud": use debug, info, warn or error`,
		`--listen is empty: write host:port, such as 127.0.0.1:8080`,
		`MDS_RATES_TENANT_RECORDS is "acme": write each tenant once, by its name, with a number a second, such as acme = 50000 (in the environment acme=50000,other=100), or 0 for no limit`,
		`serve.max_queries is 0: write a whole number, 1 or more`,
	}
	if !reflect.DeepEqual(says, want) {
		t.Errorf("%s", strings.Join(says, "\n"))
	}
	_, err = config.Load(config.Sources{File: "/nowhere/mds.toml"})
	if err == nil || err.Error() != "/nowhere/mds.toml: there is no such configuration file; mds config print --defaults writes one to start from" {
		t.Error(err)
	}
	if _, err = config.Load(config.Sources{File: t.TempDir()}); err == nil || !strings.Contains(err.Error(), ": the configuration file cannot be read: is a directory") {
		t.Error(err)
	}
}

// TestPrint: what is printed loads to the same, and shows no password.
func TestPrint(t *testing.T) {
	file := fileOf(t, everything)
	first := load(t, config.Sources{
		File: file, Redact: withoutPassword,
		Environment: map[string]string{"MDS_RETRY_BACKOFF_MULTIPLIER": ".5e1", "MDS_RETRY_JITTER": "T", "MDS_RATES_TENANT_REQUESTS": "b=2, a=1", "MDS_SERVE_CORS_ORIGINS": "http://a.example, http://b.example:81"},
		Flags:       map[string]string{"log.level": "error"},
	})
	var out bytes.Buffer
	if err := first.Print(&out); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		`dsn = "postgres://me@db/prices?sslmode=disable"  # ` + file + ":6; its password is not shown\n",
		"#api_key = \"mds_…\"  # set by " + file + ":14, and not shown\n",
		"level = \"error\"  # --log-level\n",
		"backoff_multiplier = 5  # environment MDS_RETRY_BACKOFF_MULTIPLIER\n",
		"tenant_requests = { a = 1, b = 2 }  # environment MDS_RATES_TENANT_REQUESTS\n",
		"max_queries = 2  # " + file + ":54\n",
	} {
		if !strings.Contains(out.String(), want) {
			t.Errorf("no %s in\n%s", want, out.String())
		}
	}
	if strings.Contains(out.String(), ":secret") || strings.Contains(out.String(), "geheim") {
		t.Errorf("a password in\n%s", out.String())
	}
	if strings.Contains(out.String(), "mds_g") {
		t.Errorf("a key in\n%s", out.String())
	}
	again := load(t, config.Sources{File: fileOf(t, out.String()), Redact: withoutPassword})
	again.Store.DSN, again.Store.AdminDSN, again.Store.Server, again.Store.APIKey = first.Store.DSN, first.Store.AdminDSN, first.Store.Server, first.Store.APIKey
	if !reflect.DeepEqual(valuesOf(again), valuesOf(first)) {
		t.Errorf("%+v\nwas\n%+v", valuesOf(again), valuesOf(first))
	}
	// Of defaults nothing is set.
	out.Reset()
	if err := load(t, config.Sources{}).Print(&out); err != nil {
		t.Fatal(err)
	}
	if again = load(t, config.Sources{File: fileOf(t, out.String())}); strings.Contains(again.Is("serve.listen"), "mds.toml") || !strings.Contains(out.String(), "\n#listen = \"127.0.0.1:8080\"  # default\n") {
		t.Errorf("%s", out.String())
	}
}

// valuesOf are settings without where they are from.
func valuesOf(s *config.Settings) []any {
	return []any{s.Store, s.DLQ, s.Log, s.Coordinator, s.Retry, s.Circuit, s.Serve, s.Rates}
}

// TestTemplate: with its comments taken away each setting of the template is one, and the
// defaults are those that hold without it.
func TestTemplate(t *testing.T) {
	var out bytes.Buffer
	if err := config.Template(&out); err != nil {
		t.Fatal(err)
	}
	var lines []string
	for line := range strings.Lines(out.String()) {
		lines = append(lines, strings.TrimPrefix(line, "#"))
	}
	none := load(t, config.Sources{File: fileOf(t, out.String())})
	if !reflect.DeepEqual(valuesOf(none), valuesOf(load(t, config.Sources{}))) {
		t.Errorf("%+v", none)
	}
	text := strings.Join(lines, "")
	text = strings.ReplaceAll(text, "\n ", "\n# ") // comments stay comments
	path := fileOf(t, strings.Replace(text, " Settings", "# Settings", 1))
	all := load(t, config.Sources{File: path})
	for _, s := range config.List() {
		if !strings.HasPrefix(all.Is(s.Key), path+":") {
			t.Errorf("%s is not in the template", s.Key)
		}
		if s.Default != "" && all.Text(s.Key) != s.Default {
			t.Errorf("%s is %s, and by default %s", s.Key, all.Text(s.Key), s.Default)
		}
	}
	all.Store.DSN, all.Store.AdminDSN = "", ""
	if all.Serve.Listen != none.Serve.Listen || all.Serve.QueryTimeout != none.Serve.QueryTimeout || all.Rates.Records != 0 {
		t.Errorf("%+v", all)
	}
}

// TestHidden: what is secret as a whole is in no message, and in nothing that is printed.
func TestHidden(t *testing.T) {
	env := map[string]string{"MDS_FB_HTTP_ENDPOINT": "https://h.example/hook?token=geheim", "MDS_FB_HTTP_SECRET": "geheim"}
	s := load(t, config.Sources{Environment: env})
	var out bytes.Buffer
	if err := s.Print(&out); err != nil {
		t.Fatal(err)
	}
	if s.Feedback.WebhookSecret != "geheim" || strings.Contains(out.String(), "geheim") || !strings.Contains(out.String(), "#webhook_secret = \"topsecret\"  # set by environment MDS_FB_HTTP_SECRET, and not shown\n") {
		t.Errorf("%+v\n%s", s.Feedback, out.String())
	}
	env["MDS_FB_HTTP_ENDPOINT"] = "geheim"
	if _, err := config.Load(config.Sources{Environment: env}); err == nil || err.Error() != `MDS_FB_HTTP_ENDPOINT is "…": write a URL such as https://host/path` {
		t.Error(err)
	}
}

// TestTable: each setting has all that the others have, under a name of its own.
func TestTable(t *testing.T) {
	kept := map[string]string{ // names that were there before
		"store.dsn": "MDS_DSN", "store.server": "MDS_SERVER", "store.api_key": "MDS_API_KEY", "store.admin_dsn": "MDS_ADMIN_DSN", "store.tenant": "MDS_TENANT_ID", "store.memory_limit": "MDS_MEMORY_LIMIT",
		"store.write_mode": "MDS_WRITE_MODE", "store.pool_max": "MDS_POOL_MAX", "store.statement_timeout": "MDS_STATEMENT_TIMEOUT",
		"feedback.webhook_url": "MDS_FB_HTTP_ENDPOINT", "feedback.webhook_secret": "MDS_FB_HTTP_SECRET", "feedback.webhook_timeout": "MDS_FB_HTTP_TIMEOUT",
		"feedback.webhook_max_retries": "MDS_FB_HTTP_MAX_RETRIES", "feedback.webhook_backoff": "MDS_FB_HTTP_BACKOFF",
		"circuit.failure_threshold": "MDS_CB_FAILURE_THRESHOLD", "circuit.half_open_after": "MDS_CB_HALF_OPEN_AFTER",
	}
	seen := make(map[string]bool)
	for _, s := range config.List() {
		env := "MDS_" + strings.ToUpper(strings.ReplaceAll(s.Key, ".", "_"))
		if name, ok := kept[s.Key]; ok {
			env = name
		}
		if s.Env != env || seen[s.Key] || seen[s.Env] || s.Doc == "" || (s.Default == "") == (s.Example == "") {
			t.Errorf("%+v", s)
		}
		seen[s.Key], seen[s.Env] = true, true
		if _, err := config.Load(config.Sources{Environment: map[string]string{s.Env: s.Default + s.Example}}); err != nil {
			t.Errorf("%s: %v", s.Key, err)
		}
	}
}

func TestWarnings(t *testing.T) {
	const withPassword, without = "[log]\nlevel = \"info\"\n[store]\ndsn = \"postgres://me:secret@db/x\"\n", "[store]\ndsn = \"duckdb:///data\"\n"
	for _, tt := range []struct {
		name, text string
		mode       os.FileMode
		warned     bool
	}{
		{"password for all to read", withPassword, 0o644, true},
		{"password for the group to read", withPassword, 0o640, true},
		{"password for the owner to read", withPassword, 0o600, false},
		{"key for all to read", "[log]\nlevel = \"info\"\n\n[store]\napi_key = \"mds_x\"\n", 0o644, true},
		{"no password", without, 0o644, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			path := fileOf(t, tt.text)
			if err := os.Chmod(path, tt.mode); err != nil {
				t.Fatal(err)
			}
			got := load(t, config.Sources{File: path, Redact: withoutPassword}).Warnings
			key, line := "store.dsn", ":4: "
			if strings.Contains(tt.text, "api_key") {
				key, line = "store.api_key", ":5: "
			}
			want := []string{path + line + key + " holds a secret, and others than the file's owner may read it: chmod 600 " + path}
			if !tt.warned {
				want = nil
			}
			if !reflect.DeepEqual(got, want) {
				t.Errorf("%q", got)
			}
		})
	}
}

func TestUnknownVariables(t *testing.T) {
	got := config.Unknown(map[string]string{"MDS_DSN": "x", "MDS_SERVE_LISEN": "x", "MDS_CONFIG": "x", "MDS_WHATEVER": "x", "MDS_OTHER": "x"}, "MDS_OTHER")
	want := []string{"there is no setting MDS_SERVE_LISEN; did you mean MDS_SERVE_LISTEN?", "there is no setting MDS_WHATEVER"}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("%q", got)
	}
}

// FuzzLoad: any file is loaded or refused in lines of its own, and what is loaded and
// printed is loaded again to the same.
func FuzzLoad(f *testing.F) {
	f.Add(everything)
	f.Add("[serve]\nlisen = 1\n[[rates]]\n")
	f.Add("rates.tenant_records = {a=1,b={c=1}}\nserve={tls_cert='''\nx''',\"\"=[{}]}")
	f.Add("\"serve\".\"listen\" = \"\\u0000:1\"")
	path := filepath.Join(f.TempDir(), "mds.toml")
	again := filepath.Join(f.TempDir(), "again.toml")
	f.Fuzz(func(t *testing.T, text string) {
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		s, err := config.Load(config.Sources{File: path, Redact: func(dsn string) string { return dsn }})
		var wrong *config.FaultsError
		if errors.As(err, &wrong) {
			for _, f := range wrong.Faults {
				if f.Says == "" || !strings.HasPrefix(f.Where, path) {
					t.Errorf("%+v", f)
				}
			}
			return
		}
		if err != nil {
			t.Fatal(err)
		}
		var out bytes.Buffer
		if err := s.Print(&out); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(again, out.Bytes(), 0o600); err != nil {
			t.Fatal(err)
		}
		back := load(t, config.Sources{File: again})
		if back.Store.APIKey = s.Store.APIKey; !reflect.DeepEqual(valuesOf(back), valuesOf(s)) {
			t.Errorf("%+v\nwas\n%+v\nprinted as\n%s", valuesOf(back), valuesOf(s), out.String())
		}
	})
}

// TestNearer says which of two settings was set nearer to the command.
func TestNearer(t *testing.T) {
	file := fileOf(t, "[store]\ndsn = \"duckdb:///a\"\n")
	for _, tt := range []struct {
		name   string
		src    config.Sources
		nearer int // than the DSN the server is
		named  string
	}{
		{"neither", config.Sources{}, 0, "store.server"},
		{"the file's alone", config.Sources{File: file}, -1, "store.server"},
		{"environment over file", config.Sources{File: file, Environment: map[string]string{"MDS_SERVER": "http://x"}}, 1, "MDS_SERVER"},
		{"both in the environment", config.Sources{Environment: map[string]string{"MDS_SERVER": "http://x", "MDS_DSN": "duckdb:///a"}}, 0, "MDS_SERVER"},
		{"flag over environment", config.Sources{Environment: map[string]string{"MDS_DSN": "duckdb:///a"}, Flags: map[string]string{"store.server": "http://x"}}, 1, "--server"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			s := load(t, tt.src)
			if n := s.Nearer("store.server", "store.dsn"); n*tt.nearer < 0 || (n == 0) != (tt.nearer == 0) || s.Name("store.server") != tt.named || s.IsSet("store.server") != (tt.named != "store.server") {
				t.Errorf("%d, %s, %v", n, s.Name("store.server"), s.IsSet("store.server"))
			}
		})
	}
}

// TestShown: what is set is told with where, and nothing secret is.
func TestShown(t *testing.T) {
	const secret = "geheim"
	file := fileOf(t, "[store]\ndsn = \"postgres://me:"+secret+"@db/x\"\n[serve]\nmax_queries = 7\n")
	src := config.Sources{File: file, Environment: make(map[string]string), Flags: map[string]string{"serve.listen": "127.0.0.1:1"}, Redact: withoutPassword}
	hidden := 0
	for _, row := range config.List() {
		switch {
		case !row.Secret || row.Key == "store.dsn":
		case row.Key == "sql.logins":
			src.Environment[row.Env] = "acme=postgres://acme:" + secret + "@db/x"
			hidden++
		case strings.HasSuffix(row.Key, "_dsn"), row.Key == "store.server":
			scheme := map[bool]string{true: "https", false: "postgres"}[row.Key == "store.server"]
			src.Environment[row.Env] = scheme + "://me:" + secret + "@db/x"
			hidden++
		default:
			src.Environment[row.Env] = "https://hooks.example.com/" + secret
			hidden++
		}
	}
	shown := load(t, src).Shown()
	byKey := make(map[string]config.Shown)
	for _, row := range shown {
		byKey[row.Key] = row
		if strings.Contains(row.Value, secret) {
			t.Errorf("%+v", row)
		}
		if row.Secret {
			hidden--
		}
	}
	if len(shown) != len(config.List()) || hidden != -1 {
		t.Errorf("%d are shown; %d secrets more than were hidden", len(shown), hidden+1)
	}
	for key, want := range map[string]config.Shown{
		"store.dsn":          {Key: "store.dsn", Value: "postgres://me@db/x", From: file + ":2", Secret: true},
		"store.api_key":      {Key: "store.api_key", Value: "…", From: "environment MDS_API_KEY", Secret: true},
		"serve.max_queries":  {Key: "serve.max_queries", Value: "7", From: file + ":4"},
		"serve.listen":       {Key: "serve.listen", Value: "127.0.0.1:1", From: "--listen"},
		"serve.tls_cert":     {Key: "serve.tls_cert", From: "default"},
		"serve.idle_timeout": {Key: "serve.idle_timeout", Value: "1m", From: "default"},
	} {
		if byKey[key] != want {
			t.Errorf("%+v, want %+v", byKey[key], want)
		}
	}
}
