package jobsql

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// Dialect is what the engines say differently.
type Dialect struct {
	// Schema is what stands before the names of tables.
	Schema string
	// Now is the time by the clock of the store.
	Now string
	// Until is the time that is so many microseconds later, which are the argument %s.
	Until string
	// Unless ends the insertion of a job, of which there may be one with its key.
	Unless string
	// NoTexts is a list of no texts.
	NoTexts string
	// Skip ends the choice of a row that others may choose, too.
	Skip string
}

// Statements are those on jobs.
type Statements struct {
	dialect Dialect
	columns string
	short   string // without what may be long

	// Insert keeps a job (see Kept), and yields it.
	Insert string
	// ByKey finds a job by the id of its tenant, or NULL, and its key.
	ByKey string
	// Waiting counts the jobs of a tenant, or of all, that have not ended, to MaxJobsWaiting.
	Waiting string
	// ByID finds a job by its number.
	ByID string
	// GiveUp ends the jobs whose leases have ended and that are not begun again.
	GiveUp string
	// Beat has a job for another lease. It yields whether it is to end. Its arguments are
	// those of Attempt, the lease in microseconds and those of Progress.
	Beat string
	// Progress says how far a job is, and yields its number, with the arguments of Attempt
	// and Progress.
	Progress string
	// Finish ends an attempt, and yields the job's number; with those of Attempt, the state,
	// when it is begun again, its error, Progress, and how often it may be begun, where that is
	// more often.
	Finish string
	// Cancel has a job end that has not ended, and yields it.
	Cancel string
	// ForgetPart and KeepPart have a part take the place of one with the name.
	ForgetPart, KeepPart string
	// Parts are the parts of a job by its number.
	Parts string
	// Cleanup removes the jobs that ended before a time.
	Cleanup string
}

// Statements returns those of a dialect.
func (d Dialect) Statements() *Statements {
	say := strings.NewReplacer(
		"{jobs}", d.Schema+"jobs", "{parts}", d.Schema+"job_parts", "{columns}", names(), "{now}", d.Now, "{skip}", d.Skip,
		"{attempt}", "id = $1 AND worker = $2 AND attempt = $3 AND state = 'running'",
		"{until}", fmt.Sprintf(d.Until, "$4::bigint"), "{over}", "lease_until <= "+d.Now,
		"{given up}", "'given up after attempt ' || attempt || ' of ' || max_attempts",
	).Replace
	return &Statements{
		dialect: d,
		columns: names(),
		short:   short(d.NoTexts),
		Insert:  say(insert() + d.Unless + " RETURNING {columns}"),
		ByKey:   say("SELECT {columns} FROM {jobs} WHERE tenant_id IS NOT DISTINCT FROM $1 AND key = $2 AND key <> ''"),
		Waiting: say("SELECT count(*)::bigint FROM (SELECT 1 FROM {jobs} WHERE state IN ('queued', 'running') AND tenant_id IS NOT DISTINCT FROM $1 LIMIT " +
			strconv.Itoa(mds.MaxJobsWaiting) + ") waiting"),
		ByID: say("SELECT {columns} FROM {jobs} WHERE id = $1"),
		GiveUp: say(`UPDATE {jobs} SET state = CASE WHEN cancel_requested THEN 'cancelled' ELSE 'failed' END, finished_at = {now}, lease_until = NULL,
			error = CASE WHEN cancel_requested THEN error ELSE 'the server that ran it was not heard of any more; ' || {given up} END
			WHERE id IN (SELECT id FROM {jobs} WHERE state = 'running' AND {over} AND (cancel_requested OR attempt >= max_attempts){skip})`),
		Beat: say(`UPDATE {jobs} SET heartbeat_at = {now}, lease_until = {until},
			parts = $5, parts_done = $6, written = $7, failed = $8, note = $9 WHERE {attempt} RETURNING cancel_requested`),
		Progress: say("UPDATE {jobs} SET heartbeat_at = {now}, parts = $4, parts_done = $5, written = $6, failed = $7, note = $8 WHERE {attempt} RETURNING id"),
		Finish: say(`UPDATE {jobs} SET
			state = CASE WHEN $4::text <> 'queued' THEN $4::text WHEN cancel_requested THEN 'cancelled' WHEN attempt >= GREATEST(max_attempts, $12::bigint) THEN 'failed' ELSE 'queued' END,
			finished_at = CASE WHEN $4::text <> 'queued' OR cancel_requested OR attempt >= GREATEST(max_attempts, $12::bigint) THEN {now} END,
			not_before = CASE WHEN $4::text = 'queued' THEN $5 ELSE not_before END,
			error = CASE WHEN $4::text = 'queued' AND NOT cancel_requested AND attempt >= GREATEST(max_attempts, $12::bigint) THEN CASE WHEN $6::text = '' THEN '' ELSE $6::text || '; ' END || {given up} ELSE $6::text END,
			heartbeat_at = {now}, lease_until = NULL, max_attempts = GREATEST(max_attempts, $12::bigint), parts = $7, parts_done = $8, written = $9, failed = $10, note = $11 WHERE {attempt} RETURNING id`),
		Cancel: say(`UPDATE {jobs} SET cancel_requested = true,
			state = CASE WHEN state = 'queued' OR {over} THEN 'cancelled' ELSE state END,
			finished_at = CASE WHEN state = 'queued' OR {over} THEN {now} END,
			lease_until = CASE WHEN state = 'queued' OR {over} THEN NULL ELSE lease_until END
			WHERE id = $1 AND state IN ('queued', 'running') RETURNING {columns}`),
		ForgetPart: say("DELETE FROM {parts} WHERE job_id = $1 AND name = $2"),
		KeepPart:   say("INSERT INTO {parts} (job_id, name, written, failed, done_at) VALUES ($1, $2, $3, $4, {now})"),
		Parts:      say(`SELECT name, written, failed, done_at FROM {parts} WHERE job_id = $1 ORDER BY name`),
		Cleanup:    say("DELETE FROM {jobs} WHERE finished_at < $1"),
	}
}

// insert is the insertion of a job that waits.
func insert() string {
	list, places := []string{"tenant_id"}, []string{"$1"}
	for _, c := range Columns {
		if c.value != nil {
			list = append(list, c.Name)
			places = append(places, "$"+strconv.Itoa(len(list)))
		}
	}
	return "INSERT INTO {jobs} (" + strings.Join(list, ", ") + ", state, created_at) VALUES (" + strings.Join(places, ", ") + ", 'queued', {now})"
}

// Claim begins a job, for a worker of a version, for a lease in microseconds, of actions: the
// arguments in that order. It yields the job. Of equal priority it is one of a tenant of which
// none runs, if there is one: who asks for many jobs does not have all servers.
func (s *Statements) Claim(worker, version string, actions []mds.JobAction, lease time.Duration) (query string, args []any) {
	args = []any{Clean(worker, maxName), Clean(version, maxName), lease.Microseconds()}
	d := s.dialect
	say := strings.NewReplacer("{jobs}", d.Schema+"jobs", "{columns}", s.columns, "{now}", d.Now, "{skip}", d.Skip, "{until}", fmt.Sprintf(d.Until, "$3::bigint"),
		"{first}", "ORDER BY priority DESC, id LIMIT 1", // in the order of an index
		"{due}", strings.ReplaceAll(`state IN ('queued', 'running') AND action IN (`+places(&args, actions)+`) AND (state = 'queued' AND (not_before IS NULL OR not_before <= {now})
				OR state = 'running' AND lease_until <= {now} AND NOT cancel_requested AND attempt < max_attempts)`, "{now}", d.Now))
	return say.Replace(`UPDATE {jobs} SET state = 'running', worker = $1, version = $2, attempt = attempt + 1, started_at = coalesce(started_at, {now}),
		heartbeat_at = {now}, lease_until = {until}
		WHERE id = (SELECT coalesce(
			(SELECT id FROM {jobs} WHERE {due} AND priority >= (SELECT priority FROM {jobs} WHERE {due} {first})
				AND (tenant_id IS NULL OR tenant_id NOT IN (SELECT tenant_id FROM {jobs} WHERE state = 'running' AND lease_until > {now} AND tenant_id IS NOT NULL)) {first}{skip}),
			(SELECT id FROM {jobs} WHERE {due} {first}{skip}))) RETURNING {columns}`), args
}

// places adds arguments, and returns their places.
func places[T ~string](args *[]any, values []T) string {
	list := make([]string, len(values))
	for i, v := range values {
		*args = append(*args, string(v))
		list[i] = "$" + strconv.Itoa(len(*args))
	}
	return strings.Join(list, ", ")
}

// List reads the jobs of a filter without their params and symbols, the newest first.
func (s *Statements) List(f *mds.JobFilter) (query string, args []any, err error) {
	where, args := condition(f)
	if f.After != "" {
		after, err := Number(f.After)
		if err != nil {
			return "", nil, err
		}
		args = append(args, after)
		where += " AND id < $" + strconv.Itoa(len(args))
	}
	query = "SELECT " + s.short + " FROM " + s.dialect.Schema + "jobs WHERE " + where + " ORDER BY id DESC"
	if f.Limit > 0 {
		query += " LIMIT " + strconv.Itoa(f.Limit)
	}
	return query, args, nil
}

// Summary counts the jobs of a filter, by action and state.
func (s *Statements) Summary(f *mds.JobFilter) (query string, args []any) {
	where, args := condition(f)
	return fmt.Sprintf(`SELECT action, state, count(*)::bigint, sum(written)::bigint, sum(failed)::bigint,
		coalesce(sum(greatest(0.0::double precision, extract(epoch FROM CASE WHEN state = 'running' THEN %s ELSE finished_at END - started_at)::double precision)), 0)::double precision
		FROM %sjobs WHERE %s GROUP BY action, state ORDER BY action, state`, s.dialect.Now, s.dialect.Schema, where), args
}

// condition is that of a filter, without Limit and After.
func condition(f *mds.JobFilter) (where string, args []any) {
	list := []string{"true"}
	add := func(format string, arg any) {
		args = append(args, arg)
		list = append(list, fmt.Sprintf(format, len(args)))
	}
	switch tenant := strings.ToLower(f.TenantID); {
	case tenant != "" && !isUUID(tenant):
		list = append(list, "false")
	case tenant != "" && f.Common:
		add("(tenant_id = $%d::uuid OR tenant_id IS NULL)", tenant)
	case tenant != "":
		add("tenant_id = $%d::uuid", tenant)
	case f.Common:
		list = append(list, "tenant_id IS NULL")
	}
	// States are said in the text, which is what indexes of some go by.
	if states := slices.DeleteFunc(slices.Clone(f.States), func(s mds.JobState) bool { return !slices.Contains(mds.JobStates(), s) }); len(states) > 0 {
		var texts []string
		for _, s := range states {
			texts = append(texts, "'"+string(s)+"'")
		}
		list = append(list, "state IN ("+strings.Join(texts, ", ")+")")
	} else if len(f.States) > 0 {
		list = append(list, "false")
	}
	if len(f.Actions) > 0 {
		list = append(list, "action IN ("+places(&args, f.Actions)+")")
	}
	if !f.Since.IsZero() {
		add("created_at >= $%d", f.Since.UTC())
	}
	if !f.Before.IsZero() {
		add("created_at < $%d", f.Before.UTC())
	}
	if !f.SilentSince.IsZero() {
		add("state = 'running' AND heartbeat_at < $%d", f.SilentSince.UTC())
	}
	return strings.Join(list, " AND "), args
}

// isUUID reports the form 8-4-4-4-12 of hexadecimal digits.
func isUUID(s string) bool {
	groups := strings.Split(s, "-")
	return len(groups) == 5 && len(s) == 36 && len(groups[0]) == 8 && len(groups[1]) == 4 && len(groups[2]) == 4 && len(groups[3]) == 4 &&
		strings.Trim(s, "0123456789abcdef-") == ""
}

// Kept makes a job that is to be made what is kept of it.
func Kept(j *mds.Job) error {
	if err := j.Validate(); err != nil {
		return err
	}
	params := []byte("{}")
	if len(j.Params) > 0 {
		var text bytes.Buffer
		if err := json.Compact(&text, j.Params); err != nil {
			return err
		}
		params = text.Bytes()
	}
	j.Params = params
	if j.MaxAttempts == 0 {
		j.MaxAttempts = mds.DefaultJobAttempts
	}
	if j.Fingerprint == "" {
		j.Fingerprint = j.MakeFingerprint()
	}
	return nil
}

// InsertArgs are the arguments of Insert, of a job that Kept has looked at.
func InsertArgs(j *mds.Job) []any {
	args := []any{TenantID(j.Tenant)}
	for _, c := range Columns {
		if c.value != nil {
			args = append(args, c.value(j))
		}
	}
	return args
}

// Room refuses another job beside so many of its tenant that wait.
func Room(waiting int64) error {
	if waiting >= mds.MaxJobsWaiting {
		return fmt.Errorf("%w: there are %d already; make it when some have ended, or cancel some", mds.ErrJobsWaiting, waiting)
	}
	return nil
}

// TenantID is NULL of the zero tenant.
func TenantID(t mds.Tenant) any {
	if t == (mds.Tenant{}) {
		return nil
	}
	return t.ID
}

// Same returns the job that is there with the key of one that was to be made.
func Same(asked, there *mds.Job) (mds.Job, bool, error) {
	if asked.Fingerprint != there.Fingerprint {
		return *there, false, fmt.Errorf("%w: %q is that of job %s, which is told to do something else", mds.ErrJobKey, asked.Key, there.ID)
	}
	return *there, false, nil
}

// Bounds of texts that come from what happens, in bytes: they are cut, since a job that
// cannot say what happened does not end.
const (
	maxName  = 200
	maxNote  = 1_000
	maxError = 2_000
)

// BeatArgs are the arguments of Beat.
func BeatArgs(j *mds.Job, lease time.Duration) ([]any, error) {
	args, err := attempt(j)
	if err != nil {
		return nil, err
	}
	return append(append(args, lease.Microseconds()), progress(j)...), nil
}

// PartArgs are the arguments of Progress and of KeepPart, whose first two are those of
// ForgetPart.
func PartArgs(j *mds.Job, p *mds.JobPart) (how, kept []any, err error) {
	if how, err = attempt(j); err != nil {
		return nil, nil, err
	}
	if p.Name == "" || len(p.Name) > mds.MaxJobPart || Clean(p.Name, mds.MaxJobPart) != p.Name {
		return nil, nil, &mds.InvalidError{Faults: []mds.Fault{{Field: "part", Reason: fmt.Sprintf("%q is not 1 to %d bytes of text", p.Name, mds.MaxJobPart)}}}
	}
	return append(how, progress(j)...), []any{how[0], p.Name, p.Written, p.Failed}, nil
}

// FinishArgs are the arguments of Finish.
func FinishArgs(j *mds.Job, state mds.JobState, again time.Time) ([]any, error) {
	if state != mds.JobQueued && !state.Ended() {
		return nil, &mds.InvalidError{Faults: []mds.Fault{{Field: "state", Reason: fmt.Sprintf("%q is none that an attempt ends in", state)}}}
	}
	args, err := attempt(j)
	if err != nil {
		return nil, err
	}
	reason := Clean(j.Error, maxError)
	if state == mds.JobDone {
		reason = "" // that of an attempt before
	}
	return append(append(append(args, string(state), OrNull(again), reason), progress(j)...), j.MaxAttempts), nil
}

// attempt are the arguments that name an attempt; the error is that of a job that is not there.
func attempt(j *mds.Job) ([]any, error) {
	id, err := Number(j.ID)
	if err != nil {
		return nil, Lost(j)
	}
	return []any{id, Clean(j.Worker, maxName), j.Attempt}, nil
}

// progress are the arguments of how far a job is.
func progress(j *mds.Job) []any {
	return []any{j.Parts, j.PartsDone, j.Written, j.Failed, Clean(j.Note, maxNote)}
}

// Clean is a text as every engine takes it, of so many bytes at most.
func Clean(s string, most int) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= most {
		return s
	}
	const cut = "…"
	return strings.ToValidUTF8(s[:most-len(cut)], "") + cut
}
