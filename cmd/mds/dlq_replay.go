package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/replay"
)

func (a *app) dlqReplayCommand(f *dlqFlags) *cobra.Command {
	var overwrite, dry bool
	cmd := &cobra.Command{
		Use:   "replay [ID…]",
		Short: "Write dead letters into the store again",
		Long: `Write dead letters into the store, those that the ids or the flags pick. A row that
changed since a letter was submitted stays, and the letter counts as superseded; with
--overwrite the letter replaces it.

A letter is removed once the store has it. One that is refused again stays, with what
was known of it. It may be interrupted or killed at any moment, and run again.

Exit status: 0 done, 1 failed, 2 wrong usage, 3 done but letters are still refused.`,
		Example: "  mds dlq replay --code exhausted\n  mds dlq replay 20261126T084200.123456Z-1a2b.7 --overwrite\n  mds dlq replay --dry-run",
		RunE: func(cmd *cobra.Command, args []string) error {
			filter, err := a.letterFilter(cmd, f, args)
			if err != nil {
				return err
			}
			dir, err := a.deadLetters(f.dir)
			if err != nil {
				return err
			}
			if dry {
				return a.dryReplay(cmd.Context(), dir, filter)
			}
			return a.replay(cmd.Context(), dir, filter, overwrite)
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace rows that changed since the letters were submitted")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be written, without a store, and change nothing")
	return cmd
}

// shownRefusals is how many letters are told that are still refused.
const shownRefusals = 3

func (a *app) replay(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter, overwrite bool) error {
	told := 0
	r := replay.New(replay.Config{
		Dir: dir, Filter: filter, Overwrite: overwrite,
		Damaged: func(err error) { fmt.Fprintf(a.stderr, "warning: %v\n", err) },
		Refused: func(letter *deadletter.Letter, err error) {
			if told++; told <= shownRefusals {
				fmt.Fprintf(a.stderr, "still refused: %s: %v\n", letter.ID, err)
			}
		},
	})
	n, err := r.Pick(ctx)
	if err != nil {
		return err
	}
	if n == 0 {
		return a.sumUp(dir, filter, nil)
	}
	begun := false
	work := func(s *session) error {
		begun = true
		return r.Run(ctx, func(name string) (replay.Kind, bool) {
			k, known := kindNamed(name)
			if !known {
				return replay.Kind{}, false
			}
			return k.replay(s.Store, a.sinkConfig()), true
		})
	}
	if filter.Tenant == "" {
		err = a.withoutTenant(ctx, writing, work)
	} else if err = a.mustExist(ctx); err == nil {
		err = a.withStore(ctx, writing, work)
	}
	if !begun {
		return err
	}
	l := r.Ledger()
	a.printReplay(l)
	err = errors.Join(err, a.warnOfQuarantine(dir))
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: what is listed above is done; run the same command again for the rest")
	case err != nil:
		return fmt.Errorf("%w; the letters that are left can be replayed again", err)
	case l.Refused > 0:
		return errRejected
	}
	return nil
}

// withoutTenant runs fn on the store of the flags, for no tenant in particular.
func (a *app) withoutTenant(ctx context.Context, access access, fn func(*session) error) error {
	s, err := a.open(ctx, access)
	if err != nil {
		return err
	}
	return errors.Join(fn(s), s.Close())
}

func (a *app) printReplay(l replay.Ledger) {
	fmt.Fprintf(a.stdout, "%s read = %s written + %s unchanged + %s superseded + %s still refused",
		plural(l.Read, "letter"), count(l.Written), count(l.Unchanged), count(l.Superseded), count(l.Refused))
	if unwritten := l.Unwritten(); unwritten > 0 {
		fmt.Fprintf(a.stdout, " + %s unwritten", count(unwritten))
	}
	fmt.Fprintln(a.stdout)
	if l.Refused > shownRefusals {
		fmt.Fprintf(a.stderr, "%s still refused; mds dlq list shows them\n", verb(int(l.Refused), "letter is", "letters are"))
	}
}

// dryReplay counts what would be written.
func (a *app) dryReplay(ctx context.Context, dir deadletter.Dir, filter deadletter.Filter) error {
	var total, bad int64
	for letter, err := range a.readLetters(ctx, dir, filter) {
		if err != nil {
			return err
		}
		total++
		err := replay.UnknownKind(letter.Kind)
		if k, known := kindNamed(letter.Kind); known {
			err = k.check(&letter)
		}
		if err == nil {
			continue
		}
		if bad++; bad <= shownRefusals {
			fmt.Fprintf(a.stderr, "would be refused: %s: %v\n", letter.ID, err)
		}
	}
	if total == 0 {
		return a.sumUp(dir, filter, nil)
	}
	fmt.Fprintf(a.stdout, "%s read; %s would be written as far as can be told without the store, %s refused again\n",
		plural(total, "letter"), count(total-bad), count(bad))
	return a.warnOfQuarantine(dir)
}
