package deadletter

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/marketdatastore/mds"
)

// The forms of values are those of JSON as people expect them. What these cannot
// hold has a form of its own, which none of them can be taken for:
//
//	text that is no UTF-8    {"quoted":"\"caf\\xe9\""}, quoted as in Go
//	NaN, infinities          "NaN", "NaN:7ff8000000000002" of other bits, "+Inf", "-Inf"
//	time beyond RFC 3339     {"unix":…,"nanoseconds":…,"offset":…}, the offset in seconds east of UTC
//	a day that is none       {"year":…,"month":…,"day":…}
//	decimal out of range     {"units":"…"} of 10⁻⁹
//	metrics of such names    [[name,value],…]

var errForm = errors.New("is not in a form that a letter has")

// appendText appends a text. Other than encoding/json it leaves <, > and & as they
// are, so that grep finds them.
func appendText(dst []byte, s string) []byte {
	if !utf8.ValidString(s) {
		dst = appendText(append(dst, `{"quoted":`...), strconv.QuoteToASCII(s))
		return append(dst, '}')
	}
	const hex = "0123456789abcdef"
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
		default:
			dst = append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&15])
		}
	}
	return append(append(dst, s[start:]...), '"')
}

func parseText(raw []byte) (s string, err error) {
	if len(raw) > 0 && raw[0] == '{' {
		var form struct {
			Quoted *string `json:"quoted"`
		}
		if json.Unmarshal(raw, &form) != nil || form.Quoted == nil {
			return "", errForm
		}
		if s, err = strconv.Unquote(*form.Quoted); err != nil {
			return "", errForm
		}
		return s, nil
	}
	if len(raw) == 0 || raw[0] != '"' || json.Unmarshal(raw, &s) != nil {
		return "", errForm
	}
	return s, nil
}

// appendTime appends an instant, to the nanosecond, with its offset from UTC.
func appendTime(dst []byte, t time.Time) []byte {
	start := len(dst)
	dst = append(t.AppendFormat(append(dst, '"'), time.RFC3339Nano), '"')
	_, offset := t.Zone()
	back, err := parseTime(dst[start:])
	if err == nil && back.Equal(t) {
		if _, o := back.Zone(); o == offset {
			return dst
		}
	}
	return fmt.Appendf(dst[:start], `{"unix":%d,"nanoseconds":%d,"offset":%d}`, t.Unix(), t.Nanosecond(), offset)
}

func parseTime(raw []byte) (t time.Time, err error) {
	if len(raw) > 0 && raw[0] == '{' {
		var form struct {
			Unix        *int64 `json:"unix"`
			Nanoseconds int64  `json:"nanoseconds"`
			Offset      int    `json:"offset"`
		}
		if json.Unmarshal(raw, &form) != nil || form.Unix == nil {
			return t, errForm
		}
		return inZone(time.Unix(*form.Unix, form.Nanoseconds), form.Offset), nil
	}
	text, err := parseText(raw)
	if err != nil {
		return t, err
	}
	if t, err = time.Parse(time.RFC3339Nano, text); err != nil {
		return t, errForm
	}
	_, offset := t.Zone()
	return inZone(t, offset), nil
}

// inZone makes the time the same on every machine: time.Parse takes the local
// zone where its offset is the same.
func inZone(t time.Time, offset int) time.Time {
	if offset == 0 {
		return t.UTC()
	}
	return t.In(time.FixedZone("", offset))
}

func appendDate(dst []byte, d mds.Date) []byte {
	switch {
	case d.IsZero():
		return append(dst, "null"...)
	case d.Valid():
		return append(append(append(dst, '"'), d.String()...), '"')
	}
	return fmt.Appendf(dst, `{"year":%d,"month":%d,"day":%d}`, d.Year, d.Month, d.Day)
}

func parseDate(raw []byte) (d mds.Date, err error) {
	switch {
	case string(raw) == "null":
		return d, nil
	case len(raw) > 0 && raw[0] == '{':
		var form struct {
			Year  int        `json:"year"`
			Month time.Month `json:"month"`
			Day   int        `json:"day"`
		}
		if json.Unmarshal(raw, &form) != nil {
			return d, errForm
		}
		return mds.Date(form), nil
	}
	text, err := parseText(raw)
	if err != nil {
		return d, err
	}
	if d, err = mds.ParseDate(text); err != nil {
		return d, errForm
	}
	return d, nil
}

func appendDecimal(dst []byte, d mds.Decimal) []byte {
	text := d.String()
	if back, err := mds.ParseDecimal(text); err == nil && back == d {
		return append(dst, text...)
	}
	return fmt.Appendf(dst, `{"units":"%d"}`, int64(d))
}

func parseDecimal(raw []byte) (mds.Decimal, error) {
	if len(raw) > 0 && raw[0] == '{' {
		var form struct {
			Units *int64 `json:"units,string"`
		}
		if json.Unmarshal(raw, &form) != nil || form.Units == nil {
			return 0, errForm
		}
		return mds.Decimal(*form.Units), nil
	}
	d, err := mds.ParseDecimal(string(raw))
	if err != nil {
		return 0, errForm
	}
	return d, nil
}

// appendFloat appends the shortest number that reads back the same, the sign of
// zero and the bits of NaN included.
func appendFloat(dst []byte, v float64) []byte {
	switch bits := math.Float64bits(v); {
	case math.IsInf(v, 1):
		return append(dst, `"+Inf"`...)
	case math.IsInf(v, -1):
		return append(dst, `"-Inf"`...)
	case bits == math.Float64bits(math.NaN()):
		return append(dst, `"NaN"`...)
	case math.IsNaN(v):
		return fmt.Appendf(dst, `"NaN:%016x"`, bits)
	}
	return strconv.AppendFloat(dst, v, 'g', -1, 64)
}

func parseFloat(raw []byte) (float64, error) {
	if len(raw) == 0 || raw[0] != '"' {
		v, err := strconv.ParseFloat(string(raw), 64)
		if err != nil || math.IsNaN(v) || math.IsInf(v, 0) {
			return 0, errForm
		}
		return v, nil
	}
	text, err := parseText(raw)
	if err != nil {
		return 0, err
	}
	switch text {
	case "+Inf":
		return math.Inf(1), nil
	case "-Inf":
		return math.Inf(-1), nil
	case "NaN":
		return math.NaN(), nil
	}
	digits, found := strings.CutPrefix(text, "NaN:")
	bits, err := strconv.ParseUint(digits, 16, 64)
	if v := math.Float64frombits(bits); found && err == nil && math.IsNaN(v) {
		return v, nil
	}
	return 0, errForm
}

func appendList(dst []byte, items []string) []byte {
	if items == nil {
		return append(dst, "null"...)
	}
	dst = append(dst, '[')
	for i, item := range items {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendText(dst, item)
	}
	return append(dst, ']')
}

func parseList(raw []byte) ([]string, error) {
	var parts []json.RawMessage
	if len(raw) == 0 || json.Unmarshal(raw, &parts) != nil {
		return nil, errForm
	}
	if parts == nil {
		return nil, nil
	}
	items := make([]string, len(parts))
	for i, part := range parts {
		var err error
		if items[i], err = parseText(part); err != nil {
			return nil, err
		}
	}
	return items, nil
}

func appendMetrics(dst []byte, metrics map[string]float64) []byte {
	if metrics == nil {
		return append(dst, "null"...)
	}
	names := slices.Sorted(maps.Keys(metrics))
	opening, before, between, after, closing := byte('{'), "", ":", "", byte('}')
	if slices.ContainsFunc(names, func(name string) bool { return !utf8.ValidString(name) }) {
		opening, before, between, after, closing = '[', "[", ",", "]", ']'
	}
	dst = append(dst, opening)
	for i, name := range names {
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = append(appendText(append(dst, before...), name), between...)
		dst = append(appendFloat(dst, metrics[name]), after...)
	}
	return append(dst, closing)
}

func parseMetrics(raw []byte) (map[string]float64, error) {
	if string(raw) == "null" {
		return nil, nil
	}
	metrics := make(map[string]float64)
	if len(raw) > 0 && raw[0] == '[' {
		var pairs [][]json.RawMessage
		if json.Unmarshal(raw, &pairs) != nil {
			return nil, errForm
		}
		for _, pair := range pairs {
			if len(pair) != 2 {
				return nil, errForm
			}
			name, err := parseText(pair[0])
			if err != nil {
				return nil, err
			}
			if metrics[name], err = parseFloat(pair[1]); err != nil {
				return nil, err
			}
		}
		return metrics, nil
	}
	var figures map[string]json.RawMessage
	if json.Unmarshal(raw, &figures) != nil {
		return nil, errForm
	}
	for name, figure := range figures {
		var err error
		if metrics[name], err = parseFloat(figure); err != nil {
			return nil, err
		}
	}
	return metrics, nil
}
