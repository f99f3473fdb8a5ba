package duckdb

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/marketdatastore/mds"
)

const (
	// quiet is how long nothing is written before compaction begins, and how often
	// a busy file is looked at.
	quiet = time.Second
	// closeTime bounds the compaction at the closing of a file. The rest is done
	// when more is written, or on demand.
	closeTime = 2 * time.Second
)

// upkeep compacts a file in quiet time. The zero value has nothing to do.
type upkeep struct {
	mu      sync.Mutex
	kinds   map[string]*keeping
	timer   *time.Timer // nil while nothing is due
	stopped bool
	writes  int           // since the last look
	busy    time.Duration // that they took

	// yield ends the compaction under way, unless it has to be done.
	yield context.CancelFunc
	// running are the compactions under way, on demand or not.
	running map[int]context.CancelFunc
	next    int
	ended   sync.WaitGroup
}

// begin begins a compaction, which end ends. It is refused when the file is to close.
func (u *upkeep) begin(ctx context.Context) (_ context.Context, end func(), ok bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.stopped {
		return ctx, nil, false
	}
	ctx, cancel := context.WithCancel(ctx)
	if u.running == nil {
		u.running = make(map[int]context.CancelFunc)
	}
	id := u.next
	u.next++
	u.running[id] = cancel
	u.ended.Add(1)
	return ctx, func() {
		cancel()
		u.mu.Lock()
		delete(u.running, id)
		u.mu.Unlock()
		u.ended.Done()
	}, true
}

// interrupt ends the compactions under way.
func (u *upkeep) interrupt() {
	u.mu.Lock()
	for _, cancel := range u.running {
		cancel()
	}
	u.mu.Unlock()
	u.ended.Wait()
}

// keeping is what was appended to one kind since it was last in order.
type keeping struct {
	rows    int64
	layout  layout
	compact compact
}

// compact puts one kind in order.
type compact func(context.Context, turn, *mds.Compaction) error

// wrote notes a write, which the caller holds the writer's token for.
func (u *upkeep) wrote(f *file, kind string, l layout, rows int, took time.Duration, compact compact) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.kinds == nil {
		u.kinds = make(map[string]*keeping)
	}
	k := u.kinds[kind]
	if k == nil {
		k = &keeping{layout: l, compact: compact}
		u.kinds[kind] = k
	}
	k.rows += int64(rows)
	u.writes++
	u.busy += took
	if k.rows >= k.layout.group && u.timer == nil && !u.stopped {
		u.timer = time.AfterFunc(quiet, func() { u.look(f) })
	}
}

// look compacts what is due, and comes again while something is.
func (u *upkeep) look(f *file) {
	ctx, end, ok := u.begin(context.Background()) //nolint:forbidigo // it is nobody's call
	if !ok {
		return
	}
	defer end()
	u.mu.Lock()
	writes, busy := u.writes, u.busy
	u.writes, u.busy = 0, 0
	var due []*keeping
	waits := false
	for _, k := range u.kinds {
		enough, must := k.due(writes, busy)
		if enough {
			due = append(due, k)
			waits = waits || must
		}
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if !waits {
		u.yield = cancel
	}
	u.mu.Unlock()

	for _, k := range due {
		u.step(ctx, f, k)
	}

	u.mu.Lock()
	defer u.mu.Unlock()
	u.yield, u.timer = nil, nil
	for _, k := range u.kinds {
		if k.rows >= k.layout.group && u.timer == nil && !u.stopped {
			u.timer = time.AfterFunc(quiet, func() { u.look(f) })
		}
	}
}

// due tells whether a kind is compacted now, and whether writers wait for it: that
// they do only where it would never be quiet enough.
func (k *keeping) due(writes int, busy time.Duration) (due, must bool) {
	switch {
	case k.rows < k.layout.group:
		return false, false
	case writes == 0:
		return true, false
	case busy < quiet/2:
		return k.rows >= k.layout.segment, true
	}
	return k.rows >= 16*k.layout.segment, true
}

// step puts one kind in order.
func (u *upkeep) step(ctx context.Context, f *file, k *keeping) {
	var done mds.Compaction
	err := k.compact(ctx, f.taking, &done)
	if done.Steps > 0 {
		f.logger.DebugContext(ctx, "compacted", "file", f.path, "kind", done.Kind, "rows", done.Moved)
	}
	if err != nil && ctx.Err() == nil && !errors.Is(err, errClosed) {
		f.logger.WarnContext(ctx, "compaction", "file", f.path, "error", err)
		u.inOrder(done.Kind, u.noted(done.Kind)) // it is not tried again before more is written
	}
}

// noted is how many rows of a kind were appended since it was in order.
func (u *upkeep) noted(kind string) int64 {
	u.mu.Lock()
	defer u.mu.Unlock()
	if k := u.kinds[kind]; k != nil {
		return k.rows
	}
	return 0
}

// inOrder notes that so many rows of a kind need no compaction for now.
func (u *upkeep) inOrder(kind string, rows int64) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if k := u.kinds[kind]; k != nil {
		k.rows -= min(k.rows, rows)
	}
}

// giveWay ends a compaction that can wait, for the sake of a writer.
func (u *upkeep) giveWay() {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.yield != nil {
		u.yield()
	}
}

// stop ends the compactions under way, and lets no more begin.
func (u *upkeep) stop() {
	u.mu.Lock()
	u.stopped = true
	if u.timer != nil {
		u.timer.Stop()
	}
	u.mu.Unlock()
	u.interrupt()
}

// drop forgets what is due, of a file that is about to be removed.
func (u *upkeep) drop() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.kinds = nil
}

// last compacts what is due when the file is closed, for some time. The caller holds
// the writer's token.
func (u *upkeep) last(f *file) {
	u.mu.Lock()
	kinds := slices.DeleteFunc(slices.Collect(maps.Values(u.kinds)), func(k *keeping) bool { return k.rows < k.layout.group })
	u.mu.Unlock()
	ctx, cancel := context.WithTimeout(context.Background(), closeTime) //nolint:forbidigo // Close has none
	defer cancel()
	held := func(_ context.Context, fn func() error) error { return fn() }
	for _, k := range kinds {
		if f.conn == nil || f.failed.Load() {
			return
		}
		var done mds.Compaction
		if err := k.compact(ctx, held, &done); err != nil && ctx.Err() == nil {
			f.logger.Warn("compaction", "file", f.path, "error", err)
		}
	}
}
