package main

import (
	"context"
	"fmt"
	"iter"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/store/remote"
)

// registerServer adds the flag that means the letters of the server itself: those of ingests
// from here are here.
func (f *dlqFlags) registerServer(cmd *cobra.Command) {
	cmd.Flags().BoolVar(&f.atServer, "at-server", false, "the letters that the server of --server keeps itself, rather than those of what was sent to it from here")
}

// askedThere is a filter in words of a server, which goes by the tenant of the request.
func askedThere(f *deadletter.Filter) client.LetterFilter {
	return client.LetterFilter{IDs: f.IDs, Kinds: f.Kinds, Codes: f.Codes, Vendors: f.Vendors, Symbols: f.Symbols, Since: f.DiedFrom, Until: f.DiedBefore}
}

// throughLetters runs fn with the letters that the server of the flags keeps.
func (a *app) throughLetters(cmd *cobra.Command, filter deadletter.Filter, fn func(letters iter.Seq2[deadletter.Letter, error]) error) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		return fn(func(yield func(deadletter.Letter, error) bool) {
			for l, err := range s.Letters(ctx, tenant, askedThere(&filter)) {
				letter := deadletter.Letter{
					ID: l.ID, Kind: l.Kind, Tenant: mds.Tenant{ID: l.TenantID, Slug: l.Tenant}, Code: l.Code, Reason: l.Reason,
					SchemaVersion: l.SchemaVersion, Attempts: l.Attempts, Submitted: l.Submitted, Died: l.Died, Record: l.Record,
				}
				if !yield(letter, err) {
					return
				}
			}
		})
	})
}

func (a *app) listLettersThere(cmd *cobra.Command, filter deadletter.Filter, limit int) error {
	return a.throughLetters(cmd, filter, func(letters iter.Seq2[deadletter.Letter, error]) error {
		counts, err := a.tableOfLetters(letters, true, limit)
		if err != nil {
			return err
		}
		if text := countsText(counts); text != "" {
			fmt.Fprintln(a.stderr, text)
		} else {
			fmt.Fprintf(a.stderr, "no dead letters of tenant %s at the server match\n", filter.Tenant)
		}
		return nil
	})
}

func (a *app) showLettersThere(cmd *cobra.Command, filter deadletter.Filter, ids []string) error {
	return a.throughLetters(cmd, filter, func(letters iter.Seq2[deadletter.Letter, error]) error {
		missing, err := a.showLetters(letters, ids)
		if err != nil {
			return err
		}
		return noSuchLetters(missing, filter, "what the server keeps")
	})
}

func (a *app) discardLettersThere(cmd *cobra.Command, filter deadletter.Filter) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error {
		n, err := s.DiscardLetters(ctx, tenant, askedThere(&filter), true)
		if err != nil {
			return err
		}
		fmt.Fprintf(a.stdout, "%s discarded\n", plural(n, "letter"))
		return nil
	})
}
