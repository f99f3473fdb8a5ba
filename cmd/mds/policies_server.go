package main

import (
	"context"
	"fmt"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/remote"
)

// plannedThere is what a server would do of policies.
func (a *app) plannedThere(ctx context.Context, s *session, server *remote.Store, args []string) ([]mds.Policy, []mds.Step, mds.Abilities, error) {
	policies, err := a.policiesThere(ctx, s, server, args)
	if err != nil {
		return nil, nil, mds.Abilities{}, err
	}
	plan, err := server.PlanPolicies(ctx, policies)
	return policies, plan.Steps, mds.Abilities{Partition: plan.Partition, Compress: plan.Compress, WhyNot: plan.WhyNot}, err
}

// policiesThere are those of a file, or else those in force at a server.
func (a *app) policiesThere(ctx context.Context, s *session, server *remote.Store, args []string) ([]mds.Policy, error) {
	inForce := func(ctx context.Context) ([]mds.PolicyStatus, error) { return server.Policies(ctx, s.tenant) }
	return policyFile(ctx, inForce, args)
}

// applyThere puts policies in force at a server, and has it do what they ask for.
func (a *app) applyThere(ctx context.Context, s *session, args []string, yes, lose bool) error {
	server, ok := s.Backend.(*remote.Store)
	if !ok {
		return fmt.Errorf("the store %s is no server", s.dsn)
	}
	policies, steps, _, err := a.plannedThere(ctx, s, server, args)
	if err != nil {
		return err
	}
	if err := a.mayDestroy(steps, yes, lose); err != nil {
		return err
	}
	done, err := server.PutPolicies(ctx, policies, lose)
	if err != nil {
		return err
	}
	for _, cells := range stepRows(done.Steps) {
		a.sayStep(cells, "")
	}
	jobs := remote.OpenJobs(server, s.tenant)
	job, _, err := jobs.Enqueue(ctx, mds.Job{Action: mds.JobPolicies})
	if err != nil {
		return fmt.Errorf("the policies are in force, and what they ask for is not done: %w", err)
	}
	fmt.Fprintf(a.stderr, "the job %s does what they ask for\n", job.ID)
	if job, err = a.followJob(ctx, jobs, job); err != nil {
		return err
	}
	if job.State != mds.JobDone {
		return fmt.Errorf("the policies are in force, and what they ask for is not done: the job %s is %s: %s", job.ID, job.State, job.Error)
	}
	return nil
}
