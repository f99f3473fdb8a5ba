package main

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
)

func (a *app) compactCommand() *cobra.Command {
	return &cobra.Command{
		Use:   "compact",
		Short: "Put the rows of each series together, so that queries read less",
		Long: `Put the rows of each series together, so that a query for a series reads a small
part of the file. An ingest does this at its end, and a long-lived process when
little is written; what is in order already is left alone.

It may be interrupted at any time, and goes on the next time. Beside the data the
disk has to hold three million rows and a twelfth of all a second time. Kinds with texts, fundamentals and news, stay as they came.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := a.mustExist(cmd.Context()); err != nil {
				return err
			}
			return a.withStore(cmd.Context(), writing, func(s *session) error {
				for _, k := range kinds() {
					if err := a.compact(cmd.Context(), s, k); err != nil {
						return err
					}
				}
				return nil
			})
		},
	}
}

// compact compacts a kind and says what it did.
func (a *app) compact(ctx context.Context, s *session, k kind) error {
	start := time.Now()
	done, err := k.compact(ctx, s)
	if ctx.Err() != nil {
		return errors.New("interrupted, which costs no data; the next time it goes on")
	}
	if err != nil || done.Kind == "" {
		return err
	}
	if done.Steps == 0 {
		fmt.Fprintf(a.stdout, "%-12s in order\n", k.name)
		return nil
	}
	fmt.Fprintf(a.stdout, "%-12s %s rows put in order in %s, %.1f s\n", k.name, count(done.Moved), plural(int64(done.Steps), "step"), time.Since(start).Seconds())
	return nil
}

// compactKind compacts a kind where the store does that. The result has no kind where
// there is nothing to be put in order.
func compactKind[R mds.Record[R]](ctx context.Context, s *session) (mds.Compaction, error) {
	if table, ok := store.TableOf[R](s.Store).(store.Compacter); ok {
		return table.Compact(ctx, s.tenant)
	}
	return mds.Compaction{}, nil
}

// tidy compacts what an ingest of a kind has left in no order. What it does not get
// done is for another time.
func tidy[R mds.Record[R]](ctx context.Context, a *app, s *session, written int64) error {
	if _, ok := store.TableOf[R](s.Store).(store.Compacter); !ok {
		return nil
	}
	const long = 1_000_000 // rows that take half a second
	if written > long {
		fmt.Fprintln(a.stderr, "putting rows in order, for queries by series; Ctrl-C leaves it to mds compact")
	}
	start := time.Now()
	debug.FreeOSMemory() // the batches are done with, and sorting takes some
	done, err := compactKind[R](ctx, s)
	switch {
	case ctx.Err() != nil:
		fmt.Fprintln(a.stderr, "compaction was interrupted, which costs no data; mds compact goes on with it")
	case mds.Retryable(err):
		fmt.Fprintf(a.stderr, "compaction was put off: %v; what was loaded is in the store\n", err)
	case err != nil:
		return fmt.Errorf("what was loaded is in the store, but %w", err)
	case done.Steps > 0:
		fmt.Fprintf(a.stderr, "%s rows put in order, for queries by series, %.1f s\n", count(done.Moved), time.Since(start).Seconds())
	}
	return nil
}
