package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// JobRequest asks for a job.
type JobRequest struct {
	Action     string          `json:"action" doc:"What is to be done: backfill, refresh, policies, replay, compact, export, migrate"`
	Name       string          `json:"name,omitempty" doc:"What it is for, to tell people"`
	Params     json.RawMessage `json:"params,omitempty" doc:"What the action takes beside, as an object"`
	Key        string          `json:"key,omitempty" doc:"An idempotency key: of jobs with the same one is made"`
	Priority   int             `json:"priority,omitempty" doc:"A job with a higher one begins first"`
	Mode       string          `json:"mode,omitempty" doc:"live or backfill; of a backfill that unless it is said"`
	Dataset    string          `json:"dataset,omitempty" doc:"The kind of its records"`
	Vendor     string          `json:"vendor,omitempty" doc:"Whose its records are"`
	Symbols    []string        `json:"symbols,omitempty" doc:"Those that it is about; none is all"`
	Start      string          `json:"start,omitempty" doc:"The first time of its records"`
	End        string          `json:"end,omitempty" doc:"The first time after them"`
	AllTenants bool            `json:"all_tenants,omitempty" doc:"Whether it is about all tenants, where the action may be; policies and migrate always are"`
	// MaxAttempts is how often it may be begun.
	MaxAttempts int    `json:"max_attempts,omitempty" doc:"How often it may be begun where what stops it passes; 5 unless it is said"`
	NotBefore   string `json:"not_before,omitempty" doc:"When it may begin at the earliest"`
}

// Job is the job that is asked for. One whose action is about all tenants always is.
func (r *JobRequest) Job() (job mds.Job, err error) {
	job = mds.Job{
		Action: mds.JobAction(r.Action), Name: r.Name, Params: r.Params, Key: r.Key, Priority: r.Priority, Mode: mds.JobMode(r.Mode),
		Dataset: r.Dataset, Vendor: mds.NormalizeVendor(r.Vendor), Symbols: r.Symbols, MaxAttempts: r.MaxAttempts,
	}
	r.AllTenants = r.AllTenants || job.Action.OfAll()
	if job.Action == mds.JobBackfill && job.Mode == "" {
		job.Mode = mds.ModeBackfill
	}
	for name, at := range map[string]struct {
		text string
		to   *time.Time
	}{"start": {r.Start, &job.Start}, "end": {r.End, &job.End}, "not_before": {r.NotBefore, &job.NotBefore}} {
		if at.text == "" {
			continue
		}
		if *at.to, err = codec.ParseTime(at.text, time.UTC); err != nil {
			return job, fmt.Errorf("%s: %w", name, err)
		}
		*at.to = at.to.UTC()
	}
	return job, nil
}

// Job is where a job stands. Times are UTC.
type Job struct {
	ID          string          `json:"id" doc:"Its id; ids are in order of their making"`
	Tenant      string          `json:"tenant,omitempty" doc:"Whose data it is about; left out where that is of all"`
	Action      string          `json:"action" doc:"What it does"`
	Name        string          `json:"name,omitempty" doc:"What it is for"`
	Mode        string          `json:"mode,omitempty" doc:"live or backfill"`
	Dataset     string          `json:"dataset,omitempty" doc:"The kind of its records"`
	Vendor      string          `json:"vendor,omitempty" doc:"Whose its records are"`
	Symbols     []string        `json:"symbols,omitempty" doc:"Those that it is about; left out of lists"`
	Start       *time.Time      `json:"start,omitempty" doc:"The first time of its records"`
	End         *time.Time      `json:"end,omitempty" doc:"The first time after them"`
	Params      json.RawMessage `json:"params,omitempty" doc:"What the action takes beside; left out of lists"`
	Key         string          `json:"key,omitempty" doc:"Its idempotency key"`
	Fingerprint string          `json:"fingerprint" doc:"A digest of what it was told to do"`
	Priority    int             `json:"priority" doc:"A job with a higher one begins first"`
	By          string          `json:"by,omitempty" doc:"The API key that asked for it"`

	State           string     `json:"state" doc:"queued, running, done, failed or cancelled"`
	CancelRequested bool       `json:"cancel_requested,omitempty" doc:"Whether it is to end"`
	Created         *time.Time `json:"created" doc:"When it was asked for"`
	NotBefore       *time.Time `json:"not_before,omitempty" doc:"When it may begin at the earliest"`
	Started         *time.Time `json:"started,omitempty" doc:"When it was begun first"`
	Finished        *time.Time `json:"finished,omitempty" doc:"When it ended"`
	Heartbeat       *time.Time `json:"heartbeat,omitempty" doc:"When the server that runs it was heard of last"`
	Elapsed         float64    `json:"elapsed_seconds" doc:"From its first beginning until it ended, or now"`
	Worker          string     `json:"worker,omitempty" doc:"The server that runs it, or ran it last"`
	Version         string     `json:"version,omitempty" doc:"The version of that server's program"`
	Attempt         int        `json:"attempt" doc:"How often it was begun"`
	MaxAttempts     int        `json:"max_attempts" doc:"How often it may be"`
	Parts           int64      `json:"parts,omitempty" doc:"Of how many parts it is, where that is known"`
	PartsDone       int64      `json:"parts_done,omitempty" doc:"How many of them are done"`
	Written         int64      `json:"rows_written" doc:"Records that it brought, or rows that it changed"`
	Failed          int64      `json:"rows_failed" doc:"Records that it could not bring"`
	Note            string     `json:"note,omitempty" doc:"What it does at the moment, or did last"`
	Error           string     `json:"error,omitempty" doc:"Why it failed, or waits to be begun again"`
}

// JobOf is a job as it is told.
func JobOf(j *mds.Job) Job {
	out := Job{
		ID: j.ID, Tenant: j.Tenant.Slug, Action: string(j.Action), Name: j.Name, Mode: string(j.Mode), Dataset: j.Dataset, Vendor: j.Vendor, Symbols: j.Symbols,
		Start: known(j.Start), End: known(j.End), Params: j.Params, Key: j.Key, Fingerprint: j.Fingerprint, Priority: j.Priority, By: j.By,
		State: string(j.State), CancelRequested: j.CancelRequested, Created: known(j.Created), NotBefore: known(j.NotBefore), Started: known(j.Started),
		Finished: known(j.Finished), Heartbeat: known(j.Heartbeat), Worker: j.Worker, Version: j.Version, Attempt: j.Attempt, MaxAttempts: j.MaxAttempts,
		Parts: j.Parts, PartsDone: j.PartsDone, Written: j.Written, Failed: j.Failed, Note: j.Note, Error: j.Error,
	}
	switch {
	case j.Started.IsZero():
	case j.Finished.IsZero():
		out.Elapsed = time.Since(j.Started).Seconds()
	default:
		out.Elapsed = j.Finished.Sub(j.Started).Seconds()
	}
	return out
}

// known is nil for the zero time.
func known(at time.Time) *time.Time {
	if at.IsZero() {
		return nil
	}
	return &at
}

// Jobs are some jobs.
type Jobs struct {
	Jobs []Job  `json:"jobs" doc:"The newest first"`
	Next string `json:"next,omitempty" doc:"The value of after that goes on, where there are more"`
}

// JobCount is how many jobs there are of an action in a state.
type JobCount struct {
	Action  string  `json:"action" doc:"What they do"`
	State   string  `json:"state" doc:"Where they stand"`
	Jobs    int64   `json:"jobs" doc:"How many"`
	Written int64   `json:"rows_written" doc:"Records that they brought"`
	Failed  int64   `json:"rows_failed" doc:"Records that they could not bring"`
	Seconds float64 `json:"elapsed_seconds" doc:"How long they ran"`
}

// JobSummary counts jobs.
type JobSummary struct {
	Counts []JobCount `json:"counts" doc:"By action and state"`
}

// Enqueue has the server do something. The key needs the scope admin.
func (c *Client) Enqueue(ctx context.Context, tenant mds.Tenant, job JobRequest) (made Job, err error) {
	body, err := json.Marshal(job)
	if err != nil {
		return made, err
	}
	return made, c.ask(ctx, request{
		method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/jobs", accept: document, contentType: document,
		body: func() io.Reader { return bytes.NewReader(body) }, once: job.Key == "", // else the same one is made
	}, &made)
}

// Job tells where a job stands.
func (c *Client) Job(ctx context.Context, tenant mds.Tenant, id string) (job Job, err error) {
	return job, c.get(ctx, c.tenant(tenant), "/v1/jobs/"+url.PathEscape(id), nil, &job)
}

// CancelJob has a job end.
func (c *Client) CancelJob(ctx context.Context, tenant mds.Tenant, id string) (job Job, err error) {
	return job, c.ask(ctx, request{method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/jobs/" + url.PathEscape(id) + "/cancel", accept: document}, &job)
}

// jobValues are the parameters of a filter.
func jobValues(f *mds.JobFilter) url.Values {
	v := make(url.Values)
	for _, s := range f.States {
		v.Add("state", string(s))
	}
	for _, a := range f.Actions {
		v.Add("action", string(a))
	}
	for name, at := range map[string]time.Time{"since": f.Since, "before": f.Before} {
		if !at.IsZero() {
			v.Set(name, at.UTC().Format(time.RFC3339Nano))
		}
	}
	return v
}

// ListJobs lists jobs without their params and symbols, the newest first. Whose they are the filter does not say.
func (c *Client) ListJobs(ctx context.Context, tenant mds.Tenant, filter mds.JobFilter) (list Jobs, err error) {
	v := jobValues(&filter)
	if filter.Limit > 0 {
		v.Set("limit", strconv.Itoa(filter.Limit))
	}
	if filter.After != "" {
		v.Set("after", filter.After)
	}
	if !filter.SilentSince.IsZero() {
		v.Set("silent", strconv.Itoa(max(1, int(time.Since(filter.SilentSince).Seconds()))))
	}
	return list, c.get(ctx, c.tenant(tenant), "/v1/jobs", v, &list)
}

// SummarizeJobs counts jobs.
func (c *Client) SummarizeJobs(ctx context.Context, tenant mds.Tenant, filter mds.JobFilter) ([]JobCount, error) {
	var s JobSummary
	err := c.get(ctx, c.tenant(tenant), "/v1/jobs/summary", jobValues(&filter), &s)
	return s.Counts, err
}

// CleanJobsUp removes what is known of jobs that ended before a time.
func (c *Client) CleanJobsUp(ctx context.Context, tenant mds.Tenant, before time.Time) (int64, error) {
	var n Removed
	err := c.ask(ctx, request{
		method: http.MethodPost, tenant: c.tenant(tenant), path: "/v1/jobs/cleanup", accept: document,
		query: url.Values{"before": {before.UTC().Format(time.RFC3339Nano)}},
	}, &n)
	return n.Removed, err
}
