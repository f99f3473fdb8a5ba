package codec

import (
	"strings"
	"testing"
	"time"
)

func TestParseTime(t *testing.T) {
	for text, want := range map[string]string{
		"2020-11-27":                       "2020-11-27T00:00:00Z",
		"2020/11/27":                       "2020-11-27T00:00:00Z",
		"2020-1-2":                         "2020-01-02T00:00:00Z",
		"11/27/2020":                       "2020-11-27T00:00:00Z",
		"1/2/1990":                         "1990-01-02T00:00:00Z",
		"20201127":                         "2020-11-27T00:00:00Z",
		"2020-02-29":                       "2020-02-29T00:00:00Z",
		"11/5/2019 9:30":                   "2019-11-05T09:30:00Z",
		"11/5/2019 9:30 PM":                "2019-11-05T21:30:00Z",
		"11/5/2019 12:05:09am":             "2019-11-05T00:05:09Z",
		"11/5/2019 12:05 pm":               "2019-11-05T12:05:00Z",
		"2020-11-27 13:00":                 "2020-11-27T13:00:00Z",
		"2020-11-27T13:00:59":              "2020-11-27T13:00:59Z",
		"2020-11-27 13:00:00.25":           "2020-11-27T13:00:00.25Z",
		"2020-11-27T13:00:00.123456789Z":   "2020-11-27T13:00:00.123456789Z",
		"2020-11-27T13:00:00.1234567899":   "2020-11-27T13:00:00.123456789Z",
		"2020-11-27T13:00:00Z":             "2020-11-27T13:00:00Z",
		"2020-11-27 13:00:00 UTC":          "2020-11-27T13:00:00Z",
		"2020-11-27 13:00:00-05:00":        "2020-11-27T18:00:00Z",
		"2020-11-27T13:00:00+0530":         "2020-11-27T07:30:00Z",
		"2020-11-27 13:00+01":              "2020-11-27T12:00:00Z",
		"20201127  09:30:00":               "2020-11-27T09:30:00Z",
		"20201127T093015Z":                 "2020-11-27T09:30:15Z",
		"202011270930":                     "2020-11-27T09:30:00Z",
		"20201127093015":                   "2020-11-27T09:30:15Z",
		"1606487400":                       "2020-11-27T14:30:00Z",
		"1606487400.5":                     "2020-11-27T14:30:00.5Z",
		"1606487400123":                    "2020-11-27T14:30:00.123Z",
		"1606487400123456":                 "2020-11-27T14:30:00.123456Z",
		"1606487400123456789":              "2020-11-27T14:30:00.123456789Z",
		"1606487400123.456":                "2020-11-27T14:30:00.123456Z",
		"-86400":                           "1969-12-31T00:00:00Z",
		"-0.5":                             "1969-12-31T23:59:59.5Z",
		"631152000":                        "1990-01-01T00:00:00Z",
		"0":                                "1970-01-01T00:00:00Z",
		"  2020-11-27  ":                   "2020-11-27T00:00:00Z",
		"9999-12-31T23:59:59.999999Z":      "9999-12-31T23:59:59.999999Z",
		"0001-01-01":                       "0001-01-01T00:00:00Z",
		"20201127.0":                       "2020-11-27T00:00:00Z",
		"20201127093015.25":                "2020-11-27T09:30:15.25Z",
		"100000000":                        "1973-03-03T09:46:40Z",
		"190012319999":                     "1976-01-09T05:11:59.999Z", // no such time of day: an epoch
		"2020-11-27T14:30:00.000000-05:00": "2020-11-27T19:30:00Z",
	} {
		got, err := ParseTime(text, nil)
		if err != nil || got.UTC().Format(time.RFC3339Nano) != want {
			t.Errorf("%q: %s, %v; want %s", text, got.UTC().Format(time.RFC3339Nano), err, want)
		}
	}
}

func TestParseTimeShowsTheClockWritten(t *testing.T) {
	newYork, err := time.LoadLocation("America/New_York")
	if err != nil {
		t.Fatal(err)
	}
	for text, want := range map[string]string{
		"2020-11-27":                "2020-11-27T00:00:00-05:00",
		"2020-07-27 09:30":          "2020-07-27T09:30:00-04:00",
		"2020-11-27 09:30:00+01:00": "2020-11-27T09:30:00+01:00",
		"1606487400":                "2020-11-27T14:30:00Z",
	} {
		if got, err := ParseTime(text, newYork); err != nil || got.Format(time.RFC3339) != want {
			t.Errorf("%q: %s, %v; want %s", text, got.Format(time.RFC3339), err, want)
		}
	}
}

func TestParseTimeRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"":                          "is not a time",
		"yesterday":                 "is not a time",
		"27.11.2020":                "is not a time",
		"13/1/2020":                 "has month 13; dates with slashes are read as month/day/year",
		"1/2/20":                    "is not a time",
		"2020-02-30":                "has day 30, which its month does not have",
		"2021-02-29":                "has day 29, which its month does not have",
		"2020-00-10":                "has month 0",
		"2020-11-27 24:00":          "has no such hour and minute",
		"2020-11-27 13:60":          "has no such hour and minute",
		"2016-12-31 23:59:60":       "has second 60; leap seconds cannot be kept",
		"2020-11-27 13:00:61":       "has no such second",
		"2020-11-27 13":             "is not a time",
		"2020-11-27 13:5":           "is not a time",
		"2020-11-27 13:00:00.x":     "is not a time",
		"2020-11-27 0:30 AM":        "has no such hour and minute",
		"2020-11-27T":               "ends after the date",
		"2020-11-27T13:00:00+5":     "has an offset that is not ±hh:mm",
		"1":                         "is too short for an epoch, and no date",
		"0.5":                       "is too short for an epoch, and no date",
		"2020-11-27T13:00:00+25:00": "has an offset that is not ±hh:mm",
		"99999999999999999999":      "is too large for an epoch",
		"nan":                       "is not a time",
		"20200230":                  "has day 30, which its month does not have",
		"27112020":                  "has month 20",
		"99999999":                  "has month 99",
		"20201127.5":                "is too short for an epoch, and no date",
		"201127":                    "is too short for an epoch, and no date",
		"2020":                      "is too short for an epoch, and no date",
		"12.34":                     "is too short for an epoch, and no date",
		"20201127096015":            "has no such hour and minute",
		"1e9":                       "is not a time",
	} {
		got, err := ParseTime(text, nil)
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, %v; want an error with %q", text, got, err, want)
		}
	}
}

func FuzzParseTime(f *testing.F) {
	for _, seed := range []string{"2020-11-27 13:00:00.25-05:00", "11/5/2019 9:30 PM", "20201127T093015Z", "1606487400123.456", "-0.5", "2020-11-27"} {
		f.Add(seed)
	}
	f.Fuzz(func(t *testing.T, text string) {
		got, err := ParseTime(text, nil)
		if err != nil {
			return
		}
		// What it read, written in full, reads as the same.
		again, err := ParseTime(got.UTC().Format(time.RFC3339Nano), nil)
		if got.Year() >= 0 && got.Year() <= 9999 && (err != nil || !again.Equal(got)) {
			t.Errorf("%q is %v, and that is %v, %v", text, got, again, err)
		}
	})
}
