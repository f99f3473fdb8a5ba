package main

import (
	"encoding/json"
	"fmt"
	"io"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds/internal/pgtest"
)

// policiesOnBoth runs a test on both engines; args are those that name the owner.
func policiesOnBoth(t *testing.T, test func(t *testing.T, c *cli, policies func(args ...string) []string)) {
	t.Run("duckdb", func(t *testing.T) {
		test(t, newCLI(t), func(args ...string) []string { return append([]string{"policies"}, args...) })
	})
	t.Run("postgres", func(t *testing.T) {
		c, d := onServer(t)
		test(t, c, func(args ...string) []string { return append([]string{"policies", "--admin-dsn", d.Owner}, args...) })
	})
}

// days is a file of two minutes of each of some days, the newest today.
func days(t *testing.T, n int) (file string, today time.Time) {
	today = time.Now().UTC().Truncate(24 * time.Hour)
	var b strings.Builder
	b.WriteString("ts,open,close,volume\n")
	for d := range n {
		at := today.AddDate(0, 0, -d)
		fmt.Fprintf(&b, "%s,1,2,10\n%s,3,4,10\n", at.Format(time.RFC3339), at.Add(time.Minute).Format(time.RFC3339))
	}
	return testFile(t, "days.csv", b.String()), today
}

// sizes are how large things are, which differs.
var sizes = regexp.MustCompile(` +[0-9.]+ (B|KB|MB|GB)`)

func TestPolicies(t *testing.T) { policiesOnBoth(t, testPolicies) }

func testPolicies(t *testing.T, c *cli, policies func(args ...string) []string) {
	file, today := days(t, 40)
	c.must("ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m")
	before := c.must("query", "bars", "--every", "1d", "--format", "csv").stdout
	out := c.must(policies("show")...)
	if wantText(t, "show", out.stdout, c.must(policies("show", "--defaults")...).stdout); !strings.Contains(out.stderr, "no policies are in force") {
		t.Errorf("show:\n%s", out.stderr)
	}
	defaults := testFile(t, "defaults.toml", out.stdout)
	if out := c.must(policies("dry-run", defaults)...).stdout; strings.Count(out, "roll up") != 4 || strings.Contains(out, "drop") {
		t.Errorf("dry-run of the defaults:\n%s", out)
	}
	if out := c.must(policies("status")...); out.stdout != "" || !strings.Contains(out.stderr, "no policies are in force") {
		t.Errorf("status after a dry-run:\n%s%s", out.stdout, out.stderr)
	}
	if out := c.must(policies("apply")...).stdout; !strings.Contains(out, "refreshed rollups of tenant default: 80 bars read, 160 rollups written, 0 removed\n") {
		t.Errorf("apply:\n%s", out)
	}
	wantText(t, "apply again", c.must(policies("apply")...).stdout, "nothing was to be done\n")
	wantText(t, "days of rollups", c.must("query", "bars", "--every", "1d", "--format", "csv").stdout, before)
	wantText(t, "days as refreshed", c.must("query", "bars", "--every", "1d", "--as-refreshed", "--format", "csv").stdout, before)

	month := testFile(t, "month.toml", "[bars.1m]\ndrop_after = \"30d\"\nrollups = [\"1d\"]\n")
	cutoff := today.AddDate(0, 0, -30).Format(time.DateOnly)
	plan := sizes.ReplaceAllString(c.must(policies("dry-run", month)...).stdout, "")
	for _, want := range []string{"remove rollups +(default +)?bars 1m +5m +40\n", "remove rollups +(default +)?bars 1m +15m +40\n", "remove rollups +(default +)?bars 1m +1h +40\n", "drop +(default +)?bars 1m +" + cutoff + " +18 .*18 of them came when they were that old already"} {
		if !regexp.MustCompile(want).MatchString(plan) {
			t.Errorf("dry-run:\n%swant %s", plan, want)
		}
	}
	if out := c.run(policies("apply", month)...); out.exit != exitUsage || !strings.Contains(out.stderr, "nothing removed: nobody answered; give --yes") || !strings.Contains(out.stderr, "remove rollups") {
		t.Errorf("apply, unanswered: exit %d\n%s", out.exit, out.stderr)
	}
	wantText(t, "days before the answer", c.must("query", "bars", "--every", "1d", "--format", "csv").stdout, before)
	if out := c.must(policies("apply", month, "--yes")...).stdout; !strings.Contains(out, "before "+cutoff) && !strings.Contains(out, cutoff) {
		t.Errorf("apply:\n%s", out)
	}
	if n := strings.Count(c.must("query", "bars", "--format", "csv").stdout, "\n"); n != 63 {
		t.Errorf("%d lines of bars are left, want a header and two of 31 days", n)
	}
	answer := c.must("query", "bars", "--every", "1d", "--format", "csv")
	if wantText(t, "days that outlive their bars", answer.stdout, before); !strings.Contains(answer.stderr, "bars before "+cutoff+" are dropped") {
		t.Errorf("the answer says:\n%s", answer.stderr)
	}
	var state policiesState
	if err := json.Unmarshal([]byte(c.must(policies("status", "--audit", "100", "--json")...).stdout), &state); err != nil {
		t.Fatal(err)
	}
	if len(state.Policies) != 1 || state.Policies[0].KeptFrom.Format(time.DateOnly) != cutoff || state.Policies[0].Stale != 0 || len(state.Audit) != 5 {
		t.Errorf("status: %+v", state)
	}
	if out := c.must(policies("status", "--audit", "1")...).stdout; !strings.Contains(out, "dropped") || strings.Contains(out, "remove rollups") || !strings.Contains(out, "bars 1m") {
		t.Errorf("status:\n%s", out)
	}

	c.must("write", "bars", "--symbol", "MSFT", "--timeframe", "1m", "--ts", today.Format(time.RFC3339), "--close", "7")
	if out := c.must("query", "bars", "--every", "1d", "--as-refreshed", "--format", "csv"); out.stdout != before || !regexp.MustCompile("1 change since .* is not in these rollups yet").MatchString(out.stderr) {
		t.Errorf("as refreshed:\n%s%s", out.stdout, out.stderr)
	}
	if out := c.must("query", "bars", "--every", "1d", "--format", "csv").stdout; out == before {
		t.Error("a write is not seen")
	}
	if out := c.must(policies("status")...).stdout; !regexp.MustCompile(`bars 1m +30d +\S+ +1d +UTC +1 `).MatchString(out) {
		t.Errorf("status after a write:\n%s", out)
	}
	// What cannot be made again is not removed by the way, nor by an empty file.
	for file, want := range map[string]string{testFile(t, "none.toml", "[bars]\n"): "left out rollups that cannot be made again", testFile(t, "empty.toml", ""): "the file says nothing"} {
		if out := c.run(policies("apply", file, "--yes")...); out.exit != exitUsage || !strings.Contains(out.stderr, strings.Replace(want, "left", "leave", 1)) {
			t.Errorf("%s: exit %d\n%s", file, out.exit, out.stderr)
		}
	}
	if out := c.must("query", "bars", "--every", "30m", "--format", "csv"); !strings.Contains(out.stderr, "bars before "+cutoff+" are dropped, and no rollup makes up 30m: there are none from before") {
		t.Errorf("what no rollup answers:\n%s", out.stderr)
	}
	if out := c.must("export", "rollups", "-", "--format", "csv").stdout; strings.Count(out, "\n") != 41 {
		t.Errorf("rollups:\n%s", out)
	}
	for _, bad := range []struct {
		exit int
		want string
		args []string
	}{
		{exitUsage, "bad.toml: line 1: there is no setting bars.7m", policies("apply", testFile(t, "bad.toml", "[bars.7m]\n"))},
		{exitUsage, "none.toml: no such file", policies("dry-run", "none.toml")},
		{exitUsage, "takes one file of policies at most", policies("apply", "a", "b")},
		{exitUsage, "--audit -1", policies("status", "--audit", "-1")},
		{exitUsage, "--as-refreshed is about what is made with --every", []string{"query", "bars", "--as-refreshed"}},
		{exitUsage, "say which, show, status, dry-run or apply", policies()},
	} {
		if out := c.run(bad.args...); out.exit != bad.exit || !strings.Contains(out.stderr, bad.want) {
			t.Errorf("mds %s: exit %d\n%swant %s", strings.Join(bad.args, " "), out.exit, out.stderr, bad.want)
		}
	}
}

// TestPoliciesNeedTheOwner refuses the service's login, which may not change them.
func TestPoliciesNeedTheOwner(t *testing.T) {
	c, _ := onServer(t)
	for _, args := range [][]string{{"policies", "apply"}, {"policies", "dry-run"}, {"policies", "status", "--audit", "1"}} {
		if out := c.run(args...); out.exit != exitFailed || !strings.Contains(out.stderr, "give the owner's DSN with --admin-dsn") {
			t.Errorf("mds %s: exit %d\n%s", strings.Join(args, " "), out.exit, out.stderr)
		}
	}
	c.must("policies", "show")
	c.must("policies", "status")
}

// beforeRead does something before it is read.
type beforeRead struct {
	io.Reader
	do func()
}

func (r *beforeRead) Read(p []byte) (int, error) {
	if do := r.do; do != nil {
		r.do = nil
		do()
	}
	return r.Reader.Read(p)
}

// TestPoliciesWhileAsked has others put policies in force while somebody thinks about what is
// taken away: rollups that could be made again when that was asked, and those that there were
// none of, stay.
func TestPoliciesWhileAsked(t *testing.T) {
	for name, c := range map[string]struct {
		before, meanwhile, put string
		exit                   int
		stderr                 string
	}{
		"their bars are dropped": {"rollups = [\"1d\"]\n", "drop_after = \"30d\"\nrollups = [\"1d\"]\n", "", exitUsage, "rollups that cannot be made again: nothing was done"},
		"they are new":           {"", "rollups = [\"1d\"]\n", "drop_after = \"30d\"\n", exitFailed, "with rollups that these leave out: nothing was done; run it again\n"},
	} {
		t.Run(name, func(t *testing.T) {
			one, d := onServer(t)
			apply := func(policy string, more ...string) []string {
				return append([]string{"policies", "apply", "--admin-dsn", d.Owner, testFile(t, "policies.toml", "[bars.1m]\n"+policy)}, more...)
			}
			file, _ := days(t, 40)
			one.must("ingest", "bars", file, "--symbol", "MSFT", "--timeframe", "1m")
			one.must(apply(c.before, "--yes")...)
			other := newCLI(t)
			other.dsn = one.dsn
			one.stdin = &beforeRead{strings.NewReader("y\n"), func() { other.must(apply(c.meanwhile, "--yes")...) }}
			out := one.run(apply(c.put)...)
			if out.exit != c.exit || !strings.Contains(out.stderr, "Take these rows away?") || !strings.Contains(out.stderr, c.stderr) {
				t.Errorf("exit %d\n%s%s", out.exit, out.stdout, out.stderr)
			}
			if n := pgtest.Ask(t, d.Admin, "SELECT count(*) FROM mds_internal.bar_rollup_facts"); n != "40" {
				t.Errorf("%s rollups are left of 40 days", n)
			}
		})
	}
}
