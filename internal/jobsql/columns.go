// Package jobsql has what the engines have in common of jobs: their columns, and the
// statements on them.
package jobsql

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Column is one of a job. One of Text, Int, Bool, Time and List says how it is put into one.
// Only times may be NULL, which are the zero time then.
type Column struct {
	Name string
	Text func(*mds.Job, string)
	Int  func(*mds.Job, int64)
	Bool func(*mds.Job) *bool
	Time func(*mds.Job) *time.Time
	List func(*mds.Job) *[]string

	// value is what is kept of a job that is made; nil of what the store says of it.
	value func(*mds.Job) any
}

// Columns are those of a job, in the order in which statements read them.
var Columns = []Column{
	{Name: "id", Int: func(j *mds.Job, v int64) { j.ID = strconv.FormatInt(v, 10) }},
	{Name: "tenant", Text: setTenant, value: func(j *mds.Job) any { return j.Tenant.Slug }},
	text("action", func(j *mds.Job) *string { return (*string)(&j.Action) }),
	text("name", func(j *mds.Job) *string { return &j.Name }),
	{Name: "params", Text: setParams, value: func(j *mds.Job) any { return string(j.Params) }},
	text("key", func(j *mds.Job) *string { return &j.Key }),
	{Name: "priority", Int: func(j *mds.Job, v int64) { j.Priority = int(v) }, value: func(j *mds.Job) any { return j.Priority }},
	text("mode", func(j *mds.Job) *string { return (*string)(&j.Mode) }),
	text("dataset", func(j *mds.Job) *string { return &j.Dataset }),
	text("vendor", func(j *mds.Job) *string { return &j.Vendor }),
	{Name: "symbols", List: func(j *mds.Job) *[]string { return &j.Symbols }, value: func(j *mds.Job) any { return append([]string{}, j.Symbols...) }},
	instant("starts_at", func(j *mds.Job) *time.Time { return &j.Start }),
	instant("ends_at", func(j *mds.Job) *time.Time { return &j.End }),
	text("fingerprint", func(j *mds.Job) *string { return &j.Fingerprint }),
	text("asked_by", func(j *mds.Job) *string { return &j.By }),
	instant("not_before", func(j *mds.Job) *time.Time { return &j.NotBefore }),
	{Name: "max_attempts", Int: func(j *mds.Job, v int64) { j.MaxAttempts = int(v) }, value: func(j *mds.Job) any { return j.MaxAttempts }},

	{Name: "state", Text: func(j *mds.Job, v string) { j.State = mds.JobState(v) }},
	{Name: "created_at", Time: func(j *mds.Job) *time.Time { return &j.Created }},
	{Name: "started_at", Time: func(j *mds.Job) *time.Time { return &j.Started }},
	{Name: "finished_at", Time: func(j *mds.Job) *time.Time { return &j.Finished }},
	{Name: "heartbeat_at", Time: func(j *mds.Job) *time.Time { return &j.Heartbeat }},
	{Name: "lease_until", Time: func(j *mds.Job) *time.Time { return &j.LeaseUntil }},
	{Name: "worker", Text: func(j *mds.Job, v string) { j.Worker = v }},
	{Name: "version", Text: func(j *mds.Job, v string) { j.Version = v }},
	{Name: "attempt", Int: func(j *mds.Job, v int64) { j.Attempt = int(v) }},
	{Name: "cancel_requested", Bool: func(j *mds.Job) *bool { return &j.CancelRequested }},
	{Name: "error", Text: func(j *mds.Job, v string) { j.Error = v }},
	{Name: "parts", Int: func(j *mds.Job, v int64) { j.Parts = v }},
	{Name: "parts_done", Int: func(j *mds.Job, v int64) { j.PartsDone = v }},
	{Name: "written", Int: func(j *mds.Job, v int64) { j.Written = v }},
	{Name: "failed", Int: func(j *mds.Job, v int64) { j.Failed = v }},
	{Name: "note", Text: func(j *mds.Job, v string) { j.Note = v }},
}

func text(name string, field func(*mds.Job) *string) Column {
	return Column{
		Name: name, Text: func(j *mds.Job, v string) { *field(j) = v },
		value: func(j *mds.Job) any { return *field(j) },
	}
}

func instant(name string, field func(*mds.Job) *time.Time) Column {
	return Column{Name: name, Time: field, value: func(j *mds.Job) any { return OrNull(*field(j)) }}
}

// setParams leaves them out where they are not read.
func setParams(j *mds.Job, text string) {
	if text != "" {
		j.Params = json.RawMessage(text)
	}
}

// setTenant goes by the slug, of which the id is made.
func setTenant(j *mds.Job, slug string) {
	switch slug {
	case "":
		j.Tenant = mds.Tenant{}
	case mds.DefaultTenant().Slug:
		j.Tenant = mds.DefaultTenant()
	default:
		j.Tenant, _ = mds.NewTenant(slug) // there is one
	}
}

// OrNull is NULL of the zero time.
func OrNull(t time.Time) any {
	if t.IsZero() {
		return nil
	}
	return t.UTC().Truncate(time.Microsecond)
}

// names are those of the columns.
func names() string {
	list := make([]string, len(Columns))
	for i := range Columns {
		list[i] = Columns[i].Name
	}
	return strings.Join(list, ", ")
}

// short are the columns with nothing in the place of what may be long.
func short(noTexts string) string {
	list := make([]string, len(Columns))
	for i := range Columns {
		switch list[i] = Columns[i].Name; {
		case Columns[i].List != nil:
			list[i] = noTexts
		case list[i] == "params":
			list[i] = "''"
		}
	}
	return strings.Join(list, ", ")
}

// Number is the number of a job's id, or an error that wraps [mds.ErrUnknownJob].
func Number(id string) (int64, error) {
	n, err := strconv.ParseInt(id, 10, 64)
	if err != nil || n < 1 || strconv.FormatInt(n, 10) != id {
		return 0, Unknown(id)
	}
	return n, nil
}

// Unknown says that there is no such job.
func Unknown(id string) error { return fmt.Errorf("%w: %q", mds.ErrUnknownJob, id) }

// Lost says that an attempt of a job is not its worker's any more.
func Lost(job *mds.Job) error {
	return fmt.Errorf("%w: attempt %d of %s", mds.ErrJobLost, job.Attempt, job.ID)
}
