package codec

import (
	"encoding/csv"
	"os"
	"testing"
	"time"
)

// TestZoneInstants compares with what another language's zone database says;
// see testdata/localtimes.py. One zone value serves all rows, in the file's
// order and reversed, so that what it remembers is put to the test.
func TestZoneInstants(t *testing.T) {
	f, err := os.Open("testdata/localtimes.tsv")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	r := csv.NewReader(f)
	r.Comma = '\t'
	rows, err := r.ReadAll()
	if err != nil {
		t.Fatal(err)
	}
	rows = rows[1:]
	if len(rows) < 300 {
		t.Fatalf("%d rows", len(rows))
	}
	zones := make(map[string]*zone)
	check := func(row []string) {
		if zones[row[0]] == nil {
			location, err := time.LoadLocation(row[0])
			if err != nil {
				t.Fatal(err)
			}
			zones[row[0]] = &zone{location: location}
		}
		s, err := parseStamp(row[1])
		if err != nil {
			t.Fatal(err)
		}
		got, ambiguous, err := zones[row[0]].instant(s.wall())
		text, shown := got.UTC().Format(time.RFC3339), "once"
		switch {
		case err != nil:
			text, shown = "-", "never"
		case ambiguous:
			shown = "twice"
		}
		if text != row[2] || shown != row[3] {
			t.Errorf("%s %s: %s, shown %s; want %s, %s", row[0], row[1], text, shown, row[2], row[3])
		}
	}
	for _, row := range rows {
		check(row)
	}
	for i := range rows {
		check(rows[len(rows)-1-i])
	}
}
