// Package replay writes dead letters into a store again. A letter is removed once the store
// has it: a replay that ends anywhere loses none, and the next one goes on.
package replay

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"iter"
	"slices"
	"strconv"
	"strings"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/sink"
)

// Config says which letters are written, and how.
type Config struct {
	// Dir is where the letters are. Others may append to it, and remove from it, meanwhile.
	Dir deadletter.Dir
	// Filter picks them.
	Filter deadletter.Filter
	// Overwrite has a letter replace a row that changed since it was submitted, which stays
	// otherwise.
	Overwrite bool
	// Refused is told of each letter that is refused again, and stays. Optional.
	Refused func(letter *deadletter.Letter, err error)
	// Damaged is told of what cannot be read of the folder. Optional.
	Damaged func(err error)
	// Written is called when letters that the store has are removed, now and then; its error
	// ends the replay. Optional.
	Written func(Ledger) error
}

// Ledger accounts for the letters that were picked and that nobody else removed.
type Ledger struct {
	Read int64
	mds.Receipt
	// Refused are those that no write takes still.
	Refused int64
}

// Unwritten are those that it has not come to.
func (l Ledger) Unwritten() int64 {
	return l.Read - l.Written - l.Unchanged - l.Superseded - l.Refused
}

// Replay is one run. It is not safe for concurrent use; several of one folder may run at the
// same time.
type Replay struct {
	cfg      Config
	kind     func(name string) (Kind, bool)
	segments []string
	refs     []letterRef
	ledger   Ledger
	stored   []string // ids, of letters that the store has and that are to be removed
}

// letterRef is a letter that is to be replayed: there may be millions.
type letterRef struct {
	submitted       int64 // microseconds
	segment, number int32
	size            int32
}

// AtOnce is how many letters are held at a time at most.
const AtOnce = 5000

// bytesAtOnce is how many bytes of records are, unless one is larger.
const bytesAtOnce = 32 << 20

// New returns a replay. Pick its letters, and run it.
func New(cfg Config) *Replay {
	if cfg.Refused == nil {
		cfg.Refused = func(*deadletter.Letter, error) {}
	}
	if cfg.Damaged == nil {
		cfg.Damaged = func(error) {}
	}
	if cfg.Written == nil {
		cfg.Written = func(Ledger) error { return nil }
	}
	return &Replay{cfg: cfg}
}

// letters reads those that a filter picks.
func (r *Replay) letters(ctx context.Context, filter deadletter.Filter) iter.Seq2[deadletter.Letter, error] {
	return func(yield func(deadletter.Letter, error) bool) {
		for letter, err := range r.cfg.Dir.Letters(ctx, filter) {
			var damaged *deadletter.DamagedError
			if errors.As(err, &damaged) {
				r.cfg.Damaged(err)
				continue
			}
			if !yield(letter, err) {
				return
			}
		}
	}
}

// Pick repairs the folder, finds the letters to replay, puts them in order and returns how
// many they are.
//
// What is written late leaves its time of writing in the row, so that of letters with the
// same key the newest has to come first: an older one is superseded by it. What is
// overwritten comes in the order in which it was submitted.
func (r *Replay) Pick(ctx context.Context) (n int, err error) {
	if err := r.cfg.Dir.Repair(ctx); err != nil {
		return 0, err
	}
	for letter, err := range r.letters(ctx, r.cfg.Filter) {
		if err != nil {
			return 0, err
		}
		dot := strings.LastIndexByte(letter.ID, '.')
		number, err := strconv.ParseInt(letter.ID[dot+1:], 10, 32)
		if err != nil {
			return 0, err
		}
		if n := len(r.segments); n == 0 || r.segments[n-1] != letter.ID[:dot] {
			r.segments = append(r.segments, letter.ID[:dot])
		}
		r.refs = append(r.refs, letterRef{letter.Submitted.UnixMicro(), int32(len(r.segments) - 1), int32(number), int32(len(letter.Record))})
	}
	slices.SortStableFunc(r.refs, func(a, b letterRef) int { return cmp.Compare(a.submitted, b.submitted) })
	if !r.cfg.Overwrite {
		slices.Reverse(r.refs)
	}
	r.ledger.Read = int64(len(r.refs))
	return len(r.refs), nil
}

// Ledger is what became of the letters so far.
func (r *Replay) Ledger() Ledger { return r.ledger }

// Run writes the letters that were picked, of the kinds that it is given.
func (r *Replay) Run(ctx context.Context, kind func(name string) (Kind, bool)) error {
	r.kind = kind
	for len(r.refs) > 0 {
		n, bytes := 0, 0
		for n < len(r.refs) && n < AtOnce && (n == 0 || bytes+int(r.refs[n].size) <= bytesAtOnce) {
			bytes += int(r.refs[n].size)
			n++
		}
		var filter deadletter.Filter
		for _, ref := range r.refs[:n] {
			filter.IDs = append(filter.IDs, r.segments[ref.segment]+"."+strconv.Itoa(int(ref.number)))
		}
		err := r.window(ctx, filter)
		// What the store has is removed also where the rest failed, or was interrupted.
		_, removeErr := r.cfg.Dir.Remove(context.WithoutCancel(ctx), r.stored)
		r.stored = r.stored[:0]
		if err = errors.Join(err, removeErr); err != nil {
			return err
		}
		r.refs = r.refs[n:]
		if err := r.cfg.Written(r.ledger); err != nil {
			return err
		}
	}
	return nil
}

// window replays some letters, in batches of one kind, tenant and time of submit.
func (r *Replay) window(ctx context.Context, filter deadletter.Filter) error {
	letters := make([]deadletter.Letter, 0, len(filter.IDs))
	for letter, err := range r.letters(ctx, filter) {
		if err != nil {
			return err
		}
		letters = append(letters, letter)
	}
	r.ledger.Read -= int64(len(filter.IDs) - len(letters)) // another removed them
	// Within a batch the last of a key wins: order of arrival, which they are in, stays.
	slices.SortStableFunc(letters, func(a, b deadletter.Letter) int {
		order := a.Submitted.Compare(b.Submitted)
		if !r.cfg.Overwrite {
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

func (r *Replay) batch(ctx context.Context, letters []deadletter.Letter) error {
	k, known := r.kind(letters[0].Kind)
	if !known {
		for i := range letters {
			r.refuse(&letters[i], UnknownKind(letters[i].Kind))
		}
		return nil
	}
	return k.write(ctx, r, letters)
}

// UnknownKind is why letters are refused of a kind that the program does not know.
func UnknownKind(name string) error {
	return fmt.Errorf("this program knows no kind %q", name)
}

func (r *Replay) refuse(letter *deadletter.Letter, err error) {
	r.ledger.Refused++
	var batch *sink.BatchError
	if errors.As(err, &batch) {
		err = batch.Err
	}
	r.cfg.Refused(letter, err)
}
