package mds

import (
	"encoding/json"
	"errors"
	"math"
	"strconv"
	"strings"
)

// Decimal is an exact decimal number in units of 10⁻⁹. It stands where a
// number identifies a record, as a strike does: 150 and 150.0 are one value.
// Its range is that of numeric(18,9) in SQL: up to ±999,999,999.999999999.
type Decimal int64

const (
	decimalPlaces = 9
	decimalUnit   = 1_000_000_000
	maxDecimal    = decimalUnit*decimalUnit - 1
)

var (
	errDecimalForm   = errors.New("is not a decimal number")
	errDecimalPlaces = errors.New("has more than 9 decimals, which cannot be kept exactly")
	errDecimalRange  = errors.New("is not below 1,000,000,000 in size")
)

// ParseDecimal reads a number such as 150, -0.5 or 1.525e2. It refuses one
// that nine decimals cannot hold.
func ParseDecimal(s string) (Decimal, error) {
	d, err := parseDecimal(s)
	if err != nil {
		return 0, errors.New(quoted(s) + " " + err.Error())
	}
	return d, nil
}

func parseDecimal(s string) (Decimal, error) {
	digits, exponent := s, 0
	if at := strings.IndexAny(s, "eE"); at >= 0 {
		n, err := strconv.Atoi(s[at+1:])
		if err != nil || n < -400 || n > 400 {
			return 0, errDecimalForm
		}
		digits, exponent = s[:at], n
	}
	negative := strings.HasPrefix(digits, "-")
	if digits != "" && strings.ContainsRune("+-", rune(digits[0])) {
		digits = digits[1:]
	}
	whole, fraction, _ := strings.Cut(digits, ".")
	digits = whole + fraction
	if digits == "" || len(s) > 800 || strings.Trim(digits, "0123456789") != "" {
		return 0, errDecimalForm
	}
	// The value is digits × 10^shift units.
	shift := exponent - len(fraction) + decimalPlaces
	digits = strings.TrimLeft(digits, "0")
	for shift < 0 && strings.HasSuffix(digits, "0") {
		digits = digits[:len(digits)-1]
		shift++
	}
	switch {
	case digits == "":
		return 0, nil
	case shift < 0:
		return 0, errDecimalPlaces
	case len(digits)+shift > 2*decimalPlaces:
		return 0, errDecimalRange
	}
	n, err := strconv.ParseInt(digits+strings.Repeat("0", shift), 10, 64)
	if err != nil {
		return 0, errDecimalForm
	}
	if negative {
		n = -n
	}
	return Decimal(n), nil
}

// NewDecimal returns the decimal that v is written as. It fails for a value
// that nine decimals cannot hold.
func NewDecimal(v float64) (Decimal, error) {
	return ParseDecimal(strconv.FormatFloat(v, 'f', -1, 64))
}

// Float64 returns the nearest float.
func (d Decimal) Float64() float64 { return float64(d) / decimalUnit }

// String writes the number without needless zeros: 150, 0.5, -1.25.
func (d Decimal) String() string { return string(d.append(nil)) }

func (d Decimal) append(dst []byte) []byte {
	n := uint64(d)
	if d < 0 {
		dst = append(dst, '-')
		n = -n
	}
	dst = strconv.AppendUint(dst, n/decimalUnit, 10)
	if rest := n % decimalUnit; rest > 0 {
		fraction := strconv.FormatUint(decimalUnit+rest, 10)[1:]
		dst = append(append(dst, '.'), strings.TrimRight(fraction, "0")...)
	}
	return dst
}

// MarshalJSON writes a JSON number.
func (d Decimal) MarshalJSON() ([]byte, error) { return d.append(nil), nil }

// UnmarshalJSON reads a JSON number, or a string that holds one.
func (d *Decimal) UnmarshalJSON(data []byte) error {
	text := string(data)
	if strings.HasPrefix(text, `"`) {
		if err := json.Unmarshal(data, &text); err != nil {
			return err
		}
	}
	v, err := ParseDecimal(text)
	if err != nil {
		return err
	}
	*d = v
	return nil
}

func decimalFault(d Decimal) string {
	if d > maxDecimal || d < -maxDecimal || d == math.MinInt64 {
		return d.String() + " " + errDecimalRange.Error()
	}
	return ""
}
