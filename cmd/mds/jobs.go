package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
)

func (a *app) jobsCommand() *cobra.Command {
	cmd := group("jobs", "Have a server do things, and see what became of them",
		a.jobsListCommand(), a.jobsShowCommand(), a.jobsEnqueueCommand(), a.jobsCancelCommand(), a.jobsStuckCommand(), a.jobsSummaryCommand(), a.jobsCleanupCommand())
	cmd.Long = `Have a server do things by itself, and see what became of them: fill in history, refresh
rollups, carry out policies. Jobs are kept in the store, and each is run once, by a
mds serve of that store; one whose server dies is taken over by another.`
	return cmd
}

// withJobs runs fn on the jobs of the store of the flags.
func (a *app) withJobs(ctx context.Context, access access, fn func(s *session, jobs store.Jobs) error) error {
	s, err := a.open(ctx, access)
	if err != nil {
		return err
	}
	work := func() (err error) {
		var jobs store.Jobs
		if server, ok := s.Backend.(*remote.Store); ok {
			if s.tenant, err = s.Tenant(ctx, a.tenant); err != nil {
				return err
			}
			jobs = remote.OpenJobs(server, s.tenant)
		} else if jobs, err = store.OpenJobs(ctx, s.Store); err != nil {
			return err
		}
		return errors.Join(fn(s, jobs), jobs.Close())
	}
	return errors.Join(work(), s.close())
}

// jobFilterFlags pick jobs.
type jobFilterFlags struct {
	states, actions []string
	since           string
	limit           int
	json            bool
}

func (f *jobFilterFlags) register(cmd *cobra.Command) {
	flags := cmd.Flags()
	flags.StringSliceVar(&f.states, "state", nil, "only those in these states: queued, running, done, failed, cancelled")
	flags.StringSliceVar(&f.actions, "action", nil, "only those of these actions: "+actionNames())
	flags.StringVar(&f.since, "since", "", "only those made since then: a time, or how long ago, such as 7d")
	flags.BoolVar(&f.json, "json", false, "print one JSON document")
	offer(cmd, "state", words(mds.JobStates())...)
	offer(cmd, "action", words(mds.JobActions())...)
}

func words[T ~string](list []T) []string {
	out := make([]string, len(list))
	for i, w := range list {
		out[i] = string(w)
	}
	return out
}

func actionNames() string { return strings.Join(words(mds.JobActions()), ", ") }

func (f *jobFilterFlags) filter(now time.Time) (filter mds.JobFilter, err error) {
	for _, s := range f.states {
		if !slices.Contains(mds.JobStates(), mds.JobState(s)) {
			return filter, usagef("--state %q: use %s", s, strings.Join(words(mds.JobStates()), ", "))
		}
		filter.States = append(filter.States, mds.JobState(s))
	}
	for _, s := range f.actions {
		if !slices.Contains(mds.JobActions(), mds.JobAction(s)) {
			return filter, usagef("--action %q: use %s", s, actionNames())
		}
		filter.Actions = append(filter.Actions, mds.JobAction(s))
	}
	if f.limit < 0 {
		return filter, usagef("--limit %d: use 0, which is all, or more", f.limit)
	}
	filter.Limit = f.limit
	filter.Since, err = ago("--since", f.since, now)
	return filter, err
}

// ago reads a time, or how long ago it was; zero is none.
func ago(flag, text string, now time.Time) (time.Time, error) {
	if text == "" {
		return time.Time{}, nil
	}
	if age, err := mds.ParseAge(text); err == nil {
		return age.Before(now.UTC()), nil
	}
	if d, err := time.ParseDuration(text); err == nil && d >= 0 {
		return now.UTC().Add(-d), nil
	}
	for _, layout := range []string{time.DateOnly, time.RFC3339Nano} {
		if at, err := time.Parse(layout, text); err == nil {
			return at.UTC(), nil
		}
	}
	return time.Time{}, usagef("%s %q: write how long ago, such as 12h or 30d, or when, such as 2026-11-26 (00:00 UTC) or 2026-11-26T09:30:00Z", flag, text)
}

func (a *app) jobsListCommand() *cobra.Command {
	f := &jobFilterFlags{}
	cmd := &cobra.Command{
		Use:     "list",
		Short:   "List jobs, the newest first",
		Example: "  mds jobs list --state running,failed\n  mds jobs list --action backfill --since 7d --json",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter(time.Now())
			if err != nil {
				return err
			}
			return a.listJobs(cmd.Context(), filter, f.json, "no jobs match")
		},
	}
	f.register(cmd)
	cmd.Flags().IntVar(&f.limit, "limit", 50, "at most so many; 0 is all")
	return cmd
}

func (a *app) jobsStuckCommand() *cobra.Command {
	var silent time.Duration
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "stuck",
		Short: "List jobs that run and of whose server nothing is heard",
		Long: `List jobs that run and of whose server nothing was heard for a while. One whose lease has
ended is taken over by the next server that looks for work; where none does, none runs.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if silent < time.Second {
				return usagef("--silent %s: write a duration such as 2m, 1s or more", silent)
			}
			return a.listJobs(cmd.Context(), mds.JobFilter{States: []mds.JobState{mds.JobRunning}, SilentSince: time.Now().Add(-silent)}, asJSON, "no job is stuck")
		},
	}
	cmd.Flags().DurationVar(&silent, "silent", 2*time.Minute, "for how long nothing was heard")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	return cmd
}

func (a *app) listJobs(ctx context.Context, filter mds.JobFilter, asJSON bool, none string) error {
	return a.withJobs(ctx, reading, func(_ *session, jobs store.Jobs) error {
		list, err := jobs.List(ctx, filter)
		if err != nil {
			return err
		}
		if asJSON {
			out := make([]client.Job, len(list))
			for i := range list {
				out[i] = client.JobOf(&list[i])
			}
			return writeJSON(a.stdout, out)
		}
		if len(list) == 0 {
			fmt.Fprintln(a.stderr, none)
			return nil
		}
		t := &table{header: []string{"id", "action", "tenant", "name", "state", "parts", "written", "failed", "made (UTC)", "elapsed", "error"}}
		t.right = []bool{5: true, 6: true, 7: true, 9: true, 10: false}
		for i := range list {
			j := &list[i]
			parts := ""
			if j.Parts > 0 {
				parts = fmt.Sprintf("%d/%d", j.PartsDone, j.Parts)
			}
			t.add(j.ID, string(j.Action), cmp.Or(j.Tenant.Slug, "all"), j.Name, string(j.State), parts, count(j.Written), count(j.Failed), instantText(j.Created), elapsed(j), oneLine(j.Error))
		}
		return t.write(a.stdout)
	})
}

// elapsed is how long a job took, or takes.
func elapsed(j *mds.Job) string {
	switch {
	case j.Started.IsZero():
		return ""
	case j.Finished.IsZero():
		return time.Since(j.Started).Round(time.Second).String()
	}
	return j.Finished.Sub(j.Started).Round(time.Millisecond).String()
}

// oneJob wants the id of one.
func oneJob(cmd *cobra.Command, args []string) error {
	if len(args) != 1 || args[0] == "" {
		return usagef("%s needs the id of one job; mds jobs list shows them", cmd.CommandPath())
	}
	return nil
}

func (a *app) jobsShowCommand() *cobra.Command {
	var follow bool
	cmd := &cobra.Command{
		Use:     "show ID",
		Short:   "Show where a job stands, as JSON",
		Long:    "Show where a job stands, as JSON. With --follow it waits until the job has ended, tells how far it is, and exits with 1 where it failed or was cancelled.",
		Example: "  mds jobs show 01JDK3Y0ZK --follow",
		Args:    oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx := cmd.Context()
			return a.withJobs(ctx, reading, func(_ *session, jobs store.Jobs) error {
				job, err := jobs.Job(ctx, args[0])
				if err == nil && follow {
					job, err = a.followJob(ctx, jobs, job)
				}
				if err != nil {
					return err
				}
				if err := writeJSON(a.stdout, client.JobOf(&job)); err != nil {
					return err
				}
				if follow && job.State != mds.JobDone {
					what := map[mds.JobState]string{mds.JobFailed: "failed", mds.JobCancelled: "was cancelled"}[job.State]
					return errors.New(strings.TrimSuffix(fmt.Sprintf("the job %s: %s", what, job.Error), ": "))
				}
				return nil
			})
		},
	}
	cmd.Flags().BoolVar(&follow, "follow", false, "wait until it has ended")
	return cmd
}

// followJob waits until a job has ended, and says how far it is.
func (a *app) followJob(ctx context.Context, jobs store.Jobs, job mds.Job) (mds.Job, error) {
	tick := time.NewTicker(500 * time.Millisecond)
	defer tick.Stop()
	said := ""
	for {
		state := fmt.Sprintf("%s: %d of %d parts, %s written, %s failed", job.State, job.PartsDone, job.Parts, count(job.Written), count(job.Failed))
		if state != said {
			fmt.Fprintln(a.stderr, state)
			said = state
		}
		if job.State.Ended() {
			return job, nil
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return job, ctx.Err()
		}
		var err error
		if job, err = jobs.Job(ctx, job.ID); err != nil {
			return job, err
		}
	}
}

func (a *app) jobsEnqueueCommand() *cobra.Command {
	var request client.JobRequest
	var params string
	var all, asJSON bool
	cmd := &cobra.Command{
		Use:   "enqueue ACTION",
		Short: "Have a server do something: " + actionNames(),
		Long: `Have a server do something, and print the id of the job. A mds serve of the store begins
it within a second, or when there is one.

backfill loads what --params name: {"files": ["…"]} below the folder that the server may
read, or {"url": "https://…/{symbol}?from={start}&to={end}", "step": "1mo"} of a host that
it may ask, for each of --symbols and each step from --start to --end. Parts that are
done are not done again.

replay writes the dead letters again of the server that runs it: all of the tenant, or those
that --vendor, --symbols and --params pick: {"kinds": ["…"], "codes": ["…"], "ids": ["…"],
"since": "…", "before": "…", "overwrite": true}.

export writes --dataset to files of the server that runs it: --params names {"out": "…"}
below the folder that it may write to, and as mds export {"template": "…", "format": "…",
"where": {"timeframe": ["1d"]}}; --vendor, --symbols, --start and --end pick records, too.`,
		Example: `  mds jobs enqueue refresh
  mds jobs enqueue backfill --dataset bars --vendor yahoo --params '{"files": ["yahoo/*.csv"], "symbol_from": "filename", "fixed": {"timeframe": "1d"}}'
  mds jobs enqueue replay --params '{"codes": ["exhausted"]}'
  mds jobs enqueue export --dataset bars --params '{"out": "nightly", "template": "{table}-{vendor}-{timeframe}.csv.zst"}'
  mds jobs enqueue policies --all-tenants --key nightly-2026-11-26`,
		Args: func(cmd *cobra.Command, args []string) error {
			if len(args) != 1 || !slices.Contains(mds.JobActions(), mds.JobAction(args[0])) {
				return usagef("%s needs an action: %s", cmd.CommandPath(), actionNames())
			}
			return nil
		},
		RunE: func(cmd *cobra.Command, args []string) error {
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			request.Action, request.AllTenants = args[0], all
			if action := mds.JobAction(args[0]); action == mds.JobBackfill || action == mds.JobExport {
				if request.Dataset == "" {
					return usagef("say which kind: --dataset %s", kindNames())
				}
				if params == "" {
					return usagef("--params: say what to %s: %s", args[0], map[mds.JobAction]string{
						mds.JobBackfill: `'{"files": ["daily/*.csv"]}' or '{"url": "https://…/{symbol}.csv"}'`, mds.JobExport: `'{"out": "bars.csv.zst"}'`,
					}[action])
				}
			}
			if params != "" {
				request.Params = json.RawMessage(params)
			}
			job, err := request.Job()
			if err == nil {
				err = job.Validate()
			}
			if err != nil {
				return usageError{err}
			}
			return a.enqueue(cmd.Context(), job, request.AllTenants, asJSON)
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Name, "name", "", "what it is for")
	flags.StringVar(&params, "params", "", "what the action takes beside, as a JSON object")
	flags.StringVar(&request.Key, "key", "", "an idempotency key: of jobs with the same one is made")
	flags.IntVar(&request.Priority, "priority", 0, "a job with a higher one begins first")
	flags.StringVar(&request.Mode, "mode", "", "live or backfill")
	flags.StringVar(&request.Dataset, "dataset", "", "the kind of its records, such as bars")
	flags.StringVar(&request.Vendor, "vendor", "", "whose its records are")
	flags.StringSliceVar(&request.Symbols, "symbols", nil, "those that it is about, separated by commas")
	flags.StringVar(&request.Start, "start", "", "the first time of its records")
	flags.StringVar(&request.End, "end", "", "the first time after them")
	flags.StringVar(&request.NotBefore, "not-before", "", "when it may begin at the earliest")
	flags.IntVar(&request.MaxAttempts, "max-attempts", 0, "how often it may be begun where what stops it passes (default 5)")
	flags.BoolVar(&all, "all-tenants", false, "it is about all tenants")
	flags.BoolVar(&asJSON, "json", false, "print the job as JSON")
	return cmd
}

func (a *app) enqueue(ctx context.Context, job mds.Job, all, asJSON bool) error {
	return a.withJobs(ctx, writing, func(s *session, jobs store.Jobs) error {
		if !all {
			tenant, err := s.Tenant(ctx, a.tenant)
			if err != nil {
				return err
			}
			job.Tenant = tenant
		}
		kept, made, err := jobs.Enqueue(ctx, job)
		if err != nil {
			return err
		}
		if asJSON {
			return writeJSON(a.stdout, client.JobOf(&kept))
		}
		fmt.Fprintln(a.stdout, kept.ID)
		if !made {
			fmt.Fprintf(a.stderr, "it was there before under that key, and is %s\n", kept.State)
		}
		return nil
	})
}

func (a *app) jobsCancelCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "cancel ID",
		Short: "Have a job end",
		Long:  "Have a job end: at once where it waits, and within seconds where it runs. What it has done stays.",
		Args:  oneJob,
		RunE: func(cmd *cobra.Command, args []string) error {
			return a.withJobs(cmd.Context(), writing, func(_ *session, jobs store.Jobs) error {
				job, err := jobs.Cancel(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				what := string(job.State)
				if !job.State.Ended() {
					what = "ending"
				}
				fmt.Fprintf(a.stdout, "%s is %s\n", job.ID, what)
				return nil
			})
		},
	}
}

func (a *app) jobsSummaryCommand() *cobra.Command {
	f := &jobFilterFlags{}
	cmd := &cobra.Command{
		Use:   "summary",
		Short: "Count jobs by what they do and where they stand",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			filter, err := f.filter(time.Now())
			if err != nil {
				return err
			}
			return a.withJobs(cmd.Context(), reading, func(_ *session, jobs store.Jobs) error {
				counts, err := jobs.Summary(cmd.Context(), filter)
				if err != nil {
					return err
				}
				if f.json {
					out := make([]client.JobCount, len(counts))
					for i, n := range counts {
						out[i] = client.JobCount{Action: string(n.Action), State: string(n.State), Jobs: n.Jobs, Written: n.Written, Failed: n.Failed, Seconds: n.Seconds}
					}
					return writeJSON(a.stdout, out)
				}
				t := &table{header: []string{"action", "state", "jobs", "written", "failed", "seconds"}, right: []bool{false, false, true, true, true, true}}
				for _, n := range counts {
					t.add(string(n.Action), string(n.State), count(n.Jobs), count(n.Written), count(n.Failed), fmt.Sprintf("%.1f", n.Seconds))
				}
				return t.write(a.stdout)
			})
		},
	}
	f.register(cmd)
	return cmd
}

func (a *app) jobsCleanupCommand() *cobra.Command {
	var older string
	cmd := &cobra.Command{
		Use:     "cleanup",
		Short:   "Remove what is known of jobs that ended long ago",
		Example: "  mds jobs cleanup --older-than 90d",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			before, err := ago("--older-than", older, time.Now())
			if err != nil {
				return err
			}
			if before.IsZero() {
				return usagef("--older-than: say how long ago they ended, such as 90d")
			}
			return a.withJobs(cmd.Context(), writing, func(_ *session, jobs store.Jobs) error {
				n, err := jobs.Cleanup(cmd.Context(), before)
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "%s removed\n", plural(n, "job"))
				return nil
			})
		},
	}
	cmd.Flags().StringVar(&older, "older-than", "30d", "only those that ended so long ago, or before that time")
	return cmd
}
