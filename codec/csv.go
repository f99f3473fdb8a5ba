package codec

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// CSVOptions say how to read a CSV file. The zero value reads a file whose
// header names every column and whose times carry their offset.
type CSVOptions struct {
	// Columns maps a column of the record to the header name, or "#N" for the
	// N-th column, that holds it; "" leaves the column out. "date" and "time"
	// map a date and a time of day apart. Columns not named here are found by
	// their names and the usual aliases.
	Columns map[string]string

	// NoHeader says that the first line is data. Columns then maps every column
	// by its number.
	NoHeader bool

	// Fixed gives identity columns one value for the whole file. A file that
	// has such a column too is refused.
	Fixed map[string]string

	// Default gives identity columns a value where the file has no such column.
	Default map[string]string

	// Zone is the time zone of intraday times without an offset, and the one
	// in which epoch times of calendar bars show their date. Nil means none is
	// known: such an intraday time ends the decoding with a [*SetupError], and
	// epochs show their date in UTC.
	Zone *time.Location

	// Label says which end of a bar its time names. Defaults to LabelStart.
	Label Label
}

// CSV decodes delimited text: comma, semicolon, tab or bar, whichever the
// header holds most of; quoting as in RFC 4180; LF or CRLF; a byte-order mark
// is skipped. It is not safe for concurrent use.
type CSV[R mds.Record[R]] struct {
	schema  mds.Schema[R]
	opt     CSVOptions
	rows    rowReader
	mapping *mapping

	fixed     R // identity columns that no cell gives
	texts     []textCell[R]
	numbers   []numberCell[R]
	timeField func(*R) *time.Time
	timeCell  int
	dateCell  int
	clockCell int
	zone      *zone
	warnings  map[string]int64

	number numbers
	odd    []string // warnings of the row being read
	faults []mds.Fault
}

// textCell feeds a text column. Neighbouring rows mostly repeat a value: the
// last one is kept, so that a symbol costs one string, not one a row.
type textCell[R any] struct {
	column *mds.Column[R]
	cell   int
	raw    []byte
	text   string
}

type numberCell[R any] struct {
	column *mds.Column[R]
	cell   int
}

// NewCSV reads the header and returns a decoder for the rows. It fails with a
// [*HeaderError] where the file is no table of records, and with a
// [*SetupError] where the options do not say enough.
func NewCSV[R mds.Record[R]](r io.Reader, opt CSVOptions) (*CSV[R], error) {
	d := &CSV[R]{schema: mds.SchemaOf[R](), opt: opt, rows: rowReader{lines: newLineReader(r)}, warnings: make(map[string]int64)}
	head, err := d.rows.lines.peek()
	if err != nil {
		return nil, err
	}
	if fault := foreignFormat(head); fault != "" {
		return nil, &HeaderError{fault}
	}
	if bytes.HasPrefix(head, []byte("\ufeff")) {
		_, _ = d.rows.lines.r.Discard(len("\ufeff")) // just peeked
	}
	line, err := d.firstLine()
	if err != nil {
		return nil, err
	}
	d.rows.delimiter = sniffDelimiter(line)
	d.number.noGroups = d.rows.delimiter == ';'
	cells, open, fault := d.rows.split(line)
	if open {
		fault = "has a quote that is not closed"
	}
	if fault != "" {
		return nil, &HeaderError{"the header " + fault}
	}
	h := newHeader(cells)
	d.rows.width = len(cells)
	if opt.NoHeader {
		h = numberedHeader(len(cells))
		d.rows.lines.giveBack([]pendingLine{{slices.Clone(line), nil}})
	}
	if d.mapping, err = mapColumns(h, &d.schema, opt); err != nil {
		return nil, err
	}
	if !opt.NoHeader {
		if err := d.checkHeader(h); err != nil {
			return nil, err
		}
	}
	return d, d.prepare()
}

// checkHeader refuses a first line whose cells, as they are mapped, hold data:
// taken for a header it would be lost.
func (d *CSV[R]) checkHeader(h header) error {
	for i := range d.schema.Columns {
		c := &d.schema.Columns[i]
		cell, ok := d.mapping.cells[c.Name]
		if !ok {
			continue
		}
		var err error
		switch {
		case c.Time != nil:
			_, err = parseStamp(h.names[cell])
		case c.Text != nil:
			continue
		default:
			if _, fault := d.number.float([]byte(h.names[cell])); fault != "" {
				err = errors.New(fault)
			}
		}
		if err == nil {
			return &SetupError{Reason: fmt.Sprintf("the first line holds data (%q for the %s), not names; if the file has no header, say --no-header", h.names[cell], c.Name)}
		}
	}
	return nil
}

// firstLine returns the first line that is not blank.
func (d *CSV[R]) firstLine() ([]byte, error) {
	for {
		line, err := d.rows.lines.next()
		if errors.Is(err, io.EOF) {
			return nil, &HeaderError{"it is empty: the first line should name the columns"}
		}
		if errors.Is(err, errLineTooLong) {
			return nil, &HeaderError{"its first line is longer than 1 MiB: is it CSV?"}
		}
		if err != nil || len(bytes.TrimSpace(line)) > 0 {
			return line, err
		}
	}
}

// prepare turns the mapping into what each row needs.
func (d *CSV[R]) prepare() error {
	if d.opt.Zone != nil {
		d.zone = &zone{location: d.opt.Zone}
	}
	cell := func(name string) int {
		if i, ok := d.mapping.cells[name]; ok {
			return i
		}
		return -1
	}
	d.dateCell, d.clockCell = cell(dateColumn), cell(timeColumn)
	for i := range d.schema.Columns {
		c := &d.schema.Columns[i]
		at := cell(c.Name)
		switch {
		case c.Time != nil:
			d.timeField, d.timeCell = c.Time, at
		case c.Text != nil && at >= 0:
			d.texts = append(d.texts, textCell[R]{column: c, cell: at})
		case c.Text != nil:
			value, ok := d.opt.Fixed[c.Name]
			if !ok {
				value = d.opt.Default[c.Name]
			}
			if c.Parse != nil {
				var err error
				if value, err = c.Parse(value); err != nil {
					return &SetupError{Reason: "--" + c.Name + ": " + err.Error()}
				}
			}
			*c.Text(&d.fixed) = value
		case at >= 0:
			d.numbers = append(d.numbers, numberCell[R]{column: c, cell: at})
		}
	}
	return nil
}

// Ignored returns the header names that feed no column, in the file's order.
func (d *CSV[R]) Ignored() []string { return d.mapping.ignored }

// Warnings counts the rows that became records but had something odd about
// them, by what it was.
func (d *CSV[R]) Warnings() map[string]int64 { return d.warnings }

// Next decodes the next row into record, normalised and valid. It returns a
// [*RowError] for a row that is no record, after which it may be called
// again; a [*SetupError] or the reader's error when decoding has to end; and
// io.EOF after the last row. Blank lines are no rows.
func (d *CSV[R]) Next(record *R) error {
	if err := d.rows.next(); err != nil {
		return err
	}
	*record = d.fixed
	d.faults, d.odd = d.faults[:0], d.odd[:0]
	d.decodeTexts(record)
	d.decodeNumbers(record)
	if err := d.decodeTime(record); err != nil {
		return err
	}
	if err := d.validate(record); err != nil {
		return err
	}
	d.schema.Normalize(record)
	if d.schema.Warning != nil {
		if warning := d.schema.Warning(record); warning != "" {
			d.warnings[warning]++
		}
	}
	for _, warning := range d.odd {
		d.warnings[warning]++
	}
	return nil
}

func (d *CSV[R]) decodeTexts(record *R) {
	for i := range d.texts {
		t := &d.texts[i]
		raw := d.rows.cells[t.cell]
		if t.raw == nil || !bytes.Equal(t.raw, raw) {
			if !utf8.Valid(raw) {
				d.fault(t.column.Name, strconv.Quote(clip(raw))+" is not valid UTF-8")
				continue
			}
			text := string(raw)
			if missingText(bytes.TrimSpace(raw)) {
				text = ""
			}
			if t.column.Parse != nil && text != "" {
				parsed, err := t.column.Parse(text)
				if err != nil {
					d.fault(t.column.Name, err.Error())
					continue
				}
				text = parsed
			}
			t.raw, t.text = append(t.raw[:0], raw...), text
		}
		*t.column.Text(record) = t.text
	}
}

func (d *CSV[R]) decodeNumbers(record *R) {
	for i := range d.numbers {
		n := &d.numbers[i]
		cell := bytes.TrimSpace(d.rows.cells[n.cell])
		if missing(cell) {
			if !n.column.Optional() {
				d.fault(n.column.Name, "is missing")
			}
			continue
		}
		switch {
		case n.column.OptInt != nil:
			v, fault := d.number.whole(cell)
			d.fault(n.column.Name, fault)
			*n.column.OptInt(record) = mds.Some(v)
		case n.column.OptFloat != nil:
			v, fault := d.number.float(cell)
			d.fault(n.column.Name, fault)
			*n.column.OptFloat(record) = mds.Some(v)
		default:
			v, fault := d.number.float(cell)
			d.fault(n.column.Name, fault)
			*n.column.Float(record) = v
		}
	}
}

func (d *CSV[R]) decodeTime(record *R) error {
	name := d.schema.ByRole(mds.Time)[0].Name
	var text string
	if d.timeCell >= 0 {
		text = strings.TrimSpace(string(d.rows.cells[d.timeCell]))
	} else {
		text = strings.TrimSpace(string(d.rows.cells[d.dateCell])) + " " + strings.TrimSpace(string(d.rows.cells[d.clockCell]))
	}
	if missing([]byte(strings.TrimSpace(text))) {
		d.fault(name, "is missing")
		return nil
	}
	s, err := parseStamp(text)
	if err != nil {
		if clock := (stamp{}); d.timeCell >= 0 && strings.Contains(text, ":") && clock.setClock(text) == "" {
			return &SetupError{Line: d.rows.line, Field: name, Reason: fmt.Sprintf("%q is a time of day without a date; map both, with --columns date=NAME,time=NAME", text)}
		}
		d.fault(name, err.Error())
		return nil
	}
	if s.epoch && -year1970 < s.unixSec && s.unixSec < year1970 {
		d.odd = append(d.odd, "an epoch within a year of 1970: is the column a time?")
	}
	t, err := d.resolve(&s, text, d.schema.Timeframe(record))
	var setup *SetupError
	if errors.As(err, &setup) {
		setup.Line, setup.Field = d.rows.line, name
		return setup
	}
	if err != nil {
		d.fault(name, err.Error())
		return nil
	}
	if t.IsZero() {
		d.fault(name, strconv.Quote(text)+" is the one instant that cannot be kept")
		t = time.Unix(0, 0)
	}
	*d.timeField(record) = t
	return nil
}

// year1970 is the length of that year in seconds.
const year1970 = 365 * 24 * 3600

// resolve turns a stamp into the start of a bar of the timeframe.
func (d *CSV[R]) resolve(s *stamp, text string, timeframe mds.Timeframe) (time.Time, error) {
	if timeframe.Calendar() {
		local := s.wall()
		if s.epoch {
			local = s.instant()
			if d.zone != nil {
				local = local.In(d.zone.location)
			}
		}
		if d.opt.Label == LabelEnd && s.midnight() {
			local = local.Add(-time.Nanosecond)
		}
		return timeframe.Truncate(local), nil
	}
	if !timeframe.Valid() {
		return time.Unix(0, 0), nil // the row is at fault for its timeframe, not for its time
	}
	var t time.Time
	switch {
	case !s.hasTime:
		return t, fmt.Errorf("%q has no time of day, which bars of %s need", text, timeframe)
	case s.hasOffset:
		t = s.instant()
	case d.zone == nil:
		return t, &SetupError{Reason: fmt.Sprintf("%q has no time zone; name the file's zone with --tz, such as --tz America/New_York or --tz UTC", text)}
	default:
		var ambiguous bool
		var err error
		if t, ambiguous, err = d.zone.instant(s.wall()); err != nil {
			return t, err
		}
		if ambiguous {
			d.odd = append(d.odd, "a local time that occurred twice was read as the first")
		}
	}
	if t.Nanosecond()%1000 != 0 {
		d.odd = append(d.odd, "a time finer than microseconds was cut")
	}
	if d.opt.Label == LabelEnd {
		t = t.Add(-timeframe.Duration())
	}
	return t, nil
}

func (d *CSV[R]) fault(field, reason string) {
	if reason != "" {
		d.faults = append(d.faults, mds.Fault{Field: field, Reason: reason})
	}
}

// validate joins what could not be read with what is not valid.
func (d *CSV[R]) validate(record *R) error {
	var invalid *mds.InvalidError
	if err := d.schema.Validate(record); errors.As(err, &invalid) {
		unread := len(d.faults)
		for _, f := range invalid.Faults {
			known := slices.ContainsFunc(d.faults[:unread], func(have mds.Fault) bool { return have.Field == f.Field })
			if !known {
				d.faults = append(d.faults, f)
			}
		}
	} else if err != nil {
		return err
	}
	if len(d.faults) == 0 {
		return nil
	}
	fields := make([]string, len(d.faults))
	for i, f := range d.faults {
		fields[i] = f.Field
	}
	return d.rows.fault(strings.Join(fields, ","), (&mds.InvalidError{Faults: d.faults}).Error())
}
