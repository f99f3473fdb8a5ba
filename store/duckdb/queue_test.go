package duckdb

import (
	"context"
	"errors"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/marketdatastore/mds"
)

// TestTogether has batches that wait for their turn written in one transaction, in
// the order in which they came, each with its own receipt.
func TestTogether(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx := context.Background()
	write(t, s, []mds.Bar{modelBar(0, 0, 1), modelBar(1, 0, 1), modelBar(1, 5, 1)})
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	q := queueOf[mds.Bar](f, "bars")
	f.writer <- struct{}{}
	gone, leave := context.WithCancel(ctx)
	batches := []struct {
		ctx     context.Context
		batch   []mds.Bar
		receipt mds.Receipt
		err     error
	}{
		{ctx: ctx, batch: []mds.Bar{modelBar(0, 1, 1), modelBar(0, 2, 1)}, receipt: mds.Receipt{Written: 1, Superseded: 1, Modes: mds.WroteInsert}},
		{ctx: gone, batch: []mds.Bar{modelBar(7, 7, 7)}, err: context.Canceled},
		{ctx: ctx, batch: []mds.Bar{modelBar(0, 2, 2), modelBar(0, 0, 1)}, receipt: mds.Receipt{Written: 1, Unchanged: 1, Modes: mds.WroteInsert | mds.WroteMerge}},
		{ctx: ctx, batch: []mds.Bar{modelBar(1, 5, 1), modelBar(1, 0, 3), modelBar(1, 3, 3)}, receipt: mds.Receipt{Written: 2, Unchanged: 1, Modes: mds.WroteMerge}},
	}
	var wg sync.WaitGroup
	for i := range batches {
		b := &batches[i]
		wg.Go(func() {
			receipt, err := table.WriteBatch(b.ctx, mds.DefaultTenant(), b.batch)
			if receipt != b.receipt || !errors.Is(err, b.err) {
				t.Errorf("batch %d: %+v, %v; want %+v, %v", i, receipt, err, b.receipt, b.err)
			}
		})
		waitFor(t, q, i+1)
	}
	leave()
	waitFor(t, q, 3)
	f.unlockWriter()
	wg.Wait()
	// What is sent again together is looked at together.
	f.writer <- struct{}{}
	for i, b := range [][]mds.Bar{{modelBar(0, 1, 1)}, {modelBar(1, 3, 3), modelBar(1, 0, 3)}} {
		wg.Go(func() {
			if receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), b); err != nil || receipt != (mds.Receipt{Unchanged: int64(len(b)), Modes: mds.WroteMerge}) {
				t.Errorf("batch %d again: %+v, %v", i, receipt, err)
			}
		})
		waitFor(t, q, i+1)
	}
	f.unlockWriter()
	wg.Wait()
	var stamps int
	err = f.snapshot(ctx, false, func(conn *reader) error {
		return conn.QueryRowContext(ctx, `SELECT count(DISTINCT updated_at) FROM bar_facts`).Scan(&stamps)
	})
	if err != nil || stamps != 2 {
		t.Errorf("the rows are of %d transactions, %v; want 2", stamps, err)
	}
	var closes []float64
	for b, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{ByIdentity: true}) {
		if err != nil {
			t.Fatal(err)
		}
		closes = append(closes, b.Close)
	}
	if want := []float64{1, 1, 2, 3, 3, 1}; !slices.Equal(closes, want) {
		t.Errorf("closes %v, want %v", closes, want)
	}
}

// TestTurnThatCameTooLate has a writer get the token after another one has written its
// batch: it gives the token back.
func TestTurnThatCameTooLate(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	w := &pending[mds.Bar]{ctx: ctx, done: make(chan struct{})}
	w.finish(mds.Receipt{}, nil)
	for range 2 {
		if err := f.lockWriter(ctx); err != nil {
			t.Fatal(err)
		}
		table.takeTurn(f, queueOf[mds.Bar](f, "bars"), w)
	}
}

// waitFor waits until some batches wait for the writer.
func waitFor(t *testing.T, q *queue[mds.Bar], n int) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); ; runtime.Gosched() {
		q.mu.Lock()
		waiting := len(q.waiting)
		q.mu.Unlock()
		if waiting == n {
			return
		}
		if time.Now().After(end) {
			t.Fatalf("%d batches wait, want %d", waiting, n)
		}
	}
}

// TestTake has which batches are written together: up to a number of records and
// bytes, or one.
func TestTake(t *testing.T) {
	type size struct{ records, bytes int }
	for _, c := range []struct {
		name  string
		sizes []size
		want  int
	}{
		{"few", []size{{10, 100}, {20, 200}, {30, 300}}, 3},
		{"one that is too large", []size{{maxTogether + 1, 100}, {1, 1}}, 1},
		{"many records", []size{{maxTogether - 10, 100}, {10, 100}, {1, 1}}, 2},
		{"many bytes", []size{{1, maxTogetherBytes - 10}, {1, 10}, {1, 1}}, 2},
		{"one of too many bytes", []size{{1, maxTogetherBytes + 1}, {1, 1}}, 1},
	} {
		var q queue[mds.Bar]
		for _, s := range c.sizes {
			q.push(&pending[mds.Bar]{records: make([]mds.Bar, s.records), bytes: s.bytes})
		}
		if got := q.take(); len(got) != c.want || len(q.waiting) != len(c.sizes)-c.want {
			t.Errorf("%s: %d batches, want %d; %d are left", c.name, len(got), c.want, len(q.waiting))
		}
	}
	s := open(t, t.TempDir(), Config{})
	if n := NewTable[mds.News](s).bytes([]mds.News{{Title: strings.Repeat("x", 5000)}, {Summary: strings.Repeat("x", 7000)}}); n < 12_000 || n > 13_000 {
		t.Errorf("two items of 12,000 bytes are %d", n)
	}
}

// refusing makes the database refuse bars whose close is 13.
func refusing(t *testing.T, f *file) {
	t.Helper()
	ctx := context.Background()
	var text string
	if err := f.conn.QueryRowContext(ctx, "SELECT sql FROM duckdb_tables() WHERE table_name = 'bar_facts'").Scan(&text); err != nil {
		t.Fatal(err)
	}
	text = strings.TrimSuffix(strings.TrimSpace(text), ");") + ", CHECK (close <> 13));"
	if _, err := f.conn.ExecContext(ctx, "DROP TABLE bar_facts; "+text); err != nil {
		t.Fatal(err)
	}
}

// TestAloneAfterAFailure writes batches together of which the database refuses one,
// and one is no longer wanted: the others are stored.
func TestAloneAfterAFailure(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	ctx := context.Background()
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	refusing(t, f)
	write(t, s, []mds.Bar{modelBar(0, 0, 1)})
	if _, err := table.Latest(ctx, mds.DefaultTenant(), mds.Selection{}); err != nil {
		t.Fatal(err)
	}
	gone, leave := context.WithCancel(ctx)
	leave()
	queue := queueOf[mds.Bar](f, "bars")
	var batches []*pending[mds.Bar]
	for i, c := range []context.Context{ctx, ctx, gone, ctx} {
		close := float64(i)
		if i == 1 {
			close = 13
		}
		w := &pending[mds.Bar]{ctx: c, records: []mds.Bar{modelBar(1+i, 1, close)}, done: make(chan struct{})}
		batches = append(batches, w)
		queue.push(w)
	}
	if err := f.lockWriter(ctx); err != nil {
		t.Fatal(err)
	}
	f.noteWrite(errBroken) // the connection was lost with what was written before
	table.takeTurn(f, queue, batches[3])
	for i, w := range batches {
		<-w.done
		switch {
		case i == 1 && (w.err == nil || mds.Retryable(w.err) || !strings.Contains(w.err.Error(), "CHECK")):
			t.Errorf("the refused batch: %v", w.err)
		case i == 2 && !errors.Is(w.err, context.Canceled):
			t.Errorf("the batch that is no longer wanted: %v", w.err)
		case i != 1 && i != 2 && (w.err != nil || w.receipt.Written != 1):
			t.Errorf("batch %d: %+v, %v", i, w.receipt, w.err)
		}
	}
	if _, known := latestOf[mds.Bar](f, "bars").all(); known {
		t.Error("the newest records are thought to be known after a write that failed")
	}
	var stored []mds.Bar
	for b, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{ByIdentity: true}) {
		if err != nil {
			t.Fatal(err)
		}
		stored = append(stored, b)
	}
	if want := []mds.Bar{modelBar(0, 0, 1), modelBar(1, 1, 0), modelBar(4, 1, 3)}; !slices.Equal(stored, want) {
		t.Errorf("stored are %v, want %v", stored, want)
	}
}

// TestTogetherLastsAsLongAsOne has a joined write go on while anyone wants it.
func TestTogetherLastsAsLongAsOne(t *testing.T) {
	first, leaveFirst := context.WithCancel(context.Background())
	second, leaveSecond := context.WithCancel(context.Background())
	ctx, cancel := together([]*pending[mds.Bar]{{ctx: first}, {ctx: second}})
	defer cancel()
	ended := make(chan struct{})
	context.AfterFunc(first, func() { close(ended) })
	leaveFirst()
	<-ended
	if ctx.Err() != nil {
		t.Error("it ended with the first")
	}
	leaveSecond()
	select {
	case <-ctx.Done():
	case <-time.After(10 * time.Second):
		t.Error("it goes on after the last")
	}
}

// TestAfterAPanic has a kind's own code panic in the middle of a write, or as records
// are looked at by several threads; what is written next is stored and found.
func TestAfterAPanic(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{})
	table := NewTable[mds.Bar](s)
	write(t, s, bars(2, 1))
	panics := func(name string, batch []mds.Bar) {
		defer func() {
			if p := recover(); p != name {
				t.Errorf("%s: recovered %v", name, p)
			}
		}()
		_, err := table.WriteBatch(ctx, mds.DefaultTenant(), batch)
		t.Errorf("%s: %v", name, err)
	}
	n := 0
	instant, validate := table.instant, table.schema.Validate
	table.instant = func(b *mds.Bar) *time.Time {
		if n++; n == 5 {
			panic("while writing")
		}
		return &b.TS
	}
	panics("while writing", bars(10, 1))
	table.instant = instant
	many := make([]mds.Bar, 40_000)
	for i := range many {
		many[i] = modelBar(i%100, i/100, 1)
	}
	table.schema.Validate = func(b *mds.Bar) error {
		if *b == many[len(many)-1] {
			panic("while looking")
		}
		return nil
	}
	panics("while looking", many)
	table.schema.Validate = validate
	if receipt, err := table.WriteBatch(ctx, mds.DefaultTenant(), bars(10, 1)); err != nil || receipt.Written != 8 {
		t.Errorf("the next write: %+v, %v", receipt, err)
	}
	n = 0
	for _, err := range table.Query(ctx, mds.DefaultTenant(), mds.Query{}) {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	if n != 10 {
		t.Errorf("%d bars are found, want 10", n)
	}
}

// TestEveryRecordIsValidated has the last of many records be a wrong one.
func TestEveryRecordIsValidated(t *testing.T) {
	s := open(t, t.TempDir(), Config{})
	many := make([]mds.Bar, 40_000)
	for i := range many {
		many[i] = modelBar(i%100, i/100, 1)
	}
	for _, wrong := range []int{0, 12_345, 39_999} {
		symbol := many[wrong].Symbol
		many[wrong].Symbol = ""
		_, err := NewTable[mds.Bar](s).WriteBatch(context.Background(), mds.DefaultTenant(), many)
		var record *mds.RecordError
		if !errors.As(err, &record) || record.Index != wrong {
			t.Errorf("record %d: %v", wrong, err)
		}
		many[wrong].Symbol = symbol
	}
}
