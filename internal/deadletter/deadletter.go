// Package deadletter keeps the records that were accepted and that no backend
// takes, with what is known about why, until they are replayed or discarded.
//
// Letters lie in a folder, in segments that are only appended to. One line is
// one letter, a JSON object that begins with its checksum and its length, so
// that grep and jq read a segment as it is:
//
//	20261126T084200.123456Z-1a2b.ndjson    a segment; its letters are …-1a2b.1, …-1a2b.2, …
//	20261126T084200.123456Z-1a2b.removed   the letters of it that are gone
//	lock                                   excludes those who remove and repair
//	quarantine/                            files that were found damaged
//
// A segment has one writer, which holds a lock on it. What is removed is noted
// beside it; a segment of which all is removed and that nobody writes goes.
package deadletter

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/marketdatastore/mds"
)

// ErrFull is returned by Append when the folder would take more than its bound.
// It stays so until letters are replayed or discarded.
var ErrFull = errors.New("the dead letters are full")

// ErrClosed is returned by Append after Close.
var ErrClosed = errors.New("the dead letters are closed")

// Letter is a record that was accepted and that no backend takes.
type Letter struct {
	// ID names the letter: it is given by Append and stays. IDs sort in order of arrival
	// within a segment when their numbers are taken as numbers.
	ID string
	// Kind is that of the record, such as "bars".
	Kind   string
	Tenant mds.Tenant
	// Code is one stable word for the reason, such as "invalid" or "refused".
	Code string
	// Reason is one sentence.
	Reason string
	// SchemaVersion is that of the store that refused the record, 0 where it is not known.
	SchemaVersion int
	// Attempts is how often the record was written in vain.
	Attempts int
	// Submitted is when the record was accepted; Died, when it was given up.
	Submitted, Died time.Time
	// Record is what [Encode] made of the record.
	Record json.RawMessage
}

// Filter picks letters. What is empty picks all.
type Filter struct {
	IDs          []string
	Kinds, Codes []string
	Tenant       string // a slug or an id
	// Vendors and Symbols pick by the record, whatever the case of the letters in it. A
	// list of symbols is picked by any of them.
	Vendors, Symbols []string
	// The windows include their start, not their end.
	SubmittedFrom, SubmittedBefore time.Time
	DiedFrom, DiedBefore           time.Time
	// Made is, by id, when tenants were made: letters that were submitted before are of another
	// one that had the id, and are left out.
	Made map[string]time.Time
}

// After reports whether a letter comes after another one in the order of [Dir.Letters], going
// by their ids: the other one may be gone.
func After(id, other string) bool {
	name, number, _ := splitID(id)
	otherName, otherNumber, _ := splitID(other)
	return name > otherName || name == otherName && number > otherNumber
}

// All reports whether the filter leaves nothing out, but what is of tenants that are gone.
func (f *Filter) All() bool {
	return len(f.IDs)+len(f.Kinds)+len(f.Codes)+len(f.Vendors)+len(f.Symbols) == 0 && f.Tenant == "" &&
		f.SubmittedFrom.IsZero() && f.SubmittedBefore.IsZero() && f.DiedFrom.IsZero() && f.DiedBefore.IsZero()
}

// segments are the numbers of the letters to pick, by segment; nil for all.
func (f *Filter) segments() map[string]*numbers {
	if len(f.IDs) == 0 {
		return nil
	}
	wanted := make(map[string]*numbers)
	for _, id := range f.IDs {
		if name, number, ok := splitID(id); ok {
			if wanted[name] == nil {
				wanted[name] = &numbers{}
			}
			wanted[name].add(number)
		}
	}
	return wanted
}

// picks goes by all but the ids.
func (f *Filter) picks(l *Letter) bool {
	return (len(f.Kinds) == 0 || slices.Contains(f.Kinds, l.Kind)) &&
		(f.Tenant == "" || f.Tenant == l.Tenant.Slug || strings.EqualFold(f.Tenant, l.Tenant.ID)) &&
		(len(f.Codes) == 0 || slices.Contains(f.Codes, l.Code)) &&
		within(l.Submitted, f.SubmittedFrom, f.SubmittedBefore) &&
		within(l.Died, f.DiedFrom, f.DiedBefore) &&
		!l.Submitted.Before(f.Made[l.Tenant.ID]) &&
		(len(f.Vendors) == 0 || anyFold(f.Vendors, l.Texts("vendor"))) &&
		(len(f.Symbols) == 0 || anyFold(f.Symbols, append(l.Texts("symbol"), l.Texts("symbols")...)))
}

func within(t, from, before time.Time) bool {
	return (from.IsZero() || !t.Before(from)) && (before.IsZero() || t.Before(before))
}

func anyFold(wanted, values []string) bool {
	return slices.ContainsFunc(values, func(v string) bool {
		return slices.ContainsFunc(wanted, func(w string) bool { return strings.EqualFold(strings.TrimSpace(v), strings.TrimSpace(w)) })
	})
}

// AppendJSON appends the letter as one JSON object on one line, in the form of the
// segments.
func (l *Letter) AppendJSON(dst []byte) []byte {
	return appendLetter(append(appendText(append(dst, `{"id":`...), l.ID), ','), l)
}

// Texts returns the texts that the record has in a column: one, or the items of
// a list; none where there is no such column of texts.
func (l *Letter) Texts(column string) []string {
	var columns map[string]json.RawMessage
	if json.Unmarshal(l.Record, &columns) != nil {
		return nil
	}
	raw := columns[column]
	if s, err := parseText(raw); err == nil {
		return []string{s}
	}
	items, _ := parseList(raw)
	return items
}
