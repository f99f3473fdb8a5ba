package duckdb

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/marketdatastore/mds"
)

// pending is a batch on its way.
type pending[R any] struct {
	ctx     context.Context
	records []R
	as      *int64 // of late records, when they were submitted, in microseconds; nil of others
	bytes   int    // of the records, roughly

	done    chan struct{} // closed when the rest is known
	receipt mds.Receipt
	err     error
}

func (w *pending[R]) finish(receipt mds.Receipt, err error) {
	w.receipt, w.err = receipt, err
	close(w.done)
}

// queue has the batches of one kind that wait for the writer's token. Whoever gets
// it writes those of the others, too.
type queue[R any] struct {
	mu      sync.Mutex
	waiting []*pending[R]
}

// queueOf returns the queue of a kind.
func queueOf[R any](f *file, kind string) *queue[R] {
	if q, ok := f.queues.Load(kind); ok {
		return q.(*queue[R])
	}
	q, _ := f.queues.LoadOrStore(kind, &queue[R]{})
	return q.(*queue[R])
}

func (q *queue[R]) push(w *pending[R]) {
	q.mu.Lock()
	defer q.mu.Unlock()
	q.waiting = append(q.waiting, w)
}

// remove takes back a batch that nobody has begun to write.
func (q *queue[R]) remove(w *pending[R]) bool {
	q.mu.Lock()
	defer q.mu.Unlock()
	at := slices.Index(q.waiting, w)
	if at < 0 {
		return false
	}
	q.waiting = slices.Delete(q.waiting, at, at+1)
	return true
}

// What is written together has so many records and bytes at most, unless one batch has
// more.
const (
	maxTogether      = 50_000
	maxTogetherBytes = 16 << 20
)

// bytes is how large records are, roughly.
func (t *Table[R]) bytes(records []R) int {
	if t.plain {
		const small = 256 // at most: maxTogether is what bounds them
		return small * len(records)
	}
	n := 0
	for i := range records {
		n += t.schema.Size(&records[i])
	}
	return n
}

// take removes the batches that are written together next. One of late records is
// written alone.
func (q *queue[R]) take() []*pending[R] {
	q.mu.Lock()
	defer q.mu.Unlock()
	n, records, bytes := 0, 0, 0
	for _, w := range q.waiting {
		records, bytes = records+len(w.records), bytes+w.bytes
		if n > 0 && (records > maxTogether || bytes > maxTogetherBytes || w.as != nil || q.waiting[0].as != nil) {
			break
		}
		n++
	}
	together := slices.Clone(q.waiting[:n])
	q.waiting = slices.Delete(q.waiting, 0, n)
	return together
}

// takeTurn writes what waits until own is written, which another one may have done by
// now, and gives the writer's token back, which the caller holds.
func (t *Table[R]) takeTurn(f *file, q *queue[R], own *pending[R]) {
	defer f.unlockWriter()
	for {
		select {
		case <-own.done:
			return
		default:
			t.writeTogether(f, q.take())
		}
	}
}

// writeTogether writes batches in one transaction. What the database refuses is
// written alone, so that one batch costs the others nothing.
func (t *Table[R]) writeTogether(f *file, batches []*pending[R]) {
	batches = slices.DeleteFunc(batches, func(w *pending[R]) bool {
		err := w.ctx.Err()
		if err != nil {
			w.finish(mds.Receipt{}, err)
		}
		return err != nil
	})
	if len(batches) == 0 {
		return
	}
	finished := 0
	defer func() { // nobody waits for ever, not even for one that panicked
		if finished < len(batches) {
			t.doubt(f)
		}
		for _, w := range batches[finished:] {
			w.finish(mds.Receipt{}, errors.New("the write was abandoned"))
		}
	}()
	ctx, cancel := together(batches)
	defer cancel()
	receipts, err := t.write(ctx, f, batches)
	if !t.plain && outOfMemory(err) && !f.failed.Load() {
		t.doubt(f)
		back := f.lend(ctx) // what few texts are compared with may be large, too
		receipts, err = t.write(ctx, f, batches)
		back()
	}
	if err != nil {
		t.doubt(f)
		f.noteWrite(err)
		if len(batches) > 1 && ctx.Err() == nil && !f.failed.Load() && !errors.Is(wrap(ctx, "write", err), errDiskFull) {
			for finished < len(batches) {
				alone := batches[finished : finished+1]
				finished++
				t.writeTogether(f, alone)
			}
			return
		}
	}
	for i, w := range batches {
		finished++
		if err != nil {
			w.finish(mds.Receipt{}, err)
			continue
		}
		w.finish(receipts[i], nil)
	}
	f.checkpoint(ctx)
}

// doubt is for when it is not known whether anything was stored: what is known of the
// kind is read again.
func (t *Table[R]) doubt(f *file) {
	delete(f.series, t.sql.kind)
	latestOf[R](f, t.sql.kind).forget()
}

// together is a context that ends when those of all batches have.
func together[R any](batches []*pending[R]) (context.Context, context.CancelFunc) {
	if len(batches) == 1 {
		return context.WithCancel(batches[0].ctx)
	}
	ctx, cancel := context.WithCancel(context.WithoutCancel(batches[0].ctx))
	var left atomic.Int64
	left.Store(int64(len(batches)))
	stops := make([]func() bool, len(batches))
	for i, w := range batches {
		stops[i] = context.AfterFunc(w.ctx, func() {
			if left.Add(-1) == 0 {
				cancel()
			}
		})
	}
	return ctx, func() {
		for _, stop := range stops {
			stop()
		}
		cancel()
	}
}
