package server

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"strings"

	"github.com/danielgtaylor/huma/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
)

// letterOperations list and discard the dead letters that the server keeps of a tenant.
func (s *Server) letterOperations() []operation {
	code := text("code", "Only with these codes")
	for _, word := range []string{ingest.CodeInvalid, ingest.CodeRefused, ingest.CodePanic, ingest.CodeExhausted} {
		code.schema.Enum = append(code.schema.Enum, word)
	}
	filter := []param{
		text("id", "Only these letters").several(), text("kind", "Only of these kinds").several(), code.several(),
		text("vendor", "Only of these vendors").several(), text("symbol", "Only of these symbols").several(),
		text("since", "Only those that died at this time or later"), text("until", "Only those that died before this time"),
	}
	listed := s.document200("The letters, in order of arrival", client.Letters{})
	listed["200"].Content[typeNDJSON] = &huma.MediaType{Schema: s.schemaOf(client.Letter{})}
	form := formParam()
	form.schema.Enum = []any{"json", "ndjson"}
	return []operation{
		{
			method: http.MethodGet, path: "/v1/dead-letters", id: "dead-letters", tag: "control", scope: mds.ScopeAdmin,
			summary:     "List the dead letters of a tenant",
			description: "Records that this server has accepted and that the store does not take. As NDJSON all that the parameters pick is streamed.",
			params:      append(slices.Clone(filter), number("limit", "At most so many; of JSON 100 unless it is said", 1, mostLetters), text("after", "Go on after the letter with this id"), form),
			responses:   listed,
			limit:       s.queries,
			serve:       s.listLetters,
		},
		{
			method: http.MethodGet, path: "/v1/dead-letters/summary", id: "dead-letter-summary", tag: "control", scope: mds.ScopeAdmin,
			summary: "Count the dead letters of a tenant", description: "By kind and code.",
			params:    filter,
			responses: s.document200("The counts", client.LetterSummary{}),
			limit:     s.queries,
			serve:     s.countLetters,
		},
		{
			method: http.MethodDelete, path: "/v1/dead-letters", id: "discard-dead-letters", tag: "control", scope: mds.ScopeAdmin, audit: true,
			summary:     "Remove dead letters of a tenant for good",
			description: "Those that the parameters pick, without writing them to the store. They are gone from the disk when it answers.",
			params:      append(slices.Clone(filter), choice("all", "Whether to remove each of them, where no other parameter picks", "false", "true")),
			responses:   s.document200("How many were removed", client.Removed{}),
			limit:       s.queries,
			serve:       s.discardLetters,
		},
	}
}

// mostLetters is how many letters one answer in JSON has at most, which is held in memory, and
// discardedAtOnce how many ids are held.
const (
	mostLetters     = 1000
	discardedAtOnce = 5000
)

// letters is the folder of the dead letters that the server keeps, if it keeps any.
func (s *Server) letters() (deadletter.Dir, bool) {
	if s.cfg.Letters == nil {
		return deadletter.Dir{}, false
	}
	return deadletter.Dir{Path: s.cfg.Letters.Path(), Logger: s.cfg.Logger}, true
}

// letterFilter reads the parameters that pick letters, of the tenant that asks and no other.
func (s *Server) letterFilter(c *call) (dir deadletter.Dir, f deadletter.Filter, err error) {
	dir, ok := s.letters()
	if !ok {
		return dir, f, notDoneHere("keep dead letters", "what its store refuses is dropped, and counted")
	}
	f = deadletter.Filter{IDs: c.list("id"), Kinds: c.list("kind"), Codes: c.list("code"), Tenant: c.tenant.ID, Vendors: c.list("vendor"), Symbols: c.list("symbol")}
	for _, id := range append(slices.Clone(f.IDs), c.list("after")...) {
		if !deadletter.IsID(id) {
			return dir, f, badRequest("bad_parameter", "id "+id+": it is no letter's; one is like 20261126T084200.123456Z-1a2b.7")
		}
	}
	for _, kind := range f.Kinds {
		if !slices.ContainsFunc(s.kinds, func(k *served) bool { return k.name == kind }) {
			return dir, f, badRequest("bad_parameter", "kind: there is no kind "+kind)
		}
	}
	if f.DiedFrom, err = instant(c, "since"); err == nil {
		f.DiedBefore, err = instant(c, "until")
	}
	if err == nil {
		f.Made, err = s.made(c.Context(), c.tenant)
	}
	return dir, f, err
}

// readLetters hands letters on until one is not wanted. What is damaged is logged, and left out.
func (s *Server) readLetters(ctx context.Context, dir deadletter.Dir, f *deadletter.Filter, use func(*deadletter.Letter) (more bool, err error)) error {
	for letter, err := range dir.Letters(ctx, *f) {
		var damaged *deadletter.DamagedError
		if errors.As(err, &damaged) {
			s.cfg.Logger.WarnContext(ctx, "dead letters are damaged", "error", err)
			continue
		}
		if err != nil {
			return err
		}
		if more, err := use(&letter); err != nil || !more {
			return err
		}
	}
	return nil
}

func letterOf(l *deadletter.Letter) client.Letter {
	return client.Letter{
		ID: l.ID, Kind: strings.ToValidUTF8(l.Kind, "\ufffd"), Tenant: l.Tenant.Slug, TenantID: l.Tenant.ID, Code: l.Code, Reason: strings.ToValidUTF8(l.Reason, "\ufffd"),
		SchemaVersion: l.SchemaVersion, Attempts: l.Attempts, Submitted: l.Submitted.UTC(), Died: l.Died.UTC(), Record: l.Record,
	}
}

func (s *Server) listLetters(c *call) error {
	form, err := c.form([]string{typeJSON, typeNDJSON})
	if err != nil {
		return err
	}
	usual := 100
	if form == typeNDJSON {
		usual = 0
	}
	limit, err := c.integer("limit", usual, 1, mostLetters)
	if err != nil {
		return err
	}
	dir, filter, err := s.letterFilter(c)
	if err != nil {
		return err
	}
	after := c.value("after")
	n := 0
	if form == typeNDJSON {
		c.w.Header().Set("Content-Type", typeNDJSON)
		c.w.Header().Set("Cache-Control", "no-store")
		encoder := json.NewEncoder(c.w)
		return s.readLetters(c.Context(), dir, &filter, func(l *deadletter.Letter) (bool, error) {
			if after != "" && !deadletter.After(l.ID, after) {
				return true, nil
			}
			if err := encoder.Encode(letterOf(l)); err != nil {
				return false, &cutError{err}
			}
			n++
			return n != limit, nil
		})
	}
	out := client.Letters{Letters: []client.Letter{}}
	err = s.readLetters(c.Context(), dir, &filter, func(l *deadletter.Letter) (bool, error) {
		if after != "" && !deadletter.After(l.ID, after) {
			return true, nil
		}
		if len(out.Letters) == limit {
			out.Next = out.Letters[limit-1].ID
			return false, nil
		}
		out.Letters = append(out.Letters, letterOf(l))
		return true, nil
	})
	if err != nil {
		return err
	}
	return c.json(http.StatusOK, out)
}

func (s *Server) countLetters(c *call) error {
	dir, filter, err := s.letterFilter(c)
	if err != nil {
		return err
	}
	type what struct{ kind, code string }
	counts := make(map[what]int64)
	err = s.readLetters(c.Context(), dir, &filter, func(l *deadletter.Letter) (bool, error) {
		counts[what{l.Kind, l.Code}]++
		return true, nil
	})
	if err != nil {
		return err
	}
	out := client.LetterSummary{Counts: []client.LetterCount{}}
	for w, n := range counts {
		out.Counts = append(out.Counts, client.LetterCount{Kind: w.kind, Code: w.code, Letters: n})
	}
	slices.SortFunc(out.Counts, func(a, b client.LetterCount) int { return strings.Compare(a.Kind+"\n"+a.Code, b.Kind+"\n"+b.Code) })
	if c.operator { // what others have is no matter of a tenant's
		damaged, err := dir.Quarantined()
		if err != nil {
			return err
		}
		out.Quarantined = len(damaged)
		if out.Bytes, err = dir.Bytes(); err != nil {
			return err
		}
	}
	return c.json(http.StatusOK, out)
}

func (s *Server) discardLetters(c *call) error {
	dir, filter, err := s.letterFilter(c)
	if err != nil {
		return err
	}
	picks := filter
	picks.Tenant = ""
	if all := c.value("all") == "true"; all != picks.All() {
		return badRequest("bad_parameter", map[bool]string{
			true:  "all=true removes all letters of the tenant: leave it out to remove what the other parameters pick",
			false: "say which letters to remove, or all=true",
		}[all])
	}
	n, err := s.discard(c.Context(), dir, &filter)
	if err != nil {
		return err
	}
	c.removed = &n
	return c.json(http.StatusOK, client.Removed{Removed: n})
}

// discard removes letters for good.
func (s *Server) discard(ctx context.Context, dir deadletter.Dir, f *deadletter.Filter) (total int64, err error) {
	var ids []string
	remove := func() error {
		n, err := dir.Remove(ctx, ids)
		total += int64(n)
		ids = ids[:0]
		return err
	}
	err = s.readLetters(ctx, dir, f, func(l *deadletter.Letter) (bool, error) {
		if ids = append(ids, l.ID); len(ids) < discardedAtOnce {
			return true, nil
		}
		return true, remove()
	})
	return total, errors.Join(err, remove())
}
