package store_test

import (
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// TestTenantRemovedWhileDropped has a tenant be removed when what is too old of it is about to be
// dropped: that of the tenants after it is.
func TestTenantRemovedWhileDropped(t *testing.T) {
	s, err := store.Open(t.Context(), "duckdb://"+t.TempDir(), store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	k, err := store.OpenKeeper(t.Context(), s, "")
	if err != nil {
		t.Fatal(err)
	}
	old := mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: time.Date(2020, 1, 2, 15, 0, 0, 0, time.UTC), Close: 1}
	tenants := []mds.Tenant{mds.DefaultTenant()}
	for _, slug := range []string{"acme", "zeta"} {
		tenant, err := s.CreateTenant(t.Context(), slug)
		if err != nil {
			t.Fatal(err)
		}
		tenants = append(tenants, tenant)
	}
	for _, tenant := range tenants {
		if _, err := store.Bars(s).WriteBatch(t.Context(), tenant, []mds.Bar{old}); err != nil {
			t.Fatal(err)
		}
	}
	policy := mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 1, Unit: 'y'}}
	var dropped []string
	err = store.Apply(t.Context(), s, k, []mds.Policy{policy}, time.Now(), nil, func(step mds.Step, done bool) {
		switch {
		case step.Action != mds.StepDrop:
		case done:
			dropped = append(dropped, step.Tenant)
		case step.Tenant == "acme":
			if err := s.RemoveTenant(t.Context(), tenants[1]); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || len(dropped) != 2 || dropped[0] != "default" || dropped[1] != "zeta" {
		t.Errorf("dropped is that of %v, %v", dropped, err)
	}
}
