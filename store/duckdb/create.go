package duckdb

import (
	"context"
	"crypto/rand"
	"errors"
	"os"

	"github.com/marketdatastore/mds"
)

// createFile makes a tenant's file.
func createFile(ctx context.Context, path string, tenant mds.Tenant, cfg Config) error {
	return createWhole(ctx, path, func(draft string) error {
		f := newFile(draft, tenant, cfg)
		f.name = path
		if err := f.connect(ctx); err != nil {
			return err
		}
		return f.disconnect()
	})
}

// createWhole has a file made under a name of its own and
// gives it its name when it is complete: a disk that fills up half-way leaves
// nothing that could not be opened later. A file that another process has made
// meanwhile is left alone, and is the one.
func createWhole(ctx context.Context, path string, write func(draft string) error) (err error) {
	draft := path + ".new-" + rand.Text()
	defer func() {
		_ = os.Remove(draft)
		_ = os.Remove(draft + ".wal")
		err = openError(ctx, path, err)
	}()
	if err := write(draft); err != nil {
		return err
	}
	err = os.Link(draft, path) // unlike a rename it replaces nothing
	switch {
	case err == nil, errors.Is(err, os.ErrExist):
		return nil
	case fileExists(path):
		return nil
	}
	return os.Rename(draft, path) // a file system without links
}
