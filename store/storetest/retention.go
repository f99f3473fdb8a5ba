package storetest

import (
	"errors"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

// testOutliveTheirBars drops bars: what was made of them stays, whatever comes late.
func testOutliveTheirBars(t *testing.T, k *keeping) {
	k.write(day("A", 1, 0, 1), day("A", 1, 30, 2), day("A", 20, 0, 3), day("A", 21, 0, 4), day("B", 1, 0, 5))
	p := minutes("", mds.Hour, mds.Day)
	p.DropAfter = mds.Age{N: 10, Unit: 'd'}
	now := time.Date(2024, 1, 22, 12, 0, 0, 0, time.UTC)
	steps := k.apply(now, p)
	dropped := steps[len(steps)-1]
	if dropped.Action != mds.StepDrop || dropped.Rows != 3 || !dropped.Before.Equal(time.Date(2024, 1, 12, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("dropped: %+v", dropped)
	}
	k.want(k.all(), day("A", 20, 0, 3), day("A", 21, 0, 4))
	hours := mds.ResampleQuery{Every: mds.Hour}
	want := []mds.Bar{hour("A", 1, 2), hour("B", 1, 5), hour("A", 20, 3), hour("A", 21, 4)}
	k.want(k.resample(hours), want...)

	k.write(day("A", 1, 45, 9), day("A", 20, 30, 6)) // the one late of what was dropped, the other not
	want[2] = hour("A", 20, 6)
	k.want(k.resample(hours), want...)
	if done := k.refresh(); done.Late != 1 || done.Spans != 2 {
		t.Errorf("refreshed: %+v, want one late of two", done)
	}
	k.want(k.resample(hours), want...)
	// What is made of shorter rollups, since there are no bars.
	if got := k.resample(mds.ResampleQuery{Every: "2h", Selection: mds.Selection{Symbols: []string{"A"}}}); len(got) != 3 || got[0].Close != 2 || got[0].Timeframe != "2h" {
		t.Errorf("two hours: %v", got)
	}
	steps = k.apply(now, p)
	if len(steps) != 1 || steps[0].Action != mds.StepDrop || steps[0].Rows != 1 || steps[0].Note == "" {
		t.Errorf("again: %+v, want the late bar dropped, with a note", steps)
	}
	k.want(k.resample(hours), want...)
	lines, err := k.keeper.Audit(k.ctx, 10)
	if err != nil || len(lines) != 4 || lines[0].Action != "dropped" || lines[3].Action != mds.StepDrop {
		t.Errorf("audit: %+v, %v", lines, err)
	}
}

// testDropOfKinds drops by each kind's time, and of bars one timeframe.
func testDropOfKinds(t *testing.T, k *keeping) {
	old, late := time.Date(2024, 1, 1, 10, 0, 0, 0, time.UTC), time.Date(2024, 3, 1, 10, 0, 0, 0, time.UTC)
	tenant := mds.DefaultTenant()
	for _, ts := range []time.Time{old, late} {
		k.write(mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: ts, Close: 1}, mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Day, TS: ts, Close: 1})
		option := mds.OptionSnap{Vendor: "v", Symbol: "A", Expiry: mds.DateOf(late), OptionType: "C", Strike: 1, TS: ts}
		_, err1 := store.Options(k.store).WriteBatch(k.ctx, tenant, []mds.OptionSnap{option})
		_, err2 := store.Fundamentals(k.store).WriteBatch(k.ctx, tenant, []mds.Fundamentals{{Vendor: "v", Symbol: "A", Period: "FY", AsOf: mds.DateOf(ts), FiledAt: ts, Revenue: mds.Some(1.0)}})
		_, err3 := store.News(k.store).WriteBatch(k.ctx, tenant, []mds.News{{Vendor: "v", ID: ts.String(), PublishedAt: ts, Title: "t", Symbols: []string{"A"}}})
		if err1 != nil || err2 != nil || err3 != nil {
			t.Fatal(err1, err2, err3)
		}
	}
	var policies []mds.Policy
	for _, kind := range []string{"options", "fundamentals", "news"} {
		policies = append(policies, mds.Policy{Kind: kind, DropAfter: mds.Age{N: 30, Unit: 'd'}})
	}
	policies = append(policies, mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 30, Unit: 'd'}})
	steps := k.apply(late, policies...)
	drops := 0
	for _, s := range steps {
		if s.Action == mds.StepDrop {
			drops++
			if s.Rows != 1 {
				t.Errorf("%s: %d rows were dropped, want 1", s.Policy.Name(), s.Rows)
			}
		}
	}
	if drops != 4 {
		t.Errorf("%d steps dropped something, want 4", drops)
	}
	if got := k.all(); len(got) != 3 || got[0].Timeframe != mds.Day {
		t.Errorf("bars that are left: %v, want both days and the late minute", got)
	}
	for kind, left := range map[string]func() (int64, error){
		"options":      func() (int64, error) { return store.Options(k.store).Count(k.ctx, tenant, mds.Selection{}) },
		"fundamentals": func() (int64, error) { return store.Fundamentals(k.store).Count(k.ctx, tenant, mds.Selection{}) },
		"news":         func() (int64, error) { return store.News(k.store).Count(k.ctx, tenant, mds.Selection{}) },
	} {
		if n, err := left(); n != 1 || err != nil {
			t.Errorf("%d %s are left, want 1; %v", n, kind, err)
		}
	}
}

// testNothingStraddlesWhatIsDropped drops from where all rollups begin: of each there are
// all bars or none, and what changes is seen.
func testNothingStraddlesWhatIsDropped(t *testing.T, k *keeping) {
	newYork := k.zone("America/New_York")
	p := minutes("America/New_York", mds.Day, mds.Month)
	p.DropAfter = mds.Age{N: 7, Unit: 'd'}
	for d := range 70 {
		k.write(minuteAt(time.Date(2023, 12, 25+d, 4, 59, 0, 0, time.UTC), float64(d)))
	}
	now := time.Date(2024, 3, 20, 0, 0, 0, 0, time.UTC)
	steps := k.apply(now, p)
	// 2024-03-01 00:00 in New York.
	if last := steps[len(steps)-1]; last.Action != mds.StepDrop || !last.Before.Equal(time.Date(2024, 3, 1, 5, 0, 0, 0, time.UTC)) {
		t.Fatalf("steps: %+v", steps)
	}
	// The evening before in New York is a day that was dropped, the one after is not.
	k.write(minuteAt(time.Date(2024, 3, 1, 4, 58, 0, 0, time.UTC), 7000), minuteAt(time.Date(2024, 3, 2, 4, 58, 0, 0, time.UTC), -5))
	q := mds.ResampleQuery{Selection: mds.Selection{Timeframe: mds.Minute, Start: time.Date(2024, 3, 1, 0, 0, 0, 0, newYork)}, Every: mds.Month, Zone: newYork}
	k.same("the month that is kept", k.resample(q), k.recomputed(q))
	k.refresh()
	k.same("the month that is kept, refreshed", k.resample(q), k.recomputed(q))
	q.Start = time.Time{}
	months := k.resample(q)
	if len(months) != 4 || months[2].Close != 67 {
		t.Errorf("months: %v, want December to March, February's close being 67", months)
	}
	// What is not in rollups yet is not dropped.
	k.write(minuteAt(time.Date(2024, 3, 3, 12, 0, 0, 0, time.UTC), 1))
	due, err := k.keeper.Due(k.ctx, []mds.Policy{p}, now.AddDate(0, 1, 0))
	if err != nil || len(due) != 1 {
		t.Fatal(due, err)
	}
	if _, err := k.keeper.Do(k.ctx, due[0]); !errors.Is(err, mds.ErrNotRefreshed) {
		t.Errorf("bars were dropped of which no rollups are made: %v", err)
	}
	q.Start = time.Date(2024, 3, 1, 0, 0, 0, 0, newYork)
	k.same("after it was refused", k.resample(q), k.recomputed(q))
}

// testChangedPolicyDropsNothing has policies changed between what is due and its being done:
// by its age, or by its rollups or zone, which the time goes by.
func testChangedPolicyDropsNothing(t *testing.T, k *keeping) {
	for d := 1; d <= 5; d++ {
		k.write(day("A", d, 0, float64(d)))
	}
	now := time.Date(2024, 3, 20, 0, 0, 0, 0, time.UTC)
	p := minutes("America/New_York", mds.Hour, mds.Day)
	p.DropAfter = mds.Age{N: 7, Unit: 'd'}
	k.keep(p)
	k.refresh()
	due, err := k.keeper.Due(k.ctx, []mds.Policy{p}, now)
	if err != nil || len(due) != 1 || due[0].Rows != 5 {
		t.Fatal(due, err)
	}
	fewer, elsewhere, longer := p, p, p
	fewer.Rollups = []mds.Timeframe{mds.Hour}
	elsewhere.Zone = "Europe/London"
	longer.DropAfter = mds.Age{N: 5, Unit: 'y'}
	for _, other := range []mds.Policy{fewer, elsewhere, longer} {
		k.keep(other)
		k.refresh()
		if _, err := k.keeper.Do(k.ctx, due[0]); !errors.Is(err, mds.ErrPolicyChanged) || !mds.Retryable(err) || k.count() != 5 {
			t.Errorf("%+v: %d bars of 5 are left, %v", other, k.count(), err)
		}
	}
	if err := store.CarryOut(k.ctx, k.store, k.keeper, now, func(mds.Step, bool) {}); err != nil || k.count() != 5 {
		t.Errorf("%d bars of 5 are left, %v", k.count(), err)
	}
	k.keep(p)
	if err := store.CarryOut(k.ctx, k.store, k.keeper, now, func(mds.Step, bool) {}); err != nil || k.count() != 0 {
		t.Errorf("as it was: %d bars are left, %v", k.count(), err)
	}
}

// testDroppedInAnotherZone makes days of a zone out of shorter rollups, each once.
func testDroppedInAnotherZone(t *testing.T, k *keeping) {
	newYork := k.zone("America/New_York")
	for i := range 96 {
		k.write(minuteAt(time.Date(2024, 1, 3, i, 0, 0, 0, time.UTC), float64(i)))
	}
	want := k.recomputed(mds.ResampleQuery{Every: mds.Day, Zone: newYork})
	p := minutes("", "15m", mds.Day)
	p.DropAfter = mds.Age{N: 1, Unit: 'd'}
	k.apply(time.Date(2024, 1, 6, 12, 0, 0, 0, time.UTC), p)
	k.same("days of New York", k.resample(mds.ResampleQuery{Every: mds.Day, Zone: newYork}), want)
}

// testDroppedBeforeRollups begins rollups of bars that were dropped before there were any:
// they are of what is there.
func testDroppedBeforeRollups(t *testing.T, k *keeping) {
	k.write(day("A", 1, 0, 1), day("A", 20, 0, 2))
	p := minutes("")
	p.DropAfter = mds.Age{N: 5, Unit: 'd'}
	k.apply(time.Date(2024, 1, 21, 0, 0, 0, 0, time.UTC), p)
	k.want(k.all(), day("A", 20, 0, 2))
	k.keep(minutes("", mds.Hour))
	k.write(day("A", 1, 0, 3))
	k.refresh()
	k.want(k.resample(mds.ResampleQuery{Every: mds.Hour}), hour("A", 1, 3), hour("A", 20, 2))
}
