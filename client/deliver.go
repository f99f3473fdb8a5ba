package client

import (
	"bytes"
	"context"
	"io"

	"github.com/marketdatastore/mds"
)

// deliver sends records in one request, or in halves where that is too large. Under an
// idempotency key, which is of all of them, it does not.
func (t *Table[R]) deliver(ctx context.Context, records []R, r request) (Answer, error) {
	body, err := t.batch(records)
	if err != nil {
		return Answer{}, err
	}
	r.body = func() io.Reader { return bytes.NewReader(body) }
	answer, err := t.post(ctx, r)
	if len(records) < 2 || r.key != "" || !tooLarge(err) {
		return answer, err
	}
	middle := len(records) / 2
	order := []half[R]{{0, records[:middle]}, {middle, records[middle:]}}
	if r.query.Has("late") { // the last of a key wins: what comes late stays before what comes as late after it
		order[0], order[1] = order[1], order[0]
	}
	answer = Answer{}
	for _, part := range order {
		of, err := t.deliver(ctx, part.records, r)
		answer.add(&of, part.begin)
		if err != nil {
			return answer, err
		}
	}
	return answer, nil
}

// half is some of a batch's records, from one on.
type half[R mds.Record[R]] struct {
	begin   int
	records []R
}

// add adds what became of records of the same batch, from one on.
func (a *Answer) add(b *Answer, begin int) {
	a.Kind = b.Kind
	for _, sum := range []struct{ to, of *int64 }{
		{&a.Read, &b.Read}, {&a.Rejected, &b.Rejected}, {&a.Accepted, &b.Accepted}, {&a.Committed, &b.Committed},
		{&a.DeadLettered, &b.DeadLettered}, {&a.Dropped, &b.Dropped}, {&a.Unwritten, &b.Unwritten}, {&a.Pending, &b.Pending},
		{&a.Unchanged, &b.Unchanged}, {&a.Superseded, &b.Superseded}, {&a.Omitted, &b.Omitted}, {&a.RefusedOmitted, &b.RefusedOmitted},
	} {
		*sum.to += *sum.of
	}
	for _, e := range b.Errors {
		e.Line += begin
		a.Errors = append(a.Errors, e)
	}
	a.Refused = append(a.Refused, b.Refused...)
	a.Ignored = b.Ignored // the columns are the same
	for what, n := range b.Warnings {
		if a.Warnings == nil {
			a.Warnings = make(map[string]int64)
		}
		a.Warnings[what] += n
	}
}
