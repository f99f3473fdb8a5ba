package mds_test

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

func TestDate(t *testing.T) {
	d, err := mds.ParseDate("2024-02-29")
	if want := (mds.Date{Year: 2024, Month: 2, Day: 29}); err != nil || d != want || !d.Valid() || d.String() != "2024-02-29" {
		t.Errorf("%s, %v", d, err)
	}
	for _, text := range []string{"", "2023-02-29", "2024-13-01", "2024-2-29", "20240229", "2024-02-29T00:00:00Z"} {
		if d, err := mds.ParseDate(text); err == nil {
			t.Errorf("%q is %s", text, d)
		}
	}
	tokyo := time.FixedZone("", 9*3600)
	if got := mds.DateOf(time.Date(2024, 3, 1, 8, 0, 0, 0, tokyo)); got.String() != "2024-03-01" {
		t.Errorf("the date in Tokyo is %s", got)
	}
	if got := d.Time(); !got.Equal(time.Date(2024, 2, 29, 0, 0, 0, 0, time.UTC)) {
		t.Errorf("its midnight is %s", got)
	}
	var pair [2]mds.Date
	if err := json.Unmarshal([]byte(`["2024-02-29",""]`), &pair); err != nil || pair[0] != d || !pair[1].IsZero() {
		t.Errorf("from JSON %v, %v", pair, err)
	}
	if text, err := json.Marshal(pair); err != nil || string(text) != `["2024-02-29",""]` {
		t.Errorf("JSON %s, %v", text, err)
	}
	if (mds.Date{Year: 2024, Month: 2, Day: 30}).Valid() || (mds.Date{}).Valid() || (mds.Date{Year: 10000, Month: 1, Day: 1}).Valid() {
		t.Error("a day that is none is valid")
	}
	if d.Compare(mds.Date{Year: 2024, Month: 3, Day: 1}) != -1 {
		t.Error("the order of days")
	}
}
