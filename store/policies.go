package store

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/duckdb"
	"github.com/marketdatastore/mds/store/postgres"
)

// Keeper carries out policies, for all tenants of a store.
type Keeper interface {
	// Does says what of policies the engine carries out beside rollups and retention.
	Does() mds.Abilities
	// Policies are those in force, with what changed of all tenants' bars since rollups
	// were made of them.
	Policies(ctx context.Context) ([]mds.PolicyStatus, error)
	// Changes are the steps that putting policies in force takes.
	Changes(ctx context.Context, policies []mds.Policy) ([]mds.Step, error)
	// Keep puts a policy in force, and returns the steps that it took: none where it was.
	// Rollups that are begun are made by [Backend.Refresh].
	Keep(ctx context.Context, policy mds.Policy) ([]mds.Step, error)
	// Alone runs fn while no other keeper puts policies in force: what fn is told by Changes
	// holds until its Keep has ended. Where another one does the error may be retried, or
	// it waits.
	Alone(ctx context.Context, fn func() error) error
	// Due are the steps that policies ask for at a time.
	Due(ctx context.Context, policies []mds.Policy, now time.Time) ([]mds.Step, error)
	// Do does what a step of Due is about, and returns it with the rows that it was done to.
	// What it drops is gone from the bars and stays in their rollups; the error wraps
	// [mds.ErrNotRefreshed] where these are not made yet, and [mds.ErrPolicyChanged] where the
	// policy in force is another one than that of the step in what that goes by. One that is
	// interrupted has done nothing, or leaves what the next one goes on with.
	Do(ctx context.Context, step mds.Step) (mds.Step, error)
	// Audit are the newest lines of the audit, so many at most.
	Audit(ctx context.Context, limit int) ([]mds.AuditLine, error)
	// Close ends the connection that it has, if any.
	Close(ctx context.Context) error
}

// OpenKeeper returns the keeper of a store: on a server with the login of the owner of the
// database, whose DSN is given. Close it when done.
func OpenKeeper(ctx context.Context, s *Store, owner string) (Keeper, error) {
	switch b := s.Backend.(type) {
	case *duckdb.Store:
		return duckdb.OpenKeeper(b), nil
	case *postgres.Store:
		return postgres.OpenKeeper(ctx, owner)
	default:
		return nil, fmt.Errorf("no policies for backend %T", b)
	}
}

// Apply puts policies in force and does what they ask for at a time: rollups are made of
// what changed, and what is too old is dropped then. It tells each step before it begins
// (done is false), and what it did. One that is interrupted goes on where it is called
// again; where nothing is due it changes nothing. As with [Put] it asks before.
func Apply(ctx context.Context, s *Store, k Keeper, policies []mds.Policy, now time.Time, may func(steps []mds.Step) error, tell func(step mds.Step, done bool)) error {
	if err := Put(ctx, k, policies, may, tell); err != nil {
		return err
	}
	return carryOut(ctx, s, k, policies, now, tell)
}

// Put puts policies in force, while nobody else does: of two who do at once one's are all in
// force. Before anything changes it asks whether it may take these steps, where that is not
// nil: with an error nothing is done. It tells each step that it took.
func Put(ctx context.Context, k Keeper, policies []mds.Policy, may func(steps []mds.Step) error, tell func(step mds.Step, done bool)) error {
	if steps, err := k.Changes(ctx, policies); err != nil || len(steps) == 0 {
		return err
	}
	return k.Alone(ctx, func() error {
		if may != nil {
			steps, err := k.Changes(ctx, policies) // not those of before, which others may have changed
			if err == nil {
				err = may(steps)
			}
			if err != nil {
				return err
			}
		}
		return keepAll(ctx, k, policies, tell)
	})
}

// keepAll puts policies in force.
func keepAll(ctx context.Context, k Keeper, policies []mds.Policy, tell func(step mds.Step, done bool)) error {
	for _, p := range policies {
		steps, err := k.Keep(ctx, p)
		if err != nil {
			return err
		}
		for _, step := range steps {
			tell(step, true)
		}
	}
	return nil
}

// CarryOut is [Apply] of the policies that are in force: of a tenant that was made while
// another process had the others' they are put in force, too.
func CarryOut(ctx context.Context, s *Store, k Keeper, now time.Time, tell func(step mds.Step, done bool)) error {
	var policies []mds.Policy
	err := k.Alone(ctx, func() error { // nobody puts others in force meanwhile
		inForce, err := k.Policies(ctx)
		if err != nil {
			return err
		}
		for i := range inForce {
			policies = append(policies, inForce[i].Policy)
		}
		return keepAll(ctx, k, policies, tell)
	})
	if err != nil {
		return err
	}
	return carryOut(ctx, s, k, policies, now, tell)
}

// carryOut does what policies ask for at a time, which are in force.
func carryOut(ctx context.Context, s *Store, k Keeper, policies []mds.Policy, now time.Time, tell func(step mds.Step, done bool)) error {
	if err := RefreshAll(ctx, s, tell); err != nil {
		return err
	}
	due, err := k.Due(ctx, policies, now)
	if err != nil {
		return err
	}
	if slices.ContainsFunc(due, func(s mds.Step) bool { return s.Action == mds.StepPartition }) {
		for _, step := range due {
			if step.Action == mds.StepPartition {
				if err := do(ctx, s, k, step, tell); err != nil {
					return err
				}
			}
		}
		if due, err = k.Due(ctx, policies, now); err != nil { // of parts whole ones are
			return err
		}
	}
	for _, step := range due {
		if err := do(ctx, s, k, step, tell); err != nil {
			return err
		}
	}
	return nil
}

// Plan are the steps that [Apply] would take at a time, with the rows that they are about.
func Plan(ctx context.Context, k Keeper, policies []mds.Policy, now time.Time) ([]mds.Step, error) {
	steps, err := k.Changes(ctx, policies)
	if err != nil {
		return nil, err
	}
	list, err := k.Policies(ctx)
	if err != nil {
		return nil, err
	}
	for i := range list {
		if p := &list[i]; p.Stale > 0 {
			steps = append(steps, mds.Step{Action: mds.StepRefresh, Policy: p.Policy, Rows: p.Stale, Note: "changes since " + p.StaleSince.UTC().Format(time.DateTime)})
		}
	}
	due, err := k.Due(ctx, policies, now)
	for i := range due {
		s := &due[i]
		converts := slices.ContainsFunc(due, func(o mds.Step) bool { return o.Action == mds.StepPartition && o.Policy.Name() == s.Policy.Name() })
		if s.Action == mds.StepDrop && converts {
			s.Note = strings.TrimPrefix(s.Note+"; whole parts only, when the table is one of parts", "; ")
		}
	}
	return append(steps, due...), err
}

// do does a step. What is to be dropped may go on changing: rollups are made of it first.
func do(ctx context.Context, s *Store, k Keeper, step mds.Step, tell func(step mds.Step, done bool)) error {
	tell(step, false)
	const attempts = 10
	for attempt := 1; ; attempt++ {
		done, err := k.Do(ctx, step)
		if err == nil {
			tell(done, true)
			return nil
		}
		if step.Tenant != "" && errors.Is(err, mds.ErrUnknownTenant) { // it was removed meanwhile
			return nil
		}
		if !errors.Is(err, mds.ErrNotRefreshed) || attempt == attempts {
			return err
		}
		if err := RefreshAll(ctx, s, tell); err != nil {
			return err
		}
	}
}

// RefreshAll makes the rollups anew of what changed in all tenants' bars, and tells what it
// did for each tenant that something was done for.
func RefreshAll(ctx context.Context, s *Store, tell func(step mds.Step, done bool)) error {
	tenants, err := s.Tenants(ctx)
	if err != nil {
		return err
	}
	for _, tenant := range tenants {
		done, err := s.Refresh(ctx, tenant, 0)
		if errors.Is(err, mds.ErrNoStore) || errors.Is(err, mds.ErrUnknownTenant) { // it was removed meanwhile
			continue
		}
		if err != nil {
			return err
		}
		if done.Spans > 0 {
			step := mds.Step{Action: mds.StepRefresh, Tenant: tenant.Slug, Rows: done.Bars, Note: fmt.Sprintf("%d rollups written, %d removed", done.Written, done.Removed)}
			if done.Late > 0 {
				step.Note += fmt.Sprintf("; %d changes are older than what was dropped, and their rollups stay as they are", done.Late)
			}
			tell(step, true)
		}
	}
	return nil
}
