package mds

import (
	"errors"
	"fmt"
	"strings"
)

// occTail is the length of an OCC symbol without its root.
const occTail = len("160617C00650000")

var errOCC = errors.New("is not an OCC option symbol, such as SPX160617C00650000 (root, yymmdd, C or P, strike in thousandths)")

// ParseOCC reads an option symbol of the Options Clearing Corporation's
// Options Symbology Initiative (2010): the root, padded with spaces to six
// characters or not, the expiry as yymmdd in this century, C or P, and the
// strike in thousandths with eight digits.
func ParseOCC(s string) (root string, expiry Date, optionType OptionType, strike Decimal, err error) {
	fail := func() (string, Date, OptionType, Decimal, error) {
		return "", Date{}, "", 0, fmt.Errorf("%s %w", quoted(s), errOCC)
	}
	text := NormalizeSymbol(s)
	cut := len(text) - occTail
	if cut < 1 {
		return fail()
	}
	root = strings.TrimRight(text[:cut], " ")
	tail := text[cut:]
	if len(root) < 1 || len(root) > 6 || strings.ContainsFunc(root, notAlphanumeric) {
		return fail()
	}
	date, kind, digits := tail[:6], tail[6:7], tail[7:]
	if strings.Trim(date+digits, "0123456789") != "" {
		return fail()
	}
	if expiry, err = ParseDate("20" + date[:2] + "-" + date[2:4] + "-" + date[4:]); err != nil {
		return fail()
	}
	if kind != string(Call) && kind != string(Put) {
		return fail()
	}
	if strike, err = ParseDecimal(digits[:5] + "." + digits[5:]); err != nil || strike == 0 {
		return fail()
	}
	return root, expiry, OptionType(kind), strike, nil
}

func notAlphanumeric(r rune) bool {
	return (r < 'A' || r > 'Z') && (r < '0' || r > '9')
}

// OCC returns the contract's OCC symbol without padding. It fails for a
// contract that has none: a root of more than six letters and digits, an
// expiry outside this century, a strike that is negative, above 99,999.999 or
// finer than a thousandth.
func (o OptionSnap) OCC() (string, error) {
	c, wrong := o.contract()
	if err := wrong.err(); err != nil {
		return "", err
	}
	const thousandth = decimalUnit / 1000
	n := int64(c.Strike) / thousandth
	if len(c.Symbol) > 6 || strings.ContainsFunc(c.Symbol, notAlphanumeric) || c.Expiry.Year/100 != 20 ||
		c.Strike < 0 || int64(c.Strike)%thousandth != 0 || n > 99_999_999 {
		return "", fmt.Errorf("%s %s %s %s has no OCC symbol", c.Symbol, c.Expiry, c.OptionType, c.Strike)
	}
	return fmt.Sprintf("%s%02d%02d%02d%s%08d", c.Symbol, c.Expiry.Year%100, c.Expiry.Month, c.Expiry.Day, c.OptionType, n), nil
}
