package main

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// configured writes a configuration file.
func configured(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "mds.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigCheck(t *testing.T) {
	c := newCLI(t)
	good := configured(t, "[serve]\nlisten = \"127.0.0.1:0\"\n")
	if out := c.must("config", "check", good); out.stdout != good+": nothing is wrong\n" || out.stderr != "" {
		t.Errorf("%q, %q", out.stdout, out.stderr)
	}
	if out := c.must("config", "check"); out.stdout != "the environment: nothing is wrong\n" {
		t.Errorf("%q", out.stdout)
	}
	bad := configured(t, "[serve]\nlisen = \"127.0.0.1:0\"\nidle_timeout = \"soon\"\n")
	c.env = map[string]string{"MDS_CONFIG": bad, "MDS_POOL_MAX": "1", "MDS_SERVE_LISEN": "x"}
	out := c.run("config", "check")
	want := "MDS_POOL_MAX is \"1\": write a number of connections, 2 or more, up to 65,536\n" +
		bad + ":2: there is no setting serve.lisen; did you mean serve.listen?\n" +
		bad + ":3: serve.idle_timeout is \"soon\": write a duration such as 250ms, 30s or 1m\n"
	if out.exit != exitUsage || out.stdout != want || out.stderr != "warning: there is no setting MDS_SERVE_LISEN; did you mean MDS_SERVE_LISTEN?\nmds: "+bad+": 3 faults\n" {
		t.Errorf("exit %d\n%s%s", out.exit, out.stdout, out.stderr)
	}
	// Another command says the same, and help is there nevertheless.
	if out := c.run("series"); out.exit != exitUsage || out.stderr != "mds: "+strings.ReplaceAll(strings.TrimSuffix(want, "\n"), "\n", "; ")+"\n" {
		t.Errorf("exit %d\n%s", out.exit, out.stderr)
	}
	for _, args := range [][]string{{"version"}, {"help", "serve"}, {"serve", "--help"}, {"config", "print", "--defaults"}, {"completion", "bash"}, {"__complete", "serve", "--li"}} {
		c.must(args...)
	}
	c.env = nil
	for text, want := range map[string]string{
		"[serve]\ntls_cert = \"/nowhere/c.pem\"\n":                                   `:2: serve.tls_cert is "/nowhere/c.pem": serve.tls_key is not set; --tls-cert and --tls-key belong together`,
		"[serve]\ntls_key = \"/nowhere/k.pem\"\n":                                    `:2: serve.tls_key is "/nowhere/k.pem": serve.tls_cert is not set; --tls-cert and --tls-key belong together`,
		"[serve]\ntls_cert = \"/nowhere/c.pem\"\ntls_key = \"/nowhere/k.pem\"\n":     `:2: serve.tls_cert is "/nowhere/c.pem": with serve.tls_key "/nowhere/k.pem" it does not make a pair: open /nowhere/c.pem: no such file or directory; name PEM files of one certificate and its key`,
		"[coordinator]\nbatch_size = 10\nbatch_max = 5\n":                            `:3: coordinator.batch_max is 5: it is less than coordinator.batch_size, which is 10; write as many or more`,
		"[coordinator]\nbatch_size = 10\nbatch_max = 5\n[store]\nteant = \"acme\"\n": `:5: there is no setting store.teant; did you mean store.tenant?`,
	} {
		path := configured(t, text)
		if out := c.run("config", "check", path); out.exit != exitUsage || out.stdout != path+want+"\n" || out.stderr != "mds: "+path+": 1 fault\n" {
			t.Errorf("exit %d\n%s%s", out.exit, out.stdout, out.stderr)
		}
	}
	if out := c.run("config", "check", "/nowhere/mds.toml"); out.exit != exitUsage || out.stdout != "/nowhere/mds.toml: there is no such configuration file; mds config print --defaults writes one to start from\n" {
		t.Errorf("exit %d\n%s%s", out.exit, out.stdout, out.stderr)
	}
}

func TestConfigPrint(t *testing.T) {
	c := newCLI(t)
	c.dsn = "postgres://me:geheim@db/x"
	path := configured(t, "[store]\ntenant = \"acme\"\n[serve]\nmax_queries = 7\n")
	out := c.must("config", "print", "--config", path, "--log-level", "error")
	for _, want := range []string{
		"\ndsn = \"postgres://me@db/x\"  # environment MDS_DSN; its password is not shown\n",
		"\ntenant = \"acme\"  # " + path + ":2\n", "\nmax_queries = 7  # " + path + ":4\n", "\nlevel = \"error\"  # --log-level\n", "\n#format = \"text\"  # default\n",
	} {
		if !strings.Contains(out.stdout, want) {
			t.Errorf("no %q in\n%s", want, out.stdout)
		}
	}
	if strings.Contains(out.stdout+out.stderr, "geheim") {
		t.Errorf("%s", out.stdout)
	}
	// What it prints is a file.
	if again := c.must("config", "check", configured(t, out.stdout)); again.stderr != "" {
		t.Errorf("%s", again.stderr)
	}
	c.must("config", "check", configured(t, c.must("config", "print", "--defaults").stdout))
}

// TestConfigOfCommands: the file, the environment and flags say which store it is, each
// over the one before.
func TestConfigOfCommands(t *testing.T) {
	c := loaded(t)
	dsn := c.dsn
	path := configured(t, "[store]\ndsn = \""+dsn+"\"\n")
	elsewhere := "duckdb://" + t.TempDir()
	c.dsn = "" // of the environment
	if out := c.must("series", "--config", path); !strings.Contains(out.stdout, "MSFT") {
		t.Errorf("%s", out.stdout)
	}
	c.dsn = elsewhere
	if out := c.run("series", "--config", path); out.exit != exitFailed || !strings.HasSuffix(out.stderr, "load something into it with: mds ingest bars FILE\n") {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
	if out := c.must("series", "--config", path, "--dsn", dsn); !strings.Contains(out.stdout, "MSFT") {
		t.Errorf("%s", out.stdout)
	}
	if out := c.run("series", "--config", path, "--dsn", elsewhere); !strings.HasSuffix(out.stderr, " FILE --dsn "+elsewhere+"\n") {
		t.Errorf("%s", out.stderr)
	}
	c.dsn = ""
	path = configured(t, "[store]\ndsn = \""+dsn+"\"\nwrite_mode = \"copy\"\n")
	if out := c.run("series", "--config", path); out.exit != exitUsage || !strings.HasPrefix(out.stderr, "mds: "+path+`:3: store.write_mode is "copy": `) {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
	path = configured(t, "[store]\ndsn = \"postgres://me:geheim@db/x\"\n")
	if err := os.Chmod(path, 0o644); err != nil {
		t.Fatal(err)
	}
	out := c.run("series", "--config", path, "--dsn", dsn)
	if out.exit != exitDone || strings.Count(out.stderr, "warning: "+path+":2: store.dsn holds a secret, and others than the file's owner may read it: chmod 600 "+path+"\n") != 1 {
		t.Errorf("exit %d, %s", out.exit, out.stderr)
	}
	if out = c.must("config", "check", path); out.stderr != "warning: "+path+":2: store.dsn holds a secret, and others than the file's owner may read it: chmod 600 "+path+"\n" {
		t.Errorf("%s", out.stderr)
	}
}
