package deadletter

import "testing"

// TestAfter goes by the order of arrival: that of the segments, and within one of the numbers.
func TestAfter(t *testing.T) {
	const early, late = "20261126T084200.123456Z-1a2b", "20261126T084200.123457Z-0000"
	for _, tt := range []struct {
		id, other string
		want      bool
	}{
		{early + ".2", early + ".1", true},
		{early + ".1", early + ".1", false},
		{early + ".10", early + ".9", true},
		{early + ".9", early + ".10", false},
		{late + ".1", early + ".10", true},
		{early + ".10", late + ".1", false},
	} {
		if got := After(tt.id, tt.other); got != tt.want {
			t.Errorf("%s after %s: %v", tt.id, tt.other, got)
		}
	}
}
