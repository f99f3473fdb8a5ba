package mds

import (
	"fmt"
	"strconv"
	"time"
)

// Date is a day of the Gregorian calendar, without a time zone. The zero Date
// is missing.
type Date struct {
	Year  int
	Month time.Month
	Day   int
}

// DateOf returns the date that t shows in its own location.
func DateOf(t time.Time) Date {
	year, month, day := t.Date()
	return Date{year, month, day}
}

// ParseDate reads a date in the form 2006-01-02 (ISO 8601).
func ParseDate(s string) (Date, error) {
	t, err := time.Parse(time.DateOnly, s)
	if err != nil {
		return Date{}, fmt.Errorf("%s is not a date; write year-month-day, such as 2024-03-15", quoted(s))
	}
	return DateOf(t), nil
}

// IsZero reports a missing date.
func (d Date) IsZero() bool { return d == Date{} }

// Valid reports whether there is such a day, in the years 1 to 9999.
func (d Date) Valid() bool {
	return d.Year >= 1 && d.Year <= 9999 && DateOf(d.Time()) == d
}

// Time returns 00:00 UTC of the date.
func (d Date) Time() time.Time {
	return time.Date(d.Year, d.Month, d.Day, 0, 0, 0, 0, time.UTC)
}

// Compare returns -1, 0 or +1 as d is before, equal to or after other.
func (d Date) Compare(other Date) int { return d.Time().Compare(other.Time()) }

// String returns the form 2006-01-02, "" for a missing date.
func (d Date) String() string {
	if d.IsZero() {
		return ""
	}
	return string(d.append(nil))
}

func (d Date) append(dst []byte) []byte { return d.Time().AppendFormat(dst, time.DateOnly) }

// MarshalText writes the form 2006-01-02.
func (d Date) MarshalText() ([]byte, error) { return []byte(d.String()), nil }

// UnmarshalText reads the form 2006-01-02; nothing is a missing date.
func (d *Date) UnmarshalText(text []byte) (err error) {
	if len(text) == 0 {
		*d = Date{}
		return nil
	}
	*d, err = ParseDate(string(text))
	return err
}

// dateFault says what is wrong with a date that is required, or "".
func dateFault(d Date) string {
	switch {
	case d.IsZero():
		return "is missing"
	case d.Year < 1 || d.Year > 9999:
		return "year " + strconv.Itoa(d.Year) + " is outside 1 to 9999"
	case !d.Valid():
		return fmt.Sprintf("there is no day %d-%02d-%02d", d.Year, d.Month, d.Day)
	}
	return ""
}
