package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// keysCLI runs commands about keys on a store of an engine, that has the tenant acme.
type keysCLI struct {
	*cli
	flags []string // of each command
}

func (c *keysCLI) keys(args ...string) outcome {
	c.t.Helper()
	return c.run(slices.Concat([]string{"keys"}, args, c.flags)...)
}

func (c *keysCLI) mustKeys(args ...string) outcome {
	c.t.Helper()
	return c.must(slices.Concat([]string{"keys"}, args, c.flags)...)
}

// onEachEngine runs a test on a DuckDB store, which another process has for its time, and on
// PostgreSQL.
func onEachEngine(t *testing.T, test func(*testing.T, *keysCLI)) {
	t.Run("duckdb", func(t *testing.T) {
		c := &keysCLI{cli: newCLI(t)}
		c.must("tenant", "create", "acme")
		defer c.held()()
		test(t, c)
	})
	t.Run("postgres", func(t *testing.T) {
		d := pgtest.Empty(t)
		c := &keysCLI{cli: newCLI(t), flags: []string{"--admin-dsn", d.Owner}}
		c.dsn = d.Service
		c.must("migrate", "--admin-dsn", d.Owner)
		c.must("tenant", "create", "acme")
		test(t, c)
	})
}

// held has another process open the file of the default tenant until the returned function
// is called.
func (c *cli) held() (release func()) {
	c.t.Helper()
	owner := c.program("ingest", "bars", "-")
	stdin, err := owner.StdinPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	stderr, err := owner.StderrPipe()
	if err != nil {
		c.t.Fatal(err)
	}
	if err := owner.Start(); err != nil {
		c.t.Fatal(err)
	}
	// It says where the store is once it has opened it.
	output := bufio.NewReader(stderr)
	if line, err := output.ReadString('\n'); err != nil || !strings.HasPrefix(line, "store: ") {
		c.t.Fatalf("%q, %v", line, err)
	}
	if out := c.run("series"); out.exit != exitFailed || !strings.Contains(out.stderr, "is in use by") {
		c.t.Fatalf("the file is not held: %s", out.stderr)
	}
	return func() {
		_ = stdin.Close()
		_, _ = io.Copy(io.Discard, output)
		_ = owner.Wait() // that nothing came in is not what is tested
	}
}

// authenticator checks tokens as a service does that has the store open.
func (c *keysCLI) authenticator() func(token string, now time.Time) (apikey.Identity, error) {
	c.t.Helper()
	s, err := store.Open(context.Background(), c.dsn, store.Config{})
	if err != nil {
		c.t.Fatal(err)
	}
	c.t.Cleanup(func() { _ = s.Close() })
	a := apikey.NewAuthenticator(s, apikey.Config{Refresh: time.Nanosecond})
	return func(token string, now time.Time) (apikey.Identity, error) {
		return a.Authenticate(context.Background(), strings.TrimSuffix(token, "\n"), now)
	}
}

// TestKeys makes, lists, rotates and revokes keys while a service checks tokens.
func TestKeys(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c *keysCLI) {
		check := c.authenticator()
		want := func(token string, now time.Time, err error) {
			t.Helper()
			if _, got := check(token, now); !errors.Is(got, err) {
				t.Errorf("%v, want %v", got, err)
			}
		}
		wantText(t, "of none", c.mustKeys("list").stderr, "tenant default has no API keys\n")
		wantText(t, "in JSON", c.mustKeys("list", "--json", "--all-tenants").stdout, "[]\n")

		made := c.mustKeys("create", "--tenant", "acme", "--scopes", "write,read", "--name", "a feed", "--expires", "2d")
		id := strings.TrimPrefix(made.stdout, "mds_")[:mds.KeyIDLength]
		if made.stdout != strings.TrimSpace(made.stdout)+"\n" || !strings.HasPrefix(made.stderr, "key "+id+" of tenant acme made: read,write, expires at ") || !strings.HasSuffix(made.stderr, "; its token is shown this once\n") {
			t.Errorf("create:\n%s%s", made.stdout, made.stderr)
		}
		who, err := check(made.stdout, time.Now())
		if err != nil || who.Tenant.Slug != "acme" || who.KeyID != id || !slices.Equal(who.Scopes, []mds.Scope{mds.ScopeRead, mds.ScopeWrite}) {
			t.Errorf("it is %+v, %v", who, err)
		}
		want(made.stdout, time.Now().Add(49*time.Hour), apikey.ErrExpired)
		forever := c.mustKeys("create", "--scopes", "admin").stdout

		var list []listedKey
		out := c.mustKeys("list", "--json", "--tenant", "acme")
		if err := json.Unmarshal([]byte(out.stdout), &list); err != nil || len(list) != 1 || list[0].ID != id || list[0].Name != "a feed" || list[0].State != mds.KeyActive || list[0].Tenant != "acme" || !list[0].Revoked.IsZero() {
			t.Errorf("the list is %v\n%s", err, out.stdout)
		}
		for _, args := range [][]string{{"list", "--all-tenants"}, {"list", "--all-tenants", "--json"}} {
			out := c.mustKeys(args...)
			if text := out.stdout + out.stderr; !strings.Contains(text, id) || strings.Contains(text, made.stdout[17:60]) || strings.Contains(text, "mds_") || strings.Contains(text, "sha256") {
				t.Errorf("%q:\n%s", args, text)
			}
		}

		rotated := c.mustKeys("rotate", id, "--grace", "24h")
		if !strings.Contains(rotated.stderr, " of tenant acme takes the place of "+id+", which works until ") || !strings.Contains(rotated.stderr, ": read,write, expires at "+list[0].Expires.UTC().Format(time.RFC3339)+";") {
			t.Errorf("rotate: %s", rotated.stderr)
		}
		want(rotated.stdout, time.Now(), nil)
		want(made.stdout, time.Now(), nil)
		want(made.stdout, time.Now().Add(24*time.Hour), apikey.ErrExpired)
		again := c.mustKeys("rotate", strings.ToUpper(rotated.stdout[4:16]), "--expires", "never")
		if !strings.Contains(again.stderr, ", which no longer works: read,write, expires at ") {
			t.Errorf("rotate: %s", again.stderr)
		}
		want(rotated.stdout, time.Now(), apikey.ErrExpired)
		if who, err := check(again.stdout, time.Now()); err != nil || who.Tenant.Slug != "acme" || !slices.Equal(who.Scopes, []mds.Scope{mds.ScopeRead, mds.ScopeWrite}) {
			t.Errorf("it is %+v, %v", who, err)
		}
		wantText(t, "revoke", c.mustKeys("revoke", again.stdout[4:16]).stdout, "key "+again.stdout[4:16]+" of tenant acme is revoked\n")
		want(again.stdout, time.Now(), apikey.ErrRevoked)
		if out := c.mustKeys("revoke", again.stdout[4:16]).stdout; !strings.HasPrefix(out, "key "+again.stdout[4:16]+" of tenant acme was revoked before, at 20") {
			t.Errorf("revoke again: %s", out)
		}
		want(forever, time.Now().AddDate(100, 0, 0), nil)
		for args, sentence := range map[string]string{
			"create --scopes read --tenant acne": `unknown tenant "acne"; make it with: mds tenant create acne`,
			"list --tenant acne":                 `unknown tenant "acne"; make it with: mds tenant create acne`,
			"revoke 000000000000":                `unknown API key "000000000000"; mds keys list --all-tenants`,
			"rotate 000000000000":                `unknown API key "000000000000"; mds keys list --all-tenants`,
			"rotate " + again.stdout[4:16]:       "the API key has ended: " + again.stdout[4:16] + " was revoked at 20",
		} {
			if out := c.keys(strings.Fields(args)...); out.exit != exitFailed || !strings.HasPrefix(out.stderr, "mds: "+sentence) || strings.Count(out.stderr, "\n") != 1 || out.stdout != "" {
				t.Errorf("mds keys %s: exit %d\n%s%s", args, out.exit, out.stdout, out.stderr)
			}
		}
	})
}

// TestKeysOfProcesses has processes make keys at once: none is lost.
func TestKeysOfProcesses(t *testing.T) {
	onEachEngine(t, func(t *testing.T, c *keysCLI) {
		var processes []*exec.Cmd
		var tokens []*strings.Builder
		for range 8 {
			cmd := c.program(append([]string{"keys", "create", "--scopes", "read"}, c.flags...)...)
			out := &strings.Builder{}
			cmd.Stdout = out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			processes, tokens = append(processes, cmd), append(tokens, out)
		}
		check := c.authenticator()
		for i, cmd := range processes {
			if err := cmd.Wait(); err != nil {
				t.Fatal(err)
			}
			if _, err := check(tokens[i].String(), time.Now()); err != nil {
				t.Errorf("just made: %v", err)
			}
		}
		for _, token := range tokens {
			if _, err := check(token.String(), time.Now()); err != nil {
				t.Errorf("when all are made: %v", err)
			}
		}
	})
}

// TestKeysBadInput has one sentence for each thing that is wrong, which never has a token in
// it.
func TestKeysBadInput(t *testing.T) {
	c := newCLI(t)
	token := strings.TrimSpace(c.must("keys", "create", "--scopes", "read").stdout)
	for args, want := range map[string]string{
		"create":                                           "say what the key may do: --scopes read,write,admin,metrics, or some of them",
		"create --scopes ,":                                `--scopes: "" is no scope: use read, write, admin or metrics`,
		"create --scopes read,root":                        `--scopes: "root" is no scope: use read, write, admin or metrics`,
		"create read":                                      `mds keys create takes no arguments, and "read" is one`,
		"create --scopes read --expires 0d":                `--expires "0d": write for how long, such as 90d or 2y, or until when, such as 2027-01-31 (00:00 UTC) or 2027-01-31T09:30:00Z`,
		"create --scopes read --expires soon":              `--expires "soon": write for how long`,
		"create --scopes read --expires ":                  "--expires is given without a value",
		"create --scopes read --expires 9999y":             "expires: year ",
		"create --scopes read --expires 2020-01-31":        "--expires 2020-01-31 is over",
		"create --scopes read --name a\u00a0\n":            "name: ",
		"create --scopes read --admin-dsn postgres://x@h/": "--admin-dsn is of a PostgreSQL database, and --dsn names none",
		"create --scopes read --dsn mysql://h/x":           `--dsn "mysql://h/x": write duckdb://DIR, postgres://USER:PASSWORD@HOST/DATABASE or https://HOST`,
		"list --all-tenants --tenant acme":                 "--all-tenants takes each tenant, and --tenant names one: give one of them",
		"rotate":                                           "mds keys rotate needs the id of one key; mds keys list shows them",
		"revoke a b":                                       "mds keys revoke needs the id of one key; mds keys list shows them",
		"revoke ilou":                                      `"ilou" is no key's id: one has 12 characters, and mds keys list shows them`,
		"revoke " + token:                                  "that is no key's id: an id has 12 characters, those after mds_ in a token",
		"rotate " + token[17:]:                             "that is no key's id: an id has 12 characters, those after mds_ in a token",
		"rotate " + token[4:16] + " --grace never":         `--grace "never": write a duration such as 30m, 24h or 7d, or 0 for none`,
		"rotate " + token[4:16] + " --grace -1h":           `--grace "-1h": write a duration`,
		"":                                                 "mds keys: say which, create, list, rotate or revoke; see mds keys --help",
	} {
		out := c.run(append([]string{"keys"}, strings.FieldsFunc(args, func(r rune) bool { return r == ' ' })...)...)
		if strings.HasSuffix(args, "--expires ") {
			out = c.run("keys", "create", "--scopes", "read", "--expires", "")
		}
		if out.exit != exitUsage || !strings.HasPrefix(out.stderr, "mds: "+want) || strings.Count(out.stderr, "\n") != 1 || strings.Contains(out.stderr, token[17:60]) {
			t.Errorf("mds keys %s: exit %d\n%swant %s", args, out.exit, out.stderr, want)
		}
	}
	dir := filepath.Join(t.TempDir(), "none")
	for _, args := range [][]string{{"list"}, {"revoke", "000000000000"}, {"rotate", "000000000000"}} {
		out := c.run(append([]string{"keys", "--dsn", "duckdb://" + dir}, args...)...)
		if _, err := os.Stat(dir); out.exit != exitFailed || !strings.Contains(out.stderr, "there is no store in "+dir+" yet") || err == nil {
			t.Errorf("%q where there is no store: exit %d, %s", args, out.exit, out.stderr)
		}
	}
}

// TestKeysOfTheService refuses the service's login, and a database that has no table of keys
// yet.
func TestKeysOfTheService(t *testing.T) {
	d := pgtest.Empty(t)
	c := newCLI(t)
	c.dsn = d.Service
	if out := c.run("keys", "list", "--admin-dsn", d.Owner); out.exit != exitFailed || out.stderr != "mds: open: the database is not set up; let the owner run mds migrate\n" {
		t.Errorf("before it is set up: exit %d, %s", out.exit, out.stderr)
	}
	c.must("migrate", "--admin-dsn", d.Owner)
	if out := c.run("keys", "create", "--scopes", "read"); out.exit != exitFailed || out.stdout != "" || out.stderr != "mds: API keys: the login service is not the owner's of the database; give the owner's DSN with --admin-dsn (environment MDS_ADMIN_DSN)\n" {
		t.Errorf("as the service: exit %d, %s", out.exit, out.stderr)
	}
	pgtest.Exec(t, d.Owner, "DROP TABLE mds_internal.api_keys")
	if out := c.run("keys", "list", "--admin-dsn", d.Owner); out.exit != exitFailed || out.stderr != "mds: API keys: the database has no API keys yet; let the owner run mds migrate\n" {
		t.Errorf("before the migration: exit %d, %s", out.exit, out.stderr)
	}
}

// TestTokenThatCannotBeWritten has the output of a new key fail.
func TestTokenThatCannotBeWritten(t *testing.T) {
	full, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
	if err != nil {
		t.Skip("there is no device that is always full:", err)
	}
	defer full.Close()
	c := newCLI(t)
	cmd := c.program("keys", "create", "--scopes", "read")
	var stderr strings.Builder
	cmd.Stdout, cmd.Stderr = full, &stderr
	_ = cmd.Run() // its status is looked at
	_, id, _ := strings.Cut(strings.TrimSpace(stderr.String()), "; revoke it with mds keys revoke ")
	if cmd.ProcessState.ExitCode() != exitFailed || !mds.ValidKeyID(id) {
		t.Fatalf("exit %d, %s", cmd.ProcessState.ExitCode(), stderr.String())
	}
	c.must("keys", "revoke", id)
}
