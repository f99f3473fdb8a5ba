package codec

import (
	"bytes"
	"errors"
	"math"
	"strconv"
)

// missing reports whether a cell stands for a missing value: blank, "null",
// "N/A" and the like. NaN is no missing value: it is refused as a number.
func missing(cell []byte) bool {
	switch len(cell) {
	case 0:
		return true
	case 1:
		return cell[0] == '-'
	case 2:
		return bytes.EqualFold(cell, []byte("na")) || bytes.Equal(cell, []byte(`\N`)) || bytes.Equal(cell, []byte("--"))
	case 3:
		return bytes.EqualFold(cell, []byte("n/a")) || bytes.EqualFold(cell, []byte("nil"))
	case 4:
		return bytes.EqualFold(cell, []byte("null")) || bytes.EqualFold(cell, []byte("none")) || bytes.EqualFold(cell, []byte("#n/a"))
	}
	return false
}

// missingText is missing for text: fewer spellings, since NA, NIL and NONE are
// symbols of somebody.
func missingText(cell []byte) bool {
	switch len(cell) {
	case 0:
		return true
	case 2:
		return bytes.Equal(cell, []byte(`\N`))
	case 3, 4:
		return bytes.EqualFold(cell, []byte("n/a")) || bytes.EqualFold(cell, []byte("null")) || bytes.EqualFold(cell, []byte("#n/a"))
	}
	return false
}

// numbers parses the numbers of a file.
type numbers struct {
	// noGroups refuses commas. In a file with semicolons 1,234 is as likely a
	// decimal as a thousand, and neither is guessed.
	noGroups bool
	scratch  []byte
}

// float reads a decimal number with a point, an optional exponent and optional
// thousands separators (1,234.5).
func (n *numbers) float(cell []byte) (v float64, fault string) {
	if v, ok := short(cell); ok {
		return v, ""
	}
	digits, ok := n.plain(cell)
	if !ok {
		if n.noGroups && bytes.IndexByte(cell, ',') >= 0 {
			return 0, strconv.Quote(clip(cell)) + " has a comma; in a file with semicolons write decimals with a point, and no thousands separators"
		}
		switch string(bytes.ToLower(bytes.TrimLeft(cell, "+-"))) {
		case "nan", "inf", "infinity":
			return 0, strconv.Quote(string(cell)) + " is not a number that can be kept; leave a missing value blank"
		}
		return 0, strconv.Quote(clip(cell)) + " is not a number"
	}
	v, err := strconv.ParseFloat(string(digits), 64)
	if errors.Is(err, strconv.ErrRange) || math.IsInf(v, 0) {
		return 0, strconv.Quote(clip(cell)) + " is out of range"
	}
	if err != nil {
		return 0, strconv.Quote(clip(cell)) + " is not a number"
	}
	return v, ""
}

// tens are the powers of ten that short divides by, each exact.
var tens = [...]float64{1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15}

// short reads a number of at most 15 digits and a point, as nearly all are: its
// digits and the power of ten are exact, so that their quotient is the nearest
// float64 (Clinger, How to Read Floating Point Numbers Accurately, 1990).
func short(cell []byte) (v float64, ok bool) {
	digits := cell
	if len(cell) > 0 && cell[0] == '-' {
		digits = cell[1:]
	}
	if len(digits) == 0 || len(digits) > 16 {
		return 0, false
	}
	var whole uint64
	point := -1
	for i, c := range digits {
		switch {
		case '0' <= c && c <= '9':
			whole = whole*10 + uint64(c-'0')
		case c == '.' && point < 0:
			point = i
		default:
			return 0, false
		}
	}
	v = float64(whole)
	switch {
	case point < 0 && len(digits) == 16, point >= 0 && len(digits) == 1:
		return 0, false
	case point >= 0:
		v /= tens[len(digits)-1-point]
	}
	if len(digits) < len(cell) {
		v = -v
	}
	return v, true
}

// whole reads a whole number, which may be written as a float (120.0).
func (n *numbers) whole(cell []byte) (i int64, fault string) {
	digits, ok := n.plain(cell)
	if ok {
		if i, err := strconv.ParseInt(string(digits), 10, 64); err == nil {
			return i, ""
		}
		v, err := strconv.ParseFloat(string(digits), 64)
		const exact = 1 << 53
		if err == nil && v == math.Trunc(v) && math.Abs(v) <= exact {
			return int64(v), ""
		}
	}
	return 0, strconv.Quote(clip(cell)) + " is not a whole number"
}

// plain checks that the cell holds only what a decimal number is made
// of and takes thousands separators out. It reports false for anything else,
// such as NaN or hexadecimal.
func (n *numbers) plain(cell []byte) ([]byte, bool) {
	commas := false
	for _, c := range cell {
		switch {
		case '0' <= c && c <= '9', c == '.', c == '-', c == '+', c == 'e', c == 'E':
		case c == ',':
			commas = true
		default:
			return nil, false
		}
	}
	if !commas || n.noGroups {
		return cell, len(cell) > 0 && !commas
	}
	// A separator stands before each group of three digits of the whole part:
	// "1,5" is a decimal comma and no number here.
	whole, rest := cell, []byte(nil)
	if point := bytes.IndexAny(cell, ".eE"); point >= 0 {
		whole, rest = cell[:point], cell[point:]
	}
	out := n.scratch[:0]
	for i, group := range bytes.Split(whole, []byte(",")) {
		digits := group
		if i == 0 {
			digits = bytes.TrimLeft(group, "+-")
		}
		if len(digits) > 3 || (i > 0 && len(digits) != 3) || len(digits) == 0 || bytes.ContainsAny(digits, "+-") {
			return nil, false
		}
		out = append(out, group...)
	}
	if bytes.ContainsRune(rest, ',') {
		return nil, false
	}
	out = append(out, rest...)
	n.scratch = out
	return out, true
}

// clip shortens a cell for a message.
func clip(cell []byte) string {
	if len(cell) > 40 {
		return string(cell[:40]) + "…"
	}
	return string(cell)
}
