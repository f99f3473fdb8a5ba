package duckdb

import (
	"context"
	"strconv"
	"sync/atomic"
)

// rowIDs keeps the ids of rows what they are for those who go by them.
//
// DuckDB gives rows new ids in a checkpoint that drops deleted ones. It does that
// beneath a snapshot, too, unless something was committed since that began (1.5.6).
type rowIDs struct {
	pinning gate         // shared by snapshots as they begin
	pinned  atomic.Int64 // snapshots
	// times is how often they may have changed.
	times atomic.Int64
}

// pin keeps the ids as they are in the snapshot that begins with it on conn, until
// unpin.
func (ids *rowIDs) pin(ctx context.Context, conn *reader) error {
	if err := ids.pinning.share(ctx); err != nil {
		return err
	}
	defer ids.pinning.unshare()
	ids.pinned.Add(1)
	var n int
	err := conn.one(ctx, "SELECT count(*) FROM mds_tenant", nil, &n) // BEGIN alone takes no snapshot
	if err != nil {
		ids.unpin()
	}
	return err
}

func (ids *rowIDs) unpin() { ids.pinned.Add(-1) }

// writeOut brings the log into the file, and gives the room of removed rows back
// where no snapshot needs them. The caller holds the writer's token.
func (f *file) writeOut(ctx context.Context) error {
	ctx = context.WithoutCancel(ctx)
	if err := f.rows.pinning.lock(ctx); err != nil {
		return err
	}
	defer f.rows.pinning.unlock()
	if f.rows.pinned.Load() > 0 {
		// So that all that is pinned is older than what was committed last.
		err := f.inTransaction(ctx, false, func() error {
			_, err := f.conn.ExecContext(ctx, "UPDATE mds_tenant SET slug = slug")
			return err
		})
		if err != nil {
			return err
		}
	}
	f.rows.times.Add(1)
	f.moved.Store(0)
	if f.texts {
		defer f.lend(ctx)()
	}
	_, err := f.conn.ExecContext(ctx, "CHECKPOINT")
	if err == nil {
		f.texts = false
	}
	return err
}

// textMemory is what writing texts may take: DuckDB (1.5.6) holds those of 2,048 rows at
// once, each of up to 256 KiB, and where a checkpoint finds no room for them it gives the
// whole instance up.
const textMemory = 3 << 29

// lend raises DuckDB's memory limit to textMemory, where it is lower, until the returned
// function is called. The caller holds the writer's token.
func (f *file) lend(ctx context.Context) (back func()) {
	ctx = context.WithoutCancel(ctx)
	if f.memory >= textMemory {
		return func() {}
	}
	set := func(limit string) {
		if f.conn == nil {
			return // it is opened again with the usual limit
		}
		if _, err := f.conn.ExecContext(ctx, "SET memory_limit = '"+limit+"'"); err != nil {
			f.logger.DebugContext(ctx, "memory limit", "file", f.path, "error", err)
		}
	}
	set(strconv.Itoa(textMemory>>20) + "MiB")
	return func() { set(f.cfg.MemoryLimit) }
}
