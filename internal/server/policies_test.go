package server_test

import (
	"context"
	"encoding/json"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/pgtest"
	"github.com/marketdatastore/mds/store"
)

// inForce are the policies that ask for something, as the keeper reads them.
func (c *controlled) inForce(t *testing.T) (policies []mds.Policy) {
	t.Helper()
	k, err := store.OpenKeeper(t.Context(), c.store, c.owner)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(context.Background())
	list, err := k.Policies(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for i := range list {
		if p := list[i].Policy; !p.Keeps() {
			policies = append(policies, p)
		}
	}
	return policies
}

// carriedOut has the keeper do what the policies in force ask for.
func (c *controlled) carriedOut(t *testing.T) {
	t.Helper()
	k, err := store.OpenKeeper(t.Context(), c.store, c.owner)
	if err != nil {
		t.Fatal(err)
	}
	defer k.Close(context.Background())
	if err := store.Apply(t.Context(), c.store, k, c.inForce(t), time.Now(), nil, func(mds.Step, bool) {}); err != nil {
		t.Fatal(err)
	}
}

// TestPoliciesOverHTTP puts policies in force that the keeper then reads and carries out: what is
// old is gone, and stays in its rollups. What is not put is not in force any more.
func TestPoliciesOverHTTP(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		a, err := c.store.Tenant(t.Context(), "a")
		if err != nil {
			t.Fatal(err)
		}
		old, fresh := time.Now().AddDate(0, 0, -60).UTC().Truncate(24*time.Hour), time.Now().UTC().Truncate(24*time.Hour)
		var bars []mds.Bar
		for _, day := range []time.Time{old, fresh} {
			bars = append(bars, mds.Bar{Vendor: "v", Symbol: "A", Timeframe: mds.Minute, TS: day.Add(time.Minute), Close: 7})
		}
		if _, err := store.Bars(c.store).WriteBatch(t.Context(), a, bars); err != nil {
			t.Fatal(err)
		}
		const document = `{"policies":[{"kind":"bars","timeframe":"1m","drop_after":"30d","rollups":["1d"],"zone":"America/New_York"},{"kind":"news","compress_after":"90d"}]}`
		var plan client.PolicyPlan
		c.do(t, c.op, http.MethodPost, "/v1/policies/plan", document).into(t, http.StatusOK, &plan)
		drops := slices.IndexFunc(plan.Steps, func(s mds.Step) bool { return s.Action == mds.StepDrop })
		if drops < 0 || plan.Steps[drops].Rows != 1 || plan.Compress && plan.WhyNot != "" {
			t.Errorf("%+v", plan)
		}
		if before := c.inForce(t); len(before) != 0 {
			t.Errorf("a plan put %v in force", before)
		}
		c.do(t, c.op, http.MethodPut, "/v1/policies", document).into(t, http.StatusOK, &plan)
		if plan.Steps[0].Action != mds.StepKeep || plan.Steps[1].Action != mds.StepRollup || plan.Steps[1].Rollup != mds.Day {
			t.Errorf("%+v", plan.Steps)
		}
		month, quarter := mds.Age{N: 30, Unit: 'd'}, mds.Age{N: 90, Unit: 'd'}
		want := []mds.Policy{{Kind: "bars", Timeframe: mds.Minute, DropAfter: month, Rollups: []mds.Timeframe{mds.Day}, Zone: "America/New_York"}, {Kind: "news", CompressAfter: quarter}}
		got := c.inForce(t)
		if len(got) != 2 || !got[0].Equal(&want[0]) || !got[1].Equal(&want[1]) {
			t.Errorf("%+v are in force", got)
		}
		c.carriedOut(t)
		if n, err := store.Bars(c.store).Count(t.Context(), a, mds.Selection{}); n != 1 || err != nil {
			t.Errorf("%d bars are left, %v", n, err)
		}
		if n, err := store.TableOf[mds.Rollup](c.store).Count(t.Context(), a, mds.Selection{}); n != 2 || err != nil {
			t.Errorf("%d rollups, %v", n, err)
		}
		var lines client.PolicyAudit
		c.do(t, c.op, http.MethodGet, "/v1/policies/audit?limit=1", "").into(t, http.StatusOK, &lines)
		if len(lines.Lines) != 1 || lines.Lines[0].Action != "dropped" || !strings.HasSuffix(lines.Lines[0].About, "bars 1m") {
			t.Errorf("%+v", lines)
		}
		var status client.PoliciesStatus
		c.do(t, c.a, http.MethodGet, "/v1/policies/status", "").into(t, http.StatusOK, &status)
		if i := slices.IndexFunc(status.Policies, func(p mds.PolicyStatus) bool { return p.Name() == "bars 1m" }); i < 0 || status.Policies[i].KeptFrom.IsZero() {
			t.Errorf("%+v", status)
		}

		// What is told is what is put: again it changes nothing.
		told := c.do(t, c.op, http.MethodGet, "/v1/policies", "")
		plan.Steps = nil
		c.do(t, c.op, http.MethodPut, "/v1/policies", told.body).into(t, http.StatusOK, &plan)
		if len(plan.Steps) != 0 {
			t.Errorf("the same again: %+v", plan.Steps)
		}
		// Rollups that cannot be made again go only where that is said.
		c.do(t, c.op, http.MethodPut, "/v1/policies", `{"policies":[]}`).problem(t, http.StatusConflict, "irreplaceable", "lose_history=true")
		if now := c.inForce(t); len(now) != 2 {
			t.Errorf("%+v are in force", now)
		}
		c.do(t, c.op, http.MethodPut, "/v1/policies?lose_history=true", `{"policies":[]}`).into(t, http.StatusOK, &plan)
		if now := c.inForce(t); len(now) != 0 {
			t.Errorf("%+v are in force", now)
		}
		var defaults client.PolicyPlan
		c.do(t, c.op, http.MethodGet, "/v1/policies/plan", "").into(t, http.StatusOK, &defaults)
		if lines := c.noted(t, "attempt", "put-policies"); len(lines) != 4 || !strings.Contains(lines[0], "America/New_York") || !strings.Contains(lines[0], c.opID) {
			t.Errorf("noted: %v", lines)
		}
		for _, body := range []string{
			`{}`, `{"policies":[{"kind":"bars"}]}`, `{"policies":[{"kind":"news"},{"kind":"news"}]}`, `{"policies":[{"kind":"news","drop_after":"90"}]}`, `{"policies":[{"kind":"news","keep":"90d"}]}`, `{"policies":{}}`,
		} {
			for _, path := range []string{"PUT /v1/policies", "POST /v1/policies/plan"} {
				method, path, _ := strings.Cut(path, " ")
				if got := c.do(t, c.op, method, path, body); got.status != http.StatusBadRequest {
					t.Errorf("%s is answered %d %s", body, got.status, got.body)
				}
			}
		}
	})
}

// withLogin is a DSN with another login, and its password.
func withLogin(t *testing.T, dsn, login, password string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	if err != nil {
		t.Fatal(err)
	}
	u.User = url.UserPassword(login, password)
	return u.String()
}

// TestLoginsOverHTTP makes a login that can connect with its password and sees its tenant only,
// and takes that away again. A DuckDB store has none.
func TestLoginsOverHTTP(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		if strings.HasSuffix(t.Name(), "DuckDB") {
			c.do(t, c.op, http.MethodGet, "/v1/logins", "").problem(t, http.StatusConflict, "not_done_here", "the store has no logins")
			return
		}
		c.post(t, "/v1/bars", bar("A", 0, 1), bearer(c.a)...).into(t, http.StatusOK, new(any))
		c.post(t, "/v1/bars", bar("B", 0, 1), bearer(c.b)...).into(t, http.StatusOK, new(any))
		name := "bi_" + strings.ToLower(c.opID)
		body := func(more string) string {
			text, _ := json.Marshal(name)
			return `{"tenant":"a","login":` + string(text) + more + `}`
		}
		c.do(t, c.op, http.MethodPost, "/v1/logins", body("")).problem(t, http.StatusConflict, "login_refused", "there is no login "+name+"; have it made with create, or by an administrator")
		c.do(t, c.op, http.MethodPost, "/v1/logins", body(`,"password":"x"`)).problem(t, http.StatusBadRequest, "bad_parameter", "create")
		c.do(t, c.op, http.MethodPost, "/v1/logins", body(`,"create":true`)).problem(t, http.StatusConflict, "login_refused", "let an administrator run")
		admin := pgtest.Start(t).DSN("admin", "postgres")
		pgtest.Exec(t, admin, "ALTER ROLE mds CREATEROLE")
		t.Cleanup(func() { pgtest.Exec(t, admin, "ALTER ROLE mds NOCREATEROLE") })
		var made client.Login
		got := c.do(t, c.op, http.MethodPost, "/v1/logins", body(`,"create":true`))
		got.into(t, http.StatusCreated, &made)
		if made.Password == "" || got.header.Get("Cache-Control") != "no-store" {
			t.Errorf("%+v", made)
		}
		c.silent(t, made.Password)
		dsn := withLogin(t, c.owner, name, made.Password)
		if seen := pgtest.Ask(t, dsn, "SELECT string_agg(symbol, ',') FROM mds.bars"); seen != "A" {
			t.Errorf("it sees %q", seen)
		}
		var again client.Login
		c.do(t, c.op, http.MethodPost, "/v1/logins", body(`,"create":true`)).into(t, http.StatusOK, &again)
		if again.Password != "" || again.Made {
			t.Errorf("%+v", again)
		}
		c.do(t, c.op, http.MethodPost, "/v1/logins", strings.Replace(body(""), `"a"`, `"b"`, 1)).problem(t, http.StatusConflict, "login_refused", "")
		var list client.Logins
		c.do(t, c.op, http.MethodGet, "/v1/logins", "").into(t, http.StatusOK, &list)
		if len(list.Logins) != 1 || list.Logins[0].Login != name || list.Logins[0].Tenant != "a" {
			t.Errorf("%+v", list)
		}
		c.do(t, c.op, http.MethodDelete, "/v1/logins/"+name+"?tenant=b", "").problem(t, http.StatusNotFound, "unknown_login", "")
		c.do(t, c.op, http.MethodDelete, "/v1/logins/"+name+"?tenant=a", "").into(t, http.StatusOK, &made)
		c.do(t, c.op, http.MethodDelete, "/v1/logins/"+name, "").problem(t, http.StatusNotFound, "unknown_login", "")
		if n := pgtest.Ask(t, c.owner, "SELECT count(*) FROM mds_internal.tenant_logins"); n != "0" {
			t.Errorf("%s logins read tenants", n)
		}

		owner, err := url.Parse(c.owner)
		if err != nil {
			t.Fatal(err)
		}
		// With a password of one's own, which is told nobody.
		name += "2"
		c.do(t, c.op, http.MethodPost, "/v1/logins", body(`,"create":true,"password":"of-my-own-7"`)).into(t, http.StatusCreated, &made)
		c.silent(t, "of-my-own-7")
		if seen := pgtest.Ask(t, withLogin(t, c.owner, name, "of-my-own-7"), "SELECT count(*) FROM mds.bars"); seen != "1" {
			t.Errorf("it sees %s", seen)
		}
		for _, name := range []string{"", strings.Repeat("z", 64), `\u0000`, `\ud800`, "pg_read_all_data", "pg_mine", "public", "none", " x"} {
			c.do(t, c.op, http.MethodPost, "/v1/logins", `{"tenant":"a","create":true,"login":"`+name+`"}`).problem(t, http.StatusBadRequest, "bad_parameter", "login: it ")
		}
		c.do(t, c.op, http.MethodPost, "/v1/logins", `{"tenant":"a","login":"`+owner.User.Username()+`"}`).problem(t, http.StatusConflict, "login_refused", "")
	})
}

// TestPoliciesAtOnce puts two sets of policies in force at once: one of them is in force then,
// and whoever cannot be served meanwhile is told so.
func TestPoliciesAtOnce(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		body := func(after string) string {
			return strings.ReplaceAll(`{"policies":[{"kind":"news","drop_after":"N"},{"kind":"options","drop_after":"N"},{"kind":"fundamentals","drop_after":"N"}]}`, "N", after)
		}
		for range 8 {
			answers := make(chan answer, 2)
			for _, after := range []string{"30d", "60d"} {
				go func() { answers <- c.do(t, c.op, http.MethodPut, "/v1/policies", body(after)) }()
			}
			for range 2 {
				if got := <-answers; got.status != http.StatusOK {
					got.problem(t, http.StatusServiceUnavailable, "policies_busy", "")
				}
			}
			after := make(map[string]bool)
			list := c.inForce(t)
			for i := range list {
				after[list[i].DropAfter.String()] = true
			}
			if len(list) != 3 || len(after) != 1 {
				t.Fatalf("in force are %+v", list)
			}
		}
	})
}
