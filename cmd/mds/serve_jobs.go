package main

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"github.com/marketdatastore/mds/internal/backfill"
	"github.com/marketdatastore/mds/internal/deadletter"
	"github.com/marketdatastore/mds/internal/server"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

// jobsConfig is what the settings say of the jobs of a server.
func (a *app) jobsConfig(s *session, letters deadletter.Dir) (*server.JobsConfig, error) {
	set := &a.settings.Jobs
	for _, folder := range []struct{ key, path string }{{"jobs.dir", set.Dir}, {"jobs.headers_dir", set.HeadersDir}, {"jobs.exports", set.Exports}} {
		if folder.path == "" {
			continue
		}
		if stat, err := os.Stat(folder.path); err != nil || !stat.IsDir() {
			return nil, usagef("%s: there is no such folder: make it, or name another", a.settings.Is(folder.key))
		}
	}
	if set.Exports != "" {
		if err := writable(set.Exports); err != nil {
			return nil, usagef("%s: it cannot be written to (%w): let this account write there, under systemd with ReadWritePaths= too", a.settings.Is("jobs.exports"), err)
		}
	}
	headers, err := backfill.Headers(set.HeadersDir, set.Hosts)
	if err != nil {
		return nil, usagef("%s: %w", a.settings.Is("jobs.headers_dir"), err)
	}
	cfg := &server.JobsConfig{
		Worker: workerName(), Concurrency: set.Concurrency, Lease: set.Lease, PoliciesEvery: set.PoliciesEvery,
		Sources: backfill.Rules{Dir: set.Dir, Hosts: headers}, Exports: set.Exports,
		Rejects: cmp.Or(set.Rejects, filepath.Join(filepath.Dir(letters.Path), "job-rejects")),
	}
	if set.Concurrency == 0 {
		cfg.Concurrency = -1 // its 0 is the default
	}
	owner := a.settings.Store.AdminDSN
	switch {
	case !postgres.IsDSN(a.dsn):
		cfg.Migrate = func(ctx context.Context) error { return openAll(ctx, s.Store) }
	case owner != "":
		cfg.Migrate = func(ctx context.Context) error {
			_, err := postgres.Migrate(ctx, owner, postgres.MigrateConfig{})
			if err == nil {
				_, err = postgres.GrantService(ctx, owner, a.dsn)
			}
			return err
		}
	}
	if set.PoliciesEvery > 0 && cfg.Migrate == nil {
		return nil, usagef("%s: it needs the owner of the database: set MDS_ADMIN_DSN", a.settings.Is("jobs.policies_every"))
	}
	return cfg, nil
}

// writable tries whether a folder takes files.
func writable(folder string) error {
	f, err := os.CreateTemp(folder, ".mds-*")
	if err != nil {
		var path *os.PathError
		if errors.As(err, &path) {
			err = path.Err
		}
		return err
	}
	return errors.Join(f.Close(), os.Remove(f.Name()))
}

// workerName tells a server from the others that have the store, and from itself before it
// was started again.
func workerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "mds"
	}
	return fmt.Sprintf("%s/%d-%s", host, os.Getpid(), rand.Text()[:6])
}

// openAll opens the file of each tenant of a DuckDB store, which migrates it.
func openAll(ctx context.Context, s *store.Store) error {
	tenants, err := s.Tenants(ctx)
	for _, tenant := range tenants {
		if _, versionErr := s.SchemaVersion(ctx, tenant); versionErr != nil {
			err = errors.Join(err, fmt.Errorf("tenant %s: %w", tenant.Slug, versionErr))
		}
	}
	return err
}
