// Package dlq keeps the dead letters of coordinators in a folder, from where mds dlq lists,
// shows, exports, discards and replays them.
package dlq

import (
	"context"
	"log/slog"
	"time"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/ingest"
	"github.com/marketdatastore/mds/internal/deadletter"
)

// Config configures a [Folder].
type Config struct {
	// Dir is the folder, which is made with the first letter. Name one for each store:
	// where letters came from is not written in them. Required.
	Dir string
	// MaxBytes bounds what is in it. Where letters would pass it they are not kept, and the
	// series they are of wait, until some are replayed or discarded. Defaults to 1 GiB.
	MaxBytes int64
	// Logger is told of files that are damaged. Defaults to discarding it.
	Logger *slog.Logger
}

// Folder is an open folder of dead letters, of all kinds and tenants of a store. Several
// processes may have the same one open. Close it after the coordinators are stopped.
type Folder struct{ log *deadletter.Log }

// Open opens a folder, and repairs what a crash left in it.
func Open(cfg Config) (*Folder, error) {
	if cfg.Logger == nil {
		cfg.Logger = slog.New(slog.DiscardHandler)
	}
	log, err := deadletter.Open(deadletter.Config{Dir: cfg.Dir, MaxBytes: cfg.MaxBytes, Logger: cfg.Logger})
	if err != nil {
		return nil, err
	}
	return &Folder{log: log}, nil
}

// Check reports that letters cannot be kept, before there is one: the folder is not to be
// written, or not to be made. It leaves nothing behind.
func (f *Folder) Check() error { return f.log.Check() }

// Path is where the folder is, for those who read and remove letters beside whoever keeps them.
func (f *Folder) Path() string { return f.log.Path() }

// Close ends writing to the folder.
func (f *Folder) Close() error { return f.log.Close() }

// For keeps the letters of a coordinator of one kind in the folder. The schema version is
// that of the store (its SchemaVersion), 0 where it is not known.
func For[R mds.Record[R]](f *Folder, schemaVersion int) ingest.DeadLetters[R] {
	return &letters[R]{log: f.log, kind: mds.SchemaOf[R]().Kind, schemaVersion: schemaVersion}
}

type letters[R mds.Record[R]] struct {
	log           *deadletter.Log
	kind          string
	schemaVersion int
}

// Keep returns when the letters are on the disk.
func (k *letters[R]) Keep(ctx context.Context, list []ingest.Letter[R]) error {
	out := make([]deadletter.Letter, len(list))
	now := time.Now()
	for i := range list {
		l := &list[i]
		out[i] = deadletter.Letter{
			Kind: k.kind, Tenant: l.Tenant, Code: l.Code, Reason: l.Reason, SchemaVersion: k.schemaVersion,
			Attempts: l.Attempts, Submitted: l.Submitted, Died: now, Record: deadletter.Encode(&l.Record),
		}
	}
	return k.log.Append(ctx, out)
}
