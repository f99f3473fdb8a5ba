package codec

import (
	"fmt"
	"strconv"
	"strings"
	"time"
)

// stamp is a time as it was written: a wall clock with or without an offset,
// a bare date, or an epoch number.
type stamp struct {
	year, month, day int
	hour, min, sec   int
	nsec             int
	hasTime          bool // the time of day was written
	hasOffset        bool
	offset           int // seconds east of UTC

	epoch     bool // unixSec and nsec hold the instant, the rest is unset
	unixSec   int64
	unixNanos int
}

// instant is the moment of a stamp that has an offset or is an epoch.
func (s *stamp) instant() time.Time {
	if s.epoch {
		return time.Unix(s.unixSec, int64(s.unixNanos)).UTC()
	}
	return s.wall().Add(-time.Duration(s.offset) * time.Second)
}

// wall is the clock as written, held in UTC.
func (s *stamp) wall() time.Time {
	return time.Date(s.year, time.Month(s.month), s.day, s.hour, s.min, s.sec, s.nsec, time.UTC)
}

// midnight reports a time of day written as exactly 00:00.
func (s *stamp) midnight() bool {
	return s.hasTime && s.hour == 0 && s.min == 0 && s.sec == 0 && s.nsec == 0
}

// parseStamp reads:
//
//	2020-11-27  2020/11/27  11/27/2020  20201127             dates
//	… T or spaces 9:30[:15[.123456]] [AM|PM] [Z|UTC|±hh[:mm]]  with a time
//	202011270930  20201127093015                             compact
//	1606487400  …000  …000000  …000000000                    epoch s, ms, µs, ns
//	Fri, 27 Nov 2020 09:30:15 GMT                            mail, HTTP, RSS
//
// Eight digits are a date, twelve and fourteen that begin with a year from 1900
// to 2199 a time. Slashes are month/day/year unless the year comes first. The unit of an epoch
// is told by its size: seconds up to 10^11, milliseconds up to 10^14,
// microseconds up to 10^17; fewer than nine digits are none, but 0 and negative
// ones. Fundamental forms are those of ISO 8601-1:2019; leap seconds are refused.
func parseStamp(text string) (stamp, error) {
	if s, ok := parseISO(text); ok {
		return s, nil
	}
	return parseLoose(text)
}

// parseLoose reads every form.
func parseLoose(text string) (stamp, error) {
	var s stamp
	text = strings.TrimSpace(text)
	date, rest := text, ""
	if cut := strings.IndexAny(text, "T "); cut > 0 {
		date, rest = text[:cut], strings.TrimLeft(text[cut+1:], " ")
		if rest == "" {
			return s, errTime(text, "ends after the date")
		}
	}
	if rest == "" && isNumber(date) {
		return parseNumericStamp(date)
	}
	if fault := s.setDate(date); fault != "" {
		if mail, ok := parseMailDate(text); ok {
			return mail, nil
		}
		return s, errTime(text, fault)
	}
	if rest != "" {
		if fault := s.setClock(rest); fault != "" {
			return s, errTime(text, fault)
		}
	}
	return s, nil
}

// parseISO reads the form that most files have, and no other: 2020-11-27, then
// perhaps T or a space and 09:30:15, a fraction of up to nine digits, and Z or ±hh:mm.
// What it does not take may still be a time.
func parseISO(text string) (s stamp, ok bool) {
	two := func(at int) int {
		a, b := text[at]-'0', text[at+1]-'0'
		if a > 9 || b > 9 {
			ok = false
		}
		return int(a)*10 + int(b)
	}
	if len(text) < 10 || text[4] != '-' || text[7] != '-' {
		return s, false
	}
	ok = true
	s.year, s.month, s.day = two(0)*100+two(2), two(5), two(8)
	if !ok || s.month < 1 || s.month > 12 || s.day < 1 || s.day > daysIn(s.year, s.month) {
		return stamp{}, false
	}
	if len(text) == 10 {
		return s, true
	}
	if len(text) < 19 || text[10] != 'T' && text[10] != ' ' || text[13] != ':' || text[16] != ':' {
		return stamp{}, false
	}
	s.hasTime = true
	s.hour, s.min, s.sec = two(11), two(14), two(17)
	if !ok || s.hour > 23 || s.min > 59 || s.sec > 59 {
		return stamp{}, false
	}
	at := 19
	if at < len(text) && text[at] == '.' {
		unit := 1_000_000_000
		for at++; at < len(text) && '0' <= text[at] && text[at] <= '9' && unit > 1; at++ {
			unit /= 10
			s.nsec += int(text[at]-'0') * unit
		}
		if unit == 1_000_000_000 {
			return stamp{}, false
		}
	}
	switch zone := text[at:]; {
	case zone == "":
	case zone == "Z":
		s.hasOffset = true
	case len(zone) == 6 && (zone[0] == '+' || zone[0] == '-') && zone[3] == ':':
		hours, minutes := two(at+1), two(at+4)
		if !ok || hours > 15 || minutes > 59 {
			return stamp{}, false
		}
		s.hasOffset, s.offset = true, hours*3600+minutes*60
		if zone[0] == '-' {
			s.offset = -s.offset
		}
	default:
		return stamp{}, false
	}
	return s, true
}

// parseMailDate reads a time as mail, HTTP and RSS write it (RFC 5322, section
// 3.3): Mon, 24 Feb 2025 09:24:42 GMT.
func parseMailDate(text string) (s stamp, ok bool) {
	for _, layout := range []string{"Mon, 2 Jan 2006 15:04:05 -0700", "Mon, 2 Jan 2006 15:04:05 GMT", "Mon, 2 Jan 2006 15:04:05 UTC"} {
		t, err := time.Parse(layout, text)
		if err != nil {
			continue
		}
		_, offset := t.Zone()
		s = stamp{hasTime: true, hasOffset: true, offset: offset, hour: t.Hour(), min: t.Minute(), sec: t.Second()}
		s.year, s.day = t.Year(), t.Day()
		s.month = int(t.Month())
		return s, true
	}
	return s, false
}

func errTime(text, fault string) error {
	return fmt.Errorf("%s %s", strconv.Quote(clip([]byte(text))), fault)
}

// isNumber reports an optional sign, digits and at most one point.
func isNumber(s string) bool {
	s = strings.TrimPrefix(s, "-")
	whole, fraction, _ := strings.Cut(s, ".")
	return whole != "" && allDigits(whole) && allDigits(fraction)
}

func allDigits(s string) bool {
	for i := range len(s) {
		if s[i] < '0' || s[i] > '9' {
			return false
		}
	}
	return true
}

func parseNumericStamp(text string) (stamp, error) {
	var s stamp
	whole, fraction, _ := strings.Cut(strings.TrimPrefix(text, "-"), ".")
	if !strings.HasPrefix(text, "-") {
		switch n := len(whole); {
		case n == 8 && strings.Trim(fraction, "0") == "":
			// Data frames write 20201127.0.
			if fault := s.setDate(whole); fault != "" {
				return s, errTime(text, fault)
			}
			return s, nil
		case (n == 12 || n == 14) && looksLikeYear(whole[:4]):
			fault := s.setDate(whole[:8])
			clock := whole[8:]
			if fraction != "" {
				clock += "." + fraction
			}
			if fault == "" {
				fault = s.setClock(clock)
			}
			if fault == "" {
				return s, nil
			}
			if n == 14 { // no epoch has so many digits and begins so before the year 2600
				return s, errTime(text, fault)
			}
		case n <= 8 && strings.Trim(whole+fraction, "0") != "":
			return s, errTime(text, "is too short for an epoch, and no date")
		}
		s = stamp{}
	}
	n, err := strconv.ParseInt(whole, 10, 64)
	if err != nil {
		return s, errTime(text, "is too large for an epoch")
	}
	// The parts below the unit come from the number itself and its fraction.
	unit := int64(1) // units a second
	switch {
	case n >= 1e17:
		unit = 1e9
	case n >= 1e14:
		unit = 1e6
	case n >= 1e11:
		unit = 1e3
	}
	nanos := n % unit * (1e9 / unit)
	digits := len(strconv.FormatInt(1e9/unit, 10)) - 1 // digits of a fraction that count
	if len(fraction) > digits {
		fraction = fraction[:digits]
	}
	if fraction != "" {
		f, _ := strconv.ParseInt(fraction, 10, 64)
		for range digits - len(fraction) {
			f *= 10
		}
		nanos += f
	}
	sec := n / unit
	if strings.HasPrefix(text, "-") {
		sec, nanos = -sec, -nanos
	}
	t := time.Unix(sec, nanos)
	return stamp{epoch: true, hasTime: true, hasOffset: true, unixSec: t.Unix(), unixNanos: t.Nanosecond()}, nil
}

func looksLikeYear(digits string) bool { return digits >= "1900" && digits < "2200" }

// setDate reads a date; it returns what is wrong with it, or "".
func (s *stamp) setDate(text string) string {
	var fields [3]string
	switch {
	case len(text) == 8 && allDigits(text):
		fields = [3]string{text[:4], text[4:6], text[6:]}
	default:
		separator := "-"
		if strings.Contains(text, "/") {
			separator = "/"
		}
		parts := strings.Split(text, separator)
		if len(parts) != 3 {
			return "is not a time"
		}
		fields = [3]string(parts)
		if separator == "/" && len(parts[2]) == 4 {
			fields = [3]string{parts[2], parts[0], parts[1]}
		}
	}
	if len(fields[0]) != 4 || !shortNumber(fields[1]) || !shortNumber(fields[2]) || !allDigits(fields[0]) {
		return "is not a time"
	}
	s.year, _ = strconv.Atoi(fields[0])
	s.month, _ = strconv.Atoi(fields[1])
	s.day, _ = strconv.Atoi(fields[2])
	if s.month < 1 || s.month > 12 {
		return fmt.Sprintf("has month %d; dates with slashes are read as month/day/year", s.month)
	}
	if s.day < 1 || s.day > daysIn(s.year, s.month) {
		return fmt.Sprintf("has day %d, which its month does not have", s.day)
	}
	return ""
}

func shortNumber(s string) bool { return (len(s) == 1 || len(s) == 2) && allDigits(s) }

func daysIn(year, month int) int {
	switch month {
	case 4, 6, 9, 11:
		return 30
	case 2:
		if year%4 == 0 && (year%100 != 0 || year%400 == 0) {
			return 29
		}
		return 28
	}
	return 31
}

// setClock reads a time of day with an optional offset; it returns what is
// wrong with it, or "".
func (s *stamp) setClock(text string) string {
	clock, fault := s.cutOffset(strings.TrimSpace(text))
	if fault != "" {
		return fault
	}
	clock, half := cutHalf(clock)
	var fraction string
	clock, fraction, _ = strings.Cut(clock, ".")
	var fields []string
	if allDigits(clock) && (len(clock) == 4 || len(clock) == 6) {
		for i := 0; i < len(clock); i += 2 {
			fields = append(fields, clock[i:i+2])
		}
	} else {
		fields = strings.Split(clock, ":")
	}
	if len(fields) < 2 || len(fields) > 3 || !allDigits(fraction) || (fraction != "" && len(fields) != 3) {
		return "is not a time"
	}
	for i, target := range []*int{&s.hour, &s.min, &s.sec}[:len(fields)] {
		if !shortNumber(fields[i]) || (i > 0 && len(fields[i]) != 2) {
			return "is not a time"
		}
		*target, _ = strconv.Atoi(fields[i])
	}
	switch {
	case half != "" && (s.hour < 1 || s.hour > 12), s.hour > 23, s.min > 59:
		return "has no such hour and minute"
	case s.sec == 60:
		return "has second 60; leap seconds cannot be kept"
	case s.sec > 59:
		return "has no such second"
	}
	if half != "" {
		s.hour %= 12
		if half == "PM" {
			s.hour += 12
		}
	}
	for i := range min(len(fraction), 9) {
		digit := int(fraction[i] - '0')
		for range 8 - i {
			digit *= 10
		}
		s.nsec += digit
	}
	s.hasTime = true
	return ""
}

// cutHalf takes AM or PM off the end.
func cutHalf(clock string) (rest, half string) {
	if len(clock) > 2 {
		tail := strings.ToUpper(clock[len(clock)-2:])
		if tail == "AM" || tail == "PM" {
			return strings.TrimSpace(clock[:len(clock)-2]), tail
		}
	}
	return clock, ""
}

// cutOffset takes a zone offset off the end of a time of day.
func (s *stamp) cutOffset(text string) (clock, fault string) {
	upper := strings.ToUpper(text)
	for _, utc := range []string{"Z", "UTC", "GMT"} {
		if strings.HasSuffix(upper, utc) {
			s.hasOffset = true
			return strings.TrimSpace(text[:len(text)-len(utc)]), ""
		}
	}
	at := strings.LastIndexAny(text, "+-")
	if at < 0 {
		return text, ""
	}
	digits := strings.ReplaceAll(text[at+1:], ":", "")
	if !allDigits(digits) || (len(digits) != 2 && len(digits) != 4) {
		return "", "has an offset that is not ±hh:mm"
	}
	hours, _ := strconv.Atoi(digits[:2])
	minutes := 0
	if len(digits) == 4 {
		minutes, _ = strconv.Atoi(digits[2:])
	}
	if hours > 15 || minutes > 59 {
		return "", "has an offset that is not ±hh:mm"
	}
	s.hasOffset = true
	s.offset = hours*3600 + minutes*60
	if text[at] == '-' {
		s.offset = -s.offset
	}
	return strings.TrimSpace(text[:at]), ""
}
