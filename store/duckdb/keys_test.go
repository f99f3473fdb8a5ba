package duckdb

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
)

func newKey(tenant mds.Tenant) mds.APIKey {
	_, key := apikey.New(time.Now())
	key.Tenant, key.Scopes = tenant, []mds.Scope{mds.ScopeRead}
	return key
}

// createKey makes a key of the default tenant.
func createKey(t *testing.T, s *Store) mds.APIKey {
	t.Helper()
	key := newKey(mds.DefaultTenant())
	if err := OpenKeys(s).Create(context.Background(), key); err != nil {
		t.Fatal(err)
	}
	return key
}

// wantIDs compares the keys that a store has.
func wantIDs(t *testing.T, s *Store, want ...string) {
	t.Helper()
	keys, err := s.APIKeys(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for i := range keys {
		got = append(got, keys[i].ID)
	}
	slices.Sort(got)
	slices.Sort(want)
	if !slices.Equal(got, want) {
		t.Errorf("there are the keys %q, want %q", got, want)
	}
}

// TestKeyFile looks at the file: only its owner may read it, whatever was left of another
// one, and no token is in it.
func TestKeyFile(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	if err := os.WriteFile(filepath.Join(dir, keyDraftName), []byte("left by a crash"), 0o644); err != nil {
		t.Fatal(err)
	}
	token, key := apikey.New(time.Now())
	key.Tenant, key.Scopes = mds.DefaultTenant(), []mds.Scope{mds.ScopeRead}
	if err := OpenKeys(s).Create(context.Background(), key); err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range entries {
		info, err := e.Info()
		if err != nil || info.Mode().Perm() != 0o600 {
			t.Errorf("%s has the mode %v, %v", e.Name(), info.Mode(), err)
		}
		names = append(names, e.Name())
	}
	if want := []string{"keys.json", "keys.lock"}; !slices.Equal(names, want) {
		t.Errorf("the folder has %q, want %q: no database is opened", names, want)
	}
	text, err := os.ReadFile(filepath.Join(dir, keyFileName))
	if err != nil || !strings.Contains(string(text), fmt.Sprintf(`"secret_sha256": "%x"`, token.Hash())) || strings.Contains(string(text), token.Reveal()[17:60]) {
		t.Errorf("%v, the file is\n%s", err, text)
	}
}

// TestVersionsOfKeys has the file be one that an mds of before reads, unless there is something
// in it that it would not know.
func TestVersionsOfKeys(t *testing.T) {
	dir := t.TempDir()
	keys := OpenKeys(open(t, dir, Config{}))
	for i, scope := range []mds.Scope{mds.ScopeAdmin, mds.ScopeMetrics, mds.ScopeRead} {
		_, key := apikey.New(time.Now())
		key.Tenant, key.Scopes = mds.DefaultTenant(), []mds.Scope{scope}
		if err := keys.Create(t.Context(), key); err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, keyFileName))
		if want := fmt.Sprintf(`"version": %d,`, []int{1, 2, 2}[i]); err != nil || !strings.Contains(string(text), want) {
			t.Errorf("after %s %v, want %s in\n%s", scope, err, want, text)
		}
		if list, err := keys.List(t.Context()); err != nil || len(list) != i+1 {
			t.Errorf("%d keys, %v", len(list), err)
		}
	}
}

// TestDamagedKeys has one sentence for each thing that a file may be instead.
func TestDamagedKeys(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	createKey(t, s)
	path := filepath.Join(dir, keyFileName)
	intact, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	damaged := func(name, text, want string) {
		t.Helper()
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		_, reading := s.APIKeys(context.Background())
		creating := OpenKeys(s).Create(context.Background(), newKey(mds.DefaultTenant()))
		for _, err := range []error{reading, creating} {
			if err == nil || !strings.Contains(err.Error(), path+" is damaged: "+want) && !strings.Contains(err.Error(), path+" "+want) || strings.Contains(err.Error(), "\n") || !mds.Unavailable(err) {
				t.Errorf("%s: %v", name, err)
			}
		}
		if left, err := os.ReadFile(path); err != nil || string(left) != text {
			t.Errorf("%s: the file is not as it was, %v", name, err)
		}
	}
	text := string(intact)
	body := strings.TrimSpace(text)
	for cut := range body {
		damaged(fmt.Sprintf("cut at %d", cut), body[:cut], "unexpected end of JSON input; bring back a copy of it, or remove it and make the keys anew")
	}
	replaced := func(old, with string) string {
		changed := strings.Replace(text, old, with, 1)
		if changed == text {
			t.Fatalf("there is no %s in\n%s", old, text)
		}
		return changed
	}
	damaged("text after it", text+"{}", "invalid character '{' after top-level value")
	damaged("an unknown field", replaced(`"tenant"`, `"owner": "x", "tenant"`), `json: unknown field "owner"`)
	damaged("an unknown field of the file", replaced(`"version"`, `"salt": 1, "version"`), `json: unknown field "salt"`)
	damaged("no version", replaced(`"version": 1,`, ""), "version 0 is none")
	damaged("a newer version", replaced(`"version": 1`, `"version": 3, "salt": 1`), "has version 3, and this mds knows up to 2; use a newer mds")
	damaged("another scope", replaced(`"read"`, `"root"`), `key 1: scopes: "root" is none`)
	damaged("no tenant", replaced(`"default"`, `"../default"`), "key 1: tenant name")
	damaged("a short hash", replaced(`"secret_sha256": "`, `"secret_sha256": "00`), "key 1: secret_sha256: is no SHA-256 in hexadecimal digits")
	one := text[strings.Index(text, "    {") : strings.Index(text, "    }")+len("    }")]
	damaged("a key twice", replaced(one, one+",\n"+one), "the key ")
	if err := os.WriteFile(path, intact, 0o600); err != nil {
		t.Fatal(err)
	}
	createKey(t, s)
}

// TestKeysOthersMayRead refuses a file that others than its owner may read or write.
func TestKeysOthersMayRead(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	createKey(t, s)
	path := filepath.Join(dir, keyFileName)
	for _, mode := range []os.FileMode{0o640, 0o604, 0o620, 0o602, 0o644, 0o666} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		_, err := s.APIKeys(context.Background())
		want := fmt.Sprintf("open API keys: %s may be read or written by others than its owner (mode %04o); take that away: chmod 600 %[1]s", path, mode)
		if err == nil || err.Error() != want || !mds.Unavailable(err) {
			t.Errorf("mode %04o: %v", mode, err)
		}
	}
	if err := os.Chmod(path, 0o400); err != nil {
		t.Fatal(err)
	}
	if _, err := s.APIKeys(context.Background()); err != nil {
		t.Errorf("mode 0400: %v", err)
	}
}

// TestKeysThatCannotBeSaved has the new file fail: the old one stays.
func TestKeysThatCannotBeSaved(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	kept := createKey(t, s)
	if err := os.MkdirAll(filepath.Join(dir, keyDraftName, "x"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := OpenKeys(s).Create(context.Background(), newKey(mds.DefaultTenant())); err == nil || !strings.Contains(err.Error(), dir) || strings.Contains(err.Error(), "\n") {
		t.Errorf("created: %v", err)
	}
	if _, err := OpenKeys(s).Revoke(context.Background(), kept.ID, time.Now()); err == nil {
		t.Error("revoked, it says")
	}
	if keys, err := s.APIKeys(context.Background()); err != nil || len(keys) != 1 || !keys[0].Revoked.IsZero() {
		t.Errorf("there is %+v, %v", keys, err)
	}
}

// TestKeysReadOnly opens a store for reading: its keys are read, and not changed.
func TestKeysReadOnly(t *testing.T) {
	dir := t.TempDir()
	key := createKey(t, open(t, dir, Config{}))
	s := open(t, dir, Config{ReadOnly: true})
	wantIDs(t, s, key.ID)
	if err := OpenKeys(s).Create(context.Background(), newKey(mds.DefaultTenant())); !errors.Is(err, errReadOnly) {
		t.Errorf("created: %v", err)
	}
}

// TestKeysWaitForTheirTurn ends a wait for others as its context does.
func TestKeysWaitForTheirTurn(t *testing.T) {
	dir := t.TempDir()
	s := open(t, dir, Config{})
	held, err := holdKeys(context.Background(), s.dir)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	errs := make(chan error, 1)
	go func() { errs <- OpenKeys(s).Create(ctx, newKey(mds.DefaultTenant())) }()
	cancel()
	if err := <-errs; !errors.Is(err, context.Canceled) {
		t.Errorf("it is told %v", err)
	}
	held.release()
	createKey(t, s)
}

// TestKeysOfATenantThatIsMovedAway takes the file of a tenant away, and makes a new one of
// the name: the keys of before open nothing.
func TestKeysOfATenantThatIsMovedAway(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir, Config{})
	kept := createKey(t, s)
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	gone := newKey(acme)
	if err := OpenKeys(s).Create(ctx, gone); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, kept.ID, gone.ID)
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(dir, "acme.duckdb")); err != nil {
		t.Fatal(err)
	}
	s = open(t, dir, Config{})
	wantIDs(t, s, kept.ID)
	if _, err := OpenKeys(s).Revoke(ctx, gone.ID, time.Now()); !errors.Is(err, mds.ErrUnknownKey) {
		t.Errorf("revoked: %v", err)
	}
	if _, err := s.CreateTenant(ctx, "acme"); err != nil {
		t.Fatal(err)
	}
	wantIDs(t, s, kept.ID)
}

// TestRemoveTenantWithDamagedKeys refuses, and leaves the tenant as it is.
func TestRemoveTenantWithDamagedKeys(t *testing.T) {
	ctx, dir := context.Background(), t.TempDir()
	s := open(t, dir, Config{})
	acme, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	table := NewTable[mds.Bar](s)
	if _, err := table.WriteBatch(ctx, acme, bars(3, 1)); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, keyFileName)
	if err := os.WriteFile(path, []byte("{"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTenant(ctx, acme); err == nil || !strings.Contains(err.Error(), "is damaged") {
		t.Errorf("removed: %v", err)
	}
	if _, err := table.WriteBatch(ctx, acme, bars(3, 2)); err != nil {
		t.Error(err)
	}
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	if err := s.RemoveTenant(ctx, acme); err != nil {
		t.Error(err)
	}
}

// TestKeysBesideRemovals makes keys of a tenant while it is made and removed: none outlives
// it, and nobody waits for ever.
func TestKeysBesideRemovals(t *testing.T) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	s := open(t, t.TempDir(), Config{})
	kept := createKey(t, s)
	for range 10 {
		acme, err := s.CreateTenant(ctx, "acme")
		if err != nil {
			t.Fatal(err)
		}
		var wg sync.WaitGroup
		for range 3 {
			wg.Go(func() {
				for range 5 {
					if err := OpenKeys(s).Create(ctx, newKey(acme)); err != nil && !errors.Is(err, mds.ErrUnknownTenant) {
						t.Error(err)
					}
				}
			})
			wg.Go(func() {
				if err := s.RemoveTenant(ctx, acme); err != nil && !errors.Is(err, mds.ErrUnknownTenant) {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		held, err := holdKeys(ctx, s.dir)
		if err != nil {
			t.Fatal(err)
		}
		if len(held.keys) != 1 || held.keys[0].ID != kept.ID {
			t.Errorf("the file has %d keys", len(held.keys))
		}
		held.release()
	}
}

// keysKilled makes the test binary be a process that makes keys until it is killed.
const keysKilled = "MDS_TEST_KEYS_KILLED"

func createKeysUntilKilled(dir string) {
	s, err := Open(context.Background(), dir, Config{})
	for err == nil {
		key := newKey(mds.DefaultTenant())
		if err = OpenKeys(s).Create(context.Background(), key); err == nil {
			fmt.Println(key.ID)
		}
	}
	fmt.Println(err)
	os.Exit(1)
}

// TestKilledWhileCreatingKeys kills two processes that make keys at once, at some moment,
// ten times over: all that were acknowledged are there, and the file is whole.
func TestKilledWhileCreatingKeys(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	s := open(t, dir, Config{})
	var mu sync.Mutex
	acknowledged := make(map[string]bool)
	for round := range 10 {
		var wg sync.WaitGroup
		for range 2 {
			cmd := exec.Command(self)
			cmd.Env = append(os.Environ(), keysKilled+"="+dir)
			out, err := cmd.StdoutPipe()
			if err != nil {
				t.Fatal(err)
			}
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			wg.Go(func() {
				left := 3 + round
				for lines := bufio.NewScanner(out); lines.Scan(); {
					if !mds.ValidKeyID(lines.Text()) {
						t.Errorf("it says %s", lines.Text())
					}
					mu.Lock()
					acknowledged[lines.Text()] = true
					mu.Unlock()
					if left--; left == 0 {
						_ = cmd.Process.Kill() // what it says yet is acknowledged, too
					}
				}
				_ = cmd.Wait() // it was killed
			})
		}
		wg.Wait()
		keys, err := s.APIKeys(context.Background())
		if err != nil {
			t.Fatal(err)
		}
		there := make(map[string]bool, len(keys))
		for i := range keys {
			there[keys[i].ID] = true
		}
		for id := range acknowledged {
			if !there[id] {
				t.Fatalf("round %d: %s was acknowledged, and is not there", round, id)
			}
		}
		if len(keys) > len(acknowledged)+2*(round+1) {
			t.Errorf("round %d: %d keys are there, and %d were acknowledged", round, len(keys), len(acknowledged))
		}
	}
}

// FuzzParseKeys: whatever is taken for keys is saved and read back as it is.
func FuzzParseKeys(f *testing.F) {
	key := newKey(mds.DefaultTenant())
	f.Add(fmt.Appendf(nil, `{"version":1,"keys":[{"id":"%s","tenant":"default","name":"n","scopes":["read","admin"],"created":"2026-01-02T03:04:05.000006Z","expires":"2027-01-02T03:04:05Z","secret_sha256":"%x"}]}`, key.ID, key.SecretSHA256))
	f.Add([]byte(`{"version":1,"keys":[]}`))
	f.Add([]byte(`{"version":1,"keys":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		keys, err := parseKeys("keys.json", text)
		if err != nil {
			if strings.Contains(err.Error(), "\n") {
				t.Errorf("%q: %v", text, err)
			}
			return
		}
		dir := t.TempDir()
		if err := (&heldKeys{dir: dir}).save(keys); err != nil {
			t.Fatal(err)
		}
		again, err := readKeys(dir)
		if err != nil || len(again) != len(keys) {
			t.Fatalf("%q comes back as %d keys, %v", text, len(again), err)
		}
		for i := range keys {
			if a, b := keys[i], again[i]; a.ID != b.ID || a.Tenant != b.Tenant || a.Name != b.Name || !slices.Equal(a.Scopes, b.Scopes) || !a.Created.Equal(b.Created) || !a.Expires.Equal(b.Expires) || !a.Revoked.Equal(b.Revoked) || a.SecretSHA256 != b.SecretSHA256 {
				t.Fatalf("%+v comes back as %+v", a, b)
			}
		}
	})
}
