package main

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"strings"

	"github.com/marketdatastore/mds/dlq"
	"github.com/marketdatastore/mds/internal/config"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// letterTenant is the tenant whose letters are meant: never none, which a filter takes for
// all. A server is asked where it is left to it.
func (a *app) letterTenant(ctx context.Context) (string, error) {
	if a.tenant != "" {
		return a.tenant, nil
	}
	const instead = "; say whose letters are meant with --tenant, or --all-tenants for each"
	s, err := a.open(ctx, reading)
	if err != nil {
		return "", err
	}
	tenant, err := s.Tenant(ctx, "")
	switch err = errors.Join(err, s.close()); {
	case err != nil:
		return "", fmt.Errorf("%s%s", a.sentence(err), instead)
	case tenant.Slug == "":
		return "", usagef("the server names no tenant%s", instead)
	}
	return tenant.Slug, nil
}

// deadLetters is where the dead letters of the store of the flags are, unless a folder is
// named.
func (a *app) deadLetters(folder string) (deadletter.Dir, error) {
	logger, err := a.logger()
	if err != nil {
		return deadletter.Dir{}, err
	}
	if folder != "" {
		return deadletter.Dir{Path: folder, Logger: logger}, nil
	}
	dir, embedded := strings.CutPrefix(a.dsn, "duckdb://")
	if !embedded || dir == "" {
		if dir, err = config.DataDir(); err != nil {
			return deadletter.Dir{}, usagef("no place for the dead letters (%w); name one with --dlq-dir", err)
		}
	}
	if postgres.IsDSN(a.dsn) { // letters of one database are none of another
		database, err := postgres.Database(a.dsn)
		if err != nil {
			return deadletter.Dir{}, usageError{err}
		}
		return deadletter.Dir{Path: filepath.Join(dir, "dead-letters-"+database), Logger: logger}, nil
	}
	if remote.IsDSN(a.dsn) {
		server, err := url.Parse(a.dsn)
		if err != nil {
			return deadletter.Dir{}, usagef("--server: %w", err)
		}
		return deadletter.Dir{Path: filepath.Join(dir, "dead-letters-"+serverFolder(server)), Logger: logger}, nil
	}
	return deadletter.Dir{Path: filepath.Join(dir, "dead-letters"), Logger: logger}, nil
}

// serverFolder names a folder after a server, of which a host may have several, each under a
// path of its own.
func serverFolder(server *url.URL) string {
	host := strings.NewReplacer(":", "_", "[", "", "]", "").Replace(strings.ToLower(server.Host))
	return host + url.PathEscape(strings.TrimRight(server.EscapedPath(), "/"))
}

// openLetters opens the folder to write to, and tells at once where letters could not be kept:
// a series of which one dies would otherwise stand still, hours later.
func (a *app) openLetters(dir deadletter.Dir) (*dlq.Folder, error) {
	letters, err := dlq.Open(dlq.Config{Dir: dir.Path, MaxBytes: a.settings.DLQ.MaxBytes, Logger: dir.Logger})
	if err != nil {
		return nil, err
	}
	if err := letters.Check(); err != nil {
		return nil, errors.Join(err, letters.Close())
	}
	return letters, nil
}
