package codec

import (
	"fmt"
	"time"
)

// zone turns wall clocks of one location into instants. It remembers the
// period of constant offset last used, since neighbouring rows share it.
type zone struct {
	location *time.Location

	// Wall clocks in [from, to), as Unix seconds, have offset and no twin.
	from, to int64
	offset   int64
}

// margin is more than any change of any zone's offset.
const margin = 26 * 3600

// instant returns the moment at which the location's clocks show wall.
// Where they show it twice it is the first, and ambiguous is true; where they
// skip it there is an error.
func (z *zone) instant(wall time.Time) (t time.Time, ambiguous bool, err error) {
	seconds := wall.Unix()
	if z.from <= seconds && seconds < z.to {
		return wall.Add(-time.Duration(z.offset) * time.Second), false, nil
	}
	// Every offset in force near the wall clock is a candidate; those under
	// which the clock indeed shows wall are answers.
	var answers []time.Time
	probe := wall.Add(-margin * time.Second).In(z.location)
	for {
		start, end := probe.ZoneBounds()
		_, offset := probe.Zone()
		answer := wall.Add(-time.Duration(offset) * time.Second)
		if !answer.Before(start) && (end.IsZero() || answer.Before(end)) {
			answers = append(answers, answer)
			z.remember(start, end, int64(offset))
		}
		if end.IsZero() || end.After(wall.Add(margin*time.Second)) {
			break
		}
		probe = end
	}
	if len(answers) == 0 {
		return time.Time{}, false, fmt.Errorf("%s does not exist in %s, whose clocks skipped it",
			wall.Format("2006-01-02 15:04:05"), z.location)
	}
	return answers[0], len(answers) > 1, nil
}

// remember keeps the part of a period of constant offset that is clear of the
// changes at its ends.
func (z *zone) remember(start, end time.Time, offset int64) {
	const farPast, farFuture = -1 << 40, 1 << 40
	z.from, z.to, z.offset = farPast, farFuture, offset
	if !start.IsZero() {
		z.from = start.Unix() + offset + margin
	}
	if !end.IsZero() {
		z.to = end.Unix() + offset - margin
	}
}

// ParseTime reads a time in any form that files may use (see [NewDecoder]). A
// bare date is its midnight. A time without an offset is of the given zone; nil
// means UTC. The result shows the clock that was written.
func ParseTime(text string, location *time.Location) (time.Time, error) {
	s, err := parseStamp(text)
	if err != nil {
		return time.Time{}, err
	}
	if s.epoch {
		return s.instant(), nil
	}
	if s.hasOffset {
		return s.instant().In(time.FixedZone("", s.offset)), nil
	}
	if location == nil {
		location = time.UTC
	}
	z := zone{location: location}
	t, _, err := z.instant(s.wall())
	return t.In(location), err
}

// HasTimeOfDay reports whether a text that ParseTime reads says a time of day,
// and not a date alone.
func HasTimeOfDay(text string) bool {
	s, err := parseStamp(text)
	return err == nil && (s.hasTime || s.epoch)
}

// ParseInstant reads a time in any form that files may use as a moment. A time
// without an offset is of the given zone; where that is nil, it fails with a
// [*SetupError].
func ParseInstant(text string, location *time.Location) (time.Time, error) {
	s, err := parseStamp(text)
	if err != nil {
		return time.Time{}, err
	}
	if !s.hasOffset && s.hasTime && location == nil {
		return time.Time{}, noZone(text)
	}
	return ParseTime(text, location)
}

// noZone is a time without an offset in a file without a zone.
func noZone(text string) *SetupError {
	return &SetupError{Reason: fmt.Sprintf("%q has no time zone; name the file's zone with --tz, such as --tz America/New_York or --tz UTC", text)}
}
