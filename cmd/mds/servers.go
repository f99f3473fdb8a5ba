package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"net/url"
	"strings"

	"github.com/spf13/cobra"

	"github.com/marketdatastore/mds"
	"github.com/marketdatastore/mds/store"
	"github.com/marketdatastore/mds/store/remote"
)

// origin is the scheme, the host and the port of a server's URL.
func origin(dsn string) string {
	u, err := url.Parse(dsn)
	if err != nil {
		return dsn
	}
	port := u.Port()
	if port == "" {
		port = map[string]string{"http": "80", "https": "443"}[u.Scheme]
	}
	return u.Scheme + "://" + net.JoinHostPort(strings.ToLower(u.Hostname()), port)
}

// keyFor is the API key for the store of the flags: it is for the server that the settings
// name, and for no other.
func (a *app) keyFor(dsn string) (string, error) {
	key, server := a.settings.Store.APIKey, a.settings.Text("store.server")
	switch {
	case key == "" || !remote.IsDSN(dsn):
		return "", nil
	case server != "" && origin(server) != origin(dsn):
		return "", usagef("%s is the key for the server of %s, and is not sent to %s: name that one with --server", a.settings.Name("store.api_key"), a.settings.Name("store.server"), store.Redact(dsn))
	}
	a.warnOfPlain(dsn)
	return key, nil
}

// copyKey is the API key for the servers among FROM and TO, which are one, or of one origin:
// of two nobody says whose it is.
func (a *app) copyKey(from, to string) (string, error) {
	key := a.settings.Store.APIKey
	switch {
	case key == "" || !remote.IsDSN(from) && !remote.IsDSN(to):
		return "", nil
	case remote.IsDSN(from) && remote.IsDSN(to) && origin(from) != origin(to):
		return "", usagef("%s is the key for one server, and FROM and TO are two: copy to a store here, such as duckdb://DIR, and from there", a.settings.Name("store.api_key"))
	case remote.IsDSN(from):
		a.warnOfPlain(from)
	default:
		a.warnOfPlain(to)
	}
	return key, nil
}

// warnOfPlain tells where a key can be read on its way.
func (a *app) warnOfPlain(dsn string) {
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme != "http" || u.Hostname() == "localhost" {
		return
	}
	if ip, err := netip.ParseAddr(u.Hostname()); err == nil && ip.IsLoopback() {
		return
	}
	fmt.Fprintf(a.stderr, "warning: the API key goes to %s as it is, and who listens on the way has it: use https\n", store.Redact(dsn))
}

// copiedTenant is the tenant to copy where one is named, or else that of the key of a server,
// and the default one of another store.
func (a *app) copiedTenant(from string) string {
	switch {
	case a.settings.IsSet("store.tenant"):
		return a.tenant
	case remote.IsDSN(from):
		return ""
	}
	return mds.DefaultTenant().Slug
}

// missingOnServer says why a server has not the tenant of records that are to be copied to it.
func (c *copying) missingOnServer(ctx context.Context, tenant mds.Tenant) error {
	if c.app.settings.Store.APIKey == "" {
		return fmt.Errorf("it has no tenant %s: make it where its store is, with: mds tenant create %[1]s", tenant.Slug)
	}
	own, err := c.target.Tenant(ctx, "")
	if err != nil {
		return err
	}
	return fmt.Errorf("the server's key is of the tenant %s, and the records are of %s: set MDS_API_KEY to a key of that tenant", own.Slug, tenant.Slug)
}

// throughServer runs fn with the server of the flags, and the tenant that is meant there.
func (a *app) throughServer(cmd *cobra.Command, fn func(ctx context.Context, s *remote.Store, tenant mds.Tenant) error) error {
	if !remote.IsDSN(a.dsn) {
		return usagef("%s: name the server, with --server or MDS_SERVER", cmd.CommandPath())
	}
	if cmd.Flags().Changed("admin-dsn") {
		return usagef("--admin-dsn is of a PostgreSQL database, and what is named is a server: it has the owner's DSN itself, or does not do this")
	}
	ctx := cmd.Context()
	s, err := a.open(ctx, writing)
	if err != nil {
		return err
	}
	work := func() error {
		server, ok := s.Backend.(*remote.Store)
		if !ok {
			return fmt.Errorf("the store %s is no server", s.dsn)
		}
		tenant, err := s.Tenant(ctx, a.tenant)
		if err != nil {
			return err
		}
		return fn(ctx, server, tenant)
	}
	return errors.Join(work(), s.close())
}
