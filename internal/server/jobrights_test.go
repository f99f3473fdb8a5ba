package server_test

import (
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/server"
)

// TestJobsTakeTheScopesOfTheirRecords has a key make no job that brings or hands out records which
// it may not by itself, and no tenant keep the jobs of others waiting.
func TestJobsTakeTheScopesOfTheirRecords(t *testing.T) {
	controlledEngines(t, func(t *testing.T, c *controlled) {
		admin, _ := c.make(t, "a", time.Time{}, mds.ScopeAdmin)
		c.cfg.Keys.Changed()
		for _, tt := range []struct {
			name, token, path, body string
			status                  int
			want                    string
		}{
			{"a backfill", admin, "/v1/jobs", `{"action": "backfill", "dataset": "bars"}`, http.StatusForbidden, "it takes the scope write"},
			{"one by its path", admin, "/backfill/x", `{"dataset": "bars"}`, http.StatusForbidden, "it takes the scope write"},
			{"a replay", admin, "/v1/jobs", `{"action": "replay"}`, http.StatusForbidden, "it takes the scope write"},
			{"an export", admin, "/v1/jobs", `{"action": "export", "dataset": "bars"}`, http.StatusForbidden, "it takes the scope read"},
			{"no records", admin, "/v1/jobs", `{"action": "compact"}`, http.StatusAccepted, `"action":"compact"`},
			{"with all scopes", c.a, "/v1/jobs", `{"action": "backfill", "dataset": "bars"}`, http.StatusBadRequest, "params"},
			{"before others", c.a, "/v1/jobs", `{"action": "compact", "priority": 1}`, http.StatusForbidden, "priority: one above 0 has the jobs of all tenants wait"},
			{"after others", c.a, "/v1/jobs", `{"action": "compact", "priority": -1}`, http.StatusAccepted, `"priority":-1`},
			{"the operator's", c.op, "/v1/jobs", `{"action": "compact", "priority": 1}`, http.StatusAccepted, `"priority":1`},
		} {
			if got := c.do(t, tt.token, http.MethodPost, tt.path, tt.body); got.status != tt.status || !strings.Contains(got.body, tt.want) {
				t.Errorf("%s: %d %s", tt.name, got.status, got.body)
			}
		}
	})
}

// TestPoliciesDoNotPileUp has no job carry out policies by itself while one waits that does.
func TestPoliciesDoNotPileUp(t *testing.T) {
	engines(t, func(t *testing.T, dsn string) {
		w := serve(t, dsn, server.Config{Jobs: &server.JobsConfig{PoliciesEvery: 10 * time.Millisecond, Concurrency: -1}})
		list := func() (list client.Jobs) {
			w.get(t, "/v1/jobs?action=policies").into(t, http.StatusOK, &list)
			return list
		}
		for n := 1; n <= 3; n++ {
			await(t, "another one", func() bool { return len(list().Jobs) >= n })
			got := list()
			if len(got.Jobs) != n {
				t.Errorf("there are %d, not %d", len(got.Jobs), n)
			}
			w.ask(t, http.MethodPost, "/v1/jobs/"+got.Jobs[0].ID+"/cancel", nil)
		}
	})
}
