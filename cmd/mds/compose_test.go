package main

import (
	"errors"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// compose is what the tests read of deploy/compose.yaml.
type compose struct {
	Services map[string]service
	Volumes  map[string]any
}

type service struct {
	Image           string
	Build           struct{ Context, Dockerfile string }
	Entrypoint      []string
	Command         []string
	Environment     map[string]string
	Ports, Volumes  []string
	StopGracePeriod string               `yaml:"stop_grace_period"`
	DependsOn       map[string]condition `yaml:"depends_on"`
	Healthcheck     struct {
		Test    []string
		Disable bool
	}
}

type condition struct{ Condition string }

// variable is one that compose takes from .env, and refuses to do without.
var variable = regexp.MustCompile(`\$\{(\w+):\?[^}]+\}`)

func readCompose(t *testing.T) (c compose) {
	t.Helper()
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(deployed, "compose.yaml"))), &c); err != nil {
		t.Fatal(err)
	}
	return c
}

// TestCompose: what compose.yaml refers to is there, its settings are settings, its ports are
// of this machine and those that the programs listen on, and it has no password: each is a
// variable without a default, which .env.example lists and leaves empty. Docker itself has not
// looked at it.
func TestCompose(t *testing.T) {
	c := readCompose(t)
	names := slices.Sorted(maps.Keys(c.Services))
	wantText(t, "the services", strings.Join(names, " "), "grafana mds prometheus setup timescaledb")
	used := make(map[string]bool)
	for name, s := range c.Services {
		for _, v := range s.Volumes {
			from, _, _ := strings.Cut(v, ":")
			if !strings.HasPrefix(from, ".") {
				if _, ok := c.Volumes[from]; !ok {
					t.Errorf("%s: there is no volume %s", name, from)
				}
			} else if _, err := os.Stat(filepath.Join(deployed, from)); err != nil || !strings.HasSuffix(v, ":ro") {
				t.Errorf("%s: %s: %v", name, v, err)
			}
		}
		for on, needs := range s.DependsOn {
			there, ok := c.Services[on]
			if checked := len(there.Healthcheck.Test) > 0 || there.Build.Dockerfile != ""; !ok || needs.Condition == "service_healthy" && !checked {
				t.Errorf("%s depends on %s, %s", name, on, needs.Condition)
			}
		}
		for key, value := range s.Environment {
			for _, m := range variable.FindAllStringSubmatch(value, -1) {
				used[m[1]] = true
			}
			secret := strings.Contains(key, "PASSWORD") || strings.Contains(value, "://")
			if rest := variable.ReplaceAllString(value, ""); strings.Contains(rest, "$") || secret && rest == value {
				t.Errorf("%s: %s is %s, which is no variable that has to be set", name, key, value)
			}
		}
		for _, port := range s.Ports {
			if !strings.HasPrefix(port, "127.0.0.1:") {
				t.Errorf("%s: %s is not of this machine only", name, port)
			}
		}
		if s.Build.Dockerfile != "" {
			if _, err := os.Stat(filepath.Join(deployed, s.Build.Context, s.Build.Dockerfile)); err != nil {
				t.Error(err)
			}
			wantSettings(t, name, inImage(t, s.Environment, "value"))
		} else if !regexp.MustCompile(`:v?\d+\.\d+\.\d+`).MatchString(s.Image) {
			t.Errorf("%s: the version of %s is not said", name, s.Image)
		}
	}
	_, port, _ := strings.Cut(imageEnvironment(t)["MDS_SERVE_LISTEN"], ":")
	wantText(t, "the port of mds", strings.Join(c.Services["mds"].Ports, " "), "127.0.0.1:"+port+":"+port)
	if want := "- targets: [mds:" + port + "]"; !strings.Contains(readFile(t, filepath.Join(deployed, "prometheus", "prometheus.yml")), want) {
		t.Errorf("Prometheus scrapes another port than %s", port)
	}
	if got := c.Services["mds"].StopGracePeriod; got != "1m" || drainTimeout(t).Seconds() > 45 {
		t.Errorf("stop_grace_period is %q: what is queued would be lost", got)
	}
	example := assigned(t, readFile(t, filepath.Join(deployed, ".env.example")), `(?m)^(\w+)=(.*)$`)
	for name, value := range example {
		if value != "" || !used[name] {
			t.Errorf(".env.example: %s=%s", name, value)
		}
		delete(used, name)
	}
	if len(used) > 0 {
		t.Errorf(".env.example lacks %v", slices.Sorted(maps.Keys(used)))
	}
}

// inImage is the environment of a service of the image, with a value for each variable.
func inImage(t *testing.T, env map[string]string, value string) map[string]string {
	t.Helper()
	all := imageEnvironment(t)
	for key, text := range env {
		all[key] = variable.ReplaceAllString(text, value)
	}
	return all
}

// TestProvisioning: Grafana finds the dashboard and Prometheus where compose.yaml has them.
func TestProvisioning(t *testing.T) {
	c := readCompose(t)
	var provider struct {
		Providers []struct{ Options struct{ Path string } }
	}
	var sources struct {
		Datasources []struct {
			Type, URL string
			IsDefault bool `yaml:"isDefault"`
		}
	}
	at := filepath.Join(deployed, "grafana", "provisioning")
	for name, v := range map[string]any{"dashboards/mds.yaml": &provider, "datasources/prometheus.yaml": &sources} {
		if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(at, name))), v); err != nil {
			t.Fatal(err)
		}
	}
	volumes := c.Services["grafana"].Volumes
	for _, want := range []string{"./grafana/dashboards:" + provider.Providers[0].Options.Path + ":ro", "./grafana/provisioning:/etc/grafana/provisioning:ro"} {
		if !slices.Contains(volumes, want) {
			t.Errorf("no %s among %v", want, volumes)
		}
	}
	if s := sources.Datasources[0]; s.Type != "prometheus" || s.URL != "http://prometheus:9090" || !s.IsDefault {
		t.Errorf("the data source is %+v", s)
	}
}

// TestComposeSetup does on a PostgreSQL server what compose.yaml does on its own: the roles
// and the database, the schema and the key of Prometheus, again and again, and a server with
// the settings of the container, which the health check of the image finds well.
func TestComposeSetup(t *testing.T) {
	psql := needed(t, "psql")
	cluster := pgtest.Own(t, "fsync = off")
	makeRoles(t, cluster)
	c := newCLI(t)
	services, there := readCompose(t).Services, strings.NewReplacer("timescaledb:5432", cluster.Addr(), "/var/lib/mds", t.TempDir())
	settings := func(name string) map[string]string {
		env := inImage(t, services[name].Environment, "secret")
		for key, value := range env {
			env[key] = there.Replace(value)
		}
		return env
	}
	setup, keys := settings("setup"), t.TempDir()
	key := c.setUp(setup, keys)
	if again := c.setUp(setup, keys); again != key {
		t.Error("done again it makes another key")
	}
	list := func(args ...string) string {
		return c.must(slices.Concat([]string{"keys"}, args, []string{"--dsn", setup["MDS_DSN"], "--admin-dsn", setup["MDS_ADMIN_DSN"]})...).stdout
	}
	list("revoke", strings.Split(key, "_")[1])
	c.setUp(setup, keys)
	if all := list("list"); strings.Count(all, " metrics  active ") != 1 || strings.Count(all, " metrics  revoked ") != 1 {
		t.Errorf("for one that was revoked there is no other:\n%s", all)
	}
	c.must("tenant", "create", "metrics", "--dsn", setup["MDS_DSN"])
	former := list("create", "--tenant", "metrics", "--scopes", "admin", "--name", "prometheus") // as versions before made it
	if err := os.WriteFile(filepath.Join(keys, "metrics.key"), []byte(former), 0o644); err != nil {
		t.Fatal(err)
	}
	key = c.setUp(setup, keys)
	if all := list("list", "--all-tenants"); strings.Count(all, " admin    revoked ") != 1 || strings.Contains(all, " admin    active ") {
		t.Errorf("that of before is good still:\n%s", all)
	}
	for name, value := range settings("mds") {
		if name != "MDS_SERVE_LISTEN" {
			t.Setenv(name, value)
		}
	}
	c.dsn = settings("mds")["MDS_DSN"]
	s := c.serve()
	if exported := exportedMetrics(t, s.url, key); !exported["store_up"] {
		t.Error("Prometheus is told no metrics")
	}
	for path, want := range map[string]int{"GET /v1/bars": 403, "GET /v1/jobs": 403, "DELETE /v1/dead-letters?all=true": 403, "GET /v1/keys": 403, "DELETE /v1/tenants/default?all=true": 403, "GET /v1/settings": 403} {
		if got := c.statusAs(key, s.url, path); got != want {
			t.Errorf("the key of the metrics has %s of the default tenant answered %d", path, got)
		}
	}
	if stdout, stderr, exit := exitOf(t, c.program("health", "--server", s.url)); exit != 0 || !strings.HasPrefix(stdout, "healthy\n") {
		t.Errorf("the container is not healthy: %d %s%s", exit, stdout, stderr)
	}
	for name, page := range runbookPages(t) {
		for _, m := range regexp.MustCompile("(?s)```sql\n(.*?)```").FindAllStringSubmatch(page, -1) {
			if out, err := exec.Command(psql, "-X", "-v", "ON_ERROR_STOP=1", "-c", m[1], setup["MDS_ADMIN_DSN"]).CombinedOutput(); err != nil {
				t.Errorf("%s: %v\n%s", name, err, out)
			}
		}
	}
	if err := errors.Join(s.Process.Signal(syscall.SIGTERM), s.Wait()); err != nil {
		t.Errorf("%v, %s", err, strings.Join(s.said, "\n"))
	}
}

// statusAs is how a server answers a request with a key.
func (c *cli) statusAs(key, server, request string) int {
	c.t.Helper()
	method, path, _ := strings.Cut(request, " ")
	r, err := http.NewRequestWithContext(c.t.Context(), method, server+path, http.NoBody)
	if err != nil {
		c.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+key)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		c.t.Fatal(err)
	}
	_ = answer.Body.Close()
	return answer.StatusCode
}

// makeRoles makes in a cluster what deploy/timescaledb makes, with the password "secret".
func makeRoles(t *testing.T, cluster *pgtest.Cluster) {
	t.Helper()
	admin, err := url.Parse(cluster.DSN("admin", "postgres"))
	if err != nil {
		t.Fatal(err)
	}
	password, _ := admin.User.Password()
	roles := exec.Command("/bin/sh", filepath.Join(deployed, "timescaledb", "roles.sh"))
	roles.Env = append(os.Environ(), "POSTGRES_USER="+admin.User.Username(), "PGHOST="+admin.Hostname(), "PGPORT="+admin.Port(), "PGPASSWORD="+password,
		"OWNER_PASSWORD=secret", "SERVICE_PASSWORD=secret")
	if stdout, stderr, exit := exitOf(t, roles); exit != 0 || stdout+stderr != "" {
		t.Fatalf("roles.sh: %d %s%s", exit, stdout, stderr)
	}
}

// setUp runs deploy/setup.sh as its container does, with an environment, and returns the key
// for Prometheus that it leaves in a folder.
func (c *cli) setUp(env map[string]string, keys string) (key string) {
	c.t.Helper()
	dir, program := c.t.TempDir(), c.program()
	script := "#!/bin/sh\nexec '" + program.Path + "' \"$@\"\n"
	if err := os.WriteFile(filepath.Join(dir, "mds"), []byte(script), 0o700); err != nil {
		c.t.Fatal(err)
	}
	setup := exec.Command("/bin/sh", filepath.Join(deployed, "setup.sh"))
	setup.Env = slices.Concat(program.Env, []string{"PATH=" + dir + ":" + os.Getenv("PATH"), "KEYS=" + keys})
	for name, value := range env {
		setup.Env = append(setup.Env, name+"="+value)
	}
	if stdout, stderr, exit := exitOf(c.t, setup); exit != 0 || strings.Contains(stdout+stderr, "secret") {
		c.t.Fatalf("setup.sh: %d %s%s", exit, stdout, stderr)
	}
	file := filepath.Join(keys, "metrics.key")
	if info, err := os.Stat(file); err != nil || info.Mode() != 0o640 {
		c.t.Errorf("%v %v", info, err)
	}
	return strings.TrimSpace(readFile(c.t, file))
}
