package mds

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// Period is the span of time that figures of a company are about:
//
//	instant    a balance, as of the end of the period
//	3M, 6M, …  months that end then; 1M to 120M, but 12M is FY
//	FY         a fiscal year
//	45D        days, where no number of months comes near; 1D to 9999D
//	unstated   the vendor does not say
type Period string

// The periods used most.
const (
	Instant      Period = "instant"
	ThreeMonths  Period = "3M"
	SixMonths    Period = "6M"
	NineMonths   Period = "9M"
	FiscalYear   Period = "FY"
	UnstatedSpan Period = "unstated"
)

// ErrPeriod is wrapped by every refusal of a period.
var ErrPeriod = errors.New("not a period")

// ParsePeriod reads a period in any usual spelling: "3M", "3 months", "Q",
// "quarterly", "FY", "annual", "12M", "1Y". The error wraps [ErrPeriod]. A
// quarter's number (Q3) is no span: the end of the period says which it is.
func ParsePeriod(s string) (Period, error) {
	if p := Period(s); p.Valid() {
		return p, nil
	}
	text := strings.ToLower(strings.TrimSpace(s))
	switch text {
	case "instant", "point", "balance":
		return Instant, nil
	case "q", "quarter", "quarterly":
		return ThreeMonths, nil
	case "h", "half", "semiannual", "semi-annual":
		return SixMonths, nil
	case "fy", "y", "a", "year", "yearly", "annual", "annually":
		return FiscalYear, nil
	case "unstated":
		return UnstatedSpan, nil
	}
	end := strings.IndexFunc(text, func(r rune) bool { return r < '0' || r > '9' })
	if end > 0 && end <= 4 {
		n, _ := strconv.Atoi(text[:end]) // up to four digits
		unit := map[string]string{"d": "D", "day": "D", "days": "D", "m": "M", "mo": "M", "month": "M", "months": "M", "y": "Y", "year": "Y", "years": "Y"}[strings.TrimSpace(text[end:])]
		if unit == "Y" {
			n, unit = n*12, "M"
		}
		p := Period(strconv.Itoa(n) + unit)
		if p == "12M" {
			p = FiscalYear
		}
		if p.Valid() {
			return p, nil
		}
	}
	return "", fmt.Errorf("%w: %s (use instant, 3M, 6M, 9M, FY or another number of months, such as 1M, or of days, such as 45D)", ErrPeriod, quoted(s))
}

// Valid reports whether p is a period in its standard spelling.
func (p Period) Valid() bool {
	switch p {
	case Instant, FiscalYear, UnstatedSpan:
		return true
	case "", "12M":
		return false
	}
	unit := p[len(p)-1]
	n, err := strconv.Atoi(string(p[:len(p)-1]))
	most := map[byte]int{'M': 120, 'D': 9999}[unit]
	return err == nil && n >= 1 && n <= most && strconv.Itoa(n)+string(unit) == string(p)
}

// PeriodOf returns the span from start to end, both days included: the nearest
// number of months if that is at most eight days off, which takes in the 13
// and 14 weeks of a quarter and the 52 and 53 weeks of a year; else the days.
// Without a start it is an instant.
func PeriodOf(start, end Date) Period {
	if start.IsZero() {
		return Instant
	}
	const month = 365.25 / 12
	days := math.Round(end.Time().Sub(start.Time()).Hours()/24) + 1
	months := math.Round(days / month)
	switch {
	case math.Abs(days-months*month) > 8 || months < 1 || months > 120:
		return Period(strconv.Itoa(int(days)) + "D")
	case months == 12:
		return FiscalYear
	}
	return Period(strconv.Itoa(int(months)) + "M")
}
