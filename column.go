package mds

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// Column describes one field of the record type R. Exactly one of the
// accessors Text to Metrics is set; it gives the column its type and returns a
// pointer to the field.
type Column[R any] struct {
	// Name is the column's name in SQL, CSV and NDJSON.
	Name string
	// Doc says what the column means, with its unit.
	Doc  string
	Role Role
	// Aliases are other names that vendors use, in lower case.
	Aliases []string
	// Required says that a text, list or metrics value must not be empty.
	// Identity, key and time columns are required unless Derived.
	Required bool
	// Unit says that the text is the unit of the record's figures, such as a
	// currency: figures of another unit are not joined with them.
	Unit bool
	// Derived says that Normalize fills a missing value in from the others.
	Derived bool
	// Default is the value for files that have no such column.
	Default string

	// Parse brings text as a vendor writes it into the column's form; nil takes
	// it as it is. For Text and List columns only.
	Parse func(string) (string, error)

	// Text is empty where it is missing.
	Text func(*R) *string
	// Time is an instant, kept in microseconds.
	Time func(*R) *time.Time
	// Date is a day.
	Date func(*R) *Date
	// Decimal is exact.
	Decimal  func(*R) *Decimal
	Float    func(*R) *float64
	OptFloat func(*R) *Opt[float64]
	OptInt   func(*R) *Opt[int64]
	// List is nil where it is empty.
	List func(*R) *[]string
	// Metrics are figures by name, nil where there are none.
	Metrics func(*R) *map[string]float64
}

// Optional reports whether the column's value may be missing.
func (c *Column[R]) Optional() bool {
	switch {
	case c.Derived:
		return true
	case c.Role != Value:
		return false
	case c.Text != nil, c.List != nil, c.Metrics != nil:
		return !c.Required
	}
	return c.OptFloat != nil || c.OptInt != nil
}

// Numeric reports whether the column holds a number.
func (c *Column[R]) Numeric() bool {
	return c.Decimal != nil || c.Float != nil || c.OptFloat != nil || c.OptInt != nil
}

// Missing reports whether the record has no value for the column.
func (c *Column[R]) Missing(r *R) bool {
	switch {
	case c.Text != nil:
		return *c.Text(r) == ""
	case c.Time != nil:
		return c.Time(r).IsZero()
	case c.Date != nil:
		return c.Date(r).IsZero()
	case c.OptFloat != nil:
		_, ok := c.OptFloat(r).Value()
		return !ok
	case c.OptInt != nil:
		_, ok := c.OptInt(r).Value()
		return !ok
	case c.List != nil:
		return len(*c.List(r)) == 0
	case c.Metrics != nil:
		return len(*c.Metrics(r)) == 0
	}
	return false
}

// size is the number of bytes that the value takes, roughly.
func (c *Column[R]) size(r *R) int {
	n := 8
	switch {
	case c.Text != nil:
		n += len(*c.Text(r))
	case c.List != nil:
		for _, item := range *c.List(r) {
			n += 16 + len(item)
		}
	case c.Metrics != nil:
		for name := range *c.Metrics(r) {
			n += 32 + len(name)
		}
	}
	return n
}

// Equal reports whether two records have the same value, or both none.
func (c *Column[R]) Equal(a, b *R) bool {
	switch {
	case c.Float != nil:
		return *c.Float(a) == *c.Float(b)
	case c.OptFloat != nil:
		return *c.OptFloat(a) == *c.OptFloat(b)
	case c.OptInt != nil:
		return *c.OptInt(a) == *c.OptInt(b)
	case c.List != nil:
		return slices.Equal(*c.List(a), *c.List(b))
	case c.Metrics != nil:
		return maps.Equal(*c.Metrics(a), *c.Metrics(b))
	}
	return c.Compare(a, b) == 0
}

// Copy gives a record the value of another. A list, and metrics, are shared.
func (c *Column[R]) Copy(to, from *R) {
	switch {
	case c.Text != nil:
		*c.Text(to) = *c.Text(from)
	case c.Time != nil:
		*c.Time(to) = *c.Time(from)
	case c.Date != nil:
		*c.Date(to) = *c.Date(from)
	case c.Decimal != nil:
		*c.Decimal(to) = *c.Decimal(from)
	case c.Float != nil:
		*c.Float(to) = *c.Float(from)
	case c.OptFloat != nil:
		*c.OptFloat(to) = *c.OptFloat(from)
	case c.OptInt != nil:
		*c.OptInt(to) = *c.OptInt(from)
	case c.List != nil:
		*c.List(to) = *c.List(from)
	case c.Metrics != nil:
		*c.Metrics(to) = *c.Metrics(from)
	}
}

// Compare orders two records by a column of text (in order of bytes), time,
// date or decimal; other columns have no order.
func (c *Column[R]) Compare(a, b *R) int {
	switch {
	case c.Text != nil:
		return strings.Compare(*c.Text(a), *c.Text(b))
	case c.Time != nil:
		return c.Time(a).Compare(*c.Time(b))
	case c.Date != nil:
		return c.Date(a).Compare(*c.Date(b))
	case c.Decimal != nil:
		return cmp.Compare(*c.Decimal(a), *c.Decimal(b))
	}
	return 0
}

// listSeparator stands between the items of a list in text.
const listSeparator = ";"

// AppendText appends the value in the form that CSV files and people read: a
// time in RFC 3339 and UTC, a date as 2006-01-02, the shortest number that
// reads back the same, the items of a list separated by ';' (or as a JSON
// array where an item would be mistaken), metrics as a JSON object. A missing
// value is empty.
func (c *Column[R]) AppendText(dst []byte, r *R) []byte {
	switch {
	case c.Missing(r):
		return dst
	case c.Text != nil:
		return append(dst, *c.Text(r)...)
	case c.Time != nil:
		return c.Time(r).UTC().AppendFormat(dst, time.RFC3339Nano)
	case c.Date != nil:
		return c.Date(r).append(dst)
	case c.List != nil:
		items := *c.List(r)
		if !slices.ContainsFunc(items, ambiguous) {
			return append(dst, strings.Join(items, listSeparator)...)
		}
	}
	return c.AppendJSON(dst, r)
}

// ambiguous reports an item that a list in text cannot hold.
func ambiguous(item string) bool {
	return strings.ContainsAny(item, ";,|") || strings.HasPrefix(item, "[") || strings.TrimSpace(item) != item || item == ""
}

// AppendJSON appends the value as JSON: a number, a string, an array, an
// object with its names in order, or null.
func (c *Column[R]) AppendJSON(dst []byte, r *R) []byte {
	if c.List == nil && c.Metrics == nil && c.Missing(r) {
		return append(dst, "null"...)
	}
	switch {
	case c.Text != nil:
		return appendJSONString(dst, *c.Text(r))
	case c.Time != nil, c.Date != nil:
		return append(c.AppendText(append(dst, '"'), r), '"')
	case c.Decimal != nil:
		return c.Decimal(r).append(dst)
	case c.Float != nil:
		return appendFloat(dst, *c.Float(r))
	case c.OptFloat != nil:
		return appendFloat(dst, c.OptFloat(r).value)
	case c.OptInt != nil:
		return strconv.AppendInt(dst, c.OptInt(r).value, 10)
	case c.List != nil:
		dst = append(dst, '[')
		for i, item := range *c.List(r) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = appendJSONString(dst, item)
		}
		return append(dst, ']')
	default:
		metrics := *c.Metrics(r)
		dst = append(dst, '{')
		for i, name := range slices.Sorted(maps.Keys(metrics)) {
			if i > 0 {
				dst = append(dst, ',')
			}
			dst = append(appendJSONString(dst, name), ':')
			dst = appendFloat(dst, metrics[name])
		}
		return append(dst, '}')
	}
}

// SetText sets the value from the form that AppendText writes. Of the error
// the column's name completes a sentence.
func (c *Column[R]) SetText(r *R, text string) (err error) {
	switch {
	case c.Text != nil:
		if c.Parse != nil {
			text, err = c.Parse(text)
		}
		*c.Text(r) = text
	case c.Time != nil:
		*c.Time(r), err = parseInstant(text)
	case c.Date != nil:
		*c.Date(r), err = ParseDate(text)
	case c.Decimal != nil:
		*c.Decimal(r), err = ParseDecimal(text)
	case c.List != nil:
		*c.List(r), err = c.parseList(text)
	case c.Metrics != nil:
		*c.Metrics(r), err = ParseMetrics([]byte(text))
	case c.OptInt != nil:
		var v int64
		if v, err = strconv.ParseInt(text, 10, 64); err != nil {
			return errors.New(quoted(text) + " is not a whole number")
		}
		*c.OptInt(r) = Some(v)
	default:
		var v float64
		if v, err = strconv.ParseFloat(text, 64); err != nil {
			return errors.New(quoted(text) + " is not a number")
		}
		if c.Float != nil {
			*c.Float(r) = v
		} else {
			*c.OptFloat(r) = Some(v)
		}
	}
	return err
}

// parseInstant reads RFC 3339, or a date as its 00:00 UTC.
func parseInstant(text string) (time.Time, error) {
	if t, err := time.Parse(time.RFC3339Nano, text); err == nil {
		return t, nil
	}
	d, err := ParseDate(text)
	if err != nil {
		return time.Time{}, errors.New(quoted(text) + " is not a time; write 2024-03-15T14:30:00Z or 2024-03-15")
	}
	return d.Time(), nil
}

// parseList reads a JSON array of strings, or items separated by ';', ',' or
// '|'.
func (c *Column[R]) parseList(text string) ([]string, error) {
	text = strings.TrimSpace(text)
	if text == "" {
		return nil, nil
	}
	var items []string
	if strings.HasPrefix(text, "[") {
		if err := json.Unmarshal([]byte(text), &items); err != nil {
			return nil, errors.New(quoted(text) + " is not an array of strings")
		}
	} else {
		items = strings.FieldsFunc(text, func(r rune) bool { return strings.ContainsRune(";,|", r) })
	}
	return c.ParseItems(items)
}

// ParseItems brings the items of a List column into the column's form.
func (c *Column[R]) ParseItems(items []string) ([]string, error) {
	if c.Parse == nil || len(items) == 0 {
		return items, nil
	}
	out := make([]string, 0, len(items))
	for _, item := range items {
		parsed, err := c.Parse(item)
		if err != nil {
			return nil, err
		}
		out = append(out, parsed)
	}
	return out, nil
}

// ParseMetrics reads a JSON object of numbers. A null is no metric.
func ParseMetrics(text []byte) (map[string]float64, error) {
	text = bytes.TrimSpace(text)
	if len(text) == 0 {
		return nil, nil
	}
	decoder := json.NewDecoder(bytes.NewReader(text))
	if token, err := decoder.Token(); err != nil || token != json.Delim('{') {
		return nil, errors.New(quoted(string(text)) + " is not a JSON object of numbers")
	}
	metrics := make(map[string]float64)
	for decoder.More() {
		token, err := decoder.Token()
		name, ok := token.(string)
		if err != nil || !ok {
			return nil, errors.New(quoted(string(text)) + " is not a JSON object of numbers")
		}
		var v *float64
		var wrong *json.UnmarshalTypeError
		if err := decoder.Decode(&v); errors.As(err, &wrong) && strings.HasPrefix(wrong.Value, "number") {
			return nil, fmt.Errorf("the metric %s is out of range: %s", quoted(name), strings.TrimPrefix(wrong.Value, "number "))
		} else if errors.As(err, &wrong) {
			return nil, fmt.Errorf("the metric %s is %s, not a number", quoted(name), wrong.Value)
		} else if err != nil {
			return nil, errors.New(quoted(string(text)) + " is not a JSON object of numbers")
		}
		if _, twice := metrics[name]; twice {
			return nil, fmt.Errorf("the metric %s is there twice", quoted(name))
		}
		if v != nil {
			metrics[name] = *v
		}
	}
	if _, err := decoder.Token(); err != nil || decoder.More() || decoder.InputOffset() != int64(len(text)) {
		return nil, errors.New(quoted(string(text)) + " is not a JSON object of numbers")
	}
	if len(metrics) == 0 {
		return nil, nil
	}
	return metrics, nil
}

// appendJSONString quotes a string as RFC 8259 asks and no more: other than
// encoding/json it leaves <, > and & as they are.
func appendJSONString(dst []byte, s string) []byte {
	const hex = "0123456789abcdef"
	if !utf8.ValidString(s) { // it does not validate, and may still be shown
		s = strings.ToValidUTF8(s, "\ufffd")
	}
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(s); i++ {
		c := s[i]
		if c >= ' ' && c != '"' && c != '\\' {
			continue
		}
		dst = append(dst, s[start:i]...)
		start = i + 1
		switch c {
		case '"', '\\':
			dst = append(dst, '\\', c)
		case '\n':
			dst = append(dst, '\\', 'n')
		case '\r':
			dst = append(dst, '\\', 'r')
		case '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	dst = append(dst, s[start:]...)
	return append(dst, '"')
}
