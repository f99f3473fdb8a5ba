package client

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"iter"
	"net/http"
	"net/url"
	"time"

	"github.com/marketdatastore/mds"
)

// Letter is a dead letter: a record that a server has accepted and that its store does not take.
// Times are UTC.
type Letter struct {
	ID            string          `json:"id" doc:"Its id; ids are in order of arrival"`
	Kind          string          `json:"kind" doc:"That of the record"`
	Tenant        string          `json:"tenant" doc:"Whose it is"`
	TenantID      string          `json:"tenant_id" doc:"The tenant's UUID"`
	Code          string          `json:"code" doc:"Why, in a word: invalid, refused, panic or exhausted"`
	Reason        string          `json:"reason" doc:"Why, in a sentence"`
	SchemaVersion int             `json:"schema_version" doc:"That of the store which refused it; 0 where it is not known"`
	Attempts      int             `json:"attempts" doc:"How often it was written in vain"`
	Submitted     time.Time       `json:"submitted" doc:"When it was accepted"`
	Died          time.Time       `json:"died" doc:"When it was given up"`
	Record        json.RawMessage `json:"record" doc:"The record; what JSON has no value for is an object, and NaN a text"`
}

// Letters are some dead letters.
type Letters struct {
	Letters []Letter `json:"letters" doc:"In order of arrival"`
	Next    string   `json:"next,omitempty" doc:"The value of after that goes on, where there are more"`
}

// LetterCount is how many dead letters there are of a kind with a code.
type LetterCount struct {
	Kind    string `json:"kind" doc:"That of the records"`
	Code    string `json:"code" doc:"Why, in a word"`
	Letters int64  `json:"letters" doc:"How many"`
}

// LetterSummary counts dead letters.
type LetterSummary struct {
	Counts []LetterCount `json:"counts" doc:"By kind and code"`
	// Bytes and Quarantined are of all tenants, and told to an operator.
	Bytes       int64 `json:"bytes,omitempty" doc:"To an operator: what the letters of all tenants take on the disk"`
	Quarantined int   `json:"quarantined,omitempty" doc:"To an operator: how many files were found damaged and put aside"`
}

// LetterFilter picks dead letters. What is empty picks all.
type LetterFilter struct {
	IDs []string
	// Kinds and Codes are those of the letters.
	Kinds, Codes []string
	// Vendors and Symbols pick by the record, whatever the case of the letters in it.
	Vendors, Symbols []string
	// Since and Until bound when they died; the start is in it, the end is not.
	Since, Until time.Time
}

func (f *LetterFilter) values() url.Values {
	v := make(url.Values)
	for name, values := range map[string][]string{"id": f.IDs, "kind": f.Kinds, "code": f.Codes, "vendor": f.Vendors, "symbol": f.Symbols} {
		list(v, name, values)
	}
	for name, value := range map[string]string{"since": instant(f.Since), "until": instant(f.Until)} {
		if value != "" {
			v.Set(name, value)
		}
	}
	return v
}

// Letters reads the dead letters that the server keeps of a tenant, in order of arrival. The
// sequence ends after its first error.
func (c *Client) Letters(ctx context.Context, tenant mds.Tenant, filter LetterFilter) iter.Seq2[Letter, error] {
	return func(yield func(Letter, error) bool) {
		resp, err := c.do(ctx, request{method: http.MethodGet, tenant: c.tenant(tenant), path: "/v1/dead-letters", query: filter.values(), accept: "application/x-ndjson"})
		if err != nil {
			yield(Letter{}, err)
			return
		}
		defer resp.Body.Close() //nolint:errcheck // it is only read
		decoder := json.NewDecoder(resp.Body)
		for {
			var letter Letter
			switch err := decoder.Decode(&letter); {
			case errors.Is(err, io.EOF) && ctx.Err() == nil: // else it may come of breaking off
				return
			case err != nil && ctx.Err() != nil:
				yield(letter, ended(ctx))
				return
			case err != nil:
				yield(letter, &Error{Err: fmt.Errorf("the answer ends too early: %w", err), connection: true})
				return
			}
			if !yield(letter, nil) {
				return
			}
		}
	}
}

// CountLetters counts the dead letters that the server keeps of a tenant.
func (c *Client) CountLetters(ctx context.Context, tenant mds.Tenant, filter LetterFilter) (summary LetterSummary, err error) {
	return summary, c.get(ctx, c.tenant(tenant), "/v1/dead-letters/summary", filter.values(), &summary)
}

// DiscardLetters removes dead letters of a tenant for good, and returns how many there were.
// With all it removes those that the filter picks also where that is each of them.
func (c *Client) DiscardLetters(ctx context.Context, tenant mds.Tenant, filter LetterFilter, all bool) (int64, error) {
	v := filter.values()
	if len(v) == 0 && all {
		v.Set("all", "true")
	}
	var n Removed
	err := c.send(ctx, request{method: http.MethodDelete, tenant: c.tenant(tenant), path: "/v1/dead-letters", query: v, once: true}, nil, &n)
	return n.Removed, err
}
