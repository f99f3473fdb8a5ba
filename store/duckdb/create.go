package duckdb

import (
	"context"
	"errors"
	"os"

	"github.com/marketdatastore/mds"
)

// empty reports a file that is not there, or has no bytes.
func empty(path string) bool {
	stat, err := os.Stat(path)
	return errors.Is(err, os.ErrNotExist) || err == nil && stat.Mode().IsRegular() && stat.Size() == 0
}

// createFile makes a tenant's file under another name and renames it when it
// is complete: a disk that fills up half-way leaves nothing that could not be
// opened later.
func createFile(ctx context.Context, path string, tenant mds.Tenant, cfg Config) error {
	draft := path + ".new"
	remove := func() {
		_ = os.Remove(draft)
		_ = os.Remove(draft + ".wal")
	}
	// What is left of a crash goes away, unless another process holds it: that
	// one is then named when the draft is opened.
	f := newFile(draft, tenant, cfg)
	err := f.connect(ctx)
	var locked *LockedError
	if err != nil && !errors.As(err, &locked) && ctx.Err() == nil {
		remove()
		f = newFile(draft, tenant, cfg)
		err = f.connect(ctx)
	}
	if err == nil {
		if err = f.disconnect(); err == nil {
			err = os.Rename(draft, path)
		}
	}
	if err != nil && !errors.As(err, &locked) {
		remove()
	}
	return openError(ctx, path, err)
}
