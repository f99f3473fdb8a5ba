package rpc

import (
	"encoding/hex"
	"errors"
	"math"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/encoding/prototext"
	"google.golang.org/protobuf/proto"
	"pgregory.net/rapid"

	"github.com/marketdatastore/mds/feedback"
	"github.com/marketdatastore/mds/feedback/rpc/feedbackv1"
)

// full is an event of which every field is set.
var full = feedback.Event{
	CoordinatorID: "bars-1", Kind: "bars", QueueSize: 900, Capacity: 1000, Utilization: 0.9, Level: feedback.Hard,
	Source: "store", TS: 1767225600.25, Reason: "the circuit is open", SuggestedRate: 1500, ArrivalRate: 2000,
	Producers: 3, RetryAfterMS: 250,
}

// Field numbers and types are for ever.
func TestWire(t *testing.T) {
	const want = "0a06626172732d31" + // 1: "bars-1"
		"120462617273" + // 2: "bars"
		"188407" + // 3: 900
		"20e807" + // 4: 1000
		"29cdccccccccccec3f" + // 5: 0.9
		"3003" + // 6: 3
		"3a0573746f7265" + // 7: "store"
		"41000010406e55da41" + // 8: 1767225600.25
		"4a137468652063697263756974206973206f70656e" + // 9: "the circuit is open"
		"510000000000709740" + // 10: 1500
		"590000000000409f40" + // 11: 2000
		"6003" + // 12: 3
		"68fa01" // 13: 250
	got, err := proto.Marshal(toProto(&full))
	if err != nil {
		t.Fatal(err)
	}
	if hex.EncodeToString(got) != want {
		t.Errorf("an event is\n%x, not\n%s", got, want)
	}
	watch, err := proto.Marshal(&feedbackv1.WatchRequest{Producer: true})
	if err != nil || hex.EncodeToString(watch) != "0801" {
		t.Errorf("a request is %x, not 0801 (%v)", watch, err)
	}
}

func TestLevels(t *testing.T) {
	for _, c := range []struct {
		name   string
		level  feedback.Level
		number feedbackv1.Level
		raw    string
	}{
		{"ok", "ok", 1, ""},
		{"soft", "soft", 2, ""},
		{"hard", "hard", 3, ""},
		{"not known", "melting", 0, "melting"},
		{"in capitals, which is another", "OK", 0, "OK"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := toProto(&feedback.Event{CoordinatorID: "c", Level: c.level})
			if m.GetLevel() != c.number || m.GetLevelName() != c.raw {
				t.Errorf("%q is sent as %d %q, not %d %q", c.level, m.GetLevel(), m.GetLevelName(), c.number, c.raw)
			}
			if e, err := fromProto(m); e.Level != c.level || err != nil {
				t.Errorf("%q comes back as %q (%v)", c.level, e.Level, err)
			}
		})
	}
}

func TestFromProto(t *testing.T) {
	for _, c := range []struct {
		name, message string
		level         feedback.Level
		err           string
	}{
		{"a newer server's number", `coordinator_id: "c" level: 17`, "17", ""},
		{"a newer server's number and name", `coordinator_id: "c" level: 17 level_name: "melting"`, "melting", ""},
		{"a number that is known, and a name", `coordinator_id: "c" level: LEVEL_SOFT level_name: "melting"`, "soft", ""},
		{"no coordinator", `level: LEVEL_OK`, "ok", "feedback event: coordinator_id is missing"},
		{"no level", `coordinator_id: "c"`, "", "feedback event: level is missing"},
		{"comes back before it left", `coordinator_id: "c" level: LEVEL_HARD retry_after_ms: -1`, "hard", "feedback event: retry_after_ms is -1"},
		{"rate below 0", `coordinator_id: "c" level: LEVEL_OK suggested_rate: -1`, "ok", "feedback event: suggested_rate is -1"},
		{"endless arrivals", `coordinator_id: "c" level: LEVEL_OK arrival_rate: inf`, "ok", "feedback event: arrival_rate is +Inf"},
		{"utilization that is no number", `coordinator_id: "c" level: LEVEL_OK utilization: nan`, "ok", "feedback event: utilization is NaN"},
	} {
		t.Run(c.name, func(t *testing.T) {
			m := new(feedbackv1.Event)
			if err := prototext.Unmarshal([]byte(c.message), m); err != nil {
				t.Fatal(err)
			}
			e, err := fromProto(m)
			if e.Level != c.level {
				t.Errorf("the level is %q, not %q", e.Level, c.level)
			}
			switch {
			case c.err == "":
				if err != nil {
					t.Error(err)
				}
				if e.Level.Known() != (c.level == "soft") {
					t.Errorf("that %q is known is %v", e.Level, e.Level.Known())
				}
			case err == nil || err.Error() != c.err || !errors.Is(err, feedback.ErrEvent):
				t.Errorf("it fails with %v, not %q", err, c.err)
			}
		})
	}
}

// Text comes from databases too, which may say anything.
func TestNotUTF8(t *testing.T) {
	e := feedback.Event{CoordinatorID: "c\xff", Kind: "k\xff", Level: "l\xff", Source: "s\xff", Reason: "r\xff\xfe!"}
	wire, err := proto.Marshal(toProto(&e))
	if err != nil {
		t.Fatal(err)
	}
	m := new(feedbackv1.Event)
	if err := proto.Unmarshal(wire, m); err != nil {
		t.Fatal(err)
	}
	got, err := fromProto(m)
	want := feedback.Event{CoordinatorID: "c\uFFFD", Kind: "k\uFFFD", Level: "l\uFFFD", Source: "s\uFFFD", Reason: "r\uFFFD!"}
	if err != nil || got != want {
		t.Errorf("it comes back as %+v (%v)", got, err)
	}
}

func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		name := rapid.StringN(1, -1, -1)
		rate := rapid.Float64Range(0, math.MaxFloat64)
		want := feedback.Event{
			CoordinatorID: name.Draw(t, "coordinator"),
			Kind:          rapid.String().Draw(t, "kind"),
			QueueSize:     rapid.Int64().Draw(t, "queue"),
			Capacity:      rapid.Int64().Draw(t, "capacity"),
			Utilization:   rate.Draw(t, "utilization"),
			Level: feedback.Level(rapid.OneOf(rapid.SampledFrom([]string{"ok", "soft", "hard"}),
				name).Draw(t, "level")),
			Source:        rapid.String().Draw(t, "source"),
			TS:            rapid.Float64().Draw(t, "ts"),
			Reason:        rapid.String().Draw(t, "reason"),
			SuggestedRate: rate.Draw(t, "suggested"),
			ArrivalRate:   rate.Draw(t, "arrival"),
			Producers:     rapid.Int().Draw(t, "producers"),
			RetryAfterMS:  rapid.Int64Min(0).Draw(t, "retry"),
		}
		wire, err := proto.Marshal(toProto(&want))
		if err != nil {
			t.Fatal(err)
		}
		m := new(feedbackv1.Event)
		if err := proto.Unmarshal(wire, m); err != nil {
			t.Fatal(err)
		}
		got, err := fromProto(m)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Fatal(diff)
		}
	})
}
