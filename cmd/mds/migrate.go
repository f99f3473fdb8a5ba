package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/postgres"
)

func (a *app) migrateCommand() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "migrate",
		Short: "Bring a PostgreSQL database to the schema of this program",
		Long: `Bring a PostgreSQL database to the schema of this program, and give the login of
--dsn its rights there. It connects as the owner of the database (--admin-dsn), who
need not be a superuser; without one, as the login of --dsn. Run twice at once, one
migrates and the other waits. A DuckDB store migrates itself when it is opened.`,
		Args: noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			dsn, err := a.ownerDSN(admin)
			if err != nil {
				return err
			}
			if cmd.Flags().Changed("dsn") && !postgres.IsDSN(a.dsn) {
				return usagef("--dsn is the service's login of the PostgreSQL database: postgres://SERVICE:PASSWORD@HOST/DATABASE")
			}
			return a.migrate(cmd.Context(), dsn)
		},
	}
	a.adminFlag(cmd, &admin)
	cmd.AddCommand(&cobra.Command{
		Use:   "status",
		Short: "List the migrations and which of them the database has",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			dsn, err := a.ownerDSN(admin)
			if err != nil {
				return err
			}
			steps, err := postgres.Migrations(cmd.Context(), dsn, postgres.MigrateConfig{})
			for _, s := range steps {
				state := "pending"
				if s.Applied {
					state = "applied"
				}
				fmt.Fprintf(a.stdout, "%4d  %-8s %s\n", s.Version, state, s.Name)
			}
			return err
		},
	})
	return cmd
}

// ownerDSN is the DSN that migrates.
func (a *app) ownerDSN(admin string) (string, error) {
	dsn := admin
	if dsn == "" {
		dsn = a.dsn
	}
	if dsn == "" {
		return "", usagef("say which PostgreSQL database: give its owner's DSN with --admin-dsn postgres://OWNER@HOST/DATABASE")
	}
	if !postgres.IsDSN(dsn) {
		return "", usagef("the DSN is not one of PostgreSQL: give its owner's with --admin-dsn postgres://OWNER@HOST/DATABASE")
	}
	return dsn, nil
}

func (a *app) migrate(ctx context.Context, owner string) error {
	logger, err := a.logger()
	if err != nil {
		return err
	}
	applied, err := postgres.Migrate(ctx, owner, postgres.MigrateConfig{Logger: logger})
	for _, step := range applied {
		fmt.Fprintf(a.stderr, "applied %s\n", step.Name)
	}
	if err != nil {
		return err
	}
	if len(applied) == 0 {
		fmt.Fprintln(a.stderr, "the schema is up to date")
	}
	if !postgres.IsDSN(a.dsn) || a.dsn == owner {
		fmt.Fprintln(a.stderr, "no login was given rights: name that of the service with --dsn (environment MDS_DSN)")
		return nil
	}
	login, err := postgres.GrantService(ctx, owner, a.dsn)
	if err := a.forAdministrator(err); err != nil {
		return err
	}
	fmt.Fprintf(a.stderr, "the login %s has its rights\n", login)
	s, err := store.Open(ctx, a.dsn, store.Config{Logger: logger})
	if err != nil {
		return fmt.Errorf("the service's DSN does not work yet: %w", err)
	}
	return s.Close()
}
