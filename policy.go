package mds

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Policy says how a store keeps the records of a kind, of bars those of one timeframe.
// What it does not say stays as it is: the zero value keeps all, as it came.
type Policy struct {
	// Kind is the kind's name, such as "bars".
	Kind string `json:"kind"`
	// Timeframe is that of bars, "" for other kinds.
	Timeframe Timeframe `json:"timeframe,omitempty"`
	// Partition is how much time a part of the table holds near the present, where the
	// engine has tables of parts: each is dropped and compressed as a whole. Zero leaves
	// the table as it is.
	Partition Age `json:"partition,omitzero"`
	// CompressAfter is the age from which on records are compressed, where the engine
	// does that by policy. Zero is never.
	CompressAfter Age `json:"compress_after,omitzero"`
	// DropAfter is the age from which on records are dropped. Zero is never.
	DropAfter Age `json:"drop_after,omitzero"`
	// Rollups are the longer bars that are kept of these, shortest first.
	Rollups []Timeframe `json:"rollups,omitempty"`
	// Zone is the time zone (IANA) whose days, weeks and months the rollups have. "" is
	// UTC.
	Zone string `json:"zone,omitempty"`
}

// Name is the kind, and the timeframe where it has one: "bars 1m".
func (p *Policy) Name() string { return strings.TrimSpace(p.Kind + " " + string(p.Timeframe)) }

// Location loads the zone.
func (p *Policy) Location() (*time.Location, error) { return time.LoadLocation(p.Zone) }

// Keeps reports that the policy asks for nothing.
func (p *Policy) Keeps() bool {
	return p.Partition.IsZero() && p.CompressAfter.IsZero() && p.DropAfter.IsZero() && len(p.Rollups) == 0
}

// Equal reports whether two policies say the same.
func (p *Policy) Equal(q *Policy) bool {
	a, b := *p, *q
	a.Rollups, b.Rollups = nil, nil
	return fmt.Sprint(a) == fmt.Sprint(b) && slices.Equal(p.Rollups, q.Rollups)
}

// Validate reports every fault, as an [*InvalidError].
func (p *Policy) Validate() error {
	var f faults
	if !slices.Contains([]string{"bars", "options", "fundamentals", "news"}, p.Kind) {
		f.add("kind", fmt.Sprintf("%q has no policies", p.Kind))
	}
	if (p.Kind == "bars") != p.Timeframe.Valid() {
		f.add("timeframe", fmt.Sprintf("%q is not one of %s", string(p.Timeframe), p.Kind))
	}
	for i, to := range p.Rollups {
		switch {
		case !slices.Contains(RollupTimeframes(), to):
			f.add("rollups", fmt.Sprintf("%q is not one of %s", string(to), joinTimeframes(RollupTimeframes())))
		case !p.Timeframe.Fits(to):
			f.add("rollups", fmt.Sprintf("%s do not make up bars of %s", p.Name(), to))
		case i > 0 && slices.Index(Timeframes(), to) <= slices.Index(Timeframes(), p.Rollups[i-1]):
			f.add("rollups", "list them shortest first, each once")
		}
	}
	if _, err := p.Location(); err != nil || p.Zone == "Local" {
		f.add("zone", fmt.Sprintf("%q is no time zone: write one such as America/New_York", p.Zone))
	}
	return f.err()
}

// RollupTimeframes are the timeframes that rollups may have, shortest first.
func RollupTimeframes() []Timeframe {
	return []Timeframe{"1m", "5m", "10m", "15m", "30m", "1h", "2h", "4h", "1d", "1w", "1mo"}
}

// DefaultPolicies are those of a store for which nothing else is said: minutes have
// rollups, bars and options are compressed after 90 days and news after 30, and nothing
// is dropped.
func DefaultPolicies() []Policy {
	quarter := Age{90, 'd'}
	var policies []Policy
	for _, tf := range Timeframes() {
		p := Policy{Kind: "bars", Timeframe: tf, CompressAfter: quarter}
		if tf == Minute {
			p.Rollups = []Timeframe{Minute5, "15m", Hour, Day}
		}
		policies = append(policies, p)
	}
	return append(policies, Policy{Kind: "options", CompressAfter: quarter}, Policy{Kind: "fundamentals"}, Policy{Kind: "news", CompressAfter: Age{30, 'd'}})
}

// SortPolicies sorts policies by kind, those of bars by timeframe, in the order of
// [DefaultPolicies].
func SortPolicies(list []PolicyStatus) []PolicyStatus {
	kinds := []string{"bars", "options", "fundamentals", "news"}
	slices.SortFunc(list, func(a, b PolicyStatus) int {
		return cmp.Or(
			cmp.Compare(slices.Index(kinds, a.Kind), slices.Index(kinds, b.Kind)),
			cmp.Compare(slices.Index(Timeframes(), a.Timeframe), slices.Index(Timeframes(), b.Timeframe)))
	})
	return list
}

// Age is how long ago something was, by the calendar: hours (h), days (d), weeks (w),
// months (M) or years (y).
type Age struct {
	N    int
	Unit byte
}

// ageUnits are the units as they are written.
var ageUnits = map[byte]string{'h': "h", 'd': "d", 'w': "w", 'M': "mo", 'y': "y"}

// ParseAge reads an age such as 36h, 90d, 6w, 18mo or 2y; "never" is zero.
func ParseAge(text string) (Age, error) {
	if text == "never" {
		return Age{}, nil
	}
	digits := strings.TrimRight(text, "abcdefghijklmnopqrstuvwxyz")
	n, err := strconv.Atoi(digits)
	const most = 100_000
	for unit, name := range ageUnits {
		if err == nil && n > 0 && n <= most && text == strconv.Itoa(n)+name {
			return Age{n, unit}, nil
		}
	}
	return Age{}, fmt.Errorf("%q is no age: write one such as 36h, 90d, 6w, 18mo or 2y, or never", text)
}

// IsZero reports that nothing is that old.
func (a Age) IsZero() bool { return a.N == 0 }

// Before is the instant that long before t.
func (a Age) Before(t time.Time) time.Time { return a.add(t, -a.N) }

// After is the instant that long after t.
func (a Age) After(t time.Time) time.Time { return a.add(t, a.N) }

func (a Age) add(t time.Time, n int) time.Time {
	switch a.Unit {
	case 'h':
		return t.Add(time.Duration(n) * time.Hour)
	case 'd':
		return t.AddDate(0, 0, n)
	case 'w':
		return t.AddDate(0, 0, 7*n)
	case 'M':
		return addMonths(t, n)
	case 'y':
		return addMonths(t, 12*n)
	}
	return t
}

// addMonths adds months to a time, to the last day of one that is too short.
func addMonths(t time.Time, n int) time.Time {
	moved := t.AddDate(0, n, 0)
	if moved.Day() != t.Day() {
		return moved.AddDate(0, 0, -moved.Day())
	}
	return moved
}

// String writes the age as [ParseAge] reads it.
func (a Age) String() string {
	if a.IsZero() {
		return "never"
	}
	return strconv.Itoa(a.N) + ageUnits[a.Unit]
}

// MarshalText writes the age as [ParseAge] reads it.
func (a Age) MarshalText() ([]byte, error) { return []byte(a.String()), nil }

// UnmarshalText reads what [ParseAge] reads.
func (a *Age) UnmarshalText(text []byte) (err error) {
	*a, err = ParseAge(string(text))
	return err
}

// Abilities are what of policies an engine carries out beside rollups and retention.
type Abilities struct {
	Partition, Compress bool
	// WhyNot says why it does not compress.
	WhyNot string
}

// Step is something that policies ask for and that is to be done, or was.
type Step struct {
	// Action is one of the Step… constants.
	Action string `json:"action"`
	// Tenant is the slug of the one it is for, "" for all that share the table.
	Tenant string `json:"tenant,omitempty"`
	// Policy is the one that asks for it.
	Policy Policy `json:"policy"`
	// Rollup is the timeframe of rollups that are begun or ended.
	Rollup Timeframe `json:"rollup,omitempty"`
	// Before is the end of what is dropped or compressed.
	Before time.Time `json:"before,omitzero"`
	// Rows are those that are dropped, compressed or read, and Bytes what they take on the
	// disk, roughly.
	Rows  int64 `json:"rows"`
	Bytes int64 `json:"bytes,omitempty"`
	// Note is what one should know of it.
	Note string `json:"note,omitempty"`

	first, moved bool // it begins the first rollups, or days of another zone
	// Irreplaceable tells that what is taken away cannot be made again, since the bars that
	// it was made of are dropped.
	Irreplaceable bool `json:"irreplaceable,omitempty"`
}

// The actions of steps.
const (
	// StepKeep says that a policy is kept that was another, or none.
	StepKeep = "keep"
	// StepRollup begins rollups, which are made by and by.
	StepRollup = "roll up"
	// StepUnroll removes rollups that are no longer asked for.
	StepUnroll = "remove rollups"
	// StepRefresh makes rollups of what changed.
	StepRefresh = "refresh"
	// StepDrop removes what is older than it is kept.
	StepDrop = "drop"
	// StepCompress compresses what is old.
	StepCompress = "compress"
	// StepPartition makes a table one of parts.
	StepPartition = "partition"
)

// FirstRollups reports whether steps begin rollups of bars that had none.
func FirstRollups(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.first })
}

// MovedRollups reports whether steps begin days of another zone, beside which those of before
// are to be removed.
func MovedRollups(steps []Step) bool {
	return slices.ContainsFunc(steps, func(s Step) bool { return s.moved })
}

// Destroys reports whether the step takes something away.
func (s *Step) Destroys() bool { return s.Action == StepDrop || s.Action == StepUnroll }

// ErrNotRefreshed is wrapped by the refusal to drop bars of which rollups are not made yet.
var ErrNotRefreshed = errors.New("rollups are not made yet of what is to be dropped")

// ErrPolicyChanged is wrapped by the refusal to do what a policy asked for that is in force no
// longer.
var ErrPolicyChanged = errors.New("the policy in force does not ask for this any more")

// Cutoff is the time before which records of a policy are dropped at some time: the start
// of a day (UTC), or before it, where all its rollups begin, so that none is left of which
// only a part of the bars is there. Zero is none.
func (p *Policy) Cutoff(now time.Time) time.Time {
	if p.DropAfter.IsZero() {
		return time.Time{}
	}
	cutoff := Day.Truncate(p.DropAfter.Before(now.UTC()))
	// One that is not over may get more bars yet.
	for _, to := range p.Rollups {
		if start, _ := to.Span(now, p.zone()); start.Before(cutoff) {
			cutoff = start.UTC()
		}
	}
	return p.align(cutoff, func(start, _ time.Time) time.Time { return start })
}

// AlignUp is the first time, at a time or after it, at which all rollups begin.
func (p *Policy) AlignUp(t time.Time) time.Time {
	return p.align(t, func(_, end time.Time) time.Time { return end })
}

// align moves a time to an end of the rollups that hold it, until it is within none.
func (p *Policy) align(t time.Time, to func(start, end time.Time) time.Time) time.Time {
	for moved := true; moved; {
		moved = false
		for _, tf := range p.Rollups {
			if start, end := tf.Span(t, p.zone()); start.Before(t) {
				t, moved = to(start, end).UTC(), true
			}
		}
	}
	return t
}

// zone is that of the rollups' days.
func (p *Policy) zone() *time.Location {
	zone, err := p.Location()
	if err != nil || p.Timeframe.Calendar() { // which are dates, whatever the zone
		return time.UTC
	}
	return zone
}

// ChangesTo are the steps from the policy in force to another one. It is told the rollups
// of a timeframe that there are, and the bars that new ones are made of.
func (s *PolicyStatus) ChangesTo(p *Policy, rollups func(Timeframe) (int64, error), bars func() (int64, error)) ([]Step, error) {
	if s.Equal(p) {
		return nil, nil
	}
	steps := []Step{{Action: StepKeep, Policy: *p}}
	if p.Keeps() {
		steps[0].Note = "nothing is asked for any more"
	}
	for _, to := range s.Rollups {
		if slices.Contains(p.Rollups, to) {
			continue
		}
		n, err := rollups(to)
		if err != nil {
			return nil, err
		}
		step := Step{Action: StepUnroll, Policy: *p, Rollup: to, Rows: n}
		if !s.KeptFrom.IsZero() && n > 0 {
			step.Irreplaceable = true
			step.Note = "bars before " + s.KeptFrom.Format(time.DateOnly) + " are dropped: what was made of them cannot be made again"
		}
		steps = append(steps, step)
	}
	for _, to := range p.Rollups {
		moved := to.Calendar() && !p.Timeframe.Calendar() && s.Zone != p.Zone
		had := slices.Contains(s.Rollups, to)
		if had && !moved {
			continue
		}
		if had && moved && !s.KeptFrom.IsZero() {
			return nil, &InvalidError{[]Fault{{Field: "zone", Reason: fmt.Sprintf("rollups of %s to %s are those of %s, and bars before %s are dropped, of which others could be made", s.Name(), to, cmp.Or(s.Zone, "UTC"), s.KeptFrom.Format(time.DateOnly))}}}
		}
		n, err := bars()
		if err != nil {
			return nil, err
		}
		step := Step{Action: StepRollup, Policy: *p, Rollup: to, Rows: n, first: len(s.Rollups) == 0, moved: had && moved}
		if !s.KeptFrom.IsZero() && len(s.Rollups) > 0 {
			step.Note = "bars before " + s.KeptFrom.Format(time.DateOnly) + " are dropped: there will be none of them"
		}
		steps = append(steps, step)
	}
	return steps, nil
}

// Detail says what the step is about, in a line.
func (s *Step) Detail() string {
	var parts []string
	if s.Rollup != "" {
		parts = append(parts, string(s.Rollup))
	}
	if !s.Before.IsZero() {
		parts = append(parts, "before "+s.Before.UTC().Format(time.DateOnly))
	}
	if s.Rows > 0 {
		parts = append(parts, strconv.FormatInt(s.Rows, 10)+" rows")
	}
	if s.Note != "" {
		parts = append(parts, s.Note)
	}
	return strings.Join(parts, ", ")
}

// NoteLate notes how many of the rows that are dropped were as old when they came.
func (s *Step) NoteLate(rows int64) {
	if rows > 0 {
		s.Note = fmt.Sprintf("%d of them came when they were that old already: data comes later than it is kept", rows)
	}
}

// AuditLine is a note of something that cannot be undone.
type AuditLine struct {
	At     time.Time `json:"at"`
	Login  string    `json:"login"`
	Action string    `json:"action"`
	About  string    `json:"about"`
	Detail string    `json:"detail"`
}

// NewestLines sorts lines, the newest first, and keeps so many of them.
func NewestLines(lines []AuditLine, limit int) []AuditLine {
	slices.SortStableFunc(lines, func(a, b AuditLine) int { return b.At.Compare(a.At) })
	return lines[:min(len(lines), limit)]
}

// MergePolicies adds the status of a policy to a list, to that of the same policy of
// another tenant where there is one.
func MergePolicies(list []PolicyStatus, add PolicyStatus) []PolicyStatus {
	for i := range list {
		p := &list[i]
		if p.Name() != add.Name() {
			continue
		}
		p.Stale += add.Stale
		if p.StaleSince.IsZero() || !add.StaleSince.IsZero() && add.StaleSince.Before(p.StaleSince) {
			p.StaleSince = add.StaleSince
		}
		if add.RefreshedAt.Before(p.RefreshedAt) { // which is never, if zero
			p.RefreshedAt = add.RefreshedAt
		}
		if add.KeptFrom.After(p.KeptFrom) {
			p.KeptFrom = add.KeptFrom
		}
		return list
	}
	return append(list, add)
}
