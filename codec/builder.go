package codec

import (
	"bytes"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// builder makes records of the fields of rows: what the formats share. A row
// goes through begin, setText for each field and finish.
type builder[R mds.Record[R]] struct {
	schema    mds.Schema[R]
	opt       Options
	fixed     R       // what options and defaults give to every record
	given     []bool  // columns that fixed has
	timeAt    int     // index of the time column
	fixedTime string  // of the time column, which hangs on the timeframe
	words     []words // by column
	zone      *zone
	number    numbers
	warnings  map[string]int64

	values   []int // indices of the value columns
	needed   []int // of those that have to have a number
	lastTime timeOf

	// The row being read.
	set      []bool // columns that have a value
	timeText []byte
	odd      []string // warnings
	faults   []mds.Fault
	setup    *SetupError
}

// words are the values of an identity column by how they were written, so that
// a symbol costs one string, not one a row. Quoted ones are apart: they are
// never taken for missing.
type words [2]map[string]string

// maxWords bounds what is remembered of a column.
const maxWords = 1 << 16

func newBuilder[R mds.Record[R]](opt Options) (*builder[R], error) {
	b := &builder[R]{schema: mds.SchemaOf[R](), opt: opt, warnings: make(map[string]int64)}
	b.given = make([]bool, len(b.schema.Columns))
	b.set = make([]bool, len(b.schema.Columns))
	b.words = make([]words, len(b.schema.Columns))
	for i := range b.schema.Columns {
		c := &b.schema.Columns[i]
		if c.Role == mds.Time {
			b.timeAt = i
		}
		if c.Role == mds.Value {
			b.values = append(b.values, i)
		}
		if !c.Optional() && (c.Float != nil || c.Decimal != nil) {
			b.needed = append(b.needed, i)
		}
	}
	if opt.Zone != nil {
		b.zone = &zone{location: opt.Zone}
	}
	for _, name := range sortedKeys(opt.Fixed) {
		if b.schema.Lookup(name) == nil {
			return nil, &SetupError{Reason: fmt.Sprintf("%s have no column %q; they have %s", b.schema.Kind, name, strings.Join(columnNames(&b.schema), ", "))}
		}
	}
	return b, nil
}

// fix gives every record the fixed values, and the defaults of the columns
// that no field feeds.
func (b *builder[R]) fix(fed func(column string) bool) error {
	for i := range b.schema.Columns {
		c := &b.schema.Columns[i]
		value, ok := b.opt.Fixed[c.Name]
		if !ok {
			value, ok = c.Default, c.Default != "" && !fed(c.Name)
		}
		if !ok {
			continue
		}
		if i == b.timeAt {
			if _, err := parseStamp(value); err != nil {
				return &SetupError{Reason: "--" + flagName(c.Name) + ": " + err.Error()}
			}
			b.fixedTime = value
		} else if err := c.SetText(&b.fixed, value); err != nil {
			return &SetupError{Reason: "--" + flagName(c.Name) + ": " + err.Error()}
		}
		b.given[i] = true
	}
	return nil
}

// flagName is the flag of the command line that gives a column its value.
func flagName(column string) string { return strings.ReplaceAll(column, "_", "-") }

// begin starts a record.
func (b *builder[R]) begin(record *R) {
	*record = b.fixed
	copy(b.set, b.given)
	b.timeText = append(b.timeText[:0], b.fixedTime...)
	b.faults, b.odd = b.faults[:0], b.odd[:0]
}

func (b *builder[R]) fault(field, reason string) {
	if reason != "" {
		b.faults = append(b.faults, mds.Fault{Field: field, Reason: reason})
	}
}

// faulty reports a field of the row that has a fault already.
func (b *builder[R]) faulty(field string) bool {
	return slices.ContainsFunc(b.faults, func(have mds.Fault) bool { return have.Field == field })
}

// setText gives a column its value as it was written. A literal text, one that
// was quoted, is not taken for a missing value.
func (b *builder[R]) setText(record *R, column int, raw []byte, literal bool) {
	c := &b.schema.Columns[column]
	if c.Text != nil || c.List != nil || c.Metrics != nil {
		b.setWords(record, column, raw, literal)
		return
	}
	cell := bytes.TrimSpace(raw)
	if missing(cell) {
		return // what is required says so in the end
	}
	b.set[column] = true
	switch {
	case column == b.timeAt:
		b.timeText = append(b.timeText[:0], cell...)
	case c.OptInt != nil:
		v, fault := b.number.whole(cell)
		b.fault(c.Name, fault)
		*c.OptInt(record) = mds.Some(v)
	case c.OptFloat != nil:
		v, fault := b.number.float(cell)
		b.fault(c.Name, fault)
		*c.OptFloat(record) = mds.Some(v)
	case c.Float != nil:
		v, fault := b.number.float(cell)
		b.fault(c.Name, fault)
		*c.Float(record) = v
	case c.Decimal != nil:
		digits, ok := b.number.plain(cell)
		if !ok {
			digits = cell
		}
		v, err := mds.ParseDecimal(string(digits))
		b.fault(c.Name, errorText(err))
		*c.Decimal(record) = v
	case c.Date != nil:
		s, err := parseStamp(string(cell))
		b.fault(c.Name, errorText(err))
		*c.Date(record) = dateOf(&s)
	case c.Time != nil:
		s, err := parseStamp(string(cell))
		if err == nil {
			*c.Time(record), err = b.instant(&s, string(cell))
		}
		var setup *SetupError
		if errors.As(err, &setup) && b.setup == nil {
			setup.Field = c.Name
			b.setup = setup
			return
		}
		b.fault(c.Name, errorText(err))
	}
}

// setWords gives a column of text, a list or metrics its value.
func (b *builder[R]) setWords(record *R, column int, raw []byte, literal bool) {
	c := &b.schema.Columns[column]
	known := &b.words[column][0]
	if literal {
		known = &b.words[column][1]
	}
	if text, ok := (*known)[string(raw)]; ok {
		*c.Text(record) = text
		b.set[column] = true
		return
	}
	if !utf8.Valid(raw) {
		b.fault(c.Name, strconv.Quote(clip(raw))+" is not valid UTF-8")
		return
	}
	if len(raw) == 0 || !literal && missingText(bytes.TrimSpace(raw)) {
		return
	}
	text := string(raw)
	var err error
	switch {
	case c.Text == nil:
		err = c.SetText(record, text)
	case c.Parse != nil:
		text, err = c.Parse(text)
	}
	if err != nil {
		b.fault(c.Name, err.Error())
		return
	}
	b.set[column] = true
	if c.Text == nil {
		return
	}
	*c.Text(record) = text
	if c.Role == mds.Identity {
		if *known == nil || len(*known) >= maxWords {
			*known = make(map[string]string)
		}
		(*known)[string(raw)] = text
	}
}

func errorText(err error) string {
	if err == nil {
		return ""
	}
	return err.Error()
}

// finish completes a record: time, validity, stored form, warnings. It returns
// a [*SetupError] without its line, or the faults as an [*mds.InvalidError].
func (b *builder[R]) finish(record *R) error {
	if b.setup != nil {
		return b.setup
	}
	if err := b.finishTime(record); err != nil {
		return err
	}
	if err := b.validate(record); err != nil {
		return err
	}
	if b.schema.Warning != nil {
		if warning := b.schema.Warning(record); warning != "" {
			b.warnings[warning]++
		}
	}
	b.schema.Normalize(record)
	if b.empty() {
		b.warnings["without any value"]++
	}
	for _, warning := range b.odd {
		b.warnings[warning]++
	}
	return nil
}

// empty reports a record whose key alone was given.
func (b *builder[R]) empty() bool {
	for _, i := range b.values {
		if b.set[i] {
			return false
		}
	}
	return true
}

// validate joins what could not be read with what is not valid.
func (b *builder[R]) validate(record *R) error {
	for _, i := range b.needed {
		// Zero does not tell that these are missing.
		if c := &b.schema.Columns[i]; !b.set[i] && !b.faulty(c.Name) {
			b.fault(c.Name, "is missing")
		}
	}
	err := b.schema.Validate(record)
	if err == nil && len(b.faults) == 0 {
		return nil
	}
	var invalid *mds.InvalidError
	if errors.As(err, &invalid) {
		unread := len(b.faults)
		for _, f := range invalid.Faults {
			known := slices.ContainsFunc(b.faults[:unread], func(have mds.Fault) bool { return have.Field == f.Field })
			if !known {
				b.faults = append(b.faults, f)
			}
		}
	} else if err != nil {
		return err
	}
	if len(b.faults) == 0 {
		return nil
	}
	return &mds.InvalidError{Faults: slices.Clone(b.faults)}
}

// InvalidRow is the error of a row whose record does not validate.
func InvalidRow(err error, line int, raw string) error {
	var invalid *mds.InvalidError
	if !errors.As(err, &invalid) {
		return err
	}
	field, reason := rowFault(invalid)
	return &RowError{Line: line, Field: field, Reason: reason, Raw: raw}
}

// rowFault is what an InvalidError says of a row.
func rowFault(invalid *mds.InvalidError) (field, reason string) {
	fields := make([]string, 0, len(invalid.Faults))
	for _, f := range invalid.Faults {
		if !slices.Contains(fields, f.Field) {
			fields = append(fields, f.Field)
		}
	}
	return strings.Join(fields, ","), invalid.Error()
}

// year1970 is the length of that year in seconds.
const year1970 = 365 * 24 * 3600

// finishTime resolves the record's time, which may hang on its timeframe.
func (b *builder[R]) finishTime(record *R) error {
	c := &b.schema.Columns[b.timeAt]
	if len(b.timeText) == 0 {
		if !b.faulty(c.Name) {
			b.fault(c.Name, "is missing")
		}
		return nil
	}
	if b.lastTime.is(b.timeText, b.timeframe(record)) {
		*c.Time(record) = b.lastTime.time
		return nil
	}
	text := string(b.timeText)
	s, err := parseStamp(text)
	if err != nil {
		if clock := (stamp{}); strings.Contains(text, ":") && clock.setClock(text) == "" {
			return &SetupError{Field: c.Name, Reason: fmt.Sprintf("%q is a time of day without a date; map both, with --columns date=NAME,time=NAME", text)}
		}
		b.fault(c.Name, err.Error())
		return nil
	}
	odd := len(b.odd)
	if s.epoch && -year1970 < s.unixSec && s.unixSec < year1970 {
		b.odd = append(b.odd, "an epoch within a year of 1970: is the column a time?")
	}
	if c.Date != nil {
		if s.hasTime && !s.epoch && !s.midnight() {
			b.odd = append(b.odd, "the time of day was cut from "+c.Name+", which is a date")
		}
		*c.Date(record) = dateOf(&s)
		return nil
	}
	var t time.Time
	if b.schema.Timeframe == nil {
		t, err = b.instant(&s, text)
	} else {
		t, err = b.start(&s, text, b.schema.Timeframe(record))
	}
	if err != nil {
		var setup *SetupError
		if errors.As(err, &setup) {
			setup.Field = c.Name
			return setup
		}
		b.fault(c.Name, err.Error())
		return nil
	}
	if len(b.odd) == odd && !t.IsZero() {
		b.lastTime.set(b.timeText, b.timeframe(record), t)
	}
	if t.IsZero() {
		b.fault(c.Name, strconv.Quote(text)+" is the one instant that cannot be kept")
		t = time.Unix(0, 0)
	}
	*c.Time(record) = t
	return nil
}

// timeOf is a time that was read, with what it was read from: neighbouring rows
// often have the same.
type timeOf struct {
	text      []byte
	timeframe mds.Timeframe
	time      time.Time
}

func (t *timeOf) is(text []byte, timeframe mds.Timeframe) bool {
	return string(t.text) == string(text) && t.timeframe == timeframe
}

func (t *timeOf) set(text []byte, timeframe mds.Timeframe, at time.Time) {
	t.text, t.timeframe, t.time = append(t.text[:0], text...), timeframe, at
}

// timeframe is that of a record, which its time hangs on.
func (b *builder[R]) timeframe(record *R) mds.Timeframe {
	if b.schema.Timeframe == nil {
		return ""
	}
	return b.schema.Timeframe(record)
}

// dateOf is the date that is written in a stamp; an epoch shows it in UTC, which
// is how vendors write dates as epochs.
func dateOf(s *stamp) mds.Date {
	if s.epoch {
		return mds.DateOf(s.instant())
	}
	return mds.DateOf(s.wall())
}

// local is the wall clock of a stamp where it was written. An epoch shows it in
// the zone of the file, or else in UTC.
func (b *builder[R]) local(s *stamp) time.Time {
	if !s.epoch {
		return s.wall()
	}
	if b.zone != nil {
		return s.instant().In(b.zone.location)
	}
	return s.instant()
}

// start turns a stamp into the start of a bar of the timeframe.
func (b *builder[R]) start(s *stamp, text string, timeframe mds.Timeframe) (time.Time, error) {
	if timeframe.Calendar() {
		local := b.local(s)
		if b.opt.Label == LabelEnd && s.midnight() {
			local = local.Add(-time.Nanosecond)
		}
		return timeframe.Truncate(local), nil
	}
	if !timeframe.Valid() {
		return time.Unix(0, 0), nil // the row is at fault for its timeframe, not for its time
	}
	if !s.hasTime {
		return time.Time{}, fmt.Errorf("%q has no time of day, which bars of %s need", text, timeframe)
	}
	t, err := b.instant(s, text)
	if err == nil && b.opt.Label == LabelEnd {
		t = t.Add(-timeframe.Duration())
	}
	return t, err
}

// instant turns a stamp into a moment; a bare date into its 00:00 UTC.
func (b *builder[R]) instant(s *stamp, text string) (t time.Time, err error) {
	switch {
	case !s.hasTime:
		return s.wall(), nil
	case s.hasOffset:
		t = s.instant()
	case b.zone == nil:
		return t, noZone(text)
	default:
		var ambiguous bool
		if t, ambiguous, err = b.zone.instant(s.wall()); err != nil {
			return t, err
		}
		if ambiguous {
			b.odd = append(b.odd, "a local time that occurred twice was read as the first")
		}
	}
	if t.Nanosecond()%1000 != 0 {
		b.odd = append(b.odd, "a time finer than microseconds was cut")
	}
	return t, nil
}
