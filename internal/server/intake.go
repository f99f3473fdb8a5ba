package server

import (
	"context"
	"errors"
	"io"
	"slices"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/codec"
	"github.com/marketdatastore/mds/codec/arrow"
	"github.com/marketdatastore/mds/ingest"
)

// intake hands the rows of one body over to a coordinator.
type intake[R mds.Record[R]] struct {
	reading context.Context // ends when the client has gone, or intake ends
	handle  *ingest.Handle[R]
	size    func(*R) int
	schema  *mds.Schema[R]
	most    int   // errors and refused records listed
	room    int   // bytes of them, roughly
	portion int64 // records handed over at a time, at most
	// late writes records that come late, at once; nil has the coordinator write them.
	late func(context.Context, []R) (mds.Receipt, error)

	record R // that is being decoded, while those before may be handed over
	batch  []R
	bytes  int
	open   []ingest.Receipt[R] // not settled, or not looked at
	answer client.Answer
	listed int   // bytes of errors
	failed error // handing over
}

// Records are handed over so many at a time, or so many bytes.
const (
	handOver      = 1000
	handOverBytes = 1 << 20
	handOverBatch = 5000 // that come as columns
)

// runArrow reads a stream of batches.
func (in *intake[R]) runArrow(body io.Reader, opt arrow.Options) error {
	reader, err := arrow.NewReader[R](body, opt)
	if err != nil {
		return unreadable(err)
	}
	defer func() {
		in.answer.Ignored, in.answer.Warnings = reader.Ignored(), reader.Warnings()
		reader.Close()
	}()
	in.batch = slices.Grow(in.batch, handOverBatch)
	for {
		into := in.batch[:handOverBatch] // what is read before it was handed over
		n, rejected, err := reader.Next(into)
		in.batch = into[:n]
		for _, row := range rejected {
			in.reject(row)
		}
		if flushErr := in.flush(); flushErr != nil {
			return flushErr
		}
		switch {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return unreadable(err)
		}
	}
}

// runRows reads rows until there are no more.
func (in *intake[R]) runRows(body io.Reader, format codec.Format, opt codec.Options) error {
	decoder, err := codec.NewDecoder[R](body, format, opt)
	if err != nil {
		return unreadable(err)
	}
	defer func() {
		in.answer.Ignored, in.answer.Warnings = decoder.Ignored(), decoder.Warnings()
	}()
	for {
		in.record = *new(R)
		err := decoder.Next(&in.record)
		var row *codec.RowError
		switch {
		case err == nil:
			in.batch = append(in.batch, in.record)
			in.bytes += in.size(&in.record)
		case errors.As(err, &row):
			in.reject(row)
			continue
		default:
			flushErr := in.flush()
			if errors.Is(err, io.EOF) {
				if flushErr == nil && in.answer.Accepted+in.answer.Rejected == 0 && slices.ContainsFunc(decoder.Ignored(), isNumber) {
					return badRequest("unreadable_body", "the body is one line, in which data stands where names should be: its line ends are missing; curl sends them with --data-binary, and not with -d")
				}
				return flushErr
			}
			return unreadable(err)
		}
		if len(in.batch) >= handOver || in.bytes >= handOverBytes {
			if err := in.flush(); err != nil {
				return err
			}
		}
	}
}

// isNumber reports that a name is none.
func isNumber(name string) bool {
	_, err := strconv.ParseFloat(name, 64)
	return err == nil
}

// unreadable is the error of a body that cannot be read on.
func unreadable(err error) error {
	var p *problem
	var setup *codec.SetupError
	var header *codec.HeaderError
	if errors.As(err, &p) || errors.As(err, &setup) || errors.As(err, &header) || errors.Is(err, ingest.ErrStopped) || errors.Is(err, mds.ErrUnknownTenant) || errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return err
	}
	return badRequest("unreadable_body", asParameters(err.Error()))
}

// reject notes a row that became no record.
func (in *intake[R]) reject(row *codec.RowError) {
	in.answer.Rejected++
	e := client.RowError{Line: row.Line, Field: row.Field, Reason: clipped(row.Reason)}
	if len(in.answer.Errors)+len(in.answer.Refused) < in.most && in.takes(len(e.Field)+len(e.Reason)) {
		in.answer.Errors = append(in.answer.Errors, e)
	} else {
		in.answer.Omitted++
	}
}

// clipped is a reason that is not too long to be told.
func clipped(reason string) string {
	const most = 1000
	if len(reason) <= most {
		return reason
	}
	return strings.ToValidUTF8(reason[:most], "") + "…"
}

// flush hands over what there is, in portions that fit. It waits for room, and meanwhile
// nothing is read.
func (in *intake[R]) flush() error {
	if in.failed == nil {
		in.failed = in.reading.Err()
	}
	left := in.batch
	for len(left) > 0 && in.failed == nil {
		n := in.fitting(left)
		if in.failed = in.hand(left[:n]); in.failed == nil {
			in.answer.Accepted += int64(n)
			left = left[n:]
		}
	}
	clear(in.batch)
	in.batch, in.bytes = in.batch[:0], 0
	in.look()
	return in.failed
}

// hand hands a portion over.
func (in *intake[R]) hand(portion []R) error {
	if in.late == nil {
		receipt, err := in.handle.Submit(in.reading, portion...)
		if err == nil {
			in.open = append(in.open, receipt)
		}
		return err
	}
	receipt, err := in.late(in.reading, portion)
	if err == nil {
		in.answer.Committed += int64(len(portion))
		in.answer.Unchanged += receipt.Unchanged
		in.answer.Superseded += receipt.Superseded
	}
	return err
}

// fitting is how many records are handed over next.
func (in *intake[R]) fitting(records []R) int {
	n, bytes := 0, 0
	for n < len(records) && n < int(in.portion) {
		if bytes += in.size(&records[n]); n > 0 && bytes > handOverBytes {
			break
		}
		n++
	}
	return n
}

// look takes in what became of the records that were handed over first, as far as it is
// known: a long body does not gather receipts.
func (in *intake[R]) look() {
	n := 0
	for ; n < len(in.open); n++ {
		o, settled := in.open[n].Settled()
		if !settled {
			break
		}
		in.add(&in.open[n], o)
	}
	in.open = append(in.open[:0], in.open[n:]...)
}

// add adds what became of the records of a receipt.
func (in *intake[R]) add(receipt *ingest.Receipt[R], o ingest.Outcome) {
	in.answer.Committed += o.Committed
	in.answer.DeadLettered += o.DeadLettered
	in.answer.Dropped += o.Dropped
	in.answer.Unwritten += o.Unwritten
	if o.DeadLettered+o.Dropped == 0 {
		return
	}
	for _, refused := range receipt.Refused() {
		in.refuse(&refused)
	}
}

// refuse notes a record that the store refuses.
func (in *intake[R]) refuse(refused *ingest.Refused[R]) {
	if len(in.answer.Errors)+len(in.answer.Refused) >= in.most || in.listed >= in.room {
		in.answer.RefusedOmitted++
		return
	}
	e := client.Refused{Record: codec.AppendObject(nil, in.schema, &refused.Record), Reason: clipped(refused.Err.Error())}
	if in.takes(len(e.Record) + len(e.Reason)) {
		in.answer.Refused = append(in.answer.Refused, e)
	} else {
		in.answer.RefusedOmitted++
	}
}

// takes reports that there is room in the answer for so many bytes more.
func (in *intake[R]) takes(bytes int) bool {
	const around = 40
	if in.listed+around+bytes > in.room {
		return false
	}
	in.listed += around + bytes
	return true
}

// settle waits until all that was handed over is settled, or ctx ends.
func (in *intake[R]) settle(ctx context.Context) error {
	for i := range in.open {
		in.open[i].Hurry()
	}
	for len(in.open) > 0 {
		o, err := in.open[0].Wait(ctx)
		var lost *ingest.LostError
		if err != nil && !errors.As(err, &lost) {
			return err
		}
		in.add(&in.open[0], o)
		in.open = in.open[1:]
	}
	return nil
}

// result is the answer as it is now.
func (in *intake[R]) result() *client.Answer {
	in.look()
	a := in.answer
	a.Read = a.Rejected + a.Accepted // what was read beyond it is to be sent again
	a.Pending = a.Accepted - a.Committed - a.DeadLettered - a.Dropped - a.Unwritten
	return &a
}
