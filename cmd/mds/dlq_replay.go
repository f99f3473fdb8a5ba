package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/sink"
	"github.com/marketdatastore/mds/store"
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
			r := &replay{app: a, dir: dir, filter: filter, overwrite: overwrite, kindNamed: kindNamed}
			if dry {
				return r.dryRun(cmd.Context())
			}
			return r.run(cmd.Context())
		},
	}
	f.register(cmd)
	cmd.Flags().BoolVar(&overwrite, "overwrite", false, "replace rows that changed since the letters were submitted")
	cmd.Flags().BoolVar(&dry, "dry-run", false, "say what would be written, without a store, and change nothing")
	return cmd
}

// replay is one run of the command.
type replay struct {
	app       *app
	dir       deadletter.Dir
	filter    deadletter.Filter
	overwrite bool
	kindNamed func(string) (kind, bool)
	store     *store.Store

	read, refused int64
	receipt       mds.Receipt
	stored        []string // ids, of letters that the store has and that are to be removed
}

// letterRef is a letter that is to be replayed: there may be millions.
type letterRef struct {
	submitted       int64 // microseconds
	segment, number int32
	size            int32
}

// The bounds of what is held of letters at a time, and written in one transaction.
const (
	replayedAtOnce = 5000
	replayedBytes  = 32 << 20
)

func (r *replay) run(ctx context.Context) error {
	if err := r.dir.Repair(ctx); err != nil {
		return err
	}
	segments, refs, err := r.pick(ctx)
	if err != nil {
		return err
	}
	if len(refs) == 0 {
		return r.app.sumUp(r.dir, r.filter, nil)
	}
	work := func(s *session) error {
		r.store = s.Store
		return r.windows(ctx, segments, refs)
	}
	if r.filter.Tenant == "" {
		err = r.app.withoutTenant(ctx, writing, work)
	} else if err = r.app.mustExist(ctx); err == nil {
		err = r.app.withStore(ctx, writing, work)
	}
	if r.store == nil {
		return err
	}
	r.printLedger()
	err = errors.Join(err, r.app.warnOfQuarantine(r.dir))
	switch {
	case errors.Is(err, context.Canceled):
		return errors.New("interrupted: what is listed above is done; run the same command again for the rest")
	case err != nil:
		return fmt.Errorf("%w; the letters that are left can be replayed again", err)
	case r.refused > 0:
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

// pick finds the letters to replay and puts them in order.
//
// What is written late leaves its time of writing in the row, so that of letters with the
// same key the newest has to come first: an older one is superseded by it. What is
// overwritten comes in the order in which it was submitted.
func (r *replay) pick(ctx context.Context) (segments []string, refs []letterRef, err error) {
	for letter, err := range r.app.readLetters(ctx, r.dir, r.filter) {
		if err != nil {
			return nil, nil, err
		}
		dot := strings.LastIndexByte(letter.ID, '.')
		number, err := strconv.ParseInt(letter.ID[dot+1:], 10, 32)
		if err != nil {
			return nil, nil, err
		}
		if n := len(segments); n == 0 || segments[n-1] != letter.ID[:dot] {
			segments = append(segments, letter.ID[:dot])
		}
		refs = append(refs, letterRef{letter.Submitted.UnixMicro(), int32(len(segments) - 1), int32(number), int32(len(letter.Record))})
	}
	slices.SortStableFunc(refs, func(a, b letterRef) int { return cmp.Compare(a.submitted, b.submitted) })
	if !r.overwrite {
		slices.Reverse(refs)
	}
	return segments, refs, nil
}

// windows replays as many letters at a time as may be held.
func (r *replay) windows(ctx context.Context, segments []string, refs []letterRef) error {
	r.read = int64(len(refs))
	for len(refs) > 0 {
		n, bytes := 0, 0
		for n < len(refs) && n < replayedAtOnce && (n == 0 || bytes+int(refs[n].size) <= replayedBytes) {
			bytes += int(refs[n].size)
			n++
		}
		var filter deadletter.Filter
		for _, ref := range refs[:n] {
			filter.IDs = append(filter.IDs, segments[ref.segment]+"."+strconv.Itoa(int(ref.number)))
		}
		err := r.window(ctx, filter)
		// What the store has is removed also where the rest failed, or was interrupted.
		_, removeErr := r.dir.Remove(context.WithoutCancel(ctx), r.stored)
		r.stored = r.stored[:0]
		if err = errors.Join(err, removeErr); err != nil {
			return err
		}
		refs = refs[n:]
	}
	return nil
}

// window replays some letters, in batches of one kind, tenant and time of submit.
func (r *replay) window(ctx context.Context, filter deadletter.Filter) error {
	letters := make([]deadletter.Letter, 0, len(filter.IDs))
	for letter, err := range r.app.readLetters(ctx, r.dir, filter) {
		if err != nil {
			return err
		}
		letters = append(letters, letter)
	}
	r.read -= int64(len(filter.IDs) - len(letters)) // another removed them
	// Within a batch the last of a key wins: order of arrival, which they are in, stays.
	slices.SortStableFunc(letters, func(a, b deadletter.Letter) int {
		order := a.Submitted.Compare(b.Submitted)
		if !r.overwrite {
			order = -order
		}
		return cmp.Or(order, cmp.Compare(a.Kind, b.Kind), cmp.Compare(a.Tenant.ID, b.Tenant.ID))
	})
	for len(letters) > 0 {
		n := 1
		for n < len(letters) && letters[n].Kind == letters[0].Kind && letters[n].Tenant == letters[0].Tenant && letters[n].Submitted.Equal(letters[0].Submitted) {
			n++
		}
		if err := r.batch(ctx, letters[:n]); err != nil {
			return err
		}
		letters = letters[n:]
	}
	return nil
}

func (r *replay) batch(ctx context.Context, letters []deadletter.Letter) error {
	k, known := r.kindNamed(letters[0].Kind)
	if !known {
		for i := range letters {
			r.refuse(&letters[i], errUnknownKind(letters[i].Kind))
		}
		return nil
	}
	return k.replay(ctx, r, letters)
}

func errUnknownKind(name string) error {
	return fmt.Errorf("this program knows no kind %q", name)
}

// shownRefusals is how many letters are told that are still refused.
const shownRefusals = 3

func (r *replay) refuse(letter *deadletter.Letter, err error) {
	if r.refused++; r.refused <= shownRefusals {
		var batch *sink.BatchError
		if errors.As(err, &batch) {
			err = batch.Err
		}
		fmt.Fprintf(r.app.stderr, "still refused: %s: %v\n", letter.ID, err)
	}
}

// replayTable is what letters are written into: the table of a store.
type replayTable[R any] interface {
	WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error)
	WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error)
}

// lateTable writes records as they were submitted.
type lateTable[R any] struct {
	replayTable[R]
	as time.Time
}

func (t lateTable[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	return t.WriteLate(ctx, tenant, records, t.as)
}

// replayKind writes letters of one kind, tenant and time of submit.
func replayKind[R mds.Record[R]](ctx context.Context, r *replay, letters []deadletter.Letter) error {
	return replayInto(ctx, r, letters, store.TableOf[R](r.store))
}

func replayInto[R mds.Record[R]](ctx context.Context, r *replay, letters []deadletter.Letter, table replayTable[R]) error {
	var records []R
	var of []*deadletter.Letter
	for i := range letters {
		record, err := deadletter.Decode[R](letters[i].Record)
		if err != nil {
			r.refuse(&letters[i], err)
			continue
		}
		records, of = append(records, record), append(of, &letters[i])
	}
	if len(records) == 0 {
		return nil
	}
	var writer sink.Writer[R] = table
	if !r.overwrite {
		writer = lateTable[R]{table, letters[0].Submitted}
	}
	write := surviving(sink.New(writer, r.app.sinkConfig()).For(letters[0].Tenant).Write)
	if !r.overwrite {
		slices.Reverse(records)
		slices.Reverse(of)
		write = backwards(write)
	}
	done, err := ingest.Isolate(ctx, records, write)
	r.receipt = r.receipt.Add(done.Receipt)
	refused := make(map[int]bool)
	for _, refusal := range done.Refused {
		refused[refusal.Index] = true
		r.refuse(of[refusal.Index], refusal.Err)
	}
	for i := range done.Done {
		if !refused[i] {
			r.stored = append(r.stored, of[i].ID)
		}
	}
	return err
}

type writeFunc[R any] func(context.Context, []R) (mds.Receipt, error)

// surviving makes a refusal of a panic: there are letters because of one.
func surviving[R any](write writeFunc[R]) writeFunc[R] {
	return func(ctx context.Context, batch []R) (receipt mds.Receipt, err error) {
		defer func() {
			if value := recover(); value != nil {
				err = &ingest.PanicError{Value: value}
			}
		}()
		return write(ctx, batch)
	}
}

// backwards writes records that come in reverse order, so that where a batch is written
// in parts the newest part is written first (see [replay.pick]) and still the last of a
// key wins in each.
func backwards[R any](write writeFunc[R]) writeFunc[R] {
	return func(ctx context.Context, batch []R) (mds.Receipt, error) {
		batch = slices.Clone(batch)
		slices.Reverse(batch)
		receipt, err := write(ctx, batch)
		var record *mds.RecordError
		if errors.As(err, &record) {
			err = &mds.RecordError{Index: len(batch) - 1 - record.Index, Err: record.Err}
		}
		return receipt, err
	}
}

func (r *replay) printLedger() {
	l := r.receipt
	fmt.Fprintf(r.app.stdout, "%s read = %s written + %s unchanged + %s superseded + %s still refused",
		plural(r.read, "letter"), count(l.Written), count(l.Unchanged), count(l.Superseded), count(r.refused))
	if unwritten := r.read - l.Written - l.Unchanged - l.Superseded - r.refused; unwritten > 0 {
		fmt.Fprintf(r.app.stdout, " + %s unwritten", count(unwritten))
	}
	fmt.Fprintln(r.app.stdout)
	if r.refused > shownRefusals {
		fmt.Fprintf(r.app.stderr, "%s still refused; mds dlq list shows them\n", verb(int(r.refused), "letter is", "letters are"))
	}
}

// checkLetter looks whether a letter can be read and validates.
func checkLetter[R mds.Record[R]](letter *deadletter.Letter) error {
	record, err := deadletter.Decode[R](letter.Record)
	if err != nil {
		return err
	}
	schema := mds.SchemaOf[R]()
	return schema.Validate(&record)
}

// dryRun counts what would be written.
func (r *replay) dryRun(ctx context.Context) error {
	var total, bad int64
	for letter, err := range r.app.readLetters(ctx, r.dir, r.filter) {
		if err != nil {
			return err
		}
		total++
		err := errUnknownKind(letter.Kind)
		if k, known := r.kindNamed(letter.Kind); known {
			err = k.check(&letter)
		}
		if err == nil {
			continue
		}
		if bad++; bad <= shownRefusals {
			fmt.Fprintf(r.app.stderr, "would be refused: %s: %v\n", letter.ID, err)
		}
	}
	if total == 0 {
		return r.app.sumUp(r.dir, r.filter, nil)
	}
	fmt.Fprintf(r.app.stdout, "%s read; %s would be written as far as can be told without the store, %s refused again\n",
		plural(total, "letter"), count(total-bad), count(bad))
	return r.app.warnOfQuarantine(r.dir)
}
