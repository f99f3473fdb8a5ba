package replay

import (
	"context"
	"errors"
	"slices"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/sink"
)

// Table is what letters are written into: the table of a store.
type Table[R any] interface {
	WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error)
	WriteLate(ctx context.Context, tenant mds.Tenant, records []R, as time.Time) (mds.Receipt, error)
}

// Kind writes the letters of one kind.
type Kind struct {
	// write writes letters of one tenant and time of submit.
	write func(context.Context, *Replay, []deadletter.Letter) error
}

// KindOf writes letters into a table, through a sink.
func KindOf[R mds.Record[R]](table Table[R], cfg sink.Config) Kind {
	return Kind{write: func(ctx context.Context, r *Replay, letters []deadletter.Letter) error {
		return into(ctx, r, letters, table, cfg)
	}}
}

// Check looks whether a letter can be read and validates.
func Check[R mds.Record[R]](letter *deadletter.Letter) error {
	record, err := deadletter.Decode[R](letter.Record)
	if err != nil {
		return err
	}
	schema := mds.SchemaOf[R]()
	return schema.Validate(&record)
}

func into[R mds.Record[R]](ctx context.Context, r *Replay, letters []deadletter.Letter, table Table[R], cfg sink.Config) error {
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
	if !r.cfg.Overwrite {
		writer = lateTable[R]{table, letters[0].Submitted}
	}
	write := surviving(sink.New(writer, cfg).For(letters[0].Tenant).Write)
	if !r.cfg.Overwrite {
		slices.Reverse(records)
		slices.Reverse(of)
		write = backwards(write)
	}
	done, err := ingest.Isolate(ctx, records, write)
	r.ledger.Receipt = r.ledger.Add(done.Receipt)
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

// lateTable writes records as they were submitted.
type lateTable[R any] struct {
	Table[R]
	as time.Time
}

func (t lateTable[R]) WriteBatch(ctx context.Context, tenant mds.Tenant, records []R) (mds.Receipt, error) {
	return t.WriteLate(ctx, tenant, records, t.as)
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
// in parts the newest part is written first (see [Replay.Pick]) and still the last of a
// key wins in each.
func backwards[R any](write writeFunc[R]) writeFunc[R] {
	return func(ctx context.Context, batch []R) (mds.Receipt, error) {
		batch = slices.Clone(batch)
		slices.Reverse(batch)
		receipt, err := write(ctx, batch)
		var several *mds.RefusedError
		var record *mds.RecordError
		switch {
		case errors.As(err, &several):
			flipped := slices.Clone(several.Records)
			for i := range flipped {
				flipped[i].Index = len(batch) - 1 - flipped[i].Index
			}
			slices.Reverse(flipped)
			err = &mds.RefusedError{Records: flipped}
		case errors.As(err, &record):
			err = &mds.RecordError{Index: len(batch) - 1 - record.Index, Err: record.Err}
		}
		return receipt, err
	}
}
