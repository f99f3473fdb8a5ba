package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds/store/postgres"
)

// errOpen ends an examination that found something open, which it has told already.
var errOpen = errors.New("tenants are not kept apart")

func (a *app) doctorCommand() *cobra.Command {
	var admin string
	var logins []string
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "doctor",
		Short: "Examine how a PostgreSQL database keeps tenants apart",
		Long: `Examine how a PostgreSQL database keeps tenants apart: rights, ownership, row-level
security, views, functions and logins, as the catalogue has them. With the DSN of a
tenant's login (--login, once for each) it attacks: reads other tenants' records
through views and tables, by settings, other roles, functions of its own, COPY,
partitions and statistics. Each is refused or OPEN, and with any OPEN the exit status
is 1.

It connects as the owner (--admin-dsn) and as the service (--dsn); one of them is
enough. What it does is in transactions that it rolls back.`,
		Example: "  mds doctor --login postgres://acme_bi:…@localhost/market",
		Args:    noArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := noEmptyFlags(cmd); err != nil {
				return err
			}
			cfg := postgres.DoctorConfig{Owner: admin, Logins: logins}
			switch {
			case postgres.IsDSN(a.dsn):
				cfg.Service = a.dsn
			case cmd.Flags().Changed("dsn"):
				return usagef("--dsn is the service's login of a PostgreSQL database here (a DuckDB store has a file for each tenant, and nothing to examine)")
			}
			for _, dsn := range logins {
				if !postgres.IsDSN(dsn) {
					return usagef("--login is the DSN of a tenant's login: postgres://LOGIN:PASSWORD@HOST/DATABASE")
				}
			}
			if cfg.Owner == "" && cfg.Service == "" {
				return usagef("say which PostgreSQL database: give its owner's DSN with --admin-dsn, or the service's with --dsn (a DuckDB store has a file for each tenant, and nothing to examine)")
			}
			findings, err := postgres.Doctor(cmd.Context(), cfg)
			if err != nil {
				return err
			}
			open := 0
			for _, f := range findings {
				if f.Verdict == postgres.VerdictOpen {
					open++
				}
			}
			if asJSON {
				err = writeJSON(a.stdout, findings)
			} else {
				a.printFindings(findings, open)
			}
			if err == nil && open > 0 {
				err = errOpen
			}
			return err
		},
	}
	cmd.Flags().StringArrayVar(&logins, "login", nil, "the `DSN` of a tenant's login to attack with; may be given several times")
	cmd.Flags().BoolVar(&asJSON, "json", false, "print one JSON document")
	a.adminFlag(cmd, &admin)
	return cmd
}

func (a *app) printFindings(findings []postgres.Finding, open int) {
	about := ""
	untried := 0
	for _, f := range findings {
		if f.About != about {
			about = f.About
			fmt.Fprintf(a.stdout, "%s\n", about)
		}
		if f.Verdict == postgres.VerdictNotTried {
			untried++
		}
		detail := ""
		if f.Detail != "" {
			detail = ": " + f.Detail
		}
		fmt.Fprintf(a.stdout, "  %-9s  %s%s\n", f.Verdict, f.What, detail)
	}
	switch {
	case open > 0:
		fmt.Fprintf(a.stdout, "%d OPEN\n", open)
	case untried > 0:
		fmt.Fprintf(a.stdout, "nothing is OPEN; %d NOT TRIED\n", untried)
	default:
		fmt.Fprintln(a.stdout, "nothing is OPEN")
	}
}
