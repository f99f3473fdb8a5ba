package mds

import (
	"math"
	"strconv"
)

// appendFloat writes the shortest decimal that reads back as v, without an
// exponent where the number is of a size that people write out. Zero has no
// sign: stores that compress take -0 and 0 for one value.
func appendFloat(b []byte, v float64) []byte {
	if v == 0 {
		return append(b, '0')
	}
	if abs := math.Abs(v); abs < 1e-6 || abs >= 1e21 {
		return strconv.AppendFloat(b, v, 'e', -1, 64)
	}
	if n, ok := millionths(v); ok {
		return appendMillionths(b, n)
	}
	return strconv.AppendFloat(b, v, 'f', -1, 64)
}

// millionths is a number in millionths, where it is the one nearest to so many of them: most
// prices and volumes are. Of fifteen digits no two decimals share a number, so that no decimal
// that is shorter reads back as it.
func millionths(v float64) (n int64, ok bool) {
	const most = 999_999_999 // and 15 digits with the millionths
	if v > most || v < -most {
		return 0, false
	}
	n = int64(math.Round(v * 1e6))
	return n, float64(n)/1e6 == v
}

// appendMillionths writes a number of millionths without zeros at its end.
func appendMillionths(b []byte, n int64) []byte {
	if n < 0 {
		b, n = append(b, '-'), -n
	}
	b = strconv.AppendInt(b, n/1e6, 10)
	rest := n % 1e6
	if rest == 0 {
		return b
	}
	b = append(b, ".000000"...)
	at := len(b) - 1
	for ; rest%10 == 0; rest /= 10 {
		b = b[:at]
		at--
	}
	for ; rest > 0; rest /= 10 {
		b[at] = byte('0' + rest%10)
		at--
	}
	return b
}
