package main

import (
	"bufio"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/client"
	"github.com/marketdatastore/mds/store/postgres"
	"github.com/marketdatastore/mds/store/remote"
)

// adminFlag adds the flag of the owner's DSN.
func (a *app) adminFlag(cmd *cobra.Command, admin *string) {
	addSetting(cmd.PersistentFlags(), "store.admin_dsn", admin)
	cmd.PersistentFlags().Lookup("admin-dsn").DefValue = "" // it may hold a password
}

func tenantAndLogin(cmd *cobra.Command, args []string) error {
	if len(args) != 2 {
		return usagef("%s needs the tenant and the login: %[1]s TENANT LOGIN", cmd.CommandPath())
	}
	for i, what := range []string{"tenant", "login"} {
		if strings.TrimSpace(args[i]) == "" {
			return usagef("%s: the %s is given without a name", cmd.CommandPath(), what)
		}
	}
	return noEmptyFlags(cmd)
}

func (a *app) grantLoginCommand() *cobra.Command {
	var admin string
	var create, fromStdin bool
	cmd := &cobra.Command{
		Use:   "grant-login TENANT LOGIN",
		Short: "Let a login of PostgreSQL read the views of a tenant",
		Long: `Let a login of PostgreSQL, such as that of a dashboard, read the views in schema mds
(mds.bars, mds.options, …), in which it sees the records of the tenant and no others.
It connects as the owner of the database (--admin-dsn). A login that could see more,
such as a superuser's or the store's own, is refused.

With --create the login is made where there is none. Its password is a line of standard
input with --password-stdin, or else a random one, which is printed once.`,
		Example: "  mds tenant grant-login acme acme_bi --create",
		Args:    tenantAndLogin,
		RunE: func(cmd *cobra.Command, args []string) error {
			cfg := postgres.LoginConfig{Create: create}
			switch {
			case fromStdin && !create:
				return usagef("--password-stdin is the password of a login that is made: give --create, too")
			case fromStdin:
				line, err := bufio.NewReader(a.stdin).ReadString('\n')
				if cfg.Password = strings.TrimRight(line, "\r\n"); cfg.Password == "" {
					return usagef("standard input has no password")
				}
				if err != nil && !errors.Is(err, io.EOF) {
					return err
				}
			case create:
				cfg.Password = rand.Text()
			}
			if remote.IsDSN(a.dsn) {
				return a.grantLoginThere(cmd, args[0], args[1], &cfg, fromStdin)
			}
			owner, tenant, err := a.ownersTenant(cmd.Context(), admin, args[0])
			if err != nil {
				return err
			}
			made, err := postgres.GrantLogin(cmd.Context(), owner, tenant, args[1], cfg)
			if err := a.forAdministrator(err); err != nil {
				return err
			}
			a.tellGranted(args[1], tenant.Slug, &cfg, made, fromStdin)
			return nil
		},
	}
	cmd.Flags().BoolVar(&create, "create", false, "make the login where there is none")
	cmd.Flags().BoolVar(&fromStdin, "password-stdin", false, "read the password of a login that is made from standard input")
	a.adminFlag(cmd, &admin)
	return cmd
}

// grantLoginThere has a server let a login read a tenant.
func (a *app) grantLoginThere(cmd *cobra.Command, tenant, login string, cfg *postgres.LoginConfig, fromStdin bool) error {
	return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, _ mds.Tenant) error {
		answer, err := s.GrantLogin(ctx, client.LoginRequest{Tenant: tenant, Login: login, Create: cfg.Create, Password: cfg.Password})
		if err != nil {
			return err
		}
		a.tellGranted(login, answer.Tenant, cfg, answer.Made, fromStdin)
		return nil
	})
}

// tellGranted tells that a login reads a tenant, and its password where that was drawn.
func (a *app) tellGranted(login, tenant string, cfg *postgres.LoginConfig, made, fromStdin bool) {
	switch {
	case made && fromStdin:
		fmt.Fprintf(a.stdout, "login %s made\n", login)
	case made:
		fmt.Fprintf(a.stdout, "login %s made, password %s\n", login, cfg.Password)
	case cfg.Create:
		fmt.Fprintf(a.stderr, "the login %s is there already: its password is left as it is\n", login)
	}
	fmt.Fprintf(a.stdout, "login %s reads the tenant %s\n", login, tenant)
}

func (a *app) revokeLoginCommand() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "revoke-login TENANT LOGIN",
		Short: "Take from a login of PostgreSQL what grant-login gave it",
		Long: `Take from a login of PostgreSQL what grant-login gave it: its sessions see nothing from
their next statement on. The login itself stays; an administrator may drop it.`,
		Args: tenantAndLogin,
		RunE: func(cmd *cobra.Command, args []string) error {
			if remote.IsDSN(a.dsn) {
				return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, _ mds.Tenant) error {
					if err := s.RevokeLogin(ctx, args[0], args[1]); err != nil {
						return err
					}
					fmt.Fprintf(a.stdout, "login %s no longer reads the tenant %s\n", args[1], args[0])
					return nil
				})
			}
			owner, tenant, err := a.ownersTenant(cmd.Context(), admin, args[0])
			if err != nil {
				return err
			}
			if err := postgres.RevokeLogin(cmd.Context(), owner, tenant, args[1]); err != nil {
				return err
			}
			fmt.Fprintf(a.stdout, "login %s no longer reads the tenant %s\n", args[1], tenant.Slug)
			return nil
		},
	}
	a.adminFlag(cmd, &admin)
	return cmd
}

func (a *app) loginsCommand() *cobra.Command {
	var admin string
	cmd := &cobra.Command{
		Use:   "logins",
		Short: "List the logins of PostgreSQL that read a tenant's views",
		Args:  noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			t := &table{header: []string{"login", "tenant", "tenant id"}, right: []bool{false, false, false}}
			if remote.IsDSN(a.dsn) {
				return a.throughServer(cmd, func(ctx context.Context, s *remote.Store, _ mds.Tenant) error {
					logins, err := s.Logins(ctx)
					if err != nil {
						return err
					}
					for _, l := range logins {
						t.add(l.Login, l.Tenant, l.TenantID)
					}
					return t.write(a.stdout)
				})
			}
			dsn, err := a.ownerDSN(admin)
			if err != nil {
				return err
			}
			logins, err := postgres.TenantLogins(cmd.Context(), dsn)
			if err != nil {
				return err
			}
			for _, l := range logins {
				t.add(l.Login, l.Tenant.Slug, l.Tenant.ID)
			}
			return t.write(a.stdout)
		},
	}
	a.adminFlag(cmd, &admin)
	return cmd
}

// ownersTenant is the owner's DSN, and a tenant by slug or id.
func (a *app) ownersTenant(ctx context.Context, admin, name string) (string, mds.Tenant, error) {
	owner, err := a.ownerDSN(admin)
	if err != nil {
		return "", mds.Tenant{}, err
	}
	tenant, err := postgres.FindTenant(ctx, owner, name)
	if errors.Is(err, mds.ErrUnknownTenant) {
		a.tenant = name // which is told how to be made
	}
	return owner, tenant, err
}

// forAdministrator prints the SQL that the owner may not run.
func (a *app) forAdministrator(err error) error {
	var denied *postgres.GrantError
	if errors.As(err, &denied) {
		fmt.Fprint(a.stdout, denied.Script())
		return fmt.Errorf("%w; let an administrator run with psql what is on standard output", err)
	}
	return err
}
