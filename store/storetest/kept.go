package storetest

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/marketdatastore/mds"
)

// answer is one that was given some time ago.
func answer(key, body string, ago time.Duration) mds.KeptAnswer {
	return mds.KeptAnswer{
		Key: key, Operation: "POST /v1/bars", HeadSHA256: [32]byte{0, 1, 2, 255}, BodySHA256: [32]byte{31: 7}, Status: 200, Body: []byte(body),
		At: time.Now().UTC().Truncate(time.Microsecond).Add(-ago),
	}
}

func (h *harness) keep(tenant mds.Tenant, a mds.KeptAnswer) mds.KeptAnswer {
	h.t.Helper()
	kept, err := h.store.KeepAnswer(h.ctx, tenant, a)
	if err != nil {
		h.t.Fatal(err)
	}
	return kept
}

// wantKept compares the answer that is kept of a key; nil is none.
func (h *harness) wantKept(tenant mds.Tenant, key string, want *mds.KeptAnswer) {
	h.t.Helper()
	got, found, err := h.store.KeptAnswer(h.ctx, tenant, key)
	switch {
	case err != nil:
		h.t.Error(err)
	case want == nil && found:
		h.t.Errorf("kept of %q is %+v", key, got)
	case want != nil && !found:
		h.t.Errorf("nothing is kept of %q", key)
	case want != nil:
		if diff := cmp.Diff(*want, got); diff != "" {
			h.t.Errorf("the answer differs (-want +got):\n%s", diff)
		}
	}
}

func testKeptAnswers(t *testing.T, h *harness) {
	acme := h.createTenant("acme")
	h.wantKept(mds.DefaultTenant(), "key", nil)
	first := answer("key", "{\"a\":\"\x00ü\xff\"}\n", time.Hour)
	if diff := cmp.Diff(first, h.keep(mds.DefaultTenant(), first)); diff != "" {
		t.Errorf("what is kept first (-want +got):\n%s", diff)
	}
	// The first stays, and whoever comes later learns of it.
	later := answer("key", "another", 0)
	later.HeadSHA256[0], later.Operation, later.Status = 9, "POST /v1/news", 202
	if diff := cmp.Diff(first, h.keep(mds.DefaultTenant(), later)); diff != "" {
		t.Errorf("what is kept then (-want +got):\n%s", diff)
	}
	h.wantKept(acme, "key", nil)
	h.keep(acme, later)
	other := answer("KEY", strings.Repeat("x", mds.MaxKeptBody), 0)
	h.keep(mds.DefaultTenant(), other)
	h.reopen()
	h.wantKept(mds.DefaultTenant(), "key", &first)
	h.wantKept(acme, "key", &later)
	h.wantKept(mds.DefaultTenant(), "KEY", &other)
	if err := h.store.RemoveTenant(h.ctx, acme); err != nil {
		t.Fatal(err)
	}
	h.wantKept(h.createTenant("acme"), "key", nil)

	nobody, err := mds.NewTenant("nobody")
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := h.store.KeptAnswer(h.ctx, nobody, "key"); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("an answer to nobody: %v", err)
	}
	if _, err := h.store.KeepAnswer(h.ctx, nobody, first); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("keeping one to nobody: %v", err)
	}
	for name, spoil := range map[string]func(*mds.KeptAnswer){
		"no key":       func(a *mds.KeptAnswer) { a.Key = "" },
		"a long key":   func(a *mds.KeptAnswer) { a.Key = strings.Repeat("k", 256) },
		"a space":      func(a *mds.KeptAnswer) { a.Key = "a b" },
		"a long body":  func(a *mds.KeptAnswer) { a.Body = make([]byte, mds.MaxKeptBody+1) },
		"no body":      func(a *mds.KeptAnswer) { a.Body = nil },
		"no status":    func(a *mds.KeptAnswer) { a.Status = 0 },
		"no time":      func(a *mds.KeptAnswer) { a.At = time.Time{} },
		"no operation": func(a *mds.KeptAnswer) { a.Operation = "\xff" },
	} {
		a := answer("new", "x", 0)
		spoil(&a)
		var invalid *mds.InvalidError
		if _, err := h.store.KeepAnswer(h.ctx, mds.DefaultTenant(), a); !errors.As(err, &invalid) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// testKeptAnswersAtOnce has many keep answers at once, several of one key: all learn of the
// same one.
func testKeptAnswersAtOnce(t *testing.T, h *harness) {
	const keys, each = 20, 5
	var kept [keys][each]mds.KeptAnswer
	var all sync.WaitGroup
	for i := range keys {
		for j := range each {
			all.Go(func() {
				var err error
				if kept[i][j], err = h.store.KeepAnswer(h.ctx, mds.DefaultTenant(), answer(fmt.Sprint("key-", i), fmt.Sprint("answer ", j), 0)); err != nil {
					t.Error(err)
				}
			})
		}
	}
	all.Wait()
	for i := range keys {
		for j := range each {
			if diff := cmp.Diff(kept[i][0], kept[i][j]); diff != "" {
				t.Errorf("two of key %d are told of others (-one +other):\n%s", i, diff)
			}
		}
		h.wantKept(mds.DefaultTenant(), fmt.Sprint("key-", i), &kept[i][0])
	}
}

// testKeptAnswersEnd has answers that are too old not be found, and give their place up.
func testKeptAnswersEnd(t *testing.T, h *harness) {
	tenant := mds.DefaultTenant()
	young := answer("young", "x", mds.AnswersKeptFor-time.Minute)
	h.keep(tenant, young)
	h.keep(tenant, answer("old", "before", mds.AnswersKeptFor+time.Second))
	h.wantKept(tenant, "old", nil)
	now := answer("old", "now", 0)
	if diff := cmp.Diff(now, h.keep(tenant, now)); diff != "" {
		t.Errorf("what is kept in its place (-want +got):\n%s", diff)
	}
	h.wantKept(tenant, "old", &now)
	h.wantKept(tenant, "young", &young)
}
