package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	files "github.com/marketdatastore/mds/internal/export"
	"github.com/marketdatastore/mds/internal/policyfile"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
)

func (a *app) policiesCommand() *cobra.Command {
	var admin string
	cmd := group("policies", "Say what the store keeps: rollups of bars, and for how long",
		a.policiesShowCommand(), a.policiesStatusCommand(&admin), a.policiesDryRunCommand(&admin), a.policiesApplyCommand(&admin))
	cmd.Long = `Say what the store keeps of each kind of records, of bars of each timeframe: the
longer bars that are kept of them (rollups), and the age from which on they are dropped
or compressed. Policies are those of all tenants of the store.`
	a.adminFlag(cmd, &admin)
	return cmd
}

func (a *app) policiesShowCommand() *cobra.Command {
	var defaults bool
	cmd := &cobra.Command{
		Use:   "show",
		Short: "Print the policies in force, as a file that apply reads",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if defaults {
				fmt.Fprint(a.stdout, policyfile.Text(mds.DefaultPolicies()))
				return nil
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				list, err := s.Policies(cmd.Context(), s.tenant)
				if err != nil {
					return err
				}
				if len(list) == 0 {
					fmt.Fprintln(a.stderr, "no policies are in force: all is kept as it came. These are the defaults, which mds policies apply puts in force:")
					fmt.Fprint(a.stdout, policyfile.Text(mds.DefaultPolicies()))
					return nil
				}
				fmt.Fprint(a.stdout, policyfile.Text(policiesOf(list)))
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&defaults, "defaults", false, "print those that are applied where nothing else is said")
	return cmd
}

func policiesOf(list []mds.PolicyStatus) []mds.Policy {
	policies := make([]mds.Policy, len(list))
	for i := range list {
		policies[i] = list[i].Policy
	}
	return policies
}

func (a *app) policiesStatusCommand(admin *string) *cobra.Command {
	var asJSON bool
	var lines int
	cmd := &cobra.Command{
		Use:   "status",
		Short: "Show what became of the policies: how fresh rollups are, what was dropped",
		Long: `Show what became of the policies of a tenant: how fresh its rollups are, and from
when on there are records. With --audit it lists what was dropped and removed, when and
by whom (on a server with the owner's login, --admin-dsn).`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if lines < 0 {
				return usagef("--audit %d: use 0 or more lines", lines)
			}
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				return a.policiesStatus(cmd.Context(), s, *admin, lines, asJSON)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	cmd.Flags().IntVar(&lines, "audit", 0, "list so many lines of the audit, the newest first")
	return cmd
}

// policiesState is what status prints.
type policiesState struct {
	Policies []mds.PolicyStatus `json:"policies"`
	Audit    []mds.AuditLine    `json:"audit,omitempty"`
}

func (a *app) policiesStatus(ctx context.Context, s *session, admin string, lines int, asJSON bool) error {
	var state policiesState
	var err error
	if state.Policies, err = s.Policies(ctx, s.tenant); err != nil {
		return err
	}
	state.Policies = slices.DeleteFunc(state.Policies, func(p mds.PolicyStatus) bool { return p.Keeps() && p.KeptFrom.IsZero() })
	if lines > 0 {
		if state.Audit, err = a.policyAudit(ctx, s, admin, lines); err != nil {
			return err
		}
	}
	if asJSON {
		return writeJSON(a.stdout, state)
	}
	if len(state.Policies) == 0 {
		fmt.Fprintln(a.stderr, "no policies are in force: all is kept as it came; mds policies apply puts the defaults in force")
	}
	t := &table{header: []string{"policy", "compress after", "drop after", "kept from", "rollups", "days of", "stale changes", "stale since (UTC)", "refreshed at (UTC)"}}
	t.right = make([]bool, len(t.header))
	t.right[6] = true
	names := newFolder()
	for i := range state.Policies {
		if p := &state.Policies[i]; p.KeptFrom.IsZero() && p.Stale == 0 {
			names.count("", &p.Policy)
		}
	}
	for i := range state.Policies {
		p := &state.Policies[i]
		name := names.name("", &p.Policy)
		if name == "" {
			continue
		}
		row := []string{name, age(p.CompressAfter), age(p.DropAfter), date(p.KeptFrom), timeframesText(p.Rollups), "", "", instantText(p.StaleSince), instantText(p.RefreshedAt)}
		if len(p.Rollups) > 0 {
			row[5], row[6] = p.Zone, count(p.Stale)
			if p.Zone == "" {
				row[5] = "UTC"
			}
		}
		t.add(row...)
	}
	if err := t.write(a.stdout); err != nil || len(state.Audit) == 0 {
		return err
	}
	fmt.Fprintln(a.stdout)
	audit := &table{header: []string{"at (UTC)", "login", "action", "about", "detail"}, right: make([]bool, 5)}
	for _, l := range state.Audit {
		audit.add(instantText(l.At), l.Login, l.Action, l.About, l.Detail)
	}
	return audit.write(a.stdout)
}

func age(of mds.Age) string {
	if of.IsZero() {
		return ""
	}
	return of.String()
}

func date(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return displayTime(t, true)
}

func instantText(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return displayTime(t.Truncate(time.Second), false)
}

func timeframesText(timeframes []mds.Timeframe) string {
	names := make([]string, len(timeframes))
	for i, tf := range timeframes {
		names[i] = string(tf)
	}
	return strings.Join(names, " ")
}

// keeper opens the keeper of a store: on a server the owner's.
func (a *app) keeper(ctx context.Context, s *session, admin string) (store.Keeper, error) {
	if admin == "" {
		admin = a.dsn
	}
	return store.OpenKeeper(ctx, s.Store, admin)
}

// policyAudit are the newest lines of the audit.
func (a *app) policyAudit(ctx context.Context, s *session, admin string, lines int) ([]mds.AuditLine, error) {
	if server, ok := s.Backend.(*remote.Store); ok {
		return server.PolicyAudit(ctx, lines)
	}
	k, err := a.keeper(ctx, s, admin)
	if err != nil {
		return nil, err
	}
	defer k.Close(ctx) //nolint:errcheck // it has read what it wanted
	return k.Audit(ctx, lines)
}

// policyFile reads the policies of a file, those in force where there is none, or else the
// defaults.
func policyFile(ctx context.Context, inForce func(context.Context) ([]mds.PolicyStatus, error), args []string) ([]mds.Policy, error) {
	if len(args) == 0 {
		list, err := inForce(ctx)
		if err != nil || len(list) > 0 {
			return policiesOf(list), err
		}
		return mds.DefaultPolicies(), nil
	}
	text, err := os.ReadFile(args[0])
	if err != nil {
		return nil, usageError{files.FileError(args[0], err)}
	}
	policies, err := policyfile.Read(text)
	if err != nil {
		return nil, usagef("%s: %w", args[0], err)
	}
	return policies, nil
}

func onePolicyFile(cmd *cobra.Command, args []string) error {
	if len(args) > 1 {
		return usagef("%s takes one file of policies at most", cmd.CommandPath())
	}
	return nil
}

func (a *app) policiesDryRunCommand(admin *string) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "dry-run [FILE]",
		Short: "Show what apply would do, and to how many rows and bytes",
		Args:  onePolicyFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withStore(cmd.Context(), reading, func(s *session) error {
				ctx := cmd.Context()
				policies, steps, does, err := a.planned(ctx, s, *admin, args)
				if err != nil {
					return err
				}
				if asJSON {
					return writeJSON(a.stdout, steps)
				}
				a.tellWhatIsNot(policies, does)
				if len(steps) == 0 {
					fmt.Fprintln(a.stderr, "nothing is to be done")
				}
				return stepTable(steps).write(a.stdout)
			})
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

// planned are policies, the steps that applying them takes, and what the engine does of them.
func (a *app) planned(ctx context.Context, s *session, admin string, args []string) ([]mds.Policy, []mds.Step, mds.Abilities, error) {
	if server, ok := s.Backend.(*remote.Store); ok {
		return a.plannedThere(ctx, s, server, args)
	}
	k, err := a.keeper(ctx, s, admin)
	if err != nil {
		return nil, nil, mds.Abilities{}, err
	}
	defer k.Close(ctx) //nolint:errcheck // it has read what it wanted
	policies, err := policyFile(ctx, k.Policies, args)
	if err != nil {
		return nil, nil, mds.Abilities{}, err
	}
	steps, err := store.Plan(ctx, k, policies, time.Now())
	return policies, steps, k.Does(), err
}

// sayStep prints a step that is done, or is begun.
func (a *app) sayStep(cells []string, more string) {
	fmt.Fprintln(a.stdout, strings.Join(slices.DeleteFunc(cells, func(cell string) bool { return cell == "" }), "  ")+more)
}

// folder names policies of bars that ask for the same of several timeframes once.
type folder struct {
	counts map[string]int
	named  map[string]bool
}

func newFolder() *folder { return &folder{make(map[string]int), make(map[string]bool)} }

// foldsAs is what policies have in common that are named once, "" for one that is not.
func foldsAs(tenant string, p *mds.Policy) string {
	if p.Kind != "bars" || len(p.Rollups) > 0 {
		return ""
	}
	return tenant + "\n" + policyText(p)
}

func (f *folder) count(tenant string, p *mds.Policy) {
	if as := foldsAs(tenant, p); as != "" {
		f.counts[as]++
	}
}

// name is how a policy is named, "" where it was with another one.
func (f *folder) name(tenant string, p *mds.Policy) string {
	as := foldsAs(tenant, p)
	switch {
	case f.counts[as] < 2:
		return p.Name()
	case f.named[as]:
		return ""
	}
	f.named[as] = true
	return fmt.Sprintf("bars, %d timeframes", f.counts[as])
}

func stepTable(steps []mds.Step) *table {
	t := &table{header: []string{"step", "tenant", "policy", "rollup", "before", "rows", "bytes", "note"}}
	t.right = make([]bool, len(t.header))
	t.right[5], t.right[6] = true, true
	for _, cells := range stepRows(steps) {
		t.add(cells...)
	}
	return t
}

// stepRows are the cells of steps. What is kept alike of several timeframes of bars is one.
func stepRows(steps []mds.Step) (rows [][]string) {
	names := newFolder()
	for i := range steps {
		if s := &steps[i]; s.Action == mds.StepKeep {
			names.count(s.Tenant, &s.Policy)
		}
	}
	for i := range steps {
		s := &steps[i]
		cells := stepCells(s)
		if s.Action == mds.StepKeep {
			if cells[2] = names.name(s.Tenant, &s.Policy); cells[2] == "" {
				continue
			}
		}
		rows = append(rows, cells)
	}
	return rows
}

func stepCells(s *mds.Step) []string {
	cells := []string{s.Action, s.Tenant, s.Policy.Name(), string(s.Rollup), date(s.Before), "", "", s.Note}
	if s.Action != mds.StepKeep {
		cells[5] = count(s.Rows)
	} else if s.Note == "" {
		cells[7] = policyText(&s.Policy)
	}
	if s.Bytes > 0 {
		cells[6] = size(s.Bytes)
	}
	return cells
}

// policyText is what a policy asks for, in a few words.
func policyText(p *mds.Policy) string {
	var parts []string
	for _, one := range []struct {
		what string
		age  mds.Age
	}{{"parts of", p.Partition}, {"compress after", p.CompressAfter}, {"drop after", p.DropAfter}} {
		if !one.age.IsZero() {
			parts = append(parts, one.what+" "+one.age.String())
		}
	}
	if len(p.Rollups) > 0 {
		parts = append(parts, "rollups "+timeframesText(p.Rollups))
	}
	return strings.Join(parts, ", ")
}

func (a *app) policiesApplyCommand(admin *string) *cobra.Command {
	var yes, lose bool
	cmd := &cobra.Command{
		Use:   "apply [FILE]",
		Short: "Put policies in force and do what they ask for now",
		Long: `Put the policies of a file in force, for all tenants, and do what they ask for now: make
rollups of what changed, and drop what is older than it is kept. Without a file it goes
by the policies in force, or the defaults where there are none. What takes records away
it tells, and asks, unless --yes is given. Run again it does what has become due, and
otherwise nothing: a timer may run it with --yes each minute. Rollups whose bars are
dropped, which cannot be made again, are removed with --lose-history only.

What was dropped stays in the rollups that were made of it. On PostgreSQL it connects as
the owner of the database, too (--admin-dsn). Through a server (--server) what is due is
done there by a job, which is followed until it has ended.`,
		Example: "  mds policies show > policies.toml\n  mds policies dry-run policies.toml\n  mds policies apply policies.toml\n  mds policies apply --yes",
		Args:    onePolicyFile,
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := a.mustExist(cmd.Context()); err != nil {
				return err
			}
			if remote.IsDSN(a.dsn) {
				return a.withStore(cmd.Context(), reading, func(s *session) error {
					return a.applyThere(cmd.Context(), s, args, yes, lose)
				})
			}
			return a.withStore(cmd.Context(), writing, func(s *session) error {
				ctx := cmd.Context()
				k, err := a.keeper(ctx, s, *admin)
				if err != nil {
					return err
				}
				defer k.Close(ctx) //nolint:errcheck // what it did is committed
				policies, err := policyFile(ctx, k.Policies, args)
				if err != nil {
					return err
				}
				return a.applyPolicies(ctx, s, k, policies, yes, lose)
			})
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask before records are taken away")
	cmd.Flags().BoolVar(&lose, "lose-history", false, "remove rollups that cannot be made again, too")
	return cmd
}

// tellWhatIsNot says what policies ask for that the engine does not do.
func (a *app) tellWhatIsNot(policies []mds.Policy, does mds.Abilities) {
	asks := func(of func(*mds.Policy) mds.Age) bool {
		return slices.ContainsFunc(policies, func(p mds.Policy) bool { return !of(&p).IsZero() })
	}
	if !does.Compress && asks(func(p *mds.Policy) mds.Age { return p.CompressAfter }) {
		fmt.Fprintf(a.stderr, "compress_after does nothing here: %s\n", does.WhyNot)
	}
	if !does.Partition && asks(func(p *mds.Policy) mds.Age { return p.Partition }) {
		fmt.Fprintln(a.stderr, "partition does nothing here: a DuckDB file has no partitions, and skips what a query does not need")
	}
}

// mayDestroy asks before records are taken away, and refuses what cannot be made good.
func (a *app) mayDestroy(steps []mds.Step, yes, lose bool) error {
	steps = slices.DeleteFunc(slices.Clone(steps), func(s mds.Step) bool { return !s.Destroys() })
	if slices.ContainsFunc(steps, func(s mds.Step) bool { return s.Irreplaceable }) && !lose {
		if err := stepTable(steps).write(a.stderr); err != nil {
			return err
		}
		return usagef("these policies leave out rollups that cannot be made again: nothing was done; keep them in the file, or give --lose-history")
	}
	if yes || len(steps) == 0 {
		return nil
	}
	if err := stepTable(steps).write(a.stderr); err != nil {
		return err
	}
	return a.confirm("Take these rows away?")
}

// mayStill refuses what would be taken away that was not planned, or cannot be made good by now:
// others may have put policies in force since then, and dropped bars.
func (a *app) mayStill(changes, planned []mds.Step, lose bool) error {
	for i := range changes {
		c := &changes[i]
		known := func(s mds.Step) bool {
			return s.Action == c.Action && s.Tenant == c.Tenant && s.Policy.Name() == c.Policy.Name() && s.Rollup == c.Rollup
		}
		if c.Destroys() && !slices.ContainsFunc(planned, known) {
			return errors.New("others have put policies in force meanwhile, with rollups that these leave out: nothing was done; run it again")
		}
	}
	return a.mayDestroy(changes, true, lose)
}

func (a *app) applyPolicies(ctx context.Context, s *session, k store.Keeper, policies []mds.Policy, yes, lose bool) error {
	now := time.Now()
	steps, err := store.Plan(ctx, k, policies, now)
	if err != nil {
		return err
	}
	if err := a.mayDestroy(steps, yes, lose); err != nil {
		return err
	}
	did := 0
	var kept []mds.Step
	say := a.sayStep
	begun := func() {
		for _, cells := range stepRows(kept) {
			say(cells, "")
		}
		kept = nil
	}
	may := func(changes []mds.Step) error { return a.mayStill(changes, steps, lose) }
	err = store.Apply(ctx, s.Store, k, policies, now, may, func(step mds.Step, done bool) {
		if done {
			did++
		}
		if step.Action == mds.StepKeep {
			kept = append(kept, step)
			return
		}
		begun()
		switch {
		case step.Action == mds.StepRefresh:
			fmt.Fprintf(a.stdout, "refreshed rollups of tenant %s: %s bars read, %s\n", step.Tenant, count(step.Rows), step.Note)
		case done:
			say(stepCells(&step), "")
		default:
			say(stepCells(&step), " …")
		}
	})
	begun()
	if err == nil && did == 0 {
		fmt.Fprintln(a.stdout, "nothing was to be done")
	}
	return err
}
