package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"go.yaml.in/yaml/v3"
)

// scraping is a folder with the configuration of deploy/prometheus, for the server at an
// address and the key in a file, which is asked every 200 ms.
func scraping(t *testing.T, address, key string) (dir string) {
	t.Helper()
	dir = t.TempDir()
	config := replaced(t, readFile(t, filepath.Join(deployed, "prometheus", "prometheus.yml")), "mds:8080", address, "/run/mds/metrics.key", key, "15s", "200ms")
	for name, text := range map[string]string{"prometheus.yml": config, "alerts.yml": readFile(t, filepath.Join(deployed, "prometheus", "alerts.yml"))} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// prometheus is a Prometheus that runs.
type prometheus struct{ url string }

// prometheusGuard runs it until its standard input ends, as it does with this process.
const prometheusGuard = `"$@" & server=$!; read -r end; kill $server; wait $server`

// startPrometheus starts one with a configuration, on a port of loopback.
func startPrometheus(t *testing.T, dir string) *prometheus {
	t.Helper()
	cmd := exec.Command("/bin/sh", "-c", prometheusGuard, "sh", needed(t, "prometheus"),
		"--config.file="+filepath.Join(dir, "prometheus.yml"), "--storage.tsdb.path="+filepath.Join(dir, "data"), "--web.listen-address=127.0.0.1:0")
	stdin, err := cmd.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = stdin.Close()
		_ = cmd.Wait() // whatever it says, it is gone
	})
	listening := regexp.MustCompile(`msg="Listening on".*address=(\S+)`)
	var said []string
	for lines := bufio.NewScanner(stderr); lines.Scan(); {
		said = append(said, lines.Text())
		if m := listening.FindStringSubmatch(lines.Text()); m != nil {
			go io.Copy(io.Discard, stderr)
			return &prometheus{url: "http://" + m[1]}
		}
	}
	t.Fatalf("Prometheus does not listen:\n%s", strings.Join(said, "\n"))
	return nil
}

// get asks its API. What it refuses is an error, with what it says.
func (p *prometheus) get(path string, values url.Values, data any) error {
	resp, err := http.Get(p.url + path + "?" + values.Encode())
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	var answer struct {
		Error string
		Data  json.RawMessage
	}
	if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
		return fmt.Errorf("%s: %w", resp.Status, err)
	}
	if answer.Error != "" {
		return errors.New(answer.Error)
	}
	return json.Unmarshal(answer.Data, data)
}

// query returns the labels of the series that an expression has now.
func (p *prometheus) query(expr string) (series []map[string]string, err error) {
	var data struct {
		Result []struct{ Metric map[string]string }
	}
	if err := p.get("/api/v1/query", url.Values{"query": {expr}}, &data); err != nil {
		return nil, err
	}
	for _, r := range data.Result {
		series = append(series, r.Metric)
	}
	return series, nil
}

// rules returns what becomes of its alerts, by name: ok, unknown where it has not looked at
// one yet, or the error.
func (p *prometheus) rules() (health map[string]string, err error) {
	var data struct {
		Groups []struct {
			Rules []struct{ Name, Health, LastError string }
		}
	}
	health = make(map[string]string)
	if err := p.get("/api/v1/rules", nil, &data); err != nil {
		return nil, err
	}
	for _, g := range data.Groups {
		for _, r := range g.Rules {
			health[r.Name] = r.Health + r.LastError
		}
	}
	return health, nil
}

// await waits until something is so, for half a minute at most.
func await(t *testing.T, what string, so func() bool) {
	t.Helper()
	limit, again := time.After(30*time.Second), time.NewTicker(20*time.Millisecond)
	defer again.Stop()
	for !so() {
		select {
		case <-again.C:
		case <-limit:
			t.Fatalf("after half a minute it is not so that %s", what)
		}
	}
}

// alert is a rule of deploy/prometheus/alerts.yml.
type alert struct {
	Alert, Expr string
	Labels      map[string]string
	Annotations map[string]string
}

func alerts(t *testing.T) (list []alert) {
	t.Helper()
	var file struct {
		Groups []struct{ Rules []alert }
	}
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(deployed, "prometheus", "alerts.yml"))), &file); err != nil {
		t.Fatal(err)
	}
	for _, g := range file.Groups {
		list = append(list, g.Rules...)
	}
	if len(list) < 10 {
		t.Fatalf("there are %d alerts", len(list))
	}
	return list
}

// TestMonitoring has a real Prometheus, with the configuration of deploy/prometheus, scrape a
// real server that has had work: each query of the dashboard and of the runbook has an answer,
// with the labels that its legend names, and all that the alerts select is there.
func TestMonitoring(t *testing.T) {
	c := newCLI(t)
	s, token := worked(t, c)
	p := startPrometheus(t, scraping(t, strings.TrimPrefix(s.url, "http://"), testFile(t, "metrics.key", token+"\n")))
	await(t, "Prometheus has scraped the server three times", func() bool {
		series, _ := p.query("count_over_time(store_up[1m]) >= 3")
		return len(series) > 0
	})
	for _, q := range dashboardQueries(t) {
		t.Run("dashboard/"+q.panel, func(t *testing.T) { p.answers(t, q.expr, q.legend) })
	}
	for _, q := range runbookQueries(t) {
		t.Run("runbook/"+q.panel, func(t *testing.T) { p.selects(t, q.expr) })
	}
	for _, a := range alerts(t) {
		t.Run("alert/"+a.Alert, func(t *testing.T) { p.selects(t, a.Expr) })
	}
	await(t, "all alerts are looked at", func() bool {
		health, err := p.rules()
		if err != nil || len(health) != len(alerts(t)) {
			t.Fatalf("%v %v", health, err)
		}
		for name, state := range health {
			if state != "ok" && state != "unknown" {
				t.Fatalf("%s: %s", name, state)
			}
		}
		return !slices.Contains(slices.Collect(maps.Values(health)), "unknown")
	})
}

// worked starts a server that asks for keys and has it do some work, of which one request
// fails with 503. The key may do everything.
func worked(t *testing.T, c *cli) (s *serving, token string) {
	t.Helper()
	token = strings.TrimSpace(c.must("keys", "create", "--scopes", "read,write,admin").stdout)
	audit := filepath.Join(t.TempDir(), "audit")
	s = c.serve("--audit-log", audit)
	ask := func(method, path string, want int) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), method, s.url+path, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		r.Header.Set("Authorization", "Bearer "+token)
		resp, err := http.DefaultClient.Do(r)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		if resp.StatusCode != want {
			t.Fatalf("%s %s is answered %d, want %d", method, path, resp.StatusCode, want)
		}
	}
	if status, body, err := post(s.url+"/v1/bars", token, "A", 5); err != nil || status != http.StatusOK {
		t.Fatal(status, body, err)
	}
	ask("GET", "/v1/bars", http.StatusOK)
	// Its file can be written no more, so that nothing is removed.
	if err := errors.Join(os.Rename(audit, audit+".1"), os.Mkdir(audit, 0o700)); err != nil {
		t.Fatal(err)
	}
	ask("DELETE", "/v1/bars?symbol=A", http.StatusServiceUnavailable)
	return s, token
}

// exportedMetrics are the names of what a server exports.
func exportedMetrics(t *testing.T, url, token string) map[string]bool {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, url+"/metrics", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+token)
	resp, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	names := make(map[string]bool)
	for lines := bufio.NewScanner(resp.Body); lines.Scan(); {
		name, _, _ := strings.Cut(lines.Text(), " ")
		name, _, _ = strings.Cut(name, "{")
		names[name] = true
	}
	return names
}

// selects checks that what an expression selects is there, with the labels that it groups by.
func (p *prometheus) selects(t *testing.T, expr string) {
	t.Helper()
	names := namesOf(expr)
	if len(names.selectors) == 0 {
		t.Fatalf("%s selects nothing", expr)
	}
	labels := make(map[string]bool)
	for _, s := range names.selectors {
		series, err := p.query("last_over_time(" + s.text + "[1m])")
		if err != nil || len(series) == 0 {
			t.Errorf("%s is not exported: %v", s.text, err)
		}
		for _, name := range s.labels {
			if len(series) > 0 && series[0][name] == "" {
				t.Errorf("%s has no label %s", s.metric, name)
			}
		}
		for _, of := range series {
			for name := range of {
				labels[name] = true
			}
		}
	}
	for _, name := range names.grouped {
		if !labels[name] {
			t.Errorf("%s groups by %s, which is no label there", expr, name)
		}
	}
}

// answers checks that an expression has series, with the labels that the legend names.
func (p *prometheus) answers(t *testing.T, expr, legend string) {
	t.Helper()
	p.selects(t, expr)
	series, err := p.query(expr)
	if err != nil || len(series) == 0 {
		t.Fatalf("%s has no answer: %v", expr, err)
	}
	for _, m := range regexp.MustCompile(`{{\s*(\w+)\s*}}`).FindAllStringSubmatch(legend, -1) {
		if series[0][m[1]] == "" {
			t.Errorf("the legend %q names %s, which %s has not", legend, m[1], expr)
		}
	}
}

// asked is a query, and whose it is.
type asked struct{ panel, expr, legend string }

// dashboardQueries are those of the dashboard, for all instances and the last minute.
func dashboardQueries(t *testing.T) (list []asked) {
	t.Helper()
	variables := strings.NewReplacer("$__rate_interval", "1m", "$__range", "1m", "$instance", ".*")
	for _, panel := range readDashboard(t).Panels {
		for _, target := range panel.Targets {
			expr := variables.Replace(target.Expr)
			if strings.Contains(expr, "$") {
				t.Errorf("%s: %s names a variable that there is not", panel.Title, target.Expr)
			}
			list = append(list, asked{panel.Title, expr, target.LegendFormat})
		}
	}
	return list
}

// runbookQueries are those in the pages of docs/runbook.
func runbookQueries(t *testing.T) (list []asked) {
	t.Helper()
	for name, page := range runbookPages(t) {
		for _, m := range regexp.MustCompile("(?s)```promql\n(.*?)```").FindAllStringSubmatch(page, -1) {
			list = append(list, asked{panel: name, expr: m[1]})
		}
	}
	if len(list) == 0 {
		t.Error("no page has a query")
	}
	return list
}

// TestAlertRules has promtool check the configuration and the rules, and try each alert.
func TestAlertRules(t *testing.T) {
	promtool := needed(t, "promtool")
	dir := scraping(t, "mds:8080", testFile(t, "metrics.key", "mds_…\n"))
	rules := filepath.Join(deployed, "prometheus")
	for _, args := range [][]string{
		{"check", "config", filepath.Join(dir, "prometheus.yml")},
		{"check", "rules", filepath.Join(rules, "alerts.yml")},
		{"test", "rules", filepath.Join(rules, "alerts_test.yml")},
	} {
		if out, err := exec.Command(promtool, args...).CombinedOutput(); err != nil {
			t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	type expected struct {
		Alertname string
		ExpAlerts []struct{} `yaml:"exp_alerts"`
	}
	var file struct {
		Tests []struct {
			Cases []expected `yaml:"alert_rule_test"`
		}
	}
	if err := yaml.Unmarshal([]byte(readFile(t, filepath.Join(rules, "alerts_test.yml"))), &file); err != nil {
		t.Fatal(err)
	}
	fires, clear := make(map[string]bool), make(map[string]bool)
	for _, test := range file.Tests {
		for _, c := range test.Cases {
			if len(c.ExpAlerts) > 0 {
				fires[c.Alertname] = true
			} else {
				clear[c.Alertname] = fires[c.Alertname] // after it has fired
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] || !clear[a.Alert] {
			t.Errorf("alerts_test.yml does not try that %s fires (%v), and then clears (%v)", a.Alert, fires[a.Alert], clear[a.Alert])
		}
	}
}
