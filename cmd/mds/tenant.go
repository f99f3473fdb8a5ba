package main

import (
	"context"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store/remote"
)

// listedTenants are all tenants of a store, of a server those that its key may know of.
func listedTenants(ctx context.Context, s *session) ([]mds.Tenant, error) {
	if server, ok := s.Backend.(*remote.Store); ok {
		if operates, err := server.Operates(ctx); err != nil || operates {
			if err != nil {
				return nil, err
			}
			return server.AllTenants(ctx)
		}
	}
	return s.Tenants(ctx)
}

func (a *app) tenantCommand() *cobra.Command {
	return group("tenant", "Make and list tenants, and let logins of PostgreSQL read them",
		a.grantLoginCommand(),
		a.revokeLoginCommand(),
		a.loginsCommand(),
		&cobra.Command{
			Use:   "create NAME",
			Short: "Make a tenant: a short name of lower-case letters, digits, '-' and '_'",
			Args: func(_ *cobra.Command, args []string) error {
				if len(args) != 1 {
					return usagef("name one tenant")
				}
				return nil
			},
			RunE: func(cmd *cobra.Command, args []string) error {
				if _, err := mds.NewTenant(args[0]); err != nil {
					return usageError{err}
				}
				s, err := a.open(cmd.Context(), writing)
				if err != nil {
					return err
				}
				defer s.Close() //nolint:errcheck // nothing was written
				tenant, err := s.CreateTenant(cmd.Context(), args[0])
				if err != nil {
					return err
				}
				fmt.Fprintf(a.stdout, "tenant %s made, id %s\n", tenant.Slug, tenant.ID)
				return nil
			},
		},
		&cobra.Command{
			Use:   "list",
			Short: "List the tenants",
			Args:  noArgs,
			RunE: func(cmd *cobra.Command, _ []string) error {
				s, err := a.open(cmd.Context(), reading)
				if err != nil {
					return err
				}
				defer s.Close() //nolint:errcheck // nothing was written
				tenants, err := listedTenants(cmd.Context(), s)
				if err != nil {
					return err
				}
				t := &table{header: []string{"name", "id"}, right: []bool{false, false}}
				for _, tenant := range tenants {
					t.add(tenant.Slug, tenant.ID)
				}
				return t.write(a.stdout)
			},
		},
	)
}
