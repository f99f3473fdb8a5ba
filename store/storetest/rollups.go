package storetest

import (
	"context"
	"fmt"
	"iter"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// RunRollups runs the part of the suite that is about rollups and retention. fresh returns
// the DSN of an empty store of the test's own, and that of its owner where it has one.
func RunRollups(t *testing.T, fresh func(t testing.TB) (dsn, owner string)) {
	for _, test := range []struct {
		name string
		run  func(*testing.T, *keeping)
	}{
		{"SameAsRecomputed", testSameAsRecomputed},
		{"OutliveTheirBars", testOutliveTheirBars},
		{"ApplyTwice", testApplyTwice},
		{"Freshness", testFreshness},
		{"LatestRollup", testLatestRollup},
		{"RollupsOfTenants", testRollupsOfTenants},
		{"ChangeOfZone", testChangeOfZone},
		{"DropOfKinds", testDropOfKinds},
		{"OddMidnights", testOddMidnights},
		{"NothingStraddlesWhatIsDropped", testNothingStraddlesWhatIsDropped},
		{"ChangedPolicyDropsNothing", testChangedPolicyDropsNothing},
		{"DroppedInAnotherZone", testDroppedInAnotherZone},
		{"DroppedBeforeRollups", testDroppedBeforeRollups},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			test.run(t, newKeeping(t, fresh))
		})
	}
}

// keeping is a store with its keeper.
type keeping struct {
	*harness
	keeper store.Keeper
}

func newKeeping(t testing.TB, fresh func(testing.TB) (dsn, owner string)) *keeping {
	dsn, owner := fresh(t)
	h := newHarness(t, func(testing.TB) string { return dsn })
	k, err := store.OpenKeeper(h.ctx, h.store, owner)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = k.Close(context.Background()) })
	return &keeping{h, k}
}

// minutes is the policy of minutes with rollups.
func minutes(zone string, rollups ...mds.Timeframe) mds.Policy {
	return mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: rollups, Zone: zone}
}

func (k *keeping) keep(p mds.Policy) []mds.Step {
	k.t.Helper()
	steps, err := k.keeper.Keep(k.ctx, p)
	if err != nil {
		k.t.Fatal(err)
	}
	return steps
}

// count is how many bars there are.
func (k *keeping) count() int64 {
	k.t.Helper()
	n, err := k.bars.Count(k.ctx, mds.DefaultTenant(), mds.Selection{})
	if err != nil {
		k.t.Fatal(err)
	}
	return n
}

func (k *keeping) refresh() mds.Refreshed {
	k.t.Helper()
	done, err := k.store.Refresh(k.ctx, mds.DefaultTenant(), 0)
	if err != nil {
		k.t.Fatal(err)
	}
	return done
}

func collect(bars iter.Seq2[mds.Bar, error]) (list []mds.Bar, err error) {
	for bar, err := range bars {
		if err != nil {
			return list, err
		}
		list = append(list, bar)
	}
	return list, nil
}

// resample asks the store.
func (k *keeping) resample(q mds.ResampleQuery) []mds.Bar {
	k.t.Helper()
	list, err := collect(k.store.Resample(k.ctx, mds.DefaultTenant(), q))
	if err != nil {
		k.t.Fatal(err)
	}
	return list
}

// recomputed makes the answer of all bars that are stored.
func (k *keeping) recomputed(q mds.ResampleQuery) []mds.Bar {
	k.t.Helper()
	list, err := collect(mds.Resample(k.bars.Query(k.ctx, mds.DefaultTenant(), mds.Query{Selection: q.Selection}), q.Every, q.Zone))
	if err != nil {
		k.t.Fatal(err)
	}
	return list
}

func (k *keeping) same(what string, got, want []mds.Bar) {
	k.t.Helper()
	if !slices.Equal(got, want) {
		k.t.Fatalf("%s: bars differ (-want +got):\n%s", what, cmp.Diff(want, got, cmp.Comparer(func(a, b mds.Bar) bool { return a == b })))
	}
}

// testSameAsRecomputed writes, corrects and deletes bars in any order, with a refresh now
// and then: what is made of rollups is what is made of all bars.
func testSameAsRecomputed(t *testing.T, k *keeping) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	first := time.Date(2024, 3, 8, 0, 0, 0, 0, time.UTC) // clocks change on the 10th
	symbols := []string{"A", "B", "C"}
	const span = 4 * 24 * 60
	rapid.Check(t, func(r *rapid.T) {
		if _, err := k.bars.Delete(k.ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
			r.Fatal(err)
		}
		k.refresh()
		k.keep(minutes("America/New_York"))
		draw := func(n int, label string) int { return rapid.IntRange(0, n-1).Draw(r, label) }
		pick := func() string { return rapid.SampledFrom(symbols).Draw(r, "symbol") }
		moment := func(label string) time.Time { return first.Add(time.Duration(draw(span, label)) * time.Minute) }
		window := func() mds.Selection {
			sel := mds.Selection{Timeframe: mds.Minute}
			if draw(2, "one symbol") == 0 {
				sel.Symbols = []string{pick()}
			}
			if draw(2, "bounded") == 0 {
				sel.Start, sel.End = moment("start"), moment("end")
			}
			return sel
		}
		check := func() {
			if _, err := store.TableOf[mds.Rollup](k.store).Latest(k.ctx, mds.DefaultTenant(), mds.Selection{}); err != nil { // which may be remembered
				r.Fatal(err)
			}
			q := mds.ResampleQuery{Selection: window(), Every: rapid.SampledFrom([]mds.Timeframe{"5m", "1h", "2h", "1d", "1w"}).Draw(r, "every"), Zone: rapid.SampledFrom([]*time.Location{newYork, time.UTC}).Draw(r, "zone")}
			k.same(fmt.Sprintf("%+v", q), k.resample(q), k.recomputed(q))
		}
		for range 2 + draw(12, "steps") {
			switch draw(7, "step") {
			case 0, 1, 2:
				var batch []mds.Bar
				symbol, at := pick(), moment("at")
				for i := range 1 + draw(200, "bars") {
					if draw(20, "jump") == 0 {
						symbol, at = pick(), moment("at")
					}
					b := mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: at.Add(time.Duration(i) * time.Minute), Close: float64(draw(1000, "close")) / 7}
					if draw(3, "whole") > 0 {
						b.Open, b.Volume, b.VWAP, b.TradeCount = mds.Some(b.Close+0.1), mds.Some(b.Close/3), mds.Some(b.Close/11), mds.Some(int64(i))
					}
					batch = append(batch, b)
				}
				if draw(4, "late") > 0 {
					k.write(batch...)
				} else if _, err := k.bars.WriteLate(k.ctx, mds.DefaultTenant(), batch, rapid.SampledFrom([]time.Time{longAgo, soon()}).Draw(r, "as")); err != nil {
					r.Fatal(err)
				}
			case 3:
				if _, err := k.bars.Delete(k.ctx, mds.DefaultTenant(), window()); err != nil {
					r.Fatal(err)
				}
			case 4:
				if _, err := k.store.Refresh(k.ctx, mds.DefaultTenant(), int64(1+draw(1000, "limit"))); err != nil {
					r.Fatal(err)
				}
			case 5:
				k.keep(minutes("America/New_York", rapid.SampledFrom([][]mds.Timeframe{{"5m"}, {"1h", "1d"}, {"5m", "1h", "1d"}, {"1d", "1w"}}).Draw(r, "rollups")...))
			case 6:
				check()
			}
		}
		check()
		rollups := []mds.Timeframe{"5m", "1h", "1d", "1w"}
		k.keep(minutes("America/New_York", rollups...))
		k.refresh()
		for _, every := range rollups {
			q := mds.ResampleQuery{Selection: mds.Selection{Timeframe: mds.Minute}, Every: every, Zone: newYork}
			want := k.recomputed(q)
			k.same("exactly", k.resample(q), want)
			q.AsRefreshed = true
			k.same("of rollups alone", k.resample(q), want)
			n, err := store.TableOf[mds.Rollup](k.store).Count(k.ctx, mds.DefaultTenant(), mds.Selection{Timeframe: every})
			if err != nil || n != int64(len(want)) {
				r.Fatalf("%d rollups of %s, want %d, %v", n, every, len(want), err)
			}
			newest := make(map[string]mds.Bar)
			for _, b := range want {
				newest[b.Symbol] = b
			}
			latest, err := store.TableOf[mds.Rollup](k.store).Latest(k.ctx, mds.DefaultTenant(), mds.Selection{Timeframe: every})
			if err != nil || len(latest) != len(newest) {
				r.Fatalf("the latest of %s are %v, want %v; %v", every, latest, newest, err)
			}
			for _, l := range latest {
				if l.Bar != newest[l.Symbol] {
					r.Fatalf("the latest of %s is %v, want %v", every, l.Bar, newest[l.Symbol])
				}
			}
		}
	})
}

// day is a minute of a day of January 2024.
func day(symbol string, d, minute int, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Minute, TS: time.Date(2024, 1, d, 10, minute, 0, 0, time.UTC), Close: price}
}

// hour is what minutes of an hour of a day make up.
func hour(symbol string, d int, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: symbol, Timeframe: mds.Hour, TS: time.Date(2024, 1, d, 10, 0, 0, 0, time.UTC), Close: price}
}

func (k *keeping) apply(now time.Time, policies ...mds.Policy) (steps []mds.Step) {
	k.t.Helper()
	err := store.Apply(k.ctx, k.store, k.keeper, policies, now, nil, func(s mds.Step, done bool) {
		if done {
			steps = append(steps, s)
		}
	})
	if err != nil {
		k.t.Fatal(err)
	}
	return steps
}

// testApplyTwice changes nothing the second time, not even when rows were changed.
func testApplyTwice(t *testing.T, k *keeping) {
	k.write(day("A", 1, 0, 1), day("A", 20, 0, 3))
	now := time.Date(2024, 2, 1, 0, 0, 0, 0, time.UTC)
	policies := mds.DefaultPolicies()
	if steps := k.apply(now, policies...); len(steps) == 0 {
		t.Error("the first time nothing was done")
	}
	before, err := k.keeper.Policies(k.ctx)
	if err != nil || len(before) == 0 {
		t.Fatal(before, err)
	}
	if steps := k.apply(now, policies...); len(steps) != 0 {
		t.Errorf("the second time: %+v", steps)
	}
	after, err := k.keeper.Policies(k.ctx)
	if diff := cmp.Diff(before, after); diff != "" || err != nil {
		t.Errorf("policies differ: %s, %v", diff, err)
	}
	if changes, err := k.keeper.Changes(k.ctx, policies); len(changes) != 0 || err != nil {
		t.Errorf("changes: %+v, %v", changes, err)
	}
	var rollups int64
	for _, tf := range []mds.Timeframe{"5m", "15m", "1h", "1d"} {
		n, err := store.TableOf[mds.Rollup](k.store).Count(k.ctx, mds.DefaultTenant(), mds.Selection{Timeframe: tf})
		if err != nil {
			t.Fatal(err)
		}
		rollups += n
	}
	if rollups != 8 {
		t.Errorf("%d rollups, want 2 of each timeframe", rollups)
	}
	k.apply(now, minutes(""))
	if n, err := store.TableOf[mds.Rollup](k.store).Count(k.ctx, mds.DefaultTenant(), mds.Selection{}); n != 0 || err != nil {
		t.Errorf("%d rollups are left after they were given up, %v", n, err)
	}
}

// testFreshness tells what is not in the rollups yet.
func testFreshness(t *testing.T, k *keeping) {
	k.write(day("A", 1, 0, 1), day("B", 1, 0, 7))
	var fresh mds.Freshness
	ask := func(symbol string, asRefreshed bool) []mds.Bar {
		fresh = mds.Freshness{}
		return k.resample(mds.ResampleQuery{Selection: mds.Selection{Symbols: []string{symbol}}, Every: mds.Hour, AsRefreshed: asRefreshed, Freshness: func(f mds.Freshness) { fresh = f }})
	}
	k.want(ask("A", false), hour("A", 1, 1))
	if fresh.Rollup {
		t.Error("there are no rollups yet")
	}
	k.keep(minutes("", mds.Hour))
	k.want(ask("A", true)) // none are made yet
	if !fresh.Rollup || fresh.Stale != 1 || time.Since(fresh.Since) > time.Minute {
		t.Errorf("before the first refresh: %+v", fresh)
	}
	k.want(ask("A", false), hour("A", 1, 1))
	k.refresh()
	k.want(ask("A", true), hour("A", 1, 1))
	if !fresh.Rollup || fresh.Stale != 0 {
		t.Errorf("after it: %+v", fresh)
	}
	k.write(day("A", 1, 1, 2), day("A", 3, 0, 3))
	k.want(ask("A", true), hour("A", 1, 1))
	if fresh.Stale != 2 {
		t.Errorf("two spans were written: %+v", fresh)
	}
	k.want(ask("A", false), hour("A", 1, 2), hour("A", 3, 3))
	k.want(ask("B", false), hour("B", 1, 7))
	if fresh.Stale != 0 {
		t.Errorf("another symbol's: %+v", fresh)
	}
	registry := prometheus.NewPedanticRegistry()
	registry.MustRegister(store.NewFreshness(k.ctx, k.store))
	families, err := registry.Gather()
	if err != nil || len(families) != 2 || families[0].GetMetric()[0].GetGauge().GetValue() != 2 || families[1].GetMetric()[0].GetGauge().GetValue() <= 0 || families[0].GetMetric()[0].GetLabel()[0].GetValue() != "1m" {
		t.Errorf("metrics %v, %v", families, err)
	}
	status, err := k.store.Policies(k.ctx, mds.DefaultTenant())
	if err != nil || len(status) != 1 || status[0].Stale != 2 || status[0].StaleSince.IsZero() || status[0].RefreshedAt.IsZero() {
		t.Errorf("status %+v, %v", status, err)
	}
	// The newest first, and no more than asked for.
	if done, err := k.store.Refresh(k.ctx, mds.DefaultTenant(), 1); err != nil || done.Spans == 0 {
		t.Errorf("%+v, %v", done, err)
	}
	k.write(day("A", 3, 0, 3)) // which is there
	if k.refresh(); fresh.Stale != 0 {
		t.Errorf("what changed nothing: %+v", fresh)
	}
}

// testLatestRollup asks for the newest rollup again when it is gone with its bars.
func testLatestRollup(t *testing.T, k *keeping) {
	k.keep(minutes("", mds.Hour))
	k.write(day("A", 1, 0, 1), day("A", 2, 0, 2))
	for _, want := range []mds.Bar{hour("A", 2, 2), hour("A", 1, 1)} {
		k.refresh()
		for range 3 { // what is asked for again may be remembered
			latest, err := store.TableOf[mds.Rollup](k.store).Latest(k.ctx, mds.DefaultTenant(), mds.Selection{})
			if err != nil || len(latest) != 1 || latest[0].Bar != want {
				t.Fatalf("the latest are %v, want %v; %v", latest, want, err)
			}
		}
		if _, err := k.bars.Delete(k.ctx, mds.DefaultTenant(), mds.Selection{Start: want.TS}); err != nil {
			t.Fatal(err)
		}
	}
}

// testRollupsOfTenants keeps those of tenants apart, and removes them with them.
func testRollupsOfTenants(t *testing.T, k *keeping) {
	acme, err := k.store.CreateTenant(k.ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	k.keep(minutes("", mds.Hour))
	k.write(day("A", 1, 0, 1))
	if _, err := k.bars.WriteBatch(k.ctx, acme, []mds.Bar{day("A", 1, 0, 2), day("A", 2, 0, 2)}); err != nil {
		t.Fatal(err)
	}
	k.refresh()
	list, err := collect(k.store.Resample(k.ctx, acme, mds.ResampleQuery{Every: mds.Hour, AsRefreshed: true}))
	if err != nil || len(list) != 0 {
		t.Errorf("another tenant's refresh made %v, %v", list, err)
	}
	if err := store.RefreshAll(k.ctx, k.store, func(mds.Step, bool) {}); err != nil {
		t.Fatal(err)
	}
	list, err = collect(k.store.Resample(k.ctx, acme, mds.ResampleQuery{Every: mds.Hour, AsRefreshed: true}))
	if err != nil {
		t.Fatal(err)
	}
	k.want(list, hour("A", 1, 2), hour("A", 2, 2))
	k.want(k.resample(mds.ResampleQuery{Every: mds.Hour, AsRefreshed: true}), hour("A", 1, 1))
	if _, err := k.bars.WriteBatch(k.ctx, acme, []mds.Bar{day("A", 1, 0, 3)}); err != nil {
		t.Fatal(err)
	}
	if err := k.store.RemoveTenant(k.ctx, acme); err != nil {
		t.Fatal(err)
	}
	status, err := k.keeper.Policies(k.ctx)
	if err != nil || len(status) != 1 || status[0].Stale != 0 {
		t.Errorf("of a tenant that was removed something is left: %+v, %v", status, err)
	}
	// One that comes later has the policies of the others.
	later, err := k.store.CreateTenant(k.ctx, "later")
	if err != nil {
		t.Fatal(err)
	}
	if status, err := k.store.Policies(k.ctx, later); err != nil || len(status) != 1 || len(status[0].Rollups) != 1 {
		t.Errorf("a new tenant's: %+v, %v", status, err)
	}
}

// testChangeOfZone makes days anew, and refuses to where they cannot be.
func testChangeOfZone(t *testing.T, k *keeping) {
	for _, ts := range []time.Time{time.Date(2024, 1, 20, 2, 0, 0, 0, time.UTC), time.Date(2024, 1, 31, 20, 0, 0, 0, time.UTC)} {
		k.write(mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: ts, Close: 1})
	}
	of := func(month time.Month, d int) mds.Bar {
		return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Day, TS: time.Date(2024, month, d, 0, 0, 0, 0, time.UTC), Close: 1}
	}
	zones := make(map[string]*time.Location)
	for _, name := range []string{"Asia/Tokyo", "America/New_York"} {
		zone, err := time.LoadLocation(name)
		if err != nil {
			t.Fatal(err)
		}
		zones[name] = zone
	}
	newYork := zones["America/New_York"]
	k.keep(minutes("Asia/Tokyo", mds.Day))
	k.refresh()
	k.want(k.resample(mds.ResampleQuery{Every: mds.Day, AsRefreshed: true, Zone: zones["Asia/Tokyo"]}), of(1, 20), of(2, 1))
	k.want(k.resample(mds.ResampleQuery{Every: mds.Day, AsRefreshed: true, Zone: newYork}), of(1, 19), of(1, 31)) // of bars
	k.keep(minutes("America/New_York", mds.Day))
	k.refresh()
	k.want(k.resample(mds.ResampleQuery{Every: mds.Day, AsRefreshed: true, Zone: newYork}), of(1, 19), of(1, 31))
	if n, err := store.TableOf[mds.Rollup](k.store).Count(k.ctx, mds.DefaultTenant(), mds.Selection{}); n != 2 || err != nil {
		t.Errorf("%d rollups, want those of the new zone only; %v", n, err)
	}
	p := minutes("America/New_York", mds.Day)
	p.DropAfter = mds.Age{N: 1, Unit: 'd'}
	k.apply(time.Date(2024, 1, 25, 0, 0, 0, 0, time.UTC), p)
	if _, err := k.keeper.Keep(k.ctx, minutes("", mds.Day)); err == nil {
		t.Error("days of another zone were taken for made, of bars that are dropped")
	}
	k.want(k.resample(mds.ResampleQuery{Every: mds.Day, Zone: newYork}), of(1, 19), of(1, 31))
}

// minuteAt is a minute of A.
func minuteAt(ts time.Time, price float64) mds.Bar {
	return mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: ts.UTC(), Close: price}
}

func (k *keeping) zone(name string) *time.Location {
	k.t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		k.t.Fatal(err)
	}
	return zone
}

// testOddMidnights has days that begin at 1:00, and ones whose first hour comes twice.
func testOddMidnights(t *testing.T, k *keeping) {
	for _, c := range []struct {
		zone  string
		first time.Time // of a day of three, UTC
	}{
		{"America/Sao_Paulo", time.Date(2017, 10, 14, 3, 0, 0, 0, time.UTC)}, // the 15th begins at 1:00
		{"Asia/Amman", time.Date(2021, 10, 27, 21, 0, 0, 0, time.UTC)},       // 0:00 to 1:00 of the 29th comes twice
		{"America/St_Johns", time.Date(2006, 10, 28, 2, 30, 0, 0, time.UTC)}, // 0:01 of the 29th becomes 23:01 of the 28th
	} {
		zone := k.zone(c.zone)
		for i := range 3 * 24 * 4 {
			k.write(minuteAt(c.first.Add(time.Duration(i)*15*time.Minute), float64(i)))
		}
		k.keep(minutes(c.zone, mds.Day))
		k.refresh()
		for i := range 3 * 24 * 4 {
			changed := c.first.Add(time.Duration(i) * 15 * time.Minute)
			if i%5 > 0 && i%96 > 8 {
				continue
			}
			k.write(minuteAt(changed, float64(1000+i)))
			sel := mds.Selection{Timeframe: mds.Minute}
			for _, start := range []time.Time{{}, changed, changed.Add(45 * time.Minute).In(zone)} {
				sel.Start = start
				q := mds.ResampleQuery{Selection: sel, Every: mds.Day, Zone: zone}
				k.same(fmt.Sprint(c.zone, changed, start), k.resample(q), k.recomputed(q))
			}
			k.refresh()
		}
		q := mds.ResampleQuery{Selection: mds.Selection{Timeframe: mds.Minute}, Every: mds.Day, Zone: zone}
		k.same(c.zone+" refreshed", k.resample(q), k.recomputed(q))
		if _, err := k.bars.Delete(k.ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
			t.Fatal(err)
		}
		k.refresh()
	}
}
