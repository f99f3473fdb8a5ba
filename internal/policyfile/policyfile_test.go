package policyfile_test

import (
	"reflect"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/policyfile"
)

func TestRead(t *testing.T) {
	policies, err := policyfile.Read([]byte(`
zone = "America/New_York"

[bars]
compress_after = "90d"
drop_after     = "5y"

[bars.1m]
partition  = "1mo"
drop_after = "18mo"
rollups    = ["5m", "1h", "1d"]

[bars.1d]
drop_after = "never"

[news]
drop_after = "6w"
`))
	if err != nil {
		t.Fatal(err)
	}
	got := make(map[string]mds.Policy)
	for _, p := range policies {
		got[p.Name()] = p
	}
	age := func(n int, unit byte) mds.Age { return mds.Age{N: n, Unit: unit} }
	for _, want := range []mds.Policy{
		{Kind: "bars", Timeframe: "1m", Partition: age(1, 'M'), CompressAfter: age(90, 'd'), DropAfter: age(18, 'M'), Rollups: []mds.Timeframe{"5m", "1h", "1d"}, Zone: "America/New_York"},
		{Kind: "bars", Timeframe: "1d", CompressAfter: age(90, 'd')},
		{Kind: "bars", Timeframe: "1h", CompressAfter: age(90, 'd'), DropAfter: age(5, 'y')},
		{Kind: "news", DropAfter: age(6, 'w')},
		{Kind: "options"},
		{Kind: "fundamentals"},
	} {
		if !reflect.DeepEqual(got[want.Name()], want) {
			t.Errorf("%s: %+v, want %+v", want.Name(), got[want.Name()], want)
		}
	}
	if len(got) != 25 {
		t.Errorf("%d policies, want 22 timeframes and 3 kinds", len(got))
	}
}

func TestReadRefuses(t *testing.T) {
	for text, want := range map[string]string{
		"[bars.7m]\ndrop_after = \"1y\"\n": "line 1: there is no setting bars.7m",
		"":                                 "says nothing",
		"# nothing":                        "says nothing",
		"[news]\nrollups = [\"1h\"]\n":     "line 2: there is no setting news.rollups",
		"[trades]\n":                       "line 1: there is no setting trades",
		"zone = \"Mars\"\n[bars.1m]\nrollups = [\"1h\"]\n":     `line 1: zone: "Mars" is no time zone`,
		"zone = \"Local\"\n[bars.1m]\nrollups = [\"1h\"]\n":    `line 1: zone: "Local" is no time zone`,
		"[bars.1h]\n\nrollups = [\"5m\"]\n":                    "line 3: [bars.1h] rollups: bars 1h do not make up bars of 5m",
		"[bars.\"1m\"]\nrollups = [\"3m\"]\n":                  `line 2: [bars.1m] rollups: "3m" is not one of 1m 5m 10m`,
		"[bars.1m]\nrollups = [\"1h\", \"5m\"]\n":              "line 2: [bars.1m] rollups: list them shortest first, each once",
		"[bars.1m]\nrollups = [\"1h\", \"1h\"]\n":              "line 2: [bars.1m] rollups: list them shortest first, each once",
		"[bars.1m]\nrollups = \"1h\"\n":                        "line 2: bars.1m.rollups: string is not what goes there",
		"# nothing\n[options]\ndrop_after = \"2 years\"\n":     `line 3: [options] drop_after: "2 years" is no age: write one such as 36h, 90d`,
		"[bars]\ndrop_after = \"1m\"\n":                        `line 2: [bars] drop_after: "1m" is no age`,
		"[bars]\ndrop_after = \"0d\"\n":                        `line 2: [bars] drop_after: "0d" is no age`,
		"[bars]\ndrop_after = \"-1d\"\n":                       `line 2: [bars] drop_after: "-1d" is no age`,
		"[bars]\ndrop_after = 90\n":                            "line 2: bars.drop_after: integer is not what goes there",
		"[bars\n":                                              "line 1: ",
		"[bars]\ndrop_after = \"1y\"\ndrop_after = \"2y\"\n":   "line 3: ",
		"[bars.5s]\ncompress_after = \"99999999999999999d\"\n": "is no age",
	} {
		if _, err := policyfile.Read([]byte(text)); err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n") {
			t.Errorf("%q: %v, want %s", text, err, want)
		}
	}
}

// TestRoundTrip writes any policies and reads them.
func TestRoundTrip(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		age := func() mds.Age {
			return mds.Age{N: rapid.IntRange(1, 999).Draw(t, "n"), Unit: rapid.SampledFrom([]byte("hdwMy")).Draw(t, "unit")}
		}
		few := []mds.Age{{}, age(), age()}
		zone := rapid.SampledFrom([]string{"", "America/New_York"}).Draw(t, "zone")
		var want []mds.Policy
		for _, tf := range mds.Timeframes() {
			p := mds.Policy{Kind: "bars", Timeframe: tf}
			if tf == mds.Minute && rapid.Bool().Draw(t, "rollups") {
				p.Rollups, p.Zone = []mds.Timeframe{"5m", "1d"}, zone
			}
			want = append(want, p)
		}
		want = append(want, mds.Policy{Kind: "options"}, mds.Policy{Kind: "fundamentals"}, mds.Policy{Kind: "news"})
		for i := range want {
			p := &want[i]
			for _, a := range []*mds.Age{&p.Partition, &p.CompressAfter, &p.DropAfter} {
				*a = rapid.SampledFrom(few).Draw(t, "age")
			}
		}
		text := policyfile.Text(want)
		got, err := policyfile.Read([]byte(text))
		if err != nil || !reflect.DeepEqual(got, want) {
			t.Fatalf("%v\n%s\ngot  %+v\nwant %+v", err, text, got, want)
		}
	})
	defaults, err := policyfile.Read([]byte(policyfile.Text(mds.DefaultPolicies())))
	if err != nil || !reflect.DeepEqual(defaults, mds.DefaultPolicies()) {
		t.Errorf("the defaults: %+v, %v", defaults, err)
	}
}

// FuzzRead reads anything, and writes what it could read so that it is read the same.
func FuzzRead(f *testing.F) {
	f.Add("zone = \"UTC\"\n[bars]\ncompress_after = \"90d\"\n[bars.1m]\nrollups = [\"5m\"]\n")
	f.Add("[news]\ndrop_after = \"never\"\n")
	f.Add("[bars.\"1m\"]\n\"rollups\" = [\n\"1h\", # hours\n]\n")
	f.Fuzz(func(t *testing.T, text string) {
		policies, err := policyfile.Read([]byte(text))
		if err != nil {
			return
		}
		again, err := policyfile.Read([]byte(policyfile.Text(policies)))
		if err != nil || !reflect.DeepEqual(again, policies) {
			t.Errorf("%v\n%+v\n%+v", err, policies, again)
		}
	})
}

// TestTextOfSome: what a store has of one timeframe is not written for all.
func TestTextOfSome(t *testing.T) {
	some := []mds.Policy{{Kind: "bars", Timeframe: mds.Minute, DropAfter: mds.Age{N: 30, Unit: 'd'}, Rollups: []mds.Timeframe{mds.Hour}}}
	text := policyfile.Text(some)
	again, err := policyfile.Read([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range again {
		if p.Name() == "bars 1m" && !p.Equal(&some[0]) || p.Name() != "bars 1m" && !p.Keeps() {
			t.Errorf("%s is %+v after\n%s", p.Name(), p, text)
		}
	}
}
