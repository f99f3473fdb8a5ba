package storetest

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func (h *harness) createTenant(slug string) mds.Tenant {
	h.t.Helper()
	tenant, err := h.store.CreateTenant(h.ctx, slug)
	if err != nil {
		h.t.Fatal(err)
	}
	return tenant
}

func testTenants(t *testing.T, h *harness) {
	zoo, acme := h.createTenant("zoo"), h.createTenant("acme")
	like := h.createTenant("default-x")
	h.reopen()
	got, err := h.store.Tenants(h.ctx)
	if want := []mds.Tenant{acme, mds.DefaultTenant(), like, zoo}; err != nil || !slices.Equal(got, want) {
		t.Errorf("tenants %v, %v; want %v", got, err, want)
	}
	for _, name := range []string{"zoo", zoo.ID, strings.ToUpper(zoo.ID)} {
		if got, err := h.store.Tenant(h.ctx, name); err != nil || got != zoo {
			t.Errorf("tenant %s: %v, %v", name, got, err)
		}
	}
	for _, slug := range []string{"zoo", "default"} {
		if _, err := h.store.CreateTenant(h.ctx, slug); !errors.Is(err, mds.ErrTenantExists) {
			t.Errorf("a second %s: %v", slug, err)
		}
	}
	for _, slug := range []string{"", "Zoo", "a/b", "../up", "-x", "a b", strings.Repeat("x", 64)} {
		if _, err := h.store.CreateTenant(h.ctx, slug); err == nil {
			t.Errorf("tenant %q was made", slug)
		}
	}
}

func testRemoveTenant(t *testing.T, h *harness) {
	acme := h.createTenant("acme")
	h.write(bar("KEPT", at(9, 0), 1))
	var before time.Time
	for range 2 { // what was removed does not come back with the name
		if _, err := h.bars.WriteBatch(h.ctx, acme, []mds.Bar{bar("A", at(9, 0), 2)}); err != nil {
			t.Fatal(err)
		}
		if err := h.store.RemoveTenant(h.ctx, acme); err != nil {
			t.Fatal(err)
		}
		if err := h.store.RemoveTenant(h.ctx, acme); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("a second removal: %v", err)
		}
		if _, err := h.bars.Count(h.ctx, acme, mds.Selection{}); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("count of one who is gone: %v", err)
		}
		acme = h.createTenant("acme")
		if n, err := h.bars.Count(h.ctx, acme, mds.Selection{}); err != nil || n != 0 {
			t.Errorf("a new tenant of that name has %d bars, %v", n, err)
		}
		made, err := h.store.Backend.(interface {
			TenantMade(ctx context.Context, tenant mds.Tenant) (time.Time, error)
		}).TenantMade(h.ctx, acme)
		if err != nil || !made.After(before) || time.Since(made).Abs() > time.Minute {
			t.Errorf("it was made at %v, and the one before at %v: %v", made, before, err)
		}
		before = made
	}
	if err := h.store.RemoveTenant(h.ctx, mds.DefaultTenant()); err == nil {
		t.Error("the default tenant was removed")
	}
	h.want(h.all(), bar("KEPT", at(9, 0), 1))
}

func testTenantsAreApart(t *testing.T, h *harness) {
	acme := h.createTenant("acme")
	h.write(bar("A", at(9, 0), 1), bar("A", at(9, 1), 1))
	if _, err := h.bars.WriteBatch(h.ctx, acme, []mds.Bar{bar("A", at(9, 0), 2)}); err != nil {
		t.Fatal(err)
	}
	h.want(h.all(), bar("A", at(9, 0), 1), bar("A", at(9, 1), 1))
	for b, err := range h.bars.Query(h.ctx, acme, mds.Query{}) {
		if err != nil || b != bar("A", at(9, 0), 2) {
			t.Errorf("acme reads %+v, %v", b, err)
		}
	}
	if n, err := h.bars.Delete(h.ctx, acme, mds.Selection{}); err != nil || n != 1 {
		t.Errorf("acme deleted %d, %v", n, err)
	}
	h.want(h.all(), bar("A", at(9, 0), 1), bar("A", at(9, 1), 1))
}

func testUnknownTenant(t *testing.T, h *harness) {
	nobody, err := mds.NewTenant("nobody")
	if err != nil {
		t.Fatal(err)
	}
	h.write(bar("KEPT", at(9, 0), 1))
	forged := mds.Tenant{ID: nobody.ID, Slug: "default"}
	for _, tenant := range []mds.Tenant{nobody, forged, {}, {ID: mds.DefaultTenant().ID, Slug: "../default"}} {
		if _, err := h.bars.WriteBatch(h.ctx, tenant, []mds.Bar{bar("A", at(9, 0), 1)}); !errors.Is(err, mds.ErrUnknownTenant) || mds.Retryable(err) {
			t.Errorf("write for %+v: %v", tenant, err)
		}
		if err := h.store.Ping(h.ctx, tenant); !errors.Is(err, mds.ErrUnknownTenant) {
			t.Errorf("ping for %+v: %v", tenant, err)
		}
	}
	if _, err := h.store.Tenant(h.ctx, "nobody"); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("tenant nobody: %v", err)
	}
	h.want(h.all(), bar("KEPT", at(9, 0), 1))
}
