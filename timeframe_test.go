package mds_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func TestParseTimeframe(t *testing.T) {
	for text, want := range map[string]mds.Timeframe{
		"1m": "1m", "1min": "1m", "1Min": "1m", "1 minute": "1m", "M1": "1m", "T": "1m", "60s": "1m",
		"5m": "5m", "5minutes": "5m", "M5": "5m",
		"15m": "15m", "15T": "15m", "M15": "15m",
		"60m": "1h", "1h": "1h", "1hour": "1h", "H1": "1h", "60min": "1h", "3600s": "1h",
		"4h": "4h", "H4": "4h", "240m": "4h",
		"1d": "1d", "1D": "1d", "day": "1d", "Daily": "1d", "24h": "1d", "D1": "1d", "1440m": "1d",
		"1w": "1w", "1wk": "1w", "weekly": "1w", "7d": "1w", "W": "1w",
		"1mo": "1mo", "1M": "1mo", "month": "1mo", "1month": "1mo", "MN1": "1mo", "M": "1mo",
		" 30s ": "30s", "12H": "12h",
	} {
		if got, err := mds.ParseTimeframe(text); err != nil || got != want {
			t.Errorf("%q: %q, %v; want %q", text, got, err, want)
		}
	}
	for _, text := range []string{"", "0m", "7m", "1", "m1m", "1y", "-1m", "1.5h", "99999m", "2d", "1m1", "١m", "fortnight"} {
		got, err := mds.ParseTimeframe(text)
		if !errors.Is(err, mds.ErrTimeframe) || !strings.Contains(err.Error(), "1m 2m 3m 5m") {
			t.Errorf("%q: %q, %v; want an error that lists the timeframes", text, got, err)
		}
	}
}

func TestTimeframes(t *testing.T) {
	for _, tf := range mds.Timeframes() {
		got, err := mds.ParseTimeframe(string(tf))
		if err != nil || got != tf || !tf.Valid() || tf.Calendar() != (tf.Duration() == 0) {
			t.Errorf("%s: parsed %s, %v; valid %v, calendar %v, duration %s", tf, got, err, tf.Valid(), tf.Calendar(), tf.Duration())
		}
	}
	if mds.Timeframe("1min").Valid() {
		t.Error("1min is valid before it is parsed")
	}
}

func TestTruncate(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		timeframe mds.Timeframe
		in        time.Time
		want      string
	}{
		{"1m", time.Date(2024, 3, 5, 14, 31, 59, 999, time.UTC), "2024-03-05T14:31:00Z"},
		{"5m", time.Date(2024, 3, 5, 9, 34, 0, 0, newYork), "2024-03-05T14:30:00Z"},
		{"4h", time.Date(2024, 3, 5, 14, 0, 0, 0, time.UTC), "2024-03-05T12:00:00Z"},
		{"12h", time.Date(1969, 12, 31, 23, 0, 0, 0, time.UTC), "1969-12-31T12:00:00Z"},
		{"1d", time.Date(2024, 3, 5, 23, 0, 0, 0, newYork), "2024-03-05T00:00:00Z"},
		{"1w", time.Date(2024, 3, 5, 0, 0, 0, 0, time.UTC), "2024-03-04T00:00:00Z"},  // a Tuesday
		{"1w", time.Date(2024, 3, 4, 0, 0, 0, 0, time.UTC), "2024-03-04T00:00:00Z"},  // a Monday
		{"1w", time.Date(2024, 3, 10, 0, 0, 0, 0, time.UTC), "2024-03-04T00:00:00Z"}, // a Sunday
		{"1w", time.Date(2024, 1, 2, 0, 0, 0, 0, time.UTC), "2024-01-01T00:00:00Z"},
		{"1w", time.Date(2023, 1, 1, 0, 0, 0, 0, time.UTC), "2022-12-26T00:00:00Z"}, // over the year's end
		{"1mo", time.Date(2024, 2, 29, 23, 59, 0, 0, newYork), "2024-02-01T00:00:00Z"},
	} {
		got := c.timeframe.Truncate(c.in)
		if got.Format(time.RFC3339Nano) != c.want {
			t.Errorf("%s of %s: %s, want %s", c.timeframe, c.in, got, c.want)
		}
		if again := c.timeframe.Truncate(got); !again.Equal(got) {
			t.Errorf("%s of its own label %s is %s", c.timeframe, got, again)
		}
	}
}

func FuzzParseTimeframe(f *testing.F) {
	for _, seed := range []string{"1m", "H4", "15 min", "1M", "MN1", "0000d"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		tf, err := mds.ParseTimeframe(text)
		if (err == nil) != tf.Valid() {
			t.Errorf("%q: %q, %v", text, tf, err)
		}
	})
}
