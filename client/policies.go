package client

import (
	"context"
	"net/http"
	"net/url"
	"strconv"

	"github.com/marketdatastore/mds"
)

// Policies say what the store keeps of all tenants.
type Policies struct {
	Policies []mds.Policy `json:"policies" doc:"Of each kind, of bars of each timeframe; of what is not listed nothing is asked for"`
}

// PoliciesStatus is what became of the policies.
type PoliciesStatus struct {
	Policies []mds.PolicyStatus `json:"policies" doc:"Those in force, with what became of them for the tenant"`
}

// PolicyPlan is what would be done, or was.
type PolicyPlan struct {
	Steps []mds.Step `json:"steps" doc:"In the order in which they are done"`
	// Partition and Compress are what the engine does of policies.
	Partition bool   `json:"partition" doc:"Whether the engine divides tables"`
	Compress  bool   `json:"compress" doc:"Whether the engine compresses by policies"`
	WhyNot    string `json:"why_not,omitempty" doc:"Why it does not compress"`
}

// PolicyAudit is what was dropped and removed.
type PolicyAudit struct {
	Lines []mds.AuditLine `json:"lines" doc:"The newest first"`
}

// Policies are those in force, with what became of them for a tenant.
func (c *Client) Policies(ctx context.Context, tenant mds.Tenant) ([]mds.PolicyStatus, error) {
	var status PoliciesStatus
	err := c.get(ctx, c.tenant(tenant), "/v1/policies/status", nil, &status)
	return status.Policies, err
}

// PlanPolicies is what putting policies in force and carrying them out would do; of those in
// force, or the default ones where there are none, if policies is nil. It takes an operator's
// key, as the methods after it do.
func (c *Client) PlanPolicies(ctx context.Context, policies []mds.Policy) (plan PolicyPlan, err error) {
	if policies == nil {
		return plan, c.get(ctx, c.cfg.Tenant, "/v1/policies/plan", nil, &plan)
	}
	return plan, c.send(ctx, request{method: http.MethodPost, tenant: c.cfg.Tenant, path: "/v1/policies/plan"}, Policies{policies}, &plan)
}

// PutPolicies puts policies in force, in the place of all that are, and tells what it took. What
// they ask for is done by a job of the action policies. Rollups that cannot be made again are
// removed only where loseHistory says so.
func (c *Client) PutPolicies(ctx context.Context, policies []mds.Policy, loseHistory bool) (plan PolicyPlan, err error) {
	query := url.Values{}
	if loseHistory {
		query.Set("lose_history", "true")
	}
	return plan, c.send(ctx, request{method: http.MethodPut, tenant: c.cfg.Tenant, path: "/v1/policies", query: query}, Policies{policies}, &plan)
}

// PolicyAudit are the newest lines of what was dropped and removed, so many at most.
func (c *Client) PolicyAudit(ctx context.Context, limit int) ([]mds.AuditLine, error) {
	var audit PolicyAudit
	err := c.get(ctx, c.cfg.Tenant, "/v1/policies/audit", url.Values{"limit": {strconv.Itoa(limit)}}, &audit)
	return audit.Lines, err
}
