package main

import (
	"maps"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/internal/config"
)

// What is deployed, seen from here.
const (
	deployed = "../../deploy"
	runbook  = "../../docs/runbook"
)

// needed finds a program. Where there is none the test is skipped, in CI it fails.
func needed(t *testing.T, name string) string {
	t.Helper()
	path, err := exec.LookPath(name)
	if err == nil {
		return path
	}
	if os.Getenv("CI") != "" {
		t.Fatalf("there is no %s; scripts/deps-test installs it", name)
	}
	t.Skipf("there is no %s; scripts/deps-test installs it", name)
	return ""
}

func readFile(t *testing.T, path string) string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return string(text)
}

// replaced replaces texts, each of which has to be there.
func replaced(t *testing.T, text string, pairs ...string) string {
	t.Helper()
	for i := 0; i < len(pairs); i += 2 {
		if !strings.Contains(text, pairs[i]) {
			t.Fatalf("no %q in\n%s", pairs[i], text)
		}
		text = strings.ReplaceAll(text, pairs[i], pairs[i+1])
	}
	return text
}

// assigned are the KEY=VALUE of a text, by key.
func assigned(t *testing.T, text, pattern string) map[string]string {
	t.Helper()
	env := make(map[string]string)
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		env[m[1]] = m[2]
	}
	if len(env) == 0 {
		t.Fatalf("nothing is set in\n%s", text)
	}
	return env
}

// wantSettings has the program look at an environment as mds config check does.
func wantSettings(t *testing.T, what string, env map[string]string) {
	t.Helper()
	c := &cli{t: t, env: maps.Clone(env), dsn: env["MDS_DSN"]}
	if out := c.run("config", "check"); out.exit != exitDone || out.stderr != "" {
		t.Errorf("%s: %d %s%s", what, out.exit, out.stdout, out.stderr)
	}
}

func isSetting(variable string) bool {
	return slices.ContainsFunc(config.List(), func(s config.Setting) bool { return s.Env == variable })
}

// TestUnit has systemd read the unit, and judge how far it is confined.
func TestUnit(t *testing.T) {
	analyze := needed(t, "systemd-analyze")
	unit := readFile(t, filepath.Join(deployed, "mds.service"))
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	file := filepath.Join(dir, "mds.service")
	if err := os.WriteFile(file, []byte(replaced(t, unit, "/usr/local/bin/mds ", self+" ")), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"verify", "--man=no", file}, {"security", "--no-pager", "--offline=yes", "--threshold=15", file}} {
		out, err := exec.Command(analyze, args...).CombinedOutput()
		if err != nil || args[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", args[0], err, out)
		}
	}
	env := assigned(t, unit, `(?m)^Environment=(\w+)=(.*)$`)
	wantSettings(t, "the unit", env)
	example := assigned(t, readFile(t, filepath.Join(deployed, "mds.env.example")), `(?m)^#(MDS_\w+)=(.*)$`)
	certificate := []string{"MDS_SERVE_TLS_CERT", "MDS_SERVE_TLS_KEY"} // which are not there
	maps.DeleteFunc(example, func(name, _ string) bool { return slices.Contains(certificate, name) && isSetting(name) })
	wantSettings(t, "mds.env.example", example)
	line := func(key string) string {
		m := regexp.MustCompile(`(?m)^` + key + `=(.*)$`).FindStringSubmatch(unit)
		if m == nil {
			t.Fatalf("the unit has no %s", key)
		}
		return m[1]
	}
	stop, err := time.ParseDuration(line("TimeoutStopSec") + "s")
	if err != nil || stop < drainTimeout(t)+15*time.Second {
		t.Errorf("TimeoutStopSec is %s, %v: what is queued would be lost", stop, err)
	}
	for key, want := range map[string]string{
		"Type": "notify", "WatchdogSec": "30", "Restart": "on-failure", "User": "mds", "StateDirectory": "mds", "LogsDirectory": "mds",
		"ProtectSystem": "strict", "EnvironmentFile": "-/etc/mds/mds.env", "ExecStart": "/usr/local/bin/mds serve",
	} {
		if got := line(key); got != want {
			t.Errorf("%s is %q, want %q", key, got, want)
		}
	}
	// What it writes lies in its folders.
	for _, key := range []string{"MDS_DSN", "MDS_DLQ_DIR", "MDS_SERVE_AUDIT_LOG"} {
		if at := strings.TrimPrefix(env[key], "duckdb://"); !strings.HasPrefix(at+"/", "/var/lib/mds/") && !strings.HasPrefix(at, "/var/log/mds/") {
			t.Errorf("%s is %s, which the unit may not write to", key, at)
		}
	}
}

// drainTimeout is how long a server has to write what is queued, unless it is set.
func drainTimeout(t *testing.T) time.Duration {
	t.Helper()
	list := config.List()
	i := slices.IndexFunc(list, func(s config.Setting) bool { return s.Key == "serve.drain_timeout" })
	d, err := time.ParseDuration(list[i].Default)
	if err != nil {
		t.Fatal(err)
	}
	return d
}

// TestAccount has systemd make the account of the unit, in a folder.
func TestAccount(t *testing.T) {
	sysusers := needed(t, "systemd-sysusers")
	root := t.TempDir()
	if err := os.Mkdir(filepath.Join(root, "etc"), 0o700); err != nil {
		t.Fatal(err)
	}
	file, err := filepath.Abs(filepath.Join(deployed, "mds.sysusers.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if out, err := exec.Command(sysusers, "--root="+root, file).CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	if passwd := readFile(t, filepath.Join(root, "etc", "passwd")); !regexp.MustCompile(`(?m)^mds:x?!?\*?:\d+:\d+:mds, a market data store:/var/lib/mds:/usr/sbin/nologin$`).MatchString(passwd) {
		t.Errorf("the accounts are\n%s", passwd)
	}
}

// instruction is a line of a Dockerfile, continued lines put together.
type instruction struct{ name, rest string }

// stages are the instructions of deploy/Dockerfile, stage by stage.
func stages(t *testing.T) (list [][]instruction) {
	t.Helper()
	text := regexp.MustCompile(`(?m)^#.*\n`).ReplaceAllString(readFile(t, filepath.Join(deployed, "Dockerfile")), "")
	for line := range strings.Lines(strings.ReplaceAll(text, "\\\n", " ")) {
		name, rest, _ := strings.Cut(strings.TrimSpace(line), " ")
		if name == "FROM" {
			list = append(list, nil)
		}
		if name != "" {
			list[len(list)-1] = append(list[len(list)-1], instruction{name, strings.Join(strings.Fields(rest), " ")})
		}
	}
	return list
}

// imageEnvironment is that of the image.
func imageEnvironment(t *testing.T) map[string]string {
	t.Helper()
	all := stages(t)
	for _, in := range all[len(all)-1] {
		if in.name == "ENV" {
			return assigned(t, in.rest, `(\w+)=(\S+)`)
		}
	}
	t.Fatal("the image has no environment")
	return nil
}

// TestDockerfile: what it copies is there and is not left out, its settings are settings, its
// commands are commands, and it does not run as root. Docker itself has not looked at it.
func TestDockerfile(t *testing.T) {
	all := stages(t)
	if len(all) != 2 {
		t.Fatalf("it has %d stages", len(all))
	}
	ignored := ignoredByDocker(t)
	for _, in := range all[0] {
		if in.name != "COPY" {
			continue
		}
		from := strings.Fields(in.rest)
		for _, name := range from[:len(from)-1] {
			if _, err := os.Stat(filepath.Join("../..", name)); err != nil || ignored(name) {
				t.Errorf("COPY %s: %v", name, err)
			}
		}
	}
	image := make(map[string]string)
	for _, in := range all[1] {
		image[in.name] = in.rest
	}
	wantText(t, "USER", image["USER"], "10001:10001")
	wantText(t, "ENTRYPOINT", image["ENTRYPOINT"], `["mds"]`)
	wantText(t, "CMD", image["CMD"], `["serve"]`)
	wantText(t, "COPY", image["COPY"], "--from=build /mds /usr/local/bin/mds")
	if !strings.HasSuffix(image["HEALTHCHECK"], `CMD ["mds", "health", "--server", "http://127.0.0.1:8080"]`) {
		t.Errorf("HEALTHCHECK %s", image["HEALTHCHECK"])
	}
	env := imageEnvironment(t)
	wantSettings(t, "the image", env)
	if env["MDS_SERVE_LISTEN"] != "0.0.0.0:"+image["EXPOSE"] || env["MDS_DSN"] != "duckdb://"+image["VOLUME"] || path.Dir(env["MDS_DLQ_DIR"]) != image["VOLUME"] {
		t.Errorf("%v, %v", env, image)
	}
}

// ignoredByDocker is whether .dockerignore leaves a path out.
func ignoredByDocker(t *testing.T) func(string) bool {
	t.Helper()
	var patterns []string
	for line := range strings.Lines(readFile(t, "../../.dockerignore")) {
		if line = strings.TrimSpace(line); line != "" && line[0] != '#' {
			patterns = append(patterns, line)
		}
	}
	return func(name string) bool {
		return slices.ContainsFunc(patterns, func(pattern string) bool {
			deep, anywhere := strings.CutPrefix(pattern, "**/")
			for at := name; at != "." && at != "/"; at = path.Dir(at) {
				is := at
				if anywhere {
					is = path.Base(at)
				}
				if ok, err := path.Match(deep, is); err != nil || ok {
					return true
				}
			}
			return false
		})
	}
}

// TestDockerIgnores leaves out what may hold secrets and what is built, and nothing that git
// has: what is not there would make the commit of a build a changed one.
func TestDockerIgnores(t *testing.T) {
	ignored := ignoredByDocker(t)
	for _, name := range []string{"deploy/.env", ".git/config", ".git/hooks/pre-commit", "bin/mds", ".tools/golangci-lint", "internal/pgtest/lite/node_modules/x/y.js", "a/key.pem", "a/b.key", "x.duckdb"} {
		if !ignored(name) {
			t.Errorf("%s is not left out", name)
		}
	}
	out, err := exec.Command("git", "-C", "../..", "ls-files").Output()
	if err != nil && os.Getenv("CI") != "" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skip("this is no clone:", err)
	}
	for name := range strings.Lines(string(out)) {
		if name = strings.TrimSpace(name); ignored(name) {
			t.Errorf("%s is left out", name)
		}
	}
}
