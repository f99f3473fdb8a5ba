package mds_test

import (
	"encoding/json"
	"math/big"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
)

func TestParseDecimal(t *testing.T) {
	for text, want := range map[string]string{
		"150": "150", "150.0": "150", "0150.000000000000": "150", "-0.5": "-0.5", "+7": "7", ".5": "0.5", "5.": "5",
		"650.123456789": "650.123456789", "1.525e2": "152.5", "1e-9": "0.000000001", "10e8": "", "1e0": "1", "0": "0", "-0": "0",
		"0e300": "0", "100e-11": "0.000000001", "999999999.999999999": "999999999.999999999", "-999999999.999999999": "-999999999.999999999",
	} {
		if want == "" {
			continue
		}
		d, err := mds.ParseDecimal(text)
		if err != nil || d.String() != want {
			t.Errorf("%q is %s, %v; want %s", text, d, err, want)
		}
	}
	for text, want := range map[string]string{
		"":                 `"" is not a decimal number`,
		"x":                `"x" is not a decimal number`,
		"1.2.3":            `"1.2.3" is not a decimal number`,
		"1-2":              `"1-2" is not a decimal number`,
		"1e2-3":            `"1e2-3" is not a decimal number`,
		"-+5e1":            `"-+5e1" is not a decimal number`,
		"--1":              `"--1" is not a decimal number`,
		"1e":               `"1e" is not a decimal number`,
		"NaN":              `"NaN" is not a decimal number`,
		"0x10":             `"0x10" is not a decimal number`,
		"1_000":            `"1_000" is not a decimal number`,
		"650.1234567891":   `"650.1234567891" has more than 9 decimals, which cannot be kept exactly`,
		"650.000000000001": `"650.000000000001" has more than 9 decimals, which cannot be kept exactly`,
		"1e-10":            `"1e-10" has more than 9 decimals, which cannot be kept exactly`,
		"1000000000":       `"1000000000" is not below 1,000,000,000 in size`,
		"1e300":            `"1e300" is not below 1,000,000,000 in size`,
	} {
		if d, err := mds.ParseDecimal(text); err == nil || err.Error() != want {
			t.Errorf("%q is %s, %v; want %s", text, d, err, want)
		}
	}
	if d, err := mds.NewDecimal(0.1); err != nil || d != 100_000_000 || d.Float64() != 0.1 {
		t.Errorf("0.1 is %d, %v", d, err)
	}
	if _, err := mds.NewDecimal(1.0 / 3); err == nil {
		t.Error("a third is no decimal of nine places")
	}
}

func TestDecimalJSON(t *testing.T) {
	var d mds.Decimal
	for _, text := range []string{"152.5", `"152.5"`, "1.525e2"} {
		if err := json.Unmarshal([]byte(text), &d); err != nil || d != 152_500_000_000 {
			t.Errorf("%s is %d, %v", text, d, err)
		}
	}
	if text, err := json.Marshal(d); err != nil || string(text) != "152.5" {
		t.Errorf("JSON %s, %v", text, err)
	}
	if err := json.Unmarshal([]byte("true"), &d); err == nil {
		t.Error("a truth value was taken for a number")
	}
}

// TestDecimalIsExact compares with rational arithmetic.
func TestDecimalIsExact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		d := mds.Decimal(rapid.Int64Range(-999_999_999_999_999_999, 999_999_999_999_999_999).Draw(t, "units"))
		back, err := mds.ParseDecimal(d.String())
		if err != nil || back != d {
			t.Fatalf("%s came back as %s, %v", d, back, err)
		}
		if want := big.NewRat(int64(d), 1_000_000_000); want.Cmp(rat(d.String())) != 0 {
			t.Fatalf("%d units are written %s", int64(d), d)
		}
	})
}

func rat(s string) *big.Rat {
	r, _ := new(big.Rat).SetString(s)
	return r
}

func FuzzParseDecimal(f *testing.F) {
	for _, seed := range []string{"150", "-0.5", "1e-9", "999999999.999999999", "1e300", ".", "+"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		d, err := mds.ParseDecimal(text)
		if err != nil {
			return
		}
		exact, ok := new(big.Rat).SetString(text)
		if !ok || exact.Cmp(big.NewRat(int64(d), 1_000_000_000)) != 0 {
			t.Fatalf("%q was read as %s", text, d)
		}
	})
}
