package duckdb

import (
	"context"
	"errors"
	"slices"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// keptMeanwhile puts a policy in force, and does something while that waits for a write to a
// tenant.
func keptMeanwhile(t *testing.T, s *Store, writes mds.Tenant, p mds.Policy, do func()) {
	t.Helper()
	f, err := s.file(t.Context(), writes)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.lockWriter(t.Context()); err != nil {
		t.Fatal(err)
	}
	waits := make(chan struct{}, 10)
	f.upkeep.mu.Lock()
	f.upkeep.yield = func() { waits <- struct{}{} }
	f.upkeep.mu.Unlock()
	kept := make(chan error, 1)
	go func() {
		_, err := OpenKeeper(s).Keep(t.Context(), p)
		kept <- err
	}()
	<-waits
	do()
	f.unlockWriter()
	if err := <-kept; err != nil {
		t.Errorf("put in force for all tenants that there are: %v", err)
	}
}

func madeTenant(t *testing.T, s *Store, slug string) mds.Tenant {
	t.Helper()
	tenant, err := s.CreateTenant(t.Context(), slug)
	if err != nil {
		t.Fatal(err)
	}
	return tenant
}

// dropAfter is after what age minutes of a tenant are dropped.
func dropAfter(t *testing.T, s *Store, tenant mds.Tenant) string {
	t.Helper()
	list, err := s.Policies(t.Context(), tenant)
	if err != nil || len(list) != 1 {
		t.Fatalf("%s: %+v, %v", tenant.Slug, list, err)
	}
	return list[0].DropAfter.String()
}

// TestTenantMadeWhilePut has a tenant be made while policies are put in force: it gets these,
// and not those of before, by which what nobody wants to be dropped would be.
func TestTenantMadeWhilePut(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	write(t, s, bars(3, 1))
	bbb := madeTenant(t, s, "bbb")
	minutes := mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 1, Unit: 'd'}}
	if _, err := OpenKeeper(s).Keep(t.Context(), minutes); err != nil {
		t.Fatal(err)
	}
	minutes.DropAfter = mds.Age{}
	keptMeanwhile(t, s, bbb, minutes, func() {
		short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
		defer cancel()
		if _, err := s.CreateTenant(short, "aaa"); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("it does not wait for the policies: %v", err)
		}
	})
	list, err := s.Policies(t.Context(), madeTenant(t, s, "aaa"))
	if err != nil || slices.ContainsFunc(list, func(p mds.PolicyStatus) bool { return !p.DropAfter.IsZero() }) {
		t.Errorf("the new tenant has %+v, %v", list, err)
	}
}

// TestPoliciesOfTheDefaultTenant has a tenant have another policy than all others have: what is
// in force is the default tenant's.
func TestPoliciesOfTheDefaultTenant(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	write(t, s, bars(3, 1))
	k := OpenKeeper(s)
	minutes := mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 2, Unit: 'd'}}
	if _, err := k.Keep(t.Context(), minutes); err != nil {
		t.Fatal(err)
	}
	f, err := s.file(t.Context(), madeTenant(t, s, "aaa"))
	if err != nil {
		t.Fatal(err)
	}
	other := minutes
	other.DropAfter.N = 1
	if err := f.taking(t.Context(), func() error {
		_, err := f.keep(t.Context(), &other)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	if list, err := k.Policies(t.Context()); err != nil || len(list) != 1 || !list[0].Equal(&minutes) {
		t.Errorf("%+v, %v", list, err)
	}
}

// TestTenantRemovedWhilePut has a tenant be removed while policies are put in force: those after
// it in order have them all the same.
func TestTenantRemovedWhilePut(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	write(t, s, bars(3, 1))
	bbb, ccc := madeTenant(t, s, "bbb"), madeTenant(t, s, "ccc")
	minutes := mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 1, Unit: 'y'}}
	keptMeanwhile(t, s, bbb, minutes, func() {
		if err := s.RemoveTenant(t.Context(), ccc); err != nil {
			t.Fatal(err)
		}
	})
	for _, tenant := range []mds.Tenant{bbb, mds.DefaultTenant()} {
		if after := dropAfter(t, s, tenant); after != "1y" {
			t.Errorf("of %s they are dropped after %s", tenant.Slug, after)
		}
	}
	if _, err := s.Policies(t.Context(), ccc); !errors.Is(err, mds.ErrUnknownTenant) {
		t.Errorf("the removed one: %v", err)
	}
}
