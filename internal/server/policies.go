package server

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/store"
)

// policyOperations say what the store keeps of all tenants.
func (s *Server) policyOperations() []operation {
	document := func(r *client.Policies) map[string][]string {
		text, _ := json.Marshal(r.Policies) // as it was read
		return map[string][]string{"policies": {string(text)}}
	}
	plan := operation{
		method: http.MethodPost, path: "/v1/policies/plan", id: "plan-policies", tag: "control", scope: mds.ScopeAdmin, operator: true,
		summary:     "Tell what policies would do",
		description: "The steps that putting them in force, and carrying them out, would take now, in rows and bytes. Nothing is changed.",
		body:        s.documentBody(client.Policies{}),
		responses:   s.document200("The steps", client.PolicyPlan{}),
		limit:       s.queries,
		serve: func(c *call) error {
			asked, err := read[client.Policies](s, c)
			if err != nil {
				return err
			}
			return s.planPolicies(c, asked)
		},
	}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/policies", id: "policies", tag: "control", scope: mds.ScopeAdmin,
			summary: "Tell the policies in force", description: "In the form in which they are put.",
			responses: s.document200("The policies; none where none were put in force", client.Policies{}),
			limit:     s.queries,
			serve: func(c *call) error {
				list, err := s.cfg.Store.Policies(c.Context(), c.tenant)
				if err != nil && !errors.Is(err, mds.ErrNoStore) {
					return err
				}
				return c.json(http.StatusOK, client.Policies{Policies: policiesOf(list)})
			},
		},
		control(s, operation{
			method: http.MethodPut, path: "/v1/policies", id: "put-policies", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary:     "Put policies in force, for all tenants",
			description: "In the place of all that are: of what is not listed nothing is asked for any more. The answer has the steps that it took. What they ask for from then on is done by a job of the action policies. Of two at once one is answered later, or with 503 and has done nothing. One that is cut off may have put some in force: the same again does the rest.",
			params:      []param{choice("lose_history", "Whether to remove rollups, too, that cannot be made again, since their bars are dropped", "false", "true")},
			body:        s.documentBody(client.Policies{}),
			responses:   s.document200("The steps that it took; none where they were in force", client.PolicyPlan{}),
			limit:       s.queries,
		}, document, s.putPolicies),
		{
			method: http.MethodGet, path: "/v1/policies/status", id: "policy-status", tag: "control", scope: mds.ScopeAdmin,
			summary: "Tell what became of the policies", description: "How fresh the tenant's rollups are, and from when on it has records.",
			responses: s.document200("The policies", client.PoliciesStatus{}),
			limit:     s.queries,
			serve: func(c *call) error {
				list, err := s.cfg.Store.Policies(c.Context(), c.tenant)
				if err != nil && !errors.Is(err, mds.ErrNoStore) {
					return err
				}
				return c.json(http.StatusOK, client.PoliciesStatus{Policies: append([]mds.PolicyStatus{}, list...)})
			},
		},
		{
			method: http.MethodGet, path: "/v1/policies/audit", id: "policy-audit", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary: "Tell what was dropped and removed", description: "And by which login, of all tenants, the newest first.",
			params:    []param{number("limit", "At most so many lines; 100 unless it is said", 1, mostAudit)},
			responses: s.document200("The lines", client.PolicyAudit{}),
			limit:     s.queries,
			serve:     s.auditPolicies,
		},
		{
			method: http.MethodGet, path: "/v1/policies/plan", id: "plan-policies-in-force", tag: "control", scope: mds.ScopeAdmin, operator: true,
			summary: "Tell what the policies in force would do", description: "Now; or the default ones where none are in force.",
			responses: s.document200("The steps", client.PolicyPlan{}),
			limit:     s.queries,
			serve:     func(c *call) error { return s.planPolicies(c, nil) },
		},
		plan,
	}
}

// mostAudit is how many lines are told at once.
const mostAudit = 10_000

func policiesOf(list []mds.PolicyStatus) []mds.Policy {
	policies := make([]mds.Policy, len(list))
	for i := range list {
		policies[i] = list[i].Policy
	}
	return policies
}

// withKeeper runs fn with what carries out policies.
func (s *Server) withKeeper(c *call, fn func(ctx context.Context, k store.Keeper) error) error {
	if s.cfg.Control.Keeper == nil {
		return notDoneHere("look after policies", needsOwner)
	}
	keeper, err := s.cfg.Control.Keeper(c.Context())
	if err != nil {
		return err
	}
	defer keeper.Close(context.WithoutCancel(c.Context())) //nolint:errcheck // what it did is committed
	err = fn(c.Context(), keeper)
	if err != nil && mds.Retryable(err) && !mds.Unavailable(err) {
		return &problem{status: http.StatusServiceUnavailable, code: "policies_busy", detail: err.Error(), retry: 5 * time.Second}
	}
	return invalid("bad_policies", err)
}

// whole are the policies of all kinds and timeframes: of those that are not listed nothing is
// asked for.
func whole(r *client.Policies) ([]mds.Policy, error) {
	if r.Policies == nil {
		return nil, badRequest("bad_policies", "policies: list them; an empty list asks for nothing any more")
	}
	given := make(map[string]mds.Policy)
	for i := range r.Policies {
		p := r.Policies[i]
		if err := p.Validate(); err != nil {
			return nil, badRequest("bad_policies", fmt.Sprintf("policies, element %d: %s", i, strings.TrimPrefix(err.Error(), "invalid ")))
		}
		if _, twice := given[p.Name()]; twice {
			return nil, badRequest("bad_policies", fmt.Sprintf("policies, element %d: %s is there twice", i, p.Name()))
		}
		given[p.Name()] = p
	}
	all := mds.DefaultPolicies()
	for i := range all {
		if p, ok := given[all[i].Name()]; ok {
			all[i] = p
		} else {
			all[i] = mds.Policy{Kind: all[i].Kind, Timeframe: all[i].Timeframe}
		}
	}
	return all, nil
}

// planned answers with steps, and what the engine does.
func planned(c *call, k store.Keeper, steps []mds.Step) error {
	does := k.Does()
	return c.json(http.StatusOK, client.PolicyPlan{Steps: append([]mds.Step{}, steps...), Partition: does.Partition, Compress: does.Compress, WhyNot: does.WhyNot})
}

// planPolicies tells what policies would do: those in force, or the default ones, where none are
// asked about.
func (s *Server) planPolicies(c *call, asked *client.Policies) (err error) {
	var policies []mds.Policy
	if asked != nil {
		if policies, err = whole(asked); err != nil {
			return err
		}
	}
	return s.withKeeper(c, func(ctx context.Context, k store.Keeper) error {
		if policies == nil {
			list, err := k.Policies(ctx)
			if err != nil {
				return err
			}
			if policies = policiesOf(list); len(policies) == 0 {
				policies = mds.DefaultPolicies()
			}
		}
		steps, err := store.Plan(ctx, k, policies, time.Now())
		if err != nil {
			return err
		}
		return planned(c, k, steps)
	})
}

func (s *Server) putPolicies(c *call, r *client.Policies) error {
	policies, err := whole(r)
	if err != nil {
		return err
	}
	return s.withKeeper(c, func(ctx context.Context, k store.Keeper) error {
		may := func(steps []mds.Step) error {
			if c.value("lose_history") == "true" || !slices.ContainsFunc(steps, func(s mds.Step) bool { return s.Irreplaceable }) {
				return nil
			}
			return &problem{
				status: http.StatusConflict, code: "irreplaceable",
				detail: "these policies leave out rollups that cannot be made again, and nothing was done: keep them, or say lose_history=true; /v1/policies/plan lists them",
			}
		}
		var did []mds.Step
		if err := store.Put(ctx, k, policies, may, func(step mds.Step, _ bool) { did = append(did, step) }); err != nil {
			return err
		}
		return planned(c, k, did)
	})
}

func (s *Server) auditPolicies(c *call) error {
	limit, err := c.integer("limit", 100, 1, mostAudit)
	if err != nil {
		return err
	}
	return s.withKeeper(c, func(ctx context.Context, k store.Keeper) error {
		lines, err := k.Audit(ctx, limit)
		if err != nil {
			return err
		}
		return c.json(http.StatusOK, client.PolicyAudit{Lines: append([]mds.AuditLine{}, lines...)})
	})
}
