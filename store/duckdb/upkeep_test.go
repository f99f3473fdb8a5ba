package duckdb

import (
	"context"
	"database/sql"
	"errors"
	"runtime"
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/marketdatastore/mds"
)

// TestUpkeep has what is compacted when: in quiet time at once, in busy times when
// there is much.
func TestUpkeep(t *testing.T) {
	l := layout{group: 10, segment: 100}
	for _, c := range []struct {
		name      string
		rows      int64
		writes    int
		busy      time.Duration
		due, must bool
	}{
		{"too little", 9, 0, 0, false, false},
		{"quiet", 10, 0, 0, true, false},
		{"some writes", 99, 3, quiet / 10, false, true},
		{"a segment, some writes", 100, 3, quiet / 10, true, true},
		{"a segment, busy", 100, 3, quiet, false, true},
		{"much, busy", 1600, 3, quiet, true, true},
	} {
		k := &keeping{rows: c.rows, layout: l}
		if due, must := k.due(c.writes, c.busy); due != c.due || due && must != c.must {
			t.Errorf("%s: due %v, must %v", c.name, due, must)
		}
	}
}

// TestCompactionInQuietTime looks, as the timer would, after a second without a write.
func TestCompactionInQuietTime(t *testing.T) {
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	s.layout = small
	ctx := context.Background()
	table := NewTable[mds.Bar](s)
	var batch []mds.Bar
	for minute := range 50 {
		for symbol := range 5 {
			batch = append(batch, modelBar(symbol, minute, 1))
		}
	}
	for part := range slices.Chunk(batch, 10) {
		write(t, s, part)
	}
	f, err := s.file(ctx, mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	f.upkeep.kinds = map[string]*keeping{"bars": {rows: 250, layout: small, compact: func(ctx context.Context, turn turn, done *mds.Compaction) error {
		return table.compact(ctx, f, turn, done)
	}}}
	f.upkeep.look(f)
	if again, err := table.Compact(ctx, mds.DefaultTenant()); err != nil || again.Steps != 0 {
		t.Errorf("left to be compacted: %+v, %v", again, err)
	}
	if n := f.upkeep.kinds["bars"].rows; n != 0 {
		t.Errorf("%d rows are still thought to be in no order", n)
	}
}

// TestUpkeepOverTime has a file compacted after a second without a write, not after it
// began to close, and not for longer than closing may take.
func TestUpkeepOverTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := newFile("", mds.DefaultTenant(), Config{}.withDefaults())
		var compacted atomic.Int64
		pass := func(d time.Duration) {
			<-time.After(d)
			synctest.Wait()
		}
		wrote := func() {
			f.upkeep.wrote(f, "bars", small, int(small.group), 0, func(_ context.Context, _ turn, done *mds.Compaction) error {
				done.Kind = "bars"
				f.upkeep.inOrder("bars", f.upkeep.noted("bars"))
				compacted.Add(1)
				return nil
			})
		}
		wrote()
		pass(quiet + quiet/2)
		if compacted.Load() != 0 {
			t.Error("compacted in the second of a write")
		}
		pass(quiet)
		if n := compacted.Load(); n != 1 {
			t.Errorf("%d compactions in quiet time", n)
		}
		wrote()
		pass(quiet + quiet/2) // it is due after the next half
		f.upkeep.stop()
		pass(10 * quiet)
		wrote()
		pass(10 * quiet)
		if compacted.Load() != 1 {
			t.Error("compacted after the stop")
		}
		f.conn = &sql.Conn{} // it is not used
		f.upkeep.kinds["bars"].compact = func(ctx context.Context, _ turn, _ *mds.Compaction) error {
			<-ctx.Done()
			return ctx.Err()
		}
		start := time.Now()
		f.upkeep.last(f)
		if took := time.Since(start); took != closeTime {
			t.Errorf("closing waits %v for compaction", took)
		}
	})
}

// TestUpkeepStopsWhatRuns has a file begin to close while it is compacted.
func TestUpkeepStopsWhatRuns(t *testing.T) {
	f := newFile("", mds.DefaultTenant(), Config{}.withDefaults())
	stopped := make(chan struct{})
	f.upkeep.kinds = map[string]*keeping{"bars": {rows: 100, layout: small, compact: func(ctx context.Context, _ turn, _ *mds.Compaction) error {
		go func() {
			f.upkeep.stop()
			close(stopped)
		}()
		<-ctx.Done()
		select {
		case <-stopped:
			t.Error("the file is closed beneath a compaction")
		default:
		}
		return ctx.Err()
	}}}
	f.upkeep.look(f)
	<-stopped
	if f.upkeep.timer != nil {
		t.Error("it is looked at again")
	}
	f.upkeep.kinds["bars"].compact = func(context.Context, turn, *mds.Compaction) error {
		t.Error("compacted after the stop")
		return nil
	}
	f.upkeep.look(f) // the timer had fired
}

// compactInVain begins a compaction of a tenant with many bars, and returns while it
// looks at how rows lie. What it ends with is sent.
func compactInVain(t *testing.T, s *Store, tenant mds.Tenant) <-chan error {
	t.Helper()
	ctx := context.Background()
	table := NewTable[mds.Bar](s)
	for b := range 4 {
		batch := make([]mds.Bar, 250_000)
		for i := range batch {
			batch[i] = modelBar(i%100, b*2500+i/100, 1)
		}
		if _, err := table.WriteBatch(ctx, tenant, batch); err != nil {
			t.Fatal(err)
		}
	}
	f, err := s.file(ctx, tenant)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() {
		_, err := table.Compact(ctx, tenant)
		done <- err
	}()
	for planning := false; !planning; runtime.Gosched() {
		f.readers.mu.Lock()
		planning = f.readers.n > 0
		f.readers.mu.Unlock()
	}
	return done
}

// TestCloseWhilePlanning closes a store while a compaction looks at how rows lie: the
// file is nobody's afterwards.
func TestCloseWhilePlanning(t *testing.T) {
	ctx := context.Background()
	dir := t.TempDir()
	s, err := Open(ctx, dir, Config{Compaction: CompactManual})
	if err != nil {
		t.Fatal(err)
	}
	done := compactInVain(t, s, mds.DefaultTenant())
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if err := open(t, dir, Config{}).Ping(ctx, mds.DefaultTenant()); err != nil {
		t.Errorf("opened again: %v", err)
	}
	if err := <-done; !errors.Is(err, errClosed) {
		t.Errorf("the compaction: %v", err)
	}
}

// TestRemoveTenantWhilePlanning removes a tenant while a compaction looks at how its
// rows lie, which is nobody's query.
func TestRemoveTenantWhilePlanning(t *testing.T) {
	ctx := context.Background()
	s := open(t, t.TempDir(), Config{Compaction: CompactManual})
	tenant, err := s.CreateTenant(ctx, "acme")
	if err != nil {
		t.Fatal(err)
	}
	done := compactInVain(t, s, tenant)
	if err := s.RemoveTenant(ctx, tenant); err != nil {
		t.Error(err)
	}
	if err := <-done; err == nil {
		t.Error("the compaction of a tenant that was removed ended well")
	}
}

// TestCloseAfterALostConnection has two kinds due as a file is closed, and the
// connection break with the first.
func TestCloseAfterALostConnection(t *testing.T) {
	s, err := Open(context.Background(), t.TempDir(), Config{Compaction: CompactManual})
	if err != nil {
		t.Fatal(err)
	}
	write(t, s, bars(10, 1))
	f, err := s.file(context.Background(), mds.DefaultTenant())
	if err != nil {
		t.Fatal(err)
	}
	calls := 0
	breaks := func(_ context.Context, _ turn, _ *mds.Compaction) error {
		calls++
		f.noteWrite(errBroken)
		return errBroken
	}
	f.upkeep.kinds = map[string]*keeping{"a": {rows: 100, layout: small, compact: breaks}, "b": {rows: 100, layout: small, compact: breaks}}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	if calls != 1 {
		t.Errorf("%d compactions, want 1", calls)
	}
}

// TestWriterComesFirst has a writer end a compaction that can wait.
func TestWriterComesFirst(t *testing.T) {
	ctx, cancel := context.WithCancel(context.Background())
	defer cancel()
	f := newFile("", mds.DefaultTenant(), Config{}.withDefaults())
	f.upkeep.yield = cancel
	f.writer <- struct{}{} // compaction has the token
	done := make(chan struct{})
	close(done)
	if err := f.lockWriterUnless(context.Background(), done); !errors.Is(err, errDone) {
		t.Error(err)
	}
	if ctx.Err() == nil {
		t.Error("the compaction goes on")
	}
}
