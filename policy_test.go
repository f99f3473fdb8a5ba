package mds_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

func TestAges(t *testing.T) {
	at := time.Date(2023, 3, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"36h":  time.Date(2023, 3, 30, 0, 0, 0, 0, time.UTC),
		"90d":  time.Date(2022, 12, 31, 12, 0, 0, 0, time.UTC),
		"2w":   time.Date(2023, 3, 17, 12, 0, 0, 0, time.UTC),
		"1mo":  time.Date(2023, 2, 28, 12, 0, 0, 0, time.UTC), // which has no 31st
		"13mo": time.Date(2022, 2, 28, 12, 0, 0, 0, time.UTC),
		"2y":   time.Date(2021, 3, 31, 12, 0, 0, 0, time.UTC),
	} {
		age, err := mds.ParseAge(text)
		if err != nil || age.String() != text || !age.Before(at).Equal(want) {
			t.Errorf("%s: %v before is %v, want %v; %v", text, age, age.Before(at), want, err)
		}
	}
	if never, err := mds.ParseAge("never"); err != nil || !never.IsZero() || never.String() != "never" {
		t.Errorf("never: %v, %v", never, err)
	}
	for _, text := range []string{"", "d", "1", "1m", "1.5d", "01d", "+1d", "1 d", "1dd", "d1"} {
		if _, err := mds.ParseAge(text); err == nil {
			t.Errorf("%q was taken", text)
		}
	}
}

func TestAfter(t *testing.T) {
	at := time.Date(2023, 3, 31, 12, 0, 0, 0, time.UTC)
	for text, want := range map[string]time.Time{
		"36h":   time.Date(2023, 4, 2, 0, 0, 0, 0, time.UTC),
		"90d":   time.Date(2023, 6, 29, 12, 0, 0, 0, time.UTC),
		"2w":    time.Date(2023, 4, 14, 12, 0, 0, 0, time.UTC),
		"1mo":   time.Date(2023, 4, 30, 12, 0, 0, 0, time.UTC), // which has no 31st
		"13mo":  time.Date(2024, 4, 30, 12, 0, 0, 0, time.UTC),
		"2y":    time.Date(2025, 3, 31, 12, 0, 0, 0, time.UTC),
		"never": at,
	} {
		if age, err := mds.ParseAge(text); err != nil || !age.After(at).Equal(want) {
			t.Errorf("%s after is %v, want %v; %v", text, age.After(at), want, err)
		}
	}
}

func TestCutoff(t *testing.T) {
	now := time.Date(2024, 3, 20, 15, 30, 0, 0, time.UTC) // a Wednesday
	utc := func(month time.Month, day, hour int) time.Time {
		return time.Date(2024, month, day, hour, 0, 0, 0, time.UTC)
	}
	for _, c := range []struct {
		after   mds.Age
		zone    string
		rollups []mds.Timeframe
		want    time.Time
	}{
		{mds.Age{}, "", nil, time.Time{}},
		{mds.Age{N: 7, Unit: 'd'}, "", nil, utc(3, 13, 0)},
		{mds.Age{N: 7, Unit: 'd'}, "", []mds.Timeframe{"1h", "1d"}, utc(3, 13, 0)},
		{mds.Age{N: 7, Unit: 'd'}, "America/New_York", []mds.Timeframe{"1d"}, utc(3, 12, 4)},
		{mds.Age{N: 7, Unit: 'd'}, "", []mds.Timeframe{"1w"}, utc(3, 11, 0)},
		{mds.Age{N: 7, Unit: 'd'}, "", []mds.Timeframe{"1mo"}, utc(3, 1, 0)},
		{mds.Age{N: 1, Unit: 'h'}, "", []mds.Timeframe{"1h", "1d"}, utc(3, 20, 0)}, // today is not over
		{mds.Age{N: 1, Unit: 'h'}, "", []mds.Timeframe{"1mo"}, utc(3, 1, 0)},
		{mds.Age{N: 7, Unit: 'd'}, "", []mds.Timeframe{"1w", "1mo"}, utc(1, 1, 0)}, // a Monday that is a first
	} {
		p := mds.Policy{Kind: "bars", Timeframe: mds.Minute, DropAfter: c.after, Rollups: c.rollups, Zone: c.zone}
		if got := p.Cutoff(now); !got.Equal(c.want) {
			t.Errorf("%+v: %v, want %v", c, got, c.want)
		}
	}
	p := mds.Policy{Kind: "bars", Timeframe: mds.Minute, Rollups: []mds.Timeframe{"1h", "1d"}, Zone: "America/New_York"}
	if got := p.AlignUp(utc(2, 1, 0)); !got.Equal(utc(2, 1, 5)) {
		t.Errorf("aligned up to %v", got)
	}
}

// TestSpans has every instant be in one span, that begins where the one before ends.
func TestSpans(t *testing.T) {
	zones := []string{"UTC", "America/New_York", "America/Sao_Paulo", "America/Havana", "America/St_Johns", "Asia/Amman", "Asia/Gaza", "Asia/Tehran", "Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Apia", "Pacific/Kwajalein", "Africa/Casablanca", "Europe/London", "Atlantic/Azores", "America/Asuncion"}
	rapid.Check(t, func(t *rapid.T) {
		zone, err := time.LoadLocation(rapid.SampledFrom(zones).Draw(t, "zone"))
		if err != nil {
			t.Fatal(err)
		}
		tf := rapid.SampledFrom(mds.RollupTimeframes()).Draw(t, "timeframe")
		at := time.Unix(rapid.Int64Range(-1_000_000_000, 2_000_000_000).Draw(t, "seconds"), 0)
		if rapid.Bool().Draw(t, "midnight") {
			y, m, d := at.In(zone).Date()
			at = time.Date(y, m, d, 0, rapid.IntRange(-130, 130).Draw(t, "minutes"), 0, 0, zone)
		}
		start, end := tf.Span(at, zone)
		if at.Before(start) || !at.Before(end) {
			t.Fatalf("%s of %v: from %v to %v", tf, at, start, end)
		}
		for _, within := range []time.Time{start, end.Add(-time.Nanosecond)} {
			if s, e := tf.Span(within, zone); !s.Equal(start) || !e.Equal(end) {
				t.Fatalf("%s of %v is from %v to %v, of %v within from %v to %v", tf, at, start, end, within, s, e)
			}
		}
		if s, _ := tf.Span(end, zone); !s.Equal(end) {
			t.Fatalf("%s: one ends at %v, and the next begins at %v", tf, end, s)
		}
	})
}
