package mds

import (
	"errors"
	"fmt"
	"strings"
	"time"
)

// Timeframe is the span of a bar, such as "1m" or "1d". Only the standard set
// that [Timeframes] lists is valid; [ParseTimeframe] reads the usual spellings.
type Timeframe string

// The timeframes used most.
const (
	Minute  Timeframe = "1m"
	Minute5 Timeframe = "5m"
	Hour    Timeframe = "1h"
	Day     Timeframe = "1d"
	Week    Timeframe = "1w"
	Month   Timeframe = "1mo"
)

// ErrTimeframe is wrapped by every refusal of a timeframe.
var ErrTimeframe = errors.New("not a timeframe")

// Timeframes returns the standard set, shortest first.
func Timeframes() []Timeframe {
	return []Timeframe{
		"1s", "5s", "10s", "15s", "30s",
		"1m", "2m", "3m", "5m", "10m", "15m", "30m",
		"1h", "2h", "3h", "4h", "6h", "8h", "12h",
		"1d", "1w", "1mo",
	}
}

// ParseTimeframe reads a timeframe in any usual spelling: "1m", "1min",
// "5 minutes", "60m" (which is 1h), "1hour", "H4", "1D", "daily", "1M" and
// "1mo" (a month; "1m" is a minute). The error wraps [ErrTimeframe].
func ParseTimeframe(s string) (Timeframe, error) {
	if tf := Timeframe(s); tf.Valid() {
		return tf, nil
	}
	count, unit, ok := splitTimeframe(strings.TrimSpace(s))
	if ok {
		if tf := standardTimeframe(count, unit); tf != "" {
			return tf, nil
		}
	}
	return "", fmt.Errorf("%w: %q (use one of %s)", ErrTimeframe, s, timeframeList())
}

func timeframeList() string { return joinTimeframes(Timeframes()) }

func joinTimeframes(all []Timeframe) string {
	names := make([]string, len(all))
	for i, tf := range all {
		names[i] = string(tf)
	}
	return strings.Join(names, " ")
}

// splitTimeframe cuts "15min" into 15 and its canonical unit. The count may
// also follow the unit ("M15", "H4"), as charting programs write it.
func splitTimeframe(s string) (count int, unit string, ok bool) {
	const digits = "0123456789"
	var number, word string
	if end := strings.IndexFunc(s, func(r rune) bool { return !strings.ContainsRune(digits, r) }); end > 0 {
		number, word = s[:end], strings.TrimSpace(s[end:])
	} else if start := strings.IndexAny(s, digits); start > 0 {
		// M15 is fifteen minutes there, MN1 a month.
		number, word = s[start:], strings.ToLower(s[:start])
	} else {
		number, word = "1", s
	}
	if len(number) > 4 {
		return 0, "", false
	}
	for _, d := range number {
		if d < '0' || d > '9' {
			return 0, "", false
		}
		count = count*10 + int(d-'0')
	}
	if word == "M" {
		return count, "mo", true
	}
	switch strings.ToLower(word) {
	case "s", "sec", "secs", "second", "seconds":
		unit = "s"
	case "m", "t", "min", "mins", "minute", "minutes":
		unit = "m"
	case "h", "hr", "hrs", "hour", "hours", "hourly":
		unit = "h"
	case "d", "day", "days", "daily":
		unit = "d"
	case "w", "wk", "week", "weeks", "weekly":
		unit = "w"
	case "mo", "mon", "mn", "mth", "month", "months", "monthly":
		unit = "mo"
	default:
		return 0, "", false
	}
	return count, unit, true
}

// standardTimeframe folds a count and unit into the standard set: 60m is 1h,
// 24h is 1d. It returns "" for one outside the set.
func standardTimeframe(count int, unit string) Timeframe {
	if unit == "s" && count >= 60 && count%60 == 0 {
		count, unit = count/60, "m"
	}
	if unit == "m" && count >= 60 && count%60 == 0 {
		count, unit = count/60, "h"
	}
	if unit == "h" && count == 24 {
		count, unit = 1, "d"
	}
	if unit == "d" && count == 7 {
		count, unit = 1, "w"
	}
	if tf := Timeframe(fmt.Sprintf("%d%s", count, unit)); tf.Valid() {
		return tf
	}
	return ""
}

// Valid reports whether tf is one of the standard set, in its standard spelling.
func (tf Timeframe) Valid() bool { return tf.Duration() != 0 || tf.Calendar() }

// Calendar reports whether bars of this timeframe are labelled by dates (1d,
// 1w, 1mo) rather than by instants.
func (tf Timeframe) Calendar() bool { return tf == Day || tf == Week || tf == Month }

// Duration is the span of an intraday bar. It is 0 for calendar timeframes,
// whose days have no fixed length, and for invalid ones.
func (tf Timeframe) Duration() time.Duration {
	switch tf {
	case "1s":
		return time.Second
	case "5s":
		return 5 * time.Second
	case "10s":
		return 10 * time.Second
	case "15s":
		return 15 * time.Second
	case "30s":
		return 30 * time.Second
	case "1m":
		return time.Minute
	case "2m":
		return 2 * time.Minute
	case "3m":
		return 3 * time.Minute
	case "5m":
		return 5 * time.Minute
	case "10m":
		return 10 * time.Minute
	case "15m":
		return 15 * time.Minute
	case "30m":
		return 30 * time.Minute
	case "1h":
		return time.Hour
	case "2h":
		return 2 * time.Hour
	case "3h":
		return 3 * time.Hour
	case "4h":
		return 4 * time.Hour
	case "6h":
		return 6 * time.Hour
	case "8h":
		return 8 * time.Hour
	case "12h":
		return 12 * time.Hour
	}
	return 0
}

// Truncate returns the label of the bar that holds t, in UTC.
//
// An intraday timeframe cuts the instant down to a multiple of its duration
// since 00:00 UTC. A calendar timeframe takes the date that t shows in its own
// location, moves it to the Monday of its week (1w) or the first of its month
// (1mo), and returns 00:00 UTC of that date.
func (tf Timeframe) Truncate(t time.Time) time.Time {
	if !tf.Calendar() {
		return t.UTC().Truncate(tf.Duration())
	}
	year, month, day := t.Date()
	switch tf {
	case Week:
		day -= (int(t.Weekday()) + 6) % 7
	case Month:
		day = 1
	}
	return time.Date(year, month, day, 0, 0, 0, 0, time.UTC)
}

// Span returns the instants at which the bar begins and ends that holds t. Days, weeks and
// months are those of zone.
func (tf Timeframe) Span(t time.Time, zone *time.Location) (start, end time.Time) {
	if !tf.Calendar() {
		start = tf.Truncate(t)
		return start, start.Add(tf.Duration())
	}
	label := tf.Truncate(t.In(zone))
	start, end = midnight(label, zone), midnight(tf.next(label), zone)
	switch {
	case t.Before(start): // of a date that begins twice, the first time
		return midnight(tf.Truncate(label.AddDate(0, 0, -1)), zone), start
	case !t.Before(end):
		return end, midnight(tf.next(tf.next(label)), zone)
	}
	return start, end
}

// next is the label of the calendar bar after that of a label.
func (tf Timeframe) next(label time.Time) time.Time {
	switch tf {
	case Week:
		return label.AddDate(0, 0, 7)
	case Month:
		return label.AddDate(0, 1, 0)
	}
	return label.AddDate(0, 0, 1)
}

// midnight is the instant from which on a zone shows the date of a label or a later one:
// not always 0:00, which some days do not have, and others twice.
func midnight(label time.Time, zone *time.Location) time.Time {
	year, month, day := label.Date()
	at := time.Date(year, month, day, 0, 0, 0, 0, zone)
	const around = 3 * time.Hour // clocks are not changed by more near midnight, but for whole days
	_, before := at.Add(-around).Zone()
	if _, after := at.Add(around).Zone(); before == after {
		return at
	}
	begins := at.Add(-around)
	for t := begins; t.Before(at.Add(around)); t = t.Add(time.Minute) {
		if Day.Truncate(t).Before(label) {
			begins = t.Add(time.Minute)
		}
	}
	return begins
}

// Fits reports whether bars of this timeframe make up one of another: 1m into 1h, and 1d
// into 1w, but not 2m into 3m, nor 1w into 1mo.
func (tf Timeframe) Fits(to Timeframe) bool {
	switch {
	case tf == to || !tf.Valid() || !to.Valid():
		return false
	case !tf.Calendar() && !to.Calendar():
		return to.Duration() > tf.Duration() && to.Duration()%tf.Duration() == 0
	case !tf.Calendar():
		return true
	}
	return tf == Day && (to == Week || to == Month)
}
