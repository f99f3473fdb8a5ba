// Package policyfile reads and writes what a store's policies are in a file:
//
//	zone = "America/New_York"      # whose days the rollups have; UTC where it is not said
//
//	[bars]                         # of all timeframes that have no say of their own
//	compress_after = "90d"
//
//	[bars.1m]
//	drop_after = "2y"
//	rollups    = ["5m", "15m", "1h", "1d"]
//
//	[options]
//	compress_after = "90d"
//
// It is TOML (https://toml.io/en/v1.0.0). Ages are those of [mds.ParseAge].
package policyfile

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/pelletier/go-toml/v2"

	"github.com/marketdatastore/mds"
)

// kept are the settings of a kind, as they are written.
type kept struct {
	Partition     *string `toml:"partition"`
	CompressAfter *string `toml:"compress_after"`
	DropAfter     *string `toml:"drop_after"`
}

// settings are those of a timeframe of bars.
type settings struct {
	kept
	Rollups *[]mds.Timeframe `toml:"rollups"`
}

// ofBars are those of bars: one table a timeframe, and what holds for the others.
type ofBars struct {
	kept
	S1  settings `toml:"1s"`
	S5  settings `toml:"5s"`
	S10 settings `toml:"10s"`
	S15 settings `toml:"15s"`
	S30 settings `toml:"30s"`
	M1  settings `toml:"1m"`
	M2  settings `toml:"2m"`
	M3  settings `toml:"3m"`
	M5  settings `toml:"5m"`
	M10 settings `toml:"10m"`
	M15 settings `toml:"15m"`
	M30 settings `toml:"30m"`
	H1  settings `toml:"1h"`
	H2  settings `toml:"2h"`
	H3  settings `toml:"3h"`
	H4  settings `toml:"4h"`
	H6  settings `toml:"6h"`
	H8  settings `toml:"8h"`
	H12 settings `toml:"12h"`
	D1  settings `toml:"1d"`
	W1  settings `toml:"1w"`
	Mo1 settings `toml:"1mo"`
}

// byTimeframe are the settings in the order of [mds.Timeframes].
func (b *ofBars) byTimeframe() []*settings {
	return []*settings{
		&b.S1, &b.S5, &b.S10, &b.S15, &b.S30,
		&b.M1, &b.M2, &b.M3, &b.M5, &b.M10, &b.M15, &b.M30,
		&b.H1, &b.H2, &b.H3, &b.H4, &b.H6, &b.H8, &b.H12,
		&b.D1, &b.W1, &b.Mo1,
	}
}

// file is the whole file.
type file struct {
	Zone         string `toml:"zone"`
	Bars         ofBars `toml:"bars"`
	Options      kept   `toml:"options"`
	Fundamentals kept   `toml:"fundamentals"`
	News         kept   `toml:"news"`
}

// Read reads policies; what the text does not say is not asked for. An error names the
// line where it can.
func Read(text []byte) ([]mds.Policy, error) {
	var f file
	if err := toml.NewDecoder(bytes.NewReader(text)).DisallowUnknownFields().Decode(&f); err != nil {
		return nil, readError(err)
	}
	if !bytes.Contains(text, []byte("[")) { // most often what is left of a command that failed
		return nil, errors.New("the file says nothing: [bars] alone asks for nothing any more")
	}
	var policies []mds.Policy
	for i, s := range f.Bars.byTimeframe() {
		p := mds.Policy{Kind: "bars", Timeframe: mds.Timeframes()[i]}
		if err := errors.Join(f.Bars.apply(&p, text, "bars"), s.apply(&p, text, "bars."+string(p.Timeframe))); err != nil {
			return nil, firstOf(err)
		}
		if s.Rollups != nil && len(*s.Rollups) > 0 {
			p.Rollups, p.Zone = *s.Rollups, f.Zone
		}
		policies = append(policies, p)
	}
	for _, k := range []struct {
		name string
		kept
	}{{"options", f.Options}, {"fundamentals", f.Fundamentals}, {"news", f.News}} {
		p := mds.Policy{Kind: k.name}
		if err := k.apply(&p, text, k.name); err != nil {
			return nil, err
		}
		policies = append(policies, p)
	}
	for i := range policies {
		p := &policies[i]
		var invalid *mds.InvalidError
		if err := p.Validate(); errors.As(err, &invalid) {
			table := strings.ReplaceAll(p.Name(), " ", ".")
			field := invalid.Faults[0].Field
			if field == "zone" {
				return nil, fmt.Errorf("line %d: zone: %s", lineOf(text, "", "zone"), invalid.Faults[0].Reason)
			}
			return nil, fmt.Errorf("line %d: [%s] %s: %s", lineOf(text, table, field), table, field, invalid.Faults[0].Reason)
		}
	}
	return policies, nil
}

// apply puts what a table of the file says into a policy.
func (k kept) apply(p *mds.Policy, text []byte, table string) error {
	for _, s := range []struct {
		name string
		from *string
		to   *mds.Age
	}{{"partition", k.Partition, &p.Partition}, {"compress_after", k.CompressAfter, &p.CompressAfter}, {"drop_after", k.DropAfter, &p.DropAfter}} {
		if s.from == nil {
			continue
		}
		var err error
		if *s.to, err = mds.ParseAge(*s.from); err != nil {
			return fmt.Errorf("line %d: [%s] %s: %w", lineOf(text, table, s.name), table, s.name, err)
		}
	}
	return nil
}

// firstOf is the first of joined errors.
func firstOf(err error) error {
	var joined interface{ Unwrap() []error }
	if errors.As(err, &joined) {
		return joined.Unwrap()[0]
	}
	return err
}

// readError says what is wrong with the text, and where.
func readError(err error) error {
	var unknown *toml.StrictMissingError
	if errors.As(err, &unknown) && len(unknown.Errors) > 0 {
		first := &unknown.Errors[0]
		row, _ := first.Position()
		key := strings.Join(first.Key(), ".")
		hint := "tables are [bars], [bars.1m] and the other timeframes, [options], [fundamentals] and [news]; they have partition, compress_after and drop_after, those of a timeframe rollups, too"
		return fmt.Errorf("line %d: there is no setting %s: %s", row, key, hint)
	}
	var wrong *toml.DecodeError
	if errors.As(err, &wrong) {
		row, _ := wrong.Position()
		where := fmt.Sprintf("line %d", row)
		if key := strings.Join(wrong.Key(), "."); key != "" {
			where += ": " + key
		}
		if _, of, ok := strings.Cut(wrong.Error(), "cannot decode TOML "); ok {
			kind, _, _ := strings.Cut(of, " ")
			return fmt.Errorf("%s: %s is not what goes there: ages are texts such as %q, rollups lists of texts", where, kind, "90d")
		}
		return fmt.Errorf("%s: %s", where, strings.TrimPrefix(wrong.Error(), "toml: "))
	}
	return err
}

// lineOf finds the line of a setting of a table, or that of the table.
func lineOf(text []byte, table, setting string) int {
	in, line := "", 1
	for i, l := range strings.Split(string(text), "\n") {
		l = strings.TrimSpace(l)
		if strings.HasPrefix(l, "[") {
			name, _, _ := strings.Cut(strings.TrimPrefix(l, "["), "]")
			in = strings.NewReplacer(`"`, "", " ", "").Replace(name)
			if in == table {
				line = i + 1
			}
		}
		if key, _, ok := strings.Cut(l, "="); ok && in == table && strings.TrimSpace(key) == setting {
			return i + 1
		}
	}
	return line
}

// Text writes policies as [Read] reads them: settings that all timeframes of bars share
// once. Kinds that have no policy are left out.
func Text(policies []mds.Policy) string {
	var b strings.Builder
	policies = withOthers(policies)
	common := shared(policies)
	for _, p := range policies {
		if p.Zone != "" {
			fmt.Fprintf(&b, "zone = %q\n\n", p.Zone)
			break
		}
	}
	write := func(table string, p, but *mds.Policy) {
		var lines []string
		for _, s := range []struct {
			name     string
			age, but mds.Age
		}{{"partition", p.Partition, but.Partition}, {"compress_after", p.CompressAfter, but.CompressAfter}, {"drop_after", p.DropAfter, but.DropAfter}} {
			if s.age != s.but {
				lines = append(lines, fmt.Sprintf("%-14s = %q\n", s.name, s.age))
			}
		}
		if len(p.Rollups) > 0 {
			lines = append(lines, fmt.Sprintf("%-14s = [%s]\n", "rollups", quoted(p.Rollups)))
		}
		if lines != nil {
			fmt.Fprintf(&b, "[%s]\n%s\n", table, strings.Join(lines, ""))
		}
	}
	write("bars", &common, &mds.Policy{})
	for i := range policies {
		p := &policies[i]
		if p.Kind == "bars" {
			write("bars."+string(p.Timeframe), p, &common)
		} else {
			write(p.Kind, p, &mds.Policy{})
		}
	}
	if b.Len() == 0 {
		return "[bars]\n" // nothing is asked for
	}
	return strings.TrimSuffix(b.String(), "\n")
}

// withOthers adds the timeframes of bars that are not among policies, of which nothing is asked
// for: what others have in common must not be theirs.
func withOthers(policies []mds.Policy) []mds.Policy {
	all := slices.Clone(policies)
	for _, tf := range mds.Timeframes() {
		if !slices.ContainsFunc(policies, func(p mds.Policy) bool { return p.Kind == "bars" && p.Timeframe == tf }) {
			all = append(all, mds.Policy{Kind: "bars", Timeframe: tf})
		}
	}
	return all
}

// shared is what most timeframes of bars have in common.
func shared(policies []mds.Policy) (common mds.Policy) {
	type ages struct{ partition, compress, drop mds.Age }
	counts := make(map[ages]int)
	for _, p := range policies {
		if p.Kind != "bars" {
			continue
		}
		a := ages{p.Partition, p.CompressAfter, p.DropAfter}
		if counts[a]++; counts[a] > counts[ages{common.Partition, common.CompressAfter, common.DropAfter}] {
			common.Partition, common.CompressAfter, common.DropAfter = a.partition, a.compress, a.drop
		}
	}
	return common
}

func quoted(timeframes []mds.Timeframe) string {
	names := make([]string, len(timeframes))
	for i, tf := range timeframes {
		names[i] = fmt.Sprintf("%q", string(tf))
	}
	return strings.Join(names, ", ")
}
