package server

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
)

// jobOperations are those of jobs, where the server has any.
func (s *Server) jobOperations() []operation {
	if s.cfg.Jobs == nil {
		return nil
	}
	one := s.document200("The job", client.Job{})
	accepted := map[string]*huma.Response{
		"202":     {Description: "The job is queued, or was before under the same key; Location leads to it", Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(client.Job{})}}},
		"409":     s.problemResponse("This server does not do such jobs"),
		"422":     s.problemResponse("The Idempotency-Key is that of another job"),
		"default": s.problemResponse("It could not be done"),
	}
	id := text("id", "The job's id").inPath()
	filter := []param{
		several("state", "Only in these states", mds.JobStates()), several("action", "Only of these actions", mds.JobActions()),
		text("since", "Only those made at this time or later"), text("before", "Only those made before this time"),
	}
	return []operation{
		control(s, operation{
			method: http.MethodPost, path: "/v1/jobs", id: "enqueue-job", tag: "jobs", scope: mds.ScopeAdmin,
			summary:     "Have something done",
			description: "The job is kept, and done by a server of the store, whoever waits for it. Of jobs with one key one is made.",
			params:      []param{jobKeyParam()},
			body:        s.documentBody(client.JobRequest{}),
			responses:   accepted,
			limit:       s.queries, // it looks for files
		}, notedJob, s.make),
		{
			method: http.MethodGet, path: "/v1/jobs", id: "jobs", tag: "jobs", scope: mds.ScopeAdmin,
			summary: "List jobs", description: "The newest first: those of the tenant, and for an operator those of all tenants; without their params and symbols, which the job by its id has.",
			params:    append(slices.Clone(filter), number("limit", "At most so many", 1, mostJobs), text("after", "Go on after the job with this id"), number("silent", "Only those that run and were not heard of for so many seconds", 1, 1<<31)),
			responses: s.document200("The jobs", client.Jobs{}),
			limit:     s.queries,
			serve:     s.listJobs,
		},
		{
			method: http.MethodGet, path: "/v1/jobs/summary", id: "job-summary", tag: "jobs", scope: mds.ScopeAdmin,
			summary: "Count jobs", description: "By what they do and where they stand.",
			params:    filter,
			responses: s.document200("The counts", client.JobSummary{}),
			limit:     s.queries,
			serve:     s.summarizeJobs,
		},
		{
			method: http.MethodGet, path: "/v1/jobs/{id}", id: "job", tag: "jobs", scope: mds.ScopeAdmin,
			summary: "Tell where a job stands", description: "What it was told, how far it is, and what became of it.",
			params: []param{id}, responses: one,
			serve: func(c *call) error {
				job, err := s.jobOf(c)
				if err != nil {
					return err
				}
				return c.json(http.StatusOK, client.JobOf(&job))
			},
		},
		{
			method: http.MethodPost, path: "/v1/jobs/{id}/cancel", id: "cancel-job", tag: "jobs", scope: mds.ScopeAdmin, audit: true,
			summary: "Have a job end", description: "One that waits ends at once, and so does one that this server runs; one that another server runs ends with its next heartbeat. What it has done stays.",
			params: []param{id}, responses: one,
			serve: func(c *call) error {
				job, err := s.jobOf(c)
				if err == nil {
					job, err = s.cfg.Jobs.Jobs.Cancel(c.Context(), job.ID)
				}
				if err != nil {
					return err
				}
				s.jobs.Ask(job.ID)
				return c.json(http.StatusOK, client.JobOf(&job))
			},
		},
		{
			method: http.MethodPost, path: "/v1/jobs/cleanup", id: "clean-jobs-up", tag: "jobs", scope: mds.ScopeAdmin, audit: true, operator: true,
			summary: "Remove what is known of jobs that have ended", description: "Those that ended before a time, of all tenants.",
			params:    []param{text("before", "Those that ended before this time")},
			responses: s.document200("How many were removed", client.Removed{}),
			serve: func(c *call) error {
				before, err := instant(c, "before")
				if err != nil {
					return err
				}
				if before.IsZero() {
					return badRequest("bad_parameter", "before: say before which time they ended")
				}
				n, err := s.cfg.Jobs.Jobs.Cleanup(c.Context(), before)
				if err != nil {
					return err
				}
				return c.json(http.StatusOK, client.Removed{Removed: n})
			},
		},
		s.shortcut("/migrate", "migrate", "Bring the database to the program's schema", mds.JobMigrate, false),
		s.shortcut("/retention/apply", "apply-retention", "Do what the policies in force ask for", mds.JobPolicies, false),
		s.shortcut("/refresh/aggregate", "refresh-aggregates", "Make the rollups anew of what changed in a tenant's bars", mds.JobRefresh, true),
		control(s, operation{
			method: http.MethodPost, path: "/backfill/{job}", id: "backfill", tag: "jobs", scope: mds.ScopeAdmin,
			summary:     "Fill in history",
			description: "The same as a job with the action backfill, under the name of the path.",
			params:      []param{text("job", "The job's name").inPath(), jobKeyParam()},
			body:        s.documentBody(client.JobRequest{}),
			responses:   accepted,
			limit:       s.queries, // it looks for files
		}, notedJob, func(c *call, request *client.JobRequest) error {
			request.Action, request.Name = string(mds.JobBackfill), c.r.PathValue("job")
			return s.make(c, request)
		}),
	}
}

// jobKeyParam is the header in the place of a key in the body.
func jobKeyParam() param {
	p := idempotencyParam()
	p.doc = "A name of this request, new for each: of requests of the tenant with one key one job is made, for as long as it is kept. It may be the key in the body, too"
	return p
}

// mostJobs is how many jobs are listed at once.
const mostJobs = 10_000

// several is a parameter of words.
func several[T ~string](name, doc string, words []T) param {
	p := text(name, doc)
	for _, w := range words {
		p.schema.Enum = append(p.schema.Enum, string(w))
	}
	return p.several()
}

// shortcut is an operation that makes a job of an action, of the tenant or of all.
func (s *Server) shortcut(path, id, summary string, action mds.JobAction, tenant bool) operation {
	return operation{
		method: http.MethodPost, path: path, id: id, tag: "jobs", scope: mds.ScopeAdmin, audit: true, operator: !tenant,
		summary: summary, description: "It is done by a job of the action " + string(action) + ", which the answer names.",
		params: []param{jobKeyParam()},
		responses: map[string]*huma.Response{
			"202":     {Description: "The job is queued; Location leads to it", Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(client.Job{})}}},
			"409":     s.problemResponse("This server does not do it"),
			"422":     s.problemResponse("The Idempotency-Key is that of another job"),
			"default": s.problemResponse("It could not be done"),
		},
		serve: func(c *call) error {
			return s.make(c, &client.JobRequest{Action: string(action), AllTenants: !tenant})
		},
	}
}

// documentBody describes a body of one JSON document.
func (s *Server) documentBody(v any) *huma.RequestBody {
	return &huma.RequestBody{Required: true, Content: map[string]*huma.MediaType{typeJSON: {Schema: s.schemaOf(v)}}}
}

// notedJob is what the audit log has of a job: not the URL of its params, in which there may be a
// secret, and of many symbols the first.
func notedJob(r *client.JobRequest) map[string][]string {
	noted := make(map[string][]string)
	for name, text := range map[string]string{"action": r.Action, "name": r.Name, "dataset": r.Dataset, "vendor": r.Vendor, "params": notedParams(r.Params)} {
		if text != "" {
			noted[name] = []string{text}
		}
	}
	if r.AllTenants {
		noted["all_tenants"] = []string{"true"}
	}
	const first = 10
	switch more := len(r.Symbols) - first; {
	case more > 0:
		noted["symbols"] = append(slices.Clone(r.Symbols[:first]), fmt.Sprintf("and %d more", more))
	case len(r.Symbols) > 0:
		noted["symbols"] = r.Symbols
	}
	return noted
}

// notedParams are params without a URL, cut to what a line of a log may have.
func notedParams(params json.RawMessage) string {
	var members map[string]json.RawMessage
	if json.Unmarshal(params, &members) != nil || len(members) == 0 {
		return ""
	}
	for name := range members {
		if strings.EqualFold(name, "url") { // as its reader takes it
			members[name] = json.RawMessage(`"…"`)
		}
	}
	text, err := json.Marshal(members)
	if err != nil {
		return ""
	}
	const most = 1_000
	if len(text) > most {
		return strings.ToValidUTF8(string(text[:most]), "") + "…"
	}
	return string(text)
}

// make keeps a job that is to be done.
func (s *Server) make(c *call, request *client.JobRequest) error {
	job, err := request.Job()
	if err != nil {
		return badRequest("bad_job", err.Error())
	}
	key, err := c.idempotencyKey()
	if err != nil {
		return err
	}
	if job.Key != "" && key != "" && job.Key != key {
		return badRequest("bad_job", "key: it is not that of the header "+idempotencyKey+": leave one of them out")
	}
	job.Key, job.By = cmp.Or(job.Key, key), c.key
	switch {
	case !request.AllTenants:
		job.Tenant = c.tenant
	case !c.operator:
		return errNoOperator
	}
	if err := s.mayHave(c, &job); err != nil {
		return err
	}
	if err := s.doable(c.Context(), &job); err != nil {
		return err
	}
	kept, _, err := s.cfg.Jobs.Jobs.Enqueue(c.Context(), job)
	var invalid *mds.InvalidError
	switch {
	case errors.Is(err, mds.ErrJobKey):
		return &problem{status: http.StatusUnprocessableEntity, code: "job_key_reused", detail: err.Error() + ": take another one"}
	case errors.Is(err, mds.ErrJobsWaiting):
		return &problem{status: http.StatusTooManyRequests, code: "jobs_waiting", retry: time.Minute, detail: err.Error()}
	case errors.As(err, &invalid):
		return badRequest("bad_job", err.Error())
	case err != nil:
		return err
	}
	s.jobs.Wake()
	c.w.Header().Set("Location", "/v1/jobs/"+kept.ID)
	return c.json(http.StatusAccepted, client.JobOf(&kept))
}

// recordScopes are those of the actions that bring records, or hand them out.
var recordScopes = map[mds.JobAction]mds.Scope{mds.JobBackfill: mds.ScopeWrite, mds.JobReplay: mds.ScopeWrite, mds.JobExport: mds.ScopeRead}

// mayHave refuses a job whose records the key may not touch by itself, and one of a tenant that would
// keep those of others waiting.
func (s *Server) mayHave(c *call, job *mds.Job) error {
	if scope, ok := recordScopes[job.Action]; ok && s.cfg.Keys != nil && !slices.Contains(c.scopes, scope) {
		return lacking(c, scope)
	}
	if job.Priority > 0 && !c.operator {
		return &problem{
			status: http.StatusForbidden, code: "no_operator",
			detail: "priority: one above 0 has the jobs of all tenants wait: it takes a key with the scope admin of the tenant that the server's setting serve.operator_tenant names",
		}
	}
	return nil
}

// doable refuses a job that no attempt would do.
func (s *Server) doable(ctx context.Context, job *mds.Job) error {
	if _, ok := s.actions()[job.Action]; !ok && slices.Contains(mds.JobActions(), job.Action) {
		detail := map[mds.JobAction]string{
			mds.JobPolicies: "it needs the owner of the database: set MDS_ADMIN_DSN",
			mds.JobReplay:   "it keeps no dead letters",
			mds.JobExport:   "its setting jobs.exports names the folder that it may write to",
			mds.JobMigrate:  "it needs the owner of the database: set MDS_ADMIN_DSN; a DuckDB store migrates itself when it is opened",
		}[job.Action]
		return &problem{status: http.StatusConflict, code: "not_done_here", detail: strings.TrimSuffix(fmt.Sprintf("this server does not do jobs of the action %s: %s", job.Action, detail), ": ")}
	}
	if err := job.Validate(); err != nil {
		return badRequest("bad_job", err.Error())
	}
	switch err := s.told(ctx, job); {
	case ctx.Err() != nil:
		return ctx.Err()
	case err != nil:
		return badRequest("bad_job", err.Error())
	}
	return nil
}

// told looks at what the action of a job is told.
func (s *Server) told(ctx context.Context, job *mds.Job) error {
	switch job.Action {
	case mds.JobReplay:
		_, err := s.replaying(job)
		return err
	case mds.JobBackfill:
		if job.Tenant.ID == "" {
			return errors.New("a backfill is of one tenant")
		}
		return s.ofDataset(ctx, job, func(k *served) func(context.Context, *mds.Job) error { return k.check })
	case mds.JobExport:
		return s.ofDataset(ctx, job, func(k *served) func(context.Context, *mds.Job) error { return k.checkExport })
	}
	if len(job.Params) > 0 || job.Dataset != "" {
		return fmt.Errorf("params and dataset belong to other actions than %s", job.Action)
	}
	return nil
}

// ofDataset has a job be looked at by the kind of its records, of those that can.
func (s *Server) ofDataset(ctx context.Context, job *mds.Job, check func(*served) func(context.Context, *mds.Job) error) error {
	var names []string
	for _, k := range s.kinds {
		do := check(k)
		if do == nil {
			continue
		}
		if names = append(names, k.name); k.name == job.Dataset {
			return do(ctx, job)
		}
	}
	return fmt.Errorf("dataset %q: use %s", job.Dataset, strings.Join(names, ", "))
}

// jobOf is the job that a request names, if it is the tenant's. An operator has each, of others
// without what they have told it to do.
func (s *Server) jobOf(c *call) (mds.Job, error) {
	job, err := s.cfg.Jobs.Jobs.Job(c.Context(), c.r.PathValue("id"))
	own := job.Tenant.ID == c.tenant.ID
	if errors.Is(err, mds.ErrUnknownJob) || err == nil && !own && !c.operator {
		return job, &problem{status: http.StatusNotFound, code: "unknown_job", detail: fmt.Sprintf("there is no such job: %q", c.r.PathValue("id"))}
	}
	if !own && job.Tenant.ID != "" {
		job.Params, job.Symbols = nil, nil
	}
	return job, err
}

// instant reads a parameter that is a time.
func instant(c *call, name string) (time.Time, error) {
	text := c.value(name)
	if text == "" {
		return time.Time{}, nil
	}
	at, err := codec.ParseTime(text, time.UTC)
	if err != nil {
		return at, badRequest("bad_parameter", name+": "+err.Error())
	}
	if at.IsZero() {
		return at, badRequest("bad_parameter", name+": "+noTime)
	}
	return at.UTC(), nil
}

// jobFilter reads the parameters that pick jobs.
func (c *call) jobFilter() (f mds.JobFilter, err error) {
	if !c.operator {
		f.TenantID = c.tenant.ID
	}
	for _, state := range c.list("state") {
		f.States = append(f.States, mds.JobState(state))
	}
	for _, action := range c.list("action") {
		f.Actions = append(f.Actions, mds.JobAction(action))
	}
	if f.Since, err = instant(c, "since"); err == nil {
		f.Before, err = instant(c, "before")
	}
	return f, err
}

func (s *Server) listJobs(c *call) error {
	filter, err := c.jobFilter()
	if err != nil {
		return err
	}
	limit, err := c.integer("limit", 100, 1, mostJobs)
	if err != nil {
		return err
	}
	silent, err := c.integer("silent", 0, 1, 1<<31)
	if err != nil {
		return err
	}
	if silent > 0 {
		filter.SilentSince = time.Now().Add(-time.Duration(silent) * time.Second)
	}
	filter.Limit, filter.After = limit+1, c.value("after")
	list, err := s.cfg.Jobs.Jobs.List(c.Context(), filter)
	if errors.Is(err, mds.ErrUnknownJob) {
		return badRequest("bad_parameter", "after: "+err.Error())
	}
	if err != nil {
		return err
	}
	out := client.Jobs{Jobs: make([]client.Job, 0, len(list))}
	if len(list) > limit {
		list = list[:limit]
		out.Next = list[limit-1].ID
	}
	for i := range list {
		out.Jobs = append(out.Jobs, client.JobOf(&list[i]))
	}
	return c.json(http.StatusOK, out)
}

func (s *Server) summarizeJobs(c *call) error {
	filter, err := c.jobFilter()
	if err != nil {
		return err
	}
	counts, err := s.cfg.Jobs.Jobs.Summary(c.Context(), filter)
	if err != nil {
		return err
	}
	out := client.JobSummary{Counts: make([]client.JobCount, len(counts))}
	for i, n := range counts {
		out.Counts[i] = client.JobCount{Action: string(n.Action), State: string(n.State), Jobs: n.Jobs, Written: n.Written, Failed: n.Failed, Seconds: n.Seconds}
	}
	return c.json(http.StatusOK, out)
}
