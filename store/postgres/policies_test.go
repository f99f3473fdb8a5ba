package postgres_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// dropped are policies by which news and options are dropped after so many days.
func dropped(days int) []mds.Policy {
	age := mds.Age{N: days, Unit: 'd'}
	return []mds.Policy{{Kind: "news", DropAfter: age}, {Kind: "options", DropAfter: age}}
}

// TestPutWhileApplied has policies be put in force between two of those that are applied: that
// is refused, and all of the first are in force.
func TestPutWhileApplied(t *testing.T) {
	d := migrated(t)
	s, k, other := open(t, d.Service, store.Config{}), keeper(t, d), keeper(t, d)
	asked := 0
	err := store.Apply(ctx, s, k, dropped(10), time.Now(), nil, func(step mds.Step, _ bool) {
		if step.Action != mds.StepKeep {
			return
		}
		asked++
		if err := store.Put(ctx, other, dropped(99), nil, func(mds.Step, bool) {}); !mds.Retryable(err) {
			t.Errorf("beside it: %v", err)
		}
	})
	if err != nil || asked != 2 {
		t.Fatal(asked, err)
	}
	if got := pgtest.Ask(t, d.Admin, "SELECT string_agg(facts || ' ' || drop_after, ', ' ORDER BY facts) FROM mds_internal.policies WHERE drop_after <> ''"); got != "news_item_facts 10d, option_facts 10d" {
		t.Errorf("in force are %s", got)
	}
}

// justBefore is a keeper before which another one does something when it is to be alone.
type justBefore struct {
	store.Keeper
	do func()
}

func (k justBefore) Alone(ctx context.Context, fn func() error) error {
	k.do()
	return k.Keeper.Alone(ctx, fn)
}

// TestPutAsks has bars be dropped just before their rollups are left out, which can no longer be
// made again: who may not lose them is told so, and they are kept.
func TestPutAsks(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	write(t, s, minute("A", 1, 1), minute("A", 2, 2))
	rolled := mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: []mds.Timeframe{mds.Day}}
	apply := func() {
		if err := store.Apply(ctx, s, k, []mds.Policy{rolled}, time.Now(), nil, func(mds.Step, bool) {}); err != nil {
			t.Fatal(err)
		}
	}
	apply()
	plain := mds.Policy{Kind: "bars", Timeframe: mds.Minute}
	refused := errors.New("they are to be kept")
	for _, irreplaceable := range []bool{false, true} {
		before := func() {}
		if irreplaceable {
			rolled.DropAfter = mds.Age{N: 30, Unit: 'd'}
			before = apply
		}
		err := store.Put(ctx, justBefore{k, before}, []mds.Policy{plain}, func(steps []mds.Step) error {
			if len(steps) != 2 || steps[1].Action != mds.StepUnroll || steps[1].Rows != 1 || steps[1].Irreplaceable != irreplaceable {
				t.Errorf("it asks about %+v", steps)
			}
			return refused
		}, func(mds.Step, bool) {})
		if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.bar_rollup_facts"); n != "1" || !errors.Is(err, refused) {
			t.Errorf("%s rollups are left, %v", n, err)
		}
	}
}

// TestTenantRemovedWhileRefreshed has a tenant be removed while those before it are refreshed:
// those after it are, too.
func TestTenantRemovedWhileRefreshed(t *testing.T) {
	d := migrated(t)
	s, k := open(t, d.Service, store.Config{}), keeper(t, d)
	if _, err := k.Keep(ctx, mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: []mds.Timeframe{mds.Day}}); err != nil {
		t.Fatal(err)
	}
	tenants := make(map[string]mds.Tenant)
	for _, slug := range []string{"aaa", "bbb"} {
		tenant, err := s.CreateTenant(ctx, slug)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := store.Bars(s).WriteBatch(ctx, tenant, []mds.Bar{minute("A", 1, 1)}); err != nil {
			t.Fatal(err)
		}
		tenants[slug] = tenant
	}
	write(t, s, minute("A", 1, 1))
	var refreshed []string
	err := store.RefreshAll(ctx, s, func(step mds.Step, _ bool) {
		refreshed = append(refreshed, step.Tenant)
		if step.Tenant == "aaa" {
			if err := s.RemoveTenant(ctx, tenants["bbb"]); err != nil {
				t.Error(err)
			}
		}
	})
	if err != nil || len(refreshed) != 2 || refreshed[1] != "default" {
		t.Errorf("refreshed are %v, %v", refreshed, err)
	}
}
