package mds

import (
	"math"
	"strconv"
	"testing"

	"pgregory.net/rapid"
)

// TestAppendFloat writes what strconv does: the shortest decimal that reads back as the number.
func TestAppendFloat(t *testing.T) {
	for v, want := range map[float64]string{
		0.000001: "0.000001", -0.1: "-0.1", 470.53: "470.53", 100: "100", 1e6: "1000000", 0.30000000000000004: "0.30000000000000004",
		999999999.999999: "999999999.999999", 999999999: "999999999", 1e9: "1000000000", 123456789.123456: "123456789.123456",
		1.0000001: "1.0000001", 5e-7: "5e-07", 1e21: "1e+21", 96708880: "96708880", 0.378: "0.378", 1199.888264: "1199.888264", -3.5: "-3.5",
	} {
		if got := string(appendFloat(nil, v)); got != want {
			t.Errorf("%v: %s, want %s", v, got, want)
		}
	}
	rapid.Check(t, func(t *rapid.T) {
		v := rapid.OneOf(
			rapid.Float64(),
			rapid.Map(rapid.Int64Range(-2e15, 2e15), func(n int64) float64 { return float64(n) / 1e6 }),
			rapid.Map(rapid.Int64Range(-1e9, 1e9), func(n int64) float64 { return float64(n) / 1e4 }),
			rapid.Map(rapid.Int64Range(-1e9, 1e9), func(n int64) float64 { return math.Nextafter(float64(n)/1e2, math.Inf(1)) }),
			rapid.Map(rapid.Float32(), func(f float32) float64 { return float64(f) }),
		).Draw(t, "v")
		abs := math.Abs(v)
		if v == 0 || abs < 1e-6 || abs >= 1e21 {
			return
		}
		if got, want := string(appendFloat(nil, v)), strconv.FormatFloat(v, 'f', -1, 64); got != want {
			t.Fatalf("%s, want %s", got, want)
		}
	})
}

// BenchmarkAppendFloat writes prices of two and four decimals, and numbers of all digits.
func BenchmarkAppendFloat(b *testing.B) {
	for name, v := range map[string]float64{"470.53": 470.53, "37.7114": 37.7114, "volume": 96708880, "all digits": 1.0 / 3} {
		b.Run(name+"/mds", func(b *testing.B) {
			var text [32]byte
			for b.Loop() {
				appendFloat(text[:0], v)
			}
		})
		b.Run(name+"/strconv", func(b *testing.B) {
			var text [32]byte
			for b.Loop() {
				strconv.AppendFloat(text[:0], v, 'f', -1, 64)
			}
		})
	}
}
