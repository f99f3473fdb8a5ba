package storetest

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/store"
)

// RunKeys runs the part of the suite that is about API keys. fresh returns the DSN of an
// empty store of the test's own, and the one that [store.OpenKeys] takes.
func RunKeys(t *testing.T, fresh func(t testing.TB) (dsn, owner string)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *keyring)
	}{
		{"NoneByDefault", testNoKeyByDefault},
		{"CreateAndList", testCreateKeys},
		{"Refused", testKeysRefused},
		{"Revoke", testRevokeKey},
		{"Rotate", testRotateKey},
		{"RotateWithGrace", testRotateWithGrace},
		{"RotateWhatHasEnded", testRotateWhatHasEnded},
		{"GoWithTheirTenant", testKeysGoWithTheirTenant},
		{"ManyAtOnce", testManyKeysAtOnce},
		{"RotateAtOnce", testRotateAtOnce},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			dsn, owner := fresh(t)
			h := newHarness(t, func(testing.TB) string { return dsn })
			k := &keyring{harness: h, owner: owner}
			k.keys = k.open()
			test.run(t, k)
		})
	}
}

// keyring is a store with its keys.
type keyring struct {
	*harness
	owner string
	keys  store.Keys
}

func (k *keyring) open() store.Keys {
	k.t.Helper()
	keys, err := store.OpenKeys(k.ctx, k.owner, store.Config{})
	if err != nil {
		k.t.Fatal(err)
	}
	return keys
}

// born is when keys of tests are made.
var born = at(9, 0)

// newKey is a key that no store has yet.
func newKey(tenant mds.Tenant, scopes ...mds.Scope) (apikey.Token, mds.APIKey) {
	token, key := apikey.New(born)
	key.Tenant, key.Scopes = tenant, scopes
	return token, key
}

func (k *keyring) create(key mds.APIKey) {
	k.t.Helper()
	if err := k.keys.Create(k.ctx, key); err != nil {
		k.t.Fatal(err)
	}
}

// wantKeys compares the keys that are listed, and those that the store checks by.
func (k *keyring) wantKeys(want ...mds.APIKey) {
	k.t.Helper()
	slices.SortFunc(want, func(a, b mds.APIKey) int {
		if c := a.Created.Compare(b.Created); c != 0 {
			return c
		}
		if a.ID < b.ID {
			return -1
		}
		return 1
	})
	got, err := k.keys.List(k.ctx)
	if diff := cmp.Diff(want, got); err != nil || diff != "" && len(want)+len(got) > 0 {
		k.t.Errorf("keys differ (-want +got): %v\n%s", err, diff)
	}
	checked, err := k.store.APIKeys(k.ctx)
	if err != nil || len(checked) != len(want) {
		k.t.Fatalf("the store checks by %d keys, %v; want %d", len(checked), err, len(want))
	}
	for _, w := range want {
		at := slices.IndexFunc(checked, func(c mds.APIKey) bool { return c.ID == w.ID })
		if at < 0 {
			k.t.Errorf("the store does not check by %s", w.ID)
			continue
		}
		c := checked[at]
		c.Name, c.Created = w.Name, w.Created // which are not needed
		if diff := cmp.Diff(w, c); diff != "" {
			k.t.Errorf("what the store checks by differs (-want +got):\n%s", diff)
		}
	}
}

func testNoKeyByDefault(_ *testing.T, k *keyring) {
	k.createTenant("acme")
	k.wantKeys()
}

func testCreateKeys(t *testing.T, k *keyring) {
	acme := k.createTenant("acme")
	_, plain := newKey(mds.DefaultTenant(), mds.ScopeRead)
	token, full := newKey(acme, mds.Scopes()...)
	full.Name = "Zürich – 日本 \\ \"quoted\" <&>"
	full.Created = born.Add(123456 * time.Microsecond)
	full.Expires = time.Date(9999, 12, 31, 23, 59, 59, 999_999_000, time.UTC)
	k.create(full)
	k.create(plain)
	k.wantKeys(plain, full)
	k.keys = k.open()
	k.wantKeys(plain, full)
	if !token.Verify(full.SecretSHA256) {
		t.Error("the token is not of its key")
	}
	if tenant, err := k.keys.Tenant(k.ctx, acme.ID); err != nil || tenant != acme {
		t.Errorf("tenant %v, %v", tenant, err)
	}
}

func testKeysRefused(t *testing.T, k *keyring) {
	nobody, err := mds.NewTenant("nobody")
	if err != nil {
		t.Fatal(err)
	}
	_, unknown := newKey(nobody, mds.ScopeRead)
	if err := k.keys.Create(k.ctx, unknown); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("a key of nobody: %v", err)
	}
	if _, err := k.keys.Tenant(k.ctx, "nobody"); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("tenant nobody: %v", err)
	}
	for what, spoil := range map[string]func(*mds.APIKey){
		"an id":                func(k *mds.APIKey) { k.ID = "ILOU" },
		"no scopes":            func(k *mds.APIKey) { k.Scopes = nil },
		"an unknown scope":     func(k *mds.APIKey) { k.Scopes = []mds.Scope{"root"} },
		"no secret":            func(k *mds.APIKey) { k.SecretSHA256 = [32]byte{} },
		"a forged tenant":      func(k *mds.APIKey) { k.Tenant.ID = nobody.ID },
		"two lines":            func(k *mds.APIKey) { k.Name = "a\nb" },
		"an end that was":      func(k *mds.APIKey) { k.Expires = born.Add(-time.Second) },
		"no time of its birth": func(k *mds.APIKey) { k.Created = time.Time{} },
	} {
		_, key := newKey(mds.DefaultTenant(), mds.ScopeRead)
		spoil(&key)
		var invalid *mds.InvalidError
		if err := k.keys.Create(k.ctx, key); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", what, err)
		}
	}
	for what, call := range map[string]func() error{
		"revoke": func() error { _, err := k.keys.Revoke(k.ctx, "000000000000", born); return err },
		"rotate": func() error {
			_, next := apikey.New(born)
			_, _, err := k.keys.Rotate(k.ctx, "000000000000", next, born)
			return err
		},
	} {
		if err := call(); !errors.Is(err, mds.ErrUnknownKey) {
			t.Errorf("%s of what is not there: %v", what, err)
		}
	}
	k.wantKeys()
}

func testRevokeKey(t *testing.T, k *keyring) {
	_, kept := newKey(mds.DefaultTenant(), mds.ScopeRead)
	_, gone := newKey(mds.DefaultTenant(), mds.Scopes()...)
	k.create(kept)
	k.create(gone)
	for _, at := range []time.Time{at(10, 0), at(11, 0)} { // the second changes nothing
		got, err := k.keys.Revoke(k.ctx, gone.ID, at)
		gone.Revoked = born.Add(time.Hour)
		if diff := cmp.Diff(gone, got); err != nil || diff != "" {
			t.Errorf("revoked is (-want +got): %v\n%s", err, diff)
		}
		k.wantKeys(kept, gone)
	}
}

func testRotateKey(t *testing.T, k *keyring) {
	acme := k.createTenant("acme")
	_, old := newKey(acme, mds.ScopeWrite)
	old.Name, old.Expires = "feed", at(20, 0)
	k.create(old)
	_, next := apikey.New(at(10, 0))
	before, after, err := k.keys.Rotate(k.ctx, old.ID, next, at(10, 0))
	if err != nil {
		t.Fatal(err)
	}
	old.Expires = at(10, 0)
	next.Tenant, next.Name, next.Scopes, next.Expires = acme, "feed", []mds.Scope{mds.ScopeWrite}, at(20, 0)
	if diff := cmp.Diff([]mds.APIKey{old, next}, []mds.APIKey{before, after}); diff != "" {
		t.Errorf("rotated is (-want +got):\n%s", diff)
	}
	k.wantKeys(old, next)
}

func testRotateWithGrace(t *testing.T, k *keyring) {
	_, long := newKey(mds.DefaultTenant(), mds.ScopeRead)
	_, short := newKey(mds.DefaultTenant(), mds.ScopeRead)
	short.Expires = at(11, 0)
	k.create(long)
	k.create(short)
	var nexts []mds.APIKey
	for _, old := range []mds.APIKey{long, short} {
		_, next := apikey.New(at(10, 0))
		next.Expires = at(22, 0) // of its own
		_, next, err := k.keys.Rotate(k.ctx, old.ID, next, at(12, 0))
		if err != nil {
			t.Fatal(err)
		}
		if next.Expires != at(22, 0) {
			t.Errorf("the new one ends at %v", next.Expires)
		}
		nexts = append(nexts, next)
	}
	long.Expires = at(12, 0)
	k.wantKeys(append(nexts, long, short)...) // the grace lengthens none
}

func testRotateWhatHasEnded(t *testing.T, k *keyring) {
	_, expired := newKey(mds.DefaultTenant(), mds.ScopeRead)
	expired.Expires = at(10, 0)
	_, revoked := newKey(mds.DefaultTenant(), mds.ScopeRead)
	revoked.Revoked = at(9, 30)
	for _, key := range []mds.APIKey{expired, revoked} {
		k.create(key)
		_, next := apikey.New(at(10, 0))
		if _, _, err := k.keys.Rotate(k.ctx, key.ID, next, at(23, 0)); !errors.Is(err, mds.ErrKeyEnded) {
			t.Errorf("%s key: %v", key.State(at(10, 0)), err)
		}
	}
	k.wantKeys(expired, revoked)
}

func testKeysGoWithTheirTenant(t *testing.T, k *keyring) {
	acme := k.createTenant("acme")
	_, kept := newKey(mds.DefaultTenant(), mds.ScopeRead)
	_, gone := newKey(acme, mds.ScopeRead)
	k.create(kept)
	k.create(gone)
	if err := k.store.RemoveTenant(k.ctx, acme); err != nil {
		t.Fatal(err)
	}
	k.wantKeys(kept)
	k.createTenant("acme") // of the same id
	k.wantKeys(kept)
}

// testManyKeysAtOnce has keys made in several places at once: none is lost.
func testManyKeysAtOnce(t *testing.T, k *keyring) {
	const places, each = 8, 10
	var mu sync.Mutex
	var made []mds.APIKey
	var wg sync.WaitGroup
	for place := range places {
		keys := k.open()
		wg.Go(func() {
			for n := range each {
				_, key := newKey(mds.DefaultTenant(), mds.ScopeRead)
				key.Name = fmt.Sprintf("%d of %d", n, place)
				if err := keys.Create(k.ctx, key); err != nil {
					t.Error(err)
					return
				}
				mu.Lock()
				made = append(made, key)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	if len(made) != places*each {
		t.Fatalf("%d keys were made", len(made))
	}
	k.wantKeys(made...)
}

// testRotateAtOnce rotates a key in several places at once: one does.
func testRotateAtOnce(t *testing.T, k *keyring) {
	_, old := newKey(mds.DefaultTenant(), mds.ScopeRead)
	k.create(old)
	const places = 6
	errs := make(chan error, places)
	for range places {
		keys := k.open()
		go func() {
			_, next := apikey.New(at(10, 0))
			_, _, err := keys.Rotate(k.ctx, old.ID, next, at(10, 0))
			errs <- err
		}()
	}
	rotated := 0
	for range places {
		switch err := <-errs; {
		case err == nil:
			rotated++
		case !errors.Is(err, mds.ErrKeyEnded):
			t.Error(err)
		}
	}
	keys, err := k.keys.List(k.ctx)
	if err != nil || rotated != 1 || len(keys) != 2 {
		t.Errorf("%d rotated it; there are %d keys, %v", rotated, len(keys), err)
	}
}
