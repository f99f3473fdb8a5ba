package mds

import (
	"strings"
	"unicode"
	"unicode/utf8"
)

const (
	maxVendorBytes = 63
	maxSymbolRunes = 64
)

// NormalizeSymbol returns the form in which symbols are kept and compared:
// upper case, without surrounding white space. Punctuation stays as it came
// (BRK.B, RDS-B, 1398.HK, EURUSD=X, BTC-PERP).
func NormalizeSymbol(s string) string {
	for i := range len(s) {
		if c := s[i]; c <= ' ' || c > '~' || 'a' <= c && c <= 'z' {
			return strings.ToUpper(strings.TrimSpace(s))
		}
	}
	return s
}

// NormalizeVendor returns the form in which vendors are kept and compared:
// lower case, without surrounding white space.
func NormalizeVendor(s string) string {
	for i := range len(s) {
		if !vendorByte(s[i]) || 'A' <= s[i] && s[i] <= 'Z' {
			return strings.ToLower(strings.TrimSpace(s))
		}
	}
	return s
}

// vendorByte reports a character that vendors may have.
func vendorByte(c byte) bool {
	lower := c | 0x20 // of a letter
	return 'a' <= lower && lower <= 'z' || '0' <= c && c <= '9' || c == '-' || c == '_' || c == '.'
}

// plainVendor reports a vendor without white space around it and without a fault.
func plainVendor(s string) bool {
	if s == "" || len(s) > maxVendorBytes {
		return false
	}
	for i := range len(s) {
		if !vendorByte(s[i]) {
			return false
		}
	}
	return true
}

// vendorFault says what is wrong with a vendor, or "".
func vendorFault(s string) string {
	if plainVendor(s) {
		return ""
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return "is missing"
	}
	if len(s) > maxVendorBytes {
		return "is longer than 63 characters"
	}
	for i := range len(s) {
		if !vendorByte(s[i]) {
			return quoted(s) + " holds a character other than letters, digits, '-', '_' and '.'"
		}
	}
	return ""
}

// symbolFault says what is wrong with a symbol, or "".
func symbolFault(s string) string {
	if plainSymbol(s) {
		return ""
	}
	s = strings.TrimSpace(s)
	if s == "" {
		return "is missing"
	}
	if !utf8.ValidString(s) {
		return quoted(s) + " is not valid UTF-8"
	}
	if utf8.RuneCountInString(s) > maxSymbolRunes {
		return quoted(s) + " is longer than 64 characters"
	}
	for _, r := range s {
		if !unicode.IsPrint(r) {
			return quoted(s) + " holds a character that cannot be printed"
		}
	}
	return ""
}

// plainSymbol reports a symbol of printable ASCII without spaces, as nearly all
// are: it has no fault.
func plainSymbol(s string) bool {
	if s == "" || len(s) > maxSymbolRunes {
		return false
	}
	for i := range len(s) {
		if s[i] <= ' ' || s[i] > '~' {
			return false
		}
	}
	return true
}

// DefaultVendor is the vendor of files that name none.
const DefaultVendor = "local"

// parseVendor and parseSymbol are the Parse of vendor and symbol columns.
func parseVendor(s string) (string, error) { return NormalizeVendor(s), faultError(vendorFault(s)) }
func parseSymbol(s string) (string, error) { return NormalizeSymbol(s), faultError(symbolFault(s)) }
