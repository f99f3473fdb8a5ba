package client

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/codec"
)

// RejectedError reports records that the server did not store, of a batch that it stored
// otherwise.
type RejectedError struct {
	Answer

	refused *mds.RefusedError
}

func (e *RejectedError) Error() string {
	text := fmt.Sprintf("%d of %d %s were not stored", e.Read-e.Committed, e.Read, e.Kind)
	switch {
	case e.refused != nil:
		text += fmt.Sprintf("; record %d: %v", e.refused.Records[0].Index+1, e.refused.Records[0].Err)
	case len(e.Errors) > 0:
		text += fmt.Sprintf("; record %d: %s", e.Errors[0].Line, e.Errors[0].Reason)
	}
	return text
}

// Unwrap is a [*mds.RefusedError] where the server stored all other records and names these,
// and otherwise the first record that it refused, where it says so of some.
func (e *RejectedError) Unwrap() error {
	if e.refused != nil {
		return e.refused
	}
	if len(e.Errors) == 0 {
		return nil
	}
	return &mds.RecordError{Index: e.Errors[0].Line - 1, Err: errors.New(e.Errors[0].Reason)}
}

// refused finds the records that a server refused in the batch that they came in; nil where it
// does not name all of them, or has not stored all others.
func (t *Table[R]) refused(records []R, a *Answer) *mds.RefusedError {
	n := len(a.Errors) + len(a.Refused)
	if n == 0 || a.Committed+int64(n) != int64(len(records)) {
		return nil
	}
	found := make([]mds.RefusedRecord, 0, n)
	for _, e := range a.Errors {
		found = append(found, mds.RefusedRecord{Index: e.Line - 1, Err: errors.New(e.Reason)})
	}
	places := make(map[string][]int) // of those that are alike the one is as good as the other
	if len(a.Refused) > 0 {
		var line []byte
		for i := range records {
			r := records[i]
			t.schema.Normalize(&r)
			line = codec.AppendObject(line[:0], &t.schema, &r)
			places[string(line)] = append(places[string(line)], i)
		}
	}
	for _, e := range a.Refused {
		alike := t.asSent(e.Record)
		if len(places[alike]) == 0 {
			return nil
		}
		found = append(found, mds.RefusedRecord{Index: places[alike][0], Err: errors.New(e.Reason), Kept: a.Dropped == 0})
		places[alike] = places[alike][1:]
	}
	slices.SortFunc(found, func(a, b mds.RefusedRecord) int { return cmp.Compare(a.Index, b.Index) })
	return &mds.RefusedError{Records: found}
}

// asSent is a record of an answer as [codec.AppendObject] has it; nothing where it is none.
func (t *Table[R]) asSent(text json.RawMessage) string {
	var record R
	decoder, err := codec.NewDecoder[R](bytes.NewReader(text), codec.FormatNDJSON, codec.Options{})
	if err == nil {
		err = decoder.Next(&record)
	}
	if err != nil {
		return ""
	}
	return string(codec.AppendObject(nil, &t.schema, &record))
}
