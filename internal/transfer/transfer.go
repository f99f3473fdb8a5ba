// Package transfer copies the records of a kind from one store to another, whatever their
// engines, and compares what the two hold.
package transfer

import (
	"cmp"
	"context"
	"fmt"
	"iter"
	"strings"
	"sync"
	"time"

	"github.com/cespare/xxhash/v2"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/internal/batches"
)

// Reader is what is read of a store's table.
type Reader[R any] interface {
	Query(ctx context.Context, tenant mds.Tenant, query mds.Query) iter.Seq2[R, error]
	Series(ctx context.Context, tenant mds.Tenant, sel mds.Selection) ([]mds.Series[R], error)
}

// Nothing is a table without records.
type Nothing[R any] struct{}

// Query yields nothing.
func (Nothing[R]) Query(context.Context, mds.Tenant, mds.Query) iter.Seq2[R, error] {
	return func(func(R, error) bool) {}
}

// Series lists nothing.
func (Nothing[R]) Series(context.Context, mds.Tenant, mds.Selection) ([]mds.Series[R], error) {
	return nil, nil
}

// Config configures a transfer.
type Config[R any] struct {
	// From and To are the tables, of one tenant.
	From, To Reader[R]
	Tenant   mds.Tenant
	// Selection picks what is copied and compared. Defaults to all.
	Selection mds.Selection
	// Write stores a batch in To. Nil compares only.
	Write func(ctx context.Context, records []R) (mds.Receipt, error)
	// Writers is how many batches are written at once. Defaults to 2.
	Writers int
	// BatchSize is the most records of a batch; large records make smaller ones.
	// Defaults to 122,880.
	BatchSize int
	// Progress is called now and then with how many records of how many have been read,
	// on either side. Optional.
	Progress func(done, total int64)
}

// maxBatchBytes is how large the records of a batch may be together, roughly.
const maxBatchBytes = 32 << 20

// Series is a series that From has, and what both hold of it.
type Series[R any] struct {
	Identity R
	From, To Sum
	Difference
}

// Difference counts records of a series.
type Difference struct {
	// Missing records are not in To, Different ones have other values there, and More
	// are in To only.
	Missing, Different, More int64
	// First tells of the first record that is missing or different; "" where none is.
	First string
}

// Result is what a transfer did, and found. After an error it has what was done.
type Result[R any] struct {
	// Series are those of From, in order of identity.
	Series []Series[R]
	// Skipped is how many of them were there already, as the comparison confirmed.
	Skipped int
	// Others is how many series To has beside them, within the selection.
	Others int
	// From and To add up those of Series.
	From, To Sum
	// Receipt is what became of the records that were written.
	Receipt mds.Receipt
	// Difference adds up those of Series.
	Difference
	Elapsed, Copying, Comparing time.Duration
}

// Complete reports that To has every record of From as it is.
func (r *Result[R]) Complete() bool { return r.Missing == 0 && r.Different == 0 }

// transfer is one run.
type transfer[R mds.Record[R]] struct {
	Config[R]
	schema   mds.Schema[R]
	identity []*mds.Column[R]
	small    bool
	result   *Result[R]
	series   map[string]int // index into result.Series, by identity
	skip     []bool         // by index
	others   map[string]bool
	done     int64
	total    int64
	buffer   []byte
	key      []byte
}

// Run copies what To lacks, or has otherwise, and compares. A series that To has as many
// records of, from the same first to the same last time, is not written but compared, and
// copied where that says so: what ended half-way goes on where it was. Records are never
// removed from To. Memory grows with the number of series, by some hundred bytes each.
func Run[R mds.Record[R]](ctx context.Context, cfg Config[R]) (result Result[R], err error) {
	if cfg.Writers <= 0 {
		cfg.Writers = 2
	}
	if cfg.BatchSize <= 0 {
		cfg.BatchSize = 122_880
	}
	t := &transfer[R]{Config: cfg, schema: mds.SchemaOf[R](), result: &result, series: make(map[string]int), others: make(map[string]bool)}
	t.identity, t.small = t.schema.ByRole(mds.Identity), t.schema.Plain()
	start := time.Now()
	defer func() { result.Elapsed = time.Since(start) }()
	if err := t.list(ctx); err != nil {
		return result, err
	}
	if err := t.copyAll(ctx); err != nil {
		return result, err
	}
	result.Copying = time.Since(start)
	if err := t.compareAll(ctx); err != nil {
		return result, err
	}
	for i := range result.Series {
		s := &result.Series[i]
		result.From, result.To = result.From.plus(s.From), result.To.plus(s.To)
		result.Missing += s.Missing
		result.Different += s.Different
		result.More += s.More
		if result.First == "" {
			result.First = s.First
		}
		if t.skip[i] {
			result.Skipped++
		}
	}
	result.Others = len(t.others)
	result.Comparing = time.Since(start) - result.Copying
	return result, nil
}

// list lists the series, and finds those that may be there already.
func (t *transfer[R]) list(ctx context.Context) error {
	from, err := t.From.Series(ctx, t.Tenant, t.Selection)
	if err != nil {
		return fmt.Errorf("reading from: %w", err)
	}
	to, err := t.To.Series(ctx, t.Tenant, t.Selection)
	if err != nil {
		return fmt.Errorf("reading to: %w", err)
	}
	t.result.Series, t.skip = make([]Series[R], len(from)), make([]bool, len(from))
	for i := range from {
		t.result.Series[i].Identity = from[i].Identity
		t.series[string(batches.AppendKey(nil, t.identity, &from[i].Identity))] = i
		t.total += 2 * from[i].Rows
	}
	for i := range to {
		if n, ok := t.series[string(batches.AppendKey(nil, t.identity, &to[i].Identity))]; ok {
			t.skip[n] = from[n].Rows == to[i].Rows && from[n].First.Equal(to[i].First) && from[n].Last.Equal(to[i].Last)
		}
	}
	return nil
}

// copyAll reads all of From, and writes what To may lack.
func (t *transfer[R]) copyAll(ctx context.Context) error {
	return t.copy(ctx, t.Selection, true, func(i int, sum Sum) (wanted bool) {
		if i < 0 {
			return false // a series that came after the list was made: it is for the next time
		}
		t.result.Series[i].From = t.result.Series[i].From.plus(sum)
		return t.Write != nil && !t.skip[i]
	})
}

// copy reads records of From, and writes those that are wanted.
func (t *transfer[R]) copy(ctx context.Context, sel mds.Selection, unordered bool, wanted func(i int, sum Sum) bool) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	w := t.writers(ctx, cancel)
	err := t.read(ctx, t.From, sel, unordered, func(i int, sum Sum, r *R) error {
		if !wanted(i, sum) {
			return nil
		}
		return w.add(r)
	})
	receipt, written := w.end(err == nil)
	t.result.Receipt = t.result.Receipt.Add(receipt)
	if written != nil {
		return written
	}
	if err != nil {
		return fmt.Errorf("reading from: %w", err)
	}
	return nil
}

// read hands on records, the index of their series, less than zero for one that From
// does not have, and their sums.
func (t *transfer[R]) read(ctx context.Context, table Reader[R], sel mds.Selection, unordered bool, each func(i int, sum Sum, r *R) error) error {
	const often = 1 << 14
	var before R
	last, known := -1, false
	for r, err := range table.Query(ctx, t.Tenant, mds.Query{Selection: sel, Unordered: unordered}) {
		if err != nil {
			return err
		}
		if !known || !batches.Same(t.identity, &r, &before) {
			t.key = batches.AppendKey(t.key[:0], t.identity, &r)
			index, ok := t.series[string(t.key)]
			if last = index; !ok {
				last = -1
				t.others[string(t.key)] = true
			}
			before, known = r, true
		}
		if err := each(last, t.sum(&r), &r); err != nil {
			return err
		}
		if t.done++; t.done%often == 0 && t.Progress != nil {
			t.Progress(t.done, t.total)
		}
	}
	return nil
}

// sum is that of a record.
func (t *transfer[R]) sum(r *R) Sum {
	t.buffer = appendRecord(t.buffer[:0], &t.schema, r)
	return Sum{1, xxhash.Sum64(t.buffer)}
}

// compareAll reads all of To, and looks into the series that differ.
func (t *transfer[R]) compareAll(ctx context.Context) error {
	clear(t.others)
	err := t.read(ctx, t.To, t.Selection, true, func(i int, sum Sum, _ *R) error {
		if i >= 0 {
			t.result.Series[i].To = t.result.Series[i].To.plus(sum)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("reading to: %w", err)
	}
	for i := range t.result.Series {
		s := &t.result.Series[i]
		if s.From == s.To {
			continue
		}
		if t.skip[i] && t.Write != nil { // it only looked the same
			t.skip[i] = false
			if err := t.copy(ctx, t.one(i), false, func(int, Sum) bool { return true }); err != nil {
				return err
			}
		}
		if err := t.compareSeries(ctx, i); err != nil {
			return err
		}
	}
	return nil
}

// one narrows the selection to a series.
func (t *transfer[R]) one(i int) mds.Selection {
	sel := t.Selection
	sel.Vendor, sel.Timeframe, sel.Where = "", "", make(map[string][]string)
	for name, values := range t.Selection.Where {
		sel.Where[name] = values
	}
	if c := t.schema.SymbolColumn(); c == nil || c.List == nil {
		sel.Symbols = nil
	}
	for _, c := range t.identity {
		sel.Where[c.Name] = []string{string(c.AppendText(nil, &t.result.Series[i].Identity))}
	}
	return sel
}

// compareSeries finds which records of a series differ, as both have it now: the sums are
// of what is compared.
func (t *transfer[R]) compareSeries(ctx context.Context, i int) error {
	s := &t.result.Series[i]
	order := t.schema.ByRole(mds.Key, mds.Revision) // what tells the records of a series apart, as they come
	if !t.schema.TimeIsValue {
		order = append(order, t.schema.TimeColumn())
	}
	query := mds.Query{Selection: t.one(i), ByIdentity: true}
	next, stop := iter.Pull2(t.To.Query(ctx, t.Tenant, query))
	defer stop()
	s.From, s.To, s.Difference = Sum{}, Sum{}, Difference{}
	var theirs R
	more := true
	advance := func() error {
		var err error
		if theirs, err, more = next(); err != nil {
			return fmt.Errorf("reading to: %w", err)
		}
		if more {
			s.To = s.To.plus(t.sum(&theirs))
		}
		return nil
	}
	if err := advance(); err != nil {
		return err
	}
	if !more {
		s.First = "the series is not there"
	}
	for r, err := range t.From.Query(ctx, t.Tenant, query) {
		if err != nil {
			return fmt.Errorf("reading from: %w", err)
		}
		s.From = s.From.plus(t.sum(&r))
		for more && mds.Compare(order, &theirs, &r) < 0 {
			s.More++
			if err := advance(); err != nil {
				return err
			}
		}
		switch {
		case !more || mds.Compare(order, &theirs, &r) > 0:
			s.Missing++
			s.first("is missing", t.tell(&r))
			continue
		case !t.schema.Equal(&theirs, &r):
			s.Different++
			s.first(t.tellDifference(&r, &theirs), t.tell(&r))
		}
		if err := advance(); err != nil {
			return err
		}
	}
	for more {
		s.More++
		if err := advance(); err != nil {
			return err
		}
	}
	if s.Missing == 0 && s.Different == 0 {
		s.First = ""
	}
	return nil
}

// first tells of the first record that is not as it was.
func (d *Difference) first(what, record string) {
	if d.First == "" {
		d.First = record + " " + what
	}
}

// tell names a record within its series.
func (t *transfer[R]) tell(r *R) string {
	var parts []string
	for _, c := range t.schema.ByRole(mds.Key, mds.Revision, mds.Time) {
		parts = append(parts, c.Name+" "+string(c.AppendText(nil, r)))
	}
	return strings.Join(parts, ", ")
}

// tellDifference names the first column in which two records differ.
func (t *transfer[R]) tellDifference(from, to *R) string {
	for i := range t.schema.Columns {
		if c := &t.schema.Columns[i]; !c.Equal(from, to) {
			value := func(r *R) string { return cmp.Or(string(c.AppendText(nil, r)), "none") }
			return fmt.Sprintf("has the %s %s, and %s there", strings.ReplaceAll(c.Name, "_", " "), value(from), value(to))
		}
	}
	return "differs"
}

// writers write batches beside the reading.
type writers[R mds.Record[R]] struct {
	t      *transfer[R]
	ctx    context.Context
	batch  []R
	bytes  int
	full   chan []R
	empty  chan []R
	wg     sync.WaitGroup
	mu     sync.Mutex
	result mds.Receipt
	err    error
}

func (t *transfer[R]) writers(ctx context.Context, cancel func()) *writers[R] {
	w := &writers[R]{t: t, ctx: ctx, full: make(chan []R), empty: make(chan []R, t.Writers+1)}
	if t.Write == nil {
		return w
	}
	for range t.Writers + 1 {
		w.empty <- nil
	}
	w.batch = <-w.empty
	for range t.Writers {
		w.wg.Go(func() {
			for batch := range w.full {
				receipt, err := t.Write(ctx, batch)
				w.mu.Lock()
				w.result = w.result.Add(receipt)
				if err != nil && w.err == nil {
					w.err = err
					cancel()
				}
				w.mu.Unlock()
				clear(batch)
				w.empty <- batch[:0]
			}
		})
	}
	return w
}

// add adds a record to the batch, and hands it on when it is full.
func (w *writers[R]) add(r *R) error {
	w.batch = append(w.batch, *r)
	if !w.t.small {
		w.bytes += w.t.schema.Size(r)
	}
	if len(w.batch) < w.t.BatchSize && w.bytes < maxBatchBytes {
		return nil
	}
	return w.flush()
}

func (w *writers[R]) flush() error {
	select {
	case w.full <- w.batch:
	case <-w.ctx.Done():
		return w.ctx.Err()
	}
	w.bytes = 0
	select {
	case w.batch = <-w.empty:
	case <-w.ctx.Done():
		w.batch = nil
		return w.ctx.Err()
	}
	return nil
}

// end waits for the batches under way, after the last one where all was read, and
// returns what was written, and why it ended.
func (w *writers[R]) end(all bool) (mds.Receipt, error) {
	if all && len(w.batch) > 0 {
		_ = w.flush() // a failure is that of a writer, or of who wanted all this to end
	}
	close(w.full)
	w.wg.Wait()
	if w.err == nil && all {
		w.err = w.ctx.Err()
	}
	return w.result, w.err
}
