package feedback

import (
	"encoding/json"
	"errors"
	"math"
	"os"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"
)

// schema is what is read of event.v1.schema.json.
type schema struct {
	Required   []string
	Properties map[string]struct {
		Type string
		Enum []string
	}
}

// TestSchema compares the schema with the event: each field is there, with its type, and
// what is always written is required.
func TestSchema(t *testing.T) {
	text, err := os.ReadFile("event.v1.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	var s schema
	if err := json.Unmarshal(text, &s); err != nil {
		t.Fatal(err)
	}
	types := map[reflect.Kind]string{reflect.String: "string", reflect.Int: "integer", reflect.Int64: "integer", reflect.Float64: "number"}
	fields := reflect.TypeFor[Event]()
	for i := range fields.NumField() {
		name, options, _ := strings.Cut(fields.Field(i).Tag.Get("json"), ",")
		p, ok := s.Properties[name]
		if !ok || p.Type != types[fields.Field(i).Type.Kind()] {
			t.Errorf("%s is %+v in the schema, and %s", name, p, fields.Field(i).Type)
		}
		if slices.Contains(s.Required, name) == strings.Contains(options, "omitempty") {
			t.Errorf("%s: required is %t", name, slices.Contains(s.Required, name))
		}
	}
	if len(s.Properties) != fields.NumField() {
		t.Errorf("%d properties, %d fields", len(s.Properties), fields.NumField())
	}
	if got := s.Properties["level"].Enum; !slices.Equal(got, []string{"ok", "soft", "hard"}) {
		t.Errorf("levels %v", got)
	}
}

// TestJSON writes an event as the contract says, and reads what the Python version writes.
func TestJSON(t *testing.T) {
	e := Event{
		CoordinatorID: "bars", Kind: "bars", QueueSize: 210_000, Capacity: 262_144, Utilization: 0.75, Level: Soft, Source: "store",
		SuggestedRate: 1500.5, ArrivalRate: 2000, Producers: 2, RetryAfterMS: 250, Reason: "r",
	}
	e.Stamp(time.Date(2026, 11, 26, 10, 0, 0, 500_000_000, time.UTC))
	text, err := json.Marshal(e)
	const want = `{"coordinator_id":"bars","kind":"bars","queue_size":210000,"capacity":262144,"utilization":0.75,"level":"soft","source":"store","ts":1795687200.5,"reason":"r","suggested_rate":1500.5,"arrival_rate":2000,"producers":2,"retry_after_ms":250}`
	if err != nil || string(text) != want {
		t.Errorf("%s\nwant %s, %v", text, want, err)
	}
	if back, err := Parse(text); err != nil || back != e || back.Time() != time.Date(2026, 11, 26, 10, 0, 0, 500_000_000, time.UTC) || back.RetryAfter() != 250*time.Millisecond {
		t.Errorf("%+v, %v", back, err)
	}
	python, err := Parse([]byte(`{"coordinator_id": "c", "queue_size": 8000, "capacity": 10000, "level": "hard", "source": "store", "ts": 1700000000.25, "reason": null, "utilization": 0.8}`))
	if err != nil || python.Level != Hard || python.QueueSize != 8000 || python.SuggestedRate != 0 {
		t.Errorf("%+v, %v", python, err)
	}
	newer, err := Parse([]byte(`{"coordinator_id": "c", "level": "catastrophic", "shards": [1, 2]}`))
	if err != nil || newer.Level.Known() {
		t.Errorf("%+v, %v", newer, err)
	}
	for _, bad := range []string{"", "[]", `{"level":"ok"}`, `{"coordinator_id":"c"}`, `{"coordinator_id":"c","level":"ok","suggested_rate":-1}`, `{"coordinator_id":"c","level":"ok","suggested_rate":1e999}`, `{"coordinator_id":"c","level":"hard","retry_after_ms":-1}`} {
		if _, err := Parse([]byte(bad)); !errors.Is(err, ErrEvent) {
			t.Errorf("%s: %v", bad, err)
		}
	}
}

// TestWatermarks has every level begin and end where it should, and no step be left out.
func TestWatermarks(t *testing.T) {
	w := Watermarks{}.WithDefaults()
	for _, s := range []struct {
		was         Level
		utilization float64
		next        Level
	}{
		{OK, 0.49, OK}, {OK, 0.5, Soft}, {OK, 1, Soft}, {Soft, 0.79, Soft}, {Soft, 0.8, Hard}, {Soft, 0.41, Soft}, {Soft, 0.39, OK},
		{Hard, 1, Hard}, {Hard, 0.71, Hard}, {Hard, 0.69, Soft}, {Hard, 0, Soft},
	} {
		if next := w.Next(s.was, s.utilization); next != s.next {
			t.Errorf("%s at %v: %s, want %s", s.was, s.utilization, next, s.next)
		}
		if from, below := w.Between(s.was); (s.utilization >= from && s.utilization < below) != (s.next == s.was) {
			t.Errorf("%s stays from %v to %v, and at %v it is %s", s.was, from, below, s.utilization, s.next)
		}
	}
}

// TestPaceAfterTheClock has a clock that is put back, and one that stands, not make rates
// of them.
func TestPaceAfterTheClock(t *testing.T) {
	var p Pace
	at := time.Unix(1_700_000_000, 0)
	n := int64(0)
	for _, step := range []time.Duration{0, time.Second, time.Second, -time.Hour, time.Second, 0, time.Second, time.Second} {
		at = at.Add(step)
		n += 1000
		var e Event
		p.Add(Sample{Time: at, Accepted: n, Settled: n, Capacity: 100_000}, &e)
		if math.IsNaN(e.SuggestedRate) || math.IsInf(e.SuggestedRate, 0) || e.SuggestedRate < 0 || e.ArrivalRate < 0 || e.ArrivalRate > 2100 {
			t.Fatalf("after %v: %+v", step, e)
		}
	}
}
