package mds

import (
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// faults collects what is wrong with the fields of a record.
type faults []Fault

// add notes a fault of a field; "" is none.
func (f *faults) add(field, reason string) {
	if reason != "" {
		*f = append(*f, Fault{Field: field, Reason: reason})
	}
}

// err is an [*InvalidError] of the faults, nil where there are none.
func (f faults) err() error {
	if len(f) == 0 {
		return nil
	}
	return &InvalidError{Faults: f}
}

func timeFault(t time.Time) string {
	if t.IsZero() {
		return "is missing"
	}
	// Four-digit years: every database, file format and client can hold them.
	if seconds := t.Unix(); seconds < firstSecond || seconds > lastSecond {
		return "year " + strconv.Itoa(t.UTC().Year()) + " is outside 1 to 9999"
	}
	return ""
}

// The first second of year 1 and the last of year 9999.
const (
	firstSecond = -62135596800
	lastSecond  = 253402300799
)

func floatFault(v float64) string {
	if v-v != 0 { // NaN and the infinities, and no other
		return fmt.Sprintf("%v is not a number that can be kept; leave a missing value out", v)
	}
	return ""
}

func optFault(o Opt[float64]) string {
	v, _ := o.Value()
	return floatFault(v)
}

func countFault(o Opt[float64]) string {
	v, _ := o.Value()
	if v < 0 {
		return strconv.FormatFloat(v, 'g', -1, 64) + " is negative"
	}
	return floatFault(v)
}

// textFault says why a text cannot be kept, or "". Text is kept as it came,
// line ends and all; what no database can hold is refused.
func textFault(s string, maxBytes int) string {
	switch {
	case !utf8.ValidString(s):
		return quoted(s) + " is not valid UTF-8"
	case strings.IndexByte(s, 0) >= 0:
		return quoted(s) + " holds a NUL character"
	case len(s) > maxBytes:
		return fmt.Sprintf("is longer than %d bytes", maxBytes)
	}
	return ""
}

// faultError makes an error of a fault, nil of "".
func faultError(fault string) error {
	if fault == "" {
		return nil
	}
	return errors.New(fault)
}

// quoted quotes a text for a message, shortened.
func quoted(s string) string {
	if len(s) > 40 {
		s = strings.ToValidUTF8(s[:40], "") + "…"
	}
	return strconv.Quote(s)
}
