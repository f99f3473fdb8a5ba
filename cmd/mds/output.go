package main

import (
	"encoding/csv"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"slices"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
	files "github.com/marketdatastore/mds/internal/export"
)

// formatTable is the format for people; the others are the codec's.
const formatTable = "table"

// checkFormat refuses a --format that does not exist.
func checkFormat(format string) error {
	switch codec.Format(format) {
	case formatTable, codec.FormatCSV, codec.FormatNDJSON, codec.FormatJSON:
		return nil
	}
	return usagef("--format %q: use table, csv, ndjson or json", format)
}

// writeRecords writes records in a format and returns their number.
func writeRecords[R mds.Record[R]](w io.Writer, format string, records iter.Seq2[R, error]) (n int64, err error) {
	if format == formatTable {
		return writeRecordTable(w, records)
	}
	return files.Encode(w, codec.Format(format), records, nil)
}

// tableRows is how many rows of a table are aligned with each other: a longer
// table is written in parts, so that its memory is bounded.
const tableRows = 1000

func writeRecordTable[R mds.Record[R]](w io.Writer, records iter.Seq2[R, error]) (n int64, err error) {
	schema := mds.SchemaOf[R]()
	part := newRecordTable(&schema)
	for record, err := range records {
		if err != nil {
			return n, err
		}
		addRecord(part, &schema, &record)
		n++
		if len(part.rows) == tableRows {
			if err := part.write(w); err != nil {
				return n, err
			}
			part = newRecordTable(&schema)
		}
	}
	return n, part.write(w)
}

// table is text in columns.
type table struct {
	header []string
	right  []bool // aligned right
	rows   [][]string
}

func newRecordTable[R any](schema *mds.Schema[R]) *table {
	t := &table{}
	for i := range schema.Columns {
		c := &schema.Columns[i]
		name := c.Name
		if c.Time != nil {
			name += " (UTC)"
		}
		t.header = append(t.header, name)
		t.right = append(t.right, c.Numeric())
	}
	return t
}

func (t *table) add(cells ...string) { t.rows = append(t.rows, cells) }

// addRecord adds a record with its times as people read them.
func addRecord[R any](t *table, schema *mds.Schema[R], record *R) {
	cells := codec.AppendCells(nil, schema, record)
	for i := range schema.Columns {
		switch c := &schema.Columns[i]; {
		case cells[i] == "":
		case c.Time != nil:
			calendar := c.Role == mds.Time && schema.Timeframe != nil && schema.Timeframe(record).Calendar()
			cells[i] = displayTime(*c.Time(record), calendar)
		case c.Metrics != nil:
			cells[i] = plural(int64(len(*c.Metrics(record))), "figure")
		case c.Text != nil:
			cells[i] = oneLine(cells[i])
		}
	}
	t.add(cells...)
}

// oneLine shows the beginning of a text on one line.
func oneLine(s string) string {
	const most = 60
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) }), " ")
	if runes := []rune(s); len(runes) > most {
		s = string(runes[:most-1]) + "…"
	}
	return s
}

// displayTime writes a UTC time, or the date alone of a calendar bar.
func displayTime(t time.Time, calendar bool) string {
	if calendar {
		return t.UTC().Format("2006-01-02")
	}
	return t.UTC().Format("2006-01-02 15:04:05.999999")
}

// write prints the table without the columns that are empty throughout.
func (t *table) write(w io.Writer) error {
	if len(t.rows) == 0 {
		return nil
	}
	width := make([]int, len(t.header))
	for _, row := range t.rows {
		for i, cell := range row {
			width[i] = max(width[i], utf8.RuneCountInString(cell))
		}
	}
	for i, name := range t.header {
		if width[i] > 0 {
			width[i] = max(width[i], len(name))
		}
	}
	var b strings.Builder
	for _, row := range append([][]string{t.header}, t.rows...) {
		b.Reset()
		for i, cell := range row {
			if width[i] == 0 {
				continue
			}
			pad := strings.Repeat(" ", max(width[i]-utf8.RuneCountInString(cell), 0))
			if b.Len() > 0 {
				b.WriteString("  ")
			}
			if t.right[i] {
				cell = pad + cell
			} else {
				cell += pad
			}
			b.WriteString(cell)
		}
		if _, err := fmt.Fprintln(w, strings.TrimRight(b.String(), " ")); err != nil {
			return err
		}
	}
	return nil
}

// size writes a number of bytes for people.
func size(n int64) string {
	units := []string{"B", "KB", "MB", "GB", "TB"}
	v := float64(n)
	i := 0
	for v >= 1000 && i < len(units)-1 {
		v /= 1000
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %s", v, units[i])
}

// writeAs writes the table in any format; in JSON the columns named numeric
// are numbers and the others strings.
func (t *table) writeAs(w io.Writer, format string, numeric ...string) error {
	switch codec.Format(format) {
	case formatTable:
		return t.write(w)
	case codec.FormatCSV:
		out := csv.NewWriter(w)
		return errors.Join(out.Write(t.header), out.WriteAll(t.rows))
	}
	array := codec.Format(format) == codec.FormatJSON
	var b strings.Builder
	if array {
		b.WriteString("[")
	}
	for r, row := range t.rows {
		if array {
			if r > 0 {
				b.WriteString(",")
			}
			b.WriteString("\n")
		}
		for i, cell := range row {
			if !slices.Contains(numeric, t.header[i]) {
				quoted, err := json.Marshal(cell)
				if err != nil {
					return err
				}
				cell = string(quoted)
			}
			separator := ","
			if i == 0 {
				separator = "{"
			}
			fmt.Fprintf(&b, "%s%q:%s", separator, t.header[i], cell)
		}
		b.WriteString("}")
		if !array {
			b.WriteString("\n")
		}
	}
	switch {
	case array && len(t.rows) > 0:
		b.WriteString("\n]\n")
	case array:
		b.WriteString("]\n")
	}
	_, err := io.WriteString(w, b.String())
	return err
}
