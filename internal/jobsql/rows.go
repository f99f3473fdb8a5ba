package jobsql

import (
	"slices"

	"github.com/marketdatastore/mds"
)

// Rows collects the jobs that a statement yields. The zero value is empty. What one has of a
// text that the one before has, too, such as its vendor, is the same string.
type Rows struct {
	done [][]mds.Job // full ones: jobs are large, and are copied once
	jobs []mds.Job
	last [64]string // of each column
}

// chunk is how many jobs are collected at a time, where it is not known how many there are.
const chunk = 512

// RowsFor collects the jobs of a filter.
func RowsFor(f *mds.JobFilter) *Rows {
	const most = 10_000
	if f.Limit <= chunk {
		return new(Rows)
	}
	return &Rows{jobs: make([]mds.Job, 0, min(f.Limit, most))}
}

// Next begins the next job.
func (r *Rows) Next() *mds.Job {
	if len(r.jobs) == cap(r.jobs) {
		if len(r.jobs) > 0 {
			r.done = append(r.done, r.jobs)
		}
		r.jobs = make([]mds.Job, 0, min(chunk, max(1, 8*len(r.jobs)))) // most often it is one
	}
	r.jobs = append(r.jobs, mds.Job{})
	return &r.jobs[len(r.jobs)-1]
}

// SetText puts a text into the job of Next, in the column i.
func SetText[T string | []byte](r *Rows, i int, text T) {
	job := &r.jobs[len(r.jobs)-1]
	if string(text) != r.last[i] {
		r.last[i] = string(text)
	} else if i == tenantColumn && len(r.jobs) > 1 {
		job.Tenant = r.jobs[len(r.jobs)-2].Tenant // to make its id again takes long
		return
	}
	Columns[i].Text(job, r.last[i])
}

// tenantColumn is that of the tenant.
var tenantColumn = slices.IndexFunc(Columns, func(c Column) bool { return c.Name == "tenant" })

// Jobs are all of them.
func (r *Rows) Jobs() []mds.Job {
	if len(r.done) == 0 {
		return r.jobs
	}
	return slices.Concat(append(r.done, r.jobs)...)
}
