package server_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/apikey"
	"github.com/marketdatastore/mds/internal/audit"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
)

// audited is a server with an audit log, and an operation that is a control action.
type audited struct {
	*keyed
	path    string
	done    atomic.Int64
	outcome func(answer func(int) error) error
	seen    []map[string]any // of the log, when it is done
}

func newAudited(t *testing.T) *audited {
	t.Helper()
	a := &audited{path: filepath.Join(t.TempDir(), "audit.ndjson"), outcome: func(answer func(int) error) error { return answer(http.StatusOK) }}
	log, err := audit.Open(a.path)
	if err != nil {
		t.Fatal(err)
	}
	dsn := "duckdb://" + t.TempDir()
	st, err := store.Open(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	keys, err := store.OpenKeys(t.Context(), dsn, store.Config{})
	if err != nil {
		t.Fatal(err)
	}
	a.keyed = &keyed{serve(t, dsn, server.Config{Audit: log, Keys: apikey.NewAuthenticator(st, apikey.Config{Refresh: time.Nanosecond})}, st), keys}
	t.Cleanup(func() { // before the server's own
		if err := log.Close(); err != nil {
			t.Error(err)
		}
	})
	if _, err := st.CreateTenant(t.Context(), "b4"); err != nil {
		t.Fatal(err)
	}
	a.server.Control("DELETE", "/v1/things", func(answer func(int) error) error {
		a.done.Add(1)
		a.seen = a.entries(t)
		return a.outcome(answer)
	})
	return a
}

// entries are those of the file, but for their times, which it checks.
func (a *audited) entries(t *testing.T) []map[string]any {
	t.Helper()
	text, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	var list []map[string]any
	for line := range strings.Lines(string(text)) {
		var e map[string]any
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		at, err := time.Parse("2006-01-02T15:04:05.999999999Z", e["time"].(string))
		if err != nil || time.Since(at) > time.Minute || time.Since(at) < 0 {
			t.Errorf("it is of %v", e["time"])
		}
		if remote, _ := e["remote"].(string); !strings.HasPrefix(remote, "127.0.0.1:") {
			t.Errorf("it comes from %q", remote)
		}
		delete(e, "time")
		delete(e, "remote")
		list = append(list, e)
	}
	return list
}

func (a *audited) remove(t *testing.T, query string, headers ...string) answer {
	t.Helper()
	return a.ask(t, http.MethodDelete, "/v1/things"+query, nil, append([]string{"X-Request-Id", "r1"}, headers...)...)
}

// same compares entries, as JSON.
func same(t *testing.T, got, want any) {
	t.Helper()
	g, _ := json.Marshal(got)
	w, _ := json.Marshal(want)
	if string(g) != string(w) {
		t.Errorf("got  %s\nwant %s", g, w)
	}
}

// TestAudit notes a control action before it is done, and what became of it after.
func TestAudit(t *testing.T) {
	a := newAudited(t)
	token, id := a.make(t, "b4", time.Time{}, mds.ScopeAdmin)
	base := map[string]any{
		"request_id": "r1", "operation": "test-control", "method": "DELETE", "path": "/v1/things", "tenant": "b4", "key": id,
		"parameters": map[string]any{"symbol": []string{"A", "B"}, "password": []string{"(secret)"}},
	}
	entry := func(more map[string]any) map[string]any {
		e := maps.Clone(base)
		maps.Copy(e, more)
		return e
	}
	attempt := entry(map[string]any{"event": "attempt"})
	for _, tt := range []struct {
		name    string
		outcome func(func(int) error) error
		want    map[string]any
	}{
		{"it is done", func(answer func(int) error) error { return answer(http.StatusAccepted) }, map[string]any{"event": "outcome", "status": 202}},
		{"it is not there", func(func(int) error) error { return mds.ErrUnknownTenant }, map[string]any{"event": "outcome", "status": 404, "code": "unknown_tenant"}},
		{"it fails", func(func(int) error) error { return errors.New("no") }, map[string]any{"event": "outcome", "status": 500, "code": "internal"}},
		{"it panics", func(func(int) error) error { panic("no") }, map[string]any{"event": "outcome", "status": 500, "code": "internal"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(a.entries(t))
			a.outcome = tt.outcome
			a.remove(t, "?symbol=A&symbol=B&password=hunter2", bearer(token)...)
			same(t, a.seen[before:], []map[string]any{attempt})
			same(t, a.entries(t)[before:], []map[string]any{attempt, entry(tt.want)})
		})
	}
	if text, err := os.ReadFile(a.path); err != nil || strings.Contains(string(text), "hunter2") || strings.Contains(string(text), token[17:]) {
		t.Errorf("a secret is in the audit log: %v", err)
	}
	before := len(a.entries(t))
	a.get(t, "/v1/bars", bearer(token)...)
	a.get(t, "/metrics", bearer(token)...)
	if got := a.entries(t)[before:]; len(got) > 0 {
		t.Errorf("what is no control action is noted: %v", got)
	}
}

// TestAuditRefused notes control actions that were not tried.
func TestAuditRefused(t *testing.T) {
	a := newAudited(t)
	reader, readerID := a.make(t, "b4", time.Time{}, mds.ScopeRead)
	admin, adminID := a.make(t, "b4", time.Time{}, mds.ScopeAdmin)
	for _, tt := range []struct {
		name, query string
		headers     []string
		status      int
		want        map[string]any
	}{
		{"without a key", "?symbol=A", nil, 401, map[string]any{"code": "no_key"}},
		{"with none that is known", "", bearer("mds_x"), 401, map[string]any{"code": "malformed_key"}},
		{"with another scope", "", bearer(reader), 403, map[string]any{"code": "forbidden", "tenant": "b4", "key": readerID}},
		{"of another tenant", "", append(bearer(admin), "Mds-Tenant", "other"), 404, map[string]any{"code": "unknown_tenant", "tenant": "b4", "key": adminID}},
		{"with another parameter", "?x=1", bearer(admin), 400, map[string]any{"code": "bad_parameter", "tenant": "b4", "key": adminID}},
		{"with a long one", "?x=1&symbol=" + strings.Repeat("ü", 5000), bearer(admin), 400, map[string]any{"code": "bad_parameter", "tenant": "b4", "key": adminID, "parameters": map[string]any{"symbol": []string{strings.Repeat("ü", 128) + "…"}}}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			before := len(a.entries(t))
			if got := a.remove(t, tt.query, tt.headers...); got.status != tt.status {
				t.Errorf("it is answered %d, %s", got.status, got.body)
			}
			want := map[string]any{"event": "refused", "request_id": "r1", "operation": "test-control", "method": "DELETE", "path": "/v1/things", "status": tt.status}
			maps.Copy(want, tt.want)
			same(t, a.entries(t)[before:], []map[string]any{want})
		})
	}
	if n := a.done.Load(); n != 0 {
		t.Errorf("it was done %d times", n)
	}
}

// TestAuditWhole notes all of what is to be removed, however long, and how much was.
func TestAuditWhole(t *testing.T) {
	a := newAudited(t)
	token, _ := a.make(t, "b4", time.Time{}, mds.ScopeWrite)
	var body, list strings.Builder
	for n := range 3 {
		body.WriteString(bar("LAST", n, 1))
	}
	a.post(t, "/v1/bars", body.String(), bearer(token)...).into(t, http.StatusOK, new(any))
	for n := range 900 {
		fmt.Fprintf(&list, "<PADDING%d>,", n)
	}
	list.WriteString("LAST")
	a.ask(t, http.MethodDelete, "/v1/bars?symbol="+url.QueryEscape(list.String()), nil, bearer(token)...).into(t, http.StatusOK, new(any))
	entries := a.entries(t)
	if len(entries) != 2 {
		t.Fatalf("there are %d entries", len(entries))
	}
	same(t, entries[0]["parameters"], map[string]any{"symbol": []string{list.String()}})
	same(t, entries[1]["removed"], 3)
	text, err := os.ReadFile(a.path)
	if err != nil {
		t.Fatal(err)
	}
	if _, outcome, _ := strings.Cut(string(text), "\n"); len(outcome) > 8<<10 || strings.Contains(string(text), `\u003c`) {
		t.Errorf("the outcome takes %d bytes: %.200s", len(outcome), outcome)
	}
}

// TestAuditBounded writes little down of who has no key.
func TestAuditBounded(t *testing.T) {
	a := newAudited(t)
	begun := time.Now()
	for range 60 {
		a.remove(t, "?symbol="+strings.Repeat("<", 5000)).problem(t, http.StatusUnauthorized, "no_key", "")
	}
	var last []map[string]any
	await(t, "the next second has an entry", func() bool {
		a.remove(t, "")
		last = a.entries(t)
		return last[len(last)-1]["left_out"] != nil
	})
	if most := 10 * (int(time.Since(begun).Seconds()) + 2); len(last) > most {
		t.Errorf("there are %d entries, more than %d", len(last), most)
	}
	if text, err := os.ReadFile(a.path); err != nil || len(text) > 500*len(last) {
		t.Errorf("they take %d bytes; %v", len(text), err)
	}
}

// TestAuditCannotBeWritten does nothing that cannot be noted, and goes on when it can.
func TestAuditCannotBeWritten(t *testing.T) {
	a := newAudited(t)
	token, _ := a.make(t, "b4", time.Time{}, mds.ScopeAdmin)
	away := a.path + ".1"
	if err := errors.Join(os.Rename(a.path, away), os.Mkdir(a.path, 0o700)); err != nil {
		t.Fatal(err)
	}
	got := a.remove(t, "", bearer(token)...)
	got.problem(t, http.StatusServiceUnavailable, "audit_unavailable", "this is done only where it can be noted in the audit log")
	if n := a.done.Load(); n != 0 || got.header.Get("Retry-After") == "" {
		t.Errorf("it was done %d times; %v", n, got.header)
	}
	a.remove(t, "").problem(t, http.StatusUnauthorized, "no_key", "") // which is no matter of the log
	if logs := a.logs.String(); strings.Count(logs, `msg="a control action is not in the audit log"`) != 2 || !strings.Contains(logs, "is no file") {
		t.Errorf("the log says %s", logs)
	}
	if err := os.Remove(a.path); err != nil {
		t.Fatal(err)
	}
	if got := a.remove(t, "", bearer(token)...); got.status != http.StatusOK || a.done.Load() != 1 || len(a.entries(t)) != 2 {
		t.Errorf("afterwards it is answered %d, and noted %v", got.status, a.entries(t))
	}
}

// TestAuditLogged has control actions be in the log where there is no audit log.
func TestAuditLogged(t *testing.T) {
	w := serve(t, "duckdb://"+t.TempDir(), server.Config{})
	w.server.Control("POST", "/v1/things", func(answer func(int) error) error { return answer(http.StatusOK) })
	w.ask(t, http.MethodPost, "/v1/things?symbol=A&password=hunter2", nil)
	logs := w.logs.String()
	for _, want := range []string{`level=WARN msg="control action" event=attempt`, `level=WARN msg="control action" event=outcome`, "operation=test-control", "symbol:[A]", "status=200"} {
		if !strings.Contains(logs, want) {
			t.Errorf("the log has no %s: %s", want, logs)
		}
	}
	if strings.Contains(logs, "hunter2") {
		t.Errorf("a secret is in the log: %s", logs)
	}
}
